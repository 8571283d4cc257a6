package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func pingSource(name, spec string) string {
	return "apiVersion: sources.knative.dev/v1\nkind: PingSource\nmetadata: {name: " + name + "}\nspec: {" + spec + "}"
}

const toBroker = "sink: {ref: {apiVersion: eventing.knative.dev/v1, kind: Broker, name: default}}"

// tickEvent is an event of a source, as the log has it.
type tickEvent struct {
	ID              string          `json:"id"`
	Source          string          `json:"source"`
	Type            string          `json:"type"`
	Time            time.Time       `json:"time"`
	DataContentType string          `json:"datacontenttype"`
	Data            json.RawMessage `json:"data"`
	DataBase64      string          `json:"data_base64"`
	Late            bool            `json:"leatlate"`
	Tenant          string          `json:"tenant"`
}

// events are those of a broker's log, from its beginning on.
func (s *server) events(t *testing.T, broker string) []tickEvent {
	t.Helper()
	out, stderr, status := leat(t, s.env(), "", "tail", broker, "--no-follow", "--since", "beginning", "-o", "json")
	if status != 0 {
		t.Fatalf("tail: %d: %s", status, stderr)
	}
	var all []tickEvent
	for line := range strings.Lines(out) {
		var l struct {
			Event *tickEvent `json:"event"`
			tickEvent
		}
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		if l.Event != nil {
			all = append(all, *l.Event)
		} else {
			all = append(all, l.tickEvent)
		}
	}
	return all
}

// TestPingSourceOverKills: a tick a second; the server is killed again and
// again, and stays away for some ticks. In the log no tick is twice, none is
// out of order, and none is missing but those before the one late tick that
// stands for them.
func TestPingSourceOverKills(t *testing.T) {
	rounds := 4
	if testing.Short() {
		rounds = 2
	}
	s := startServer(t)
	s.apply(broker)
	s.apply(pingSource("tick", "schedule: '* * * * * *', data: '{\"n\":1}', contentType: application/json, ceOverrides: {extensions: {tenant: a}}, "+toBroker))
	for round := range rounds {
		before := len(s.events(t, "default"))
		eventually(t, 20*time.Second, "there are more ticks", func() bool { return len(s.events(t, "default")) >= before+2 })
		<-time.After(time.Duration(100+230*round) * time.Millisecond) // at another place between two ticks
		s.kill()
		<-time.After(time.Duration(1200*(round%3)) * time.Millisecond)
		s.start()
	}
	before := len(s.events(t, "default"))
	eventually(t, 20*time.Second, "there are more ticks", func() bool { return len(s.events(t, "default")) >= before+2 })

	ids, late := map[string]bool{}, 0
	var last time.Time
	for i, e := range s.events(t, "default") {
		if ids[e.ID] {
			t.Errorf("event %d: id %s is in the log twice", i, e.ID)
		}
		ids[e.ID] = true
		if e.Type != "dev.knative.sources.ping" || e.Source != "/apis/v1/namespaces/default/pingsources/tick" || string(e.Data) != `{"n":1}` || e.DataContentType != "application/json" || e.Tenant != "a" {
			t.Errorf("event %d is %+v", i, e)
		}
		if !strings.HasSuffix(e.ID, "/"+e.Time.Format(time.RFC3339)) {
			t.Errorf("event %d: id %s is not of the tick %v", i, e.ID, e.Time)
		}
		switch gap := e.Time.Sub(last); {
		case i == 0:
		case gap < time.Second:
			t.Errorf("event %d: tick %v after %v", i, e.Time, last)
		case gap > time.Second && !e.Late:
			t.Errorf("event %d: tick %v after %v, and it is not late", i, e.Time, last)
		case gap > time.Second:
			late++
		}
		last = e.Time
	}
	if late < 1 || late > rounds {
		t.Errorf("%d ticks stand for others after %d restarts", late, rounds)
	}
}

// TestPingSourceToASinkElsewhere: delivered over HTTP, again where the sink
// fails, and over a kill; at least once, with the same id.
func TestPingSourceToASinkElsewhere(t *testing.T) {
	var mu sync.Mutex
	got := map[string]int{}
	fail := true
	var sample http.Header
	var body []byte
	sink := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if fail {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		got[r.Header.Get("Ce-Id")]++
		sample = r.Header
		body, _ = io.ReadAll(r.Body) // compared below
	}))
	defer sink.Close()
	count := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(got)
	}
	s := startServer(t)
	s.apply(pingSource("http", "schedule: '* * * * * *', dataBase64: aGVsbG8=, contentType: text/plain, sink: {uri: '"+sink.URL+"/in'}"))
	<-time.After(1500 * time.Millisecond) // so that there was an attempt
	s.kill()
	mu.Lock()
	fail = false
	mu.Unlock()
	s.start()
	eventually(t, 30*time.Second, "the ticks come", func() bool { return count() >= 4 })
	mu.Lock()
	defer mu.Unlock()
	if sample.Get("Ce-Type") != "dev.knative.sources.ping" || sample.Get("Ce-Source") != "/apis/v1/namespaces/default/pingsources/http" ||
		sample.Get("Content-Type") != "text/plain" || string(body) != "hello" {
		t.Errorf("%v\n%s", sample, body)
	}
}

