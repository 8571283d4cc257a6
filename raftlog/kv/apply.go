package kv

import (
	"errors"
	"fmt"
	"hash/crc32"
	"sync"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/leat-dev/leat/raftlog"
)

// Apply implements raftlog.Machine. Each command's result is a Result, or an
// error when the store has failed.
func (s *Store) Apply(e *raftlog.Entry) []any {
	results := make([]any, len(e.Commands))
	s.dbMu.RLock()
	defer s.dbMu.RUnlock()
	s.mu.Lock()
	m, err := s.meta, s.usable()
	s.mu.Unlock()
	if err == nil && e.Index <= m.applied {
		// A restart applies again what the database already holds; nobody waits
		// for these results.
		err = s.checkHeld(e, m)
		fill(results, Result{Rev: m.rev})
	}
	if err != nil {
		fill(results, err)
	}
	if err != nil || e.Index <= m.applied {
		return results
	}
	if err := s.room(); err != nil {
		s.fail(fmt.Errorf("apply entry %d: %w", e.Index, err))
		fill(results, err)
		return results
	}
	a := &applier{s: s, e: e, meta: m, pending: map[string]*KV{}}
	a.read = s.db.NewTransactionAt(m.rev, false)
	defer a.read.Discard()
	for i, c := range e.Commands {
		r, err := a.apply(c)
		if err != nil {
			a.abandon()
			s.fail(fmt.Errorf("apply entry %d: %w", e.Index, err))
			fill(results, err)
			return results
		}
		results[i] = r
	}
	if err := a.commit(); err != nil {
		s.fail(fmt.Errorf("apply entry %d: write the database: %w", e.Index, err))
		fill(results, err)
		return results
	}
	s.publish(a)
	s.tables.wrote(a.wrote)
	return results
}

func fill(results []any, v any) {
	for i := range results {
		results[i] = v
	}
}

// checkHeld notices a log that was cut behind the database's back: an entry at
// an index that is applied already, but of a later term than the last one
// applied, cannot be the entry that was applied there.
func (s *Store) checkHeld(e *raftlog.Entry, m meta) error {
	if e.Term <= m.term {
		return nil
	}
	err := fmt.Errorf("the log has entry %d of term %d, but the database holds entry %d of term %d: the log was cut; start again to rebuild the database from it", e.Index, e.Term, m.applied, m.term)
	if derr := dropMark(s.o.Dir); derr != nil {
		err = fmt.Errorf("%w (first remove %s: %w)", err, markPath(s.o.Dir), derr)
	}
	s.fail(err)
	return err
}

// applier executes one entry. Each write is a transaction of its own, at its
// own revision; they are committed in order, and the last one carries the
// state's record. A crash in between leaves writes above the recorded revision,
// which no read sees, and which applying the entry again replaces by the same.
type applier struct {
	s       *Store
	e       *raftlog.Entry
	meta    meta
	read    *badger.Txn    // the state before the entry
	pending map[string]*KV // what the entry wrote so far; nil: deleted
	events  []*Event
	last    *badger.Txn // the newest write, not yet committed
	expiry  int64       // the earliest expiry that was added; 0: none
	expired int64       // everything up to here has been looked at
	wrote   int         // bytes of keys and values

	commits sync.WaitGroup
	mu      sync.Mutex
	err     error // of a commit
}

func (a *applier) apply(b []byte) (Result, error) {
	c, err := decodeCommand(b)
	if err != nil {
		return Result{}, err
	}
	switch c.op {
	case opPut, opDelete:
		return a.write(c)
	case opCompact:
		if c.rev > a.meta.floor && c.rev <= a.meta.rev {
			a.meta.floor = c.rev
			return Result{OK: true, Rev: a.meta.rev}, nil
		}
		return Result{Rev: a.meta.rev}, nil
	default:
		return a.expire(c.limit)
	}
}

func (a *applier) write(c command) (Result, error) {
	key := string(c.key)
	cur, err := a.get(key)
	if err != nil {
		return Result{}, err
	}
	var have uint64
	if cur != nil {
		have = cur.ModRev
	}
	if c.expected != AnyRev && have != c.expected || c.op == opDelete && cur == nil {
		return Result{Rev: a.meta.rev, Current: cur}, nil
	}
	if c.op == opDelete {
		return a.replace(key, cur, nil)
	}
	next := &KV{Key: key, Value: c.value}
	if c.ttl > 0 {
		next.Expiry = a.e.Time + int64(c.ttl/time.Microsecond)
	}
	return a.replace(key, cur, next)
}

// get is the key's present state, what the entry itself wrote included.
func (a *applier) get(key string) (*KV, error) {
	if kv, ok := a.pending[key]; ok {
		return kv, nil
	}
	return getKV(a.read, key)
}

