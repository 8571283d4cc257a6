package storage

import (
	"bytes"
	"context"
	"errors"
	"strings"

	"k8s.io/apimachinery/pkg/watch"
	apistorage "k8s.io/apiserver/pkg/storage"
)

// ErrOtherVersion: the object is not, or no longer, at the version that was
// given.
var ErrOtherVersion = errors.New("the object has another version")

// Life ends when the store is closed.
func (s *Store) Life() context.Context { return s.life }

// Follow watches all objects from a version on, and delivers what is shared as
// it is: see Shared.
func (s *Store) Follow(ctx context.Context, resourceVersion string) (watch.Interface, error) {
	p := apistorage.Everything
	p.AllowWatchBookmarks = true
	return s.Watch(ctx, s.c.ResourcePrefix, apistorage.ListOptions{ResourceVersion: resourceVersion, Predicate: p, Recursive: true})
}

// Rewrite changes an object as it is stored, if it still has a version, and
// gives the version that it has then. It is for those who know the form.
func (s *Store) Rewrite(ctx context.Context, namespace, name string, version uint64, change func([]byte) ([]byte, error)) (uint64, error) {
	key := strings.TrimSuffix(s.c.ResourcePrefix, "/") + "/" + name
	if namespace != "" {
		key = strings.TrimSuffix(s.c.ResourcePrefix, "/") + "/" + namespace + "/" + name
	}
	key, err := s.key(key, false)
	if err != nil {
		return 0, err
	}
	cur, _, err := s.c.KV.Get(key)
	if err != nil {
		return 0, err
	}
	if cur == nil {
		return 0, apistorage.NewKeyNotFoundError(key, 0)
	}
	if cur.ModRev != version {
		return 0, ErrOtherVersion
	}
	data, stale, err := s.open(ctx, cur)
	if err != nil {
		return 0, apistorage.NewInternalError(err)
	}
	next, err := change(data)
	if err != nil {
		return 0, err
	}
	if bytes.Equal(next, data) && !stale {
		return cur.ModRev, nil
	}
	r, err := s.put(ctx, key, next, version, 0)
	if err != nil {
		return 0, err
	}
	if !r.OK {
		return 0, ErrOtherVersion
	}
	return r.Rev, nil
}
