//go:build linux

// Package ceiling measures what the machine itself can do, which nothing that
// is durable and speaks HTTP can pass by much: write and sync, and answer or
// relay requests by Go's net/http.
package ceiling

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/leat-dev/leat/bench/stats"
)

// space is what Sync writes over and over, allocated before it is measured, so that
// a sync has no metadata to write.
const space = 64 << 20

// Sync writes and syncs blocks of the given size in dir, one after another, over
// space that was written before. A sample's events are blocks.
func Sync(ctx context.Context, dir string, size int, length time.Duration) (stats.Sample, error) {
	f, err := os.Create(filepath.Join(dir, "sync"))
	if err != nil {
		return stats.Sample{}, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	block := make([]byte, size)
	for at := int64(0); at < space; at += int64(size) {
		if _, err := f.WriteAt(block, at); err != nil {
			return stats.Sample{}, err
		}
	}
	if err := f.Sync(); err != nil {
		return stats.Sample{}, err
	}
	return write(ctx, f, block, length, func(n int64) int64 { return n * int64(size) % space })
}

// most is how large the file of Append becomes, at which it ends: what has been freed
// keeps a disk busy for a while.
const most = 256 << 20

// Append is Sync into a file that grows with each block.
func Append(ctx context.Context, dir string, size int, length time.Duration) (stats.Sample, error) {
	f, err := os.Create(filepath.Join(dir, "append"))
	if err != nil {
		return stats.Sample{}, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	return write(ctx, f, make([]byte, size), length, func(n int64) int64 { return n * int64(size) })
}

// write writes and syncs a block at one place after another, as long as these are
// in front of most.
func write(ctx context.Context, f *os.File, block []byte, length time.Duration, at func(n int64) int64) (stats.Sample, error) {
	var latencies []time.Duration
	start := time.Now()
	for n := int64(0); time.Since(start) < length && at(n) < most && ctx.Err() == nil; n++ {
		began := time.Now()
		if _, err := f.WriteAt(block, at(n)); err != nil {
			return stats.Sample{}, err
		}
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			return stats.Sample{}, err
		}
		latencies = append(latencies, time.Since(began))
	}
	s := stats.Of(len(latencies), time.Since(start), latencies)
	s.Bytes = len(block)
	return s, ctx.Err()
}
