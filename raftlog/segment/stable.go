package segment

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"sync"

	"github.com/hashicorp/raft"

	"github.com/leat-dev/leat/raftlog/vfs"
)

const stableMagic = "LEATSTB1"

// errKeyNotFound has the text that raft looks for.
var errKeyNotFound = errors.New("not found")

// StableStore keeps raft's term and vote in a slot file. It is safe for
// concurrent use. After a failed write every later one fails.
type StableStore struct {
	mu     sync.Mutex
	slots  *slotFile
	values map[string][]byte

	created bool
}

var _ raft.StableStore = (*StableStore)(nil)

// OpenStable opens the file, or makes it. A file of which no copy reads back is
// refused with a *DamagedError: a forgotten vote could elect two leaders.
func OpenStable(fsys vfs.FS, path string) (*StableStore, error) {
	s := &StableStore{values: map[string][]byte{}}
	slots, body, err := openSlots(fsys, path, stableMagic)
	if errors.Is(err, fs.ErrNotExist) {
		s.created = true
		slots, err = createSlots(fsys, path, stableMagic, encodeValues(s.values))
	}
	if err != nil {
		return nil, err
	}
	s.slots = slots
	if body != nil {
		if s.values, err = decodeValues(body); err != nil {
			return nil, errors.Join(&DamagedError{File: path, Offset: slotHeader, Reason: err.Error()}, slots.close())
		}
	}
	return s, nil
}

// Created tells whether OpenStable found no file and made one.
func (s *StableStore) Created() bool { return s.created }

func encodeValues(values map[string][]byte) []byte {
	var b []byte
	for _, k := range slices.Sorted(maps.Keys(values)) {
		b = binary.AppendUvarint(b, uint64(len(k)))
		b = append(b, k...)
		b = binary.AppendUvarint(b, uint64(len(values[k])))
		b = append(b, values[k]...)
	}
	return b
}

func decodeValues(b []byte) (map[string][]byte, error) {
	values := map[string][]byte{}
	for len(b) > 0 {
		k, rest, err := cutString(b)
		if err != nil {
			return nil, err
		}
		v, rest, err := cutString(rest)
		if err != nil {
			return nil, err
		}
		values[string(k)], b = bytes.Clone(v), rest
	}
	return values, nil
}

func cutString(b []byte) (s, rest []byte, err error) {
	n, size := binary.Uvarint(b)
	if size <= 0 || n > uint64(len(b)-size) {
		return nil, nil, errors.New("a key or value runs past the end")
	}
	return b[size : size+int(n)], b[size+int(n):], nil
}

// Set implements raft.StableStore.
func (s *StableStore) Set(key, value []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	values := maps.Clone(s.values)
	values[string(key)] = bytes.Clone(value)
	if err := s.slots.write(encodeValues(values)); err != nil {
		return fmt.Errorf("keep %q: %w", key, err)
	}
	s.values = values
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
		return 0, fmt.Errorf("%s: %q holds %d bytes, not a number", s.slots.path, key, len(b))
	}
	return binary.LittleEndian.Uint64(b), nil
}

// Close closes the file.
func (s *StableStore) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.slots.failed == nil {
		s.slots.failed = fmt.Errorf("%s is closed", s.slots.path)
	}
	return s.slots.close()
}
