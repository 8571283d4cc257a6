package segment

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/hashicorp/raft"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// checksumMore continues a checksum.
func checksumMore(sum uint32, b []byte) uint32 { return crc32.Update(sum, castagnoli, b) }

// A segment file begins with a header of headerSize bytes; records follow, each
// at a multiple of align. All numbers are little endian.
const (
	fileMagic   = "LEATSEG1"
	headerSize  = 4096
	align       = 8
	recordSize  = 64 // a record's header
	maxPayload  = 1 << 30
	headerBytes = 8 + 4 + 4 + 8 + 8 + 8 + 4 + 4 // what of the file's header is used
)

// fileHeader opens a segment. It is synced before the file belongs to the log.
type fileHeader struct {
	number     uint64 // place in the log
	generation uint64 // random, another one in each life of the file
	size       int64  // of the file when it was made
}

func (h fileHeader) append(b []byte) []byte {
	start := len(b)
	b = append(b, fileMagic...)
	b = binary.LittleEndian.AppendUint32(b, 1) // version
	b = binary.LittleEndian.AppendUint32(b, 0)
	b = binary.LittleEndian.AppendUint64(b, h.number)
	b = binary.LittleEndian.AppendUint64(b, h.generation)
	b = binary.LittleEndian.AppendUint64(b, uint64(h.size))
	b = binary.LittleEndian.AppendUint32(b, 0)
	return binary.LittleEndian.AppendUint32(b, checksum(b[start:]))
}

