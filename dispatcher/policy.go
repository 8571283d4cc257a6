package dispatcher

import (
	"math"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// retryable says whether an answer with this status is worth another attempt.
// -1 stands for no answer at all.
func retryable(code int) bool {
	switch code {
	case -1, http.StatusNotFound, http.StatusRequestTimeout, http.StatusConflict, http.StatusTooManyRequests:
		return true
	}
	return code >= 500
}

func (p Policy) maxDelay() time.Duration {
	if p.MaxDelay > 0 {
		return p.MaxDelay
	}
	return defaultMaxDelay
}

func (p Policy) timeout() time.Duration {
	if p.Timeout > 0 {
		return p.Timeout
	}
	return defaultTimeout
}

// wait is how long to wait after failed attempt n (from 0).
func (p Policy) wait(n int) time.Duration {
	unit := p.Delay
	if unit <= 0 {
		unit = defaultDelay
	}
	limit := p.maxDelay()
	d := limit
	if p.Backoff == Linear {
		if int64(n) < math.MaxInt64/int64(unit)-1 {
			d = unit * time.Duration(n+1)
		}
	} else if n < 62 && unit <= math.MaxInt64>>n {
		d = unit << n
	}
	d = min(d, limit)
	if p.Jitter {
		d = time.Duration(rand.Int64N(int64(d) + 1))
	}
	return d
}

// delay is how long to wait after failed attempt n (from 0), given what the
// answer asked for. A Retry-After replaces the backoff only where it is longer.
func (p Policy) delay(n int, code int, retryAfter string, now time.Time) time.Duration {
	d := p.wait(n)
	if code != http.StatusTooManyRequests && code != http.StatusServiceUnavailable {
		return d
	}
	limit := p.maxDelay()
	if p.RetryAfterMax != nil {
		limit = *p.RetryAfterMax
	}
	if asked, ok := parseRetryAfter(retryAfter, now); ok {
		d = max(d, min(asked, limit))
	}
	return d
}

// parseRetryAfter reads a Retry-After header: seconds, or an HTTP date.
func parseRetryAfter(s string, now time.Time) (time.Duration, bool) {
	s = strings.TrimSpace(s)
	if s == "" {
		return 0, false
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		if n < 0 {
			return 0, false
		}
		return time.Duration(min(n, int64(math.MaxInt64/time.Second))) * time.Second, true
	}
	at, err := http.ParseTime(s)
	if err != nil {
		return 0, false
	}
	return max(0, at.Sub(now)), true
}
