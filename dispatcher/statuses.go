package dispatcher

import (
	"cmp"
	"slices"
)

// SubscriptionStatus is how one subscription is doing, with what it is.
type SubscriptionStatus struct {
	// Target is the spec that holds now. It must not be modified.
	Target *Target
	Status
	// PerSecond is how many events were delivered a second, over the last minute.
	PerSecond float64
	// Partitions are those in which the channel has it.
	Partitions []PartitionStatus
}

// PartitionStatus is how a subscription is doing in one partition.
type PartitionStatus struct {
	Number int
	// Next: Lag offsets from here on have not been looked at.
	Next, Lag uint64
	// Open is the log time of the oldest event that is not done, in
	// microseconds; 0: none is open.
	Open int64
}

// Statuses are those of all subscriptions that have a target, by namespace,
// channel and name.
func (d *Dispatcher) Statuses() []SubscriptionStatus {
	d.mu.Lock()
	targets := make([]*target, 0, len(d.targets))
	for _, tg := range d.targets {
		targets = append(targets, tg)
	}
	d.mu.Unlock()
	all := make([]SubscriptionStatus, 0, len(targets))
	for _, tg := range targets {
		t := tg.get()
		if t == nil {
			continue
		}
		st := SubscriptionStatus{Target: t, PerSecond: tg.meter.perSecond(d.now())}
		tg.mu.Lock()
		subs := slices.Clone(tg.subs)
		tg.mu.Unlock()
		for _, s := range subs {
			s.addTo(&st.Status, len(subs) > 1)
			st.Partitions = append(st.Partitions, s.partitionStatus())
		}
		if len(subs) == 0 {
			st.Paused, st.Reason, st.Message = true, ReasonUnknown, "the log has not been told of it yet"
		}
		slices.SortFunc(st.Partitions, func(a, b PartitionStatus) int { return cmp.Compare(a.Number, b.Number) })
		all = append(all, st)
	}
	slices.SortFunc(all, func(a, b SubscriptionStatus) int {
		return cmp.Or(cmp.Compare(a.Target.Namespace, b.Target.Namespace), cmp.Compare(a.Target.Kind, b.Target.Kind),
			cmp.Compare(a.Target.Channel, b.Target.Channel), cmp.Compare(a.Target.Name, b.Target.Name))
	})
	return all
}

// ReasonUnknown: the channel does not have the subscription yet.
const ReasonUnknown = "Unknown"

func (s *sub) partitionStatus() PartitionStatus {
	_, end := s.r.p.Bounds()
	st := PartitionStatus{Number: s.r.p.Number(), Next: s.r.horizon.Load()}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.behind {
		st.Next = s.next
	}
	if end > st.Next {
		st.Lag = end - st.Next
	}
	if s.w.head != nil {
		st.Open = s.w.head.time
	}
	return st
}
