package settings

import (
	"fmt"
	"time"

	"github.com/spf13/pflag"
)

// Bounds are limits and times that rarely need a change. All must be more than
// 0.
type Bounds struct {
	RetentionInterval  time.Duration
	RetentionStep      int
	TermsBytes         Bytes
	MaxPartitions      int
	Snapshots          int
	MaxObjectBytes     Bytes
	MaxObjectKeyBytes  Bytes
	ResourceHistoryAge time.Duration
	CompactInterval    time.Duration
	ExpireInterval     time.Duration
	RecentWrites       int
	RecentWriteBytes   Bytes
	WatchQueue         int
	MemoryInterval     time.Duration
	GarbageBytes       Bytes
	GatherTime         time.Duration
	GatherRate         int
	SharedBytes        Bytes

	DeleteWorkers       int
	DeleteMinBackoff    time.Duration
	DeleteMaxBackoff    time.Duration
	NamespaceWorkers    int
	NamespaceMinBackoff time.Duration
	NamespaceMaxBackoff time.Duration
	TokenCache          int
	DefaultTokenAge     time.Duration
	MinTokenAge         time.Duration
	TokenClockSkew      time.Duration
	MaxAPIRequestBytes  Bytes
	APIRequestTimeout   time.Duration
	APIWatchTimeout     time.Duration
	APIStartTimeout     time.Duration
	APIEventAge         time.Duration

	ControllerWorkers    int
	ControllerMinBackoff time.Duration
	ControllerMaxBackoff time.Duration
	SubscriptionDebounce time.Duration
	MaxDebounce          time.Duration
	StatusSettle         time.Duration
	ReferenceInterval    time.Duration
	ReferenceTimeout     time.Duration
	PauseInterval        time.Duration
	DetachTimeout        time.Duration
	MaxListed            int
	MaxInFlightLimit     int
	MaxWaitingLimit      int
	SourceWorkers        int
	SourceMinBackoff     time.Duration
	SourceMaxBackoff     time.Duration
	SourceLateAfter      time.Duration
	SourceMaxBehind      time.Duration
	SourceClockInterval  time.Duration
	EventTypeQueue       int
	EventTypeBrokers     int
	EventTypeBytes       Bytes
	EventTypeBackoff     time.Duration
	SystemChunkBytes     Bytes
	SystemMaxSkipped     int
	SystemPacedObjects   int
	SystemMinBackoff     time.Duration
	SystemMaxBackoff     time.Duration

	DetachAfter         time.Duration
	HeadWait            time.Duration
	CommitInterval      time.Duration
	CommitMaxBackoff    time.Duration
	CommitBytes         Bytes
	ScanEvents          int
	ScanInterval        time.Duration
	FilterErrorInterval time.Duration
	ReadRetry           time.Duration
	ReadEvents          int
	ReadBytes           Bytes
	CloseGrace          time.Duration
	MaxIdleConns        int
	MaxIdleConnsPerHost int
	DeliveryIdleTimeout time.Duration
	DeliveryDialTimeout time.Duration
	MaxAnswerBytes      Bytes

	MaxStreams            int
	MaxCauseDepth         int
	MaxAttributeNameBytes Bytes
	MaxValueBytes         Bytes
	MaxPassThroughBytes   Bytes
	MaxEventDepth         int
	MaxFilterBytes        Bytes
	MaxFilterDepth        int
	MaxExpressionBytes    Bytes
	MaxExpressionNodes    int
	MaxExpressionDepth    int
	MaxFilterIndexKeys    int
	MaxFilterDataDepth    int
	MaxFilterDataValues   int
	MaxScrapes            int
	ScrapeTimeout         time.Duration
	TraceInterval         time.Duration
	TraceTimeout          time.Duration
}

// bound is the declaration of a setting that must be more than 0.
type bound struct {
	name  string
	add   func(f *pflag.FlagSet)
	value func() int64
}

