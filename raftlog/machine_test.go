package raftlog

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/leat-dev/leat/raftlog/segment"
	"github.com/leat-dev/leat/raftlog/vfs/memfs"
)

func openMember(t *testing.T) (*segment.Store, *fsm, *counter) {
	t.Helper()
	store, err := segment.Open(segment.Options{FS: memfs.New(0), Dir: "/log", SegmentBytes: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	c := &counter{}
	return store, &fsm{machine: c, store: store, observe: func(int64) {}, saw: func() {}, fatal: func(err error) { t.Error(err) }}, c
}

// A sole voter's snapshot may have entries beyond its name. A member that gets it
// gets those entries afterwards, and finds what is in them: however much of them
// its log has when the snapshot is restored, or had before of older ones.
func TestRowsOfEntriesBeyondASnapshotsName(t *testing.T) {
	const named = 5 // the snapshot's name
	var logs []*raft.Log
	for i := range 10 {
		data := append([]byte{entryVersion}, make([]byte, entryHeaderSize-1)...)
		data = binary.AppendUvarint(data, uint64(len(command(i))))
		logs = append(logs, &raft.Log{Index: uint64(i + 1), Term: 1, Data: append(data, command(i)...)})
	}
	store := func(s *segment.Store, logs []*raft.Log) {
		if err := s.StoreLogs(logs); err != nil {
			t.Fatal(err)
		}
	}
	voter, f, _ := openMember(t)
	store(voter, logs)
	f.ApplyBatch(logs)
	taken, err := f.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	var content bytes.Buffer
	if err := taken.(*snapshot).write(&content); err != nil {
		t.Fatal(err)
	}
	if err := taken.(*snapshot).machine.Write(&content); err != nil {
		t.Fatal(err)
	}
	for name, had := range map[string]int{"nothing": named, "some": named + 3, "all": len(logs), "older ones": 2} {
		t.Run(name, func(t *testing.T) {
			s, f, c := openMember(t)
			old := had < named
			if old {
				store(s, logs[:had])
			} else {
				store(s, logs[named:had])
			}
			if err := f.restore(bufio.NewReader(bytes.NewReader(content.Bytes()))); err != nil {
				t.Fatal(err)
			}
			if old { // as raft does
				if err := s.DeleteRange(1, uint64(had)); err != nil {
					t.Fatal(err)
				}
				had = named
			}
			store(s, logs[had:])
			f.ApplyBatch(logs[named:])
			for offset := uint64(named); offset < uint64(len(logs)); offset++ {
				if row, ok, err := s.Find(7, 1, offset); err != nil || !ok || row.Index != offset+1 {
					t.Errorf("offset %d is found in entry %d, %v, %v", offset, row.Index, ok, err)
				}
			}
			if len(c.commands) != len(logs) {
				t.Errorf("%d commands, want %d", len(c.commands), len(logs))
			}
		})
	}
}
