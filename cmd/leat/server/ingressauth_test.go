package server

import (
	"errors"
	"testing"

	"github.com/leat-dev/leat/broker"
)

// TestWhoSendsIsJudgedOrAskedToComeBack: without the API nobody but the server
// itself is known, which is no fault of theirs.
func TestWhoSendsIsJudgedOrAskedToComeBack(t *testing.T) {
	p := newPublishers()
	if err := p.Authorize(t.Context(), "Bearer "+p.own, "n"); err != nil {
		t.Errorf("our own deliveries: %v", err)
	}
	for authorization, refused := range map[string]bool{"": true, "Basic eDp5": true, "Bearer": true, "Bearer x": false} {
		err := p.Authorize(t.Context(), authorization, "n")
		if err == nil || errors.Is(err, broker.ErrUnauthenticated) != refused {
			t.Errorf("%q: %v", authorization, err)
		}
	}
}
