package channel

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestChangesComeToTheWhole: a set that is changed is the one that is set as a
// whole, for who reads all of the terms and for who reads what has changed.
func TestChangesComeToTheWhole(t *testing.T) {
	const steps, names = 400, 12
	for seed := range uint64(8) {
		r := rand.New(rand.NewPCG(seed, 0))
		w := newWorld(t)
		changed, whole := w.channel("changed", 2), w.channel("whole", 2)
		of := map[string]Subscription{}
		mirror, known := map[string][]Term{}, uint64(0)
		p := changed.Partitions()[1]
		for version := uint64(1); version <= steps; version++ {
			var subs []Subscription
			var gone []string
			for range r.IntN(4) {
				uid := fmt.Sprint("s", r.IntN(names))
				if slices.ContainsFunc(subs, func(s Subscription) bool { return s.UID == uid }) || slices.Contains(gone, uid) {
					continue
				}
				if r.IntN(3) == 0 {
					gone = append(gone, uid) // which may not be there
					delete(of, uid)
					continue
				}
				of[uid] = sub(uid, filtered(fmt.Sprint(r.IntN(2))))
				subs = append(subs, of[uid])
			}
			w.ok(changed.ChangeSubscriptions(w.ctx, version-1, version, subs, gone))
			w.ok(whole.SetSubscriptions(w.ctx, version, slices.Collect(maps.Values(of))))
			w.equal("the terms", w.terms(p), w.terms(whole.Partitions()[1]))
			w.equal("the version", p.Version(), version)
			if r.IntN(3) == 0 {
				ids := []string{fmt.Sprint("a", version), fmt.Sprint("b", version), fmt.Sprint("c", version)}
				w.append(changed, ids...)
				w.append(whole, ids...)
			}
			if r.IntN(4) > 0 {
				continue // this reader looks now and then
			}
			terms, left, now, ok := p.TermsSince(known)
			if !ok {
				t.Fatalf("seed %d: after %d changes they are not known any more", seed, version)
			}
			for _, uid := range left {
				delete(mirror, uid)
			}
			for _, x := range terms {
				delete(mirror, x.Subscription.UID)
			}
			for _, x := range terms {
				mirror[x.Subscription.UID] = append(mirror[x.Subscription.UID], x)
			}
			known = now
			var all []Term
			for _, uid := range slices.Sorted(maps.Keys(mirror)) {
				all = append(all, mirror[uid]...)
			}
			w.equal("the terms by changes", spans(all), w.terms(p))
		}
	}
}

// TestChangesOfAnotherVersion are refused: the whole set has to be given then.
func TestChangesOfAnotherVersion(t *testing.T) {
	w := newWorld(t)
	ch := w.channel("a", 1)
	w.set(ch, 3, sub("s"))
	for _, from := range []uint64{0, 2, 4} {
		if err := ch.ChangeSubscriptions(w.ctx, from, 5, []Subscription{sub("t")}, nil); !errors.Is(err, ErrStale) {
			t.Errorf("from version %d: %v", from, err)
		}
	}
	if err := ch.ChangeSubscriptions(w.ctx, 3, 2, nil, []string{"s"}); !errors.Is(err, ErrStale) {
		t.Errorf("to an older version: %v", err)
	}
	w.equal("the terms", w.terms(ch.Partitions()[0]), []string{"s[0,)"})
}

// TestOldChangesAreToldAsAWhole: how many are kept is bounded.
func TestOldChangesAreToldAsAWhole(t *testing.T) {
	var r recentChanges
	for change := uint64(1); change <= 3*maxRecent; change++ {
		r.add(change, fmt.Sprint("s", change%5))
		if len(r.list) > maxRecent {
			t.Fatalf("%d are kept", len(r.list))
		}
	}
	if _, ok := r.since(1); ok {
		t.Error("changes that were forgotten are told of")
	}
	if uids, ok := r.since(r.before); !ok || len(uids) != 5 {
		t.Errorf("%q, %v", uids, ok)
	}
	if uids, ok := r.since(3*maxRecent - 1); !ok || len(uids) != 1 {
		t.Errorf("%q, %v", uids, ok)
	}
}
