package segment

// Row locates a run of consecutive offsets of one key (a partition) in the log.
type Row struct {
	Key   uint32
	Kind  uint8  // what the run holds; the state machine's own numbering
	Base  uint64 // first offset
	Count uint32 // offsets in the run
	Bytes uint32 // payload bytes of the run
	Index uint64 // raft index of the entry that holds it
	Time  int64  // the entry's log time, microseconds since the Unix epoch
}

// Summary is what a segment holds of one key and kind.
type Summary struct {
	Key         uint32
	Kind        uint8
	First, Last uint64 // offsets
	Bytes       uint64
	MinTime     int64
	MaxTime     int64
}

// Info describes one segment.
type Info struct {
	Path        string
	First, Last uint64 // raft indexes; Last is 0 while empty
	Bytes       int64  // bytes on disk
	Sealed      bool
	Damaged     bool      // the index does not read back: there are no Summaries
	Summaries   []Summary // sorted by key and kind; of rows known so far
}
