package server

import (
	"context"
	"errors"
	"testing"
)

// TestPartsTellOfTheirEnd: why a part ended is told once, whenever that was.
func TestPartsTellOfTheirEnd(t *testing.T) {
	broken := errors.New("broken")
	for _, c := range []struct {
		what         string
		part         func(context.Context) error
		early, ended error
	}{
		{"ends in order", func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) }, nil, nil},
		{"fails while it is stopped", func(ctx context.Context) error { <-ctx.Done(); return broken }, nil, broken},
		{"fails before", func(context.Context) error { return broken }, broken, nil},
	} {
		ctx, fail := context.WithCancelCause(t.Context())
		stop := run(ctx, "part", fail, c.part)
		if c.early != nil {
			<-ctx.Done()
		}
		if err := stop(t.Context()); !errors.Is(err, c.ended) {
			t.Errorf("%s: stopped with %v", c.what, err)
		}
		if err := context.Cause(ctx); !errors.Is(err, c.early) {
			t.Errorf("%s: the server ends with %v", c.what, err)
		}
		fail(nil)
	}
}
