package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/leat-dev/leat/raftlog"
)

// notReady says why events cannot be taken now. A disk that does not answer is no
// reason to be started anew, which would wait for it as well: /healthz is fine.
func notReady(groups ...*raftlog.Group) func() error {
	return func() error {
		var errs []error
		for _, g := range groups {
			if d := g.Stalled(); d > 0 {
				errs = append(errs, fmt.Errorf("log %s: %w for %s", g.Name(), raftlog.ErrStalled, d.Round(time.Second)))
			}
		}
		return errors.Join(errs...)
	}
}

// bounded makes a stop of one that takes no context, and that may hang with the
// disk: the process ends all the same.
func bounded(stop func() error) func(context.Context) error {
	return func(ctx context.Context) error {
		done := make(chan error, 1)
		go func() { done <- stop() }()
		select {
		case err := <-done:
			return err
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
