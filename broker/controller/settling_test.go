package controller

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestSettling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		began := time.Now()
		var due []string
		s := newSettling(time.Second)
		go s.run(ctx, func(k key) { due = append(due, k.name+" "+time.Since(began).String()) })
		expect := func(after time.Duration, want ...string) {
			t.Helper()
			time.Sleep(after)
			synctest.Wait()
			if !slices.Equal(due, want) {
				t.Errorf("%q, want %q", due, want)
			}
			due = nil
		}
		s.add(key{name: "settles"})
		s.add(key{name: "late"})
		expect(300 * time.Millisecond)
		s.done(key{name: "settles"})
		s.add(key{name: "late"}) // its time goes on
		s.add(key{name: "later"})
		expect(time.Second, "late 1s", "later 1.3s")
		expect(time.Hour)
		s.add(key{name: "again"})
		s.done(key{name: "again"})
		s.add(key{name: "again"})
		expect(time.Minute, "again 1h0m2.3s")
	})
}

func TestEchoes(t *testing.T) {
	var e echoes
	a, b := key{name: "a"}, key{name: "b"}
	came := func(is bool) func() bool { return func() bool { return is } }
	if e.heard(a, "1") {
		t.Error("what was not written is an echo")
	}
	e.expect(a, "2", came(false))
	if e.heard(b, "2") {
		t.Error("another object's is an echo")
	}
	if !e.heard(a, "2") || e.heard(a, "2") {
		t.Error("what was written comes back once")
	}
	e.expect(a, "3", came(false))
	if e.heard(a, "4") || e.heard(a, "3") {
		t.Error("a later version is an echo, or something is expected after it")
	}
	e.expect(a, "4", came(false))
	e.forget(a)
	if e.heard(a, "4") {
		t.Error("what was reconciled meanwhile is not looked at")
	}
	e.expect(a, "5", came(true))
	if e.heard(a, "5") || len(e.expected) > 0 {
		t.Error("what came before it was expected is expected still")
	}
}
