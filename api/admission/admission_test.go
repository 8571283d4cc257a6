package admission

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/yaml"

	"github.com/leat-dev/leat/api/annotations"
	eventingv1 "github.com/leat-dev/leat/api/eventing/v1"
)

func parse(t *testing.T, s string) *unstructured.Unstructured {
	t.Helper()
	if strings.TrimSpace(s) == "" {
		return nil
	}
	u := &unstructured.Unstructured{}
	data, err := yaml.YAMLToJSON([]byte(s))
	if err == nil {
		err = json.Unmarshal(data, &u.Object)
	}
	if err != nil {
		t.Fatalf("%v in\n%s", err, s)
	}
	return u
}

// admit defaults and validates, as the API server does.
func admit(t *testing.T, a *Admission, obj, old string) (*unstructured.Unstructured, string) {
	t.Helper()
	o, n := parse(t, old), parse(t, obj)
	if o != nil {
		a.Default(o, nil)
	}
	a.Default(n, o)
	var lines []string
	for _, e := range a.Validate(n, o) {
		lines = append(lines, e.Error())
	}
	return n, strings.Join(lines, "\n")
}

// body is an object of a kind, with the rest of its text.
func body(kind, rest string) string {
	group := "messaging.knative.dev"
	if kind == "Broker" || kind == "Trigger" {
		group = "eventing.knative.dev"
	}
	if !strings.Contains(rest, "metadata:") {
		rest = "metadata: {name: x, namespace: ns}\n" + rest
	}
	return "apiVersion: " + group + "/v1\nkind: " + kind + "\n" + rest
}

func TestDefaults(t *testing.T) {
	a := New(Options{})
	for _, c := range []struct{ name, obj, old, want string }{
		{"broker", body("Broker", ""), "", body("Broker", `
metadata: {name: x, namespace: ns, annotations: {eventing.knative.dev/broker.class: Leat}}
spec: {delivery: {retry: 10, backoffPolicy: exponential, backoffDelay: PT0.2S}}`)},
		{"broker with a delivery", body("Broker", "spec: {delivery: {deadLetterSink: {ref: {kind: Service, name: d, apiVersion: v1}}}}"), "", body("Broker", `
metadata: {name: x, namespace: ns, annotations: {eventing.knative.dev/broker.class: Leat}}
spec: {delivery: {deadLetterSink: {ref: {kind: Service, name: d, apiVersion: v1, namespace: ns}}}}`)},
		{"broker without the class it had", body("Broker", ""),
			body("Broker", "metadata: {name: x, namespace: ns, annotations: {eventing.knative.dev/broker.class: Kafka}}"),
			body("Broker", `
metadata: {name: x, namespace: ns, annotations: {eventing.knative.dev/broker.class: Kafka}}
spec: {delivery: {retry: 10, backoffPolicy: exponential, backoffDelay: PT0.2S}}`)},
		{"trigger", body("Trigger", "spec: {broker: b, subscriber: {ref: {kind: Service, name: s, apiVersion: v1}}}"), "", body("Trigger", `
metadata: {name: x, namespace: ns, labels: {eventing.knative.dev/broker: b}}
spec: {broker: b, filter: {}, subscriber: {ref: {kind: Service, name: s, apiVersion: v1, namespace: ns}}}`)},
		{"trigger of a broker with a long name", body("Trigger", "spec: {broker: "+strings.Repeat("b", 64)+"}"), "",
			body("Trigger", "spec: {filter: {}, broker: "+strings.Repeat("b", 64)+"}")},
		{"channel", body("Channel", ""), "", body("Channel", `
metadata: {name: x, namespace: ns, annotations: {messaging.knative.dev/subscribable: v1}}
spec:
  channelTemplate: {apiVersion: messaging.knative.dev/v1, kind: InMemoryChannel}
  delivery: {retry: 10, backoffPolicy: exponential, backoffDelay: PT0.2S}`)},
		{"channel with a template's delivery", body("Channel", "spec: {channelTemplate: {apiVersion: messaging.knative.dev/v1, kind: InMemoryChannel, spec: {delivery: {retry: 1}}}}"), "", body("Channel", `
metadata: {name: x, namespace: ns, annotations: {messaging.knative.dev/subscribable: v1}}
spec: {channelTemplate: {apiVersion: messaging.knative.dev/v1, kind: InMemoryChannel, spec: {delivery: {retry: 1}}}}`)},
		{"in-memory channel", body("InMemoryChannel", ""), "", body("InMemoryChannel", `
metadata: {name: x, namespace: ns, annotations: {messaging.knative.dev/subscribable: v1}}
spec: {delivery: {retry: 10, backoffPolicy: exponential, backoffDelay: PT0.2S}}`)},
		{"subscription", body("Subscription", "spec: {reply: {ref: {kind: Broker, name: b, apiVersion: eventing.knative.dev/v1}}}"), "",
			body("Subscription", "spec: {reply: {ref: {kind: Broker, name: b, apiVersion: eventing.knative.dev/v1, namespace: ns}}}")},
	} {
		got, _ := admit(t, a, c.obj, c.old)
		if d := cmp.Diff(parse(t, c.want).Object, got.Object); d != "" {
			t.Errorf("%s: -want +got\n%s", c.name, d)
		}
		again := got.DeepCopy()
		a.Default(again, got)
		if d := cmp.Diff(got.Object, again.Object); d != "" {
			t.Errorf("%s: a second time changes it again:\n%s", c.name, d)
		}
	}
}

