package system

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/leat-dev/leat/api/event"
	"github.com/leat-dev/leat/channel"
	"github.com/leat-dev/leat/raftlog"
	"github.com/leat-dev/leat/raftlog/kv"
)

// History is the history of the resources; *kv.Store is one.
type History interface {
	// Watch follows the keys that begin with prefix after a revision.
	Watch(prefix string, exact bool, since uint64) (*kv.Watch, error)
	// Rev is the present revision, CompactRev the oldest that can be followed.
	Rev() uint64
	CompactRev() uint64
}

var _ History = (*kv.Store)(nil)

// Options configure a Publisher; zero values mean the defaults, but History,
// Channel and Source must be set.
type Options struct {
	History History
	// Plain decrypts a value as the history has it; nil where none is encrypted.
	// Secrets are not decrypted.
	Plain func(ctx context.Context, key string, stored []byte) ([]byte, error)
	// Prefix is what the keys of all resources begin with; "/registry/".
	Prefix string
	// Channel finds the system broker's log; false where it is not there yet.
	Channel func() (channel.Channel, bool)
	// Source is the source of the events: the API's URL.
	Source string
	// MaxDataBytes is how large an object may be, as JSON; larger ones are told
	// by reference. 256 KiB.
	MaxDataBytes int
	// StatusBurst is how many events of nothing but the status of one of the
	// system broker's own objects may come at once, and StatusInterval the time
	// between those that follow; 5, 10 s.
	StatusBurst    int
	StatusInterval time.Duration
	// PacedObjects bounds the objects whose status is paced; 10,000.
	PacedObjects int
	// Gather has many writes taken together.
	Gather kv.Gather
	// ChunkBytes bounds what is appended at once, unless one event is larger;
	// 128 KiB.
	ChunkBytes int
	// MaxSkipped is how many revisions without an event may pass before the
	// position is written all the same, so that it does not fall out of the
	// history; 1,000.
	MaxSkipped uint64
	// MinBackoff and MaxBackoff bound the wait after a failure; 50 ms, 5 s.
	MinBackoff, MaxBackoff time.Duration
	// Published is told of what was appended, and once of what was there before.
	Published func(id channel.ID, events []*event.Event, revision uint64)

	Clock  raftlog.Clock
	Logger *slog.Logger
}

