package raftlog

import (
	"bytes"
	"errors"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/leat-dev/leat/raftlog/segment"
	"github.com/leat-dev/leat/raftlog/vfs"
	"github.com/leat-dev/leat/raftlog/vfs/memfs"
)

// fullDisk says how much is free.
type fullDisk struct {
	vfs.FS
	mu   sync.Mutex
	free uint64
}

func (f *fullDisk) Free(string) (uint64, uint64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.free, 1 << 40, nil
}

func (f *fullDisk) set(n uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.free = n
}

// handClock is set by hand.
type handClock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *handClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *handClock) After(d time.Duration) <-chan time.Time { return time.After(d) }

func (c *handClock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func TestFullDiskRefusesEventsThenControlAndRecovers(t *testing.T) {
	disk := &fullDisk{FS: memfs.New(0), free: 1000}
	clock := &handClock{now: time.Unix(1e9, 0)}
	g, _ := openGroup(t, "/g", func(o *Options) { o.FS, o.Clock, o.DiskFloor, o.DiskReserve = disk, clock, 100, 10 })
	defer closeGroup(t, g)
	for _, c := range []struct {
		free            uint64
		pass            time.Duration
		events, control error
	}{
		{1000, spaceAge, nil, nil},
		{50, spaceAge / 2, nil, nil}, // the reading is still fresh
		{50, spaceAge, ErrDiskFull, nil},
		{5, spaceAge, ErrDiskFull, ErrDiskFull},
		{1000, spaceAge, nil, nil},
		{5, -time.Hour, ErrDiskFull, ErrDiskFull}, // the clock was set back
		{1000, spaceAge, nil, nil},
	} {
		disk.set(c.free)
		clock.add(c.pass)
		for class, want := range []error{c.events, c.control} {
			if _, err := g.Propose(t.Context(), Class(class), []byte("x")); !errors.Is(err, want) {
				t.Errorf("%d bytes free, class %d: %v, want %v", c.free, class, err, want)
			}
		}
	}
}

// Where the floor was set too low, or others took the space, the log refuses
// what does not fit, keeps what it has, and needs no restart.
func TestDiskThatIsFullBelowTheFloor(t *testing.T) {
	fsys := memfs.New(0)
	g, c := openGroup(t, "/g", func(o *Options) { o.FS, o.SegmentBytes = &fullDisk{FS: fsys, free: 1 << 30}, 256<<10 })
	defer closeGroup(t, g)
	fill := func() (err error) {
		for n := len(c.commands); err == nil; n++ {
			_, err = g.Propose(t.Context(), Control, []byte(command(n)))
		}
		return err
	}
	_, total, _ := fsys.Free("/")
	fsys.SetCapacity(1) // from now on there is no room for a segment
	if err := fill(); !errors.Is(err, ErrDiskFull) || !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the disk is full: %v", err)
	}
	if _, err := g.Propose(t.Context(), Events, []byte("x")); !errors.Is(err, ErrDiskFull) {
		t.Errorf("an event on a full disk: %v", err)
	}
	n := len(c.commands)
	if n < 50 {
		t.Errorf("%d commands before the disk was full: the segment made ahead was not used", n)
	}
	checkGroup(t, g, 0, n)
	again, d := openGroup(t, "/g", func(o *Options) { o.FS, o.SegmentBytes = &fullDisk{FS: fsys.Clone(), free: 1 << 30}, 256<<10 })
	if len(d.commands) != n {
		t.Errorf("%d commands after a restart on the full disk, want %d", len(d.commands), n)
	}
	closeGroup(t, again)
	fsys.SetCapacity(int64(total))
	if _, err := g.Propose(t.Context(), Control, []byte(command(n))); err != nil {
		t.Errorf("with room again: %v", err)
	}
	if got := propose(t, g, command(n+1)); got != uint64(n+1) {
		t.Errorf("offset %d, want %d", got, n+1)
	}
	checkGroup(t, g, 0, n+2)
}

// A log that has been filled to the last byte that it may have can be opened again
// on the full disk, though raft writes then.
func TestFullLogOpensOnAFullDisk(t *testing.T) {
	fsys := memfs.New(0)
	full := func(o *Options) { o.FS, o.SegmentBytes = &fullDisk{FS: fsys, free: 1 << 30}, 256<<10 }
	g, _ := openGroup(t, "/g", full)
	fsys.SetCapacity(1)
	var err error
	for size := 20_000; size > 0; size /= 2 {
		for err = nil; err == nil; {
			_, err = g.Propose(t.Context(), Control, make([]byte, size))
		}
	}
	if !errors.Is(err, ErrDiskFull) {
		t.Error(err)
	}
	closeGroup(t, g)
	for range 3 {
		g, _ = openGroup(t, "/g", full)
		closeGroup(t, g)
	}
}

// An append of raft's own that meets a full disk has written nothing, and does
// not end the process.
func TestAppendWithoutRoomIsNoFailure(t *testing.T) {
	fsys := memfs.New(0)
	store, err := segment.Open(segment.Options{FS: fsys, Dir: "/log", SegmentBytes: 16 << 10})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	fatal := 0
	s := &logStore{Store: store, limit: 1 << 40, fatal: func(error) { fatal++ }}
	for next := uint64(1); err == nil; next++ {
		if next == 2 {
			fsys.SetCapacity(1)
		}
		err = s.StoreLog(&raft.Log{Index: next, Term: 1, Data: make([]byte, 5000)})
	}
	if !errors.Is(err, segment.ErrFull) || fatal > 0 {
		t.Errorf("%v, fatal: %d", err, fatal)
	}
	if err := s.StoreLog(&raft.Log{Index: 99}); err == nil || fatal != 1 {
		t.Errorf("a gap in raft's indexes: %v, fatal: %d", err, fatal)
	}
}

func TestCommandThatIsTooLargeIsRefused(t *testing.T) {
	g, _ := openGroup(t, "/g", func(o *Options) { o.FS = memfs.New(0) })
	defer closeGroup(t, g)
	size := 1 << 10
	var err error
	for err == nil { // up to the largest that fits, and beyond
		_, err = g.Propose(t.Context(), Events, bytes.Repeat([]byte("x"), size))
		size += 999
	}
	if !errors.Is(err, ErrTooLarge) || size < 60<<10 {
		t.Errorf("%d bytes: %v", size, err)
	}
	propose(t, g, "small")
}
