// Package metamorphic tests the engine as a whole (dispatcher, channels, log)
// by random lives on a disk that fails: what happens is compared to a model.
package metamorphic

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/leat-dev/leat/channel"
	"github.com/leat-dev/leat/raftlog/vfs/memfs"
)

var (
	seedFlag = flag.Uint64("seed", 0, "run this seed alone, -times times")
	times    = flag.Int("times", 1, "how often -seed is run: goroutines take turns differently each time")
	forFlag  = flag.Duration("for", 0, "how long to run seeds; LEAT_SOAK says the same")
	steps    = flag.Int("steps", 120, "steps of each seed")
)

var channelNames = []string{"x", "y"}

// world is the engine, all its lives, and the model beside it.
type world struct {
	t    *testing.T
	seed uint64
	// Each has a random source of its own, so that a seed's steps do not depend on
	// how often the others are asked.
	rnd, diskRnd *rand.Rand
	o            options
	clock        *skewed
	fs           *memfs.FS // what the last life left
	life         *life
	kills        int
	channels     map[string]*channelModel
	channelsMade int
	subsMade     int
	eventsMade   int
	seq          atomic.Int64
	trace        []string

	mu          sync.Mutex
	subRnd      *rand.Rand // the subscribers'
	sent        map[string]*sent
	subscribers map[string]*subscriberModel
	healthy     bool
	replies     int
}

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{
		t: t, seed: seed, rnd: rand.New(rand.NewPCG(seed, 1)), diskRnd: rand.New(rand.NewPCG(seed, 2)), subRnd: rand.New(rand.NewPCG(seed, 3)),
		clock: &skewed{}, fs: memfs.New(unbounded),
		channels: map[string]*channelModel{}, sent: map[string]*sent{}, subscribers: map[string]*subscriberModel{},
	}
	w.o = w.drawOptions()
	return w
}

// tally is what all seeds of a run came to.
type tally struct{ seeds, events, deliveries, kills atomic.Int64 }

// TestEngine: whatever subscribers, disk, clock and machine do, what was
// acknowledged is in the log, once, at an offset that never changes; it is
// delivered to exactly those whose term covers it, or kept, or its expiry is
// counted; no cursor passes what is in no place; a key's events are in order.
func TestEngine(t *testing.T) {
	var sum tally
	defer func() {
		t.Logf("%d seeds, %d events, %d deliveries, %d crashes", sum.seeds.Load(), sum.events.Load(), sum.deliveries.Load(), sum.kills.Load())
	}()
	if *seedFlag != 0 {
		for range *times {
			runSeed(t, *seedFlag, &sum)
		}
		return
	}
	limit := *forFlag
	if soak, err := time.ParseDuration(os.Getenv("LEAT_SOAK")); err == nil {
		limit = soak
	}
	switch {
	case limit > 0:
	case testing.Short():
		limit = 3 * time.Second
	default:
		limit = 10 * time.Second
	}
	seed := uint64(time.Now().UnixNano())
	for end := time.Now().Add(limit); time.Now().Before(end) && !t.Failed(); seed++ {
		runSeed(t, seed, &sum)
	}
}

func runSeed(t *testing.T, seed uint64, sum *tally) {
	t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, seed)
			defer w.end()
			w.begin()
			for _, n := range channelNames {
				w.newChannel(n)
			}
			for i := range *steps {
				w.note("step %d", i)
				w.step()
			}
			w.settle()
			w.checkAll()
			sum.add(w)
		})
	})
}

func (s *tally) add(w *world) {
	s.seeds.Add(1)
	s.events.Add(int64(len(w.sent)))
	s.kills.Add(int64(w.kills))
	for _, m := range w.subscribers {
		for _, d := range m.got {
			s.deliveries.Add(int64(d.times))
		}
	}
}

func (w *world) end() {
	if w.life != nil {
		w.life.disk.dead.Store(true)
		_ = w.life.close(false) // nobody asks any more
	}
	if w.t.Failed() {
		w.t.Logf("to repeat it: go test ./dispatcher/metamorphic -run TestEngine -seed %d -times 50", w.seed)
		w.t.Logf("options: %+v\nsteps:\n%s", w.o, strings.Join(w.trace, "\n"))
	}
}

// settle takes all faults away and waits until everything has come to rest.
func (w *world) settle() {
	w.life.writers.Wait()
	w.life.disk.heal()
	if w.life.over() || w.life.disk.faulty.Load() {
		w.crash(false)
	}
	w.mu.Lock()
	w.healthy = true
	w.mu.Unlock()
	w.eachChannel(func(c *channelModel) {
		for uid, t := range c.targets {
			t.URL = "sub://" + uid
			c.targets[uid] = t
			w.life.d.SetTarget(w.life.target(c, t))
		}
	})
	for range 20 { // retention goes on meanwhile, and is to be watched
		time.Sleep(15 * time.Second)
		w.harvest()
	}
	synctest.Wait()
	w.check()
}

// checkAll compares the whole history to the model, at rest.
func (w *world) checkAll() {
	w.eachChannel(func(c *channelModel) {
		holes := 0
		for _, p := range c.parts {
			for _, at := range p.places {
				if at.sent == nil {
					holes++
				}
			}
		}
		w.checkAppends(c, holes)
		for _, uid := range c.uids() {
			w.checkSubscription(c, uid, holes)
		}
	})
}

