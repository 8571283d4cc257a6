package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/leat-dev/leat/raftlog/vfs"
)

// Endpoints is what a ready server tells other programs, in
// DIR/endpoints.json.
type Endpoints struct {
	HTTP       string `json:"http"`
	API        string `json:"api"`
	Kubeconfig string `json:"kubeconfig"`
	PID        int    `json:"pid"`
}

// Names of the files in the data directory that others read.
const (
	endpointsFile  = "endpoints.json"
	kubeconfigFile = "kubeconfig"
)

// write puts the file in place in one step, so that a reader sees all of it or
// none.
func (e Endpoints) write(dir string) error {
	b, err := json.MarshalIndent(e, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(dir, endpointsFile)
	temporary := path + ".tmp"
	if err := os.WriteFile(temporary, append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return os.Rename(temporary, path)
}

// lockDir makes the data directory and locks it. A directory belongs to one
// server at a time.
func lockDir(dir string) (io.Closer, error) {
	fs := vfs.OS{}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("--data: %w", err)
	}
	lock, err := fs.Lock(filepath.Join(dir, "lock"))
	if errors.Is(err, vfs.ErrLocked) {
		running := &RunningError{Dir: dir}
		if e, err := ReadEndpoints(dir); err == nil {
			running.Endpoints = e
		}
		return nil, running
	}
	if err != nil {
		return nil, fmt.Errorf("--data %s: lock: %w", dir, err)
	}
	// What a server that was killed has left there would lead readers astray.
	if err := os.Remove(filepath.Join(dir, endpointsFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, errors.Join(err, lock.Close())
	}
	return lock, nil
}

// RunningError says that another server uses the directory.
type RunningError struct {
	Dir string
	// Endpoints are the other's; the zero value while it is starting.
	Endpoints Endpoints
}

func (e *RunningError) Error() string {
	hint := ", which is starting"
	if e.Endpoints.PID != 0 {
		hint = fmt.Sprintf(" (process %d, at %s)", e.Endpoints.PID, e.Endpoints.HTTP)
	}
	return fmt.Sprintf("--data %s: another server uses this directory%s; stop it, or choose another directory", e.Dir, hint)
}

// ReadEndpoints reads what the server of a directory told; it fails where none
// is ready.
func ReadEndpoints(dir string) (Endpoints, error) {
	var e Endpoints
	b, err := os.ReadFile(filepath.Join(dir, endpointsFile))
	if err != nil {
		return e, err
	}
	return e, json.Unmarshal(b, &e)
}
