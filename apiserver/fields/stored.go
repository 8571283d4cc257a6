package fields

// IsAsStored says whether an object of a definition is beyond doubt as it is read
// from what was stored: nothing in it is pruned, defaulted or put into another
// form. It is decoded JSON, with whole numbers as int64.
func (s *Schema) IsAsStored(object map[string]any) bool {
	for name, v := range object {
		switch name {
		case "apiVersion", "kind":
			if _, ok := v.(string); !ok {
				return false
			}
		case "metadata":
			m, ok := v.(map[string]any)
			if !ok || !isMetadata(m) {
				return false
			}
		default:
			if !s.Property(name).keeps(v) {
				return false
			}
		}
	}
	return s != nil && !s.alters && !s.lacks(object) && object["metadata"] != nil
}

// keeps says whether a value is kept as it is when it is read. Whether it is
// valid was checked when it was written.
func (s *Schema) keeps(v any) bool {
	if s == nil || s.alters {
		return false
	}
	switch v := v.(type) {
	case map[string]any:
		if s.kind != "object" {
			return false
		}
		for name, item := range v {
			p, known := s.properties[name]
			switch {
			case known:
			case s.values != nil:
				p = s.values
			case s.open && complete(item):
				continue
			}
			if !p.keeps(item) {
				return false
			}
		}
		return !s.lacks(v)
	case []any:
		if s.kind != "array" {
			return false
		}
		for _, item := range v {
			if !s.items.keeps(item) {
				return false
			}
		}
		return true
	case string, bool, int64:
		return s.kind != "object" && s.kind != "array"
	}
	return false
}

// lacks says whether a property is missing that has a default.
func (s *Schema) lacks(m map[string]any) bool {
	for name, p := range s.properties {
		if _, ok := m[name]; !ok && p.alters {
			return true
		}
	}
	return false
}

// isMetadata says whether metadata are in the form that they have when they are
// written: with nothing empty in them, and times in seconds of UTC.
func isMetadata(m map[string]any) bool {
	for name, v := range m {
		ok := false
		switch name {
		case "name", "namespace", "uid", "generateName":
			ok = isText(v)
		case "creationTimestamp", "deletionTimestamp":
			ok = isTime(v)
		case "generation":
			n, is := v.(int64)
			ok = is && n > 0
		case "labels", "annotations":
			all, is := v.(map[string]any)
			ok = is && len(all) > 0
			for _, item := range all {
				_, is := item.(string)
				ok = ok && is
			}
		case "finalizers":
			all, is := v.([]any)
			ok = is && len(all) > 0
			for _, item := range all {
				ok = ok && isText(item)
			}
		case "managedFields":
			all, is := v.([]any)
			ok = is && len(all) > 0
			for _, item := range all {
				e, is := item.(map[string]any)
				ok = ok && is && isManaged(e)
			}
		}
		if !ok {
			return false
		}
	}
	return m["generation"] != nil && m["name"] != nil
}

func isManaged(e map[string]any) bool {
	for name, v := range e {
		ok := false
		switch name {
		case "manager", "operation", "apiVersion", "fieldsType", "subresource":
			ok = isText(v)
		case "time":
			ok = isTime(v)
		case "fieldsV1":
			m, is := v.(map[string]any)
			ok = is && complete(m)
		}
		if !ok {
			return false
		}
	}
	return true
}

func isText(v any) bool {
	s, ok := v.(string)
	return ok && s != ""
}

// isTime says whether a value is a time as it is written, such as
// 2026-01-02T15:04:05Z; that it is one was seen then.
func isTime(v any) bool {
	s, ok := v.(string)
	return ok && len(s) == len("2026-01-02T15:04:05Z") && s[len(s)-1] == 'Z'
}