// TestMalformedIsLeftAlone: defaults come before the schema is checked.
func TestMalformedIsLeftAlone(t *testing.T) {
	a := New(Options{})
	for _, kind := range []string{"Broker", "Trigger", "Channel", "InMemoryChannel", "Subscription"} {
		for _, rest := range []string{
			"spec: 5", "spec: []", "spec: null", "spec: {delivery: 5, subscriber: 5, broker: 5, brokerRef: 5, channelTemplate: 5, reply: x}",
			"spec: {delivery: {deadLetterSink: 7}, subscriber: {ref: 7}, channelTemplate: {spec: 7}}",
			"metadata: {name: x, annotations: 5, labels: 6}\nspec: {broker: b}", "metadata: 5",
			"spec: {channelTemplate: {spec: {delivery: 7}}, delivery: null, filter: null, filters: {}}",
		} {
			obj := parse(t, body(kind, rest))
			a.Default(obj, nil)
			a.Validate(obj, nil)
			a.Warnings(obj)
			a.Validate(obj, obj)
		}
	}
}

const (
	service    = "subscriber: {ref: {kind: Service, name: s, apiVersion: v1}}"
	channelRef = "channel: {apiVersion: messaging.knative.dev/v1, kind: Channel, name: c}"
)

func TestRefusals(t *testing.T) {
	a := New(Options{FilterDepth: 3, CheckFilter: func(attributes map[string]string, filters []eventingv1.SubscriptionsAPIFilter) []FilterFault {
		if len(filters) > 0 && filters[0].CESQL == "1 +" {
			return []FilterFault{{Path: "filters[0].cesql", Value: filters[0].CESQL, Detail: "position 4: an operand is missing"}}
		}
		return nil
	}})
	trigger := func(rest string) string { return body("Trigger", "spec: {broker: b, "+service+", "+rest+"}") }
	for _, c := range []struct{ name, obj, old, want string }{
		{"broker", body("Broker", ""), "", ""},
		{"unknown class", body("Broker", "metadata: {name: x, annotations: {eventing.knative.dev/broker.class: Rabbit}}"), "",
			`metadata.annotations[eventing.knative.dev/broker.class]: Unsupported value: "Rabbit": supported values: "Leat", "MTChannelBasedBroker", "Kafka"`},
		{"change of class", body("Broker", "metadata: {name: x, annotations: {eventing.knative.dev/broker.class: Kafka}}"), body("Broker", ""),
			`metadata.annotations[eventing.knative.dev/broker.class]: Forbidden: cannot be changed: delete the object and create it anew (it was "Leat")`},
		{"change of config", body("Broker", "spec: {config: {apiVersion: v1, kind: ConfigMap, name: b}}"),
			body("Broker", "spec: {config: {apiVersion: v1, kind: ConfigMap, name: a}}"),
			`spec.config: Forbidden: cannot be changed: delete the object and create it anew (it was {"kind":"ConfigMap","name":"a","apiVersion":"v1"})`},
		{"fewer partitions", body("Broker", ""), body("Broker", "metadata: {name: x, annotations: {leat.dev/partitions: '4'}}"),
			`metadata.annotations[leat.dev/partitions]: Invalid value: 1: partitions cannot be taken away: must be 4 or more`},
		{"unknown annotation", body("Broker", "metadata: {name: x, annotations: {leat.dev/xyz: '4'}}"), "",
			`metadata.annotations[leat.dev/xyz]: Forbidden: not known on a Broker or channel, which takes leat.dev/retention, leat.dev/retention-bytes, leat.dev/partitions`},
		{"delivery", body("Broker", `spec: {delivery: {retry: -1, backoffPolicy: random, backoffDelay: 5s, timeout: PT0S, backoffMax: -PT1S, retryAfterMax: P1Y, format: json, deadLetterSink: {uri: /x}}}`), "",
			`spec.delivery.deadLetterSink.uri: Invalid value: "/x": must be absolute without a ref, such as http://127.0.0.1:8081/
spec.delivery.retry: Invalid value: -1: must be 0 or more
spec.delivery.backoffPolicy: Unsupported value: "random": supported values: "exponential", "linear"
spec.delivery.format: Unsupported value: "json": supported values: "binary"
spec.delivery.timeout: Invalid value: "PT0S": must be longer than zero, such as PT30S
spec.delivery.backoffDelay: Invalid value: "5s": "5s" is not an ISO 8601 duration: it does not begin with P; write for example PT0.5S, PT30S, PT10M or P7D
spec.delivery.backoffMax: Invalid value: "-PT1S": must not be negative
spec.delivery.retryAfterMax: Invalid value: "P1Y": "P1Y" is not an ISO 8601 duration: years and months have no fixed length, use days; write for example PT0.5S, PT30S, PT10M or P7D`},
		{"name that is no segment", body("Broker", "metadata: {name: a/b}"), "", `metadata.name: Invalid value: "a/b": may not contain '/'`},

		{"trigger", trigger("filter: {attributes: {type: '', source: x}}"), "", ""},
		{"trigger without anything", body("Trigger", ""), "", `spec.broker: Required value: the object's name
spec.subscriber: Required value: needs a ref to an object with an address, or an absolute uri`},
		{"change of broker", body("Trigger", "spec: {broker: c, "+service+"}"), trigger("x: y"),
			`spec.broker: Forbidden: cannot be changed: delete the object and create it anew (it was "b")`},
		{"broker twice", trigger("brokerRef: {apiVersion: eventing.knative.dev/v1, kind: Broker, name: b}"), "",
			`spec.brokerRef: Forbidden: broker is given as well: remove one of the two`},
		{"brokerRef", body("Trigger", "spec: {brokerRef: {apiVersion: eventing.knative.dev/v1, kind: Broker, name: b}, "+service+"}"), "", ""},
		{"brokerRef to another kind", body("Trigger", "spec: {brokerRef: {apiVersion: v1, kind: Service, name: b}, "+service+"}"), "",
			`spec.brokerRef: Invalid value: "Service": must be a Broker of eventing.knative.dev/v1`},
		{"reference", body("Trigger", "spec: {broker: B, subscriber: {ref: {name: '..', apiVersion: a/b/c, namespace: A_}}}"), "",
			`spec.broker: Invalid value: "B": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
spec.subscriber.ref.kind: Required value: such as "Service"
spec.subscriber.ref.name: Invalid value: "..": may not be '..'
spec.subscriber.ref.namespace: Invalid value: "A_": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
spec.subscriber.ref.apiVersion: Invalid value: "a/b/c": must be VERSION or GROUP/VERSION, such as "v1" or "eventing.knative.dev/v1"`},
		{"absolute uri beside a ref", body("Trigger", "spec: {broker: b, subscriber: {uri: 'http://x/', ref: {kind: Service, name: s, apiVersion: v1}}}"), "",
			`spec.subscriber.uri: Invalid value: "http://x/": must be relative beside a ref, such as "/path"; or remove the ref`},
		{"host beside a ref", body("Trigger", "spec: {broker: b, subscriber: {uri: '//x/', ref: {kind: Service, name: s, apiVersion: v1}}}"), "",
			`spec.subscriber.uri: Invalid value: "//x/": must be relative beside a ref, such as "/path"; or remove the ref`},
		{"scheme", body("Trigger", "spec: {broker: b, subscriber: {uri: 'ftp://x/'}}"), "",
			`spec.subscriber.uri: Invalid value: "ftp://x/": the scheme must be http or https, not "ftp"`},
		{"no uri", body("Trigger", "spec: {broker: b, subscriber: {uri: 'http://x:y/'}}"), "",
			`spec.subscriber.uri: Invalid value: "http://x:y/": is not a URI: invalid port ":y" after host`},
		{"filter attributes", trigger("filter: {attributes: {Type: x, a-b: '', ok: 5}}"), "",
			`spec.filter.attributes[Type]: Invalid value: "Type": a name of an attribute has lower-case letters a to z and digits only
spec.filter.attributes[a-b]: Invalid value: "a-b": a name of an attribute has lower-case letters a to z and digits only
spec.filter.attributes[ok]: Invalid value: "5": must be a string`},
		{"filters", trigger("filters: [{exact: {type: a, source: b}}, {not: {any: [{prefix: {type: x}}]}}, {cesql: 'TRUE'}, {expr: 'true'}]"), "", ""},
		{"two dialects", trigger("filters: [{exact: {type: a}, prefix: {type: b}}]"), "",
			`spec.filters[0]: Forbidden: has exact and prefix: a filter has one dialect, combine several by all`},
		{"unknown dialect", trigger("filters: [{all: [{jsonata: x}]}]"), "",
			`spec.filters[0].all[0].jsonata: Forbidden: unknown dialect: use one of exact, prefix, suffix, all, any, not, cesql, expr`},
		{"empty filters", trigger("filters: [{}, {exact: {}}, {exact: {type: ''}}, {all: []}, {any: {}}, {not: null}, {cesql: ' '}, {expr: 5}, 7]"), "",
			`spec.filters[0]: Required value: needs one dialect of exact, prefix, suffix, all, any, not, cesql, expr
spec.filters[1].exact: Required value: needs at least one attribute and its value
spec.filters[2].exact[type]: Required value: needs a value that is not empty
spec.filters[3].all: Required value: needs at least one filter
spec.filters[4].any: Invalid value: "map[]": must be a list of filters
spec.filters[5].not: Invalid value: "<nil>": must be an object with one dialect
spec.filters[6].cesql: Required value: needs an expression
spec.filters[7].expr: Invalid value: "5": must be an expression
spec.filters[8]: Invalid value: "7": must be an object with one dialect`},
		{"too deep", trigger("filters: [{not: {not: {not: {cesql: 'TRUE'}}}}]"), "",
			`spec.filters[0].not.not.not: Forbidden: filters are nested too deep`},
		{"expression", trigger("filters: [{cesql: '1 +'}]"), "", `spec.filters[0].cesql: Invalid value: "1 +": position 4: an operand is missing`},
		{"dependency", body("Trigger", "metadata: {name: x, annotations: {knative.dev/dependency: nonsense}}\nspec: {broker: b, "+service+"}"), "",
			`metadata.annotations[knative.dev/dependency]: Invalid value: "nonsense": must be a reference in JSON, such as {"kind":"PingSource","name":"ping","apiVersion":"sources.knative.dev/v1"}: invalid character 'o' in literal null (expecting 'u')`},

		{"channel", body("Channel", ""), "", ""},
		{"channel template", body("Channel", "spec: {channelTemplate: {apiVersion: v9, kind: KafkaChannel, spec: {delivery: {retry: -1}}}}"), "",
			`spec.channelTemplate.apiVersion: Unsupported value: "v9": supported values: "messaging.knative.dev/v1"
spec.channelTemplate.kind: Unsupported value: "KafkaChannel": supported values: "InMemoryChannel"
spec.channelTemplate.spec.delivery.retry: Invalid value: -1: must be 0 or more`},
		{"change of the template", body("Channel", "spec: {channelTemplate: {apiVersion: messaging.knative.dev/v1, kind: InMemoryChannel, spec: {}}}"), body("Channel", ""),
			`spec.channelTemplate: Forbidden: cannot be changed: delete the object and create it anew (it was {"apiVersion":"messaging.knative.dev/v1","kind":"InMemoryChannel"})`},

		{"subscription", body("Subscription", "spec: {"+channelRef+", "+service+", reply: {uri: 'http://r/'}}"), "", ""},
		{"subscription without anything", body("Subscription", "spec: {reply: {}}"), "",
			`spec.channel: Required value: the Channel or InMemoryChannel that is subscribed to
spec.subscriber: Required value: needs a ref to an object with an address, or an absolute uri
spec.reply: Required value: needs a ref to an object with an address, or an absolute uri`},
		{"subscription elsewhere", body("Subscription", "spec: {"+service+", channel: {apiVersion: v1, kind: Service, name: c, namespace: other}}"), "",
			`spec.channel.namespace: Invalid value: "other": must be empty or the Subscription's own, "ns"`},
		{"subscription to another kind", body("Subscription", "spec: {"+service+", channel: {apiVersion: v1, kind: Service, name: c}}"), "",
			`spec.channel.apiVersion: Unsupported value: "v1": supported values: "messaging.knative.dev/v1"
spec.channel.kind: Unsupported value: "Service": supported values: "Channel", "InMemoryChannel"`},
		{"change of the channel", body("Subscription", "spec: {"+service+", channel: {apiVersion: messaging.knative.dev/v1, kind: Channel, name: d}}"),
			body("Subscription", "spec: {"+service+", "+channelRef+"}"),
			`spec.channel: Forbidden: cannot be changed: delete the object and create it anew (it was {"kind":"Channel","name":"c","apiVersion":"messaging.knative.dev/v1"})`},
		{"service", "apiVersion: v1\nkind: Service\nmetadata: {name: s, annotations: {leat.dev/url: x}}", "",
			`metadata.annotations[leat.dev/url]: Invalid value: "x": must be an absolute http or https URL, such as http://127.0.0.1:8081/`},
		{"on its way out", body("Broker", "metadata: {name: x, deletionTimestamp: '2026-01-01T00:00:00Z', annotations: {leat.dev/xyz: '4'}}"), "", ""},
	} {
		if _, got := admit(t, a, c.obj, c.old); got != c.want {
			t.Errorf("%s: -want +got\n%s", c.name, cmp.Diff(c.want, got))
		}
	}
}

