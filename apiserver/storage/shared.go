package storage

import (
	"bytes"
	"io"
	"sync"
	"sync/atomic"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// recent are the objects of the latest events: each is decoded once for all
// watches of the resource, and encoded once for all that want it in one form.
// What is here is bounded, and only shared between watches that are about as
// far; one that is behind decodes for itself.
type recent struct {
	most      int
	mostBytes int64

	mu    sync.Mutex
	slots map[slotID]*slot
	order []slotID // the oldest first
	bytes int64    // of the slots
}

// slotID names a value of an event: what is written, or what was before.
type slotID struct {
	rev  uint64
	key  string
	prev bool
}

type slot struct {
	bytes int64 // of the value; of the object it is many times as much
	once  sync.Once
	obj   atomic.Pointer[sharedObject]
	err   error
}

func newRecent(most int, mostBytes int64) *recent {
	return &recent{most: most, mostBytes: mostBytes, slots: map[slotID]*slot{}}
}

// get is the object of a value of so many bytes, which is decoded by whoever asks
// first.
func (r *recent) get(id slotID, size int, decode func() (runtime.Object, error)) (*sharedObject, error) {
	r.mu.Lock()
	s := r.slots[id]
	if s == nil {
		s = &slot{bytes: int64(size)}
		r.slots[id], r.order, r.bytes = s, append(r.order, id), r.bytes+s.bytes
		for len(r.order) > 1 && (len(r.order) > r.most || r.bytes > r.mostBytes) {
			r.bytes -= r.slots[r.order[0]].bytes
			delete(r.slots, r.order[0])
			r.order = r.order[1:]
		}
	}
	r.mu.Unlock()
	s.once.Do(func() {
		var obj runtime.Object
		if obj, s.err = decode(); s.err == nil {
			s.obj.Store(&sharedObject{object: obj})
		}
	})
	return s.obj.Load(), s.err
}

// peek is the object of a value that is here, nil where it is not.
func (r *recent) peek(id slotID) runtime.Object {
	r.mu.Lock()
	s := r.slots[id]
	r.mu.Unlock()
	if s == nil {
		return nil
	}
	if o := s.obj.Load(); o != nil {
		return o.object
	}
	return nil
}

// clear forgets all, as nobody watches, or all have seen it, and gives the bytes of
// what was here as it is stored.
func (r *recent) clear() (bytes int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	bytes = r.bytes
	r.slots, r.order, r.bytes = map[slotID]*slot{}, nil, 0
	return bytes
}

// sharedObject is an object that several watches deliver. It is never changed;
// what encodes it gets a copy of its own, and what that makes is kept.
type sharedObject struct {
	object runtime.Object

	mu      sync.Mutex
	encoded map[runtime.Identifier]*encoding
}

type encoding struct {
	once sync.Once
	data []byte
	err  error
}

var (
	_ runtime.CacheableObject   = &sharedObject{}
	_ metav1.ObjectMetaAccessor = &sharedObject{}
)

// CacheEncode implements runtime.CacheableObject.
func (o *sharedObject) CacheEncode(id runtime.Identifier, encode func(runtime.Object, io.Writer) error, w io.Writer) error {
	o.mu.Lock()
	e := o.encoded[id]
	if e == nil {
		e = &encoding{}
		if o.encoded == nil {
			o.encoded = map[runtime.Identifier]*encoding{}
		}
		o.encoded[id] = e
	}
	o.mu.Unlock()
	e.once.Do(func() {
		var b bytes.Buffer
		e.err = encode(o.GetObject(), &b)
		e.data = b.Bytes()
	})
	if e.err != nil {
		return e.err
	}
	_, err := w.Write(e.data)
	return err
}

// GetObject implements runtime.CacheableObject.
func (o *sharedObject) GetObject() runtime.Object { return o.object.DeepCopyObject() }

// GetObjectMeta implements metav1.ObjectMetaAccessor. It must not be used for
// changes.
func (o *sharedObject) GetObjectMeta() metav1.Object {
	m, err := meta.Accessor(o.object)
	if err != nil {
		return nil
	}
	return m
}

// GetObjectKind implements runtime.Object. It must not be used for changes.
func (o *sharedObject) GetObjectKind() schema.ObjectKind { return o.object.GetObjectKind() }

// DeepCopyObject implements runtime.Object: a copy may be changed, so it is an
// ordinary one.
func (o *sharedObject) DeepCopyObject() runtime.Object { return o.GetObject() }

// Shared is the object of a watch's event that others see too, and which must
// not be changed; it is obj itself where it is no such.
func Shared(obj runtime.Object) runtime.Object {
	if s, ok := obj.(*sharedObject); ok {
		return s.object
	}
	return obj
}

// shared decodes a value of an event, for as long as the resource is served: the
// end of one watch is no failure for the others.
func (w *watcher) shared(key string, value []byte, rev uint64, prev bool) (*sharedObject, error) {
	return w.s.recent.get(slotID{rev, key, prev}, len(value), func() (runtime.Object, error) {
		if obj := w.s.coming.object(key, value, rev); obj != nil {
			return obj, nil
		}
		return w.decoded(w.s.life, key, value, rev)
	})
}
