package settings

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

func declare(t *testing.T, args ...string) (*Server, *pflag.FlagSet) {
	t.Helper()
	var s Server
	f := pflag.NewFlagSet("server", pflag.ContinueOnError)
	s.Declare(f)
	if err := f.Parse(args); err != nil {
		t.Fatal(err)
	}
	return &s, f
}

func TestPrecedenceFlagVariableFileDefault(t *testing.T) {
	path := write(t, `
apiVersion: leat.dev/v1alpha1
kind: ServerConfiguration
settings:
  retention: 1h
  node: from-file
  max-event-bytes: 2MiB
  max-requests: 7
  allow-destinations: [169.254.1.1, 10.0.0.0/8]
`)
	s, f := declare(t, "--config", path, "--retention", "2h")
	if err := Load(f, []string{"LEAT_NODE=from-variable", "LEAT_RETENTION=3h", "HOME=/x", "LEAT_KUBECONFIG=/y"}); err != nil {
		t.Fatal(err)
	}
	if s.RetentionAge != 2*time.Hour {
		t.Errorf("retention = %s: the flag must win", s.RetentionAge)
	}
	if s.Node != "from-variable" {
		t.Errorf("node = %q: the variable must win over the file", s.Node)
	}
	if s.MaxEventBytes != 2<<20 || s.MaxRequests != 7 || len(s.AllowDestinations) != 2 {
		t.Errorf("from the file: %v, %d, %v", s.MaxEventBytes, s.MaxRequests, s.AllowDestinations)
	}
	if s.SegmentBytes != 64<<20 {
		t.Errorf("segment-bytes = %s: the default must stand", s.SegmentBytes)
	}
}

func TestFileErrorsNameTheKey(t *testing.T) {
	head := "apiVersion: leat.dev/v1alpha1\nkind: ServerConfiguration\n"
	for name, c := range map[string]struct{ content, want string }{
		"unknown setting":  {head + "settings: {retentio: 1h}", "settings.retentio is not known; did you mean"},
		"unknown field":    {head + "setings: {}", `unknown field "setings"`},
		"wrong kind":       {"apiVersion: v1\nkind: X\n", "must be leat.dev/v1alpha1 and ServerConfiguration"},
		"no settings":      {"retention: 1h\n", "each setting under settings:"},
		"a list":           {head + "settings: {retention: [1h]}", "settings.retention takes one value, not a list"},
		"no value":         {head + "settings: {data: }", "settings.data has no value: write one, or leave the key out"},
		"an object":        {head + "settings: {node: {name: a}}", "settings.node takes one value, not an object"},
		"a list in a list": {head + "settings: {allow-destinations: [[10.0.0.0/8]]}", "settings.allow-destinations takes a list of single values"},
		"bad value":        {head + "settings: {max-disk: huge}", "settings.max-disk"},
	} {
		t.Run(name, func(t *testing.T) {
			_, f := declare(t, "--config", write(t, c.content))
			err := Load(f, nil)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q in it", err, c.want)
			}
		})
	}
	_, f := declare(t)
	if err := Load(f, []string{"LEAT_RETENTION=soon"}); err == nil || !strings.Contains(err.Error(), "variable LEAT_RETENTION") {
		t.Errorf("got %v", err)
	}
}

func TestBeyondLoopbackNeedsAChoice(t *testing.T) {
	for address, ok := range map[string]bool{
		"127.0.0.1:0": true, "localhost:8080": true, "[::1]:0": true,
		"0.0.0.0:8080": false, ":8080": false, "192.0.2.1:80": false, "example.com:80": false,
	} {
		s, _ := declare(t, "--data", "x", "--http", address)
		err := s.Validate()
		if (err == nil) != ok {
			t.Errorf("--http %s: %v", address, err)
		}
		if err != nil && !strings.Contains(err.Error(), "--insecure-no-auth") {
			t.Errorf("the error must name the settings to choose from: %v", err)
		}
		s.InsecureNoAuth = true
		if err := s.Validate(); err != nil {
			t.Errorf("--http %s --insecure-no-auth: %v", address, err)
		}
	}
}

func TestTLSAndTraces(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string // "": accepted
	}{
		{[]string{"--tls-cert", "a", "--tls-key", "b", "--public-url", "https://events.example.com"}, ""},
		{[]string{"--tls-cert", "a"}, "--tls-cert and --tls-key must be set together"},
		{[]string{"--tls-cert", "a", "--tls-key", "b", "--tls-reload", "0s"}, "--tls-reload must be more than 0"},
		{[]string{"--public-url", "events.example.com"}, "--public-url"},
		{[]string{"--public-url", "https://user:secret@h"}, "--public-url"},
		{[]string{"--tls-cert", "a", "--tls-key", "b", "--http", "0.0.0.0:1"}, "no authentication is configured"},
		{[]string{"--tls-cert", "a", "--tls-key", "b", "--http", "0.0.0.0:1", "--ingress-auth", "token"}, ""},
		{[]string{"--http", "0.0.0.0:1", "--ingress-auth", "token"}, "set --tls-cert and --tls-key"},
		{[]string{"--ingress-auth", "token"}, ""},
		{[]string{"--ingress-auth", "oidc"}, "--ingress-auth must be none or token"},
		{[]string{"--ingress-auth", "token", "--insecure-no-auth"}, "exclude each other"},
		{[]string{"--max-token-age", "1m"}, "--max-token-age must be at least 1h"},
		{[]string{"--otlp-endpoint", "http://127.0.0.1:4318", "--trace-sample-ratio", "1"}, ""},
		{[]string{"--otlp-endpoint", "127.0.0.1:4318"}, "--otlp-endpoint"},
		{[]string{"--trace-sample-ratio", "1.5"}, "--trace-sample-ratio"},
		{[]string{"--trace-sample-ratio", "NaN"}, "--trace-sample-ratio"},
		{[]string{"--trace-queue", "0"}, "--trace-queue"},
		{[]string{"--max-metric-series", "0"}, "--max-metric-series"},
	} {
		s, _ := declare(t, append([]string{"--data", "x"}, c.args...)...)
		err := s.Validate()
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v, want %q", c.args, err, c.want)
		}
	}
}

func TestValidateNamesEverySetting(t *testing.T) {
	s, _ := declare(t, "--log-format", "xml", "--disk-reserve", "1GiB", "--segment-bytes", "1MiB", "--max-event-bytes", "1GiB")
	err := s.Validate()
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{"--data", "--log-format", "--disk-reserve", "--segment-bytes", "--max-event-bytes"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%s is not named in %q", want, err)
		}
	}
}

func TestBytesRoundTrip(t *testing.T) {
	for s, want := range map[string]Bytes{"0": 0, "17": 17, "64MiB": 64 << 20, "1 GiB": 1 << 30, "2kB": 2000, "3TB": 3e12, "5B": 5} {
		got, err := ParseBytes(s)
		if err != nil || got != want {
			t.Errorf("ParseBytes(%q) = %d, %v", s, got, err)
		}
		if again, err := ParseBytes(got.String()); err != nil || again != got {
			t.Errorf("%q does not read back: %d, %v", got.String(), again, err)
		}
	}
}

func FuzzParseBytes(f *testing.F) {
	for _, s := range []string{"", "1", "-1", "64MiB", "9223372036854775807TiB", "1.5GB", " 3 kB "} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		b, err := ParseBytes(s)
		if err == nil && b < 0 {
			t.Errorf("%q gave %d", s, b)
		}
	})
}

func write(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "leat.yaml")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
