package settings

import (
	"fmt"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// TestNoNumberPassesThatHasNoMeaning: a zero that the parts would take for their
// own default, or a negative number, is refused by the name of the setting.
func TestNoNumberPassesThatHasNoMeaning(t *testing.T) {
	zeroes := map[string]bool{"max-disk": true, "webhook-rate": true, "trace-sample-ratio": true} // which say what 0 means
	_, all := declare(t)
	all.VisitAll(func(flag *pflag.Flag) {
		values := []string{"0", "-1"}
		switch flag.Value.Type() {
		case "duration":
			values = []string{"0s", "-1s"}
		case "size":
			values = []string{"0"} // it takes no sign
		case "int", "float64":
		default:
			return
		}
		for _, v := range values {
			if v == "0" && zeroes[flag.Name] {
				continue
			}
			s, _ := declare(t, "--data", "x", "--"+flag.Name+"="+v)
			if err := s.Validate(); err == nil || !strings.Contains(err.Error(), "--"+flag.Name+" must be") {
				t.Errorf("--%s=%s: %v", flag.Name, v, err)
			}
		}
	})
}

// TestSettingsThatContradictEachOther: what would never have an effect, or would
// keep what is allowed from ever being taken, is refused by both names.
func TestSettingsThatContradictEachOther(t *testing.T) {
	for args, want := range map[string]string{
		"--append-timeout=2m":                                "--append-timeout (2m0s) must be less than --write-timeout (2m0s)",
		"--max-body-memory=16MiB --max-channel-memory=17MiB": "--max-body-memory (16MiB) must be more than twice --max-batch-bytes (8MiB)",
		"--max-channel-memory=12MiB":                         "--max-channel-memory (12MiB) must be more than twice --max-batch-bytes (8MiB)",
		"--terms-bytes=20MiB":                                "--terms-bytes (20MiB) must be at most a quarter of --segment-bytes (64MiB)",
		"--commit-bytes=20MiB":                               "--commit-bytes (20MiB) must be at most a quarter of --segment-bytes (64MiB)",
		"--system-chunk-bytes=20MiB":                         "--system-chunk-bytes (20MiB) must be at most a quarter of --segment-bytes (64MiB)",
		"--api-event-age=500ms":                              "--api-event-age must be at least 1s, not 500ms",
		"--api-watch-timeout=999ms":                          "--api-watch-timeout must be at least 1s, not 999ms",
		"--max-disk=255MiB":                                  "--max-disk (255MiB) must be 0, for no bound, or at least --snapshot-bytes (128MiB) and twice --segment-bytes (64MiB), 256MiB in all",
		"--max-disk=256MiB":                                  "",
		"--max-producers=4294967296":                         "--max-producers must be at most 2147483647",
		"--max-batch-bytes=4611686018427387904":              "--segment-bytes (64MiB) must be at least four times --max-batch-bytes (4194304TiB)",
		"--max-channel-memory=12MiB --max-batch-bytes=4MiB":  "",
	} {
		s, _ := declare(t, append(strings.Fields(args), "--data", "x")...)
		if got := fmt.Sprint(s.Validate()); want == "" && got != "<nil>" || !strings.Contains(got, want) {
			t.Errorf("%s: %s, want %q", args, got, want)
		}
	}
}

// TestNodeNameThatTheAPIRefuses: the log would be bound to it at the first start,
// and to no other name afterwards.
func TestNodeNameThatTheAPIRefuses(t *testing.T) {
	for name, ok := range map[string]bool{
		"leat-0": true, "a": true, "0.leat.svc": true, strings.Repeat("a", 63): true,
		"": false, "Leat": false, "node_1": false, "-a": false, "a.": false, "a b": false, "a..b": false, "a\n": false, strings.Repeat("a", 64): false,
	} {
		s, _ := declare(t, "--data", "x", "--node", name)
		if err := s.Validate(); (err == nil) != ok || err != nil && !strings.Contains(err.Error(), "--node must be") {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// TestMessagesShowNoCredentials, also of what is no URL, for want of a scheme or by
// a slip.
func TestMessagesShowNoCredentials(t *testing.T) {
	for _, value := range []string{"user:secret@collector:4318", "http://user:secret%zz@h", "ftp://user:secret@h", "https://user:sec@secret@h?x"} {
		for _, name := range []string{"otlp-endpoint", "public-url"} {
			s, _ := declare(t, "--data", "x", "--"+name+"="+value)
			if err := s.Validate(); err != nil && strings.Contains(err.Error(), "secret") || err == nil && name == "public-url" {
				t.Errorf("--%s=%s: %v", name, value, err)
			}
		}
	}
}
