package raftlog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/raft"

	"github.com/leat-dev/leat/raftlog/segment"
	"github.com/leat-dev/leat/raftlog/vfs"
)

// Remedy is what can be done about one damage. Nothing is deleted by it: what is
// replaced stays beside, under a name that ends with segment.AsideSuffix.
type Remedy struct {
	File   string
	Offset int64 // bytes from the file's begin
	Reason string
	// Step says what Do does. Both are empty where the damage cannot be undone;
	// Hint says what there is to do about it then.
	Step string
	Hint string
	Do   func() error
}

// PlanRepair looks for damage in a group that nobody has open, and for what can
// be had back of it. It changes nothing. What it cannot see behind other damage
// it sees when that is mended: plan again, until there is nothing with a Step.
// machine makes an empty one, for the rows that it gives the log's entries; nil:
// they have none.
func PlanRepair(ctx context.Context, fsys vfs.FS, dir string, machine func() Machine) ([]Remedy, error) {
	p := planner{fsys: fsys, dir: dir, machine: machine}
	err := Verify(ctx, fsys, dir, nil, p.see)
	if gone := (*fs.PathError)(nil); errors.As(err, &gone) && errors.Is(err, fs.ErrNotExist) {
		p.missing(gone.Path)
		err = nil
	}
	if err != nil {
		return nil, err
	}
	if !p.hasState() {
		return p.withoutState(), nil
	}
	p.missingVotes()
	if err := p.lostBehind(); err != nil {
		return nil, err
	}
	for _, c := range p.checks {
		for _, d := range c.Damages {
			r, err := p.remedy(c, d)
			if err != nil {
				return nil, err
			}
			p.add(r)
		}
	}
	return p.remedies, nil
}

// add takes in a remedy, but what makes a file anew does so once.
func (p *planner) add(r Remedy) {
	same := func(o Remedy) bool { return o.File == r.File && o.Step == r.Step && r.Step != "" }
	if !slices.ContainsFunc(p.remedies, same) {
		p.remedies = append(p.remedies, r)
	}
}

// hasState says whether a copy of the log's state reads back.
func (p *planner) hasState() bool {
	return slices.ContainsFunc(p.checks, func(c segment.FileCheck) bool { return c.Kind == "state" && c.Records > 0 })
}

// withoutState is the one remedy that there is before the log's state is known:
// which files are the log's, and so what can replace the others, is seen then.
func (p *planner) withoutState() []Remedy {
	r := Remedy{File: filepath.Join(p.logDir(), "log.state"), Reason: "the file is missing"}
	for _, c := range p.checks {
		if c.Kind == "state" && len(c.Damages) > 0 {
			r.Reason = c.Damages[0].Reason
		}
	}
	r.Step = "make the log's state anew from its segments"
	r.Do = func() error { return segment.RebuildState(p.fsys, p.logDir()) }
	return []Remedy{r}
}

type planner struct {
	fsys     vfs.FS
	dir      string
	machine  func() Machine
	checks   []segment.FileCheck
	remedies []Remedy
}

func (p *planner) see(c segment.FileCheck) error {
	p.checks = append(p.checks, c)
	return nil
}

func (p *planner) logDir() string { return filepath.Join(p.dir, logDir) }

// missing is the remedy of a file that should be there.
func (p *planner) missing(path string) {
	if filepath.Ext(path) == ".seg" {
		p.add(Remedy{File: path, Reason: "the file is missing", Hint: cutHint(path, 0)})
	}
}

// missingVotes: a group with entries has voted.
func (p *planner) missingVotes() {
	if slices.ContainsFunc(p.checks, func(c segment.FileCheck) bool { return c.Kind == "votes" }) || p.firstEntry() == 0 {
		return
	}
	r := Remedy{File: filepath.Join(p.dir, stableFile), Reason: "the file is missing"}
	r.Step, r.Do = p.rebuildVotes()
	p.remedies = append(p.remedies, r)
}

func (p *planner) rebuildVotes() (string, func() error) {
	term := p.highestTerm() + 1
	return fmt.Sprintf("make term and vote anew, with term %d, above all that the log has; this node is the only voter", term),
		func() error { return segment.RebuildStable(p.fsys, filepath.Join(p.dir, stableFile), term) }
}

