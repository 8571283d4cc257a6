package segment

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	iofs "io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"

	"github.com/leat-dev/leat/raftlog/vfs"
)

// A snapshot file is a header of snapHead bytes (magic, length of the meta
// data, length of the content, checksums of both, checksum of the header), the
// meta data (JSON), then the content.
const (
	snapMagic  = "LEATSNP1"
	snapSuffix = ".snap"
	snapHead   = 8 + 4 + 8 + 4 + 4 + 4
	maxMeta    = 1 << 20
)

// SnapshotStore keeps a ladder of snapshots. The newest is restored at start;
// the oldest is what a member that lags gets.
type SnapshotStore struct {
	fs   vfs.FS
	dir  string
	keep int

	oldestFirst atomic.Bool
	mu          sync.Mutex
	metas       []raft.SnapshotMeta // oldest first
}

var _ raft.SnapshotStore = (*SnapshotStore)(nil)

// OpenSnapshots opens the snapshots of a directory, which is made when absent.
// keep is how many are kept, at least 1. A damaged one is refused with a
// *DamagedError: the log before it may be gone.
func OpenSnapshots(fs vfs.FS, dir string, keep int) (*SnapshotStore, error) {
	s := &SnapshotStore{fs: fs, dir: dir, keep: max(keep, 1)}
	if err := fs.MkdirAll(dir); err != nil {
		return nil, err
	}
	names, err := fs.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	list := func(names []iofs.DirEntry, suffix string) (paths []string) {
		for _, e := range names {
			if strings.HasSuffix(e.Name(), suffix) {
				paths = append(paths, filepath.Join(dir, e.Name()))
			}
		}
		return paths
	}
	for _, path := range list(names, temporarySuffix) {
		if err := fs.Remove(path); err != nil {
			return nil, err
		}
	}
	// Whoever put a snapshot in place may have died before its name was durable,
	// and the log before it may be dropped on its account.
	if err := fs.SyncDir(dir); err != nil {
		return nil, err
	}
	for _, path := range list(names, snapSuffix) {
		_, meta, f, err := openSnapshot(fs, path)
		if err != nil {
			return nil, err
		}
		if err := f.Close(); err != nil {
			return nil, err
		}
		s.metas = append(s.metas, meta)
	}
	slices.SortFunc(s.metas, func(a, b raft.SnapshotMeta) int { return cmp.Compare(a.Index, b.Index) })
	return s, nil
}

type snapHeader struct {
	meta       uint32
	content    uint64
	metaSum    uint32
	contentSum uint32
}

func (h snapHeader) bytes() []byte {
	b := []byte(snapMagic)
	b = binary.LittleEndian.AppendUint32(b, h.meta)
	b = binary.LittleEndian.AppendUint64(b, h.content)
	b = binary.LittleEndian.AppendUint32(b, h.metaSum)
	b = binary.LittleEndian.AppendUint32(b, h.contentSum)
	return binary.LittleEndian.AppendUint32(b, checksum(b))
}

func parseSnapHeader(b []byte) (h snapHeader, err error) {
	switch {
	case len(b) < snapHead:
		return h, fmt.Errorf("the header is cut short at %d bytes", len(b))
	case string(b[:8]) != snapMagic:
		return h, fmt.Errorf("the header does not begin with %q", snapMagic)
	case checksum(b[:snapHead-4]) != binary.LittleEndian.Uint32(b[snapHead-4:]):
		return h, errors.New("the header has a wrong checksum")
	}
	le := binary.LittleEndian
	h = snapHeader{meta: le.Uint32(b[8:]), content: le.Uint64(b[12:]), metaSum: le.Uint32(b[20:]), contentSum: le.Uint32(b[24:])}
	if h.meta > maxMeta {
		return h, fmt.Errorf("the meta data's length %d cannot be", h.meta)
	}
	return h, nil
}

func openSnapshot(fs vfs.FS, path string) (h snapHeader, meta raft.SnapshotMeta, f vfs.File, err error) {
	if f, err = fs.Open(path); err != nil {
		return h, meta, nil, err
	}
	damaged := func(at int64, reason string) error {
		return errors.Join(&DamagedError{File: path, Offset: at, Reason: reason}, f.Close())
	}
	b := make([]byte, snapHead)
	n, err := f.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return h, meta, nil, errors.Join(fmt.Errorf("read %s: %w", path, err), f.Close())
	}
	if h, err = parseSnapHeader(b[:n]); err != nil {
		return h, meta, nil, damaged(0, err.Error())
	}
	m := make([]byte, h.meta)
	if _, err := f.ReadAt(m, snapHead); err != nil || checksum(m) != h.metaSum {
		return h, meta, nil, damaged(snapHead, "the meta data does not read back")
	}
	if err := json.Unmarshal(m, &meta); err != nil {
		return h, meta, nil, damaged(snapHead, "the meta data: "+err.Error())
	}
	meta.Size = int64(h.content)
	if size, err := f.Size(); err != nil || uint64(size) != snapHead+uint64(h.meta)+h.content {
		return h, meta, nil, damaged(size, fmt.Sprintf("the file has %d bytes, not %d", size, snapHead+uint64(h.meta)+h.content))
	}
	return h, meta, f, nil
}

// OldestFirst turns List around: raft restores the first at start, and sends
// the first to a member that lags.
func (s *SnapshotStore) OldestFirst() { s.oldestFirst.Store(true) }

// List implements raft.SnapshotStore.
func (s *SnapshotStore) List() ([]*raft.SnapshotMeta, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]*raft.SnapshotMeta, len(s.metas))
	for i := range s.metas {
		m := s.metas[i]
		out[i] = &m
	}
	if !s.oldestFirst.Load() {
		slices.Reverse(out)
	}
	return out, nil
}

