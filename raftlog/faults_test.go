package raftlog

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/leat-dev/leat/raftlog/segment"
	"github.com/leat-dev/leat/raftlog/vfs"
	"github.com/leat-dev/leat/raftlog/vfs/errorfs"
	"github.com/leat-dev/leat/raftlog/vfs/memfs"
)

var errDisk = errors.New("the disk failed")

func seeded(n uint64) *rand.Rand { return rand.New(rand.NewPCG(n, 0)) }

// reopen opens a group on what is left, and closes it again.
func reopen(t *testing.T, fsys vfs.FS, check func(g *Group, c *counter)) {
	t.Helper()
	g, c := openGroup(t, "/g", func(o *Options) { o.FS = fsys })
	check(g, c)
	closeGroup(t, g)
}

func tryOpen(fsys vfs.FS, change func(*Options)) (*Group, error) {
	o := Options{Dir: "/g", Name: "test", NodeID: "n1", Machine: &counter{}, FS: fsys, SegmentBytes: 64 << 10, DiskFloor: 1, DiskReserve: 1, Fatal: func(error) {}}
	if change != nil {
		change(&o)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return Open(ctx, o)
}

// filled is a group with some segments, two snapshots, and the commands 0 to 120.
func filled(t *testing.T) (*memfs.FS, []segment.Info) {
	t.Helper()
	fsys := memfs.New(0)
	g, _ := openGroup(t, "/g", func(o *Options) { o.FS = fsys })
	for i := range 120 {
		propose(t, g, command(i))
		if i == 50 || i == 70 {
			if err := g.Snapshot(); err != nil {
				t.Fatal(err)
			}
		}
	}
	infos := g.Segments()
	closeGroup(t, g)
	return fsys, infos
}

func flip(t *testing.T, fsys vfs.FS, path string, at int64) {
	t.Helper()
	f, err := fsys.OpenReadWrite(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if at < 0 {
		size, err := f.Size()
		if err != nil {
			t.Fatal(err)
		}
		at += size
	}
	b := []byte{0}
	if _, err := f.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x10
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
}

func wantDamage(t *testing.T, err error, file string) {
	t.Helper()
	var damaged *segment.DamagedError
	if !errors.As(err, &damaged) || !strings.Contains(damaged.File, file) {
		t.Errorf("%v; want damage in %s", err, file)
	}
}

func list(t *testing.T, fsys vfs.FS, dir string) (paths []string) {
	t.Helper()
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		paths = append(paths, filepath.Join(dir, e.Name()))
	}
	return paths
}

// A record that raft needs at its start is refused by name, not by a panic; one
// below the snapshot is an error of whoever reads it.
func TestDamagedRecordIsRefusedOrNamed(t *testing.T) {
	fsys, infos := filled(t)
	for _, s := range infos {
		left := fsys.Clone()
		flip(t, left, s.Path, 4096+1000) // its first command
		needed := s.First > 73
		g, err := tryOpen(left, nil)
		if needed {
			wantDamage(t, err, filepath.Base(s.Path))
			continue
		}
		if err != nil {
			t.Errorf("%s lies below the snapshot: %v", s.Path, err)
			continue
		}
		damaged := 0
		for i := s.First; i <= s.Last; i++ {
			if _, err := g.ReadEntry(i); err != nil {
				wantDamage(t, err, filepath.Base(s.Path))
				damaged++
			}
		}
		if damaged != 1 {
			t.Errorf("%d damaged entries in %s", damaged, s.Path)
		}
		closeGroup(t, g)
	}
}

// A snapshot whose content is damaged is passed over, for the log reaches back to
// an older one; where there is none it is named.
func TestDamagedSnapshot(t *testing.T) {
	fsys, _ := filled(t)
	snapshots := list(t, fsys, "/g/snapshots")
	if len(snapshots) != 2 {
		t.Fatalf("snapshots %v", snapshots)
	}
	flip(t, fsys, snapshots[1], -5)
	reopen(t, fsys, func(g *Group, c *counter) {
		if len(c.commands) != 120 {
			t.Errorf("%d commands", len(c.commands))
		}
		checkGroup(t, g, 0, 120)
	})
	flip(t, fsys, snapshots[0], -5)
	_, err := tryOpen(fsys, nil)
	wantDamage(t, err, ".snap")
	flip(t, fsys, snapshots[0], 2)
	_, err = tryOpen(fsys, nil)
	wantDamage(t, err, filepath.Base(snapshots[0]))
	if left := list(t, fsys, "/g/snapshots"); len(left) != 2 {
		t.Errorf("a damaged snapshot was deleted: %v", left)
	}
}

func TestMissingPieceIsRefused(t *testing.T) {
	fsys, _ := filled(t)
	trimmed := fsys.Clone()
	reopen(t, trimmed, func(g *Group, _ *counter) {
		if err := g.Trim(func(segment.Info) bool { return false }); err != nil {
			t.Error(err)
		}
	})
	for name, c := range map[string]struct {
		fsys   *memfs.FS
		remove []string
		named  string
	}{
		"log":                    {fsys, list(t, fsys, "/g/log"), "/g/log"},
		"term and vote":          {fsys, []string{"/g/stable"}, "/g/stable"},
		"log and snapshots":      {fsys, append(list(t, fsys, "/g/log"), list(t, fsys, "/g/snapshots")...), "/g/log"},
		"term, vote, and log":    {fsys, append(list(t, fsys, "/g/log"), "/g/stable"), "/g/log"},
		"snapshots, log trimmed": {trimmed, list(t, trimmed, "/g/snapshots"), "/g/snapshots"},
		"one segment of the log": {fsys, list(t, fsys, "/g/log")[2:3], list(t, fsys, "/g/log")[2]},
		"the state of the log":   {fsys, []string{"/g/log/log.state"}, "/g/log/log.state"},
		"newest segment":         {fsys, list(t, fsys, "/g/log")[len(list(t, fsys, "/g/log"))-2:][:1], "/g/log"},
	} {
		t.Run(name, func(t *testing.T) {
			left := c.fsys.Clone()
			for _, path := range c.remove {
				if err := left.Remove(path); err != nil {
					t.Fatal(err)
				}
			}
			_, err := tryOpen(left, nil)
			wantDamage(t, err, c.named)
		})
	}
	// Without snapshots a log that was never trimmed is whole.
	left := fsys.Clone()
	for _, path := range list(t, left, "/g/snapshots") {
		if err := left.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	reopen(t, left, func(g *Group, c *counter) {
		if len(c.commands) != 120 {
			t.Errorf("%d commands", len(c.commands))
		}
	})
}

func TestLogOfAnotherNodeIsRefused(t *testing.T) {
	fsys, _ := filled(t)
	if _, err := tryOpen(fsys, func(o *Options) { o.NodeID = "n2" }); err == nil || !strings.Contains(err.Error(), "n2") {
		t.Errorf("opened by another name: %v", err)
	}
}

// The machine stops at each change of the disk during the first start, and the
// next one goes on from there.
func TestFirstStartMayBeInterruptedAnywhere(t *testing.T) {
	for n := 1; ; n++ {
		inner := memfs.New(0)
		var left *memfs.FS
		nth := errorfs.NewNth(n, errDisk, errorfs.Mutations()...)
		fsys := errorfs.Wrap(inner, func(op errorfs.Op, name string) error {
			if nth.Hook(op, name) != nil {
				left = inner.CrashClone(seeded(uint64(n)), 0.5)
			}
			return nil
		})
		reopen(t, fsys, func(*Group, *counter) {})
		if left == nil {
			if n < 20 {
				t.Errorf("only %d operations", n)
			}
			return
		}
		reopen(t, left, func(g *Group, _ *counter) { propose(t, g, "x") })
	}
}

// TestAcknowledgedCommandsSurvivePowerCuts stops the machine at random changes of
// the disk, while commands are written, snapshots taken and segments dropped.
func TestAcknowledgedCommandsSurvivePowerCuts(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	rounds := 40
	if testing.Short() {
		rounds = 8
	}
	r := seeded(seed)
	disk := memfs.New(0)
	acked := 0
	// In small segments there is never room to spare, so that nobody hands over an
	// entry of their own.
	segments := []int64{64 << 10, 256 << 10}[r.IntN(2)]
	for round := range rounds {
		cut := &stop{inner: disk, in: 1 + r.IntN(150), share: r.Float64(), r: r}
		cut.acked.Store(int64(acked))
		g, c := openGroup(t, "/g", func(o *Options) { o.FS, o.Snapshots, o.SegmentBytes = errorfs.Wrap(disk, cut.hook), 2, segments })
		if n := len(c.commands); n < acked || n > acked+1 {
			t.Fatalf("seed %d, round %d: %d commands, %d were acknowledged", seed, round, n, acked)
		}
		for i, cmd := range c.commands {
			if cmd != command(i) {
				t.Fatalf("seed %d, round %d: command %d is another", seed, round, i)
			}
		}
		acked = len(c.commands)
		cut.acked.Store(int64(acked))
		for n := acked; !cut.done.Load(); n++ {
			propose(t, g, command(n))
			cut.acked.Store(int64(n + 1))
			if n%30 == 7 {
				if err := errors.Join(g.Snapshot(), g.Trim(func(s segment.Info) bool { return s.Last+40 > g.Applied() })); err != nil {
					t.Error(err)
				}
			}
		}
		closeGroup(t, g)
		disk, acked = cut.left, cut.leftAcked
	}
}

// stop keeps what the machine's stop at a change of the disk leaves, and what
// had been acknowledged then.
type stop struct {
	inner *memfs.FS
	in    int
	share float64
	r     *rand.Rand
	acked atomic.Int64
	done  atomic.Bool

	mu        sync.Mutex
	left      *memfs.FS
	leftAcked int
}

func (s *stop) hook(op errorfs.Op, _ string) error {
	if op == errorfs.Read || op == errorfs.Open || op == errorfs.Free {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.in--; s.in == 0 {
		s.leftAcked = int(s.acked.Load())
		s.left = s.inner.CrashClone(s.r, s.share)
		s.done.Store(true)
	}
	return nil
}

// A failed write of the log is reported once, and nothing more is acknowledged.
func TestFailedWriteEndsTheGroup(t *testing.T) {
	inner := memfs.New(0)
	var failing atomic.Bool
	fsys := errorfs.Wrap(inner, func(op errorfs.Op, name string) error {
		if failing.Load() && op == errorfs.Sync && filepath.Dir(name) == "/g/log" && filepath.Base(name) != "log.state" {
			return errDisk
		}
		return nil
	})
	var fatal []error
	g, err := tryOpen(fsys, func(o *Options) { o.Fatal = func(err error) { fatal = append(fatal, err) } })
	if err != nil {
		t.Fatal(err)
	}
	propose(t, g, command(0))
	failing.Store(true)
	if _, err := g.Propose(t.Context(), Events, []byte(command(1))); !errors.Is(err, ErrUnknownOutcome) {
		t.Errorf("a write whose sync failed: %v", err)
	}
	failing.Store(false)
	if _, err := g.Propose(t.Context(), Events, []byte(command(2))); err == nil {
		t.Error("acknowledged after a failed sync")
	}
	if err := g.Close(context.Background()); err != nil {
		t.Errorf("close: %v", err)
	}
	if len(fatal) != 1 || !errors.Is(fatal[0], errDisk) {
		t.Errorf("reported: %v", fatal)
	}
	reopen(t, inner, func(g *Group, c *counter) {
		if n := len(c.commands); n < 1 || n > 2 || c.commands[0] != command(0) {
			t.Errorf("%d commands", n)
		}
	})
}

// Close ends while callers go on proposing.
func TestCloseUnderLoad(t *testing.T) {
	g, c := openGroup(t, "/g", func(o *Options) { o.FS, o.SegmentBytes = memfs.New(0), 1<<20 })
	var acked atomic.Int64
	var wg sync.WaitGroup
	started := make(chan struct{}, 8)
	for range cap(started) {
		wg.Go(func() {
			for i := 0; ; i++ {
				if _, err := g.Propose(context.Background(), Events, []byte("x")); err != nil {
					if !errors.Is(err, ErrClosed) && !errors.Is(err, ErrUnknownOutcome) {
						t.Error(err)
					}
					return
				}
				acked.Add(1)
				if i == 3 {
					started <- struct{}{}
				}
			}
		})
	}
	for range cap(started) {
		<-started
	}
	closeGroup(t, g)
	wg.Wait()
	if _, err := g.Propose(t.Context(), Events, []byte("x")); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if n := int64(len(c.commands)); n < acked.Load() {
		t.Errorf("%d commands applied, %d acknowledged", n, acked.Load())
	}
}

// The log's clock goes on from the last entry after a restart, whatever the
// machine's clock says.
func TestLogTimeSurvivesARestart(t *testing.T) {
	fsys := memfs.New(0)
	clock := &handClock{now: time.Unix(1e9, 0)}
	last := int64(0)
	for round := range 3 {
		g, _ := openGroup(t, "/g", func(o *Options) { o.FS, o.Clock = fsys, clock })
		propose(t, g, "x")
		e, err := g.ReadEntry(g.Applied())
		if err != nil || e.Time < last || e.Time == 0 {
			t.Errorf("log time %d after %d, %v", e.Time, last, err)
		}
		last = e.Time
		if round == 1 { // by the log at the first restart, by a snapshot at the second
			if err := g.Snapshot(); err != nil {
				t.Error(err)
			}
		}
		closeGroup(t, g)
		clock.add(-time.Hour)
	}
}

// A segment whose index is damaged is not dropped before one that follows it.
func TestTrimKeepsWhatItCannotJudge(t *testing.T) {
	fsys, infos := filled(t)
	flip(t, fsys, infos[0].Path, -100) // the footer
	reopen(t, fsys, func(g *Group, _ *counter) {
		if !g.Segments()[0].Damaged {
			t.Fatal("the index is not damaged")
		}
		if list, err := g.snapshots.List(); err != nil || len(list) != 2 || list[0].Index > list[1].Index {
			t.Errorf("a member that lags would get %v, %v", list, err)
		}
		trim := func(keepFrom uint64) uint64 {
			if err := g.Trim(func(s segment.Info) bool { return s.First >= keepFrom }); err != nil {
				t.Error(err)
			}
			return g.Segments()[0].First
		}
		if first := trim(infos[1].First); first != 1 {
			t.Errorf("the log begins with %d: nothing was to go", first)
		}
		if first := trim(infos[2].First); first != infos[2].First {
			t.Errorf("the log begins with %d, want %d", first, infos[2].First)
		}
	})
}

func TestSnapshotsGoByBytes(t *testing.T) {
	fsys := memfs.New(0)
	taken := make(chan error, 10)
	g, _ := openGroup(t, "/g", func(o *Options) {
		o.FS, o.SnapshotBytes, o.Snapshots = fsys, 100_000, 100
		o.Hooks.Snapshot = func(_ time.Duration, err error) { taken <- err }
	})
	for i := range 200 {
		propose(t, g, command(i))
		if i%40 == 39 { // 120 kB
			if err := <-taken; err != nil {
				t.Error(err)
			}
		}
	}
	closeGroup(t, g)
	if n := len(list(t, fsys, "/g/snapshots")); n < 5 || n > 6 {
		t.Errorf("%d snapshots of 600 kB of log, one wanted each 100 kB", n)
	}
}

// What the segments refuse before they write is told as the log's own errors.
func TestRefusalsHaveTheLogsErrors(t *testing.T) {
	other := errors.New("other")
	for _, c := range []struct{ of, want error }{{segment.ErrClosed, ErrClosed}, {segment.ErrFull, ErrDiskFull}, {other, other}} {
		if err := refusal(fmt.Errorf("append: %w", c.of)); !errors.Is(err, c.want) {
			t.Errorf("%v is refused as %v, want %v", c.of, err, c.want)
		}
	}
}
