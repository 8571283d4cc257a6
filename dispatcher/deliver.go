package dispatcher

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"slices"
	"time"

	"github.com/leat-dev/leat/api/event"
	"github.com/leat-dev/leat/channel"
)

// Names of the extensions that delivery sets or keeps from subscribers.
const (
	ttlExtension       = "knativebrokerttl"
	errorDestExtension = "knativeerrordest"
	errorCodeExtension = "knativeerrorcode"
	errorDataExtension = "knativeerrordata"
)

// failure is a failed attempt.
type failure struct {
	code       int // -1: no answer
	reason     string
	answer     []byte // the start of the answer
	retryAfter string
	dest       string // the address, without credentials
	final      bool   // no further attempt
	denied     bool
}

// deliver takes an item through its next attempt, and those that follow it
// without a wait, and leaves it done, settling or waiting.
func (s *sub) deliver(it *item, p *place) {
	defer func() {
		if p := recover(); p != nil {
			s.r.d.o.Logger.Error("delivery panicked, will be tried again",
				"subscription", s.uid, "offset", it.off, "panic", p, "stack", string(debug.Stack()))
			it.shown = true
			s.postpone(it, time.Second)
		}
	}()
	ctx := s.r.ctx
	t := s.target.get()
	if t == nil || t.URL == "" {
		s.postpone(it, 0) // the next target kicks
		return
	}
	ev, ok := s.payload(ctx, it, t)
	if !ok {
		return
	}
	if it.phase == toSubscriber {
		letters, at, f := s.trySubscriber(ctx, t, it, ev, p)
		switch {
		case f == nil:
			s.delivered(it, t, at, letters)
			return
		case ctx.Err() != nil:
			s.abort(it)
			return
		}
		s.failed(f)
		if !f.final && int(it.tries) <= t.Delivery.Retry {
			s.postpone(it, t.Delivery.delay(int(it.tries)-1, f.code, f.retryAfter, time.Now()))
			return
		}
		it.phase, it.failure, it.refused = toDeadLetter, f, letters
	}
	it.shown = true
	s.deliverDead(ctx, t, it, ev, p)
}

// payload is the item's event, read again where it has waited.
func (s *sub) payload(ctx context.Context, it *item, t *Target) (*event.Event, bool) {
	if it.ev != nil {
		return it.ev, true
	}
	stored, err := s.r.p.Read(ctx, it.off, 1, 1)
	passed := (*channel.PassedError)(nil)
	switch {
	case err == nil && len(stored) == 1 && stored[0].Offset == it.off:
		ev := stored[0].Event
		s.mu.Lock()
		it.ev, it.bytes = ev, int64(len(ev.Data))
		s.outBytes += it.bytes
		s.r.d.budget.bytes.Add(it.bytes)
		s.mu.Unlock()
		return ev, true
	case err == nil && len(stored) == 1, errors.Is(err, channel.ErrExpired), errors.As(err, &passed):
		// Retention has passed it, or a command the damaged range that it lies
		// in; either has recorded that.
		s.count(t, ResultExpired, it, time.Now())
		s.over(it)
	case ctx.Err() != nil:
		s.abort(it)
	default:
		if err == nil {
			err = errors.New("the log returned nothing at an offset below its end")
		}
		s.failed(&failure{reason: fmt.Sprintf("read offset %d again: %v", it.off, err)})
		s.postpone(it, s.r.d.o.ReadRetry)
	}
	return nil, false
}

// trySubscriber makes one attempt, and says when it was answered. A nil failure is
// a success; the letters are replies that were refused, which are to be kept in
// either case.
func (s *sub) trySubscriber(ctx context.Context, t *Target, it *item, ev *event.Event, p *place) (_ []channel.DeadLetter, at time.Time, _ *failure) {
	it.tries++
	request := s.r.d.try(Request{URL: t.URL, Event: ev, Namespace: t.Namespace, WantReply: true})
	request.within(ev)
	res, at, f := s.send(ctx, t, "subscriber", int(it.tries), request)
	span := request.Trace
	it.shown = it.shown || !request.unshared || len(res.Replies) > 0 || res.Refused != nil
	s.r.d.done(request)
	if f != nil {
		return nil, at, f
	}
	if res.NotEvent {
		s.reply(t, "dropped")
	}
	if len(res.Replies) == 0 && res.Refused == nil {
		return nil, at, nil
	}
	if res.Status == http.StatusAccepted || t.Reply == nil && t.ReplyURL == "" {
		s.reply(t, "dropped")
		return nil, at, nil
	}
	letters, f := s.takeReplies(ctx, t, it, ev, &res, span, p)
	return letters, time.Now(), f
}

// send makes one request and turns what comes of it into a failure or not; ended
// is when it was answered.
func (s *sub) send(ctx context.Context, t *Target, to string, number int, x *try) (res Response, ended time.Time, _ *failure) {
	began := time.Now()
	r, a := &x.Request, &x.attempt
	a.Context, a.until = ctx, began.Add(t.Delivery.timeout())
	defer a.end()
	res, err := s.r.d.sender.Send(a, r)
	ended = time.Now()
	code := res.Status
	if err != nil {
		code = -1
	}
	_, denied := errors.AsType[*DeniedError](err)
	if h := s.r.d.o.Hooks.Attempt; h != nil {
		h(t, Attempt{To: to, Number: number, Code: code, Denied: denied, Took: ended.Sub(began)})
	}
	if s.r.d.o.Spans != nil {
		s.traceAttempt(t, to, number, r, began, code, err)
	}
	if err == nil && code >= 200 && code < 300 {
		return res, ended, nil
	}
	f := &failure{code: code, dest: redact(r.URL)}
	if err != nil {
		f.denied = denied
		f.final = f.denied
		f.reason = fmt.Sprintf("%s %s: %v", to, f.dest, err)
		return res, ended, f
	}
	f.final = !retryable(code)
	f.answer, f.retryAfter = res.Body, res.RetryAfter
	f.reason = fmt.Sprintf("%s %s answered %d %s", to, f.dest, code, http.StatusText(code))
	if code >= 300 && code < 400 {
		f.reason += ": redirects are not followed"
	}
	return res, ended, f
}

