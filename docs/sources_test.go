package docs

import (
	"encoding/json"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestSourcesPageRuns runs the commands of the page as they stand, and compares
// the events it shows with those that come.
func TestSourcesPageRuns(t *testing.T) {
	b, err := os.ReadFile("sources.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(b)
	out := runScript(t, binary(t), script(page))
	for _, want := range []string{"pingsource.sources.knative.dev/hello condition met", "cronjobsource.sources.eventing.knative.dev/old condition met", "SCHEDULE"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in the output:\n%s", want, out)
		}
	}
	come := map[string]map[string]any{}
	for line := range strings.Lines(out) {
		var l struct{ Event map[string]any }
		if strings.HasPrefix(line, `{"partition"`) && json.Unmarshal([]byte(line), &l) == nil {
			come[l.Event["type"].(string)] = l.Event
		}
	}
	samples := 0
	for _, s := range fenced(page) {
		if s.info != "json" {
			continue
		}
		samples++
		var shown map[string]any
		if err := json.Unmarshal([]byte(s.text), &shown); err != nil {
			t.Fatalf("line %d: %v", s.line, err)
		}
		is := come[shown["type"].(string)]
		for _, name := range []string{"id", "time", "knativearrivaltime", "traceparent"} { // other each time
			if is[name] == nil {
				t.Errorf("an event of type %s has no %s", shown["type"], name)
			}
			delete(shown, name)
			delete(is, name)
		}
		delete(is, "leatlate") // on a slow machine
		if !maps.EqualFunc(shown, is, func(a, b any) bool { return compact(t, a) == compact(t, b) }) {
			t.Errorf("the page shows %s, what came is %s", compact(t, shown), compact(t, is))
		}
	}
	if samples != 2 {
		t.Errorf("the page shows %d events", samples)
	}
}

func compact(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestSourcesAreDocumented: each kind of source has its section.
func TestSourcesAreDocumented(t *testing.T) {
	b, err := os.ReadFile("../api/crds.yaml")
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("sources.md")
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, m := range regexp.MustCompile(`(?m)^      kind: (\w+Source)$`).FindAllStringSubmatch(string(b), -1) {
		kinds = append(kinds, m[1])
		if !strings.Contains(string(page), "\n## "+m[1]+"\n") {
			t.Errorf("%s has no section", m[1])
		}
	}
	if !slices.Contains(kinds, "PingSource") {
		t.Errorf("the kinds found are %v", kinds)
	}
}
