package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/leat-dev/leat/broker/operations"
	"github.com/leat-dev/leat/channel"
	"github.com/leat-dev/leat/raftlog"
	"github.com/leat-dev/leat/raftlog/segment"
	"github.com/leat-dev/leat/raftlog/vfs"
)

// verifier verifies the groups of a running server.
func verifier(log *channel.Log, meta, shard *raftlog.Group) operations.Verifier {
	return func(ctx context.Context, report func(operations.FileReport) error) error {
		err := meta.Verify(ctx, reporter(metaName, nil, report))
		return errors.Join(err, shard.Verify(ctx, reporter(shardName, log.Lost, report)))
	}
}

func reporter(group string, lost func([]raftlog.Row) []channel.Lost, report func(operations.FileReport) error) func(segment.FileCheck) error {
	return func(c segment.FileCheck) error { return report(operations.Report(group, c, lost)) }
}

// VerifyDir verifies the groups of a directory that no server uses. It changes
// nothing; while it runs no server can start there. The error is a
// *RunningError while one has the directory.
func VerifyDir(ctx context.Context, dir string, report func(operations.FileReport) error) (err error) {
	lock, err := lockIdle(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	fs, groups := vfs.OS{}, filepath.Join(dir, "groups")
	err = raftlog.Verify(ctx, fs, filepath.Join(groups, metaName), nil, reporter(metaName, nil, report))
	shard := channel.NewShard(channel.Options{})
	return errors.Join(err, raftlog.Verify(ctx, fs, filepath.Join(groups, shardName), shard, reporter(shardName, shard.Lost, report)))
}

// lockIdle keeps servers from a directory that none uses.
func lockIdle(dir string) (io.Closer, error) {
	if _, err := os.Stat(filepath.Join(dir, "groups")); err != nil {
		return nil, fmt.Errorf("--data %s holds no log of a server: %w", dir, err)
	}
	lock, err := vfs.OS{}.Lock(filepath.Join(dir, "lock"))
	if errors.Is(err, vfs.ErrLocked) {
		running := &RunningError{Dir: dir}
		if e, err := ReadEndpoints(dir); err == nil {
			running.Endpoints = e
		}
		return nil, running
	}
	if err != nil {
		return nil, fmt.Errorf("--data %s: lock: %w", dir, err)
	}
	return lock, nil
}
