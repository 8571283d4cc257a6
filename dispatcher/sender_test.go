package dispatcher

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"
)

// call is a request that a fake subscriber got.
type call struct {
	at  time.Duration // since the sender was made
	url string
	id  string
}

// fakeSender answers 200 to everything, or what a handler for the URL says.
type fakeSender struct {
	began time.Time

	mu       sync.Mutex
	handlers map[string]func(ctx context.Context, r *Request) (Response, error)
	calls    []call
	out, max map[string]int
	// most are the connections that there are; 0: as many as are asked for.
	most      int
	apart     bool // each URL is a host of its own
	all, high int  // that are out, and the most that were
}

// host implements hosts.
func (f *fakeSender) host(url string) (string, int) {
	switch {
	case f.most == 0:
		return "", 0
	case f.apart:
		return url, f.most
	}
	return "all", f.most
}

func newFakeSender() *fakeSender {
	return &fakeSender{
		began:    time.Now(),
		handlers: make(map[string]func(context.Context, *Request) (Response, error)),
		out:      make(map[string]int), max: make(map[string]int),
	}
}

func (f *fakeSender) Send(ctx context.Context, r *Request) (Response, error) {
	f.mu.Lock()
	f.calls = append(f.calls, call{time.Since(f.began), r.URL, r.Event.ID})
	f.out[r.URL]++
	f.all++
	f.high = max(f.high, f.all)
	f.max[r.URL] = max(f.max[r.URL], f.out[r.URL])
	h := f.handlers[r.URL]
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		f.out[r.URL]--
		f.all--
		f.mu.Unlock()
	}()
	if h != nil {
		return h(ctx, r)
	}
	return Response{Status: 200}, ctx.Err()
}

func (f *fakeSender) Close() {}

// on sets what a URL answers from now on.
func (f *fakeSender) on(url string, h func(ctx context.Context, r *Request) (Response, error)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.handlers[url] = h
}

// to lists the ids of the events that a URL got, in order.
func (f *fakeSender) to(url string) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var ids []string
	for _, c := range f.calls {
		if c.url == url {
			ids = append(ids, c.id)
		}
	}
	return ids
}

func (f *fakeSender) times(url string) []time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []time.Duration
	for _, c := range f.calls {
		if c.url == url {
			out = append(out, c.at)
		}
	}
	return out
}

// now is how many requests to a URL are out.
func (f *fakeSender) now(url string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.out[url]
}

func (f *fakeSender) peak(url string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.max[url]
}

// Answers.

type handler = func(context.Context, *Request) (Response, error)

func status(code int) handler {
	return func(context.Context, *Request) (Response, error) { return Response{Status: code}, nil }
}

func unreachable(context.Context, *Request) (Response, error) {
	return Response{}, errors.New("connection refused")
}

func hang(ctx context.Context, _ *Request) (Response, error) {
	<-ctx.Done()
	return Response{}, ctx.Err()
}

func takes(d time.Duration) handler {
	return func(ctx context.Context, _ *Request) (Response, error) {
		select {
		case <-time.After(d):
			return Response{Status: 200}, nil
		case <-ctx.Done():
			return Response{}, ctx.Err()
		}
	}
}

// failsFirst fails the first n attempts of each event.
func failsFirst(n int, with handler) handler {
	var mu sync.Mutex
	tries := make(map[string]int)
	return func(ctx context.Context, r *Request) (Response, error) {
		mu.Lock()
		tries[r.Event.ID]++
		fail := tries[r.Event.ID] <= n
		mu.Unlock()
		if fail {
			return with(ctx, r)
		}
		return Response{Status: 200}, nil
	}
}

// rig is a dispatcher over a store, with a fake sender.
type rig struct {
	*testing.T
	*store
	h *handle
	f *fakeSender
	d *Dispatcher
}

func newRig(t *testing.T, o Options) *rig {
	r := &rig{T: t, store: newStore(t), f: newFakeSender()}
	r.begin(o)
	return r
}

// newHost is a rig whose subscribers are all at a host that has so many
// connections.
func newHost(t *testing.T, most int) *rig {
	r := &rig{T: t, store: newStore(t), f: newFakeSender()}
	r.f.most = most
	r.begin(Options{})
	return r
}

// begin starts a life.
func (r *rig) begin(o Options) {
	o.Sender = r.f
	r.h = r.open()
	r.d = New(o)
	r.d.Attach(r.h)
}

// end closes a life in order.
func (r *rig) end() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := r.d.Close(ctx); err != nil {
		r.Errorf("close: %v", err)
	}
}

// kill ends a life without anything more being stored.
func (r *rig) kill() {
	r.h.crash()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = r.d.Close(ctx)
}

func (r *rig) target(uid string, edit ...func(*Target)) {
	t := Target{UID: uid, Kind: "Trigger", Namespace: "default", Name: uid, URL: "http://" + uid}
	for _, f := range edit {
		f(&t)
	}
	r.d.SetTarget(t)
}

// status is a subscription's; Paused, which does not look at all of them, has to
// agree with it.
func (r *rig) status(uid string) Status {
	r.Helper()
	st, ok := r.d.Status(uid)
	if !ok {
		r.Errorf("status of %s: not known", uid)
	}
	paused, told := r.d.Paused()[uid]
	if want := st.Paused && st.Reason != ReasonUnresolved; told != want || told && (paused.Reason != st.Reason || paused.Message != st.Message) {
		r.Errorf("%s is %+v, but among those that have paused %+v", uid, st, paused)
	}
	return st
}

// once sorts ids and reports duplicates.
func once(t *testing.T, ids []string) []string {
	t.Helper()
	ids = slices.Sorted(slices.Values(ids))
	if n := len(slices.Compact(slices.Clone(ids))); n != len(ids) {
		t.Errorf("%d of %d deliveries are duplicates", len(ids)-n, len(ids))
	}
	return ids
}
