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
	jsonutil "k8s.io/apimachinery/pkg/util/json"

	"github.com/leat-dev/leat/apiserver/fields"
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

	// What into has put into the object.
	written       []byte
	managedFields json.RawMessage
}

type rawObject = map[string]json.RawMessage

// ownership is what is read of an entry of managedFields.
type ownership struct {
	Manager     string          `json:"manager"`
	Operation   string          `json:"operation"`
	APIVersion  string          `json:"apiVersion"`
	Time        *metav1.Time    `json:"time"`
	Subresource string          `json:"subresource"`
	Fields      json.RawMessage `json:"fieldsV1"`

	raw json.RawMessage
}

// into gives the object with the status: byte for byte what a request to the
// status subresource would have stored. The parts that do not change are not
// even decoded.
func (w *statusWrite) into(stored []byte) ([]byte, error) {
	var object, metadata rawObject
	if err := json.Unmarshal(stored, &object); err != nil {
		return nil, err
	}
	if string(object["apiVersion"]) != `"`+w.apiVersion+`"` {
		return nil, errOrdinary // it is stored in another version
	}
	status, err := json.Marshal(w.status)
	if err != nil {
		return nil, err
	}
	if bytes.Equal(status, object["status"]) {
		return stored, nil
	}
	if err := json.Unmarshal(object["metadata"], &metadata); err != nil {
		return nil, err
	}
	if metadata["managedFields"], err = w.managed(metadata["managedFields"]); err != nil {
		return nil, err
	}
	object["status"] = status
	w.written, w.managedFields = status, metadata["managedFields"]
	if object["metadata"], err = json.Marshal(metadata); err != nil {
		return nil, err
	}
	out, err := json.Marshal(object)
	return append(out, '\n'), err
}

// object is what into gave, made of the object before: all else is that one's.
func (w *statusWrite) object(before *unstructured.Unstructured) *unstructured.Unstructured {
	var status, managed any
	was, ok := before.Object["metadata"].(map[string]any)
	if !ok || jsonutil.Unmarshal(w.written, &status) != nil || jsonutil.Unmarshal(w.managedFields, &managed) != nil {
		return nil
	}
	object, metadata := maps.Clone(before.Object), maps.Clone(was)
	metadata["managedFields"], object["metadata"], object["status"] = managed, metadata, status
	return &unstructured.Unstructured{Object: object}
}

// managed are the managedFields with this writer's entry: it has all fields of
// the status, and nobody else has any.
func (w *statusWrite) managed(before json.RawMessage) (json.RawMessage, error) {
	var raw []json.RawMessage
	if len(before) > 0 {
		if err := json.Unmarshal(before, &raw); err != nil {
			return nil, err
		}
	}
	entries := make([]ownership, 0, len(raw)+1)
	for _, b := range raw {
		e := ownership{raw: b}
		if err := json.Unmarshal(b, &e); err != nil {
			return nil, err
		}
		if e.Manager == w.manager && e.Operation == string(metav1.ManagedFieldsOperationUpdate) && e.Subresource == "status" && e.APIVersion == w.apiVersion {
			continue
		}
		var fields rawObject
		if err := json.Unmarshal(e.Fields, &fields); err != nil || fields["f:status"] != nil {
			return nil, errOrdinary
		}
		entries = append(entries, e)
	}
	mine, err := w.entry()
	if err != nil {
		return nil, err
	}
	entries = append(entries, mine)
	slices.SortStableFunc(entries, compareOwnership)
	raw = raw[:0]
	for _, e := range entries {
		raw = append(raw, e.raw)
	}
	return json.Marshal(raw)
}

func (w *statusWrite) entry() (ownership, error) {
	owned, err := w.schema.Owned(w.status)
	if err != nil {
		return ownership{}, fmt.Errorf("%w: %w", errOrdinary, err)
	}
	at := metav1.NewTime(w.now.UTC().Truncate(time.Second))
	e := ownership{Manager: w.manager, Operation: string(metav1.ManagedFieldsOperationUpdate), APIVersion: w.apiVersion, Time: &at, Subresource: "status"}
	e.raw, err = json.Marshal(map[string]any{
		"manager": e.Manager, "operation": e.Operation, "apiVersion": e.APIVersion, "time": at.Format(time.RFC3339), "subresource": e.Subresource,
		"fieldsType": "FieldsV1", "fieldsV1": map[string]any{"f:status": owned},
	})
	return e, err
}

// compareOwnership is the order in which the library keeps the entries.
func compareOwnership(a, b ownership) int {
	seconds := func(t *metav1.Time) int64 {
		if t == nil {
			return 0
		}
		return t.Unix()
	}
	return cmp.Or(
		cmp.Compare(a.Operation, b.Operation), cmp.Compare(seconds(a.Time), seconds(b.Time)), cmp.Compare(a.Manager, b.Manager),
		cmp.Compare(a.APIVersion, b.APIVersion), cmp.Compare(a.Subresource, b.Subresource),
	)
}
