package dispatcher

import (
	"context"
	"sync"
	"time"
)

// attempt is the context of one attempt: it ends at a time, or with the context
// that it lives in. What is needed to tell others of that is made only where
// somebody asks for it, as not all senders do.
type attempt struct {
	context.Context // that it lives in
	until           time.Time

	unshared bool // see KeepsNothing

	mu     sync.Mutex
	asked  context.Context // nil: nobody has asked
	cancel context.CancelFunc
}

// try is a request with the context of its attempt: what each delivery needs, and
// is used again where nobody keeps it.
type try struct {
	Request
	attempt
}

// try makes a request, or one that was used before.
func (d *Dispatcher) try(r Request) *try {
	x, ok := d.tries.Get().(*try)
	if !ok {
		x = new(try)
	}
	x.Request = r
	return x
}

// done gives a request back, which is not to be used any more.
func (d *Dispatcher) done(x *try) {
	if !x.unshared {
		return // whoever has it may use it still
	}
	x.Request, x.Context, x.unshared = Request{}, nil, false
	x.asked, x.cancel = nil, nil
	d.tries.Put(x)
}

// KeepsNothing is for a Sender to call, with the context of an attempt: it keeps
// neither that, nor the request, nor anything of its event but strings, when it has
// returned. All of it is used again then.
func KeepsNothing(ctx context.Context) {
	if a, ok := ctx.(*attempt); ok {
		a.unshared = true
	}
}

// Deadline implements context.Context.
func (a *attempt) Deadline() (time.Time, bool) {
	if d, ok := a.Context.Deadline(); ok && d.Before(a.until) {
		return d, true
	}
	return a.until, true
}

// Done implements context.Context.
func (a *attempt) Done() <-chan struct{} { return a.ask().Done() }

// Err implements context.Context.
func (a *attempt) Err() error { return a.ask().Err() }

func (a *attempt) ask() context.Context {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.asked == nil {
		a.asked, a.cancel = context.WithDeadline(a.Context, a.until)
	}
	return a.asked
}

// end gives back what the context took.
func (a *attempt) end() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.cancel != nil {
		a.cancel()
	}
}
