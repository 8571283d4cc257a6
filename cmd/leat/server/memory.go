package server

import (
	"context"
	"log/slog"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// What is worth being given back, and how much is little to be allocated from
// one look to the next; in bytes.
const (
	worthGivingBack  = 16 << 20
	littleAllocation = 8 << 20
)

// keeper gives memory back to the system when the server has become idle: what
// the start or a load has left behind, of which the runtime would keep most for
// the next one. While there is load it leaves everything to the runtime.
type keeper struct {
	every  time.Duration
	usage  func() usage
	give   func() error
	logger *slog.Logger
}

// usage is what the heap takes.
type usage struct {
	allocated int64 // since the start
	spare     int64 // garbage, as far as it is known, and what is free
}

func newKeeper(every time.Duration, logger *slog.Logger) *keeper {
	return &keeper{every: every, usage: heapUsage, give: giveBack, logger: logger}
}

// run gives back what the start has left, and then what each load has, until
// ctx ends.
func (k *keeper) run(ctx context.Context) error {
	k.giveBack()
	t := time.NewTicker(k.every)
	defer t.Stop()
	last := k.usage()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
		now := k.usage()
		if now.allocated-last.allocated < littleAllocation && now.spare >= worthGivingBack {
			k.giveBack()
		}
		last = now
	}
}

func (k *keeper) giveBack() {
	if err := k.give(); err != nil {
		k.logger.Debug("some memory cannot be given back", "error", err)
	}
}

// heapUsage asks the runtime. What was live is known as of its last collection.
func heapUsage() usage {
	samples := []metrics.Sample{
		{Name: "/gc/heap/allocs:bytes"}, {Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/free:bytes"},
	}
	metrics.Read(samples)
	value := func(i int) int64 { return int64(samples[i].Value.Uint64()) }
	return usage{allocated: value(0), spare: max(0, value(1)-value(2)) + value(3)}
}

// giveBack collects garbage, and returns what is free of the heap, and of the
// program itself what is not being used.
func giveBack() error {
	debug.FreeOSMemory()
	return dropProgram()
}
