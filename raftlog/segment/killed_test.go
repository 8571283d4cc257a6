package segment

import (
	"testing"

	"github.com/leat-dev/leat/raftlog/vfs/errorfs"
	"github.com/leat-dev/leat/raftlog/vfs/memfs"
)

// A process dies, or its sync fails, after it wrote records and before they were
// durable. The next one reads them, and so others build upon them: a power cut
// must not take them away again.
func TestEndThatWasNotSyncedBecomesDurable(t *testing.T) {
	inner := memfs.New(0)
	var killed []*memfs.FS
	armed := false
	s := loadLog(t, errorfs.Wrap(inner, func(op errorfs.Op, _ string) error {
		if armed && op == errorfs.Sync {
			killed = append(killed, inner.Clone())
		}
		return nil
	}))
	must(t, s.StoreLogs(entries(1, 5, 1)))
	armed = true
	must(t, s.StoreLogs(entries(6, 8, 1)))
	must(t, s.StoreLogs(entries(9, 9, 1)))
	last := uint64(9)
	for ; len(s.segments) < 3; last += 4 { // over the borders of segments too
		must(t, s.StoreLogs(entries(last+1, last+4, 1)))
		s.keepUp()
	}
	armed = false
	closeLog(t, s)
	for i, left := range killed {
		s := loadLog(t, left)
		seen, err := readContent(s)
		must(t, err)
		for seed := range uint64(4) {
			cut := left.CrashClone(testRand(seed), float64(seed)/6)
			again, err := load(testOptions(cut))
			if err != nil {
				t.Errorf("state %d: after a power cut: %v", i, err)
				continue
			}
			close(again.done)
			got, err := readContent(again)
			must(t, err)
			if got.last() < seen.last() {
				t.Errorf("state %d: %v were seen, and %v are left after a power cut", i, seen, got)
			}
			closeLog(t, again)
		}
		closeLog(t, s)
	}
	if len(killed) < 5 {
		t.Errorf("%d states: too little is tested", len(killed))
	}
}
