package kv

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/fb"
	"github.com/dgraph-io/badger/v4/pb"
	"github.com/dgraph-io/badger/v4/table"
	"github.com/dgraph-io/badger/v4/y"
	"google.golang.org/protobuf/proto"
)

var errDamaged = errors.New("file is damaged")

// fileSums is what a closed database should be, file by file.
type fileSums map[string]fileSum

type fileSum struct {
	Size int64  `json:"size"`
	Sum  uint32 `json:"crc32c"`
}

// sumFiles reads every file of a closed database.
func sumFiles(dir string) (fileSums, error) {
	sums := fileSums{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		sums[name] = fileSum{Size: int64(len(b)), Sum: crc32.Checksum(b, castagnoli)}
		return err
	})
	return sums, err
}

// compare finds what is not as it was when the database was closed.
func (want fileSums) compare(dir string) error {
	got, err := sumFiles(dir)
	if err != nil {
		return err
	}
	for name, w := range want {
		if g, ok := got[name]; !ok || g != w {
			return fmt.Errorf("%s: %w: %d bytes with checksum %x, want %d with %x", filepath.Join(dir, name), errDamaged, g.Size, g.Sum, w.Size, w.Sum)
		}
	}
	return nil
}

// checkTables verifies the tables of a database that was not closed, before
// badger reads them: it panics, in its own goroutines, on some kinds of damage.
func checkTables(dir string, o badger.Options) error {
	f, err := os.Open(filepath.Join(dir, badger.ManifestFilename))
	if err != nil {
		return err
	}
	manifest, _, err := badger.ReplayManifestFile(f, 0, o)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("%s: %w: %w", f.Name(), errDamaged, err)
	}
	for id := range manifest.Tables {
		name := table.NewFilename(id, dir)
		b, err := os.ReadFile(name)
		if err == nil {
			err = checkTable(b)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// checkTable verifies the checksums of a table's index and blocks. A table is
// blocks, the index, its length, the index's checksum and that one's length.
func checkTable(b []byte) (err error) {
	// The index's library trusts its input, and a checksum of 0 over nothing, as
	// in a file of zeros, is no proof.
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: index: %v", errDamaged, p)
		}
	}()
	rest, sum, err := cutChecksum(b)
	if err != nil {
		return err
	}
	rest, n, err := cutNumber(rest)
	if err != nil {
		return err
	}
	if n > len(rest) {
		return fmt.Errorf("%w: an index of %d bytes", errDamaged, n)
	}
	raw := rest[len(rest)-n:]
	if err := y.VerifyChecksum(raw, sum); err != nil {
		return fmt.Errorf("%w: index: %w", errDamaged, err)
	}
	index := fb.GetRootAsTableIndex(raw, 0)
	if index.OffsetsLength() == 0 {
		return fmt.Errorf("%w: it has no blocks", errDamaged)
	}
	for i := range index.OffsetsLength() {
		var at fb.BlockOffset
		if !index.Offsets(&at, i) {
			return fmt.Errorf("%w: block %d is not in the index", errDamaged, i)
		}
		from, to := int(at.Offset()), int(at.Offset())+int(at.Len())
		if to > len(rest) {
			return fmt.Errorf("%w: block %d ends at byte %d", errDamaged, i, to)
		}
		block, sum, err := cutChecksum(rest[from:to])
		if err == nil {
			err = y.VerifyChecksum(block, sum)
		}
		if err != nil {
			return fmt.Errorf("%w: block %d at byte %d: %w", errDamaged, i, from, err)
		}
	}
	return nil
}

// cutChecksum takes a checksum and its length off the end.
func cutChecksum(b []byte) ([]byte, *pb.Checksum, error) {
	b, n, err := cutNumber(b)
	if err != nil {
		return nil, nil, err
	}
	if n > len(b) {
		return nil, nil, fmt.Errorf("%w: a checksum of %d bytes", errDamaged, n)
	}
	sum := &pb.Checksum{}
	if err := proto.Unmarshal(b[len(b)-n:], sum); err != nil {
		return nil, nil, fmt.Errorf("%w: checksum: %w", errDamaged, err)
	}
	if sum.Algo != pb.Checksum_CRC32C && sum.Algo != pb.Checksum_XXHash64 {
		return nil, nil, fmt.Errorf("%w: checksum of kind %d", errDamaged, sum.Algo)
	}
	return b[:len(b)-n], sum, nil
}

func cutNumber(b []byte) ([]byte, int, error) {
	if len(b) < 4 {
		return nil, 0, fmt.Errorf("%w: it is too short", errDamaged)
	}
	return b[:len(b)-4], int(binary.BigEndian.Uint32(b[len(b)-4:])), nil
}
