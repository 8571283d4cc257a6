package apiserver

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"github.com/leat-dev/leat/apiserver/tokens"
)

// tokensKey signs the tokens of ServiceAccounts.
const tokensKey = "tokens.key"

// openTokenKey reads the key in dir, or makes one. Another key revokes all tokens.
func openTokenKey(dir string) (*ecdsa.PrivateKey, error) {
	path := filepath.Join(dir, tokensKey)
	key, err := readKey(path)
	if errors.Is(err, os.ErrNotExist) {
		return createKey(path)
	}
	return key, err
}

// serviceAccount reads one for the check of its tokens.
func (s *Server) serviceAccount(ctx context.Context, namespace, name string, fresh bool) (*corev1.ServiceAccount, error) {
	kinds := s.accounts.Load()
	if kinds == nil {
		return nil, errors.New("the API does not serve yet")
	}
	return kinds.ServiceAccount(ctx, namespace, name, fresh)
}

// Errors of AuthorizePublish, wrapped with a reason that the sender may see.
var (
	ErrUnauthenticated = errors.New("the token is not accepted")
	ErrForbidden       = errors.New("not allowed")
)

// PublishAudience is that of tokens which are good for sending events only.
const PublishAudience = "leat-ingress"

// AuthorizePublish says whether the holder of a ServiceAccount's token may send
// events to the brokers and channels of a namespace. Any other error than the
// two above says that this could not be found out now.
func (s *Server) AuthorizePublish(ctx context.Context, token, namespace string) error {
	ctx = authenticator.WithAudiences(ctx, authenticator.Audiences{tokens.Audience, PublishAudience})
	resp, ok, err := s.tokens.AuthenticateToken(ctx, token)
	switch {
	case errors.Is(err, tokens.ErrUnchecked):
		return err
	case err != nil:
		return fmt.Errorf("%w: %w", ErrUnauthenticated, err)
	case !ok:
		return fmt.Errorf("%w: this is no token of a ServiceAccount; kubectl create token makes one", ErrUnauthenticated)
	}
	decision, _, err := rulebook{}.Authorize(ctx, authorizer.AttributesRecord{
		User: resp.User, Verb: publishVerb, Namespace: namespace, APIGroup: "eventing.knative.dev", Resource: "brokers", ResourceRequest: true,
	})
	if err != nil || decision != authorizer.DecisionAllow {
		return fmt.Errorf("%w: %s may send to its own namespace, and not to %q", ErrForbidden, resp.User.GetName(), namespace)
	}
	return nil
}
