package settings

import (
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// TestNoNumberPassesThatHasNoMeaning: a zero that the parts would take for their
// own default, or a negative number, is refused by the name of the setting.
func TestNoNumberPassesThatHasNoMeaning(t *testing.T) {
	zeroes := map[string]bool{"max-disk": true, "webhook-rate": true, "trace-sample-ratio": true} // which say what 0 means
	_, all := declare(t)
	all.VisitAll(func(flag *pflag.Flag) {
		values := []string{"0", "-1"}
		switch flag.Value.Type() {
		case "duration":
			values = []string{"0s", "-1s"}
		case "size":
			values = []string{"0"} // it takes no sign
		case "int", "float64":
		default:
			return
		}
		for _, v := range values {
			if v == "0" && zeroes[flag.Name] {
				continue
			}
			s, _ := declare(t, "--data", "x", "--"+flag.Name+"="+v)
			if err := s.Validate(); err == nil || !strings.Contains(err.Error(), "--"+flag.Name+" must be") {
				t.Errorf("--%s=%s: %v", flag.Name, v, err)
			}
		}
	})
}
