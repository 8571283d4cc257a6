package channel

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"

	"github.com/leat-dev/leat/raftlog"
)

// snapshotVersion is the first byte of a snapshot's content; DESIGN.md has the
// layout. Its sums are the snapshot store's. Version 1 has no producers,
// version 2 no ranges that were passed.
const snapshotVersion = 3

// frozen is the state at one moment. What it refers to is immutable.
type frozen struct {
	nextID   uint32
	lastTime int64
	channels []frozenChannel
}

type frozenChannel struct {
	num              uint32
	id               ID
	config           Config
	version, changes uint64
	subs             []*Subscription
	parts            []frozenPartition
	producers        []producerPosition
}

type frozenPartition struct {
	key         uint32
	number      int
	homes       []interval
	floor, next uint64
	outcomes    uint64
	scan, known uint64
	holders     []holder // letters is not used
	letters     []frozenLetters
	past        []*term
	passed      []Range
}

type frozenLetters struct {
	uid         string
	key         uint32
	floor, next uint64
}

// Snapshot implements raftlog.Machine. It copies references only; sorting and
// encoding are left to Write.
func (s *Shard) Snapshot() (raftlog.Snapshot, error) {
	if s.broken != nil {
		return nil, s.broken
	}
	f := &frozen{nextID: s.nextID, lastTime: s.lastTime.Load(), channels: make([]frozenChannel, 0, len(s.channels))}
	for _, ch := range s.channels {
		fc := frozenChannel{
			num: ch.num, id: ch.ident, config: ch.config, version: ch.version.Load(), changes: ch.changes.Load(),
			subs:      slices.AppendSeq(make([]*Subscription, 0, len(ch.subs)), maps.Values(ch.subs)),
			producers: ch.producers.list(),
		}
		for _, p := range ch.partitions() {
			fc.parts = append(fc.parts, p.freeze())
		}
		f.channels = append(f.channels, fc)
	}
	return f, nil
}

func (p *raftPartition) freeze() frozenPartition {
	f := frozenPartition{
		key: p.key, number: p.number, homes: p.homes, floor: p.floor.Load(), next: p.next,
		outcomes: p.outcomes.Load(), scan: p.scan.Load(), known: p.known, passed: p.passedRanges(),
		holders: make([]holder, 0, len(p.subs)), past: slices.Clone(p.past),
	}
	for _, h := range p.subs {
		f.holders = append(f.holders, *h)
		if l := h.letters; l != nil {
			f.letters = append(f.letters, frozenLetters{uid: h.uid, key: l.key, floor: l.floor.Load(), next: l.next})
		}
	}
	return f
}

// Release implements raftlog.Snapshot.
func (f *frozen) Release() {}

// Write implements raftlog.Snapshot. Equal states are equal bytes.
func (f *frozen) Write(w io.Writer) error {
	b := []byte{snapshotVersion}
	b = binary.AppendUvarint(b, uint64(f.nextID))
	b = binary.AppendVarint(b, f.lastTime)
	b = binary.AppendUvarint(b, uint64(len(f.channels)))
	if _, err := w.Write(b); err != nil {
		return err
	}
	slices.SortFunc(f.channels, func(a, b frozenChannel) int { return cmp.Compare(a.num, b.num) })
	for i := range f.channels {
		body := f.channels[i].append(nil)
		b = binary.AppendUvarint(b[:0], uint64(len(body)))
		if _, err := w.Write(b); err != nil {
			return err
		}
		if _, err := w.Write(body); err != nil {
			return err
		}
	}
	return nil
}

// subTable numbers the versions of subscriptions that terms refer to.
type subTable struct {
	index map[*Subscription]uint64
	subs  []*Subscription
}

func (t *subTable) add(s *Subscription) {
	if _, ok := t.index[s]; !ok {
		t.index[s] = uint64(len(t.subs))
		t.subs = append(t.subs, s)
	}
}

