package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"math/bits"

	"github.com/leat-dev/leat/raftlog/vfs"
)

// Bit is one flipped bit: the only one whose change makes the sum over a piece
// of a file right again.
type Bit struct {
	Path string
	At   int64 // the byte, from the file's begin
	Bit  uint8 // 0 is the lowest
	// from and size are the piece that the sum is over, with the sum where that
	// stands in it.
	from, size int64
}

// flippedBit finds the bit of b whose change gives b a checksum; on finds it in
// the checksum itself, behind b's last byte, where that is stored.
func flippedBit(b []byte, sum uint32) (at int, bit uint8, inSum, ok bool) {
	syndrome := checksum(b) ^ sum
	if bits.OnesCount32(syndrome) == 1 {
		n := bits.TrailingZeros32(syndrome)
		return n / 8, uint8(n % 8), true, true
	}
	// What a change of each bit of a byte does to the sum, from the last byte on:
	// each byte more behind it takes the effect through one step of the sum.
	var effects [8]uint32
	for i := range effects {
		effects[i] = castagnoli[1<<i]
	}
	for i := len(b) - 1; i >= 0; i-- {
		for n, e := range effects {
			if e == syndrome {
				return i, uint8(n), false, true
			}
			effects[n] = e>>8 ^ castagnoli[byte(e)]
		}
	}
	return 0, 0, false, false
}

// FlippedBit says which bit of a damaged piece has flipped, if one bit is all
// that is wrong with it. It reads only.
func FlippedBit(fsys vfs.FS, c FileCheck, d Damage) (bit Bit, ok bool, err error) {
	f, err := fsys.Open(c.Path)
	if errors.Is(err, iofs.ErrNotExist) {
		return bit, false, nil
	}
	if err != nil {
		return bit, false, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	size, err := f.Size()
	if err != nil {
		return bit, false, err
	}
	h := healer{path: c.Path, file: f, size: size}
	switch c.Kind {
	case "segment":
		return h.segment(d)
	case "snapshot":
		return h.snapshot(d)
	}
	return bit, false, nil // slots are there twice
}

type healer struct {
	path string
	file vfs.File
	size int64
}

// read gives a piece of the file; nil: the file ends before.
func (h healer) read(at, n int64) ([]byte, error) {
	if at < 0 || n < 0 || at+n > h.size {
		return nil, nil
	}
	b := make([]byte, n)
	if _, err := h.file.ReadAt(b, at); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read %s at byte %d: %w", h.path, at, err)
	}
	return b, nil
}

// piece looks for a flipped bit in n bytes at a place, or in their sum at sumAt.
func (h healer) piece(at, n, sumAt int64, sum uint32) (Bit, bool, error) {
	b, err := h.read(at, n)
	if b == nil || err != nil {
		return Bit{}, false, err
	}
	i, n8, inSum, ok := flippedBit(b, sum)
	bit := Bit{Path: h.path, At: at + int64(i), Bit: n8, from: at, size: n}
	if inSum {
		bit.At, bit.from, bit.size = sumAt+int64(i), sumAt, 4
	}
	return bit, ok, nil
}

func (h healer) segment(d Damage) (Bit, bool, error) {
	le := binary.LittleEndian
	if d.Offset < headerSize {
		b, err := h.read(0, headerBytes)
		if b == nil || err != nil {
			return Bit{}, false, err
		}
		return h.piece(0, headerBytes-4, headerBytes-4, le.Uint32(b[headerBytes-4:]))
	}
	footerAt := h.size - footerSize
	if d.Offset == footerAt {
		b, err := h.read(footerAt, footerBytes)
		if b == nil || err != nil {
			return Bit{}, false, err
		}
		return h.piece(footerAt, footerBytes-4, footerAt+footerBytes-4, le.Uint32(b[footerBytes-4:]))
	}
	if b, err := h.read(footerAt, footerSize); err != nil {
		return Bit{}, false, err
	} else if foot, err := parseFooter(b); err == nil && d.Offset >= foot.body {
		block, err := h.read(d.Offset, blockSize)
		if block == nil || err != nil {
			return Bit{}, false, err
		}
		return h.piece(d.Offset, blockData, d.Offset+blockData, le.Uint32(block[blockData:]))
	}
	return h.record(d.Offset)
}

// record: the sum of the content stands in the header, which has its own.
func (h healer) record(at int64) (Bit, bool, error) {
	b, err := h.read(at, recordSize)
	if b == nil || err != nil {
		return Bit{}, false, err
	}
	head, err := parseRecordHeader(b)
	if err != nil {
		return h.piece(at+4, recordSize-4, at, binary.LittleEndian.Uint32(b))
	}
	bit, ok, err := h.piece(at+recordSize, int64(head.length), at+40, head.payloadSum)
	return bit, ok && bit.At >= at+recordSize, err // the header is right as it is
}

func (h healer) snapshot(d Damage) (Bit, bool, error) {
	b, err := h.read(0, snapHead)
	if b == nil || err != nil {
		return Bit{}, false, err
	}
	head, err := parseSnapHeader(b)
	if err != nil {
		return h.piece(0, snapHead-4, snapHead-4, binary.LittleEndian.Uint32(b[snapHead-4:]))
	}
	at, n, sum := int64(snapHead), int64(head.meta), head.metaSum
	if d.Offset != snapHead {
		at, n, sum = at+n, int64(head.content), head.contentSum
	}
	bit, ok, err := h.piece(at, n, 0, sum)
	return bit, ok && bit.At >= snapHead, err
}

// Heal turns the bit back, in place. The piece as it was is kept in a file
// beside, whose name is returned.
func (b Bit) Heal(fsys vfs.FS) (kept string, err error) {
	f, err := fsys.OpenReadWrite(b.Path)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	was := make([]byte, b.size)
	if _, err := f.ReadAt(was, b.from); err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read %s at byte %d: %w", b.Path, b.from, err)
	}
	if kept, err = freeName(fsys, fmt.Sprintf("%s.from-byte-%d%s", b.Path, b.from, AsideSuffix)); err != nil {
		return "", err
	}
	if err := writeFile(fsys, kept, was); err != nil {
		return "", fmt.Errorf("keep what %s was: %w", b.Path, err)
	}
	if _, err := f.WriteAt([]byte{was[b.At-b.from] ^ 1<<b.Bit}, b.At); err != nil {
		return kept, fmt.Errorf("write %s at byte %d: %w", b.Path, b.At, err)
	}
	return kept, f.Datasync()
}
