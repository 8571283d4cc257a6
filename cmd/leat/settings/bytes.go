package settings

import (
	"fmt"
	"math"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
)

// Bytes is a size. It is written as a number with an optional unit: KiB, MiB,
// GiB, TiB (powers of 1,024), or kB, MB, GB, TB (powers of 1,000).
type Bytes int64

var units = []struct {
	name string
	size int64
}{
	{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
	{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}, {"B", 1},
}

// ParseBytes reads a size.
func ParseBytes(s string) (Bytes, error) {
	number, size := strings.TrimSpace(s), int64(1)
	for _, u := range units {
		if n, ok := strings.CutSuffix(number, u.name); ok {
			number, size = strings.TrimSpace(n), u.size
			break
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%q is not a size: write a whole number with KiB, MiB, GiB, TiB, kB, MB, GB or TB, or without a unit for bytes", s)
	}
	if n > math.MaxInt64/size {
		return 0, fmt.Errorf("%q is too large", s)
	}
	return Bytes(n * size), nil
}

// Set implements pflag.Value.
func (b *Bytes) Set(s string) error {
	v, err := ParseBytes(s)
	if err == nil {
		*b = v
	}
	return err
}

// Type implements pflag.Value.
func (b *Bytes) Type() string { return "size" }

// String writes the size in the largest binary unit that keeps it whole.
func (b Bytes) String() string {
	for _, u := range units[:4] {
		if b != 0 && int64(b)%u.size == 0 {
			return strconv.FormatInt(int64(b)/u.size, 10) + u.name
		}
	}
	return strconv.FormatInt(int64(b), 10)
}

func bytesVar(f *pflag.FlagSet, p *Bytes, name string, def Bytes, usage string) {
	*p = def
	f.Var(p, name, usage)
}

// isLoopback says whether an address to listen on can be reached from this
// machine only.
func isLoopback(address string) (bool, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false, fmt.Errorf("%q must be HOST:PORT, such as 127.0.0.1:8080", address)
	}
	if host == "localhost" {
		return true, nil
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback(), nil
}
