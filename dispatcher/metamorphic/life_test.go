package metamorphic

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/leat-dev/leat/channel"
	"github.com/leat-dev/leat/dispatcher"
	"github.com/leat-dev/leat/raftlog"
	"github.com/leat-dev/leat/raftlog/vfs/errorfs"
)

// options are what differs from seed to seed.
type options struct {
	group      raftlog.Options
	channel    channel.Options
	dispatcher dispatcher.Options
	window     int // the largest MaxInFlight
}

func oneOf[T any](w *world, of ...T) T { return of[w.rnd.IntN(len(of))] }

func (w *world) drawOptions() options {
	return options{
		group: raftlog.Options{
			Dir: "/s0", Name: "s0", NodeID: "n1", Clock: w.clock,
			SegmentBytes: oneOf[int64](w, 64<<10, 96<<10, 256<<10), DirectBytes: oneOf(w, 0, 1, 2000),
			SnapshotBytes: oneOf[int64](w, 4<<10, 64<<10, 1<<20), Snapshots: oneOf(w, 2, 3, 4),
			MaxEntryBytes: oneOf(w, 600, 8<<10, 64<<10), MaxPendingBytes: oneOf[int64](w, 8<<10, 1<<20),
			DiskFloor: 300 << 10, DiskReserve: 100 << 10,
			Reuse: true, Hooks: raftlog.Hooks{Reused: spoil},
		},
		channel: channel.Options{
			Clock: w.clock, RetentionAge: oneOf(w, 5*time.Minute, 24*time.Hour, 24*time.Hour),
			DeadLetterRetention: oneOf(w, 10*time.Minute, 24*time.Hour, 24*time.Hour),
			DeadLetterBytes:     oneOf[int64](w, 4<<10, 1<<20),
			MaxDisk:             oneOf[int64](w, 0, 0, 300<<10), RefuseOverMaxDisk: w.rnd.IntN(3) == 0,
			RetentionInterval: oneOf(w, 5*time.Second, time.Minute), RetentionStep: oneOf[uint64](w, 3, 4096),
			TailBytes: oneOf[int64](w, 1, 4<<10, 1<<20), CacheBytes: oneOf[int64](w, 1, 4<<10, 1<<20),
			TermsBytes: oneOf(w, 1, 300, 64<<10),
			Reused: func(data []byte, events []Event) {
				spoil(data)
				for i := range events {
					events[i] = Event{ID: "used again"}
				}
			},
		},
		dispatcher: dispatcher.Options{
			MaxRequests: oneOf(w, 10, 8192), MaxWaiting: oneOf(w, 30, 10_000), MaxRanges: oneOf(w, 2, 16, 256),
			CommitInterval: oneOf(w, time.Millisecond, 100*time.Millisecond, 2*time.Second),
			CommitBytes:    oneOf(w, 64, 1<<10, 128<<10), ScanEvents: oneOf(w, 4, 1000),
			ReadEvents: oneOf(w, 1, 20, 256), ReadBytes: oneOf(w, 500, 1<<20),
		},
		window: oneOf(w, 2, 10, 40),
	}
}

// spoil writes to memory that nobody may keep.
func spoil(memory []byte) {
	for i := range memory {
		memory[i] = 0xdb
	}
}

// life is the engine between two starts: a group, its shard, a dispatcher.
type life struct {
	w     *world
	disk  *disk
	group *raftlog.Group
	log   *channel.Log
	d     *dispatcher.Dispatcher

	broken    atomic.Bool // the group has said that the process must end
	writers   sync.WaitGroup
	retention sync.WaitGroup
	cancel    context.CancelFunc
}

