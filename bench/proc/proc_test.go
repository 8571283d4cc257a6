//go:build linux

package proc

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestGroupIsCountedAndEndedWhole(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	// A child that works, whose parent only waits.
	g, err := Start(exec.Command("sh", "-c", "sh -c 'echo started; while :; do :; done'; true"), log)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Kill()
	until(t, func() bool { cpu, err := g.CPU(); return err == nil && cpu > 0 })
	if n, err := g.Resident(); err != nil || n < 100<<10 {
		t.Errorf("resident: %d, %v", n, err)
	}
	if _, err := g.Written(); err != nil {
		t.Error(err)
	}
	g.Kill()
	if _, err := g.CPU(); err == nil || !strings.Contains(err.Error(), "started") {
		t.Errorf("after the end: %v", err)
	}
}

func TestStopWaitsForTheEnd(t *testing.T) {
	dir := t.TempDir()
	g, err := Start(exec.Command("sh", "-c", "trap 'echo ended > "+dir+"/end; exit' TERM; touch "+dir+"/begun; while :; do sleep 0.01; done"), filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	until(t, func() bool { _, err := os.Stat(filepath.Join(dir, "begun")); return err == nil })
	g.Stop()
	if _, err := os.Stat(filepath.Join(dir, "end")); err != nil {
		t.Error(err)
	}
	g.Stop() // once more does no harm
}

func TestMember(t *testing.T) {
	n, err := member([]byte("rchar: 1\nwrite_bytes: 4096\ncancelled_write_bytes: 7\n"), "write_bytes:")
	if err != nil || n != 4096 {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := member([]byte("a: 1\n"), "b:"); err == nil {
		t.Error("a member that is not there was found")
	}
}

func until(t *testing.T, done func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for !done() {
		select {
		case <-deadline:
			t.Fatal("it did not come to pass")
		case <-time.After(time.Millisecond):
		}
	}
}

func TestDeviceCountsWhatIsSynced(t *testing.T) {
	dir := t.TempDir()
	before, err := DeviceWritten(dir)
	if err != nil {
		t.Skip("no disk that tells:", err)
	}
	f, err := os.Create(filepath.Join(dir, "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	if after, err := DeviceWritten(dir); err != nil || after-before < 1<<20 {
		t.Errorf("1 MiB was synced, the disk wrote %d bytes (%v)", after-before, err)
	}
}
