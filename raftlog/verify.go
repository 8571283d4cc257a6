package raftlog

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path/filepath"
	"slices"

	"github.com/hashicorp/raft"

	"github.com/leat-dev/leat/raftlog/segment"
	"github.com/leat-dev/leat/raftlog/vfs"
)

// Verify reads every record, index and snapshot of the group, and calls report
// for each file; an error of it ends it.
func (g *Group) Verify(ctx context.Context, report func(segment.FileCheck) error) error {
	err := g.log.Verify(ctx, report)
	return errors.Join(err, verifyRest(ctx, g.o.FS, g.o.Dir, report))
}

// Verify reads a group that nobody has open, and changes nothing. machine is
// brought as far as the log can be followed, for what it knows of the rows in
// it; it may be nil.
func Verify(ctx context.Context, fsys vfs.FS, dir string, machine Machine, report func(segment.FileCheck) error) error {
	o := segment.VerifyOptions{FS: fsys, Dir: filepath.Join(dir, logDir)}
	if machine != nil {
		f, err := newFollower(fsys, dir, machine, math.MaxUint64)
		if err != nil {
			return err
		}
		o.Each = f.follow
	}
	err := segment.Verify(ctx, o, report)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%s holds no log: %w", o.Dir, err)
	}
	return errors.Join(err, verifyRest(ctx, fsys, dir, report))
}

func verifyRest(ctx context.Context, fsys vfs.FS, dir string, report func(segment.FileCheck) error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return errors.Join(segment.VerifyStable(fsys, filepath.Join(dir, stableFile), report),
		segment.VerifySnapshots(ctx, fsys, filepath.Join(dir, snapshotsDir), report))
}

// follower applies a log to a machine until the first gap in it.
type follower struct {
	machine Machine
	next    uint64 // the entry to be applied next
	lost    bool
	// applied, unless nil, is told of each entry that has been applied.
	applied func(*Entry)
}

// newFollower begins with the newest snapshot that reads back and has nothing of
// the entry before, or behind it; without one, at entry 1.
func newFollower(fsys vfs.FS, dir string, machine Machine, before uint64) (*follower, error) {
	var found []segment.FileCheck
	err := segment.VerifySnapshots(context.Background(), fsys, filepath.Join(dir, snapshotsDir), func(c segment.FileCheck) error {
		if len(c.Damages) == 0 && c.Last < before {
			found = append(found, c)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(found, func(a, b segment.FileCheck) int { return cmp.Compare(b.Last, a.Last) })
	for _, c := range found {
		next, err := restoreBefore(fsys, c, machine, before)
		if err != nil {
			return nil, fmt.Errorf("restore %s: %w", c.Path, err)
		}
		if next != 0 {
			return &follower{machine: machine, next: next}, nil
		}
	}
	return &follower{machine: machine, next: 1}, nil
}

// restoreBefore restores a snapshot, and returns the entry that follows it. What
// a sole voter had applied early is in the snapshot, too: where that reaches the
// entry before, nothing is restored, and it returns 0.
func restoreBefore(fsys vfs.FS, c segment.FileCheck, machine Machine, before uint64) (next uint64, err error) {
	_, content, err := segment.OpenSnapshot(fsys, c.Path)
	if err != nil {
		return 0, err
	}
	defer content.Close() // it is read only
	r := bufio.NewReader(content)
	h, err := readSnapshotHeader(r)
	if err != nil || h.applied >= before {
		return 0, err
	}
	return max(c.Last, h.applied) + 1, machine.Restore(r)
}

// snapshotReaches is the last entry that a snapshot has, which may be later than
// the one it is named by.
func snapshotReaches(fsys vfs.FS, c segment.FileCheck) (uint64, error) {
	_, content, err := segment.OpenSnapshot(fsys, c.Path)
	if err != nil {
		return 0, err
	}
	defer content.Close() // it is read only
	h, err := readSnapshotHeader(bufio.NewReader(content))
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", c.Path, err)
	}
	return max(c.Last, h.applied), nil
}

func (f *follower) follow(l *raft.Log) {
	if l.Index < f.next || f.lost {
		return
	}
	if l.Index > f.next {
		f.lost = true
		return
	}
	f.next++
	if l.Type != raft.LogCommand {
		return
	}
	t, commands, err := decodeEntry(l.Data)
	if err != nil {
		f.lost = true
		return
	}
	e := &Entry{Index: l.Index, Term: l.Term, Time: t, Commands: commands}
	f.machine.Apply(e)
	if f.applied != nil {
		f.applied(e)
	}
}
