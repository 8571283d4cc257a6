package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// OS is the machine's file system. Files are made readable by their owner only.
type OS struct{}

var _ FS = OS{}

const (
	filePermissions = 0o600
	dirPermissions  = 0o700
)

// Create implements FS.
func (OS) Create(name string) (File, error) {
	return openFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC)
}

// Open implements FS.
func (OS) Open(name string) (File, error) { return openFile(name, os.O_RDONLY) }

// OpenReadWrite implements FS.
func (OS) OpenReadWrite(name string) (File, error) { return openFile(name, os.O_RDWR) }

// OpenDirect implements FS. Where there is no O_DIRECT some file systems refuse to
// open, and others the first write.
func (OS) OpenDirect(name string) (DirectFile, error) {
	if openDirect == 0 {
		return nil, &fs.PathError{Op: "open", Path: name, Err: errors.ErrUnsupported}
	}
	f, err := os.OpenFile(name, os.O_WRONLY|openDirect, filePermissions)
	if err != nil {
		return nil, unsupported(err)
	}
	return directFile{f}, nil
}

type directFile struct{ f *os.File }

// WriteAt implements DirectFile. The kernel may write less than it is asked to.
func (d directFile) WriteAt(off int64, pieces ...[]byte) (int, error) {
	written := 0
	for len(pieces) > 0 {
		n, open := 0, false
		err := control(d.f, func(fd int) (err error) {
			open = true
			n, err = pwritev(fd, pieces, off+int64(written))
			return err
		})
		switch {
		case !open:
			err = fs.ErrClosed
		case err == nil && n == 0:
			err = io.ErrShortWrite
		}
		if err != nil {
			if written == 0 {
				err = unsupported(err)
			}
			return written, &fs.PathError{Op: "write directly", Path: d.f.Name(), Err: err}
		}
		written += n
		pieces = behind(pieces, n)
	}
	return written, nil
}

// behind is what follows the first n bytes of some pieces.
func behind(pieces [][]byte, n int) [][]byte {
	for len(pieces) > 0 && n >= len(pieces[0]) {
		n -= len(pieces[0])
		pieces = pieces[1:]
	}
	if n > 0 {
		pieces = append([][]byte{pieces[0][n:]}, pieces[1:]...)
	}
	return pieces
}

// Close implements DirectFile.
func (d directFile) Close() error { return d.f.Close() }

// unsupported says of an error what it means where O_DIRECT is asked for.
func unsupported(err error) error {
	if errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("%w: direct writes: %w", errors.ErrUnsupported, err)
	}
	return err
}

// Rename implements FS.
func (OS) Rename(from, to string) error { return os.Rename(from, to) }

// Remove implements FS.
func (OS) Remove(name string) error { return os.Remove(name) }

// RemoveAll implements FS.
func (OS) RemoveAll(name string) error { return os.RemoveAll(name) }

// MkdirAll implements FS. What is made is an entry in the directory above it,
// which is synced.
func (o OS) MkdirAll(name string) error {
	var made []string
	for dir := filepath.Clean(name); ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			break
		}
		made = append(made, dir)
	}
	if err := os.MkdirAll(name, dirPermissions); err != nil {
		return err
	}
	for _, dir := range made {
		if err := o.SyncDir(filepath.Dir(dir)); err != nil {
			return err
		}
	}
	return nil
}

// ReadDir implements FS.
func (OS) ReadDir(name string) ([]fs.DirEntry, error) { return os.ReadDir(name) }

// Stat implements FS.
func (OS) Stat(name string) (fs.FileInfo, error) { return os.Stat(name) }

// SyncDir implements FS.
func (OS) SyncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Lock implements FS with flock: the lock ends with the process at the latest.
func (OS) Lock(name string) (io.Closer, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, filePermissions)
	if err != nil {
		return nil, err
	}
	err = control(f, func(fd int) error { return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) })
	switch {
	case err == nil:
		return f, nil
	case errors.Is(err, unix.EWOULDBLOCK):
		err = ErrLocked
	}
	return nil, errors.Join(fmt.Errorf("lock %s: %w", name, err), f.Close())
}

// Free implements FS.
func (OS) Free(name string) (free, total uint64, err error) {
	var s unix.Statfs_t
	if err := unix.Statfs(name, &s); err != nil {
		return 0, 0, fmt.Errorf("statfs %s: %w", name, err)
	}
	block := uint64(s.Bsize)
	return uint64(s.Bavail) * block, uint64(s.Blocks) * block, nil
}

type osFile struct{ *os.File }

func openFile(name string, flag int) (File, error) {
	f, err := os.OpenFile(name, flag, filePermissions)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

// Datasync implements File.
func (f osFile) Datasync() error {
	return f.control("fdatasync", fdatasync)
}

// Preallocate implements File.
func (f osFile) Preallocate(size int64) error {
	err := f.control("fallocate", func(fd int) error { return fallocate(fd, size) })
	if errors.Is(err, errors.ErrUnsupported) || errors.Is(err, unix.EOPNOTSUPP) {
		return f.fill(size)
	}
	return err
}

// fill takes the space up to size by writing to it.
func (f osFile) fill(size int64) error {
	at, err := f.Size()
	if err != nil {
		return err
	}
	zeros := make([]byte, 256<<10)
	for at < size {
		n, err := f.WriteAt(zeros[:min(int64(len(zeros)), size-at)], at)
		if err != nil {
			return err
		}
		at += int64(n)
	}
	return nil
}

// Size implements File.
func (f osFile) Size() (int64, error) {
	i, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return i.Size(), nil
}

func (f osFile) control(op string, do func(fd int) error) error {
	if err := control(f.File, do); err != nil {
		return &fs.PathError{Op: op, Path: f.Name(), Err: err}
	}
	return nil
}

// control runs a system call on a file's descriptor, again when a signal
// interrupts it.
func control(f *os.File, do func(fd int) error) error {
	c, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var result error
	err = c.Control(func(fd uintptr) {
		for {
			if result = do(int(fd)); !errors.Is(result, unix.EINTR) {
				return
			}
		}
	})
	return errors.Join(err, result)
}
