package channel

import (
	"cmp"
	"slices"

	"github.com/leat-dev/leat/raftlog"
)

// LostKind is what a stretch of the log held.
type LostKind string

// What rows of the log locate.
const (
	LostEvents      LostKind = "events"
	LostOutcomes    LostKind = "outcomes"
	LostDeadLetters LostKind = "dead letters"
)

// Lost is a stretch of a partition, or of a subscription's dead letter log,
// that rows of the log name.
type Lost struct {
	Channel   ID
	Partition int
	Kind      LostKind
	UID       string // the subscription's, of dead letters
	Range     Range
}

// Lost says what rows stand for, merged where they follow each other. What is
// below a floor, or of a channel that is gone, is missed by nobody and is left
// out.
func (s *Shard) Lost(rows []raftlog.Row) []Lost {
	var all []Lost
	for _, r := range rows {
		l, floor, ok := s.lostRow(r)
		l.Range = Range{max(r.Base, floor), r.Base + uint64(r.Count)}
		if ok && l.Range.From < l.Range.To {
			all = append(all, l)
		}
	}
	order := func(a, b Lost) int {
		return cmp.Or(cmp.Compare(a.Channel.Namespace, b.Channel.Namespace), cmp.Compare(a.Channel.Kind, b.Channel.Kind), cmp.Compare(a.Channel.Name, b.Channel.Name),
			cmp.Compare(a.Channel.UID, b.Channel.UID), cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.UID, b.UID))
	}
	slices.SortFunc(all, func(a, b Lost) int { return cmp.Or(order(a, b), cmp.Compare(a.Range.From, b.Range.From)) })
	var merged []Lost
	for _, l := range all {
		if n := len(merged); n > 0 && order(merged[n-1], l) == 0 && merged[n-1].Range.To >= l.Range.From {
			merged[n-1].Range.To = max(merged[n-1].Range.To, l.Range.To)
			continue
		}
		merged = append(merged, l)
	}
	return merged
}

func (s *Shard) lostRow(r raftlog.Row) (l Lost, floor uint64, ok bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	p, letters := s.parts[r.Key], s.letters[r.Key]
	switch {
	case r.Kind == rowDeadLetters && letters != nil:
		p, floor = letters.p, letters.floor.Load()
		l.Kind, l.UID = LostDeadLetters, letters.uid
	case r.Kind == rowEvents && p != nil:
		l.Kind, floor = LostEvents, p.floor.Load()
	case r.Kind == rowOutcomes && p != nil:
		l.Kind = LostOutcomes
	default:
		return l, 0, false
	}
	l.Channel, l.Partition = p.ch.ident, p.number
	return l, floor, true
}

// Lost says what rows of the log stand for; see Shard.Lost.
func (l *Log) Lost(rows []raftlog.Row) []Lost { return l.shard.Lost(rows) }
