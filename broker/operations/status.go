package operations

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/leat-dev/leat/channel"
	"github.com/leat-dev/leat/dispatcher"
)

// Inventory lists the channels and what they have on disk.
type Inventory interface {
	List() []channel.Channel
	Usages() map[string]channel.Usage
}

// Subscriptions tells how the subscriptions are doing.
type Subscriptions interface {
	Statuses() []dispatcher.SubscriptionStatus
}

// Version is what runs.
type Version struct {
	Version    string `json:"version"`
	Go         string `json:"go"`
	Platform   string `json:"platform"`
	Kubernetes string `json:"kubernetes"` // whose API is served
	Node       string `json:"node"`
}

// Disk is the space that the log takes and has.
type Disk struct {
	// LogBytes is the size of the log's files, LimitBytes what the event log
	// may have, 0 where there is no bound.
	LogBytes   uint64 `json:"logBytes"`
	LimitBytes uint64 `json:"limitBytes"`
	// FreeBytes is left on the file system; below FloorBytes events are refused.
	FreeBytes  uint64 `json:"freeBytes"`
	FloorBytes uint64 `json:"floorBytes"`
	// StalledSeconds is how long the disk has not answered, where that is too
	// long; else 0. Events are refused meanwhile.
	StalledSeconds float64 `json:"stalledSeconds"`
}

// Status is how a server is doing.
type Status struct {
	Version  Version         `json:"version"`
	Time     time.Time       `json:"time"`
	Disk     Disk            `json:"disk"`
	Channels []ChannelStatus `json:"channels"`
}

// ChannelStatus is how a broker or channel is doing.
type ChannelStatus struct {
	Kind       string `json:"kind"` // Broker or Channel; an InMemoryChannel where it has no log
	Namespace  string `json:"namespace"`
	Name       string `json:"name"`
	Ready      Ready  `json:"ready"`
	Partitions int    `json:"partitions"` // 0: there is no log
	// Events are kept, the oldest of them since Oldest.
	Events uint64    `json:"events"`
	Bytes  uint64    `json:"bytes"`
	Oldest time.Time `json:"oldest,omitzero"`
	// EventsPerSecond came in, over the last minute.
	EventsPerSecond float64              `json:"eventsPerSecond"`
	DeadLetterBytes uint64               `json:"deadLetterBytes"`
	Subscriptions   []SubscriptionStatus `json:"subscriptions"`
}

// SubscriptionStatus is how a Trigger or Subscription is doing.
type SubscriptionStatus struct {
	Kind      string `json:"kind"` // Trigger or Subscription
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Ready     Ready  `json:"ready"`
	// Lag is how many events have not been looked at, LagSeconds the age of the
	// oldest event that is not done, whether looked at or not.
	Lag        uint64  `json:"lag"`
	LagSeconds float64 `json:"lagSeconds"`
	// InFlight requests are out, Waiting events wait for their next attempt, and
	// Blocked ones behind another of their key.
	InFlight int `json:"inFlight"`
	Waiting  int `json:"waiting"`
	Blocked  int `json:"blocked"`
	// DeadLetters are kept.
	DeadLetters uint64 `json:"deadLetters"`
	// DeliveredPerSecond were accepted by the subscriber, over the last minute.
	DeliveredPerSecond float64   `json:"deliveredPerSecond"`
	Paused             bool      `json:"paused"`
	Reason             string    `json:"reason,omitempty"`
	Message            string    `json:"message,omitempty"`
	LastError          string    `json:"lastError,omitempty"`
	LastErrorAt        time.Time `json:"lastErrorAt,omitzero"`
	LastSuccessAt      time.Time `json:"lastSuccessAt,omitzero"`
}

func (h *handler) version(w http.ResponseWriter, _ *http.Request) { answer(w, h.Version) }

func (h *handler) status(w http.ResponseWriter, r *http.Request, kind string) {
	namespace, name := r.PathValue("namespace"), r.PathValue("name")
	disk, err := h.Disk()
	if err != nil {
		refuse(w, http.StatusInternalServerError, "", "the space on disk cannot be read: "+err.Error())
		return
	}
	s := Status{Version: h.Version, Time: h.Now().UTC(), Disk: disk, Channels: []ChannelStatus{}}
	look := &survey{ctx: r.Context(), now: h.Now(), usages: h.Inventory.Usages(), resources: h.declared(), subscriptions: map[Name][]dispatcher.SubscriptionStatus{}}
	for _, st := range h.Subscriptions.Statuses() {
		of := look.resources.of(st.Target)
		look.subscriptions[of] = append(look.subscriptions[of], st)
	}
	asked := func(n Name) bool {
		return (namespace == "" || n.Namespace == namespace) && (kind == "" || n.Kind == kind && n.Name == name)
	}
	s.Channels = look.channels(h.Inventory.List(), asked)
	if kind != "" && len(s.Channels) == 0 {
		refuse(w, http.StatusNotFound, "name", fmt.Sprintf("%s %s/%s is not there, or not ready yet", kind, namespace, name))
		return
	}
	answer(w, s)
}

