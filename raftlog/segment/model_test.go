package segment

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/leat-dev/leat/raftlog/vfs/errorfs"
	"github.com/leat-dev/leat/raftlog/vfs/memfs"
)

// content is what a log holds: the terms of its entries, which their content
// follows from.
type content struct {
	first uint64 // 0: empty
	terms []uint64
}

func (c content) last() uint64 { return c.first + uint64(len(c.terms)) - 1 }

func (c content) empty() bool { return len(c.terms) == 0 }

// from cuts off what is below an index.
func (c content) from(index uint64) content {
	switch {
	case c.empty() || index <= c.first:
		return c
	case index > c.last():
		return content{}
	}
	return content{first: index, terms: c.terms[index-c.first:]}
}

// below cuts off an index and what is above it.
func (c content) below(index uint64) content {
	if c.empty() || index <= c.first {
		return content{}
	}
	return content{first: c.first, terms: c.terms[:min(index-c.first, uint64(len(c.terms)))]}
}

func (c content) with(logs []*raft.Log) content {
	if c.empty() {
		c.first = logs[0].Index
	}
	c.terms = slices.Clone(c.terms)
	for _, l := range logs {
		c.terms = append(c.terms, l.Term)
	}
	return c
}

func (c content) equal(d content) bool {
	return c.empty() && d.empty() || c.first == d.first && slices.Equal(c.terms, d.terms)
}

func (c content) String() string {
	if c.empty() {
		return "nothing"
	}
	return fmt.Sprintf("entries %d to %d", c.first, c.last())
}

// readContent reads a whole log, and checks each entry.
func readContent(s *Store) (content, error) {
	first, last := bounds(s)
	c := content{first: first}
	for i := first; first != 0 && i <= last; i++ {
		var l raft.Log
		if err := s.GetLog(i, &l); err != nil {
			return c, fmt.Errorf("entry %d: %w", i, err)
		}
		if !same(&l, entry(i, l.Term)) {
			return c, fmt.Errorf("entry %d reads back as %+v", i, l)
		}
		c.terms = append(c.terms, l.Term)
	}
	return c, nil
}

// model knows what a log must hold: now, or one of what the operation in flight
// leads to.
type model struct {
	now  content
	next []content
	drop uint64 // whole segments below this index may go, or be gone
	high uint64 // the highest index there ever was
}

// check wants a log that holds what it may.
func (m *model) check(s *Store) error {
	got, err := readContent(s)
	if err != nil {
		return err
	}
	for _, want := range append([]content{m.now}, m.next...) {
		if got.equal(want) || got.first > want.first && got.first <= m.drop && !want.empty() && got.equal(want.from(got.first)) {
			return nil
		}
	}
	return fmt.Errorf("the log holds %v; it should hold %v, or %v of an operation in flight", got, m.now, m.next)
}

// begin notes an operation, whose outcome is not known until done.
func (m *model) begin(next ...content) { m.next = next }

func (m *model) done() {
	m.now, m.next = m.next[len(m.next)-1], nil
}

func (m *model) append(s *Store, n int, term uint64) error {
	from := uint64(1)
	if !m.now.empty() {
		from = m.now.last() + 1
	} else if m.high > 0 {
		from = m.high + 5 // as after an installed snapshot
	}
	m.high = from + uint64(n)
	logs := entries(from, from+uint64(n)-1, term)
	var next []content
	for i := range logs {
		next = append(next, m.now.with(logs[:i+1]))
	}
	m.begin(next...)
	err := s.StoreLogs(logs)
	if err == nil {
		m.done()
	}
	return err
}

func (m *model) delete(s *Store, first, last uint64) error {
	next := m.now.below(first)
	if first <= m.now.first {
		next = m.now.from(last + 1)
	}
	m.begin(next)
	err := s.DeleteRange(first, last)
	if err == nil {
		m.done()
	}
	return err
}

func (m *model) dropBefore(s *Store, index uint64) error {
	m.drop = max(m.drop, min(index, m.now.last()))
	err := s.DropBefore(index)
	first, _ := bounds(s)
	m.now = m.now.from(first)
	return err
}