// openLife starts the engine on a disk.
func (w *world) openLife(d *disk) (*life, error) {
	l := &life{w: w, disk: d}
	shard := channel.NewShard(w.o.channel)
	o := w.o.group
	o.FS, o.Machine = errorfs.Wrap(d.FS, d.hook), shard
	o.Fatal = func(err error) {
		if !d.faulty.Load() && !d.dead.Load() {
			w.t.Errorf("the log failed on a disk without faults: %v", err)
		}
		l.broken.Store(true)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	var err error
	if l.group, err = raftlog.Open(ctx, o); err != nil {
		return nil, err
	}
	shard.Bind(l.group)
	l.log = channel.NewLog(shard)
	run, stop := context.WithCancel(context.Background())
	l.cancel = stop
	l.retention.Go(func() {
		if err := l.log.Run(run); err != nil {
			w.t.Errorf("retention ended: %v", err)
		}
	})
	do := w.o.dispatcher
	do.Sender = &sender{w: w, l: l}
	l.d = dispatcher.New(do)
	return l, nil
}

// over says whether the process has to end, or has ended.
func (l *life) over() bool { return l.broken.Load() || l.disk.dead.Load() }

// close ends all goroutines. Where the machine has stopped before, what they
// still do is seen by nobody.
func (l *life) close(orderly bool) error {
	l.writers.Wait()
	l.cancel()
	l.retention.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	if !orderly {
		cancel()
	}
	defer cancel()
	err := l.d.Close(ctx)
	all, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	return errors.Join(err, l.group.Close(all))
}

// begin starts a life on what is left of the disk. One that faults break at its
// start is followed by another.
func (w *world) begin() {
	for try := 0; ; try++ {
		d := newDisk(w.fs, w.diskRnd)
		if try == 0 && w.rnd.IntN(6) == 0 {
			d.cutAfter(1 + w.rnd.IntN(60))
		} else if try == 0 && w.rnd.IntN(6) == 0 {
			d.failAfter(1+w.rnd.IntN(60), faults...)
		}
		l, err := w.openLife(d)
		if err == nil && !l.over() {
			d.mu.Lock()
			d.cutIn, d.failIn = 0, 0
			d.mu.Unlock()
			w.life = l
			if !d.dead.Load() {
				w.resume(l)
				return
			}
		}
		if err != nil && !d.faulty.Load() && !d.dead.Load() {
			w.t.Fatalf("the engine does not open what was left: %v", err)
		}
		w.fs = d.stop(false)
		if err == nil {
			_ = l.close(false) // it is dead
		}
		w.note("the start was broken off (%v)", err)
	}
}

var faults = append(errorfs.Mutations(), errorfs.Read, errorfs.Open, errorfs.ReadDir, errorfs.Stat)

// resume compares what a life begins with to the model, then sets it to work.
func (w *world) resume(l *life) {
	w.eachChannel(func(c *channelModel) {
		if ch, ok := l.log.Get(c.id.UID); ok {
			c.ch = ch
		} else if c.made {
			w.t.Fatalf("channel %s is gone", c.id.UID)
		} else {
			return
		}
		w.reread(c)
	})
	w.check()
	w.eachChannel(func(c *channelModel) {
		if c.made {
			l.attach(c)
		}
	})
}

func (l *life) attach(c *channelModel) {
	l.d.Attach(c.ch)
	for _, uid := range c.uids() {
		l.d.SetTarget(l.target(c, c.targets[uid]))
	}
}

// target adds to a target what belongs to this life.
func (l *life) target(c *channelModel, t dispatcher.Target) dispatcher.Target {
	t.Reply = func(ctx context.Context, original *dispatcher.Original, reply *Event) error {
		return l.w.reply(ctx, l, c, t.UID, original, reply)
	}
	return t
}

// crash ends the life without order, and begins the next.
func (w *world) crash(power bool) {
	l := w.life
	w.fs = l.disk.stop(power)
	w.kills++
	_ = l.close(false) // it is dead already
	w.begin()
}

// restart ends the life in order, where that can be.
func (w *world) restart() {
	l := w.life
	l.writers.Wait()
	w.harvest()
	err := l.close(true)
	if err != nil && !l.disk.faulty.Load() && !l.over() {
		w.t.Errorf("close: %v", err)
	}
	if err != nil || l.over() {
		w.kills++
	}
	w.fs = l.disk.stop(false)
	w.begin()
}

// must repeats what has to be done until it is, over any number of lives.
func (w *world) must(what string, do func() error) {
	for try := 0; ; try++ {
		l := w.life
		err := do()
		switch {
		case l.over():
			w.note("%s: broken off by a crash", what)
			w.crash(false)
		case err == nil:
			return
		case !l.disk.faulty.Load() && !errors.Is(err, raftlog.ErrOverloaded):
			w.t.Fatalf("%s: %v", what, err)
		case try > 3:
			l.disk.heal()
			time.Sleep(time.Second)
		default:
			time.Sleep(time.Second)
		}
		if try > 50 {
			w.t.Fatalf("%s: still %v", what, err)
		}
	}
}

func (w *world) note(format string, args ...any) {
	w.trace = append(w.trace, fmt.Sprintf(format, args...))
}
