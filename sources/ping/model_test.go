package ping

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

func model(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 1))
	schedule := []string{"*/3 * * * * *", "* * * * *", "*/7 1-5 * * *"}[r.IntN(3)]
	scripted(t, "2026-10-24T22:00:00Z", func(s *script) {
		s.run(schedule, "Europe/Berlin")
		for range 40 {
			d := time.Duration(r.Int64N(int64(3 * time.Minute)))
			if r.IntN(3) == 0 {
				s.stop()
				s.pass(d)
				s.run(schedule, "Europe/Berlin")
				continue
			}
			s.pass(d)
		}
		parsed := mustParse(t, schedule, "Europe/Berlin")
		last, at := s.since, 0
		for line := range strings.Lines(s.tape.take()) {
			text, mark, _ := strings.Cut(strings.TrimSpace(line), " ")
			tick := parseTime(t, text)
			if next := parsed.Next(last); !tick.Equal(next) && (mark != "late" || tick.Before(next) || !parsed.Next(tick.Add(-time.Second)).Equal(tick)) {
				t.Fatalf("tick %d is %q, after %v", at, line, last)
			}
			last = tick
			at++
		}
		if missing := parsed.Latest(last, s.clock.now()); !missing.IsZero() {
			t.Fatalf("the last tick is %v; %v is missing", last, missing)
		}
	})
}
