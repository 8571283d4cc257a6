package segment

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/leat-dev/leat/raftlog/vfs"
)

// A slot file holds one small value twice. A change is written into the first
// slot and synced, then into the second and synced. So a crash leaves the old
// value or the new; and once a change has returned, no damage to one slot brings
// the old value back: with a single new copy it would, and a vote could be cast
// twice.
const (
	slotSize   = 4096
	slotHeader = 8 + 8 + 4 + 4 // magic, sequence, length, checksum
	maxSlot    = slotSize - slotHeader
)

// slotFile is not safe for concurrent use.
type slotFile struct {
	file   vfs.File
	path   string
	magic  string
	seq    uint64
	failed error
}

// createSlots makes the file in one durable step.
func createSlots(fsys vfs.FS, path, magic string, body []byte) (*slotFile, error) {
	slot, err := encodeSlot(magic, 1, body)
	if err != nil {
		return nil, fmt.Errorf("make %s: %w", path, err)
	}
	if err := writeFile(fsys, path, append(slot, slot...)); err != nil {
		return nil, fmt.Errorf("make %s: %w", path, err)
	}
	f, err := fsys.OpenReadWrite(path)
	if err != nil {
		return nil, err
	}
	return &slotFile{file: f, path: path, magic: magic, seq: 1}, nil
}

// openSlots reads the newest value and makes both slots equal again. A file of
// which no slot reads back is a *DamagedError.
func openSlots(fsys vfs.FS, path, magic string) (_ *slotFile, body []byte, err error) {
	f, err := fsys.OpenReadWrite(path)
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	// Whoever put it in place may have died before its name was durable.
	if err := fsys.SyncDir(filepath.Dir(path)); err != nil {
		return nil, nil, err
	}
	b := make([]byte, 2*slotSize)
	n, err := f.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, fmt.Errorf("read %s: %w", path, err)
	}
	var slots [2]slot
	var reasons [2]error
	for i := range slots {
		slots[i], reasons[i] = decodeSlot(magic, b[min(i*slotSize, n):min((i+1)*slotSize, n)])
	}
	best := 0
	if reasons[0] != nil || reasons[1] == nil && slots[1].seq > slots[0].seq {
		best = 1
	}
	if reasons[best] != nil {
		return nil, nil, &DamagedError{File: path, Reason: fmt.Sprintf("neither copy reads back: the first %v; the second %v", reasons[0], reasons[1])}
	}
	s := &slotFile{file: f, path: path, magic: magic, seq: slots[best].seq}
	other := 1 - best
	if reasons[other] != nil || slots[other].seq != s.seq {
		if err := s.put(other, slots[best].body); err != nil {
			return nil, nil, fmt.Errorf("renew a copy in %s: %w", path, err)
		}
	}
	return s, slots[best].body, nil
}

// write replaces the value. After a failure it is not known which value a
// restart will find, so every later write fails.
func (s *slotFile) write(body []byte) error {
	if s.failed != nil {
		return s.failed
	}
	if len(body) > maxSlot {
		return fmt.Errorf("%s: %d bytes do not fit into %d", s.path, len(body), maxSlot)
	}
	s.seq++
	for i := range 2 {
		if err := s.put(i, body); err != nil {
			s.failed = fmt.Errorf("%s failed before and takes no more writes: %w", s.path, err)
			return fmt.Errorf("write %s: %w", s.path, err)
		}
	}
	return nil
}

func (s *slotFile) put(i int, body []byte) error {
	b, err := encodeSlot(s.magic, s.seq, body)
	if err != nil {
		return err
	}
	if _, err := s.file.WriteAt(b, int64(i)*slotSize); err != nil {
		return err
	}
	return s.file.Datasync()
}

func (s *slotFile) close() error { return s.file.Close() }

type slot struct {
	seq  uint64
	body []byte
}

func encodeSlot(magic string, seq uint64, body []byte) ([]byte, error) {
	if len(body) > maxSlot {
		return nil, fmt.Errorf("%d bytes do not fit into %d", len(body), maxSlot)
	}
	b := make([]byte, slotSize)
	copy(b, magic)
	binary.LittleEndian.PutUint64(b[8:], seq)
	binary.LittleEndian.PutUint32(b[16:], uint32(len(body)))
	copy(b[slotHeader:], body)
	binary.LittleEndian.PutUint32(b[20:], slotSum(b))
	return b, nil
}

// slotSum covers the whole slot but the sum itself.
func slotSum(b []byte) uint32 {
	return checksumMore(checksum(b[:20]), b[slotHeader:])
}

func decodeSlot(magic string, b []byte) (slot, error) {
	switch {
	case len(b) < slotSize:
		return slot{}, fmt.Errorf("is cut short at %d bytes", len(b))
	case string(b[:8]) != magic:
		return slot{}, fmt.Errorf("does not begin with %q", magic)
	case slotSum(b) != binary.LittleEndian.Uint32(b[20:]):
		return slot{}, errors.New("has a wrong checksum")
	}
	length := binary.LittleEndian.Uint32(b[16:])
	if length > maxSlot {
		return slot{}, fmt.Errorf("has the length %d, which cannot be", length)
	}
	return slot{seq: binary.LittleEndian.Uint64(b[8:]), body: bytes.Clone(b[slotHeader : slotHeader+length])}, nil
}

// writeFile puts a small file in place in one durable step.
func writeFile(fsys vfs.FS, path string, content []byte) error {
	temporary := path + temporarySuffix
	f, err := fsys.Create(temporary)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(content, 0)
	if err == nil {
		err = f.Datasync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := fsys.Rename(temporary, path); err != nil {
		return err
	}
	return fsys.SyncDir(filepath.Dir(path))
}