func (f *frozenChannel) append(b []byte) []byte {
	slices.SortFunc(f.subs, func(a, b *Subscription) int { return cmp.Compare(a.UID, b.UID) })
	table := subTable{index: make(map[*Subscription]uint64, len(f.subs))}
	for _, s := range f.subs {
		table.add(s)
	}
	for i := range f.parts {
		f.parts[i].sort(&table)
	}
	b = binary.AppendUvarint(b, uint64(f.num))
	b = appendConfig(appendID(b, f.id), f.config)
	b = binary.AppendUvarint(b, f.version)
	b = binary.AppendUvarint(b, f.changes)
	b = binary.AppendUvarint(b, uint64(len(table.subs)))
	for _, s := range table.subs {
		b = appendSubscription(b, s)
	}
	b = binary.AppendUvarint(b, uint64(len(f.subs))) // the first ones of the table
	b = binary.AppendUvarint(b, uint64(len(f.parts)))
	for i := range f.parts {
		b = f.parts[i].append(b, &table)
	}
	return appendProducers(b, f.producers)
}

func (f *frozenPartition) sort(table *subTable) {
	slices.SortFunc(f.holders, func(a, b holder) int { return cmp.Compare(a.uid, b.uid) })
	slices.SortFunc(f.letters, func(a, b frozenLetters) int { return cmp.Compare(a.uid, b.uid) })
	for _, h := range f.holders {
		for _, t := range h.terms {
			table.add(t.sub)
		}
	}
	for _, t := range f.past {
		table.add(t.sub)
	}
}

func (f *frozenPartition) append(b []byte, table *subTable) []byte {
	b = binary.AppendUvarint(b, uint64(f.key))
	b = binary.AppendUvarint(b, uint64(f.number))
	b = appendHomes(b, f.homes)
	for _, v := range [...]uint64{f.floor, f.next, f.outcomes, f.scan, f.known, uint64(len(f.holders))} {
		b = binary.AppendUvarint(b, v)
	}
	for i := range f.holders {
		h := &f.holders[i]
		b = appendString(b, h.uid)
		b = appendTerms(b, h.terms, table)
		if h.cursor == nil {
			b = append(b, 0)
		} else {
			b = appendCursor(append(b, 1), *h.cursor)
		}
	}
	b = appendTerms(b, f.past, table)
	b = binary.AppendUvarint(b, uint64(len(f.letters)))
	for _, l := range f.letters {
		b = appendString(b, l.uid)
		b = binary.AppendUvarint(b, uint64(l.key))
		b = binary.AppendUvarint(b, l.floor)
		b = binary.AppendUvarint(b, l.next)
	}
	b = binary.AppendUvarint(b, uint64(len(f.passed)))
	for _, r := range f.passed {
		b = binary.AppendUvarint(b, r.From)
		b = binary.AppendUvarint(b, r.To-r.From)
	}
	return b
}

func appendTerms(b []byte, terms []*term, table *subTable) []byte {
	b = binary.AppendUvarint(b, uint64(len(terms)))
	for _, t := range terms {
		b = binary.AppendUvarint(b, table.index[t.sub])
		b = binary.AppendUvarint(b, t.from)
		b = binary.AppendUvarint(b, t.to+1) // toEnd becomes 0
		b = binary.AppendUvarint(b, t.started)
		b = binary.AppendUvarint(b, t.opened-t.started)
	}
	return b
}

func (d *decoder) terms(subs []*Subscription) []*term {
	var out []*term
	for n := d.count(); n > 0 && d.err == nil; n-- {
		i := d.uvarint()
		t := &term{from: d.uvarint(), to: d.uvarint() - 1, started: d.uvarint()}
		t.opened = t.started + d.uvarint()
		if i >= uint64(len(subs)) {
			d.fail("a term of a subscription that is not there")
			return nil
		}
		t.sub = subs[i]
		out = append(out, t)
	}
	return out
}

// Restore implements raftlog.Machine. Channels that were there before are gone:
// whoever holds one gets ErrNotFound and looks it up again.
func (s *Shard) Restore(r io.Reader) error {
	fresh := &Shard{o: s.o}
	fresh.reset()
	if err := fresh.read(bufio.NewReader(r)); err != nil {
		return fmt.Errorf("restore shard %d: %w", s.o.Number, err)
	}
	old := s.channels
	s.mu.Lock()
	s.nextID, s.channels, s.byUID, s.byName, s.parts, s.letters = fresh.nextID, fresh.channels, fresh.byUID, fresh.byName, fresh.parts, fresh.letters
	for _, ch := range s.channels {
		ch.shard = s
	}
	s.mu.Unlock()
	s.lastTime.Store(fresh.lastTime.Load())
	s.tail.reset()
	for _, ch := range old {
		ch.gone.Store(true)
		for _, p := range ch.partitions() {
			s.tail.clear(p)
			p.notice.wake(math.MaxUint64, math.MaxUint64) // all of them
		}
	}
	return nil
}

