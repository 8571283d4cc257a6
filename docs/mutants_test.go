package docs

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/tools/txtar"
)

// mutant is a change of the source that a test must notice. Folder mutants has
// one a file; its README.md says how they are written.
type mutant struct {
	file     string
	pkg      string // the test's package, from the root of the module
	test     string
	slow     bool // left to `make mutants`
	replaces []replacement
}

type replacement struct{ file, was, is string }

// instead is the name of the section that holds what takes the place of the one
// before it.
const instead = "instead"

func parseMutant(file string, text []byte) (*mutant, error) {
	a := txtar.Parse(text)
	m := &mutant{file: file}
	for line := range strings.Lines(string(a.Comment)) {
		line = strings.TrimSpace(line)
		if line == "slow" {
			m.slow = true
		}
		if named, ok := strings.CutPrefix(line, "test: "); ok {
			m.pkg, m.test, _ = strings.Cut(named, " ")
		}
	}
	if m.test == "" {
		return nil, fmt.Errorf("%s: no line says \"test: PACKAGE NAME\", the test that notices it", file)
	}
	for i := 0; i < len(a.Files); i += 2 {
		was := a.Files[i]
		if i+1 == len(a.Files) || was.Name == instead || a.Files[i+1].Name != instead {
			return nil, fmt.Errorf("%s: each section \"-- FILE --\" must be followed by one that is \"-- %s --\"", file, instead)
		}
		m.replaces = append(m.replaces, replacement{was.Name, string(was.Data), string(a.Files[i+1].Data)})
	}
	if len(m.replaces) == 0 {
		return nil, fmt.Errorf("%s: it changes nothing", file)
	}
	return m, nil
}

// apply returns the changed files of a source tree, by their names. What a
// mutant replaces must be there exactly once.
func (m *mutant) apply(tree string) (map[string]string, error) {
	changed := map[string]string{}
	for _, r := range m.replaces {
		text, ok := changed[r.file]
		if !ok {
			b, err := os.ReadFile(filepath.Join(tree, r.file))
			if err != nil {
				return nil, fmt.Errorf("%s: %w: has the code moved? then name the file where it is now", m.file, err)
			}
			text = string(b)
		}
		places := wholeLines(text, r.was)
		if len(places) != 1 || r.was == r.is {
			return nil, fmt.Errorf("%s does not apply any more: the lines that it replaces are %d times in %s, not once. "+
				"Write the lines as they are now, and what would break them; run go test ./docs -run 'TestMutants/^%s$' to see that the test still notices",
				m.file, len(places), r.file, m.name())
		}
		at := places[0]
		changed[r.file] = text[:at] + r.is + text[at+len(r.was):]
	}
	return changed, nil
}

// wholeLines finds lines in a text.
func wholeLines(text, lines string) (places []int) {
	for at := 0; at < len(text) && lines != ""; {
		if strings.HasPrefix(text[at:], lines) {
			places = append(places, at)
		}
		next := strings.IndexByte(text[at:], '\n')
		if next < 0 {
			break
		}
		at += next + 1
	}
	return places
}

func (m *mutant) name() string { return strings.TrimSuffix(filepath.Base(m.file), ".txt") }

func mutants(t *testing.T) (all []*mutant) {
	t.Helper()
	files, err := filepath.Glob("mutants/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no mutants: %v", err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		m, err := parseMutant(file, b)
		if err != nil {
			t.Error(err)
			continue
		}
		all = append(all, m)
	}
	return all
}

// TestMutants changes the source, one way at a time, and demands that the test
// named notices. With LEAT_MUTANTS=all it tries those that are slow, too.
func TestMutants(t *testing.T) {
	all := mutants(t)
	if os.Getenv("LEAT_MUTANTS") != "all" {
		all = slices.DeleteFunc(all, func(m *mutant) bool { return m.slow })
	}
	unchanged := unchanged(t, all)
	for _, m := range all {
		t.Run(m.name(), func(t *testing.T) {
			t.Parallel()
			if results, out := unchanged[m.pkg](); results[m.test] != "pass" {
				t.Fatalf("%s does not pass as it is:\n%s", m.test, out)
			}
			changed, err := m.apply("..")
			if err != nil {
				t.Fatal(err)
			}
			results, out := goTest(t, m.pkg, []string{m.test}, "-overlay", overlay(t, changed))
			switch results[m.test] {
			case "fail", "run": // it may take the process with it
			case "":
				t.Errorf("%s was not run; does the changed code compile?\n%s", m.test, out)
			default:
				t.Errorf("%s: %s, although %s changes the code: the test must notice", m.test, results[m.test], m.file)
			}
		})
	}
}

