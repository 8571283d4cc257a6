package garbage

import (
	"bytes"
	"encoding/json"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// objectMeta is what the collector reads of an object.
type objectMeta struct {
	UID               types.UID               `json:"uid"`
	Owners            []metav1.OwnerReference `json:"ownerReferences"`
	Finalizers        []string                `json:"finalizers"`
	DeletionTimestamp *metav1.Time            `json:"deletionTimestamp"`
}

func decode(value []byte) (objectMeta, error) {
	var o struct {
		Metadata objectMeta `json:"metadata"`
	}
	err := json.Unmarshal(value, &o)
	return o.Metadata, err
}

// concerns says whether an object may have an owner, or be on its way out.
// Most have neither, and are not decoded.
func concerns(value []byte) bool {
	return bytes.Contains(value, []byte(`"ownerReferences":[`)) || bytes.Contains(value, []byte(`"deletionTimestamp":"`))
}

// deleting says whether the object is to go once a finalizer is done.
func (m *objectMeta) deleting(finalizer string) bool {
	return m.DeletionTimestamp != nil && slices.Contains(m.Finalizers, finalizer)
}

// waits says whether the object waits for its dependents to go.
func (m *objectMeta) waits() bool { return m.deleting(metav1.FinalizerDeleteDependents) }

// orphans says whether the object is to leave its dependents behind.
func (m *objectMeta) orphans() bool { return m.deleting(metav1.FinalizerOrphanDependents) }

// blocks says whether an object holds up the foreground deletion of an owner.
func blocks(owners []metav1.OwnerReference, uid types.UID) bool {
	return slices.ContainsFunc(owners, func(o metav1.OwnerReference) bool {
		return o.UID == uid && o.BlockOwnerDeletion != nil && *o.BlockOwnerDeletion
	})
}
