package raftlog

import (
	"errors"
	"log/slog"
	"time"

	"github.com/hashicorp/raft"

	"github.com/leat-dev/leat/raftlog/vfs"
)

// Options configure a Group. Zero values mean the defaults.
type Options struct {
	// Dir holds the group's files. It is made when absent.
	Dir string
	// Name is the group's, for logs and errors: "meta", "s0".
	Name string
	// NodeID is this member's name in the raft configuration.
	NodeID  string
	Machine Machine
	// Reuse has the memory of entries used again. The machine then keeps no command
	// beyond Apply without holding its Entry.Buffer. Only where there is no Transport.
	Reuse  bool
	FS     vfs.FS
	Clock  Clock
	Logger *slog.Logger
	// Transport reaches the other members. Nil: this node is the sole voter.
	Transport raft.Transport

	SegmentBytes  int64 // size of a segment file; 64 MiB
	DirectBytes   int   // appends of so many bytes are written past the page cache; 320 KiB
	SnapshotBytes int64 // log written between snapshots; 128 MiB
	Snapshots     int   // how many are kept; 4
	// MaxEntryBytes bounds the commands packed into one entry; a larger command
	// is an entry of its own. 2 MiB, and at most a quarter of a segment.
	MaxEntryBytes   int
	MaxPendingBytes int64 // commands waiting to be written, before ErrOverloaded; 64 MiB
	// DiskFloor is the free space, in bytes, below which Events are refused with
	// ErrDiskFull; DiskReserve that below which Control commands are, too. Between
	// the two lies what outcomes, retention and resources may use. 256 and 64 MiB.
	DiskFloor, DiskReserve uint64
	// StallAfter is how long an entry may be on its way to disk before further
	// events are refused at once, with ErrStalled; 5 s. What waits already goes on
	// waiting, and the group goes on by itself when the disk answers.
	StallAfter time.Duration

	// Hooks are told of what happens.
	Hooks Hooks

	// Fatal is called, once, when a write or sync of the log has failed: what is
	// on disk is not known any more, so the process must end. It may return.
	Fatal func(error)
}

// Hooks are called as things happen, on the goroutines that they happen on; they
// must not block. Any of them may be nil.
type Hooks struct {
	// Proposed is called for each command, with the time until it was applied or
	// refused.
	Proposed func(class Class, took time.Duration, err error)
	// Entry is called for each entry that was proposed, with the commands that
	// were packed into it and its size.
	Entry func(commands, bytes int, err error)
	// Synced is called for each write and sync of the log, with how long it took.
	Synced func(took time.Duration)
	// Reused is given memory that held commands before it is used again. To write to
	// it shows who keeps a command without holding its Buffer.
	Reused func(memory []byte)
	// Snapshot is called for each snapshot that was taken for its bytes of log.
	Snapshot func(took time.Duration, err error)
}

func (o Options) withDefaults() (Options, error) {
	if o.Dir == "" || o.Name == "" || o.NodeID == "" || o.Machine == nil || o.Fatal == nil {
		return o, errors.New("raftlog: Dir, Name, NodeID, Machine and Fatal must be set")
	}
	if o.FS == nil {
		o.FS = vfs.OS{}
	}
	if o.Clock == nil {
		o.Clock = SystemClock{}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	setDefault(&o.SegmentBytes, 64<<20)
	setDefault(&o.SnapshotBytes, 128<<20)
	setDefault(&o.Snapshots, 4)
	setDefault(&o.MaxEntryBytes, 2<<20)
	setDefault(&o.MaxPendingBytes, 64<<20)
	setDefault(&o.DiskFloor, 256<<20)
	setDefault(&o.DiskReserve, 64<<20)
	setDefault(&o.StallAfter, 5*time.Second)
	o.MaxEntryBytes = min(o.MaxEntryBytes, int(o.SegmentBytes/4))
	return o, nil
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}
