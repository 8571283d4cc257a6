package garbage

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/metadata"
)

// manager owns the fields that the collector writes.
const manager = "leat-garbage-collector"

func (c *Collector) client(s *subject) metadata.ResourceInterface {
	r := c.o.Client.Resource(s.resource.GroupVersionResource)
	if s.Namespace == "" {
		return r
	}
	return r.Namespace(s.Namespace)
}

// delete deletes an object if it still is as it was looked at: what has changed
// is looked at again anyway.
func (c *Collector) delete(ctx context.Context, s *subject, p metav1.DeletionPropagation) error {
	version := strconv.FormatUint(s.rev, 10)
	return c.done("delete", s, c.client(s).Delete(ctx, s.Name, metav1.DeleteOptions{
		PropagationPolicy: &p, Preconditions: &metav1.Preconditions{UID: &s.UID, ResourceVersion: &version},
	}))
}

// own makes the owners of an object those given.
func (c *Collector) own(ctx context.Context, s *subject, refs []metav1.OwnerReference) error {
	if len(refs) == 0 {
		refs = nil // as null, it takes the list away
	}
	return c.patch(ctx, s, map[string]any{"ownerReferences": refs})
}

// finish takes a finalizer away: its work is done.
func (c *Collector) finish(ctx context.Context, s *subject, finalizer string) error {
	rest := slices.DeleteFunc(slices.Clone(s.Finalizers), func(f string) bool { return f == finalizer })
	return c.patch(ctx, s, map[string]any{"finalizers": rest})
}

func (c *Collector) patch(ctx context.Context, s *subject, meta map[string]any) error {
	meta["uid"], meta["resourceVersion"] = s.UID, strconv.FormatUint(s.rev, 10)
	b, err := json.Marshal(map[string]any{"metadata": meta})
	if err != nil {
		return err
	}
	_, err = c.client(s).Patch(ctx, s.Name, types.MergePatchType, b, metav1.PatchOptions{FieldManager: manager})
	return c.done("patch", s, err)
}

// done makes of an answer what is left to do.
func (c *Collector) done(what string, s *subject, err error) error {
	if err == nil || apierrors.IsNotFound(err) {
		return nil
	}
	return fmt.Errorf("%s %s %s: %w", what, s.resource.GroupResource(), s.Name, err)
}
