package system

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/leat-dev/leat/api/event"
	"github.com/leat-dev/leat/channel"
	"github.com/leat-dev/leat/raftlog"
)

func TestAWriteAsAnEvent(t *testing.T) {
	w := newWorld(t)
	w.run()
	add := w.put("core/configmaps/default/c", config("c", "1"))
	update := w.put("core/configmaps/default/c", config("c", "2"))
	gone := w.remove("core/configmaps/default/c")
	w.put("core/namespaces/n", `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"n","uid":"uid-n"}}`)
	w.put("eventing.knative.dev/brokers/default/b", `{"apiVersion":"eventing.knative.dev/v1","kind":"Broker","metadata":{"name":"b","namespace":"default","uid":"uid-b","generation":12345678901234567}}`)
	events := w.published(5)
	w.equal("events", lines(events), []string{
		fmt.Sprintf("add ConfigMap c@%d", add), fmt.Sprintf("update ConfigMap c@%d", update), fmt.Sprintf("delete ConfigMap c@%d", gone),
		fmt.Sprintf("add Namespace n@%d", gone+1), fmt.Sprintf("add Broker b@%d", gone+2),
	})
	e := events[1]
	w.equal("type", e.Type, "dev.knative.apiserver.resource.update")
	w.equal("source", e.Source, "https://127.0.0.1:8443")
	w.equal("id", e.ID, fmt.Sprintf("uid-c/%d", update))
	w.equal("subject", e.Subject, "/apis/v1/namespaces/default/configmaps/c")
	w.equal("time", e.Time, "2023-11-14T22:13:20Z")
	w.equal("content type", e.DataContentType, "application/json")
	w.equal("data", string(e.Data), fmt.Sprintf(`{"apiVersion":"v1","data":{"v":"2"},"kind":"ConfigMap","metadata":{"name":"c","namespace":"default","resourceVersion":"%d","uid":"uid-c"}}`, update))
	for name, want := range map[string]string{
		"kind": "ConfigMap", "apiversion": "v1", "name": "c", "namespace": "default", "knativearrivaltime": "2023-11-14T22:13:20Z", "knativebrokerttl": "255",
	} {
		v, _ := e.Attribute(name)
		w.equal(name, v.Str, want)
	}
	if !strings.Contains(string(events[2].Data), `"v":"2"`) {
		t.Errorf("a deletion has the object as it was: %s", events[2].Data)
	}
	w.equal("cluster scope", events[3].Subject, "/apis/v1/namespaces/n")
	if _, ok := events[3].Attribute("namespace"); ok {
		t.Error("what is in no namespace has none")
	}
	w.equal("a group", events[4].Subject, "/apis/eventing.knative.dev/v1/namespaces/default/brokers/b")
	if !strings.Contains(string(events[4].Data), "12345678901234567") {
		t.Errorf("numbers stay as they are: %s", events[4].Data)
	}
}

func TestWhatDoesNotAppear(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.MaxSkipped = 20 })
	w.run()
	for i := range 30 {
		for _, key := range []string{"coordination.k8s.io/leases/kube-system/l", "core/events/default/e", "events.k8s.io/events/default/e", "authentication.k8s.io/tokenreviews/x"} {
			w.put(key, config("x", fmt.Sprint(i)))
		}
	}
	// The position moves all the same, so that it stays within the history.
	w.settled(w.kv.Rev() - 20)
	w.equal("events", len(w.all()), 0)
	last := w.put("core/configmaps/default/c", config("c", "1"))
	w.equal("events", lines(w.published(1)), []string{fmt.Sprintf("add ConfigMap c@%d", last)})
}

// TestEachWriteAppearsOnce: over restarts at any moment, over appends that are
// refused, and over those of which nobody knows whether they were done.
func TestEachWriteAppearsOnce(t *testing.T) {
	for seed := range uint64(8) {
		r := rand.New(rand.NewPCG(seed, 3))
		w := newWorld(t, func(o *Options) { o.ChunkBytes = 300 + int(seed)*200 })
		faults := rand.New(rand.NewPCG(seed, 4))
		w.fail = func(uint64) (before, after error) {
			switch faults.IntN(6) {
			case 0:
				return raftlog.ErrDiskFull, nil
			case 1:
				return fmt.Errorf("not applied: %w", raftlog.ErrUnknownOutcome), nil
			case 2:
				return nil, fmt.Errorf("applied: %w", raftlog.ErrUnknownOutcome)
			}
			return nil, nil
		}
		var want []string
		exists := map[string]bool{}
		for step := range 120 {
			name := fmt.Sprint("c", r.IntN(5))
			key := "core/configmaps/default/" + name
			switch {
			case r.IntN(5) == 0:
				w.put("coordination.k8s.io/leases/default/l", "{}")
			case exists[name] && r.IntN(3) == 0:
				want = append(want, fmt.Sprintf("delete ConfigMap %s@%d", name, w.remove(key)))
				exists[name] = false
			default:
				verb := "add"
				if exists[name] {
					verb = "update"
				}
				want = append(want, fmt.Sprintf("%s ConfigMap %s@%d", verb, name, w.put(key, config(name, fmt.Sprint(step)))))
				exists[name] = true
			}
			if r.IntN(10) == 0 {
				w.end()
			}
			if w.stop == nil && r.IntN(2) == 0 {
				w.run()
			}
		}
		w.end()
		w.run()
		w.equal(fmt.Sprint("seed ", seed), strings.Join(lines(w.published(len(want))), "\n"), strings.Join(want, "\n"))
		w.end()
		w.equal("nothing follows", len(w.all()), len(want))
	}
}