// replace writes the key's next state, nil to delete it, at the next revision.
func (a *applier) replace(key string, cur, next *KV) (Result, error) {
	a.meta.rev++
	rev := a.meta.rev
	ev := &Event{Rev: rev, Time: a.e.Time, Key: key, Deleted: next == nil}
	rec := eventRecord{time: a.e.Time, deleted: next == nil, key: key}
	txn := a.s.db.NewTransactionAt(rev, true)
	var errs [4]error
	if cur != nil {
		ev.Prev, ev.PrevRev, rec.prevRev = cur.Value, cur.ModRev, cur.ModRev
		a.meta.count--
		a.meta.hash -= keyHash(key, cur.Value, cur.ModRev)
		if cur.Expiry != 0 && (next == nil || next.Expiry != cur.Expiry) {
			errs[0] = txn.Delete(expiryKey(cur.Expiry, key))
		}
	}
	if next == nil {
		errs[1] = txn.Delete(dataKey(key))
	} else {
		next.ModRev = rev
		ev.Value = next.Value
		rec.sum = crc32.Checksum(next.Value, castagnoli)
		a.meta.count++
		a.meta.hash += keyHash(key, next.Value, rev)
		errs[1] = txn.Set(dataKey(key), encodeData(next.Value, next.Expiry))
		if next.Expiry != 0 {
			errs[2] = txn.Set(expiryKey(next.Expiry, key), nil)
			if a.expiry == 0 || next.Expiry < a.expiry {
				a.expiry = next.Expiry
			}
		}
	}
	record := rec.encode()
	errs[3] = txn.Set(eventKey(rev), record)
	a.wrote += len(key) + len(ev.Value) + len(record)
	a.pending[key] = next
	a.events = append(a.events, ev)
	a.flush()
	a.last = txn
	if err := errors.Join(errs[:]...); err != nil {
		return Result{}, fmt.Errorf("write %q: %w", key, err)
	}
	return Result{OK: true, Rev: rev}, nil
}

// expire deletes keys whose time has come, the earliest first.
func (a *applier) expire(limit uint64) (Result, error) {
	type due struct {
		key    string
		expiry int64
	}
	var found []due
	o := badger.IteratorOptions{Prefix: []byte{prefixExpiry}}
	it := a.read.NewIterator(o)
	a.s.mu.Lock()
	from := a.s.due
	a.s.mu.Unlock()
	complete := true
	for it.Seek(expiryKey(from, "")); it.Valid(); it.Next() {
		expiry, key, ok := parseExpiryKey(it.Item().Key())
		if !ok || expiry > a.e.Time {
			break
		}
		if uint64(len(found)) >= limit {
			complete = false
			break
		}
		found = append(found, due{key, expiry})
	}
	it.Close()
	n := 0
	for _, f := range found {
		cur, err := a.get(f.key)
		if err != nil {
			return Result{}, err
		}
		if cur == nil || cur.Expiry != f.expiry {
			continue // the entry itself changed it
		}
		if _, err := a.replace(f.key, cur, nil); err != nil {
			return Result{}, err
		}
		n++
	}
	if complete {
		a.expired = a.e.Time + 1
	} else if len(found) > 0 {
		a.expired = found[len(found)-1].expiry
	}
	return Result{OK: true, Rev: a.meta.rev, Count: n}, nil
}

// flush sends the newest write on its way to the database.
func (a *applier) flush() {
	if a.last == nil {
		return
	}
	txn, rev := a.last, a.meta.rev-1
	a.last = nil
	a.commits.Add(1)
	err := txn.CommitAt(rev, func(err error) {
		defer a.commits.Done()
		a.note(err)
	})
	a.note(err)
}

func (a *applier) note(err error) {
	if err == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err == nil {
		a.err = err
	}
}

// commit writes the newest write and the state's record, and waits for all.
// An entry that changed nothing is not recorded: applying it again changes
// nothing, too.
func (a *applier) commit() error {
	before := a.s.meta
	a.meta.applied, a.meta.term, a.meta.time = a.e.Index, a.e.Term, a.e.Time
	if a.last == nil && a.meta.floor == before.floor {
		return nil
	}
	txn := a.last
	a.last = nil
	if txn == nil {
		txn = a.s.db.NewTransactionAt(a.meta.rev, true)
	}
	err := txn.Set(metaKey(), a.meta.encode())
	if err == nil {
		err = txn.CommitAt(a.meta.rev, nil)
	}
	txn.Discard()
	a.commits.Wait()
	a.note(err)
	return a.err
}

// abandon gives up what is not yet on its way.
func (a *applier) abandon() {
	if a.last != nil {
		a.last.Discard()
		a.last = nil
	}
	a.commits.Wait()
}

// publish makes an applied entry visible to readers and watchers.
func (s *Store) publish(a *applier) {
	s.mu.Lock()
	defer s.mu.Unlock()
	advanced := a.meta.rev > s.meta.rev
	compacted := a.meta.floor > s.meta.floor
	s.meta = a.meta
	for _, ev := range a.events {
		s.recent.add(ev)
		s.watchers.publish(ev)
	}
	if a.expired != 0 {
		s.due = a.expired
	}
	if a.expiry != 0 && a.expiry < s.due {
		s.due = a.expiry
	}
	if compacted {
		s.discard()
	}
	if advanced {
		s.wakeWaiters()
	}
	if a.expiry != 0 && a.expiry < s.armed || s.meta.rev-s.meta.floor > 2*s.o.HistoryEvents {
		s.wakeMaintenance()
	}
}

// discard lets badger drop the versions that neither readers nor a running
// snapshot need. The caller holds mu.
func (s *Store) discard() {
	ts := s.meta.floor
	for floor := range s.pins {
		ts = min(ts, floor)
	}
	s.db.SetDiscardTs(ts)
}
