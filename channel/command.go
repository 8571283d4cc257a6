package channel

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/leat-dev/leat/api/event"
)

// The first byte of a command is its kind, and the version of its format: a
// changed format gets a number of its own. DESIGN.md has the layouts.
const (
	kindEnsure byte = 1 + iota
	kindDrop
	kindAppend
	kindTerms
	kindCommit
	kindFloor
	kindProduce // producers.go
	kindPass    // pass.go
)

// The kinds of rows in the log's index; the key is the id of a partition or of
// a dead letter log. They are part of the log's format.
const (
	rowEvents      uint8 = 1
	rowOutcomes    uint8 = 2
	rowDeadLetters uint8 = 3
	rowSkipped     uint8 = 4 // by partition: appends of producers that apply dropped
)

// toEnd stands for the end of the log, as the beginning of a term that apply
// decides, and for the end of an open term.
const toEnd = math.MaxUint64

// interval says where a partition lives from an offset on.
type interval struct {
	from  uint64
	shard uint32
}

// ensureCommand makes a channel, or brings its configuration up to date, and
// makes those of the partitions that are not there. Result: *raftChannel.
type ensureCommand struct {
	id         ID
	config     Config
	partitions []newPartition
}

type newPartition struct {
	number uint32
	homes  []interval
}

func (c *ensureCommand) encode() []byte {
	b := appendConfig(appendID([]byte{kindEnsure}, c.id), c.config)
	b = binary.AppendUvarint(b, uint64(len(c.partitions)))
	for _, p := range c.partitions {
		b = binary.AppendUvarint(b, uint64(p.number))
		b = appendHomes(b, p.homes)
	}
	return b
}

func decodeEnsure(b []byte) (c ensureCommand, err error) {
	d := decoder{b: b}
	c.id, c.config = d.id(), d.config()
	n := d.count()
	for range n {
		c.partitions = append(c.partitions, newPartition{number: d.uint32(), homes: d.homes()})
	}
	return c, d.done()
}

func appendHomes(b []byte, homes []interval) []byte {
	b = binary.AppendUvarint(b, uint64(len(homes)))
	for _, h := range homes {
		b = binary.AppendUvarint(b, h.from)
		b = binary.AppendUvarint(b, uint64(h.shard))
	}
	return b
}

func (d *decoder) homes() []interval {
	var homes []interval
	for n := d.count(); n > 0 && d.err == nil; n-- {
		homes = append(homes, interval{from: d.uvarint(), shard: d.uint32()})
	}
	return homes
}

func encodeDrop(channel uint32) []byte {
	return binary.AppendUvarint([]byte{kindDrop}, uint64(channel))
}

func decodeDrop(b []byte) (uint32, error) {
	d := decoder{b: b}
	id := d.uint32()
	return id, d.done()
}

// An append is runs, one for each partition it concerns: partition, number of
// records and their bytes (4 bytes each, little endian), then the records, each
// with its length (4 bytes) before it. Result: nil.
const (
	runHeader    = 12
	recordHeader = 4
)

// appendRun begins a run; endRun completes it.
func appendRun(b []byte, partition uint32, count int) []byte {
	b = binary.LittleEndian.AppendUint32(b, partition)
	b = binary.LittleEndian.AppendUint32(b, uint32(count))
	return append(b, 0, 0, 0, 0)
}

func endRun(b []byte, start int) {
	binary.LittleEndian.PutUint32(b[start+8:], uint32(len(b)-start-runHeader))
}

func appendRecord(b []byte, e *event.Event) []byte {
	start := len(b)
	b = event.AppendRecord(append(b, 0, 0, 0, 0), e)
	binary.LittleEndian.PutUint32(b[start:], uint32(len(b)-start-recordHeader))
	return b
}

// appendHead begins an append of one event, whose data ends it.
func appendHead(b []byte, partition uint32, e *event.Event) []byte {
	run := len(b)
	b = appendRun(b, partition, 1)
	record := len(b)
	b = event.AppendRecordHead(append(b, 0, 0, 0, 0), e)
	binary.LittleEndian.PutUint32(b[record:], uint32(len(b)+len(e.Data)-record-recordHeader))
	binary.LittleEndian.PutUint32(b[run+8:], uint32(len(b)+len(e.Data)-run-runHeader))
	return b
}

// rawRun is a run as it is in the log.
type rawRun struct {
	partition, count uint32
	records          []byte
}

