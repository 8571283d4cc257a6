package raftlog

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"

	"github.com/leat-dev/leat/raftlog/segment"
)

// fsm adapts a Machine to raft: it unpacks entries, hands the rows that the
// machine reports to the segments, and frames snapshots.
type fsm struct {
	machine Machine
	store   *segment.Store
	observe func(logTime int64)
	fatal   func(error)

	// mu is held while the machine is called: by raft, or by who applies an entry
	// before raft does (committer).
	mu sync.Mutex
	// applied is the index of the last command entry; entries between it and
	// the next one are raft's own.
	applied atomic.Uint64
	// seen is the last entry that raft passed over, and saw is told of each.
	seen     atomic.Uint64
	saw      func()
	lastTime int64
	applying Entry    // the entry that is applied
	commands [][]byte // room for those of an entry that is applied
	failed   error    // why a restore at the start failed
	// end is asked at the start for the log's last entry, where nobody else can
	// have more than this node; nil afterwards, and in other cases. Of a snapshot
	// that has more, ahead is told.
	end   func() (uint64, error)
	ahead error
	// restored are the rows of the snapshot that was restored, by entry: it may have
	// entries beyond its name, of a time when another member was the sole voter,
	// which this one's log gets later. Nil where the log has them.
	restored []Row
}

var _ raft.BatchingFSM = (*fsm)(nil)

// ApplyBatch implements raft.BatchingFSM.
func (f *fsm) ApplyBatch(logs []*raft.Log) []any {
	out := make([]any, len(logs))
	for i, l := range logs {
		out[i] = f.Apply(l)
	}
	return out
}

// Apply implements raft.FSM. An entry that is in the state already, because it
// was applied early or before the snapshot that was restored, is passed over.
func (f *fsm) Apply(l *raft.Log) any {
	f.mu.Lock()
	defer f.mu.Unlock()
	if l.Type != raft.LogCommand || l.Index <= f.applied.Load() {
		f.passOver(l.Index)
		f.seen.Store(l.Index)
		f.saw()
		return nil
	}
	f.restored = nil
	return f.apply(l, nil)
}

// applyStored applies an entry that is the next one and committed, whatever raft
// knows of it.
func (f *fsm) applyStored(l *raft.Log, in *Buffer) any {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.apply(l, in)
}

// passOver gives the log the rows that came with a snapshot, of an entry that the
// snapshot had.
func (f *fsm) passOver(index uint64) {
	from, _ := slices.BinarySearchFunc(f.restored, index, func(r Row, i uint64) int { return cmp.Compare(r.Index, i) })
	to := from
	for to < len(f.restored) && f.restored[to].Index == index {
		to++
	}
	if to > from {
		f.store.AddRows(index, f.restored[from:to])
	}
}

// mostCommandRoom is for how many commands, and rows, room is kept at most.
const mostCommandRoom = 4096

func (f *fsm) apply(l *raft.Log, in *Buffer) any {
	t, commands, err := splitEntry(f.commands[:0], l.Data)
	if err != nil {
		err = fmt.Errorf("apply entry %d: %w; was it written by a newer version?", l.Index, err)
		f.fatal(err)
		return err
	}
	e := &f.applying
	*e = Entry{Index: l.Index, Term: l.Term, Time: t, Commands: commands, TakeRows: f.store.AddRows, Buffer: in, rows: e.rows[:0], room: cap(l.Data)}
	results := f.machine.Apply(e)
	e.IndexRows()
	rows := e.rows
	if *e = (Entry{}); cap(rows) <= mostCommandRoom {
		e.rows = rows
	}
	if clear(commands); cap(commands) <= mostCommandRoom {
		f.commands = commands
	}
	f.applied.Store(l.Index)
	f.lastTime = t
	f.observe(t)
	return results
}

// A snapshot's content begins with snapshotVersion and the fields of its
// header; then comes what the machine wrote.
const snapshotVersion = 1

// Snapshot implements raft.FSM.
func (f *fsm) Snapshot() (raft.FSMSnapshot, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s, err := f.machine.Snapshot()
	if err != nil {
		return nil, err
	}
	applied := f.applied.Load()
	return &snapshot{machine: s, snapshotHeader: snapshotHeader{applied: applied, indexed: f.store.Indexed(), time: f.lastTime, rows: f.store.PendingRows(applied)}}, nil
}

// Restore implements raft.FSM.
func (f *fsm) Restore(rc io.ReadCloser) error {
	defer rc.Close()
	err := f.restore(bufio.NewReaderSize(rc, 1<<20))
	if err != nil {
		err = fmt.Errorf("restore snapshot: %w", err)
		f.failed = errors.Join(f.failed, err)
	}
	return err
}

