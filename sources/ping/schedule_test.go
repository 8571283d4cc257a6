package ping

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

func parseTime(t *testing.T, s string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func mustParse(t testing.TB, schedule, timezone string) *Schedule {
	t.Helper()
	s, err := ParseSchedule(schedule, timezone)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestTicks: the ticks after a time, in the zone of the schedule.
func TestTicks(t *testing.T) {
	for _, c := range []struct {
		name, schedule, timezone, after, want string
	}{
		{"every minute", "* * * * *", "", "2026-01-31T23:58:30Z", "2026-01-31T23:59:00Z 2026-02-01T00:00:00Z"},
		{"every second", "* * * * * *", "", "2026-01-31T23:59:58Z", "2026-01-31T23:59:59Z 2026-02-01T00:00:00Z"},
		{"seconds", "*/20 * * * * *", "", "2026-01-01T00:00:20Z", "2026-01-01T00:00:40Z 2026-01-01T00:01:00Z"},
		{"a tick is after, not at", "0 0 * * *", "", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"},
		{"names in either case", "0 9 * JAN-Feb THU", "", "2026-01-01T08:00:00Z", "2026-01-01T09:00:00Z 2026-01-08T09:00:00Z"},
		{"day of the month or of the week", "0 0 13 * fri", "", "2026-03-01T00:00:00Z", "2026-03-06T00:00:00Z 2026-03-13T00:00:00Z 2026-03-20T00:00:00Z"},
		{"a zone", "30 8 * * *", "Asia/Kolkata", "2026-01-01T00:00:00Z", "2026-01-01T03:00:00Z"},
		{"a zone in front", "CRON_TZ=Asia/Kolkata 30 8 * * *", "", "2026-01-01T00:00:00Z", "2026-01-01T03:00:00Z"},
		{"a descriptor", "@daily", "America/New_York", "2026-01-01T00:00:00Z", "2026-01-01T05:00:00Z 2026-01-02T05:00:00Z"},
		{"leap days", "0 0 29 2 *", "", "2026-03-01T00:00:00Z", "2028-02-29T00:00:00Z 2032-02-29T00:00:00Z"},

		// 2026-03-29 01:00Z: 02:00 CET becomes 03:00 CEST. 2026-10-25 01:00Z: 03:00 CEST becomes 02:00 CET.
		{"the hour left out, by time of day", "30 2 * * *", "Europe/Berlin", "2026-03-28T00:00:00Z",
			"2026-03-28T01:30:00Z 2026-03-29T01:30:00Z 2026-03-30T00:30:00Z"},
		{"several in the hour left out", "0,20,40 2 * * *", "Europe/Berlin", "2026-03-29T00:00:00Z",
			"2026-03-29T01:00:00Z 2026-03-29T01:20:00Z 2026-03-29T01:40:00Z 2026-03-30T00:00:00Z"},
		{"in the hour left out and in the next, once", "30 2,3 * * *", "Europe/Berlin", "2026-03-29T00:00:00Z",
			"2026-03-29T01:30:00Z 2026-03-30T00:30:00Z 2026-03-30T01:30:00Z"},
		{"between those left out, those of the next hour", "0 2,3 * * *", "Europe/Berlin", "2026-03-29T00:00:00Z", "2026-03-29T01:00:00Z 2026-03-30T00:00:00Z"},
		{"the hour left out, by interval", "*/30 * * * *", "Europe/Berlin", "2026-03-29T00:29:00Z",
			"2026-03-29T00:30:00Z 2026-03-29T01:00:00Z 2026-03-29T01:30:00Z"},
		{"the hour that comes twice, by time of day", "30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z",
			"2026-10-25T00:30:00Z 2026-10-26T01:30:00Z"},
		{"the hour that comes twice, in the second", "30 2 * * *", "Europe/Berlin", "2026-10-25T01:10:00Z", "2026-10-26T01:30:00Z"},
		{"after the hour that comes twice", "0 3 * * *", "Europe/Berlin", "2026-10-25T00:00:00Z", "2026-10-25T02:00:00Z"},
		{"the hour that comes twice, by interval", "*/30 * * * *", "Europe/Berlin", "2026-10-25T00:00:00Z",
			"2026-10-25T00:30:00Z 2026-10-25T01:00:00Z 2026-10-25T01:30:00Z 2026-10-25T02:00:00Z"},
		// 2018-11-04 03:00Z: midnight in São Paulo becomes 01:00.
		{"midnight left out", "0 0 * * *", "America/Sao_Paulo", "2018-11-03T12:00:00Z", "2018-11-04T03:00:00Z 2018-11-05T02:00:00Z"},
		{"a day whose midnight is left out", "0 12 4 11 *", "America/Sao_Paulo", "2018-11-01T00:00:00Z", "2018-11-04T14:00:00Z"},
		// 2026-10-03 15:30Z: 02:00 on Lord Howe becomes 02:30.
		{"half an hour left out", "15 2 * * *", "Australia/Lord_Howe", "2026-10-03T00:00:00Z", "2026-10-03T15:45:00Z 2026-10-04T15:15:00Z"},
		{"half an hour left out, by interval", "15 * * * *", "Australia/Lord_Howe", "2026-10-03T14:00:00Z", "2026-10-03T14:45:00Z 2026-10-03T16:15:00Z"},
		// 2011-12-30 did not happen in Samoa.
		{"a day left out", "0 9 * * *", "Pacific/Apia", "2011-12-29T00:00:00Z", "2011-12-29T19:00:00Z 2011-12-30T19:00:00Z 2011-12-31T19:00:00Z"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, at := mustParse(t, c.schedule, c.timezone), parseTime(t, c.after)
			for want := range strings.FieldsSeq(c.want) {
				if at = s.Next(at); at.UTC().Format(time.RFC3339) != want {
					t.Fatalf("got %s, want %s of %s", at.UTC().Format(time.RFC3339), want, c.want)
				}
			}
		})
	}
}

func TestLatest(t *testing.T) {
	for _, c := range []struct{ schedule, after, until, want string }{
		{"* * * * *", "2026-01-01T00:00:00Z", "2026-01-01T00:00:59Z", ""},
		{"* * * * *", "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z", "2026-01-01T00:01:00Z"},
		{"* * * * * *", "2020-01-01T00:00:00Z", "2026-05-06T07:08:09Z", "2026-05-06T07:08:09Z"},
		{"* * 2 * 1 *", "2020-01-01T00:00:00Z", "2026-12-31T00:00:00Z", "2026-01-31T02:59:59Z"},
		{"0 0 29 2 *", "2020-01-01T00:00:00Z", "2026-05-06T07:08:09Z", "2024-02-29T00:00:00Z"},
		{"0 0 29 2 *", "2024-02-29T00:00:00Z", "2026-05-06T07:08:09Z", ""},
		{"0 0 * * *", "2026-05-06T00:00:00Z", "2026-05-01T00:00:00Z", ""}, // the clock was put back
	} {
		got := mustParse(t, c.schedule, "").Latest(parseTime(t, c.after), parseTime(t, c.until))
		if s := got.UTC().Format(time.RFC3339); got.IsZero() != (c.want == "") || !got.IsZero() && s != c.want {
			t.Errorf("%q in (%s, %s]: got %s, want %s", c.schedule, c.after, c.until, s, c.want)
		}
	}
}

// TestLatestIsTheLastOfAll: found by halving, it is what stepping finds, also
// where the clock is changed.
func TestLatestIsTheLastOfAll(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, schedule := range []string{"*/7 * * * *", "13 2 * * *", "0 */5 * * *", "0 0 1 * *", "30 1-3 * * sun"} {
		s := mustParse(t, schedule, "Europe/Berlin")
		for range 50 {
			after := time.Date(2026, 3, 1, 0, r.IntN(60*24*60), 0, 0, time.UTC)
			until := after.Add(time.Duration(r.IntN(60*24)) * time.Minute)
			var want time.Time
			for tick := s.Next(after); !tick.After(until); tick = s.Next(tick) {
				want = tick
			}
			if got := s.Latest(after, until); !got.Equal(want) {
				t.Fatalf("%q in (%v, %v]: got %v, want %v", schedule, after, until, got, want)
			}
		}
	}
}

func TestScheduleIsRefused(t *testing.T) {
	for _, c := range []struct {
		schedule, timezone string
		inTimezone         bool
		want               string
	}{
		{"", "", false, "is empty"},
		{"  ", "", false, "is empty"},
		{"* * * *", "", false, "found 4"},
		{"* * * * * * *", "", false, "found 7"},
		{"61 * * * *", "", false, "61"},
		{"a b c d e", "", false, "write"},
		{"*/0 * * * *", "", false, "write"},
		{"0 0 30 2 *", "", false, "no tick, ever"},
		{"0 0 31 4,6,9,11 *", "", false, "no tick, ever"},
		{"@every 5m", "", false, "*/5 * * * *"},
		{"@EVERY 5m", "", false, "not supported"},
		{"@reboot", "", false, "@reboot"},
		{"H * * * *", "", false, "write"},
		{strings.Repeat("1,", 2000) + "1 * * * *", "", false, "too long"},
		{"TZ=", "", false, "names no zone"},
		{"TZ=UTC", "", false, "is empty"},
		{"TZ=UTC * * * * *", "UTC", false, "remove one"},
		{"TZ=Nowhere/City * * * * *", "", true, "no time zone"},
		{"* * * * *", "Nowhere/City", true, "Europe/Berlin"},
		{"* * * * *", "Local", true, "no time zone"},
		{"* * * * *", "../../etc/passwd", true, "no time zone"},
		{"* * * * *", "/etc/localtime", true, "no time zone"},
	} {
		_, err := ParseSchedule(c.schedule, c.timezone)
		var e *ScheduleError
		if !errors.As(err, &e) || e.Timezone != c.inTimezone || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.40q in %q: %v", c.schedule, c.timezone, err)
		}
	}
}

// FuzzSchedule: no input panics or hangs, and each tick is after the one before
// and at a whole second.
func FuzzSchedule(f *testing.F) {
	for _, s := range []string{"* * * * *", "*/5 2 29 2 mon", "@daily", "TZ=UTC 1 2 3 4 5 6", "0 0 ? * L", "59-1/3 ,, - / #", "@every 1s", "H H(1-3) * * *", "0 0 1-31/40 * 7"} {
		f.Add(s, "Europe/Berlin", int64(1_774_742_400))
	}
	f.Add("0 0 * * *", "America/Sao_Paulo", int64(-1<<40))
	// What an earlier run found to go other ways.
	for _, s := range []string{"* 0 1 * * *", "* 1 * * *", "0   0 0 0", "0 0 W 1 0", "0 0 0-A 1 0", "0/, 0 0 0 0", "0 0 \x80A 1 0", "@dAilY", "0000000000000000", " ", "0 0 \x00\x00\x01\x00", "\xb6  0"} {
		f.Add(s, "", int64(1_774_742_310))
	}
	for _, s := range []string{"0 * 2 * 0", "0 * 7 * 0", "0 0 1 1 0"} {
		f.Add(s, "America/Sao_Paulo", int64(-1_099_511_627_695))
	}
	f.Add("TZ=", "\x80", int64(1_774_742_454))
	f.Add("0", "\t\t", int64(-1_099_511_627_760))
	f.Fuzz(func(t *testing.T, schedule, timezone string, unix int64) {
		fault := CheckSchedule(schedule, timezone)
		s, err := ParseSchedule(schedule, timezone)
		if err != nil {
			if fault == nil && schedule != "" {
				t.Fatalf("%q is admitted, and cannot be read: %v", schedule, err)
			}
			return
		}
		at := time.Unix(unix%(1<<36), 0)
		for range 4 {
			next := s.Next(at)
			if next.IsZero() {
				return
			}
			if !next.After(at) || next.Nanosecond() != 0 {
				t.Fatalf("%q in %q: after %v comes %v", schedule, timezone, at, next)
			}
			at = next
		}
	})
}
