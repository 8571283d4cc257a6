package apiserver

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/discovery"
)

// served are the resources of each group version: short names, and categories.
var served = map[string]map[string]string{
	"v1": {
		"namespaces": "ns ", "secrets": " ", "configmaps": "cm ", "serviceaccounts": "sa ", "services": "svc all", "nodes": "no ", "events": "ev ",
		"namespaces/status": " ", "namespaces/finalize": " ", "services/status": " ", "nodes/status": " ", "serviceaccounts/token": " ",
	},
	"authentication.k8s.io/v1": {"tokenreviews": " ", "selfsubjectreviews": " "},
	"authorization.k8s.io/v1": {
		"subjectaccessreviews": " ", "localsubjectaccessreviews": " ", "selfsubjectaccessreviews": " ", "selfsubjectrulesreviews": " ",
	},
	"coordination.k8s.io/v1":  {"leases": " "},
	"events.k8s.io/v1":        {"events": " "},
	"apiextensions.k8s.io/v1": {"customresourcedefinitions": "crd,crds api-extensions", "customresourcedefinitions/status": " "},
	"eventing.knative.dev/v1": {
		"brokers": " all,knative,eventing", "brokers/status": " ", "triggers": " all,knative,eventing", "triggers/status": " ",
	},
	"eventing.knative.dev/v1beta3": {"eventtypes": " all,knative,eventing", "eventtypes/status": " "},
	"eventing.knative.dev/v1beta2": {"eventtypes": " all,knative,eventing", "eventtypes/status": " "},
	"messaging.knative.dev/v1": {
		"channels": "ch all,knative,messaging", "channels/status": " ",
		"inmemorychannels": "imc all,knative,messaging", "inmemorychannels/status": " ",
		"subscriptions": "sub all,knative,messaging", "subscriptions/status": " ",
	},
	"sources.knative.dev/v1":                {"pingsources": " all,knative,sources", "pingsources/status": " "},
	"sources.knative.dev/v1beta2":           {"pingsources": " all,knative,sources", "pingsources/status": " "},
	"sources.eventing.knative.dev/v1alpha1": {"cronjobsources": " all,knative,sources", "cronjobsources/status": " "},
}

// TestDiscovery: both forms, the aggregated one that kubectl asks for and the
// plain one of other clients, list what is served.
func TestDiscovery(t *testing.T) {
	s := start(t, options(t))
	for _, legacy := range []bool{false, true} {
		c, err := discovery.NewDiscoveryClientForConfig(s.config)
		if err != nil {
			t.Fatal(err)
		}
		c.UseLegacyDiscovery = legacy
		_, lists, err := c.ServerGroupsAndResources()
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]map[string]string{}
		for _, l := range lists {
			got[l.GroupVersion] = map[string]string{}
			for _, r := range l.APIResources {
				got[l.GroupVersion][r.Name] = strings.Join(r.ShortNames, ",") + " " + strings.Join(r.Categories, ",")
				verbs := []string{"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"}
				switch {
				case strings.HasSuffix(r.Name, "/status"), strings.HasSuffix(r.Name, "/finalize"):
					verbs = []string{"get", "patch", "update"}
				case strings.HasSuffix(r.Name, "/token"), strings.HasSuffix(r.Name, "reviews"):
					verbs = []string{"create"}
				}
				for _, verb := range verbs {
					if !slices.Contains(r.Verbs, verb) {
						t.Errorf("legacy=%v: %s %s has no verb %s", legacy, l.GroupVersion, r.Name, verb)
					}
				}
			}
		}
		for gv, resources := range served {
			for name, want := range resources {
				if have, ok := got[gv][name]; !ok || have != want {
					t.Errorf("legacy=%v: %s %s: %q, %v; want %q", legacy, gv, name, have, ok, want)
				}
			}
			if len(got[gv]) != len(resources) {
				t.Errorf("legacy=%v: %s has %v", legacy, gv, got[gv])
			}
		}
		if len(got) != len(served) {
			t.Errorf("legacy=%v: %d group versions are served, want %d", legacy, len(got), len(served))
		}
	}
}

// definition is what the tests read of an OpenAPI definition.
type definition struct {
	Description string                `json:"description"`
	Properties  map[string]definition `json:"properties"`
	Items       *definition           `json:"items"`
	AllOf       []definition          `json:"allOf"`
	Kinds       []struct {
		Group, Version, Kind string
	} `json:"x-kubernetes-group-version-kind"`
}

