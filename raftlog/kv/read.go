package kv

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/leat-dev/leat/raftlog"
)

// Put writes a key if its present revision is the expected one: 0 for a key
// that must not exist, AnyRev to write in any case. With a ttl, which is
// rounded to milliseconds, the key is deleted some time after it has passed.
// An error of the log says whether the outcome is known.
func (s *Store) Put(ctx context.Context, key string, value []byte, expected uint64, ttl time.Duration) (Result, error) {
	if len(key) == 0 || len(key) > s.o.MaxKeyBytes {
		return Result{}, fmt.Errorf("%w: key of %d bytes, at most %d may be", ErrTooLarge, len(key), s.o.MaxKeyBytes)
	}
	if len(value) > s.o.MaxValueBytes {
		return Result{}, fmt.Errorf("%w: value of %d bytes at %s, at most %d may be", ErrTooLarge, len(value), key, s.o.MaxValueBytes)
	}
	if ttl > 0 {
		ttl = min(max(ttl, time.Millisecond), maxTTL)
	}
	return s.propose(ctx, &command{op: opPut, key: []byte(key), value: value, expected: expected, ttl: max(ttl, 0)})
}

// Delete removes a key if its present revision is the expected one, or AnyRev.
func (s *Store) Delete(ctx context.Context, key string, expected uint64) (Result, error) {
	if len(key) == 0 {
		return Result{}, fmt.Errorf("%w: empty key", ErrTooLarge)
	}
	return s.propose(ctx, &command{op: opDelete, key: []byte(key), expected: expected})
}

// Compact gives up the history below a revision, which can still be read
// itself. Its result is not OK when nothing was left to do.
func (s *Store) Compact(ctx context.Context, rev uint64) (Result, error) {
	return s.propose(ctx, &command{op: opCompact, rev: rev})
}

func (s *Store) propose(ctx context.Context, c *command) (Result, error) {
	s.mu.Lock()
	p, err := s.proposer, s.usable()
	s.mu.Unlock()
	if err != nil {
		return Result{}, err
	}
	if p == nil {
		return Result{}, ErrNotBound
	}
	v, err := p.Propose(ctx, raftlog.Control, c.encode())
	if err != nil {
		return Result{}, err
	}
	switch r := v.(type) {
	case Result:
		return r, nil
	case error:
		return Result{}, r
	default:
		return Result{}, fmt.Errorf("key-value store: the log answered %T to a command", v)
	}
}

// view calls read with the state at a revision, 0 for the present one. The
// revision passed is that of the state.
func (s *Store) view(rev uint64, read func(txn *badger.Txn, rev uint64) error) (uint64, error) {
	s.dbMu.RLock()
	defer s.dbMu.RUnlock()
	for {
		s.mu.Lock()
		at, err := rev, s.usable()
		if at == 0 {
			at = s.meta.rev
		}
		if err == nil {
			err = s.readable(at)
		}
		now := s.meta.rev
		s.mu.Unlock()
		if err != nil {
			return now, err
		}
		txn := s.db.NewTransactionAt(at, false)
		err = read(txn, at)
		txn.Discard()
		// The floor may have passed the revision meanwhile; then what was read
		// may lack versions.
		s.mu.Lock()
		gone := s.readable(at)
		s.mu.Unlock()
		if errors.Is(err, errRecord) {
			s.damaged(err)
		}
		if gone == nil {
			return at, err
		}
		if rev != 0 {
			return now, gone
		}
	}
}

// damaged ends the store's use over what a read found. The next start rebuilds
// the database.
func (s *Store) damaged(err error) {
	if derr := dropMark(s.o.Dir); derr != nil && !errors.Is(derr, os.ErrNotExist) {
		err = fmt.Errorf("%w (remove %s to have it rebuilt: %w)", err, s.o.Dir, derr)
	}
	s.fail(err)
}

// readable tells whether a revision can be read. The caller holds mu.
func (s *Store) readable(rev uint64) error {
	if rev > s.meta.rev {
		return fmt.Errorf("%w: %d, now is %d", ErrFuture, rev, s.meta.rev)
	}
	if rev < s.meta.floor {
		return fmt.Errorf("%w: %d, the oldest kept is %d", ErrCompacted, rev, s.meta.floor)
	}
	return nil
}

// Get reads a key. It returns nil when the key does not exist, and the
// revision that was read.
func (s *Store) Get(key string) (*KV, uint64, error) { return s.GetAt(key, 0) }

// GetAt reads a key at a revision, 0 for the present one.
func (s *Store) GetAt(key string, rev uint64) (*KV, uint64, error) {
	var kv *KV
	rev, err := s.view(rev, func(txn *badger.Txn, _ uint64) error {
		var err error
		kv, err = getKV(txn, key)
		return err
	})
	if err != nil {
		return nil, rev, err
	}
	return kv, rev, nil
}

func getKV(txn *badger.Txn, key string) (*KV, error) {
	item, err := txn.Get(dataKey(key))
	if errors.Is(err, badger.ErrKeyNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %q: %w", key, err)
	}
	return itemKV(key, item)
}

func itemKV(key string, item *badger.Item) (*KV, error) {
	b, err := item.ValueCopy(nil)
	if err != nil {
		return nil, fmt.Errorf("read %q: %w", key, err)
	}
	value, expiry, err := decodeData(b)
	if err != nil {
		return nil, fmt.Errorf("read %q: %w", key, err)
	}
	return &KV{Key: key, Value: value, ModRev: item.Version(), Expiry: expiry}, nil
}

// Page is a part of a list.
type Page struct {
	KVs []*KV
	// Rev is the revision that was read; the next page is read at it.
	Rev uint64
	// Remaining is how many keys follow the page.
	Remaining int64
}

