// Package settings declares what the server can be told. One declaration of a
// setting makes its flag, its key in the configuration file, its environment
// variable and its row in the reference page.
package settings

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"sigs.k8s.io/yaml"
)

// Server is what `leat server` can be told.
type Server struct {
	Config string

	Data string
	HTTP string
	API  string
	Node string

	IngressAuth    string
	MaxTokenAge    time.Duration
	InsecureNoAuth bool
	TLSCert        string
	TLSKey         string
	TLSReload      time.Duration
	PublicURL      string

	LogFormat       string
	LogLevel        string
	MaxMetricSeries int

	OTLPEndpoint     string
	TraceSampleRatio float64
	TraceQueue       int
	ShutdownTimeout  time.Duration

	RetentionAge           time.Duration
	DeadLetterRetentionAge time.Duration
	DeadLetterMaxBytes     Bytes
	MaxDisk                Bytes
	MaxDiskPolicy          string
	DiskFloor              Bytes
	DiskReserve            Bytes
	StallAfter             time.Duration
	SegmentBytes           Bytes
	SnapshotBytes          Bytes
	MaxEntryBytes          Bytes
	MaxPendingBytes        Bytes
	TailBytes              Bytes
	ReadCacheBytes         Bytes
	MaxProducers           int

	RecordEventTypes bool
	MaxEventTypes    int
	EventTypeRate    int

	SystemMaxDataBytes   Bytes
	SystemStatusBurst    int
	SystemStatusInterval time.Duration

	MaxEventBytes     Bytes
	MaxBatchBytes     Bytes
	MaxHeaderBytes    Bytes
	MaxHeaderLines    int
	MaxBodyMemory     Bytes
	MaxChannelMemory  Bytes
	MaxRequests       int
	ReadHeaderTimeout time.Duration
	ReadTimeout       time.Duration
	WriteTimeout      time.Duration
	IdleTimeout       time.Duration
	AppendTimeout     time.Duration
	RetryAfter        time.Duration
	WebHookRate       int
	MaxConns          int
	MaxBatchEvents    int
	MaxExtensions     int
	MaxAttributeBytes Bytes

	DeliveryTimeout      time.Duration
	MaxReplyBytes        Bytes
	MaxConnsPerHost      int
	MaxDeliveries        int
	MaxDeliveryBytes     Bytes
	MaxWaiting           int
	AllowDestinations    []string
	DeliveryCA           string
	MaxFilterNodes       int
	MaxFilterDataBytes   Bytes
	MaxFilterSteps       int
	MaxAPIRequests       int
	MaxAPIMutating       int
	ResourceHistoryCount int

	Bounds
}

// What IngressAuth may be.
const (
	AuthNone  = "none"
	AuthToken = "token"
)

// Declare adds the server's settings to a flag set, with their defaults.
func (s *Server) Declare(f *pflag.FlagSet) {
	for _, add := range []func(*pflag.FlagSet){s.declareServer, s.declareLog, s.declareIngress, s.declareDelivery} {
		add(f)
	}
	s.Bounds.declare(f)
}

func (s *Server) declareServer(f *pflag.FlagSet) {
	f.StringVar(&s.Config, "config", "", "configuration file (YAML); flags and variables win over it")
	f.StringVar(&s.Data, "data", "", "directory that holds everything the server keeps (required)")
	f.StringVar(&s.HTTP, "http", "127.0.0.1:8080", "address for events; port 0 takes a free one")
	f.StringVar(&s.API, "api", "127.0.0.1:8443", "address of the Kubernetes API and of Leat's operations API; port 0 takes a free one")
	f.StringVar(&s.Node, "node", "leat-0", "name of this member; it must not change")
	f.StringVar(&s.IngressAuth, "ingress-auth", "none", "who may send events: none, which asks nobody, or token: who has a ServiceAccount's token of the namespace")
	f.DurationVar(&s.MaxTokenAge, "max-token-age", 365*24*time.Hour, "the longest that a ServiceAccount's token lasts; what is asked for beyond is cut down to it")
	f.BoolVar(&s.InsecureNoAuth, "insecure-no-auth", false, "take events from anyone who reaches the address, also beyond loopback")
	f.StringVar(&s.TLSCert, "tls-cert", "", "certificate of the address for events, with its chain, as a PEM file; it is then served by HTTPS")
	f.StringVar(&s.TLSKey, "tls-key", "", "key of tls-cert, as a PEM file")
	f.DurationVar(&s.TLSReload, "tls-reload", 5*time.Second, "how often tls-cert and tls-key are looked at; new ones are used at once")
	f.StringVar(&s.PublicURL, "public-url", "", "URL at which others reach the address for events, such as https://events.example.com; status.address.url begins with it")
	f.StringVar(&s.LogFormat, "log-format", "auto", "text, json, or auto: text on a terminal, json otherwise")
	f.StringVar(&s.LogLevel, "log-level", "info", "debug, info, warn or error")
	f.IntVar(&s.MaxMetricSeries, "max-metric-series", 10_000, "series of one metric; what would begin another is dropped and counted")
	f.StringVar(&s.OTLPEndpoint, "otlp-endpoint", "", "OpenTelemetry collector that traces are sent to, by OTLP over HTTP, such as http://127.0.0.1:4318; headers are in OTEL_EXPORTER_OTLP_HEADERS")
	f.Float64Var(&s.TraceSampleRatio, "trace-sample-ratio", 0.1, "share of the traces that begin here that are recorded, 0 to 1; a publisher's own decision is honoured")
	f.IntVar(&s.TraceQueue, "trace-queue", 8192, "spans that wait to be sent; more are dropped and counted")
	f.DurationVar(&s.ShutdownTimeout, "shutdown-timeout", 30*time.Second, "how long requests and deliveries in flight may take to finish on SIGTERM")
	f.IntVar(&s.MaxAPIRequests, "max-api-requests", 400, "API reads at once; more get 429")
	f.IntVar(&s.MaxAPIMutating, "max-api-mutating-requests", 200, "API writes at once; more get 429")
	f.IntVar(&s.ResourceHistoryCount, "resource-history", 100_000, "API writes kept for watches to go on from")
}

