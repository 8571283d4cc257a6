package channel

// Usage is what a channel has on disk, in bytes of payload; at the ends of
// segments by the average size of events.
type Usage struct {
	Events, DeadLetters uint64
}

// Usages are those of all channels that have anything, by UID.
func (l *Log) Usages() map[string]Usage {
	s := l.shard
	all := make(map[string]Usage)
	for _, u := range s.usages(s.group.Segments()) {
		uid := u.p.ch.ident.UID
		sum := all[uid]
		if u.l != nil {
			sum.DeadLetters += u.bytes
		} else {
			sum.Events += u.bytes
		}
		all[uid] = sum
	}
	return all
}
