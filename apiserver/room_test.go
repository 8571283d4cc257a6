package apiserver

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestRoomForAnyMethod: a method may be as long as a request's headers.
func TestRoomForAnyMethod(t *testing.T) {
	answered := withRoom(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusMethodNotAllowed) }))
	for _, length := range []int{1, room - 1, room, 4 * room} {
		w := httptest.NewRecorder()
		answered.ServeHTTP(w, httptest.NewRequest(strings.Repeat("A", length), "/", nil))
		if w.Code != http.StatusMethodNotAllowed {
			t.Errorf("a method of %d letters: %d", length, w.Code)
		}
	}
}
