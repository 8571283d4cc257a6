package dispatcher

import "testing"

// TestJoinedSubscriptionKnowsItsTarget: whoever finds a subscription among its
// target's may use it at once, so join itself sets what is needed for that.
func TestJoinedSubscriptionKnowsItsTarget(t *testing.T) {
	d := New(Options{})
	defer d.Close(t.Context())
	s := &sub{uid: "s"}
	d.join(s)
	d.mu.Lock()
	want := d.targets["s"]
	d.mu.Unlock()
	if want == nil || s.target != want || len(want.subs) != 1 || want.subs[0] != s {
		t.Errorf("the subscription has target %p, want %p, which has %v", s.target, want, want)
	}
}