// TestCronJobSource: what v0.6 took is taken, and sent in its shape.
func TestCronJobSource(t *testing.T) {
	s := startServer(t)
	s.apply(broker)
	for _, c := range []struct{ name, data, want string }{
		{"object", `{"message":"Hello world!"}`, `{"message":"Hello world!"}`},
		{"text", "Hello world!", `{"body":"Hello world!"}`},
	} {
		s.apply("apiVersion: sources.eventing.knative.dev/v1alpha1\nkind: CronJobSource\nmetadata: {name: " + c.name + "}\n" +
			"spec: {schedule: '*/1 * * * * *', data: '" + c.data + "', sink: {apiVersion: eventing.knative.dev/v1, kind: Broker, name: default}}")
		source := "/apis/v1/namespaces/default/cronjobsources/" + c.name
		eventually(t, 20*time.Second, "an event of "+c.name, func() bool {
			for _, e := range s.events(t, "default") {
				if e.Source == source {
					if e.Type != "dev.knative.cronjob.event" || e.DataContentType != "application/json" || string(e.Data) != c.want {
						t.Fatalf("%+v, data %s", e, e.Data)
					}
					return true
				}
			}
			return false
		})
	}
}

// TestPingSourceWaitsForItsSink: it says why it is not ready; when the sink is
// there, the ticks missed come as one. Deleted, it ticks no more; made again
// under its name, it begins anew.
func TestPingSourceWaitsForItsSink(t *testing.T) {
	s := startServer(t)
	manifest := pingSource("early", "schedule: '* * * * * *', "+toBroker)
	if err := s.tryApply(manifest); err != nil {
		t.Fatal(err)
	}
	u := parse(t, manifest)[0]
	eventually(t, 20*time.Second, "it is not ready", func() bool { return s.condition(u, "SinkProvided") == "False" && s.condition(u, "Ready") == "False" })
	<-time.After(2200 * time.Millisecond) // so that ticks are missed
	s.apply(broker)
	eventually(t, 20*time.Second, "it is ready", func() bool { return s.condition(u, "Ready") == "True" })
	eventually(t, 20*time.Second, "it ticks", func() bool { return len(s.events(t, "default")) >= 2 })
	if all := s.events(t, "default"); !all[0].Late || all[1].Late {
		t.Errorf("late are %v and %v", all[0].Late, all[1].Late)
	}

	client := resource(s.client(), u)
	if err := client.Delete(t.Context(), "early", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	<-time.After(time.Second) // one tick may have been on its way
	before := s.events(t, "default")
	<-time.After(2 * time.Second)
	if after := s.events(t, "default"); len(after) != len(before) {
		t.Errorf("%d ticks after the deletion", len(after)-len(before))
	}
	s.apply(manifest)
	eventually(t, 20*time.Second, "it ticks", func() bool { return len(s.events(t, "default")) >= len(before)+2 })
	for _, e := range s.events(t, "default")[len(before):] {
		if e.Late || strings.HasPrefix(e.ID, before[0].ID[:36]) {
			t.Errorf("the new one's event is %+v", e)
		}
	}
}

// TestPingSourceAsClientsSeeIt: refusals name the field; kn's version of the
// API is served, and the kinds are found as sources.
func TestPingSourceAsClientsSeeIt(t *testing.T) {
	s := startServer(t)
	s.apply(broker)
	for spec, want := range map[string]string{
		"schedule: 'every day', " + toBroker:                  "spec.schedule: Invalid value",
		"timezone: Moon/Base, " + toBroker:                    "spec.timezone: Invalid value",
		"schedule: '0 0 30 2 *', " + toBroker:                 "no tick, ever",
		"data: x, dataBase64: eA==, " + toBroker:              "spec.dataBase64: Forbidden",
		"schedule: '* * * * *'":                               "spec.sink: Required value",
		"ceOverrides: {extensions: {A: b}}, " + toBroker:      "spec.ceOverrides.extensions[A]: Invalid value",
		"contentType: application/json, data: x, " + toBroker: "spec.data: Invalid value",
	} {
		if err := s.tryApply(pingSource("bad", spec)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("{%s}: %v, want %s", spec, err, want)
		}
	}

	// As kn creates, updates and reads it.
	v1beta2 := s.client().Resource(schema.GroupVersionResource{Group: "sources.knative.dev", Version: "v1beta2", Resource: "pingsources"}).Namespace("default")
	u := parse(t, pingSource("kn", "schedule: '@yearly', "+toBroker))[0]
	u.SetAPIVersion("sources.knative.dev/v1beta2")
	if _, err := v1beta2.Create(t.Context(), u, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, 20*time.Second, "it is ready", func() bool { return s.condition(parse(t, pingSource("kn", ""))[0], "Ready") == "True" })
	got, err := v1beta2.Get(t.Context(), "kn", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	sink, _, _ := unstructured.NestedString(got.Object, "status", "sinkUri")
	attributes, _, _ := unstructured.NestedSlice(got.Object, "status", "ceAttributes")
	if sink != s.url("/default/default") || fmt.Sprint(attributes) != "[map[source:/apis/v1/namespaces/default/pingsources/kn type:dev.knative.sources.ping]]" {
		t.Errorf("sinkUri %s, ceAttributes %v", sink, attributes)
	}
	unstructured.SetNestedField(got.Object, "@monthly", "spec", "schedule")
	if _, err := v1beta2.Update(t.Context(), got, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	crds := s.client().Resource(schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"})
	found, err := crds.List(t.Context(), metav1.ListOptions{LabelSelector: "duck.knative.dev/source=true"})
	if err != nil || len(found.Items) < 2 {
		t.Errorf("%d kinds of sources, %v", len(found.Items), err)
	}

	if _, err := exec.LookPath("kubectl"); err != nil {
		t.Skip("kubectl is not installed here")
	}
	cmd := exec.CommandContext(t.Context(), "kubectl", "--kubeconfig", s.Kubeconfig, "get", "sources")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s", err, out.String())
	}
	for _, want := range []string{"SINK", "SCHEDULE", "AGE", "READY", "REASON", "/default/default", "@monthly", "True"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in\n%s", want, out.String())
		}
	}
}