func duration(v *time.Duration, name string, def time.Duration, usage string) bound {
	return bound{name, func(f *pflag.FlagSet) { f.DurationVar(v, name, def, usage) }, func() int64 { return int64(*v) }}
}

func number(v *int, name string, def int, usage string) bound {
	return bound{name, func(f *pflag.FlagSet) { f.IntVar(v, name, def, usage) }, func() int64 { return int64(*v) }}
}

func size(v *Bytes, name string, def Bytes, usage string) bound {
	return bound{name, func(f *pflag.FlagSet) { bytesVar(f, v, name, def, usage) }, func() int64 { return int64(*v) }}
}

func (b *Bounds) all() (all []bound) {
	for _, some := range [][]bound{b.ofStorage(), b.ofAPI(), b.ofControllers(), b.ofSources(), b.ofDelivery(), b.ofEvents(), b.ofFilters(), b.ofObservers()} {
		all = append(all, some...)
	}
	return all
}

func (b *Bounds) declare(f *pflag.FlagSet) {
	for _, s := range b.all() {
		s.add(f)
	}
}

func (b *Bounds) validate() (errs []error) {
	for _, s := range b.all() {
		if s.value() <= 0 {
			errs = append(errs, fmt.Errorf("--%s must be more than 0", s.name))
		}
	}
	for _, pair := range []struct {
		name, than string
		is, atMost time.Duration
	}{
		{"controller-min-backoff", "controller-max-backoff", b.ControllerMinBackoff, b.ControllerMaxBackoff},
		{"source-min-backoff", "source-max-backoff", b.SourceMinBackoff, b.SourceMaxBackoff},
		{"system-min-backoff", "system-max-backoff", b.SystemMinBackoff, b.SystemMaxBackoff},
		{"delete-min-backoff", "delete-max-backoff", b.DeleteMinBackoff, b.DeleteMaxBackoff},
		{"namespace-min-backoff", "namespace-max-backoff", b.NamespaceMinBackoff, b.NamespaceMaxBackoff},
		{"subscription-debounce", "subscription-max-debounce", b.SubscriptionDebounce, b.MaxDebounce},
		{"min-token-age", "default-token-age", b.MinTokenAge, b.DefaultTokenAge},
	} {
		if pair.is > pair.atMost {
			errs = append(errs, fmt.Errorf("--%s (%s) must not be more than --%s (%s)", pair.name, pair.is, pair.than, pair.atMost))
		}
	}
	if b.MaxObjectBytes > maxObjectBytes {
		errs = append(errs, fmt.Errorf("--max-object-bytes must be at most %v, which is what the database takes", Bytes(maxObjectBytes)))
	}
	return errs
}

// maxObjectBytes is the most that the database takes.
const maxObjectBytes = 1000 << 10

func (b *Bounds) ofStorage() []bound {
	return []bound{
		duration(&b.RetentionInterval, "retention-interval", time.Minute, "how often retention looks for what is too old or too much"),
		number(&b.RetentionStep, "retention-step", 4096, "events that retention drops at once while a subscription has not seen them"),
		size(&b.TermsBytes, "terms-bytes", 64<<10, "size of one record of changed subscriptions in the log; one with a larger filter is a record of its own"),
		number(&b.MaxPartitions, "max-partitions", 64, "partitions that leat.dev/partitions may ask for"),
		number(&b.Snapshots, "snapshots", 4, "snapshots that are kept of each group"),
		size(&b.MaxObjectBytes, "max-object-bytes", maxObjectBytes, "size of a resource, as it is stored; at most the default"),
		size(&b.MaxObjectKeyBytes, "max-object-key-bytes", 4<<10, "length of the path of a resource"),
		duration(&b.ResourceHistoryAge, "resource-history-age", time.Hour, "how long API writes are kept for watches to go on from; see resource-history"),
		duration(&b.CompactInterval, "resource-compact-interval", 5*time.Minute, "how often API writes that are no longer kept are deleted"),
		duration(&b.ExpireInterval, "resource-expire-interval", time.Second, "the shortest time between deletions of resources whose time is up, such as core Events"),
		number(&b.RecentWrites, "recent-writes", 8192, "API writes kept in memory for watches"),
		size(&b.RecentWriteBytes, "recent-write-bytes", 32<<20, "size of the API writes kept in memory for watches"),
		duration(&b.MemoryInterval, "memory-interval", 2*time.Second, "how often it is looked whether the server has become idle, so that memory which the start or a load has left, and what is kept of the latest writes, can go back to the system"),
		size(&b.GarbageBytes, "garbage-bytes", 60<<20, "garbage that may gather in memory before it is collected, at least: a collection costs the same for little and for much of it; the variable GOGC, where it is set, takes the place of this"),
		duration(&b.GatherTime, "gather-time", 100*time.Millisecond, "how long the server's own controllers wait for further API writes, to take them together, while many keep coming; what comes alone waits for nothing"),
		number(&b.GatherRate, "gather-rate", 200, "API writes a second that are many in that sense"),
		size(&b.SharedBytes, "shared-write-bytes", 2<<20, "size of the latest API writes to one kind that are kept decoded for all who watch it, which takes some ten times as much"),
		number(&b.WatchQueue, "watch-queue", 16_384, "API writes that wait for one watch; beyond, it is ended and begins anew"),
	}
}

