package documents

import (
	"maps"
	"slices"
	"strings"

	"k8s.io/kube-openapi/pkg/spec3"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// lean makes a document small: kubectl parses the whole of it again for every
// object that it applies. The kinds stay as they are described; of the
// operations stays what is said of no other kind:
//
//   - parameters are told for PATCH only, where kubectl looks for those that the
//     server knows; these stand in their place, as it follows no reference;
//   - answers are told for success only, once for all operations that give them;
//     those with lists are not described;
//   - what all kinds share is described in one sentence;
//   - what is alike in several places stands once.
//
// The document in the form of OpenAPI v2 stays complete. Doc is changed, but
// not what it shares with others.
func lean(doc *spec3.OpenAPI) {
	if doc.Paths == nil {
		return
	}
	c := &spec3.Components{Responses: map[string]*spec3.Response{}, RequestBodies: map[string]*spec3.RequestBody{}, Parameters: map[string]*spec3.Parameter{}}
	for _, path := range doc.Paths.Paths {
		if path != nil {
			leanPath(c, path)
		}
	}
	if doc.Components != nil {
		c.Schemas = needed(doc.Components.Schemas, c)
		share(c.Schemas)
	}
	doc.Components = c
}

func leanPath(c *spec3.Components, p *spec3.Path) {
	var own []*spec3.Parameter
	for _, param := range p.Parameters {
		if param.In != "path" {
			continue
		}
		name := param.Name
		if kind, ok := strings.CutPrefix(param.Description, "name of the "); ok {
			name += "Of" + kind
		}
		c.Parameters[name] = param
		own = append(own, &spec3.Parameter{Refable: reference("parameters", name)})
	}
	p.Parameters = own
	for _, op := range []*spec3.Operation{p.Get, p.Put, p.Post, p.Delete, p.Patch} {
		if op == nil {
			continue
		}
		op.Tags, op.Description = nil, "" // the name of the operation says as much
		if op == p.Patch {
			op.Parameters = shortened(c, op.Parameters)
		} else {
			op.Parameters = nil
		}
		if op == p.Patch || op == p.Get {
			op.Extensions = spec.Extensions{kindExtension: op.Extensions[kindExtension]}
		} else {
			op.Extensions = nil
		}
		leanBody(c, op, op == p.Delete)
		leanAnswer(c, op)
	}
}

// leanBody refers to the one description of an object that is sent.
func leanBody(c *spec3.Components, op *spec3.Operation, optional bool) {
	name := content(op.RequestBody)
	switch {
	case op.RequestBody == nil || name == "":
	case optional:
		op.RequestBody = nil
	default:
		c.RequestBodies[name] = op.RequestBody
		op.RequestBody = &spec3.RequestBody{Refable: reference("requestBodies", name)}
	}
}

// leanAnswer keeps what success is answered with.
func leanAnswer(c *spec3.Components, op *spec3.Operation) {
	if op.Responses == nil {
		return
	}
	ok := op.Responses.StatusCodeResponses[200]
	if ok == nil {
		return
	}
	name := "OK"
	if body := ok.Content["application/json"]; body != nil && body.Schema != nil {
		if kind := referred(body.Schema); kind != "" && !strings.HasPrefix(kind, meta) && !strings.HasSuffix(kind, "List") {
			name = kind
		} else {
			ok = &spec3.Response{ResponseProps: spec3.ResponseProps{Description: ok.Description}}
		}
	}
	c.Responses[name] = ok
	op.Responses = &spec3.Responses{ResponsesProps: spec3.ResponsesProps{
		StatusCodeResponses: map[int]*spec3.Response{200: {Refable: reference("responses", name)}},
	}}
}

// content is the name of the type of a body.
func content(body *spec3.RequestBody) string {
	if body == nil {
		return ""
	}
	for _, kind := range slices.Sorted(maps.Keys(body.Content)) {
		if m := body.Content[kind]; m != nil && m.Schema != nil {
			return referred(m.Schema)
		}
	}
	return ""
}

const schemas = "#/components/schemas/"

// referred is the name of the type that a schema refers to, or is made of.
func referred(s *spec.Schema) string {
	if name, ok := strings.CutPrefix(s.Ref.String(), schemas); ok {
		return name
	}
	if len(s.AllOf) == 1 {
		return referred(&s.AllOf[0])
	}
	return ""
}

func reference(kind, name string) spec.Refable {
	return spec.Refable{Ref: spec.MustCreateRef("#/components/" + kind + "/" + name)}
}

// needed are the types that operations still refer to, and what those are made
// of.
func needed(all map[string]*spec.Schema, c *spec3.Components) map[string]*spec.Schema {
	out := map[string]*spec.Schema{}
	var take func(s *spec.Schema)
	take = func(s *spec.Schema) {
		if name := strings.TrimPrefix(s.Ref.String(), schemas); name != "" && out[name] == nil && all[name] != nil {
			made := all[name]
			if strings.HasPrefix(name, meta) {
				made = shortSchema(made)
			}
			out[name] = made
			take(made)
		}
		for _, p := range s.Properties {
			take(&p)
		}
		for i := range s.AllOf {
			take(&s.AllOf[i])
		}
		if s.Items != nil && s.Items.Schema != nil {
			take(s.Items.Schema)
		}
		if s.AdditionalProperties != nil && s.AdditionalProperties.Schema != nil {
			take(s.AdditionalProperties.Schema)
		}
	}
	takeAll := func(content map[string]*spec3.MediaType) {
		for _, m := range content {
			if m.Schema != nil {
				take(m.Schema)
			}
		}
	}
	for _, r := range c.Responses {
		takeAll(r.Content)
	}
	for _, b := range c.RequestBodies {
		takeAll(b.Content)
	}
	return out
}

// kindExtension tells whose operation it is: kubectl looks for it where a
// resource is read and where it is patched.
const kindExtension = "x-kubernetes-group-version-kind"

// shortened are copies with short descriptions: other documents have the same.
// Those that kubectl does not look for are referred to.
func shortened(c *spec3.Components, all []*spec3.Parameter) []*spec3.Parameter {
	out := make([]*spec3.Parameter, len(all))
	for i, p := range all {
		short := *p
		short.Description = sentence(p.Description)
		switch p.Name {
		case "dryRun", "fieldValidation":
			short.Description = ""
			short.Schema = &spec.Schema{SchemaProps: spec.SchemaProps{Type: p.Schema.Type}}
			out[i] = &short
		default:
			c.Parameters[p.Name] = &short
			out[i] = &spec3.Parameter{Refable: reference("parameters", p.Name)}
		}
	}
	return out
}

// meta is how the names of the types begin that all kinds share.
const meta = "io.k8s.apimachinery.pkg.apis.meta.v1."

// shortSchema is a copy: the types are shared by all documents.
func shortSchema(s *spec.Schema) *spec.Schema {
	short := *s
	short.Description = sentence(s.Description)
	short.Properties = maps.Clone(s.Properties)
	for name, p := range short.Properties {
		if referred(&p) == meta+"Time" { // which is a string, whatever it is called
			p.AllOf, p.Type, p.Format = nil, spec.StringOrArray{"string"}, "date-time"
		}
		p.Description = sentence(p.Description)
		short.Properties[name] = p
	}
	return &short
}

// sentence is the first one of a text.
func sentence(text string) string {
	first, _, _ := strings.Cut(text, "\n")
	if before, _, more := strings.Cut(first, ". "); more {
		first = before + "."
	}
	return strings.TrimSpace(first)
}