func (f *fsm) restore(r *bufio.Reader) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	h, err := readSnapshotHeader(r)
	if err != nil {
		return err
	}
	if err := f.reaches(h.applied); err != nil {
		f.ahead = err
		return err
	}
	if err := f.machine.Restore(r); err != nil {
		return fmt.Errorf("at entry %d: %w", h.applied, err)
	}
	f.store.RestoreRows(h.applied, h.rows)
	f.restored = nil
	if f.end == nil {
		slices.SortStableFunc(h.rows, func(a, b Row) int { return cmp.Compare(a.Index, b.Index) })
		f.restored = h.rows
	}
	f.applied.Store(h.applied)
	f.lastTime = h.time
	f.observe(h.time)
	return nil
}

// reaches refuses a snapshot of entries that the log has lost: they had been
// synced before they were applied.
func (f *fsm) reaches(entry uint64) error {
	if f.end == nil {
		return nil
	}
	last, err := f.end()
	if err != nil || last >= entry {
		return err
	}
	return f.lost(last, entry)
}

// lost names the place where entries are missing.
func (f *fsm) lost(last, entry uint64) error {
	e := &segment.DamagedError{First: last + 1, Last: entry, Reason: "the log ends here, but a snapshot has what came after it"}
	for _, s := range f.store.Segments() {
		if e.File == "" || s.First <= last && last <= s.Last {
			e.File, e.Offset = s.Path, s.Bytes
		}
	}
	return e
}

type snapshot struct {
	machine Snapshot
	snapshotHeader
}

type snapshotHeader struct {
	applied uint64 // the last command entry in the state
	indexed uint64 // entries up to here had their rows in indexes on disk
	time    int64
	rows    []Row // of the entries after indexed
}

// Persist implements raft.FSMSnapshot.
func (s *snapshot) Persist(sink raft.SnapshotSink) error {
	w := bufio.NewWriterSize(sink, 1<<20)
	err := s.snapshotHeader.write(w)
	if err == nil {
		err = s.machine.Write(w)
	}
	if err == nil {
		err = w.Flush()
	}
	if err != nil {
		return errors.Join(err, sink.Cancel())
	}
	return sink.Close()
}

// Release implements raft.FSMSnapshot.
func (s *snapshot) Release() { s.machine.Release() }

func (h snapshotHeader) write(w io.Writer) error {
	b := []byte{snapshotVersion}
	b = binary.AppendUvarint(b, h.applied)
	b = binary.AppendUvarint(b, h.indexed)
	b = binary.AppendVarint(b, h.time)
	b = binary.AppendUvarint(b, uint64(len(h.rows)))
	for _, r := range h.rows {
		b = binary.AppendUvarint(b, uint64(r.Key))
		b = append(b, r.Kind)
		b = binary.AppendUvarint(b, r.Base)
		b = binary.AppendUvarint(b, uint64(r.Count))
		b = binary.AppendUvarint(b, uint64(r.Bytes))
		b = binary.AppendUvarint(b, r.Index)
		b = binary.AppendVarint(b, r.Time)
	}
	_, err := w.Write(b)
	return err
}

func readSnapshotHeader(r io.ByteReader) (h snapshotHeader, err error) {
	version, err := r.ReadByte()
	if err != nil {
		return h, err
	}
	if version != snapshotVersion {
		return h, fmt.Errorf("snapshot version %d is not known here; was it written by a newer version?", version)
	}
	d := decoder{r: r}
	h.applied, h.indexed, h.time = d.uvarint(), d.uvarint(), d.varint()
	n := d.uvarint()
	for i := uint64(0); i < n && d.err == nil; i++ {
		h.rows = append(h.rows, Row{
			Key: uint32(d.uvarint()), Kind: d.byte(), Base: d.uvarint(), Count: uint32(d.uvarint()),
			Bytes: uint32(d.uvarint()), Index: d.uvarint(), Time: d.varint(),
		})
	}
	return h, d.err
}

// decoder reads numbers until the first error, which it keeps.
type decoder struct {
	r   io.ByteReader
	err error
}

func (d *decoder) uvarint() uint64 {
	return decodeNumber(d, binary.ReadUvarint)
}

func (d *decoder) varint() int64 {
	return decodeNumber(d, binary.ReadVarint)
}

func (d *decoder) byte() byte {
	return decodeNumber(d, func(r io.ByteReader) (byte, error) { return r.ReadByte() })
}

func decodeNumber[T any](d *decoder, read func(io.ByteReader) (T, error)) T {
	var zero T
	if d.err != nil {
		return zero
	}
	v, err := read(d.r)
	if err != nil {
		d.err = fmt.Errorf("snapshot header: %w", err)
		return zero
	}
	return v
}
