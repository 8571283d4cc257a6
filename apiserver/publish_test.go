package apiserver

import (
	"errors"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestPublishersAreNotRefusedForOurFaults: whoever is refused gives up, so who
// cannot be judged now is not.
func TestPublishersAreNotRefusedForOurFaults(t *testing.T) {
	s, err := New(options(t)) // it does not serve, so no ServiceAccount can be read
	if err != nil {
		t.Fatal(err)
	}
	r := &authenticationv1.TokenRequest{}
	if err := s.tokens.Issue(&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "a", UID: "u"}}, r); err != nil {
		t.Fatal(err)
	}
	err = s.AuthorizePublish(t.Context(), r.Status.Token, "n")
	if err == nil || errors.Is(err, ErrUnauthenticated) || errors.Is(err, ErrForbidden) {
		t.Errorf("a good token: %v", err)
	}
	if err := s.AuthorizePublish(t.Context(), "no token", "n"); !errors.Is(err, ErrUnauthenticated) {
		t.Errorf("no token: %v", err)
	}
}
