//go:build !linux

package http1

// Here each connection has a goroutine of its own.
type (
	loop   struct{}
	loops  struct{}
	looped struct{ loop *loop }
)

func (*loops) stop() {}

func (*conn) enter() bool { return false }

func (*conn) finished() {}

func (*conn) drop() {}

func (c *conn) cut() { _ = c.rwc.Close() } // whoever uses it sees that
