package kv_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/leat-dev/leat/raftlog"
	"github.com/leat-dev/leat/raftlog/kv"
	"github.com/leat-dev/leat/raftlog/kv/kvtest"
)

// fill makes a state with a past: keys written, rewritten and deleted, some
// that will expire, and, with compact, a floor.
func fill(tb testing.TB, s *kv.Store, seed uint64, writes int, compact bool) {
	tb.Helper()
	r := rand.New(rand.NewPCG(seed, 0))
	for range writes {
		key := fmt.Sprintf("/k/%d", r.IntN(40))
		var err error
		switch r.IntN(8) {
		case 0:
			_, err = s.Delete(tb.Context(), key, kv.AnyRev)
		case 1:
			_, err = s.Put(tb.Context(), key, []byte("brief"), kv.AnyRev, time.Hour)
		case 2:
			_, err = s.Put(tb.Context(), key, []byte("refused, mostly"), s.Rev()-1, 0)
		case 3:
			if rev := s.Rev(); compact && r.IntN(10) == 0 && rev > 20 {
				_, err = s.Compact(tb.Context(), rev-20)
			}
		default:
			_, err = s.Put(tb.Context(), key, bytes.Repeat([]byte{byte(r.IntN(256))}, r.IntN(3000)), kv.AnyRev, 0)
		}
		if err != nil {
			tb.Fatal(err)
		}
	}
}

// content is all that readers can see of a store.
func content(tb testing.TB, s *kv.Store) string {
	tb.Helper()
	var b strings.Builder
	_, hash := s.Hash()
	fmt.Fprintf(&b, "revision %d, floor %d, hash %x\n", s.Rev(), s.CompactRev(), hash)
	for rev := s.CompactRev(); rev <= s.Rev(); rev += 1 + (s.Rev()-rev)/20 {
		page, err := s.List("", "", 0, rev)
		if err != nil {
			tb.Fatal(err)
		}
		for _, k := range page.KVs {
			fmt.Fprintf(&b, "%d: %s@%d %d %x\n", rev, k.Key, k.ModRev, k.Expiry, k.Value)
		}
	}
	if s.Rev() > s.CompactRev() {
		w := mustWatch(tb, s, "", false, s.CompactRev())
		b.WriteString(describe(next(tb, w, int(s.Rev()-s.CompactRev()))))
	}
	return b.String()
}

// copyDir is what a kill leaves of a store's directory.
func copyDir(tb testing.TB, dir string) string {
	tb.Helper()
	to := filepath.Join(tb.TempDir(), "copy")
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		tb.Fatal(err)
	}
	return to
}

// reopen opens a directory in the boot named, applies the log as raft would,
// and tells how far the store had come by itself.
func reopen(tb testing.TB, dir, boot string, log *kvtest.Log) (s *kv.Store, trusted uint64) {
	tb.Helper()
	s, err := kv.Open(kv.Options{Dir: dir, BootID: boot, RecentEvents: 10, Fatal: func(err error) { tb.Errorf("fatal: %v", err) }})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	trusted = s.Applied()
	replay := &kvtest.Log{Clock: raftlog.SystemClock{}}
	for _, e := range log.Entries() {
		replay.Append(e)
	}
	replay.Reopen(s, 0)
	s.Bind(replay)
	return s, trusted
}

func TestRestart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "kv")
	s, log := kvtest.Open(t, kv.Options{Dir: dir, BootID: "one"})
	fill(t, s, 1, 500, true)
	want, applied := content(t, s), s.Applied()
	killed := copyDir(t, dir)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		dir, boot string
		trusted   bool
	}{
		"closed":                        {copyDir(t, dir), "one", true},
		"closed, then another boot":     {copyDir(t, dir), "two", true},
		"killed":                        {copyDir(t, killed), "one", true},
		"the machine went down":         {copyDir(t, killed), "two", false},
		"killed, and the boot unknown":  {copyDir(t, killed), "", false},
		"killed, and nothing was kept":  {filepath.Join(t.TempDir(), "none"), "one", false},
		"closed, and the mark was lost": {without(t, copyDir(t, dir), "mark.json"), "one", false},
	} {
		t.Run(name, func(t *testing.T) {
			if c.boot == "" {
				c.boot = "unknown"
			}
			s, trusted := reopen(t, c.dir, c.boot, log)
			if c.trusted && trusted != applied || !c.trusted && trusted != 0 {
				t.Errorf("the database was ahead by %d entries of %d", trusted, applied)
			}
			if got := content(t, s); got != want {
				t.Error("the content is another after the restart")
			}
			mustPut(t, s, "/after", "x")
		})
	}
}