// channels are those with a log, then those without.
func (v *survey) channels(logs []channel.Channel, asked func(Name) bool) []ChannelStatus {
	all := []ChannelStatus{}
	have := map[string]bool{}
	for _, ch := range logs {
		id := ch.ID()
		have[id.UID] = true
		if asked(Name{id.Kind, id.Namespace, id.Name}) {
			all = append(all, v.channel(ch))
		}
	}
	for _, s := range v.resources.without(have) {
		of := Resource{Kind: s.Kind, Namespace: s.Namespace, Name: s.Name}.logName()
		if asked(of) {
			s.Subscriptions = append([]SubscriptionStatus{}, v.resources.untold(of, nil)...)
			all = append(all, s)
		}
	}
	return all
}

// answer writes a whole. If it fails, the reader has gone.
func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	_ = e.Encode(v)
}

// survey is one look at everything.
type survey struct {
	ctx           context.Context
	now           time.Time
	usages        map[string]channel.Usage
	resources     *resources
	subscriptions map[Name][]dispatcher.SubscriptionStatus
}

// rateSpan is what a channel's rate is taken over.
const rateSpan = time.Minute

func (v *survey) channel(ch channel.Channel) ChannelStatus {
	id, usage := ch.ID(), v.usages[ch.ID().UID]
	s := ChannelStatus{
		Kind: id.Kind, Namespace: id.Namespace, Name: id.Name, Ready: v.resources.ready(id.UID), Partitions: len(ch.Partitions()),
		Bytes: usage.Events, DeadLetterBytes: usage.DeadLetters, Subscriptions: []SubscriptionStatus{},
	}
	times := eventTimes{ctx: v.ctx, known: map[place]time.Time{}}
	var recent uint64
	for _, p := range ch.Partitions() {
		floor, next := p.Bounds()
		s.Events += next - floor
		if at := times.of(p, floor); !at.IsZero() && (s.Oldest.IsZero() || at.Before(s.Oldest)) {
			s.Oldest = at
		}
		if from, err := p.OffsetAt(v.ctx, v.now.Add(-rateSpan)); err == nil && from < next {
			recent += next - from
		}
	}
	s.EventsPerSecond = float64(recent) / rateSpan.Seconds()
	of := Name{id.Kind, id.Namespace, id.Name}
	for _, st := range v.subscriptions[of] {
		s.Subscriptions = append(s.Subscriptions, v.subscription(ch, st, &times))
	}
	s.Subscriptions = append(s.Subscriptions, v.resources.untold(of, v.subscriptions[of])...)
	return s
}

func (v *survey) subscription(ch channel.Channel, st dispatcher.SubscriptionStatus, times *eventTimes) SubscriptionStatus {
	t := st.Target
	s := SubscriptionStatus{
		Kind: t.Kind, Namespace: t.Namespace, Name: t.Name, Ready: v.resources.ready(t.UID), Lag: st.Lag,
		InFlight: st.InFlight, Waiting: st.Waiting, Blocked: st.Blocked, DeliveredPerSecond: st.PerSecond,
		Paused: st.Paused, Reason: st.Reason, Message: st.Message,
		LastError: st.LastError, LastErrorAt: st.LastErrorAt.UTC(), LastSuccessAt: st.LastSuccessAt.UTC(),
	}
	byNumber := map[int]dispatcher.PartitionStatus{}
	for _, p := range st.Partitions {
		byNumber[p.Number] = p
	}
	var oldest time.Time
	for _, p := range ch.Partitions() {
		if h, ok := p.(channel.History); ok {
			floor, next := h.DeadLetterBounds(t.UID)
			s.DeadLetters += next - floor
		}
		mine, ok := byNumber[p.Number()]
		var at time.Time
		switch {
		case ok && mine.Open != 0:
			at = time.UnixMicro(mine.Open)
		case ok && mine.Lag > 0:
			at = times.of(p, mine.Next)
		}
		if !at.IsZero() && (oldest.IsZero() || at.Before(oldest)) {
			oldest = at
		}
	}
	if !oldest.IsZero() {
		s.LagSeconds = max(0, v.now.Sub(oldest).Seconds())
	}
	return s
}

type place struct {
	partition int
	offset    uint64
}

// eventTimes finds when events were accepted. Many subscriptions of a channel
// are at the same place.
type eventTimes struct {
	ctx   context.Context
	known map[place]time.Time
}

// of is the time of an event, or of the first one after it that is kept; zero
// where there is none, or it cannot be read.
func (t *eventTimes) of(p channel.Partition, offset uint64) time.Time {
	floor, next := p.Bounds()
	offset = max(offset, floor)
	if offset >= next {
		return time.Time{}
	}
	at := place{p.Number(), offset}
	if known, ok := t.known[at]; ok {
		return known
	}
	var found time.Time
	if events, err := p.Read(t.ctx, offset, 1, 1); err == nil && len(events) > 0 {
		found = time.UnixMicro(events[0].Time).UTC()
	}
	t.known[at] = found
	return found
}
