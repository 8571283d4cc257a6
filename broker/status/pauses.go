package status

import (
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	duckv1 "github.com/leat-dev/leat/api/duck/v1"
	"github.com/leat-dev/leat/dispatcher"
)

// ConditionDelivering is of an object whose deliveries have paused; it is there
// only then, and does not count for Ready.
const ConditionDelivering = "Delivering"

// Pauses are the subscriptions that have paused, as last seen. One that pauses
// and goes on all the time is not reported: it has to be seen twice. K names
// the object whose status tells of it.
type Pauses[K comparable] struct {
	mu    sync.Mutex
	known map[string]pause
}

type pause struct {
	reason, message string
	seen            int
}

// reported says whether a pause is shown.
func (p pause) reported() bool { return p.seen >= 2 }

// Look looks at the subscriptions that have paused, by UID, and gives the objects
// whose status has to be written again. Owner is the object of a subscription; not
// ok where it is none of these.
func (p *Pauses[K]) Look(paused map[string]dispatcher.Status, owner func(uid string) (k K, ok bool)) []K {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.known == nil {
		p.known = map[string]pause{}
	}
	var changed []K
	for uid, was := range p.known {
		k, ok := owner(uid)
		if s := paused[uid]; ok && s.Paused && s.Reason != dispatcher.ReasonUnresolved {
			continue
		}
		delete(p.known, uid)
		if ok && was.reported() {
			changed = append(changed, k)
		}
	}
	for uid, s := range paused {
		if !s.Paused || s.Reason == dispatcher.ReasonUnresolved {
			continue
		}
		k, ok := owner(uid)
		if !ok {
			continue
		}
		was := p.known[uid]
		is := pause{reason: s.Reason, message: s.Message, seen: was.seen + 1}
		p.known[uid] = is
		if is.reported() && (!was.reported() || was.reason != is.reason) {
			changed = append(changed, k)
		}
	}
	return changed
}

// Tell adds the condition of a subscription that has paused.
func (p *Pauses[K]) Tell(conds *Conditions, uid string) {
	p.mu.Lock()
	is := p.known[uid]
	p.mu.Unlock()
	if is.reported() {
		conds.Add(ConditionDelivering, metav1.ConditionFalse, is.reason, is.message)
		(*conds)[len(*conds)-1].Severity = duckv1.SeverityWarning
	}
}
