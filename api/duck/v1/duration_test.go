package v1

import (
	"strings"
	"testing"
	"time"
)

func TestParseDuration(t *testing.T) {
	for s, want := range map[string]time.Duration{
		"PT0.2S":                200 * time.Millisecond,
		"PT0,5S":                500 * time.Millisecond,
		"PT30S":                 30 * time.Second,
		"PT0S":                  0,
		"PT1H2M3.5S":            time.Hour + 2*time.Minute + 3500*time.Millisecond,
		"P7D":                   7 * 24 * time.Hour,
		"P1W":                   7 * 24 * time.Hour,
		"P1DT12H":               36 * time.Hour,
		"P0.5D":                 12 * time.Hour,
		"-PT1H":                 -time.Hour,
		"+PT1M":                 time.Minute,
		"PT0.1234567891S":       123456789,
		"PT0.3H":                18 * time.Minute,
		"P0.99999999999999999W": 7*24*time.Hour - 1,
		"PT9223372036S":         9223372036 * time.Second,
	} {
		if got, err := ParseDuration(s); err != nil || got != want {
			t.Errorf("ParseDuration(%q) = %v, %v; want %v", s, got, err, want)
		}
	}
}

func TestParseDurationRefuses(t *testing.T) {
	for s, want := range map[string]string{
		"":                      "does not begin with P",
		"30s":                   "does not begin with P",
		"pt1s":                  "does not begin with P",
		"P":                     "no number",
		"PT":                    "nothing follows the T",
		"P1DT":                  "nothing follows the T",
		"PT1":                   "1 has no unit",
		"PTS":                   "a number is expected",
		"PT1S1M":                `unit 'M' is unknown`,
		"PT1S1S":                `unit 'S' is unknown`,
		"P1H":                   `unit 'H' is unknown`,
		"P1M":                   "use days",
		"P1Y":                   "use days",
		"PT1.5M3S":              "only the last number",
		"PT.5S":                 ".5 is not a number",
		"PT1.S":                 "1. is not a number",
		"PT1.2.3S":              "1.2.3 is not a number",
		"PT9223372037S":         "longer than 292 years",
		"P99999999999999999W":   "longer than 292 years",
		"PT9223372036.9S":       "longer than 292 years",
		"P15250WT9000000000S":   "longer than 292 years",
		"--PT1S":                "does not begin with P",
		"PT1S ":                 "a number is expected",
		"PT1ST1S":               "a number is expected",
		"P１D":                   "a number is expected",
		strings.Repeat("P", 99): "…",
	} {
		got, err := ParseDuration(s)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseDuration(%q) = %v, %v; want an error with %q", s, got, err, want)
		}
	}
}

func FuzzParseDuration(f *testing.F) {
	for _, s := range []string{"PT0.2S", "-P1DT2H3M4.5S", "P1W", "P", "PT1", "P1Y", "PT1.5M3S", "P99999999999999999W"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := ParseDuration(s)
		if err != nil {
			if len(err.Error()) > 300 {
				t.Fatalf("the error is too long: %v", err)
			}
			return
		}
		negated := "-" + strings.TrimPrefix(s, "+")
		if strings.HasPrefix(s, "-") {
			negated = s[1:]
		}
		if n, err := ParseDuration(negated); err != nil || n != -d {
			t.Fatalf("%q is %v, but %q is %v, %v", s, d, negated, n, err)
		}
	})
}
