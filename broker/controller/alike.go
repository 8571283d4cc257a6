package controller

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	duckv1 "github.com/leat-dev/leat/api/duck/v1"
	eventingv1 "github.com/leat-dev/leat/api/eventing/v1"
	messagingv1 "github.com/leat-dev/leat/api/messaging/v1"
)

// What of the latest texts and conditions are kept to be shared: a text that is
// long is rarely twice there, and to forget all when there are many costs no
// more than a copy of each.
const (
	alikeTexts      = 1024
	alikeLength     = 256
	alikeConditions = 256
	alikePairs      = 256
	alikePairsEach  = 8
)

// alike has Triggers and Subscriptions share what is the same in many of them:
// the names of types and conditions, the namespace, the Broker, addresses, labels
// and annotations, and the conditions of those that became ready in the same second. They must not be
// modified then, as nothing in the caches is. It may be used from many
// goroutines at once.
type alike struct {
	mu    sync.Mutex
	texts map[string]string
	// conditions are the latest, by their number and the time of the first.
	conditions map[moment][]duckv1.Condition
	// pairs are the latest labels and annotations, by all that is in them.
	pairs map[string]map[string]string
}

type moment struct {
	unix int64
	n    int
}

func newAlike() *alike {
	return &alike{texts: map[string]string{}, conditions: map[moment][]duckv1.Condition{}, pairs: map[string]map[string]string{}}
}

// share replaces what is the same in others.
func (a *alike) share(obj any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch o := obj.(type) {
	case *eventingv1.Trigger:
		a.text(&o.Kind, &o.APIVersion, &o.Namespace, &o.Spec.Broker, &o.Status.SubscriberURI, &o.Status.DeadLetterSinkURI)
		a.destination(&o.Spec.Subscriber)
		o.Labels, o.Annotations = a.same(o.Labels), a.same(o.Annotations)
		a.status(&o.Status.Status)
	case *messagingv1.Subscription:
		to := &o.Status.PhysicalSubscription
		a.text(&o.Kind, &o.APIVersion, &o.Namespace, &to.SubscriberURI, &to.ReplyURI, &to.DeadLetterSinkURI)
		a.text(&o.Spec.Channel.Kind, &o.Spec.Channel.APIVersion, &o.Spec.Channel.Name)
		if o.Spec.Subscriber != nil {
			a.destination(o.Spec.Subscriber)
		}
		o.Labels, o.Annotations = a.same(o.Labels), a.same(o.Annotations)
		a.status(&o.Status.Status)
	}
}

func (a *alike) destination(d *duckv1.Destination) {
	a.text(&d.URI)
	if r := d.Ref; r != nil {
		a.text(&r.Kind, &r.APIVersion, &r.Namespace, &r.Name)
	}
}

func (a *alike) status(s *duckv1.Status) {
	if len(s.Conditions) == 0 {
		return
	}
	at := moment{s.Conditions[0].LastTransitionTime.Unix(), len(s.Conditions)}
	if known := a.conditions[at]; slices.Equal(known, s.Conditions) {
		s.Conditions = known
		return
	}
	for i := range s.Conditions {
		c := &s.Conditions[i]
		status := string(c.Status)
		a.text(&c.Type, &status, &c.Severity, &c.Reason, &c.Message)
		c.Status = metav1.ConditionStatus(status)
	}
	if len(a.conditions) >= alikeConditions {
		clear(a.conditions)
	}
	a.conditions[at] = s.Conditions
}

// same is a map that holds what this one does, of several the first.
func (a *alike) same(m map[string]string) map[string]string {
	if len(m) == 0 || len(m) > alikePairsEach {
		return m
	}
	var form []byte
	for _, name := range slices.Sorted(maps.Keys(m)) {
		if len(name)+len(m[name]) > alikeLength {
			return m
		}
		form = strconv.AppendQuote(strconv.AppendQuote(form, name), m[name])
	}
	if known, ok := a.pairs[string(form)]; ok {
		return known
	}
	if len(a.pairs) >= alikePairs {
		clear(a.pairs)
	}
	a.pairs[string(form)] = m
	return m
}

func (a *alike) text(all ...*string) {
	for _, s := range all {
		if *s == "" || len(*s) > alikeLength {
			continue
		}
		known, ok := a.texts[*s]
		if !ok {
			if len(a.texts) >= alikeTexts {
				clear(a.texts)
			}
			known = strings.Clone(*s)
			a.texts[known] = known
		}
		*s = known
	}
}
