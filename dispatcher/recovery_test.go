package dispatcher

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/leat-dev/leat/channel"
	"github.com/leat-dev/leat/filter"
)

func TestACrashRedeliversAtMostAWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{})
		defer func() { r.end() }()
		r.subscribe(byType("a", ""))
		r.target("a")
		r.publish("x", 1000)
		time.Sleep(time.Second)
		r.mu.Lock()
		r.commitErr = func() error { return errors.New("no space") }
		r.mu.Unlock()
		r.publish("x", 1000)
		time.Sleep(time.Minute)
		if got := len(r.f.to("http://a")); got != 1100 {
			t.Errorf("%d deliveries before the crash, want 1,100", got)
		}
		r.kill()
		r.commitErr = nil
		r.begin(Options{})
		r.target("a")
		time.Sleep(time.Minute)
		got := slices.Sorted(slices.Values(r.f.to("http://a")))
		if again := len(got) - len(slices.Compact(slices.Clone(got))); again > 100 || len(got)-again != 2000 {
			t.Errorf("%d events, %d of them twice; want 2,000, at most 100 twice", len(got)-again, again)
		}
	})
}

// TestScanWaitsForAllCursors: a commit that had no room for the cursor of one
// with something open does not move the scan, or a crash after it would skip.
func TestScanWaitsForAllCursors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := Options{CommitBytes: 1, ScanEvents: 1}
		r := newRig(t, o)
		defer func() { r.end() }()
		commits := 0
		r.commitErr = func() error {
			if commits++; commits > 1 {
				return errors.New("no space")
			}
			return nil
		}
		all := []string{"a", "b", "c"}
		r.subscribe(byType("a", ""), byType("b", ""), byType("c", ""))
		for _, uid := range all {
			r.target(uid)
			r.f.on("http://"+uid, hang)
		}
		r.publish("x", 10)
		time.Sleep(time.Second)
		if got := r.committed(); len(got) != 1 || len(got[0].Cursors) != 1 {
			t.Fatalf("commits %+v, want one with one cursor", got)
		}
		r.kill()
		r.commitErr = nil
		for _, uid := range all {
			r.f.on("http://"+uid, status(200))
		}
		r.begin(o)
		before := make(map[string]int)
		for _, uid := range all {
			before[uid] = len(r.f.to("http://" + uid))
			r.target(uid)
		}
		time.Sleep(time.Minute)
		if n := len(r.committed()); n > 30 || len(r.Cursors()) != 0 || r.Scan() != 10 {
			t.Errorf("%d commits, scan %d, cursors %v; want a few, and nothing left", n, r.Scan(), r.Cursors())
		}
		for _, uid := range all {
			if got := once(t, r.f.to("http://" + uid)[before[uid]:]); len(got) != 10 {
				t.Errorf("%s got %v after the crash, want all 10", uid, got)
			}
		}
	})
}

// TestManyComeToRest: more subscriptions than fit one commit match an event;
// when all are done, nothing of it is left, and nothing more is written.
func TestManyComeToRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{CommitBytes: 1000})
		defer r.end()
		var subs []channel.Subscription
		for i := range 200 {
			subs = append(subs, byType("s"+strconv.Itoa(i), ""))
			r.target(subs[i].UID)
		}
		r.subscribe(subs...)
		commits := 0
		r.commitErr = func() error {
			if commits++; commits > 200 {
				return errors.New("that is enough")
			}
			return nil
		}
		for range 2 {
			r.publish("x", 1)
			time.Sleep(time.Minute)
		}
		if len(r.Cursors()) != 0 || r.Scan() != 2 || len(r.f.to("http://s0")) != 2 {
			t.Errorf("scan %d, %d cursors after %d commits; want 2 and none", r.Scan(), len(r.Cursors()), len(r.committed()))
		}
		before := len(r.committed())
		time.Sleep(24 * time.Hour)
		if n := len(r.committed()); n != before {
			t.Errorf("%d commits at rest", n-before)
		}
	})
}

func TestCloseWaitsForWhatIsOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{})
		r.subscribe(byType("a", ""))
		r.target("a")
		r.f.on("http://a", takes(5*time.Second))
		r.publish("x", 250)
		synctest.Wait()
		began := time.Now()
		r.end()
		if d := time.Since(began); d != 5*time.Second {
			t.Errorf("close took %v, want the 5 s that the requests took", d)
		}
		if c := r.Cursors()["a"]; c.Low != 100 || len(r.f.to("http://a")) != 100 {
			t.Errorf("cursor %+v after %d requests, want 100", c, len(r.f.to("http://a")))
		}
		r.breaksOff(250)
		r.end()
	})
}

