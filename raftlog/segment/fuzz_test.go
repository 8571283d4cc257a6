package segment

import (
	"bytes"
	"errors"
	"io"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/leat-dev/leat/raftlog/vfs/memfs"
)

func FuzzFileHeader(f *testing.F) {
	f.Add(fileHeader{number: 3, generation: 77, size: 65536}.append(nil))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		h, err := parseFileHeader(data)
		if err == nil && (h.size < headerSize || !reflect.DeepEqual(h.append(nil)[16:40], data[16:40])) {
			t.Errorf("%+v does not encode to what it was read from", h)
		}
	})
}

// FuzzRecord also gives bytes a right checksum, so that what lies behind it is
// reached.
func FuzzRecord(f *testing.F) {
	b, _ := appendRecord(nil, &raft.Log{Index: 5, Term: 2, Data: []byte("data"), Extensions: []byte("more")}, nil, 9, 1, 3)
	f.Add(b, false)
	f.Add(b[:recordSize], true)
	f.Add(append(make([]byte, 44), bytes.Repeat([]byte{0xff}, 20)...), true)
	f.Fuzz(func(t *testing.T, data []byte, fix bool) {
		if fix && len(data) >= recordSize {
			sum := checksum(data[4:recordSize])
			data[0], data[1], data[2], data[3] = byte(sum), byte(sum>>8), byte(sum>>16), byte(sum>>24)
		}
		h, payload, err := parseRecord(data, 9)
		if err != nil {
			return
		}
		var l, again raft.Log
		h.fill(&l, payload)
		b, _ := appendRecord(nil, &l, nil, 9, h.chain, int(h.batch))
		h2, payload, err := parseRecord(b, 9)
		if err != nil {
			t.Fatal(err)
		}
		if h2.fill(&again, payload); !same(&l, &again) {
			t.Errorf("%+v reads back as %+v", l, again)
		}
	})
}

// FuzzIndex reads the last part of a segment, with right checksums or not.
func FuzzIndex(f *testing.F) {
	rows := rowsOf(1)
	foot := footer{number: 1, generation: 9, first: 1, last: 2, end: headerSize + 200, body: headerSize}
	x, body := encodeIndex(foot, rows, []uint32{headerSize / align, headerSize/align + 12})
	f.Add(body, x.foot.append(nil), true)
	f.Add([]byte{}, make([]byte, footerSize), false)
	f.Fuzz(func(t *testing.T, body, foot []byte, fix bool) {
		if len(foot) != footerSize || len(body) > smallSegments {
			return
		}
		if fix {
			sum := checksum(foot[:footerBytes-4])
			copy(foot[footerBytes-4:], []byte{byte(sum), byte(sum >> 8), byte(sum >> 16), byte(sum >> 24)})
			for at := 0; at+blockSize <= len(body); at += blockSize {
				sum := checksum(body[at : at+blockData])
				copy(body[at+blockData:], []byte{byte(sum), byte(sum >> 8), byte(sum >> 16), byte(sum >> 24)})
			}
		}
		file := append(append(make([]byte, headerSize), body...), foot...)
		fsys := memfs.New(0)
		w, err := fsys.Create("/1")
		must(t, err)
		if _, err := w.WriteAt(file, 0); err != nil {
			t.Fatal(err)
		}
		g := &segment{number: 1, generation: 9, path: "/1", size: int64(len(file))}
		if g.index, err = openIndex(g, readFrom(w)); err != nil {
			return
		}
		g.first, g.last, g.end = g.index.foot.first, g.index.foot.last, g.index.foot.end
		r := newReader(fsys, 2, 2)
		defer r.close()
		if rows, err := r.rows(g); err == nil && len(rows) != int(g.index.foot.rows) {
			t.Errorf("%d rows", len(rows))
		}
		for _, x := range g.index.groups {
			if x.count > 0 {
				_, _, _ = r.find(g, x, func(r Row) bool { return r.end() < x.Last })
			}
		}
		for i := range min(g.index.foot.entries(), 100) {
			if at, size, err := r.place(g, g.first+uint64(i)); err == nil && (at < headerSize || at+size > g.end) {
				t.Errorf("entry %d is placed at %d to %d", i, at, at+size)
			}
		}
	})
}

