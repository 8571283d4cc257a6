package apiserver

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"k8s.io/apiserver/pkg/storage/value"

	"github.com/leat-dev/leat/raftlog/kv"
)

const (
	atRestKey = "at-rest.key"
	// atRestKeySize is in bytes; the cipher takes it for a seed of which it
	// derives a key for each value.
	atRestKeySize = 32
)

// openTransformer encrypts objects before they reach the log, with a key in dir
// that is made when absent: all of them, because credentials stand not in
// Secrets only (the userinfo of a subscriber's URL, an annotation with what was
// applied). A value begins with the name of its key, so that another can follow.
func openTransformer(dir string, store *kv.Store) (value.Transformer, error) {
	path := filepath.Join(dir, atRestKey)
	page, err := store.List(storagePrefix+"/", "", 1, 0)
	if err != nil {
		return nil, fmt.Errorf("look for objects: %w", err)
	}
	key, err := readAtRestKey(path)
	if errors.Is(err, os.ErrNotExist) {
		if len(page.KVs) > 0 {
			return nil, fmt.Errorf("%s is missing, and the objects in the data directory are encrypted with it: put it back", path)
		}
		key = make([]byte, atRestKeySize)
		rand.Read(key) // it does not fail
		err = writeFile(path, []byte(hex.EncodeToString(key)+"\n"))
	}
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(key)
	unknown := fmt.Errorf("it is encrypted with another key than that in %s: put its key back", path)
	t := value.NewPrefixTransformers(unknown, value.PrefixTransformer{
		Prefix: []byte("leat:aesgcm:" + hex.EncodeToString(sum[:4]) + ":"), Transformer: newSeeded(key),
	})
	for _, e := range page.KVs {
		if _, _, err := t.TransformFromStorage(context.Background(), e.Value, value.DefaultContext(e.Key)); err != nil {
			return nil, fmt.Errorf("read %s: %w", e.Key, err)
		}
	}
	return t, nil
}

// Plain decrypts a value as it is stored under a key: for those who read the
// history of the store itself.
func (s *Server) Plain(ctx context.Context, key string, stored []byte) ([]byte, error) {
	b, _, err := s.atRest.TransformFromStorage(ctx, stored, value.DefaultContext(key))
	return b, err
}

func readAtRestKey(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	key, err := hex.DecodeString(strings.TrimSpace(string(b)))
	if err != nil || len(key) != atRestKeySize {
		return nil, fmt.Errorf("%s does not hold a key of %d bytes in hexadecimal: put the right file back, or no object can be read", path, atRestKeySize)
	}
	return key, nil
}
