package channel_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/leat-dev/leat/api/event"
	"github.com/leat-dev/leat/channel"
	"github.com/leat-dev/leat/raftlog"
	"github.com/leat-dev/leat/raftlog/vfs"
)

// realLog is a channel on a raft group of its own, on the disk that has the
// directory for temporary files.
func realLog(b *testing.B) channel.Channel {
	b.Helper()
	shard := channel.NewShard(channel.Options{})
	group, err := raftlog.Open(b.Context(), raftlog.Options{
		Dir: b.TempDir(), Name: "s0", NodeID: "n", Machine: shard, Reuse: true,
		Fatal: func(err error) { b.Error(err) },
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := group.Close(context.Background()); err != nil {
			b.Error(err)
		}
	})
	shard.Bind(group)
	ch, err := channel.NewLog(shard).Ensure(b.Context(), channel.ID{Kind: "Broker", Namespace: "n", Name: "b", UID: "u"}, channel.Config{})
	if err != nil {
		b.Fatal(err)
	}
	return ch
}

func someEvents(n, size int) []*event.Event {
	events := make([]*event.Event, n)
	for i := range events {
		events[i] = &event.Event{ID: fmt.Sprintf("id-%06d", i), Source: "/bench", Type: "bench", DataContentType: "application/octet-stream", Data: make([]byte, size)}
	}
	return events
}

// inFlight does one thing b.N times, w at a time, and reports how long each took
// and what was handed to the disk meanwhile.
func inFlight(b *testing.B, w, events, bytes int, do func() error) {
	var next atomic.Int64
	took := make([]time.Duration, b.N)
	wrote := writtenBytes(b)
	b.ReportAllocs()
	b.ResetTimer()
	var wg sync.WaitGroup
	for range w {
		wg.Go(func() {
			for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
				began := time.Now()
				if err := do(); err != nil {
					b.Error(err)
				}
				took[i-1] = time.Since(began)
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	slices.Sort(took)
	b.ReportMetric(float64(b.N*events)/b.Elapsed().Seconds(), "events/s")
	b.ReportMetric(float64(took[b.N/2].Microseconds()), "p50-us")
	b.ReportMetric(float64(took[b.N*99/100].Microseconds()), "p99-us")
	b.ReportMetric(float64(writtenBytes(b)-wrote)/float64(b.N*events*bytes), "written/payload")
}

// writtenBytes is what this process has handed to the disk.
func writtenBytes(b *testing.B) (n int64) {
	f, err := os.Open("/proc/self/io")
	if err != nil {
		return 0 // this system does not tell
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if value, ok := strings.CutPrefix(s.Text(), "write_bytes: "); ok {
			if _, err := fmt.Sscan(value, &n); err != nil {
				b.Fatal(err)
			}
		}
	}
	return n
}

// BenchmarkAppend is an event's way into the log and the answer's way back, with
// so many appends in flight; beside it BenchmarkDisk is what the disk takes.
func BenchmarkAppend(b *testing.B) {
	for _, c := range []struct{ inFlight, events, bytes int }{
		{1, 1, 1 << 10}, {16, 1, 1 << 10}, {256, 1, 1 << 10},
		{1, 64, 1 << 10}, {4, 64, 1 << 10}, {16, 64, 1 << 10},
		{16, 1, 16 << 10}, {64, 1, 16 << 10}, {4, 1, 256 << 10}, {16, 1, 256 << 10},
	} {
		b.Run(fmt.Sprintf("W=%d/batch=%d/bytes=%d", c.inFlight, c.events, c.bytes), func(b *testing.B) {
			ch := realLog(b)
			events := someEvents(c.events, c.bytes)
			b.SetBytes(int64(c.events * c.bytes))
			inFlight(b, c.inFlight, c.events, c.bytes, func() error { return ch.Append(b.Context(), events) })
		})
	}
}

// BenchmarkDisk writes and syncs, into space that has been written before.
func BenchmarkDisk(b *testing.B) {
	const size = 64 << 20
	f, err := vfs.OS{}.Create(filepath.Join(b.TempDir(), "file"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(make([]byte, size), 0); err != nil {
		b.Fatal(err)
	}
	if err := f.Datasync(); err != nil {
		b.Fatal(err)
	}
	for _, bytes := range []int{4 << 10, 64 << 10, 256 << 10, 1 << 20} {
		b.Run(fmt.Sprint("bytes=", bytes), func(b *testing.B) {
			data, at := make([]byte, bytes), int64(0)
			b.SetBytes(int64(bytes))
			inFlight(b, 1, 1, bytes, func() error {
				if at+int64(bytes) > size {
					at = 0
				}
				_, err := f.WriteAt(data, at)
				at += int64(bytes)
				if err != nil {
					return err
				}
				return f.Datasync()
			})
		})
	}
}

// BenchmarkBacklog reads, from its beginning, a log of which the newest part only
// is in memory.
func BenchmarkBacklog(b *testing.B) {
	const total, batch = 256 << 10, 512
	ch := realLog(b)
	events := someEvents(batch, 1<<10)
	for range total / batch {
		if err := ch.Append(b.Context(), events); err != nil {
			b.Fatal(err)
		}
	}
	p := ch.Partitions()[0]
	b.ReportAllocs()
	for b.Loop() {
		for at := uint64(0); at < total; {
			read, err := p.Read(b.Context(), at, 1000, 1<<20)
			if err != nil || len(read) == 0 {
				b.Fatalf("%d events at %d: %v", len(read), at, err)
			}
			at += uint64(len(read))
		}
	}
	b.ReportMetric(float64(b.N*total)/b.Elapsed().Seconds(), "events/s")
}
