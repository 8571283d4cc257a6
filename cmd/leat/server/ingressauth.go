package server

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync/atomic"

	"github.com/leat-dev/leat/apiserver"
	"github.com/leat-dev/leat/broker"
)

// publishers decides who may send events: ServiceAccounts, by their tokens, and
// the server itself, whose deliveries go from one of its brokers to another.
type publishers struct {
	// own is the token of our deliveries, for as long as this process lives.
	own string
	// api is set when it is ready, which is before any request is taken.
	api atomic.Pointer[apiserver.Server]
}

var _ broker.Authenticator = &publishers{}

func newPublishers() *publishers { return &publishers{own: rand.Text()} }

// Authorize implements broker.Authenticator.
func (p *publishers) Authorize(ctx context.Context, authorization, namespace string) error {
	token, err := bearer(authorization)
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare([]byte(token), []byte(p.own)) == 1 {
		return nil
	}
	api := p.api.Load()
	if api == nil {
		return errors.New("the server is starting")
	}
	switch err := api.AuthorizePublish(ctx, token, namespace); {
	case errors.Is(err, apiserver.ErrForbidden):
		return fmt.Errorf("%w: %w", broker.ErrForbidden, err)
	case errors.Is(err, apiserver.ErrUnauthenticated):
		return fmt.Errorf("%w: %w", broker.ErrUnauthenticated, err)
	default:
		return err
	}
}

// bearer is the token of an Authorization header.
func bearer(authorization string) (string, error) {
	scheme, token, _ := strings.Cut(strings.TrimSpace(authorization), " ")
	token = strings.TrimSpace(token)
	switch {
	case authorization == "":
		return "", fmt.Errorf("%w: send a ServiceAccount's token as \"Authorization: Bearer TOKEN\"; kubectl create token makes one", broker.ErrUnauthenticated)
	case !strings.EqualFold(scheme, "Bearer") || token == "":
		return "", fmt.Errorf("%w: the Authorization header must be \"Bearer TOKEN\"", broker.ErrUnauthenticated)
	}
	return token, nil
}

// ownTokens are the tokens of deliveries by where they go: to our own address
// for events, by the names that we give it. Over plain HTTP only within this
// machine.
func (p *publishers) ownTokens(l listeners) map[string]string {
	tokens := map[string]string{}
	for _, address := range []string{l.httpURL(), l.publicURL()} {
		u, err := url.Parse(address)
		if err != nil || u.Scheme != "https" && address != l.httpURL() {
			continue
		}
		tokens[u.Scheme+"://"+u.Host] = p.own
	}
	return tokens
}
