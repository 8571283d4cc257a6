package tokens

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/serviceaccount"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/utils/lru"
)

// Options configure a Tokens. Key, Accounts and Now must be set.
type Options struct {
	Key *ecdsa.PrivateKey
	// Accounts reads a ServiceAccount; an error of NotFound says that it is not
	// there. It is asked at each check, so it should be fast, and may be a moment
	// behind; where fresh is set it must not be.
	Accounts func(ctx context.Context, namespace, name string, fresh bool) (*corev1.ServiceAccount, error)
	Now      func() time.Time
	// MaxLife is the longest that a token lasts; what is asked for beyond is cut
	// down to it. One year.
	MaxLife time.Duration
	// DefaultLife is how long a token lasts that was asked for without a time,
	// MinLife the shortest that one may be asked for. 1 h; 10 min.
	DefaultLife, MinLife time.Duration
	// Skew is how far behind the clock of the member that checks may be to that
	// of the one that has signed; 1 min.
	Skew time.Duration
	// CacheSize is how many checked signatures are remembered; 4,096.
	CacheSize int
}

// Audience is that of the API; a token is for it unless it was asked for
// another.
const Audience = "leat"

// issuer is who signs.
const issuer = "leat"

// Tokens makes and checks tokens. It is safe for concurrent use.
type Tokens struct {
	o  Options
	id string
	// signed holds the claims of tokens whose signature was checked, by hash:
	// that takes longer than all else.
	signed *lru.Cache
}

var _ authenticator.Token = &Tokens{}

// New makes a Tokens.
func New(o Options) (*Tokens, error) {
	for _, d := range []struct {
		v *time.Duration
		d time.Duration
	}{{&o.MaxLife, 365 * 24 * time.Hour}, {&o.DefaultLife, time.Hour}, {&o.MinLife, 10 * time.Minute}, {&o.Skew, time.Minute}} {
		if *d.v == 0 {
			*d.v = d.d
		}
	}
	if o.CacheSize == 0 {
		o.CacheSize = 4096
	}
	id, err := keyID(&o.Key.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("key of the tokens: %w", err)
	}
	return &Tokens{o: o, id: id, signed: lru.New(o.CacheSize)}, nil
}

// Issue answers a request for a token of a ServiceAccount.
func (t *Tokens) Issue(account *corev1.ServiceAccount, r *authenticationv1.TokenRequest) error {
	spec := &r.Spec
	if len(spec.Audiences) == 0 {
		spec.Audiences = []string{Audience}
	}
	if spec.ExpirationSeconds == nil {
		seconds := int64(t.o.DefaultLife / time.Second)
		spec.ExpirationSeconds = &seconds
	}
	if errs := t.validate(spec); len(errs) > 0 {
		return apierrors.NewInvalid(authenticationv1.SchemeGroupVersion.WithKind("TokenRequest").GroupKind(), account.Name, errs)
	}
	*spec.ExpirationSeconds = min(*spec.ExpirationSeconds, int64(t.o.MaxLife/time.Second))
	now := t.o.Now()
	expiry := now.Add(time.Duration(*spec.ExpirationSeconds) * time.Second)
	c := claims{
		Issuer: issuer, Subject: serviceaccount.MakeUsername(account.Namespace, account.Name), Audience: spec.Audiences,
		IssuedAt: now.Unix(), NotBefore: now.Unix(), Expiry: expiry.Unix(), ID: uuid.NewString(),
	}
	c.Kubernetes.Namespace = account.Namespace
	c.Kubernetes.ServiceAccount.Name, c.Kubernetes.ServiceAccount.UID = account.Name, string(account.UID)
	token, err := sign(t.o.Key, t.id, c)
	if err != nil {
		return fmt.Errorf("sign a token: %w", err)
	}
	if len(token) > maxToken {
		return apierrors.NewRequestEntityTooLargeError("the audiences do not fit into a token: name fewer")
	}
	r.Status = authenticationv1.TokenRequestStatus{Token: token, ExpirationTimestamp: metav1.NewTime(expiry).Rfc3339Copy()}
	return nil
}