// List reads, in order, up to limit keys (0: all) that begin with prefix and
// are not before start, at a revision (0: the present one). After an error,
// Rev is the store's present revision.
func (s *Store) List(prefix, start string, limit int, rev uint64) (Page, error) {
	return s.list(prefix, start, limit, rev, true)
}

// Scan is List for a caller that reads on: it stops at the limit, and
// Remaining is then 1, whatever follows.
func (s *Store) Scan(prefix, start string, limit int, rev uint64) (Page, error) {
	return s.list(prefix, start, limit, rev, false)
}

func (s *Store) list(prefix, start string, limit int, rev uint64, count bool) (Page, error) {
	var p Page
	from := dataKey(max(prefix, start))
	rev, err := s.view(rev, func(txn *badger.Txn, _ uint64) error {
		p = Page{}
		it := txn.NewIterator(badger.IteratorOptions{Prefix: dataKey(prefix)})
		defer it.Close()
		for it.Seek(from); it.Valid(); it.Next() {
			if limit > 0 && len(p.KVs) >= limit {
				p.Remaining++
				if !count {
					break
				}
				continue
			}
			kv, err := itemKV(string(it.Item().Key()[1:]), it.Item())
			if err != nil {
				return err
			}
			p.KVs = append(p.KVs, kv)
		}
		return nil
	})
	p.Rev = rev
	if err != nil {
		p.KVs, p.Remaining = nil, 0
	}
	return p, err
}

// Count is how many keys begin with a prefix now, and the bytes of their
// values, about.
func (s *Store) Count(prefix string) (n, size int64, err error) {
	_, err = s.view(0, func(txn *badger.Txn, _ uint64) error {
		n, size = 0, 0
		it := txn.NewIterator(badger.IteratorOptions{Prefix: dataKey(prefix)})
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			n++
			err := it.Item().Value(func(b []byte) error {
				v, _, err := decodeData(b)
				size += int64(len(v))
				return err
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	return n, size, err
}

// history reads events from the database: those after rev, up to last, whose
// key matches, but looks at no more than limit revisions. It returns how far
// it looked.
func (s *Store) history(rev, last uint64, limit int, match func(key string) bool) (events []*Event, seen uint64, err error) {
	seen = min(last, rev+uint64(limit))
	_, err = s.view(seen, func(*badger.Txn, uint64) error {
		for r := rev + 1; r <= seen; r++ {
			ev, err := s.readEvent(r, match)
			if err != nil {
				return err
			}
			if ev != nil {
				events = append(events, ev)
			}
		}
		return nil
	})
	// Below the floor versions may be missing, which then explains the error.
	s.mu.Lock()
	floor := s.meta.floor
	s.mu.Unlock()
	if rev < floor {
		err = fmt.Errorf("%w: %d, the oldest kept is %d", ErrCompacted, rev, floor)
	}
	if err != nil {
		return nil, rev, err
	}
	return events, seen, nil
}

// readEvent reads the event of a revision, nil when its key does not match.
// The caller holds dbMu.
func (s *Store) readEvent(rev uint64, match func(key string) bool) (*Event, error) {
	txn := s.db.NewTransactionAt(rev, false)
	defer txn.Discard()
	rec, err := getEvent(txn, rev)
	if err != nil || !match(rec.key) {
		return nil, err
	}
	ev := &Event{Rev: rev, Time: rec.time, Key: rec.key, Deleted: rec.deleted, PrevRev: rec.prevRev}
	if !rec.deleted {
		kv, err := getKV(txn, rec.key)
		if err != nil {
			return nil, err
		}
		if kv == nil || kv.ModRev != rev || crc32.Checksum(kv.Value, castagnoli) != rec.sum {
			return nil, fmt.Errorf("read revision %d: %q is missing or damaged", rev, rec.key)
		}
		ev.Value = kv.Value
	}
	if rec.prevRev == 0 {
		return ev, nil
	}
	before := s.db.NewTransactionAt(rev-1, false)
	defer before.Discard()
	kv, err := getKV(before, rec.key)
	if err != nil {
		return nil, err
	}
	if kv == nil || kv.ModRev != rec.prevRev {
		// Compaction may have passed; if it has not, this is damage.
		return nil, fmt.Errorf("read revision %d: %q as of revision %d is missing", rev, rec.key, rec.prevRev)
	}
	ev.Prev = kv.Value
	return ev, nil
}

func getEvent(txn *badger.Txn, rev uint64) (eventRecord, error) {
	item, err := txn.Get(eventKey(rev))
	if err == nil && item.Version() != rev {
		err = badger.ErrKeyNotFound
	}
	if err != nil {
		return eventRecord{}, fmt.Errorf("read event of revision %d: %w", rev, err)
	}
	var rec eventRecord
	err = item.Value(func(b []byte) error {
		rec, err = decodeEvent(b)
		return err
	})
	return rec, err
}

// verify compares a database that was not closed with its own record: all live
// keys with the state's hash, and each revision of the history with its event.
func (s *Store) verify(m meta) error {
	txn := s.db.NewTransactionAt(m.rev, false)
	defer txn.Discard()
	it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte{prefixData}})
	defer it.Close()
	var count, hash uint64
	for it.Rewind(); it.Valid(); it.Next() {
		kv, err := itemKV(string(it.Item().Key()[1:]), it.Item())
		if err != nil {
			return err
		}
		count++
		hash += keyHash(kv.Key, kv.Value, kv.ModRev)
	}
	if count != m.count || hash != m.hash {
		return fmt.Errorf("it holds %d keys with hash %x, and should hold %d with %x", count, hash, m.count, m.hash)
	}
	for rev := m.floor + 1; rev <= m.rev; rev++ {
		if _, err := s.readEvent(rev, func(string) bool { return true }); err != nil {
			return err
		}
	}
	return nil
}
