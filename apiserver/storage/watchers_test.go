package storage

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/apis/example"
	apistorage "k8s.io/apiserver/pkg/storage"
)

// A thousand watches of one resource each see every write, in order, beside
// one that does not read.
func TestThousandWatchers(t *testing.T) {
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

// TestBookmarksComeWithNews: a watch that asks for bookmarks gets one some seconds
// after it began and after a write, wherever that was, and one a minute where
// nothing happens.
func TestBookmarksComeWithNews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t, func(c *Config) { c.times = times{} })
		begin := func() <-chan watch.Event {
			w, err := s.Watch(t.Context(), "/pods/", apistorage.ListOptions{
				ResourceVersion: "1", Predicate: apistorage.SelectionPredicate{Label: labels.Everything(), Field: fields.Everything(), AllowWatchBookmarks: true}, Recursive: true,
			})
			if err != nil {
				t.Fatal(err)
			}
			return w.ResultChan()
		}
		got := func(events <-chan watch.Event, what string, want int) {
			t.Helper()
			synctest.Wait()
			n := 0
			for ; len(events) > 0; n++ {
				if e := <-events; e.Type != watch.Bookmark {
					t.Errorf("%s: %v", what, e)
				}
			}
			if n != want {
				t.Errorf("%s: %d bookmarks, want %d", what, n, want)
			}
		}
		first := begin()
		time.Sleep(6 * time.Second)
		got(first, "after it began", 1)
		time.Sleep(54 * time.Second)
		got(first, "in the minute after it", 0)
		increase(s.c.KV)(t.Context(), t)
		time.Sleep(6 * time.Second)
		got(first, "after a write beside it", 1)
		second := begin()
		time.Sleep(6 * time.Second)
		got(second, "after another began", 1)
		got(first, "beside another that began", 1)
		time.Sleep(time.Hour)
		got(first, "in an hour of silence", int(time.Hour/(65*time.Second)))
		for range 100 {
			increase(s.c.KV)(t.Context(), t)
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(6 * time.Second)
		got(first, "after ten seconds of writes", 2)
		s.Close()
		s.c.KV.Close()
	})
}
