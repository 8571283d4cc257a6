package core

import (
	"context"
	"errors"
	"maps"
	"slices"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/request"
)

// Access answers who somebody is, and what they may do.
type Access struct {
	Tokens     authenticator.Token
	Audiences  authenticator.Audiences
	Authorizer authorizer.Authorizer
	Rules      authorizer.RuleResolver
}

func (a Access) reviewToken(ctx context.Context, r *authenticationv1.TokenReview) error {
	if r.Spec.Token == "" {
		return apierrors.NewBadRequest("token is required for TokenReview in authentication")
	}
	audiences := authenticator.Audiences(r.Spec.Audiences)
	if len(audiences) == 0 {
		audiences = a.Audiences
	}
	resp, ok, err := a.Tokens.AuthenticateToken(authenticator.WithAudiences(ctx, audiences), r.Spec.Token)
	r.Status = authenticationv1.TokenReviewStatus{Authenticated: ok}
	if err != nil {
		r.Status.Error = err.Error()
	}
	if ok {
		r.Status.User, r.Status.Audiences = userInfo(resp.User), resp.Audiences
	}
	return nil
}

func reviewSelf(ctx context.Context, r *authenticationv1.SelfSubjectReview) error {
	u, err := self(ctx)
	if err != nil {
		return err
	}
	r.Status.UserInfo = userInfo(u)
	return nil
}

func self(ctx context.Context) (user.Info, error) {
	u, ok := request.UserFrom(ctx)
	if !ok {
		return nil, apierrors.NewBadRequest("no user is known for this request")
	}
	return u, nil
}

func userInfo(u user.Info) authenticationv1.UserInfo {
	info := authenticationv1.UserInfo{Username: u.GetName(), UID: u.GetUID(), Groups: u.GetGroups()}
	for key, values := range u.GetExtra() {
		if info.Extra == nil {
			info.Extra = map[string]authenticationv1.ExtraValue{}
		}
		info.Extra[key] = values
	}
	return info
}

func (a Access) reviewAccess(ctx context.Context, r *authorizationv1.SubjectAccessReview) error {
	if errs := validateAccess(&r.Spec, field.NewPath("spec")); len(errs) > 0 {
		return apierrors.NewInvalid(authorizationv1.SchemeGroupVersion.WithKind("SubjectAccessReview").GroupKind(), "", errs)
	}
	r.Status = a.decide(ctx, subject(&r.Spec), r.Spec.ResourceAttributes, r.Spec.NonResourceAttributes)
	return nil
}

func (a Access) reviewLocalAccess(ctx context.Context, r *authorizationv1.LocalSubjectAccessReview) error {
	path := field.NewPath("spec")
	errs := validateAccess(&r.Spec, path)
	switch attributes := r.Spec.ResourceAttributes; {
	case attributes == nil:
		errs = append(errs, field.Required(path.Child("resourceAttributes"), "a review in a namespace is of a resource"))
	case attributes.Namespace != r.Namespace:
		errs = append(errs, field.Invalid(path.Child("resourceAttributes", "namespace"), attributes.Namespace, "must match metadata.namespace"))
	}
	if len(errs) > 0 {
		return apierrors.NewInvalid(authorizationv1.SchemeGroupVersion.WithKind("LocalSubjectAccessReview").GroupKind(), "", errs)
	}
	r.Status = a.decide(ctx, subject(&r.Spec), r.Spec.ResourceAttributes, nil)
	return nil
}

func (a Access) reviewOwnAccess(ctx context.Context, r *authorizationv1.SelfSubjectAccessReview) error {
	if errs := validateOne(r.Spec.ResourceAttributes, r.Spec.NonResourceAttributes, field.NewPath("spec")); len(errs) > 0 {
		return apierrors.NewInvalid(authorizationv1.SchemeGroupVersion.WithKind("SelfSubjectAccessReview").GroupKind(), "", errs)
	}
	u, err := self(ctx)
	if err != nil {
		return err
	}
	r.Status = a.decide(ctx, u, r.Spec.ResourceAttributes, r.Spec.NonResourceAttributes)
	return nil
}

