//go:build linux

package server

import (
	"encoding/json"
	"testing"
)

func TestTriggerSaysWhatItIsToSay(t *testing.T) {
	for _, c := range []struct {
		trigger Trigger
		want    string
	}{
		{Trigger{Name: "a", Broker: "b", Subscriber: "http://c/"},
			`{"apiVersion":"eventing.knative.dev/v1","kind":"Trigger","metadata":{"name":"a"},"spec":{"broker":"b","subscriber":{"uri":"http://c/"}}}`},
		{Trigger{Name: "a", Broker: "b", Subscriber: "http://c/", Filter: map[string]any{"expr": "true"}, Annotations: map[string]any{"leat.dev/start-from": "beginning"}},
			`{"apiVersion":"eventing.knative.dev/v1","kind":"Trigger","metadata":{"annotations":{"leat.dev/start-from":"beginning"},"name":"a"},"spec":{"broker":"b","filters":[{"expr":"true"}],"subscriber":{"uri":"http://c/"}}}`},
	} {
		if b, err := json.Marshal(c.trigger.object().Object); err != nil || string(b) != c.want {
			t.Errorf("got %s (%v), not %s", b, err, c.want)
		}
	}
}
