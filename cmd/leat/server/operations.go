package server

import (
	"errors"
	"runtime"
	"sync/atomic"

	"github.com/leat-dev/leat/apiserver"
	"github.com/leat-dev/leat/broker/controller"
	"github.com/leat-dev/leat/broker/operations"
	"github.com/leat-dev/leat/channel"
	"github.com/leat-dev/leat/cmd/leat/settings"
	"github.com/leat-dev/leat/dispatcher"
	"github.com/leat-dev/leat/raftlog"
)

// operationsOptions are what the operations API stands on. The groups share a
// file system.
func operationsOptions(s settings.Server, log *channel.Log, d *dispatcher.Dispatcher, asked *declared, version string, meta, shard *raftlog.Group) operations.Options {
	groups := []*raftlog.Group{meta, shard}
	return operations.Options{
		Channels: log, Inventory: log, Subscriptions: d, Resources: asked.resources, ReadEvents: s.ReadEvents, ReadBytes: int(s.ReadBytes), Verify: verifier(log, meta, shard),
		Version: operations.Version{
			Version: version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH,
			Kubernetes: apiserver.KubernetesVersion, Node: s.Node,
		},
		Disk: func() (operations.Disk, error) {
			disk := operations.Disk{LimitBytes: uint64(s.MaxDisk), FloorBytes: uint64(s.DiskFloor)}
			for _, g := range groups {
				for _, segment := range g.Segments() {
					disk.LogBytes += uint64(segment.Bytes)
				}
			}
			var err error
			if disk.FreeBytes, err = groups[0].Free(); errors.Is(err, raftlog.ErrStalled) {
				err = nil // it is told below
			}
			for _, g := range groups {
				disk.StalledSeconds = max(disk.StalledSeconds, g.Stalled().Seconds())
			}
			return disk, err
		},
	}
}

// declared are the resources as their controller knows them. The API is served
// before there is one.
type declared struct {
	by atomic.Pointer[controller.Controller]
}

func (d *declared) resources() []operations.Resource {
	if c := d.by.Load(); c != nil {
		return c.Resources()
	}
	return nil
}
