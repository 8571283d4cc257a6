package sources

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/leat-dev/leat/broker/status"
	"github.com/leat-dev/leat/channel"
)

// instance is an adapter at work for an object.
type instance struct {
	uid        string
	generation int64
	to         string // UID of the channel that takes the events

	problem atomic.Pointer[status.Problem]
	changed func() // called when problem is another
	cancel  context.CancelFunc
	done    chan struct{}
}

// begin starts an adapter. It runs until stop.
func begin(ctx context.Context, o *Options, uid string, generation int64, s *Source, to channel.Channel, changed func()) (*instance, error) {
	i := &instance{uid: uid, generation: generation, to: to.ID().UID, changed: changed, done: make(chan struct{})}
	var overrides map[string]string
	if s.Overrides != nil {
		overrides = s.Overrides.Extensions
	}
	out, err := newOutput(o, uid, to, overrides, i.set)
	if err != nil {
		return nil, err
	}
	ctx, i.cancel = context.WithCancel(ctx)
	go func() {
		defer close(i.done)
		i.run(ctx, o, s.Adapter, out)
	}()
	return i, nil
}

// run runs the adapter, and again when it fails.
func (i *instance) run(ctx context.Context, o *Options, a Adapter, out Output) {
	for wait := o.MinBackoff; ctx.Err() == nil; wait = min(2*wait, o.MaxBackoff) {
		began := time.Now()
		failed := i.problem.Load()
		works := time.AfterFunc(o.MaxBackoff, func() { i.forget(failed) })
		err := i.safely(o, func() error { return a.Run(ctx, out) })
		works.Stop()
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			err = errors.New("it ended")
		}
		i.set(status.Problemf("AdapterFailed", "%v; it is tried again", err))
		if time.Since(began) > o.MaxBackoff {
			wait = o.MinBackoff // it had worked
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// safely makes a panic an error: one source must not end the others.
func (i *instance) safely(o *Options, f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			o.Logger.Error("a source panicked and is tried again", "uid", i.uid, "panic", r, "stack", string(debug.Stack()))
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	return f()
}

// set notes why the instance does not work, nil when it does.
func (i *instance) set(p *status.Problem) {
	was := i.problem.Swap(p)
	if (was == nil) != (p == nil) || p != nil && *was != *p {
		i.changed()
	}
}

// forget forgets a failure that was the last one known.
func (i *instance) forget(p *status.Problem) {
	if p != nil && i.problem.CompareAndSwap(p, nil) {
		i.changed()
	}
}

// is says whether the instance does what is asked for now.
func (i *instance) is(uid string, generation int64, to channel.Channel) bool {
	return i != nil && to != nil && i.uid == uid && i.generation == generation && i.to == to.ID().UID
}

// stop ends the adapter, and returns when it has ended.
func (i *instance) stop() {
	if i == nil {
		return
	}
	i.cancel()
	<-i.done
}
