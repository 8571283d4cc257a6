package core

import (
	"context"
	"fmt"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/registry/rest"
)

// review is a kind that is a question: what is created is answered, and not
// stored.
type review struct {
	gv               schema.GroupVersion
	plural, singular string
	namespaced       bool
	new              func() runtime.Object
	// answer fills the object's status.
	answer func(ctx context.Context, obj runtime.Object) error
}

var (
	_ rest.Creater              = &review{}
	_ rest.Scoper               = &review{}
	_ rest.SingularNameProvider = &review{}
)

// ask makes a review's answer from one to objects of a type.
func ask[T any, P object[T]](f func(context.Context, P) error) func(context.Context, runtime.Object) error {
	return func(ctx context.Context, obj runtime.Object) error { return f(ctx, obj.(P)) }
}

// reviews are the questions that are answered.
func reviews(a Access) []*review {
	return []*review{
		{
			gv: authenticationv1.SchemeGroupVersion, plural: "tokenreviews", singular: "tokenreview",
			new: maker[authenticationv1.TokenReview](), answer: ask(a.reviewToken),
		}, {
			gv: authenticationv1.SchemeGroupVersion, plural: "selfsubjectreviews", singular: "selfsubjectreview",
			new: maker[authenticationv1.SelfSubjectReview](), answer: ask(reviewSelf),
		}, {
			gv: authorizationv1.SchemeGroupVersion, plural: "subjectaccessreviews", singular: "subjectaccessreview",
			new: maker[authorizationv1.SubjectAccessReview](), answer: ask(a.reviewAccess),
		}, {
			gv: authorizationv1.SchemeGroupVersion, plural: "localsubjectaccessreviews", singular: "localsubjectaccessreview", namespaced: true,
			new: maker[authorizationv1.LocalSubjectAccessReview](), answer: ask(a.reviewLocalAccess),
		}, {
			gv: authorizationv1.SchemeGroupVersion, plural: "selfsubjectaccessreviews", singular: "selfsubjectaccessreview",
			new: maker[authorizationv1.SelfSubjectAccessReview](), answer: ask(a.reviewOwnAccess),
		}, {
			gv: authorizationv1.SchemeGroupVersion, plural: "selfsubjectrulesreviews", singular: "selfsubjectrulesreview",
			new: maker[authorizationv1.SelfSubjectRulesReview](), answer: ask(a.reviewOwnRules),
		},
	}
}

// New implements rest.Storage.
func (r *review) New() runtime.Object { return r.new() }

// Destroy implements rest.Storage.
func (r *review) Destroy() {}

// NamespaceScoped implements rest.Scoper.
func (r *review) NamespaceScoped() bool { return r.namespaced }

// GetSingularName implements rest.SingularNameProvider.
func (r *review) GetSingularName() string { return r.singular }

// Create implements rest.Creater.
func (r *review) Create(ctx context.Context, obj runtime.Object, admit rest.ValidateObjectFunc, _ *metav1.CreateOptions) (runtime.Object, error) {
	if admit != nil {
		if err := admit(ctx, obj.DeepCopyObject()); err != nil {
			return nil, err
		}
	}
	if err := r.answer(ctx, obj); err != nil {
		return nil, err
	}
	return obj, nil
}

// tokenRequests are the token subresource of ServiceAccounts.
type tokenRequests struct {
	accounts *store
	issue    func(*corev1.ServiceAccount, *authenticationv1.TokenRequest) error
}

var (
	_ rest.NamedCreater             = &tokenRequests{}
	_ rest.GroupVersionKindProvider = &tokenRequests{}
)

// New implements rest.Storage.
func (t *tokenRequests) New() runtime.Object { return &authenticationv1.TokenRequest{} }

// Destroy implements rest.Storage; the store of the accounts is destroyed by itself.
func (t *tokenRequests) Destroy() {}

// GroupVersionKind implements rest.GroupVersionKindProvider.
func (t *tokenRequests) GroupVersionKind(schema.GroupVersion) schema.GroupVersionKind {
	return authenticationv1.SchemeGroupVersion.WithKind("TokenRequest")
}

// Create implements rest.NamedCreater.
func (t *tokenRequests) Create(ctx context.Context, name string, obj runtime.Object, admit rest.ValidateObjectFunc, o *metav1.CreateOptions) (runtime.Object, error) {
	request, ok := obj.(*authenticationv1.TokenRequest)
	if !ok {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("a TokenRequest is needed, not a %T", obj))
	}
	if admit != nil {
		if err := admit(ctx, obj.DeepCopyObject()); err != nil {
			return nil, err
		}
	}
	got, err := t.accounts.Get(ctx, name, &metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	account := got.(*corev1.ServiceAccount)
	request.Name, request.Namespace, request.CreationTimestamp = account.Name, account.Namespace, metav1.Now()
	if err := t.issue(account, request); err != nil {
		return nil, err
	}
	if len(o.DryRun) > 0 { // it was checked, and is given to nobody
		request.Status = authenticationv1.TokenRequestStatus{}
	}
	return request, nil
}
