package apiserver

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"k8s.io/apiserver/pkg/storage/value"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"
)

// plainCase is a request that is to be answered alike, with and without the
// handlers of the libraries.
type plainCase struct {
	what string
	// plain says that these are not asked.
	plain        bool
	method, path string
	body         string
	header       map[string]string
}

const (
	triggersPath      = "/apis/eventing.knative.dev/v1/namespaces/default/triggers"
	brokersPath       = "/apis/eventing.knative.dev/v1/namespaces/default/brokers"
	channelsPath      = "/apis/messaging.knative.dev/v1/namespaces/default/channels"
	subscriptionsPath = "/apis/messaging.knative.dev/v1/namespaces/default/subscriptions"
	asKubectl         = "?fieldManager=kubectl-client-side-apply&fieldValidation=Strict"
)

// toJSON is a manifest in JSON.
func toJSON(t *testing.T, manifest string) string {
	t.Helper()
	b, err := yaml.YAMLToJSON([]byte(manifest))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// plainCases are in the order in which they are sent.
func plainCases(t *testing.T) []plainCase {
	trigger := func(name, rest string) string {
		return toJSON(t, "apiVersion: eventing.knative.dev/v1\nkind: Trigger\nmetadata: {name: "+name+"}\n"+rest)
	}
	post := func(what string, plain bool, body string) plainCase {
		return plainCase{what: what, plain: plain, method: "POST", path: triggersPath + asKubectl, body: body}
	}
	spec := "spec: {broker: default, subscriber: {uri: 'http://example.com/'}}"
	with := func(metadata string) string {
		return toJSON(t, "apiVersion: eventing.knative.dev/v1\nkind: Trigger\nmetadata: {"+metadata+"}\n"+spec)
	}
	return []plainCase{
		{what: "one that is not there", plain: true, method: "GET", path: triggersPath + "/none"},
		{what: "a name that cannot be", method: "GET", path: triggersPath + "/No_Name"},
		{what: "in a namespace that is not there", plain: true, method: "GET", path: strings.Replace(triggersPath, "default", "nowhere", 1) + "/none"},
		{what: "at a version", method: "GET", path: triggersPath + "/none?resourceVersion=1"},
		{what: "as a table", method: "GET", path: triggersPath + "/none", header: map[string]string{"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"}},
		{what: "of a kind that is not there", method: "GET", path: "/apis/eventing.knative.dev/v1/namespaces/default/nothings/none"},
		{what: "a broker that is not there", plain: true, method: "GET", path: brokersPath + "/none"},

		post("the least", true, trigger("t-least", spec)),
		{what: "the one that is there", method: "GET", path: triggersPath + "/t-least"},
		post("it again", false, trigger("t-least", spec)),
		post("with labels and annotations", true, with(`name: t-labels, namespace: default, labels: {a: b, "example.com/c": ""}, annotations: {"kubectl.kubernetes.io/last-applied-configuration": "{\"a<b>&\": 1}\n", x: z}`)),
		post("with every kind of filter", true, trigger("t-filters", `spec:
  broker: default
  filter: {attributes: {type: a, source: /b}}
  filters: [{exact: {type: a}}, {any: [{prefix: {type: a}}, {suffix: {type: b}}]}, {not: {cesql: "type = 'a'"}}]
  delivery: {retry: 3, backoffPolicy: linear, backoffDelay: PT1S, deadLetterSink: {uri: "http://dead.example.com"}}
  subscriber: {ref: {apiVersion: v1, kind: Service, name: s}, uri: /path}`)),
		post("with a reference to a broker", true, trigger("t-ref", "spec: {brokerRef: {apiVersion: eventing.knative.dev/v1, kind: Broker, name: default}, subscriber: {uri: 'http://example.com/'}}")),
		{what: "without a manager", plain: true, method: "POST", path: triggersPath, body: trigger("t-agent", spec)},
		{what: "without validation", plain: true, method: "POST", path: triggersPath + "?fieldValidation=Ignore", body: trigger("t-ignore", spec)},
		post("a broker", false, toJSON(t, "{apiVersion: eventing.knative.dev/v1, kind: Broker, metadata: {name: default}}")),
		{what: "a broker", plain: true, method: "POST", path: brokersPath + asKubectl, body: toJSON(t, "{apiVersion: eventing.knative.dev/v1, kind: Broker, metadata: {name: default, annotations: {a: b}}, spec: {delivery: {retry: 1}}}")},
		{what: "a broker without a spec", method: "POST", path: brokersPath + asKubectl, body: toJSON(t, "{apiVersion: eventing.knative.dev/v1, kind: Broker, metadata: {name: other}}")},
		{what: "a broker with an empty spec", plain: true, method: "POST", path: brokersPath + asKubectl, body: toJSON(t, "{apiVersion: eventing.knative.dev/v1, kind: Broker, metadata: {name: empty}, spec: {}}")},
		{what: "a channel", plain: true, method: "POST", path: channelsPath + asKubectl, body: toJSON(t, "{apiVersion: messaging.knative.dev/v1, kind: Channel, metadata: {name: c}, spec: {delivery: {retry: 1}}}")},
		{what: "a subscription", plain: true, method: "POST", path: subscriptionsPath + asKubectl, body: toJSON(t, `{apiVersion: messaging.knative.dev/v1, kind: Subscription, metadata: {name: s}, spec: {
  channel: {apiVersion: messaging.knative.dev/v1, kind: Channel, name: c}, subscriber: {uri: "http://example.com/"}, reply: {ref: {apiVersion: eventing.knative.dev/v1, kind: Broker, name: default}}}}`)},

		post("an unknown field", false, trigger("t-unknown", "spec: {broker: default, brokr: x, subscriber: {uri: 'http://example.com/'}}")),
		{what: "an unknown field, to be warned of", method: "POST", path: triggersPath + "?fieldValidation=Warn", body: trigger("t-warn", "spec: {broker: default, brokr: x, subscriber: {uri: 'http://example.com/'}}")},
		{what: "an unknown field, to be passed over", method: "POST", path: triggersPath + "?fieldValidation=Ignore", body: trigger("t-pass", "spec: {broker: default, brokr: x, subscriber: {uri: 'http://example.com/'}}")},
		post("a field given twice", false, `{"apiVersion":"eventing.knative.dev/v1","kind":"Trigger","metadata":{"name":"t-twice"},"spec":{"broker":"a","broker":"b","subscriber":{"uri":"http://example.com"}}}`),
		post("another kind", false, strings.Replace(trigger("t-kind", spec), `"Trigger"`, `"Broker"`, 1)),
		post("another version", false, strings.Replace(trigger("t-version", spec), `/v1"`, `/v1beta1"`, 1)),
		post("another namespace", false, with("name: t-ns, namespace: other")),
		post("a status", false, trigger("t-status", spec+"\nstatus: {subscriberUri: 'http://x'}")),
		post("a null", false, trigger("t-null", "spec: {broker: default, delivery: null, subscriber: {uri: 'http://example.com/'}}")),
		post("a null in a filter", false, trigger("t-null2", "spec: {broker: default, filters: [{exact: null}], subscriber: {uri: 'http://example.com/'}}")),
		post("a number with a point", false, strings.Replace(trigger("t-float", "spec: {broker: default, delivery: {retry: 1}, subscriber: {uri: 'http://example.com/'}}"), `"retry":1`, `"retry":1.0`, 1)),
		post("a number too large", false, trigger("t-large", "spec: {broker: default, delivery: {retry: 5000000000}, subscriber: {uri: 'http://example.com/'}}")),
		post("a wrong type", false, trigger("t-type", "spec: {broker: [default], subscriber: {uri: 'http://example.com/'}}")),
		post("what admission refuses", false, trigger("t-refused", "spec: {broker: default}")),
		post("a filter of two dialects", false, trigger("t-dialects", "spec: {broker: default, filters: [{cesql: 'true', exact: {type: a}}], subscriber: {uri: 'http://example.com/'}}")),
		post("a wrong label", false, with(`name: t-label, labels: {"a b": c}`)),
		post("a wrong name", false, trigger("T_Name", spec)),
		post("no name", false, with(`labels: {a: b}`)),
		post("a name to be made up from nothing", false, with(`generateName: ""`)),
		post("finalizers", false, with(`name: t-final, finalizers: [example.com/x]`)),
		post("no time of creation", false, with(`name: t-time, creationTimestamp: null`)),
		post("empty labels", false, with(`name: t-nolabels, labels: {}`)),
		post("no JSON", false, "{"),
		post("nothing", false, ""),
		{what: "a trial", method: "POST", path: triggersPath + asKubectl + "&dryRun=All", body: trigger("t-trial", spec)},
		{what: "YAML", method: "POST", path: triggersPath + asKubectl, header: map[string]string{"Content-Type": "application/yaml"}, body: "apiVersion: eventing.knative.dev/v1\nkind: Trigger\nmetadata: {name: t-yaml}\n" + spec},
		{what: "a namespace that is not there", method: "POST", path: strings.Replace(triggersPath, "default", "nowhere", 1) + asKubectl, body: trigger("t-nowhere", spec)},
		{what: "an older version", method: "POST", path: "/apis/eventing.knative.dev/v1beta2/namespaces/default/eventtypes" + asKubectl, body: toJSON(t, "{apiVersion: eventing.knative.dev/v1beta2, kind: EventType, metadata: {name: e}, spec: {type: a}}")},
	}
}

func plainServer(t *testing.T, change func(*Options)) (*running, *http.Client) {
	t.Helper()
	o := options(t)
	change(&o)
	s := start(t, o)
	c, err := rest.HTTPClientFor(s.config)
	if err != nil {
		t.Fatal(err)
	}
	return s, c
}

// settle waits until definitions are no news to the handlers, which let requests
// wait for a time after they were made, and the kinds are served.
func settle(t *testing.T, s *running, client *http.Client) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for _, path := range []string{triggersPath, brokersPath, channelsPath, subscriptionsPath} {
		for before := s.plain.Answered(); s.plain.Answered() == before; {
			(plainCase{method: "GET", path: path}).ask(t, s, client)
			(plainCase{method: "GET", path: path + "/none"}).ask(t, s, client)
			if time.Now().After(deadline) {
				t.Fatalf("%s is not answered by a shortcut", path)
			}
			<-time.After(20 * time.Millisecond)
		}
	}
}