// TestOpenAPI: both documents describe each kind and its fields.
func TestOpenAPI(t *testing.T) {
	s := start(t, options(t))
	get := func(path string, into any) {
		t.Helper()
		raw, err := s.client().Discovery().RESTClient().Get().AbsPath(path).SetHeader("Accept", "application/json").DoRaw(t.Context())
		if err == nil {
			err = json.Unmarshal(raw, into)
		}
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
	}
	kinds := map[string][]string{
		"/api/v1":                        {"Namespace", "Secret", "ConfigMap", "ServiceAccount", "Service", "Node", "Event"},
		"/apis/coordination.k8s.io/v1":   {"Lease"},
		"/apis/events.k8s.io/v1":         {"Event"},
		"/apis/eventing.knative.dev/v1":  {"Broker", "Trigger"},
		"/apis/messaging.knative.dev/v1": {"Channel", "InMemoryChannel", "Subscription"},
		"/apis/apiextensions.k8s.io/v1":  {"CustomResourceDefinition"},

		"/apis/sources.knative.dev/v1":                {"PingSource"},
		"/apis/sources.knative.dev/v1beta2":           {"PingSource"},
		"/apis/sources.eventing.knative.dev/v1alpha1": {"CronJobSource"},
	}
	find := func(what string, all map[string]definition, path, kind string) {
		t.Helper()
		group, version, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(path, "/apis/"), "/api/"), "/")
		if version == "" {
			group, version = "", group
		}
		for _, d := range all {
			for _, k := range d.Kinds {
				if k.Kind != kind || k.Group != group || k.Version != version {
					continue
				}
				if d.Description == "" {
					t.Errorf("%s: %s %s has no description", what, path, kind)
				}
				if strings.Contains(path, "knative") {
					described(t, what+": "+kind, d)
				}
				return
			}
		}
		t.Errorf("%s has no %s of %s", what, kind, path)
	}
	// The documents are made in the background, soon after the start.
	eventually(t, "OpenAPI v2 describes all kinds", func() bool {
		var v2 struct{ Definitions map[string]definition }
		get("/openapi/v2", &v2)
		for name := range v2.Definitions {
			if strings.HasSuffix(name, ".Subscription") {
				return true
			}
		}
		return false
	})
	var v2 struct{ Definitions map[string]definition }
	get("/openapi/v2", &v2)
	for path, names := range kinds {
		var v3 struct {
			Components struct{ Schemas map[string]definition }
		}
		get("/openapi/v3"+path, &v3)
		for _, kind := range names {
			find("v2", v2.Definitions, path, kind)
			find("v3", v3.Components.Schemas, path, kind)
		}
	}
}

// described looks for fields without a description, below spec and status.
func described(t *testing.T, path string, s definition) {
	for _, part := range []string{"spec", "status"} {
		eachField(path+"."+part, s.Properties[part], func(path string, s definition) {
			if s.Description == "" && !strings.HasSuffix(path, "[]") {
				t.Errorf("%s has no description", path)
			}
		})
	}
}

func eachField(path string, s definition, f func(string, definition)) {
	f(path, s)
	for name, p := range s.Properties {
		eachField(path+"."+name, p, f)
	}
	if s.Items != nil {
		eachField(path+"[]", *s.Items, f)
	}
}