func TestGapSaysWhatIsMissing(t *testing.T) {
	w := newWorld(t)
	w.run()
	seen := w.put("core/configmaps/default/c", config("c", "1"))
	w.published(1)
	w.end()
	var last uint64
	for i := range 10 {
		last = w.put("core/configmaps/default/c", config("c", fmt.Sprint(i)))
	}
	_, err := w.kv.Compact(t.Context(), last-2)
	w.ok(err)
	w.run()
	events := w.published(4)
	w.equal("events", lines(events), []string{
		fmt.Sprintf("add ConfigMap c@%d", seen), fmt.Sprintf("gap %d-%d [] HistoryCompacted", seen+1, last-2),
		fmt.Sprintf("update ConfigMap c@%d", last-1), fmt.Sprintf("update ConfigMap c@%d", last),
	})
	w.equal("type", events[1].Type, "dev.leat.apiserver.gap")
	// Once is enough.
	w.end()
	w.run()
	w.put("core/configmaps/default/d", config("d", "1"))
	w.equal("events", len(w.published(5)), 5)
}

// TestHistoryThatWentBackIsAGap: of resources that were restored from a backup
// some revisions would be taken for those the log has seen.
func TestHistoryThatWentBackIsAGap(t *testing.T) {
	w := newWorld(t)
	w.ok(w.ch.(channel.Producers).AppendFrom(t.Context(), producer, 50, nil))
	rev := w.put("core/configmaps/default/c", config("c", "0"))
	w.run()
	w.equal("events", lines(w.published(1)), []string{fmt.Sprintf("gap %d-51 [] HistoryWentBack", rev+1)})
	for w.kv.Rev() < 53 {
		w.put("core/configmaps/default/c", config("c", fmt.Sprint(w.kv.Rev())))
	}
	w.equal("events", lines(w.published(3))[1:], []string{"update ConfigMap c@52", "update ConfigMap c@53"})
}

// TestWritesDoNotWait: the log may take nothing at all.
func TestWritesDoNotWait(t *testing.T) {
	w := newWorld(t)
	release := make(chan struct{})
	refused := make(chan struct{})
	once := sync.OnceFunc(func() { close(refused) })
	w.fail = func(uint64) (before, after error) {
		select {
		case <-release:
			return nil, nil
		default:
			once()
			return raftlog.ErrDiskFull, nil
		}
	}
	w.run()
	for i := range 500 {
		w.put("core/configmaps/default/c", config("c", fmt.Sprint(i)))
	}
	w.equal("events while the log is full", len(w.all()), 0)
	<-refused
	close(release)
	w.equal("events", len(w.published(500)), 500)
	if !strings.Contains(w.said.String(), "takes no events") {
		t.Errorf("it is told: %s", w.said.String())
	}
}

// TestAnotherLog: where the broker was made anew, it gets what the history has.
func TestAnotherLog(t *testing.T) {
	w := newWorld(t)
	w.run()
	w.put("core/configmaps/default/c", config("c", "1"))
	w.published(1)
	w.ok(w.log.Drop(t.Context(), "1"))
	w.put("core/configmaps/default/c", config("c", "2"))
	w.makeLog("2")
	w.put("core/configmaps/default/c", config("c", "3"))
	w.equal("events", len(w.published(3)), 3)
}

