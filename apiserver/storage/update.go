package storage

import (
	"bytes"
	"context"
	"fmt"
	"reflect"

	"k8s.io/apimachinery/pkg/conversion"
	"k8s.io/apimachinery/pkg/runtime"
	apistorage "k8s.io/apiserver/pkg/storage"

	"github.com/leat-dev/leat/raftlog/kv"
)

// state is an object before a change: as stored, or as a caller suggested.
type state struct {
	obj     runtime.Object // nil: damaged, and to be deleted as such
	data    []byte         // as encoded, without the resourceVersion
	rev     uint64         // 0: it does not exist
	stale   bool           // data must be stored anew even when unchanged
	current bool           // read from the store, not suggested
}

// change is one Delete or GuaranteedUpdate in progress.
type change struct {
	s        *Store
	key      string
	like     reflect.Value // the object's type
	missing  bool          // it may not exist
	unsafely bool          // delete it only if it is damaged
}

// read gets the object's present state.
func (c *change) read(ctx context.Context) (*state, error) {
	cur, _, err := c.s.c.KV.Get(c.key)
	if err != nil {
		return nil, err
	}
	return c.state(ctx, cur)
}

func (c *change) state(ctx context.Context, cur *kv.KV) (*state, error) {
	st := &state{obj: newLike(c.like), current: true}
	if cur == nil {
		if !c.missing {
			return nil, apistorage.NewKeyNotFoundError(c.key, 0)
		}
		return st, runtime.SetZeroValue(st.obj)
	}
	st.rev = cur.ModRev
	data, stale, err := c.s.open(ctx, cur)
	if err != nil {
		if c.unsafely {
			st.obj = nil
			return st, nil
		}
		return nil, apistorage.NewInternalError(err)
	}
	st.data, st.stale = data, stale
	if err := c.s.decode(data, cur.ModRev, st.obj); err != nil {
		if c.unsafely {
			st.obj = nil
			return st, nil
		}
		return nil, err
	}
	if c.unsafely {
		return nil, apistorage.NewInvalidObjError(c.key, "the object can be read, so it must be deleted in the ordinary way")
	}
	return st, nil
}

// begin is the suggested state, which may be old, or the present one.
func (c *change) begin(ctx context.Context, suggested runtime.Object) (*state, error) {
	if suggested == nil || c.unsafely {
		return c.read(ctx)
	}
	v := c.s.versioner
	rev, err := v.ObjectResourceVersion(suggested)
	if err != nil {
		return nil, fmt.Errorf("resourceVersion of the suggested %s: %w", c.key, err)
	}
	if err := v.PrepareObjectForStorage(suggested); err != nil {
		return nil, fmt.Errorf("prepare the suggested %s: %w", c.key, err)
	}
	data, err := runtime.Encode(c.s.c.Codec, suggested)
	if err != nil {
		return nil, err
	}
	return &state{obj: suggested, data: data, rev: rev}, v.UpdateObject(suggested, rev)
}

// again decides after a refusal whether a fresher state may change it: it
// returns the state to try next, or the refusal.
func (c *change) again(ctx context.Context, st *state, refusal error) (*state, error) {
	if st.current {
		return nil, refusal
	}
	next, err := c.read(ctx)
	if err != nil {
		return nil, err
	}
	if next.rev == st.rev {
		return nil, refusal
	}
	return next, nil
}

// Delete implements storage.Interface.
func (s *Store) Delete(ctx context.Context, key string, out runtime.Object, pre *apistorage.Preconditions,
	validate apistorage.ValidateObjectFunc, suggested runtime.Object, opts apistorage.DeleteOptions) error {
	key, err := s.key(key, false)
	if err != nil {
		return err
	}
	like, err := conversion.EnforcePtr(out)
	if err != nil {
		return fmt.Errorf("the object to fill is no pointer: %w", err)
	}
	c := &change{s: s, key: key, like: like, unsafely: s.unsafely && opts.ExpectTransformOrDecodeError}
	st, err := c.begin(ctx, suggested)
	for {
		if err != nil {
			return err
		}
		refusal := pre.Check(key, st.obj)
		if refusal == nil {
			refusal = validate(ctx, st.obj)
		}
		if refusal != nil {
			st, err = c.again(ctx, st, refusal)
			continue
		}
		r, werr := s.c.KV.Delete(ctx, key, st.rev)
		if werr != nil {
			return writeError(key, werr)
		}
		if r.OK {
			if c.unsafely {
				return nil
			}
			// A deleted object's version is that of its deletion.
			return s.decode(st.data, r.Rev, out)
		}
		st, err = c.state(ctx, r.Current)
	}
}

// GuaranteedUpdate implements storage.Interface.
func (s *Store) GuaranteedUpdate(ctx context.Context, key string, out runtime.Object, ignoreNotFound bool,
	pre *apistorage.Preconditions, update apistorage.UpdateFunc, suggested runtime.Object) error {
	key, err := s.key(key, false)
	if err != nil {
		return err
	}
	like, err := conversion.EnforcePtr(out)
	if err != nil {
		return fmt.Errorf("the object to fill is no pointer: %w", err)
	}
	c := &change{s: s, key: key, like: like, missing: ignoreNotFound}
	st, err := c.begin(ctx, suggested)
	for {
		if err != nil {
			return err
		}
		var obj runtime.Object
		var data []byte
		var ttl uint64
		refusal := pre.Check(key, st.obj)
		if refusal == nil {
			obj, data, ttl, refusal = s.updated(st, update)
		}
		if refusal != nil {
			st, err = c.again(ctx, st, refusal)
			continue
		}
		if !st.stale && bytes.Equal(data, st.data) {
			if st.current {
				return s.decode(st.data, st.rev, out)
			}
			// Only what is stored can say that nothing changes.
			if st, err = c.read(ctx); err != nil || !bytes.Equal(data, st.data) {
				continue
			}
			if !st.stale {
				return s.decode(st.data, st.rev, out)
			}
		}
		object := s.asStored(obj, data)
		r, end, werr := s.put(ctx, key, data, st.rev, ttl, object)
		if werr == nil && r.OK {
			werr = s.written(key, data, r.Rev, object, out)
		}
		end()
		if werr != nil || r.OK {
			return werr
		}
		st, err = c.state(ctx, r.Current)
	}
}

// updated is what the caller makes of a state, and encoded.
func (s *Store) updated(st *state, update apistorage.UpdateFunc) (obj runtime.Object, data []byte, ttl uint64, err error) {
	obj, seconds, err := update(st.obj, apistorage.ResponseMeta{ResourceVersion: st.rev})
	if err != nil {
		return nil, nil, 0, err
	}
	if err := s.versioner.PrepareObjectForStorage(obj); err != nil {
		return nil, nil, 0, fmt.Errorf("prepare the object to be stored: %w", err)
	}
	if seconds != nil {
		ttl = *seconds
	}
	data, err = runtime.Encode(s.c.Codec, obj)
	return obj, data, ttl, err
}
