package kv

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// mark says whether the database beside it can be trusted to be whole. Badger
// opens its own files, so this is on the real file system as well.
type mark struct {
	// Boot is the id of the kernel that ran the last process that had the
	// database open. What a killed process wrote is whole within the same boot:
	// the page cache outlives it.
	Boot string `json:"boot"`
	// Files is set when the database was closed: it is then whole, whatever came
	// after, if its files are still the same.
	Files fileSums `json:"files,omitempty"`
}

// dbDir is badger's directory, beside the mark.
const dbDir = "db"

func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "" // then only a database that was closed is trusted
	}
	return strings.TrimSpace(string(b))
}

func markPath(dir string) string { return filepath.Join(dir, "mark.json") }

func readMark(dir string) (mark, error) {
	b, err := os.ReadFile(markPath(dir))
	if err != nil {
		return mark{}, err
	}
	var m mark
	if err := json.Unmarshal(b, &m); err != nil {
		return mark{}, fmt.Errorf("%s: %w", markPath(dir), err)
	}
	return m, nil
}

// writeMark replaces the mark and makes it durable.
func writeMark(dir string, m mark) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	tmp := markPath(dir) + ".tmp"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp, markPath(dir))
	}
	if err == nil {
		err = syncDir(dir)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", markPath(dir), err)
	}
	return nil
}

// dropMark makes the next Open rebuild the state.
func dropMark(dir string) error {
	if err := os.Remove(markPath(dir)); err != nil {
		return err
	}
	return syncDir(dir)
}

// Check says what is wrong with a database that was closed; nil also where it was
// not, as it is checked when it is opened.
func Check(dir string) error {
	m, err := readMark(dir)
	if err != nil || m.Files == nil {
		return nil // it is rebuilt, or checked
	}
	return m.Files.compare(filepath.Join(dir, dbDir))
}

// SetAside takes the database of a store that nobody has open out of use, so that
// the next Open rebuilds it from snapshot and log. It returns its name from now
// on; empty where there was none.
func SetAside(dir string) (string, error) {
	if err := dropMark(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	from := filepath.Join(dir, dbDir)
	to := from + ".damaged"
	for n := 1; ; n++ {
		if _, err := os.Lstat(to); errors.Is(err, os.ErrNotExist) {
			break
		} else if err != nil {
			return "", err
		}
		to = fmt.Sprintf("%s.damaged.%d", from, n)
	}
	if err := os.Rename(from, to); errors.Is(err, os.ErrNotExist) {
		return "", nil
	} else if err != nil {
		return "", err
	}
	return to, syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return err
}
