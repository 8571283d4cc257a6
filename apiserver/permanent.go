package apiserver

import (
	"context"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
)

// Permanent names an object that cannot be deleted, and says why.
type Permanent struct {
	schema.GroupResource
	Namespace, Name string
	Reason          string
}

// permanentPlugin keeps what the server cannot do without.
type permanentPlugin struct {
	*admission.Handler
	all []Permanent
}

var _ admission.ValidationInterface = &permanentPlugin{}

func newPermanentPlugin(all []Permanent) *permanentPlugin {
	return &permanentPlugin{admission.NewHandler(admission.Delete), slices.Clone(all)}
}

// Validate implements admission.ValidationInterface. Where a collection is
// deleted it is asked for each object, whose name only the object has.
func (p *permanentPlugin) Validate(_ context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	name := a.GetName()
	if name == "" && a.GetOldObject() != nil {
		if m, err := meta.Accessor(a.GetOldObject()); err == nil {
			name = m.GetName()
		}
	}
	for _, keep := range p.all {
		if a.GetSubresource() == "" && a.GetResource().GroupResource() == keep.GroupResource && a.GetNamespace() == keep.Namespace && name == keep.Name {
			return apierrors.NewForbidden(keep.GroupResource, name, fmt.Errorf("it cannot be deleted: %s", keep.Reason))
		}
	}
	return nil
}
