//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/leat-dev/leat/bench/ceiling"
	"github.com/leat-dev/leat/bench/load"
	"github.com/leat-dev/leat/bench/proc"
	"github.com/leat-dev/leat/bench/server"
	"github.com/leat-dev/leat/bench/stats"
	"github.com/leat-dev/leat/bench/table"
)

// batch is how many events a batch has, and batches how many are in flight.
const (
	batch   = 64
	batches = 16
)

// warmUp is sent before anything is counted.
const warmUp = 500 * time.Millisecond

// large are the sizes and numbers in flight of events that are not small.
var large = []struct {
	name   string
	size   int
	window int
}{{"16 KiB", 16 << 10, 64}, {"256 KiB", 256 << 10, 16}}

// publishPart measures what is taken in: by a broker that nobody listens to.
func publishPart(ctx context.Context, b *bench) error {
	null, err := b.startCeiling(ctx, "")
	if err != nil {
		return err
	}
	defer null.Kill()
	s, err := b.startLeat(ctx, "publish")
	if err != nil {
		return err
	}
	defer s.Kill()
	p := &publisher{bench: b, server: s, broker: "quiet", null: null}
	if err := s.Broker(ctx, p.broker); err != nil {
		return err
	}
	p.rows()
	idle, err := s.Resident()
	if err != nil {
		return err
	}
	b.note("memory idle", float64(idle)/1e6)
	if err := errors.Join(
		p.warm(ctx, null.address, "/"),
		p.warm(ctx, s.Address, server.Path(p.broker))); err != nil {
		return err
	}
	if err := b.turns(ctx, p.steps()); err != nil {
		return err
	}
	after, err := s.Resident()
	if err != nil {
		return err
	}
	b.note("memory after", float64(after)/1e6)
	return p.written(ctx)
}

// disk is a way to write blocks and to sync each: what the disk itself can do.
type disk struct {
	key, name string
	write     func(ctx context.Context, dir string, size int, length time.Duration) (stats.Sample, error)
}

// disks are over space that was written before, which a log has once it writes again
// what it has dropped, and into a file that grows, as a new log does.
var disks = []disk{{"sync", "", ceiling.Sync}, {"grow", " into new space", ceiling.Append}}

// blocks are what is written and synced by itself.
var blocks = []struct {
	name string
	size int
}{{"4 KiB", 4 << 10}, {"64 KiB", 64 << 10}, {"1 MiB", 1 << 20}}

// sync writes and syncs, beside the servers' own directories.
func (b *bench) sync(key string, d disk, size int) step {
	return step{key, nil, func(ctx context.Context) (stats.Sample, error) {
		return d.write(ctx, b.dir, size, b.length/2)
	}}
}

type publisher struct {
	*bench
	server *server.Server
	broker string
	null   *ceilingServer
	// sent is how many events the broker has been sent, so that each has
	// another number.
	sent int
}

func (p *publisher) warm(ctx context.Context, address, path string) error {
	sent, err := load.Send(ctx, load.Plan{Address: address, Conns: 64, Length: warmUp, First: p.sent,
		Request: load.Binary(address, path, load.Event{Data: load.Payload(p.size, "")})})
	if path != "/" {
		p.sent += sent.Events
	}
	return err
}

func (p *publisher) steps() []step {
	var steps []step
	for _, disk := range disks {
		for _, block := range blocks {
			steps = append(steps, p.sync(disk.key+" "+block.name, disk, block.size))
		}
	}
	for _, w := range []int{1, 16, 256} {
		steps = append(steps, p.pair(fmt.Sprintf("W=%d", w), w, p.size, 1)...)
	}
	steps = append(steps, p.pair("batches", batches, p.size, batch)...)
	for _, l := range large {
		steps = append(steps, p.pair(l.name, l.window, l.size, 1)...)
	}
	return steps
}

// pair is the same requests to net/http and to the broker.
func (p *publisher) pair(name string, w, size, batch int) []step {
	request := func(address, path string) load.Request {
		e := load.Event{Data: load.Payload(size, "")}
		if batch > 1 {
			return load.Batch(address, path, batch, e)
		}
		return load.Binary(address, path, e)
	}
	sample := func(sent load.Sent) stats.Sample {
		s := stats.Of(sent.Events, sent.Took, sent.Latencies)
		s.Bytes = size
		return s
	}
	return []step{
		{"http " + name, p.null.Group, func(ctx context.Context) (stats.Sample, error) {
			sent, err := load.Send(ctx, load.Plan{Address: p.null.address, Conns: w, Length: p.length, Request: request(p.null.address, "/")})
			return sample(sent), err
		}},
		{"publish " + name, p.server.Group, func(ctx context.Context) (stats.Sample, error) {
			sent, err := p.send(ctx, load.Plan{Conns: w, Length: p.length, Request: request(p.server.Address, server.Path(p.broker))})
			return sample(sent), err
		}},
	}
}

