package sources

import (
	"context"
	"fmt"
	"maps"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	duckv1 "github.com/leat-dev/leat/api/duck/v1"
	"github.com/leat-dev/leat/broker/controller"
	"github.com/leat-dev/leat/broker/status"
	"github.com/leat-dev/leat/channel"
)

// get is the object of this name, nil where there is none. It is shared.
func (c *Controller) get(k key) (*unstructured.Unstructured, error) {
	v, ok, err := c.informers[k.kind].GetStore().GetByKey(k.namespace + "/" + k.name)
	if err != nil || !ok {
		return nil, err
	}
	u, ok := v.(*unstructured.Unstructured)
	if !ok {
		return nil, fmt.Errorf("the cache has a %T for %v", v, k)
	}
	return u, nil
}

// reconcile makes a source what is asked for.
func (c *Controller) reconcile(ctx context.Context, k key) error {
	u, err := c.get(k)
	if err != nil {
		return err
	}
	uid := ""
	if u != nil {
		uid = string(u.GetUID())
	}
	if i := c.instance(k); i != nil && i.uid != uid {
		i.stop()
		c.setInstance(k, nil)
	}
	if c.instance(k) == nil {
		if err := c.dropOthers(ctx, k, uid); err != nil {
			return err
		}
	}
	if u == nil {
		c.sinks[k.kind].Forget(k.namespace, k.name)
		return nil
	}
	s, err := c.kinds[k.kind].Read(u)
	if err != nil {
		return fmt.Errorf("read %v: %w", k, err)
	}
	sink, unresolved := c.sinks[k.kind].Resolve(ctx, k.namespace, k.name, &s.Sink)
	to, taken := c.outlet(ctx, k, uid, sink, unresolved)
	problem := taken
	if s.Problem != nil {
		problem = s.Problem
	}
	if failed := c.employ(ctx, k, u, s, to); problem == nil && failed != nil {
		problem = failed
	}
	if err := c.writeStatus(ctx, k, u, s, sink, unresolved, problem); err != nil {
		return err
	}
	if taken != nil {
		return fmt.Errorf("the log of %v: %s", k, taken.Message)
	}
	return nil
}

// employ has an adapter run for an object where it can, and none where it
// cannot. The problem is why the adapter that runs does not work.
func (c *Controller) employ(ctx context.Context, k key, u *unstructured.Unstructured, s *Source, to channel.Channel) *status.Problem {
	uid, generation := string(u.GetUID()), u.GetGeneration()
	if s.Adapter == nil {
		to = nil
	}
	i := c.instance(k)
	if i.is(uid, generation, to) {
		return i.problem.Load()
	}
	i.stop()
	c.setInstance(k, nil)
	if to == nil || ctx.Err() != nil {
		return nil
	}
	i, err := begin(context.WithoutCancel(ctx), &c.o, uid, generation, s, to, func() { c.queue.Add(k) })
	if err != nil {
		return status.Problemf("NoPositions", "%v: choose another sink", err)
	}
	c.setInstance(k, i)
	return i.problem.Load()
}

// writeStatus writes an object's status, where it differs.
func (c *Controller) writeStatus(ctx context.Context, k key, u *unstructured.Unstructured, s *Source, sink controller.Sink, unresolved, problem *status.Problem) error {
	var was duckv1.SourceStatus
	if raw, ok := u.Object["status"].(map[string]any); ok {
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(raw, &was); err != nil {
			c.o.Logger.Warn("a status of another form is written anew", "object", k.String(), "error", err)
		}
	}
	is := *was.DeepCopy()
	conds := append(status.Conditions{}, s.Conditions...)
	conds.Check(conditionSinkProvided, unresolved.Of("sink"))
	switch {
	case problem != nil:
		conds.No(conditionDeployed, problem)
	case unresolved != nil:
		conds.Unknown(conditionDeployed, status.Problemf("SinkNotResolved", "it begins when the sink resolves"))
	default:
		conds.Yes(conditionDeployed)
	}
	c.pauses.Tell(&conds, string(u.GetUID()))
	is.SinkURI = sink.URL
	is.CEAttributes = s.Attributes
	if len(s.Notes) > 0 && is.Annotations == nil {
		is.Annotations = map[string]string{}
	}
	maps.Copy(is.Annotations, s.Notes)
	is.ObservedGeneration = u.GetGeneration()
	is.SetConditions(metav1.NewTime(c.o.Now().UTC().Truncate(time.Second)), conds...)
	raw, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&is)
	if err != nil {
		return fmt.Errorf("write the status of %v: %w", k, err)
	}
	now := u.DeepCopy()
	now.Object["status"] = raw
	kind := c.kinds[k.kind]
	_, err = status.Write(ctx, c.o.Client, kind.GroupVersionKind, kind.Resource, now, &was, &is)
	return err
}
