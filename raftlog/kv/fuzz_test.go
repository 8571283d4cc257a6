package kv

import (
	"bufio"
	"bytes"
	"io"
	"reflect"
	"testing"
	"time"
)

func FuzzDecodeCommand(f *testing.F) {
	for _, c := range []command{
		{op: opPut, key: []byte("/a"), value: []byte("v"), expected: 7, ttl: time.Second},
		{op: opPut, key: []byte("/a"), expected: AnyRev},
		{op: opDelete, key: []byte("/a"), expected: 1 << 40},
		{op: opCompact, rev: 300},
		{op: opExpire, limit: expireBatch},
	} {
		f.Add(c.encode())
	}
	f.Add([]byte{})
	f.Add([]byte{commandVersion, 9})
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := decodeCommand(b)
		if err != nil {
			return
		}
		again, err := decodeCommand(c.encode())
		if err != nil {
			t.Fatalf("%+v cannot be decoded once encoded: %v", c, err)
		}
		if len(c.value) == 0 {
			c.value, again.value = nil, nil
		}
		if !reflect.DeepEqual(c, again) {
			t.Fatalf("%+v became %+v", c, again)
		}
	})
}

func FuzzDecodeRecords(f *testing.F) {
	f.Add(encodeData([]byte("v"), 1234))
	f.Add(eventRecord{time: 5, prevRev: 6, deleted: true, sum: 7, key: "/a"}.encode())
	f.Add(meta{applied: 1, term: 2, rev: 3, floor: 2, time: 5, count: 6, hash: 7}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if v, expiry, err := decodeData(b); err == nil {
			if w, e, err := decodeData(encodeData(v, expiry)); err != nil || e != expiry || !bytes.Equal(v, w) {
				t.Fatalf("data %q, %d became %q, %d: %v", v, expiry, w, e, err)
			}
		}
		if r, err := decodeEvent(b); err == nil {
			if again, err := decodeEvent(r.encode()); err != nil || again != r {
				t.Fatalf("event %+v became %+v: %v", r, again, err)
			}
		}
		if m, err := decodeMeta(b); err == nil {
			if again, err := decodeMeta(m.encode()); err != nil || again != m {
				t.Fatalf("state %+v became %+v: %v", m, again, err)
			}
		}
	})
}

func FuzzReadSnapshot(f *testing.F) {
	var b bytes.Buffer
	w := &recordWriter{w: bufio.NewWriter(&b)}
	w.bytes([]byte(snapshotMagic))
	w.frame(meta{applied: 1, rev: 300, floor: 1}.encode())
	w.record(recordVersionOf, []byte{2, 2, '/', 'a', 0}, encodeData([]byte("v"), 0))
	w.record(recordVersionOf, []byte{3, 2, '/', 'a', 1}, nil)
	w.record(recordEvent, []byte{2}, eventRecord{time: 1, key: "/a"}.encode())
	w.record(recordEnd, []byte{3}, nil)
	if err := w.w.Flush(); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte(snapshotMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bufio.NewReader(bytes.NewReader(b))
		m, err := readSnapshotHead(r)
		if err != nil {
			return
		}
		err = readSnapshotRecords(r, m, func(l loaded) error {
			if l.rev == 0 || l.rev > m.rev || len(l.key) < 2 {
				t.Fatalf("accepted %+v", l)
			}
			return nil
		})
		if err == nil {
			_, _ = io.Copy(io.Discard, r)
		}
	})
}

func FuzzCheckTable(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 0})
	f.Add([]byte("an index"))
	f.Fuzz(func(_ *testing.T, b []byte) {
		_ = checkTable(b) // must not panic
	})
}
