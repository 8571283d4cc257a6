package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	clientcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/clientcmd"
)

// core is the client of the core kinds.
func (s *server) core() clientcorev1.CoreV1Interface {
	s.t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", s.Kubeconfig)
	if err != nil {
		s.t.Fatal(err)
	}
	c, err := kubernetes.NewForConfig(config)
	if err != nil {
		s.t.Fatal(err)
	}
	return c.CoreV1()
}

// token makes a ServiceAccount in namespace default if there is none, and a
// token of it.
func (s *server) token(account string, audiences ...string) string {
	s.t.Helper()
	c := s.core().ServiceAccounts("default")
	if _, err := c.Get(s.t.Context(), account, metav1.GetOptions{}); err != nil {
		if _, err := c.Create(s.t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: account}}, metav1.CreateOptions{}); err != nil {
			s.t.Fatal(err)
		}
	}
	r, err := c.CreateToken(s.t.Context(), account, &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{Audiences: audiences}}, metav1.CreateOptions{})
	if err != nil {
		s.t.Fatal(err)
	}
	return r.Status.Token
}

// sendAs sends an event under an Authorization header, and returns the answer.
func (s *server) sendAs(path, authorization string) (int, string) {
	s.t.Helper()
	headers := map[string]string{}
	if authorization != "" {
		headers["Authorization"] = authorization
	}
	status, body, err := post(s.t.Context(), s.url(path), "1", "x", headers, "{}")
	if err != nil {
		s.t.Fatal(err)
	}
	return status, body
}

func TestIngressAsksForTokens(t *testing.T) {
	s := startServer(t, "--ingress-auth", "token")
	s.apply(broker)
	token := s.token("sender")
	for _, c := range []struct {
		what, path, authorization string
		want                      int
		reason                    string
	}{
		{"nothing", "/default/default", "", http.StatusUnauthorized, "kubectl create token"},
		{"another scheme", "/default/default", "Basic YTpi", http.StatusUnauthorized, "Bearer TOKEN"},
		{"no token", "/default/default", "Bearer", http.StatusUnauthorized, "Bearer TOKEN"},
		{"a made-up token", "/default/default", "Bearer a.b.c", http.StatusUnauthorized, "no token of a ServiceAccount"},
		{"a token with a byte changed", "/default/default", "Bearer " + token[:len(token)-4] + "AAAA", http.StatusUnauthorized, "no token"},
		{"a token for somebody else", "/default/default", "Bearer " + s.token("sender", "vault"), http.StatusUnauthorized, `for [\"vault\"]`},
		{"another namespace", "/other/default", "Bearer " + token, http.StatusForbidden, "its own namespace"},
		{"a channel of another namespace", "/channels/other/c", "Bearer " + token, http.StatusForbidden, "its own namespace"},
		{"what is not there", "/default/none", "Bearer " + token, http.StatusNotFound, "not there"},
		{"a token", "/default/default", "Bearer " + token, http.StatusAccepted, ""},
		{"a token, in small letters", "/default/default", "bearer " + token, http.StatusAccepted, ""},
		{"a token for sending only", "/default/default", "Bearer " + s.token("sender", "leat-ingress"), http.StatusAccepted, ""},
	} {
		if status, body := s.sendAs(c.path, c.authorization); status != c.want || !strings.Contains(body, c.reason) {
			t.Errorf("%s: %d %s, want %d with %q", c.what, status, body, c.want, c.reason)
		}
	}
	resp, err := http.Get(s.url("/healthz"))
	if err != nil {
		t.Fatal(err)
	}
	if resp.Body.Close(); resp.StatusCode != http.StatusOK {
		t.Errorf("health: %s", resp.Status)
	}
}

// TestDeliveriesToOwnBrokers: the server's deliveries to its own address need no
// token of anybody.
func TestDeliveriesToOwnBrokers(t *testing.T) {
	s := startServer(t, "--ingress-auth", "token")
	k := newSink(t)
	s.apply(broker + "\n---\n" + strings.Replace(broker, "name: default", "name: second", 1) +
		"\n---\n" + triggerTo("ref: {apiVersion: eventing.knative.dev/v1, kind: Broker, name: second}") +
		"\n---\n" + strings.NewReplacer("name: t}", "name: t2}", "broker: default", "broker: second").Replace(triggerTo("uri: \""+k.URL+"/\"")))
	if status, body := s.sendAs("/default/default", "Bearer "+s.token("sender")); status != http.StatusAccepted {
		t.Fatal(status, body)
	}
	k.expect(t, "/ 1")
}

// TestTokensGoWithTheirAccount: within a second of its deletion; and they last
// over a restart.
func TestTokensGoWithTheirAccount(t *testing.T) {
	s := startServer(t, "--ingress-auth", "token")
	s.apply(broker)
	token := s.token("sender")
	if s.stop() != 0 {
		t.Error("the server did not stop")
	}
	s.start()
	if status, body := s.sendAs("/default/default", "Bearer "+token); status != http.StatusAccepted {
		t.Fatal(status, body)
	}
	if err := s.core().ServiceAccounts("default").Delete(t.Context(), "sender", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, 5*time.Second, "the token is refused", func() bool {
		status, body := s.sendAs("/default/default", "Bearer "+token)
		return status == http.StatusUnauthorized && strings.Contains(body, "has been deleted")
	})
	again := s.token("sender")
	eventually(t, 5*time.Second, "the new account's token is good", func() bool {
		status, _ := s.sendAs("/default/default", "Bearer "+again)
		return status == http.StatusAccepted
	})
	if status, body := s.sendAs("/default/default", "Bearer "+token); status != http.StatusUnauthorized || !strings.Contains(body, "earlier ServiceAccount") {
		t.Errorf("the earlier account's token: %d %s", status, body)
	}
}

func TestSendWithAToken(t *testing.T) {
	s := startServer(t, "--ingress-auth", "token")
	s.apply(broker)
	if _, stderr, status := leat(t, s.env(), "", "send", "default"); status != 1 || !strings.Contains(stderr, "401") {
		t.Errorf("without a token: %d %s", status, stderr)
	}
	token := s.token("sender")
	if _, stderr, status := leat(t, append(s.env(), "LEAT_TOKEN="+token), "", "send", "default", "--data", "{}"); status != 0 {
		t.Errorf("with LEAT_TOKEN: %d %s", status, stderr)
	}
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, stderr, status := leat(t, s.env(), "", "send", "default", "--data", "{}", "--token-file", file); status != 0 {
		t.Errorf("with --token-file: %d %s", status, stderr)
	}
}
