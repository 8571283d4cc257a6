package operations

import (
	"bytes"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// schemas are those of the document, by name.
type schemas map[string]*jsonschema.Schema

func compileSchemas(t *testing.T) schemas {
	t.Helper()
	const at = "leat:openapi.json"
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(OpenAPI()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource(at, doc); err != nil {
		t.Fatal(err)
	}
	all := schemas{}
	for name := range readDocument(t, OpenAPI()).Components.Schemas {
		if all[name], err = c.Compile(at + "#/components/schemas/" + name); err != nil {
			t.Fatalf("schema %s: %v", name, err)
		}
	}
	return all
}

// check holds an answer to its schema.
func (s schemas) check(t *testing.T, name string, body []byte) {
	t.Helper()
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err != nil {
		t.Fatalf("%v: %q", err, body)
	}
	if err := s[name].Validate(v); err != nil {
		t.Errorf("an answer is no %s: %v\n%s", name, err, body)
	}
}

// TestSchemasRefuse what the API does not answer with.
func TestSchemasRefuse(t *testing.T) {
	all := compileSchemas(t)
	for name, body := range map[string]string{
		"Problem": `{"field":"x"}`, "Line": `{"offset":"1"}`, "Version": `{"version":"1"}`,
		"Disk": `{"logBytes":1,"limitBytes":0,"freeBytes":1,"floorBytes":-1,"stalledSeconds":0}`,
	} {
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader([]byte(body)))
		if err != nil {
			t.Fatal(err)
		}
		if all[name].Validate(v) == nil {
			t.Errorf("%s passes for a %s", body, name)
		}
	}
}
