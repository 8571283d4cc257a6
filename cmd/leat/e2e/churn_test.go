package e2e

import (
	"context"
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"

	"github.com/leat-dev/leat/api/event"
	"github.com/leat-dev/leat/channel"
	"github.com/leat-dev/leat/raftlog"
)

// rounds yields the numbers of rounds: a few in a test run; in a soak (LEAT_SOAK
// says how long all of it may take) as many as fit into a share of its time, and
// at most so many.
func rounds(t *testing.T, few, most int, share float64) iter.Seq[int] {
	soak, err := time.ParseDuration(os.Getenv("LEAT_SOAK"))
	end := time.Now().Add(time.Duration(float64(soak) * share))
	switch {
	case err == nil:
		few = most
	case testing.Short():
		few = min(few, 3)
	}
	return func(yield func(int) bool) {
		for i := 0; i < few && (err != nil || time.Now().Before(end)); i++ {
			if !yield(i) {
				return
			}
		}
	}
}

// churn is a server under load, whose triggers come, change and go while it is
// killed, and what is known of it from outside.
type churn struct {
	*testing.T
	s   *server
	hub *httptest.Server
	seq atomic.Int64

	mu       sync.Mutex
	posted   map[string]*posted
	got      map[string]map[string]bool // by trigger, the events that it took
	triggers []*churned
	cycles   int
}

// posted is an event, when its request began and when it was answered with 202;
// math.MaxInt64: it was not.
type posted struct {
	kind     string
	from, to int64
}

// churned is the life of one trigger as its user saw it, in moments of seq.
type churned struct {
	name, uid             string
	first, second         string // the types that it asks for, one after the other
	created, ready        int64  // before it was created, and after it was seen ready
	updated, readyAgain   int64
	wantFirst, wantSecond []string // what it has to get, in its first and second form
}

func (c *churn) now() int64 { return c.seq.Add(1) }

var kinds = []string{"a", "b", "c", "d"}

func newChurn(t *testing.T) *churn {
	c := &churn{T: t, posted: map[string]*posted{}, got: map[string]map[string]bool{}}
	var n atomic.Int64
	c.hub = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := strings.TrimPrefix(r.URL.Path, "/")
		if name == "stuck" || n.Add(1)%17 == 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.got[name] == nil {
			c.got[name] = map[string]bool{}
		}
		c.got[name][r.Header.Get("Ce-Id")] = true
	}))
	t.Cleanup(c.hub.Close)
	c.s = startServer(t, "--segment-bytes", "4MiB", "--max-batch-bytes", "1MiB", "--snapshot-bytes", "1MiB")
	c.s.apply(strings.Join([]string{
		broker,
		"apiVersion: eventing.knative.dev/v1\nkind: Broker\nmetadata: {name: churn, annotations: {leat.dev/partitions: '2'}}\nspec: {delivery: {retry: 50, backoffPolicy: linear, backoffDelay: PT0.01S}}",
		"apiVersion: eventing.knative.dev/v1\nkind: Broker\nmetadata: {name: brief, annotations: {leat.dev/retention: PT1S}}\nspec: {delivery: {retry: 1000, backoffPolicy: linear, backoffDelay: PT0.01S}}",
		c.trigger("churn", "all", ""), c.trigger("churn", "only-a", "a"), c.trigger("brief", "stuck", ""),
		pingSource("tick", "schedule: '* * * * * *', data: '{}', contentType: application/json, "+toBroker),
	}, "\n---\n"))
	return c
}

func (c *churn) trigger(broker, name, kind string) string {
	filter := ""
	if kind != "" {
		filter = fmt.Sprintf("filters: [{exact: {type: %s}}]", kind)
	}
	return fmt.Sprintf("apiVersion: eventing.knative.dev/v1\nkind: Trigger\nmetadata: {name: %s}\nspec:\n  broker: %s\n  subscriber: {uri: \"%s/%s\"}\n  %s\n", name, broker, c.hub.URL, name, filter)
}

