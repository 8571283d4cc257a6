package server

import (
	"slices"
	"strings"
	"testing"
)

const smaps = `00400000-02f00000 r-xp 00000000 08:01 77 /usr/bin/leat
Rss:               20000 kB
Anonymous:             0 kB
Swap:                  0 kB
VmFlags: rd ex mr mw me
02f00000-03f00000 r--p 02b00000 08:01 77 /usr/bin/leat
Anonymous:             0 kB
Swap:                  0 kB
03f00000-04000000 rw-p 03b00000 08:01 77 /usr/bin/leat
Anonymous:             0 kB
Swap:                  0 kB
04000000-04001000 r--p 03c00000 08:01 77 /usr/bin/leat
Anonymous:             4 kB
Swap:                  0 kB
04001000-04002000 r--p 03c01000 08:01 77 /usr/bin/leat
Anonymous:             0 kB
Swap:                  4 kB
7f0000000000-7f0000001000 r--p 00000000 08:01 99 /srv/data/000001.sst
Anonymous:             0 kB
Swap:                  0 kB
7f0000002000-7f0000003000 rw-p 00000000 00:00 0
Anonymous:             0 kB
Swap:                  0 kB
`

// Whatever has pages that are not the file's must be left alone.
func TestOnlyWhatIsTheProgramsFileIsDropped(t *testing.T) {
	got, err := unchanged(strings.NewReader(smaps), "/usr/bin/leat")
	if err != nil {
		t.Fatal(err)
	}
	if want := []mapping{{0x400000, 0x2f00000}, {0x2f00000, 0x3f00000}}; !slices.Equal(got, want) {
		t.Errorf("%x would be dropped, want %x", got, want)
	}
}

func TestTheProgramGoesOnWhenItWasDropped(t *testing.T) {
	for range 3 {
		if err := giveBack(); err != nil {
			t.Fatal(err)
		}
	}
}

func BenchmarkDropProgram(b *testing.B) {
	for b.Loop() {
		if err := dropProgram(); err != nil {
			b.Fatal(err)
		}
	}
}
