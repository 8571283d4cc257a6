package plain

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	apistorage "k8s.io/apiserver/pkg/storage"
	storeerrors "k8s.io/apiserver/pkg/storage/errors"
	"k8s.io/apiserver/pkg/warning"
	strictjson "sigs.k8s.io/json"
)

// maxBody is what an object may have; larger ones, whose answers may be compressed,
// are few.
const maxBody = 64 << 10

// create creates an object that has nothing but what the server's own kinds
// describe.
func (h *Handler) create(w http.ResponseWriter, r *http.Request, info *request.RequestInfo) bool {
	options, ok := createOptions(r)
	if !ok || info.Name != "" {
		return false
	}
	t := h.target(info)
	if t == nil || !t.stores {
		return false
	}
	began := time.Now()
	body, ok := readAgain(w, r, min(maxBody, h.o.MaxRequestBytes))
	if !ok {
		return false
	}
	ctx, cancel := context.WithTimeout(request.WithNamespace(r.Context(), info.Namespace), h.o.Timeout)
	defer cancel()
	var told warnings
	u, err := h.prepare(warning.WithWarningRecorder(ctx, &told), t, info.Namespace, body, options)
	if err != nil {
		return false
	}
	stored, err := t.store.Add(ctx, info.Namespace, u.GetName(), u)
	if apistorage.IsExist(err) || apierrors.IsRequestEntityTooLargeError(err) {
		return false // nothing was stored
	}
	if ctx.Err() != nil && err != nil {
		err = apierrors.NewTimeoutError(fmt.Sprintf("request did not complete within requested timeout - %s", ctx.Err()), 0)
	}
	if err != nil {
		code := t.fail(w, r, storeerrors.InterpretCreateError(err, t.GroupResource(), u.GetName()))
		count(r, info, code, 0, time.Since(began))
		return true
	}
	told.pass(r.Context())
	write(w, r, info, http.StatusCreated, stored, began)
	return true
}

// warnings are told when the object was created: else it is looked at once more,
// by others, who have the same to say.
type warnings []struct{ agent, text string }

// AddWarning implements warning.Recorder.
func (w *warnings) AddWarning(agent, text string) {
	*w = append(*w, struct{ agent, text string }{agent, text})
}

func (w warnings) pass(ctx context.Context) {
	for _, one := range w {
		warning.AddWarning(ctx, one.agent, one.text)
	}
}

// createOptions are those of a request; false where there are others than these.
func createOptions(r *http.Request) (*metav1.CreateOptions, bool) {
	if c := r.Header["Content-Type"]; len(c) != 1 || c[0] != "application/json" || r.Header["Content-Encoding"] != nil {
		return nil, false
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, false
	}
	o := &metav1.CreateOptions{TypeMeta: metav1.TypeMeta{APIVersion: "meta.k8s.io/v1", Kind: "CreateOptions"}}
	for name, values := range query {
		if len(values) != 1 {
			return nil, false
		}
		switch name {
		case "fieldManager":
			o.FieldManager = values[0]
		case "fieldValidation":
			o.FieldValidation = values[0]
		default:
			return nil, false
		}
	}
	switch o.FieldValidation {
	case "", metav1.FieldValidationStrict, metav1.FieldValidationWarn, metav1.FieldValidationIgnore:
	default:
		return nil, false
	}
	if o.FieldManager == "" {
		o.FieldManager, _, _ = strings.Cut(r.UserAgent(), "/")
	}
	return o, printable(o.FieldManager) // what is not is refused, or made so
}

