package ping

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/netresearch/go-cron"

	"github.com/leat-dev/leat/api/admission"
	sourcesv1 "github.com/leat-dev/leat/api/sources/v1"
)

// Schedule says when there are ticks. It is immutable.
type Schedule struct {
	// wall is the schedule in a clock that never changes: its times are the
	// readings of a clock on a wall, given as if they were UTC.
	wall cron.Schedule
	loc  *time.Location
	// hourly: it names no hours. Such a schedule is of intervals, any other one
	// of times of the day; they differ where the clock is changed.
	hourly bool
}

// searchYears is how far ahead a tick may lie: the 29th of February is on a
// given day of the week once in 28 years, or in 40 where a century is between.
const searchYears = 41

const everyHour = 1<<24 - 1

// ScheduleError says which of the two is wrong.
type ScheduleError struct {
	Timezone bool // else the schedule
	Reason   string
}

func (e *ScheduleError) Error() string {
	if e.Timezone {
		return "timezone: " + e.Reason
	}
	return "schedule: " + e.Reason
}

func badSchedule(format string, args ...any) error {
	return &ScheduleError{Reason: fmt.Sprintf(format, args...)}
}

// ParseSchedule reads a schedule in cron's format, of five fields, or of six
// with seconds first, and the name of its time zone; without one it is UTC. The
// zone may also stand before the schedule, as CRON_TZ=ZONE. The error is a
// *ScheduleError.
func ParseSchedule(schedule, timezone string) (*Schedule, error) {
	fields := strings.TrimSpace(schedule)
	for _, prefix := range []string{"CRON_TZ=", "TZ="} {
		rest, ok := strings.CutPrefix(fields, prefix)
		if !ok {
			continue
		}
		if timezone != "" {
			return nil, badSchedule("%s is given as well as timezone %q: remove one of the two", prefix, timezone)
		}
		timezone, fields, _ = strings.Cut(rest, " ")
		if timezone == "" {
			return nil, badSchedule("%s names no zone: write %sEurope/Berlin, or set timezone", prefix, prefix)
		}
		break
	}
	loc, err := location(timezone)
	if err != nil {
		return nil, err
	}
	s, err := parseWall(fields)
	if err != nil {
		return nil, err
	}
	s.loc = loc
	if s.Next(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)).IsZero() {
		return nil, badSchedule("%q has no tick, ever: there is no such day", fields)
	}
	return s, nil
}

func location(name string) (*time.Location, error) {
	if name == "" {
		return time.UTC, nil
	}
	loc, err := time.LoadLocation(name)
	if err != nil || name == "Local" {
		return nil, &ScheduleError{Timezone: true, Reason: fmt.Sprintf("there is no time zone %q: give the name of one, such as Europe/Berlin, or leave it out for UTC", clip(name))}
	}
	return loc, nil
}

const format = `write "minute hour day-of-month month day-of-week", or "second minute hour day-of-month month day-of-week"`

func parseWall(fields string) (s *Schedule, err error) {
	defer func() {
		if r := recover(); r != nil {
			s, err = nil, badSchedule("%q cannot be read (%v): %s", clip(fields), r, format)
		}
	}()
	switch {
	case strings.TrimSpace(fields) == "":
		return nil, badSchedule("is empty: %s", format)
	case strings.HasPrefix(fields, "@every"):
		return nil, badSchedule(`@every depends on when it was begun: write "*/5 * * * *" for every five minutes`)
	}
	parser, err := cron.TryNewParser(cron.SecondOptional | cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.Descriptor | cron.DowOrDom)
	if err != nil {
		return nil, badSchedule("%v", err)
	}
	// Names may be written in either case, but the parser takes the H of THU
	// for something else.
	parsed, err := parser.WithMaxSearchYears(searchYears).Parse(strings.ToLower(fields))
	if err != nil {
		return nil, badSchedule("%q: %v: %s", clip(fields), err, format)
	}
	spec, ok := parsed.(*cron.SpecSchedule)
	if !ok {
		return nil, badSchedule("%q is not supported: %s", clip(fields), format)
	}
	spec.Location = time.UTC
	return &Schedule{wall: spec, hourly: spec.Hour&everyHour == everyHour}, nil
}

// clip shortens what an error quotes.
func clip(s string) string {
	const most = 80
	if len(s) > most {
		s = s[:most] + "…"
	}
	return strings.ToValidUTF8(s, "\ufffd")
}

// CheckSchedule checks schedules for admission.
func CheckSchedule(schedule, timezone string) *admission.ScheduleFault {
	if schedule == "" {
		schedule = sourcesv1.DefaultSchedule
	}
	_, err := ParseSchedule(schedule, timezone)
	if err == nil {
		return nil
	}
	var e *ScheduleError
	if !errors.As(err, &e) {
		return &admission.ScheduleFault{Detail: err.Error()}
	}
	return &admission.ScheduleFault{Timezone: e.Timezone, Detail: e.Reason}
}
