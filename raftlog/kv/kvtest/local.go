// Package kvtest runs a kv.Store without a raft group, for tests.
package kvtest

import (
	"bytes"
	"context"
	"sync"
	"testing"

	"github.com/leat-dev/leat/raftlog"
	"github.com/leat-dev/leat/raftlog/kv"
)

// Log is a log in memory, of entries of one command. It applies each entry to
// its machine before Propose returns.
type Log struct {
	Machine raftlog.Machine
	Clock   raftlog.Clock

	mu      sync.Mutex
	term    uint64
	entries []*raftlog.Entry
}

// Propose implements kv.Proposer.
func (l *Log) Propose(ctx context.Context, class raftlog.Class, cmd []byte) (any, error) {
	results, err := l.ProposeAll(ctx, class, cmd)
	if err != nil {
		return nil, err
	}
	return results[0], nil
}

// ProposeAll appends one entry of several commands.
func (l *Log) ProposeAll(ctx context.Context, _ raftlog.Class, cmds ...[]byte) ([]any, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	e := &raftlog.Entry{Index: uint64(len(l.entries)) + 1, Term: l.term + 1, Time: l.Clock.Now().UnixMicro()}
	for _, c := range cmds {
		e.Commands = append(e.Commands, bytes.Clone(c))
	}
	l.entries = append(l.entries, e)
	return l.Machine.Apply(e), nil
}

// Entries is the log so far.
func (l *Log) Entries() []*raftlog.Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]*raftlog.Entry(nil), l.entries...)
}

// Append adds an entry of another log, without applying it.
func (l *Log) Append(e *raftlog.Entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries = append(l.entries, e)
	l.term = max(l.term, e.Term-1)
}

// Reopen gives the log to another machine, in a new term, as a restart would,
// and applies the entries after an index to it.
func (l *Log) Reopen(m raftlog.Machine, after uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.Machine = m
	l.term++
	for _, e := range l.entries[after:] {
		m.Apply(e)
	}
}

// Cut drops the entries after an index.
func (l *Log) Cut(after uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries = l.entries[:after]
}

// Open opens a store in o.Dir, or in a temporary directory, on a new log. Both
// are closed with the test.
func Open(tb testing.TB, o kv.Options) (*kv.Store, *Log) {
	tb.Helper()
	if o.Dir == "" {
		o.Dir = tb.TempDir()
	}
	if o.Clock == nil {
		o.Clock = raftlog.SystemClock{}
	}
	if o.Fatal == nil {
		o.Fatal = func(err error) { tb.Errorf("fatal: %v", err) }
	}
	s, err := kv.Open(o)
	if err != nil {
		tb.Fatal(err)
	}
	log := &Log{Machine: s, Clock: o.Clock}
	s.Bind(log)
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return s, log
}
