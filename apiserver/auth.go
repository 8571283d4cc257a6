package apiserver

import (
	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/request/anonymous"
	"k8s.io/apiserver/pkg/authentication/request/union"
	requestx509 "k8s.io/apiserver/pkg/authentication/request/x509"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/authorization/authorizerfactory"
	"k8s.io/apiserver/pkg/authorization/path"
	authorizerunion "k8s.io/apiserver/pkg/authorization/union"
)

// healthPaths are all that may be read without credentials.
func healthPaths() []string { return []string{"/healthz", "/livez", "/readyz"} }

// newAuthenticator knows who holds a certificate of ours. The library adds the
// token of the loopback client.
func newAuthenticator(a *authority) authenticator.Request {
	var open []apiserver.AnonymousAuthCondition
	for _, p := range healthPaths() {
		open = append(open, apiserver.AnonymousAuthCondition{Path: p})
	}
	return union.NewFailOnError(
		requestx509.NewDynamic(a.VerifyOptions, requestx509.CommonNameUserConversion),
		anonymous.NewAuthenticator(open),
	)
}

// newAuthorizer lets the admin do all, and everybody ask for health.
func newAuthorizer() (authorizer.Authorizer, error) {
	health, err := path.NewAuthorizer(healthPaths())
	if err != nil {
		return nil, err
	}
	return authorizerunion.New(
		authorizerunion.NamedAuthorizer{AuthorizerName: "admin", Authorizer: authorizerfactory.NewPrivilegedGroups(user.SystemPrivilegedGroup)},
		authorizerunion.NamedAuthorizer{AuthorizerName: "health", Authorizer: health},
	)
}