func (p *planner) remedy(c segment.FileCheck, d segment.Damage) (Remedy, error) {
	r := Remedy{File: c.Path, Offset: d.Offset, Reason: d.Reason}
	bit, flipped, err := segment.FlippedBit(p.fsys, c, d)
	switch {
	case err != nil:
		return r, err
	case flipped:
		r.Step = fmt.Sprintf("turn back bit %d of byte %d, the only one whose change makes the checksum right", bit.Bit, bit.At)
		r.Do = func() error { _, err := bit.Heal(p.fsys); return err }
	case c.Kind == "state" && c.Records > 0, c.Kind == "votes" && c.Records > 0:
		r.Step = "make this copy anew from the other one, which is whole"
		r.Do = func() error { return segment.Renew(p.fsys, c.Path, c.Kind) }
	case c.Kind == "votes":
		r.Step, r.Do = p.rebuildVotes()
	case c.Kind == "snapshot" && p.startsWithout():
		r.Step = "set the snapshot aside: an older one, or the log's begin, and the log after it have all that it had"
		r.Do = func() error { _, err := segment.Aside(p.fsys, c.Path); return err }
	case c.Kind == "snapshot":
		r.Hint = "nothing older has what it had: put the file back from a copy of the directory"
	case d.First == 0 && d.Offset > 0 && strings.Contains(d.Reason, "cannot be found"):
		r.Step, r.Hint, r.Do = p.reindex(c)
	case d.Indexed && d.First != 0 && d.Last <= p.newestSnapshot():
		r.Hint = "the server starts, and whoever has to pass these events waits. Put the file back from a copy of the directory, or give them up there: leat log skip"
	default:
		r.Hint = cutHint(c.Path, d.Offset)
	}
	return r, nil
}

func cutHint(path string, at int64) string {
	return fmt.Sprintf("the server does not start without it: put the file back from a copy of the directory; or give up everything from there on: --cut %s:%d", path, at)
}

// lostBehind finds a snapshot of entries that the log, which ends before them
// without damage, has lost.
func (p *planner) lostBehind() error {
	var end segment.FileCheck // the last segment with an entry
	for _, c := range p.checks {
		if c.Kind == "segment" && len(c.Damages) > 0 {
			return nil // what is wrong is known
		}
		if c.Kind == "segment" && c.Last != 0 {
			end = c
		}
	}
	for _, c := range p.checks {
		if c.Kind != "snapshot" || len(c.Damages) > 0 || end.Last == 0 {
			continue
		}
		applied, err := snapshotReaches(p.fsys, c)
		if err != nil {
			return err
		}
		if applied > end.Last {
			p.add(Remedy{
				File: end.Path, Offset: end.Bytes, Hint: cutHint(end.Path, end.Bytes),
				Reason: fmt.Sprintf("the log ends with entry %d, but %s has what came after it, up to entry %d", end.Last, filepath.Base(c.Path), applied),
			})
			return nil
		}
	}
	return nil
}

// newestSnapshot is the entry of the newest one that reads back; 0: there is none.
func (p *planner) newestSnapshot() (newest uint64) {
	for _, c := range p.checks {
		if c.Kind == "snapshot" && len(c.Damages) == 0 {
			newest = max(newest, c.Last)
		}
	}
	return newest
}

// firstEntry is the log's first one.
func (p *planner) firstEntry() uint64 {
	for _, c := range p.checks {
		if c.Kind == "segment" && c.First != 0 {
			return c.First
		}
	}
	return 0
}

// startsWithout says whether the group can start without its damaged snapshots.
func (p *planner) startsWithout() bool {
	first := p.firstEntry()
	return first == 1 || first != 0 && p.newestSnapshot()+1 >= first
}

// highestTerm is the highest that the log or a snapshot has.
func (p *planner) highestTerm() (term uint64) {
	for _, c := range p.checks {
		if c.Kind == "snapshot" {
			// The name is the entry and the term.
			_, t, _ := strings.Cut(strings.TrimSuffix(filepath.Base(c.Path), filepath.Ext(c.Path)), "-")
			n, _ := strconv.ParseUint(t, 10, 64)
			term = max(term, n)
		}
	}
	o := segment.VerifyOptions{FS: p.fsys, Dir: p.logDir(), Each: func(l *raft.Log) { term = max(term, l.Term) }}
	_ = segment.Verify(context.Background(), o, func(segment.FileCheck) error { return nil }) // what it says is known
	return term
}

// CutAt ends the log of a group that nobody has open in front of a byte of a
// segment. Everything from there on is given up, and so are the snapshots of it;
// the files stay beside. It is for damage that nothing else helps against: what
// was acknowledged after it is lost.
func CutAt(ctx context.Context, fsys vfs.FS, dir, file string, at int64) error {
	log := filepath.Join(dir, logDir)
	number, err := strconv.ParseUint(strings.TrimSuffix(filepath.Base(file), ".seg"), 16, 64)
	if err != nil || at < 0 {
		return fmt.Errorf("cut %s:%d: name a segment, such as 0000000000000001.seg, and a byte of it", file, at)
	}
	p := planner{fsys: fsys, dir: dir}
	if err := segment.CutAt(fsys, log, number, at); err != nil {
		return fmt.Errorf("cut %s at byte %d: %w", file, at, err)
	}
	if err := Verify(ctx, fsys, dir, nil, p.see); err != nil {
		return err
	}
	var last uint64
	for _, c := range p.checks {
		if c.Kind == "segment" {
			last = max(last, c.Last)
		}
	}
	for _, c := range p.checks {
		if c.Kind != "snapshot" || len(c.Damages) > 0 {
			continue
		}
		applied, err := snapshotReaches(fsys, c)
		if err == nil && applied > last {
			_, err = segment.Aside(fsys, c.Path)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