func without(t *testing.T, dir, name string) string {
	t.Helper()
	if err := os.Remove(filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Whatever byte of the database is flipped, and wherever a file is cut, what a
// restart gives is the log's state: the database is used if it is whole, and
// else rebuilt.
func TestDamagedDatabaseIsRebuilt(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "kv")
	s, log := kvtest.Open(t, kv.Options{Dir: dir, BootID: "one"})
	fill(t, s, 2, 200, true)
	killed := copyDir(t, dir)
	fill(t, s, 3, 200, true)
	// So that there are tables, too, which a kill leaves beside newer writes.
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	closed := copyDir(t, dir)
	s, _ = reopen(t, dir, "one", log)
	want := content(t, s)

	r := rand.New(rand.NewPCG(4, 0))
	rounds := 60
	if testing.Short() {
		rounds = 20
	}
	rebuilt := 0
	for round := range rounds {
		broken := copyDir(t, []string{killed, closed}[round%2])
		what := damage(t, r, filepath.Join(broken, "db"))
		s, trusted := reopen(t, broken, "one", log)
		if trusted == 0 {
			rebuilt++
		}
		if got := content(t, s); got != want {
			t.Errorf("%s: the content is not the log's (the database was trusted up to %d)", what, trusted)
		}
	}
	t.Logf("%d of %d were rebuilt", rebuilt, rounds)
}

// damage flips a bit that is in use, or cuts a file there.
func damage(t *testing.T, r *rand.Rand, dir string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	files = slices.DeleteFunc(files, func(name string) bool {
		b, err := os.ReadFile(name)
		return err != nil || len(bytes.TrimRight(b, "\x00")) == 0
	})
	name := files[r.IntN(len(files))]
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	used := len(bytes.TrimRight(b, "\x00"))
	at := r.IntN(used)
	what := fmt.Sprintf("%s cut at %d of %d", filepath.Base(name), at, used)
	if r.IntN(2) == 0 {
		what = fmt.Sprintf("%s flipped at %d of %d", filepath.Base(name), at, used)
		b[at] ^= 1 << r.IntN(8)
	} else {
		b = b[:at]
	}
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return what
}

func TestLogThatWasCutIsNoticed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "kv")
	s, log := kvtest.Open(t, kv.Options{Dir: dir, BootID: "one"})
	for i := range 10 {
		mustPut(t, s, fmt.Sprint("/", i), "v")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	log.Cut(5)
	var fatal error
	s, err := kv.Open(kv.Options{Dir: dir, BootID: "one", Fatal: func(err error) { fatal = err }})
	if err != nil {
		t.Fatal(err)
	}
	log.Reopen(s, 0)
	s.Bind(log)
	if _, err := s.Put(t.Context(), "/new", nil, 0, 0); err == nil {
		t.Error("a write was accepted on top of entries that the log does not have")
	}
	if fatal == nil {
		t.Error("nobody was told")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, trusted := reopen(t, dir, "one", log)
	if trusted != 0 {
		t.Errorf("the database was trusted again, up to entry %d", trusted)
	}
	if got, _, err := s.Get("/7"); err != nil || got != nil {
		t.Errorf("the rebuilt database still holds what the log does not: %v, %v", got, err)
	}
}

func TestSnapshotIsOfOneMoment(t *testing.T) {
	clock := kvtest.NewClock()
	s, log := kvtest.Open(t, kv.Options{Clock: clock})
	fill(t, s, 5, 400, true)
	want, applied := content(t, s), s.Applied()
	snap, err := s.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	// What comes after it changes and compacts what it holds.
	fill(t, s, 6, 400, true)
	if _, err := s.Compact(t.Context(), s.Rev()); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := snap.Write(&b); err != nil {
		t.Fatal(err)
	}
	snap.Release()
	later := content(t, s)

	other, _ := kvtest.Open(t, kv.Options{Clock: clock})
	w := mustWatch(t, other, "/", false, 0)
	if err := other.Restore(bytes.NewReader(b.Bytes())); err != nil {
		t.Fatal(err)
	}
	if got := content(t, other); got != want || other.Applied() != applied {
		t.Error("the restored content is not that of the snapshot's moment")
	}
	if _, err := w.Next(t.Context()); !errors.Is(err, kv.ErrReset) {
		t.Errorf("a watch over the restore: %v", err)
	}
	for _, e := range log.Entries()[applied:] {
		other.Apply(e)
	}
	if got := content(t, other); got != later {
		t.Error("the content after the later entries is another")
	}

	// One that is behind the database is read past.
	if err := s.Restore(bytes.NewReader(b.Bytes())); err != nil {
		t.Fatal(err)
	}
	if got := content(t, s); got != later {
		t.Error("a snapshot took the database back")
	}
	// What was to expire still does.
	clock.Advance(2 * time.Hour)
	waitExpired(t, s)
}

func waitExpired(t *testing.T, s *kv.Store) {
	t.Helper()
	for {
		rev := s.Rev()
		page, err := s.List("", "", 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(page.KVs, func(k *kv.KV) bool { return k.Expiry != 0 }) {
			return
		}
		if err := s.WaitRev(t.Context(), rev+1); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDamagedSnapshotIsRefused(t *testing.T) {
	s, _ := kvtest.Open(t, kv.Options{})
	fill(t, s, 7, 100, false)
	snap, err := s.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	err = snap.Write(&b)
	snap.Release()
	if err != nil {
		t.Fatal(err)
	}
	for name, r := range map[string]io.Reader{
		"cut":     bytes.NewReader(b.Bytes()[:b.Len()/2]),
		"empty":   strings.NewReader(""),
		"foreign": strings.NewReader("LEATXX\x00\x01 and so on"),
	} {
		t.Run(name, func(t *testing.T) {
			s, err := kv.Open(kv.Options{Dir: t.TempDir(), Fatal: func(error) {}})
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Restore(r); err == nil {
				t.Error("it was accepted")
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// Two machines that apply the same entries, in one go or with restarts and
// restores in between, hold the same.
func TestMachinesAgree(t *testing.T) {
	for seed := range uint64(5) {
		a, log := kvtest.Open(t, kv.Options{})
		fill(t, a, 100+seed, 300, true)
		want := content(t, a)

		r := rand.New(rand.NewPCG(seed, 1))
		dir := t.TempDir()
		open := func() *kv.Store {
			b, err := kv.Open(kv.Options{Dir: dir, BootID: "one", Fatal: func(err error) { t.Errorf("fatal: %v", err) }})
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		b := open()
		entries := log.Entries()
		for i := 0; i < len(entries); i++ {
			b.Apply(entries[i])
			switch r.IntN(60) {
			case 0: // close and open
				if err := b.Close(); err != nil {
					t.Fatal(err)
				}
				b = open()
				i -= r.IntN(i + 1) // raft applies some again
			case 1: // from a snapshot
				snap, err := b.Snapshot()
				if err != nil {
					t.Fatal(err)
				}
				var buf bytes.Buffer
				err = snap.Write(&buf)
				snap.Release()
				if err = errors.Join(err, b.Close()); err != nil {
					t.Fatal(err)
				}
				dir = t.TempDir()
				b = open()
				if err := b.Restore(&buf); err != nil {
					t.Fatal(err)
				}
			}
		}
		if got := content(t, b); got != want {
			t.Errorf("seed %d: the machines differ", seed)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
}

// Several commands of one entry take a revision each and see each other.
func TestEntryOfManyCommands(t *testing.T) {
	s, log := kvtest.Open(t, kv.Options{})
	record := &recorder{}
	other, err := kv.Open(kv.Options{Dir: t.TempDir(), Fatal: func(err error) { t.Error(err) }})
	if err != nil {
		t.Fatal(err)
	}
	other.Bind(record)
	defer other.Close()
	for _, put := range []func(){
		func() { _, _ = other.Put(t.Context(), "/a", []byte("1"), 0, 0) },
		func() { _, _ = other.Put(t.Context(), "/a", []byte("refused"), 0, 0) },
		func() { _, _ = other.Put(t.Context(), "/a", []byte("2"), 2, time.Hour) },
		func() { _, _ = other.Delete(t.Context(), "/a", 3) },
		func() { _, _ = other.Put(t.Context(), "/a", []byte("3"), 0, 0) },
		func() { _, _ = other.Put(t.Context(), "/b", []byte("4"), 0, 0) },
	} {
		put()
	}
	w := mustWatch(t, s, "/", false, 0)
	results, err := log.ProposeAll(t.Context(), raftlog.Control, record.cmds...)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range results {
		got = append(got, fmt.Sprintf("%v@%d", r.(kv.Result).OK, r.(kv.Result).Rev))
	}
	if want := "[true@2 false@2 true@3 true@4 true@5 true@6]"; fmt.Sprint(got) != want {
		t.Errorf("got %v, want %s", got, want)
	}
	want := "2 /a 1<-@0\n3 /a 2<-1@2\n4 /a deleted<-2@3\n5 /a 3<-@0\n6 /b 4<-@0\n"
	if got := describe(next(t, w, 5)); got != want {
		t.Errorf("events:\n%swant\n%s", got, want)
	}
	if got := describe(next(t, mustWatch(t, s, "/", false, 1), 5)); got != want {
		t.Errorf("events of the past:\n%swant\n%s", got, want)
	}
	for rev, want := range map[uint64]string{2: "1", 3: "2", 5: "3"} {
		if k, _, err := s.GetAt("/a", rev); err != nil || string(k.Value) != want {
			t.Errorf("at %d: %v, %v", rev, k, err)
		}
	}
}

// recorder keeps the commands that a store proposes.
type recorder struct{ cmds [][]byte }

func (r *recorder) Propose(_ context.Context, _ raftlog.Class, cmd []byte) (any, error) {
	r.cmds = append(r.cmds, bytes.Clone(cmd))
	return kv.Result{}, nil
}
