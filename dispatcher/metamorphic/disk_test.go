package metamorphic

import (
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/leat-dev/leat/raftlog/vfs/errorfs"
	"github.com/leat-dev/leat/raftlog/vfs/memfs"
)

var errDisk = errors.New("the disk failed")

// unbounded is the size of a disk that does not fill up: a bound all the same,
// so that the disk can tell how much of it is used.
const unbounded = 1 << 40

// disk is what one life of the engine writes to, with the faults that wait for
// it there.
type disk struct {
	*memfs.FS
	// dead: the machine has stopped. It is set before what is left is copied, so
	// whatever was acknowledged while it was not yet set is in the copy.
	dead atomic.Bool

	mu    sync.Mutex
	rnd   *rand.Rand
	cutIn int // changes of the disk until the power fails; 0: it does not
	left  *memfs.FS
	share float64

	failIn  int // operations until one fails; 0: none does
	failOps []errorfs.Op
	// faulty: something has failed, or the disk is bounded, so refusals are
	// as they should be.
	faulty atomic.Bool
}

func newDisk(inner *memfs.FS, rnd *rand.Rand) *disk {
	inner.SetCapacity(unbounded)
	return &disk{FS: inner, rnd: rnd}
}

func (d *disk) hook(op errorfs.Op, _ string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	change := slices.Contains(errorfs.Mutations(), op)
	if change && d.cutIn > 0 {
		if d.cutIn--; d.cutIn == 0 {
			d.dead.Store(true)
			d.left = d.CrashClone(d.rnd, d.share)
		}
	}
	if d.failIn > 0 && slices.Contains(d.failOps, op) {
		if d.failIn--; d.failIn == 0 {
			d.faulty.Store(true)
			return errDisk
		}
	}
	return nil
}

// cutAfter lets the power fail in the middle of what is to come.
func (d *disk) cutAfter(changes int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cutIn, d.share = changes, []float64{0, 0.3, 0.7, 1}[d.rnd.IntN(4)]
}

// failAfter lets one operation of some kinds fail, of what is to come.
func (d *disk) failAfter(n int, ops ...errorfs.Op) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failIn, d.failOps = n, ops
}

// bound leaves so many bytes free.
func (d *disk) bound(free int64) {
	now, total, _ := d.Free("/") // never fails in memory
	d.SetCapacity(int64(total-now) + free)
	d.faulty.Store(true)
}

// heal takes all faults away that have not struck.
func (d *disk) heal() {
	d.SetCapacity(unbounded)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cutIn, d.failIn = 0, 0
}

// stop ends the machine now, and returns what is left of the disk: all that was
// written where only the process died, else what a power cut leaves.
func (d *disk) stop(power bool) *memfs.FS {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dead.Store(true)
	d.cutIn, d.failIn = 0, 0
	switch {
	case d.left != nil:
	case power:
		d.left = d.CrashClone(d.rnd, []float64{0, 0.3, 0.7, 1}[d.rnd.IntN(4)])
	default:
		d.left = d.Clone()
	}
	return d.left
}

// skewed is a clock that may be set wrong.
type skewed struct{ by atomic.Int64 }

func (c *skewed) Now() time.Time { return time.Now().Add(time.Duration(c.by.Load())) }

func (c *skewed) After(d time.Duration) <-chan time.Time { return time.After(d) }
