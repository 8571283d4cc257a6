package segment

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/leat-dev/leat/raftlog/vfs/memfs"
)

// TestSumOfPartsIsThatOfTheWhole, whatever the parts, and whatever of it is no part.
func TestSumOfPartsIsThatOfTheWhole(t *testing.T) {
	r := testRand(1)
	for range 500 {
		var data []byte
		var parts []Sum
		for range r.IntN(6) {
			data = append(data, randomBytes(r, r.IntN(20))...)
			piece := randomBytes(r, []int{0, 1, r.IntN(300), 4096, sumChunk, sumChunk + 1, r.IntN(100_000)}[r.IntN(7)])
			from, cut := len(data), r.IntN(len(piece)+1)
			data = append(data, make([]byte, len(piece))...)
			sum := CopySum(data[from:], [][]byte{piece[:cut], nil, piece[cut:]})
			if !bytes.Equal(data[from:], piece) {
				t.Fatalf("a copy of %d bytes is another", len(piece))
			}
			parts = append(parts, Sum{From: from, Len: len(piece), CRC: sum})
		}
		data = append(data, randomBytes(r, r.IntN(20))...)
		if got, want := checksumOf(data, parts), checksum(data); got != want {
			t.Fatalf("%08x is the sum of %d bytes by %d parts, not %08x", got, len(data), len(parts), want)
		}
	}
}

func randomBytes(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// TestEntryOfWhichPartsAreSummedReadsBack as one whose sum is taken when it is written,
// whichever way that is; and an entry whose sums are another's does not.
func TestEntryOfWhichPartsAreSummedReadsBack(t *testing.T) {
	fsys := memfs.New(0)
	s, err := Open(directOptions(fsys, testDir))
	must(t, err)
	for i := uint64(1); i < 60; i++ {
		l := sized(i, sizeOf(i))
		var parts []Sum
		if n := len(l.Data) / 3; n > 0 {
			parts = []Sum{{From: n, Len: n, CRC: checksum(l.Data[n : 2*n])}}
		}
		must(t, s.StoreSummed(l, parts))
		wantSized(t, s, i, sizeOf(i))
	}
	must(t, s.StoreSummed(sized(60, 9000), []Sum{{From: 10, Len: 8000, CRC: 1}}))
	var l raft.Log
	if err := s.GetLog(60, &l); err == nil {
		t.Error("an entry reads back whose sum is wrong")
	}
	must(t, s.StoreLog(sized(61, 9000)))
	wantSized(t, s, 61, 9000)
	closeLog(t, s)
}