func (s *Server) declareLog(f *pflag.FlagSet) {
	f.DurationVar(&s.RetentionAge, "retention", 7*24*time.Hour, "how long events are kept; leat.dev/retention sets it for one broker or channel")
	f.DurationVar(&s.DeadLetterRetentionAge, "dead-letter-retention", 30*24*time.Hour, "how long dead letters are kept")
	bytesVar(f, &s.DeadLetterMaxBytes, "dead-letter-max-bytes", 1<<30, "size of one subscription's dead letter log; the oldest go first")
	bytesVar(f, &s.MaxDisk, "max-disk", 0, "size of the event log on disk, at least snapshot-bytes and twice segment-bytes; 0: no bound")
	f.StringVar(&s.MaxDiskPolicy, "max-disk-policy", "drop", "beyond max-disk: drop the oldest events, of the channel most over its quota first, or refuse new ones with 503")
	bytesVar(f, &s.DiskFloor, "disk-floor", 256<<20, "free space below which events are answered with 503")
	bytesVar(f, &s.DiskReserve, "disk-reserve", 64<<20, "free space below which resources, cursors and outcomes are not written either")
	f.DurationVar(&s.StallAfter, "stall-after", 5*time.Second, "time that the disk may not answer before events get 503 at once, and /readyz says so, until it does")
	bytesVar(f, &s.SegmentBytes, "segment-bytes", 64<<20, "size of a log segment")
	bytesVar(f, &s.SnapshotBytes, "snapshot-bytes", 128<<20, "log written between snapshots")
	bytesVar(f, &s.MaxEntryBytes, "max-entry-bytes", 2<<20, "events packed into one log entry, at most a quarter of segment-bytes; a larger event or batch is an entry of its own")
	bytesVar(f, &s.MaxPendingBytes, "max-pending-bytes", 64<<20, "events waiting for the disk; more get 503")
	bytesVar(f, &s.TailBytes, "tail-bytes", 8<<20, "recent events kept in memory for delivery")
	f.IntVar(&s.MaxProducers, "max-producers", 1024, "producers whose positions one broker or channel keeps, so that each of their events is there exactly once; beyond, the one used longest ago is forgotten")
	f.BoolVar(&s.RecordEventTypes, "record-event-types", true, "record the types of the events that flow through brokers as EventTypes")
	f.IntVar(&s.MaxEventTypes, "max-event-types", 200, "EventTypes recorded of one broker")
	f.IntVar(&s.EventTypeRate, "event-type-rate", 10, "EventTypes recorded in a second; further ones wait")
	bytesVar(f, &s.SystemMaxDataBytes, "system-max-data-bytes", 256<<10, "size up to which an object is shown whole on the system broker; larger ones by reference")
	f.IntVar(&s.SystemStatusBurst, "system-status-burst", 5, "events at once, on the system broker, of the status of one of its own objects")
	f.DurationVar(&s.SystemStatusInterval, "system-status-interval", 10*time.Second, "time between such events after the burst; a gap names those between")
	bytesVar(f, &s.ReadCacheBytes, "read-cache-bytes", 16<<20, "older events kept in memory for subscriptions that are behind")
}

