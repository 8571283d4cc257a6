//go:build linux

package proc

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// DeviceWritten is what the disk that holds a directory has been given to
// write, in bytes, by whomever.
func DeviceWritten(dir string) (int64, error) {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return 0, fmt.Errorf("stat %s: %w", dir, err)
	}
	b, err := os.ReadFile(fmt.Sprintf("/sys/dev/block/%d:%d/stat", unix.Major(st.Dev), unix.Minor(st.Dev)))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(b))
	if len(fields) < 7 {
		return 0, fmt.Errorf("the disk of %s tells %d figures of itself, not 7 or more", dir, len(fields))
	}
	sectors, err := strconv.ParseInt(fields[6], 10, 64)
	const sector = 512 // of the kernel's count, whatever the disk's are
	return sectors * sector, err
}
