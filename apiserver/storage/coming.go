package storage

import (
	"bytes"
	"math"
	"reflect"
	"sync"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

// coming are the writes in progress whose objects are known: watches that see
// one before its writer hears of it need not decode it.
type coming struct {
	mu    sync.Mutex
	byKey map[string]*writing // of several for one key, which cannot all succeed, the last
}

// writing is one write. What it knows may be asked for until it is over.
type writing struct {
	stored []byte

	mu     sync.Mutex
	object func(rev uint64) runtime.Object // nil when it is over; gives nil where it cannot tell
}

// begin announces a write. The function returned ends it: from then on nobody
// looks at what the object is made of.
func (c *coming) begin(key string, stored []byte, object func(rev uint64) runtime.Object) (end func()) {
	w := &writing{stored: stored, object: object}
	c.mu.Lock()
	if c.byKey == nil {
		c.byKey = map[string]*writing{}
	}
	c.byKey[key] = w
	c.mu.Unlock()
	return func() {
		c.mu.Lock()
		if c.byKey[key] == w {
			delete(c.byKey, key)
		}
		c.mu.Unlock()
		w.mu.Lock()
		w.object = nil
		w.mu.Unlock()
	}
}

// object is what a value that is being written stands for; nil where that is not
// known.
func (c *coming) object(key string, stored []byte, rev uint64) runtime.Object {
	c.mu.Lock()
	w := c.byKey[key]
	c.mu.Unlock()
	if w == nil || !bytes.Equal(w.stored, stored) {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.object == nil {
		return nil
	}
	return w.object(rev)
}

// written gives what has just been stored back to its writer. Where there are
// watches it is made once for it and for them, whoever comes first.
func (s *Store) written(key string, data []byte, rev uint64, object func(rev uint64) runtime.Object, out runtime.Object) error {
	if !s.watched() {
		if obj := object(rev); obj != nil && move(obj, out) {
			return nil
		}
		return s.decode(data, rev, out)
	}
	shared, err := s.recent.get(slotID{rev, key, false}, len(data), func() (runtime.Object, error) {
		if obj := object(rev); obj != nil {
			return obj, nil
		}
		return s.decoded(key, data, rev)
	})
	if err != nil {
		return err
	}
	if move(shared.GetObject(), out) {
		return nil
	}
	return s.decode(data, rev, out)
}

// move makes an object what another is, which is not used any more; false where
// they have different types.
func move(obj, out runtime.Object) bool {
	from, to := reflect.ValueOf(obj), reflect.ValueOf(out)
	if from.Type() != to.Type() || from.Kind() != reflect.Pointer || to.IsNil() {
		return false
	}
	to.Elem().Set(from.Elem())
	return true
}

// asStored gives what would be decoded of the bytes that an object was encoded
// to, at a tenth of the cost, and nil where it cannot tell. What has no type of
// its own and is stored in the version that it has is stored as it is: it was
// pruned and defaulted when it came in, and has been checked since.
func (s *Store) asStored(obj runtime.Object, data []byte) func(rev uint64) runtime.Object {
	u, ok := obj.(*unstructured.Unstructured)
	ok = ok && sameVersion(u, data)
	return func(rev uint64) runtime.Object {
		if !ok {
			return nil
		}
		content, plain := plainJSON(u.Object)
		if !plain {
			return nil
		}
		out := &unstructured.Unstructured{Object: content.(map[string]any)}
		if s.versioner.UpdateObject(out, rev) != nil {
			return nil
		}
		return out
	}
}

// sameVersion says whether an object is stored in the version that it has.
func sameVersion(u *unstructured.Unstructured, data []byte) bool {
	version, ok := u.Object["apiVersion"].(string)
	return ok && bytes.HasPrefix(data, []byte(`{"apiVersion":"`+version+`",`))
}

// given is asStored of an object that its writer gives away: it is not copied, and
// goes to whoever asks first.
func (s *Store) given(u *unstructured.Unstructured, data []byte) func(rev uint64) runtime.Object {
	var once sync.Once
	return func(rev uint64) (obj runtime.Object) {
		once.Do(func() {
			if sameVersion(u, data) && IsPlain(u.Object) && s.versioner.UpdateObject(u, rev) == nil {
				obj = u
			}
		})
		return obj
	}
}

// IsPlain says whether a JSON value is as it would be decoded of what it is encoded
// to: it may stand for that.
func IsPlain(v any) bool {
	switch v := v.(type) {
	case map[string]any:
		for k, item := range v {
			if !utf8.ValidString(k) || !IsPlain(item) {
				return false
			}
		}
		return v != nil
	case []any:
		for _, item := range v {
			if !IsPlain(item) {
				return false
			}
		}
		return v != nil
	case string:
		return utf8.ValidString(v)
	case int64, bool, nil:
		return true
	}
	return false
}

// plainJSON is a copy of a JSON value with the numbers that decoding would make
// of it; false where there is something in it that decoding might make something
// else of.
func plainJSON(v any) (any, bool) {
	switch v := v.(type) {
	case map[string]any:
		m := make(map[string]any, len(v))
		for k, item := range v {
			c, ok := plainJSON(item)
			if !ok {
				return nil, false
			}
			m[k] = c
		}
		return m, v != nil
	case []any:
		l := make([]any, len(v))
		for i, item := range v {
			c, ok := plainJSON(item)
			if !ok {
				return nil, false
			}
			l[i] = c
		}
		return l, v != nil
	case string:
		return v, utf8.ValidString(v)
	case float64: // a whole number is written without a point, and is an integer from then on
		const most = 1 << 53
		if v == math.Trunc(v) && -most < v && v < most {
			return int64(v), v != 0 || !math.Signbit(v)
		}
		return v, -most < v && v < most
	case int64, bool, nil:
		return v, true
	}
	return nil, false
}

// Remake makes an object of the one that it was before.
type Remake func(before *unstructured.Unstructured) *unstructured.Unstructured

// rewritten is an object whose bytes were changed, made of what it was before
// where that is still here; it gives nil where it is not, or cannot tell.
func (s *Store) rewritten(key string, before uint64, change Remake) func(rev uint64) runtime.Object {
	u, ok := s.recent.peek(slotID{before, key, false}).(*unstructured.Unstructured)
	return func(rev uint64) runtime.Object {
		if !ok || change == nil {
			return nil
		}
		out := change(u)
		if out == nil || s.versioner.UpdateObject(out, rev) != nil {
			return nil
		}
		return out
	}
}