func (s *Server) declareIngress(f *pflag.FlagSet) {
	bytesVar(f, &s.MaxEventBytes, "max-event-bytes", 1<<20, "data of one event; more gets 413")
	bytesVar(f, &s.MaxBatchBytes, "max-batch-bytes", 8<<20, "body of one request; more gets 413")
	bytesVar(f, &s.MaxHeaderBytes, "max-header-bytes", 64<<10, "headers of one request; more gets 431")
	f.IntVar(&s.MaxHeaderLines, "max-header-lines", 1000, "header lines of one request; more get 431")
	bytesVar(f, &s.MaxBodyMemory, "max-body-memory", 128<<20, "bodies of all requests at once; more get 503")
	bytesVar(f, &s.MaxChannelMemory, "max-channel-memory", 64<<20, "memory for the bodies of the requests at once to one broker or channel, by the buffers that they are in; the smallest, of 4 KiB, do not count; more get 429")
	f.IntVar(&s.MaxRequests, "max-requests", 10_000, "event requests at once; more get 503")
	f.DurationVar(&s.ReadHeaderTimeout, "read-header-timeout", 10*time.Second, "time to send a request's headers")
	f.DurationVar(&s.ReadTimeout, "read-timeout", 60*time.Second, "time to send a whole request")
	f.DurationVar(&s.WriteTimeout, "write-timeout", 2*time.Minute, "time to answer a request, that to make it durable included")
	f.DurationVar(&s.AppendTimeout, "append-timeout", 30*time.Second, "time for events to become durable; then 503, and they may be stored")
	f.DurationVar(&s.RetryAfter, "retry-after", time.Second, "what a 503 asks the sender to wait, in whole seconds")
	f.IntVar(&s.WebHookRate, "webhook-rate", 0, "requests a minute that OPTIONS allows a web hook; 0: any")
	f.IntVar(&s.MaxConns, "max-conns", 20_000, "connections to the address for events; more wait")
	f.IntVar(&s.MaxBatchEvents, "max-batch-events", 10_000, "events of one batch")
	f.IntVar(&s.MaxExtensions, "max-extensions", 128, "extension attributes of one event")
	bytesVar(f, &s.MaxAttributeBytes, "max-attribute-bytes", 64<<10, "names and values of the attributes of one event")
	f.DurationVar(&s.IdleTimeout, "idle-timeout", 2*time.Minute, "time that an idle connection is kept")
}

func (s *Server) declareDelivery(f *pflag.FlagSet) {
	f.DurationVar(&s.DeliveryTimeout, "delivery-timeout", 60*time.Second, "time for one attempt where the delivery spec has no timeout")
	bytesVar(f, &s.MaxReplyBytes, "max-reply-bytes", 1<<20, "size of a reply event")
	f.IntVar(&s.MaxConnsPerHost, "max-conns-per-host", 256, "connections to one subscriber host")
	f.IntVar(&s.MaxDeliveries, "max-deliveries", 8192, "delivery requests out over all subscriptions; as it is neared, windows shrink")
	bytesVar(f, &s.MaxDeliveryBytes, "max-delivery-bytes", 128<<20, "payloads of the delivery requests out")
	f.IntVar(&s.MaxWaiting, "max-waiting", 250_000, "events that wait for their next attempt over all subscriptions")
	f.IntVar(&s.MaxFilterNodes, "max-filter-conditions", 1000, "conditions of one filter")
	f.IntVar(&s.MaxFilterSteps, "max-filter-steps", 500_000, "steps of one evaluation of an expr expression; beyond, it does not match")
	bytesVar(f, &s.MaxFilterDataBytes, "max-filter-data-bytes", 1<<20, "payload that a filter can look into; on a larger one it does not match")
	f.StringVar(&s.DeliveryCA, "delivery-ca", "", "certificate authorities of subscribers, beside the system's, as a PEM file")
	f.StringSliceVar(&s.AllowDestinations, "allow-destinations", nil, "addresses or CIDR blocks that deliveries may reach although they are link-local, metadata or the server's own API")
}

// Load fills what the command line left open: first from LEAT_ variables, then
// from the configuration file. Errors name the variable or the file and key.
func Load(f *pflag.FlagSet, environ []string) error {
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		key, ok := strings.CutPrefix(name, prefix)
		if !ok {
			continue
		}
		flag := f.Lookup(flagOf(key))
		if flag == nil || flag.Changed {
			continue // see UnknownVariables
		}
		if err := set(f, flag.Name, value); err != nil {
			return fmt.Errorf("variable %s: %w", name, err)
		}
	}
	path, err := f.GetString("config")
	if err != nil || path == "" {
		return err
	}
	return loadFile(f, path)
}