// TestMutantsApply: those that are not run here are kept up to date all the same,
// and a change of the code that they break is told of at once.
func TestMutantsApply(t *testing.T) {
	for _, m := range mutants(t) {
		if _, err := m.apply(".."); err != nil {
			t.Error(err)
		}
	}
}

// unchanged runs the tests that mutants name on the code as it is, those of a
// package when they are first asked for.
func unchanged(t *testing.T, all []*mutant) map[string]func() (results map[string]string, out string) {
	t.Helper()
	tests := map[string][]string{}
	for _, m := range all {
		if !slices.Contains(tests[m.pkg], m.test) {
			tests[m.pkg] = append(tests[m.pkg], m.test)
		}
	}
	unchanged := map[string]func() (map[string]string, string){}
	for pkg, names := range tests {
		unchanged[pkg] = sync.OnceValues(func() (map[string]string, string) { return goTest(t, pkg, names) })
	}
	return unchanged
}

// goTest runs tests of a package and returns how each one ended ("run" where it
// did not), and what was said.
func goTest(t *testing.T, pkg string, tests []string, flags ...string) (results map[string]string, out string) {
	t.Helper()
	args := append([]string{"test", "-json", "-vet=off", "-count=1", "-short", "-timeout=2m", "-run", "^(" + strings.Join(tests, "|") + ")$"}, flags...)
	cmd := exec.CommandContext(t.Context(), "go", append(args, "./"+pkg)...)
	cmd.Dir = ".."
	var b, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &b, &complaints
	err := cmd.Run() // that of a test that fails is what is looked for
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	results = map[string]string{}
	var said strings.Builder
	for d := json.NewDecoder(&b); ; {
		var e struct{ Action, Test, Output string }
		if err := d.Decode(&e); err != nil {
			if !errors.Is(err, io.EOF) {
				t.Fatalf("go test -json: %v", err)
			}
			return results, said.String() + complaints.String()
		}
		said.WriteString(e.Output)
		if slices.Contains([]string{"run", "pass", "fail", "skip"}, e.Action) {
			results[e.Test] = e.Action
		}
	}
}

// overlay writes changed files where go finds them instead of the tree's.
func overlay(t *testing.T, changed map[string]string) string {
	t.Helper()
	dir, replace := t.TempDir(), map[string]string{}
	for file, text := range changed {
		was, err := filepath.Abs(filepath.Join("..", file))
		if err != nil {
			t.Fatal(err)
		}
		replace[was] = filepath.Join(dir, strings.ReplaceAll(file, "/", "_"))
		if err := os.WriteFile(replace[was], []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestEachInvariantHasAMutant: of the tests that each row of the invariants
// names, one at least is known to fail where the code is broken.
func TestEachInvariantHasAMutant(t *testing.T) {
	noticed := map[string]bool{}
	for _, m := range mutants(t) {
		family, _, _ := strings.Cut(m.pkg, "/")
		if !m.slow {
			noticed[path.Join(family, m.test)] = true
		}
	}
	for _, i := range invariants(t) {
		if !slices.ContainsFunc(i.tests, func(test string) bool { return noticed[test] }) {
			t.Errorf("%q: no mutant makes one of its tests fail; write one in docs/mutants", i.holds)
		}
	}
}

// TestMutantThatDoesNotApplySaysHowToMendIt: the message names the mutant, the
// file, and what to do.
func TestMutantThatDoesNotApplySaysHowToMendIt(t *testing.T) {
	tree := t.TempDir()
	if err := os.WriteFile(filepath.Join(tree, "a.go"), []byte("one\ntwo\ntwo\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ was, want string }{
		{"one\n", ""},
		{"three\n", "0 times in a.go"},
		{"two\n", "2 times in a.go"},
	} {
		m, err := parseMutant("mutants/x.txt", []byte("test: p TestX\n-- a.go --\n"+c.was+"-- instead --\nelse\n"))
		if err != nil {
			t.Fatal(err)
		}
		changed, err := m.apply(tree)
		switch {
		case c.want == "" && (err != nil || changed["a.go"] != "else\ntwo\ntwo\n"):
			t.Errorf("%q, %v", changed, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "mutants/x.txt")):
			t.Errorf("error %v, want it to say %q", err, c.want)
		}
	}
	for _, bad := range []string{"-- a.go --\n-- instead --\n", "test: p T\n-- a.go --\n", "test: p T\n-- instead --\n-- a.go --\n", "test: p T\n"} {
		if m, err := parseMutant("x", []byte(bad)); err == nil {
			t.Errorf("%q is taken as %+v", bad, m)
		}
	}
}