// checkAppends: what was acknowledged is there, what was refused is not, and a
// batch is whole or absent.
func (w *world) checkAppends(c *channelModel, holes int) {
	missing := 0
	for id, s := range w.sent {
		if s.c != c {
			continue
		}
		switch {
		case s.fate == refused && s.place != nil:
			w.t.Errorf("%s: event %s was refused and lies at offset %d", c.id.UID, id, s.place.off)
		case s.fate == acked && s.place == nil:
			missing++
		}
		if s.batch[0] != s {
			continue
		}
		in := 0
		for _, b := range s.batch {
			if b.place != nil {
				in++
			}
		}
		if in != 0 && in != len(s.batch) && holes == 0 {
			w.t.Errorf("%s: %d of the %d events of the batch of %s are in the log", c.id.UID, in, len(s.batch), id)
		}
	}
	if missing > holes {
		w.t.Errorf("%s: %d acknowledged events are not in the log; %d offsets were not read before they expired", c.id.UID, missing, holes)
	}
	for _, p := range c.parts {
		for i, at := range p.places {
			if s := at.sent; s != nil && i > 0 && p.places[i-1].sent != nil {
				prev := p.places[i-1].sent
				if &prev.batch[0] == &s.batch[0] && slices.Index(s.batch, prev) > slices.Index(s.batch, s) {
					w.t.Errorf("%s/%d: the batch of %s is not in order", c.id.UID, p.n, s.ev.ID)
				}
			}
		}
	}
}

// checkSubscription: everything that it was to get it got, or it is kept, or
// its expiry was counted; it got nothing else; and in order, where asked for.
func (w *world) checkSubscription(c *channelModel, uid string, holes int) {
	m := w.of(uid)
	missing, expired := 0, 0
	lost := false
	again := 0
	seen := map[string]bool{}
	for _, p := range c.parts {
		expired += p.expired[uid]
		lost = lost || p.lost
		for _, at := range p.places {
			if at.sent == nil {
				continue
			}
			id := at.sent.ev.ID
			seen[id] = true
			if d := m.got[id]; d != nil && d.times > 0 {
				again += d.times - 1
				if !w.matches(c, uid, at, false) {
					w.t.Errorf("%s got event %s (%s/%d offset %d), which no term of it covers and matches: %+v", uid, id, c.id.UID, p.n, at.off, at.terms)
				}
			}
			if w.endedOrFree(c, p, uid, at) {
				continue
			}
			if at.off >= p.floor {
				st, _ := w.life.d.Status(uid)
				w.t.Errorf("%s: event %s (%s/%d offset %d) is in no place; status %+v", uid, id, c.id.UID, p.n, at.off, st)
				return
			}
			missing++
			w.note("%s/%d offset %d, event %s, expired undelivered to %s: %s, taken: %+v", c.id.UID, p.n, at.off, id, uid, describe(at.terms, uid), m.got[id])
		}
		w.checkOrder(c, p, uid)
	}
	for id, d := range m.got {
		if d.times > 0 && !seen[id] && holes == 0 {
			w.t.Errorf("%s got event %s, which is not in the log", uid, id)
		}
	}
	if missing > expired && !c.anew[uid] && !lost {
		w.t.Errorf("%s: %d events expired without being delivered, %d were counted", uid, missing, expired)
	}
	if most := w.kills * w.o.window * len(c.parts); again > most && !c.anew[uid] {
		w.t.Errorf("%s: %d deliveries were made again, after %d crashes and a window of %d", uid, again, w.kills, w.o.window)
	}
	// One that is started anew does not wait for what the earlier one has out.
	if most := w.o.window * len(c.parts); m.max > most && !c.anew[uid] {
		w.t.Errorf("%s: %d requests were out at once, the window is %d in each of %d partitions", uid, m.max, w.o.window, len(c.parts))
	}
	st, ok := w.life.d.Status(uid)
	if !ok || st.InFlight+st.Uncommitted+st.Waiting+st.Blocked != 0 || st.Lag != 0 || st.Paused {
		w.t.Errorf("%s has not come to rest: %v, %+v", uid, ok, st)
	}
}

// checkOrder: in an ordered term, the first successes of a key are in log order.
func (w *world) checkOrder(c *channelModel, p *partModel, uid string) {
	if c.anew[uid] {
		return // the first success may have been in an earlier life
	}
	type line struct {
		from uint64
		key  string
	}
	last := map[line]int64{}
	for _, at := range p.places {
		if at.sent == nil {
			continue
		}
		for _, t := range at.terms {
			if t.Subscription.UID != uid || !t.Subscription.Ordered {
				continue
			}
			d := w.of(uid).got[at.sent.ev.ID]
			if d == nil || d.first == 0 {
				continue
			}
			k := line{t.From, at.sent.ev.PartitionKey()}
			if d.first < last[k] {
				w.t.Errorf("%s: event %s of key %s was first taken before an earlier one", uid, at.sent.ev.ID, k.key)
			}
			last[k] = max(last[k], d.first)
		}
	}
}

// background appends beside what else happens.
func (w *world) background(c *channelModel, n int) {
	l, ch := w.life, c.ch
	var batches [][]*sent
	for range n {
		batches = append(batches, w.newBatch(c, w.events(1+w.rnd.IntN(3))...))
	}
	gap := time.Duration(w.rnd.IntN(20)) * time.Millisecond
	l.writers.Go(func() {
		for _, b := range batches {
			_ = w.appendBatch(context.Background(), l, ch, b) // the model has it
			time.Sleep(gap)
		}
	})
}

// describe tells the terms of one subscription.
func describe(terms []channel.Term, uid string) string {
	var b strings.Builder
	for _, t := range terms {
		if t.Subscription.UID == uid {
			fmt.Fprintf(&b, "[%d,%d) started %d %s ordered %v; ", t.From, int64(t.To), t.Started, t.Subscription.Filter, t.Subscription.Ordered)
		}
	}
	return b.String()
}
