package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// gate stands between a process and its disk: the kernel asks it before each
// system call that writes or syncs a file, or looks at the file system (seccomp's
// notifications, which need no rights). While it is closed these calls hang, as
// on a disk that does not answer; they go on when it is opened.
type gate struct {
	mu   sync.Mutex
	shut []uint32 // calls that hang
	held []uint64
	fd   int
	dir  string // the disk: other file systems answer
}

// writeCalls are those that a process changes a file by; with statfs it asks what
// room there is.
var (
	writeCalls = []uint32{
		unix.SYS_PWRITE64, unix.SYS_FSYNC, unix.SYS_FDATASYNC, unix.SYS_MSYNC, unix.SYS_FALLOCATE, unix.SYS_FTRUNCATE,
		unix.SYS_RENAMEAT,
	}
	gatedCalls = append(slices.Clone(writeCalls), unix.SYS_STATFS)
)

const gatedCommand = "LEAT_E2E_GATED"

// gated makes a server's process one whose disk can be made to hang.
func gated(t *testing.T, s *server) *gate {
	g := &gate{fd: -1, dir: filepath.Dir(s.dir)}
	s.prepare = func(cmd *exec.Cmd) {
		exe, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		theirs := os.NewFile(uintptr(pair[1]), "gate")
		command, err := json.Marshal(append([]string{cmd.Path}, cmd.Args[1:]...))
		if err != nil {
			t.Fatal(err)
		}
		cmd.Path, cmd.Args = exe, []string{exe, "-test.run=^TestRunGated$"}
		cmd.Env = append(os.Environ(), gatedCommand+"="+string(command))
		cmd.ExtraFiles = []*os.File{theirs}
		go g.serve(t, pair[0], theirs)
	}
	return g
}

// TestRunGated is no test: it becomes the program named in the environment, with
// the gate before its disk.
func TestRunGated(t *testing.T) {
	command := os.Getenv(gatedCommand)
	if command == "" {
		t.Skip("a helper of other tests")
	}
	var args []string
	if err := json.Unmarshal([]byte(command), &args); err != nil {
		t.Fatal(err)
	}
	runtime.LockOSThread() // the filter is the thread's, and goes with it
	if err := handOver(3); err != nil {
		fmt.Fprintln(os.Stderr, "gate:", err)
		os.Exit(77)
	}
	t.Fatal(syscall.Exec(args[0], args, os.Environ()))
}

// handOver installs the filter and sends the end that decides to the socket.
func handOver(socket int) error {
	const number = 0 // where the system call's number stands
	filter := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: number}}
	for _, call := range gatedCalls {
		filter = append(filter,
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: call, Jf: 1},
			unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_USER_NOTIF})
	}
	filter = append(filter, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW})
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		return fmt.Errorf("this kernel lends no seccomp notifications: %w", errno)
	}
	if err := unix.Sendmsg(socket, []byte{0}, unix.UnixRights(int(fd)), nil, 0); err != nil {
		return err
	}
	return errors.Join(unix.Close(socket), unix.Close(int(fd)))
}

// notification and response are the kernel's struct seccomp_notif and
// seccomp_notif_resp.
type notification struct {
	id         uint64
	pid, flags uint32
	nr, arch   uint32
	ip         uint64
	args       [6]uint64
}

type response struct {
	id    uint64
	value int64
	error int32
	flags uint32
}

// serve answers the kernel until the process has ended.
func (g *gate) serve(t *testing.T, socket int, theirs *os.File) {
	defer unix.Close(socket)
	control := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(socket, make([]byte, 1), control, unix.MSG_CMSG_CLOEXEC)
	theirs.Close() // the process has it by now
	if err != nil || n == 0 {
		return // the process says why
	}
	messages, err := unix.ParseSocketControlMessage(control[:n])
	if err != nil || len(messages) != 1 {
		t.Errorf("gate: %v", err)
		return
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		t.Errorf("gate: %v", err)
		return
	}
	fd := fds[0]
	defer unix.Close(fd)
	g.mu.Lock()
	g.fd, g.held = fd, nil
	g.mu.Unlock()
	for {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if _, err := unix.Poll(poll, -1); err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
		if poll[0].Revents&unix.POLLIN == 0 {
			if poll[0].Revents&(unix.POLLHUP|unix.POLLERR|unix.POLLNVAL) != 0 {
				return
			}
			continue
		}
		var got notification
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(&got))); errno != 0 {
			continue // the caller has been interrupted, and asks again
		}
		g.mu.Lock()
		if slices.Contains(g.shut, got.nr) && (got.nr != unix.SYS_STATFS || g.ours(got)) {
			g.held = append(g.held, got.id)
		} else {
			g.let(got.id)
		}
		g.mu.Unlock()
	}
}

// ours says whether a call with a path is about the disk.
func (g *gate) ours(of notification) bool {
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", of.pid))
	if err != nil {
		return false // it has ended
	}
	defer mem.Close()
	path := make([]byte, len(g.dir))
	_, err = mem.ReadAt(path, int64(of.args[0]))
	return err == nil && string(path) == g.dir
}

// let lets a call go on. mu is held.
func (g *gate) let(id uint64) {
	answer := response{id: id, flags: 1} // SECCOMP_USER_NOTIF_FLAG_CONTINUE
	// Of a caller that was interrupted or has ended there is nothing to answer.
	_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(g.fd), unix.SECCOMP_IOCTL_NOTIF_SEND, uintptr(unsafe.Pointer(&answer)))
}

// close makes calls hang.
func (g *gate) close(calls []uint32) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = calls
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = nil
	for _, id := range slices.Clone(g.held) {
		g.let(id)
	}
	g.held = nil
}

// holds says whether a call hangs.
func (g *gate) holds() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.held) > 0
}

// needGate skips a test where the kernel has no gate to lend.
func needGate(t *testing.T) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "-test.run=^TestRunGated$")
	cmd.Env = append(os.Environ(), gatedCommand+`=["/bin/true"]`)
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[0])
	theirs := os.NewFile(uintptr(pair[1]), "gate")
	defer theirs.Close()
	cmd.ExtraFiles = []*os.File{theirs}
	out, err := cmd.CombinedOutput()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.ExitCode() == 77 {
		t.Skipf("%s", out)
	}
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// within runs something that must end in time.
func within(t *testing.T, limit time.Duration, what string, do func()) {
	t.Helper()
	began := time.Now()
	do()
	if took := time.Since(began); took > limit {
		t.Errorf("%s took %v, at most %v are expected", what, took, limit)
	}
}
