package apiserver

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"

	"github.com/leat-dev/leat/raftlog"
	"github.com/leat-dev/leat/raftlog/kv"
)

func TestStart(t *testing.T) {
	s := start(t, options(t))
	c := s.client()
	for _, name := range []string{"default", "kube-system", "leat-system"} {
		ns, err := c.CoreV1().Namespaces().Get(t.Context(), name, metav1.GetOptions{})
		if err != nil || ns.Status.Phase != corev1.NamespaceActive || ns.Labels[corev1.LabelMetadataName] != name {
			t.Errorf("namespace %s: %v, %v", name, ns, err)
		}
	}
	node, err := c.CoreV1().Nodes().Get(t.Context(), "n1", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if ready := node.Status.Conditions[0]; ready.Type != corev1.NodeReady || ready.Status != corev1.ConditionTrue || node.Status.NodeInfo.KubeletVersion != "0.1.0" {
		t.Errorf("the node is %+v", node.Status)
	}
	if err := s.RegisterNode(t.Context(), Node{Name: "n1", NotReady: "Left", Message: "it left"}); err != nil {
		t.Fatal(err)
	}
	if node, err = c.CoreV1().Nodes().Get(t.Context(), "n1", metav1.GetOptions{}); err != nil || node.Status.Conditions[0].Status != corev1.ConditionFalse || node.Status.Conditions[0].Reason != "Left" {
		t.Errorf("the node that left: %+v, %v", node.Status.Conditions, err)
	}
}

func TestVersion(t *testing.T) {
	s := start(t, options(t))
	v, err := s.client().Discovery().ServerVersion()
	if err != nil {
		t.Fatal(err)
	}
	if v.GitVersion != "v"+KubernetesVersion+"+leat.0.1.0" || v.Major != "1" || v.Minor == "" || v.GoVersion != runtime.Version() {
		t.Errorf("the version is %+v", v)
	}
	if got := newEffectiveVersion("v0.2.0-rc.1+dirty (x)").Info().GitVersion; got != "v"+KubernetesVersion+"+leat.v0.2.0-rc.1.dirty.x." && !regexp.MustCompile(`^v1\.37\.\d+\+[0-9A-Za-z.-]+$`).MatchString(got) {
		t.Errorf("an odd version becomes %q", got)
	}
	mod, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	if want := "k8s.io/apiserver v0." + strings.TrimPrefix(KubernetesVersion, "1."); !strings.Contains(string(mod), want) {
		t.Errorf("KubernetesVersion is %s, but go.mod does not require %q", KubernetesVersion, want)
	}
}

// insecure calls the API with no credentials, or with some.
func insecure(t *testing.T, s *running, path string, certs ...tls.Certificate) (int, string) {
	t.Helper()
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, Certificates: certs}}}
	defer c.CloseIdleConnections()
	resp, err := c.Get("https://" + s.Addr().String() + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestAuthentication(t *testing.T) {
	o := options(t)
	o.Handlers = map[string]http.Handler{"/leat/v1/": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "ours: "+r.URL.Path) })}
	s := start(t, o)
	for _, path := range []string{"/healthz", "/livez", "/readyz"} {
		if code, body := insecure(t, s, path); code != http.StatusOK || body != "ok" {
			t.Errorf("GET %s without credentials: %d %q", path, code, body)
		}
	}
	for _, path := range []string{"/", "/api", "/apis", "/version", "/metrics", "/openapi/v2", "/openapi/v3", "/readyz/ping", "/debug/pprof/", "/leat/v1/x", "/api/v1/namespaces", "/none"} {
		if code, body := insecure(t, s, path); code != http.StatusUnauthorized {
			t.Errorf("GET %s without credentials: %d %q, want 401", path, code, body)
		}
	}

	other, err := openAuthority(t.TempDir(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := newCredentials(other, nil, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := tls.X509KeyPair(foreign.admin.cert, foreign.admin.key)
	if err != nil {
		t.Fatal(err)
	}
	if code, body := insecure(t, s, "/api", cert); code != http.StatusUnauthorized {
		t.Errorf("with another authority's certificate: %d %q, want 401", code, body)
	}
	if cert, err = tls.X509KeyPair(s.credentials.server.cert, s.credentials.server.key); err != nil {
		t.Fatal(err)
	}
	if code, body := insecure(t, s, "/api", cert); code != http.StatusUnauthorized {
		t.Errorf("with the server's own certificate: %d %q, want 401", code, body)
	}

	token := rest.AnonymousClientConfig(s.config)
	token.BearerToken = "none"
	if _, err := clientOf(t, token).CoreV1().Namespaces().List(t.Context(), metav1.ListOptions{}); !apierrors.IsUnauthorized(err) {
		t.Errorf("with a token of nobody: %v, want 401", err)
	}
	user := rest.CopyConfig(s.config)
	user.Impersonate.UserName = "somebody"
	if _, err := clientOf(t, user).CoreV1().Namespaces().List(t.Context(), metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("as a user without rights: %v, want 403", err)
	}
	body, err := s.client().Discovery().RESTClient().Get().AbsPath("/leat/v1/x").DoRaw(t.Context())
	if err != nil || string(body) != "ours: /leat/v1/x" {
		t.Errorf("the admin at our own path: %q, %v", body, err)
	}
}

func TestKeysAndKubeconfig(t *testing.T) {
	o := options(t)
	s := start(t, o)
	for path, want := range map[string]os.FileMode{
		o.KeysDir: 0o700, filepath.Join(o.KeysDir, authorityCert): 0o600, filepath.Join(o.KeysDir, authorityKey): 0o600,
		filepath.Join(o.KeysDir, atRestKey): 0o600, o.Kubeconfig: 0o600,
	} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v, want mode %o", path, info.Mode(), err, want)
		}
	}
	copied := filepath.Join(t.TempDir(), "copy")
	if err := s.WriteKubeconfig(copied); err != nil {
		t.Fatal(err)
	}
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(copied), ".*")); err != nil || len(left) > 0 {
		t.Errorf("files left beside the kubeconfig: %v, %v", left, err)
	}
}

