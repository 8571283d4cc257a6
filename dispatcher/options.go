package dispatcher

import (
	"crypto/x509"
	"log/slog"
	"net/netip"
	"time"

	"github.com/leat-dev/leat/api/event"
	"github.com/leat-dev/leat/filter"
)

// Options are a dispatcher's settings; zero values take the defaults.
type Options struct {
	// Sender makes the requests; nil is NewHTTPSender(HTTP).
	Sender Sender
	// HTTP are the settings of the sender over HTTP.
	HTTP HTTPOptions

	// MaxRequests bounds the requests out over all subscriptions (8,192): as
	// it is neared, each subscription's window shrinks, but never below one.
	MaxRequests int
	// MaxRequestBytes bounds the payloads of the requests out likewise (128 MiB).
	MaxRequestBytes int64
	// MaxWaiting bounds the events waiting over all subscriptions (250,000).
	MaxWaiting int
	// HeadWait is how long deliveries at the head of the log may wait for their
	// turn, on average, before those to subscriptions that are far behind give
	// way to them (20 µs).
	HeadWait time.Duration
	// MaxRanges is how many acknowledged ranges a cursor holds above its
	// oldest open event (256).
	MaxRanges int

	// DetachAfter is how long a window may be full before the subscription
	// counts as detached (1 s).
	DetachAfter time.Duration
	// CommitInterval is how long a change of a cursor waits at most (100 ms).
	CommitInterval time.Duration
	// CommitMaxBackoff bounds the wait before a commit that failed is tried
	// again (5 s).
	CommitMaxBackoff time.Duration
	// CommitBytes bounds one commit, unless one dead letter is larger (128 KiB).
	CommitBytes int
	// ScanEvents and ScanInterval: events that matched nobody move the
	// committed scan position when there are so many of them (16,384), or so
	// long after the first (30 s).
	ScanEvents   int
	ScanInterval time.Duration
	// FilterErrorInterval is how often at most the failures of one filter are
	// recorded as an outcome (10 s); they are all counted.
	FilterErrorInterval time.Duration
	// ReadRetry is how soon a part of the log that cannot be read is tried
	// again (5 s).
	ReadRetry time.Duration

	// CloseGrace is how long the last commit may take when the context of
	// Close has ended before it (2 s).
	CloseGrace time.Duration

	// ReadEvents and ReadBytes bound one read (256, 1 MiB).
	ReadEvents, ReadBytes int

	// Filter bounds what filters may cost, as at admission.
	Filter filter.Limits

	// Hooks are told of what happens.
	Hooks Hooks
	// Spans records the steps of traces; nil where nobody does.
	Spans event.Spans
	// Logger gets what has no other way out (a failed commit, a panic); nil
	// discards it.
	Logger *slog.Logger
}

// HTTPOptions are the settings of the sender over HTTP.
type HTTPOptions struct {
	// MaxConnsPerHost bounds the connections to one host and port (512), and
	// MaxIdleConnsPerHost those kept open (256).
	MaxConnsPerHost, MaxIdleConnsPerHost int
	// Tokens are sent as bearer tokens to the origins that they are under, such
	// as "https://events.example.com", and to no other; not where the URL holds
	// credentials of its own.
	Tokens map[string]string
	// MaxIdleConns bounds the idle connections over all hosts (1,024).
	MaxIdleConns int
	// IdleTimeout closes an idle connection (90 s).
	IdleTimeout time.Duration
	// DialTimeout bounds a connection's set-up (10 s).
	DialTimeout time.Duration
	// MaxReplyBytes bounds an event in an answer (1 MiB). A larger one is
	// refused and kept as far as it goes.
	MaxReplyBytes int
	// MaxAnswerBytes is how much of an answer that is no event is read so
	// that its connection can be used again (64 KiB).
	MaxAnswerBytes int
	// DeniedAddrs are refused beside the built-in ones: the API's own address
	// belongs here. An unspecified IP means each address of this machine.
	DeniedAddrs []netip.AddrPort
	// AllowLinkLocal allows link-local and metadata addresses, which are
	// refused otherwise.
	AllowLinkLocal bool
	// AllowedPrefixes are allowed whatever the built-in rules say; DeniedAddrs
	// are refused all the same.
	AllowedPrefixes []netip.Prefix
	// RootCAs are the authorities that subscribers' certificates are checked
	// against; nil: the system's.
	RootCAs *x509.CertPool
}

func (o Options) withDefaults() Options {
	def(&o.MaxRequests, 8192)
	def(&o.MaxRequestBytes, 128<<20)
	def(&o.MaxWaiting, 250_000)
	def(&o.HeadWait, 20*time.Microsecond)
	def(&o.MaxRanges, 256)
	def(&o.DetachAfter, time.Second)
	def(&o.CommitInterval, 100*time.Millisecond)
	def(&o.CommitMaxBackoff, 5*time.Second)
	def(&o.CommitBytes, 128<<10)
	def(&o.ScanEvents, 16384)
	def(&o.ScanInterval, 30*time.Second)
	def(&o.FilterErrorInterval, 10*time.Second)
	def(&o.ReadRetry, 5*time.Second)
	def(&o.CloseGrace, 2*time.Second)
	def(&o.ReadEvents, 256)
	def(&o.ReadBytes, 1<<20)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

func (o HTTPOptions) withDefaults() HTTPOptions {
	def(&o.MaxConnsPerHost, 512)
	def(&o.MaxIdleConnsPerHost, 256)
	def(&o.MaxIdleConns, 1024)
	def(&o.IdleTimeout, 90*time.Second)
	def(&o.DialTimeout, 10*time.Second)
	def(&o.MaxReplyBytes, 1<<20)
	def(&o.MaxAnswerBytes, 64<<10)
	return o
}

// def sets v to d where it is not set to something positive.
func def[T int | int64 | time.Duration](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}

const (
	defaultMaxInFlight = 100
	defaultMaxWaiting  = 1000
	defaultDelay       = 200 * time.Millisecond
	defaultMaxDelay    = 10 * time.Minute
	defaultTimeout     = 60 * time.Second
)

// Result is how a delivery ended, as counted.
type Result string

// The results of deliveries.
const (
	ResultDelivered    Result = "delivered"
	ResultDeadLettered Result = "dead_lettered" // the dead letter sink has it
	ResultKept         Result = "kept"          // the dead letter log has it
	ResultExpired      Result = "expired"       // retention passed it while it waited
)

// Hooks are called as things happen, from many goroutines at once; they must
// not block. Any of them may be nil. The target must not be modified.
type Hooks struct {
	// Delivered is called once for each delivery that ended, with the number
	// of attempts made and the time since the event was appended.
	Delivered func(t *Target, r Result, attempts int, age time.Duration)
	// Attempt is called for each request.
	Attempt func(t *Target, a Attempt)
	// Reply is called for each event that a subscriber answered with; result
	// is "accepted", "refused", "failed" or "dropped" (nobody wants it, or it
	// was no event).
	Reply func(t *Target, result string)
	// FilterError is called for each event a subscription's filter failed on;
	// t is nil while it has no target.
	FilterError func(uid string, t *Target)
	// Commit is called for each commit, with how long it took.
	Commit func(c ID, partition int, took time.Duration, err error)
}

// Attempt is one request, as counted.
type Attempt struct {
	// To is what it went to: "subscriber", "reply" or "dead-letter".
	To string
	// Number counts the requests there for one event, from 1; after a restart it
	// may begin again.
	Number int
	// Code is the status answered, -1 where there was no answer.
	Code int
	// Denied: nothing was asked, because the destination is not allowed.
	Denied bool
	Took   time.Duration
}
