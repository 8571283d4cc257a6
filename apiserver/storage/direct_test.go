package storage

import (
	"bytes"
	"errors"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/apis/example"
	apistorage "k8s.io/apiserver/pkg/storage"
)

// A write to an object as it is stored is for the version that its writer has
// seen, and for no other: not for a newer one, and not for one that comes while
// it is made.
func TestRewriteIsForItsVersionOnly(t *testing.T) {
	s := newStore(t)
	scheduled := func(node string) uint64 {
		t.Helper()
		out := &example.Pod{}
		err := s.GuaranteedUpdate(t.Context(), "/pods/ns/a", out, false, nil, func(obj runtime.Object, _ apistorage.ResponseMeta) (runtime.Object, *uint64, error) {
			obj.(*example.Pod).Spec.NodeName = node
			return obj, nil, nil
		}, nil)
		if err != nil {
			t.Fatal(err)
		}
		rev, err := s.versioner.ObjectResourceVersion(out)
		if err != nil {
			t.Fatal(err)
		}
		return rev
	}
	wantNode := func(node string, rev uint64) {
		t.Helper()
		got := &example.Pod{}
		if err := s.Get(t.Context(), "/pods/ns/a", apistorage.GetOptions{}, got); err != nil {
			t.Fatal(err)
		}
		if at, err := s.versioner.ObjectResourceVersion(got); err != nil || got.Spec.NodeName != node || at != rev {
			t.Errorf("it is on node %q at version %d, %v; want %q at %d", got.Spec.NodeName, at, err, node, rev)
		}
	}
	moved := func(to string) func([]byte) ([]byte, error) {
		return func(b []byte) ([]byte, error) {
			return bytes.Replace(b, []byte(`"node-`), []byte(`"`+to+`-`), 1), nil
		}
	}
	mustCreate(t, s, pod("a"))
	seen := scheduled("node-1")
	newer := scheduled("node-2")

	if _, err := s.Rewrite(t.Context(), "ns", "a", seen, moved("late"), nil); !errors.Is(err, ErrOtherVersion) {
		t.Errorf("for a version that is gone: %v", err)
	}
	unchanged := func(b []byte) ([]byte, error) { return b, nil }
	if _, err := s.Rewrite(t.Context(), "ns", "a", seen, unchanged, nil); !errors.Is(err, ErrOtherVersion) {
		t.Errorf("without a change, for a version that is gone: %v", err)
	}
	wantNode("node-2", newer)

	var between uint64
	_, err := s.Rewrite(t.Context(), "ns", "a", newer, func(b []byte) ([]byte, error) {
		between = scheduled("node-3")
		return moved("late")(b)
	}, nil)
	if !errors.Is(err, ErrOtherVersion) {
		t.Errorf("for a version that goes meanwhile: %v", err)
	}
	wantNode("node-3", between)

	at, err := s.Rewrite(t.Context(), "ns", "a", between, moved("new"), nil)
	if err != nil || at <= between {
		t.Errorf("version %d after %d, %v", at, between, err)
	}
	wantNode("new-3", at)
	if same, err := s.Rewrite(t.Context(), "ns", "a", at, unchanged, nil); err != nil || same != at {
		t.Errorf("without a change it got version %d, was %d: %v", same, at, err)
	}
	if _, err := s.Rewrite(t.Context(), "ns", "gone", at, unchanged, nil); !apistorage.IsNotFound(err) {
		t.Errorf("what is not there: %v", err)
	}
}
