package apiserver

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
)

const beside = `{
  "openapi": "3.0.3", "info": {"title": "t", "version": "v1"},
  "paths": {"/beside/v1/{name}/do": {
    "parameters": [{"$ref": "#/components/parameters/name"}],
    "post": {
      "operationId": "do", "summary": "Do it",
      "parameters": [{"name": "limit", "in": "query", "description": "so many", "schema": {"type": "integer", "minimum": 1}}],
      "requestBody": {"required": true, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Thing"}}}},
      "responses": {"200": {"description": "Done", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Thing"}}}}, "404": {"$ref": "#/components/responses/gone"}}
    }
  }},
  "components": {
    "parameters": {"name": {"name": "name", "in": "path", "required": true, "schema": {"type": "string"}}},
    "responses": {"gone": {"description": "Not there"}},
    "schemas": {"Thing": {"type": "object", "additionalProperties": false, "required": ["n"], "properties": {"n": {"type": "integer"}, "more": {"$ref": "#/components/schemas/Thing"}}}}
  }
}`

// TestDocumentsBesideKubernetes: what is served beside Kubernetes' own paths is
// in both OpenAPI documents; in v3 it has one of its own, and the others stay
// as they are.
func TestDocumentsBesideKubernetes(t *testing.T) {
	o := options(t)
	o.Handlers = map[string]http.Handler{"/beside/v1/": http.NotFoundHandler()}
	o.Documents = map[string][]byte{"/beside/v1/": []byte(beside)}
	s := start(t, o)
	get := func(path string) string {
		t.Helper()
		raw, err := s.client().Discovery().RESTClient().Get().AbsPath(path).SetHeader("Accept", "application/json").DoRaw(t.Context())
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		return string(raw)
	}
	if index := get("/openapi/v3"); !strings.Contains(index, `"beside/v1"`) {
		t.Errorf("the index of v3: %s", index)
	}
	v3 := get("/openapi/v3/beside/v1")
	for _, want := range []string{`"/beside/v1/{name}/do"`, `"#/components/schemas/Thing"`, `"#/components/parameters/name"`, `"additionalProperties":false`} {
		if !strings.Contains(v3, want) {
			t.Errorf("%s is not in %s", want, v3)
		}
	}
	if group := get("/openapi/v3/apis/eventing.knative.dev/v1"); strings.Contains(group, "beside") {
		t.Error("it is in the document of another group, too")
	}

	type parameter struct {
		Name, In, Type string
		Required       bool
	}
	var v2 struct {
		Paths map[string]struct {
			Parameters []parameter
			Post       struct {
				OperationID        string
				Consumes, Produces []string
				Parameters         []parameter
				Responses          map[string]struct{ Description string }
			}
		}
		Definitions map[string]json.RawMessage
	}
	settles(t, func() string { // it is put together when the definitions are known
		if err := json.Unmarshal([]byte(get("/openapi/v2")), &v2); err != nil {
			t.Fatal(err)
		}
		if v2.Definitions["dev.knative.eventing.v1.Broker"] == nil {
			return "the definitions are not in it yet"
		}
		return ""
	})
	item := v2.Paths["/beside/v1/{name}/do"]
	if want := []parameter{{"name", "path", "string", true}}; !slices.Equal(item.Parameters, want) {
		t.Errorf("%+v", item.Parameters)
	}
	post := item.Post
	if want := []parameter{{"limit", "query", "integer", false}, {"body", "body", "", true}}; !slices.Equal(post.Parameters, want) || post.OperationID != "beside.v1.do" {
		t.Errorf("%+v", post)
	}
	if len(post.Responses) != 2 || post.Responses["404"].Description != "Not there" || !slices.Equal(post.Consumes, []string{"application/json"}) || !slices.Equal(post.Produces, []string{"application/json"}) {
		t.Errorf("%+v", post)
	}
	if got := string(v2.Definitions["beside.v1.Thing"]); !strings.Contains(got, "#/definitions/beside.v1.Thing") {
		t.Errorf("definition: %s", got)
	}
	// kubectl asks for it so.
	if raw, err := s.client().Discovery().RESTClient().Get().AbsPath("/openapi/v2").SetHeader("Accept", "application/com.github.proto-openapi.spec.v2@v1.0+protobuf").DoRaw(t.Context()); err != nil || len(raw) == 0 {
		t.Errorf("as protobuf: %d bytes, %v", len(raw), err)
	}
}
