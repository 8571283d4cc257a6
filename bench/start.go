//go:build linux

package main

import (
	"context"
	"fmt"
)

// startPart measures the start of a server with nothing stored.
func startPart(ctx context.Context, b *bench) error {
	const key = "start empty"
	for i := range b.runs {
		progress("turn %d of %d: %s", i+1, b.runs, key)
		s, err := b.startLeat(ctx, fmt.Sprintf("start-%d", i))
		if err != nil {
			return err
		}
		s.Kill()
		b.note(key, s.Started.Seconds())
	}
	b.figure("start to ready, empty", key, " s", b.atMost(0.5, " s", "", b.value(key)))
	return nil
}
