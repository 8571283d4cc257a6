package dispatcher

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/leat-dev/leat/api/event"
	"github.com/leat-dev/leat/channel"
	"github.com/leat-dev/leat/raftlog"
	"github.com/leat-dev/leat/raftlog/vfs/memfs"
)

// lender is a dispatcher over a log that writes to what events lay in as soon as
// nobody holds it any more.
type lender struct {
	*rig
	ch    channel.Channel
	group *raftlog.Group

	mu     sync.Mutex
	reused int
	got    map[string]int          // by who got it
	kept   map[string]*event.Event // by the id that it had
}

func newLender(t *testing.T, subs ...channel.Subscription) *lender {
	l := &lender{rig: &rig{T: t, f: newFakeSender()}, got: map[string]int{}, kept: map[string]*event.Event{}}
	l.d = New(Options{Sender: l.f})
	shard := channel.NewShard(channel.Options{TailBytes: 1, CacheBytes: 1, Reused: func(data []byte, events []event.Event) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.reused++
		clear(data)
		for i := range events {
			events[i] = event.Event{ID: "used again"}
		}
	}})
	var err error
	if l.group, err = raftlog.Open(t.Context(), raftlog.Options{
		Dir: "/s", Name: "s0", NodeID: "n", Machine: shard, FS: memfs.New(0), Reuse: true, MaxEntryBytes: 8 << 10,
		SegmentBytes: 1 << 20, DiskFloor: 1, DiskReserve: 1, Fatal: func(err error) { t.Error(err) },
	}); err != nil {
		t.Fatal(err)
	}
	shard.Bind(l.group)
	if l.ch, err = channel.NewLog(shard).Ensure(t.Context(), ID{Kind: "Broker", Namespace: "n", Name: "b", UID: "u"}, channel.Config{}); err != nil {
		t.Fatal(err)
	}
	if err := l.ch.SetSubscriptions(t.Context(), 1, subs); err != nil {
		t.Fatal(err)
	}
	l.d.Attach(l.ch)
	return l
}

// publish appends an event with the data of its id.
func (l *lender) publish(i int, typ string) {
	id := strconv.Itoa(i)
	if err := l.ch.Append(l.Context(), []*event.Event{{ID: id, Source: "/s", Type: typ, Data: lentData(id)}}); err != nil {
		l.Fatal(err)
	}
}

func lentData(id string) []byte {
	n, _ := strconv.Atoi(id)
	return bytes.Repeat([]byte(id), 10+n%20)
}

// check says that somebody sees the event of an id.
func (l *lender) check(who, id string, e *event.Event) {
	if e.ID != id || !bytes.Equal(e.Data, lentData(id)) {
		l.Errorf("%s: event %s is %q with %d bytes of data", who, id, e.ID, len(e.Data))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.got[who]++
}

func (l *lender) keep(e *event.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kept[e.ID] = e
}

// subscriber looks at events after a while, keeps nothing, and answers with a code.
func (l *lender) subscriber(who string, wait time.Duration, code int) handler {
	return func(ctx context.Context, r *Request) (Response, error) {
		KeepsNothing(ctx)
		id := r.Event.ID
		time.Sleep(wait)
		l.check(who, id, r.Event)
		return Response{Status: code}, nil
	}
}

// TestDeliveriesBesideMemoryThatIsUsedAgain: whoever has an event sees it as it was
// sent: a subscriber that takes its time, one that fails at first, a sink for dead
// letters, whoever takes a reply, and a sender that keeps what it has got.
func TestDeliveriesBesideMemoryThatIsUsedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n, some = 400, 40
		l := newLender(t, byType("quick", ""), byType("slow", ""), byType("fails", ""),
			byType("dead", "some"), byType("replies", "some"), byType("keeps", "others"))
		for _, uid := range []string{"quick", "slow", "fails", "keeps"} {
			l.target(uid, func(x *Target) { x.Delivery.Retry = 3 })
		}
		l.f.on("http://quick", l.subscriber("quick", 0, 200))
		l.f.on("http://slow", l.subscriber("slow", 70*time.Millisecond, 200))
		l.f.on("http://fails", failsFirst(50, l.subscriber("fails", time.Millisecond, 200)))
		l.f.on("http://keeps", func(_ context.Context, r *Request) (Response, error) {
			l.keep(r.Event)
			return Response{Status: 200}, nil
		})
		l.target("dead", func(x *Target) { x.DeadLetterURL = "http://sink" })
		l.f.on("http://dead", l.subscriber("dead", time.Millisecond, 400))
		l.f.on("http://sink", l.subscriber("sink", 70*time.Millisecond, 200))
		l.target("replies", func(x *Target) {
			x.Reply = func(_ context.Context, o *Original, reply *event.Event) error {
				time.Sleep(50 * time.Millisecond)
				l.check("replies", reply.ID, o.Event)
				l.keep(o.Event)
				return nil
			}
		})
		l.f.on("http://replies", func(ctx context.Context, r *Request) (Response, error) {
			KeepsNothing(ctx)
			return Response{Status: 200, Replies: []*event.Event{{ID: r.Event.ID, Source: "/r", Type: "reply"}}}, nil
		})
		for i := range n {
			switch i % (n / some) {
			case 0:
				l.publish(i, "some")
			case 1:
				l.publish(i, "others")
			default:
				l.publish(i, "most")
			}
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Minute)
		l.end()
		if err := l.group.Close(t.Context()); err != nil {
			t.Error(err)
		}
		want := map[string]int{"quick": n, "slow": n, "fails": n, "dead": some, "sink": some, "replies": some}
		if fmt.Sprint(l.got) != fmt.Sprint(want) {
			t.Errorf("events were seen %v, want %v", l.got, want)
		}
		for id, e := range l.kept {
			l.check("kept", id, e)
		}
		if len(l.kept) != 2*some {
			t.Errorf("%d events were kept, not %d", len(l.kept), 2*some)
		}
		if l.reused < n/2 {
			t.Errorf("memory was used again %d times; most of %d events are kept by nobody", l.reused, n)
		}
	})
}
