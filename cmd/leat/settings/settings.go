// Package settings declares what the server can be told. One declaration of a
// setting makes its flag, its key in the configuration file, its environment
// variable and its row in the reference page.
package settings

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
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

	InsecureNoAuth bool

	LogFormat       string
	LogLevel        string
	ShutdownTimeout time.Duration

	RetentionAge           time.Duration
	DeadLetterRetentionAge time.Duration
	DeadLetterMaxBytes     Bytes
	MaxDisk                Bytes
	DiskFloor              Bytes
	DiskReserve            Bytes
	SegmentBytes           Bytes
	SnapshotBytes          Bytes
	MaxEntryBytes          Bytes
	MaxPendingBytes        Bytes
	TailBytes              Bytes
	ReadCacheBytes         Bytes

	MaxEventBytes     Bytes
	MaxBatchBytes     Bytes
	MaxHeaderBytes    Bytes
	MaxBodyMemory     Bytes
	MaxRequests       int
	ReadHeaderTimeout time.Duration
	ReadTimeout       time.Duration
	IdleTimeout       time.Duration

	DeliveryTimeout      time.Duration
	MaxReplyBytes        Bytes
	MaxConnsPerHost      int
	AllowDestinations    []string
	MaxAPIRequests       int
	MaxAPIMutating       int
	ResourceHistoryCount int
}

// Declare adds the server's settings to a flag set, with their defaults.
func (s *Server) Declare(f *pflag.FlagSet) {
	for _, add := range []func(*pflag.FlagSet){s.declareServer, s.declareLog, s.declareIngress, s.declareDelivery} {
		add(f)
	}
}

func (s *Server) declareServer(f *pflag.FlagSet) {
	f.StringVar(&s.Config, "config", "", "configuration file (YAML); flags and variables win over it")
	f.StringVar(&s.Data, "data", "", "directory that holds everything the server keeps (required)")
	f.StringVar(&s.HTTP, "http", "127.0.0.1:8080", "address for events; port 0 takes a free one")
	f.StringVar(&s.API, "api", "127.0.0.1:8443", "address of the Kubernetes API and of Leat's operations API; port 0 takes a free one")
	f.StringVar(&s.Node, "node", "leat-0", "name of this member; it must not change")
	f.BoolVar(&s.InsecureNoAuth, "insecure-no-auth", false, "take events from anyone who reaches the address, also beyond loopback")
	f.StringVar(&s.LogFormat, "log-format", "auto", "text, json, or auto: text on a terminal, json otherwise")
	f.StringVar(&s.LogLevel, "log-level", "info", "debug, info, warn or error")
	f.DurationVar(&s.ShutdownTimeout, "shutdown-timeout", 30*time.Second, "how long requests and deliveries in flight may take to finish on SIGTERM")
	f.IntVar(&s.MaxAPIRequests, "max-api-requests", 400, "API reads at once; more get 429")
	f.IntVar(&s.MaxAPIMutating, "max-api-mutating-requests", 200, "API writes at once; more get 429")
	f.IntVar(&s.ResourceHistoryCount, "resource-history", 100_000, "API writes kept for watches to go on from")
}

func (s *Server) declareLog(f *pflag.FlagSet) {
	f.DurationVar(&s.RetentionAge, "retention", 7*24*time.Hour, "how long events are kept; leat.dev/retention sets it for one broker or channel")
	f.DurationVar(&s.DeadLetterRetentionAge, "dead-letter-retention", 30*24*time.Hour, "how long dead letters are kept")
	bytesVar(f, &s.DeadLetterMaxBytes, "dead-letter-max-bytes", 1<<30, "size of one subscription's dead letter log; the oldest go first")
	bytesVar(f, &s.MaxDisk, "max-disk", 0, "size of the event log on disk; the channel most over its quota loses its oldest events first; 0: no bound")
	bytesVar(f, &s.DiskFloor, "disk-floor", 256<<20, "free space below which events are answered with 503")
	bytesVar(f, &s.DiskReserve, "disk-reserve", 64<<20, "free space below which resources, cursors and outcomes are not written either")
	bytesVar(f, &s.SegmentBytes, "segment-bytes", 64<<20, "size of a log segment")
	bytesVar(f, &s.SnapshotBytes, "snapshot-bytes", 128<<20, "log written between snapshots")
	bytesVar(f, &s.MaxEntryBytes, "max-entry-bytes", 256<<10, "events packed into one log entry; a larger event or batch is an entry of its own")
	bytesVar(f, &s.MaxPendingBytes, "max-pending-bytes", 64<<20, "events waiting for the disk; more get 503")
	bytesVar(f, &s.TailBytes, "tail-bytes", 32<<20, "recent events kept in memory for delivery")
	bytesVar(f, &s.ReadCacheBytes, "read-cache-bytes", 16<<20, "older events kept in memory for subscriptions that are behind")
}

