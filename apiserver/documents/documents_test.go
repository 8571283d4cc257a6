package documents

import (
	"encoding/json"
	"maps"
	"reflect"
	"regexp"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/controller/openapi/builder"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/kube-openapi/pkg/cached"
	"k8s.io/kube-openapi/pkg/spec3"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"github.com/leat-dev/leat/api"
)

// definitions are the server's own, as they are when it serves them.
func definitions(t testing.TB) []*apiextensionsv1.CustomResourceDefinition {
	t.Helper()
	raw, err := api.CRDs()
	if err != nil {
		t.Fatal(err)
	}
	var all []*apiextensionsv1.CustomResourceDefinition
	for _, u := range raw {
		var crd apiextensionsv1.CustomResourceDefinition
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &crd); err != nil {
			t.Fatal(err)
		}
		crd.Generation = 1
		crd.Status.Conditions = []apiextensionsv1.CustomResourceDefinitionCondition{{Type: apiextensionsv1.Established, Status: apiextensionsv1.ConditionTrue}}
		all = append(all, &crd)
	}
	return all
}

// service holds what was published, and made, by path.
type service struct {
	docs    map[string]cached.Value[*spec3.OpenAPI]
	updates int
}

func (s *service) UpdateGroupVersionLazy(group string, doc cached.Value[*spec3.OpenAPI]) {
	s.docs[group] = doc
	s.updates++
}
func (s *service) DeleteGroupVersion(group string) { delete(s.docs, group) }

type lister struct {
	all []*apiextensionsv1.CustomResourceDefinition
}

func (l *lister) List(labels.Selector) ([]*apiextensionsv1.CustomResourceDefinition, error) {
	return append([]*apiextensionsv1.CustomResourceDefinition{}, l.all...), nil
}

func published(t testing.TB) (*service, *lister, *Documents) {
	s, l := &service{docs: map[string]cached.Value[*spec3.OpenAPI]{}}, &lister{definitions(t)}
	d := New(l, s)
	if err := d.Sync(); err != nil {
		t.Fatal(err)
	}
	return s, l, d
}

const eventing = "apis/eventing.knative.dev/v1"

