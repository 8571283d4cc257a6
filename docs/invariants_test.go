package docs

import (
	"os"
	"os/exec"
	"path"
	"regexp"
	"strings"
	"testing"
)

// invariant is a row of the invariants in ARCHITECTURE.md.
type invariant struct {
	holds string
	tests []string // each behind its top-level folder
}

var backquoted = regexp.MustCompile("`([A-Za-z0-9]+)`")

func invariants(t *testing.T) (rows []invariant) {
	t.Helper()
	b, err := os.ReadFile("ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(b), "\n## Invariants\n")
	if !ok {
		t.Fatal("ARCHITECTURE.md has no invariants")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	for line := range strings.Lines(section) {
		cells := strings.Split(line, "|")
		if len(cells) != 4 || strings.HasPrefix(cells[1], "-") || strings.TrimSpace(cells[1]) == "what holds" {
			continue
		}
		rows = append(rows, invariant{strings.TrimSpace(cells[1]), testsNamed(cells[2])})
	}
	if len(rows) < 10 {
		t.Fatalf("only %d invariants were found", len(rows))
	}
	return rows
}

// testsNamed lists the tests of a table's cell, such as "`raftlog` `TestThis`,
// `TestThat`", each behind its folder.
func testsNamed(cell string) (tests []string) {
	folder := ""
	for _, m := range backquoted.FindAllStringSubmatch(cell, -1) {
		if isTest(m[1]) {
			tests = append(tests, path.Join(folder, m[1]))
		} else {
			folder = m[1]
		}
	}
	return tests
}

func isTest(name string) bool {
	return strings.HasPrefix(name, "Test") || strings.HasPrefix(name, "Fuzz")
}

// TestInvariantsNameTheirTests: each invariant in ARCHITECTURE.md names tests,
// which exist, in the folder that it says.
func TestInvariantsNameTheirTests(t *testing.T) {
	for _, i := range invariants(t) {
		for _, test := range i.tests {
			if !testIsIn(t, path.Dir(test), path.Base(test)) {
				t.Errorf("%s: there is no %s under %s/", i.holds, path.Base(test), path.Dir(test))
			}
		}
		if len(i.tests) == 0 {
			t.Errorf("%s: no test is named", i.holds)
		}
	}
}

// testIsIn says whether a test function stands under a folder.
func testIsIn(t *testing.T, folder, test string) bool {
	t.Helper()
	err := exec.Command("git", "-C", "..", "grep", "-q", "-E", "^func "+test+`\(`, "--", folder+"/*_test.go").Run()
	return err == nil
}
