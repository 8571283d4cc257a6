package dispatcher

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/leat-dev/leat/api/event"
	"github.com/leat-dev/leat/channel"
)

// takeReplies passes on what the subscriber answered with. Replies that are
// refused for good come back as dead letters of their own; a failure means
// that the original has to become one.
func (s *sub) takeReplies(ctx context.Context, t *Target, it *item, ev *event.Event, res *Response, span event.TraceContext, p *place) ([]channel.DeadLetter, *failure) {
	var letters []channel.DeadLetter
	if res.Refused != nil {
		s.reply(t, "refused")
		r := res.RefusedReply
		r.ID, r.Source = ev.ID, ev.Source
		letters = append(letters, s.refusedReply(it, r, res.Refused))
	}
	for _, r := range res.Replies {
		restoreTTL(r, ev)
		if _, ok := r.Trace(); !ok && span != (event.TraceContext{}) {
			r.SetTrace(span)
		}
		refused, f := s.sendReply(ctx, t, it, ev, r, p)
		switch {
		case f != nil && ctx.Err() != nil:
			return nil, f // broken off: the caller sees that
		case f != nil:
			s.reply(t, "failed")
			return letters, f
		case refused != nil:
			s.reply(t, "refused")
			letters = append(letters, s.refusedReply(it, r, refused))
		default:
			s.reply(t, "accepted")
		}
	}
	return letters, nil
}

func (s *sub) refusedReply(it *item, reply *event.Event, why *RefusedError) channel.DeadLetter {
	return channel.DeadLetter{
		UID: s.uid, Offset: it.off, Reply: true, Event: reply, Attempts: uint32(it.tries),
		Code: int32(why.Code), Reason: clip(why.Reason, maxReason),
	}
}

// sendReply passes one reply on, by the delivery policy. The item keeps its
// place in the window meanwhile, since a reply cannot be read again, and the
// subscriber is not to be called twice for its sake. That in the lane is for
// others where the reply goes to a host of its own, or has to wait.
func (s *sub) sendReply(ctx context.Context, t *Target, it *item, ev, reply *event.Event, p *place) (*RefusedError, *failure) {
	for n := 0; ; n++ {
		if t.Reply == nil {
			p.giveBack()
		}
		refused, f := s.tryReply(ctx, t, it, n+1, ev, reply)
		if f == nil {
			return refused, nil
		}
		s.failed(f)
		if f.final || n >= t.Delivery.Retry {
			f.final = true
			return nil, f
		}
		p.giveBack()
		timer := time.NewTimer(t.Delivery.delay(n, f.code, f.retryAfter, time.Now()))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, f
		}
		if now := s.target.get(); now != nil && now.URL != "" {
			t = now
		}
		if t.Reply == nil && t.ReplyURL == "" {
			return nil, nil // nobody wants it any more
		}
	}
}

func (s *sub) tryReply(ctx context.Context, t *Target, it *item, number int, ev, reply *event.Event) (*RefusedError, *failure) {
	if t.Reply == nil {
		request := &try{Request: Request{URL: t.ReplyURL, Event: reply, Namespace: t.Namespace}}
		request.within(reply)
		_, _, f := s.send(ctx, t, "reply", number, request)
		return nil, f
	}
	rctx, cancel := context.WithTimeout(ctx, t.Delivery.timeout())
	defer cancel()
	err := t.Reply(rctx, &Original{
		Channel: s.r.p.Channel(), Partition: s.r.p.Number(),
		Stored: channel.Stored{Offset: it.off, Time: it.time, Event: ev},
	}, reply)
	if err == nil {
		return nil, nil
	}
	var refused *RefusedError
	if errors.As(err, &refused) {
		return refused, nil
	}
	return nil, &failure{code: -1, reason: fmt.Sprintf("reply not accepted: %v", err), dest: redact(t.URL)}
}

// restoreTTL puts the original's time to live on its reply, which cannot set
// one of its own.
func restoreTTL(reply, original *event.Event) {
	for _, x := range original.Extensions {
		if x.Name == ttlExtension {
			reply.SetExtension(ttlExtension, x.Value)
			return
		}
	}
	reply.DeleteExtension(ttlExtension)
}

// maxErrorData bounds knativeerrordata, in characters of base64; maxAnswer is
// how many bytes of an answer that holds.
const (
	maxErrorData = 1024
	maxAnswer    = maxErrorData / 4 * 3
)

// deadLetter is the event as a dead letter sink gets it.
func deadLetter(ev *event.Event, f *failure) *event.Event {
	out := outgoing(ev).Clone()
	out.SetExtension(errorDestExtension, event.Value{Str: f.dest})
	out.SetExtension(errorCodeExtension, event.IntegerValue(int32(f.code)))
	if len(f.answer) > 0 {
		data := f.answer[:min(len(f.answer), maxAnswer)]
		out.SetExtension(errorDataExtension, event.Value{Str: base64.StdEncoding.EncodeToString(data)})
	}
	return out
}

// clip cuts s to at most n bytes, at the end of a character.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
