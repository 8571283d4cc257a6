package apiserver

import (
	"context"
	"errors"
	"log/slog"
	"strings"

	"k8s.io/klog/v2"
)

// RedirectLogs sends what Kubernetes' libraries log to l; until it is called
// they write to standard error. Their log is one for the whole process, so this
// is for a program's main, before anything runs. What they tell as information
// is of use to their developers only, and becomes debugging output; what they
// call an error though a client's input is to blame loses that rank.
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

// blamesClient are the beginnings of messages that a client's input brings
// about, which the client is told of; and their rank.
var blamesClient = map[string]slog.Level{
	"[SHOULD NOT HAPPEN] failed to update managedFields": slog.LevelDebug, // a value of a wrong type: validation answers
	"Unable to authenticate the request":                 slog.LevelWarn,
}

// Enabled implements slog.Handler.
func (q quieter) Enabled(ctx context.Context, l slog.Level) bool {
	return q.Handler.Enabled(ctx, q.level(l))
}

// Handle implements slog.Handler.
func (q quieter) Handle(ctx context.Context, r slog.Record) error {
	r.Level = q.level(r.Level)
	for message, level := range blamesClient {
		if strings.HasPrefix(r.Message, message) {
			r.Level = min(r.Level, level)
		}
	}
	r.Attrs(func(a slog.Attr) bool {
		if err, ok := a.Value.Any().(error); ok && errors.Is(err, context.Canceled) {
			r.Level = slog.LevelDebug // whoever was interrupted had been asked to end
		}
		return true
	})
	if !q.Handler.Enabled(ctx, r.Level) {
		return nil
	}
	return q.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (q quieter) WithAttrs(a []slog.Attr) slog.Handler { return quieter{q.Handler.WithAttrs(a)} }

// WithGroup implements slog.Handler.
func (q quieter) WithGroup(name string) slog.Handler { return quieter{q.Handler.WithGroup(name)} }
