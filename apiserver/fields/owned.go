package fields

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Owned are the fields of a value, in the form of managedFields, for somebody
// who has made all of it: as server-side apply sees them by the schema.
func (s *Schema) Owned(value any) (map[string]any, error) {
	switch v := value.(type) {
	case map[string]any:
		if len(v) == 0 || s == nil || s.atomicMap {
			return leaf(), nil
		}
		fields := make(map[string]any, len(v)+1)
		fields["."] = leaf()
		for name, child := range v {
			of, ok := s.properties[name]
			if !ok {
				of = s.values
			}
			below, err := of.Owned(child)
			if err != nil {
				return nil, err
			}
			fields["f:"+name] = below
		}
		return fields, nil
	case []any:
		if len(v) == 0 || s == nil || s.list == "atomic" {
			return leaf(), nil
		}
		if s.list != "map" || s.items == nil {
			return nil, fmt.Errorf("lists of type %s are not known here", s.list)
		}
		items := map[string]any{".": leaf()}
		for _, item := range v {
			key, err := keyOf(item, s.keys)
			if err != nil {
				return nil, err
			}
			if items[key], err = s.items.Owned(item); err != nil {
				return nil, err
			}
		}
		return items, nil
	}
	return leaf(), nil
}

func leaf() map[string]any { return map[string]any{} }

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
