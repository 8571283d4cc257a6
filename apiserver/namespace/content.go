package namespace

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/leat-dev/leat/apiserver/catalog"
)

// terminating says whether a namespace, as it is stored, is being deleted.
func (c *Controller) terminating(ctx context.Context, key string, stored []byte) bool {
	if len(stored) == 0 {
		return false
	}
	value, err := c.o.Plain(ctx, key, stored)
	if err != nil || !bytes.Contains(value, []byte(`"deletionTimestamp":"`)) {
		return false
	}
	var ns corev1.Namespace
	return json.Unmarshal(value, &ns) == nil && ns.DeletionTimestamp != nil
}

// finalizing says whether a namespace still has our finalizer.
func finalizing(ns *corev1.Namespace) bool {
	return slices.Contains(ns.Spec.Finalizers, corev1.FinalizerKubernetes)
}

// remains are what is left in a namespace.
type remains struct {
	// resources say how many objects there are, "configmaps. has 2 resource
	// instances".
	resources []string
	// finalizers say on which they wait, "example.com/f in 2 resource instances".
	finalizers []string
	// failed is what could not be deleted, and why.
	failed error
}

func (r remains) left() bool { return len(r.resources) > 0 || r.failed != nil }

// empty deletes what a namespace holds, and looks at what is left.
func (c *Controller) empty(ctx context.Context, ns *corev1.Namespace) (remains, error) {
	all, err := c.o.Catalog.Namespaced()
	if err != nil {
		return remains{}, err
	}
	slices.SortFunc(all, func(a, b catalog.Resource) int {
		return strings.Compare(a.GroupResource().String(), b.GroupResource().String())
	})
	var r remains
	var failed []error
	waiting := map[string]int{}
	for _, resource := range all {
		n, err := c.emptyResource(ctx, ns, resource, waiting)
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", resource.GroupResource(), err))
		}
		if n > 0 {
			r.resources = append(r.resources, fmt.Sprintf("%s.%s has %d resource instances", resource.Resource, resource.Group, n))
		}
	}
	for f, n := range waiting {
		r.finalizers = append(r.finalizers, fmt.Sprintf("%s in %d resource instances", f, n))
	}
	slices.Sort(r.finalizers)
	r.failed = errors.Join(failed...)
	return r, nil
}

// emptyResource deletes a resource's objects, and counts those that stay, and
// the finalizers that they wait for. Objects that are being deleted already
// are not written again.
func (c *Controller) emptyResource(ctx context.Context, ns *corev1.Namespace, r catalog.Resource, waiting map[string]int) (int, error) {
	n, fresh, _, err := c.count(ctx, ns.Name, r)
	if err != nil || n == 0 {
		return n, err
	}
	if fresh > 0 {
		background := metav1.DeletePropagationBackground
		err = c.o.Content.Resource(r.GroupVersionResource).Namespace(ns.Name).DeleteCollection(ctx,
			metav1.DeleteOptions{PropagationPolicy: &background}, metav1.ListOptions{})
		if apierrors.IsNotFound(err) || apierrors.IsMethodNotSupported(err) {
			err = nil // the kind is gone: so are its objects, soon
		}
	}
	n, _, finalizers, countErr := c.count(ctx, ns.Name, r)
	for f, k := range finalizers {
		waiting[f] += k
	}
	return n, errors.Join(err, countErr)
}

// page is how many objects are read at once.
const page = 500

// count says how many objects of a resource a namespace holds, how many of
// them nobody has begun to delete, and what the others wait for.
func (c *Controller) count(ctx context.Context, namespace string, r catalog.Resource) (n, fresh int, finalizers map[string]int, err error) {
	prefix := c.o.Catalog.Key(catalog.Object{Resource: r.GroupResource(), Namespace: namespace})
	finalizers = map[string]int{}
	for start := prefix; ; {
		p, err := c.o.KV.Scan(prefix, start, page, 0)
		if err != nil {
			return n, fresh, finalizers, err
		}
		for _, o := range p.KVs {
			n++
			var m struct {
				Metadata metav1.ObjectMeta `json:"metadata"`
			}
			// What cannot be read may be fresh.
			b, err := c.o.Plain(ctx, o.Key, o.Value)
			if err != nil || !bytes.Contains(b, []byte(`"deletionTimestamp":"`)) || json.Unmarshal(b, &m) != nil || m.Metadata.DeletionTimestamp == nil {
				fresh++
				continue
			}
			for _, f := range m.Metadata.Finalizers {
				finalizers[f]++
			}
		}
		if p.Remaining == 0 {
			return n, fresh, finalizers, nil
		}
		start = p.KVs[len(p.KVs)-1].Key + "\x00"
	}
}
