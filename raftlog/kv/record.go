package kv

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/bits"
)

// Keys in the database begin with a byte that says what they are.
const (
	prefixData   = 'd' // key: what it holds
	prefixEvent  = 'e' // slot: which key a revision wrote
	prefixMeta   = 'm' // the state's own record
	prefixExpiry = 'x' // expiry, key: an index of what will expire
)

// eventSlots is how many keys the history is spread over. The event of a
// revision is the version of that number of its slot's key, so that later
// events replace compacted ones with nothing to delete.
const eventSlots = 1024

// recordVersion is the first byte of every value in the database.
const recordVersion = 1

var errRecord = errors.New("record is not in a known format")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func dataKey(key string) []byte {
	return append([]byte{prefixData}, key...)
}

func eventKey(rev uint64) []byte {
	return binary.BigEndian.AppendUint16([]byte{prefixEvent}, uint16(rev%eventSlots))
}

func metaKey() []byte { return []byte{prefixMeta} }

func expiryKey(expiry int64, key string) []byte {
	b := binary.BigEndian.AppendUint64([]byte{prefixExpiry}, uint64(expiry))
	return append(b, key...)
}

func parseExpiryKey(b []byte) (expiry int64, key string, ok bool) {
	if len(b) < 10 || b[0] != prefixExpiry {
		return 0, "", false
	}
	return int64(binary.BigEndian.Uint64(b[1:])), string(b[9:]), true
}

func encodeData(value []byte, expiry int64) []byte {
	b := make([]byte, 5, 5+binary.MaxVarintLen64+len(value))
	b[0] = recordVersion
	b = binary.AppendUvarint(b, uint64(expiry))
	b = append(b, value...)
	binary.LittleEndian.PutUint32(b[1:], crc32.Checksum(b[5:], castagnoli))
	return b
}

// decodeData returns a value that aliases b.
func decodeData(b []byte) (value []byte, expiry int64, err error) {
	d := fields{b: b}
	version, sum := d.byte(), d.uint32()
	if d.bad || version != recordVersion {
		return nil, 0, fmt.Errorf("data %w", errRecord)
	}
	if crc32.Checksum(d.b, castagnoli) != sum {
		return nil, 0, fmt.Errorf("data %w: its checksum does not match", errRecord)
	}
	expiry = int64(d.uvarint())
	if d.bad {
		return nil, 0, fmt.Errorf("data %w", errRecord)
	}
	return d.rest(), expiry, nil
}

// eventRecord says which key a revision wrote; the values are the key's own
// versions at rev and prevRev.
type eventRecord struct {
	time    int64
	prevRev uint64
	deleted bool
	sum     uint32 // of the value, so that a version that is missing is noticed
	key     string
}

func (r eventRecord) encode() []byte {
	b := make([]byte, 0, 2+2*binary.MaxVarintLen64+4+len(r.key))
	b = append(b, recordVersion, 0)
	if r.deleted {
		b[1] = 1
	}
	b = binary.AppendUvarint(b, uint64(r.time))
	b = binary.AppendUvarint(b, r.prevRev)
	b = binary.LittleEndian.AppendUint32(b, r.sum)
	return append(b, r.key...)
}

func decodeEvent(b []byte) (eventRecord, error) {
	d := fields{b: b}
	if d.byte() != recordVersion {
		return eventRecord{}, fmt.Errorf("event %w", errRecord)
	}
	flags := d.byte()
	r := eventRecord{deleted: flags&1 != 0, time: int64(d.uvarint()), prevRev: d.uvarint(), sum: d.uint32()}
	r.key = string(d.rest())
	if d.bad || flags > 1 || r.key == "" {
		return eventRecord{}, fmt.Errorf("event %w", errRecord)
	}
	return r, nil
}

// meta is the state's own record: how far it has come, and what it should be.
type meta struct {
	applied uint64 // index of the last entry applied
	term    uint64 // and its term
	rev     uint64
	floor   uint64 // the oldest revision that can be read
	time    int64  // log time of the last entry applied
	count   uint64 // live keys
	hash    uint64 // of the live keys and values; see keyHash
}

func (m meta) encode() []byte {
	b := []byte{recordVersion}
	for _, v := range []uint64{m.applied, m.term, m.rev, m.floor, uint64(m.time), m.count, m.hash} {
		b = binary.AppendUvarint(b, v)
	}
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func decodeMeta(b []byte) (meta, error) {
	if len(b) < 5 || crc32.Checksum(b[:len(b)-4], castagnoli) != binary.LittleEndian.Uint32(b[len(b)-4:]) {
		return meta{}, fmt.Errorf("state %w: its checksum does not match", errRecord)
	}
	d := fields{b: b[:len(b)-4]}
	if v := d.byte(); v != recordVersion {
		return meta{}, fmt.Errorf("state %w: version %d", errRecord, v)
	}
	m := meta{applied: d.uvarint(), term: d.uvarint(), rev: d.uvarint(), floor: d.uvarint(), time: int64(d.uvarint()), count: d.uvarint(), hash: d.uvarint()}
	if d.bad || len(d.b) > 0 {
		return meta{}, fmt.Errorf("state %w", errRecord)
	}
	return m, nil
}

// keyHash is one live key's share of the state's hash, which is the sum of all
// shares: it can be kept up to date write by write and does not depend on order.
func keyHash(key string, value []byte, rev uint64) uint64 {
	sum := crc32.Update(crc32.Checksum([]byte(key), castagnoli), castagnoli, value)
	x := uint64(sum)<<32 ^ uint64(len(value)) ^ bits.RotateLeft64(rev, 17)
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
