package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/leat-dev/leat/broker/operations"
)

type verification struct {
	Files []operations.FileReport
	Sum   operations.VerifySummary
}

func verify(t *testing.T, env []string, want int, args ...string) verification {
	t.Helper()
	out, stderr, status := leat(t, env, "", append([]string{"log", "verify", "-o", "json"}, args...)...)
	if status != want {
		t.Fatalf("%d, want %d: %s%s", status, want, out, stderr)
	}
	var v verification
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return v
}

// flip changes one byte of a file.
func flip(t *testing.T, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x40
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
}

// TestLogVerify: a whole log is said to be whole, by the running server and
// from its directory; of a damaged one the offsets that are lost are named, and
// those are the ones that cannot be read.
func TestLogVerify(t *testing.T) {
	s := startServer(t, "--segment-bytes", "4MiB", "--max-batch-bytes", "1MiB", "--snapshot-bytes", "1MiB")
	s.apply(broker)
	file := filepath.Join(t.TempDir(), "data")
	if err := os.WriteFile(file, fmt.Appendf(nil, "%q", strings.Repeat("x", 20_000)), 0o600); err != nil {
		t.Fatal(err)
	}
	// Over the first segment's end, so that it gets its index.
	if _, stderr, status := leat(t, s.env(), "", "send", "default", "--count", "500", "--id", "e", "--data-file", file); status != 0 {
		t.Fatal(stderr)
	}
	live := verify(t, s.env(), 0)
	if live.Sum.Damages != 0 || live.Sum.Records < 500 {
		t.Errorf("%+v", live.Sum)
	}
	if out, _, status := leat(t, s.env(), "", "log", "verify"); status != 0 || !strings.Contains(out, "all read back") {
		t.Errorf("%d: %s", status, out)
	}
	if _, stderr, status := leat(t, nil, "", "log", "verify", "--data", s.dir); status != 1 || !strings.Contains(stderr, "another server uses this directory") || !strings.Contains(stderr, "leat log verify --kubeconfig") {
		t.Errorf("beside the server: %d, %s", status, stderr)
	}
	s.stop()
	if v := verify(t, nil, 0, "--data", s.dir); v.Sum.Damages != 0 || v.Sum.Records < live.Sum.Records {
		t.Errorf("from its directory %+v, of the server %+v", v.Sum, live.Sum)
	}
	first := filepath.Join(s.dir, "groups", "s0", "log", fmt.Sprintf("%016x.seg", 1))
	const at = 2 << 20
	flip(t, first, at)
	lost := checkDamage(t, verify(t, nil, 1, "--data", s.dir), first)
	s.start() // what its snapshot covers is read when it is asked for
	if got := checkDamage(t, verify(t, s.env(), 1), first); got != lost {
		t.Errorf("the server names %+v, the directory %+v", got, lost)
	}
	for _, offset := range []uint64{lost.From - 1, lost.To + 1} {
		if _, stderr, status := leat(t, s.env(), "", "tail", "default", "--since", fmt.Sprint(offset), "--limit", "1", "-o", "name"); status != 0 {
			t.Errorf("offset %d, beside the damage: %s", offset, stderr)
		}
	}
	if _, stderr, status := leat(t, s.env(), "", "tail", "default", "--since", fmt.Sprint(lost.From), "--limit", "1"); status != 1 || !strings.Contains(stderr, "damaged") {
		t.Errorf("offset %d, which is lost: %d, %s", lost.From, status, stderr)
	}
	out, stderr, status := leat(t, s.env(), "", "log", "verify")
	want := fmt.Sprintf("lost: %d to %d of the events of broker default/default, partition 0", lost.From, lost.To)
	if status != 1 || !strings.Contains(out, want) || !strings.Contains(out, "damaged "+first) || !strings.Contains(stderr, "nothing was changed") {
		t.Errorf("%d\n%s%s\nwant %q", status, out, stderr, want)
	}
}

// checkDamage is what one damage to a file has lost.
func checkDamage(t *testing.T, v verification, path string) operations.Lost {
	t.Helper()
	if v.Sum.Damages != 1 {
		t.Fatalf("%+v", v.Sum)
	}
	for _, f := range v.Files {
		if len(f.Damages) == 0 {
			continue
		}
		d := f.Damages[0]
		if f.Path != path || f.Group != "s0" || f.Kind != "segment" || !d.Known || len(d.Lost) != 1 || d.First == 0 || d.Last < d.First {
			t.Fatalf("%+v", f)
		}
		l := d.Lost[0]
		if l.Kind != "Broker" || l.Name != "default" || l.What != "events" || l.From == 0 || l.To < l.From {
			t.Errorf("%+v", l)
		}
		return l
	}
	return operations.Lost{}
}

func TestLogVerifyOfNothing(t *testing.T) {
	if _, stderr, status := leat(t, nil, "", "log", "verify", "--data", t.TempDir()); status != 1 || !strings.Contains(stderr, "holds no log") {
		t.Errorf("%d, %s", status, stderr)
	}
}
