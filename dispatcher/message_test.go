package dispatcher

import (
	"bytes"
	"net/http"
	"testing"

	"github.com/leat-dev/leat/api/event"
)

// TestDataThatIsAnEventIsSentStructured: what a receiver reads is the event, and
// not the event that is its data.
func TestDataThatIsAnEventIsSentStructured(t *testing.T) {
	for _, kind := range []string{"application/cloudevents+json", "Application/CloudEvents-batch+json; charset=utf-8", "application/cloudevents+avro", "application/json"} {
		sent := &event.Event{
			ID: "outer", Source: "/s", Type: "t", DataContentType: kind, Data: []byte(`{"specversion":"1.0","id":"inner","source":"/i","type":"i"}`),
			PassThrough: []event.Header{{Name: "X-Request-Id", Value: "r1"}},
		}
		h := http.Header{}
		all, body := (&Request{Event: sent}).headers(nil)
		for _, x := range all {
			h.Add(x.Name, x.Value)
		}
		got, _, err := event.FromMessage(answerHeaders{h}, body, event.Limits{})
		if err != nil || len(got) != 1 {
			t.Errorf("%s: %d events, %v", kind, len(got), err)
			continue
		}
		if got[0].ID != "outer" || got[0].DataContentType != kind || !bytes.Equal(got[0].Data, sent.Data) || h.Get("X-Request-Id") != "r1" {
			t.Errorf("%s is read as %+v, with %v", kind, got[0], h)
		}
	}
}
