package settings

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
)

// TestUnknownVariablesAreTold: a slip has no effect, and whoever made it hears
// of it; what belongs to others is left alone.
func TestUnknownVariablesAreTold(t *testing.T) {
	_, f := declare(t)
	got := UnknownVariables(f, []string{
		"LEAT_RETENTON=1h", "LEAT_MAX_EVENT_BYTE=1", "LEAT_FRUIT=apple", "LEAT_",
		"LEAT_RETENTION=1h", "LEAT_CONFIG=/x", "LEAT_TOKEN=secret", "LEAT_BIN=x", "LEAT_SOAK=1h", "LEAT_MUTANTS=all", "LEAT_TEST_SEED=1",
		"LEAT_SERVICE_HOST=10.0.0.1", "LEAT_SERVICE_PORT_HTTP=80", "LEAT_PORT=tcp://10.0.0.1:80", "LEAT_PORT_80_TCP=x", "LEATHER=1", "HOME=/x",
	})
	const told = " is the variable of no setting, and has no effect: "
	want := []string{
		"LEAT_RETENTON" + told + "did you mean LEAT_RETENTION?",
		"LEAT_MAX_EVENT_BYTE" + told + "did you mean LEAT_MAX_EVENT_BYTES?",
		"LEAT_FRUIT" + told + "`leat server --help` lists the settings",
		"LEAT_" + told + "`leat server --help` lists the settings",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"", "abc", 3}, {"abc", "abc", 0}, {"abc", "abd", 1}, {"abc", "ac", 1}, {"kitten", "sitting", 3}} {
		if got, back := distance(c.a, c.b), distance(c.b, c.a); got != c.want || back != c.want {
			t.Errorf("%q, %q: %d and %d, want %d", c.a, c.b, got, back, c.want)
		}
	}
}

// TestWrongValuesSayWhatIsRight, wherever they come from.
func TestWrongValuesSayWhatIsRight(t *testing.T) {
	for _, c := range []struct{ name, value, want string }{
		{"retention", "7d", `"7d" is not a duration: a number with its unit, such as 500ms, 30s, 5m or 1h30m; a day is 24h`},
		{"max-requests", "many", `"many" is not a whole number, such as 10`},
		{"trace-sample-ratio", "half", `"half" is not a number, such as 0.5`},
		{"record-event-types", "yes", `"yes" is not true or false`},
		{"max-disk", "big", `"big" is not a size: write a whole number with KiB, MiB, GiB, TiB, kB, MB, GB or TB, or without a unit for bytes`},
	} {
		var s Server
		f := pflag.NewFlagSet("server", pflag.ContinueOnError)
		s.Declare(f)
		if got := FlagError(f, f.Parse([]string{"--" + c.name + "=" + c.value})).Error(); got != "--"+c.name+": "+c.want {
			t.Errorf("flag: %s", got)
		}
		if err := Load(f, []string{Variable(c.name) + "=" + c.value}); err == nil || err.Error() != "variable "+Variable(c.name)+": "+c.want {
			t.Errorf("variable: %v", err)
		}
		_, f = declare(t, "--config", write(t, "apiVersion: leat.dev/v1alpha1\nkind: ServerConfiguration\nsettings: {"+c.name+": '"+c.value+"'}"))
		if err := Load(f, nil); err == nil || !strings.HasSuffix(err.Error(), "settings."+c.name+": "+c.want) {
			t.Errorf("file: %v", err)
		}
	}
	_, f := declare(t)
	for flag, want := range map[string]string{
		"--retention": "--retention needs a value: a duration: a number with its unit, such as 500ms, 30s, 5m or 1h30m; a day is 24h",
		"--data":      "--data needs a value: directory that holds everything the server keeps (required)",
		"--retenton":  "unknown flag: --retenton; did you mean --retention?",
		"--fruit=x":   "unknown flag: --fruit",
		"-x":          "unknown shorthand flag: 'x' in -x",
	} {
		if got := FlagError(f, f.Parse([]string{flag})).Error(); got != want {
			t.Errorf("%s: %q, want %q", flag, got, want)
		}
	}
}
