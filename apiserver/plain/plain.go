// Package plain answers two kinds of request that come by the thousand when many
// objects are applied: a look for an object that is not there, and the creation
// of one. The libraries' handlers do that for any definition in any form, in a
// dozen passes over the object; here it is done for the server's own kinds, in
// plain JSON, where it is beyond doubt what they would answer. Whatever else
// comes is left to them as it came, errors above all: they say what is wrong.
package plain

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"sync/atomic"
	"time"

	"k8s.io/apiextensions-apiserver/pkg/apihelpers"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	extensions "k8s.io/apiextensions-apiserver/pkg/apiserver"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/endpoints/handlers/responsewriters"
	"k8s.io/apiserver/pkg/endpoints/metrics"
	"k8s.io/apiserver/pkg/endpoints/request"

	"github.com/leat-dev/leat/apiserver/direct"
	"github.com/leat-dev/leat/apiserver/fields"
	"github.com/leat-dev/leat/apiserver/storage"
)

// Options are what a Handler is made of; all must be set.
type Options struct {
	// Definition gives the definition of a resource, nil where there is none.
	Definition func(schema.GroupResource) *apiextensionsv1.CustomResourceDefinition
	Stores     *direct.Stores
	// Own says whether the server's own admission knows all of a kind.
	Own func(schema.GroupKind) bool
	// Admission is asked as the libraries' handlers ask it.
	Admission admission.Interface
	Now       func() time.Time
	// Timeout bounds a creation, MaxRequestBytes its body.
	Timeout         time.Duration
	MaxRequestBytes int64
}

// Handler answers what it can, and leaves the rest to others. A nil Handler
// answers nothing.
type Handler struct {
	o       Options
	schemas fields.Cache
	// answered are the requests that were not left to others.
	answered atomic.Int64
}

// New makes a Handler. It is asked behind what authenticates and authorizes.
func New(o Options) *Handler { return &Handler{o: o} }

// Answered is how many requests were answered here.
func (h *Handler) Answered() int64 { return h.answered.Load() }

// Looks says of a request whose RequestInfo is known whether it looks like one
// that is answered here. It looks alike before it is authenticated and after.
func (h *Handler) Looks(r *http.Request) bool {
	if h == nil {
		return false
	}
	info, ok := request.RequestInfoFrom(r.Context())
	return ok && info.IsResourceRequest && info.APIPrefix == "apis" && info.Namespace != "" && info.Subresource == "" &&
		(info.Verb == "get" || info.Verb == "create") && plainJSON(r)
}

// Answer says whether a request that looks like it was answered; one that was not
// is as it came. It takes no longer than the request's context lasts, for which
// the writer must know how to set a deadline to reading the body.
func (h *Handler) Answer(w http.ResponseWriter, r *http.Request) bool {
	info, ok := request.RequestInfoFrom(r.Context())
	if !ok || !h.answer(w, r, info) {
		return false
	}
	h.answered.Add(1)
	return true
}

// answer says whether a request was answered.
func (h *Handler) answer(w http.ResponseWriter, r *http.Request, info *request.RequestInfo) bool {
	switch info.Verb {
	case "get":
		return h.missing(w, r, info)
	case "create":
		return h.create(w, r, info)
	}
	return false
}

// plainJSON says whether the answer is to be JSON of the object itself.
func plainJSON(r *http.Request) bool {
	accept := r.Header["Accept"]
	if len(accept) != 1 || accept[0] != "application/json" && accept[0] != "application/json, */*" {
		return false
	}
	// Whoever sits before a browser or uses curl gets it in lines.
	return !apparentlyHuman(r.UserAgent())
}

// target is a resource as it is served at present.
type target struct {
	schema.GroupVersionResource
	kind   string
	store  *storage.Store
	schema *fields.Schema
	// stores: it is the version that objects are stored in.
	stores bool
}