// nextRun splits off the first run; its records are framed rightly.
func nextRun(b []byte) (r rawRun, rest []byte, err error) {
	if len(b) < runHeader {
		return r, nil, fmt.Errorf("%w: a run's header is cut short", errFormat)
	}
	r.partition = binary.LittleEndian.Uint32(b)
	r.count = binary.LittleEndian.Uint32(b[4:])
	size := binary.LittleEndian.Uint32(b[8:])
	b = b[runHeader:]
	if uint64(size) > uint64(len(b)) {
		return r, nil, fmt.Errorf("%w: a run exceeds its command", errFormat)
	}
	r.records, rest = b[:size:size], b[size:]
	left := r.records
	for range r.count {
		if _, left, err = nextRecord(left); err != nil {
			return r, nil, err
		}
	}
	if len(left) > 0 || r.count == 0 {
		return r, nil, fmt.Errorf("%w: a run is empty, or %d bytes too long", errFormat, len(left))
	}
	return r, rest, nil
}

// splitRuns appends the runs of an append to dst, or none where one is wrong.
func splitRuns(dst []rawRun, body []byte) ([]rawRun, error) {
	n := len(dst)
	for len(body) > 0 {
		r, rest, err := nextRun(body)
		if err != nil {
			return dst[:n], err
		}
		dst, body = append(dst, r), rest
	}
	return dst, nil
}

func nextRecord(b []byte) (record, rest []byte, err error) {
	if len(b) < recordHeader {
		return nil, nil, fmt.Errorf("%w: a record's header is cut short", errFormat)
	}
	n := binary.LittleEndian.Uint32(b)
	if uint64(n) > uint64(len(b)-recordHeader) {
		return nil, nil, fmt.Errorf("%w: a record exceeds its run", errFormat)
	}
	end := recordHeader + int(n)
	return b[recordHeader:end:end], b[end:], nil
}

// termsCommand changes the subscriptions of a channel, if its version and the
// count of changes are what they were when it was made. Result: nil, or an
// error that is ErrStale.
type termsCommand struct {
	channel     uint32
	prevVersion uint64
	prevChanges uint64
	version     uint64 // the channel's from now on
	close       []string
	open        []openTerm
}

// openTerm opens a term of a subscription, which ends the one before.
type openTerm struct {
	sub Subscription
	// restart: the position is set anew, to from (by partition number; toEnd:
	// the end when applied; where it is missing, the beginning).
	restart bool
	from    []uint64
}

func (c *termsCommand) encode() []byte {
	b := binary.AppendUvarint([]byte{kindTerms}, uint64(c.channel))
	b = binary.AppendUvarint(b, c.prevVersion)
	b = binary.AppendUvarint(b, c.prevChanges)
	b = binary.AppendUvarint(b, c.version)
	b = binary.AppendUvarint(b, uint64(len(c.close)))
	for _, uid := range c.close {
		b = appendString(b, uid)
	}
	b = binary.AppendUvarint(b, uint64(len(c.open)))
	for i := range c.open {
		o := &c.open[i]
		b = appendSubscription(b, &o.sub)
		if !o.restart {
			b = append(b, 0)
			continue
		}
		b = append(b, 1)
		b = binary.AppendUvarint(b, uint64(len(o.from)))
		for _, from := range o.from {
			b = binary.AppendUvarint(b, from+1) // toEnd becomes 0
		}
	}
	return b
}

func decodeTerms(b []byte) (c termsCommand, err error) {
	d := decoder{b: b}
	c.channel, c.prevVersion, c.prevChanges, c.version = d.uint32(), d.uvarint(), d.uvarint(), d.uvarint()
	for n := d.count(); n > 0 && d.err == nil; n-- {
		c.close = append(c.close, d.string())
	}
	for n := d.count(); n > 0 && d.err == nil; n-- {
		o := openTerm{sub: d.subscription(), restart: d.byte() == 1}
		if o.restart {
			for m := d.count(); m > 0 && d.err == nil; m-- {
				o.from = append(o.from, d.uvarint()-1)
			}
		}
		c.open = append(c.open, o)
	}
	return c, d.done()
}

// floorCommand moves the floor of a partition or of a dead letter log, with
// the outcomes of what goes unseen. Result: nil.
type floorCommand struct {
	key       uint32
	partition uint32 // that the outcomes belong to: key, or a dead letter log's
	floor     uint64
	outcomes  []Outcome
}

func (c *floorCommand) encode() []byte {
	b := binary.AppendUvarint([]byte{kindFloor}, uint64(c.key))
	b = binary.AppendUvarint(b, uint64(c.partition))
	b = binary.AppendUvarint(b, c.floor)
	uids := make(uidTable)
	for i := range c.outcomes {
		uids.add(c.outcomes[i].UID)
	}
	b = uids.append(b)
	return appendOutcomes(b, uids, c.outcomes)
}

func decodeFloor(b []byte) (c floorCommand, err error) {
	d := decoder{b: b}
	c.key, c.partition, c.floor = d.uint32(), d.uint32(), d.uvarint()
	uids := d.uids()
	c.outcomes = d.outcomes(uids)
	return c, d.done()
}
