package apiserver

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	extensions "k8s.io/apiextensions-apiserver/pkg/apiserver"
	extensionsclient "k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset/typed/apiextensions/v1"
	listers "k8s.io/apiextensions-apiserver/pkg/client/listers/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/discovery"
	clientcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"

	"github.com/leat-dev/leat/apiserver/namespace"
)

// pollEvery is the time between two looks at what the server's own controllers
// bring about while it starts.
const pollEvery = 5 * time.Millisecond

// atOnce bounds the definitions that are written at the same time.
const atOnce = 8

// bootstrap makes what must exist and waits until all of it is served.
func (s *Server) bootstrap(ctx context.Context, g *generic) error {
	definitions, err := decodeCRDs(s.o.CRDs)
	if err != nil {
		return err
	}
	config := s.LoopbackConfig()
	crds, err := extensionsclient.NewForConfig(config)
	if err != nil {
		return err
	}
	core, err := clientcorev1.NewForConfig(config)
	if err != nil {
		return err
	}
	disco, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return err
	}
	work, workCtx := errgroup.WithContext(ctx)
	work.SetLimit(atOnce)
	for _, name := range s.o.Namespaces {
		work.Go(func() error {
			if err := ensureNamespace(workCtx, core.Namespaces(), name); err != nil {
				return err
			}
			// It is there when the server is ready: a first command may ask for its token.
			return namespace.EnsureAccount(workCtx, core.ServiceAccounts(name))
		})
	}
	for _, d := range definitions {
		work.Go(func() error { return ensureCRD(workCtx, crds.CustomResourceDefinitions(), d) })
	}
	if err := work.Wait(); err != nil {
		return err
	}
	lister := g.server.Informers.Apiextensions().V1().CustomResourceDefinitions().Lister()
	if err := await(ctx, func() error { return established(lister, definitions) }); err != nil {
		return err
	}
	if err := await(ctx, func() error { return discovered(ctx, disco.RESTClient(), definitions) }); err != nil {
		return err
	}
	if err := await(ctx, func() error { return healthy(ctx, disco.RESTClient()) }); err != nil {
		return err
	}
	return s.RegisterNode(ctx, s.o.Node)
}

// await asks until the answer is nil, and tells the last answer when ctx ends.
func await(ctx context.Context, ask func() error) error {
	var last error
	err := wait.PollUntilContextCancel(ctx, pollEvery, true, func(context.Context) (bool, error) {
		last = ask()
		return last == nil, nil
	})
	if err != nil {
		return errors.Join(err, last)
	}
	return nil
}

func decodeCRDs(all []*unstructured.Unstructured) ([]*apiextensionsv1.CustomResourceDefinition, error) {
	var out []*apiextensionsv1.CustomResourceDefinition
	for _, u := range all {
		d := &apiextensionsv1.CustomResourceDefinition{}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(u.Object, d, true); err != nil {
			return nil, fmt.Errorf("CustomResourceDefinition %s: %w", u.GetName(), err)
		}
		// As the server completes it: what it holds is compared with this.
		extensions.Scheme.Default(d)
		out = append(out, d)
	}
	return out, nil
}

func ensureNamespace(ctx context.Context, c clientcorev1.NamespaceInterface, name string) error {
	_, err := c.Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		_, err = c.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	}
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("make namespace %s: %w", name, err)
	}
	return nil
}

// ensureCRD makes a definition what it is in this version of Leat.
func ensureCRD(ctx context.Context, c extensionsclient.CustomResourceDefinitionInterface, want *apiextensionsv1.CustomResourceDefinition) error {
	for {
		have, err := c.Get(ctx, want.Name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
			_, err = c.Create(ctx, want, metav1.CreateOptions{})
		case err != nil:
		case equality.Semantic.DeepEqual(have.Spec, want.Spec) && contains(have.Labels, want.Labels) && contains(have.Annotations, want.Annotations):
			return nil
		default:
			have.Spec = want.Spec
			have.Labels, have.Annotations = merge(have.Labels, want.Labels), merge(have.Annotations, want.Annotations)
			_, err = c.Update(ctx, have, metav1.UpdateOptions{})
		}
		if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) {
			continue // its controllers write too
		}
		if err != nil {
			return fmt.Errorf("make CustomResourceDefinition %s: %w", want.Name, err)
		}
		return nil
	}
}

func contains(have, want map[string]string) bool {
	for k, v := range want {
		if got, ok := have[k]; !ok || got != v {
			return false
		}
	}
	return true
}

func merge(have, want map[string]string) map[string]string {
	if len(want) == 0 {
		return have
	}
	out := maps.Clone(have)
	if out == nil {
		out = map[string]string{}
	}
	maps.Copy(out, want)
	return out
}

// established says which definition is not served yet.
func established(lister listers.CustomResourceDefinitionLister, all []*apiextensionsv1.CustomResourceDefinition) error {
	for _, want := range all {
		d, err := lister.Get(want.Name)
		if err != nil {
			return err
		}
		ready := false
		for _, c := range d.Status.Conditions {
			if c.Status == apiextensionsv1.ConditionTrue && c.Type == apiextensionsv1.Established {
				ready = true
			}
			if c.Status == apiextensionsv1.ConditionFalse && c.Type == apiextensionsv1.NamesAccepted {
				return fmt.Errorf("CustomResourceDefinition %s: %s", d.Name, c.Message)
			}
		}
		if !ready {
			return fmt.Errorf("CustomResourceDefinition %s is not established", d.Name)
		}
	}
	return nil
}

// discovered says which resource clients would not find yet.
func discovered(ctx context.Context, c rest.Interface, all []*apiextensionsv1.CustomResourceDefinition) error {
	found := map[schema.GroupVersionResource]bool{}
	asked := map[schema.GroupVersion]bool{}
	for _, d := range all {
		for _, v := range d.Spec.Versions {
			gv := schema.GroupVersion{Group: d.Spec.Group, Version: v.Name}
			if !v.Served {
				continue
			}
			if !asked[gv] {
				asked[gv] = true
				var list metav1.APIResourceList
				// An early server asks to come back in some seconds: rather ask again.
				if err := c.Get().AbsPath("/apis", gv.String()).MaxRetries(0).Do(ctx).Into(&list); err != nil {
					return err
				}
				for _, r := range list.APIResources {
					found[gv.WithResource(r.Name)] = true
				}
			}
			if gvr := gv.WithResource(d.Spec.Names.Plural); !found[gvr] {
				return fmt.Errorf("%s is not served", gvr)
			}
		}
	}
	return nil
}

func healthy(ctx context.Context, c rest.Interface) error {
	body, err := c.Get().AbsPath("/readyz").MaxRetries(0).Do(ctx).Raw()
	if err != nil {
		return fmt.Errorf("%w: %s", err, body)
	}
	return nil
}