func (b *Bounds) ofAPI() []bound {
	return []bound{
		number(&b.DeleteWorkers, "delete-workers", 16, "resources deleted at once, of a collection or because their owners are gone"),
		duration(&b.DeleteMinBackoff, "delete-min-backoff", 10*time.Millisecond, "wait before a resource whose owners are gone is tried again; it doubles"),
		duration(&b.DeleteMaxBackoff, "delete-max-backoff", time.Minute, "the longest such wait"),
		number(&b.NamespaceWorkers, "namespace-workers", 4, "namespaces that are ended at once"),
		duration(&b.NamespaceMinBackoff, "namespace-min-backoff", 20*time.Millisecond, "wait before a namespace that could not end is looked at again; it doubles"),
		duration(&b.NamespaceMaxBackoff, "namespace-max-backoff", 30*time.Second, "the longest such wait"),
		number(&b.TokenCache, "token-cache", 4096, "ServiceAccounts' tokens remembered as checked; one is remembered until it expires, and its account is looked at each time"),
		duration(&b.DefaultTokenAge, "default-token-age", time.Hour, "how long a ServiceAccount's token lasts that is asked for without a time"),
		duration(&b.MinTokenAge, "min-token-age", 10*time.Minute, "the shortest that a ServiceAccount's token may be asked for"),
		duration(&b.TokenClockSkew, "token-clock-skew", time.Minute, "how far behind the clock of the member that checks a token may be"),
		size(&b.MaxAPIRequestBytes, "max-api-request-bytes", 3<<20, "body of one API request"),
		duration(&b.APIRequestTimeout, "api-request-timeout", time.Minute, "time for one API request that is no watch"),
		duration(&b.APIWatchTimeout, "api-watch-timeout", 30*time.Minute, "how long a watch lasts at least whose client sets no time"),
		duration(&b.APIStartTimeout, "api-start-timeout", time.Minute, "time for the API to become ready at the start"),
		duration(&b.APIEventAge, "api-event-age", time.Hour, "how long a core Event is kept after its last write"),
	}
}