// step does one random operation.
func (m *model) step(s *Store, r *rand.Rand, term uint64) error {
	s.keepUp()
	size := uint64(len(m.now.terms))
	if size == 0 {
		return m.append(s, 1+r.IntN(8), term)
	}
	first, last := m.now.first, m.now.last()
	switch p := r.IntN(100); {
	case p < 75:
		return m.append(s, 1+r.IntN(8), term)
	case p < 83:
		addRows(s, s.Indexed()+1, first+r.Uint64N(size))
		return nil
	case p < 90:
		return m.delete(s, last-r.Uint64N(min(size, 80)), last)
	case p < 93:
		return m.delete(s, first, first+r.Uint64N(min(size, 60)))
	case p < 94:
		return m.delete(s, first, last)
	default:
		return m.dropBefore(s, first+r.Uint64N(size))
	}
}

// TestLogAgainstAModel does random operations, restarts, kills and power cuts,
// also in the middle of an operation, and wants what the model holds.
func TestLogAgainstAModel(t *testing.T) {
	seed, runs, steps := uint64(time.Now().UnixNano()), 40, 400
	if testing.Short() {
		runs = 5
	}
	for i := range uint64(runs) {
		t.Run(fmt.Sprint("seed=", seed+i), func(t *testing.T) { runModel(t, testRand(seed+i), steps) })
	}
}

func runModel(t *testing.T, r *rand.Rand, steps int) {
	cuts := 0
	inner := memfs.New(0)
	cut := &powerCut{r: r}
	m := &model{}
	open := func() *Store {
		s := loadLog(t, errorfs.Wrap(inner, cut.hook(inner)))
		if err := m.check(s); err != nil {
			t.Fatal(err)
		}
		m.settle(t, s)
		return s
	}
	s := open()
	for i := range steps {
		term := uint64(i/10 + 1)
		cut.arm(50)
		if err := m.step(s, r, term); err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
		switch p := r.IntN(100); {
		case cut.left != nil:
			// The machine stopped in the middle of that step.
			m.next = append(m.next, cut.before(m)...)
			inner, cut.left = cut.left, nil
			cuts++
			cut.disarm()
			s.Close()
			s = open()
		case p < 3:
			cut.disarm()
			closeLog(t, s)
			s = open()
		case p < 6:
			cut.disarm()
			left := inner.Clone()
			closeLog(t, s)
			inner = left
			s = open()
		}
		m.drop = min(m.drop, max(m.now.first, 1)) // those that were to go are gone
		cut.past = m.now
	}
	cut.disarm()
	closeLog(t, s)
	closeLog(t, open())
	if cuts == 0 {
		t.Error("the machine never stopped in the middle of a step: too little is tested")
	}
}

// settle takes the outcome that the log shows.
func (m *model) settle(t *testing.T, s *Store) {
	t.Helper()
	got, err := readContent(s)
	must(t, err)
	m.now, m.next = got, nil
}

// powerCut keeps what a power cut would leave, at a random change of the disk.
type powerCut struct {
	r    *rand.Rand
	in   atomic.Int64 // changes until then; 0: never
	left *memfs.FS
	past content // before the step
}

func (c *powerCut) arm(within int) {
	if c.r.IntN(5) == 0 {
		c.in.Store(int64(1 + c.r.IntN(within)))
	}
}

func (c *powerCut) disarm() { c.in.Store(0) }

func (c *powerCut) before(m *model) []content { return append(c.past.prefixes(m.now), c.past) }

// prefixes are the states on the way from one content to another, by appends.
func (c content) prefixes(to content) []content {
	var all []content
	if !to.empty() && len(to.terms) > len(c.terms) {
		for i := to.first; i <= to.last(); i++ {
			if p := to.below(i + 1); len(p.terms) > len(c.terms) {
				all = append(all, p)
			}
		}
	}
	return all
}

func (c *powerCut) hook(inner *memfs.FS) errorfs.Hook {
	return func(op errorfs.Op, _ string) error {
		if slices.Contains(errorfs.Mutations(), op) && c.in.Load() > 0 && c.in.Add(-1) == 0 {
			c.left = inner.CrashClone(c.r, []float64{0, 0.3, 0.7, 1}[c.r.IntN(4)])
		}
		return nil
	}
}

var errDisk = errors.New("the disk failed")
