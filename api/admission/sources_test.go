package admission

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/leat-dev/leat/api/event"
)

func sourceBody(kind, spec string) string {
	version := "sources.knative.dev/v1"
	if kind == "CronJobSource" {
		version = "sources.eventing.knative.dev/v1alpha1"
	}
	return "apiVersion: " + version + "\nkind: " + kind + "\nmetadata: {name: x, namespace: ns}\nspec: {" + spec + "}"
}

func TestDefaultsOfSources(t *testing.T) {
	a := New(Options{})
	for _, c := range []struct{ name, kind, spec, want string }{
		{"schedule and namespace", "PingSource", "sink: {ref: {apiVersion: v1, kind: Service, name: s}}",
			"schedule: '* * * * *', sink: {ref: {apiVersion: v1, kind: Service, name: s, namespace: ns}}"},
		{"what is given stays", "PingSource", "schedule: '0 9 * * *', sink: {ref: {apiVersion: v1, kind: Service, name: s, namespace: other}}",
			"schedule: '0 9 * * *', sink: {ref: {apiVersion: v1, kind: Service, name: s, namespace: other}}"},
		{"an empty schedule", "PingSource", "schedule: '', sink: {uri: 'http://x/'}", "schedule: '* * * * *', sink: {uri: 'http://x/'}"},
		{"a reference in place", "CronJobSource", "sink: {apiVersion: v1, kind: Service, name: s}",
			"schedule: '* * * * *', sink: {apiVersion: v1, kind: Service, name: s, namespace: ns}"},
		{"a reference", "CronJobSource", "sink: {ref: {apiVersion: v1, kind: Service, name: s}}",
			"schedule: '* * * * *', sink: {ref: {apiVersion: v1, kind: Service, name: s, namespace: ns}}"},
		{"another form stays for validation", "PingSource", "sink: [1]", "schedule: '* * * * *', sink: [1]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := parse(t, sourceBody(c.kind, c.spec))
			a.Default(got, nil)
			if d := cmp.Diff(parse(t, sourceBody(c.kind, c.want)).Object, got.Object); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestValidationOfSources(t *testing.T) {
	a := New(Options{
		Events: event.Limits{MaxDataBytes: 16},
		CheckSchedule: func(schedule, timezone string) *ScheduleFault {
			switch {
			case schedule == "bad":
				return &ScheduleFault{Detail: "is bad"}
			case timezone == "bad", strings.HasPrefix(schedule, "TZ=bad"):
				return &ScheduleFault{Timezone: true, Detail: "is no zone"}
			}
			return nil
		},
	})
	const sink = "sink: {uri: 'http://x/'}"
	for _, c := range []struct{ kind, spec, want string }{
		{"PingSource", sink, ""},
		{"PingSource", sink + ", contentType: application/json, data: '{\"a\":1}', timezone: UTC, ceOverrides: {extensions: {tenant: a}}", ""},
		{"PingSource", sink + ", dataBase64: aGVsbG8=, contentType: text/plain", ""},
		{"PingSource", "", "spec.sink: Required value: needs a ref"},
		{"PingSource", "sink: {uri: /x}", `spec.sink.uri: Invalid value: "/x": must be absolute`},
		{"PingSource", "sink: {ref: {kind: Broker, name: b}}", "spec.sink.ref.apiVersion: Required value"},
		{"PingSource", sink + ", schedule: bad", `spec.schedule: Invalid value: "bad": is bad`},
		{"PingSource", sink + ", timezone: bad", `spec.timezone: Invalid value: "bad": is no zone`},
		{"PingSource", sink + ", schedule: TZ=bad 1", `spec.schedule: Invalid value: "TZ=bad 1": is no zone`},
		{"PingSource", sink + ", data: a, dataBase64: Yg==", "spec.dataBase64: Forbidden: data is given as well: remove one of the two"},
		{"PingSource", sink + ", dataBase64: 'a b'", `spec.dataBase64: Invalid value: "a b": is not base64`},
		{"PingSource", sink + ", dataBase64: Yg", `spec.dataBase64: Invalid value: "Yg": is not base64`},
		{"PingSource", sink + ", data: '{', contentType: application/json", `spec.data: Invalid value: "{": is not JSON, as contentType application/json says it is`},
		{"PingSource", sink + ", dataBase64: ew==, contentType: application/problem+json; charset=utf-8", `spec.dataBase64: Invalid value: "{": is not JSON`},
		{"PingSource", sink + ", data: 1", "spec: Invalid value"},
		{"PingSource", sink + ", data: '12345678901234567'", `spec.data: Invalid value: "(17 bytes)": is over the limit of 16 bytes`},
		{"PingSource", sink + ", contentType: json", `spec.contentType: Invalid value: "json": must be a media type`},
		{"PingSource", sink + ", contentType: application/cloudevents+json", "spec.contentType: Invalid value: \"application/cloudevents+json\": is that of a whole event"},
		{"PingSource", sink + ", ceOverrides: {extensions: {Tenant: a}}", `spec.ceOverrides.extensions[Tenant]: Invalid value: "a": the name of an attribute may hold only a-z and 0-9`},
		{"PingSource", sink + ", ceOverrides: {extensions: {type: a}}", `spec.ceOverrides.extensions[type]: Invalid value: "a": is no name for an extension`},
		{"PingSource", sink + ", ceOverrides: {extensions: {leatlate: 'true'}}", "spec.ceOverrides.extensions[leatlate]: Invalid value: \"true\": names that begin with leat"},
		{"PingSource", sink + `, ceOverrides: {extensions: {a: "x\ny"}}`, "spec.ceOverrides.extensions[a]: Invalid value: \"x\\ny\": the control character"},
		{"CronJobSource", sink, ""},
		{"CronJobSource", "sink: {apiVersion: eventing.knative.dev/v1, kind: Broker, name: b}, serviceAccountName: s, resources: {limits: {cpu: 1m}}", ""},
		{"CronJobSource", "", "spec.sink: Required value"},
		{"CronJobSource", "sink: {}", "spec.sink: Required value"},
		{"CronJobSource", "sink: {kind: Broker, name: b}", "spec.sink.apiVersion: Required value"},
		{"CronJobSource", "sink: {apiVersion: v1, kind: Service}", "spec.sink.name: Required value"},
		{"CronJobSource", "sink: {apiVersion: v1, kind: Service, name: s, uri: 'http://x/'}", `spec.sink.uri: Invalid value: "http://x/": must be relative`},
		{"CronJobSource", "sink: {apiVersion: v1, kind: Service, name: s, ref: {apiVersion: v1, kind: Service, name: s}}", "spec.sink.ref: Forbidden: the object is named in place as well"},
		{"CronJobSource", sink + ", schedule: bad", `spec.schedule: Invalid value: "bad": is bad`},
		{"CronJobSource", sink + ", data: '12345678901234567'", `spec.data: Invalid value: "(17 bytes)": is over the limit`},
	} {
		_, got := admit(t, a, sourceBody(c.kind, c.spec), "")
		if (got == "") != (c.want == "") || !strings.HasPrefix(got, c.want) && !strings.Contains(got, c.want) || strings.Contains(got, "\n") {
			t.Errorf("%s {%s}:\n%s\nwant %s", c.kind, c.spec, got, c.want)
		}
	}
	_, got := admit(t, a, strings.Replace(sourceBody("PingSource", sink), "name: x,", "name: x, annotations: {leat.dev/partitions: '2'},", 1), "")
	if want := "metadata.annotations[leat.dev/partitions]: Forbidden: not known on a source, which takes none"; !strings.HasPrefix(got, want) {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestWarningsOfSources(t *testing.T) {
	a := New(Options{})
	for _, c := range []struct{ kind, spec, want string }{
		{"PingSource", "sink: {uri: 'http://x/'}", ""},
		{"PingSource", "sink: {uri: 'http://u:p@x/'}", "spec.sink.uri holds credentials"},
		{"CronJobSource", "sink: {uri: 'http://u:p@x/'}", "spec.sink.uri holds credentials"},
		{"CronJobSource", "sink: {uri: 'http://x/'}, serviceAccountName: s", "not used"},
	} {
		got := strings.Join(a.Warnings(parse(t, sourceBody(c.kind, c.spec))), "\n")
		if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s {%s}: %q, want %q", c.kind, c.spec, got, c.want)
		}
	}
}