func (o Options) withDefaults() (Options, error) {
	if o.History == nil || o.Channel == nil || o.Source == "" {
		return o, errors.New("system broker: History, Channel and Source must be set")
	}
	setDefault(&o.Prefix, "/registry/")
	setDefault(&o.MaxDataBytes, 256<<10)
	setDefault(&o.StatusBurst, 5)
	setDefault(&o.StatusInterval, 10*time.Second)
	setDefault(&o.PacedObjects, 10_000)
	setDefault(&o.ChunkBytes, 128<<10)
	setDefault(&o.MaxSkipped, 1000)
	setDefault(&o.MinBackoff, 50*time.Millisecond)
	setDefault(&o.MaxBackoff, 5*time.Second)
	if o.Published == nil {
		o.Published = func(channel.ID, []*event.Event, uint64) {}
	}
	if o.Clock == nil {
		o.Clock = raftlog.SystemClock{}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o, nil
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// producer is the name under which the log keeps the revision.
const producer = "leat.dev/apiserver"

// Publisher appends the writes to the API. It is to be run where this node
// leads the system broker's log.
type Publisher struct {
	o     Options
	maker maker

	// Of the log that is being written to.
	ch        channel.Channel
	positions channel.Producers
	known     uint64 // the log's position
	position  uint64 // appended up to here: known, or the revision before the first write
	seen      uint64 // looked at up to here
	pace      pace
	chunk     []*event.Event
	bytes     int
}

// New makes a Publisher. An error says what is wrong with the options.
func New(o Options) (*Publisher, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Publisher{o: o, maker: maker{source: o.Source, prefix: o.Prefix, maxData: o.MaxDataBytes, redact: newRedactor(), plain: o.Plain}}, nil
}

// errNoLog: there is nothing to append to yet.
var errNoLog = errors.New("the system broker's log is not there")

// Run publishes until ctx ends. What fails is tried again; nothing is lost by
// that for as long as the history lasts.
func (p *Publisher) Run(ctx context.Context) error {
	b := p.backoff()
	for {
		err := p.follow(ctx, b)
		if ctx.Err() != nil {
			return nil
		}
		if !errors.Is(err, errNoLog) && !errors.Is(err, kv.ErrSlowWatcher) && !errors.Is(err, kv.ErrReset) {
			p.o.Logger.Warn("the system broker is behind, and goes on from where it was", "revision", p.position, "error", err)
		}
		if !b.wait(ctx) {
			return nil
		}
	}
}

// follow appends what comes after the log's position, until something fails.
func (p *Publisher) follow(ctx context.Context, b *backoff) error {
	if err := p.open(); err != nil {
		return err
	}
	if err := p.tellGaps(ctx); err != nil {
		return err
	}
	p.o.Published(p.ch.ID(), nil, p.position)
	w, err := p.o.History.Watch(p.o.Prefix, false, p.position)
	if err != nil {
		return err
	}
	defer w.Close()
	w.Gather(p.o.Gather)
	for {
		batch, err := w.Next(ctx)
		if err != nil {
			return err
		}
		if err := p.publish(ctx, batch.Events); err != nil {
			return err
		}
		b.reset()
	}
}

// open finds the log and its position.
func (p *Publisher) open() error {
	ch, ok := p.o.Channel()
	if !ok {
		return errNoLog
	}
	positions, ok := ch.(channel.Producers)
	if !ok {
		return fmt.Errorf("the log of the system broker (a %T) keeps no positions of producers", ch)
	}
	p.ch, p.positions = ch, positions
	p.known = positions.Position(producer)
	p.position = p.known
	p.seen, p.chunk, p.bytes = p.position, nil, 0
	p.pace = pace{interval: p.o.StatusInterval, burst: p.o.StatusBurst, limit: p.o.PacedObjects}
	return nil
}

// tellGaps says what cannot be followed any more.
func (p *Publisher) tellGaps(ctx context.Context) error {
	at := p.o.Clock.Now().UnixMicro()
	if rev := p.o.History.Rev(); rev < p.position {
		// Revisions that the log has seen come a second time, for other writes.
		g := Gap{
			From: rev + 1, To: p.position + 1, Reason: ReasonWentBack,
			Message: fmt.Sprintf("the resources are those of an older revision (%d) than this log has seen (%d): were they restored from a backup?", rev, p.position),
		}
		return p.append(ctx, []*event.Event{p.maker.gap(g, at)}, g.To)
	}
	floor := p.o.History.CompactRev()
	if p.position == 0 {
		p.position = 1 // the revision of a state without any write
	}
	if p.position >= floor {
		return nil
	}
	g := Gap{
		From: p.position + 1, To: floor, Reason: ReasonCompacted,
		Message: "the history of these writes was given up before they were read: list the resources to know their present state",
	}
	return p.append(ctx, []*event.Event{p.maker.gap(g, at)}, floor)
}

// publish appends the events of a batch of writes, in chunks.
func (p *Publisher) publish(ctx context.Context, batch []*kv.Event) error {
	for _, e := range batch {
		w, err := p.maker.make(ctx, e)
		if err != nil {
			p.o.Logger.Error("a write to the API cannot be shown whole", "error", err)
		}
		if w == nil || p.pace.withholds(e, w) {
			p.seen = e.Rev
			continue
		}
		size := len(w.event.Data)
		if len(p.chunk) > 0 && p.bytes+size > p.o.ChunkBytes {
			if err := p.flush(ctx, e.Time); err != nil {
				return err
			}
		}
		p.chunk, p.bytes, p.seen = append(p.chunk, w.event), p.bytes+size, e.Rev
	}
	if len(batch) == 0 || len(p.chunk) == 0 && p.seen-p.position < p.o.MaxSkipped {
		return nil
	}
	return p.flush(ctx, batch[len(batch)-1].Time)
}

// flush appends the chunk, and the gap of what was withheld before it: neither
// is ever there without the other, for both go with one position.
func (p *Publisher) flush(ctx context.Context, at int64) error {
	events := p.chunk
	if g, ok := p.pace.take(); ok {
		events = append([]*event.Event{p.maker.gap(g, at)}, events...)
	}
	p.chunk, p.bytes = nil, 0
	return p.append(ctx, events, p.seen)
}

// append makes events durable with the revision that they go up to. An attempt
// that was given up may still be done; then the next one is stale, or is done
// with the same bounds.
func (p *Publisher) append(ctx context.Context, events []*event.Event, revision uint64) error {
	b := p.backoff()
	for {
		err := p.positions.AppendAfter(ctx, producer, p.known, revision, events)
		switch {
		case err == nil:
			p.known, p.position, p.seen = revision, revision, revision
			p.o.Published(p.ch.ID(), events, revision)
			return nil
		case errors.Is(err, channel.ErrNotFound), errors.Is(err, channel.ErrStale): // and never will be
			return err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		}
		if b.failures == 0 {
			p.o.Logger.Warn("the system broker's log takes no events; they wait in the history of the resources", "revision", revision, "error", err)
		}
		if !b.wait(ctx) {
			return context.Cause(ctx)
		}
	}
}

// backoff is the wait between tries; it grows.
type backoff struct {
	clock    raftlog.Clock
	min, max time.Duration
	failures int
	next     time.Duration
}

func (p *Publisher) backoff() *backoff {
	return &backoff{clock: p.o.Clock, min: p.o.MinBackoff, max: p.o.MaxBackoff}
}

func (b *backoff) reset() { b.failures, b.next = 0, 0 }

// wait says whether to go on.
func (b *backoff) wait(ctx context.Context) bool {
	b.failures++
	b.next = min(max(2*b.next, b.min), b.max)
	select {
	case <-b.clock.After(b.next):
		return true
	case <-ctx.Done():
		return false
	}
}
