package apiserver

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/kube-openapi/pkg/spec3"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// describe adds the documents of what is served beside Kubernetes' own paths to
// the OpenAPI of the whole: in v3 each is a document of its own, in v2 its paths
// stand among the others. It must be called when
// the server was prepared, and before publishDocuments and before it runs.
func (s *Server) describe(gs *genericapiserver.GenericAPIServer) error {
	for prefix, document := range s.o.Documents {
		name := strings.Trim(prefix, "/")
		var v3 spec3.OpenAPI
		if err := json.Unmarshal(document, &v3); err != nil {
			return fmt.Errorf("the OpenAPI document of %s: %w", prefix, err)
		}
		gs.OpenAPIV3VersionedService.UpdateGroupVersion(name, &v3)
		v2, err := asV2(document, strings.ReplaceAll(name, "/", "."))
		if err != nil {
			return fmt.Errorf("the OpenAPI document of %s as v2: %w", prefix, err)
		}
		all := gs.StaticOpenAPISpec
		maps.Copy(all.Paths.Paths, v2.Paths.Paths)
		maps.Copy(all.Definitions, v2.Definitions)
	}
	return nil
}

// members are those of a JSON object.
type members = map[string]any

// asV2 makes a document of OpenAPI 3.0 one of 2.0; name begins the names of its
// definitions and operations. It knows the forms that such documents here have:
// parameters, bodies and answers in one form, and references to components.
func asV2(document []byte, name string) (*spec.Swagger, error) {
	text := strings.ReplaceAll(string(document), `"#/components/schemas/`, `"#/definitions/`+name+".")
	var in members
	if err := json.Unmarshal([]byte(text), &in); err != nil {
		return nil, err
	}
	c := converter{components: member(in, "components"), name: name}
	paths, definitions := members{}, members{}
	for path := range member(in, "paths") {
		item := members{}
		for key, part := range member(in, "paths", path) {
			if key == "parameters" {
				item[key] = c.parameters(part)
			} else if operation, ok := part.(members); ok {
				item[key] = c.operation(operation)
			}
		}
		paths[path] = item
	}
	for schema, body := range member(c.components, "schemas") {
		definitions[name+"."+schema] = body
	}
	b, err := json.Marshal(members{"swagger": "2.0", "info": in["info"], "paths": paths, "definitions": definitions})
	if err != nil {
		return nil, err
	}
	var out spec.Swagger
	return &out, json.Unmarshal(b, &out)
}

// member is a member, however deep; empty where there is none.
func member(in members, path ...string) members {
	for _, p := range path {
		in, _ = in[p].(members)
	}
	return in
}

type converter struct {
	components members
	name       string
}

// resolve is what a reference to a component names, or the thing itself.
func (c converter) resolve(v any) members {
	m, _ := v.(members)
	if ref, ok := m["$ref"].(string); ok {
		return member(c.components, strings.Split(strings.TrimPrefix(ref, "#/components/"), "/")...)
	}
	return m
}

func (c converter) parameters(v any) []any {
	all, _ := v.([]any)
	out := []any{}
	for _, p := range all {
		was := c.resolve(p)
		is := maps.Clone(member(was, "schema")) // a simple type stands in the parameter itself
		if is == nil {
			is = members{}
		}
		for _, key := range []string{"name", "in", "required", "description"} {
			if v, ok := was[key]; ok {
				is[key] = v
			}
		}
		out = append(out, is)
	}
	return out
}

func (c converter) operation(was members) members {
	is := members{"operationId": c.name + "." + fmt.Sprint(was["operationId"]), "summary": was["summary"]}
	parameters := c.parameters(was["parameters"])
	if body := member(was, "requestBody"); body != nil {
		kinds, schema := contents(body)
		is["consumes"] = kinds
		parameters = append(parameters, members{"name": "body", "in": "body", "required": body["required"], "schema": schema})
	}
	if len(parameters) > 0 {
		is["parameters"] = parameters
	}
	responses, produces := members{}, map[string]bool{}
	for status, r := range member(was, "responses") {
		answer := c.resolve(r)
		kinds, schema := contents(answer)
		for _, kind := range kinds {
			produces[kind] = true
		}
		responses[status] = members{"description": answer["description"]}
		if schema != nil {
			responses[status] = members{"description": answer["description"], "schema": schema}
		}
	}
	is["responses"], is["produces"] = responses, slices.Sorted(maps.Keys(produces))
	return is
}

// contents are the media types of a body, and the schema that they share.
func contents(body members) (kinds []string, schema any) {
	content := member(body, "content")
	for _, kind := range slices.Sorted(maps.Keys(content)) {
		kinds = append(kinds, kind)
		if s := member(content, kind, "schema"); s != nil {
			schema = s
		}
	}
	return kinds, schema
}
