package operations

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/leat-dev/leat/dispatcher"
)

// Ready is what a resource's own condition says.
type Ready struct {
	Status  string `json:"status"` // True, False or Unknown
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
}

// Resource is a Broker, channel, Trigger or Subscription as it was asked for,
// whether or not there is a log for it.
type Resource struct {
	UID, Kind, Namespace, Name string
	// Of is what a Trigger or Subscription is of, its kind Broker or Channel.
	Of    Name
	Ready Ready
}

// Name names a log: the kind of its owner is Broker or Channel.
type Name struct{ Kind, Namespace, Name string }

// resources are those that were asked for, as one look needs them.
type resources struct {
	byUID map[string]Resource
	// owners are the Brokers and channels, members the Triggers and
	// Subscriptions by what they are of; in order.
	owners  []Resource
	members map[Name][]Resource
}

func (h *handler) declared() *resources {
	r := &resources{byUID: map[string]Resource{}, members: map[Name][]Resource{}}
	if h.Resources == nil {
		return r
	}
	for _, one := range h.Resources() {
		r.byUID[one.UID] = one
		if one.Of == (Name{}) {
			r.owners = append(r.owners, one)
		} else {
			r.members[one.Of] = append(r.members[one.Of], one)
		}
	}
	slices.SortFunc(r.owners, byName)
	for _, of := range r.members {
		slices.SortFunc(of, byName)
	}
	return r
}

func byName(a, b Resource) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
}

// ready is what is known of a resource by its UID.
func (r *resources) ready(uid string) Ready {
	if one, ok := r.byUID[uid]; ok {
		return one.Ready
	}
	return Ready{Status: "Unknown"}
}

// of says what a subscription is of. Its resource knows it; one that is gone
// already is of its own namespace.
func (r *resources) of(t *dispatcher.Target) Name {
	if one, ok := r.byUID[t.UID]; ok {
		return one.Of
	}
	kind := "Channel"
	if t.Kind == "Trigger" {
		kind = "Broker"
	}
	return Name{kind, t.Namespace, t.Channel}
}

// logName names the log that a Broker or channel has.
func (r Resource) logName() Name {
	kind := "Channel"
	if r.Kind == "Broker" {
		kind = r.Kind
	}
	return Name{kind, r.Namespace, r.Name}
}

// without are the Brokers and channels that have no log, and those that are
// not there although Triggers and Subscriptions are of them.
func (r *resources) without(logs map[string]bool) []ChannelStatus {
	var all []ChannelStatus
	there := map[Name]bool{}
	for _, one := range r.owners {
		there[one.logName()] = true
		if !logs[one.UID] {
			all = append(all, ChannelStatus{Kind: one.Kind, Namespace: one.Namespace, Name: one.Name, Ready: one.Ready})
		}
	}
	for of := range r.members {
		if !there[of] {
			all = append(all, ChannelStatus{Kind: of.Kind, Namespace: of.Namespace, Name: of.Name, Ready: Ready{
				Status: "False", Reason: "NotFound", Message: fmt.Sprintf("there is no %s %s/%s", of.Kind, of.Namespace, of.Name),
			}})
		}
	}
	slices.SortStableFunc(all, func(a, b ChannelStatus) int {
		return byName(Resource{Namespace: a.Namespace, Kind: a.Kind, Name: a.Name}, Resource{Namespace: b.Namespace, Kind: b.Kind, Name: b.Name})
	})
	return all
}

// untold are the members of a log that the dispatcher does not tell of.
func (r *resources) untold(of Name, told []dispatcher.SubscriptionStatus) []SubscriptionStatus {
	known := make(map[string]bool, len(told))
	for _, s := range told {
		known[s.Target.UID] = true
	}
	var all []SubscriptionStatus
	for _, one := range r.members[of] {
		if !known[one.UID] {
			all = append(all, SubscriptionStatus{Kind: one.Kind, Namespace: one.Namespace, Name: one.Name, Ready: one.Ready})
		}
	}
	return all
}
