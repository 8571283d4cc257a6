package system

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/leat-dev/leat/api/members"
	"github.com/leat-dev/leat/raftlog/kv"
)

// resource names what a key of the API's storage holds.
type resource struct{ group, plural, namespace, name string }

// core is what stands for the group without a name in keys.
const coreGroup = "core"

// parseKey reads PREFIX/GROUP/PLURAL/[NAMESPACE/]NAME.
func parseKey(prefix, key string) (resource, bool) {
	rest, ok := strings.CutPrefix(key, prefix)
	parts := strings.Split(rest, "/")
	if !ok || len(parts) < 3 || len(parts) > 4 {
		return resource{}, false
	}
	r := resource{group: parts[0], plural: parts[1], name: parts[len(parts)-1]}
	if len(parts) == 4 {
		r.namespace = parts[2]
	}
	if r.group == coreGroup {
		r.group = ""
	}
	return r, r.plural != "" && r.name != ""
}

// silent are resources that are written all the time and say nothing about
// what anybody asked for, and those that are questions rather than objects.
func (r resource) silent() bool {
	switch r.group {
	case "coordination.k8s.io":
		return r.plural == "leases"
	case "", "events.k8s.io":
		return r.plural == "events"
	case "authentication.k8s.io", "authorization.k8s.io":
		return true
	}
	return false
}

// secret says whether what the resource holds never leaves the API.
func (r resource) secret() bool { return r.group == "" && r.plural == "secrets" }

// path is the resource's path, as ApiServerSource has it.
func (r resource) path(apiVersion string) string {
	if r.namespace == "" {
		return fmt.Sprintf("/apis/%s/%s/%s", apiVersion, r.plural, r.name)
	}
	return fmt.Sprintf("/apis/%s/namespaces/%s/%s/%s", apiVersion, r.namespace, r.plural, r.name)
}

// object is a resource as it is stored.
type object map[string]any

var errForm = errors.New("not in the form that the API stores")

// withoutManagers is an object's text without who manages its fields, which is
// half of it, so that this is not decoded; all of it where it has another form.
func withoutManagers(text []byte) []byte {
	o, err := members.Of(text)
	if err != nil {
		return text
	}
	m := o.Get("metadata")
	if m == nil {
		return text
	}
	metadata, err := members.Of(m.Value)
	if err != nil || metadata.Get("managedFields") == nil {
		return text
	}
	less := metadata.Without(m.Value, "managedFields")
	return slices.Concat(text[:m.From], less, text[m.To:])
}

func decodeObject(b []byte) (object, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber() // numbers stay as they were written
	var o object
	if err := d.Decode(&o); err != nil {
		return nil, fmt.Errorf("%w: %w", errForm, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) || o == nil {
		return nil, fmt.Errorf("%w: it is not one JSON object", errForm)
	}
	return o, nil
}

func (o object) string(path ...string) string {
	var v any = map[string]any(o)
	for _, p := range path {
		m, _ := v.(map[string]any)
		v = m[p]
	}
	s, _ := v.(string)
	return s
}

func (o object) metadata() map[string]any {
	m, _ := o["metadata"].(map[string]any)
	return m
}

// verb is the last part of an event's type.
func verb(e *kv.Event) string {
	switch {
	case e.Deleted:
		return "delete"
	case e.PrevRev == 0:
		return "add"
	default:
		return "update"
	}
}
