package kv_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/leat-dev/leat/raftlog/kv"
	"github.com/leat-dev/leat/raftlog/kv/kvtest"
)

func TestWritesTakeRevisionsAndReadsSeeThem(t *testing.T) {
	s, _ := kvtest.Open(t, kv.Options{})
	if s.Rev() != 1 {
		t.Fatalf("an empty store is at revision %d, want 1", s.Rev())
	}
	expect := func(what string, r kv.Result, err error, ok bool, rev uint64) {
		t.Helper()
		if err != nil || r.OK != ok || r.Rev != rev {
			t.Errorf("%s: got ok=%v rev=%d, %v; want ok=%v rev=%d", what, r.OK, r.Rev, err, ok, rev)
		}
	}
	ctx := t.Context()
	r, err := s.Put(ctx, "/a/1", []byte("one"), 0, 0)
	expect("create", r, err, true, 2)
	r, err = s.Put(ctx, "/a/1", []byte("again"), 0, 0)
	expect("create what exists", r, err, false, 2)
	if r.Current == nil || string(r.Current.Value) != "one" {
		t.Errorf("the refusal shows %v", r.Current)
	}
	r, err = s.Put(ctx, "/a/1", []byte("two"), 2, 0)
	expect("update", r, err, true, 3)
	r, err = s.Delete(ctx, "/a/1", 2)
	expect("delete of an old revision", r, err, false, 3)
	r, err = s.Delete(ctx, "/a/1", 3)
	expect("delete", r, err, true, 4)
	r, err = s.Delete(ctx, "/a/1", kv.AnyRev)
	expect("delete of nothing", r, err, false, 4)

	for rev, want := range map[uint64]string{1: "", 2: "one", 3: "two", 4: ""} {
		got, _, err := s.GetAt("/a/1", rev)
		if err != nil {
			t.Fatal(err)
		}
		if (got == nil) != (want == "") || got != nil && (string(got.Value) != want || got.ModRev != rev) {
			t.Errorf("at revision %d: %v, want %q", rev, got, want)
		}
	}
	if _, _, err := s.GetAt("/a/1", 5); !errors.Is(err, kv.ErrFuture) {
		t.Errorf("at a future revision: %v", err)
	}
}

func TestListPagesAtARevision(t *testing.T) {
	s, _ := kvtest.Open(t, kv.Options{})
	for i := range 10 {
		mustPut(t, s, fmt.Sprintf("/a/%02d", i), "v")
	}
	mustPut(t, s, "/ab", "other")
	first, err := s.List("/a/", "", 4, 0)
	if err != nil || len(first.KVs) != 4 || first.Remaining != 6 || first.Rev != s.Rev() {
		t.Fatalf("first page: %d keys, %d remain, revision %d, %v", len(first.KVs), first.Remaining, first.Rev, err)
	}
	mustPut(t, s, "/a/05", "changed")
	mustPut(t, s, "/a/055", "new")
	rest, err := s.List("/a/", first.KVs[3].Key+"\x00", 0, first.Rev)
	if err != nil || len(rest.KVs) != 6 || rest.Remaining != 0 {
		t.Fatalf("the rest: %d keys, %v", len(rest.KVs), err)
	}
	for _, kv := range rest.KVs {
		if string(kv.Value) != "v" {
			t.Errorf("%s was changed after the list's revision: %s", kv.Key, kv.Value)
		}
	}
}

func mustPut(tb testing.TB, s *kv.Store, key, value string) uint64 {
	tb.Helper()
	r, err := s.Put(tb.Context(), key, []byte(value), kv.AnyRev, 0)
	if err != nil || !r.OK {
		tb.Fatalf("put %s: %v %v", key, r, err)
	}
	return r.Rev
}
