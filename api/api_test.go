package api

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	eventingv1 "github.com/leat-dev/leat/api/eventing/v1"
	"github.com/leat-dev/leat/api/eventing/v1beta2"
	"github.com/leat-dev/leat/api/eventing/v1beta3"
	messagingv1 "github.com/leat-dev/leat/api/messaging/v1"
	sourcesv1 "github.com/leat-dev/leat/api/sources/v1"
	sourcesv1alpha1 "github.com/leat-dev/leat/api/sources/v1alpha1"
)

func definitions(t *testing.T) map[string]*apiextensionsv1.CustomResourceDefinition {
	t.Helper()
	crds, err := CRDs()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]*apiextensionsv1.CustomResourceDefinition{}
	for _, u := range crds {
		var crd apiextensionsv1.CustomResourceDefinition
		if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(u.Object, &crd, true); err != nil {
			t.Fatalf("%s: %v", u.GetName(), err)
		}
		all[crd.Spec.Names.Kind] = &crd
	}
	return all
}

func TestDefinitionsAreValid(t *testing.T) {
	for kind, crd := range definitions(t) {
		apiextensionsv1.SetDefaults_CustomResourceDefinition(crd)
		apiextensionsv1.SetDefaults_CustomResourceDefinitionSpec(&crd.Spec)
		var internal apiextensions.CustomResourceDefinition
		if err := apiextensionsv1.Convert_v1_CustomResourceDefinition_To_apiextensions_CustomResourceDefinition(crd, &internal, nil); err != nil {
			t.Fatal(err)
		}
		for _, e := range validation.ValidateCustomResourceDefinition(t.Context(), &internal) {
			t.Errorf("%s: %v", kind, e)
		}
	}
}

func TestColumnsAreThoseOfKnative(t *testing.T) {
	want := map[string]string{
		"Broker":          "URL Age Ready Reason",
		"Trigger":         "Broker Subscriber_URI Age Ready Reason",
		"Channel":         "URL Age Ready Reason",
		"InMemoryChannel": "URL Age Ready Reason",
		"Subscription":    "Age Ready Reason",
		"EventType":       "Type Source Reference Name Reference Kind Description Age Ready Reason",
		"PingSource":      "Sink Schedule Age Ready Reason",
		"CronJobSource":   "Sink Schedule Age Ready Reason",
	}
	got := map[string]string{}
	for kind, crd := range definitions(t) {
		var names []string
		for _, c := range crd.Spec.Versions[0].AdditionalPrinterColumns {
			names = append(names, c.Name)
		}
		got[kind] = strings.Join(names, " ")
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("columns are %v", got)
	}
}

// TestSourcesAreFound: kn finds the kinds of sources, and what they send, by
// their labels and annotations; and asks for PingSources as v1beta2.
func TestSourcesAreFound(t *testing.T) {
	all := definitions(t)
	for kind, event := range map[string]string{"PingSource": sourcesv1.PingSourceType, "CronJobSource": sourcesv1alpha1.CronJobSourceType} {
		crd := all[kind]
		if crd.Labels["duck.knative.dev/source"] != "true" || !slices.Contains(crd.Spec.Names.Categories, "sources") {
			t.Errorf("%s is no source by its labels and categories", kind)
		}
		if types := crd.Annotations["registry.knative.dev/eventTypes"]; !strings.Contains(types, `"`+event+`"`) {
			t.Errorf("%s: event types are %s", kind, types)
		}
	}
	versions := all["PingSource"].Spec.Versions
	if len(versions) != 2 || versions[1].Name != "v1beta2" || !versions[1].Served || !reflect.DeepEqual(versions[0].Schema, versions[1].Schema) {
		t.Errorf("PingSource has not the versions v1 and v1beta2 with one schema")
	}
}

