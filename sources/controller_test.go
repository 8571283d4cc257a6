package sources

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/fake"

	duckv1 "github.com/leat-dev/leat/api/duck/v1"
	"github.com/leat-dev/leat/api/event"
	"github.com/leat-dev/leat/broker/status"
	"github.com/leat-dev/leat/channel"
	"github.com/leat-dev/leat/dispatcher"
)

// world is a controller of counters between an API and an engine, in memory.
type world struct {
	t          *testing.T
	api        *fake.FakeDynamicClient
	log        *fakeLog
	dispatcher *fakeDispatcher
	sinks      *fakeSinks
	tell       chan string
	made       int
	stop       func()

	mu    sync.Mutex
	notes []string
}

var counters = schema.GroupVersionResource{Group: "test", Version: "v1", Resource: "counters"}

// in runs a script in a bubble, with the channels a and b in the log.
func in(t *testing.T, script func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{
			t: t, log: &fakeLog{channels: map[string]*fakeChannel{}}, tell: make(chan string),
			dispatcher: &fakeDispatcher{attached: map[string]bool{}, targets: map[string]dispatcher.Target{}},
		}
		w.sinks = &fakeSinks{log: w.log}
		w.api = fake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), map[schema.GroupVersionResource]string{counters: "CounterList"})
		w.channel("a")
		w.channel("b")
		w.start()
		defer func() { w.stop() }()
		script(w)
	})
}

func (w *world) start() {
	w.t.Helper()
	c, err := New(Options{
		Client: w.api, Log: w.log, Dispatcher: w.dispatcher, Delivery: dispatcher.Policy{Retry: 10},
		Sinks: func(_ string, changed func(string, string)) Resolver {
			w.sinks.changed = changed
			return w.sinks
		},
		Admit: func(_ channel.ID, e *event.Event) error {
			if e.Type == "bad" {
				return errors.New("it is bad")
			}
			return nil
		},
		Kinds: []Kind{{
			GroupVersionKind: counters.GroupVersion().WithKind("Counter"), Resource: counters.Resource,
			Read: func(u *unstructured.Unstructured) (*Source, error) {
				s := &Source{Attributes: []duckv1.CloudEventAttributes{{Type: "count", Source: "/s"}}, Adapter: &counter{w, u.GetName()}, Notes: map[string]string{"n": "1"}}
				to, _, _ := unstructured.NestedString(u.Object, "spec", "to")
				switch {
				case to == "wrong":
					s.Adapter, s.Problem = nil, status.Problemf("Wrong", "nothing can be made of it")
				case strings.HasPrefix(to, "http"):
					s.Sink.URI = to
				default:
					s.Sink.Ref = &duckv1.KReference{Name: to}
				}
				s.Overrides = &duckv1.CloudEventOverrides{Extensions: map[string]string{"tenant": "x"}}
				return s, nil
			},
		}},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- c.Run(ctx) }()
	w.stop = func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			w.t.Errorf("Run: %v", err)
		}
		w.stop = func() {}
	}
	w.settle()
}

func (w *world) settle() {
	time.Sleep(time.Second)
	synctest.Wait()
}

