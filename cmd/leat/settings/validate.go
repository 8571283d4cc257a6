package settings

import (
	"errors"
	"fmt"
	"math"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Validate refuses settings that cannot go together, naming them all.
func (s *Server) Validate() error {
	var errs []error
	if s.Data == "" {
		errs = append(errs, errors.New("--data is required: the directory that holds everything the server keeps"))
	}
	if !slices.Contains([]string{"auto", "text", "json"}, s.LogFormat) {
		errs = append(errs, fmt.Errorf("--log-format must be auto, text or json, not %q", s.LogFormat))
	}
	if !slices.Contains([]string{"drop", "refuse"}, s.MaxDiskPolicy) {
		errs = append(errs, fmt.Errorf("--max-disk-policy must be drop or refuse, not %q", s.MaxDiskPolicy))
	}
	if _, err := s.AllowedDestinations(); err != nil {
		errs = append(errs, err)
	}
	errs = append(errs, s.validatePositive()...)
	errs = append(errs, s.Bounds.validate()...)
	if s.OTLPEndpoint != "" {
		if u, err := url.Parse(s.OTLPEndpoint); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			errs = append(errs, fmt.Errorf("--otlp-endpoint: %q must be a URL such as http://127.0.0.1:4318", redacted(s.OTLPEndpoint)))
		}
	}
	if !(s.TraceSampleRatio >= 0 && s.TraceSampleRatio <= 1) {
		errs = append(errs, fmt.Errorf("--trace-sample-ratio must be from 0 to 1, not %v", s.TraceSampleRatio))
	}
	if !nodeName.MatchString(s.Node) || len(s.Node) > maxNodeName {
		errs = append(errs, fmt.Errorf("--node must be of lower case letters, digits, - and ., between letters or digits, and at most %d characters, not %q", maxNodeName, s.Node))
	}
	if s.WebHookRate < 0 {
		errs = append(errs, fmt.Errorf("--webhook-rate must be 0, which is any, or more, not %d", s.WebHookRate))
	}
	errs = append(errs, s.validateTogether()...)
	switch {
	case s.IngressAuth != AuthNone && s.IngressAuth != AuthToken:
		errs = append(errs, fmt.Errorf("--ingress-auth must be none or token, not %q", s.IngressAuth))
	case s.IngressAuth == AuthToken && s.InsecureNoAuth:
		errs = append(errs, errors.New("--ingress-auth token and --insecure-no-auth exclude each other: the one asks for tokens, the other takes events from anyone"))
	}
	if s.MaxTokenAge < time.Hour {
		errs = append(errs, fmt.Errorf("--max-token-age must be at least 1h, which tokens last by default, not %s", s.MaxTokenAge))
	}
	errs = append(errs, s.validateTLS()...)
	if err := s.validateExposure(); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// nodeName is what the API takes as the name of a Node. The log is bound to it
// before there is an API to refuse it.
var nodeName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)

// maxNodeName is how long it may be: it is also the value of a label.
const maxNodeName = 63

// validateTogether refuses what would have no effect, or another one than it says,
// or would keep what is allowed from ever being taken.
func (s *Server) validateTogether() (errs []error) {
	if s.DiskReserve > s.DiskFloor {
		errs = append(errs, fmt.Errorf("--disk-reserve (%s) must not exceed --disk-floor (%s)", s.DiskReserve, s.DiskFloor))
	}
	if s.SegmentBytes/4 < s.MaxBatchBytes {
		errs = append(errs, fmt.Errorf("--segment-bytes (%s) must be at least four times --max-batch-bytes (%s): a batch is one entry", s.SegmentBytes, s.MaxBatchBytes))
	}
	if s.MaxEventBytes > s.MaxBatchBytes {
		errs = append(errs, fmt.Errorf("--max-event-bytes (%s) must not exceed --max-batch-bytes (%s), the limit of a whole body", s.MaxEventBytes, s.MaxBatchBytes))
	}
	if least := s.SnapshotBytes + 2*s.SegmentBytes; s.MaxDisk > 0 && s.MaxDisk < least {
		errs = append(errs, fmt.Errorf("--max-disk (%s) must be 0, for no bound, or at least --snapshot-bytes (%s) and twice --segment-bytes (%s), %s in all: what is deleted are whole segments that a snapshot covers", s.MaxDisk, s.SnapshotBytes, s.SegmentBytes, least))
	}
	if s.MaxProducers > math.MaxInt32 {
		errs = append(errs, fmt.Errorf("--max-producers must be at most %d", math.MaxInt32))
	}
	if s.AppendTimeout >= s.WriteTimeout {
		errs = append(errs, fmt.Errorf("--append-timeout (%s) must be less than --write-timeout (%s): nobody would get the 503", s.AppendTimeout, s.WriteTimeout))
	}
	for _, memory := range []struct {
		name string
		size Bytes
	}{{"max-body-memory", s.MaxBodyMemory}, {"max-channel-memory", s.MaxChannelMemory}} {
		if memory.size/2 <= s.MaxBatchBytes {
			errs = append(errs, fmt.Errorf("--%s (%s) must be more than twice --max-batch-bytes (%s): a body takes more and more room while it comes in, and is for a moment in the old and in the new", memory.name, memory.size, s.MaxBatchBytes))
		}
	}
	for _, times := range []struct {
		name string
		is   time.Duration
	}{{"api-event-age", s.APIEventAge}, {"api-watch-timeout", s.APIWatchTimeout}} {
		if times.is > 0 && times.is < time.Second {
			errs = append(errs, fmt.Errorf("--%s must be at least 1s, not %s: it counts in seconds", times.name, times.is))
		}
	}
	for _, record := range []struct {
		name string
		size Bytes
	}{{"terms-bytes", s.TermsBytes}, {"commit-bytes", s.CommitBytes}, {"system-chunk-bytes", s.SystemChunkBytes}} {
		if record.size > s.SegmentBytes/4 {
			errs = append(errs, fmt.Errorf("--%s (%s) must be at most a quarter of --segment-bytes (%s), which it is a record in", record.name, record.size, s.SegmentBytes))
		}
	}
	return errs
}

