package raftlog

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

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
	o := segment.VerifyOptions{FS: fsys, Dir: filepath.Join(dir, "log")}
	if machine != nil {
		f, err := newFollower(fsys, dir, machine)
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
	return errors.Join(segment.VerifyStable(fsys, filepath.Join(dir, "stable"), report),
		segment.VerifySnapshots(ctx, fsys, filepath.Join(dir, "snapshots"), report))
}

// follower applies a log to a machine until the first gap in it.
type follower struct {
	machine Machine
	next    uint64 // the entry to be applied next
	lost    bool
}

// newFollower begins with the newest snapshot that reads back.
func newFollower(fsys vfs.FS, dir string, machine Machine) (*follower, error) {
	f := &follower{machine: machine, next: 1}
	at := ""
	err := segment.VerifySnapshots(context.Background(), fsys, filepath.Join(dir, "snapshots"), func(c segment.FileCheck) error {
		if len(c.Damages) == 0 && c.Last >= f.next {
			f.next, at = c.Last+1, c.Path
		}
		return nil
	})
	if err != nil || at == "" {
		return f, err
	}
	_, content, err := segment.OpenSnapshot(fsys, at)
	if err != nil {
		return nil, err
	}
	defer content.Close() // it is read only
	r := bufio.NewReader(content)
	if _, err := readSnapshotHeader(r); err != nil {
		return nil, fmt.Errorf("restore %s: %w", at, err)
	}
	if err := machine.Restore(r); err != nil {
		return nil, fmt.Errorf("restore %s: %w", at, err)
	}
	return f, nil
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
	f.machine.Apply(&Entry{Index: l.Index, Term: l.Term, Time: t, Commands: commands})
}