func (a Access) reviewOwnRules(ctx context.Context, r *authorizationv1.SelfSubjectRulesReview) error {
	if r.Spec.Namespace == "" {
		return apierrors.NewBadRequest("no namespace on request: set spec.namespace")
	}
	u, err := self(ctx)
	if err != nil {
		return err
	}
	resources, others, incomplete, err := a.Rules.RulesFor(ctx, u, r.Spec.Namespace)
	r.Status = authorizationv1.SubjectRulesReviewStatus{
		ResourceRules: []authorizationv1.ResourceRule{}, NonResourceRules: []authorizationv1.NonResourceRule{}, Incomplete: incomplete,
	}
	if err != nil {
		r.Status.EvaluationError = err.Error()
	}
	for _, rule := range resources {
		r.Status.ResourceRules = append(r.Status.ResourceRules, authorizationv1.ResourceRule{
			Verbs: rule.GetVerbs(), APIGroups: rule.GetAPIGroups(), Resources: rule.GetResources(), ResourceNames: rule.GetResourceNames(),
		})
	}
	for _, rule := range others {
		r.Status.NonResourceRules = append(r.Status.NonResourceRules, authorizationv1.NonResourceRule{Verbs: rule.GetVerbs(), NonResourceURLs: rule.GetNonResourceURLs()})
	}
	return nil
}

func validateAccess(spec *authorizationv1.SubjectAccessReviewSpec, path *field.Path) field.ErrorList {
	errs := validateOne(spec.ResourceAttributes, spec.NonResourceAttributes, path)
	if spec.User == "" && len(spec.Groups) == 0 {
		errs = append(errs, field.Invalid(path.Child("user"), spec.User, "at least one of user or group must be specified"))
	}
	return errs
}

// validateOne sees to it that one thing is asked for.
func validateOne(r *authorizationv1.ResourceAttributes, n *authorizationv1.NonResourceAttributes, path *field.Path) field.ErrorList {
	switch {
	case r != nil && n != nil:
		return field.ErrorList{field.Invalid(path.Child("nonResourceAttributes"), n.Path, "cannot be specified in combination with resourceAttributes")}
	case r == nil && n == nil:
		return field.ErrorList{field.Required(path.Child("resourceAttributes"), "exactly one of nonResourceAttributes or resourceAttributes must be specified")}
	}
	return nil
}

func subject(spec *authorizationv1.SubjectAccessReviewSpec) user.Info {
	u := &user.DefaultInfo{Name: spec.User, UID: spec.UID, Groups: spec.Groups}
	for _, key := range slices.Sorted(maps.Keys(spec.Extra)) {
		if u.Extra == nil {
			u.Extra = map[string][]string{}
		}
		u.Extra[key] = spec.Extra[key]
	}
	return u
}

func (a Access) decide(ctx context.Context, u user.Info, r *authorizationv1.ResourceAttributes, n *authorizationv1.NonResourceAttributes) authorizationv1.SubjectAccessReviewStatus {
	attributes := authorizer.AttributesRecord{User: u}
	if r != nil {
		attributes.ResourceRequest = true
		attributes.Verb, attributes.Namespace, attributes.Name = r.Verb, r.Namespace, r.Name
		attributes.APIGroup, attributes.APIVersion = r.Group, r.Version
		attributes.Resource, attributes.Subresource = r.Resource, r.Subresource
		if attributes.APIVersion == "" {
			attributes.APIVersion = "*"
		}
	} else if n != nil {
		attributes.Verb, attributes.Path = n.Verb, n.Path
	}
	decision, reason, err := a.Authorizer.Authorize(ctx, attributes)
	status := authorizationv1.SubjectAccessReviewStatus{
		Allowed: decision == authorizer.DecisionAllow, Denied: decision == authorizer.DecisionDeny, Reason: reason,
	}
	if err != nil {
		status.EvaluationError = err.Error()
	}
	return status
}

// check says what is missing: a kind that is served and cannot be answered
// would fail at the first question.
func (a Access) check() error {
	if a.Tokens == nil || a.Authorizer == nil || a.Rules == nil {
		return errors.New("who may do what: Tokens, Authorizer and Rules must be set")
	}
	return nil
}