func printable(name string) bool {
	for _, c := range name {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return name != "" && len(name) <= metavalidation.FieldManagerMaxLength
}

// apparentlyHuman says whether a program shows to somebody what it gets.
func apparentlyHuman(agent string) bool {
	return strings.HasPrefix(agent, "curl") || strings.HasPrefix(agent, "Wget") || strings.HasPrefix(agent, "Mozilla/5.0")
}

// readAgain reads a body, and leaves it to be read once more; false where it is
// not there, or large, or does not come before the request's context ends.
func readAgain(w http.ResponseWriter, r *http.Request, most int64) ([]byte, bool) {
	if r.ContentLength <= 0 || r.ContentLength > most {
		return nil, false
	}
	late := make(chan struct{})
	stop := context.AfterFunc(r.Context(), func() {
		defer close(late)
		_ = http.NewResponseController(w).SetReadDeadline(time.Now()) // has what is read below end
	})
	b := make([]byte, r.ContentLength)
	n, err := io.ReadFull(r.Body, b)
	if !stop() {
		<-late // the writer must not be used when the request is over
	}
	r.Body = again{io.MultiReader(bytes.NewReader(b[:n]), r.Body), r.Body}
	return b, err == nil
}

type again struct {
	io.Reader
	io.Closer
}

// prepare makes of a body the object that is to be stored, as the libraries'
// handler does, and checks it. Any error means that it is to be asked instead.
func (h *Handler) prepare(ctx context.Context, t *target, namespace string, body []byte, o *metav1.CreateOptions) (*unstructured.Unstructured, error) {
	u, err := t.decode(namespace, body)
	if err != nil {
		return nil, err
	}
	managed, err := t.managed(u, o.FieldManager, h.o.Now())
	if err != nil {
		return nil, err
	}
	u.Object["metadata"].(map[string]any)["managedFields"] = managed
	u.SetNamespace(namespace)
	user, _ := request.UserFrom(ctx)
	a := admission.NewAttributesRecord(u, nil, t.GroupVersion().WithKind(t.kind), namespace, u.GetName(), t.GroupVersionResource, "", admission.Create, o, false, user)
	if m, ok := h.o.Admission.(admission.MutationInterface); ok && m.Handles(admission.Create) {
		if err := m.Admit(ctx, a, nil); err != nil {
			return nil, err
		}
	}
	rest.FillObjectMetaSystemFields(u)
	u.SetGeneration(1)
	if !t.valid(u) {
		return nil, errDoubt
	}
	if v, ok := h.o.Admission.(admission.ValidationInterface); ok && v.Handles(admission.Create) {
		if err := v.Validate(ctx, a, nil); err != nil {
			return nil, err
		}
	}
	return u, nil
}

// decode reads an object in which nothing is unknown, given twice, or the server's
// to say.
func (t *target) decode(namespace string, body []byte) (*unstructured.Unstructured, error) {
	var object map[string]any
	if odd, err := strictjson.UnmarshalStrict(body, &object); err != nil || len(odd) > 0 {
		return nil, errDoubt
	}
	metadata, ok := object["metadata"].(map[string]any)
	if !ok || object["apiVersion"] != t.GroupVersion().String() || object["kind"] != t.kind || object["spec"] == nil {
		return nil, errDoubt
	}
	if ns, ok := metadata["namespace"]; ok && ns != namespace {
		return nil, errDoubt
	}
	for field, v := range metadata {
		switch field {
		case "name", "namespace":
			_, ok = v.(string)
		case "labels", "annotations":
			ok = texts(v)
		default:
			ok = false
		}
		if !ok {
			return nil, errDoubt
		}
	}
	if !t.schema.AllowsNew(object) {
		return nil, errDoubt
	}
	return &unstructured.Unstructured{Object: object}, nil
}

// texts says whether a value is some texts by name.
func texts(v any) bool {
	m, ok := v.(map[string]any)
	for _, item := range m {
		if _, is := item.(string); !is {
			return false
		}
	}
	return ok && len(m) > 0
}

// managed are the managedFields of an object that somebody has made.
func (t *target) managed(u *unstructured.Unstructured, manager string, now time.Time) ([]any, error) {
	spec, err := t.schema.Property("spec").Owned(u.Object["spec"])
	if err != nil {
		return nil, err
	}
	owned := map[string]any{"f:spec": spec}
	metadata := map[string]any{}
	for _, field := range []string{"labels", "annotations"} {
		all, ok := u.Object["metadata"].(map[string]any)[field].(map[string]any)
		if !ok {
			continue
		}
		of := map[string]any{".": map[string]any{}}
		for name := range all {
			of["f:"+name] = map[string]any{}
		}
		metadata["f:"+field] = of
	}
	if len(metadata) > 0 {
		owned["f:metadata"] = metadata
	}
	return []any{map[string]any{
		"manager": manager, "operation": string(metav1.ManagedFieldsOperationUpdate), "apiVersion": t.GroupVersion().String(),
		"time": now.UTC().Format(time.RFC3339), "fieldsType": "FieldsV1", "fieldsV1": owned,
	}}, nil
}

// valid says whether an object can be stored: what the handlers check of all.
func (t *target) valid(u *unstructured.Unstructured) bool {
	if !t.schema.AllowsNew(u.Object) || len(validation.IsDNS1123Subdomain(u.GetName())) > 0 {
		return false
	}
	return len(metavalidation.ValidateLabels(u.GetLabels(), nil)) == 0 && len(apivalidation.ValidateAnnotations(u.GetAnnotations(), nil)) == 0
}
