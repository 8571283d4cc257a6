package dispatcher

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/leat-dev/leat/channel"
	"github.com/leat-dev/leat/filter"
)

// model runs a dispatcher through a random life: subscribers that fail, hang
// and recover, terms that come and go, commits that fail, orderly ends and
// crashes. It keeps what must be true of the deliveries.
type model struct {
	*rig
	rnd  *rand.Rand
	opts Options

	subs    []channel.Subscription
	targets map[string]Target
	kills   int

	mu      sync.Mutex
	random  *rand.Rand // for the senders
	healthy bool
	seq     int
	first   map[string]map[string]int // by subscription and event: when first accepted
	times   map[string]map[string]int // how often
	dead    map[string]map[string]bool
	urls    map[string]bool // that are down
}

func newModel(t *testing.T, seed uint64) *model {
	m := &model{
		rig:     &rig{T: t, store: newStore(t), f: newFakeSender()},
		rnd:     rand.New(rand.NewPCG(seed, 1)),
		random:  rand.New(rand.NewPCG(seed, 2)),
		targets: make(map[string]Target),
		first:   make(map[string]map[string]int), times: make(map[string]map[string]int),
		dead: make(map[string]map[string]bool), urls: make(map[string]bool),
	}
	m.f.most = []int{0, 3, 40}[m.rnd.IntN(3)]
	m.opts = Options{
		MaxRanges:  []int{4, 16, 256}[m.rnd.IntN(3)],
		ScanEvents: []int{10, 1000}[m.rnd.IntN(2)],
		ReadEvents: 1 + m.rnd.IntN(64), CommitBytes: 1 << (6 + m.rnd.IntN(12)),
		MaxRequests: []int{10, 8192}[m.rnd.IntN(2)], MaxWaiting: []int{30, 10000}[m.rnd.IntN(2)],
	}
	return m
}

// addSub makes a subscription with a random spec.
func (m *model) addSub() {
	uid := fmt.Sprintf("s%d", len(m.targets))
	sub := byType(uid, []string{"", "a", "b", "c"}[m.rnd.IntN(4)])
	sub.Ordered = m.rnd.IntN(2) == 0
	if m.rnd.IntN(3) == 0 {
		sub.Start.At = "beginning"
	}
	t := Target{
		UID: uid, Name: uid, URL: "http://" + uid,
		MaxInFlight: 1 + m.rnd.IntN(20), MaxWaiting: 1 + m.rnd.IntN(50),
		Delivery: Policy{Retry: m.rnd.IntN(4), Delay: time.Duration(1+m.rnd.IntN(300)) * time.Millisecond, Timeout: time.Second},
	}
	if m.rnd.IntN(2) == 0 {
		t.DeadLetterURL = "http://dls-" + uid
	}
	m.subs = append(m.subs, sub)
	m.targets[uid] = t
	m.mu.Lock()
	m.first[uid], m.times[uid], m.dead[uid] = map[string]int{}, map[string]int{}, map[string]bool{}
	m.mu.Unlock()
	m.f.on(t.URL, func(ctx context.Context, r *Request) (Response, error) { return m.answer(ctx, uid, r) })
	m.f.on("http://dls-"+uid, func(ctx context.Context, r *Request) (Response, error) {
		if !m.roll(80) {
			return Response{Status: 500}, nil
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		m.dead[uid][r.Event.ID] = true
		return Response{Status: 202}, nil
	})
	m.rig.subscribe(m.subs...)
	m.d.SetTarget(t)
}

func (m *model) roll(percent int) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.healthy || m.random.IntN(100) < percent
}

// answer is what a subscriber does with an event.
func (m *model) answer(ctx context.Context, uid string, r *Request) (Response, error) {
	m.mu.Lock()
	latency := time.Duration(m.random.IntN(30)) * time.Millisecond
	fate := m.random.IntN(100)
	down := m.urls[uid]
	healthy := m.healthy
	m.mu.Unlock()
	timer := time.NewTimer(latency)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return Response{}, ctx.Err()
	}
	switch {
	case healthy:
	case down && fate < 50:
		return Response{}, errors.New("connection refused")
	case down, fate < 5:
		return Response{Status: 503}, nil
	case fate < 8:
		return Response{Status: 400}, nil
	case fate < 10:
		<-ctx.Done()
		return Response{}, ctx.Err()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if ctx.Err() != nil {
		return Response{}, ctx.Err()
	}
	m.seq++
	if _, ok := m.first[uid][r.Event.ID]; !ok {
		m.first[uid][r.Event.ID] = m.seq
	}
	m.times[uid][r.Event.ID]++
	return Response{Status: 200}, nil
}

func (m *model) begin() {
	m.rig.begin(m.opts)
	for _, t := range m.targets {
		m.d.SetTarget(t)
	}
}

