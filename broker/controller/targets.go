package controller

import (
	"crypto/sha256"
	"encoding/binary"
	"strconv"
	"sync"
	"time"

	"github.com/leat-dev/leat/api/admission"
	duckv1 "github.com/leat-dev/leat/api/duck/v1"
	"github.com/leat-dev/leat/dispatcher"
)

// targets are what the dispatcher was told. It is told changes only. It may be
// used from many goroutines at once, but by one at a time for each key.
type targets struct {
	d     Dispatcher
	mu    sync.Mutex
	known map[key]told
}

// told is by what a target is known again. It holds for each Trigger: what it
// was told is not kept.
type told struct {
	uid string
	sum [sha256.Size]byte
}

// sumOf is that of a target whose replies go to this log. Functions cannot be
// compared; the target's changes with the log only.
func sumOf(log string, t dispatcher.Target) [sha256.Size]byte {
	b := make([]byte, 0, 512)
	for _, s := range [...]string{log, t.UID, t.Kind, t.Namespace, t.Name, t.Channel, t.URL, t.DeadLetterURL, t.ReplyURL, string(t.Delivery.Backoff)} {
		b = append(binary.AppendUvarint(b, uint64(len(s))), s...)
	}
	d := t.Delivery
	for _, n := range [...]int64{int64(t.MaxInFlight), int64(t.MaxWaiting), int64(d.Retry), int64(d.Delay), int64(d.MaxDelay), int64(d.Timeout)} {
		b = binary.AppendVarint(b, n)
	}
	b = strconv.AppendBool(b, d.Jitter)
	if d.RetryAfterMax != nil {
		b = binary.AppendVarint(b, int64(*d.RetryAfterMax))
	}
	return sha256.Sum256(b)
}

func newTargets(d Dispatcher) *targets { return &targets{d: d, known: map[key]told{}} }

// set tells the dispatcher of the target of a Trigger or Subscription; log is
// the UID of the log that its replies go to.
func (t *targets) set(k key, log string, target dispatcher.Target) {
	is := told{target.UID, sumOf(log, target)}
	t.mu.Lock()
	was, ok := t.known[k]
	t.known[k] = is
	t.mu.Unlock()
	if ok && was.uid != is.uid {
		t.d.RemoveTarget(was.uid)
	}
	if !ok || was != is {
		t.d.SetTarget(target)
	}
}

// remove tells the dispatcher that a target is gone.
func (t *targets) remove(k key) {
	t.mu.Lock()
	was, ok := t.known[k]
	delete(t.known, k)
	t.mu.Unlock()
	if ok {
		t.d.RemoveTarget(was.uid)
	}
}

// all are the keys of the targets by UID.
func (t *targets) all() map[string]key {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make(map[string]key, len(t.known))
	for k, was := range t.known {
		all[was.uid] = k
	}
	return all
}

// merge gives the delivery that holds: one's own, else that of the Broker or
// channel, else the default. The dead letter sink is inherited by itself.
func merge(own, inherited *duckv1.DeliverySpec) *duckv1.DeliverySpec {
	d := own
	if d == nil {
		d = inherited
	}
	if d == nil {
		return admission.DefaultDelivery()
	}
	if d.DeadLetterSink == nil && inherited != nil && inherited.DeadLetterSink != nil {
		d = d.DeepCopy()
		d.DeadLetterSink = inherited.DeadLetterSink
	}
	return d
}

func (c *Controller) policy(d *duckv1.DeliverySpec) dispatcher.Policy {
	return Policy(d, c.o.DeliveryTimeout)
}

// Policy is a delivery as the dispatcher knows it; timeout holds where it has
// none. What is malformed was refused at admission; where it is there all the
// same, the default holds.
func Policy(d *duckv1.DeliverySpec, timeout time.Duration) dispatcher.Policy {
	p := dispatcher.Policy{Backoff: dispatcher.Exponential}
	if d.Retry != nil {
		p.Retry = int(*d.Retry)
	}
	if d.BackoffPolicy != nil && *d.BackoffPolicy == duckv1.BackoffLinear {
		p.Backoff = dispatcher.Linear
	}
	p.Delay = duration(d.BackoffDelay)
	p.MaxDelay = duration(d.BackoffMax)
	if p.Timeout = duration(d.Timeout); p.Timeout == 0 {
		p.Timeout = timeout
	}
	if d.RetryAfterMax != nil {
		if v, err := duckv1.ParseDuration(*d.RetryAfterMax); err == nil {
			p.RetryAfterMax = &v
		}
	}
	p.Jitter = d.Jitter != nil && *d.Jitter
	return p
}

// duration is 0 where none is given, and a nanosecond where it is given as 0.
func duration(s *string) time.Duration {
	if s == nil {
		return 0
	}
	d, err := duckv1.ParseDuration(*s)
	if err != nil || d < 0 {
		return 0
	}
	return max(d, 1)
}
