package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
)

const (
	stateMagic = "LEATLOG1"
	stateFile  = "log.state"
	stateBytes = 8*8 + 1
)

// logState is what the log's directory means: which files are segments of the
// log, and what is being done to them. Each destructive step is one change of
// it, or is written into it before it begins.
type logState struct {
	// Files floor to top are the log's, without a gap; other segment files hold
	// nothing and may be written again.
	floor, top uint64
	// indexed: segments up to this number have their index.
	indexed uint64
	// first: entries below this index are deleted; 0: none but by floor.
	first uint64
	// Everything up to this place had been synced when this was written. Where
	// clean is set the log ends there.
	durable place
	clean   bool
	// cut: everything from this place on is being deleted.
	cut place
}

// place is a position in the log's files. The zero value is none.
type place struct {
	number uint64
	at     int64
}

func (p place) before(q place) bool {
	return p.number < q.number || p.number == q.number && p.at < q.at
}

func (s logState) encode() []byte {
	b := make([]byte, 0, stateBytes)
	for _, v := range []uint64{s.floor, s.top, s.indexed, s.first, s.durable.number, uint64(s.durable.at), s.cut.number, uint64(s.cut.at)} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	if s.clean {
		return append(b, 1)
	}
	return append(b, 0)
}

func decodeState(b []byte) (logState, error) {
	if len(b) != stateBytes {
		return logState{}, fmt.Errorf("the log's state has %d bytes, not %d", len(b), stateBytes)
	}
	var v [8]uint64
	for i := range v {
		v[i] = binary.LittleEndian.Uint64(b[8*i:])
	}
	s := logState{
		floor: v[0], top: v[1], indexed: v[2], first: v[3],
		durable: place{v[4], int64(v[5])}, cut: place{v[6], int64(v[7])}, clean: b[stateBytes-1] == 1,
	}
	if s.floor == 0 || s.top < s.floor-1 || s.indexed > s.top || s.durable.at < 0 || s.durable.number > s.top {
		return s, errors.New("the log's state contradicts itself")
	}
	if s.cut.number != 0 && (s.cut.number < s.floor || s.cut.number > s.top || s.cut.at < headerSize) {
		return s, errors.New("the log's state names a cut outside the log")
	}
	return s, nil
}