func (t *Tokens) validate(spec *authenticationv1.TokenRequestSpec) field.ErrorList {
	var errs field.ErrorList
	path := field.NewPath("spec")
	if slices.Contains(spec.Audiences, "") {
		errs = append(errs, field.Invalid(path.Child("audiences"), spec.Audiences, "must not hold an empty one"))
	}
	seconds := path.Child("expirationSeconds")
	switch n := *spec.ExpirationSeconds; {
	case n < int64(t.o.MinLife/time.Second):
		errs = append(errs, field.Invalid(seconds, n, fmt.Sprintf("may not specify a duration less than %s", minutes(t.o.MinLife))))
	case n > 1<<32:
		errs = append(errs, field.Invalid(seconds, n, "may not specify a duration larger than 2^32 seconds"))
	}
	if spec.BoundObjectRef != nil {
		errs = append(errs, field.Forbidden(path.Child("boundObjectRef"), "tokens are bound to their ServiceAccount only: leave it out, and delete the ServiceAccount to revoke them"))
	}
	return errs
}

// minutes is a duration as people say it, where that is in whole minutes.
func minutes(d time.Duration) string {
	if d%time.Minute == 0 {
		return fmt.Sprintf("%d minutes", d/time.Minute)
	}
	return d.String()
}

// ErrUnchecked says that it could not be found out whether a token is good:
// another time it may be.
var ErrUnchecked = errors.New("the token could not be checked")

// AuthenticateToken implements authenticator.Token: what is no token of ours is
// left to others, without an error.
func (t *Tokens) AuthenticateToken(ctx context.Context, token string) (*authenticator.Response, bool, error) {
	c, err := t.claims(token)
	if err != nil {
		return nil, false, nil
	}
	accepted, ok := authenticator.AudiencesFrom(ctx)
	if !ok {
		accepted = authenticator.Audiences{Audience}
	}
	audiences := authenticator.Audiences(c.Audience).Intersect(accepted)
	info, err := t.check(ctx, c, audiences)
	if err != nil {
		return nil, false, err
	}
	return &authenticator.Response{User: info, Audiences: audiences}, true, nil
}

// claims are those of a token, if it was signed here.
func (t *Tokens) claims(token string) (*claims, error) {
	hash := sha256.Sum256([]byte(token))
	if known, ok := t.signed.Get(hash); ok {
		return known.(*claims), nil
	}
	c, err := open(&t.o.Key.PublicKey, t.id, token)
	if err != nil {
		return nil, err
	}
	t.signed.Add(hash, c)
	return c, nil
}

// check says who a token is of, as long as it is good.
func (t *Tokens) check(ctx context.Context, c *claims, audiences []string) (user.Info, error) {
	now := t.o.Now()
	switch {
	case c.Issuer != issuer:
		return nil, errNotOurs
	case now.Unix() >= c.Expiry:
		return nil, fmt.Errorf("the token expired at %s: ask for another", time.Unix(c.Expiry, 0).UTC().Format(time.RFC3339))
	case now.Add(t.o.Skew).Unix() < c.NotBefore:
		return nil, errors.New("the token is not valid yet: are the clocks of the members right?")
	case len(audiences) == 0:
		return nil, fmt.Errorf("the token is for %q, and not for here", []string(c.Audience))
	}
	namespace, name, uid := c.Kubernetes.Namespace, c.Kubernetes.ServiceAccount.Name, c.Kubernetes.ServiceAccount.UID
	account, err := t.o.Accounts(ctx, namespace, name, false)
	if apierrors.IsNotFound(err) || err == nil && string(account.UID) != uid {
		// The token may be of an account that was made just now.
		account, err = t.o.Accounts(ctx, namespace, name, true)
	}
	switch {
	case apierrors.IsNotFound(err):
		return nil, fmt.Errorf("the ServiceAccount %s/%s of the token has been deleted", namespace, name)
	case err != nil:
		return nil, fmt.Errorf("%w: read ServiceAccount %s/%s: %w", ErrUnchecked, namespace, name, err)
	case string(account.UID) != uid:
		return nil, fmt.Errorf("the token is of an earlier ServiceAccount %s/%s: ask for another", namespace, name)
	case account.DeletionTimestamp != nil:
		return nil, fmt.Errorf("the ServiceAccount %s/%s of the token is being deleted", namespace, name)
	}
	info := serviceaccount.ServiceAccountInfo{Namespace: namespace, Name: name, UID: uid, CredentialID: "JTI=" + c.ID}
	return info.UserInfo(), nil
}
