package storage

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/features"
	apistorage "k8s.io/apiserver/pkg/storage"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	utilflowcontrol "k8s.io/apiserver/pkg/util/flowcontrol"

	"github.com/leat-dev/leat/raftlog/kv"
)

// initialPage is how many objects of a watch's initial content are read at once.
const initialPage = 500

// Watch implements storage.Interface. A watch that its reader does not keep up
// with is closed, and can be begun again from the last version seen; one that
// begins below the history gets an error of status 410.
func (s *Store) Watch(ctx context.Context, key string, opts apistorage.ListOptions) (watch.Interface, error) {
	return s.watch(ctx, key, opts, kv.Gather{})
}

func (s *Store) watch(ctx context.Context, key string, opts apistorage.ListOptions, g kv.Gather) (watch.Interface, error) {
	key, err := s.key(key, opts.Recursive)
	if err != nil {
		return nil, err
	}
	rev, err := s.versioner.ParseResourceVersion(opts.ResourceVersion)
	if err != nil {
		return nil, err
	}
	if opts.ProgressNotify && s.c.NewFunc == nil {
		return nil, apierrors.NewInternalError(errors.New("bookmarks need a function that makes objects, and none was given"))
	}
	ctx, end := context.WithCancel(ctx)
	closed := context.AfterFunc(s.life, end)
	cancel := func() {
		closed()
		end()
	}
	w := &watcher{
		s: s, opts: opts, key: key, since: rev, ctx: ctx, cancel: cancel,
		all: opts.Predicate.Empty(), results: make(chan watch.Event, watchBuffer),
	}
	w.plan(rev)
	if w.initial {
		rev = 0
	}
	w.sub, err = s.c.KV.Watch(key, !opts.Recursive, rev)
	if err == nil {
		w.sub.Gather(g)
	}
	// There is nothing to wait for: what comes first is read by the watch itself.
	utilflowcontrol.WatchInitialized(ctx)
	go w.run(err)
	return w, nil
}

// watcher is a watch.Interface. Its goroutine ends with its context, which Stop
// or the request's end cancels.
type watcher struct {
	s       *Store
	opts    apistorage.ListOptions
	key     string
	since   uint64
	all     bool // no selector
	initial bool // begin with what there is
	endMark bool // and mark its end
	sub     *kv.Watch
	ctx     context.Context
	cancel  context.CancelFunc
	results chan watch.Event
}

// Stop implements watch.Interface.
func (w *watcher) Stop() { w.cancel() }

// ResultChan implements watch.Interface.
func (w *watcher) ResultChan() <-chan watch.Event { return w.results }

func (w *watcher) plan(rev uint64) {
	if w.opts.SendInitialEvents == nil {
		w.initial = rev == 0
		return
	}
	if utilfeature.DefaultFeatureGate.Enabled(features.WatchList) {
		w.initial = *w.opts.SendInitialEvents
		w.endMark = w.initial && w.opts.Predicate.AllowWatchBookmarks
	}
}

func (w *watcher) run(err error) {
	defer close(w.results)
	defer w.cancel()
	defer w.s.watching()()
	if w.sub != nil {
		defer w.sub.Close()
	}
	if err == nil {
		err = w.follow()
	}
	if e, ok := w.errorEvent(err); ok {
		w.send(e)
	}
}

// follow delivers until the watch ends, and returns why.
func (w *watcher) follow() error {
	if w.initial {
		if err := w.s.reach(w.ctx, w.since); err != nil {
			return err
		}
		if err := w.sendInitial(); err != nil {
			return err
		}
	}
	bookmarks := w.s.c.NewFunc != nil && (w.opts.ProgressNotify || w.opts.Predicate.AllowWatchBookmarks)
	if bookmarks {
		defer w.s.progress.start(w.s)()
	}
	for {
		batch, err := w.sub.Next(w.ctx)
		if err != nil {
			return err
		}
		for _, e := range batch.Events {
			event, err := w.event(e)
			if err != nil {
				return err
			}
			if event != nil && !w.send(*event) {
				return w.ctx.Err()
			}
		}
		if batch.Progress != 0 && bookmarks {
			if err := w.bookmark(batch.Progress, false); err != nil {
				return err
			}
		}
	}
}

// sendInitial delivers what there was when the watch began.
func (w *watcher) sendInitial() error {
	rev := w.sub.Rev()
	for start := ""; ; {
		var page kv.Page
		var err error
		if w.opts.Recursive {
			page, err = w.s.c.KV.Scan(w.key, start, initialPage, rev)
		} else {
			var cur *kv.KV
			if cur, _, err = w.s.c.KV.GetAt(w.key, rev); cur != nil {
				page.KVs = []*kv.KV{cur}
			}
		}
		if err != nil {
			return err
		}
		for _, cur := range page.KVs {
			obj, ok, err := w.object(cur.Key, cur.Value, cur.ModRev)
			if err != nil {
				return err
			}
			if ok && !w.send(watch.Event{Type: watch.Added, Object: obj}) {
				return w.ctx.Err()
			}
			start = cur.Key + "\x00"
		}
		if page.Remaining == 0 {
			break
		}
	}
	if w.endMark {
		return w.bookmark(rev, true)
	}
	return nil
}

// send waits for the reader; it returns false when the watch has ended.
func (w *watcher) send(e watch.Event) bool {
	select {
	case w.results <- e:
		return true
	case <-w.ctx.Done():
		return false
	}
}

