package storage

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/apis/example"
	apistorage "k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/cacher"
	"k8s.io/apiserver/pkg/storage/cacher/delegator"
	suite "k8s.io/apiserver/pkg/storage/testing"
	"k8s.io/client-go/tools/cache"

	"github.com/leat-dev/leat/raftlog/kv"
	"github.com/leat-dev/leat/raftlog/kv/kvtest"
)

func podAttrs(obj runtime.Object) (labels.Set, fields.Set, error) {
	pod, ok := obj.(*example.Pod)
	if !ok {
		return nil, nil, fmt.Errorf("%T is no pod", obj)
	}
	return pod.Labels, fields.Set{
		"metadata.name": pod.Name, "metadata.namespace": pod.Namespace,
		"spec.nodeName": pod.Spec.NodeName, "spec.restartPolicy": string(pod.Spec.RestartPolicy),
		"status.phase": string(pod.Status.Phase),
	}, nil
}

func nodeName(obj any) ([]string, error)  { return []string{obj.(*example.Pod).Spec.NodeName}, nil }
func namespace(obj any) ([]string, error) { return []string{obj.(*example.Pod).Namespace}, nil }

// newCached is a storage of pods behind the watch cache, as a server makes it.
func newCached(tb testing.TB, key func(string, runtime.Object) (string, error)) (apistorage.Interface, *kv.Store) {
	tb.Helper()
	s, _ := kvtest.Open(tb, kv.Options{ExpireEvery: 100 * time.Millisecond})
	o := RESTOptions{KV: s, Codec: newCodec(tb), Cache: true, times: times{fresh: 50 * time.Millisecond}}
	rest, err := o.GetRESTOptions(schema.GroupResource{Resource: "pods"}, nil)
	if err != nil {
		tb.Fatal(err)
	}
	store, destroy, err := rest.Decorator(rest.StorageConfig, "/pods/",
		func(obj runtime.Object) (string, error) { return key("/pods/", obj) }, newPod, newPodList, podAttrs,
		apistorage.IndexerFuncs{"spec.nodeName": func(obj runtime.Object) string { return obj.(*example.Pod).Spec.NodeName }},
		&cache.Indexers{"f:spec.nodeName": nodeName, "f:metadata.namespace": namespace})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(destroy)
	ready := func(context.Context) (bool, error) {
		return store.ReadinessCheck() == nil && delegator.ConsistentReadSupported(), nil
	}
	if err := wait.PollUntilContextTimeout(tb.Context(), time.Millisecond, time.Minute, true, ready); err != nil {
		tb.Fatalf("the cache does not become ready: %v", err)
	}
	return store, s
}

// settled waits after each creation until the cache has seen it.
type settled struct{ apistorage.Interface }

func (s settled) Create(ctx context.Context, key string, obj, out runtime.Object, ttl uint64) error {
	if err := s.Interface.Create(ctx, key, obj, out, ttl); err != nil {
		return err
	}
	rev := out.(*example.Pod).ResourceVersion
	return s.GetList(ctx, "/pods/", apistorage.ListOptions{ResourceVersion: rev, Predicate: apistorage.Everything, Recursive: true}, newPodList())
}

