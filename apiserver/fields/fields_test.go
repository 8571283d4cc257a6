package fields

import (
	"encoding/json"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	jsonutil "k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/yaml"
)

const definition = `
type: object
properties:
  spec:
    type: object
    required: [name]
    properties:
      name: {type: string}
      count: {type: integer, format: int32}
      flag: {type: boolean}
      any: {type: object, x-kubernetes-preserve-unknown-fields: true, properties: {known: {type: string}}}
      texts: {type: object, additionalProperties: {type: string}}
      list: {type: array, items: {type: object, properties: {a: {type: string}}}}
      short: {type: string, maxLength: 3}
      keyed: {type: array, x-kubernetes-list-type: map, x-kubernetes-list-map-keys: [type], items: {type: object, properties: {type: {type: string}}}}
      defaulted: {type: object, properties: {a: {type: string, default: x}}}
`

func compile(t *testing.T) *Schema {
	t.Helper()
	var p apiextensionsv1.JSONSchemaProps
	if err := yaml.Unmarshal([]byte(definition), &p); err != nil {
		t.Fatal(err)
	}
	return Compile(&p).Property("spec")
}

// TestDoubt: what is in doubt is not allowed, nor kept.
func TestDoubt(t *testing.T) {
	spec := compile(t)
	for value, want := range map[string]struct{ allowed, kept bool }{
		`{"name":"a"}`: {true, true},
		`{"name":"a","count":1,"flag":true,"any":{"known":"b","c":[1,{"d":true}]},"texts":{"a":"b"},"list":[{"a":"b"},{}]}`: {true, true},
		`{"count":1}`:                         {false, true}, // it was valid when it was written
		`{"name":1}`:                          {false, true},
		`{"name":{"a":1}}`:                    {false, false},
		`{"name":null}`:                       {false, false},
		`{"name":"a","unknown":1}`:            {false, false},
		`{"name":"a","count":4294967296}`:     {false, true},
		`{"name":"a","count":1.5}`:            {false, false},
		`{"name":"a","any":{"known":null}}`:   {false, false},
		`{"name":"a","any":{"other":null}}`:   {false, false},
		`{"name":"a","texts":{"a":1}}`:        {false, true},
		`{"name":"a","list":[{"b":1}]}`:       {false, false},
		`{"name":"a","short":"long enough"}`:  {false, true},
		`{"name":"a","keyed":[{"type":"a"}]}`: {false, true}, // each once?
		`{"name":"a","defaulted":{}}`:         {false, false},
		`{"name":"a","defaulted":{"a":"b"}}`:  {false, false},
		`["a"]`:                               {false, false},
	} {
		var v any
		if err := jsonutil.Unmarshal([]byte(value), &v); err != nil {
			t.Fatal(err)
		}
		if allowed, kept := spec.Allows(v), spec.keeps(v); allowed != want.allowed || kept != want.kept {
			t.Errorf("%s: allowed %v, kept %v; want %v", value, allowed, kept, want)
		}
	}
}

func TestOwned(t *testing.T) {
	spec := compile(t)
	for value, want := range map[string]string{
		`{"name":"a","texts":{"b":"c"},"list":[{"a":"b"}],"any":{}}`: `{".":{},"f:any":{},"f:list":{},"f:name":{},"f:texts":{".":{},"f:b":{}}}`,
		`{"keyed":[{"type":"a<b"},{"type":"c"}]}`:                    `{".":{},"f:keyed":{".":{},"k:{\"type\":\"a\u003cb\"}":{".":{},"f:type":{}},"k:{\"type\":\"c\"}":{".":{},"f:type":{}}}}`,
		`{}`: `{}`,
	} {
		var v any
		if err := jsonutil.Unmarshal([]byte(value), &v); err != nil {
			t.Fatal(err)
		}
		owned, err := spec.Owned(v)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := json.Marshal(owned); err != nil || string(got) != want {
			t.Errorf("%s is owned as %s, want %s, %v", value, got, want, err)
		}
	}
	if _, err := spec.Owned(map[string]any{"keyed": []any{map[string]any{}}}); err == nil {
		t.Error("an item without its key is owned")
	}
}
