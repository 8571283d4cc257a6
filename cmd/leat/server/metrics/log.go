package metrics

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/leat-dev/leat/raftlog"
)

type logMetrics struct {
	entries, bytes, refused, snapshots             *counters
	append, commands, syncSeconds, snapshotSeconds *histograms
}

func (m *logMetrics) declare(s *set) {
	m.append = s.histogram("leat_log_append_duration_seconds", "Time until a command was durable and applied, by group (meta: resources; s0: events) and class (events; control: cursors, outcomes, terms, retention, resources).", diskBuckets, "group", "class")
	m.refused = s.counter("leat_log_refused_total", "Commands that were not written, by group, class and reason: disk (below disk-floor or disk-reserve), stalled (the disk has not answered for stall-after), queue (max-pending-bytes), leader, size, closed, unknown (it may have been written).", "group", "class", "reason")
	m.entries = s.counter("leat_log_entries_total", "Entries proposed, by result: ok, failed.", "group", "result")
	m.bytes = s.counter("leat_log_written_bytes_total", "Bytes of the entries proposed.", "group")
	m.commands = s.histogram("leat_log_entry_commands", "Commands that were packed into one entry: with many senders at once, how many share a sync.", []float64{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024}, "group")
	m.syncSeconds = s.histogram("leat_log_sync_duration_seconds", "Time to write and sync the log once.", diskBuckets, "group")
	m.snapshots = s.counter("leat_log_snapshots_total", "Snapshots taken, by result: ok, failed.", "group", "result")
	m.snapshotSeconds = s.histogram("leat_log_snapshot_duration_seconds", "Time to take a snapshot.", peerBuckets, "group")
}

var classes = map[raftlog.Class]string{raftlog.Events: "events", raftlog.Control: "control"}

// Log are the hooks that count what a group of the log does.
func (m *Metrics) Log(group string) raftlog.Hooks {
	l := &m.log
	commands, bytes, syncs := l.commands.with(values{group}), l.bytes.with(values{group}), l.syncSeconds.with(values{group})
	of := values{group, classes[raftlog.Events]}
	var events handle[prometheus.Observer]
	return raftlog.Hooks{
		Proposed: func(c raftlog.Class, took time.Duration, err error) {
			switch {
			case err != nil:
				l.refused.with(values{group, classes[c], refusal(err)}).Inc()
			case c == raftlog.Events:
				events.in(l.append, &of).Observe(took.Seconds())
			default:
				l.append.with(values{group, classes[c]}).Observe(took.Seconds())
			}
		},
		Entry: func(n, size int, err error) {
			l.entries.with(values{group, result(err)}).Inc()
			commands.Observe(float64(n))
			bytes.Add(float64(size))
		},
		Synced: func(took time.Duration) { syncs.Observe(took.Seconds()) },
		Snapshot: func(took time.Duration, err error) {
			l.snapshots.with(values{group, result(err)}).Inc()
			l.snapshotSeconds.with(values{group}).Observe(took.Seconds())
		},
	}
}

func refusal(err error) string {
	switch {
	case errors.Is(err, raftlog.ErrStalled):
		return "stalled"
	case errors.Is(err, raftlog.ErrUnknownOutcome):
		return "unknown"
	case errors.Is(err, raftlog.ErrDiskFull):
		return "disk"
	case errors.Is(err, raftlog.ErrOverloaded):
		return "queue"
	case errors.Is(err, raftlog.ErrNotLeader):
		return "leader"
	case errors.Is(err, raftlog.ErrTooLarge):
		return "size"
	}
	return "closed"
}
