package operations

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/leat-dev/leat/channel"
)

func TestSince(t *testing.T) {
	w := newWorld(t)
	w.fill(w.broker, 0, 10)
	w.clock.now.Store(20)
	for since, want := range map[string]string{
		"beginning": "n0 n1 n2 n3 n4 n5 n6 n7 n8 n9", "0": "n0 n1 n2 n3 n4 n5 n6 n7 n8 n9", "7": "n7 n8 n9", "9": "n9", "10": "", "1000": "", "end": "", "": "",
		"2026-01-02T03:00:08Z": "n8 n9", "2026-01-02T04:00:07.5+01:00": "n8 n9", "2020-01-01T00:00:00Z": "n0 n1 n2 n3 n4 n5 n6 n7 n8 n9", "2030-01-01T00:00:00Z": "",
		"12s": "n8 n9", "11s": "n9", "1h30m": "n0 n1 n2 n3 n4 n5 n6 n7 n8 n9", "0s": "",
	} {
		if got := ids(w.read(brokerEvents + "?follow=false&since=" + url.QueryEscape(since))); got != want {
			t.Errorf("since %q: %s, want %s", since, got, want)
		}
	}
}

func TestLineHasPlaceTimeAndEvent(t *testing.T) {
	w := newWorld(t)
	w.fill(w.broker, 0, 2)
	res := w.open(t.Context(), brokerEvents+"?follow=false&since=1")
	s := bufio.NewScanner(res.Body)
	s.Scan()
	// Its data as it came, but for white space.
	const want = `{"partition":0,"offset":1,"time":"2026-01-02T03:00:01Z","event":{"specversion":"1.0","id":"n1","source":"/s1","type":"odd","datacontenttype":"application/json","data":{"n":1,"html":"<&>"}}}`
	if s.Text() != want || s.Scan() {
		t.Errorf("got  %s\nwant %s", s.Text(), want)
	}
}