// ask sends a request, and gives what is alike in two answers that are.
func (c plainCase) ask(t *testing.T, s *running, client *http.Client) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), c.method, s.config.Host+c.path, strings.NewReader(c.body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", "application/json")
	r.Header.Set("User-Agent", "test/1.0")
	if c.body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for name, value := range c.header {
		r.Header.Set(name, value)
	}
	answer, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"Audit-Id", "Date", "Content-Length"} {
		answer.Header.Del(name)
	}
	var object map[string]any
	if err := json.Unmarshal(b, &object); err != nil {
		return fmt.Sprint(answer.StatusCode, answer.Header, string(b))
	}
	if m, ok := object["metadata"].(map[string]any); ok && m["uid"] != nil {
		for _, name := range []string{"uid", "resourceVersion", "creationTimestamp"} {
			if m[name] == nil && c.method == "POST" && !strings.Contains(c.path, "dryRun") {
				t.Errorf("%s: no %s", c.what, name)
			}
		}
		withoutTimes(m)
	}
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetIndent("", " ")
	if err := e.Encode(object); err != nil {
		t.Fatal(err)
	}
	if answer.StatusCode >= http.StatusBadRequest {
		out.Write(b) // in which nothing differs
	}
	return fmt.Sprint(answer.StatusCode, " ", answer.Header, b[len(b)-1] == '\n', "\n", out.String())
}