// write posts events to a broker until ctx ends, over all kills.
func (c *churn) write(ctx context.Context, broker, writer string) {
	for i := 0; ctx.Err() == nil; i++ {
		p := &posted{kind: kinds[rand.IntN(len(kinds))], from: c.now(), to: math.MaxInt64}
		id := fmt.Sprintf("%s-%d", writer, i)
		c.mu.Lock()
		c.posted[id] = p
		c.mu.Unlock()
		status, _, err := post(ctx, c.s.url("/default/"+broker), id, p.kind, map[string]string{"Ce-Partitionkey": writer}, `{"n":1}`)
		if err == nil && status == http.StatusAccepted {
			c.mu.Lock()
			p.to = c.now()
			c.mu.Unlock()
			continue
		}
		select { // it is down, or starting
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// persist does an operation of the API until it is answered, over all kills.
func (c *churn) persist(ctx context.Context, what string, do func() error) bool {
	deadline := time.Now().Add(time.Minute)
	for {
		err := do()
		if err == nil || ctx.Err() != nil {
			return err == nil
		}
		if time.Now().After(deadline) {
			c.Errorf("%s: %v", what, err)
			return false
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// cycle takes one trigger through its life: it is made, seen ready, given
// another filter, seen ready again, and deleted once it has all that it must get.
func (c *churn) cycle(ctx context.Context, name string) {
	client := c.s.client()
	t := &churned{name: name, first: kinds[rand.IntN(4)], second: kinds[rand.IntN(4)], updated: math.MaxInt64}
	api := resource(client, parse(c, c.trigger("churn", name, t.first))[0])
	apply := func(kind string) error {
		u := parse(c, c.trigger("churn", name, kind))[0]
		got, err := api.Apply(ctx, name, u, metav1.ApplyOptions{FieldManager: "e2e", Force: true})
		if err == nil {
			t.uid = string(got.GetUID())
		}
		return err
	}
	ready := func() error {
		u, err := api.Get(ctx, name, metav1.GetOptions{})
		if err == nil && !isReady(u) {
			err = fmt.Errorf("not ready: %v", u.Object["status"])
		}
		return err
	}
	pause := func() {
		select {
		case <-time.After(time.Duration(rand.IntN(200)) * time.Millisecond):
		case <-ctx.Done():
		}
	}
	t.created = c.now()
	c.mu.Lock()
	c.triggers = append(c.triggers, t)
	c.mu.Unlock()
	if !c.persist(ctx, "create "+name, func() error { return apply(t.first) }) || !c.persist(ctx, name+" is ready", ready) {
		return
	}
	t.ready = c.now()
	pause()
	t.updated = c.now()
	t.wantFirst = c.between(t.first, t.ready, t.updated)
	if !c.persist(ctx, "update "+name, func() error { return apply(t.second) }) || !c.persist(ctx, name+" is ready again", ready) {
		return
	}
	t.readyAgain = c.now()
	pause()
	removing := c.now()
	t.wantSecond = c.between(t.second, t.readyAgain, removing)
	if !c.persist(ctx, "deliveries to "+name, func() error { return c.missing(name, slices.Concat(t.wantFirst, t.wantSecond)) }) {
		return
	}
	c.remove(ctx, api, name)
}

// remove deletes a trigger, which stays deleted.
func (c *churn) remove(ctx context.Context, api dynamic.ResourceInterface, name string) {
	c.persist(ctx, "delete "+name, func() error {
		err := api.Delete(ctx, name, metav1.DeleteOptions{})
		if apierrors.IsNotFound(err) { // the answer before was lost
			return nil
		}
		return err
	})
	if ctx.Err() != nil {
		return
	}
	c.mu.Lock()
	c.cycles++
	c.mu.Unlock()
	c.persist(ctx, name+" stays deleted", func() error {
		if _, err := api.Get(ctx, name, metav1.GetOptions{}); err == nil {
			c.Errorf("%s was deleted, and is there again", name)
		} else if !apierrors.IsNotFound(err) {
			return err
		}
		return nil
	})
}

// isReady says whether a resource is ready in its present form.
func isReady(u *unstructured.Unstructured) bool {
	seen, _, err := unstructured.NestedInt64(u.Object, "status", "observedGeneration")
	if err != nil || seen != u.GetGeneration() {
		return false
	}
	conditions, _, err := unstructured.NestedSlice(u.Object, "status", "conditions")
	return err == nil && slices.ContainsFunc(conditions, func(x any) bool {
		m, ok := x.(map[string]any)
		return ok && m["type"] == "Ready" && m["status"] == "True"
	})
}

// between are the events of a type that were posted and answered with 202 after
// one moment and before another.
func (c *churn) between(kind string, from, to int64) (ids []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, p := range c.posted {
		if p.kind == kind && p.from > from && p.to < to && !strings.HasPrefix(id, "brief") {
			ids = append(ids, id)
		}
	}
	return ids
}

func (c *churn) missing(name string, ids []string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	missing := slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return c.got[name][id] })
	if len(missing) > 0 {
		return fmt.Errorf("%d of %d are missing, %s among them", len(missing), len(ids), missing[0])
	}
	return nil
}

// check: nobody got what was posted surely before or after the trigger asked
// for it.
func (c *churn) check() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range c.triggers {
		for id := range c.got[t.name] {
			p := c.posted[id]
			first := p.kind == t.first && p.to > t.created && (t.readyAgain == 0 || p.from < t.readyAgain)
			second := p.kind == t.second && p.to > t.updated
			if !first && !second {
				c.Errorf("%s (%s, then %s) got %s of type %s, posted from %d to %d: %+v", t.name, t.first, t.second, id, p.kind, p.from, p.to, *t)
			}
		}
	}
}

// TestChurnOverKills: writers, a retention of a second, a source that ticks, and
// triggers that are made, changed and deleted, while the server is killed again
// and again. Each event reaches exactly the triggers of its epoch: so says what
// was seen from outside, and so says the log, which is read when all is over.
func TestChurnOverKills(t *testing.T) {
	c := newChurn(t)
	ctx, cancel := context.WithCancel(t.Context())
	var work sync.WaitGroup
	for w := range 3 {
		work.Go(func() { c.write(ctx, "churn", fmt.Sprint("w", w)) })
	}
	work.Go(func() { c.write(ctx, "brief", "brief") })
	for w := range 2 {
		work.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				c.cycle(ctx, fmt.Sprintf("t%d-%d", w, i))
			}
		})
	}
	kills := 0
	for range rounds(t, 4, math.MaxInt, 0.6) {
		kills++
		<-time.After(time.Duration(300+rand.IntN(1200)) * time.Millisecond) // in mid-flow, at a point that nobody chose
		c.s.kill()
		c.s.start()
	}
	<-time.After(time.Second)
	cancel()
	work.Wait()
	for name, kind := range map[string]string{"all": "", "only-a": "a"} {
		want := c.between("a", 0, math.MaxInt64)
		for _, k := range kinds[1:] {
			if kind == "" {
				want = append(want, c.between(k, 0, math.MaxInt64)...)
			}
		}
		eventually(t, time.Minute, "everything acknowledged reaches "+name, func() bool { return c.missing(name, want) == nil })
	}
	c.check()
	c.s.stop()
	c.checkLog()
	t.Logf("%d kills, %d events, %d triggers, %d of them through all their life", kills, len(c.posted), len(c.triggers), c.cycles)
	if c.cycles < kills/4 {
		t.Error("too little is tested")
	}
}

