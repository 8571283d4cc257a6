// Package raftlog keeps replicated logs. A Group is one raft group: commands
// of many callers are packed into entries (Coalescer), written and synced in
// our own segments, agreed by raft, and applied to a Machine.
//
// DESIGN.md beside this file has the formats and what durability rests on.
package raftlog

import (
	"errors"
	"io"
	"time"

	"github.com/leat-dev/leat/raftlog/segment"
)

// Errors that Propose and the readers return, to be tested with errors.Is.
var (
	// ErrDiskFull: free space is below the floor; nothing was written. Retry later.
	ErrDiskFull = errors.New("disk space is below the floor")
	// ErrOverloaded: the queue of waiting commands is at its bound; nothing was written.
	ErrOverloaded = errors.New("too many bytes are waiting to be written")
	// ErrStalled: the disk does not answer, and has not for a while; nothing was
	// written. Retry later.
	ErrStalled = errors.New("the disk has not answered")
	// ErrTooLarge: the command does not fit into a segment; nothing was written.
	ErrTooLarge = errors.New("command is too large")
	// ErrUnknownOutcome: the command may or may not be applied in the end.
	ErrUnknownOutcome = errors.New("outcome unknown: the write may still be applied")
	// ErrNotLeader: this node does not lead the group; nothing was written.
	ErrNotLeader = errors.New("this node does not lead the group")
	// ErrClosed: the group is shut down; nothing was written.
	ErrClosed = errors.New("log is closed")
)

// Class says how a command behaves when space is short.
type Class uint8

const (
	// Events are refused with ErrDiskFull below the free-space floor.
	Events Class = iota
	// Control commands (cursors, outcomes, terms, retention, resources) may use
	// the reserve below the floor.
	Control
)

// Entry is one committed log entry: commands in the order they are applied. It is
// good until Apply returns. Its byte slices alias shared memory and must not be
// modified. They may be kept, with all that they lie in; where that is a Buffer, for
// as long as it is held.
type Entry struct {
	Index uint64
	Term  uint64
	// Time is the log's clock, in microseconds since the Unix epoch. It never
	// goes back, and is the same on every replica.
	Time int64
	// Commands are good as a slice until Apply returns.
	Commands [][]byte
	// Buffer is what the commands lie in, where its memory is used again: who keeps
	// one of them beyond Apply holds it. Nil: it is the garbage collector's.
	Buffer *Buffer
	// TakeRows, if not nil, is given the rows by IndexRows.
	TakeRows func(index uint64, rows []Row)

	rows []Row
	room int // what holds the commands, in bytes
}

// Memory is what is kept in memory for as long as one of the commands is, in
// bytes: the entry, and the room behind it where nothing else is put. A Buffer may
// hold other entries as well.
func (e *Entry) Memory() int64 {
	n := 0
	for _, cmd := range e.Commands {
		n += len(cmd)
	}
	return int64(max(n, e.room))
}

// AddRow records where a run of offsets lies; called by Machine.Apply only, and
// not after IndexRows. Index and Time are filled in from the entry.
func (e *Entry) AddRow(key uint32, kind uint8, base uint64, count uint32, bytes uint32) {
	e.rows = append(e.rows, Row{Key: key, Kind: kind, Base: base, Count: count, Bytes: bytes, Index: e.Index, Time: e.Time})
}

// IndexRows makes the rows known to Group.Find. A machine that shows how far its
// offsets go calls it before it shows them: who sees an offset finds it. After
// Apply it is called for every entry; only the first call does anything.
func (e *Entry) IndexRows() {
	if take := e.TakeRows; take != nil {
		e.TakeRows = nil
		take(e.Index, e.rows)
	}
}

// Rows are those added so far, for whoever keeps the index.
func (e *Entry) Rows() []Row { return e.rows }

// Row locates a run of consecutive offsets of one key (a partition) in the log.
type Row = segment.Row

// Machine is a deterministic state machine. Its methods are called one at a
// time, but for Snapshot's writer, which runs beside later Apply calls.
type Machine interface {
	// Apply executes an entry and returns one result for each of its commands, or
	// nil where all are nil.
	// It must not fail, read a clock, or depend on anything but the state and e.
	Apply(e *Entry) []any
	// Snapshot captures the state now; the returned value is written later, in
	// another goroutine.
	Snapshot() (Snapshot, error)
	// Restore replaces the state by one that a Snapshot wrote.
	Restore(r io.Reader) error
}

// Snapshot is a captured state.
type Snapshot interface {
	Write(w io.Writer) error
	Release()
}

// Clock is the time seam.
type Clock interface {
	Now() time.Time
	// After is time.After; the channel's timer is released when it fires.
	After(d time.Duration) <-chan time.Time
}

// SystemClock is the machine's clock.
type SystemClock struct{}

// Now is time.Now.
func (SystemClock) Now() time.Time { return time.Now() }

// After is time.After.
func (SystemClock) After(d time.Duration) <-chan time.Time { return time.After(d) }