// bookmark tells the reader that it has seen everything up to a revision.
func (w *watcher) bookmark(rev uint64, initialEnd bool) error {
	if w.s.c.NewFunc == nil {
		return errors.New("bookmarks need a function that makes objects, and none was given")
	}
	obj := w.s.c.NewFunc()
	if err := w.s.versioner.UpdateObject(obj, rev); err != nil {
		return fmt.Errorf("set a bookmark's resourceVersion: %w", err)
	}
	if initialEnd {
		if err := apistorage.AnnotateInitialEventsEndBookmark(obj); err != nil {
			return fmt.Errorf("mark the end of the initial events: %w", err)
		}
	}
	if !w.send(watch.Event{Type: watch.Bookmark, Object: obj}) {
		return w.ctx.Err()
	}
	return nil
}

// decoded is the object of a value. Its version is that of the event it appears
// in.
func (w *watcher) decoded(ctx context.Context, key string, value []byte, rev uint64) (runtime.Object, error) {
	data, _, err := w.s.open(ctx, &kv.KV{Key: key, Value: value, ModRev: rev})
	if err != nil {
		return nil, err
	}
	return w.s.decoded(key, data, rev)
}

// object is decoded for this watch alone; it tells whether it is selected.
func (w *watcher) object(key string, value []byte, rev uint64) (runtime.Object, bool, error) {
	obj, err := w.decoded(w.ctx, key, value, rev)
	if err != nil {
		return nil, false, err
	}
	return obj, w.selected(obj), nil
}

// either is the object of an event, which other watches see too.
func (w *watcher) either(e *kv.Event, value []byte, prev bool) (runtime.Object, bool, error) {
	obj, err := w.shared(e.Key, value, e.Rev, prev)
	if err != nil {
		return nil, false, err
	}
	return obj, w.selected(obj.object), nil
}

func (w *watcher) selected(obj runtime.Object) bool {
	if w.all {
		return true
	}
	ok, err := w.opts.Predicate.Matches(obj)
	return err == nil && ok
}

// event turns a write into what the watch's selector makes of it: an object
// that begins to match is added, one that ceases to is deleted.
func (w *watcher) event(e *kv.Event) (*watch.Event, error) {
	var cur, prev runtime.Object
	var isSelected, wasSelected bool
	var err error
	if !e.Deleted {
		if cur, isSelected, err = w.either(e, e.Value, false); err != nil {
			return nil, err
		}
	}
	switch {
	case e.PrevRev == 0:
	case w.all && !e.Deleted:
		wasSelected = true
	default:
		prev, wasSelected, err = w.either(e, e.Prev, true)
		if err != nil && e.Deleted {
			return nil, &deletedCorruptError{err}
		}
		if err != nil {
			return nil, err
		}
	}
	out := &watch.Event{}
	switch {
	case isSelected && wasSelected:
		out.Type, out.Object = watch.Modified, cur
	case isSelected:
		out.Type, out.Object = watch.Added, cur
	case wasSelected:
		out.Type, out.Object = watch.Deleted, prev
	default:
		return nil, nil
	}
	return out, nil
}

// deletedCorruptError: what was deleted could not be read.
type deletedCorruptError struct{ err error }

func (e *deletedCorruptError) Error() string {
	return fmt.Sprintf("saw a DELETED event, but object data is corrupt - %v", e.err)
}
func (e *deletedCorruptError) Unwrap() error { return e.err }

// errorEvent is the last event of a watch that ends by an error; a watch that
// was stopped, or whose reader is too slow, just ends.
func (w *watcher) errorEvent(err error) (watch.Event, bool) {
	var status apierrors.APIStatus
	var deleted *deletedCorruptError
	var corrupt *corruptError
	switch {
	case err == nil, w.ctx.Err() != nil, errors.Is(err, kv.ErrSlowWatcher), errors.Is(err, kv.ErrClosed):
		return watch.Event{}, false
	case errors.Is(err, kv.ErrCompacted), errors.Is(err, kv.ErrReset):
		status = apierrors.NewResourceExpired(goneWatch)
	case errors.As(err, &deleted) && errors.As(err, &corrupt):
		status = &apierrors.StatusError{ErrStatus: metav1.Status{
			Status: metav1.StatusFailure, Code: http.StatusInternalServerError,
			Reason: metav1.StatusReasonStoreReadError, Message: deleted.Error(),
		}}
	case errors.As(err, &status):
	default:
		status = apierrors.NewInternalError(err)
	}
	st := status.Status()
	return watch.Event{Type: watch.Error, Object: &st}, true
}

// ticker sends bookmarks to all watches of a resource that want them, while there
// are any: some seconds after a write or after one of them has begun, as these may
// not have seen all there is. Where nothing happens it sends one a minute, so that
// whoever carries a watch sees that it lives.
type ticker struct {
	mu     sync.Mutex
	users  int
	begun  chan struct{} // holds one: another watch has begun
	cancel context.CancelFunc
}

// start returns a function that ends the use.
func (t *ticker) start(s *Store) (stop func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.users++; t.users == 1 {
		ctx, cancel := context.WithCancel(context.Background())
		t.begun, t.cancel = make(chan struct{}, 1), cancel
		go s.tick(ctx, t.begun)
	} else {
		select {
		case t.begun <- struct{}{}:
		default:
		}
	}
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.users--; t.users == 0 {
			t.cancel()
		}
	}
}

func (s *Store) tick(ctx context.Context, begun <-chan struct{}) {
	for {
		select {
		case <-s.c.Clock.After(s.c.times.progress):
		case <-ctx.Done():
			return
		}
		told := s.c.KV.Rev()
		s.c.KV.Progress(s.all())
		select {
		case <-s.c.KV.Beyond(told):
		case <-begun:
		case <-s.c.Clock.After(s.c.times.silence):
		case <-ctx.Done():
			return
		}
	}
}
