package direct

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/leat-dev/leat/api/members"
	"github.com/leat-dev/leat/apiserver/fields"
	"github.com/leat-dev/leat/apiserver/storage"
)

// errOrdinary: the status has to be written in the ordinary way, by a request.
var errOrdinary = errors.New("the status is not this writer's alone")

// statusWrite is a status to be put into an object as it is stored.
type statusWrite struct {
	apiVersion string
	status     any
	schema     *fields.Schema // of the status
	manager    string
	now        time.Time

	// What into has put into the object beside the status: who manages what, of
	// before by where it stood there, and this writer's own, which stands nowhere.
	entries []ownership
	mine    map[string]any
}

// ownership is what is read of an entry of managedFields.
type ownership struct {
	manager, operation, apiVersion, subresource string
	time                                        string // in UTC, as all of them are

	raw   []byte
	index int // among those of before; -1: it is new
}

// into gives the object with the status: byte for byte what a request to the
// status subresource would have stored. The parts that do not change are not
// even decoded.
func (w *statusWrite) into(stored []byte) ([]byte, error) {
	object, err := members.Of(stored)
	if err != nil || !object.Sorted() {
		return nil, errOrdinary
	}
	if version, ok := object.Text("apiVersion"); !ok || version != w.apiVersion {
		return nil, errOrdinary // it is stored in another version
	}
	status, err := json.Marshal(w.status)
	if err != nil {
		return nil, err
	}
	if m := object.Get("status"); m != nil && bytes.Equal(status, m.Value) {
		return stored, nil
	}
	text := object.Get("metadata")
	if text == nil {
		return nil, errOrdinary
	}
	metadata, err := members.Of(text.Value)
	if err != nil || !metadata.Sorted() {
		return nil, errOrdinary
	}
	managed, err := w.managed(metadata.Get("managedFields"))
	if err != nil {
		return nil, err
	}
	// The status comes after the metadata: its place there is as it was.
	with := object.AppendWith(make([]byte, 0, len(stored)+len(status)+len(managed)+64), stored, "status", status)
	out := make([]byte, 0, len(with)+len(managed)+32)
	out = metadata.AppendWith(append(out, with[:text.From]...), text.Value, "managedFields", managed)
	return append(append(out, with[text.To:]...), '\n'), nil
}

// object is what into gave, made of the object before: all else is that one's. The
// status is not copied: it was encoded before, and nobody changes it any more.
func (w *statusWrite) object(before *unstructured.Unstructured) *unstructured.Unstructured {
	was, ok := before.Object["metadata"].(map[string]any)
	if !ok || !storage.IsPlain(w.status) {
		return nil
	}
	known, _ := was["managedFields"].([]any)
	managed := make([]any, 0, len(w.entries))
	for _, e := range w.entries {
		switch {
		case e.index < 0:
			managed = append(managed, w.mine)
		case e.index < len(known):
			managed = append(managed, known[e.index])
		default:
			return nil
		}
	}
	object, metadata := maps.Clone(before.Object), maps.Clone(was)
	metadata["managedFields"], object["metadata"], object["status"] = managed, metadata, w.status
	return &unstructured.Unstructured{Object: object}
}

// managed are the managedFields with this writer's entry: it has all fields of
// the status, and nobody else has any.
func (w *statusWrite) managed(before *members.Member) ([]byte, error) {
	var raw [][]byte
	if before != nil {
		var err error
		if raw, err = members.Items(before.Value); err != nil {
			return nil, errOrdinary
		}
	}
	w.entries = make([]ownership, 0, len(raw)+1)
	for i, b := range raw {
		e, err := ownershipOf(b)
		if err != nil {
			return nil, err
		}
		if e.manager == w.manager && e.operation == string(metav1.ManagedFieldsOperationUpdate) && e.subresource == "status" && e.apiVersion == w.apiVersion {
			continue
		}
		if e.index = i; e.hasStatus() {
			return nil, errOrdinary
		}
		w.entries = append(w.entries, e)
	}
	mine, err := w.entry()
	if err != nil {
		return nil, err
	}
	w.entries = append(w.entries, mine)
	slices.SortStableFunc(w.entries, compareOwnership)
	out := []byte{'['}
	for i, e := range w.entries {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, e.raw...)
	}
	return append(out, ']'), nil
}

// ownershipOf reads an entry.
func ownershipOf(raw []byte) (ownership, error) {
	o, err := members.Of(raw)
	if err != nil {
		return ownership{}, errOrdinary
	}
	e := ownership{raw: raw}
	for name, field := range map[string]*string{
		"manager": &e.manager, "operation": &e.operation, "apiVersion": &e.apiVersion, "subresource": &e.subresource, "time": &e.time,
	} {
		if o.Get(name) == nil {
			continue
		}
		var ok bool
		if *field, ok = o.Text(name); !ok {
			return ownership{}, errOrdinary
		}
	}
	return e, nil
}

// hasStatus says whether somebody has a part of the status; if in doubt, so it is.
func (e *ownership) hasStatus() bool {
	o, err := members.Of(e.raw)
	if err != nil {
		return true
	}
	owned := o.Get("fieldsV1")
	if owned == nil {
		return true
	}
	fields, err := members.Of(owned.Value)
	return err != nil || fields.Get("f:status") != nil
}

func (w *statusWrite) entry() (ownership, error) {
	owned, err := w.schema.Owned(w.status)
	if err != nil {
		return ownership{}, fmt.Errorf("%w: %w", errOrdinary, err)
	}
	e := ownership{
		manager: w.manager, operation: string(metav1.ManagedFieldsOperationUpdate), apiVersion: w.apiVersion, subresource: "status",
		time: w.now.UTC().Format(time.RFC3339), index: -1,
	}
	w.mine = map[string]any{
		"manager": e.manager, "operation": e.operation, "apiVersion": e.apiVersion, "time": e.time, "subresource": e.subresource,
		"fieldsType": "FieldsV1", "fieldsV1": map[string]any{"f:status": owned},
	}
	e.raw, err = json.Marshal(w.mine)
	return e, err
}

// compareOwnership is the order in which the library keeps the entries.
func compareOwnership(a, b ownership) int {
	return cmp.Or(
		cmp.Compare(a.operation, b.operation), cmp.Compare(a.time, b.time), cmp.Compare(a.manager, b.manager),
		cmp.Compare(a.apiVersion, b.apiVersion), cmp.Compare(a.subresource, b.subresource),
	)
}