// TestTypesAgreeWithTheirDefinitions: each field of a Go type is in the schema
// with the same type, and the other way round.
func TestTypesAgreeWithTheirDefinitions(t *testing.T) {
	older := definitions(t)["EventType"].Spec.Versions[1].Schema.OpenAPIV3Schema
	for _, part := range []struct {
		name string
		typ  reflect.Type
	}{{"spec", reflect.TypeFor[v1beta2.EventTypeSpec]()}, {"status", reflect.TypeFor[v1beta2.EventTypeStatus]()}} {
		agree(t, "EventType of v1beta2."+part.name, part.typ, older.Properties[part.name])
	}
	types := map[string]reflect.Type{
		"EventType":       reflect.TypeFor[v1beta3.EventType](),
		"Broker":          reflect.TypeFor[eventingv1.Broker](),
		"Trigger":         reflect.TypeFor[eventingv1.Trigger](),
		"Channel":         reflect.TypeFor[messagingv1.Channel](),
		"InMemoryChannel": reflect.TypeFor[messagingv1.InMemoryChannel](),
		"Subscription":    reflect.TypeFor[messagingv1.Subscription](),
		"PingSource":      reflect.TypeFor[sourcesv1.PingSource](),
		"CronJobSource":   reflect.TypeFor[sourcesv1alpha1.CronJobSource](),
	}
	all := definitions(t)
	if len(all) != len(types) {
		t.Errorf("%d definitions, %d types", len(all), len(types))
	}
	for kind, typ := range types {
		schema := all[kind].Spec.Versions[0].Schema.OpenAPIV3Schema
		for _, part := range []struct{ goName, name string }{{"Spec", "spec"}, {"Status", "status"}} {
			f, _ := typ.FieldByName(part.goName)
			agree(t, kind+"."+part.name, f.Type, schema.Properties[part.name])
		}
	}
}

func agree(t *testing.T, path string, typ reflect.Type, s apiextensionsv1.JSONSchemaProps) {
	t.Helper()
	if typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	if want := schemaType(typ); s.Type != want {
		t.Errorf("%s: the schema says %q, the Go type is %s", path, s.Type, typ)
		return
	}
	if s.Description == "" && !strings.HasSuffix(path, "]") {
		t.Errorf("%s has no description", path)
	}
	switch {
	case typ == reflect.TypeFor[metav1.Time]():
	case typ.Kind() == reflect.Slice:
		agree(t, path+"[]", typ.Elem(), *s.Items.Schema)
	case typ.Kind() == reflect.Map:
		if s.AdditionalProperties == nil || s.AdditionalProperties.Schema.Type != schemaType(typ.Elem()) {
			t.Errorf("%s: the values are not those of %s", path, typ)
		}
	case typ == reflect.TypeFor[eventingv1.SubscriptionsAPIFilter]() && len(s.Properties) == 0:
		if s.XPreserveUnknownFields == nil || !*s.XPreserveUnknownFields {
			t.Errorf("%s: nested filters would be pruned", path)
		}
	case typ.Kind() == reflect.Struct:
		fields := jsonFields(typ)
		for name, f := range fields {
			p, ok := s.Properties[name]
			if !ok {
				t.Errorf("%s.%s is not in the schema", path, name)
				continue
			}
			agree(t, path+"."+name, f, p)
		}
		for name := range s.Properties {
			if _, ok := fields[name]; !ok {
				t.Errorf("%s.%s is not in the Go type", path, name)
			}
		}
	}
}

func jsonFields(typ reflect.Type) map[string]reflect.Type {
	all := map[string]reflect.Type{}
	for f := range typ.Fields() {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if slices.Contains(strings.Split(options, ","), "inline") {
			for n, inner := range jsonFields(f.Type) {
				all[n] = inner
			}
			continue
		}
		all[name] = f.Type
	}
	return all
}

func schemaType(typ reflect.Type) string {
	if typ == reflect.TypeFor[metav1.Time]() {
		return "string"
	}
	switch typ.Kind() {
	case reflect.String:
		return "string"
	case reflect.Bool:
		return "boolean"
	case reflect.Int32, reflect.Int64:
		return "integer"
	case reflect.Slice:
		return "array"
	case reflect.Map, reflect.Struct:
		return "object"
	case reflect.Pointer:
		return schemaType(typ.Elem())
	}
	return typ.String()
}
