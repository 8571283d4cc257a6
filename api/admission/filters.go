package admission

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// dialects are the fields of a filter, exactly one of which is set.
var dialects = [...]string{"exact", "prefix", "suffix", "all", "any", "not", "cesql", "expr"}

// validateFilters checks the shape of spec.filters as it was sent: what is
// nested is free of the schema.
func validateFilters(raw any, p *field.Path, depth int) field.ErrorList {
	nodes, ok := raw.([]any)
	if !ok {
		return field.ErrorList{wrongType(p, raw, "a list of filters")}
	}
	var errs field.ErrorList
	for i, n := range nodes {
		errs = append(errs, validateFilter(n, p.Index(i), depth)...)
	}
	return errs
}

func validateFilter(raw any, p *field.Path, depth int) field.ErrorList {
	if depth == 0 {
		return field.ErrorList{field.Forbidden(p, "filters are nested too deep")}
	}
	node, ok := raw.(map[string]any)
	if !ok {
		return field.ErrorList{wrongType(p, raw, "an object with one dialect")}
	}
	var errs field.ErrorList
	for _, name := range slices.Sorted(maps.Keys(node)) {
		if !slices.Contains(dialects[:], name) {
			errs = append(errs, field.Forbidden(p.Child(name), "unknown dialect: use one of "+strings.Join(dialects[:], ", ")))
		}
	}
	if len(errs) > 0 {
		return errs
	}
	if len(node) == 0 {
		return field.ErrorList{field.Required(p, "needs one dialect of "+strings.Join(dialects[:], ", "))}
	}
	if len(node) > 1 {
		return field.ErrorList{field.Forbidden(p, fmt.Sprintf("has %s: a filter has one dialect, combine several by all",
			strings.Join(slices.Sorted(maps.Keys(node)), " and ")))}
	}
	for name, value := range node {
		at := p.Child(name)
		switch name {
		case "exact", "prefix", "suffix":
			errs = validateAttributes(value, at, false)
		case "all", "any":
			errs = validateFilters(value, at, depth-1)
			if list, ok := value.([]any); ok && len(list) == 0 {
				errs = field.ErrorList{field.Required(at, "needs at least one filter")}
			}
		case "not":
			errs = validateFilter(value, at, depth-1)
		case "cesql", "expr":
			if s, ok := value.(string); !ok {
				errs = field.ErrorList{wrongType(at, value, "an expression")}
			} else if strings.TrimSpace(s) == "" {
				errs = field.ErrorList{field.Required(at, "needs an expression")}
			}
		}
	}
	return errs
}

// validateAttributes checks values by attribute. The older form of a filter
// may be without any, and may have empty values.
func validateAttributes(raw any, p *field.Path, empty bool) field.ErrorList {
	all, ok := raw.(map[string]any)
	if !ok {
		return field.ErrorList{wrongType(p, raw, "values by attribute")}
	}
	if len(all) == 0 && !empty {
		return field.ErrorList{field.Required(p, "needs at least one attribute and its value")}
	}
	var errs field.ErrorList
	for _, name := range slices.Sorted(maps.Keys(all)) {
		at := p.Key(name)
		if !isAttribute(name) {
			errs = append(errs, field.Invalid(at, name, "a name of an attribute has lower-case letters a to z and digits only"))
		}
		switch v, ok := all[name].(string); {
		case !ok:
			errs = append(errs, wrongType(at, all[name], "a string"))
		case v == "" && !empty:
			errs = append(errs, field.Required(at, "needs a value that is not empty"))
		}
	}
	return errs
}

func isAttribute(name string) bool {
	for _, c := range []byte(name) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return name != ""
}

func wrongType(p *field.Path, v any, want string) *field.Error {
	shown := fmt.Sprint(v)
	if len(shown) > 64 {
		shown = strings.ToValidUTF8(shown[:64], "") + "…"
	}
	return field.Invalid(p, shown, "must be "+want)
}
