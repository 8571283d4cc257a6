package system

import (
	"maps"
	"reflect"
	"slices"
	"time"

	eventingv1 "github.com/leat-dev/leat/api/eventing/v1"
	"github.com/leat-dev/leat/raftlog/kv"
)

// The system broker as a resource.
const (
	Namespace = "leat-system"
	Name      = "default"
)

// IsBroker says whether a broker is the system broker.
func IsBroker(namespace, name string) bool { return namespace == Namespace && name == Name }

// pace keeps the system broker from feeding itself: an event that changes the
// status of a Trigger on it would be the cause of the next event. Of the
// updates that change nothing but the status of its own objects, a burst and
// then one in an interval of log time appears for each object; a gap names the
// others.
type pace struct {
	interval time.Duration
	burst    int
	limit    int // objects remembered
	// paid is, by key, the log time up to which the object's updates have used
	// up its share.
	paid     map[string]int64
	withheld []uint64
}

// withholds says whether a write does not appear, and notes that.
func (p *pace) withholds(e *kv.Event, w *write) bool {
	if w.text == nil || e.Deleted || e.PrevRev == 0 || !w.ofSystemBroker() {
		return false
	}
	if before, err := w.before(); err != nil || !onlyStatus(before, w.stored) {
		return false
	}
	interval := p.interval.Microseconds()
	paid, ok := p.paid[e.Key]
	if paid = max(paid, e.Time); paid-e.Time > int64(p.burst-1)*interval || !ok && !p.room(e.Time) {
		p.withheld = append(p.withheld, e.Rev)
		return true
	}
	p.paid[e.Key] = paid + interval
	return false
}

// room makes room for one more object.
func (p *pace) room(now int64) bool {
	if p.paid == nil {
		p.paid = map[string]int64{}
	}
	if len(p.paid) >= p.limit {
		maps.DeleteFunc(p.paid, func(_ string, until int64) bool { return until <= now })
	}
	return len(p.paid) < p.limit
}

// ofSystemBroker says whether the object is the system broker, or belongs to it.
func (w *write) ofSystemBroker() bool {
	if w.group != eventingv1.GroupName {
		return false
	}
	named := func(field string) bool {
		namespace := w.text("spec", field, "namespace")
		if namespace == "" {
			namespace = w.namespace
		}
		return IsBroker(namespace, w.text("spec", field, "name"))
	}
	switch w.plural {
	case "brokers":
		return IsBroker(w.namespace, w.name)
	case "triggers":
		return named("brokerRef") || IsBroker(w.namespace, w.text("spec", "broker"))
	case "eventtypes":
		return w.text("spec", "reference", "kind") == "Broker" && named("reference")
	}
	return false
}

// onlyStatus says whether an object differs from what it was in its status and
// in who wrote it only.
func onlyStatus(before, after []byte) bool {
	was, err := decodeObject(before)
	if err != nil {
		return false
	}
	is, err := decodeObject(after)
	if err != nil {
		return false
	}
	for _, o := range []object{was, is} {
		delete(o, "status")
		if m := o.metadata(); m != nil {
			delete(m, "managedFields")
			delete(m, "resourceVersion")
		}
	}
	return reflect.DeepEqual(was, is)
}

// take gives the gap of what has been withheld; false where nothing was.
func (p *pace) take() (Gap, bool) {
	if len(p.withheld) == 0 {
		return Gap{}, false
	}
	g := Gap{
		From: p.withheld[0], To: p.withheld[len(p.withheld)-1], Revisions: slices.Clone(p.withheld), Reason: ReasonStatusRate,
		Message: "updates of the status of the system broker's own objects that came faster than it takes them; the object's latest state is in the API",
	}
	p.withheld = p.withheld[:0]
	return g, true
}