// breaksOff sees to it that what does not end in time is broken off at a close,
// and delivered again: all of so many events in the end.
func (r *rig) breaksOff(events int) {
	r.Helper()
	r.f.on("http://a", hang)
	r.begin(Options{})
	r.target("a")
	synctest.Wait()
	ctx, cancel := context.WithTimeout(r.Context(), time.Second)
	defer cancel()
	began := time.Now()
	if err := r.d.Close(ctx); err != nil || time.Since(began) != time.Second {
		r.Errorf("close: %v after %v", err, time.Since(began))
	}
	r.f.on("http://a", status(200))
	r.begin(Options{})
	r.target("a")
	time.Sleep(time.Minute)
	if got := len(slices.Compact(slices.Sorted(slices.Values(r.f.to("http://a"))))); got != events {
		r.Errorf("%d of %d events were delivered", got, events)
	}
}

func TestRetentionPassesASlowSubscriber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{})
		defer r.end()
		r.subscribe(byType("a", ""))
		r.target("a", func(t *Target) {
			t.MaxInFlight, t.MaxWaiting = 10, 20
			t.Delivery = Policy{Retry: 9, Delay: time.Hour, MaxDelay: time.Hour}
		})
		r.f.on("http://a", status(500))
		r.publish("x", 100)
		time.Sleep(time.Second)
		r.mu.Lock()
		r.floor = 80
		r.mu.Unlock()
		r.f.on("http://a", status(200))
		time.Sleep(3 * time.Hour)
		before, after := 0, 0
		for _, id := range slices.Compact(slices.Sorted(slices.Values(r.f.to("http://a")))) {
			if n, _ := strconv.Atoi(id); n < 80 {
				before++
			} else {
				after++
			}
		}
		if before < 20 || before > 30 || after != 20 {
			t.Errorf("%d events below the floor and %d above were tried, want what waited, and all 20", before, after)
		}
		if st := r.status("a"); st.Lag != 0 || st.Waiting != 0 || st.Paused {
			t.Errorf("status %+v", st)
		}
	})
}

func TestDamageHoldsWhoeverHasToPassIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{})
		defer r.end()
		damaged := func(o uint64) error {
			if o >= 5 && o < 8 {
				return &channel.DamagedError{Channel: r.id, Range: channel.Range{From: o, To: 8}, File: "segment-1", Position: 77, Err: errors.New("checksum")}
			}
			return nil
		}
		r.readErr = damaged
		r.subscribe(byType("before", ""))
		r.target("before")
		r.publish("x", 10)
		synctest.Wait()
		r.subscribe(byType("before", ""), byType("after", ""))
		r.target("after")
		r.publish("x", 10)
		time.Sleep(time.Minute)
		if got := len(r.f.to("http://before")); got != 5 {
			t.Errorf("%d events before the damage, want 5", got)
		}
		if st := r.status("before"); !st.Paused || st.Reason != ReasonDamaged || st.Lag != 15 {
			t.Errorf("status %+v, want paused at the damage", st)
		}
		if got := len(once(t, r.f.to("http://after"))); got != 10 {
			t.Errorf("who begins behind the damage got %d events, want 10", got)
		}
		// It was put right: reading goes on at the next offset.
		r.mu.Lock()
		r.readErr = nil
		r.mu.Unlock()
		time.Sleep(time.Minute)
		if got := len(once(t, r.f.to("http://before"))); got != 20 {
			t.Errorf("%d events in the end, want 20", got)
		}
	})
}

