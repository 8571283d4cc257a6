package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/leat-dev/leat/broker/operations"
)

// TestRowsOfEventsStayInLine, whatever the length of types and sources; what
// tells them apart is seen.
func TestRowsOfEventsStayInLine(t *testing.T) {
	var out strings.Builder
	print := tablePrinter(&out, newStyle(&out), false)
	for _, e := range []struct{ kind, source string }{
		{"greeting", "/me"},
		{"dev.knative.apiserver.resource.update", "https://127.0.0.1:8443"},
		{"com.example." + strings.Repeat("long.", 20) + "created", "/" + strings.Repeat("ö", 60) + "/end"},
	} {
		event, err := json.Marshal(map[string]any{"type": e.kind, "source": e.source, "data": "payload"})
		if err != nil {
			t.Fatal(err)
		}
		if err := print(operations.Line{Offset: 7, Event: event}); err != nil {
			t.Fatal(err)
		}
	}
	var columns []string
	for line := range strings.Lines(out.String()) {
		at := strings.Index(line, "DATA")
		if at < 0 {
			at = strings.Index(line, `"payload"`)
		}
		columns = append(columns, fmt.Sprint(len([]rune(line[:max(at, 0)]))))
	}
	if got := strings.Join(columns, " "); got != "96 96 96 96" {
		t.Errorf("the payloads begin at %s in\n%s", got, out.String())
	}
	for _, want := range []string{"  dev.knative.apiserver.resource.update  ", ".long.created  ", "öö/end  "} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in\n%s", want, out.String())
		}
	}
}
