package settings

import (
	"fmt"
	"strings"

	"github.com/spf13/pflag"
)

// prefix is what the variables of the settings begin with.
const prefix = "LEAT_"

// strangers are variables that begin like ours and are no settings: of other
// commands, of the project's own tests, and those that Kubernetes gives each
// container where a Service is called leat. A star stands for any end.
var strangers = []string{"TOKEN", "BIN", "SOAK", "MUTANTS", "TEST_*", "SERVICE_HOST", "SERVICE_PORT*", "PORT", "PORT_*"}

// UnknownVariables says which variables look like settings and are none, and
// which setting may have been meant. It is no error: whoever has a program of
// another kind that begins its variables so must not be kept from a server.
func UnknownVariables(f *pflag.FlagSet, environ []string) []string {
	var all []string
	for _, kv := range environ {
		name, _, _ := strings.Cut(kv, "=")
		key, ours := strings.CutPrefix(name, prefix)
		if !ours || f.Lookup(flagOf(key)) != nil || isStranger(key) {
			continue
		}
		hint := "`leat server --help` lists the settings"
		if near := nearest(f, flagOf(key)); near != "" {
			hint = "did you mean " + Variable(near) + "?"
		}
		all = append(all, fmt.Sprintf("%s is the variable of no setting, and has no effect: %s", name, hint))
	}
	return all
}

func isStranger(key string) bool {
	for _, s := range strangers {
		if begin, open := strings.CutSuffix(s, "*"); key == s || open && strings.HasPrefix(key, begin) {
			return true
		}
	}
	return false
}

// flagOf is the flag of a variable without its prefix.
func flagOf(key string) string { return strings.ToLower(strings.ReplaceAll(key, "_", "-")) }

// nearest is the setting that a name is most like; "" where it is like none.
func nearest(f *pflag.FlagSet, name string) string {
	best, least := "", max(2, len(name)/3)+1
	f.VisitAll(func(flag *pflag.Flag) {
		if d := distance(flag.Name, name); d < least && !flag.Hidden {
			best, least = flag.Name, d
		}
	})
	return best
}

// distance is how many characters have to be added, left out or changed to make
// one string of the other.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := before
			if a[i] != b[j] {
				change++
			}
			before = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
