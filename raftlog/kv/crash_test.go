package kv_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/leat-dev/leat/raftlog/kv"
	"github.com/leat-dev/leat/raftlog/kv/kvtest"
	"github.com/leat-dev/leat/raftlog/vfs"
)

// tryCopy copies a directory beside a store that writes it. Files may vanish
// meanwhile; the copy is then begun again.
func tryCopy(tb testing.TB, dir string) string {
	tb.Helper()
	for try := range 100 {
		to := filepath.Join(tb.TempDir(), fmt.Sprint("copy", try))
		if os.CopyFS(to, os.DirFS(dir)) == nil {
			return to
		}
	}
	tb.Fatalf("%s changes too fast to be copied", dir)
	return ""
}

// TestDatabaseOverCrashes: the directory is copied at random points of a life,
// between writes and beside them, and some file of the copy is cut or gets a
// flipped bit, or none does. A store that opens it has the state of the log: it
// uses what is whole, and rebuilds the rest.
func TestDatabaseOverCrashes(t *testing.T) {
	lives := 4
	if testing.Short() {
		lives = 1
	}
	soak, err := time.ParseDuration(os.Getenv("LEAT_SOAK"))
	end := time.Now().Add(soak)
	seed := uint64(time.Now().UnixNano())
	states, rebuilt := 0, 0
	for i := 0; i < lives || err == nil && time.Now().Before(end); i++ {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			n, m := crashes(t, seed)
			states, rebuilt = states+n, rebuilt+m
		})
		if t.Failed() {
			break
		}
		seed++
	}
	t.Logf("%d states, %d of them rebuilt", states, rebuilt)
}

func crashes(t *testing.T, seed uint64) (states, rebuilt int) {
	r := rand.New(rand.NewPCG(seed, 0))
	dir := filepath.Join(t.TempDir(), "kv")
	s, log := kvtest.Open(t, kv.Options{Dir: dir, BootID: "one"})
	type state struct{ dir, boot, want string }
	var left []state
	for i := range 6 {
		fill(t, s, seed+uint64(i), 30+r.IntN(150), true)
		if r.IntN(2) == 0 {
			left = append(left, state{dir: copyDir(t, dir), boot: "one"})
			continue
		}
		// What is copied beside writes is of no one moment, as after the machine
		// went down.
		done := make(chan struct{})
		go func() {
			defer close(done)
			fill(t, s, seed+uint64(100+i), 200, true)
		}()
		left = append(left, state{dir: tryCopy(t, dir), boot: "two"})
		<-done
	}
	want := content(t, s)
	for _, l := range left {
		for _, broken := range []bool{false, true, true} {
			at, what := copyDir(t, l.dir), "nothing is damaged"
			if broken {
				what = damage(t, r, filepath.Join(at, "db"))
				if r.IntN(4) == 0 {
					what += ", and the mark"
					if err := os.WriteFile(filepath.Join(at, "mark.json"), []byte("{"), 0o600); err != nil {
						t.Fatal(err)
					}
				}
			}
			again, trusted := reopen(t, at, l.boot, log)
			states++
			if trusted == 0 {
				rebuilt++
			}
			if got := content(t, again); got != want {
				t.Errorf("%s: the content is not the log's (the database was trusted up to %d)", what, trusted)
			}
			if err := again.Close(); err != nil {
				t.Error(err)
			}
			if err := os.RemoveAll(at); err != nil {
				t.Fatal(err)
			}
		}
	}
	return states, rebuilt
}

const onFullDisk = "LEAT_TEST_FULL_DISK"

// TestDatabaseOnAFullDisk: somebody else fills the disk under the database. The
// process is told by an error, not ended by a signal (a page of a mapped file
// that has no room is one); once there is room a store opens, with what the log
// has.
func TestDatabaseOnAFullDisk(t *testing.T) {
	onSmallDisk(t, "64m", writeOnFullDisk)
}

// TestRestoreOnANearlyFullDisk: a snapshot that has no room is refused before the
// disk is full, and not begun where there is none at all; with room it is taken.
func TestRestoreOnANearlyFullDisk(t *testing.T) {
	onSmallDisk(t, "160m", restoreOnNearlyFullDisk)
}

