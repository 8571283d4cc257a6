//go:build linux

package main

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/leat-dev/leat/bench/stats"
)

func names(parts []part) string {
	var all []string
	for _, p := range parts {
		all = append(all, p.name)
	}
	return strings.Join(all, " ")
}

func TestFlagsSelectParts(t *testing.T) {
	for _, c := range []struct {
		o    options
		want string
	}{
		{options{only: "leat"}, "publish deliver filters idle start backlog"},
		{options{peers: "none"}, "publish deliver filters idle start backlog"},
		{options{only: "peers"}, "nats-sync nats redis-always kafka-flush kafka rabbitmq"},
		{options{rows: "start,publish", peers: "kafka"}, "publish start kafka"},
	} {
		if parts, err := selected(c.o); err != nil || names(parts) != c.want {
			t.Errorf("%+v selects %s (%v), not %s", c.o, names(parts), err, c.want)
		}
	}
	for _, o := range []options{{rows: "publsh"}, {peers: "pulsar"}, {only: "all"}} {
		if _, err := selected(o); err == nil || !strings.Contains(err.Error(), "there are") {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

// TestRowsAreHeldAgainstWhatTheyShould: by the turns, and against the slower
// of two ceilings.
func TestRowsAreHeldAgainstWhatTheyShould(t *testing.T) {
	b := newBench(options{}, t.TempDir())
	b.samples["publish 16 KiB"] = []stats.Sample{{Rate: 50, Bytes: 10}}
	b.samples["http 16 KiB"] = []stats.Sample{{Rate: 100, Bytes: 10}}
	b.samples["sync 1 MiB"] = []stats.Sample{{Rate: 1, Bytes: 2000}}
	if c := b.largeCheck("16 KiB", disks[0]); c.Name != "of net/http" || c.Value != 0.5 {
		t.Errorf("where net/http is the slower: %+v", c)
	}
	b.samples["sync 1 MiB"][0].Bytes = 600
	if c := b.largeCheck("16 KiB", disks[0]); c.Name != "of the disk" || math.Abs(c.Value-5.0/6) > 1e-9 {
		t.Errorf("where the disk is the slower: %+v", c)
	}
	b.samples["publish W=1"] = []stats.Sample{{P50: 3 * time.Millisecond}}
	b.samples["http W=1"] = []stats.Sample{{P50: time.Millisecond}}
	if _, known := b.syncedAnswer(disks[0]).Verdict(); known {
		t.Error("a row was judged by what was not measured")
	}
	b.samples["sync 4 KiB"] = []stats.Sample{{P50: time.Millisecond}}
	if c := b.syncedAnswer(disks[0]); c.Value != 1.5 {
		t.Errorf("3 ms against 1 ms and 1 ms: %+v", c)
	}
}

// TestLatenciesBesideADrainAreComparedInPairs: a pair in which the machine was
// slow counts as any other.
func TestLatenciesBesideADrainAreComparedInPairs(t *testing.T) {
	b := newBench(options{}, t.TempDir())
	if _, known := b.p99Beside().Verdict(); known {
		t.Error("the row was judged by what was not measured")
	}
	for _, pair := range [][2]time.Duration{{5, 6}, {50, 55}, {7, 70}, {40, 44}, {6, 3}} {
		b.samples[liveAlone] = append(b.samples[liveAlone], stats.Sample{P99: pair[0]})
		b.samples[liveBeside] = append(b.samples[liveBeside], stats.Sample{P99: pair[1]})
	}
	if c := b.p99Beside(); math.Abs(c.Value-1.1) > 1e-9 {
		t.Errorf("the ratio is %v, want the median of the pairs' ratios, 1.1", c.Value)
	}
}

// TestWhatFailsIsARow: the others stay, and the run fails.
func TestWhatFailsIsARow(t *testing.T) {
	b := newBench(options{}, t.TempDir())
	b.note("a figure", 7)
	b.figure("measured", "a figure", " MB")
	b.figure("not measured", "another", " MB")
	broken := errors.New("broken")
	b.failed("start", broken)
	var works []string
	for _, r := range b.table() {
		works = append(works, r.Work+" "+r.Figure+r.Note)
	}
	if want := []string{"measured 7 MB", "not measured ", "start failed; see the end"}; !slices.Equal(works, want) {
		t.Errorf("got %q", works)
	}
	if !errors.Is(errors.Join(b.failures...), broken) {
		t.Errorf("failures: %v", b.failures)
	}
}