// full is the document as the extensions server would publish it.
func full(t testing.TB) *spec3.OpenAPI {
	t.Helper()
	var docs []*spec3.OpenAPI
	for _, crd := range definitions(t) {
		if kind := crd.Spec.Names.Kind; kind == "Broker" || kind == "Trigger" {
			doc, err := builder.BuildOpenAPIV3(crd, "v1", builder.Options{IncludeSelectableFields: true})
			if err != nil {
				t.Fatal(err)
			}
			docs = append(docs, doc)
		}
	}
	doc, err := builder.MergeSpecsV3(docs...)
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func encoded(t testing.TB, doc *spec3.OpenAPI) []byte {
	t.Helper()
	b, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestDocumentIsLean(t *testing.T) {
	s, _, _ := published(t)
	doc, _, err := s.docs[eventing].Get()
	if err != nil {
		t.Fatal(err)
	}
	was, is := encoded(t, full(t)), encoded(t, doc)
	t.Logf("%d bytes, of %d", len(is), len(was))
	if 5*len(is) > len(was) {
		t.Errorf("the document has %d bytes, of %d", len(is), len(was))
	}
	// Nothing refers to what was left out.
	for _, ref := range regexp.MustCompile(`"#/components/([a-zA-Z]+)/([^"]+)"`).FindAllSubmatch(is, -1) {
		kind, name := string(ref[1]), string(ref[2])
		c, ok := map[string]bool{
			"schemas": doc.Components.Schemas[name] != nil, "parameters": doc.Components.Parameters[name] != nil,
			"responses": doc.Components.Responses[name] != nil, "requestBodies": doc.Components.RequestBodies[name] != nil,
		}[kind]
		if !c || !ok {
			t.Errorf("%s is referred to and not there", ref[0])
		}
	}
}

// TestWhatKubectlReads: it looks for the parameters of PATCH in their place, by
// the kind of the operation, and explains a kind by the paths of its resource
// and its type.
func TestWhatKubectlReads(t *testing.T) {
	s, _, _ := published(t)
	doc, _, err := s.docs[eventing].Get()
	if err != nil {
		t.Fatal(err)
	}
	was := full(t)
	if len(doc.Paths.Paths) != len(was.Paths.Paths) {
		t.Errorf("%d paths, of %d", len(doc.Paths.Paths), len(was.Paths.Paths))
	}
	for path, p := range doc.Paths.Paths {
		before := was.Paths.Paths[path]
		for verb, ops := range map[string][2]*spec3.Operation{
			"get": {p.Get, before.Get}, "put": {p.Put, before.Put}, "post": {p.Post, before.Post}, "delete": {p.Delete, before.Delete}, "patch": {p.Patch, before.Patch},
		} {
			is, was := ops[0], ops[1]
			if (is == nil) != (was == nil) {
				t.Fatalf("%s %s: %v, was %v", verb, path, is, was)
			}
			if is == nil {
				continue
			}
			if is.OperationId != was.OperationId {
				t.Errorf("%s %s is called %s, was %s", verb, path, is.OperationId, was.OperationId)
			}
			if verb != "patch" && verb != "get" {
				continue
			}
			if !reflect.DeepEqual(is.Extensions[kindExtension], was.Extensions[kindExtension]) {
				t.Errorf("%s %s: %v, was %v", verb, path, is.Extensions, was.Extensions)
			}
			if verb != "patch" {
				continue
			}
			var names []string
			for _, p := range is.Parameters {
				if ref := p.Ref.String(); ref != "" {
					names = append(names, "&"+doc.Components.Parameters[strings.TrimPrefix(ref, "#/components/parameters/")].Name)
					continue
				}
				if p.In != "query" {
					t.Errorf("patch %s: %+v", path, p)
				}
				names = append(names, p.Name)
			}
			if got := strings.Join(names, " "); got != "dryRun &fieldManager fieldValidation &force" {
				t.Errorf("patch %s has the parameters %s", path, got)
			}
		}
	}
	for _, kind := range []string{"Broker", "Trigger"} {
		name := "dev.knative.eventing.v1." + kind
		if got, want := expanded(doc, *doc.Components.Schemas[name]), *was.Components.Schemas[name]; !reflect.DeepEqual(got, want) {
			t.Errorf("%s is described in another way: %+v\nwas %+v", name, got, want)
		}
	}
	for name, s := range doc.Components.Schemas {
		if strings.HasSuffix(name, ".Object") {
			continue
		}
		if s.Description == "" && was.Components.Schemas[name].Description != "" || len(s.Properties) != len(was.Components.Schemas[name].Properties) {
			t.Errorf("%s has lost its description, or fields", name)
		}
	}
}

// expanded is a type with what it shares with others in its place.
func expanded(doc *spec3.OpenAPI, s spec.Schema) spec.Schema {
	if name := referred(&s); strings.HasSuffix(name, ".Object") {
		whole := *doc.Components.Schemas[name]
		whole.Description = s.Description
		s = whole
	}
	s.Properties = maps.Clone(s.Properties)
	for name, p := range s.Properties {
		s.Properties[name] = expanded(doc, p)
	}
	if s.Items != nil {
		item := expanded(doc, *s.Items.Schema)
		s.Items = &spec.SchemaOrArray{Schema: &item}
	}
	return s
}

// TestSharing: what is alike stands once, whatever it is there for, nested or
// not; the types that were given are as they were.
func TestSharing(t *testing.T) {
	s, _, _ := published(t)
	doc, _, err := s.docs[eventing].Get()
	if err != nil {
		t.Fatal(err)
	}
	trigger := doc.Components.Schemas["dev.knative.eventing.v1.Trigger"]
	subscriber := trigger.Properties["spec"].Properties["subscriber"]
	if subscriber.Description != "Where the events are delivered to. Required." || len(subscriber.Properties) != 0 {
		t.Errorf("the subscriber is %+v", subscriber)
	}
	name := referred(&subscriber)
	delivery := trigger.Properties["spec"].Properties["delivery"]
	sink := doc.Components.Schemas[referred(&delivery)].Properties["deadLetterSink"]
	if got := referred(&sink); got != name || name == "" {
		t.Errorf("the subscriber is %q, a dead letter sink is %q", name, got)
	}
	once := regexp.MustCompile(`"Certificates \(PEM\) that are trusted for this destination\."`)
	if n := len(once.FindAll(encoded(t, doc), -1)); n != 1 {
		t.Errorf("a destination is described %d times", n)
	}
	if again, _, _ := published(t); again != nil {
		other, _, err := again.docs[eventing].Get()
		if err != nil || string(encoded(t, other)) != string(encoded(t, doc)) {
			t.Errorf("the document is another when it is made again: %v", err)
		}
	}
}

// TestDocumentsFollowDefinitions: what did not change is not made anew; what is
// not served any more is taken away.
func TestDocumentsFollowDefinitions(t *testing.T) {
	s, l, d := published(t)
	before := s.updates
	sync := func() {
		t.Helper()
		if err := d.Sync(); err != nil {
			t.Fatal(err)
		}
	}
	sync()
	if s.updates != before {
		t.Errorf("%d documents were published again", s.updates-before)
	}
	for i, crd := range l.all {
		if crd.Spec.Names.Kind == "Trigger" {
			changed := crd.DeepCopy()
			changed.Generation++
			l.all[i] = changed
		}
	}
	if sync(); s.updates != before+1 {
		t.Errorf("%d documents were published after one definition had changed", s.updates-before)
	}
	if l.all = nil; s.docs[eventing] == nil {
		t.Fatal("no document of " + eventing)
	}
	if sync(); len(s.docs) != 0 {
		t.Errorf("documents without definitions: %v", s.docs)
	}
}

// BenchmarkParse is what kubectl does for each object that it applies.
func BenchmarkParse(b *testing.B) {
	s, _, _ := published(b)
	doc, _, err := s.docs[eventing].Get()
	if err != nil {
		b.Fatal(err)
	}
	for name, text := range map[string][]byte{"full": encoded(b, full(b)), "lean": encoded(b, doc)} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				var doc spec3.OpenAPI
				if err := json.Unmarshal(text, &doc); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
