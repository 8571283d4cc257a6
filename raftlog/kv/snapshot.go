package kv

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/dgraph-io/badger/v4"

	"github.com/leat-dev/leat/raftlog"
)

// A snapshot is snapshotMagic, the state's record with its length, then
// records, each with its length and kind before it, the last of kind
// recordEnd. DESIGN.md has the format.
const snapshotMagic = "LEATKV\x00\x01"

const (
	recordVersionOf = 'v' // one version of a key
	recordEvent     = 'e' // the event of a revision
	recordEnd       = '.' // how many records there were
)

// maxRecord bounds a record of a snapshot, so that a damaged length asks for
// no more memory than this.
const maxRecord = 2 << 20

var errSnapshot = errors.New("snapshot is not in a known format")

// Snapshot implements raftlog.Machine. The state is pinned at its revision:
// what is applied later does not change what is written.
func (s *Store) Snapshot() (raftlog.Snapshot, error) {
	s.dbMu.RLock() // until Release
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(); err != nil {
		s.dbMu.RUnlock()
		return nil, err
	}
	s.pins[s.meta.floor]++
	return &snapshot{s: s, meta: s.meta}, nil
}

type snapshot struct {
	s        *Store
	meta     meta
	released bool
}

// Release implements raftlog.Snapshot.
func (p *snapshot) Release() {
	if p.released {
		return
	}
	p.released = true
	p.s.mu.Lock()
	if p.s.pins[p.meta.floor]--; p.s.pins[p.meta.floor] == 0 {
		delete(p.s.pins, p.meta.floor)
	}
	p.s.discard()
	p.s.mu.Unlock()
	p.s.dbMu.RUnlock()
}

// Write implements raftlog.Snapshot.
func (p *snapshot) Write(out io.Writer) error {
	w := &recordWriter{w: bufio.NewWriterSize(out, 256<<10)}
	w.bytes([]byte(snapshotMagic))
	w.frame(p.meta.encode())
	if err := p.writeVersions(w); err != nil {
		return fmt.Errorf("write snapshot of revision %d: %w", p.meta.rev, err)
	}
	for rev := p.meta.floor + 1; rev <= p.meta.rev && w.err == nil; rev++ {
		txn := p.s.db.NewTransactionAt(rev, false)
		rec, err := getEvent(txn, rev)
		txn.Discard()
		if err != nil {
			return fmt.Errorf("write snapshot of revision %d: %w", p.meta.rev, err)
		}
		w.record(recordEvent, binary.AppendUvarint(nil, rev), rec.encode())
	}
	w.record(recordEnd, binary.AppendUvarint(nil, w.n), nil)
	if w.err == nil {
		w.err = w.w.Flush()
	}
	if w.err != nil {
		return fmt.Errorf("write snapshot of revision %d: %w", p.meta.rev, w.err)
	}
	// Once the snapshot is published, the log before it may go: what the
	// database holds of it must not depend on the log any more.
	if err := p.s.db.Sync(); err != nil {
		return fmt.Errorf("sync the database before a snapshot: %w", err)
	}
	return nil
}

// writeVersions writes the versions above the floor, and each key's newest one
// at or below it: those from which every revision can be read.
func (p *snapshot) writeVersions(w *recordWriter) error {
	txn := p.s.db.NewTransactionAt(p.meta.rev, false)
	defer txn.Discard()
	it := txn.NewIterator(badger.IteratorOptions{AllVersions: true, Prefix: []byte{prefixData}})
	defer it.Close()
	var key []byte
	done := false // with key: its newest version at or below the floor is written
	for it.Rewind(); it.Valid() && w.err == nil; it.Next() {
		item := it.Item()
		if !bytes.Equal(key, item.Key()) {
			key, done = append(key[:0], item.Key()...), false
		}
		if done {
			continue
		}
		deleted := item.IsDeletedOrExpired()
		if item.Version() <= p.meta.floor {
			done = true
			if deleted {
				continue
			}
		}
		head := binary.AppendUvarint(nil, item.Version())
		head = binary.AppendUvarint(head, uint64(len(key)-1))
		head = append(head, key[1:]...)
		if deleted {
			w.record(recordVersionOf, append(head, 1), nil)
			continue
		}
		err := item.Value(func(b []byte) error {
			w.record(recordVersionOf, append(head, 0), b)
			return nil
		})
		if err != nil {
			return fmt.Errorf("read %q at revision %d: %w", key[1:], item.Version(), err)
		}
	}
	return nil
}

type recordWriter struct {
	w   *bufio.Writer
	n   uint64
	err error
}

func (w *recordWriter) bytes(b []byte) {
	if w.err == nil {
		_, w.err = w.w.Write(b)
	}
}

func (w *recordWriter) frame(parts ...[]byte) {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	w.bytes(binary.AppendUvarint(nil, uint64(n)))
	for _, p := range parts {
		w.bytes(p)
	}
}

func (w *recordWriter) record(kind byte, head, rest []byte) {
	w.frame([]byte{kind}, head, rest)
	w.n++
}

