package direct

import (
	"encoding/json"
	"fmt"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
)

// owned are the fields of a value, in the form of managedFields, for somebody
// who has made all of it: as server-side apply sees them by the schema.
func owned(value any, s *apiextensionsv1.JSONSchemaProps) (map[string]any, error) {
	leaf := map[string]any{}
	switch v := value.(type) {
	case map[string]any:
		if len(v) == 0 || s == nil || s.XMapType != nil && *s.XMapType == "atomic" {
			return leaf, nil
		}
		fields := map[string]any{".": leaf}
		for name, child := range v {
			var of *apiextensionsv1.JSONSchemaProps
			if p, ok := s.Properties[name]; ok {
				of = &p
			} else if s.AdditionalProperties != nil {
				of = s.AdditionalProperties.Schema
			}
			below, err := owned(child, of)
			if err != nil {
				return nil, err
			}
			fields["f:"+name] = below
		}
		return fields, nil
	case []any:
		if len(v) == 0 || s == nil || s.XListType == nil || *s.XListType == "atomic" {
			return leaf, nil
		}
		if *s.XListType != "map" || s.Items == nil {
			return nil, fmt.Errorf("lists of type %s are not known here", *s.XListType)
		}
		items := map[string]any{".": leaf}
		for _, item := range v {
			key, err := keyOf(item, s.XListMapKeys)
			if err != nil {
				return nil, err
			}
			if items[key], err = owned(item, s.Items.Schema); err != nil {
				return nil, err
			}
		}
		return items, nil
	}
	return leaf, nil
}

// keyOf names an item of a list by its keys, in the order of their names.
func keyOf(item any, keys []string) (string, error) {
	m, ok := item.(map[string]any)
	if !ok {
		return "", fmt.Errorf("an item of a list by keys is a %T", item)
	}
	by := map[string]any{}
	for _, k := range keys {
		if m[k] == nil {
			return "", fmt.Errorf("an item of a list has no %s", k)
		}
		by[k] = m[k]
	}
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(by); err != nil {
		return "", err
	}
	return "k:" + strings.TrimSuffix(b.String(), "\n"), nil
}