// checkLog opens the log that the server left, and compares what was delivered
// to the epochs that it has.
func (c *churn) checkLog() {
	shard := channel.NewShard(channel.Options{})
	g, err := raftlog.Open(c.Context(), raftlog.Options{
		Dir: filepath.Join(c.s.dir, "groups", "s0"), Name: "s0", NodeID: "leat-0", Machine: shard, SegmentBytes: 4 << 20,
		Fatal: func(err error) { c.Error(err) },
	})
	if err != nil {
		c.Fatal(err)
	}
	defer func() {
		if err := g.Close(context.Background()); err != nil {
			c.Error(err)
		}
	}()
	shard.Bind(g)
	log := channel.NewLog(shard)
	names := map[string]string{}
	for _, t := range c.triggers {
		names[t.uid] = t.name
	}
	inLog, allowed := map[string]bool{}, map[string]bool{}
	for _, name := range []string{"churn", "brief"} {
		ch, ok := log.ByName("Broker", "default", name)
		if !ok {
			c.Fatalf("broker %s has no log", name)
		}
		for _, p := range ch.Partitions() {
			c.readAll(p, func(e *event.Event, terms []channel.Term) {
				if inLog[e.ID] {
					c.Errorf("event %s lies in the log twice", e.ID)
				}
				inLog[e.ID] = true
				for _, t := range terms {
					if trigger := names[t.Subscription.UID]; trigger != "" && strings.Contains(string(t.Subscription.Filter), fmt.Sprintf("%q", e.Type)) {
						allowed[trigger+" "+e.ID] = true
					}
				}
			})
		}
	}
	for id, p := range c.posted {
		if p.to != math.MaxInt64 && !inLog[id] && !strings.HasPrefix(id, "brief") {
			c.Errorf("event %s was acknowledged and is not in the log", id)
		}
	}
	for _, t := range c.triggers {
		for id := range c.got[t.name] {
			if !allowed[t.name+" "+id] {
				c.Errorf("%s got %s, which no term of it covers and matches", t.name, id)
			}
		}
	}
}

// readAll reads a partition from its floor on, and wants dense offsets.
func (c *churn) readAll(p channel.Partition, each func(*event.Event, []channel.Term)) {
	at, end := p.Bounds()
	for at < end {
		stored, err := p.Read(c.Context(), at, 256, 1<<20)
		if err != nil || len(stored) == 0 {
			c.Fatalf("read %v/%d from offset %d of %d: %d events, %v", p.Channel(), p.Number(), at, end, len(stored), err)
		}
		for i := range stored {
			if stored[i].Offset != at {
				c.Fatalf("offset %d where %d was to be", stored[i].Offset, at)
			}
			each(stored[i].Event, p.(channel.History).TermsAt(at))
			at++
		}
	}
}
