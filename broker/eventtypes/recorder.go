// Package eventtypes records the types of the events that flow through brokers
// as EventTypes, so that what is to be had from a broker can be listed.
package eventtypes

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/dynamic"

	"github.com/leat-dev/leat/api/event"
	"github.com/leat-dev/leat/api/eventing/conversion"
	eventingv1 "github.com/leat-dev/leat/api/eventing/v1"
	"github.com/leat-dev/leat/api/eventing/v1beta2"
	"github.com/leat-dev/leat/api/eventing/v1beta3"
	"github.com/leat-dev/leat/channel"
)

// Options are the settings of a Recorder; zero values take the defaults.
type Options struct {
	// MaxPerBroker is how many types are recorded of one broker; further ones
	// are not (200).
	MaxPerBroker int
	// Rate is how many are recorded in a second (10); more wait.
	Rate float64
	// Queue is how many wait; a type for which there is no room is recorded when
	// it is seen again (1,000).
	Queue int
	// MaxBrokers bounds the brokers of which is known what was recorded (10,000).
	MaxBrokers int
	// MaxText is the longest type, source or schema that is recorded, in bytes
	// (1 KiB).
	MaxText int
	// Backoff is the wait after the API failed (1 s).
	Backoff time.Duration
	Logger  *slog.Logger
}