// TestDamagePassedByCommandHoldsNobody: reading goes on behind it, for those that
// were held, for what waits for its next attempt, and for the scan; also where
// nothing has come behind it yet.
func TestDamagePassedByCommandHoldsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{})
		defer r.end()
		passed := false
		r.readErr = func(o uint64) error {
			switch {
			case o < 5 || o >= 10:
				return nil
			case passed:
				return &channel.PassedError{Channel: r.id, Range: channel.Range{From: 5, To: 10}}
			}
			return &channel.DamagedError{Channel: r.id, Range: channel.Range{From: o, To: 10}, File: "segment-1", Position: 77, Err: errors.New("checksum")}
		}
		r.subscribe(byType("held", ""))
		r.target("held")
		r.publish("x", 10)
		time.Sleep(time.Minute)
		if st := r.status("held"); !st.Paused || st.Reason != ReasonDamaged || st.Lag != 5 {
			t.Errorf("status %+v, want paused at the damage", st)
		}
		r.mu.Lock()
		passed = true
		r.mu.Unlock()
		time.Sleep(time.Minute)
		if paused := r.d.Paused(); len(paused) != 0 {
			t.Errorf("%v have paused still", paused)
		}
		if st := r.status("held"); st.Paused || st.Lag != 0 {
			t.Errorf("status %+v, want nothing left", st)
		}
		r.publish("x", 5)
		time.Sleep(time.Minute)
		if got := len(once(t, r.f.to("http://held"))); got != 10 {
			t.Errorf("%d events in the end, want 10", got)
		}
	})
}

// TestScanPassesDamagePassedByCommand: an attached subscription stays attached.
func TestScanPassesDamagePassedByCommand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{})
		defer r.end()
		r.readErr = func(o uint64) error {
			if o >= 2 && o < 4 {
				return &channel.PassedError{Channel: r.id, Range: channel.Range{From: 2, To: 4}}
			}
			return nil
		}
		r.subscribe(byType("a", ""))
		r.target("a")
		r.publish("x", 6)
		time.Sleep(time.Minute)
		if st := r.status("a"); len(r.f.to("http://a")) != 4 || st.Lag != 0 || st.Paused || st.Detached {
			t.Errorf("%d events, status %+v; want 4 and nothing left", len(r.f.to("http://a")), st)
		}
	})
}

func TestFilterThatFailsOrPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		counted := make(map[string]int)
		r := newRig(t, Options{Hooks: Hooks{FilterError: func(uid string, _ *Target) { counted[uid]++ }}})
		defer r.end()
		fails := byType("fails", "")
		fails.Filter = filter.Spec{Filters: []filter.Node{{CESQL: "1 / (INT(id) - INT(id)) = 1"}}}.Canonical()
		r.subscribe(fails, byType("well", ""))
		r.target("fails")
		r.target("well")
		for range 30 {
			r.publish("x", 10)
			time.Sleep(time.Second)
		}
		if got := len(once(t, r.f.to("http://well"))); got != 300 {
			t.Errorf("the other got %d events, want 300", got)
		}
		if counted["fails"] != 300 || len(r.f.to("http://fails")) != 0 {
			t.Errorf("%d failures counted, %d events delivered; want 300 and none", counted["fails"], len(r.f.to("http://fails")))
		}
		ks := r.kinds("fails")
		if len(ks) < 2 || len(ks) > 4 || ks[0] != channel.FilterError {
			t.Errorf("outcomes %v, want one in 10 s", ks)
		}
	})
}

func TestAPanickingFilterIsAnError(t *testing.T) {
	ok, err := matchOne(nil, filter.NewView(nil))
	if ok || err == nil {
		t.Errorf("match: %v, %v; want an error", ok, err)
	}
}

func TestUnusableFilterWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{})
		defer r.end()
		newer := byType("a", "")
		newer.Engine = filter.Engine + 1
		broken := byType("b", "")
		broken.Filter = []byte("{")
		r.subscribe(newer, broken, byType("well", ""))
		for _, uid := range []string{"a", "b", "well"} {
			r.target(uid)
		}
		r.publish("x", 3)
		time.Sleep(time.Minute)
		for _, uid := range []string{"a", "b"} {
			if st := r.status(uid); !st.Paused || st.Reason != ReasonFilter || st.Lag != 3 {
				t.Errorf("%s: status %+v, want paused for its filter", uid, st)
			}
		}
		if got := r.f.to("http://well"); len(got) != 3 {
			t.Errorf("the other got %v", got)
		}
	})
}

func TestTermsHoldExactly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{})
		defer r.end()
		r.target("a")
		r.target("past")
		r.publish("x", 3)
		r.subscribe(byType("a", "x"))
		r.publish("x", 2) // 3, 4
		r.subscribe(byType("a", "y"))
		r.publish("x", 2)
		r.publish("y", 2) // 7, 8
		past := byType("past", "x")
		past.Start.At = "beginning"
		r.subscribe(byType("a", "y"), past)
		r.publish("x", 1) // 9
		time.Sleep(time.Second)
		if got := once(t, r.f.to("http://a")); !slices.Equal(got, []string{"3", "4", "7", "8"}) {
			t.Errorf("a got %v", got)
		}
		if got := once(t, r.f.to("http://past")); !slices.Equal(got, []string{"0", "1", "2", "3", "4", "5", "6", "9"}) {
			t.Errorf("past got %v", got)
		}
		r.subscribe(past)
		r.publish("y", 1)
		time.Sleep(time.Second)
		if got := r.f.to("http://a"); len(got) != 4 {
			t.Errorf("after its end a got %v", got)
		}
		if _, ok := r.d.Status("a"); ok {
			t.Error("a is still known")
		}
	})
}

