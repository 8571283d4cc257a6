package apiserver

import (
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/leat-dev/leat/raftlog/kv"
	"github.com/leat-dev/leat/raftlog/kv/kvtest"
)

// way is a way to a server that can be broken off.
type way struct {
	l   net.Listener
	to  string
	all sync.WaitGroup

	mu    sync.Mutex
	shut  bool
	conns map[net.Conn]bool
}

func newWay(t *testing.T, to string) *way {
	t.Helper()
	w := &way{l: listen(t), to: to, conns: map[net.Conn]bool{}}
	w.all.Go(func() {
		for {
			in, err := w.l.Accept()
			if err != nil {
				return
			}
			w.all.Go(func() { w.carry(in) })
		}
	})
	return w
}

func (w *way) carry(in net.Conn) {
	defer in.Close()
	out, err := net.Dial("tcp", w.to)
	if err != nil {
		return
	}
	defer out.Close()
	w.mu.Lock()
	if w.shut {
		w.mu.Unlock()
		return
	}
	w.conns[in], w.conns[out] = true, true
	w.mu.Unlock()
	w.all.Go(func() {
		io.Copy(out, in) // until either ends
		out.Close()
	})
	io.Copy(in, out) // likewise
}

// breakOff closes what is open; shut says whether it stays so.
func (w *way) breakOff(shut bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.shut = shut
	for c := range w.conns {
		c.Close()
	}
	clear(w.conns)
}

func (w *way) close() {
	w.l.Close()
	w.breakOff(true)
	w.all.Wait()
}

// follower is something that holds a copy of a resource's objects.
type follower struct {
	resource schema.GroupVersionResource
	store    cache.Store
}

// followers are informers and reflectors of all kinds, over a way.
type followers struct {
	t   *testing.T
	all map[string]follower
	// listed counts the times that a whole list was asked for.
	listed atomic.Int64

	mu   sync.Mutex
	last map[string]int
}

var followed = map[string]schema.GroupVersionResource{
	"configmaps": {Version: "v1", Resource: "configmaps"}, "secrets": {Version: "v1", Resource: "secrets"},
	"brokers": brokerResource, "triggers": {Group: "eventing.knative.dev", Version: "v1", Resource: "triggers"},
}

// follow starts, until ctx ends: a shared informer of each resource, which has
// its list streamed, and a reflector that reads it page by page.
func follow(ctx context.Context, t *testing.T, config *rest.Config) *followers {
	t.Helper()
	f := &followers{t: t, all: map[string]follower{}, last: map[string]int{}}
	config = rest.CopyConfig(config)
	config.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			if q := r.URL.Query(); q.Get("watch") == "" && q.Get("continue") == "" || q.Get("sendInitialEvents") == "true" {
				f.listed.Add(1)
			}
			return next.RoundTrip(r)
		})
	})
	client, d := clientOf(t, config), dynamic.NewForConfigOrDie(config)
	core := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace("default"))
	dyn := dynamicinformer.NewFilteredDynamicSharedInformerFactory(d, 0, "default", nil)
	shared := map[string]cache.SharedIndexInformer{
		"configmaps": core.Core().V1().ConfigMaps().Informer(), "secrets": core.Core().V1().Secrets().Informer(),
		"brokers": dyn.ForResource(followed["brokers"]).Informer(), "triggers": dyn.ForResource(followed["triggers"]).Informer(),
	}
	for name, informer := range shared {
		f.all["informer of "+name] = follower{followed[name], informer.GetStore()}
		seen := func(obj any) { f.seen(name, obj) }
		if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: seen, UpdateFunc: func(_, obj any) { seen(obj) }}); err != nil {
			t.Fatal(err)
		}
	}
	core.StartWithContext(ctx)
	dyn.Start(ctx.Done())
	var reflectors sync.WaitGroup
	for name, resource := range followed {
		store := cache.NewStore(cache.MetaNamespaceKeyFunc)
		f.all["reflector of "+name] = follower{resource, store}
		r := cache.NewReflectorWithOptions(paged{d.Resource(resource).Namespace("default")}, &unstructured.Unstructured{}, store, cache.ReflectorOptions{
			Backoff: &wait.Backoff{Duration: 5 * time.Millisecond, Factor: 1.5, Steps: 20, Cap: 200 * time.Millisecond},
		})
		r.WatchListPageSize = 3
		reflectors.Go(func() { r.RunWithContext(ctx) })
	}
	t.Cleanup(func() { core.Shutdown(); dyn.Shutdown(); reflectors.Wait() })
	return f
}

type roundTripper func(*http.Request) (*http.Response, error)

// RoundTrip implements http.RoundTripper.
func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// paged is a resource whose client cannot have a list streamed.
type paged struct{ dynamic.ResourceInterface }

func (paged) IsWatchListSemanticsUnSupported() bool { return true }