// TestConformanceBehindTheCache runs what upstream runs over its watch cache.
// Not what needs to look into the cache (List's recorder, WatchFromZero's
// compaction), nor what changes the transformer below it.
func TestConformanceBehindTheCache(t *testing.T) {
	type run func(context.Context, *testing.T, apistorage.Interface)
	for name, f := range map[string]run{
		"CreateWithTTL":                      suite.RunTestCreateWithTTL,
		"CreateWithKeyExist":                 suite.RunTestCreateWithKeyExist,
		"Get":                                suite.RunTestGet,
		"UnconditionalDelete":                suite.RunTestUnconditionalDelete,
		"ConditionalDelete":                  suite.RunTestConditionalDelete,
		"DeleteWithSuggestionAndConflict":    suite.RunTestDeleteWithSuggestionAndConflict,
		"PreconditionalDelete":               suite.RunTestPreconditionalDeleteWithSuggestion,
		"GetListRecursivePrefix":             suite.RunTestGetListRecursivePrefix,
		"ListPaging":                         suite.RunTestListPaging,
		"NamespaceScopedList":                suite.RunTestNamespaceScopedList,
		"KeySchema":                          suite.RunTestKeySchema,
		"GuaranteedUpdateWithConflict":       suite.RunTestGuaranteedUpdateWithConflict,
		"GuaranteedUpdateWithSuggestion":     suite.RunTestGuaranteedUpdateWithSuggestionAndConflict,
		"Watch":                              suite.RunTestWatch,
		"NamespaceScopedWatch":               suite.RunTestNamespaceScopedWatch,
		"DeleteTriggerWatch":                 suite.RunTestDeleteTriggerWatch,
		"WatchFromNonZero":                   suite.RunTestWatchFromNonZero,
		"DelayedWatchDelivery":               suite.RunTestDelayedWatchDelivery,
		"WatcherTimeout":                     suite.RunTestWatcherTimeout,
		"WatchDeleteEventObjectHaveLatestRV": suite.RunTestWatchDeleteEventObjectHaveLatestRV,
		"WatchInitializationSignal":          suite.RunTestWatchInitializationSignal,
		"WatchBookmarks":                     suite.RunTestOptionalWatchBookmarksWithCorrectResourceVersion,
		"SendInitialEvents":                  suite.RunSendInitialEventsBackwardCompatibility,
		"WatchSemantics":                     suite.RunWatchSemantics,
		"WatchSemanticInitialEvents":         suite.RunWatchSemanticInitialEventsExtended,
		"WatchListMatchSingle":               suite.RunWatchListMatchSingle,
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := newCached(t, apistorage.NamespaceKeyFunc)
			f(t.Context(), t, settled{s})
		})
	}
	t.Run("ClusterScopedWatch", func(t *testing.T) {
		s, _ := newCached(t, apistorage.NoNamespaceKeyFunc)
		suite.RunTestClusterScopedWatch(t.Context(), t, s)
	})
	t.Run("ConsistentList", func(t *testing.T) {
		s, k := newCached(t, apistorage.NamespaceKeyFunc)
		suite.RunTestConsistentList(t.Context(), t, s, increase(k), true, true, true)
	})
	t.Run("GetListNonRecursive", func(t *testing.T) {
		s, k := newCached(t, apistorage.NamespaceKeyFunc)
		suite.RunTestGetListNonRecursive(t.Context(), t, increase(k), s)
	})
	t.Run("ListContinuation", func(t *testing.T) {
		s, _ := newCached(t, apistorage.NamespaceKeyFunc)
		suite.RunTestListContinuation(t.Context(), t, s, func(*testing.T, uint64, uint64) {})
	})
}

var _ apistorage.Interface = (*cacher.CacheDelegator)(nil)

// A thousand watches of one resource each see every write, in order, beside
// one that does not read.
func TestThousandWatchersBehindTheCache(t *testing.T) {
	s, _ := newCached(t, apistorage.NamespaceKeyFunc)
	watchAll(t, s, 1000, 50)
}

func TestThousandWatchersOfTheStore(t *testing.T) {
	watchAll(t, newStore(t), 1000, 50)
}

func watchAll(tb testing.TB, s apistorage.Interface, watchers, writes int) {
	tb.Helper()
	list := &example.PodList{}
	if err := s.GetList(tb.Context(), "/pods/", apistorage.ListOptions{Predicate: apistorage.Everything, Recursive: true}, list); err != nil {
		tb.Fatal(err)
	}
	start := list.ResourceVersion
	opts := apistorage.ListOptions{ResourceVersion: start, Predicate: apistorage.Everything, Recursive: true}
	ctx, cancel := context.WithCancel(tb.Context())
	defer cancel()
	idle, err := s.Watch(ctx, "/pods/", opts)
	if err != nil {
		tb.Fatal(err)
	}
	defer idle.Stop()
	var wg sync.WaitGroup
	seen := make(chan struct{}, watchers)
	for range watchers {
		w, err := s.Watch(ctx, "/pods/", opts)
		if err != nil {
			tb.Fatal(err)
		}
		wg.Go(func() {
			defer w.Stop()
			for i := 0; i < writes; {
				e, open := <-w.ResultChan()
				if e.Type == watch.Bookmark {
					continue
				}
				if want := fmt.Sprintf("pod-%d", i); !open || e.Type != watch.Added || podName(e.Object) != want {
					tb.Errorf("event %d: %v, want ADDED %s", i, e, want)
					i = writes // but count the others, so that the writer goes on
				}
				i++
				seen <- struct{}{}
			}
		})
	}
	for i := range writes {
		if tb.Failed() {
			cancel()
			break
		}
		mustCreate(tb, s, pod(fmt.Sprintf("pod-%d", i)))
		for range watchers {
			<-seen
		}
	}
	idle.Stop()
	wg.Wait()
}

func podName(obj runtime.Object) string {
	if shared, ok := obj.(runtime.CacheableObject); ok {
		obj = shared.GetObject()
	}
	return obj.(*example.Pod).Name
}