// interposer does something once, as the scan is about to read.
type interposer struct {
	*handle
	once func()
}

func (p *interposer) Partitions() []channel.Partition { return []channel.Partition{p} }

func (p *interposer) Read(ctx context.Context, offset uint64, limit, maxBytes int) ([]channel.Stored, error) {
	if f := p.once; f != nil {
		p.once = nil
		f()
	}
	return p.handle.Read(ctx, offset, limit, maxBytes)
}

// TestTermsThatBeginWhileTheScanReads: events that were appended meanwhile are
// matched by the filters that hold for them.
func TestTermsThatBeginWhileTheScanReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &rig{T: t, store: newStore(t), f: newFakeSender()}
		r.d = New(Options{Sender: r.f})
		defer r.end()
		r.subscribe(byType("a", "x"))
		r.target("a")
		r.target("b")
		r.publish("x", 1)
		r.d.Attach(&interposer{handle: r.open(), once: func() {
			r.subscribe(byType("a", "y"), byType("b", "y"))
			r.publish("x", 1)
			r.publish("y", 3)
		}})
		time.Sleep(time.Minute)
		if got := once(t, r.f.to("http://a")); !slices.Equal(got, []string{"0", "2", "3", "4"}) {
			t.Errorf("a got %v", got)
		}
		if got := once(t, r.f.to("http://b")); !slices.Equal(got, []string{"2", "3", "4"}) {
			t.Errorf("b got %v", got)
		}
	})
}

// TestDeletedAndMadeAgain: a subscription of the same UID that was started
// anew has nothing of the earlier one.
func TestDeletedAndMadeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{})
		defer r.end()
		r.subscribe(byType("a", ""))
		r.target("a", func(t *Target) { t.Delivery = Policy{Retry: 9, Delay: time.Minute} })
		r.f.on("http://a", status(500))
		r.publish("x", 5)
		synctest.Wait()
		r.subscribe()
		r.subscribe(byType("a", ""))
		r.f.on("http://a", status(200))
		r.publish("x", 5)
		time.Sleep(time.Hour)
		got := r.f.to("http://a")
		if !slices.Equal(slices.Sorted(slices.Values(got[5:])), []string{"5", "6", "7", "8", "9"}) {
			t.Errorf("attempts %v, want the first five once each, then the others", got)
		}
		if b := &r.d.budget; b.waiting.Load() != 0 || b.requests.Load() != 0 {
			t.Errorf("the budget counts %d waiting and %d requests", b.waiting.Load(), b.requests.Load())
		}
	})
}

// TestTenThousandIdle: idle subscriptions have no goroutine and little memory.
func TestTenThousandIdle(t *testing.T) {
	const n = 10_000
	s := newStore(t)
	f := newFakeSender()
	subs := make([]channel.Subscription, n)
	for i := range subs {
		subs[i] = byType("sub-"+string(rune('a'+i%26))+time.Duration(i).String(), "never")
	}
	s.subscribe(subs...)
	h := s.open()
	d := New(Options{Sender: f})
	before, goroutines := memory(), runtime.NumGoroutine()
	d.Attach(h)
	for i := range subs {
		d.SetTarget(Target{UID: subs[i].UID, URL: "http://x"})
	}
	s.publish("other", 1)
	for s := d; ; runtime.Gosched() {
		if st, _ := s.Status(subs[0].UID); st.Lag == 0 {
			break
		}
	}
	if more := runtime.NumGoroutine() - goroutines; more > 4 {
		t.Errorf("%d goroutines for %d idle subscriptions", more, n)
	}
	if each := int64(memory()-before) / n; each > 4<<10 {
		t.Errorf("an idle subscription takes %d bytes, want at most 4 KiB", each)
	} else {
		t.Logf("an idle subscription takes %d bytes", each)
	}
	if len(s.committed()) != 0 {
		t.Errorf("idle subscriptions wrote %d times", len(s.committed()))
	}
	if err := d.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func memory() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
