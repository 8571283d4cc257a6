package storage

import (
	"bytes"
	"context"
	"errors"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
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
	return s.watch(ctx, s.c.ResourcePrefix, apistorage.ListOptions{ResourceVersion: resourceVersion, Predicate: p, Recursive: true}, s.c.Gather)
}

// of is the key of an object, as callers of the store pass it.
func (s *Store) of(namespace, name string) string {
	prefix := strings.TrimSuffix(s.c.ResourcePrefix, "/") + "/"
	if namespace == "" {
		return prefix + name
	}
	return prefix + namespace + "/" + name
}

// Has says whether there is an object of a name.
func (s *Store) Has(namespace, name string) (bool, error) {
	key, err := s.key(s.of(namespace, name), false)
	if err != nil {
		return false, err
	}
	cur, _, err := s.c.KV.Get(key)
	return cur != nil, err
}

// Add creates an object, and makes out what was stored.
func (s *Store) Add(ctx context.Context, namespace, name string, obj, out runtime.Object) error {
	return s.Create(ctx, s.of(namespace, name), obj, out, 0)
}

// Rewrite changes an object as it is stored, if it still has a version, and
// gives the version that it has then. It is for those who know the form. Object,
// which may be nil, is asked after change, and gives the object of what that gave,
// made of the one before, which is shared and must not be changed; where it gives
// nil the object is decoded.
func (s *Store) Rewrite(ctx context.Context, namespace, name string, version uint64, change func([]byte) ([]byte, error), object Remake) (uint64, error) {
	key, err := s.key(s.of(namespace, name), false)
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
	made := s.rewritten(key, version, object)
	r, end, err := s.put(ctx, key, next, version, 0, made)
	defer end()
	if err != nil {
		return 0, err
	}
	if !r.OK {
		return 0, ErrOtherVersion
	}
	if s.watched() { // for watches that have not come to it yet
		s.recent.get(slotID{r.Rev, key, false}, len(next), func() (runtime.Object, error) {
			if obj := made(r.Rev); obj != nil {
				return obj, nil
			}
			return s.decoded(key, next, r.Rev)
		})
	}
	return r.Rev, nil
}
