package kv

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// commandVersion is the first byte of every command. DESIGN.md has the format.
const commandVersion = 1

type op uint8

const (
	opPut     op = 1
	opDelete  op = 2
	opCompact op = 3
	opExpire  op = 4
)

// command is a decoded command. Its slices alias what it was decoded from.
type command struct {
	op       op
	key      []byte
	value    []byte
	expected uint64
	ttl      time.Duration // whole milliseconds; 0: none
	rev      uint64        // opCompact
	limit    uint64        // opExpire
}

// maxTTL keeps an expiry within the log's clock.
const maxTTL = 100 * 365 * 24 * time.Hour

var errCommand = errors.New("command is not in a known format; was it written by a newer version?")

func (c *command) encode() []byte {
	b := make([]byte, 0, 2+4*binary.MaxVarintLen64+len(c.key)+len(c.value))
	b = append(b, commandVersion, byte(c.op))
	switch c.op {
	case opPut:
		b = binary.AppendUvarint(b, c.expected)
		b = binary.AppendUvarint(b, uint64(c.ttl.Milliseconds()))
		b = binary.AppendUvarint(b, uint64(len(c.key)))
		b = append(b, c.key...)
		b = append(b, c.value...)
	case opDelete:
		b = binary.AppendUvarint(b, c.expected)
		b = append(b, c.key...)
	case opCompact:
		b = binary.AppendUvarint(b, c.rev)
	case opExpire:
		b = binary.AppendUvarint(b, c.limit)
	}
	return b
}

func decodeCommand(b []byte) (command, error) {
	if len(b) < 2 || b[0] != commandVersion {
		return command{}, errCommand
	}
	c := command{op: op(b[1])}
	d := fields{b: b[2:]}
	switch c.op {
	case opPut:
		c.expected = d.uvarint()
		ms := d.uvarint()
		if ms > uint64(maxTTL.Milliseconds()) {
			return command{}, fmt.Errorf("%w: time to live of %d ms", errCommand, ms)
		}
		c.ttl = time.Duration(ms) * time.Millisecond
		c.key = d.bytes(d.uvarint())
		c.value = d.rest()
	case opDelete:
		c.expected = d.uvarint()
		c.key = d.rest()
	case opCompact:
		c.rev = d.uvarint()
	case opExpire:
		c.limit = d.uvarint()
	default:
		return command{}, fmt.Errorf("%w: operation %d", errCommand, c.op)
	}
	if d.bad || len(d.b) > 0 {
		return command{}, fmt.Errorf("%w: operation %d has too few or too many bytes", errCommand, c.op)
	}
	if (c.op == opPut || c.op == opDelete) && len(c.key) == 0 {
		return command{}, fmt.Errorf("%w: operation %d has no key", errCommand, c.op)
	}
	return c, nil
}

// fields takes a record apart, until the first fault, which it keeps.
type fields struct {
	b   []byte
	bad bool
}

func (f *fields) uvarint() uint64 {
	v, n := binary.Uvarint(f.b)
	if n <= 0 {
		f.bad, f.b = true, nil
		return 0
	}
	f.b = f.b[n:]
	return v
}

func (f *fields) byte() byte {
	b := f.bytes(1)
	if b == nil {
		return 0
	}
	return b[0]
}

func (f *fields) uint32() uint32 {
	b := f.bytes(4)
	if b == nil {
		return 0
	}
	return binary.LittleEndian.Uint32(b)
}

func (f *fields) bytes(n uint64) []byte {
	if n > uint64(len(f.b)) {
		f.bad, f.b = true, nil
		return nil
	}
	v := f.b[:n:n]
	f.b = f.b[n:]
	return v
}

func (f *fields) rest() []byte {
	v := f.b
	f.b = nil
	return v
}
