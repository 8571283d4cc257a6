package ping

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/leat-dev/leat/api/event"
)

// clock is the time of the bubble, and what it was set by.
type clock struct {
	mu  sync.Mutex
	set time.Duration
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.set)
}

func (c *clock) to(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.set = time.Until(t)
}

// tape is an Output that keeps what it is handed, over any number of runs.
type tape struct {
	mu       sync.Mutex
	position uint64
	lines    []string
	blocked  chan struct{} // while not nil, nothing is taken until it is closed
}

func (o *tape) Position() uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.position
}

func (o *tape) Hand(ctx context.Context, sequence uint64, e *event.Event) error {
	o.mu.Lock()
	blocked := o.blocked
	o.mu.Unlock()
	if blocked != nil {
		select {
		case <-blocked:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if sequence <= o.position {
		o.lines = append(o.lines, "repeated "+e.Time)
		return nil
	}
	o.position = sequence
	line := e.Time
	if _, late := e.Attribute(LateExtension); late {
		line += " late"
	}
	o.lines = append(o.lines, line)
	return nil
}

// take gives and forgets what was handed over, without the date of now.
func (o *tape) take() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := strings.Join(o.lines, "\n")
	o.lines = nil
	return s
}

// script runs adapters against a clock and a tape.
type script struct {
	*testing.T
	clock clock
	tape  tape
	since time.Time
	stop  func()
}

// scripted runs f in a bubble whose clock says start.
func scripted(t *testing.T, start string, f func(*script)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &script{T: t, stop: func() {}}
		s.clock.to(parseTime(t, start))
		s.since = s.clock.now()
		f(s)
		s.stop()
	})
}

// run starts an adapter, in place of the one before.
func (s *script) run(schedule, timezone string) {
	s.Helper()
	s.stop()
	options := Options{Now: s.clock.now}.withDefaults()
	a := &adapter{
		Options: &options, schedule: mustParse(s.T, schedule, timezone), since: s.since,
		event: func(tick time.Time) *event.Event { return &event.Event{Time: tick.UTC().Format(time.RFC3339)} },
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- a.Run(ctx, &s.tape) }()
	s.stop = func() {
		cancel()
		if err := <-done; err != context.Canceled {
			s.Errorf("Run: %v", err)
		}
		s.stop = func() {}
	}
	synctest.Wait()
}

