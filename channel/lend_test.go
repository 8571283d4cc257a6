package channel

import (
	"bytes"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/leat-dev/leat/api/event"
	"github.com/leat-dev/leat/raftlog"
)

// spoiled writes to what events lay in when it is free, and counts how often that
// was the case.
type spoiled struct {
	mu sync.Mutex
	n  int
}

func (s *spoiled) spoil(data []byte, events []event.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n++
	for i := range data {
		data[i] = 0xdb
	}
	for i := range events {
		events[i] = event.Event{ID: "used again"}
	}
}

func (s *spoiled) times() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.n
}

// someEvents are numbered from first on.
func someEvents(first, n int) (events []*event.Event) {
	for i := first; i < first+n; i++ {
		e := &event.Event{ID: fmt.Sprint(i), Source: "/s", Type: "t", Data: content(i)}
		e.SetExtension("number", event.Value{Str: fmt.Sprint(i)})
		events = append(events, e)
	}
	return events
}

// isEvent says whether an event is the one of a number, as it was sent.
func isEvent(e *event.Event, i int) bool {
	return e.ID == fmt.Sprint(i) && bytes.Equal(e.Data, content(i)) && len(e.Extensions) == 1 && e.Extensions[0].Value.Str == e.ID
}

// TestLentEventsAreGoodWhileTheyAreHeld: what was lent, from memory or from disk,
// stays as it is until the loan is returned and the last hold has ended, and its
// memory is free right then; that of events which somebody keeps never is.
func TestLentEventsAreGoodWhileTheyAreHeld(t *testing.T) {
	const n = 3
	for _, c := range []struct {
		name     string
		fromDisk bool
		end      func(h *Hold)
		free     bool
	}{
		{"tail, released", false, (*Hold).Release, true},
		{"disk, released", true, (*Hold).Release, true},
		{"tail, kept", false, (*Hold).Keep, false},
		{"disk, kept", true, (*Hold).Keep, false},
		{"released twice", false, func(h *Hold) { h.Release(); h.Release() }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			var s spoiled
			_, _, ch := openGroup(t, Options{TailBytes: 1, CacheBytes: 1, Reused: s.spoil}, raftlog.Options{MaxEntryBytes: 64 << 10, Reuse: true})
			add := func(first, n int) {
				if err := ch.Append(t.Context(), someEvents(first, n)); err != nil {
					t.Fatal(err)
				}
			}
			p := ch.Partitions()[0]
			add(0, n)
			if c.fromDisk {
				add(n, 1)
			}
			var l Loan
			if err := p.(Lender).Lend(t.Context(), 0, n, 1<<20, &l); err != nil || len(l.Events) != n {
				t.Fatal(len(l.Events), err)
			}
			add(n+1, 1) // nothing of the first entry is in memory for its own sake
			lent := l.Events[1].Event
			h := l.Events[1].Hold()
			for i := range l.Events {
				if !isEvent(l.Events[i].Event, i) {
					t.Errorf("event %d on loan is %+v", i, l.Events[i].Event)
				}
			}
			l.Return()
			if !isEvent(lent, 1) || s.times() != 0 {
				t.Errorf("an event that is held is %+v, and memory was free %d times", lent, s.times())
			}
			c.end(&h)
			if free := s.times() == 1; free != c.free || free == isEvent(lent, 1) {
				t.Errorf("its memory is free: %v; the event is %+v", free, lent)
			}
		})
	}
}

// TestReadBesideALoan: what was read for good stays, also where others had it on loan.
func TestReadBesideALoan(t *testing.T) {
	var s spoiled
	_, _, ch := openGroup(t, Options{TailBytes: 1, CacheBytes: 1, Reused: s.spoil}, raftlog.Options{MaxEntryBytes: 64 << 10, Reuse: true})
	p := ch.Partitions()[0]
	var l Loan
	var all []Stored
	for i := range 20 {
		if err := ch.Append(t.Context(), someEvents(2*i, 2)); err != nil {
			t.Fatal(err)
		}
		if err := p.(Lender).Lend(t.Context(), uint64(2*i), 2, 1<<20, &l); err != nil {
			t.Fatal(err)
		}
		some, err := p.Read(t.Context(), uint64(2*i), 2, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, some...)
	}
	l.Return()
	for i, st := range all {
		if h := st.Hold(); h != (Hold{}) {
			t.Fatal("an event that was read is to be given back")
		}
		if !isEvent(st.Event, i) {
			t.Fatalf("event %d is %+v", i, st.Event)
		}
	}
	if n := s.times(); n != 0 {
		t.Errorf("memory of events that were read was free %d times", n)
	}
}

