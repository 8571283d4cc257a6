package operations

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/leat-dev/leat/channel"
	"github.com/leat-dev/leat/filter"
)

// query says which events a stream has.
type query struct {
	since     string
	start     time.Time
	offset    uint64
	positions Positions
	follow    bool
	limit     int
	filter    *filter.Filter
}

// parameters are those of a query.
var parameters = []string{"since", "follow", "limit", "filter"}

// parseQuery refuses what it does not know: a misspelt parameter would give
// another answer than the one asked for.
func (h *handler) parseQuery(raw string) (q query, field string, err error) {
	v, err := url.ParseQuery(raw)
	if err != nil {
		return q, "", fmt.Errorf("the query does not parse: %w", err)
	}
	for name, values := range v {
		switch {
		case !slices.Contains(parameters, name):
			return q, name, fmt.Errorf("there is no such parameter: there are %s", strings.Join(parameters, ", "))
		case len(values) > 1:
			return q, name, errors.New("is given more than once")
		}
	}
	q.since, q.follow = "end", true
	if s := v.Get("since"); s != "" {
		if err := q.parseSince(s, h.Now()); err != nil {
			return q, "since", err
		}
	}
	if s := v.Get("follow"); s != "" {
		if q.follow, err = strconv.ParseBool(s); err != nil {
			return q, "follow", fmt.Errorf("%q must be true or false", s)
		}
	}
	if s := v.Get("limit"); s != "" {
		if q.limit, err = strconv.Atoi(s); err != nil || q.limit < 1 {
			return q, "limit", fmt.Errorf("%q must be a number from 1 on", s)
		}
	}
	if s := v.Get("filter"); s != "" {
		spec, err := filter.ParseFlag(s)
		if err == nil {
			q.filter, err = filter.Compile(spec)
		}
		if err != nil {
			return q, "filter", err
		}
	}
	return q, "", nil
}

func (q *query) parseSince(s string, now time.Time) error {
	if s == "end" || s == "beginning" {
		q.since = s
		return nil
	}
	if n, err := strconv.ParseUint(s, 10, 64); err == nil {
		q.since, q.offset = "offset", n
		return nil
	}
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		q.since, q.start = "time", t
		return nil
	}
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		q.since, q.start = "time", now.Add(-d)
		return nil
	}
	if p, err := ParsePositions(s); err == nil {
		q.since, q.positions = "positions", p
		return nil
	}
	return fmt.Errorf("%q must be end, beginning, an offset, positions such as 0:17,1:4, a time such as 2026-01-02T15:04:05Z, or a duration back such as 1h30m", s)
}

// Positions are offsets by partition.
type Positions map[int]uint64

// String is the form that the parameter since takes: 0:17,1:4.
func (p Positions) String() string {
	var b strings.Builder
	for _, n := range slices.Sorted(maps.Keys(p)) {
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "%d:%d", n, p[n])
	}
	return b.String()
}

// ParsePositions reads what String wrote.
func ParsePositions(s string) (Positions, error) {
	p := Positions{}
	for each := range strings.SplitSeq(s, ",") {
		number, offset, _ := strings.Cut(each, ":")
		n, err := strconv.ParseUint(number, 10, 31)
		if err != nil {
			return nil, fmt.Errorf("%q is no partition and offset, such as 0:17", each)
		}
		at, err := strconv.ParseUint(offset, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%q is no partition and offset, such as 0:17", each)
		}
		if _, twice := p[int(n)]; twice {
			return nil, fmt.Errorf("partition %d is named twice", n)
		}
		p[int(n)] = at
	}
	return p, nil
}

// matching are those events that the filter matches. One that it errors on
// does not match.
func (q *query) matching(view *filter.View, events []channel.Stored) []channel.Stored {
	if q.filter == nil {
		return events
	}
	var out []channel.Stored // events is shared
	for _, s := range events {
		view.Reset(s.Event)
		if ok, err := q.filter.Match(view); err == nil && ok {
			out = append(out, s)
		}
	}
	return out
}
