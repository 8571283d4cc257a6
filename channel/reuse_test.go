package channel

import (
	"bytes"
	"fmt"
	"sync"
	"testing"

	"github.com/leat-dev/leat/api/event"
	"github.com/leat-dev/leat/raftlog"
)

// TestReadersBesideMemoryThatIsUsedAgain: what was read stays as it is, and what is
// being read is right, whatever becomes of the memory that the events came in: it
// is overwritten as soon as nobody holds it.
func TestReadersBesideMemoryThatIsUsedAgain(t *testing.T) {
	_, _, ch := openGroup(t, Options{TailBytes: 4 << 10, CacheBytes: 1}, raftlog.Options{
		MaxEntryBytes: 8 << 10, Reuse: true, Hooks: raftlog.Hooks{Reused: func(memory []byte) {
			for i := range memory {
				memory[i] = 0xdb
			}
		}},
	})
	const appends, each = 300, 3
	check := func(all []Stored) {
		for i, s := range all {
			if s.Event.ID != fmt.Sprint(i) || !bytes.Equal(s.Event.Data, content(i)) {
				t.Errorf("event %d is %q with %q", i, s.Event.ID, s.Event.Data)
				return
			}
		}
	}
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			p := ch.Partitions()[0]
			var all []Stored
			for len(all) < appends*each {
				if err := p.Wait(t.Context(), uint64(len(all)), 1<<60); err != nil {
					t.Error(err)
					return
				}
				some, err := p.Read(t.Context(), uint64(len(all)), 20, 1<<20)
				if err != nil {
					t.Error(err)
					return
				}
				all = append(all, some...)
			}
			check(all)
		})
	}
	var atOnce []Stored // read while they are in memory, and checked when others are
	for i := range appends {
		var events []*event.Event
		for j := i * each; j < (i+1)*each; j++ {
			events = append(events, &event.Event{ID: fmt.Sprint(j), Source: "/s", Type: "t", Data: content(j)})
		}
		if err := ch.Append(t.Context(), events); err != nil {
			t.Fatal(err)
		}
		some, err := ch.Partitions()[0].Read(t.Context(), uint64(i*each), each, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		atOnce = append(atOnce, some...)
	}
	check(atOnce)
	wg.Wait()
}

func content(i int) []byte { return bytes.Repeat([]byte{byte(i), byte(i >> 8)}, 50+i%200) }
