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

	mu     sync.Mutex
	asked  context.Context // nil: nobody has asked
	cancel context.CancelFunc
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
