package apiserver

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"
)

// oddTriggers are bodies in which something is odd, for better or worse.
func oddTriggers() []string {
	object := func(metadata, rest string) string {
		return `{"apiVersion":"eventing.knative.dev/v1","kind":"Trigger","metadata":{` + metadata + `},` + rest + `}`
	}
	const spec = `"spec":{"broker":"default","subscriber":{"uri":"http://example.com/"}}`
	bodies := []string{
		" \n\t" + object(`"name":"NAME"`, spec) + " \r\n",
		"\xef\xbb\xbf" + object(`"name":"NAME"`, spec),
		object(`"name":"NAME"`, spec) + `{}`,
		object(`"name":"NAME"`, spec) + "\x00",
		`[` + object(`"name":"NAME"`, spec) + `]`,
		`null`, `"text"`, `{}`,
		`{"kind":"TriggerList","apiVersion":"eventing.knative.dev/v1","items":[],"metadata":{}}`,
		object(`"name":"NAME"`, spec+`,"items":[]`),
		object(`"name":"NAME"`, `"spec":null`), object(`"name":"NAME"`, `"spec":[]`), object(`"name":"NAME"`, `"spec":"x"`),
		object(`"name":"NAME"`, spec+`,"status":{}`), object(`"name":"NAME"`, spec+`,"status":null`), object(`"name":"NAME"`, spec+`,"other":null`),
		object(`"name":"NAME"`, spec+`,"Spec":{"broker":"x"}`), object(`"name":"NAME"`, spec+`,"Kind":"Broker"`),
		object(`"name":"NAME"`, spec+`,"kind":"Trigger"`), object(`"name":"NAME","name":"other"`, spec),
		strings.Replace(object(`"name":"NAME"`, spec), `"kind"`, `"Kind"`, 1), strings.Replace(object(`"name":"NAME"`, spec), `"metadata"`, `"metaData"`, 1),
		strings.Replace(object(`"name":"NAME"`, spec), `"Trigger"`, `"trigger"`, 1), strings.Replace(object(`"name":"NAME"`, spec), `"kind":"Trigger",`, ``, 1),
		strings.Replace(object(`"name":"NAME"`, spec), `"apiVersion":"eventing.knative.dev/v1",`, ``, 1),
		strings.Replace(object(`"name":"NAME"`, spec), `"kind"`, `"k\u0069nd"`, 1),
	}
	for _, metadata := range []string{
		`"uid":"12345678-1234-1234-1234-123456789012"`, `"resourceVersion":"1"`, `"resourceVersion":""`, `"generation":7`, `"selfLink":"/x"`,
		`"creationTimestamp":"2020-01-01T00:00:00Z"`, `"deletionTimestamp":"2020-01-01T00:00:00Z"`, `"deletionGracePeriodSeconds":3`,
		`"generateName":"gen-"`, `"finalizers":["a"]`, `"finalizers":[]`, `"ownerReferences":[{"apiVersion":"v1","kind":"ConfigMap","name":"c","uid":"u"}]`,
		`"ownerReferences":[]`, `"managedFields":[]`, `"managedFields":[{"manager":"x","operation":"Update","apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":{}}]`,
		`"namespace":""`, `"namespace":null`, `"namespace":"other"`, `"labels":null`, `"labels":{"a":null}`, `"labels":{"a":1}`, `"labels":{"a":"b","a":"c"}`,
		`"labels":{"":"x"}`, `"labels":{"a":"B_.-c","UPPER":"x"}`, `"labels":{"a":"` + strings.Repeat("x", 64) + `"}`, `"annotations":{"UPPER.example.com/X":"y"}`, `"annotations":{"a b":"c"}`,
		`"annotations":{"a":"<&>\u2028\u0000\ud800\udc00\ud800 ` + "\xff\xc0" + `"}`, `"annotations":{"a\u0062":"c","d` + "\xff" + `":"e"}`,
		`"annotations":{"eventing.knative.dev/creator":"somebody"}`, `"annotations":{"leat.dev/start-from":"nonsense"}`, `"annotations":{"leat.dev/unknown":"x"}`,
		`"Labels":{"a":"b"}`, `"unknown":1`, `"clusterName":"x"`, `"annotations":{"a":"` + strings.Repeat("<", 20<<10) + `"}`, `"annotations":{"a":"` + strings.Repeat("x", 50<<10) + `"}`,
	} {
		bodies = append(bodies, object(`"name":"NAME",`+metadata, spec))
	}
	for _, name := range []string{``, `a/b`, `..`, `A`, `a_b`, `a.b`, `-a`, `a%2fb`, `\u0061bc`, strings.Repeat("a", 253), strings.Repeat("a", 254), "\xff"} {
		bodies = append(bodies, object(`"name":"`+name+`"`, spec))
	}
	bodies = append(bodies, object(`"name":1`, spec), object(`"name":null`, spec))
	for _, more := range []string{
		`"delivery":{"retry":1e1}`, `"delivery":{"retry":-0}`, `"delivery":{"retry":-1}`, `"delivery":{"retry":2147483648}`, `"delivery":{"retry":9223372036854775808}`,
		`"delivery":{"retry":"1"}`, `"delivery":{"retry":3,"backoffPolicy":"EXPONENTIAL"}`, `"delivery":{"backoffDelay":"nonsense"}`, `"delivery":{}`, `"delivery":[]`,
		`"filter":{}`, `"filter":{"attributes":{}}`, `"filter":{"attributes":{"type":1}}`, `"filters":[]`, `"filters":[{}]`, `"filters":[{"unknown":{"a":[1.5,1e3,{"b":null}]}}]`,
		`"filters":[{"all":[{"exact":{"type":"a"},"other":1}]}]`, `"filters":[{"not":{"all":[{"any":[{"cesql":"nonsense ("}]}]}}]`, `"filters":[{"exact":{"type":"a"}},{"exact":{"type":"a"}}]`,
		`"filters":[` + strings.Repeat(`{"not":`, 20) + `{"exact":{"type":"a"}}` + strings.Repeat(`}`, 20) + `]`,
		`"filters":[` + strings.Repeat(`{"not":`, 5000) + `{}` + strings.Repeat(`}`, 5000) + `]`,
		`"filters":` + strings.Repeat(`[`, 12000) + strings.Repeat(`]`, 12000),
		`"brokerRef":{"name":"x"}`, `"broker":"other"`, `"subscriber":{}`, `"subscriber":{"ref":{}}`, `"subscriber":{"uri":""}`,
	} {
		bodies = append(bodies, object(`"name":"NAME"`, `"spec":{"broker":"default","subscriber":{"uri":"http://example.com/<&>"},`+more+`}`))
	}
	return bodies
}

