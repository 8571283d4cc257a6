package channel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/leat-dev/leat/raftlog"
)

// maxTermsTries bounds how often a change of terms is made anew because
// another one came between.
const maxTermsTries = 4

// lockSubscriptions keeps the set of subscriptions as it is until release is
// called: whoever changes it holds this lock, and so does who rests on it.
func (c *raftChannel) lockSubscriptions(ctx context.Context) (release func(), err error) {
	select {
	case c.setting <- struct{}{}:
		return func() { <-c.setting }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// SetSubscriptions implements Channel.
func (c *raftChannel) SetSubscriptions(ctx context.Context, version uint64, subs []Subscription) error {
	release, err := c.lockSubscriptions(ctx)
	if err != nil {
		return err
	}
	defer release()
	for try := 1; ; try++ {
		err := c.setOnce(ctx, version, subs)
		if err == nil {
			return nil
		}
		if !errors.Is(err, ErrStale) || c.version.Load() > version || try == maxTermsTries {
			return fmt.Errorf("set the subscriptions of %v at version %d: %w", c, version, err)
		}
	}
}

// ChangeSubscriptions implements Channel.
func (c *raftChannel) ChangeSubscriptions(ctx context.Context, from, version uint64, changed []Subscription, gone []string) error {
	release, err := c.lockSubscriptions(ctx)
	if err != nil {
		return err
	}
	defer release()
	if err := c.changeOnce(ctx, from, version, changed, gone); err != nil {
		return fmt.Errorf("change %d of the subscriptions of %v at version %d: %w", len(changed)+len(gone), c, version, err)
	}
	return nil
}

func (c *raftChannel) changeOnce(ctx context.Context, from, version uint64, changed []Subscription, gone []string) error {
	now := make(map[string]*Subscription, len(changed)+len(gone))
	known := func(uid string) {
		if sub := c.subs[uid]; sub != nil {
			now[uid] = sub
		}
	}
	c.mu.RLock()
	prevVersion, prevChanges := c.version.Load(), c.changes.Load()
	for i := range changed {
		known(changed[i].UID)
	}
	for _, uid := range gone {
		known(uid)
	}
	c.mu.RUnlock()
	if prevVersion != from {
		return fmt.Errorf("version %d is applied, not %d: %w", prevVersion, from, ErrStale)
	}
	return c.apply(ctx, version, prevVersion, prevChanges, now, changed)
}

func (c *raftChannel) setOnce(ctx context.Context, version uint64, subs []Subscription) error {
	c.mu.RLock()
	prevVersion, prevChanges := c.version.Load(), c.changes.Load()
	now := maps.Clone(c.subs) // apply must not wait for the comparison
	c.mu.RUnlock()
	return c.apply(ctx, version, prevVersion, prevChanges, now, subs)
}

// apply makes subs of what is there now, by as many commands as that takes; what
// there is beside now stays as it is.
func (c *raftChannel) apply(ctx context.Context, version, prevVersion, prevChanges uint64, now map[string]*Subscription, subs []Subscription) error {
	if version < prevVersion {
		return fmt.Errorf("version %d is applied: %w", prevVersion, ErrStale)
	}
	d, err := c.diff(ctx, now, subs)
	if err != nil {
		return err
	}
	if d.empty() && version == prevVersion {
		return nil
	}
	for first := true; first || !d.empty(); first = false {
		cmd := termsCommand{channel: c.num, prevVersion: prevVersion, prevChanges: prevChanges, version: prevVersion}
		d.take(&cmd, c.shard.o.TermsBytes)
		if d.empty() {
			cmd.version = version // only with the last piece is the whole set applied
		}
		if _, err := c.shard.propose(ctx, raftlog.Control, cmd.encode()); err != nil {
			return err
		}
		if len(cmd.close)+len(cmd.open) > 0 {
			prevChanges++
		}
	}
	return nil
}

// delta is what has to change.
type delta struct {
	close []string
	open  []openTerm
}

func (d *delta) empty() bool { return len(d.close)+len(d.open) == 0 }

// take moves as much into a command as its bound allows, at least one change.
func (d *delta) take(cmd *termsCommand, limit int) {
	size := 0
	for len(d.close) > 0 && (size == 0 || size < limit) {
		size += len(d.close[0]) + 1
		cmd.close, d.close = append(cmd.close, d.close[0]), d.close[1:]
	}
	for len(d.open) > 0 && (size == 0 || size+d.open[0].size() <= limit) {
		size += d.open[0].size()
		cmd.open, d.open = append(cmd.open, d.open[0]), d.open[1:]
	}
}

func (o *openTerm) size() int { return len(o.sub.UID) + len(o.sub.Filter) + 40 + 10*len(o.from) }

// diff compares the set that is wanted with the one in force. The order of
// what it gives is that of subs, so it is the same for the same input.
func (c *raftChannel) diff(ctx context.Context, now map[string]*Subscription, subs []Subscription) (d delta, err error) {
	seen := make(map[string]bool, len(subs))
	for i := range subs {
		sub := subs[i]
		if sub.UID == "" || seen[sub.UID] {
			return d, fmt.Errorf("subscription %d: UID %q is empty or not the only one", i, sub.UID)
		}
		seen[sub.UID] = true
		if sub.Start, err = sub.Start.normalize(); err != nil {
			return d, fmt.Errorf("subscription %s: %w", sub.UID, err)
		}
		old := now[sub.UID]
		switch {
		case old == nil || old.Start != sub.Start:
			from, err := c.resolve(ctx, sub.Start)
			if err != nil {
				return d, fmt.Errorf("subscription %s: %w", sub.UID, err)
			}
			d.open = append(d.open, openTerm{sub: sub, restart: true, from: from})
		case old.Ordered != sub.Ordered || old.Engine != sub.Engine || !bytes.Equal(old.Filter, sub.Filter):
			d.open = append(d.open, openTerm{sub: sub})
		}
	}
	for uid := range now {
		if !seen[uid] {
			d.close = append(d.close, uid)
		}
	}
	slices.Sort(d.close)
	return d, nil
}

// resolve makes a start the offsets of each partition.
func (c *raftChannel) resolve(ctx context.Context, s Start) ([]uint64, error) {
	parts := *c.parts.Load()
	from := make([]uint64, len(parts))
	for i, p := range parts {
		switch s.At {
		case "end":
			from[i] = toEnd
		case "offset":
			from[i] = min(s.Offset, toEnd-1)
		case "time":
			at, err := p.OffsetAt(ctx, s.Time)
			if err != nil {
				return nil, err
			}
			from[i] = at
		case "beginning": // apply raises it to the floor
		}
	}
	return from, nil
}
