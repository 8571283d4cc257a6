package tokens

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"strings"
)

// claims are what a token says.
type claims struct {
	Issuer     string     `json:"iss"`
	Subject    string     `json:"sub"`
	Audience   audience   `json:"aud"`
	Expiry     int64      `json:"exp"`
	NotBefore  int64      `json:"nbf"`
	IssuedAt   int64      `json:"iat"`
	ID         string     `json:"jti"`
	Kubernetes kubernetes `json:"kubernetes.io"`
}

type kubernetes struct {
	Namespace      string `json:"namespace"`
	ServiceAccount struct {
		Name string `json:"name"`
		UID  string `json:"uid"`
	} `json:"serviceaccount"`
}

type audience []string

type header struct {
	Algorithm string `json:"alg"`
	KeyID     string `json:"kid"`
	Type      string `json:"typ,omitempty"`
}

// algorithm is the only one that is made or taken: a header that could choose
// another would choose how it is checked.
const algorithm = "ES256"

// maxToken bounds what is looked at, in bytes.
const maxToken = 8 << 10

// half is the size of a signature's two numbers, in bytes.
const half = 32

var encoding = base64.RawURLEncoding.Strict()

// keyID names a key by its public half.
func keyID(key *ecdsa.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(der)
	return encoding.EncodeToString(sum[:]), nil
}

func sign(key *ecdsa.PrivateKey, id string, c claims) (string, error) {
	head, err := json.Marshal(header{algorithm, id, "JWT"})
	if err != nil {
		return "", err
	}
	body, err := json.Marshal(c)
	if err != nil {
		return "", err
	}
	signed := encoding.EncodeToString(head) + "." + encoding.EncodeToString(body)
	sum := sha256.Sum256([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, key, sum[:])
	if err != nil {
		return "", err
	}
	var signature [2 * half]byte
	r.FillBytes(signature[:half])
	s.FillBytes(signature[half:])
	return signed + "." + encoding.EncodeToString(signature[:]), nil
}

var errNotOurs = errors.New("the token is not one of this server's")

// open checks a token's signature and returns what it says.
func open(key *ecdsa.PublicKey, id, token string) (*claims, error) {
	parts := strings.Split(token, ".")
	// The decoder skips the ends of lines.
	if len(token) > maxToken || len(parts) != 3 || strings.ContainsAny(token, "\r\n") {
		return nil, errNotOurs
	}
	var h header
	if err := decodePart(parts[0], &h); err != nil || h.Algorithm != algorithm || h.KeyID != id {
		return nil, errNotOurs
	}
	signature, err := encoding.DecodeString(parts[2])
	if err != nil || len(signature) != 2*half {
		return nil, errNotOurs
	}
	sum := sha256.Sum256([]byte(token[:len(parts[0])+1+len(parts[1])]))
	r, s := new(big.Int).SetBytes(signature[:half]), new(big.Int).SetBytes(signature[half:])
	if !ecdsa.Verify(key, sum[:], r, s) {
		return nil, errNotOurs
	}
	var c claims
	if err := decodePart(parts[1], &c); err != nil {
		return nil, errNotOurs
	}
	return &c, nil
}

func decodePart(part string, into any) error {
	b, err := encoding.DecodeString(part)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, into)
}
