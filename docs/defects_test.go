package docs

import (
	"os"
	"path"
	"strings"
	"testing"
)

// TestDefectsNameTheirTests: each row of the tables of defects names tests that
// exist in the folder that it says.
func TestDefectsNameTheirTests(t *testing.T) {
	b, err := os.ReadFile("defects.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for line := range strings.Lines(string(b)) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) != 5 || strings.HasPrefix(cells[1], "-") || strings.TrimSpace(cells[3]) == "Test" {
			continue
		}
		rows++
		tests := testsNamed(cells[3])
		if len(tests) == 0 {
			t.Errorf("%s: no test is named", cells[1])
		}
		for _, test := range tests {
			if !testIsIn(t, path.Dir(test), path.Base(test)) {
				t.Errorf("%s: there is no %s under %s/", cells[1], path.Base(test), path.Dir(test))
			}
		}
	}
	if rows < 30 {
		t.Errorf("only %d defects were found", rows)
	}
}