func parseFileHeader(b []byte) (fileHeader, error) {
	if len(b) < headerBytes {
		return fileHeader{}, fmt.Errorf("the file's header is cut short at %d bytes", len(b))
	}
	b = b[:headerBytes]
	if string(b[:8]) != fileMagic {
		return fileHeader{}, fmt.Errorf("the file's header does not begin with %q", fileMagic)
	}
	if got, want := checksum(b[:headerBytes-4]), binary.LittleEndian.Uint32(b[headerBytes-4:]); got != want {
		return fileHeader{}, fmt.Errorf("the file's header has checksum %08x, not %08x", got, want)
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v != 1 {
		return fileHeader{}, fmt.Errorf("segment version %d is not known here; was it written by a newer version?", v)
	}
	h := fileHeader{
		number:     binary.LittleEndian.Uint64(b[16:]),
		generation: binary.LittleEndian.Uint64(b[24:]),
		size:       int64(binary.LittleEndian.Uint64(b[32:])),
	}
	if h.size < headerSize {
		return h, fmt.Errorf("the file's header gives a size of %d", h.size)
	}
	return h, nil
}

// recordHeader precedes a payload: the log's data, then its extensions.
type recordHeader struct {
	sum        uint32 // of the header's other bytes; the next record chains to it
	chain      uint32 // sum of the record before
	generation uint64
	index      uint64
	term       uint64
	appendedAt int64 // nanoseconds since the Unix epoch; 0: not set
	payloadSum uint32
	length     uint32 // data and extensions
	extensions uint32
	batch      uint32 // records before this one in the same write
	kind       raft.LogType
}

func (h *recordHeader) put(b []byte) {
	_ = b[recordSize-1]
	le := binary.LittleEndian
	le.PutUint32(b[4:], h.chain)
	le.PutUint64(b[8:], h.generation)
	le.PutUint64(b[16:], h.index)
	le.PutUint64(b[24:], h.term)
	le.PutUint64(b[32:], uint64(h.appendedAt))
	le.PutUint32(b[40:], h.payloadSum)
	le.PutUint32(b[44:], h.length)
	le.PutUint32(b[48:], h.extensions)
	le.PutUint32(b[52:], h.batch)
	le.PutUint64(b[56:], uint64(h.kind))
	h.sum = checksum(b[4:recordSize])
	le.PutUint32(b, h.sum)
}

func parseRecordHeader(b []byte) (recordHeader, error) {
	if len(b) < recordSize {
		return recordHeader{}, fmt.Errorf("the record's header is cut short at %d bytes", len(b))
	}
	b = b[:recordSize]
	le := binary.LittleEndian
	h := recordHeader{
		sum: le.Uint32(b), chain: le.Uint32(b[4:]), generation: le.Uint64(b[8:]), index: le.Uint64(b[16:]),
		term: le.Uint64(b[24:]), appendedAt: int64(le.Uint64(b[32:])), payloadSum: le.Uint32(b[40:]),
		length: le.Uint32(b[44:]), extensions: le.Uint32(b[48:]), batch: le.Uint32(b[52:]), kind: raft.LogType(b[56]),
	}
	if got := checksum(b[4:]); got != h.sum {
		return h, fmt.Errorf("the record's header has checksum %08x, not %08x", got, h.sum)
	}
	if h.length > maxPayload || h.extensions > h.length {
		return h, fmt.Errorf("the record's lengths (%d, %d) cannot be", h.length, h.extensions)
	}
	return h, nil
}

// size is the room a record takes.
func (h *recordHeader) size() int64 { return recordBytes(int(h.length)) }

func recordBytes(payload int) int64 {
	return (recordSize + int64(payload) + align - 1) &^ (align - 1)
}

func (h *recordHeader) checkPayload(p []byte) error {
	if got := checksum(p); got != h.payloadSum {
		return fmt.Errorf("the record's content has checksum %08x, not %08x", got, h.payloadSum)
	}
	return nil
}

// fill makes a raft log of a record. The log keeps payload.
func (h *recordHeader) fill(l *raft.Log, payload []byte) {
	*l = raft.Log{Index: h.index, Term: h.term, Type: h.kind}
	cut := len(payload) - int(h.extensions)
	l.Data = payload[:cut:cut]
	if h.extensions > 0 {
		l.Extensions = payload[cut:]
	}
	if h.appendedAt != 0 {
		l.AppendedAt = time.Unix(0, h.appendedAt)
	}
}

// appendRecord encodes a log behind b, chained to the record before, as the one
// that follows batch others of the same write. Parts of its data may be summed already. It returns the checksum that the
// next one chains to.
func appendRecord(b []byte, l *raft.Log, parts []Sum, generation uint64, chain uint32, batch int) ([]byte, uint32) {
	b, sum := appendHeader(b, l, parts, generation, chain, batch)
	b = append(b, l.Data...)
	return appendEnd(b, l), sum
}

// appendHeader encodes what of a record stands before its log's data, of which parts
// may be summed already, and appendEnd what stands behind that.
func appendHeader(b []byte, l *raft.Log, parts []Sum, generation uint64, chain uint32, batch int) ([]byte, uint32) {
	start := len(b)
	var header [recordSize]byte
	b = append(b, header[:]...)
	h := recordHeader{
		chain: chain, generation: generation, index: l.Index, term: l.Term, kind: l.Type, batch: uint32(batch),
		length: uint32(len(l.Data) + len(l.Extensions)), extensions: uint32(len(l.Extensions)),
		payloadSum: checksumMore(checksumOf(l.Data, parts), l.Extensions),
	}
	if !l.AppendedAt.IsZero() {
		h.appendedAt = l.AppendedAt.UnixNano()
	}
	h.put(b[start:])
	return b, h.sum
}

func appendEnd(b []byte, l *raft.Log) []byte {
	return append(append(b, l.Extensions...), noughts[:paddingOf(l)]...)
}

// paddingOf is how much stands between a log's record and the next.
func paddingOf(l *raft.Log) int {
	return int(bytesOf(l)) - recordSize - len(l.Data) - len(l.Extensions)
}

// plausible is a quick test of whether a header may begin here.
func plausible(b []byte, generation uint64) bool {
	return binary.LittleEndian.Uint64(b[8:]) == generation
}