func (b *Bounds) ofControllers() []bound {
	return []bound{
		number(&b.ControllerWorkers, "controller-workers", 32, "brokers, triggers, channels and subscriptions reconciled at once"),
		duration(&b.ControllerMinBackoff, "controller-min-backoff", 50*time.Millisecond, "wait before one that failed is tried again; it doubles"),
		duration(&b.ControllerMaxBackoff, "controller-max-backoff", time.Minute, "the longest such wait"),
		duration(&b.SubscriptionDebounce, "subscription-debounce", 5*time.Millisecond, "how long a change of a broker's triggers waits for others, to be written with them"),
		duration(&b.MaxDebounce, "subscription-max-debounce", 250*time.Millisecond, "the longest such wait, where a broker has very many"),
		duration(&b.StatusSettle, "status-settle", 500*time.Millisecond, "how long a status that is about to become better is not written"),
		duration(&b.ReferenceInterval, "reference-interval", 10*time.Second, "how often references to kinds that are not watched are looked up"),
		duration(&b.ReferenceTimeout, "reference-timeout", 10*time.Second, "time for one such look"),
		duration(&b.PauseInterval, "pause-interval", 5*time.Second, "how often it is looked for deliveries that have paused; after two looks a condition says so"),
		duration(&b.DetachTimeout, "detach-timeout", 30*time.Second, "time for the deliveries out when their log is deleted"),
		number(&b.MaxListed, "max-listed-subscriptions", 500, "subscriptions that a channel's status lists; with more, it lists none"),
		number(&b.MaxInFlightLimit, "max-in-flight-limit", 10_000, "what leat.dev/max-in-flight may ask for"),
		number(&b.MaxWaitingLimit, "max-waiting-limit", 100_000, "what leat.dev/max-waiting may ask for"),
		number(&b.EventTypeQueue, "event-type-queue", 1000, "EventTypes that wait to be recorded; beyond, one is recorded when it is seen again"),
		number(&b.EventTypeBrokers, "event-type-brokers", 10_000, "brokers of which it is known which EventTypes were recorded"),
		size(&b.EventTypeBytes, "event-type-bytes", 1<<10, "length of a type, source or schema that is recorded"),
		duration(&b.EventTypeBackoff, "event-type-backoff", time.Second, "wait before an EventType that could not be recorded is tried again"),
		size(&b.SystemChunkBytes, "system-chunk-bytes", 128<<10, "size of the events appended to the system broker at once, unless one is larger"),
		number(&b.SystemMaxSkipped, "system-max-skipped", 1000, "API writes without an event after which the system broker notes its position all the same"),
		number(&b.SystemPacedObjects, "system-paced-objects", 10_000, "objects of the system broker whose status is paced; see system-status-burst"),
		duration(&b.SystemMinBackoff, "system-min-backoff", 50*time.Millisecond, "wait before the system broker tries again to append; it doubles"),
		duration(&b.SystemMaxBackoff, "system-max-backoff", 5*time.Second, "the longest such wait"),
	}
}

func (b *Bounds) ofSources() []bound {
	return []bound{
		number(&b.SourceWorkers, "source-workers", 4, "sources reconciled at once"),
		duration(&b.SourceMinBackoff, "source-min-backoff", 50*time.Millisecond, "wait before a source, or a log that did not take its event, is tried again; it doubles"),
		duration(&b.SourceMaxBackoff, "source-max-backoff", 10*time.Second, "the longest such wait"),
		duration(&b.SourceLateAfter, "source-late-after", time.Second, "how much after its time a tick is marked as late, with leatlate"),
		duration(&b.SourceMaxBehind, "source-max-behind", time.Minute, "how far a schedule may be behind and have each tick all the same; beyond, the latest only"),
		duration(&b.SourceClockInterval, "source-clock-interval", 15*time.Second, "how often a schedule looks at the clock, which may have been set"),
	}
}

