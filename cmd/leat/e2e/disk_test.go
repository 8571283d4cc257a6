package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// TestFullDisk: on a disk that fills up, events are answered with 503 and
// Retry-After, what was accepted is still delivered and the API is still read;
// when there is room again, events are taken again by the same process.
func TestFullDisk(t *testing.T) {
	disk := filepath.Join(t.TempDir(), "disk")
	if err := os.Mkdir(disk, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("leat-e2e", disk, "tmpfs", 0, "size=192m"); err != nil {
		t.Skipf("a small file system needs the right to mount one: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(disk, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	s := newServer(t, filepath.Join(disk, "data"), "--max-batch-bytes", "1MiB", "--segment-bytes", "8MiB", "--disk-floor", "48MiB", "--disk-reserve", "24MiB")
	s.start()
	down := subscriber(t, func(string) int { return http.StatusOK })
	s.apply(broker + "\n---\n" + "apiVersion: eventing.knative.dev/v1\nkind: Trigger\nmetadata: {name: all}\nspec: {broker: default, subscriber: {uri: \"" + down.URL + "\"}}")

	send := func(id string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url("/default/default"), nil)
		if err != nil {
			t.Fatal(err)
		}
		for k, v := range map[string]string{"Ce-Specversion": "1.0", "Ce-Id": id, "Ce-Type": "x", "Ce-Source": "/e2e"} {
			req.Header.Set(k, v)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return resp.StatusCode, resp.Header.Get("Retry-After")
	}
	acked := map[string]bool{}
	if status, _ := send("before"); status != http.StatusAccepted {
		t.Fatalf("with room on the disk: %d", status)
	}
	acked["before"] = true

	ballast := filepath.Join(disk, "ballast")
	fill(t, disk, ballast, 32<<20)
	n := 0
	eventually(t, 10*time.Second, "events are refused", func() bool {
		n++
		id := fmt.Sprintf("full-%d", n)
		status, retry := send(id)
		switch {
		case status == http.StatusAccepted:
			acked[id] = true
		case status != http.StatusServiceUnavailable || retry == "":
			t.Fatalf("on a full disk: %d, Retry-After %q", status, retry)
		}
		return status == http.StatusServiceUnavailable
	})
	if got := s.condition(parse(t, broker)[0], "Ready"); got != "True" {
		t.Errorf("the API on a full disk: %s", got)
	}
	eventually(t, 20*time.Second, "what was accepted is delivered", func() bool { return len(down.missing(acked)) == 0 })

	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, "events are taken again", func() bool {
		n++
		status, _ := send(fmt.Sprintf("after-%d", n))
		return status == http.StatusAccepted
	})
	acked[fmt.Sprintf("after-%d", n)] = true
	eventually(t, 20*time.Second, "everything accepted is delivered", func() bool { return len(down.missing(acked)) == 0 })
}

// fill writes a file until the file system has at most leave bytes free.
func fill(t *testing.T, dir, path string, leave uint64) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	block := make([]byte, 1<<20)
	for {
		var st syscall.Statfs_t
		if err := syscall.Statfs(dir, &st); err != nil {
			t.Fatal(err)
		}
		if st.Bavail*uint64(st.Bsize) <= leave {
			return
		}
		if _, err := f.Write(block); err != nil {
			t.Fatal(err)
		}
	}
}
