package segment

import (
	"context"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"path/filepath"
	"strings"

	"github.com/hashicorp/raft"

	"github.com/leat-dev/leat/raftlog/vfs"
)

// VerifyStable reads the file of an OpenStable. One that is not there is no
// damage.
func VerifyStable(fsys vfs.FS, path string, report func(FileCheck) error) error {
	body, check, err := verifySlots(fsys, path, stableMagic, "votes")
	if errors.Is(err, iofs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if body != nil {
		if _, err := decodeValues(body); err != nil {
			check.Damages = append(check.Damages, Damage{Offset: slotHeader, Reason: err.Error()})
		}
	}
	return report(check)
}

// slotTries is how often a slot file is read that may be being written.
const slotTries = 3

// verifySlots reads both copies of a small value, and returns the newest that
// reads back; nil: none does.
func verifySlots(fsys vfs.FS, path, magic, kind string) (body []byte, check FileCheck, err error) {
	for try := 1; ; try++ {
		body, check, err = readSlots(fsys, path, magic, kind)
		if err != nil || len(check.Damages) == 0 || try == slotTries {
			return body, check, err
		}
	}
}

func readSlots(fsys vfs.FS, path, magic, kind string) (body []byte, check FileCheck, err error) {
	check = FileCheck{Path: path, Kind: kind}
	f, err := fsys.Open(path)
	if err != nil {
		return nil, check, fmt.Errorf("verify %s: %w", path, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	b := make([]byte, 2*slotSize)
	n, err := f.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, check, fmt.Errorf("verify %s: %w", path, err)
	}
	check.Bytes = int64(n)
	var newest uint64
	for i := range 2 {
		s, err := decodeSlot(magic, b[min(i*slotSize, n):min((i+1)*slotSize, n)])
		if err != nil {
			check.Damages = append(check.Damages, Damage{Offset: int64(i) * slotSize, Reason: "this copy " + err.Error()})
			continue
		}
		check.Records++
		if body == nil || s.seq > newest {
			body, newest = s.body, s.seq
		}
	}
	return body, check, nil
}

// VerifySnapshots reads every snapshot of a directory, the contents included.
// One that is pruned meanwhile is not reported.
func VerifySnapshots(ctx context.Context, fsys vfs.FS, dir string, report func(FileCheck) error) error {
	names, err := fsys.ReadDir(dir)
	if errors.Is(err, iofs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("verify %s: %w", dir, err)
	}
	for _, e := range names {
		if !strings.HasSuffix(e.Name(), snapSuffix) {
			continue
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		check, err := verifySnapshot(fsys, dir, e.Name())
		if errors.Is(err, iofs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if err := report(check); err != nil {
			return err
		}
	}
	return nil
}

func verifySnapshot(fsys vfs.FS, dir, name string) (FileCheck, error) {
	path := filepath.Join(dir, name)
	check := FileCheck{Path: path, Kind: "snapshot"}
	info, err := fsys.Stat(path)
	if err != nil {
		return check, fmt.Errorf("verify %s: %w", path, err)
	}
	check.Bytes = info.Size()
	meta, content, err := OpenSnapshot(fsys, path)
	if damaged := (*DamagedError)(nil); errors.As(err, &damaged) {
		check.Damages = []Damage{{Offset: damaged.Offset, Reason: damaged.Reason}}
		return check, nil
	}
	if err != nil {
		return check, fmt.Errorf("verify %s: %w", path, err)
	}
	check.Records, check.Last = 1, meta.Index
	return check, content.Close()
}

// OpenSnapshot opens a snapshot by its file's path; see SnapshotStore.Open.
func OpenSnapshot(fsys vfs.FS, path string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	dir, name := filepath.Split(path)
	return (&SnapshotStore{fs: fsys, dir: dir}).Open(strings.TrimSuffix(name, snapSuffix))
}
