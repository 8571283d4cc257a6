package tokens

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/utils/lru"
)

// bench is a Tokens over accounts and a clock that a test changes.
type bench struct {
	*Tokens
	t        *testing.T
	now      time.Time
	accounts map[string]*corev1.ServiceAccount
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t, now: time.Unix(1_700_000_000, 0), accounts: map[string]*corev1.ServiceAccount{}}
	b.account("n", "a", "uid-1")
	b.Tokens = b.with(newKey(t))
	return b
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (b *bench) with(key *ecdsa.PrivateKey) *Tokens {
	b.t.Helper()
	all, err := New(Options{Key: key, Now: func() time.Time { return b.now }, Accounts: func(_ context.Context, namespace, name string, _ bool) (*corev1.ServiceAccount, error) {
		if a := b.accounts[namespace+"/"+name]; a != nil {
			return a, nil
		}
		return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "serviceaccounts"}, name)
	}})
	if err != nil {
		b.t.Fatal(err)
	}
	return all
}

func (b *bench) account(namespace, name, uid string) {
	a := &corev1.ServiceAccount{}
	a.Namespace, a.Name, a.UID = namespace, name, types.UID(uid)
	b.accounts[namespace+"/"+name] = a
}

func (b *bench) issue(spec authenticationv1.TokenRequestSpec) (*authenticationv1.TokenRequest, error) {
	r := &authenticationv1.TokenRequest{Spec: spec}
	return r, b.Issue(b.accounts["n/a"], r)
}

func (b *bench) mustIssue(spec authenticationv1.TokenRequestSpec) string {
	b.t.Helper()
	r, err := b.issue(spec)
	if err != nil {
		b.t.Fatal(err)
	}
	return r.Status.Token
}

// is checks a token: who it is of, or what the error says, or "" where it is
// left to others.
func (b *bench) is(token, want string) {
	b.t.Helper()
	resp, ok, err := b.AuthenticateToken(b.t.Context(), token)
	got := ""
	switch {
	case err != nil:
		got = err.Error()
	case ok:
		got = resp.User.GetName() + " " + strings.Join(resp.User.GetGroups(), ",")
	}
	if want == "" && got != "" || !strings.Contains(got, want) || ok && err != nil {
		b.t.Errorf("%.40s… is %q, want %q", token, got, want)
	}
}

const ours = "system:serviceaccount:n:a system:serviceaccounts,system:serviceaccounts:n"

func TestTokenIsGoodUntilItExpires(t *testing.T) {
	b := newBench(t)
	token := b.mustIssue(authenticationv1.TokenRequestSpec{})
	b.is(token, ours)
	b.now = b.now.Add(time.Hour - time.Second)
	b.is(token, ours)
	b.now = b.now.Add(time.Second)
	b.is(token, "the token expired at 2023-11-14T23:13:20Z")
	b.now = b.now.Add(-time.Hour - 2*time.Minute)
	b.is(token, "not valid yet")
}

// TestTokenGoesWithItsAccount: also one that was checked before.
func TestTokenGoesWithItsAccount(t *testing.T) {
	b := newBench(t)
	token := b.mustIssue(authenticationv1.TokenRequestSpec{})
	b.is(token, ours)
	b.accounts["n/a"].DeletionTimestamp = &metav1.Time{Time: b.now}
	b.is(token, "is being deleted")
	delete(b.accounts, "n/a")
	b.is(token, "has been deleted")
	b.account("n", "a", "uid-2")
	b.is(token, "an earlier ServiceAccount")
}

// TestAccountMadeJustNow: the first look may be a moment behind, and not know
// the account, or know the one before it.
func TestAccountMadeJustNow(t *testing.T) {
	b := newBench(t)
	token := b.mustIssue(authenticationv1.TokenRequestSpec{})
	now := b.o.Accounts
	for what, before := range map[string]*corev1.ServiceAccount{"none": nil, "another": {ObjectMeta: metav1.ObjectMeta{UID: "uid-0"}}} {
		b.o.Accounts = func(ctx context.Context, namespace, name string, fresh bool) (*corev1.ServiceAccount, error) {
			switch {
			case fresh:
				return now(ctx, namespace, name, true)
			case before != nil:
				return before, nil
			}
			return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "serviceaccounts"}, name)
		}
		t.Log("before:", what)
		b.is(token, ours)
	}
}

// TestAccountThatCannotBeRead: nothing is wrong with the token.
func TestAccountThatCannotBeRead(t *testing.T) {
	b := newBench(t)
	token := b.mustIssue(authenticationv1.TokenRequestSpec{})
	b.o.Accounts = func(context.Context, string, string, bool) (*corev1.ServiceAccount, error) {
		return nil, errors.New("no leader")
	}
	if _, ok, err := b.AuthenticateToken(t.Context(), token); ok || !errors.Is(err, ErrUnchecked) {
		t.Errorf("%v, %v", ok, err)
	}
}

