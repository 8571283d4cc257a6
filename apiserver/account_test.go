package apiserver

import (
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestDefaultAccount: each namespace has it, from the start, and again after it
// was deleted; it goes with its namespace, and gets tokens.
func TestDefaultAccount(t *testing.T) {
	s := start(t, options(t))
	c := s.client().CoreV1()
	uid := func(namespace string) string {
		a, err := c.ServiceAccounts(namespace).Get(t.Context(), "default", metav1.GetOptions{})
		if err != nil {
			return ""
		}
		return string(a.UID)
	}
	if _, err := c.ServiceAccounts("default").CreateToken(t.Context(), "default", &authenticationv1.TokenRequest{}, metav1.CreateOptions{}); err != nil {
		t.Errorf("at once: %v", err)
	}
	s.namespace("n")
	settles(t, func() string {
		if uid("n") == "" {
			return "a new namespace has none"
		}
		return ""
	})
	first := uid("n")
	if err := c.ServiceAccounts("n").Delete(t.Context(), "default", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	settles(t, func() string {
		if is := uid("n"); is == "" || is == first {
			return "it did not come back"
		}
		return ""
	})
	if err := c.Namespaces().Delete(t.Context(), "n", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	s.namespaceGone("n")
	if left := s.keys("/n/"); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// TestTokensAreCheckedInADryRun, and not given.
func TestTokensAreCheckedInADryRun(t *testing.T) {
	s := start(t, options(t))
	c := s.client().CoreV1().ServiceAccounts("default")
	dry := metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}
	short := int64(1)
	for _, spec := range []authenticationv1.TokenRequestSpec{{ExpirationSeconds: &short}, {BoundObjectRef: &authenticationv1.BoundObjectReference{Kind: "Pod", Name: "p"}}} {
		if _, err := c.CreateToken(t.Context(), "default", &authenticationv1.TokenRequest{Spec: spec}, dry); !apierrors.IsInvalid(err) {
			t.Errorf("%+v: %v", spec, err)
		}
	}
	r, err := c.CreateToken(t.Context(), "default", &authenticationv1.TokenRequest{}, dry)
	if err != nil || r.Status.Token != "" || *r.Spec.ExpirationSeconds != 3600 {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestOwnNamespacesSayWhyTheyStay, and what can be done instead.
func TestOwnNamespacesSayWhyTheyStay(t *testing.T) {
	s := start(t, options(t))
	for _, name := range []string{corev1.NamespaceDefault, "leat-system"} {
		err := s.client().CoreV1().Namespaces().Delete(t.Context(), name, metav1.DeleteOptions{})
		if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "the server makes and needs this namespace; to empty it delete what is in it") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