// withoutTimes takes out of metadata what differs between two that are made alike.
func withoutTimes(metadata map[string]any) {
	for _, name := range []string{"uid", "resourceVersion", "creationTimestamp"} {
		delete(metadata, name)
	}
	managed, _ := metadata["managedFields"].([]any)
	for _, e := range managed {
		delete(e.(map[string]any), "time")
	}
}

// TestPlainRequestsAreAnsweredAlike: nobody can tell by an answer, nor by what is
// stored, whether the libraries' handlers were asked.
func TestPlainRequestsAreAnsweredAlike(t *testing.T) {
	s, client := plainServer(t, func(*Options) {})
	other, otherClient := plainServer(t, func(o *Options) { o.NoShortcuts = true })
	if other.plain != nil {
		t.Fatal("the one to compare with has shortcuts")
	}
	settle(t, s, client)
	for _, c := range plainCases(t) {
		before := s.plain.Answered()
		got, want := c.ask(t, s, client), c.ask(t, other, otherClient)
		if got != want {
			t.Errorf("%s:\n%s\nwant\n%s", c.what, got, want)
		}
		if plain := s.plain.Answered() > before; plain != c.plain {
			t.Errorf("%s: answered by shortcut: %v", c.what, plain)
		}
	}
	for _, path := range []string{triggersPath, brokersPath, channelsPath, subscriptionsPath} {
		stored := func(s *running, client *http.Client) (objects []map[string]any) {
			r, err := http.NewRequestWithContext(t.Context(), "GET", s.config.Host+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			answer, err := client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer answer.Body.Close()
			var list struct{ Items []map[string]any }
			if err := json.NewDecoder(answer.Body).Decode(&list); err != nil {
				t.Fatal(err)
			}
			for _, o := range list.Items {
				withoutTimes(o["metadata"].(map[string]any))
			}
			return list.Items
		}
		if got, want := stored(s, client), stored(other, otherClient); len(got) == 0 || !reflect.DeepEqual(got, want) {
			t.Errorf("stored at %s:\n%v\nwant\n%v", path, got, want)
		}
	}
}

// TestWhatIsStoredIsReadAlike: also what an older definition, or none, has left.
func TestWhatIsStoredIsReadAlike(t *testing.T) {
	s, client := plainServer(t, func(*Options) {})
	other, otherClient := plainServer(t, func(o *Options) { o.NoShortcuts = true })
	const (
		head = `{"apiVersion":"eventing.knative.dev/v1","kind":"Trigger","metadata":{"creationTimestamp":"2026-01-02T15:04:05Z","generation":1,"name":"NAME","namespace":"default","uid":"u"`
		spec = `"spec":{"broker":"default","filter":{},"subscriber":{"uri":"http://example.com"}}`
	)
	for i, stored := range []string{
		head + `},` + spec + `}`,
		head + `,"labels":{"a":"b"},"annotations":{"c":"d"},"finalizers":["example.com/x"],"managedFields":[{"manager":"m","operation":"Update","apiVersion":"eventing.knative.dev/v1","time":"2026-01-02T15:04:05Z","fieldsType":"FieldsV1","fieldsV1":{"f:spec":{}}}]},` + spec + `,"status":{"conditions":[{"type":"Ready","status":"True","lastTransitionTime":"2026-01-02T15:04:05Z"}],"observedGeneration":1}}`,
		head + `},"spec":{"broker":"default","unknown":{"a":1},"subscriber":{"uri":"http://example.com","unknown":2}}}`,
		head + `},` + spec + `,"unknown":1}`,
		head + `},"spec":{"broker":null,"delivery":{"retry":null},"filters":[{"exact":null}],"subscriber":{"uri":"http://example.com"}}}`,
		head + `},"spec":{"broker":["of another type"],"filters":{},"subscriber":{"uri":1.5}}}`,
		head + `},"spec":{"delivery":{"retry":1.0}}}`,
		head + `,"unknown":1,"labels":{},"annotations":null,"selfLink":"/x"},` + spec + `}`,
		head + `,"labels":{"a":1},"finalizers":[],"managedFields":[]},` + spec + `}`,
		head + `,"ownerReferences":[{"apiVersion":"example.com/v1","kind":"Unserved","name":"c","uid":"u"}]},` + spec + `}`,
		head + `,"deletionTimestamp":"2026-01-02T15:04:05.5Z","generateName":""},` + spec + `}`,
		strings.Replace(head, `"creationTimestamp":"2026-01-02T15:04:05Z",`, ``, 1) + `},` + spec + `}`,
		strings.Replace(head, `"creationTimestamp":"2026-01-02T15:04:05Z"`, `"creationTimestamp":null`, 1) + `},` + spec + `}`,
		head + `},"spec":{"broker":"<&>\u2028\ud800` + "\xff" + `","filters":[{"unknown":{"a":[1e3,-0,12345678901234567890,1.0]}}],"subscriber":{"uri":"x"}}}`,
		head + `},"spec":{"broker":"a","broker":"b","subscriber":{"uri":"x"}},"status":{"conditions":[{"type":"A","status":"True"},{"type":"A","status":"False"}]}}`,
		head + `},"Spec":{"broker":"a"},"spec":{"broker":"b","Broker":"c"}}`,
		head + `,"Labels":{"a":"b"},"labels":{"a":null}},` + spec + `}`,
		head + `,"managedFields":[{"manager":"m","operation":"","time":"2026-01-02T15:04:05Z","fieldsV1":{"f:spec":null}}]},` + spec + `}`,
		strings.Replace(head, `"generation":1`, `"generation":0`, 1) + `},` + spec + `}`,
		strings.Replace(head, `"generation":1,`, ``, 1) + `},` + spec + `}`,
		strings.Replace(head, `05Z`, `05+01:00`, 1) + `},` + spec + `}`,
	} {
		name := fmt.Sprint("t-", i)
		for _, s := range []*running{s, other} {
			key := "/registry/eventing.knative.dev/triggers/default/" + name
			sealed, err := s.atRest.TransformToStorage(t.Context(), []byte(strings.Replace(stored, "NAME", name, 1)+"\n"), value.DefaultContext(key))
			if err != nil {
				t.Fatal(err)
			}
			if r, err := s.o.KV.Put(t.Context(), key, sealed, 0, 0); err != nil || !r.OK {
				t.Fatal(r, err)
			}
		}
		c := plainCase{what: stored, method: "GET", path: triggersPath + "/" + name}
		read := func(s *running, client *http.Client) string {
			answer := c.ask(t, s, client)
			return regexp.MustCompile(`"resourceVersion": "\d+"`).ReplaceAllString(answer, "")
		}
		if got, want := read(s, client), read(other, otherClient); got != want {
			t.Errorf("%s\nis read as\n%s\nwant\n%s", stored, got, want)
		}
	}
}
