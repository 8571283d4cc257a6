package apiserver

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/storage/value"
	"k8s.io/apiserver/pkg/storage/value/encrypt/aes"
)

const (
	secretsKey = "secrets.key"
	// secretsKeySize is in bytes; the cipher takes it for a seed of which it
	// derives a key for each value.
	secretsKeySize = 32
)

// openTransformers encrypts Secrets before they reach the log, with a key in
// dir that is made when absent. A value begins with the name of its key, so
// that another can follow.
func openTransformers(dir string) (map[schema.GroupResource]value.Transformer, error) {
	path := filepath.Join(dir, secretsKey)
	key, err := readSecretsKey(path)
	if errors.Is(err, os.ErrNotExist) {
		key = make([]byte, secretsKeySize)
		rand.Read(key) // it does not fail
		err = writeFile(path, []byte(hex.EncodeToString(key)+"\n"))
	}
	if err != nil {
		return nil, err
	}
	cipher, err := aes.NewHKDFExtendedNonceGCMTransformer(key)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	sum := sha256.Sum256(key)
	unknown := fmt.Errorf("it is encrypted with another key than that in %s: put its key back", path)
	return map[schema.GroupResource]value.Transformer{
		{Resource: "secrets"}: value.NewPrefixTransformers(unknown, value.PrefixTransformer{
			Prefix: []byte("leat:aesgcm:" + hex.EncodeToString(sum[:4]) + ":"), Transformer: cipher,
		}),
	}, nil
}

func readSecretsKey(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	key, err := hex.DecodeString(strings.TrimSpace(string(b)))
	if err != nil || len(key) != secretsKeySize {
		return nil, fmt.Errorf("%s does not hold a key of %d bytes in hexadecimal: put the right file back, or the Secrets cannot be read", path, secretsKeySize)
	}
	return key, nil
}
