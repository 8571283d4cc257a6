package apiserver

import (
	"context"
	"log/slog"

	"k8s.io/klog/v2"
)

// RedirectLogs sends what Kubernetes' libraries log to l; until it is called
// they write to standard error. Their log is one for the whole process, so this
// is for a program's main, before anything runs. What they tell as information
// is of use to their developers only, and becomes debugging output.
func RedirectLogs(l *slog.Logger) {
	klog.SetSlogLogger(slog.New(quieter{l.Handler()}))
}

// quieter is a handler that takes information for debugging output.
type quieter struct{ slog.Handler }

func (q quieter) level(l slog.Level) slog.Level {
	if l < slog.LevelWarn {
		return min(l, slog.LevelDebug)
	}
	return l
}

// Enabled implements slog.Handler.
func (q quieter) Enabled(ctx context.Context, l slog.Level) bool {
	return q.Handler.Enabled(ctx, q.level(l))
}

// Handle implements slog.Handler.
func (q quieter) Handle(ctx context.Context, r slog.Record) error {
	r.Level = q.level(r.Level)
	return q.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (q quieter) WithAttrs(a []slog.Attr) slog.Handler { return quieter{q.Handler.WithAttrs(a)} }

// WithGroup implements slog.Handler.
func (q quieter) WithGroup(name string) slog.Handler { return quieter{q.Handler.WithGroup(name)} }