// TestTables: what "kubectl get" and "kubectl get -o wide" show of each kind.
func TestTables(t *testing.T) {
	s := start(t, options(t))
	for _, m := range []string{
		"{apiVersion: eventing.knative.dev/v1, kind: Broker, metadata: {name: b}}", triggerManifest,
		"{apiVersion: messaging.knative.dev/v1, kind: Channel, metadata: {name: c}}", "{apiVersion: messaging.knative.dev/v1, kind: InMemoryChannel, metadata: {name: i}}",
		"{apiVersion: messaging.knative.dev/v1, kind: Subscription, metadata: {name: s}, spec: {channel: {apiVersion: messaging.knative.dev/v1, kind: Channel, name: c}, subscriber: {uri: 'http://x'}}}",
		"{apiVersion: sources.knative.dev/v1, kind: PingSource, metadata: {name: p}, spec: {sink: {uri: 'http://x'}}}",
		"{apiVersion: sources.eventing.knative.dev/v1alpha1, kind: CronJobSource, metadata: {name: p}, spec: {schedule: '@daily', sink: {apiVersion: v1, kind: Service, name: svc}}}",
		"{apiVersion: v1, kind: Secret, metadata: {name: s}, stringData: {a: b}}", "{apiVersion: v1, kind: ConfigMap, metadata: {name: c}, data: {a: b}, binaryData: {b: YQ==}}",
		"{apiVersion: v1, kind: ServiceAccount, metadata: {name: sa}}", "{apiVersion: v1, kind: Service, metadata: {name: svc}, spec: {ports: [{name: a, port: 80}, {name: b, port: 443, protocol: UDP}], selector: {a: b}}}",
		"{apiVersion: v1, kind: Service, metadata: {name: ext}, spec: {type: ExternalName, externalName: x.example}}",
		"{apiVersion: coordination.k8s.io/v1, kind: Lease, metadata: {name: l}, spec: {holderIdentity: me}}",
		"{apiVersion: v1, kind: Event, metadata: {name: e}, involvedObject: {kind: Trigger, name: t1, namespace: default}, reason: R, message: M, type: Normal, source: {component: us}, count: 2}",
	} {
		u := object(t, m)
		gv := strings.Split("/"+u.GetAPIVersion(), "/")
		plural := strings.ToLower(u.GetKind()) + "s"
		if _, err := s.resource(gv[len(gv)-2], gv[len(gv)-1], plural).Create(t.Context(), u, metav1.CreateOptions{}); err != nil {
			t.Fatalf("%s: %v", m, err)
		}
	}
	const ns = "/namespaces/default/"
	for path, want := range map[string]string{
		"/apis/eventing.knative.dev/v1" + ns + "brokers":                      "Name|URL|Age|Ready|Reason\nb|<nil>|AGE|<nil>|<nil>",
		"/apis/eventing.knative.dev/v1" + ns + "triggers":                     "Name|Broker|Subscriber_URI|Age|Ready|Reason\nt1|default|<nil>|AGE|<nil>|<nil>",
		"/apis/messaging.knative.dev/v1" + ns + "channels":                    "Name|URL|Age|Ready|Reason\nc|<nil>|AGE|<nil>|<nil>",
		"/apis/messaging.knative.dev/v1" + ns + "inmemorychannels":            "Name|URL|Age|Ready|Reason\ni|<nil>|AGE|<nil>|<nil>",
		"/apis/messaging.knative.dev/v1" + ns + "subscriptions":               "Name|Age|Ready|Reason\ns|AGE|<nil>|<nil>",
		"/apis/sources.knative.dev/v1" + ns + "pingsources":                   "Name|Sink|Schedule|Age|Ready|Reason\np|<nil>|* * * * *|AGE|<nil>|<nil>",
		"/apis/sources.knative.dev/v1beta2" + ns + "pingsources":              "Name|Sink|Schedule|Age|Ready|Reason\np|<nil>|* * * * *|AGE|<nil>|<nil>",
		"/apis/sources.eventing.knative.dev/v1alpha1" + ns + "cronjobsources": "Name|Sink|Schedule|Age|Ready|Reason\np|<nil>|@daily|AGE|<nil>|<nil>",
		"/api/v1" + ns + "secrets":                                            "Name|Type|Data|Age\ns|Opaque|1|AGE",
		"/api/v1" + ns + "configmaps":                                         "Name|Data|Age\nc|2|AGE",
		"/api/v1" + ns + "serviceaccounts":                                    "Name|Secrets|Age\ndefault|0|AGE\nsa|0|AGE",
		"/api/v1" + ns + "services":                                           "Name|Type|Cluster-IP|External-IP|Port(s)|Age|(Selector)\next|ExternalName|<none>|x.example|<none>|AGE|<none>\nsvc|ClusterIP|<none>|<none>|80/TCP,443/UDP|AGE|a=b",
		"/apis/coordination.k8s.io/v1" + ns + "leases":                        "Name|Holder|Age\nl|me|AGE",
		"/api/v1" + ns + "events":                                             "Last Seen|Type|Reason|Object|(Subobject)|(Source)|Message|(First Seen)|(Count)|(Name)\n<unknown>|Normal|R|trigger/t1||us|M|<unknown>|2|e",
		"/apis/events.k8s.io/v1" + ns + "events":                              "Last Seen|Type|Reason|Object|(Subobject)|(Source)|Message|(First Seen)|(Count)|(Name)\n<unknown>|Normal|R|trigger/t1||us|M|<unknown>|2|e",
		"/api/v1/namespaces/default":                                          "Name|Status|Age\ndefault|Active|AGE",
		"/api/v1/nodes/n1":                                                    "Name|Status|Roles|Age|Version|(Internal-IP)|(External-IP)|(OS-Image)|(Kernel-Version)|(Container-Runtime)\nn1|Ready|member|AGE|0.1.0|<none>|<none>|*|*|<unknown>",
	} {
		var table metav1.Table
		raw, err := s.client().Discovery().RESTClient().Get().AbsPath(path).SetHeader("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io").DoRaw(t.Context())
		if err == nil {
			err = json.Unmarshal(raw, &table)
		}
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		if got := drawn(&table); got != want {
			t.Errorf("%s:\n%s\nwant\n%s", path, got, want)
		}
	}
	// A client may leave out the objects.
	var table metav1.Table
	raw, err := s.client().Discovery().RESTClient().Get().AbsPath("/api/v1/nodes").Param("includeObject", "None").
		SetHeader("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io").DoRaw(t.Context())
	if err != nil || json.Unmarshal(raw, &table) != nil || len(table.Rows) != 1 || len(table.Rows[0].Object.Raw) > 0 && string(table.Rows[0].Object.Raw) != "null" {
		t.Errorf("rows without objects: %s, %v", raw, err)
	}
}

// drawn is a table as lines; wide columns have brackets. Ages, and what the
// machine is, are left out.
func drawn(table *metav1.Table) string {
	var names []string
	for _, c := range table.ColumnDefinitions {
		if c.Priority > 0 {
			names = append(names, "("+c.Name+")")
		} else {
			names = append(names, c.Name)
		}
		if c.Description == "" {
			names = append(names, "without a description")
		}
	}
	lines := []string{strings.Join(names, "|")}
	for _, r := range table.Rows {
		var cells []string
		for i, c := range r.Cells {
			switch table.ColumnDefinitions[i].Name {
			case "Age":
				c = "AGE"
			case "OS-Image", "Kernel-Version":
				c = "*"
			}
			cells = append(cells, fmt.Sprint(c))
		}
		lines = append(lines, strings.Join(cells, "|"))
	}
	return strings.Join(lines, "\n")
}