func TestOwnStatusIsPaced(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.StatusBurst = 1 })
	w.run()
	trigger := func(name, broker, status string) string {
		return fmt.Sprintf(`{"apiVersion":"eventing.knative.dev/v1","kind":"Trigger","metadata":{"name":%q,"namespace":"leat-system","uid":"uid-%s"},"spec":{%s},"status":{"v":%q}}`, name, name, broker, status)
	}
	put := func(name, broker, status string) uint64 {
		return w.put("eventing.knative.dev/triggers/leat-system/"+name, trigger(name, broker, status))
	}
	own, other := `"broker":"default"`, `"broker":"another"`
	first := put("t", own, "0")
	put("o", other, "0")
	for i := range 3 { // each is withheld but the first
		put("t", own, fmt.Sprint(1+i))
		put("o", other, fmt.Sprint(1+i))
	}
	spec := w.put("eventing.knative.dev/triggers/leat-system/t", strings.Replace(trigger("t", own, "3"), `"spec":{`, `"spec":{"x":1,`, 1))
	w.clock.Advance(11 * time.Second)
	later := w.put("eventing.knative.dev/triggers/leat-system/t", strings.Replace(trigger("t", own, "4"), `"spec":{`, `"spec":{"x":1,`, 1))
	w.settled(later)
	got := map[string]bool{}
	for _, l := range lines(w.all()) {
		if strings.HasPrefix(l, "gap ") {
			if !strings.HasSuffix(l, "StatusRate") {
				t.Errorf("gap %s", l)
			}
			l = l[strings.Index(l, "[")+1 : strings.Index(l, "]")]
			for _, rev := range strings.Fields(l) {
				got["gap "+rev] = true
			}
			continue
		}
		got[l] = true
	}
	want := map[string]bool{
		fmt.Sprintf("add Trigger t@%d", first): true, fmt.Sprintf("update Trigger t@%d", first+2): true,
		fmt.Sprintf("gap %d", first+4): true, fmt.Sprintf("gap %d", first+6): true,
		fmt.Sprintf("update Trigger t@%d", spec): true, fmt.Sprintf("update Trigger t@%d", later): true,
	}
	for i := range uint64(4) {
		verb := "update"
		if i == 0 {
			verb = "add"
		}
		want[fmt.Sprintf("%s Trigger o@%d", verb, first+1+2*i)] = true
	}
	w.equal("events and gaps", got, want)
}

// TestWithheldIsNotLost: what was withheld when the process ended is told by
// the next one.
func TestWithheldIsNotLost(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.StatusBurst = 1 })
	w.run()
	status := func(v int) uint64 {
		return w.put("eventing.knative.dev/brokers/leat-system/default", fmt.Sprintf(`{"apiVersion":"eventing.knative.dev/v1","kind":"Broker","metadata":{"name":"default","namespace":"leat-system","uid":"u"},"status":{"v":%d}}`, v))
	}
	status(0)
	status(1)
	w.published(2)
	withheld := status(2)
	w.put("coordination.k8s.io/leases/default/l", "{}")
	w.end()
	w.equal("events", len(w.all()), 2)
	w.run()
	w.equal("events", lines(w.published(3))[2:], []string{fmt.Sprintf("update Broker default@%d", withheld)})
}

func TestABurstThenAPace(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.StatusBurst = 3 })
	w.run()
	n := 0
	status := func() uint64 {
		n++
		return w.put("eventing.knative.dev/brokers/leat-system/default", fmt.Sprintf(`{"metadata":{"name":"default","namespace":"leat-system"},"status":{"v":%d}}`, n))
	}
	status() // made
	for range 5 {
		status()
	}
	w.published(4)
	w.clock.Advance(10 * time.Second)
	shown := status()
	status()
	w.settled(shown)
	n = 0
	for _, l := range lines(w.all()) {
		if !strings.HasPrefix(l, "gap ") {
			n++
		}
	}
	w.equal("shown", n, 5)
}

func TestPaceIsBounded(t *testing.T) {
	p := pace{interval: time.Second, limit: 3, paid: map[string]int64{"a": 11, "b": 1_000_000, "c": 12}}
	if p.room(10) {
		t.Error("there is no room while all are recent")
	}
	if !p.room(1_000_000) || len(p.paid) != 0 {
		t.Errorf("what is old makes room: %v", p.paid)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	if _, err := New(Options{}); err == nil {
		t.Error("no History")
	}
	w := newWorld(t, func(o *Options) {
		o.Channel = func() (channel.Channel, bool) { return nil, false }
	})
	w.run() // waits for the log, and ends when it is told to
	w.put("core/configmaps/default/c", config("c", "1"))
	w.end()
	if s := w.said.String(); s != "" {
		t.Errorf("a log that is yet to come is no error: %s", s)
	}
}

// TestAppendEndsWithItsContext: a stop does not wait for the log.
func TestAppendEndsWithItsContext(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.MinBackoff, o.MaxBackoff = time.Hour, time.Hour })
	began := make(chan struct{}, 1)
	w.fail = func(uint64) (before, after error) {
		select {
		case began <- struct{}{}:
		default:
		}
		return raftlog.ErrOverloaded, nil
	}
	w.run()
	w.put("core/configmaps/default/c", config("c", "1"))
	<-began
	w.end()
	p, err := New(w.o)
	w.ok(err)
	w.ok(p.open())
	ctx, cancel := context.WithCancelCause(t.Context())
	stopped := errors.New("stopped")
	cancel(stopped)
	if err := p.append(ctx, []*event.Event{p.maker.gap(Gap{}, 0)}, 9); !errors.Is(err, stopped) {
		t.Errorf("got %v", err)
	}
}