func (w *world) channel(uid string) {
	if _, err := w.log.Ensure(context.Background(), channel.ID{Kind: "Broker", Namespace: "default", Name: uid, UID: uid}, channel.Config{}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) client() dynamic.ResourceInterface {
	return w.api.Resource(counters).Namespace("default")
}

// apply makes the counter c, or changes where its events go.
func (w *world) apply(to string) {
	w.t.Helper()
	ctx := context.Background()
	u, err := w.client().Get(ctx, "c", metav1.GetOptions{})
	if err != nil {
		w.made++
		u = &unstructured.Unstructured{Object: map[string]any{"apiVersion": "test/v1", "kind": "Counter", "metadata": map[string]any{"name": "c", "namespace": "default"}}}
		u.SetUID(types.UID(fmt.Sprintf("c-%d", w.made)))
		u.Object["spec"] = map[string]any{"to": to}
		u.SetGeneration(1)
		_, err = w.client().Create(ctx, u, metav1.CreateOptions{})
	} else {
		u.Object["spec"] = map[string]any{"to": to}
		u.SetGeneration(u.GetGeneration() + 1)
		_, err = w.client().Update(ctx, u, metav1.UpdateOptions{})
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.settle()
}

func (w *world) remove() {
	w.t.Helper()
	if err := w.client().Delete(context.Background(), "c", metav1.DeleteOptions{}); err != nil {
		w.t.Fatal(err)
	}
	w.settle()
}

// send tells the counter something, and waits until it has done it.
func (w *world) send(what string) {
	w.t.Helper()
	select {
	case w.tell <- what:
	case <-time.After(time.Hour):
		w.t.Fatal("no adapter listens")
	}
	w.settle()
}

func (w *world) note(s string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.notes = append(w.notes, s)
}

// expectNotes compares what the adapters noted since the last time.
func (w *world) expectNotes(want ...string) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if d := cmp.Diff(want, w.notes); d != "" {
		w.t.Errorf("notes: -want +got\n%s", d)
	}
	w.notes = nil
}

// status shows the status of c: what is not true first in full.
func (w *world) status() string {
	w.t.Helper()
	u, err := w.client().Get(context.Background(), "c", metav1.GetOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	var s duckv1.SourceStatus
	raw, _ := u.Object["status"].(map[string]any)
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(raw, &s); err != nil {
		w.t.Fatal(err)
	}
	lines := []string{fmt.Sprintf("%s gen=%v %v %v", s.SinkURI, s.ObservedGeneration == u.GetGeneration(), s.CEAttributes, s.Annotations)}
	for _, c := range s.Conditions {
		lines = append(lines, strings.TrimSpace(fmt.Sprintf("%s %s %s %s", c.Type, c.Status, c.Reason, c.Message)))
	}
	return strings.Join(lines, "\n")
}

func (w *world) expect(what, got, want string) {
	w.t.Helper()
	if d := cmp.Diff(strings.TrimSpace(want), strings.TrimSpace(got)); d != "" {
		w.t.Errorf("%s: -want +got\n%s", what, d)
	}
}

func TestIntoALogOfOurs(t *testing.T) {
	in(t, func(w *world) {
		w.apply("a")
		w.expectNotes("c begins after 0")
		w.send("x")
		w.send("x")
		w.expect("log", w.log.show(), "Broker a: 1 2\nBroker b:")
		w.expect("targets", w.dispatcher.show(), "")
		w.expect("status", w.status(), `
http://leat/a gen=true [{count /s}] map[n:1]
Deployed True
Ready True
SinkProvided True`)
		if v, _ := w.log.channels["a"].events[0].Attribute("tenant"); v.Str != "x" {
			t.Errorf("the extension tenant is %q", v.Str)
		}
		w.send("again") // what was handed over is not again
		w.expect("log", w.log.show(), "Broker a: 1 2\nBroker b:")
		w.stop()
		w.start()
		w.expectNotes("c ends", "c begins after 2")
	})
}

// TestPositionMovesWithTheSink: from log to log, and to a sink elsewhere and back.
func TestPositionMovesWithTheSink(t *testing.T) {
	in(t, func(w *world) {
		w.apply("a")
		w.send("x")
		w.apply("b")
		w.send("x")
		w.apply("a")
		w.send("x")
		w.apply("http://elsewhere/")
		w.send("x")
		w.apply("b")
		w.send("x")
		w.expectNotes("c begins after 0", "c ends", "c begins after 1", "c ends", "c begins after 2", "c ends",
			"c begins after 3", "c ends", "c begins after 4")
		w.expect("log", w.log.show(), "Broker a: 1 3\nBroker b: 2 5\nCounter c-1: >c-1 4")
	})
}

// TestSinkChangesWhileAnEventIsOnItsWay: what is on its way into one log is
// not handed over into another.
func TestSinkChangesWhileAnEventIsOnItsWay(t *testing.T) {
	in(t, func(w *world) {
		w.apply("a")
		w.log.channels["a"].slow = 5 * time.Second
		w.send("x")
		w.apply("b")
		time.Sleep(10 * time.Second)
		w.send("x")
		w.expectNotes("c begins after 0", "c ends", "c begins after 1")
		w.expect("log", w.log.show(), "Broker a: 1\nBroker b: 2")
	})
}

// TestSinkElsewhere: by a log of its own, which goes with the object.
func TestSinkElsewhere(t *testing.T) {
	in(t, func(w *world) {
		w.apply("http://elsewhere/")
		w.send("x")
		w.expect("log", w.log.show(), "Broker a:\nBroker b:\nCounter c-1: >c-1 1")
		w.expect("targets", w.dispatcher.show(), `Counter default/c url="http://elsewhere/" retry=10 attached=true`)
		w.apply("http://other/")
		w.expect("targets", w.dispatcher.show(), `Counter default/c url="http://other/" retry=10 attached=true`)
		w.apply("nowhere") // what is in it waits
		w.expect("targets", w.dispatcher.show(), `Counter default/c url="" retry=10 attached=true`)
		w.apply("a") // and goes to the sink of now
		w.expect("targets", w.dispatcher.show(), `Counter default/c url="http://leat/a" retry=10 attached=true`)
		w.remove()
		w.expect("log", w.log.show(), "Broker a:\nBroker b:")
		w.expect("targets", w.dispatcher.show(), "")
	})
}

// TestPausedLog: that the deliveries from a source's own log have paused is a
// condition, for as long as it lasts; the source stays Ready.
func TestPausedLog(t *testing.T) {
	in(t, func(w *world) {
		pause := func(s dispatcher.Status) {
			w.dispatcher.mu.Lock()
			w.dispatcher.status = s
			w.dispatcher.mu.Unlock()
			time.Sleep(time.Minute)
			w.settle()
		}
		w.apply("http://elsewhere/")
		working := w.status()
		pause(dispatcher.Status{Paused: true, Reason: dispatcher.ReasonMaxWaiting, Message: "1000 events wait"})
		if s := w.status(); !strings.Contains(s, "Delivering False "+dispatcher.ReasonMaxWaiting+" 1000 events wait") || !strings.Contains(s, "Ready True") {
			t.Error(s)
		}
		pause(dispatcher.Status{})
		w.expect("status", w.status(), working)
		pause(dispatcher.Status{Paused: true, Reason: dispatcher.ReasonUnresolved}) // SinkProvided says that
		w.expect("status", w.status(), working)
		w.apply("a") // it has its log still
		pause(dispatcher.Status{Paused: true, Reason: dispatcher.ReasonDamaged, Message: "damaged"})
		if s := w.status(); !strings.Contains(s, "Delivering False "+dispatcher.ReasonDamaged+" damaged") {
			t.Error(s)
		}
	})
}

func TestSinkThatDoesNotResolve(t *testing.T) {
	in(t, func(w *world) {
		w.apply("later")
		w.expectNotes()
		w.expect("status", w.status(), `
gen=true [{count /s}] map[n:1]
Deployed Unknown SinkNotResolved it begins when the sink resolves
Ready False NotFound sink: later not found
SinkProvided False NotFound sink: later not found`[1:])
		w.channel("later")
		w.sinks.changed("default", "c")
		w.settle()
		w.expectNotes("c begins after 0")
		w.send("x")
		if err := w.log.Drop(context.Background(), "later"); err != nil {
			t.Fatal(err)
		}
		w.sinks.changed("default", "c")
		w.settle()
		w.expectNotes("c ends")
	})
}

// TestRecreated: an object of the same name is another source.
func TestRecreated(t *testing.T) {
	in(t, func(w *world) {
		w.apply("http://elsewhere/")
		w.send("x")
		w.remove()
		w.apply("http://elsewhere/")
		w.expectNotes("c begins after 0", "c ends", "c begins after 0")
		w.expect("log", w.log.show(), "Broker a:\nBroker b:\nCounter c-2: >c-2")
		// While nobody looks, too.
		w.stop()
		w.remove()
		w.apply("a")
		w.start()
		w.expectNotes("c ends", "c begins after 0")
		w.expect("log", w.log.show(), "Broker a:\nBroker b:")
		w.apply("http://elsewhere/")
		w.stop()
		w.remove()
		w.start()
		w.expect("log", w.log.show(), "Broker a:\nBroker b:")
	})
}

// TestAdapterThatFails: the status says so, and it is tried again.
func TestAdapterThatFails(t *testing.T) {
	in(t, func(w *world) {
		w.apply("a")
		for _, c := range []struct{ what, message string }{
			{"fail", "no more"}, {"panic", "panic: out of paper"}, {"end", "it ended"}, {"bad", "the event is refused: it is bad"},
		} {
			w.send(c.what)
			if s := w.status(); !strings.Contains(s, "Deployed False AdapterFailed "+c.message) || !strings.Contains(s, "Ready False AdapterFailed") {
				t.Errorf("%s: %s", c.what, s)
			}
			w.send("x")
			if s := w.status(); !strings.Contains(s, "Ready True") {
				t.Errorf("after %s: %s", c.what, s)
			}
		}
		w.expect("log", w.log.show(), "Broker a: 1 2 3 4\nBroker b:")
		w.send("fail") // and then runs, with nothing to hand over
		if s := w.status(); !strings.Contains(s, "Ready False") {
			t.Error(s)
		}
		time.Sleep(time.Minute)
		w.settle()
		if s := w.status(); !strings.Contains(s, "Ready True") {
			t.Error(s)
		}
	})
}

// TestLogThatTakesNothing: the event waits, and the status says why.
func TestLogThatTakesNothing(t *testing.T) {
	in(t, func(w *world) {
		w.apply("a")
		refuse := func(err error) {
			w.log.mu.Lock()
			defer w.log.mu.Unlock()
			w.log.channels["a"].refuse = err
		}
		refuse(errors.New("the disk is full"))
		w.send("x")
		if s := w.status(); !strings.Contains(s, "Deployed False NotTaken") || !strings.Contains(s, "the disk is full") {
			t.Error(s)
		}
		refuse(nil)
		time.Sleep(time.Minute)
		w.settle()
		w.expect("log", w.log.show(), "Broker a: 1\nBroker b:")
		if s := w.status(); !strings.Contains(s, "Ready True") {
			t.Error(s)
		}
		refuse(errors.New("the disk is full"))
		w.send("x")
		w.stop() // it does not wait for the log
	})
}

func TestWhatCannotBe(t *testing.T) {
	in(t, func(w *world) {
		w.apply("wrong")
		if s := w.status(); !strings.Contains(s, "Deployed False Wrong nothing can be made of it") {
			t.Error(s)
		}
		w.expectNotes()
	})
}

func TestIdleWritesNothing(t *testing.T) {
	in(t, func(w *world) {
		w.apply("http://elsewhere/")
		before := len(w.api.Actions())
		for range 10 {
			w.sinks.changed("default", "c")
			w.settle()
		}
		time.Sleep(time.Hour)
		for _, a := range w.api.Actions()[before:] {
			t.Errorf("%s %s", a.GetVerb(), a.GetResource().Resource)
		}
	})
}
