package apiserver

import (
	"fmt"
	"maps"
	"net/http"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"

	"github.com/leat-dev/leat/raftlog/kv"
	"github.com/leat-dev/leat/raftlog/kv/kvtest"
)

// next is the next event of a watch.
func next(t *testing.T, w watch.Interface) watch.Event {
	t.Helper()
	select {
	case e, ok := <-w.ResultChan():
		if !ok {
			t.Fatal("the watch ended")
		}
		return e
	case <-time.After(20 * time.Second):
		t.Fatal("no event in 20 s")
	}
	panic("unreachable")
}

// shown is an event in short.
func shown(t *testing.T, e watch.Event) string {
	t.Helper()
	if e.Type == watch.Error {
		err := apierrors.FromObject(e.Object)
		return fmt.Sprintf("ERROR %s", apierrors.ReasonForError(err))
	}
	m, err := meta.Accessor(e.Object)
	if err != nil {
		t.Fatal(err)
	}
	s := fmt.Sprintf("%s %s", e.Type, m.GetName())
	if m.GetAnnotations()[metav1.InitialEventsAnnotationKey] == "true" {
		s += "initial events end"
	}
	return s
}

func configMap(name string, labels map[string]string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
}

// TestWatch: events in order from a version on, with what leaves and enters a
// selection shown as deleted and added.
func TestWatch(t *testing.T) {
	s := start(t, options(t))
	configs := s.client().CoreV1().ConfigMaps("default")
	a, err := configs.Create(t.Context(), configMap("a", map[string]string{"x": "1"}), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	all, err := configs.Watch(t.Context(), metav1.ListOptions{ResourceVersion: a.ResourceVersion})
	if err != nil {
		t.Fatal(err)
	}
	defer all.Stop()
	some, err := configs.Watch(t.Context(), metav1.ListOptions{ResourceVersion: a.ResourceVersion, LabelSelector: "x=1"})
	if err != nil {
		t.Fatal(err)
	}
	defer some.Stop()
	one, err := configs.Watch(t.Context(), metav1.ListOptions{ResourceVersion: a.ResourceVersion, FieldSelector: "metadata.name=b"})
	if err != nil {
		t.Fatal(err)
	}
	defer one.Stop()

	if _, err := configs.Create(t.Context(), configMap("b", nil), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, x := range []string{"2", "1"} {
		a.Labels["x"] = x
		if a, err = configs.Update(t.Context(), a, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"a", "b"} {
		if err := configs.Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for what, c := range map[string]struct {
		w    watch.Interface
		want []string
	}{
		"all":                {all, []string{"ADDED b", "MODIFIED a", "MODIFIED a", "DELETED a", "DELETED b"}},
		"selected by label":  {some, []string{"DELETED a", "ADDED a", "DELETED a"}},
		"selected by a name": {one, []string{"ADDED b", "DELETED b"}},
	} {
		for i, want := range c.want {
			if got := shown(t, next(t, c.w)); got != want {
				t.Errorf("%s, event %d: %s, want %s", what, i, got, want)
			}
		}
	}
}

// TestStreamedList: the objects, then a bookmark that ends them, then changes.
func TestStreamedList(t *testing.T) {
	s := start(t, options(t))
	for i := range 3 {
		u := object(t, triggerManifest)
		u.SetName(fmt.Sprintf("t%d", i))
		if _, err := s.triggers().Create(t.Context(), u, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	yes := true
	w, err := s.triggers().Watch(t.Context(), metav1.ListOptions{
		SendInitialEvents: &yes, AllowWatchBookmarks: true, ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	for _, want := range []string{"ADDED t0", "ADDED t1", "ADDED t2", "BOOKMARK initial events end"} {
		if got := shown(t, next(t, w)); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	if err := s.triggers().Delete(t.Context(), "t1", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := shown(t, next(t, w)); got != "DELETED t1" {
		t.Errorf("%s, want DELETED t1", got)
	}
	_, err = s.triggers().Watch(t.Context(), metav1.ListOptions{SendInitialEvents: &yes, AllowWatchBookmarks: true})
	if !apierrors.IsInvalid(err) {
		t.Errorf("initial events without resourceVersionMatch: %v, want 422", err)
	}
}

// TestBookmarks: a watch on which nothing happens learns of newer versions.
func TestBookmarks(t *testing.T) {
	s := start(t, options(t))
	list, err := s.triggers().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	// One is sent before the time of the watch is up.
	seconds := int64(6)
	w, err := s.triggers().Watch(t.Context(), metav1.ListOptions{ResourceVersion: list.GetResourceVersion(), AllowWatchBookmarks: true, TimeoutSeconds: &seconds})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	made, err := s.resource("eventing.knative.dev", "v1", "triggers").Create(t.Context(), object(t, triggerManifest), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got := shown(t, next(t, w)); got != "ADDED t1" {
		t.Errorf("%s, want ADDED t1", got)
	}
	e := next(t, w)
	if m, err := meta.Accessor(e.Object); err != nil || e.Type != watch.Bookmark || m.GetResourceVersion() < made.GetResourceVersion() {
		t.Errorf("%s at %v, want a bookmark at %s or later", e.Type, m, made.GetResourceVersion())
	}
	if _, ok := <-w.ResultChan(); ok {
		t.Error("the watch goes on after its time")
	}
}

// TestExpired: a watch or list from what is no longer kept is told so, in the
// way that has informers begin anew.
func TestExpired(t *testing.T) {
	clock := kvtest.NewClock()
	o := options(t)
	o.KV, _ = kvtest.Open(t, kv.Options{HistoryEvents: 4, CompactEvery: time.Minute, Clock: clock})
	s := start(t, o)
	client := s.client().CoreV1()
	events := client.Events("default") // of which there is no cache that remembers
	create := func(name string) *corev1.Event {
		e, err := events.Create(t.Context(), &corev1.Event{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	first := create("a")
	create("b")
	chunk, err := events.List(t.Context(), metav1.ListOptions{Limit: 1})
	if err != nil || chunk.Continue == "" {
		t.Fatalf("the first chunk: %v, %v", chunk, err)
	}
	for i := range 20 {
		create(fmt.Sprint("c", i))
	}
	eventually(t, "the history is compacted", func() bool {
		clock.Advance(time.Minute)
		_, err := events.List(t.Context(), metav1.ListOptions{ResourceVersion: first.ResourceVersion, ResourceVersionMatch: metav1.ResourceVersionMatchExact})
		return apierrors.IsResourceExpired(err)
	})
	for what, watcher := range map[string]func(metav1.ListOptions) (watch.Interface, error){
		"events": func(o metav1.ListOptions) (watch.Interface, error) {
			return client.Events("default").Watch(t.Context(), o)
		},
		"triggers": func(o metav1.ListOptions) (watch.Interface, error) { return s.triggers().Watch(t.Context(), o) },
	} {
		w, err := watcher(metav1.ListOptions{ResourceVersion: "1"})
		if apierrors.IsResourceExpired(err) {
			continue // an answer of 410 is as good
		}
		if err != nil {
			t.Errorf("watch of %s: %v", what, err)
			continue
		}
		e := next(t, w)
		if status, ok := e.Object.(*metav1.Status); e.Type != watch.Error || !ok || status.Code != http.StatusGone || status.Reason != metav1.StatusReasonExpired {
			t.Errorf("watch of %s from version 1: %v, want 410 Expired", what, e)
		}
		w.Stop()
	}
	_, err = events.List(t.Context(), metav1.ListOptions{Limit: 1, Continue: chunk.Continue})
	if !apierrors.IsResourceExpired(err) {
		t.Fatalf("a chunk of an old list: %v, want 410 Expired", err)
	}
	// The answer holds a token with which the list can go on all the same.
	rest, err := events.List(t.Context(), metav1.ListOptions{Continue: err.(apierrors.APIStatus).Status().ListMeta.Continue})
	if err != nil || len(rest.Items) != 21 {
		t.Errorf("the rest of the list, as it is now: %v, %v", rest, err)
	}
}

// eventually waits for what the server brings about.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20 s: %s", what)
		}
		<-time.After(5 * time.Millisecond)
	}
}

// TestInformers: after any number of writes by several clients, an informer
// holds what the API does, and has seen no object go back in time.
func TestInformers(t *testing.T) {
	s := start(t, options(t))
	d, err := dynamic.NewForConfig(s.config)
	if err != nil {
		t.Fatal(err)
	}
	core := informers.NewSharedInformerFactoryWithOptions(s.client(), 0, informers.WithNamespace("default"))
	dyn := dynamicinformer.NewFilteredDynamicSharedInformerFactory(d, 0, "default", nil)
	both := map[string]cache.SharedIndexInformer{
		"configmaps": core.Core().V1().ConfigMaps().Informer(), "brokers": dyn.ForResource(brokerResource).Informer(),
	}
	var mu sync.Mutex
	last := map[string]int{}
	for what, informer := range both {
		handler := cache.ResourceEventHandlerFuncs{UpdateFunc: func(was, is any) {
			before, after := stored(t, was), stored(t, is)
			mu.Lock()
			defer mu.Unlock()
			if key := what + "/" + after.name; after.version <= before.version || after.version <= last[key] {
				t.Errorf("%s goes from version %d to %d, after %d", key, before.version, after.version, last[key])
			} else {
				last[key] = after.version
			}
		}}
		if _, err := informer.AddEventHandler(handler); err != nil {
			t.Fatal(err)
		}
	}
	stop := make(chan struct{})
	defer func() { close(stop); core.Shutdown(); dyn.Shutdown() }()
	core.Start(stop)
	dyn.Start(stop)
	var all sync.WaitGroup
	for client := range 4 {
		all.Go(func() { churn(t, s, client) })
	}
	all.Wait()
	want := func(what string) map[string]string {
		have := map[string]string{}
		if what == "brokers" {
			list, err := s.resource("eventing.knative.dev", "v1", "brokers").List(t.Context(), metav1.ListOptions{})
			if err != nil {
				t.Fatal(err)
			}
			for _, i := range list.Items {
				have[i.GetName()] = i.GetResourceVersion()
			}
			return have
		}
		list, err := s.client().CoreV1().ConfigMaps("default").List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range list.Items {
			have[i.Name] = i.ResourceVersion
		}
		return have
	}
	for what, informer := range both {
		wanted := want(what)
		eventually(t, "the informer holds the "+what+" of the API", func() bool {
			have := map[string]string{}
			for _, o := range informer.GetStore().List() {
				o := stored(t, o)
				have[o.name] = fmt.Sprint(o.version)
			}
			return maps.Equal(have, wanted)
		})
	}
}

type seenAt struct {
	name    string
	version int
}

func stored(t *testing.T, obj any) (v seenAt) {
	m, err := meta.Accessor(obj)
	if err != nil {
		t.Error(err)
		return v
	}
	v.name = m.GetName()
	if _, err := fmt.Sscan(m.GetResourceVersion(), &v.version); err != nil {
		t.Error(err)
	}
	return v
}

// churn makes, changes and deletes objects, some of which stay.
func churn(t *testing.T, s *running, client int) {
	configs, brokers := s.client().CoreV1().ConfigMaps("default"), s.resource("eventing.knative.dev", "v1", "brokers")
	for i := range 15 {
		name := fmt.Sprintf("o%d-%d", client, i)
		c, err := configs.Create(t.Context(), configMap(name, nil), metav1.CreateOptions{})
		if err == nil {
			c.Data = map[string]string{"a": "b"}
			_, err = configs.Update(t.Context(), c, metav1.UpdateOptions{})
		}
		if err != nil {
			t.Error(err)
		}
		var b runtime.Object
		u := &unstructured.Unstructured{}
		u.SetAPIVersion("eventing.knative.dev/v1")
		u.SetKind("Broker")
		u.SetName(name)
		if b, err = brokers.Create(t.Context(), u, metav1.CreateOptions{}); err == nil {
			b.(*unstructured.Unstructured).SetLabels(map[string]string{"a": "b"})
			_, err = brokers.Update(t.Context(), b.(*unstructured.Unstructured), metav1.UpdateOptions{})
		}
		if err != nil {
			t.Error(err)
		}
		if i%3 == 0 {
			continue
		}
		if err := configs.Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
		if err := brokers.Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	}
}
