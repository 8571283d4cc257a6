// Package docs holds the documentation to the truth.
package docs

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/leat-dev/leat"

// house is the order of the package families, top first: a package imports
// only what stands below its family, or in it.
var house = []string{"cmd", "web", "sources", "build", "serving", "broker", "dispatcher", "channel", "filter", "raftlog", "api"}

// beside are families outside the order, with what they may import.
var beside = map[string][]string{
	"apiserver": {"raftlog", "api"},
	"examples":  {},
	"bench":     {},
	"docs":      {},
	"deploy":    {},
}

// alone may be imported only by the families named.
var alone = map[string][]string{
	"apiserver": {"cmd"},
	"examples":  {}, "bench": {}, "docs": {}, "deploy": {},
}

type goPackage struct {
	ImportPath string
	Imports    []string
}

func packages(t *testing.T) []goPackage {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports", "./...")
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []goPackage
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := d.Decode(&p); err != nil {
			if !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			return all
		}
		all = append(all, p)
	}
}

func family(importPath string) string {
	rest, ok := strings.CutPrefix(importPath, module+"/")
	if !ok {
		return ""
	}
	f, _, _ := strings.Cut(rest, "/")
	return f
}

// mayImport says whether a package of one family may import one of another.
func mayImport(from, to string) bool {
	if from == to {
		return true
	}
	if only, ok := alone[to]; ok {
		return slices.Contains(only, from)
	}
	if may, ok := beside[from]; ok {
		return slices.Contains(may, to)
	}
	a, b := slices.Index(house, from), slices.Index(house, to)
	return a >= 0 && b > a
}

func TestPackagesImportOnlyDownwards(t *testing.T) {
	for _, p := range packages(t) {
		from := family(p.ImportPath)
		for _, i := range p.Imports {
			if to := family(i); to != "" && !mayImport(from, to) {
				t.Errorf("%s imports %s: %s must not know %s", p.ImportPath, i, from, to)
			}
		}
	}
}

func TestImportRuleRefusesWhatItShould(t *testing.T) {
	for _, c := range []struct {
		from, to string
		ok       bool
	}{
		{"cmd", "api", true}, {"broker", "dispatcher", true}, {"dispatcher", "broker", false},
		{"raftlog", "filter", false}, {"api", "raftlog", false}, {"apiserver", "raftlog", true},
		{"apiserver", "channel", false}, {"broker", "apiserver", false}, {"cmd", "apiserver", true},
		{"cmd", "bench", false}, {"unknown", "api", false},
	} {
		if got := mayImport(c.from, c.to); got != c.ok {
			t.Errorf("mayImport(%s, %s) = %v", c.from, c.to, got)
		}
	}
}

// TestDataPathKnowsNoKubernetes: events do not pass through its libraries.
func TestDataPathKnowsNoKubernetes(t *testing.T) {
	for _, p := range packages(t) {
		path := strings.TrimPrefix(p.ImportPath, module+"/")
		switch {
		case slices.Contains([]string{"filter", "raftlog", "channel", "dispatcher"}, family(p.ImportPath)),
			path == "api/event", path == "broker", path == "broker/operations":
		default:
			continue
		}
		for _, i := range p.Imports {
			if strings.HasPrefix(i, "k8s.io/") || strings.HasPrefix(i, "sigs.k8s.io/") {
				t.Errorf("%s imports %s", p.ImportPath, i)
			}
		}
	}
}

// TestFolderMapIsTheTruth: the house in ARCHITECTURE.md names every top-level
// folder that holds something, and no other.
func TestFolderMapIsTheTruth(t *testing.T) {
	mapped := map[string]bool{}
	f, err := os.Open("ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	row := regexp.MustCompile("^\\| `([a-z]+)/` \\|")
	for s := bufio.NewScanner(f); s.Scan(); {
		if m := row.FindStringSubmatch(s.Text()); m != nil {
			mapped[m[1]] = true
		}
	}
	out, err := exec.Command("git", "-C", "..", "ls-files").Output()
	if err != nil {
		t.Fatalf("git ls-files: %v", err)
	}
	there := map[string]bool{}
	for line := range strings.Lines(string(out)) {
		top, _, nested := strings.Cut(filepath.ToSlash(strings.TrimSpace(line)), "/")
		if nested && !strings.HasPrefix(top, ".") {
			there[top] = true
		}
	}
	for d := range there {
		if !mapped[d] {
			t.Errorf("folder %s/ is not in the map of ARCHITECTURE.md", d)
		}
	}
	for d := range mapped {
		if !there[d] {
			t.Errorf("the map of ARCHITECTURE.md names %s/, which is not there", d)
		}
	}
}
