package channel

import (
	"fmt"
	"time"

	"github.com/leat-dev/leat/api/event"
	"github.com/leat-dev/leat/raftlog"
)

// Beginner is a Channel that takes events from who does not wait for them.
type Beginner interface {
	// Begin is Append, but returns at once: done is called once, with what Append
	// would return, when that is known or by has passed, on a goroutine that the log
	// needs, so it must not wait. After an error of Begin it is not called;
	// raftlog.ErrWouldWait has nothing begun, and says that Append may succeed. The
	// events may change again when Begin has returned. They are on their way after
	// the next Flush or Commit.
	Begin(events []*event.Event, by time.Time, done func(error)) error
	Flush()
	// Commit is Flush for who may wait for the disk: where nothing else is on its
	// way, what has begun is made durable, and each done called, before it returns.
	Commit()
}

// beginner is a Group that takes commands from who does not wait;
// *raftlog.Group is one.
type beginner interface {
	Begin(class raftlog.Class, cmd []byte, by time.Time, done func(error)) error
	Flush()
	Commit()
}

var (
	_ Beginner = (*raftChannel)(nil)
	_ beginner = (*raftlog.Group)(nil)
)

// Begin implements Beginner.
func (c *raftChannel) Begin(events []*event.Event, by time.Time, done func(error)) error {
	if c.shard.beginner == nil {
		return raftlog.ErrWouldWait
	}
	if err := c.appendable(); err != nil {
		return err
	}
	buf := c.shard.buffer()
	defer c.shard.keep(buf)
	*buf = encodeAppend((*buf)[:0], *c.parts.Load(), events)
	if err := c.shard.beginner.Begin(raftlog.Events, *buf, by, done); err != nil {
		return fmt.Errorf("append to %v: %w", c, err)
	}
	return nil
}

// Flush implements Beginner.
func (c *raftChannel) Flush() {
	if c.shard.beginner != nil {
		c.shard.beginner.Flush()
	}
}

// Commit implements Beginner.
func (c *raftChannel) Commit() {
	if c.shard.beginner != nil {
		c.shard.beginner.Commit()
	}
}