// send sends to the broker, and checks that it has each event that was
// answered.
func (p *publisher) send(ctx context.Context, plan load.Plan) (load.Sent, error) {
	plan.Address, plan.First = p.server.Address, p.sent
	sent, err := load.Send(ctx, plan)
	if err != nil {
		return sent, err
	}
	p.sent += sent.Events
	stored, err := p.server.Stored(ctx, p.broker)
	if err == nil && stored != p.sent {
		err = fmt.Errorf("the broker has %d events, %d were sent", stored, p.sent)
	}
	return sent, err
}

// written notes what was written for a byte of payload. A log takes space in
// large pieces, which it may have to write as well, so that little says
// nothing: it is as many bytes as eight such pieces for a length of 2 s.
func (p *publisher) written(ctx context.Context) error {
	progress("what is written")
	payload := int((256 << 20) * p.length.Seconds())
	before, err := p.server.Written()
	if err != nil {
		return err
	}
	device, deviceErr := proc.DeviceWritten(p.dir)
	sent, err := p.send(ctx, load.Plan{Conns: window, Limit: payload/p.size + 1,
		Request: load.Binary(p.server.Address, server.Path(p.broker), load.Event{Data: load.Payload(p.size, "")})})
	if err != nil {
		return err
	}
	after, err := p.server.Written()
	if err != nil {
		return err
	}
	each := func(bytes int64) float64 { return float64(bytes) / float64(sent.Events*p.size) }
	p.note("written", each(after-before-sent.Answers))
	// Not every directory is on a disk that tells.
	if now, err := proc.DeviceWritten(p.dir); err == nil && deviceErr == nil {
		p.note("written by the disk", each(now-device))
	}
	return nil
}

func (p *publisher) rows() {
	b := p.bench
	for _, disk := range disks {
		for _, block := range blocks {
			b.rate(fmt.Sprintf("write + fdatasync%s, %s", disk.name, block.name), disk.key+" "+block.name)
		}
	}
	for _, w := range []int{1, 16, 256} {
		b.rate(fmt.Sprintf("net/http answering 202, W=%d", w), fmt.Sprintf("http W=%d", w))
	}
	b.rate("publish, W=1", "publish W=1", b.perDisk(b.syncedAnswer)...)
	b.rate("publish, W=16", "publish W=16", b.atLeast(0.6, "publish W=16", "http W=16", "net/http"))
	b.rate("publish, W=256", "publish W=256",
		b.atLeast(1.1, "publish W=256", "http W=256", "net/http"),
		b.atLeast(1, "publish W=256", peerKey("redis-always", "publish W=256"), "Redis, appendfsync always"),
		b.atMost(3, " s", "server CPU for 100k", b.serverCPU("publish W=256")))
	b.rate(fmt.Sprintf("publish in batches of %d, %d events in flight", batch, batch*batches), "publish batches",
		b.atLeast(1, "publish batches", peerKey("kafka", "publish W=1024"), "Kafka, default"),
		b.atLeast(2.5, "publish batches", peerKey("kafka-flush", "publish W=1024"), "Kafka, flush each"))
	for _, l := range large {
		b.rate(fmt.Sprintf("net/http answering 202, %s, W=%d", l.name, l.window), "http "+l.name)
		b.rate(fmt.Sprintf("publish, %s, W=%d", l.name, l.window), "publish "+l.name,
			b.perDisk(func(d disk) table.Check { return b.largeCheck(l.name, d) })...)
	}
	b.figure(fmt.Sprintf("bytes written for each of payload, publish, W=%d: given to write, answers not counted", window), "written", "",
		b.atMost(1.25, "", "", b.value("written")))
	b.figure("the same, as the disk counts, whoever wrote", "written by the disk", "")
	b.figure("memory, idle (resident)", "memory idle", " MB", b.atMost(140, " MB", "", b.value("memory idle")))
	b.figure("memory, after the load", "memory after", " MB", b.atMost(200, " MB", "", b.value("memory after")))
}

// perDisk is a check against each of the disks.
func (b *bench) perDisk(check func(disk) table.Check) (checks []func() table.Check) {
	for _, d := range disks {
		checks = append(checks, func() table.Check { return check(d) })
	}
	return checks
}

// syncedAnswer holds the median time of one request against those of an answer
// and of a sync.
func (b *bench) syncedAnswer(d disk) table.Check {
	floor := b.latency("http W=1", p50) + b.latency(d.key+" 4 KiB", p50)
	return table.Check{Name: "of p50 of net/http + fdatasync" + d.name, Value: b.latency("publish W=1", p50) / floor, Bound: 1.2, AtMost: true}
}

// largeCheck holds bytes a second against the disk's or net/http's, whichever
// is less.
func (b *bench) largeCheck(name string, d disk) table.Check {
	disk := stats.Ratio(b.samples["publish "+name], b.samples[d.key+" 1 MiB"], bytesRate)
	http := stats.Ratio(b.samples["publish "+name], b.samples["http "+name], bytesRate)
	if http > disk {
		return table.Check{Name: "of net/http", Value: http, Bound: 0.7}
	}
	return table.Check{Name: "of the disk" + d.name, Value: disk, Bound: 0.7}
}
