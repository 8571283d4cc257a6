package docs

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// TestInvariantsNameTheirTests: each invariant in ARCHITECTURE.md names tests,
// which exist, in the folder that it says.
func TestInvariantsNameTheirTests(t *testing.T) {
	b, err := os.ReadFile("ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(b), "\n## Invariants\n")
	if !ok {
		t.Fatal("ARCHITECTURE.md has no invariants")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	name := regexp.MustCompile("`([A-Za-z0-9]+)`")
	rows := 0
	for line := range strings.Lines(section) {
		cells := strings.Split(line, "|")
		if len(cells) != 4 || strings.HasPrefix(cells[1], "-") || strings.TrimSpace(cells[1]) == "what holds" {
			continue
		}
		rows++
		folder, tests := "", 0
		for _, m := range name.FindAllStringSubmatch(cells[2], -1) {
			if !strings.HasPrefix(m[1], "Test") {
				folder = m[1]
				continue
			}
			tests++
			if !testIsIn(t, folder, m[1]) {
				t.Errorf("%s: there is no %s under %s/", strings.TrimSpace(cells[1]), m[1], folder)
			}
		}
		if tests == 0 {
			t.Errorf("%s: no test is named", strings.TrimSpace(cells[1]))
		}
	}
	if rows < 10 {
		t.Errorf("only %d invariants were found", rows)
	}
}

// testIsIn says whether a test function stands under a top-level folder.
func testIsIn(t *testing.T, folder, test string) bool {
	t.Helper()
	err := exec.Command("git", "-C", "..", "grep", "-q", "-E", "^func "+test+`\(`, "--", folder+"/*_test.go").Run()
	return err == nil
}