func TestTokenIsForItsAudience(t *testing.T) {
	b := newBench(t)
	token := b.mustIssue(authenticationv1.TokenRequestSpec{Audiences: []string{"vault", "other"}})
	b.is(token, `the token is for ["vault" "other"]`)
	ctx := authenticator.WithAudiences(t.Context(), authenticator.Audiences{"x", "other"})
	resp, ok, err := b.AuthenticateToken(ctx, token)
	if err != nil || !ok || len(resp.Audiences) != 1 || resp.Audiences[0] != "other" {
		t.Errorf("for another audience: %v %v %v", resp, ok, err)
	}
}

func TestRequestsThatAreRefused(t *testing.T) {
	b := newBench(t)
	seconds := func(n int64) *int64 { return &n }
	for want, spec := range map[string]authenticationv1.TokenRequestSpec{
		"spec.expirationSeconds: Invalid value: 599":        {ExpirationSeconds: seconds(599)},
		"spec.expirationSeconds: Invalid value: 4294967297": {ExpirationSeconds: seconds(1<<32 + 1)},
		"spec.audiences": {Audiences: []string{"a", ""}},
		"spec.boundObjectRef: Forbidden: tokens are bound to their ServiceAccount only": {BoundObjectRef: &authenticationv1.BoundObjectReference{Kind: "Secret", Name: "s"}},
		"name fewer": {Audiences: []string{strings.Repeat("a", maxToken)}},
	} {
		if _, err := b.issue(spec); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", spec, err, want)
		}
	}
	r, err := b.issue(authenticationv1.TokenRequestSpec{ExpirationSeconds: seconds(1 << 32)})
	if err != nil || *r.Spec.ExpirationSeconds != 365*24*3600 || !r.Status.ExpirationTimestamp.Equal(&metav1.Time{Time: b.now.Add(365 * 24 * time.Hour)}) {
		t.Errorf("a life beyond the longest: %+v, %v", r, err)
	}
}

// TestForgedTokens: nothing but this key's signature over exactly these bytes
// makes a token.
func TestForgedTokens(t *testing.T) {
	b := newBench(t)
	token := b.mustIssue(authenticationv1.TokenRequestSpec{})
	parts := strings.Split(token, ".")
	other := *b
	other.Tokens = b.with(newKey(t))
	b.is(other.mustIssue(authenticationv1.TokenRequestSpec{}), "")

	head := func(h map[string]string) string {
		j, err := json.Marshal(h)
		if err != nil {
			t.Fatal(err)
		}
		return encoding.EncodeToString(j)
	}
	for _, forged := range []string{
		"", ".", "..", "a.b.c", token + ".", token + "A", parts[0] + "." + parts[1], parts[0] + "." + parts[1] + ".",
		head(map[string]string{"alg": "none", "kid": b.id}) + "." + parts[1] + ".",
		head(map[string]string{"alg": "none", "kid": b.id}) + "." + parts[1] + "." + parts[2],
		head(map[string]string{"alg": "HS256", "kid": b.id}) + "." + parts[1] + "." + parts[2],
		head(map[string]string{"alg": "ES256", "kid": b.id}) + "." + parts[1] + "." + parts[2], // other bytes
		head(map[string]string{"alg": "ES256", "kid": "x"}) + "." + parts[1] + "." + parts[2],
		strings.Repeat("A", maxToken+1), token + "=", token + "\n",
		parts[0] + "." + parts[1] + "." + encoding.EncodeToString(make([]byte, 2*half)),
	} {
		b.is(forged, "")
	}
	// Each byte counts.
	for i := range token {
		c := byte('A')
		if token[i] == c {
			c = 'B'
		}
		b.is(token[:i]+string(c)+token[i+1:], "")
	}
}

// TestCacheIsBounded: tokens beyond it are checked anew.
func TestCacheIsBounded(t *testing.T) {
	b := newBench(t)
	b.signed = lru.New(2)
	var all []string
	for range 5 {
		all = append(all, b.mustIssue(authenticationv1.TokenRequestSpec{}))
	}
	for range 2 {
		for _, token := range all {
			b.is(token, ours)
		}
	}
	if n := b.signed.Len(); n != 2 {
		t.Errorf("%d are remembered, want 2", n)
	}
}

func FuzzOpen(f *testing.F) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	token, err := sign(key, "k", claims{Issuer: issuer})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(token)
	f.Add("a.b.c")
	f.Fuzz(func(t *testing.T, forged string) {
		if c, err := open(&key.PublicKey, "k", forged); err == nil && forged != token {
			t.Errorf("%q is taken for a token: %+v", forged, c)
		}
	})
}

func BenchmarkCheck(b *testing.B) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	account := &corev1.ServiceAccount{}
	account.Namespace, account.Name = "n", "a"
	all, err := New(Options{Key: key, Now: time.Now, Accounts: func(context.Context, string, string, bool) (*corev1.ServiceAccount, error) { return account, nil }})
	if err != nil {
		b.Fatal(err)
	}
	r := &authenticationv1.TokenRequest{}
	if err := all.Issue(account, r); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, ok, err := all.AuthenticateToken(b.Context(), r.Status.Token); !ok || err != nil {
			b.Fatal(err)
		}
	}
}