func oddCases() (cases []plainCase) {
	const least = `{"apiVersion":"eventing.knative.dev/v1","kind":"Trigger","metadata":{"name":"NAME"},"spec":{"broker":"default","unknown":1,"broker":"default","subscriber":{"uri":"http://example.com/"}}}`
	good := strings.Replace(least, `"unknown":1,"broker":"default",`, ``, 1)
	for i, body := range oddTriggers() {
		for _, validation := range []string{"Strict", "Warn"} {
			name := fmt.Sprintf("odd-%d-%s", i, strings.ToLower(validation))
			cases = append(cases, plainCase{what: fmt.Sprintf("%.300s", body), method: "POST", path: triggersPath + "?fieldManager=m&fieldValidation=" + validation, body: strings.Replace(body, "NAME", name, 1)})
		}
	}
	for i, query := range []string{
		"", "fieldManager=", "fieldManager=a&fieldManager=b", "fieldManager=%00", "fieldManager=%C3%A4", "fieldManager=" + strings.Repeat("x", 128), "fieldManager=" + strings.Repeat("x", 129),
		"fieldValidation=strict", "fieldValidation=", "fieldValidation=Ignore", "dryRun=All", "dryRun=", "dryRun=nonsense", "pretty=true", "pretty", "unknown=1", "timeout=20s", "a;b", "fieldManager=%zz", "FieldManager=x",
	} {
		for j, body := range []string{least, good} {
			cases = append(cases, plainCase{what: query, method: "POST", path: triggersPath + "?" + query, body: strings.Replace(body, "NAME", fmt.Sprintf("query-%d-%d", i, j), 1)})
		}
		cases = append(cases, plainCase{what: query, method: "GET", path: triggersPath + "/none?" + query})
	}
	for i, header := range []map[string]string{
		{"Accept": ""}, {"Accept": "*/*"}, {"Accept": "application/yaml"}, {"Accept": "application/vnd.kubernetes.protobuf"}, {"Accept": "application/cbor"}, {"Accept": "text/html"}, {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"},
		{"Accept": "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"}, {"Accept": "application/json, */*"}, {"Accept": "application/json;q=0.5"},
		{"Content-Type": ""}, {"Content-Type": "application/json; charset=utf-8"}, {"Content-Type": "text/plain"}, {"Content-Type": "application/cbor"}, {"Content-Type": "application/x-www-form-urlencoded"}, {"Content-Type": "application/merge-patch+json"},
		{"User-Agent": "curl/8"}, {"User-Agent": "Mozilla/5.0 x"}, {"User-Agent": "a b\tc"}, {"User-Agent": "/x"}, {"User-Agent": strings.Repeat("u", 200)}, {"User-Agent": "\u00e4/1"},
		{"Content-Encoding": "gzip"}, {"Impersonate-User": "system:serviceaccount:default:default"}, {"Impersonate-User": "nobody"},
	} {
		cases = append(cases,
			plainCase{what: fmt.Sprint(header), method: "POST", path: triggersPath, header: header, body: strings.Replace(good, "NAME", fmt.Sprintf("header-%d", i), 1)},
			plainCase{what: fmt.Sprint(header), method: "GET", path: triggersPath + "/none", header: header})
	}
	for _, path := range []string{
		"/", "//none", "/none/", "/none/status", "/none/status/more", "/none/scale", "/none%2Fstatus", "/%2e%2e", "/..%2fx", "/None", "/n%00", "/" + strings.Repeat("a", 254), "/none;x", "/none%20",
	} {
		cases = append(cases, plainCase{what: path, method: "GET", path: triggersPath + path}, plainCase{what: path, method: "POST", path: triggersPath + path, body: strings.Replace(good, "NAME", "none", 1)})
	}
	for _, namespace := range []string{"%2e%2e", "Default", "a%2fb", "default%00", "kube-system"} {
		path := strings.Replace(triggersPath, "default", namespace, 1)
		cases = append(cases, plainCase{what: path, method: "GET", path: path + "/none"}, plainCase{what: path, method: "POST", path: path, body: strings.Replace(good, "NAME", "elsewhere", 1)})
	}
	return append(cases, plainCase{what: "HEAD", method: "HEAD", path: triggersPath + "/none"}, plainCase{what: "PUT", method: "PUT", path: triggersPath + "/none", body: strings.Replace(good, "NAME", "none", 1)})
}

// differing is what differs between two that are made alike, in JSON or YAML.
func differing() *regexp.Regexp {
	return regexp.MustCompile(`("?(uid|time|creationTimestamp|resourceVersion)"?:) ?("[^"]*"|[-0-9a-f]{36})`)
}

// storedTriggers are the texts that are stored, without what differs between two
// that are made alike.
func (s *running) storedTriggers(t *testing.T) map[string]string {
	t.Helper()
	differs := differing()
	page, err := s.o.KV.List("/registry/eventing.knative.dev/triggers/", "", 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, kv := range page.KVs {
		text, err := s.Plain(context.Background(), kv.Key, kv.Value)
		if err != nil {
			t.Fatal(err)
		}
		all[kv.Key] = differs.ReplaceAllString(string(text), "$1")
	}
	return all
}

// TestOddRequestsAreAnsweredAlike: whatever is odd about a request, a shortcut
// makes of it what the libraries' handlers make of it, and stores the same text.
func TestOddRequestsAreAnsweredAlike(t *testing.T) {
	s, client := plainServer(t, func(o *Options) { o.MaxRequestBytes = 40 << 10 })
	other, otherClient := plainServer(t, func(o *Options) { o.MaxRequestBytes, o.NoShortcuts = 40<<10, true })
	settle(t, s, client)
	before, differs := s.plain.Answered(), differing()
	for _, c := range oddCases() {
		got, want := differs.ReplaceAllString(c.ask(t, s, client), "$1"), differs.ReplaceAllString(c.ask(t, other, otherClient), "$1")
		if got != want {
			t.Errorf("%s %.200s, %s:\n%.2000s\nwant\n%.2000s", c.method, c.path, c.what, got, want)
		}
	}
	got, want := s.storedTriggers(t), other.storedTriggers(t)
	for key, text := range want {
		if got[key] != text {
			t.Errorf("%s is stored as\n%.2000s\nwant\n%.2000s", key, got[key], text)
		}
	}
	if answered := s.plain.Answered() - before; answered < 40 || len(got) != len(want) || len(got) < 40 {
		t.Errorf("%d were answered by shortcut; stored are %d, want %d", answered, len(got), len(want))
	}
}

// TestChangedDefinitionIsHeeded: what a definition asks of the whole object, and
// of its metadata, holds for a shortcut.
func TestChangedDefinitionIsHeeded(t *testing.T) {
	s, client := plainServer(t, func(*Options) {})
	settle(t, s, client)
	post := func(name, contentType, query string) string {
		body := toJSON(t, "{apiVersion: eventing.knative.dev/v1, kind: Trigger, metadata: {name: "+name+"}, spec: {broker: default, subscriber: {uri: 'http://example.com/'}}}")
		c := plainCase{what: name, method: "POST", path: triggersPath + query, body: body, header: map[string]string{"Content-Type": contentType}}
		return c.ask(t, s, client)
	}
	const at = "/spec/versions/0/schema/openAPIV3Schema/"
	for i, change := range []string{
		`{"op":"add","path":"` + at + `properties/metadata","value":{"type":"object","properties":{"name":{"type":"string","maxLength":20}}}}`,
		`{"op":"remove","path":"` + at + `properties/metadata"},{"op":"add","path":"` + at + `x-kubernetes-validations","value":[{"rule":"self.metadata.name.size() < 20","message":"short"}]}`,
		`{"op":"remove","path":"` + at + `x-kubernetes-validations"},{"op":"add","path":"` + at + `required","value":["status"]}`,
	} {
		patch := plainCase{method: "PATCH", path: "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/triggers.eventing.knative.dev", body: `[` + change + `]`, header: map[string]string{"Content-Type": "application/json-patch+json"}}
		if answer := patch.ask(t, s, client); !strings.HasPrefix(answer, "200") {
			t.Fatal(answer)
		}
		name := fmt.Sprintf("longer-than-twenty-letters-%d", i)
		refused := fmt.Sprint(http.StatusUnprocessableEntity)
		for deadline := time.Now().Add(20 * time.Second); !strings.HasPrefix(post(name, "application/yaml", "?dryRun=All"), refused); {
			if time.Now().After(deadline) {
				t.Fatalf("change %d has no effect", i)
			}
			<-time.After(20 * time.Millisecond)
		}
		if answer := post(name, "application/json", ""); !strings.HasPrefix(answer, refused) {
			t.Errorf("after change %d a shortcut answered %s", i, answer)
		}
	}
}
