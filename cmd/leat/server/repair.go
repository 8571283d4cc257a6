package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/leat-dev/leat/channel"
	"github.com/leat-dev/leat/raftlog"
	"github.com/leat-dev/leat/raftlog/kv"
	"github.com/leat-dev/leat/raftlog/vfs"
)

// Repair is a directory that no server uses while it is open.
type Repair struct {
	dir  string
	lock io.Closer
}

// OpenRepair takes a directory. The error is a *RunningError while a server has
// it.
func OpenRepair(dir string) (*Repair, error) {
	lock, err := lockIdle(dir)
	if err != nil {
		return nil, err
	}
	return &Repair{dir: dir, lock: lock}, nil
}

// Close lets servers have the directory again.
func (r *Repair) Close() error { return r.lock.Close() }

func (r *Repair) group(name string) string { return filepath.Join(r.dir, "groups", name) }

func (r *Repair) database() string { return filepath.Join(r.dir, "meta") }

// Plan says what is damaged, and what can be done about it; see
// raftlog.PlanRepair.
func (r *Repair) Plan(ctx context.Context) ([]raftlog.Remedy, error) {
	var all []raftlog.Remedy
	for _, group := range []struct {
		name    string
		machine func() raftlog.Machine
	}{
		{metaName, nil}, // resources are in no index
		{shardName, func() raftlog.Machine { return channel.NewShard(channel.Options{}) }},
	} {
		plan, err := raftlog.PlanRepair(ctx, vfs.OS{}, r.group(group.name), group.machine)
		if err != nil {
			return nil, fmt.Errorf("group %s: %w", group.name, err)
		}
		all = append(all, plan...)
	}
	if err := kv.Check(r.database()); err != nil {
		all = append(all, raftlog.Remedy{
			File: filepath.Join(r.database(), "db"), Reason: err.Error(),
			Step: "set the database of the resources aside: the next start makes it anew from snapshot and log",
			Do:   r.setDatabaseAside,
		})
	}
	return all, nil
}

func (r *Repair) setDatabaseAside() error {
	_, err := kv.SetAside(r.database())
	return err
}

// Cut gives up what a group's log has from a place on, which is a segment's path
// and a byte, such as data/groups/s0/log/0000000000000001.seg:8192.
func (r *Repair) Cut(ctx context.Context, place string) error {
	colon := strings.LastIndexByte(place, ':')
	if colon < 0 {
		return fmt.Errorf("--cut %s: must be FILE:BYTE, as the damage is named", place)
	}
	at, err := strconv.ParseInt(place[colon+1:], 10, 64)
	if err != nil {
		return fmt.Errorf("--cut %s: what follows the last colon must be a byte: %w", place, err)
	}
	file, err := filepath.Abs(place[:colon])
	if err != nil {
		return err
	}
	for _, name := range []string{metaName, shardName} {
		log, err := filepath.Abs(filepath.Join(r.group(name), "log"))
		if err != nil {
			return err
		}
		if filepath.Dir(file) != log {
			continue
		}
		err = raftlog.CutAt(ctx, vfs.OS{}, r.group(name), file, at)
		if name == metaName {
			err = errors.Join(err, r.setDatabaseAside()) // it may hold what was cut off
		}
		return err
	}
	return fmt.Errorf("--cut %s: this is no file of a log in %s", place, filepath.Join(r.dir, "groups"))
}
