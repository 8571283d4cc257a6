package apiserver

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/admission"
)

// namespacePlugin keeps objects in namespaces that exist, and keeps the
// server's own namespaces.
type namespacePlugin struct {
	*admission.Handler
	immortal sets.Set[string]
	// get reads a namespace as it is now; it is set before the first request.
	get func(ctx context.Context, name string) (*corev1.Namespace, error)

	// revision is when a namespace was written last, 0 where it is not there; set
	// before the first request.
	revision func(name string) uint64

	mu sync.Mutex
	// entering counts the creations in progress by namespace.
	entering map[string]int
	// known are namespaces that were open when they were written last, at this
	// revision.
	known map[string]uint64
}

// mostKnown bounds the namespaces that are known to be open.
const mostKnown = 10_000

var _ admission.MutationInterface = &namespacePlugin{}

func newNamespacePlugin(immortal []string) *namespacePlugin {
	return &namespacePlugin{
		Handler:  admission.NewHandler(admission.Create, admission.Delete),
		immortal: sets.New(immortal...), entering: map[string]int{}, known: map[string]uint64{},
	}
}

// Admit implements admission.MutationInterface. It changes nothing, but a
// namespace that is missing is told before what is wrong with the object.
func (p *namespacePlugin) Admit(ctx context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	if a.GetKind().GroupKind() == (schema.GroupKind{Kind: "Namespace"}) {
		if a.GetOperation() == admission.Delete && p.immortal.Has(a.GetName()) {
			return apierrors.NewForbidden(a.GetResource().GroupResource(), a.GetName(), errImmortal)
		}
		return nil
	}
	if a.GetNamespace() == "" || a.GetOperation() != admission.Create || a.GetSubresource() != "" {
		return nil
	}
	// Counted before the look at the namespace: whoever sees that it is
	// Terminating, and then that nothing is on its way, has seen the last of it.
	p.enter(a.GetNamespace(), 1)
	leave := func() { p.enter(a.GetNamespace(), -1) }
	if err := p.open(ctx, a); err != nil {
		leave()
		return err
	}
	context.AfterFunc(ctx, leave) // a request's context ends with it
	return nil
}

// errImmortal is the reason for namespaces that the server makes at each start.
var errImmortal = errors.New("the server makes and needs this namespace; to empty it delete what is in it, " +
	"such as with: kubectl delete brokers,triggers,channels,subscriptions --all -n NAMESPACE")

// open refuses what would be created in a namespace that is not there, or that
// is on its way out.
func (p *namespacePlugin) open(ctx context.Context, a admission.Attributes) error {
	at := p.revision(a.GetNamespace())
	if p.isKnown(a.GetNamespace(), at) {
		return nil
	}
	ns, err := p.get(ctx, a.GetNamespace())
	if err != nil {
		return err // NotFound tells the namespace
	}
	if ns.DeletionTimestamp == nil && ns.Status.Phase != corev1.NamespaceTerminating {
		p.know(a.GetNamespace(), at)
		return nil
	}
	refused := apierrors.NewForbidden(a.GetResource().GroupResource(), a.GetName(),
		fmt.Errorf("unable to create new content in namespace %s because it is being terminated", a.GetNamespace()))
	refused.ErrStatus.Details.Causes = append(refused.ErrStatus.Details.Causes, metav1.StatusCause{
		Type: corev1.NamespaceTerminatingCause, Field: "metadata.namespace",
		Message: fmt.Sprintf("namespace %s is being terminated", a.GetNamespace()),
	})
	return refused
}

// isKnown says whether a namespace is open for all that is known of its last write.
func (p *namespacePlugin) isKnown(namespace string, at uint64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return at != 0 && p.known[namespace] == at
}

// know keeps that a namespace was open at the revision that was looked up before.
// It is never open again after it was not, but as another, written later.
func (p *namespacePlugin) know(namespace string, at uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.known) >= mostKnown {
		clear(p.known)
	}
	p.known[namespace] = at
}

func (p *namespacePlugin) enter(namespace string, n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.entering[namespace] += n; p.entering[namespace] == 0 {
		delete(p.entering, namespace)
	}
}

// busy says whether a creation in a namespace is in progress.
func (p *namespacePlugin) busy(namespace string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.entering[namespace] > 0
}

// noServices answers CustomResourceDefinitions whose conversion webhook is a
// Service: nothing routes to it here, but for the one that is no Service.
type noServices struct{}

func (noServices) ResolveEndpoint(namespace, name string, _ int32) (*url.URL, error) {
	if namespace == conversionNamespace && name == conversionService {
		return &url.URL{Scheme: "https", Host: name + "." + namespace + ".svc"}, nil // nobody dials it
	}
	return nil, fmt.Errorf("service %s/%s cannot be called as a webhook: give its url", namespace, name)
}
