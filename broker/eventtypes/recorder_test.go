package eventtypes

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"

	"github.com/leat-dev/leat/api/admission"
	"github.com/leat-dev/leat/api/event"
	"github.com/leat-dev/leat/channel"
)

// fakeAPI keeps EventTypes, which it admits as the real one does.
type fakeAPI struct {
	dynamic.NamespaceableResourceInterface // what is not needed here

	mu      sync.Mutex
	objects map[string]*unstructured.Unstructured
	creates int
	fail    func() error
}

func (a *fakeAPI) Resource(schema.GroupVersionResource) dynamic.NamespaceableResourceInterface {
	return a
}

func (a *fakeAPI) Namespace(string) dynamic.ResourceInterface { return a }

func (a *fakeAPI) List(_ context.Context, o metav1.ListOptions) (*unstructured.UnstructuredList, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if o.LabelSelector != "eventing.leat.dev/recorded=true" {
		return nil, fmt.Errorf("selector %q", o.LabelSelector)
	}
	list := &unstructured.UnstructuredList{}
	for _, u := range a.objects {
		list.Items = append(list.Items, *u)
	}
	return list, nil
}

func (a *fakeAPI) Create(_ context.Context, u *unstructured.Unstructured, _ metav1.CreateOptions, _ ...string) (*unstructured.Unstructured, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.creates++
	if a.fail != nil {
		if err := a.fail(); err != nil {
			return nil, err
		}
	}
	if errs := admission.New(admission.Options{}).Validate(u, nil); len(errs) > 0 {
		return nil, apierrors.NewInvalid(u.GroupVersionKind().GroupKind(), u.GetName(), errs)
	}
	if a.objects[u.GetName()] != nil {
		return nil, apierrors.NewAlreadyExists(schema.GroupResource{Resource: "eventtypes"}, u.GetName())
	}
	a.objects[u.GetName()] = u
	return u, nil
}

// types are what is recorded, as BROKER TYPE SOURCE.
func (a *fakeAPI) types() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []string
	for _, u := range a.objects {
		line, _, _ := unstructured.NestedString(u.Object, "spec", "reference", "name")
		all, _, _ := unstructured.NestedSlice(u.Object, "spec", "attributes")
		for _, v := range all[:2] {
			line += fmt.Sprintf(" %v", v.(map[string]any)["value"])
		}
		out = append(out, line)
	}
	slices.Sort(out)
	return out
}

// run runs a recorder on an API for as long as do takes, and until all that it
// was told is done.
func run(t *testing.T, a *fakeAPI, o Options, do func(*Recorder)) {
	t.Helper()
	r := New(o)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := r.Run(ctx, a); err != nil {
			t.Error(err)
		}
	}()
	do(r)
	time.Sleep(time.Hour) // of the bubble
	cancel()
	<-done
}

func newAPI() *fakeAPI { return &fakeAPI{objects: map[string]*unstructured.Unstructured{}} }

func id(name string) channel.ID {
	return channel.ID{Kind: "Broker", Namespace: "default", Name: name, UID: "uid-" + name}
}

func of(eventType, source string) *event.Event {
	return &event.Event{ID: "1", Type: eventType, Source: source}
}

func equal(t *testing.T, got, want any) {
	t.Helper()
	if g, w := fmt.Sprint(got), fmt.Sprint(want); g != w {
		t.Errorf("got %s, want %s", g, w)
	}
}

func TestEachTypeIsRecordedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI()
		for range 2 { // and a restart adds nothing
			run(t, a, Options{}, func(r *Recorder) {
				for range 100 {
					r.Observe(id("b"), []*event.Event{of("x", "/s"), of("y", "/s"), of("x", "/other")})
					r.Observe(id("c"), []*event.Event{of("x", "/s")})
				}
				r.Observe(channel.ID{Kind: "Channel", Namespace: "default", Name: "ch", UID: "u"}, []*event.Event{of("x", "/s")})
			})
			equal(t, a.types(), "[b x /other b x /s b y /s c x /s]")
		}
		equal(t, a.creates, 8)
	})
}