// Restore implements raftlog.Machine. At its start raft restores its newest
// snapshot even where the database is ahead of it; that one is only read past.
func (s *Store) Restore(in io.Reader) error {
	r := bufio.NewReaderSize(in, 256<<10)
	m, err := readSnapshotHead(r)
	if err != nil {
		return fmt.Errorf("restore resources: %w", err)
	}
	s.mu.Lock()
	held, err := s.meta, s.usable()
	s.mu.Unlock()
	if err != nil {
		return err
	}
	if m.applied <= held.applied && m.term <= held.term {
		_, err := io.Copy(io.Discard, r)
		return err
	}
	s.tables.merging.Lock()
	defer s.tables.merging.Unlock()
	s.dbMu.Lock()
	defer s.dbMu.Unlock()
	err = s.load(m, r)
	if err != nil {
		err = fmt.Errorf("restore resources as of revision %d: %w", m.rev, err)
		s.fail(err)
	}
	return err
}

// load replaces the database by a snapshot's content. The caller holds
// tables.merging and dbMu.
func (s *Store) load(m meta, r *bufio.Reader) error {
	s.mu.Lock()
	s.watchers.closeAll(ErrReset)
	s.mu.Unlock()
	if err := s.room(); err != nil {
		return err // what there is stays
	}
	if err := s.wipe(); err != nil {
		return err
	}
	batch := s.db.NewManagedWriteBatch()
	defer batch.Cancel()
	space := loading{s: s}
	if err := readSnapshotRecords(r, m, func(l loaded) error {
		if err := space.take(len(l.key) + len(l.value)); err != nil {
			return err
		}
		return l.store(batch)
	}); err != nil {
		return err
	}
	if err := batch.Flush(); err != nil {
		return err
	}
	if err := s.verify(m); err != nil {
		return err
	}
	if err := s.indexExpiries(m); err != nil {
		return err
	}
	if err := s.writeMeta(m); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.meta = m
	s.discard()
	s.recent.reset(m.rev)
	s.due = 0
	s.wakeWaiters()
	s.wakeMaintenance()
	s.tables.tell()
	return nil
}

// loaded is a record of a snapshot: a version of a key, or an event.
type loaded struct {
	rev     uint64
	key     []byte // in the database
	deleted bool
	value   []byte // as in the database
}

func (l loaded) store(batch *badger.WriteBatch) error {
	if l.deleted {
		return batch.DeleteAt(l.key, l.rev)
	}
	return batch.SetEntryAt(badger.NewEntry(l.key, l.value), l.rev)
}

// indexExpiries writes the index of what will expire, which a snapshot does
// not hold.
func (s *Store) indexExpiries(m meta) error {
	txn := s.db.NewTransactionAt(m.rev, false)
	defer txn.Discard()
	it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte{prefixData}})
	defer it.Close()
	batch := s.db.NewManagedWriteBatch()
	defer batch.Cancel()
	for it.Rewind(); it.Valid(); it.Next() {
		kv, err := itemKV(string(it.Item().Key()[1:]), it.Item())
		if err != nil {
			return err
		}
		if kv.Expiry == 0 {
			continue
		}
		if err := batch.SetEntryAt(badger.NewEntry(expiryKey(kv.Expiry, kv.Key), nil), kv.ModRev); err != nil {
			return err
		}
	}
	return batch.Flush()
}

func readSnapshotHead(r *bufio.Reader) (meta, error) {
	magic := make([]byte, len(snapshotMagic))
	if _, err := io.ReadFull(r, magic); err != nil || string(magic) != snapshotMagic {
		return meta{}, errors.Join(fmt.Errorf("%w: it begins with %q", errSnapshot, magic), err)
	}
	b, err := readFrame(r)
	if err != nil {
		return meta{}, err
	}
	return decodeMeta(b)
}

// readSnapshotRecords reads all records to the end mark.
func readSnapshotRecords(r *bufio.Reader, m meta, add func(loaded) error) error {
	for n := uint64(0); ; n++ {
		b, err := readFrame(r)
		if err != nil {
			return fmt.Errorf("record %d: %w", n, err)
		}
		f := fields{b: b}
		kind, number := f.byte(), f.uvarint()
		l := loaded{rev: number}
		switch kind {
		case recordVersionOf:
			l.key = dataKey(string(f.bytes(f.uvarint())))
			l.deleted = f.byte() == 1
			l.value = f.rest()
			if _, _, err := decodeData(l.value); err != nil && !l.deleted {
				return fmt.Errorf("record %d: %w", n, err)
			}
		case recordEvent:
			l.key, l.value = eventKey(number), f.rest()
			if _, err := decodeEvent(l.value); err != nil {
				return fmt.Errorf("record %d: %w", n, err)
			}
		case recordEnd:
			if f.bad || len(f.b) > 0 || number != n {
				return fmt.Errorf("%w: it ends after %d records and should have %d", errSnapshot, n, number)
			}
			return nil
		default:
			return fmt.Errorf("%w: record %d is of kind %q", errSnapshot, n, kind)
		}
		if f.bad || l.rev == 0 || l.rev > m.rev || len(l.key) < 2 {
			return fmt.Errorf("%w: record %d, of kind %q", errSnapshot, n, kind)
		}
		if err := add(l); err != nil {
			return err
		}
	}
}

func readFrame(r *bufio.Reader) ([]byte, error) {
	n, err := binary.ReadUvarint(r)
	if err != nil {
		return nil, fmt.Errorf("%w: it is cut short: %w", errSnapshot, err)
	}
	if n > min(maxRecord, math.MaxInt32) {
		return nil, fmt.Errorf("%w: a record of %d bytes", errSnapshot, n)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, fmt.Errorf("%w: it is cut short: %w", errSnapshot, err)
	}
	return b, nil
}
