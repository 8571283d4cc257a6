package segment

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"sync"

	"github.com/hashicorp/raft"

	"github.com/leat-dev/leat/raftlog/vfs"
)

// The stable file has two slots. A change is written into the one that does not
// hold the newest state, then synced: a crash leaves the old state or the new.
const (
	stableMagic = "LEATSTB1"
	slotSize    = 4096
	slotHeader  = 8 + 8 + 4 + 4 // magic, sequence, length, checksum
)

// ErrKeyNotFound has the text that raft looks for.
var errKeyNotFound = errors.New("not found")

// StableStore keeps raft's term and vote.
type StableStore struct {
	mu     sync.Mutex
	file   vfs.File
	path   string
	seq    uint64
	values map[string][]byte
	failed error
}

var _ raft.StableStore = (*StableStore)(nil)

// OpenStable opens the file, or makes it. A file in which no slot reads back is
// refused with a *DamagedError: a forgotten vote could elect two leaders.
func OpenStable(fsys vfs.FS, path string) (*StableStore, error) {
	s := &StableStore{path: path, values: map[string][]byte{}}
	f, err := fsys.OpenReadWrite(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, s.create(fsys)
	}
	if err != nil {
		return nil, err
	}
	s.file = f
	if err := s.read(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return s, nil
}

func (s *StableStore) create(fsys vfs.FS) error {
	slot, err := encodeSlot(0, s.values)
	if err != nil {
		return err
	}
	content := append(slot, make([]byte, slotSize)...)
	if err := writeFile(fsys, s.path, content); err != nil {
		return fmt.Errorf("make %s in %s: %w", s.path, filepath.Dir(s.path), err)
	}
	s.file, err = fsys.OpenReadWrite(s.path)
	return err
}

func (s *StableStore) read() error {
	b := make([]byte, 2*slotSize)
	n, err := s.file.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read %s: %w", s.path, err)
	}
	b = b[:n]
	var reasons []error
	found := false
	for i := range 2 {
		slot := b[min(i*slotSize, len(b)):min((i+1)*slotSize, len(b))]
		seq, values, err := decodeSlot(slot)
		if err != nil {
			reasons = append(reasons, fmt.Errorf("slot %d: %w", i, err))
			continue
		}
		if !found || seq > s.seq {
			s.seq, s.values, found = seq, values, true
		}
	}
	if !found {
		return &DamagedError{File: s.path, Reason: "term and vote cannot be read: " + errors.Join(reasons...).Error()}
	}
	return nil
}

func encodeSlot(seq uint64, values map[string][]byte) ([]byte, error) {
	var body []byte
	for _, k := range slices.Sorted(maps.Keys(values)) {
		body = binary.AppendUvarint(body, uint64(len(k)))
		body = append(body, k...)
		body = binary.AppendUvarint(body, uint64(len(values[k])))
		body = append(body, values[k]...)
	}
	if len(body) > slotSize-slotHeader {
		return nil, fmt.Errorf("%d bytes do not fit into a slot of %d", len(body), slotSize)
	}
	b := make([]byte, slotSize)
	copy(b, stableMagic)
	binary.LittleEndian.PutUint64(b[8:], seq)
	binary.LittleEndian.PutUint32(b[16:], uint32(len(body)))
	copy(b[slotHeader:], body)
	binary.LittleEndian.PutUint32(b[20:], slotSum(b, len(body)))
	return b, nil
}

func slotSum(b []byte, length int) uint32 {
	return checksum(slices.Concat(b[:20], b[slotHeader:slotHeader+length]))
}

func decodeSlot(b []byte) (seq uint64, values map[string][]byte, err error) {
	if len(b) < slotHeader || string(b[:8]) != stableMagic {
		return 0, nil, errors.New("it is empty or cut short")
	}
	length := int(binary.LittleEndian.Uint32(b[16:]))
	if length > len(b)-slotHeader {
		return 0, nil, fmt.Errorf("its length %d cannot be", length)
	}
	if slotSum(b, length) != binary.LittleEndian.Uint32(b[20:]) {
		return 0, nil, errors.New("it has a wrong checksum")
	}
	values = map[string][]byte{}
	for r := bytes.NewReader(b[slotHeader : slotHeader+length]); r.Len() > 0; {
		k, err := readString(r)
		if err != nil {
			return 0, nil, err
		}
		if values[string(k)], err = readString(r); err != nil {
			return 0, nil, err
		}
	}
	return binary.LittleEndian.Uint64(b[8:]), values, nil
}

func readString(r *bytes.Reader) ([]byte, error) {
	n, err := binary.ReadUvarint(r)
	if err != nil {
		return nil, err
	}
	if n > uint64(r.Len()) {
		return nil, io.ErrUnexpectedEOF
	}
	b := make([]byte, n)
	_, err = io.ReadFull(r, b)
	return b, err
}

// Set implements raft.StableStore. After a failed write every later one fails.
func (s *StableStore) Set(key, value []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed != nil {
		return s.failed
	}
	values := maps.Clone(s.values)
	values[string(key)] = bytes.Clone(value)
	slot, err := encodeSlot(s.seq+1, values)
	if err != nil {
		return fmt.Errorf("keep %q in %s: %w", key, s.path, err)
	}
	if _, err = s.file.WriteAt(slot, int64((s.seq+1)%2)*slotSize); err == nil {
		err = s.file.Datasync()
	}
	if err != nil {
		s.failed = fmt.Errorf("%s failed before and takes no more writes: %w", s.path, err)
		return fmt.Errorf("keep %q in %s: %w", key, s.path, err)
	}
	s.seq, s.values = s.seq+1, values
	return nil
}

// Get implements raft.StableStore.
func (s *StableStore) Get(key []byte) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.values[string(key)]
	if !ok {
		return nil, errKeyNotFound
	}
	return bytes.Clone(v), nil
}

// SetUint64 implements raft.StableStore.
func (s *StableStore) SetUint64(key []byte, v uint64) error {
	return s.Set(key, binary.LittleEndian.AppendUint64(nil, v))
}

// GetUint64 implements raft.StableStore.
func (s *StableStore) GetUint64(key []byte) (uint64, error) {
	b, err := s.Get(key)
	if err != nil {
		return 0, err
	}
	if len(b) != 8 {
		return 0, fmt.Errorf("%s: %q holds %d bytes, not a number", s.path, key, len(b))
	}
	return binary.LittleEndian.Uint64(b), nil
}

// Close closes the file.
func (s *StableStore) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed == nil {
		s.failed = fmt.Errorf("%s is closed", s.path)
	}
	return s.file.Close()
}