// TestSecretsAtRest looks for a secret in what is stored.
func TestSecretsAtRest(t *testing.T) {
	o := options(t)
	s := start(t, o)
	const planted = "pl4nted-s3cret"
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "s"}, StringData: map[string]string{"a": planted}}
	made, err := s.client().CoreV1().Secrets("default").Create(t.Context(), secret, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	trigger := object(t, triggerManifest)
	if err := unstructured.SetNestedField(trigger.Object, "http://user:"+planted+"@example.com", "spec", "subscriber", "uri"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.triggers().Create(t.Context(), trigger, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	again := made.DeepCopy()
	if again, err = s.client().CoreV1().Secrets("default").Update(t.Context(), again, metav1.UpdateOptions{}); err != nil || again.ResourceVersion != made.ResourceVersion {
		t.Errorf("an update that changes nothing: version %s after %s, %v", again.ResourceVersion, made.ResourceVersion, err)
	}
	page, err := o.KV.List("/", "", 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	seen := false
	for _, e := range page.KVs {
		seen = seen || strings.HasSuffix(e.Key, "/secrets/default/s")
		for _, form := range []string{planted, "cGw0bnRlZC1zM2NyZXQ"} {
			if bytes.Contains(e.Value, []byte(form)) {
				t.Errorf("%s holds the secret: %q", e.Key, e.Value)
			}
		}
	}
	if !seen {
		t.Error("the Secret is not stored where it was looked for")
	}

	s.end()
	if err := os.Remove(filepath.Join(o.KeysDir, atRestKey)); err != nil {
		t.Fatal(err)
	}
	o.Listener = listen(t)
	if _, err := New(o); err == nil || !strings.Contains(err.Error(), atRestKey) {
		t.Errorf("objects whose key is lost: %v, want an error that names the key's file", err)
	}
	if err := os.WriteFile(filepath.Join(o.KeysDir, atRestKey), []byte(strings.Repeat("17", atRestKeySize)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(o); err == nil || !strings.Contains(err.Error(), atRestKey) {
		t.Errorf("objects with another key: %v, want an error that names the key's file", err)
	}
}

// TestRestart keeps objects and credentials over a restart of all, on a real log.
func TestRestart(t *testing.T) {
	dir := t.TempDir()
	open := func() (*kv.Store, func()) {
		fatal := func(err error) { t.Errorf("fatal: %v", err) }
		store, err := kv.Open(kv.Options{Dir: filepath.Join(dir, "kv"), Fatal: fatal})
		if err != nil {
			t.Fatal(err)
		}
		g, err := raftlog.Open(t.Context(), raftlog.Options{Dir: dir, Name: "meta", NodeID: "n1", Machine: store, Fatal: fatal, SegmentBytes: 1 << 20, DiskFloor: 1, DiskReserve: 1})
		if err != nil {
			t.Fatal(err)
		}
		store.Bind(g)
		return store, func() {
			if err := errors.Join(g.Close(t.Context()), store.Close()); err != nil {
				t.Error(err)
			}
		}
	}
	o := options(t)
	store, closeStore := open()
	o.KV = store
	s := start(t, o)
	old := s.config
	if _, err := s.client().CoreV1().ConfigMaps("default").Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "kept"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.triggers().Create(t.Context(), object(t, triggerManifest), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	s.end()
	closeStore()

	store, closeStore = open()
	defer closeStore()
	before := store.Rev()
	o.KV, o.Listener = store, listen(t)
	s = start(t, o)
	defer s.end()
	if after := store.Rev(); after != before {
		t.Errorf("the start of a server that has nothing to change made %d writes", after-before)
	}
	old.Host = s.config.Host
	if _, err := clientOf(t, old).CoreV1().ConfigMaps("default").Get(t.Context(), "kept", metav1.GetOptions{}); err != nil {
		t.Errorf("with the kubeconfig of before: %v", err)
	}
	if _, err := s.triggers().Get(t.Context(), "t1", metav1.GetOptions{}); err != nil {
		t.Error(err)
	}
}

// TestStop ends watches and requests of our own handlers at once, and leaves
// nothing behind.
func TestStop(t *testing.T) {
	entered, left := make(chan struct{}), make(chan struct{})
	o := options(t)
	o.Handlers = map[string]http.Handler{"/leat/v1/": http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(entered)
		<-r.Context().Done()
		close(left)
	})}
	s := start(t, o)
	for _, config := range []*rest.Config{s.config, s.LoopbackConfig()} {
		w, err := clientOf(t, config).CoreV1().Namespaces().Watch(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			for range w.ResultChan() { // the test ends when it is closed
			}
		}()
	}
	go clientOf(t, s.config).Discovery().RESTClient().Get().AbsPath("/leat/v1/wait").DoRaw(t.Context()) // it is broken off
	<-entered
	s.end()
	<-left
}

func TestManyServers(t *testing.T) {
	o := options(t)
	run := func() {
		o.Listener = listen(t)
		s := start(t, o)
		s.end()
	}
	run()
	before := settled(t, 0)
	for range 4 {
		run()
	}
	if after := settled(t, before); after > before+5 {
		buf := make([]byte, 1<<20)
		t.Errorf("%d goroutines, then %d after four servers more:\n%s", before, after, buf[:runtime.Stack(buf, true)])
	}
}

// settled is the number of goroutines once it no longer falls, or is at most
// enough: the libraries' own end a little after the server.
func settled(t *testing.T, enough int) int {
	t.Helper()
	n, same := runtime.NumGoroutine(), 0
	err := wait.PollUntilContextTimeout(t.Context(), 20*time.Millisecond, 10*time.Second, true, func(context.Context) (bool, error) {
		if now := runtime.NumGoroutine(); now == n {
			same++
		} else {
			n, same = now, 0
		}
		return n <= enough || same > 25, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestStopWhileStarting(t *testing.T) {
	o := options(t)
	for wait := range 10 {
		o.Listener = listen(t)
		s, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(wait)*5*time.Millisecond)
		if err := s.Run(ctx); err != nil {
			t.Errorf("stopped after %d ms: %v", wait*5, err)
		}
		cancel()
	}
	o.Listener = listen(t)
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Run(ctx); err != nil {
		t.Error(err)
	}
	select {
	case <-s.Ready():
		t.Error("a server that never started is ready")
	default:
	}
	if err := s.Run(t.Context()); err == nil {
		t.Error("a server ran twice")
	}
}

func TestListenerFails(t *testing.T) {
	o := options(t)
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Run(t.Context()) }()
	<-s.Ready()
	o.Listener.Close() // by somebody else
	if err := <-done; !errors.Is(err, net.ErrClosed) || !strings.Contains(err.Error(), "accept connections") {
		t.Errorf("the server ended with %v", err)
	}
}

func TestRefusedOptions(t *testing.T) {
	if _, err := New(Options{}); err == nil {
		t.Error("a server without a store was made")
	}
	o := options(t)
	o.CRDs = append(o.CRDs, object(t, `{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, metadata: {name: x}, spec: {unknown: 1}}`))
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), `CustomResourceDefinition x: strict decoding error: unknown field "spec.unknown"`) {
		t.Errorf("a definition that is wrong: %v", err)
	}
	o = options(t)
	o.Handlers = map[string]http.Handler{"leat": http.NotFoundHandler()}
	if s, err = New(o); err != nil {
		t.Fatal(err)
	}
	if err := s.Run(t.Context()); err == nil {
		t.Error("a handler at no path was accepted")
	}
}

// TestReadyzAsksTheServer: what keeps requests from being served is told to who
// asks for it, and to nobody else why.
func TestReadyzAsksTheServer(t *testing.T) {
	var hangs atomic.Bool
	o := options(t)
	o.NotReady = func() error {
		if hangs.Load() {
			return errors.New("the disk in /secret/place does not answer")
		}
		return nil
	}
	s := start(t, o)
	hangs.Store(true)
	if code, body := insecure(t, s, "/readyz"); code != http.StatusInternalServerError || !strings.Contains(body, "[-]disk failed") || strings.Contains(body, "secret") {
		t.Errorf("/readyz: %d %s", code, body)
	}
	for _, path := range []string{"/healthz", "/livez"} {
		if code, body := insecure(t, s, path); code != http.StatusOK {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
	hangs.Store(false)
	if code, body := insecure(t, s, "/readyz"); code != http.StatusOK {
		t.Errorf("/readyz, afterwards: %d %s", code, body)
	}
}