// step does one random thing.
func (m *model) step() {
	pick := func() *channel.Subscription { return &m.subs[m.rnd.IntN(len(m.subs))] }
	switch n := m.rnd.IntN(100); {
	case n < 40:
		keys := 1 + m.rnd.IntN(8)
		typ := []string{"a", "b", "c"}[m.rnd.IntN(3)]
		m.publish(typ, 1+m.rnd.IntN(40), keyed(keys))
	case n < 65:
		time.Sleep(time.Duration(m.rnd.IntN(2000)) * time.Millisecond)
	case n < 75:
		m.mu.Lock()
		uid := pick().UID
		m.urls[uid] = !m.urls[uid]
		m.mu.Unlock()
	case n < 80:
		if len(m.subs) < 8 {
			m.addSub()
		}
	case n < 84: // another filter or order: a new term
		s := pick()
		s.Filter, s.Ordered = byType(s.UID, []string{"", "a", "b"}[m.rnd.IntN(3)]).Filter, m.rnd.IntN(2) == 0
		m.subscribe(m.subs...)
	case n < 88: // not resolved for a while
		t := m.targets[pick().UID]
		if t.URL == "" {
			t.URL = "http://" + t.UID
		} else if m.rnd.IntN(2) == 0 {
			t.URL = ""
		} else {
			t.MaxInFlight = 1 + m.rnd.IntN(20)
		}
		m.targets[t.UID] = t
		m.d.SetTarget(t)
	case n < 92:
		m.store.mu.Lock()
		failing := m.store.commitErr == nil
		m.store.commitErr = nil
		if failing {
			m.store.commitErr = func() error { return errors.New("the disk is full") }
		}
		m.store.mu.Unlock()
	case n < 96:
		m.store.mu.Lock()
		m.store.commitErr = nil
		m.store.mu.Unlock()
		m.end()
		m.begin()
	default:
		m.kills++
		m.kill()
		m.begin()
	}
}

// settle lets everything come to rest, with all subscribers well.
func (m *model) settle() {
	m.mu.Lock()
	m.healthy = true
	m.mu.Unlock()
	m.store.mu.Lock()
	m.store.commitErr = nil
	m.store.mu.Unlock()
	for uid, t := range m.targets {
		t.URL = "http://" + uid
		m.targets[uid] = t
		m.d.SetTarget(t)
	}
	time.Sleep(2 * time.Hour)
	synctest.Wait()
}

func (m *model) check() {
	letters := make(map[string]map[string]bool)
	for _, l := range m.kept() {
		if letters[l.UID] == nil {
			letters[l.UID] = make(map[string]bool)
		}
		letters[l.UID][l.Event.ID] = true
	}
	for uid, spans := range m.covered() {
		missing, wrong := 0, 0
		for i := range m.events {
			st := &m.events[i]
			got := m.times[uid][st.Event.ID] > 0
			ended := got || m.dead[uid][st.Event.ID] || letters[uid][st.Event.ID]
			switch want := spans(st); {
			case want && !ended:
				if missing++; missing < 4 {
					m.Errorf("%s: event %d is in no place", uid, st.Offset)
				}
			case !want && ended:
				if wrong++; wrong < 4 {
					m.Errorf("%s: event %d does not match and was delivered", uid, st.Offset)
				}
			}
		}
		if missing > 0 {
			m.Errorf("%s: %d of %d events are missing; status %+v", uid, missing, len(m.events), m.status(uid))
		}
		again := 0
		for _, n := range m.times[uid] {
			again += n - 1
		}
		if most := m.kills * 20; again > most {
			m.Errorf("%s: %d deliveries were made again, after %d crashes", uid, again, m.kills)
		}
		m.checkOrder(uid)
		st := m.status(uid)
		if st.InFlight+st.Uncommitted+st.Waiting+st.Blocked != 0 || st.Lag != 0 || st.Paused {
			m.Errorf("%s has not come to rest: %+v", uid, st)
		}
	}
	if len(m.cursors) != 0 || m.scan != m.store.end() {
		m.Errorf("at rest: scan %d of %d, cursors %v", m.scan, m.store.end(), m.cursors)
	}
	if b := &m.d.budget; b.requests.Load() != 0 || b.bytes.Load() != 0 || b.waiting.Load() != 0 {
		m.Errorf("at rest the budget is %d requests, %d bytes, %d waiting", b.requests.Load(), b.bytes.Load(), b.waiting.Load())
	}
}

// covered says for each subscription which events a term of it covers and
// its filter matches, from the history of all terms.
func (m *model) covered() map[string]func(*channel.Stored) bool {
	out := make(map[string]func(*channel.Stored) bool)
	for _, s := range m.subs {
		out[s.UID] = func(st *channel.Stored) bool {
			for _, t := range m.history {
				if t.Subscription.UID == s.UID && t.From <= st.Offset && st.Offset < t.To {
					ok, _ := matchOne(compile(&t, filter.Limits{}).filter, filter.NewView(st.Event))
					return ok
				}
			}
			return false
		}
	}
	return out
}

// checkOrder: in ordered terms the first successes of a key are in log order.
func (m *model) checkOrder(uid string) {
	last := make(map[string]int)
	lastID := make(map[string]string)
	for _, t := range m.history {
		if t.Subscription.UID != uid || !t.Subscription.Ordered {
			continue
		}
		clear(last)
		for i := t.From; i < min(t.To, uint64(len(m.events))); i++ {
			e := m.events[i].Event
			at, ok := m.first[uid][e.ID]
			if !ok {
				continue
			}
			if k := e.PartitionKey(); at < last[k] {
				m.Errorf("%s: event %s of key %s was first accepted before %s", uid, e.ID, k, lastID[k])
			} else {
				last[k], lastID[k] = at, e.ID
			}
		}
	}
}

// TestModel: whatever subscribers, commits and the process do, every matching
// event is delivered or kept, in order by key where asked, nothing is skipped,
// and after a crash no more than a window is delivered again.
func TestModel(t *testing.T) {
	seeds := 60
	if testing.Short() {
		seeds = 10
	}
	var list []uint64
	for i := range seeds {
		list = append(list, uint64(i))
	}
	if s, err := strconv.ParseUint(os.Getenv("LEAT_TEST_SEED"), 10, 64); err == nil {
		list = []uint64{s}
	}
	for _, seed := range list {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := newModel(t, seed)
				m.begin()
				for range 1 + m.rnd.IntN(4) {
					m.addSub()
				}
				for range 150 {
					m.step()
				}
				m.settle()
				m.check()
				m.end()
			})
		})
	}
}
