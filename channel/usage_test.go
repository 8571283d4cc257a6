package channel

import (
	"context"
	"testing"

	"github.com/leat-dev/leat/api/event"
)

// TestUsages: a channel's is what its partitions hold above their floors; dead
// letters count apart; one that is gone has none.
func TestUsages(t *testing.T) {
	w := newWorld(t)
	w.equal("of an empty log", len(w.log.Usages()), 0)
	one, two := w.channel("one", 2), w.channel("two", 1)
	w.fill(one, 100)
	w.fill(two, 10)
	all := w.log.Usages()
	a, b := all[one.ID().UID], all[two.ID().UID]
	if b.Events == 0 || a.Events < 5*b.Events || a.DeadLetters != 0 {
		t.Errorf("100 events take %+v, 10 take %+v", a, b)
	}
	w.set(two, 1, sub("s"))
	w.ok(two.Partitions()[0].Commit(context.Background(), Commit{DeadLetters: []DeadLetter{{UID: "s", Offset: 1, Event: &event.Event{ID: "x", Source: "/x", Type: "x"}}}}))
	if got := w.log.Usages()[two.ID().UID]; got.Events != b.Events || got.DeadLetters == 0 {
		t.Errorf("with a dead letter: %+v, before %+v", got, b)
	}
	w.ok(w.log.Drop(context.Background(), one.ID().UID))
	if got, ok := w.log.Usages()[one.ID().UID]; ok {
		t.Errorf("of a channel that is gone: %+v", got)
	}
}
