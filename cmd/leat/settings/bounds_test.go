package settings

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

// TestEverySettingIsUsed: the server's wiring, or the settings themselves, read
// each of them; one that nobody reads would be a promise.
func TestEverySettingIsUsed(t *testing.T) {
	var code strings.Builder
	for _, pattern := range []string{"../server/*.go", "../*.go", "settings.go", "validate.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v, %v", pattern, files, err)
		}
		for _, file := range files {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(string(b)) {
				if !strings.Contains(line, "Var(") && !strings.Contains(line, "int64(s.") || strings.Contains(file, "/") {
					code.WriteString(line) // that it is declared and positive is no use of it
				}
			}
		}
	}
	var fields func(of reflect.Type)
	fields = func(of reflect.Type) {
		for f := range of.Fields() {
			if f.Anonymous {
				fields(f.Type)
				continue
			}
			if !regexp.MustCompile(`\b[a-z]+\.` + f.Name + `\b`).MatchString(code.String()) {
				t.Errorf("nothing reads the setting %s", f.Name)
			}
		}
	}
	fields(reflect.TypeFor[Server]())
}

// TestBoundsAreDeclaredOnce: each field of Bounds has one declaration, whose
// value it holds.
func TestBoundsAreDeclaredOnce(t *testing.T) {
	s, f := declare(t)
	all := s.Bounds.all()
	if n := reflect.TypeFor[Bounds]().NumField(); len(all) != n {
		t.Errorf("%d declarations of %d bounds", len(all), n)
	}
	for _, b := range all {
		if b.value() <= 0 || f.Lookup(b.name) == nil {
			t.Errorf("%s is %d by default", b.name, b.value())
		}
	}
}

func TestBoundsThatCannotBe(t *testing.T) {
	for args, want := range map[string]string{
		"--retention-interval=0s":           "--retention-interval must be more than 0",
		"--source-workers=-1":               "--source-workers must be more than 0",
		"--max-object-bytes=2MiB":           "--max-object-bytes must be at most 1000KiB",
		"--controller-min-backoff=2m":       "--controller-min-backoff (2m0s) must not be more than --controller-max-backoff (1m0s)",
		"--default-token-age=1m":            "--min-token-age (10m0s) must not be more than --default-token-age (1m0s)",
		"--subscription-max-debounce=1ms":   "--subscription-debounce (5ms) must not be more than --subscription-max-debounce (1ms)",
		"--token-cache=1 --watch-queue=1":   "",
		"--max-partitions=1 --snapshots=10": "",
	} {
		s, _ := declare(t, append(strings.Fields(args), "--data", "x")...)
		if got := fmt.Sprint(errors.Join(s.Bounds.validate()...)); want == "" && got != "<nil>" || !strings.Contains(got, want) {
			t.Errorf("%s: %s, want %q", args, got, want)
		}
	}
}
