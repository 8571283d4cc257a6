package garbage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/leat-dev/leat/apiserver/catalog"
)

// work looks at objects until the queue is shut down.
func (c *Collector) work(ctx context.Context) {
	for {
		key, end := c.queue.Get()
		if end {
			return
		}
		err := c.look(ctx, key)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			c.o.Logger.Debug("garbage collection is tried again", "object", key, "error", err)
			c.queue.AddRateLimited(key)
		default:
			c.queue.Forget(key)
		}
		c.queue.Done(key)
	}
}

// subject is an object that is looked at, as it is stored.
type subject struct {
	catalog.Object
	objectMeta
	key      string
	rev      uint64
	resource catalog.Resource
}

// get reads an object as it is now; nil: it is not there, or of no served kind.
func (c *Collector) get(ctx context.Context, o catalog.Object) (*subject, error) {
	s := &subject{Object: o, key: c.o.Catalog.Key(o)}
	stored, _, err := c.o.KV.Get(s.key)
	if err != nil || stored == nil {
		return nil, err
	}
	s.rev = stored.ModRev
	b, err := c.o.Plain(ctx, s.key, stored.Value)
	if err != nil {
		return nil, err
	}
	if s.objectMeta, err = decode(b); err != nil {
		return nil, fmt.Errorf("metadata of %s: %w", s.key, err)
	}
	var ok bool
	if s.resource, ok = c.o.Catalog.ByResource(o.Resource); !ok {
		return nil, nil
	}
	return s, nil
}

// errBehind: the object was written after all that the graph has taken in.
var errBehind = errors.New("the graph is not complete yet")

// look does for an object what is to be done now.
func (c *Collector) look(ctx context.Context, key string) error {
	o, ok := c.o.Catalog.Parse(key)
	if !ok {
		return nil
	}
	s, err := c.get(ctx, o)
	if err != nil || s == nil {
		return err
	}
	if c.graph.behind(s.rev) {
		return errBehind // to take it in brings the object back only where it changes the owners
	}
	switch {
	case s.orphans():
		return c.orphan(ctx, s)
	case s.waits():
		if err := c.foreground(ctx, s); err != nil {
			return err
		}
		return c.unblock(ctx, s)
	case s.DeletionTimestamp != nil || len(s.Owners) == 0:
		return nil
	}
	return c.dependent(ctx, s)
}

// place is where an owner that an object names has to be; false where its
// kind is not served, or cannot own the object.
func (c *Collector) place(key string, ref metav1.OwnerReference) (catalog.Object, bool) {
	o, ok := c.o.Catalog.Parse(key)
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	if !ok || err != nil {
		return catalog.Object{}, false
	}
	r, ok := c.o.Catalog.ByKind(gv.WithKind(ref.Kind).GroupKind())
	if !ok || ref.Name == "" || strings.Contains(ref.Name, "/") {
		return catalog.Object{}, false
	}
	owner := catalog.Object{Resource: r.GroupResource(), Name: ref.Name}
	if r.Namespaced {
		owner.Namespace = o.Namespace
	}
	return owner, !r.Namespaced || o.Namespace != ""
}

// owners are an object's, by what has become of them.
type owners struct {
	// solid are there to stay, absent are not there, waiting are there until
	// their dependents have gone.
	solid, absent, waiting []metav1.OwnerReference
	unknown                bool
}

func (c *Collector) sort(ctx context.Context, s *subject) (owners, error) {
	var sorted owners
	for _, ref := range s.Owners {
		at, ok := c.place(s.key, ref)
		if !ok {
			sorted.unknown = true
			continue
		}
		owner, err := c.get(ctx, at)
		switch {
		case err != nil:
			return sorted, err
		case owner == nil || owner.UID != ref.UID:
			sorted.absent = append(sorted.absent, ref)
		case owner.waits():
			sorted.waiting = append(sorted.waiting, ref)
		default:
			sorted.solid = append(sorted.solid, ref)
		}
	}
	return sorted, nil
}

