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

// space is what is written over and over: allocated before it is measured, so
// that a sync has no metadata to write.
const space = 64 << 20

// Sync writes and syncs blocks of the given size in dir, one after another. A
// sample's events are blocks.
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
	var latencies []time.Duration
	start := time.Now()
	for at := int64(0); time.Since(start) < length && ctx.Err() == nil; at = (at + int64(size)) % space {
		began := time.Now()
		if _, err := f.WriteAt(block, at); err != nil {
			return stats.Sample{}, err
		}
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			return stats.Sample{}, err
		}
		latencies = append(latencies, time.Since(began))
	}
	s := stats.Of(len(latencies), time.Since(start), latencies)
	s.Bytes = size
	return s, ctx.Err()
}
