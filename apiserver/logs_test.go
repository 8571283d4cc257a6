package apiserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

// TestLogsOfTheLibraries: what they tell has the rank that it has for who runs a
// server.
func TestLogsOfTheLibraries(t *testing.T) {
	stopped := fmt.Errorf("watch: %w", context.Canceled)
	for _, c := range []struct {
		tell func(*slog.Logger)
		want string // a rank; empty: nothing is said
	}{
		{func(l *slog.Logger) { l.Error("Failed to watch", "err", errors.New("refused")) }, "ERROR"},
		{func(l *slog.Logger) { l.Error("Failed to watch", "err", stopped) }, ""},
		{func(l *slog.Logger) { l.Error("Unable to authenticate the request", "err", errors.New("x")) }, "WARN"},
		{func(l *slog.Logger) { l.Warn("slow") }, "WARN"},
		{func(l *slog.Logger) { l.Info("started") }, ""},
	} {
		var out strings.Builder
		c.tell(slog.New(quieter{slog.NewTextHandler(&out, nil)}))
		if got := out.String(); (got == "") != (c.want == "") || !strings.Contains(got, "level="+c.want) && c.want != "" {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}