// dependent deletes an object that no owner holds any more.
func (c *Collector) dependent(ctx context.Context, s *subject) error {
	o, err := c.sort(ctx, s)
	switch {
	case err != nil:
		return err
	case o.unknown:
		c.graph.unresolve(s.key)
		return nil
	case len(o.solid) > 0:
		if len(o.absent) == 0 && len(o.waiting) == 0 {
			return nil
		}
		return c.own(ctx, s, o.solid) // nobody is to wait for it
	case len(o.waiting) > 0 && c.hasDependents(s):
		return c.delete(ctx, s, metav1.DeletePropagationForeground)
	}
	return c.delete(ctx, s, policy(s.Finalizers))
}

// policy is how an object that is collected passes that on: as its finalizers
// ask, else in the background.
func policy(finalizers []string) metav1.DeletionPropagation {
	switch {
	case slices.Contains(finalizers, metav1.FinalizerOrphanDependents):
		return metav1.DeletePropagationOrphan
	case slices.Contains(finalizers, metav1.FinalizerDeleteDependents):
		return metav1.DeletePropagationForeground
	}
	return metav1.DeletePropagationBackground
}

// dependents are those of an object that name it from where it can be their owner.
func (c *Collector) dependents(s *subject) []dependent {
	var all []dependent
	c.graph.each(s.UID, func(d *dependent) bool {
		if c.names(d, s) {
			all = append(all, *d)
		}
		return true
	})
	return all
}

func (c *Collector) hasDependents(s *subject) bool {
	found := false
	c.graph.each(s.UID, func(d *dependent) bool {
		found = c.names(d, s)
		return !found
	})
	return found
}

func (c *Collector) names(d *dependent, s *subject) bool {
	return slices.ContainsFunc(d.owners, func(ref metav1.OwnerReference) bool {
		at, ok := c.place(d.key, ref)
		return ok && ref.UID == s.UID && at == s.Object
	})
}

// foreground lets an object go that waits for its dependents, when none of
// those that block it is left. They are looked at since it began to wait.
func (c *Collector) foreground(ctx context.Context, s *subject) error {
	blocked := false
	c.graph.each(s.UID, func(d *dependent) bool {
		blocked = blocks(d.owners, s.UID) && c.names(d, s)
		return !blocked
	})
	if blocked {
		return nil
	}
	return c.finish(ctx, s, metav1.FinalizerDeleteDependents)
}

// unblock breaks a circle: where an object that waits for its dependents is one
// of a dependent's, that waits too, it holds up nobody.
func (c *Collector) unblock(ctx context.Context, s *subject) error {
	if len(s.Owners) == 0 {
		return nil
	}
	waiting := map[types.UID]bool{}
	for _, d := range c.dependents(s) {
		if !d.waits {
			continue
		}
		at, ok := c.o.Catalog.Parse(d.key)
		if !ok {
			continue
		}
		other, err := c.get(ctx, at)
		if err != nil {
			return err
		}
		if other != nil {
			waiting[other.UID] = true
		}
	}
	changed := false
	refs := slices.Clone(s.Owners)
	for i, ref := range refs {
		if waiting[ref.UID] && blocks(refs[i:i+1], ref.UID) {
			no := false
			refs[i].BlockOwnerDeletion, changed = &no, true
		}
	}
	if !changed {
		return nil
	}
	return c.own(ctx, s, refs)
}

// orphan takes an object's UID from its dependents, and lets it go.
func (c *Collector) orphan(ctx context.Context, s *subject) error {
	for _, d := range c.dependents(s) {
		at, ok := c.o.Catalog.Parse(d.key)
		if !ok {
			continue
		}
		left, err := c.get(ctx, at)
		if err != nil {
			return err
		}
		if left == nil {
			continue
		}
		kept := slices.DeleteFunc(slices.Clone(left.Owners), func(ref metav1.OwnerReference) bool { return ref.UID == s.UID })
		if len(kept) == len(left.Owners) {
			continue
		}
		if err := c.own(ctx, left, kept); err != nil {
			return err
		}
	}
	return c.finish(ctx, s, metav1.FinalizerOrphanDependents)
}