// delivered ends a delivery that the subscriber has accepted at a time.
func (s *sub) delivered(it *item, t *Target, at time.Time, letters []channel.DeadLetter) {
	s.mu.Lock()
	s.lastOK = at
	s.mu.Unlock()
	s.count(t, ResultDelivered, it, at)
	var outcomes []channel.Outcome
	if it.tries > 1 {
		outcomes = append(outcomes, s.outcome(it, channel.Retried, nil))
	}
	if len(letters) == 0 {
		s.acknowledge(it, false, outcomes...)
		return
	}
	s.settle(it, settlement{letters: letters, outcomes: append(outcomes, s.repliesKept(it, letters)...)})
}

// over ends a delivery that failed for good and leaves no dead letter of the
// event itself.
func (s *sub) over(it *item, outcomes ...channel.Outcome) {
	if len(it.refused) == 0 {
		s.acknowledge(it, true, outcomes...)
		return
	}
	s.settle(it, settlement{letters: it.refused, outcomes: append(s.repliesKept(it, it.refused), outcomes...)})
}

func (s *sub) repliesKept(it *item, letters []channel.DeadLetter) (out []channel.Outcome) {
	for _, l := range letters {
		out = append(out, s.outcome(it, channel.ReplyKept, &failure{code: int(l.Code), reason: l.Reason}))
	}
	return out
}

// deliverDead tries the dead letter sink, or keeps the event.
func (s *sub) deliverDead(ctx context.Context, t *Target, it *item, ev *event.Event, p *place) {
	cause := it.failure
	kind := channel.DeadLettered
	if cause.denied {
		kind = channel.Denied
	}
	reason := cause.reason
	if t.DeadLetterURL != "" {
		p.giveBack()
		it.dlTries++
		request := &try{Request: Request{URL: t.DeadLetterURL, Event: deadLetter(ev, cause), Namespace: t.Namespace}}
		request.within(ev)
		_, at, f := s.send(ctx, t, "dead-letter", int(it.dlTries), request)
		switch {
		case f == nil:
			s.count(t, ResultDeadLettered, it, at)
			s.over(it, s.outcome(it, kind, cause))
			return
		case ctx.Err() != nil:
			s.abort(it)
			return
		}
		s.failed(f)
		if !f.final && int(it.dlTries) <= t.Delivery.Retry {
			s.postpone(it, t.Delivery.delay(int(it.dlTries)-1, f.code, f.retryAfter, time.Now()))
			return
		}
		reason += "; " + f.reason
	}
	if !cause.denied {
		kind = channel.Kept
	}
	s.count(t, ResultKept, it, time.Now())
	if s.r.d.o.Spans != nil {
		s.traceKept(t, ev, cause.code)
	}
	s.settle(it, settlement{
		letters: append(it.refused, channel.DeadLetter{
			UID: s.uid, Offset: it.off, Event: ev, Attempts: uint32(it.tries),
			Code: int32(cause.code), Reason: clip(reason, maxReason), Answer: cause.answer,
		}),
		outcomes: append(s.repliesKept(it, it.refused), s.outcome(it, kind, &failure{code: cause.code, reason: reason})),
	})
}

// maxReason bounds the reason kept with an outcome or dead letter, in bytes.
const maxReason = 512

func (s *sub) outcome(it *item, k channel.OutcomeKind, f *failure) channel.Outcome {
	o := channel.Outcome{UID: s.uid, Kind: k, Offset: it.off, Span: 1, Count: 1, Attempts: uint32(it.tries)}
	if f != nil {
		o.Code, o.Reason = int32(f.code), clip(f.reason, maxReason)
	}
	return o
}

// failed keeps the last failure for the status.
func (s *sub) failed(f *failure) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastError, s.lastErrorAt = f.reason, time.Now()
}

func (s *sub) count(t *Target, r Result, it *item, at time.Time) {
	if r == ResultDelivered {
		s.target.meter.add(int64(at.Sub(s.r.d.began)))
	}
	if h := s.r.d.o.Hooks.Delivered; h != nil {
		h(t, r, int(it.tries), at.Sub(time.UnixMicro(it.time)))
	}
}

func (s *sub) reply(t *Target, result string) {
	if h := s.r.d.o.Hooks.Reply; h != nil {
		h(t, result)
	}
}

// outgoing is the event as subscribers see it: without the time to live.
func outgoing(ev *event.Event) *event.Event {
	i := slices.IndexFunc(ev.Extensions, func(x event.Extension) bool { return x.Name == ttlExtension })
	if i < 0 {
		return ev
	}
	out := *ev
	out.Extensions = make([]event.Extension, 0, len(ev.Extensions)-1)
	out.Extensions = append(append(out.Extensions, ev.Extensions[:i]...), ev.Extensions[i+1:]...)
	return &out
}