func (s *Server) declareIngress(f *pflag.FlagSet) {
	bytesVar(f, &s.MaxEventBytes, "max-event-bytes", 1<<20, "data of one event; more gets 413")
	bytesVar(f, &s.MaxBatchBytes, "max-batch-bytes", 8<<20, "body of one request; more gets 413")
	bytesVar(f, &s.MaxHeaderBytes, "max-header-bytes", 64<<10, "headers of one request")
	bytesVar(f, &s.MaxBodyMemory, "max-body-memory", 128<<20, "bodies of all requests at once; more get 503")
	f.IntVar(&s.MaxRequests, "max-requests", 10_000, "event requests at once; more get 503")
	f.DurationVar(&s.ReadHeaderTimeout, "read-header-timeout", 10*time.Second, "time to send a request's headers")
	f.DurationVar(&s.ReadTimeout, "read-timeout", 60*time.Second, "time to send a whole request")
	f.DurationVar(&s.IdleTimeout, "idle-timeout", 2*time.Minute, "time that an idle connection is kept")
}

func (s *Server) declareDelivery(f *pflag.FlagSet) {
	f.DurationVar(&s.DeliveryTimeout, "delivery-timeout", 60*time.Second, "time for one attempt where the delivery spec has no timeout")
	bytesVar(f, &s.MaxReplyBytes, "max-reply-bytes", 1<<20, "size of a reply event")
	f.IntVar(&s.MaxConnsPerHost, "max-conns-per-host", 256, "connections to one subscriber host")
	f.StringSliceVar(&s.AllowDestinations, "allow-destinations", nil, "addresses or CIDR blocks that deliveries may reach although they are link-local, metadata or the server's own API")
}

// Load fills what the command line left open: first from LEAT_ variables, then
// from the configuration file. Errors name the variable or the file and key.
func Load(f *pflag.FlagSet, environ []string) error {
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		key, ok := strings.CutPrefix(name, "LEAT_")
		if !ok {
			continue
		}
		flag := f.Lookup(strings.ToLower(strings.ReplaceAll(key, "_", "-")))
		if flag == nil || flag.Changed {
			continue // other commands have variables of their own
		}
		if err := f.Set(flag.Name, value); err != nil {
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
		return fmt.Errorf("configuration file %s: %w", path, err)
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
		if err := f.Set(key, fileValue(value)); err != nil {
			return fmt.Errorf("configuration file %s: settings.%s: %w", path, key, err)
		}
	}
	return nil
}

func fileValue(v any) string {
	if list, ok := v.([]any); ok {
		parts := make([]string, len(list))
		for i, p := range list {
			parts[i] = fmt.Sprint(p)
		}
		return strings.Join(parts, ",")
	}
	if n, ok := v.(float64); ok && n == float64(int64(n)) {
		return fmt.Sprint(int64(n))
	}
	return fmt.Sprint(v)
}

func suggest(f *pflag.FlagSet, key string) string {
	var near []string
	f.VisitAll(func(flag *pflag.Flag) {
		if strings.Contains(flag.Name, key) || strings.Contains(key, flag.Name) {
			near = append(near, flag.Name)
		}
	})
	if len(near) == 0 {
		return "; `leat server --help` lists the settings"
	}
	return "; did you mean " + strings.Join(near, ", ") + "?"
}

// Validate refuses settings that cannot go together, naming them all.
func (s *Server) Validate() error {
	var errs []error
	if s.Data == "" {
		errs = append(errs, errors.New("--data is required: the directory that holds everything the server keeps"))
	}
	if !slices.Contains([]string{"auto", "text", "json"}, s.LogFormat) {
		errs = append(errs, fmt.Errorf("--log-format must be auto, text or json, not %q", s.LogFormat))
	}
	if s.DiskReserve > s.DiskFloor {
		errs = append(errs, fmt.Errorf("--disk-reserve (%s) must not exceed --disk-floor (%s)", s.DiskReserve, s.DiskFloor))
	}
	if s.SegmentBytes < 4*s.MaxBatchBytes {
		errs = append(errs, fmt.Errorf("--segment-bytes (%s) must be at least four times --max-batch-bytes (%s): a batch is one entry", s.SegmentBytes, s.MaxBatchBytes))
	}
	if s.MaxEventBytes > s.MaxBatchBytes {
		errs = append(errs, fmt.Errorf("--max-event-bytes (%s) must not exceed --max-batch-bytes (%s), the limit of a whole body", s.MaxEventBytes, s.MaxBatchBytes))
	}
	loopback, err := isLoopback(s.HTTP)
	if err != nil {
		errs = append(errs, fmt.Errorf("--http: %w", err))
	} else if !loopback && !s.InsecureNoAuth {
		errs = append(errs, fmt.Errorf("--http %s takes events from other machines, and no authentication is configured: bind it to 127.0.0.1, or take events from anyone with --insecure-no-auth", s.HTTP))
	}
	return errors.Join(errs...)
}

// WriteReference writes the reference page: a table of every setting.
func WriteReference(w io.Writer, f *pflag.FlagSet) error {
	var b strings.Builder
	b.WriteString("# Server settings\n\nEach setting is a flag of `leat server`, a key under `settings` of the configuration file (`apiVersion: " +
		fileAPIVersion + "`, `kind: " + fileKind + "`) and a variable. A flag wins over a variable, a variable over the file.\n\n" +
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
	return "LEAT_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}
