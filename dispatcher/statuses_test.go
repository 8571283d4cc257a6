package dispatcher

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

func TestMeterCountsTheLastMinute(t *testing.T) {
	var m meter
	at := func(d time.Duration) int64 { return int64(d) }
	for i := range 600 {
		m.add(at(time.Duration(i) * 100 * time.Millisecond))
	}
	if got := m.perSecond(at(60 * time.Second)); got != 10 {
		t.Errorf("ten a second for a minute: %g a second", got)
	}
	if got := m.perSecond(at(90 * time.Second)); got != 5 {
		t.Errorf("half a minute later: %g a second", got)
	}
	if got := m.perSecond(at(10 * time.Minute)); got != 0 {
		t.Errorf("much later: %g a second", got)
	}
	m.add(at(10 * time.Minute))
	if got := m.perSecond(at(10 * time.Minute)); got != 1./60 {
		t.Errorf("one event: %g a second", got)
	}
}

// TestStatuses: what is delivered, what waits, and what the log does not have
// yet, each with where it stands.
func TestStatuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{})
		defer r.end()
		r.subscribe(byType("fine", ""), byType("failing", "order"))
		r.f.on("http://failing", status(http.StatusServiceUnavailable))
		r.target("fine")
		r.target("failing", func(t *Target) { t.Delivery.Retry, t.Delivery.Delay = 3, time.Hour })
		r.target("untold")
		r.publish("invoice", 2)
		r.publish("order", 1)
		synctest.Wait()
		got := map[string]SubscriptionStatus{}
		for _, st := range r.d.Statuses() {
			got[st.Target.UID] = st
		}
		if st := got["fine"]; st.PerSecond == 0 || st.Waiting != 0 || st.Paused || len(st.Partitions) != 1 || st.Partitions[0].Next != 3 || st.Partitions[0].Lag != 0 || st.Partitions[0].Open != 0 {
			t.Errorf("fine: %+v", st)
		}
		if st := got["failing"]; st.PerSecond != 0 || st.Waiting != 1 || st.LastError == "" || len(st.Partitions) != 1 || st.Partitions[0].Open == 0 {
			t.Errorf("failing: %+v", st)
		}
		if st := got["untold"]; !st.Paused || st.Reason != ReasonUnknown || len(st.Partitions) != 0 {
			t.Errorf("untold: %+v", st)
		}
		r.d.RemoveTarget("untold")
		if n := len(r.d.Statuses()); n != 2 {
			t.Errorf("%d statuses after one target was removed, want 2", n)
		}
	})
}

// TestPausesAreSoughtAmongThoseBehind: however many are fine, who looks for those
// that have paused looks at none of them.
func TestPausesAreSoughtAmongThoseBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{})
		defer r.end()
		r.subscribe(byType("fine", ""), byType("idle", "none"), byType("full", "order"))
		r.f.on("http://full", status(http.StatusServiceUnavailable))
		for _, uid := range []string{"fine", "idle", "full"} {
			r.target(uid, func(t *Target) { t.Delivery.Retry, t.Delivery.Delay, t.MaxWaiting, t.MaxInFlight = 3, time.Hour, 8, 10 })
		}
		sought := func() (uids []string) {
			suspects := map[*target]struct{}{}
			for _, run := range r.d.runners[r.id.UID] {
				run.suspects(suspects)
			}
			for tg := range suspects {
				uids = append(uids, tg.uid)
			}
			return uids
		}
		r.publish("invoice", 20)
		synctest.Wait()
		if got := sought(); len(got) != 0 {
			t.Errorf("%v are looked at where nobody is behind", got)
		}
		r.publish("order", 20)
		time.Sleep(time.Minute)
		r.publish("order", 20) // for which there is no place
		time.Sleep(time.Minute)
		if got := sought(); len(got) != 1 || got[0] != "full" {
			t.Errorf("%v are looked at, want the one that is behind", got)
		}
		if got := r.d.Paused(); len(got) != 1 || got["full"].Reason != ReasonMaxWaiting {
			t.Errorf("paused are %+v, want full", got)
		}
		r.f.on("http://full", status(http.StatusAccepted))
		time.Sleep(10 * time.Hour)
		if got := sought(); len(got) != 0 || len(r.d.Paused()) != 0 {
			t.Errorf("%v are looked at after all was delivered", got)
		}
	})
}