func TestWarnings(t *testing.T) {
	a := New(Options{Limits: annotations.Limits{}})
	for _, c := range []struct{ obj, want string }{
		{body("Broker", ""), ""},
		{body("Broker", "metadata: {name: x, annotations: {eventing.knative.dev/broker.class: MTChannelBasedBroker}}\nspec: {config: {kind: ConfigMap}}"),
			`class MTChannelBasedBroker is served as class Leat: by Leat's own log
spec.config is kept, but not read: retention and partitions are annotations under leat.dev/`},
		{body("Trigger", "spec: {filter: {attributes: {type: x}}, filters: [{cesql: 'TRUE'}], subscriber: {uri: 'http://u:p@x/', CACerts: x, audience: a}}"),
			`spec.filter has no effect beside spec.filters
spec.subscriber.CACerts is not used: the system's certificates are
spec.subscriber.audience is not used: requests carry no token
spec.subscriber.uri holds credentials, which everyone who can read this object sees`},
		{body("Channel", "spec: {delivery: {deadLetterSink: {audience: x}}}"), `spec.delivery.deadLetterSink.audience is not used: requests carry no token`},
		{body("Subscription", "spec: {reply: {audience: x}}"), `spec.reply.audience is not used: requests carry no token`},
	} {
		obj := parse(t, c.obj)
		a.Default(obj, nil)
		if got := strings.Join(a.Warnings(obj), "\n"); got != c.want {
			t.Errorf("-want +got\n%s", cmp.Diff(c.want, got))
		}
	}
}
