package storage

import (
	"context"
	"fmt"
	"reflect"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/conversion"
	"k8s.io/apimachinery/pkg/runtime"
	apistorage "k8s.io/apiserver/pkg/storage"

	"github.com/leat-dev/leat/raftlog/kv"
)

// maxChunk bounds the keys that are read at once for a list with a limit whose
// selector passes few of them.
const maxChunk = 10000

// list is one GetList in progress.
type list struct {
	s      *Store
	opts   apistorage.ListOptions
	prefix string
	items  reflect.Value
	newObj func() runtime.Object
	faults listFaults

	rev   uint64
	last  string // the last key looked at
	count int64  // keys from the last chunk's first to the end
	more  bool   // keys after last
}

// GetList implements storage.Interface.
func (s *Store) GetList(ctx context.Context, key string, opts apistorage.ListOptions, out runtime.Object) error {
	prefix, err := s.key(key, opts.Recursive)
	if err != nil {
		return err
	}
	ptr, err := meta.GetItemsPtr(out)
	if err != nil {
		return err
	}
	items, err := conversion.EnforcePtr(ptr)
	if err != nil || items.Kind() != reflect.Slice {
		return fmt.Errorf("the list to fill has no slice of items: %T", out)
	}
	at, start, err := apistorage.ValidateListOptions(prefix, s.versioner, opts)
	if err != nil {
		return err
	}
	if at == 0 && opts.Predicate.Continue == "" {
		if err := s.fresh(ctx, opts.ResourceVersion); err != nil {
			return err
		}
	}
	l := &list{s: s, opts: opts, prefix: prefix, items: items, newObj: newItem(out, items), faults: listFaults{collect: s.unsafely}}
	if opts.Recursive {
		err = l.readAll(ctx, uint64(at), start)
	} else {
		err = l.readOne(ctx, uint64(at))
	}
	if err != nil {
		return err
	}
	if err := l.faults.err(s.c.GroupResource.String()); err != nil {
		return err
	}
	if items.IsNil() {
		items.Set(reflect.MakeSlice(items.Type(), 0, 0))
	}
	token, remaining, err := apistorage.PrepareContinueToken(l.last, prefix, int64(l.rev), l.count, l.more, opts)
	if err != nil {
		return err
	}
	opts.Predicate.SetShardInfoOnList(out)
	return s.versioner.UpdateList(out, l.rev, token, remaining)
}

func (l *list) readOne(ctx context.Context, at uint64) error {
	cur, rev, err := l.s.c.KV.GetAt(l.prefix, at)
	if err != nil {
		return listError(err, at, rev, false, "", l.prefix)
	}
	l.rev = rev
	if cur == nil {
		return nil
	}
	_, err = l.add(ctx, cur)
	return err
}

// readAll reads chunk after chunk until the limit is reached.
func (l *list) readAll(ctx context.Context, at uint64, start string) error {
	limit := int(l.opts.Predicate.Limit)
	for chunk := limit; ; chunk = min(2*chunk, maxChunk) {
		page, err := l.s.c.KV.List(l.prefix, start, chunk, at)
		if err != nil {
			return listError(err, at, page.Rev, l.opts.Predicate.Continue != "", start, l.prefix)
		}
		l.rev, l.count = page.Rev, int64(len(page.KVs))+page.Remaining
		l.more = page.Remaining > 0
		if l.opts.Predicate.Empty() {
			l.items.Grow(len(page.KVs))
		}
		for i, kv := range page.KVs {
			if limit > 0 && l.items.Len() >= limit {
				l.more = true
				return nil
			}
			l.last = kv.Key
			end, err := l.add(ctx, kv)
			if err != nil || end {
				return err
			}
			page.KVs[i] = nil // decoding takes long; what is done can go
		}
		if !l.more || limit == 0 || l.items.Len() >= limit {
			return nil
		}
		at, start = page.Rev, l.last+"\x00"
	}
}

// add appends an object that is selected. A fault that ends the list is kept
// with the others.
func (l *list) add(ctx context.Context, cur *kv.KV) (end bool, err error) {
	data, _, err := l.s.open(ctx, cur)
	if err != nil {
		return l.faults.add(cur.Key, apistorage.NewInternalError(fmt.Errorf("unable to transform key %q: %w", cur.Key, err))), nil
	}
	if ctx.Err() != nil {
		return true, apistorage.NewTimeoutError(cur.Key, "request did not complete within requested timeout")
	}
	obj, err := l.s.object(data, l.newObj)
	if err != nil {
		return l.faults.add(cur.Key, l.s.decodeError(err, cur.ModRev)), nil
	}
	if err := l.s.versioner.UpdateObject(obj, cur.ModRev); err != nil {
		return true, fmt.Errorf("set the resourceVersion of %s: %w", cur.Key, err)
	}
	if ok, err := l.opts.Predicate.Matches(obj); err == nil && ok {
		l.items.Set(reflect.Append(l.items, reflect.ValueOf(obj).Elem()))
	}
	return false, nil
}

// newItem makes items for a list; those of an unstructured list have its version.
func newItem(out runtime.Object, items reflect.Value) func() runtime.Object {
	if u, ok := out.(*unstructured.UnstructuredList); ok {
		if version := u.GetAPIVersion(); version != "" {
			return func() runtime.Object {
				return &unstructured.Unstructured{Object: map[string]any{"apiVersion": version}}
			}
		}
	}
	elem := items.Type().Elem()
	return func() runtime.Object { return reflect.New(elem).Interface().(runtime.Object) }
}
