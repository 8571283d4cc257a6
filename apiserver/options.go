// Package apiserver is the embedded Kubernetes API: the kinds of our
// CustomResourceDefinitions and the core kinds, served by k8s.io's own
// libraries from the replicated key-value state. kubectl and client-go work
// with it as with any cluster.
package apiserver

import (
	"errors"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apiserver/pkg/admission"

	"github.com/leat-dev/leat/raftlog"
	"github.com/leat-dev/leat/raftlog/kv"
)

// Options configure a Server. KV, Listener and KeysDir must be set; other zero
// values mean the defaults.
type Options struct {
	KV *kv.Store
	// Listener takes the API's connections; HTTPS is spoken on it. Run closes it.
	Listener net.Listener
	// KeysDir holds the certificate authority. It is made when absent, and
	// readable by its owner only. Deleting the authority there revokes every
	// credential; the next start makes another.
	KeysDir string
	// Kubeconfig is a file that Run writes, with the admin's credentials, before
	// the server is ready. Empty: none.
	Kubeconfig string
	// Hosts are names and addresses that the server's certificate is also for,
	// beside localhost, the loopback addresses, the machine's name and the
	// addresses that the listener is bound to.
	Hosts []string
	// Version is Leat's, shown by /version and on the node.
	Version string

	// CRDs are kept as given here, over restarts and upgrades.
	CRDs []*unstructured.Unstructured
	// Kinds defaults and validates objects in process; may be nil.
	Kinds KindAdmission
	// Convert converts the objects of definitions whose conversion webhook is the
	// Service leat-system/leat-conversion; nil: none.
	Convert ConvertFunc
	// Admission are further plugins, asked after all others.
	Admission []admission.Interface
	// Namespaces exist from the start and cannot be deleted: default,
	// kube-system and leat-system.
	Namespaces []string
	// Permanent are objects that cannot be deleted.
	Permanent []Permanent
	// Node is this member, shown by "kubectl get nodes"; without a name: none.
	Node Node
	// Handlers serve other paths behind the same authentication, by prefix, such
	// as "/leat/v1/". A request to one may take as long as it likes; its context
	// ends when the server stops.
	Handlers map[string]http.Handler
	// NotReady says why requests cannot be served now, for /readyz; nil: it is
	// not asked. It must return at once.
	NotReady func() error
	// Documents describe handlers, by the same prefix, in OpenAPI 3.0.
	Documents map[string][]byte

	// MaxRequests and MaxMutatingRequests bound the reads and writes in progress;
	// more are answered with 429. Watches do not count. 400 and 200.
	MaxRequests, MaxMutatingRequests int
	// MaxRequestBytes bounds a request's body; 3 MiB. What is stored has a bound
	// of its own, kv.Options.MaxValueBytes.
	MaxRequestBytes int64
	// RequestTimeout bounds a request that is no watch; 1 min.
	RequestTimeout time.Duration
	// WatchTimeout is how long a watch lasts at least, for which its client sets
	// no time; 30 min.
	WatchTimeout time.Duration
	// StartTimeout bounds the way to Ready, ShutdownTimeout the end of requests
	// in progress. 1 min; 10 s.
	StartTimeout, ShutdownTimeout time.Duration
	// EventTTL is how long an Event is kept after its last write; 1 hour.
	EventTTL time.Duration
	// DeleteWorkers delete objects at the same time, of a collection, or whose
	// owners are gone; 16.
	DeleteWorkers int
	// DeleteRetryFrom and DeleteRetryTo bound the wait before an object whose
	// owners are gone is tried again; 10 ms to 1 min.
	DeleteRetryFrom, DeleteRetryTo time.Duration
	// NamespaceWorkers end namespaces at the same time, and NamespaceRetryFrom
	// and NamespaceRetryTo bound the wait before one that could not go is looked
	// at again; 4, 20 ms to 30 s.
	NamespaceWorkers                     int
	NamespaceRetryFrom, NamespaceRetryTo time.Duration
	// MaxTokenLife is the longest that a ServiceAccount's token lasts, and
	// TokenCache how many are remembered as checked. One year; 4,096.
	MaxTokenLife time.Duration
	TokenCache   int
	// DefaultTokenLife, MinTokenLife and TokenSkew are as package tokens has
	// them: 1 h, 10 min, 1 min.
	DefaultTokenLife, MinTokenLife, TokenSkew time.Duration
	// SharedBytes bounds what is kept decoded of the latest writes to one kind, for
	// all who watch it, by its size as stored; 2 MiB.
	SharedBytes int64
	// Gather has the server's own controllers take many writes together.
	Gather kv.Gather
	// NoShortcuts leaves all requests to the libraries' handlers, to compare with.
	NoShortcuts bool

	Clock  raftlog.Clock
	Logger *slog.Logger
}

func (o Options) withDefaults() (Options, error) {
	if o.KV == nil || o.Listener == nil || o.KeysDir == "" {
		return o, errors.New("apiserver: KV, Listener and KeysDir must be set")
	}
	if len(o.Namespaces) == 0 {
		o.Namespaces = []string{"default", "kube-system", "leat-system"}
	}
	o.Namespaces = slices.Clone(o.Namespaces)
	if o.Clock == nil {
		o.Clock = raftlog.SystemClock{}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	setDefault(&o.MaxRequests, 400)
	setDefault(&o.MaxMutatingRequests, 200)
	setDefault(&o.MaxRequestBytes, 3<<20)
	setDefault(&o.RequestTimeout, time.Minute)
	setDefault(&o.WatchTimeout, 30*time.Minute)
	setDefault(&o.StartTimeout, time.Minute)
	setDefault(&o.ShutdownTimeout, 10*time.Second)
	setDefault(&o.EventTTL, time.Hour)
	setDefault(&o.DeleteWorkers, 16)
	return o, nil
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}