// Oldest and Newest are the indexes of the first and last snapshot kept.
func (s *SnapshotStore) Oldest() (uint64, bool) { return s.index(false) }

// Newest is the index of the last snapshot.
func (s *SnapshotStore) Newest() (uint64, bool) { return s.index(true) }

func (s *SnapshotStore) index(newest bool) (uint64, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.metas) == 0 {
		return 0, false
	}
	if newest {
		return s.metas[len(s.metas)-1].Index, true
	}
	return s.metas[0].Index, true
}

// Open implements raft.SnapshotStore. The content is checked whole before the
// first byte is handed out: a state machine cannot take back what it restored.
func (s *SnapshotStore) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	path := filepath.Join(s.dir, id+snapSuffix)
	h, meta, f, err := openSnapshot(s.fs, path)
	if err != nil {
		return nil, nil, err
	}
	start := int64(snapHead) + int64(h.meta)
	sum := crc32.New(castagnoli)
	if _, err := io.Copy(sum, io.NewSectionReader(f, start, int64(h.content))); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("read %s: %w", path, err), f.Close())
	}
	if sum.Sum32() != h.contentSum {
		return nil, nil, errors.Join(&DamagedError{File: path, Offset: start, Reason: "the content has a wrong checksum"}, f.Close())
	}
	return &meta, &snapshotReader{io.NewSectionReader(f, start, int64(h.content)), f}, nil
}

type snapshotReader struct {
	io.Reader
	io.Closer
}

// Create implements raft.SnapshotStore.
func (s *SnapshotStore) Create(version raft.SnapshotVersion, index, term uint64, configuration raft.Configuration, configurationIndex uint64, _ raft.Transport) (raft.SnapshotSink, error) {
	id := fmt.Sprintf("%020d-%d", index, term)
	path := filepath.Join(s.dir, id+snapSuffix)
	f, err := s.fs.Create(path + temporarySuffix)
	if err != nil {
		return nil, err
	}
	meta := raft.SnapshotMeta{Version: version, ID: id, Index: index, Term: term, Configuration: configuration, ConfigurationIndex: configurationIndex}
	b, err := json.Marshal(meta)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	sink := &sink{store: s, meta: meta, path: path, file: f, sum: crc32.New(castagnoli), at: int64(snapHead + len(b))}
	sink.head = snapHeader{meta: uint32(len(b)), metaSum: checksum(b)}
	if _, err := f.WriteAt(b, snapHead); err != nil {
		return nil, errors.Join(err, sink.Cancel())
	}
	return sink, nil
}

// sink is a snapshot being written.
type sink struct {
	store *SnapshotStore
	meta  raft.SnapshotMeta
	path  string
	file  vfs.File
	head  snapHeader
	sum   hash.Hash32
	at    int64
	done  bool
}

// ID implements raft.SnapshotSink.
func (s *sink) ID() string { return s.meta.ID }

// Write implements io.Writer.
func (s *sink) Write(p []byte) (int, error) {
	n, err := s.file.WriteAt(p, s.at)
	s.at += int64(n)
	s.sum.Write(p[:n])
	s.head.content += uint64(n)
	return n, err
}

// Cancel implements raft.SnapshotSink.
func (s *sink) Cancel() error {
	if s.done {
		return nil
	}
	s.done = true
	return errors.Join(s.file.Close(), s.store.fs.Remove(s.path+temporarySuffix))
}

// Close makes the snapshot durable, then drops those that the ladder does not
// need any more.
func (s *sink) Close() error {
	if s.done {
		return nil
	}
	s.head.contentSum = s.sum.Sum32()
	s.meta.Size = int64(s.head.content)
	if err := s.publish(); err != nil {
		return errors.Join(fmt.Errorf("write snapshot %s: %w", s.path, err), s.Cancel())
	}
	s.done = true
	return s.store.add(s.meta)
}

func (s *sink) publish() error {
	if _, err := s.file.WriteAt(s.head.bytes(), 0); err != nil {
		return err
	}
	if err := s.file.Datasync(); err != nil {
		return err
	}
	if err := s.store.fs.Rename(s.path+temporarySuffix, s.path); err != nil {
		return err
	}
	if err := s.store.fs.SyncDir(s.store.dir); err != nil {
		return err
	}
	return s.file.Close()
}

// add takes in a snapshot and thins the ladder: of three neighbours the one in
// the middle goes whose neighbours are closest, never the oldest or the newest.
func (s *SnapshotStore) add(m raft.SnapshotMeta) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.metas = slices.DeleteFunc(s.metas, func(o raft.SnapshotMeta) bool { return o.ID == m.ID })
	s.metas = append(s.metas, m)
	slices.SortFunc(s.metas, func(a, b raft.SnapshotMeta) int { return cmp.Compare(a.Index, b.Index) })
	for len(s.metas) > s.keep {
		victim := 0
		for i, best := 1, uint64(0); i < len(s.metas)-1; i++ {
			if gap := s.metas[i+1].Index - s.metas[i-1].Index; best == 0 || gap < best {
				victim, best = i, gap
			}
		}
		if err := s.removeLocked(victim); err != nil {
			return err
		}
	}
	return nil
}

// Prune removes the snapshots that the log does not continue any more, given
// its first index. The newest always stays.
func (s *SnapshotStore) Prune(first uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.metas) > 1 && s.metas[0].Index+1 < first {
		if err := s.removeLocked(0); err != nil {
			return err
		}
	}
	return nil
}

func (s *SnapshotStore) removeLocked(i int) error {
	if err := s.fs.Remove(filepath.Join(s.dir, s.metas[i].ID+snapSuffix)); err != nil {
		return err
	}
	s.metas = slices.Delete(s.metas, i, i+1)
	return s.fs.SyncDir(s.dir)
}