// TestLendersBesideEachOther: several borrow the same events, from memory and from
// disk, hold some of them for a while, and see them as they were sent.
func TestLendersBesideEachOther(t *testing.T) {
	const appends, each = 300, 3
	var s spoiled
	_, _, ch := openGroup(t, Options{TailBytes: 4 << 10, CacheBytes: 2 << 10, Reused: s.spoil}, raftlog.Options{MaxEntryBytes: 8 << 10, Reuse: true})
	var wg sync.WaitGroup
	for reader := range 3 {
		wg.Go(func() {
			p := ch.Partitions()[0]
			type held struct {
				n  int
				e  *event.Event
				in Hold
			}
			var l Loan
			var holds []held
			for at := 0; at < appends*each; {
				if err := p.Wait(t.Context(), uint64(at), 1<<60); err != nil {
					t.Error(err)
					return
				}
				if err := p.(Lender).Lend(t.Context(), uint64(at), 5+4*reader, 1<<20, &l); err != nil {
					t.Error(err)
					return
				}
				for i := range l.Events {
					st := &l.Events[i]
					if !isEvent(st.Event, at) {
						t.Errorf("event %d is %+v", at, st.Event)
						return
					}
					if at%7 == reader {
						holds = append(holds, held{at, st.Event, st.Hold()})
					}
					at++
				}
				for len(holds) > 4 {
					if !isEvent(holds[0].e, holds[0].n) {
						t.Errorf("event %d, which is held, is %+v", holds[0].n, holds[0].e)
						return
					}
					holds[0].in.Release()
					holds = holds[1:]
				}
			}
			l.Return()
		})
	}
	for i := range appends {
		if err := ch.Append(t.Context(), someEvents(i*each, each)); err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
	if s.times() < appends/2 {
		t.Errorf("memory was used again %d times only", s.times())
	}
}

// TestMemoryIsOfAboutTheSize: a size has the class whose memory holds it, and little
// of that is wasted.
func TestMemoryIsOfAboutTheSize(t *testing.T) {
	before := -1
	for size := range 1 << 16 {
		class, room := classOf(size)
		if class < before || class > before+1 {
			t.Fatalf("%d bytes are of class %d, one less is of %d", size, class, before)
		}
		if room < size || size > 1<<leastMemory && room-size > size/4 {
			t.Fatalf("%d bytes have room for %d", size, room)
		}
		if again, same := classOf(room); again != class || same != room {
			t.Fatalf("%d bytes have memory of class %d with %d, which is of class %d with %d", size, class, room, again, same)
		}
		before = class
	}
}

// TestFreeMemoryIsBounded: of what is free no more than the bound is kept, and of that
// rather what was wanted lately.
func TestFreeMemoryIsBounded(t *testing.T) {
	m := &memories{limit: 100 << 10}
	var large, small []*memory
	for range 100 {
		large = append(large, m.take(50_000, 40))
		small = append(small, m.take(3000, 3))
	}
	for _, all := range [][]*memory{large, small} {
		for _, one := range all {
			one.free()
			if m.bytes > m.limit {
				t.Fatalf("%d bytes are free, at most %d may be", m.bytes, m.limit)
			}
		}
	}
	if n, most := m.bytes/small[0].size(), m.limit/small[0].size(); n != most {
		t.Errorf("%d of the size that was wanted last are free, want %d, and no other", n, most)
	}
	for range m.bytes / small[0].size() {
		if one := m.take(2900, 2); !slices.Contains(small, one) || len(one.bytes) != 2900 || len(one.events) != 2 {
			t.Fatalf("memory was made while there was some, or has %d bytes for 2900", len(one.bytes))
		}
	}
	if m.bytes != 0 {
		t.Errorf("%d bytes are free when all are taken", m.bytes)
	}
	small[0].free()
	for _, c := range []struct {
		size int
		free bool
	}{{4000, false}, {1200, false}, {1700, true}} {
		if one := m.take(c.size, 1); (one == small[0]) != c.free {
			t.Errorf("%d bytes were given memory of %d: %v, want %v", c.size, cap(small[0].bytes), !c.free, c.free)
		}
	}
	m.take(200_000, 1).free()
	if m.bytes != 0 {
		t.Errorf("%d bytes are free, of which one takes more than may be", m.bytes)
	}
	small[0].free()
	if n := m.forget(); n != small[0].size() || m.bytes != 0 {
		t.Errorf("%d bytes were dropped, %d are left", n, m.bytes)
	}
}

// TestFreeMemoryIsWhatIsWanted: what is free of a size, but never wanted at once, leaves
// room for another size, also where both are wanted all the time.
func TestFreeMemoryIsWhatIsWanted(t *testing.T) {
	m := &memories{limit: 1 << 20}
	var small []*memory
	for range 150 {
		small = append(small, m.take(3000, 3))
	}
	for _, one := range small {
		one.free()
	}
	known := make(map[*memory]bool)
	for range 1000 {
		var taken []*memory
		for range 3 {
			one := m.take(200_000, 200)
			known[one] = true
			taken = append(taken, one)
		}
		for _, one := range append(taken, m.take(3000, 3)) {
			one.free()
		}
	}
	if len(known) != 3 {
		t.Errorf("large memory was made %d times, and three are wanted at once", len(known))
	}
	if n := len(m.classes[small[0].class]); n < 10 {
		t.Errorf("%d small ones are left where there is room for more", n)
	}
}

// TestCacheCountsTheRoomOfWhatItKeeps: memory that held more events than are read into
// it counts as all that it takes.
func TestCacheCountsTheRoomOfWhatItKeeps(t *testing.T) {
	log, _, ch := openGroup(t, Options{TailBytes: 1, CacheBytes: 4 << 20}, raftlog.Options{MaxEntryBytes: 64 << 10, Reuse: true})
	shard := log.shard
	for i := range 2 { // the newest stays in the tail
		if err := ch.Append(t.Context(), someEvents(i, 1)); err != nil {
			t.Fatal(err)
		}
	}
	large := shard.memories.take(500, 1000)
	takes := large.size()
	large.free()
	var l Loan
	defer l.Return()
	if err := ch.Partitions()[0].(Lender).Lend(t.Context(), 0, 1, 1<<20, &l); err != nil {
		t.Fatal(err)
	}
	if shard.memories.bytes != 0 {
		t.Fatal("the event lies in memory of its own: nothing is tested")
	}
	if n := shard.cache.bytes; n < takes {
		t.Errorf("the cache counts %d bytes, what it keeps takes %d", n, takes)
	}
}
