package apiserver

import (
	"context"
	"slices"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/group"
	"k8s.io/apiserver/pkg/authentication/request/anonymous"
	"k8s.io/apiserver/pkg/authentication/request/bearertoken"
	"k8s.io/apiserver/pkg/authentication/request/union"
	requestx509 "k8s.io/apiserver/pkg/authentication/request/x509"
	"k8s.io/apiserver/pkg/authentication/serviceaccount"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
)

// healthPaths are all that may be read without credentials.
func healthPaths() []string { return []string{"/healthz", "/livez", "/readyz"} }

// newAuthenticator knows who holds a certificate of ours, or a ServiceAccount's
// token. The library adds the token of the loopback client.
func newAuthenticator(a *authority, tokens authenticator.Token, now func() time.Time) authenticator.Request {
	var open []apiserver.AnonymousAuthCondition
	for _, p := range healthPaths() {
		open = append(open, apiserver.AnonymousAuthCondition{Path: p})
	}
	return union.NewFailOnError(
		group.NewAuthenticatedGroupAdder(union.NewFailOnError(
			newKnownCertificates(requestx509.NewDynamic(a.VerifyOptions, requestx509.CommonNameUserConversion), now),
			bearertoken.New(tokens),
		)),
		anonymous.NewAuthenticator(open),
	)
}

// rule is one thing that somebody may do.
type rule struct {
	verbs, groups, resources, paths []string
}

// publishVerb is that of sending events to a broker or channel.
const publishVerb = "publish"

// adminRules are those of the admin: everything.
func adminRules() []rule {
	all := []string{"*"}
	return []rule{{verbs: all, groups: all, resources: all}, {verbs: all, paths: all}}
}

// everybodyRules are those of all who are known: to ask who they are, what they
// may do and what is served, but not for any object.
func everybodyRules() []rule {
	return []rule{
		{verbs: []string{"create"}, groups: []string{authenticationv1.GroupName}, resources: []string{"selfsubjectreviews"}},
		{verbs: []string{"create"}, groups: []string{authorizationv1.GroupName}, resources: []string{"selfsubjectaccessreviews", "selfsubjectrulesreviews"}},
		{verbs: []string{"get"}, paths: []string{"/api", "/api/*", "/apis", "/apis/*", "/openapi", "/openapi/*", "/version", "/version/"}},
	}
}

// accountRules are those of a ServiceAccount, in its namespace.
func accountRules() []rule {
	return []rule{
		{verbs: []string{publishVerb}, groups: []string{"eventing.knative.dev"}, resources: []string{"brokers"}},
		{verbs: []string{publishVerb}, groups: []string{"messaging.knative.dev"}, resources: []string{"channels", "inmemorychannels"}},
	}
}

// rules are those of a user in a namespace; without one, those that hold
// everywhere.
func rules(u user.Info, namespace string) []rule {
	held := []rule{{verbs: []string{"get"}, paths: healthPaths()}}
	if u == nil {
		return held
	}
	groups := u.GetGroups()
	if slices.Contains(groups, user.SystemPrivilegedGroup) {
		held = append(held, adminRules()...)
	}
	if slices.Contains(groups, user.AllAuthenticated) {
		held = append(held, everybodyRules()...)
	}
	if namespace != "" && slices.Contains(groups, serviceaccount.MakeNamespaceGroupName(namespace)) {
		held = append(held, accountRules()...)
	}
	return held
}

// rulebook decides who may do what. There are no roles yet: the admin is all.
type rulebook struct{}

var (
	_ authorizer.Authorizer   = rulebook{}
	_ authorizer.RuleResolver = rulebook{}
)

// Authorize implements authorizer.Authorizer.
func (rulebook) Authorize(_ context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	for _, r := range rules(a.GetUser(), a.GetNamespace()) {
		if r.allows(a) {
			return authorizer.DecisionAllow, "", nil
		}
	}
	return authorizer.DecisionNoOpinion, "", nil
}

// ConditionsAwareAuthorize implements authorizer.Authorizer: no decision
// depends on an object.
func (b rulebook) ConditionsAwareAuthorize(ctx context.Context, a authorizer.Attributes) authorizer.ConditionsAwareDecision {
	return authorizer.AuthorizerFunc(b.Authorize).ConditionsAwareAuthorize(ctx, a)
}

// EvaluateConditions implements authorizer.Authorizer.
func (b rulebook) EvaluateConditions(ctx context.Context, d authorizer.ConditionsAwareDecision, data authorizer.ConditionsData) (authorizer.Decision, string, error) {
	return authorizer.AuthorizerFunc(b.Authorize).EvaluateConditions(ctx, d, data)
}

func (r rule) allows(a authorizer.Attributes) bool {
	if !has(r.verbs, a.GetVerb()) {
		return false
	}
	if !a.IsResourceRequest() {
		return slices.ContainsFunc(r.paths, func(p string) bool {
			prefix, any := strings.CutSuffix(p, "*")
			return p == a.GetPath() || any && strings.HasPrefix(a.GetPath(), prefix)
		})
	}
	return has(r.groups, a.GetAPIGroup()) && has(r.resources, a.GetResource()) && (a.GetSubresource() == "" || has(r.resources, ""))
}

// has says whether a list holds a word, or the star that stands for all.
func has(list []string, word string) bool {
	return slices.Contains(list, "*") || slices.Contains(list, word)
}

// RulesFor implements authorizer.RuleResolver.
func (rulebook) RulesFor(_ context.Context, u user.Info, namespace string) ([]authorizer.ResourceRuleInfo, []authorizer.NonResourceRuleInfo, bool, error) {
	var resources []authorizer.ResourceRuleInfo
	var others []authorizer.NonResourceRuleInfo
	for _, r := range rules(u, namespace) {
		if len(r.resources) > 0 {
			resources = append(resources, &authorizer.DefaultResourceRuleInfo{Verbs: r.verbs, APIGroups: r.groups, Resources: r.resources})
		} else {
			others = append(others, &authorizer.DefaultNonResourceRuleInfo{Verbs: r.verbs, NonResourceURLs: r.paths})
		}
	}
	return resources, others, false, nil
}
