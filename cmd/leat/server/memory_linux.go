package server

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// dropProgram has the kernel forget which pages of the program's file this
// process has touched. Most of them are code and tables that the start alone
// needed; what is used is mapped again, from the page cache, at its next use.
func dropProgram() error {
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		return err
	}
	mappings, err := unchanged(f, program)
	err = errors.Join(err, f.Close())
	for _, m := range mappings {
		if _, _, e := unix.Syscall(unix.SYS_MADVISE, m.from, m.to-m.from, unix.MADV_DONTNEED); e != 0 {
			err = errors.Join(err, fmt.Errorf("madvise %x-%x: %w", m.from, m.to, e))
		}
	}
	return err
}

// mapping is a range of addresses.
type mapping struct{ from, to uintptr }

// unchanged finds, in the kernel's list of mappings (smaps), those of a file that
// cannot be written to and that have no page of their own, which is not the
// file's any more and would be lost. All of the file stand together: what comes
// after them is not read, as the kernel counts the pages of what it lists.
func unchanged(smaps io.Reader, file string) (found []mapping, err error) {
	var at mapping
	of, ours, clean := false, false, false
	s := bufio.NewScanner(smaps)
	for s.Scan() {
		fields := strings.Fields(s.Text())
		switch {
		case len(fields) >= 5 && !strings.HasSuffix(fields[0], ":"):
			last := of
			if of = strings.Join(fields[5:], " ") == file; last && !of {
				return found, nil
			}
			if ours = of && !strings.Contains(fields[1], "w"); !ours {
				continue
			}
			from, to, _ := strings.Cut(fields[0], "-")
			a, err1 := strconv.ParseUint(from, 16, 64)
			b, err2 := strconv.ParseUint(to, 16, 64)
			if err := errors.Join(err1, err2); err != nil {
				return nil, fmt.Errorf("read the list of mappings: %w", err)
			}
			at, clean = mapping{uintptr(a), uintptr(b)}, false
		case ours && len(fields) == 3 && fields[0] == "Anonymous:":
			clean = fields[1] == "0"
		case ours && len(fields) == 3 && fields[0] == "Swap:" && fields[1] == "0" && clean:
			found = append(found, at)
		}
	}
	return found, s.Err()
}