func TestARecordedType(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI()
		e := of("order.placed", "/orders")
		e.DataSchema = "http://example.com/schema"
		run(t, a, Options{}, func(r *Recorder) { r.Observe(id("b"), []*event.Event{e}) })
		for name, u := range a.objects {
			if errs := validation.IsDNS1123Subdomain(name); len(errs) > 0 {
				t.Errorf("name %s: %v", name, errs)
			}
			equal(t, name, Name("b", "order.placed", "/orders"))
			got, err := yaml.Marshal(u.Object)
			if err != nil {
				t.Fatal(err)
			}
			want := strings.ReplaceAll(`apiVersion: eventing.knative.dev/v1beta3
kind: EventType
metadata:
  labels:
    eventing.knative.dev/broker: b
    eventing.leat.dev/recorded: "true"
  name: NAME
  namespace: default
  ownerReferences:
  - apiVersion: eventing.knative.dev/v1
    kind: Broker
    name: b
    uid: uid-b
spec:
  attributes:
  - name: type
    required: true
    value: order.placed
  - name: source
    required: true
    value: /orders
  - name: specversion
    required: true
    value: "1.0"
  - name: id
    required: true
  - name: dataschema
    required: false
    value: http://example.com/schema
  description: recorded from events
  reference:
    apiVersion: eventing.knative.dev/v1
    kind: Broker
    name: b
    namespace: default
`, "NAME", name)
			equal(t, string(got), want)
		}
		equal(t, len(a.objects), 1)
	})
}

// TestBounds: types of one broker over all lives, the queue, and what is too
// long to be a type.
func TestBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI()
		for life := range 3 {
			run(t, a, Options{MaxPerBroker: 5, MaxBrokers: 1}, func(r *Recorder) {
				for i := range 50 {
					r.Observe(id("b"), []*event.Event{of(fmt.Sprintf("t%d-%d", life, i), "/s")})
				}
				r.Observe(id("c"), []*event.Event{of("x", "/s"), of(strings.Repeat("x", 2000), "/s"), of("", "/s"), of("x", strings.Repeat("x", 2000))})
			})
		}
		equal(t, a.types(), "[b t0-0 /s b t0-1 /s b t0-2 /s b t0-3 /s b t0-4 /s c x /s]")
		r := New(Options{Queue: 2})
		for i := range 50 { // nobody takes them, and nobody waits
			r.Observe(id("b"), []*event.Event{of(fmt.Sprint(i), "/s")})
		}
		equal(t, len(r.queue), 2)
		equal(t, len(r.seen["uid-b"]), 2)
	})
}

func TestRateIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI()
		began := time.Now()
		var took time.Duration
		a.fail = func() error { took = time.Since(began); return nil }
		run(t, a, Options{Rate: 2}, func(r *Recorder) {
			for i := range 22 {
				r.Observe(id("b"), []*event.Event{of(fmt.Sprint(i), "/s")})
			}
		})
		equal(t, len(a.objects), 22)
		equal(t, took, 10*time.Second)
	})
}

// TestWhatFailsIsTriedAgain with the next event of the type; what can never be
// written is not.
func TestWhatFailsIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI()
		fail := true
		a.fail = func() error {
			if fail {
				return errors.New("not now")
			}
			return nil
		}
		var said strings.Builder
		run(t, a, Options{Logger: slog.New(slog.NewTextHandler(&said, nil))}, func(r *Recorder) {
			observe := func() {
				x := of("x", "/s")
				r.Observe(id("b"), []*event.Event{x, x, x}) // seen, also lately
				time.Sleep(time.Minute)
			}
			observe()
			equal(t, a.types(), "[]")
			a.mu.Lock()
			fail = false
			a.mu.Unlock()
			observe()
			equal(t, a.types(), "[b x /s]")
			for range 5 {
				r.Observe(id("b"), []*event.Event{of("odd", "http://[no-uri")})
				time.Sleep(time.Minute)
			}
		})
		equal(t, a.creates, 3)
		if !strings.Contains(said.String(), "not now") {
			t.Errorf("said: %s", said.String())
		}
	})
}

func TestNames(t *testing.T) {
	seen := map[string]bool{}
	for _, k := range [][3]string{{"b", "x", "y"}, {"b", "xy", ""}, {"b", "", "xy"}, {"bx", "y", ""}, {strings.Repeat("a.", 126) + "a", "x", "y"}} {
		n := Name(k[0], k[1], k[2])
		if errs := validation.IsDNS1123Subdomain(n); len(errs) > 0 || seen[n] {
			t.Errorf("%v: %s %v", k, n, errs)
		}
		seen[n] = true
	}
}

// BenchmarkObserve is what the ingress pays for a type that is known.
func BenchmarkObserve(b *testing.B) {
	r := New(Options{})
	to, events := id("b"), []*event.Event{of("order.placed", "/orders")}
	r.Observe(to, events)
	b.ReportAllocs()
	for b.Loop() {
		r.Observe(to, events)
	}
}