func FuzzSlots(f *testing.F) {
	slot, err := encodeSlot(stableMagic, 4, encodeValues(map[string][]byte{"CurrentTerm": {1, 0, 0, 0, 0, 0, 0, 0}}))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(slot, []byte{})
	f.Add(slot, slot)
	f.Fuzz(func(t *testing.T, first, second []byte) {
		fsys := memfs.New(0)
		must(t, writeFile(fsys, "/slots", append(bytes.Clone(first), second...)))
		s, err := OpenStable(fsys, "/slots")
		var damaged *DamagedError
		if errors.As(err, &damaged) {
			return
		}
		must(t, err)
		must(t, s.SetUint64([]byte("k"), 7))
		if v, err := s.GetUint64([]byte("k")); err != nil || v != 7 {
			t.Errorf("%d, %v", v, err)
		}
	})
}

func FuzzStableValues(f *testing.F) {
	f.Add(encodeValues(map[string][]byte{"a": []byte("b"), "": nil}))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		values, err := decodeValues(data)
		if err != nil {
			return
		}
		again, err := decodeValues(encodeValues(values))
		if err != nil || !reflect.DeepEqual(values, again) {
			t.Errorf("%v reads back as %v, %v", values, again, err)
		}
	})
}

func FuzzState(f *testing.F) {
	f.Add(logState{floor: 2, top: 5, indexed: 3, first: 9, durable: place{4, 5000}, clean: true, cut: place{3, 4096}}.encode())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := decodeState(data)
		if err != nil {
			return
		}
		if again, err := decodeState(s.encode()); err != nil || again != s {
			t.Errorf("%+v reads back as %+v, %v", s, again, err)
		}
	})
}

func FuzzSnapshotFile(f *testing.F) {
	fsys := memfs.New(0)
	s, err := OpenSnapshots(fsys, snapshotDir, 1)
	must(f, err)
	must(f, takeSnapshot(s, 10))
	path := filepath.Join(snapshotDir, s.metas[0].ID+snapSuffix)
	f.Add(readFile(f, fsys, path))
	f.Add(snapHeader{content: 1 << 63}.bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		fsys := memfs.New(0)
		must(t, fsys.MkdirAll(snapshotDir))
		must(t, writeFile(fsys, path, data))
		s, err := OpenSnapshots(fsys, snapshotDir, 1)
		var damaged *DamagedError
		switch {
		case errors.As(err, &damaged):
			return
		case err != nil:
			t.Fatal(err)
		}
		_, r, err := s.Open("00000000000000000010-3")
		if err == nil {
			_, err = io.Copy(io.Discard, r)
			must(t, errors.Join(err, r.Close()))
		}
	})
}

// FuzzOpen opens a segment of any content: it is refused or reads back.
func FuzzOpen(f *testing.F) {
	fsys := memfs.New(0)
	s, err := load(testOptions(fsys))
	must(f, err)
	close(s.done)
	must(f, s.StoreLogs(entries(1, 3, 1)))
	path, end := s.active().path, s.active().end
	f.Add(readFile(f, fsys, path)[headerSize:end])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		left := fsys.Clone()
		wipeRecords(t, left, path)
		overwrite(t, left, path, headerSize, data[:min(len(data), smallSegments-headerSize)])
		s, err := load(testOptions(left))
		var damaged *DamagedError
		switch {
		case errors.As(err, &damaged):
			return
		case err != nil:
			t.Fatal(err)
		}
		close(s.done)
		first, last := bounds(s)
		for i := first; first != 0 && i <= last; i++ {
			must(t, s.GetLog(i, new(raft.Log)))
		}
		closeLog(t, s)
	})
}