func (b *Bounds) ofDelivery() []bound {
	return []bound{
		duration(&b.DetachAfter, "detach-after", time.Second, "how long a window may be full before a subscription reads the log by itself"),
		duration(&b.HeadWait, "head-wait", 20*time.Microsecond, "how long deliveries of new events may wait for their turn, on average, before those to subscriptions that are far behind give way"),
		duration(&b.CommitInterval, "commit-interval", 100*time.Millisecond, "how long a cursor that has moved waits to be written"),
		duration(&b.CommitMaxBackoff, "commit-max-backoff", 5*time.Second, "the longest wait before cursors that could not be written are tried again"),
		size(&b.CommitBytes, "commit-bytes", 128<<10, "size of the cursors, outcomes and dead letters written at once, unless one dead letter is larger"),
		number(&b.ScanEvents, "scan-events", 16_384, "events that matched nobody after which the position is written; a broker without Triggers has it written only then"),
		duration(&b.ScanInterval, "scan-interval", 30*time.Second, "time after which it is written with fewer"),
		duration(&b.FilterErrorInterval, "filter-error-interval", 10*time.Second, "time between outcomes of one filter that fails; all are counted"),
		duration(&b.ReadRetry, "read-retry", 5*time.Second, "wait before a part of the log that cannot be read is tried again"),
		number(&b.ReadEvents, "read-events", 256, "events of one read of the log, for deliveries and for streams of events"),
		size(&b.ReadBytes, "read-bytes", 1<<20, "size of one such read"),
		duration(&b.CloseGrace, "close-grace", 2*time.Second, "time for the last cursors when shutdown-timeout is up"),
		number(&b.MaxIdleConns, "max-idle-conns", 1024, "idle connections to all subscribers"),
		number(&b.MaxIdleConnsPerHost, "max-idle-conns-per-host", 256, "idle connections to one subscriber host"),
		duration(&b.DeliveryIdleTimeout, "delivery-idle-timeout", 90*time.Second, "time that an idle connection to a subscriber is kept"),
		duration(&b.DeliveryDialTimeout, "delivery-dial-timeout", 10*time.Second, "time to connect to a subscriber"),
		size(&b.MaxAnswerBytes, "max-answer-bytes", 64<<10, "what is read of an answer that is no event, so that its connection can be used again"),
	}
}

func (b *Bounds) ofEvents() []bound {
	return []bound{
		number(&b.MaxStreams, "max-http2-streams", 250, "event requests at once on one HTTP/2 connection"),
		number(&b.MaxCauseDepth, "max-cause-depth", 1000, "replies to replies, and so on, after which a reply is refused as a loop"),
		size(&b.MaxAttributeNameBytes, "max-attribute-name-bytes", 64, "name of one attribute of an event"),
		size(&b.MaxValueBytes, "max-attribute-value-bytes", 16<<10, "value of one attribute of an event"),
		size(&b.MaxPassThroughBytes, "max-pass-through-bytes", 8<<10, "headers of a request that are passed on to subscribers"),
		number(&b.MaxEventDepth, "max-event-depth", 1000, "arrays and objects in each other, in the JSON data of an event"),
	}
}

func (b *Bounds) ofFilters() []bound {
	return []bound{
		size(&b.MaxFilterBytes, "max-filter-bytes", 256<<10, "size of one filter, as JSON"),
		number(&b.MaxFilterDepth, "max-filter-depth", 16, "how deep all, any and not may nest in a filter"),
		size(&b.MaxExpressionBytes, "max-filter-expression-bytes", 16<<10, "length of one cesql or expr expression"),
		number(&b.MaxExpressionNodes, "max-filter-expression-nodes", 500, "operators and operands of one expression"),
		number(&b.MaxExpressionDepth, "max-filter-expression-depth", 64, "how deep parentheses and calls may nest in an expression"),
		number(&b.MaxFilterIndexKeys, "max-filter-index-keys", 512, "keys of the index under which one filter may stand; beyond, it is run on every event"),
		number(&b.MaxFilterDataDepth, "max-filter-data-depth", 64, "arrays and objects in each other in a payload that a filter can look into"),
		number(&b.MaxFilterDataValues, "max-filter-data-values", 100_000, "values in such a payload"),
	}
}

func (b *Bounds) ofObservers() []bound {
	return []bound{
		number(&b.MaxScrapes, "max-scrapes", 4, "requests for /metrics at once; more get 503"),
		duration(&b.ScrapeTimeout, "scrape-timeout", 30*time.Second, "time for one request for /metrics"),
		duration(&b.TraceInterval, "trace-interval", time.Second, "how long spans wait for others, to be sent with them"),
		duration(&b.TraceTimeout, "trace-timeout", 30*time.Second, "time for one upload of spans, its retries included"),
	}
}
