package apiserver

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// account makes a ServiceAccount in namespace default, and returns a token of it.
func (r *running) account(name string, spec authenticationv1.TokenRequestSpec) string {
	r.tb.Helper()
	c := r.client().CoreV1().ServiceAccounts("default")
	if _, err := c.Create(r.tb.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
		r.tb.Fatal(err)
	}
	t, err := c.CreateToken(r.tb.Context(), name, &authenticationv1.TokenRequest{Spec: spec}, metav1.CreateOptions{})
	if err != nil {
		r.tb.Fatal(err)
	}
	return t.Status.Token
}

// as is the client of whoever holds a token.
func (r *running) as(token string) kubernetes.Interface {
	c := rest.AnonymousClientConfig(r.config)
	c.BearerToken = token
	return clientOf(r.tb, c)
}

// TestServiceAccount: a token says who its holder is; the holder may ask for
// that and read nothing.
func TestServiceAccount(t *testing.T) {
	s := start(t, options(t))
	c := s.as(s.account("a", authenticationv1.TokenRequestSpec{}))
	who, err := c.AuthenticationV1().SelfSubjectReviews().Create(t.Context(), &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(who.Status.UserInfo.Username, who.Status.UserInfo.Groups); got != "system:serviceaccount:default:a[system:serviceaccounts system:serviceaccounts:default system:authenticated]" {
		t.Errorf("it is %s", got)
	}
	if _, err := c.Discovery().ServerPreferredResources(); err != nil {
		t.Errorf("what is served: %v", err)
	}
	for _, path := range []string{
		"/api/v1/namespaces", "/api/v1/namespaces/default/secrets", "/api/v1/namespaces/default/serviceaccounts/a",
		"/apis/eventing.knative.dev/v1/namespaces/default/brokers", "/leat/v1/x", "/metrics", "/debug/pprof/",
	} {
		if err := c.CoreV1().RESTClient().Get().AbsPath(path).Do(t.Context()).Error(); !apierrors.IsForbidden(err) {
			t.Errorf("GET %s: %v, want 403", path, err)
		}
	}
	if _, err := c.CoreV1().ServiceAccounts("default").CreateToken(t.Context(), "a", &authenticationv1.TokenRequest{}, metav1.CreateOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("it makes itself another token: %v", err)
	}
	if _, err := s.as("none").CoreV1().Namespaces().List(t.Context(), metav1.ListOptions{}); !apierrors.IsUnauthorized(err) {
		t.Errorf("a token of nobody: %v", err)
	}
	if _, err := s.client().CoreV1().ServiceAccounts("default").CreateToken(t.Context(), "none", &authenticationv1.TokenRequest{}, metav1.CreateOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("a token of an account that is not there: %v", err)
	}
}

// TestTokensOverARestart: they last as the key does, and go with their account.
func TestTokensOverARestart(t *testing.T) {
	o := options(t)
	s := start(t, o)
	token := s.account("a", authenticationv1.TokenRequestSpec{})
	s.end()

	o.Listener = listen(t)
	s = start(t, o)
	ask := func() error {
		_, err := s.as(token).AuthenticationV1().SelfSubjectReviews().Create(t.Context(), &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
		return err
	}
	if err := ask(); err != nil {
		t.Fatal(err)
	}
	accounts := s.client().CoreV1().ServiceAccounts("default")
	if err := accounts.Delete(t.Context(), "a", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	settles(t, func() string {
		if err := ask(); !apierrors.IsUnauthorized(err) {
			return fmt.Sprint("the token of a deleted account: ", err)
		}
		return ""
	})
	again := s.account("a", authenticationv1.TokenRequestSpec{})
	if err := ask(); !apierrors.IsUnauthorized(err) {
		t.Errorf("the token of an earlier account of that name: %v", err)
	}
	settles(t, func() string {
		if _, err := s.as(again).AuthenticationV1().SelfSubjectReviews().Create(t.Context(), &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{}); err != nil {
			return fmt.Sprint("the new account's token: ", err)
		}
		return ""
	})
}

func TestTokenReview(t *testing.T) {
	s := start(t, options(t))
	token := s.account("a", authenticationv1.TokenRequestSpec{Audiences: []string{"vault"}})
	review := func(token string, audiences ...string) authenticationv1.TokenReviewStatus {
		t.Helper()
		r := &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: audiences}}
		r, err := s.client().AuthenticationV1().TokenReviews().Create(t.Context(), r, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return r.Status
	}
	if r := review(token, "vault", "x"); !r.Authenticated || r.User.Username != "system:serviceaccount:default:a" || r.User.UID == "" || fmt.Sprint(r.Audiences) != "[vault]" {
		t.Errorf("%+v", r)
	}
	if r := review(token); r.Authenticated || !strings.Contains(r.Error, `the token is for ["vault"]`) {
		t.Errorf("for the API: %+v", r)
	}
	if r := review("none"); r.Authenticated {
		t.Errorf("no token: %+v", r)
	}
	_, err := s.client().AuthenticationV1().TokenReviews().Create(t.Context(), &authenticationv1.TokenReview{}, metav1.CreateOptions{})
	if !apierrors.IsBadRequest(err) {
		t.Errorf("without a token: %v", err)
	}
}

func TestAccessReviews(t *testing.T) {
	s := start(t, options(t))
	c := s.client().AuthorizationV1()
	publish := func(namespace string) *authorizationv1.ResourceAttributes {
		return &authorizationv1.ResourceAttributes{Verb: "publish", Group: "eventing.knative.dev", Resource: "brokers", Namespace: namespace}
	}
	account := []string{"system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"}
	for _, test := range []struct {
		what string
		spec authorizationv1.SubjectAccessReviewSpec
		want bool
	}{
		{"the admin", authorizationv1.SubjectAccessReviewSpec{Groups: []string{"system:masters"}, ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: "delete", Resource: "namespaces"}}, true},
		{"an account publishes at home", authorizationv1.SubjectAccessReviewSpec{Groups: account, ResourceAttributes: publish("default")}, true},
		{"an account publishes elsewhere", authorizationv1.SubjectAccessReviewSpec{Groups: account, ResourceAttributes: publish("other")}, false},
		{"an account publishes everywhere", authorizationv1.SubjectAccessReviewSpec{Groups: account, ResourceAttributes: publish("")}, false},
		{"an account reads", authorizationv1.SubjectAccessReviewSpec{Groups: account, ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: "get", Resource: "secrets", Namespace: "default"}}, false},
		{"a subresource", authorizationv1.SubjectAccessReviewSpec{Groups: account, ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: "publish", Group: "eventing.knative.dev", Resource: "brokers", Subresource: "status", Namespace: "default"}}, false},
		{"an account's version", authorizationv1.SubjectAccessReviewSpec{Groups: account, NonResourceAttributes: &authorizationv1.NonResourceAttributes{Verb: "get", Path: "/version"}}, true},
		{"an account's metrics", authorizationv1.SubjectAccessReviewSpec{Groups: account, NonResourceAttributes: &authorizationv1.NonResourceAttributes{Verb: "get", Path: "/metrics"}}, false},
		{"anybody's health", authorizationv1.SubjectAccessReviewSpec{User: "x", NonResourceAttributes: &authorizationv1.NonResourceAttributes{Verb: "get", Path: "/healthz"}}, true},
	} {
		r, err := c.SubjectAccessReviews().Create(t.Context(), &authorizationv1.SubjectAccessReview{Spec: test.spec}, metav1.CreateOptions{})
		if err != nil || r.Status.Allowed != test.want || r.Status.EvaluationError != "" {
			t.Errorf("%s: %+v, %v, want %v", test.what, r, err, test.want)
		}
	}
	for what, spec := range map[string]authorizationv1.SubjectAccessReviewSpec{
		"nobody":  {ResourceAttributes: publish("default")},
		"nothing": {User: "x"},
		"both":    {User: "x", ResourceAttributes: publish("default"), NonResourceAttributes: &authorizationv1.NonResourceAttributes{Path: "/"}},
	} {
		if _, err := c.SubjectAccessReviews().Create(t.Context(), &authorizationv1.SubjectAccessReview{Spec: spec}, metav1.CreateOptions{}); !apierrors.IsInvalid(err) {
			t.Errorf("%s: %v", what, err)
		}
	}
	local := func(of string) error {
		r := &authorizationv1.LocalSubjectAccessReview{ObjectMeta: metav1.ObjectMeta{Namespace: "default"}, Spec: authorizationv1.SubjectAccessReviewSpec{Groups: account, ResourceAttributes: publish(of)}}
		r, err := c.LocalSubjectAccessReviews("default").Create(t.Context(), r, metav1.CreateOptions{})
		if err == nil && !r.Status.Allowed {
			err = errors.New("not allowed")
		}
		return err
	}
	if err := local("default"); err != nil {
		t.Error(err)
	}
	if err := local("other"); !apierrors.IsInvalid(err) {
		t.Errorf("of another namespace: %v", err)
	}
}