// onSmallDisk runs a test in a process of its own, on a file system of its own.
func onSmallDisk(t *testing.T, size string, do func(t *testing.T, disk string)) {
	t.Helper()
	if dir := os.Getenv(onFullDisk); dir != "" {
		do(t, dir)
		return
	}
	disk := filepath.Join(t.TempDir(), "disk")
	if err := os.Mkdir(disk, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("leat-kv", disk, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("a small file system needs the right to mount one: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(disk, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	cmd := exec.Command(os.Args[0], "-test.run", "^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), onFullDisk+"="+disk)
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Contains(string(out), "SIGBUS") {
		lines := strings.Split(string(out), "\n")
		t.Fatalf("%v\n%s", err, strings.Join(lines[:min(len(lines), 40)], "\n"))
	}
	t.Logf("%s", out)
}

// writeOnFullDisk is the process that meets the full disk.
func writeOnFullDisk(t *testing.T, disk string) {
	dir, ballast := filepath.Join(disk, "kv"), filepath.Join(disk, "ballast")
	var fatal []error
	log := &kvtest.Log{Clock: kvtest.NewClock()}
	s, err := kv.Open(kv.Options{Dir: dir, BootID: "one", Fatal: func(err error) { fatal = append(fatal, err) }})
	if err != nil {
		t.Fatal(err)
	}
	log.Reopen(s, 0)
	s.Bind(log)
	mustPut(t, s, "/first", "v")
	fillDisk(t, ballast)
	if _, err := s.Put(t.Context(), "/k", make([]byte, 100_000), kv.AnyRev, 0); err == nil || !strings.Contains(err.Error(), "make room") {
		t.Errorf("a write on the full disk: %v", err)
	}
	if got, _, err := s.Get("/first"); err == nil && string(got.Value) != "v" {
		t.Errorf("a read on the full disk: %v", got)
	}
	if err := s.Close(); err == nil || !strings.Contains(err.Error(), "make room") {
		t.Errorf("close on the full disk: %v", err)
	}
	if len(fatal) != 1 {
		t.Errorf("told: %v", fatal)
	}
	if _, err := kv.Open(kv.Options{Dir: dir, BootID: "one", Fatal: func(error) {}}); err == nil || !strings.Contains(err.Error(), "make room") {
		t.Errorf("open on the full disk: %v", err)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	// A copy, as the process that had it open has not ended.
	again, _ := reopen(t, copyDir(t, dir), "one", log)
	if got, _, err := again.Get("/k"); err != nil || got == nil || len(got.Value) != 100_000 {
		t.Errorf("what the log has is not there after the full disk: %v", err)
	}
}

// restoreOnNearlyFullDisk is the process that restores.
func restoreOnNearlyFullDisk(t *testing.T, disk string) {
	from, _ := kvtest.Open(t, kv.Options{Dir: filepath.Join(t.TempDir(), "kv"), BootID: "one"})
	for i := range 60 {
		mustPut(t, from, fmt.Sprint("/large/", i), strings.Repeat("x", 900_000))
	}
	pinned, err := from.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	var snapshot bytes.Buffer
	if err := pinned.Write(&snapshot); err != nil {
		t.Fatal(err)
	}
	pinned.Release()

	dir, ballast := filepath.Join(disk, "kv"), filepath.Join(disk, "ballast")
	open := func() *kv.Store {
		t.Helper()
		s, err := kv.Open(kv.Options{Dir: dir, BootID: "one", Fatal: func(error) {}})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	for _, leave := range []uint64{60 << 20, 4 << 20} {
		s := open()
		leaveFree(t, disk, ballast, leave)
		if err := s.Restore(bytes.NewReader(snapshot.Bytes())); err == nil || !strings.Contains(err.Error(), "make room") {
			t.Errorf("a snapshot of %d MiB with %d free: %v", snapshot.Len()>>20, leave>>20, err)
		}
		if free, _, err := (vfs.OS{}).Free(disk); err != nil || free < leave/8 {
			t.Errorf("%d bytes are left of %d, %v", free, leave, err)
		}
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
		_ = s.Close() // it has failed
	}
	s := open()
	if err := s.Restore(bytes.NewReader(snapshot.Bytes())); err != nil {
		t.Fatalf("with room: %v", err)
	}
	_, got := s.Hash()
	if _, want := from.Hash(); got != want || s.Rev() != from.Rev() {
		t.Errorf("revision %d after the restore, not %d, or another content", s.Rev(), from.Rev())
	}
	if last, _, err := s.Get("/large/59"); err != nil || last == nil || len(last.Value) != 900_000 {
		t.Errorf("after the restore: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// leaveFree fills a disk but for so many bytes.
func leaveFree(t *testing.T, disk, ballast string, leave uint64) {
	t.Helper()
	free, _, err := vfs.OS{}.Free(disk)
	if err != nil || free < leave {
		t.Fatalf("%d bytes are free, %v", free, err)
	}
	if err := os.WriteFile(ballast, make([]byte, free-leave), 0o600); err != nil {
		t.Fatal(err)
	}
}

// fillDisk writes until there is no room at all.
func fillDisk(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, size := range slices.Backward([]int{1, 512, 4 << 10, 1 << 20}) {
		block := make([]byte, size)
		for {
			if _, err := f.Write(block); err != nil {
				break
			}
		}
	}
}
