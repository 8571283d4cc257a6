package segment

import (
	"errors"
	"fmt"
	iofs "io/fs"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/leat-dev/leat/raftlog/vfs"
)

// AsideSuffix is what the names of files end with that a repair has replaced.
// Nothing reads them.
const AsideSuffix = ".damaged"

// Aside takes a file out of use, under another name, which it returns.
func Aside(fsys vfs.FS, path string) (string, error) {
	to, err := freeName(fsys, path+AsideSuffix)
	if err != nil {
		return "", err
	}
	if err := fsys.Rename(path, to); err != nil {
		return "", err
	}
	return to, fsys.SyncDir(filepath.Dir(path))
}

// maxAside bounds how often one file is set aside.
const maxAside = 1000

// freeName is a name that no file has yet.
func freeName(fsys vfs.FS, name string) (string, error) {
	for n := range maxAside {
		free := name
		if n > 0 {
			free = fmt.Sprintf("%s.%d", name, n)
		}
		if _, err := fsys.Stat(free); errors.Is(err, iofs.ErrNotExist) {
			return free, nil
		} else if err != nil {
			return "", err
		}
	}
	return "", fmt.Errorf("%s: there are %d such files already: remove those that are of no use", name, maxAside)
}

// numbered lists the segment files of a directory by number.
func numbered(fsys vfs.FS, dir string) (numbers map[uint64]bool, highest uint64, err error) {
	s := &Store{o: Options{FS: fsys, Dir: dir}}
	paths, _, err := s.files()
	numbers = map[uint64]bool{}
	for _, p := range paths {
		if n, err := strconv.ParseUint(strings.TrimSuffix(filepath.Base(p), segmentSuffix), 16, 64); err == nil {
			numbers[n], highest = true, max(highest, n)
		}
	}
	return numbers, highest, err
}

// RebuildState makes the log's state anew from its segments: those that lie
// behind each other up to the last one. The state as it was is set aside. What
// only the state knew is not known any more: up to where all was synced, so that
// a damaged end passes for a torn one.
func RebuildState(fsys vfs.FS, dir string) error {
	numbers, top, err := numbered(fsys, dir)
	if err != nil {
		return err
	}
	if top == 0 {
		return fmt.Errorf("%s holds no segment of which a state could be made", dir)
	}
	next := logState{floor: top, top: top}
	for numbers[next.floor-1] {
		next.floor--
	}
	next.indexed = next.floor - 1
	for n := next.floor; n <= top && hasIndex(fsys, dir, n); n++ {
		next.indexed = n
	}
	next.durable = place{next.floor, headerSize}
	path := filepath.Join(dir, stateFile)
	if _, err := Aside(fsys, path); err != nil && !errors.Is(err, iofs.ErrNotExist) {
		return err
	}
	slots, err := createSlots(fsys, path, stateMagic, next.encode())
	if err != nil {
		return err
	}
	return slots.close()
}

// hasIndex says whether a segment has an index that reads back as its own.
func hasIndex(fsys vfs.FS, dir string, n uint64) bool {
	s := &Store{o: Options{FS: fsys, Dir: dir}}
	g, err := s.openSegment(n)
	if err != nil {
		return false
	}
	defer g.file.Close() // it was read only
	_, err = openIndex(g, readFrom(g.file))
	return err == nil
}

// RebuildStable makes raft's term anew: one that is above all that the log and
// its snapshots have. That is right for a group whose only voter this is: nobody
// else can have been voted for.
func RebuildStable(fsys vfs.FS, path string, term uint64) error {
	if _, err := Aside(fsys, path); err != nil && !errors.Is(err, iofs.ErrNotExist) {
		return err
	}
	s, err := OpenStable(fsys, path)
	if err != nil {
		return err
	}
	return errors.Join(s.SetUint64([]byte("CurrentTerm"), term), s.Close())
}

// CutAt ends a log in front of a byte of a segment, so that nothing from there on
// is the log's any more. The segments are kept beside. A byte within the file's
// header gives up all of the segment, which then need not be there.
func CutAt(fsys vfs.FS, dir string, number uint64, at int64) error {
	path := filepath.Join(dir, stateFile)
	slots, body, err := openSlots(fsys, path, stateMagic)
	if err != nil {
		return err
	}
	err = cutAt(fsys, dir, slots, body, number, at)
	return errors.Join(err, slots.close())
}

func cutAt(fsys vfs.FS, dir string, slots *slotFile, body []byte, number uint64, at int64) error {
	state, err := decodeState(body)
	if err != nil {
		return err
	}
	if number < state.floor || number > state.top {
		return fmt.Errorf("segment %s is none of the log's, which are %s to %s", segmentName(number), segmentName(state.floor), segmentName(state.top))
	}
	if at <= headerSize && number == state.floor {
		return fmt.Errorf("nothing would be left of the log in %s", dir)
	}
	s := &Store{o: Options{FS: fsys, Dir: dir}}
	next := state
	next.clean, next.cut = false, place{}
	next.top = number // it stays, so that there is one that takes appends
	if err := cutFile(fsys, s, number, max(at, headerSize)); err != nil {
		return err
	}
	next.indexed = min(state.indexed, number-1)
	next.durable = place{state.floor, headerSize}
	// From here on the rest is not the log's: whatever happens to it is no loss.
	if err := slots.write(next.encode()); err != nil {
		return err
	}
	for n := state.top; n > next.top; n-- {
		if _, err := Aside(fsys, s.path(segmentName(n))); err != nil && !errors.Is(err, iofs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// cutFile keeps a copy of a segment, and replaces it by one that is empty from a
// byte on; all of it, where it has no header.
func cutFile(fsys vfs.FS, s *Store, number uint64, at int64) error {
	path := s.path(segmentName(number))
	b, err := vfs.ReadFile(fsys, path)
	if err != nil && !errors.Is(err, iofs.ErrNotExist) {
		return err
	}
	if err == nil {
		kept, err := freeName(fsys, path+AsideSuffix)
		if err != nil {
			return err
		}
		if err := writeFile(fsys, kept, b); err != nil {
			return fmt.Errorf("keep what %s was: %w", path, err)
		}
	}
	h, err := parseFileHeader(b[:min(headerBytes, len(b))])
	if err != nil || h.number != number {
		before, err := s.openSegment(number - 1)
		if err != nil {
			return fmt.Errorf("make an empty %s, as large as the one before: %w", path, err)
		}
		h = fileHeader{number: number, generation: newGeneration(), size: before.size &^ (headerSize - 1)}
		if err := before.file.Close(); err != nil {
			return err
		}
		b, at = h.append(nil), headerBytes
	}
	whole := make([]byte, max(int64(len(b)), h.size))
	copy(whole, b[:min(at, int64(len(b)))])
	return writeFile(fsys, path, whole)
}

// Renew makes both copies of a slot file equal again, from the one that is whole.
// The file as it was is kept beside. kind is that of a FileCheck.
func Renew(fsys vfs.FS, path, kind string) error {
	was, err := vfs.ReadFile(fsys, path)
	if err != nil {
		return err
	}
	kept, err := freeName(fsys, path+AsideSuffix)
	if err != nil {
		return err
	}
	if err := writeFile(fsys, kept, was); err != nil {
		return fmt.Errorf("keep what %s was: %w", path, err)
	}
	magic := stateMagic
	if kind == "votes" {
		magic = stableMagic
	}
	slots, _, err := openSlots(fsys, path, magic)
	if err != nil {
		return err
	}
	return slots.close()
}