func (s *Server) validateTLS() (errs []error) {
	if (s.TLSCert == "") != (s.TLSKey == "") {
		errs = append(errs, errors.New("--tls-cert and --tls-key must be set together"))
	}
	if s.PublicURL != "" {
		u, err := url.Parse(s.PublicURL)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			errs = append(errs, fmt.Errorf("--public-url: %q must be a URL such as https://events.example.com, without credentials", redacted(s.PublicURL)))
		}
	}
	return errs
}

// redacted is what may be no URL as a message may show it: without what may be
// credentials.
func redacted(raw string) string {
	if at := strings.LastIndexByte(raw, '@'); at >= 0 {
		return "xxxxx" + raw[at:]
	}
	return raw
}

// validateExposure refuses to take events from other machines unless it was
// said who may send them.
func (s *Server) validateExposure() error {
	loopback, err := isLoopback(s.HTTP)
	switch {
	case err != nil:
		return fmt.Errorf("--http: %w", err)
	case loopback || s.InsecureNoAuth:
		return nil
	case s.IngressAuth != AuthToken:
		return fmt.Errorf("--http %s takes events from other machines, and no authentication is configured: bind it to 127.0.0.1, ask for tokens with --ingress-auth token, --tls-cert and --tls-key, or take events from anyone with --insecure-no-auth", s.HTTP)
	case s.TLSCert == "":
		return fmt.Errorf("--http %s takes tokens from other machines, which would pass the network in the clear: set --tls-cert and --tls-key, or bind it to 127.0.0.1, or take events from anyone with --insecure-no-auth", s.HTTP)
	}
	return nil
}

// validatePositive refuses zeros where the parts would take one for "the
// default".
func (s *Server) validatePositive() (errs []error) {
	for _, v := range []struct {
		name  string
		value int64
	}{
		{"retention", int64(s.RetentionAge)}, {"dead-letter-retention", int64(s.DeadLetterRetentionAge)},
		{"dead-letter-max-bytes", int64(s.DeadLetterMaxBytes)}, {"disk-floor", int64(s.DiskFloor)}, {"disk-reserve", int64(s.DiskReserve)}, {"stall-after", int64(s.StallAfter)},
		{"segment-bytes", int64(s.SegmentBytes)}, {"snapshot-bytes", int64(s.SnapshotBytes)}, {"max-entry-bytes", int64(s.MaxEntryBytes)},
		{"max-pending-bytes", int64(s.MaxPendingBytes)}, {"tail-bytes", int64(s.TailBytes)}, {"read-cache-bytes", int64(s.ReadCacheBytes)},
		{"max-producers", int64(s.MaxProducers)}, {"max-event-types", int64(s.MaxEventTypes)}, {"event-type-rate", int64(s.EventTypeRate)}, {"system-max-data-bytes", int64(s.SystemMaxDataBytes)}, {"system-status-burst", int64(s.SystemStatusBurst)}, {"system-status-interval", int64(s.SystemStatusInterval)},
		{"max-event-bytes", int64(s.MaxEventBytes)}, {"max-batch-bytes", int64(s.MaxBatchBytes)}, {"max-header-bytes", int64(s.MaxHeaderBytes)}, {"max-header-lines", int64(s.MaxHeaderLines)},
		{"max-body-memory", int64(s.MaxBodyMemory)}, {"max-channel-memory", int64(s.MaxChannelMemory)}, {"max-requests", int64(s.MaxRequests)}, {"max-conns", int64(s.MaxConns)},
		{"read-header-timeout", int64(s.ReadHeaderTimeout)}, {"read-timeout", int64(s.ReadTimeout)}, {"write-timeout", int64(s.WriteTimeout)},
		{"idle-timeout", int64(s.IdleTimeout)}, {"append-timeout", int64(s.AppendTimeout)}, {"retry-after", int64(s.RetryAfter)},
		{"max-batch-events", int64(s.MaxBatchEvents)}, {"max-extensions", int64(s.MaxExtensions)}, {"max-attribute-bytes", int64(s.MaxAttributeBytes)},
		{"delivery-timeout", int64(s.DeliveryTimeout)}, {"max-reply-bytes", int64(s.MaxReplyBytes)}, {"max-conns-per-host", int64(s.MaxConnsPerHost)},
		{"max-deliveries", int64(s.MaxDeliveries)}, {"max-delivery-bytes", int64(s.MaxDeliveryBytes)}, {"max-waiting", int64(s.MaxWaiting)},
		{"max-filter-conditions", int64(s.MaxFilterNodes)}, {"max-filter-steps", int64(s.MaxFilterSteps)}, {"max-filter-data-bytes", int64(s.MaxFilterDataBytes)},
		{"max-api-requests", int64(s.MaxAPIRequests)}, {"max-api-mutating-requests", int64(s.MaxAPIMutating)},
		{"resource-history", int64(s.ResourceHistoryCount)}, {"shutdown-timeout", int64(s.ShutdownTimeout)}, {"max-metric-series", int64(s.MaxMetricSeries)}, {"trace-queue", int64(s.TraceQueue)}, {"tls-reload", int64(s.TLSReload)},
	} {
		if v.value <= 0 {
			errs = append(errs, fmt.Errorf("--%s must be more than 0", v.name))
		}
	}
	return errs
}
