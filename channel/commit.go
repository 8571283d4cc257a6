package channel

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"github.com/leat-dev/leat/api/event"
)

// Bounds of what a commit says in words.
const (
	maxReason = 1 << 10
	maxAnswer = 1 << 10
)

// uidTable numbers the subscriptions of a command, so that each is named once.
type uidTable map[string]uint32

func (t uidTable) add(uid string) {
	if _, ok := t[uid]; !ok {
		t[uid] = uint32(len(t))
	}
}

func (t uidTable) append(b []byte) []byte {
	uids := make([]string, len(t))
	for uid, i := range t {
		uids[i] = uid
	}
	b = binary.AppendUvarint(b, uint64(len(uids)))
	for _, uid := range uids {
		b = appendString(b, uid)
	}
	return b
}

func (d *decoder) uids() []string {
	n := d.count()
	uids := make([]string, 0, min(n, 1<<12))
	for ; n > 0 && d.err == nil; n-- {
		uids = append(uids, d.string())
	}
	return uids
}

func (d *decoder) uid(uids []string) string {
	i := d.uvarint()
	if i >= uint64(len(uids)) {
		d.fail("a subscription that the command does not name")
		return ""
	}
	return uids[i]
}

func appendOutcomes(b []byte, uids uidTable, outcomes []Outcome) []byte {
	b = binary.AppendUvarint(b, uint64(len(outcomes)))
	for i := range outcomes {
		o := &outcomes[i]
		b = binary.AppendUvarint(b, uint64(uids[o.UID]))
		b = append(b, byte(o.Kind))
		b = binary.AppendUvarint(b, o.Offset)
		b = binary.AppendUvarint(b, uint64(o.Span))
		b = binary.AppendUvarint(b, uint64(o.Count))
		b = binary.AppendUvarint(b, uint64(o.Attempts))
		b = binary.AppendVarint(b, int64(o.Code))
		b = appendString(b, clip(o.Reason, maxReason))
	}
	return b
}

func (d *decoder) outcomes(uids []string) []Outcome {
	var out []Outcome
	for n := d.count(); n > 0 && d.err == nil; n-- {
		out = append(out, Outcome{
			UID: d.uid(uids), Kind: OutcomeKind(d.byte()), Offset: d.uvarint(), Span: d.uint32(),
			Count: d.uint32(), Attempts: d.uint32(), Code: int32(d.varint()), Reason: d.string(),
		})
	}
	return out
}

// clip cuts a text to at most n bytes, between characters.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xc0 == 0x80 {
		n--
	}
	return s[:n]
}

// commitCommand is a Commit of one partition as apply sees it. Dead letters
// are not decoded there, only their places. Result: nil.
type commitCommand struct {
	partition    uint32
	termsVersion uint64
	scan         uint64
	cursors      []uidCursor
	outcomes     []Outcome
	letters      []rawLetter
}

type uidCursor struct {
	uid    string
	cursor Cursor
}

// rawLetter is a dead letter whose event is not decoded.
type rawLetter struct {
	letter DeadLetter // without Event, Answer and Reason, which alias
	answer []byte
	reason []byte
	record []byte
}

// encodeCommit writes the cursors in the order of their UIDs, so that equal
// commits are equal bytes.
func encodeCommit(partition uint32, c *Commit) []byte {
	b := binary.AppendUvarint([]byte{kindCommit}, uint64(partition))
	b = binary.AppendUvarint(b, c.TermsVersion)
	b = binary.AppendUvarint(b, c.Scan)
	uids := make(uidTable)
	sorted := slices.Sorted(maps.Keys(c.Cursors))
	for _, uid := range sorted {
		uids.add(uid)
	}
	for i := range c.Outcomes {
		uids.add(c.Outcomes[i].UID)
	}
	for i := range c.DeadLetters {
		uids.add(c.DeadLetters[i].UID)
	}
	b = uids.append(b)
	b = binary.AppendUvarint(b, uint64(len(sorted)))
	for _, uid := range sorted {
		cursor := c.Cursors[uid]
		if len(cursor.Done) > maxDone {
			cursor.Done = cursor.Done[:maxDone] // the rest is delivered again
		}
		b = binary.AppendUvarint(b, uint64(uids[uid]))
		b = appendCursor(b, cursor)
	}
	b = appendOutcomes(b, uids, c.Outcomes)
	b = binary.AppendUvarint(b, uint64(len(c.DeadLetters)))
	for i := range c.DeadLetters {
		b = appendLetter(b, uids, &c.DeadLetters[i])
	}
	return b
}

func appendLetter(b []byte, uids uidTable, l *DeadLetter) []byte {
	b = binary.AppendUvarint(b, uint64(uids[l.UID]))
	b = binary.AppendUvarint(b, l.Offset)
	flags := byte(0)
	if l.Reply {
		flags = 1
	}
	b = append(b, flags)
	b = binary.AppendUvarint(b, uint64(l.Attempts))
	b = binary.AppendVarint(b, int64(l.Code))
	b = appendString(b, clip(l.Reason, maxReason))
	b = appendString(b, l.Answer[:min(len(l.Answer), maxAnswer)])
	return appendRecord(b, l.Event)
}

func (d *decoder) letter(uids []string) rawLetter {
	l := rawLetter{letter: DeadLetter{
		UID: d.uid(uids), Offset: d.uvarint(), Reply: d.byte() == 1, Attempts: d.uint32(), Code: int32(d.varint()),
	}}
	l.reason, l.answer = d.bytes(), d.bytes()
	record, rest, err := nextRecord(d.b)
	if err != nil {
		d.fail(err.Error())
		return l
	}
	l.record, d.b = record, rest
	return l
}

// size is what a dead letter counts against its log's bound.
func (l *rawLetter) size() uint32 { return uint32(len(l.record) + len(l.reason) + len(l.answer)) }

// decode gives the whole dead letter, in memory of its own.
func (l *rawLetter) decode() (DeadLetter, error) {
	out := l.letter
	var err error
	if out.Event, err = event.DecodeRecord(slices.Clone(l.record)); err != nil {
		return out, fmt.Errorf("event of a dead letter: %w", err)
	}
	out.Reason, out.Answer = string(l.reason), slices.Clone(l.answer)
	return out, nil
}

func decodeCommit(b []byte) (c commitCommand, err error) {
	d := decoder{b: b}
	c.partition, c.termsVersion, c.scan = d.uint32(), d.uvarint(), d.uvarint()
	uids := d.uids()
	for n := d.count(); n > 0 && d.err == nil; n-- {
		c.cursors = append(c.cursors, uidCursor{uid: d.uid(uids), cursor: d.cursor()})
	}
	c.outcomes = d.outcomes(uids)
	for n := d.count(); n > 0 && d.err == nil; n-- {
		c.letters = append(c.letters, d.letter(uids))
	}
	return c, d.done()
}

// check refuses what apply could not take.
func (c *Commit) check() error {
	for uid, cursor := range c.Cursors {
		if len(cursor.Done) > maxDone {
			cursor.Done = cursor.Done[:maxDone]
		}
		if err := cursor.check(); err != nil {
			return fmt.Errorf("subscription %s: %w", uid, err)
		}
	}
	for i := range c.DeadLetters {
		if c.DeadLetters[i].Event == nil {
			return fmt.Errorf("subscription %s: dead letter of offset %d has no event", c.DeadLetters[i].UID, c.DeadLetters[i].Offset)
		}
	}
	return nil
}