// target is nil where the resource is not one of those that are known here, or is
// not served as ever.
func (h *Handler) target(info *request.RequestInfo) *target {
	gvr := schema.GroupVersionResource{Group: info.APIGroup, Version: info.APIVersion, Resource: info.Resource}
	crd := h.o.Definition(gvr.GroupResource())
	if crd == nil || crd.Spec.Scope != apiextensionsv1.NamespaceScoped || crd.DeletionTimestamp != nil || crd.Spec.PreserveUnknownFields ||
		crd.Status.AcceptedNames.Kind != crd.Spec.Names.Kind || crd.Status.AcceptedNames.Plural != gvr.Resource ||
		!h.o.Own(schema.GroupKind{Group: gvr.Group, Kind: crd.Spec.Names.Kind}) || !h.settled(crd) {
		return nil
	}
	t := &target{GroupVersionResource: gvr, kind: crd.Spec.Names.Kind, store: h.o.Stores.Get(gvr), schema: h.schemas.Of(crd, gvr.Version)}
	if t.store == nil || t.schema == nil {
		return nil
	}
	for i := range crd.Spec.Versions {
		if v := &crd.Spec.Versions[i]; v.Name == gvr.Version {
			t.stores = v.Storage
			if v.Served && !v.Deprecated {
				return t
			}
		}
	}
	return nil
}

// justMade is for how long the handlers let requests wait after a definition was
// made.
const justMade = 2 * time.Second

// settled says whether a definition is served, was for a while, and is to be.
func (h *Handler) settled(crd *apiextensionsv1.CustomResourceDefinition) bool {
	established := apihelpers.FindCRDCondition(crd, apiextensionsv1.Established)
	return established != nil && established.Status == apiextensionsv1.ConditionTrue &&
		apihelpers.IsCRDConditionTrue(crd, apiextensionsv1.NamesAccepted) &&
		!apihelpers.IsCRDConditionTrue(crd, apiextensionsv1.Terminating) &&
		time.Since(established.LastTransitionTime.Time) > justMade
}

// missing answers that an object is not there.
func (h *Handler) missing(w http.ResponseWriter, r *http.Request, info *request.RequestInfo) bool {
	if r.URL.RawQuery != "" || len(validation.IsDNS1123Subdomain(info.Name)) > 0 {
		return false
	}
	t := h.target(info)
	if t == nil {
		return false
	}
	began := time.Now()
	if there, err := t.store.Has(info.Namespace, info.Name); there || err != nil {
		return false
	}
	status := apierrors.NewNotFound(t.GroupResource(), info.Name).ErrStatus
	status.APIVersion, status.Kind = "v1", "Status"
	var answer bytes.Buffer
	if err := json.NewEncoder(&answer).Encode(status); err != nil {
		return false
	}
	write(w, r, info, http.StatusNotFound, answer.Bytes(), began)
	return true
}

// write answers with JSON.
func write(w http.ResponseWriter, r *http.Request, info *request.RequestInfo, code int, answer []byte, began time.Time) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	w.Write(answer) // whether the client is still there or not
	count(r, info, code, len(answer), time.Since(began))
}

func (t *target) fail(w http.ResponseWriter, r *http.Request, err error) int {
	return responsewriters.ErrorNegotiated(err, extensions.Codecs, t.GroupVersion(), w, r)
}

// count has a request appear in the metrics.
func count(r *http.Request, info *request.RequestInfo, code, size int, took time.Duration) {
	metrics.MonitorRequest(r, verbOf(info), info.APIGroup, info.APIVersion, info.Resource, "", metrics.CleanScope(info), metrics.APIServerComponent, false, "", code, size, took)
}

func verbOf(info *request.RequestInfo) string {
	if info.Verb == "create" {
		return "CREATE"
	}
	return "GET"
}

// errDoubt: it is not beyond doubt what is to be done.
var errDoubt = errors.New("left to the libraries' handler")
