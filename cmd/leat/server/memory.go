package server

import (
	"context"
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// What is worth being given back, and how much is little to be allocated from
// one look to the next; in bytes.
const (
	worthGivingBack  = 16 << 20
	littleAllocation = 2 << 20
)

// keeper gives memory back to the system when the server has become idle: what
// the start or a load has left behind, of which the runtime would keep most for
// the next one, and what caches hold of the latest writes, which everybody has
// seen by then. While there is load it sees to it that the runtime does not
// collect garbage all the time, only because there is little beside it, and that
// what was used once of the program itself, as to make a resource, does not stay.
type keeper struct {
	every time.Duration
	usage func() usage
	give  func() error
	drop  func() error // gives back what is not being used of the program itself
	// forget empties the caches, and gives the bytes that nobody uses any more.
	forget []func() int64
	// pace has garbage collected when it is so many percent of what is not; nil
	// leaves that as it is.
	pace func(percent int)
	// collected tells of each collection, after which the next is paced: what was
	// right for a small heap would let a large one grow beyond all bounds.
	collected <-chan struct{}
	// garbage is how much may gather at least, beside what room tells: what caches
	// that are empty are about to take, when a load begins, is no garbage, and to
	// collect for its sake would hit each load in its second second.
	garbage int64
	room    func() int64
	percent int // as paced last; 0: not yet
	logger  *slog.Logger
}

// usage is what the heap takes.
type usage struct {
	allocated int64 // since the start
	live      int64 // as of the last collection
	spare     int64 // garbage, as far as it is known, and what is free
}

func newKeeper(ctx context.Context, every time.Duration, garbage int64, room func() int64, logger *slog.Logger, forget ...func() int64) *keeper {
	k := &keeper{every: every, usage: heapUsage, give: giveBack, drop: dropProgram, forget: forget, garbage: garbage, room: room, logger: logger}
	if os.Getenv("GOGC") == "" { // it says how
		k.pace = func(percent int) { debug.SetGCPercent(percent) }
		k.collected = collections(ctx)
	}
	return k
}

// collections tells of each collection of garbage until ctx ends.
func collections(ctx context.Context) <-chan struct{} {
	told := make(chan struct{}, 1)
	type mark struct{ _ *byte } // garbage from the beginning
	var await func(struct{})
	await = func(struct{}) {
		// Whoever is told may collect at once: the next one is awaited by then.
		if ctx.Err() == nil {
			runtime.AddCleanup(new(mark), await, struct{}{})
		}
		select {
		case told <- struct{}{}:
		default:
		}
	}
	await(struct{}{})
	return told
}

// run gives back what the start has left, and then what each load has, until
// ctx ends.
func (k *keeper) run(ctx context.Context) error {
	k.giveBack()
	t := time.NewTicker(k.every)
	defer t.Stop()
	last, forgotten := k.usage(), int64(0)
	used := true      // the program, by the end of the start or of a load
	worth := int64(0) // once, the end of the start leaves some, however little
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-k.collected:
			k.setPace(k.usage().live)
			continue
		case <-t.C:
		}
		now := k.usage()
		if now.allocated-last.allocated >= littleAllocation {
			forgotten = 0 // it is collected with all that the load leaves
			used = true
			k.check(k.drop())
		} else if forgotten += k.forgetAll(); now.spare+forgotten >= worth {
			k.giveBack()
			forgotten, used, worth = 0, false, worthGivingBack
		} else if used {
			k.check(k.drop())
			used = false
		}
		last = now
	}
}

func (k *keeper) forgetAll() (bytes int64) {
	for _, forget := range k.forget {
		bytes += forget()
	}
	return bytes
}

// leastPercent is how much garbage may gather beside a large heap: half of what
// the runtime lets gather of itself. What was allocated during a collection counts
// as what is not garbage until the next one, so under load a heap looks larger than
// it is.
const leastPercent = 50

// setPace lets garbage gather up to what is set, beside a large heap more. To
// change that stops the program for a moment, so little is let pass.
func (k *keeper) setPace(live int64) {
	if k.pace == nil || live <= 0 {
		return
	}
	percent := max(leastPercent, int(min((k.garbage+k.room())/max(live/100, 1), 1000)))
	if 10*max(percent-k.percent, k.percent-percent) > k.percent {
		k.percent = percent
		k.pace(percent)
	}
}

func (k *keeper) giveBack() {
	k.check(k.give())
}

func (k *keeper) check(err error) {
	if err != nil {
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
	return usage{allocated: value(0), live: value(2), spare: max(0, value(1)-value(2)) + value(3)}
}

// giveBack collects garbage, and returns what is free of the heap, and of the
// program itself what is not being used.
func giveBack() error {
	debug.FreeOSMemory()
	return dropProgram()
}
