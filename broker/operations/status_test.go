package operations

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/leat-dev/leat/api/event"
	"github.com/leat-dev/leat/channel"
	"github.com/leat-dev/leat/dispatcher"
)

var testVersion = Version{Version: "v1", Go: "go1", Platform: "p", Kubernetes: "1.2.3", Node: "n"}

var testDisk = Disk{LogBytes: 100, LimitBytes: 1000, FreeBytes: 5000, FloorBytes: 10, StalledSeconds: 7}

// Statuses implements Subscriptions.
func (w *world) Statuses() []dispatcher.SubscriptionStatus { return w.statuses }

func (w *world) disk() (Disk, error) { return testDisk, w.diskErr }

// object reads an answer that is one object, of a schema.
func (w *world) object(path, schema string, into any) {
	w.Helper()
	res := w.open(w.Context(), path)
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != "application/json" {
		w.Fatalf("%s: %s, %v: %s", path, res.Status, err, body)
	}
	w.schemas.check(w.T, schema, body)
	if err := json.Unmarshal(body, into); err != nil {
		w.Fatal(err)
	}
}

// TestIndex: whoever knows the prefix finds the rest, and nothing is hidden
// behind a path that is not there.
func TestIndex(t *testing.T) {
	w := newWorld(t)
	var i Index
	if w.object("/", "Index", &i); !slices.Contains(i.Paths, "GET /leat/v1/status") || !slices.Contains(i.Paths, "GET /leat/v1/") {
		t.Errorf("%q", i.Paths)
	}
	if res := w.open(t.Context(), "/stauts"); res.StatusCode != http.StatusNotFound {
		t.Errorf("%s", res.Status)
	}
}

func TestVersion(t *testing.T) {
	w := newWorld(t)
	var v Version
	if w.object("/version", "Version", &v); v != testVersion {
		t.Errorf("%+v", v)
	}
}

func TestStatusOfAnEmptyServer(t *testing.T) {
	w := newWorld(t)
	var s Status
	w.object("/status", "Status", &s)
	want := Status{Version: testVersion, Time: epoch, Disk: testDisk, Channels: []ChannelStatus{
		{Kind: "Broker", Namespace: "default", Name: "b", Ready: unknown, Partitions: 1, Subscriptions: []SubscriptionStatus{}},
		{Kind: "Channel", Namespace: "default", Name: "c", Ready: unknown, Partitions: 2, Subscriptions: []SubscriptionStatus{}},
	}}
	if diff := cmp.Diff(want, s); diff != "" {
		t.Error(diff)
	}
}

// trigger is the status of a trigger of Broker default/b with this UID.
func trigger(uid, name string, st dispatcher.Status, at dispatcher.PartitionStatus) dispatcher.SubscriptionStatus {
	return dispatcher.SubscriptionStatus{
		Target: &dispatcher.Target{UID: uid, Kind: "Trigger", Namespace: "default", Name: name, Channel: "b"},
		Status: st, PerSecond: 2.5, Partitions: []dispatcher.PartitionStatus{at},
	}
}

// unknown is what is said of a resource that nobody knows.
var unknown = Ready{Status: "Unknown"}

func TestStatus(t *testing.T) {
	w := newWorld(t)
	w.fill(w.broker, 0, 100) // a second apart
	w.clock.now.Store(120)
	if err := w.broker.SetSubscriptions(t.Context(), 1, []channel.Subscription{{UID: "u1"}}); err != nil {
		t.Fatal(err)
	}
	letter := channel.DeadLetter{UID: "u1", Offset: 3, Event: &event.Event{ID: "n3", Source: "/s3", Type: "odd"}, Attempts: 1, Code: 500}
	if err := w.broker.Partitions()[0].Commit(t.Context(), channel.Commit{DeadLetters: []channel.DeadLetter{letter, letter}}); err != nil {
		t.Fatal(err)
	}
	failed := epoch.Add(time.Minute)
	w.statuses = []dispatcher.SubscriptionStatus{
		trigger("u1", "behind", dispatcher.Status{Lag: 40, InFlight: 3, Waiting: 2, Blocked: 1, LastError: "it is down", LastErrorAt: failed}, dispatcher.PartitionStatus{Next: 60, Lag: 40}),
		trigger("u2", "slow", dispatcher.Status{InFlight: 1}, dispatcher.PartitionStatus{Next: 100, Open: epoch.Add(90 * time.Second).UnixMicro()}),
		trigger("u3", "stuck", dispatcher.Status{Paused: true, Reason: "Unresolved", Message: "no address"}, dispatcher.PartitionStatus{Next: 100}),
		{Target: &dispatcher.Target{UID: "u4", Kind: "Subscription", Namespace: "default", Name: "of a channel", Channel: "b"}},
	}
	var s Status
	w.object("/namespaces/default/brokers/b/status", "Status", &s)
	if len(s.Channels) != 1 {
		t.Fatalf("%+v", s)
	}
	b := s.Channels[0]
	if b.Bytes == 0 || b.DeadLetterBytes == 0 {
		t.Errorf("%d bytes of events, %d of dead letters", b.Bytes, b.DeadLetterBytes)
	}
	b.Bytes, b.DeadLetterBytes = 0, 0
	want := ChannelStatus{
		Kind: "Broker", Namespace: "default", Name: "b", Ready: unknown, Partitions: 1, Events: 100, Oldest: epoch, EventsPerSecond: 40. / 60, // of seconds 60 to 99
		Subscriptions: []SubscriptionStatus{
			{Kind: "Trigger", Namespace: "default", Name: "behind", Ready: unknown, Lag: 40, LagSeconds: 60, InFlight: 3, Waiting: 2, Blocked: 1, DeadLetters: 2, DeliveredPerSecond: 2.5, LastError: "it is down", LastErrorAt: failed},
			{Kind: "Trigger", Namespace: "default", Name: "slow", Ready: unknown, LagSeconds: 30, InFlight: 1, DeliveredPerSecond: 2.5},
			{Kind: "Trigger", Namespace: "default", Name: "stuck", Ready: unknown, DeliveredPerSecond: 2.5, Paused: true, Reason: "Unresolved", Message: "no address"},
		},
	}
	if diff := cmp.Diff(want, b); diff != "" {
		t.Error(diff)
	}
}

func TestStatusFindsByNamespaceKindAndName(t *testing.T) {
	w := newWorld(t)
	for path, want := range map[string]int{
		"/status": 2, "/namespaces/default/status": 2, "/namespaces/other/status": 0,
		"/namespaces/default/brokers/b/status": 1, "/namespaces/default/channels/c/status": 1,
	} {
		var s Status
		if w.object(path, "Status", &s); len(s.Channels) != want {
			t.Errorf("%s: %d channels, want %d", path, len(s.Channels), want)
		}
	}
	for _, path := range []string{"/namespaces/default/brokers/c/status", "/namespaces/other/brokers/b/status", "/namespaces/default/channels/b/status"} {
		if p := w.refused(path, http.StatusNotFound); p.Field != "name" {
			t.Errorf("%s: %+v", path, p)
		}
	}
	w.diskErr = errors.New("it is gone")
	w.refused("/status", http.StatusInternalServerError)
}