// pass lets time pass.
func (s *script) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (s *script) expect(want ...string) {
	s.Helper()
	if got := s.tape.take(); got != strings.Join(want, "\n") {
		s.Errorf("got\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
}

func TestTicksAreHandedOverAtTheirTime(t *testing.T) {
	scripted(t, "2026-01-01T00:00:00Z", func(s *script) {
		s.run("*/10 * * * * *", "")
		s.expect() // the time it was made at is none of its ticks
		s.pass(9*time.Second + 999*time.Millisecond)
		s.expect()
		s.pass(time.Millisecond)
		s.expect("2026-01-01T00:00:10Z")
		s.pass(20 * time.Second)
		s.expect("2026-01-01T00:00:20Z", "2026-01-01T00:00:30Z")
	})
}

// TestRestart: neither repeats nor skips; of several ticks missed the latest
// comes, once, late.
func TestRestart(t *testing.T) {
	scripted(t, "2026-01-01T00:00:00Z", func(s *script) {
		s.run("* * * * *", "")
		s.pass(2 * time.Minute)
		s.expect("2026-01-01T00:01:00Z", "2026-01-01T00:02:00Z")
		s.stop()
		s.run("* * * * *", "") // at the same instant
		s.expect()
		s.pass(30 * time.Second)
		s.run("* * * * *", "")
		s.expect()
		s.stop()
		s.pass(31 * time.Second)
		s.run("* * * * *", "")
		s.expect("2026-01-01T00:03:00Z late")
		s.stop()
		s.pass(366*24*time.Hour - 3*time.Minute) // a long absence
		s.run("* * * * *", "")
		s.expect("2027-01-02T00:00:00Z late")
		s.pass(time.Minute)
		s.expect("2027-01-02T00:01:00Z")
	})
}

// TestChangedSchedule: what a new schedule would have had before it held is not
// missed; nothing is sent twice either.
func TestChangedSchedule(t *testing.T) {
	scripted(t, "2026-01-01T00:30:00Z", func(s *script) {
		s.run("0 * * * *", "")
		s.pass(45 * time.Minute)
		s.expect("2026-01-01T01:00:00Z")
		s.since = s.clock.now()
		s.run("*/10 * * * *", "")
		s.expect()
		s.pass(5 * time.Minute)
		s.expect("2026-01-01T01:20:00Z")
	})
}

// TestClockIsPutBack: nothing is counted twice.
func TestClockIsPutBack(t *testing.T) {
	scripted(t, "2026-01-01T12:00:00Z", func(s *script) {
		s.run("* * * * *", "")
		s.pass(2*time.Minute + 30*time.Second)
		s.expect("2026-01-01T12:01:00Z", "2026-01-01T12:02:00Z")
		s.clock.to(parseTime(t, "2026-01-01T11:32:30Z"))
		s.pass(29 * time.Minute)
		s.expect()
		s.run("* * * * *", "") // a restart changes nothing
		s.expect()
		s.pass(90 * time.Second)
		s.expect("2026-01-01T12:03:00Z")
	})
}

// TestClockIsPutForward: or the machine has slept.
func TestClockIsPutForward(t *testing.T) {
	scripted(t, "2026-01-01T12:00:00Z", func(s *script) {
		s.run("0 * * * *", "")
		s.pass(time.Minute)
		s.clock.to(parseTime(t, "2026-01-01T18:30:00Z"))
		s.pass(Options{}.withDefaults().ClockInterval)
		s.expect("2026-01-01T18:00:00Z late")
		s.pass(30 * time.Minute)
		s.expect("2026-01-01T19:00:00Z")
	})
}

// TestLogStandsStill: for a short time, each tick comes; after a long one, the
// latest.
func TestLogStandsStill(t *testing.T) {
	scripted(t, "2026-01-01T00:00:00Z", func(s *script) {
		s.run("*/5 * * * * *", "")
		stall := func(d time.Duration) {
			blocked := make(chan struct{})
			s.tape.mu.Lock()
			s.tape.blocked = blocked
			s.tape.mu.Unlock()
			s.pass(d)
			s.tape.mu.Lock()
			s.tape.blocked = nil
			s.tape.mu.Unlock()
			close(blocked)
			synctest.Wait()
		}
		stall(17 * time.Second)
		s.expect("2026-01-01T00:00:05Z", "2026-01-01T00:00:10Z late", "2026-01-01T00:00:15Z late")
		stall(2 * time.Minute)
		s.expect("2026-01-01T00:00:20Z", "2026-01-01T00:02:15Z late")
		s.pass(4 * time.Second)
		s.expect("2026-01-01T00:02:20Z")
	})
}

// TestClockChangesWhileItRuns: summer time begins and ends.
func TestClockChangesWhileItRuns(t *testing.T) {
	scripted(t, "2026-03-28T12:00:00Z", func(s *script) {
		s.run("30 2 * * *", "Europe/Berlin")
		s.pass(48 * time.Hour)
		s.expect("2026-03-29T01:30:00Z", "2026-03-30T00:30:00Z")
	})
	scripted(t, "2026-10-24T12:00:00Z", func(s *script) {
		s.run("30 2 * * *", "Europe/Berlin")
		s.pass(24 * time.Hour)
		s.expect("2026-10-25T00:30:00Z")
	})
	scripted(t, "2026-10-25T00:00:00Z", func(s *script) {
		s.run("30 * * * *", "Europe/Berlin")
		s.pass(2*time.Hour + 45*time.Minute)
		s.expect("2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-25T02:30:00Z")
	})
}

// TestModel: over random restarts, absences and stalls every tick is handed
// over, or passed over for a later one that is late; none twice, all in order.
func TestModel(t *testing.T) {
	for seed := range 20 {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { model(t, uint64(seed)) })
	}
}