func (s *Shard) read(r *bufio.Reader) error {
	version, err := r.ReadByte()
	if err != nil {
		return err
	}
	if version < 1 || version > snapshotVersion {
		return fmt.Errorf("snapshot version %d is not known here: run the version that wrote it", version)
	}
	nextID, err := binary.ReadUvarint(r)
	if err != nil {
		return err
	}
	lastTime, err := binary.ReadVarint(r)
	if err != nil {
		return err
	}
	n, err := binary.ReadUvarint(r)
	if err != nil {
		return err
	}
	s.nextID = uint32(nextID)
	s.lastTime.Store(lastTime)
	var body bytes.Buffer
	for i := range n {
		size, err := binary.ReadUvarint(r)
		if err == nil {
			body.Reset()
			_, err = io.CopyN(&body, r, int64(min(size, 1<<62)))
		}
		if err != nil {
			return fmt.Errorf("channel %d of %d: %w", i, n, err)
		}
		d := decoder{b: body.Bytes()}
		s.readChannel(&d, version)
		if err := d.done(); err != nil {
			return fmt.Errorf("channel %d of %d: %w", i, n, err)
		}
	}
	if _, err := r.ReadByte(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: something follows the last channel", errFormat)
	}
	return nil
}

func (s *Shard) readChannel(d *decoder, version byte) {
	ch := s.newChannel(d.uint32(), d.id(), d.config())
	ch.version.Store(d.uvarint())
	ch.recent.before = d.uvarint() // what changed up to here is told as a whole
	ch.changes.Store(ch.recent.before)
	var subs []*Subscription
	for n := d.count(); n > 0 && d.err == nil; n-- {
		sub := d.subscription()
		subs = append(subs, &sub)
	}
	inForce := d.uvarint()
	if inForce > uint64(len(subs)) {
		d.fail("more subscriptions in force than there are")
		return
	}
	for _, sub := range subs[:inForce] {
		ch.subs[sub.UID] = sub
	}
	for n := d.count(); n > 0 && d.err == nil; n-- {
		s.readPartition(d, ch, subs, version)
	}
	if version >= 2 {
		d.producers(&ch.producers)
	}
	if d.err == nil {
		s.addChannel(ch)
	}
}

func (s *Shard) readPartition(d *decoder, ch *raftChannel, subs []*Subscription, version byte) {
	p := s.addPartition(ch, d.uint32(), int(d.uint32()), d.homes())
	p.floor.Store(d.uvarint())
	p.next = d.uvarint()
	p.end.Store(p.next)
	p.outcomes.Store(d.uvarint())
	p.scan.Store(d.uvarint())
	p.known = d.uvarint()
	for n := d.count(); n > 0 && d.err == nil; n-- {
		h := &holder{uid: d.string(), terms: d.terms(subs)}
		if len(h.terms) == 0 {
			d.fail("a subscription without terms")
			return
		}
		h.started = h.last().started
		if d.byte() == 1 {
			c := d.cursor()
			p.setCursor(h, &c)
		}
		p.subs[h.uid] = h
		if len(h.terms) > 1 {
			p.closing[h.uid] = h
		}
		if h.last().opened > p.known {
			p.recent[h.uid] = h
		}
	}
	p.past = d.terms(subs)
	for n := d.count(); n > 0 && d.err == nil; n-- {
		l := &letterLog{p: p, uid: d.string(), key: d.uint32()}
		l.floor.Store(d.uvarint())
		l.next = d.uvarint()
		l.end.Store(l.next)
		h := p.subs[l.uid]
		if h == nil {
			d.fail("dead letters of a subscription that is not there")
			return
		}
		h.letters = l
		s.letters[l.key] = l
	}
	if version < 3 {
		return
	}
	var passed []Range
	for n := d.count(); n > 0 && d.err == nil; n-- {
		from := d.uvarint()
		passed = append(passed, Range{from, from + d.uvarint()})
	}
	if passed != nil {
		p.passed.Store(&passed)
	}
}
