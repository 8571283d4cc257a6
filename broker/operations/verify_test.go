package operations

import (
	"bufio"
	"context"
	"errors"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/leat-dev/leat/channel"
	"github.com/leat-dev/leat/raftlog"
	"github.com/leat-dev/leat/raftlog/segment"
)

// TestDamageBehindTheLimitIsNoError: a stream that has what was asked for says
// nothing of what it would have met.
func TestDamageBehindTheLimitIsNoError(t *testing.T) {
	w := newWorld(t)
	w.fill(w.broker, 0, 10)
	w.broken = func(ch channel.Channel) channel.Channel { return faulty{Channel: ch, read: errors.New("CRC")} }
	for range 100 { // the reader may be ahead, or not
		if got := ids(w.read(brokerEvents + "?since=beginning&limit=3")); got != "n0 n1 n2" {
			t.Fatal(got)
		}
	}
}

// verification reads a verification.
func (w *world) verification() (lines []VerifyLine) {
	w.Helper()
	res := w.open(w.Context(), "/log/verify")
	if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != "application/x-ndjson" {
		w.Fatalf("%s %v", res.Status, res.Header)
	}
	s := bufio.NewScanner(res.Body)
	for s.Scan() {
		w.schemas.check(w.T, "VerifyLine", s.Bytes())
		lines = append(lines, decode[VerifyLine](w.T, s.Bytes()))
	}
	if err := s.Err(); err != nil {
		w.Fatal(err)
	}
	return lines
}

func TestVerifyStreamsFilesThenTheirSum(t *testing.T) {
	w := newWorld(t)
	id := channel.ID{Kind: "Broker", Namespace: "default", Name: "b", UID: "u"}
	lost := func(rows []raftlog.Row) []channel.Lost {
		if len(rows) == 0 {
			return nil
		}
		return []channel.Lost{{Channel: id, Partition: 1, Kind: channel.LostEvents, Range: channel.Range{From: 3, To: 6}}, {Channel: id, Kind: channel.LostDeadLetters, UID: "s", Range: channel.Range{From: 0, To: 1}}}
	}
	whole := segment.FileCheck{Path: "/a", Kind: "segment", Bytes: 10, Records: 2, First: 1, Last: 2}
	bad := segment.FileCheck{Path: "/b", Kind: "segment", Bytes: 20, Records: 1, First: 5, Last: 5, Torn: 99, Damages: []segment.Damage{
		{Offset: 7, First: 3, Last: 4, Reason: "CRC", Indexed: true, Rows: []raftlog.Row{{}}}, {Offset: 8, Reason: "no index"},
	}}
	w.verify = func(_ context.Context, report func(FileReport) error) error {
		return errors.Join(report(Report("s0", whole, lost)), report(Report("s0", bad, lost)))
	}
	want := []VerifyLine{
		{File: &FileReport{Group: "s0", Path: "/a", Kind: "segment", Bytes: 10, Records: 2, First: 1, Last: 2}},
		{File: &FileReport{Group: "s0", Path: "/b", Kind: "segment", Bytes: 20, Records: 1, First: 5, Last: 5, Torn: 99, Damages: []DamageReport{
			{Offset: 7, First: 3, Last: 4, Reason: "CRC", Known: true, Lost: []Lost{
				{Kind: "Broker", Namespace: "default", Name: "b", Partition: 1, What: "events", From: 3, To: 5},
				{Kind: "Broker", Namespace: "default", Name: "b", What: "dead letters", Subscription: "s"},
			}},
			{Offset: 8, Reason: "no index"},
		}}},
		{Sum: &VerifySummary{Files: 2, Bytes: 30, Records: 3, Damages: 2}},
	}
	if diff := cmp.Diff(want, w.verification()); diff != "" {
		t.Error(diff)
	}
	w.verify = func(_ context.Context, report func(FileReport) error) error {
		return errors.Join(report(Report("meta", whole, nil)), errors.New("the disk is gone"))
	}
	lines := w.verification()
	if last := lines[len(lines)-1]; len(lines) != 2 || last.Error != "the disk is gone" || last.Sum != nil {
		t.Errorf("%+v", lines)
	}
}