// File is the head of a configuration file.
type file struct {
	APIVersion string         `json:"apiVersion"`
	Kind       string         `json:"kind"`
	Settings   map[string]any `json:"settings"`
}

const (
	fileAPIVersion = "leat.dev/v1alpha1"
	fileKind       = "ServerConfiguration"
)

func loadFile(f *pflag.FlagSet, path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("configuration file: %w", err)
	}
	var c file
	if err := yaml.UnmarshalStrict(b, &c); err != nil {
		return fmt.Errorf("configuration file %s: %w\nIt has apiVersion: %s, kind: %s, and each setting under settings:", path, err, fileAPIVersion, fileKind)
	}
	if c.APIVersion != fileAPIVersion || c.Kind != fileKind {
		return fmt.Errorf("configuration file %s: apiVersion and kind must be %s and %s, not %q and %q", path, fileAPIVersion, fileKind, c.APIVersion, c.Kind)
	}
	for key, value := range c.Settings {
		flag := f.Lookup(key)
		if flag == nil || key == "config" {
			return fmt.Errorf("configuration file %s: settings.%s is not known%s", path, key, suggest(f, key))
		}
		if flag.Changed {
			continue
		}
		v, err := fileValue(value, flag.Value.Type() == "stringSlice")
		if err != nil {
			return fmt.Errorf("configuration file %s: settings.%s %w", path, key, err)
		}
		if err := set(f, key, v); err != nil {
			return fmt.Errorf("configuration file %s: settings.%s: %w", path, key, err)
		}
	}
	return nil
}

// fileValue is a value as a flag takes it.
func fileValue(v any, list bool) (string, error) {
	switch v := v.(type) {
	case nil:
		return "", errors.New("has no value: write one, or leave the key out")
	case map[string]any:
		return "", errors.New("takes one value, not an object")
	case []any:
		if !list {
			return "", errors.New("takes one value, not a list")
		}
		parts := make([]string, len(v))
		for i, p := range v {
			var err error
			if parts[i], err = fileValue(p, false); err != nil {
				return "", errors.New("takes a list of single values")
			}
		}
		return strings.Join(parts, ","), nil
	case float64:
		if v == float64(int64(v)) {
			return fmt.Sprint(int64(v)), nil
		}
	}
	return fmt.Sprint(v), nil
}

func suggest(f *pflag.FlagSet, key string) string {
	var near []string
	f.VisitAll(func(flag *pflag.Flag) {
		if strings.Contains(flag.Name, key) || strings.Contains(key, flag.Name) {
			near = append(near, flag.Name)
		}
	})
	if one := nearest(f, key); len(near) == 0 && one != "" {
		near = append(near, one)
	}
	if len(near) == 0 {
		return "; `leat server --help` lists the settings"
	}
	return "; did you mean " + strings.Join(near, ", ") + "?"
}

// AllowedDestinations are the blocks of addresses of allow-destinations.
func (s *Server) AllowedDestinations() ([]netip.Prefix, error) {
	var all []netip.Prefix
	for _, v := range s.AllowDestinations {
		if a, err := netip.ParseAddr(v); err == nil {
			all = append(all, netip.PrefixFrom(a, a.BitLen()))
			continue
		}
		p, err := netip.ParsePrefix(v)
		if err != nil {
			return nil, fmt.Errorf("--allow-destinations: %q must be an address or a block of them, such as 169.254.1.1 or 10.0.0.0/8", v)
		}
		all = append(all, p.Masked())
	}
	return all, nil
}

// WriteReference writes the reference page: a table of every setting.
func WriteReference(w io.Writer, f *pflag.FlagSet) error {
	var b strings.Builder
	b.WriteString("# Server settings\n\nEach setting is a flag of `leat server`, a key under `settings` of the configuration file (`apiVersion: " +
		fileAPIVersion + "`, `kind: " + fileKind + "`) and a variable. A flag wins over a variable, a variable over the file. " +
		"A `LEAT_` variable that is none of these has no effect, and a warning at the start says so.\n\n" +
		"This page is generated from the declaration in `cmd/leat/settings`.\n\n| flag and key | variable | default | meaning |\n|---|---|---|---|\n")
	f.VisitAll(func(flag *pflag.Flag) {
		def := flag.DefValue
		if def == "" || def == "[]" {
			def = "none"
		}
		fmt.Fprintf(&b, "| `%s` | `%s` | %s | %s |\n", flag.Name, Variable(flag.Name), def, flag.Usage)
	})
	_, err := io.WriteString(w, b.String())
	return err
}

// Variable is the environment variable of a setting.
func Variable(name string) string {
	return prefix + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}