func (p paged) List(o metav1.ListOptions) (runtime.Object, error) {
	return p.ResourceInterface.List(context.Background(), o)
}

func (p paged) Watch(o metav1.ListOptions) (watch.Interface, error) {
	return p.ResourceInterface.Watch(context.Background(), o)
}

// seen sees to it that no object goes back in time.
func (f *followers) seen(resource string, obj any) {
	is := stored(f.t, obj)
	f.mu.Lock()
	defer f.mu.Unlock()
	key := resource + "/" + is.name
	if is.version < f.last[key] {
		f.t.Errorf("%s goes from version %d back to %d", key, f.last[key], is.version)
	}
	f.last[key] = is.version
}

// hold waits until each holds what the server does.
func (f *followers) hold(when string, s *running) {
	f.t.Helper()
	d := dynamic.NewForConfigOrDie(s.config)
	for what, follower := range f.all {
		list, err := d.Resource(follower.resource).Namespace("default").List(f.t.Context(), metav1.ListOptions{})
		if err != nil {
			f.t.Fatal(err)
		}
		want := map[string]int{}
		for i := range list.Items {
			o := stored(f.t, &list.Items[i])
			want[o.name] = o.version
		}
		eventually(f.t, fmt.Sprintf("%s, the %s has the server's %d", when, what, len(want)), func() bool {
			have := map[string]int{}
			for _, obj := range follower.store.List() {
				o := stored(f.t, obj)
				have[o.name] = o.version
			}
			return maps.Equal(have, want)
		})
	}
}

// busy makes, changes and deletes objects of each resource: a few names, again
// and again.
func busy(t *testing.T, s *running, seed uint64, rounds int) {
	t.Helper()
	random := rand.New(rand.NewPCG(seed, 1))
	d := dynamic.NewForConfigOrDie(s.config)
	for i := range rounds {
		for name, resource := range followed {
			c := d.Resource(resource).Namespace("default")
			u := object(t, triggerManifest)
			switch name {
			case "brokers":
				u = object(t, "apiVersion: eventing.knative.dev/v1\nkind: Broker\nspec: {}\n")
			case "configmaps":
				u = object(t, "apiVersion: v1\nkind: ConfigMap\n")
			case "secrets":
				u = object(t, "apiVersion: v1\nkind: Secret\ntype: Opaque\n")
			}
			u.SetName(fmt.Sprintf("o%d", random.IntN(10)))
			u.SetLabels(map[string]string{"round": fmt.Sprint(seed, "-", i)})
			var err error
			if random.IntN(3) == 0 {
				err = c.Delete(t.Context(), u.GetName(), metav1.DeleteOptions{})
			} else {
				_, err = c.Apply(t.Context(), u.GetName(), u, metav1.ApplyOptions{FieldManager: "busy", Force: true})
			}
			if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err) {
				t.Errorf("%s %s: %v", name, u.GetName(), err)
			}
		}
	}
}

// TestFollowersOverBreaks: over watches that are broken off, servers that are
// started anew, and a history that does not reach back, every follower ends up
// with what the server has, and none sees an object go back in time.
func TestFollowersOverBreaks(t *testing.T) {
	o := options(t)
	o.KV, _ = kvtest.Open(t, kv.Options{HistoryEvents: 20, CompactEvery: 20 * time.Millisecond})
	s := start(t, o)
	w := newWay(t, s.Addr().String())
	defer w.close()
	over := rest.CopyConfig(s.config)
	over.Host = "https://" + w.l.Addr().String()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	busy(t, s, 1, 5)
	f := follow(ctx, t, over)
	f.hold("at first", s)

	var writers sync.WaitGroup
	for seed := range uint64(3) {
		writers.Go(func() { busy(t, s, 10+seed, 10) })
	}
	w.breakOff(false) // amid the writes
	writers.Wait()
	f.hold("after a break", s)

	w.breakOff(true)
	version := latest(t, s.client())
	address := s.Addr().String()
	s.end()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	o.Listener = l
	s = start(t, o)
	busy(t, s, 20, 15)
	eventually(t, "the history does not reach back", func() bool {
		_, err := s.client().CoreV1().Events("default").List(t.Context(), metav1.ListOptions{ResourceVersion: version, ResourceVersionMatch: metav1.ResourceVersionMatchExact})
		return apierrors.IsResourceExpired(err)
	})
	before := f.listed.Load()
	w.breakOff(false) // the way is open again
	f.hold("after a restart", s)
	if n := int(f.listed.Load() - before); n < len(f.all) {
		t.Errorf("%d of %d were told that their version is too old, and began anew", n, len(f.all))
	}
	busy(t, s, 30, 3)
	f.hold("at last", s)
}

// latest is the version of the server now.
func latest(t *testing.T, c kubernetes.Interface) string {
	t.Helper()
	list, err := c.CoreV1().Events("default").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return list.ResourceVersion
}
