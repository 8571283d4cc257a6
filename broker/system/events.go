package system

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/leat-dev/leat/api/event"
	"github.com/leat-dev/leat/api/members"
	"github.com/leat-dev/leat/raftlog/kv"
)

// Types of the events, but for the verb.
const (
	typeResource = "dev.knative.apiserver.resource."
	typeRef      = "dev.knative.apiserver.ref."
	// TypeGap is the type of an event that says which writes do not appear.
	TypeGap = "dev.leat.apiserver.gap"
)

// reference is the data of an event whose object is not in it.
type reference struct {
	APIVersion      string `json:"apiVersion,omitempty"`
	Kind            string `json:"kind,omitempty"`
	Namespace       string `json:"namespace,omitempty"`
	Name            string `json:"name"`
	UID             string `json:"uid,omitempty"`
	ResourceVersion string `json:"resourceVersion"`
}

// Gap is the data of an event of TypeGap.
type Gap struct {
	// From and To are the first and the last revision that do not appear.
	From uint64 `json:"from"`
	To   uint64 `json:"to"`
	// Revisions are those meant, where there are others between that do appear.
	Revisions []uint64 `json:"revisions,omitempty"`
	// Reason is one of the words below, Message says it in a sentence.
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

// Reasons of a gap.
const (
	ReasonCompacted  = "HistoryCompacted"
	ReasonWentBack   = "HistoryWentBack"
	ReasonStatusRate = "StatusRate"
)

// maker makes events of writes.
type maker struct {
	source  string
	prefix  string
	maxData int
	redact  redactor
	plain   func(ctx context.Context, key string, stored []byte) ([]byte, error)
}

// write is a write that appears.
type write struct {
	resource
	rev uint64
	// text is a string of the object, by its path; nil where it cannot be read.
	text   func(path ...string) string
	stored []byte // decrypted
	// before is what was stored before, decrypted.
	before func() ([]byte, error)
	event  *event.Event
}

// make makes the event of a write; nil where none is due. An error beside an
// event says why it tells less than it should.
func (m *maker) make(ctx context.Context, e *kv.Event) (*write, error) {
	r, ok := parseKey(m.prefix, e.Key)
	if !ok || r.silent() {
		return nil, nil //nolint:nilnil // no event is due
	}
	w := &write{resource: r, rev: e.Rev}
	ref := reference{Namespace: r.namespace, Name: r.name, ResourceVersion: strconv.FormatUint(e.Rev, 10)}
	if r.secret() {
		ref.APIVersion, ref.Kind = "v1", "Secret"
		w.event = m.event(e, w, ref, nil)
		return w, nil
	}
	err := m.decrypt(ctx, e, w)
	var data []byte
	if err == nil {
		data, err = m.appearance(w, &ref)
	}
	if err != nil {
		w.event = m.event(e, w, ref, nil)
		return w, fmt.Errorf("revision %d, %s: %w; it is told by reference", e.Rev, e.Key, err)
	}
	if len(data) > m.maxData {
		data = nil
	}
	w.event = m.event(e, w, ref, data)
	return w, nil
}

// appearance is an object as it appears, nil where it cannot. It has w read the
// object, and the reference name it.
func (m *maker) appearance(w *write, ref *reference) ([]byte, error) {
	name := func() {
		ref.APIVersion, ref.Kind, ref.UID = w.text("apiVersion"), w.text("kind"), w.text("metadata", "uid")
	}
	if data, ok := m.redact.clean(w.stored, ref.ResourceVersion); ok {
		w.text = func(path ...string) string { return textOf(data, path) }
		name()
		return data, nil
	}
	o, err := decodeObject(withoutManagers(w.stored))
	if err != nil {
		return nil, err
	}
	w.text = o.string
	name()
	if meta := o.metadata(); meta != nil {
		delete(meta, "managedFields") // where they were not left out before
		meta["resourceVersion"] = ref.ResourceVersion
	}
	m.redact.fields(o)
	data, err := encode(o)
	if err != nil {
		return nil, nil //nolint:nilerr // it is told by reference
	}
	return data, nil
}

// textOf is a string in an object in which none has escapes; empty where there is
// none.
func textOf(data []byte, path []string) string {
	for i, name := range path {
		object, err := members.Of(data)
		if err != nil {
			return ""
		}
		if i == len(path)-1 {
			s, _ := object.Text(name)
			return s
		}
		m := object.Get(name)
		if m == nil {
			return ""
		}
		data = m.Value
	}
	return ""
}

// decrypt makes what a write is about readable: what is stored, or was at the end.
// What was before is decrypted for the few that ask for it.
func (m *maker) decrypt(ctx context.Context, e *kv.Event, w *write) (err error) {
	w.before = func() ([]byte, error) { return m.decrypted(ctx, e.Key, e.Prev) }
	if e.Deleted {
		w.stored, err = w.before()
	} else {
		w.stored, err = m.decrypted(ctx, e.Key, e.Value)
	}
	return err
}

func (m *maker) decrypted(ctx context.Context, key string, stored []byte) ([]byte, error) {
	if m.plain == nil || len(stored) == 0 {
		return stored, nil
	}
	b, err := m.plain(ctx, key, stored)
	if err != nil {
		return nil, fmt.Errorf("decrypt: %w", err)
	}
	return b, nil
}

// event is the event of a write; without data it is one by reference.
func (m *maker) event(e *kv.Event, w *write, ref reference, data []byte) *event.Event {
	out := m.base(e.Time)
	out.Type = typeResource + verb(e)
	if data == nil {
		out.Type = typeRef + verb(e)
		data, _ = encode(ref) // strings only: it does not fail
	}
	out.Data = data
	out.Subject = w.path(ref.APIVersion)
	out.ID = ref.UID + "/" + ref.ResourceVersion
	if ref.UID == "" {
		out.ID = out.Subject + "/" + ref.ResourceVersion
	}
	for name, value := range map[string]string{"kind": ref.Kind, "apiversion": ref.APIVersion, "name": ref.Name, "namespace": ref.Namespace} {
		if value != "" {
			out.SetExtension(name, event.Value{Str: value})
		}
	}
	return out
}

func (m *maker) gap(g Gap, at int64) *event.Event {
	out := m.base(at)
	out.Type, out.ID = TypeGap, fmt.Sprintf("gap/%s/%d-%d", g.Reason, g.From, g.To)
	out.Data, _ = encode(g) // numbers and strings only: it does not fail
	return out
}

// base is an event as the ingress would have stamped it, at a log time.
func (m *maker) base(at int64) *event.Event {
	now := time.UnixMicro(at).UTC().Format(time.RFC3339Nano)
	e := &event.Event{Source: m.source, Time: now, DataContentType: "application/json"}
	e.SetExtension("knativearrivaltime", event.Value{Str: now})
	e.SetExtension("knativebrokerttl", event.IntegerValue(255))
	e.SetTrace(event.NewTrace())
	return e
}

func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