func (o Options) withDefaults() Options {
	def(&o.MaxPerBroker, 200)
	def(&o.Rate, 10)
	def(&o.Queue, 1000)
	def(&o.MaxBrokers, 10_000)
	def(&o.MaxText, 1<<10)
	def(&o.Backoff, time.Second)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

func def[T int | float64 | time.Duration](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}

// kind is what a type is recorded by.
type kind struct{ eventType, source string }

// sighting is a type that is to be recorded.
type sighting struct {
	broker channel.ID
	kind
	schema string
}

// seenKind is a type that is recorded of a broker, or will be.
type seenKind struct {
	broker string // its UID
	kind
}

// recents is how many types at most are found without a look at seen.
const recents = 256

// Recorder records types. Observe may be called from many goroutines at once.
type Recorder struct {
	o     Options
	queue chan sighting

	seed maphash.Seed
	// recent are some of seen, by their hash: most events are of a type that was
	// seen a moment ago. They are filled with mu held, be it to read.
	recent [recents]atomic.Pointer[seenKind]

	mu   sync.RWMutex
	seen map[string]map[kind]*seenKind // by the broker's UID

	// recorded are the names of what is recorded, also in earlier lives, by the
	// broker's UID. Run's alone.
	recorded map[string]map[string]bool
}

// New makes a Recorder; Run does what it is told.
func New(o Options) *Recorder {
	o = o.withDefaults()
	return &Recorder{o: o, queue: make(chan sighting, o.Queue), seed: maphash.MakeSeed(), seen: map[string]map[kind]*seenKind{}, recorded: map[string]map[string]bool{}}
}

// Observe is told of events that a broker has accepted. It does not wait, and
// keeps nothing of them.
func (r *Recorder) Observe(id channel.ID, events []*event.Event) {
	if r.Knows(id, events) {
		return
	}
	for _, e := range events {
		if !r.known(id.UID, kind{e.Type, e.Source}) {
			r.note(id, e)
		}
	}
}

// Knows says whether all of these events are of types that are recorded, or will
// be.
func (r *Recorder) Knows(id channel.ID, events []*event.Event) bool {
	if id.Kind != "Broker" {
		return true
	}
	for _, e := range events {
		if !r.known(id.UID, kind{e.Type, e.Source}) {
			return false
		}
	}
	return true
}

func (r *Recorder) known(uid string, k kind) bool {
	at := &r.recent[(maphash.String(r.seed, k.eventType)+uint64(len(k.source)))%recents]
	if n := at.Load(); n != nil && n.kind == k && n.broker == uid {
		return true
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	seen := r.seen[uid]
	if n := seen[k]; n != nil {
		at.Store(n)
		return true
	}
	return len(seen) >= r.o.MaxPerBroker
}

// note has a type recorded, if there is room.
func (r *Recorder) note(id channel.ID, e *event.Event) {
	if e.Type == "" || len(e.Type) > r.o.MaxText || len(e.Source) > r.o.MaxText {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	seen := r.seen[id.UID]
	if seen == nil {
		if len(r.seen) >= r.o.MaxBrokers {
			clear(r.seen) // what is recorded already will be found so
			r.forgetRecent()
		}
		seen = map[kind]*seenKind{}
		r.seen[id.UID] = seen
	}
	// The event's memory is used again.
	s := sighting{broker: id, kind: kind{strings.Clone(e.Type), strings.Clone(e.Source)}}
	if len(e.DataSchema) <= r.o.MaxText {
		s.schema = strings.Clone(e.DataSchema)
	}
	if seen[s.kind] != nil || len(seen) >= r.o.MaxPerBroker {
		return
	}
	select {
	case r.queue <- s:
		seen[s.kind] = &seenKind{id.UID, s.kind}
	default:
	}
}

// Run records until ctx ends.
func (r *Recorder) Run(ctx context.Context, client dynamic.Interface) error {
	limit := rate.NewLimiter(rate.Limit(r.o.Rate), max(int(r.o.Rate), 1))
	for {
		select {
		case <-ctx.Done():
			return nil
		case s := <-r.queue:
			if err := limit.Wait(ctx); err != nil {
				return nil //nolint:nilerr // ctx has ended
			}
			err := r.record(ctx, client, s)
			if err == nil || ctx.Err() != nil {
				continue
			}
			r.forget(s)
			r.o.Logger.Warn("an EventType could not be recorded; it is tried again with the next event of its type", "broker", s.broker.Namespace+"/"+s.broker.Name, "type", s.eventType, "error", err)
			t := time.NewTimer(r.o.Backoff)
			select {
			case <-t.C:
			case <-ctx.Done():
				t.Stop()
			}
		}
	}
}

// forget has a type recorded when it is seen again.
func (r *Recorder) forget(s sighting) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.seen[s.broker.UID], s.kind)
	r.forgetRecent()
}

// forgetRecent is for when less is seen than was; mu is held.
func (r *Recorder) forgetRecent() {
	for i := range r.recent {
		r.recent[i].Store(nil)
	}
}

var errFull = errors.New("as many types are recorded as may be")

// record makes the EventType, unless it is there.
func (r *Recorder) record(ctx context.Context, client dynamic.Interface, s sighting) error {
	resource := client.Resource(v1beta3.GroupVersion().WithResource("eventtypes")).Namespace(s.broker.Namespace)
	name := Name(s.broker.Name, s.eventType, s.source)
	if err := r.room(ctx, resource, s, name); err != nil {
		if errors.Is(err, errFull) {
			return nil
		}
		return err
	}
	u, err := eventType(s, name)
	if err != nil {
		return err
	}
	_, err = resource.Create(ctx, u, metav1.CreateOptions{FieldManager: "leat-recorder"})
	switch {
	case apierrors.IsAlreadyExists(err):
		return nil
	case apierrors.IsNotFound(err), apierrors.IsInvalid(err), apierrors.IsForbidden(err):
		// The namespace goes, or the type is none that can be written: no use in
		// trying again.
		r.o.Logger.Debug("an EventType is not recorded", "name", name, "error", err)
		return nil
	case err != nil:
		return fmt.Errorf("record EventType %s/%s: %w", s.broker.Namespace, name, err)
	}
	return nil
}

// room says whether one more may be recorded of the broker, and counts it.
func (r *Recorder) room(ctx context.Context, resource dynamic.ResourceInterface, s sighting, name string) error {
	recorded := r.recorded[s.broker.UID]
	if recorded == nil {
		list, err := resource.List(ctx, metav1.ListOptions{LabelSelector: v1beta3.RecordedLabel + "=true"})
		if err != nil {
			return fmt.Errorf("list the EventTypes of broker %s/%s: %w", s.broker.Namespace, s.broker.Name, err)
		}
		recorded = map[string]bool{}
		for i := range list.Items {
			of, _, _ := unstructured.NestedString(list.Items[i].Object, "spec", "reference", "name")
			if of == s.broker.Name {
				recorded[list.Items[i].GetName()] = true
			}
		}
		if len(r.recorded) >= r.o.MaxBrokers {
			clear(r.recorded) // it is listed again
		}
		r.recorded[s.broker.UID] = recorded
	}
	if recorded[name] {
		return nil
	}
	if len(recorded) >= r.o.MaxPerBroker {
		return errFull
	}
	recorded[name] = true
	return nil
}

// Name is that of the EventType of a broker's events of a type and source.
func Name(broker, eventType, source string) string {
	h := sha256.New()
	for _, part := range []string{broker, eventType, source} {
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	const sum = 32
	return "et-" + strings.TrimRight(broker[:min(len(broker), 253-len("et--")-sum)], ".-") + "-" + hex.EncodeToString(h.Sum(nil))[:sum]
}

// eventType is the EventType of a sighting.
func eventType(s sighting, name string) (*unstructured.Unstructured, error) {
	older := &v1beta2.EventType{Spec: v1beta2.EventTypeSpec{
		Type: s.eventType, Source: s.source, Schema: s.schema, Broker: s.broker.Name, Description: "recorded from events",
	}}
	older.Namespace = s.broker.Namespace
	t := conversion.Newer(older)
	t.Name = name
	t.Labels = map[string]string{v1beta3.RecordedLabel: "true"}
	if len(validation.IsValidLabelValue(s.broker.Name)) == 0 {
		t.Labels[eventingv1.BrokerLabel] = s.broker.Name
	}
	t.OwnerReferences = []metav1.OwnerReference{{
		APIVersion: eventingv1.GroupVersion().String(), Kind: "Broker", Name: s.broker.Name, UID: types.UID(s.broker.UID),
	}}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(t)
	if err != nil {
		return nil, fmt.Errorf("record EventType %s/%s: %w", s.broker.Namespace, name, err)
	}
	delete(content, "status")
	return &unstructured.Unstructured{Object: content}, nil
}
