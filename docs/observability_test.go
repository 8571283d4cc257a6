package docs

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestMetricsNamedOnPagesExist: what observability.md asks Prometheus for is
// there.
func TestMetricsNamedOnPagesExist(t *testing.T) {
	page, err := os.ReadFile("observability.md")
	if err != nil {
		t.Fatal(err)
	}
	reference, err := os.ReadFile("metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile(`\bleat_[a-z0-9_]+`).FindAllString(string(page), -1)
	if len(names) < 10 {
		t.Fatalf("the page names %d metrics only", len(names))
	}
	part := regexp.MustCompile(`_(bucket|sum|count)$`)
	for _, name := range names {
		if !strings.Contains(string(reference), "| `"+part.ReplaceAllString(name, "")+"` |") {
			t.Errorf("there is no metric %s", name)
		}
	}
}

// TestRulesOnPagesAreRules, as Prometheus' own tool sees it.
func TestRulesOnPagesAreRules(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("promtool is not installed here")
	}
	page, err := os.ReadFile("observability.md")
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	for _, b := range fenced(string(page)) {
		if b.info != "yaml rules" {
			continue
		}
		file := filepath.Join(t.TempDir(), "leat.rules.yml")
		if err := os.WriteFile(file, []byte(b.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(promtool, "check", "rules", file).CombinedOutput(); err != nil {
			t.Errorf("line %d: %v\n%s", b.line, err, out)
		}
		checked++
	}
	if checked == 0 {
		t.Error("there are no rules on the page")
	}
}
