package raftlog

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/leat-dev/leat/raftlog/segment"
)

// reindex is what can be done about a segment's index: it is made anew from the
// records, whose rows the machine tells when it applies them to what a snapshot
// before them holds.
func (p *planner) reindex(c segment.FileCheck) (step, hint string, do func() error) {
	wait := "the server starts, but readers of this segment's events wait"
	number, err := strconv.ParseUint(strings.TrimSuffix(filepath.Base(c.Path), ".seg"), 16, 64)
	if at := p.firstLost(c); err != nil || at != "" {
		return "", fmt.Sprintf("%s: the index can be made anew once the entries before it, and its own, can be read (%s cannot); or put the file back from a copy of the directory, or let retention drop it", wait, at), nil
	}
	return "make the index anew from the segment's records", "", func() error {
		rows, err := p.rowsOf(c)
		if err == nil {
			err = segment.RebuildIndex(p.fsys, p.logDir(), number, rows)
		}
		if err != nil {
			return fmt.Errorf("make the index of %s anew: %w", c.Path, err)
		}
		return nil
	}
}

// base is the entry behind the newest snapshot before an entry.
func (p *planner) base(before uint64) uint64 {
	base := uint64(1)
	for _, c := range p.checks {
		if c.Kind == "snapshot" && len(c.Damages) == 0 && c.Last < before {
			base = max(base, c.Last+1)
		}
	}
	return base
}

// firstLost, given checks in the order of the log, names what keeps the log from being followed up to a segment's end;
// empty: nothing does.
func (p *planner) firstLost(c segment.FileCheck) string {
	base := p.base(c.First)
	if p.machine == nil {
		base = c.First
	}
	if first := p.firstEntry(); first > base {
		return fmt.Sprintf("entry %d", base)
	}
	for _, o := range p.checks {
		if o.Kind != "segment" || o.Last != 0 && o.Last < base {
			continue
		}
		if o.Path > c.Path {
			if o.First > c.Last+1 {
				return fmt.Sprintf("entry %d", c.Last+1)
			}
			return "" // the log goes on behind its last entry, or is not known to
		}
		for _, d := range o.Damages {
			if d.First != 0 || d.Offset == 0 {
				return fmt.Sprintf("byte %d of %s", d.Offset, o.Path)
			}
		}
	}
	return ""
}

// errEnough ends the reading of a log.
var errEnough = errors.New("enough was read")

// rowsOf are the rows of a segment's entries, in order.
func (p *planner) rowsOf(c segment.FileCheck) ([]Row, error) {
	if p.machine == nil {
		return nil, nil
	}
	f, err := newFollower(p.fsys, p.dir, p.machine(), c.First)
	if err != nil {
		return nil, err
	}
	var rows []Row
	f.applied = func(e *Entry) {
		if e.Index >= c.First && e.Index <= c.Last {
			rows = append(rows, e.rows...)
		}
	}
	o := segment.VerifyOptions{FS: p.fsys, Dir: p.logDir(), Each: f.follow}
	err = segment.Verify(context.Background(), o, func(o segment.FileCheck) error {
		if o.Path == c.Path {
			return errEnough
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return nil, err
	}
	if f.lost || f.next <= c.Last {
		return nil, fmt.Errorf("the log cannot be followed from a snapshot on: entry %d cannot be read", f.next)
	}
	return rows, nil
}
