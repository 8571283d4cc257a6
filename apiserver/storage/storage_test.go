package storage

import (
	"bytes"
	"context"
	"crypto/aes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/apis/example"
	apistorage "k8s.io/apiserver/pkg/storage"
	aestransformer "k8s.io/apiserver/pkg/storage/value/encrypt/aes"

	"github.com/leat-dev/leat/raftlog"
	"github.com/leat-dev/leat/raftlog/kv"
	"github.com/leat-dev/leat/raftlog/kv/kvtest"
)

func pod(name string) *example.Pod {
	return &example.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}}
}

func mustCreate(tb testing.TB, s apistorage.Interface, p *example.Pod) *example.Pod {
	tb.Helper()
	out := &example.Pod{}
	if err := s.Create(tb.Context(), "/pods/ns/"+p.Name, p, out, 0); err != nil {
		tb.Fatal(err)
	}
	return out
}

// What is encrypted at rest is in no file of the store and in no snapshot, and
// cannot be read under another key.
func TestEncryptionAtRest(t *testing.T) {
	block, err := aes.NewCipher(bytes.Repeat([]byte{7}, 32))
	if err != nil {
		t.Fatal(err)
	}
	transformer, err := aestransformer.NewGCMTransformer(block)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	k, log := kvtest.Open(t, kv.Options{Dir: dir})
	s := newStore(t, func(c *Config) { c.KV, c.Transformer = k, transformer })
	const secret = "planted-secret-4711"
	p := pod("a")
	p.Labels = map[string]string{"password": secret}
	mustCreate(t, s, p)

	got := &example.Pod{}
	if err := s.Get(t.Context(), "/pods/ns/a", apistorage.GetOptions{}, got); err != nil || got.Labels["password"] != secret {
		t.Errorf("read back: %v, %v", got.Labels, err)
	}
	for _, e := range log.Entries() {
		for _, c := range e.Commands {
			if bytes.Contains(c, []byte(secret)) {
				t.Errorf("entry %d of the log holds the secret", e.Index)
			}
		}
	}
	var snap bytes.Buffer
	snapshot, err := k.Snapshot()
	if err == nil {
		err = snapshot.Write(&snap)
		snapshot.Release()
	}
	if err != nil || bytes.Contains(snap.Bytes(), []byte(secret)) {
		t.Errorf("the snapshot holds the secret, or failed: %v", err)
	}
	err = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if bytes.Contains(b, []byte(secret)) {
			t.Errorf("%s holds the secret", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	stored, _, err := k.Get("/pods/ns/a")
	if err != nil || stored == nil {
		t.Fatal(stored, err)
	}
	if _, err := k.Put(t.Context(), "/pods/ns/b", stored.Value, 0, 0); err != nil {
		t.Fatal(err)
	}
	if err := s.Get(t.Context(), "/pods/ns/b", apistorage.GetOptions{}, got); !apistorage.IsInternalError(err) {
		t.Errorf("a value moved to another key could be read: %v", err)
	}
}

// refuser fails every write.
type refuser struct{ err error }

func (r refuser) Propose(context.Context, raftlog.Class, []byte) (any, error) { return nil, r.err }

// A client learns from the status whether its write may have been done, and
// whether to try again.
func TestStatusOfWriteErrors(t *testing.T) {
	for _, c := range []struct {
		err    error
		status int32
		text   string
	}{
		{raftlog.ErrDiskFull, http.StatusServiceUnavailable, "disk space"},
		{raftlog.ErrNotLeader, http.StatusServiceUnavailable, "lead"},
		{raftlog.ErrClosed, http.StatusServiceUnavailable, "closed"},
		{raftlog.ErrOverloaded, http.StatusTooManyRequests, "too many"},
		{fmt.Errorf("%w: %w", raftlog.ErrUnknownOutcome, context.Canceled), http.StatusGatewayTimeout, "outcome unknown"},
	} {
		k, err := kv.Open(kv.Options{Dir: t.TempDir(), Fatal: func(err error) { t.Error(err) }})
		if err != nil {
			t.Fatal(err)
		}
		k.Bind(refuser{c.err})
		s := newStore(t, func(conf *Config) { conf.KV = k })
		err = s.Create(t.Context(), "/pods/ns/a", pod("a"), nil, 0)
		var status apierrors.APIStatus
		if !errors.As(err, &status) || status.Status().Code != c.status || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%v became %v, want status %d with %q", c.err, err, c.status, c.text)
		}
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	}
	s := newStore(t)
	p := pod("a")
	p.Annotations = map[string]string{"large": strings.Repeat("x", 2<<20)}
	if err := s.Create(t.Context(), "/pods/ns/a", p, nil, 0); !apierrors.IsRequestEntityTooLargeError(err) {
		t.Errorf("an object of 2 MiB: %v", err)
	}
}

func TestWatchBelowTheHistoryIsGone(t *testing.T) {
	s := newStore(t)
	first := mustCreate(t, s, pod("a"))
	last := mustCreate(t, s, pod("b"))
	compact(s.c.KV)(t.Context(), t, last.ResourceVersion)
	w, err := s.Watch(t.Context(), "/pods/", apistorage.ListOptions{ResourceVersion: first.ResourceVersion, Predicate: apistorage.Everything, Recursive: true})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	e := <-w.ResultChan()
	if st, ok := e.Object.(*metav1.Status); e.Type != watch.Error || !ok || st.Code != http.StatusGone {
		t.Errorf("got %v, want an error of status 410", e)
	}
	if _, open := <-w.ResultChan(); open {
		t.Error("the watch goes on")
	}
}

// A watch that is not read ends; the next one goes on where it ended, and
// nothing is missed.
func TestSlowWatchGoesOnElsewhere(t *testing.T) {
	const many = 2 * watchBuffer
	k, _ := kvtest.Open(t, kv.Options{WatchQueue: 10})
	s := newStore(t, func(c *Config) { c.KV = k })
	since := mustCreate(t, s, pod("first")).ResourceVersion
	begin := func() watch.Interface {
		w, err := s.Watch(t.Context(), "/pods/", apistorage.ListOptions{ResourceVersion: since, Predicate: apistorage.Everything, Recursive: true})
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	seen := 0
	read := func(w watch.Interface) {
		defer w.Stop()
		for seen < many {
			e, open := <-w.ResultChan()
			if !open {
				return
			}
			p, ok := Shared(e.Object).(*example.Pod)
			if want := fmt.Sprint("pod-", seen); !ok || p.Name != want {
				t.Fatalf("got %v, want %s", e, want)
			}
			since = p.ResourceVersion
			seen++
		}
	}
	w := begin()
	for i := range many {
		mustCreate(t, s, pod(fmt.Sprint("pod-", i)))
	}
	if read(w); seen == many {
		t.Fatal("the watch that was not read did not end")
	}
	if read(begin()); seen != many {
		t.Errorf("the second watch ended after %d of %d", seen, many)
	}
}

func TestRESTOptions(t *testing.T) {
	k, _ := kvtest.Open(t, kv.Options{})
	o := RESTOptions{KV: k, Codec: newCodec(t)}
	rest, err := o.GetRESTOptions(schema.GroupResource{Group: "eventing.knative.dev", Resource: "triggers"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if rest.ResourcePrefix != "/eventing.knative.dev/triggers" || rest.StorageConfig.Prefix != "/registry" {
		t.Errorf("keys begin with %s%s", rest.StorageConfig.Prefix, rest.ResourcePrefix)
	}
	s, destroy, err := rest.Decorator(rest.StorageConfig, rest.ResourcePrefix,
		func(runtime.Object) (string, error) { return "", nil }, newPod, newPodList, nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer destroy()
	if err := s.Create(t.Context(), rest.ResourcePrefix+"/ns/a", pod("a"), nil, 0); err != nil {
		t.Fatal(err)
	}
	if cur, _, err := k.Get("/registry/eventing.knative.dev/triggers/ns/a"); err != nil || cur == nil {
		t.Errorf("it is not stored where it should be: %v", err)
	}
	if _, err := (RESTOptions{}).GetRESTOptions(schema.GroupResource{}, nil); err == nil {
		t.Error("options without a store were accepted")
	}
}

func TestConfigIsChecked(t *testing.T) {
	good := podConfig(t)
	for name, break_ := range map[string]func(*Config){
		"no store":           func(c *Config) { c.KV = nil },
		"no codec":           func(c *Config) { c.Codec = nil },
		"no resource prefix": func(c *Config) { c.ResourcePrefix = "" },
		"all resources":      func(c *Config) { c.ResourcePrefix = "/" },
		"relative prefix":    func(c *Config) { c.ResourcePrefix = "pods" },
	} {
		c := good
		break_(&c)
		if _, err := New(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// A read at a version that is not here yet waits for it.
func TestReadWaitsForAVersion(t *testing.T) {
	s := newStore(t, func(c *Config) { c.times.fresh = time.Minute })
	at := fmt.Sprint(s.c.KV.Rev() + 1)
	done := make(chan error)
	go func() {
		done <- s.Get(t.Context(), "/pods/ns/a", apistorage.GetOptions{ResourceVersion: at}, &example.Pod{})
	}()
	mustCreate(t, s, pod("a"))
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// What an event holds is decoded once, however many watch; whoever encodes it
// gets a copy.
func TestEventsAreDecodedOnce(t *testing.T) {
	s := newStore(t)
	since := mustCreate(t, s, pod("first")).ResourceVersion
	var all []watch.Interface
	for range 3 {
		w, err := s.Follow(t.Context(), since)
		if err != nil {
			t.Fatal(err)
		}
		defer w.Stop()
		all = append(all, w)
	}
	made := mustCreate(t, s, pod("second"))
	var seen []runtime.Object
	for _, w := range all {
		seen = append(seen, (<-w.ResultChan()).Object)
	}
	for _, o := range seen {
		shared, ok := o.(runtime.CacheableObject)
		if !ok || Shared(o) != Shared(seen[0]) {
			t.Fatalf("%v is not shared with %v", o, seen[0])
		}
		mine := shared.GetObject().(*example.Pod)
		if mine.ResourceVersion != made.ResourceVersion || mine.Name != "second" {
			t.Errorf("got %v", mine)
		}
		mine.Name = "changed"
	}
	encoded := 0
	for _, o := range seen {
		var b bytes.Buffer
		err := o.(runtime.CacheableObject).CacheEncode("form", func(o runtime.Object, w io.Writer) error {
			encoded++
			_, err := io.WriteString(w, o.(*example.Pod).Name)
			return err
		}, &b)
		if err != nil || b.String() != "second" {
			t.Errorf("encoded as %q, %v", b.String(), err)
		}
	}
	if encoded != 1 {
		t.Errorf("encoded %d times", encoded)
	}
	s.Close()
	for _, w := range all {
		for range w.ResultChan() { // it ends
		}
	}
}
