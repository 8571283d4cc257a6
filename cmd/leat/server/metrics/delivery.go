package metrics

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/leat-dev/leat/channel"
	"github.com/leat-dev/leat/dispatcher"
)

type deliveryMetrics struct {
	events, attempts, retries, denied, replies, filterErrors, expired, commits *counters
	attemptSeconds, age, commitSeconds                                         *histograms

	targets atHand[*dispatcher.Target, targetSeries] // also of some that were changed
}

func (m *deliveryMetrics) declare(s *set) {
	m.events = s.counter("leat_delivery_events_total", "Deliveries that ended, by result: delivered; dead_lettered (the dead letter sink has it); kept (the dead letter log has it); expired (retention passed it while it waited for its next attempt).", with(subscriptionLabels, "result")...)
	m.attempts = s.counter("leat_delivery_attempts_total", "Delivery requests, by what they went to (subscriber, reply, dead-letter) and the status answered; -1: no answer.", with(subscriptionLabels, "to", "code")...)
	m.retries = s.counter("leat_delivery_retries_total", "Delivery requests that were not the first for their event.", with(subscriptionLabels, "to")...)
	m.denied = s.counter("leat_delivery_denied_total", "Delivery requests that were not made because the destination is not allowed.", with(subscriptionLabels, "to")...)
	m.attemptSeconds = s.histogram("leat_delivery_attempt_duration_seconds", "Time from a delivery request to its answer.", peerBuckets, channelLabels...)
	m.age = s.histogram("leat_delivery_age_seconds", "Time from when an event was appended until its delivery to a subscription ended.", ageBuckets, channelLabels...)
	m.replies = s.counter("leat_delivery_replies_total", "Events that subscribers answered with, by result: accepted; refused (kept as a dead letter, with the reason); failed (the original became a dead letter); dropped (nobody wants it, or the body was no event).", with(subscriptionLabels, "result")...)
	m.filterErrors = s.counter("leat_filter_errors_total", "Events that a subscription's filter failed on, and so did not match.", subscriptionLabels...)
	m.expired = s.counter("leat_retention_expired_total", "What retention passed undelivered: events that a subscription had not been delivered, and dead letters that nobody took out.", with(subscriptionLabels, "what")...)
	m.commits = s.counter("leat_delivery_commits_total", "Commits of cursors, outcomes and dead letters, by result: ok, failed.", with(channelLabels, "result")...)
	m.commitSeconds = s.histogram("leat_delivery_commit_duration_seconds", "Time that a commit of cursors, outcomes and dead letters took.", diskBuckets)
}

// targetValues are the values of subscriptionLabels.
func targetValues(t *dispatcher.Target) values {
	if t == nil { // nobody has said yet what it is
		return values{}
	}
	if t.Kind == "Trigger" {
		return values{t.Namespace, t.Channel, "", t.Name}
	}
	return values{t.Namespace, "", t.Channel, "", t.Name}
}

// and adds the values of the labels that come after subscriptionLabels.
func (v values) and(more ...string) values {
	copy(v[len(subscriptionLabels):], more)
	return v
}

// channel is what of the values of subscriptionLabels belongs to channelLabels.
func (v values) channel() values { return values{v[0], v[1], v[2]} }

// targetSeries are the series that most deliveries to one target count in: what
// the first attempt delivers.
type targetSeries struct {
	of                  values // subscriptionLabels
	delivered           handle[prometheus.Counter]
	accepted            [len(acceptedCodes)]handle[prometheus.Counter]
	age, attemptSeconds handle[prometheus.Observer]
}

// acceptedCodes are the statuses, from 200 on, that have a series at hand: those
// that subscribers answer with.
var acceptedCodes = [...]string{"200", "201", "202", "203", "204"}

const toSubscriber = "subscriber"

// accept is the counter of a subscriber's status, which is one of acceptedCodes.
func (m *deliveryMetrics) accept(s *targetSeries, code int) prometheus.Counter {
	i := code - http.StatusOK
	return s.accepted[i].by(m.attempts, func() values { return s.of.and(toSubscriber, acceptedCodes[i]) })
}

// series are those of a target as it is now: one that is changed is another. They
// are bounded as each metric's are.
func (m *deliveryMetrics) series(t *dispatcher.Target) *targetSeries {
	if s := m.targets.find(t); s != nil {
		return s
	}
	s := &targetSeries{of: targetValues(t)}
	m.targets.keep(t, s, m.events.limit)
	return s
}

// Deliveries are the hooks that count deliveries.
func (m *Metrics) Deliveries() dispatcher.Hooks {
	d := &m.delivery
	return dispatcher.Hooks{
		Delivered: func(t *dispatcher.Target, r dispatcher.Result, _ int, age time.Duration) {
			s := d.series(t)
			s.age.by(d.age, s.of.channel).Observe(age.Seconds())
			if r != dispatcher.ResultDelivered {
				d.events.with(s.of.and(string(r))).Inc()
				return
			}
			s.delivered.by(d.events, func() values { return s.of.and(string(r)) }).Inc()
		},
		Attempt: func(t *dispatcher.Target, a dispatcher.Attempt) {
			s := d.series(t)
			v := s.of
			s.attemptSeconds.by(d.attemptSeconds, s.of.channel).Observe(a.Took.Seconds())
			if a.To == toSubscriber && a.Code >= http.StatusOK && a.Code < http.StatusOK+len(acceptedCodes) {
				d.accept(s, a.Code).Inc()
			} else {
				d.attempts.with(v.and(a.To, strconv.Itoa(a.Code))).Inc()
			}
			if a.Number > 1 {
				d.retries.with(v.and(a.To)).Inc()
			}
			if a.Denied {
				d.denied.with(v.and(a.To)).Inc()
			}
		},
		Reply: func(t *dispatcher.Target, result string) {
			d.replies.with(targetValues(t).and(result)).Inc()
		},
		FilterError: func(_ string, t *dispatcher.Target) {
			d.filterErrors.with(targetValues(t)).Inc()
		},
		Commit: func(c dispatcher.ID, _ int, took time.Duration, err error) {
			v := channelValues(c.Kind, c.Namespace, c.Name)
			v[len(channelLabels)] = result(err)
			d.commits.with(v).Inc()
			d.commitSeconds.with(values{}).Observe(took.Seconds())
		},
	}
}

func result(err error) string {
	if err != nil {
		return "failed"
	}
	return "ok"
}

// Expired is told of what retention passed undelivered.
func (m *Metrics) Expired(c channel.ID, uid string, deadLetters bool, count uint32) {
	v := channelValues(c.Kind, c.Namespace, c.Name)
	if d := m.sources.dispatcher.Load(); d != nil {
		if t := d.Target(uid); t != nil {
			v = targetValues(t)
		}
	}
	what := "events"
	if deadLetters {
		what = "dead_letters"
	}
	m.delivery.expired.with(v.and(what)).Add(float64(count))
}
