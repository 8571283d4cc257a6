package segment

import "testing"

// A footer with a right checksum is refused where it counts more entries than
// there is room for in its segment: what is read by it is sized by that count.
func TestFooterCountsNoMoreThanItsSegmentCanHave(t *testing.T) {
	const records = 9
	whole := footer{number: 1, generation: 1, first: 1, last: records, end: headerSize + records*recordSize, body: 2 * headerSize}
	if _, err := parseFooter(whole.append(nil)); err != nil {
		t.Fatal(err)
	}
	most := uint64(whole.end / recordSize)
	for name, more := range map[string]uint64{"one more": most + 1, "more than int64 has": 1<<63 + 7, "all numbers": 1<<64 - 1} {
		f := whole
		f.last = f.first + more - 1
		if got, err := parseFooter(f.append(nil)); err == nil {
			t.Errorf("%s: taken as %d entries", name, got.entries())
		}
	}
}
