package segment

import (
	"errors"
	"fmt"
	"syscall"
)

// DamagedError is a piece of the log that does not read back as it was written.
// Reading it again does not help.
type DamagedError struct {
	File   string
	Offset int64 // bytes from the file's begin
	// First and Last are the raft indexes that are lost or in doubt; 0: not known.
	First, Last uint64
	Reason      string
}

// Error names file and position.
func (e *DamagedError) Error() string {
	s := fmt.Sprintf("damaged log: %s at byte %d: %s", e.File, e.Offset, e.Reason)
	switch {
	case e.First != 0 && e.Last >= e.First:
		s += fmt.Sprintf("; entries %d to %d are concerned", e.First, e.Last)
	case e.First != 0:
		s += fmt.Sprintf("; entries from %d on are concerned", e.First)
	}
	return s
}

// ErrClosed is what a closed Store gives.
var ErrClosed = errors.New("the log is closed")

// ErrFull is what StoreLogs gives, wrapped, where nothing has been written
// because the next segment does not exist and cannot be made for want of space.
// It passes when there is room again.
var ErrFull = errors.New("the log has no room, and no space for its next segment")

// passes tells want of space or of file descriptors, which may end by itself,
// from a disk that fails.
func passes(err error) bool {
	for _, e := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EMFILE, syscall.ENFILE} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
