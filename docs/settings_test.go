package docs

import (
	"bytes"
	"os"
	"testing"

	"github.com/spf13/pflag"

	"github.com/leat-dev/leat/cmd/leat/server/metrics"
	"github.com/leat-dev/leat/cmd/leat/settings"
)

// TestSettingsPageIsGenerated: the reference page says what the declaration says.
func TestSettingsPageIsGenerated(t *testing.T) {
	f := pflag.NewFlagSet("server", pflag.ContinueOnError)
	new(settings.Server).Declare(f)
	var want bytes.Buffer
	if err := settings.WriteReference(&want, f); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("settings.md")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want.Bytes()) {
		t.Error("settings.md is not what the declaration says; run make docs")
	}
}

// TestMetricsPageIsGenerated: and so does the page of the metrics.
func TestMetricsPageIsGenerated(t *testing.T) {
	var want bytes.Buffer
	if err := metrics.WriteReference(&want); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want.Bytes()) {
		t.Error("metrics.md is not what the declarations say; run make docs")
	}
}