func TestFilterAndLimit(t *testing.T) {
	w := newWorld(t)
	w.fill(w.broker, 0, 10)
	for query, want := range map[string]string{
		"filter=type=odd":                         "n1 n3 n5 n7 n9",
		"filter=cesql:type = 'odd'&limit=2":       "n1 n3",
		"filter=expr:data.n > 7":                  "n8 n9",
		"filter=expr:data.n.x > 7":                "", // one that errors does not match
		"filter=type=none":                        "",
		"limit=4":                                 "n0 n1 n2 n3",
		"limit=10":                                "n0 n1 n2 n3 n4 n5 n6 n7 n8 n9",
		"limit=100":                               "n0 n1 n2 n3 n4 n5 n6 n7 n8 n9",
		"since=8&limit=1":                         "n8",
		"filter=prefix:source=/s1&limit=5&since=": "",
	} {
		v, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		v.Set("follow", "false")
		if !v.Has("since") {
			v.Set("since", "beginning")
		}
		if got := ids(w.read(brokerEvents + "?" + v.Encode())); got != want {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}
}

// TestLimitEndsAStreamThatFollows, with its last event, not with the next one.
func TestLimitEndsAStreamThatFollows(t *testing.T) {
	w := newWorld(t)
	w.fill(w.broker, 0, 3)
	if got := ids(w.read(brokerEvents + "?since=beginning&limit=3")); got != "n0 n1 n2" {
		t.Error(got)
	}
	if got := ids(w.read(brokerEvents + "?since=beginning&filter=type%3Dodd&limit=1")); got != "n1" {
		t.Error(got)
	}
}

// TestFollow: whatever is appended once the answer has begun is in the stream,
// at once; and a reader that leaves ends it.
func TestFollow(t *testing.T) {
	w := newWorld(t)
	w.fill(w.broker, 0, 3)
	for _, query := range []string{"", "?follow=true&since=end"} {
		_, next := w.broker.Partitions()[0].Bounds()
		from := int(next)
		ctx, cancel := context.WithCancel(t.Context())
		s := bufio.NewScanner(w.open(ctx, brokerEvents+query).Body)
		for n := from; n < from+5; n++ {
			w.fill(w.broker, n, n+1)
			if !s.Scan() {
				t.Fatal(s.Err())
			}
			if l := w.line(s.Bytes()); l.Offset != uint64(n) || ids([]Line{l}) != fmt.Sprintf("n%d", n) {
				t.Errorf("got %s at offset %d, want n%d", ids([]Line{l}), l.Offset, n)
			}
		}
		cancel()
	}
}

// TestPartitions are each in order, and all there.
func TestPartitions(t *testing.T) {
	w := newWorld(t)
	w.fill(w.channel, 0, 40)
	next := map[int]uint64{}
	seen := map[string]bool{}
	lines := w.read(channelEvents + "?since=beginning&follow=false")
	for _, l := range lines {
		if l.Offset != next[l.Partition] {
			t.Errorf("partition %d: offset %d, want %d", l.Partition, l.Offset, next[l.Partition])
		}
		next[l.Partition]++
		seen[ids([]Line{l})] = true
	}
	if len(seen) != 40 || len(next) != 2 {
		t.Errorf("%d events of %d partitions", len(seen), len(next))
	}
	if n := len(w.read(channelEvents + "?since=beginning&limit=7")); n != 7 {
		t.Errorf("%d events, limit 7", n)
	}
	if n := len(w.read(channelEvents + "?since=20s&follow=false")); n != 21 {
		t.Errorf("%d events of the last 20 s", n)
	}
	if p := w.refused(channelEvents+"?since=3", http.StatusBadRequest); p.Field != "since" || !strings.Contains(p.Reason, "partition") {
		t.Errorf("%+v", p)
	}
}

// TestPositions: a stream says where it begins in each partition, and one that
// is asked for from there on has what follows, also where no event had come.
func TestPositions(t *testing.T) {
	w := newWorld(t)
	w.fill(w.channel, 0, 40)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	at := func(query string) string {
		res := w.open(ctx, channelEvents+"?"+query)
		if log := res.Header.Get(LogHeader); log != "2" {
			t.Errorf("%s: the log is %q", query, log)
		}
		return res.Header.Get(PositionsHeader)
	}
	if got := at("since=beginning&limit=1"); got != "0:0,1:0" {
		t.Errorf("the beginning is %s", got)
	}
	end := at("since=end&follow=false")
	if n := len(w.read(channelEvents + "?follow=false&since=" + end)); n != 0 {
		t.Errorf("%d events after the end", n)
	}
	w.fill(w.channel, 40, 50)
	if n := len(w.read(channelEvents + "?follow=false&since=" + end)); n != 10 {
		t.Errorf("%d events of 10 since %s", n, end)
	}
	// A partition that is not named may have been added since: it is read whole.
	whole := len(w.read(channelEvents + "?follow=false&since=beginning"))
	_, ends := w.channel.Partitions()[0].Bounds()
	if n := len(w.read(fmt.Sprintf("%s?follow=false&since=0:%d", channelEvents, ends))); n != whole-int(ends) {
		t.Errorf("%d events of partition 1, want %d", n, whole-int(ends))
	}
	for positions, want := range map[string]string{"0:0,2:0": "no partition 2", "0:1000": "another log", "0:1,0:1": "must be", "0:x": "must be", "0": "partition"} {
		if p := w.refused(channelEvents+"?since="+positions, http.StatusBadRequest); p.Field != "since" || !strings.Contains(p.Reason, want) {
			t.Errorf("%s: %+v", positions, p)
		}
	}
}

func TestRefusals(t *testing.T) {
	w := newWorld(t)
	for path, field := range map[string]string{
		brokerEvents + "?since=yesterday":            "since",
		brokerEvents + "?since=-1h":                  "since",
		brokerEvents + "?follow=maybe":               "follow",
		brokerEvents + "?limit=0":                    "limit",
		brokerEvents + "?limit=-1":                   "limit",
		brokerEvents + "?limit=99999999999999999999": "limit",
		brokerEvents + "?filter=cesql:":              "filter",
		brokerEvents + "?filter=expr:data.":          "filter",
		brokerEvents + "?limt=5":                     "limt",
		brokerEvents + "?limit=5&limit=6":            "limit",
		brokerEvents + "?since=%zz":                  "",
		brokerEvents + "?a;b":                        "",
	} {
		if p := w.refused(path, http.StatusBadRequest); p.Field != field {
			t.Errorf("%s: %+v, want field %q", path, p, field)
		}
	}
	for _, path := range []string{"/namespaces/default/brokers/c/events", "/namespaces/default/channels/b/events", "/namespaces/other/brokers/b/events"} {
		if p := w.refused(path, http.StatusNotFound); p.Field != "name" {
			t.Errorf("%s: %+v", path, p)
		}
	}
}

// faulty is a channel whose partitions fail.
type faulty struct {
	channel.Channel
	read, at error
}

func (f faulty) Partitions() []channel.Partition {
	var out []channel.Partition
	for _, p := range f.Channel.Partitions() {
		out = append(out, faultyPartition{p, f})
	}
	return out
}

type faultyPartition struct {
	channel.Partition
	f faulty
}

func (p faultyPartition) Read(ctx context.Context, offset uint64, limit, maxBytes int) ([]channel.Stored, error) {
	if offset >= 3 && p.f.read != nil {
		return nil, p.f.read
	}
	return p.Partition.Read(ctx, offset, limit, maxBytes)
}

func (p faultyPartition) OffsetAt(ctx context.Context, at time.Time) (uint64, error) {
	if p.f.at != nil {
		return 0, p.f.at
	}
	return p.Partition.OffsetAt(ctx, at)
}

// hanging is a channel whose partitions read three events, and then nothing.
type hanging struct {
	channel.Channel
	read chan struct{} // is told
}

func (h hanging) Partitions() []channel.Partition {
	return []channel.Partition{hangingPartition{h.Channel.Partitions()[0], h.read}}
}

type hangingPartition struct {
	channel.Partition
	read chan struct{}
}

func (p hangingPartition) Read(ctx context.Context, offset uint64, limit, maxBytes int) ([]channel.Stored, error) {
	if offset < 3 {
		return p.Partition.Read(ctx, offset, limit, maxBytes)
	}
	p.read <- struct{}{}
	<-ctx.Done()
	return nil, ctx.Err()
}

// TestErrorsEndTheStream, told as its last line.
func TestErrorsEndTheStream(t *testing.T) {
	w := newWorld(t)
	w.fill(w.broker, 0, 10)
	w.fill(w.channel, 10, 30)
	damaged := &channel.DamagedError{Channel: w.broker.ID(), Range: channel.Range{From: 3, To: 5}, File: "segment", Position: 7, Err: errors.New("CRC")}
	w.broken = func(ch channel.Channel) channel.Channel { return faulty{Channel: ch, read: damaged} }
	if got := ids(w.read(brokerEvents + "?since=beginning")); got != "n0 n1 n2 error: "+damaged.Error() {
		t.Error(got)
	}
	lines := w.read(channelEvents + "?since=beginning")
	if last := lines[len(lines)-1]; last.Error != damaged.Error() {
		t.Errorf("%s", ids(lines))
	}
	w.broken = func(ch channel.Channel) channel.Channel { return faulty{Channel: ch, at: errors.New("no index")} }
	if p := w.refused(brokerEvents+"?since=1h", http.StatusInternalServerError); p.Field != "since" || p.Reason != "no index" {
		t.Errorf("%+v", p)
	}
}

// expiring passes a floor once, when it is read the first time.
type expiring struct {
	channel.Channel
	reads *int
}

func (e expiring) Partitions() []channel.Partition {
	return []channel.Partition{expiringPartition{e.Channel.Partitions()[0], e.reads}}
}

type expiringPartition struct {
	channel.Partition
	reads *int
}

func (p expiringPartition) Bounds() (floor, next uint64) {
	floor, next = p.Partition.Bounds()
	if *p.reads > 0 {
		floor = 6
	}
	return floor, next
}

func (p expiringPartition) Read(ctx context.Context, offset uint64, limit, maxBytes int) ([]channel.Stored, error) {
	if *p.reads++; offset < 6 {
		return nil, fmt.Errorf("read: %w", channel.ErrExpired)
	}
	return p.Partition.Read(ctx, offset, limit, maxBytes)
}

// TestReaderSlowerThanRetention goes on where the log begins now, and says what
// is gone.
func TestReaderSlowerThanRetention(t *testing.T) {
	w := newWorld(t)
	w.fill(w.broker, 0, 10)
	w.broken = func(ch channel.Channel) channel.Channel { return expiring{ch, new(int)} }
	if got := ids(w.read(brokerEvents + "?since=beginning&follow=false")); got != "expired:0-6 n6 n7 n8 n9" {
		t.Error(got)
	}
}

// FuzzParseQuery: no query crashes it; what it takes is within its bounds, what
// it refuses has a reason.
func FuzzParseQuery(f *testing.F) {
	for _, s := range []string{"", "since=1h&follow=0&limit=3&filter=a%3Db", "since=2026-01-02T15:04:05Z", "since=18446744073709551616", "filter=expr:data.x", "filter=not%3A%7B%7D", "a;b", "%", "limit=1&limit=2"} {
		f.Add(s)
	}
	h := &handler{Options{Now: func() time.Time { return epoch }}}
	f.Fuzz(func(t *testing.T, raw string) {
		q, field, err := h.parseQuery(raw)
		switch {
		case err != nil && err.Error() == "", err == nil && field != "":
			t.Fatalf("%q: %q, %v", raw, field, err)
		case err == nil && (q.limit < 0 || q.since == "time" && q.start.IsZero() && !strings.Contains(raw, "0001")):
			t.Fatalf("%q: %+v", raw, q)
		}
	})
}

// TestServerThatStopsEndsNoStream: what ends then did not come to the end of the
// log, and says so.
func TestServerThatStopsEndsNoStream(t *testing.T) {
	w := newWorld(t)
	w.fill(w.broker, 0, 5)
	read := make(chan struct{}, 1)
	w.broken = func(ch channel.Channel) channel.Channel { return hanging{ch, read} }
	serving, stop := context.WithCancel(t.Context())
	stopping := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithCancel(r.Context()) // as the API server does
		defer cancel()
		defer context.AfterFunc(serving, cancel)()
		w.handler.ServeHTTP(rw, r.WithContext(ctx))
	}))
	defer stopping.Close()
	w.url = stopping.URL + "/leat/v1"
	go func() {
		<-read
		stop()
	}()
	lines := w.read(brokerEvents + "?since=beginning&follow=false")
	if last := lines[len(lines)-1]; ids(lines) != "n0 n1 n2 error: the server stops" || !last.Again {
		t.Errorf("%s, again: %v", ids(lines), last.Again)
	}
}
