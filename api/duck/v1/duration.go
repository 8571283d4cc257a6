package v1

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"strconv"
	"strings"
	"time"
)

// ParseDuration reads an ISO 8601 duration: [-]P[nW][nD][T[nH][nM][nS]], where
// the last number may have a fraction. Years and months are refused, for they
// have no fixed length; a day has 24 hours. What is finer than a nanosecond is
// cut off.
func ParseDuration(s string) (time.Duration, error) {
	rest, negative := strings.CutPrefix(s, "-")
	if !negative {
		rest = strings.TrimPrefix(rest, "+")
	}
	rest, ok := strings.CutPrefix(rest, "P")
	if !ok {
		return 0, durationError(s, "it does not begin with P")
	}
	date, clock, timed := strings.Cut(rest, "T")
	if timed && clock == "" {
		return 0, durationError(s, "nothing follows the T")
	}
	if date == "" && clock == "" {
		return 0, durationError(s, "it has no number")
	}
	var sum durationSum
	err := sum.add(date, dateUnits[:])
	if err == nil {
		err = sum.add(clock, clockUnits[:])
	}
	if err != nil {
		return 0, durationError(s, err.Error())
	}
	if negative {
		return -sum.total, nil
	}
	return sum.total, nil
}

func durationError(s, why string) error {
	if len(s) > 64 {
		s = s[:64] + "…"
	}
	return fmt.Errorf("%q is not an ISO 8601 duration: %s; write for example PT0.5S, PT30S, PT10M or P7D", s, why)
}

type durationUnit struct {
	letter byte
	length time.Duration // 0: it has none
}

var (
	dateUnits  = [...]durationUnit{{'Y', 0}, {'M', 0}, {'W', 7 * 24 * time.Hour}, {'D', 24 * time.Hour}}
	clockUnits = [...]durationUnit{{'H', time.Hour}, {'M', time.Minute}, {'S', time.Second}}
)

// durationSum adds up the parts of a duration.
type durationSum struct {
	total time.Duration
	ended bool // a fraction was seen: nothing may follow
}

// add adds parts, which have to be in the order of units.
func (d *durationSum) add(parts string, units []durationUnit) error {
	for parts != "" {
		n := 0
		for n < len(parts) && (parts[n] >= '0' && parts[n] <= '9' || parts[n] == '.' || parts[n] == ',') {
			n++
		}
		if n == 0 {
			return fmt.Errorf("a number is expected before %q", parts)
		}
		if n == len(parts) {
			return fmt.Errorf("%s has no unit", parts)
		}
		number, letter := parts[:n], parts[n]
		parts = parts[n+1:]
		for len(units) > 0 && units[0].letter != letter {
			units = units[1:]
		}
		if len(units) == 0 {
			return fmt.Errorf("the unit %q is unknown, repeated or out of order", letter)
		}
		unit := units[0].length
		units = units[1:]
		if unit == 0 {
			return errors.New("years and months have no fixed length, use days")
		}
		if err := d.addPart(number, unit); err != nil {
			return err
		}
	}
	return nil
}

func (d *durationSum) addPart(number string, unit time.Duration) error {
	if d.ended {
		return errors.New("only the last number may have a fraction")
	}
	dot := strings.IndexAny(number, ".,")
	whole, fraction := number, ""
	if dot >= 0 {
		d.ended = true
		whole, fraction = number[:dot], number[dot+1:]
		if whole == "" || fraction == "" || strings.ContainsAny(fraction, ".,") {
			return fmt.Errorf("%s is not a number", number)
		}
	}
	n, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || n > math.MaxInt64/int64(unit) {
		return errTooLong
	}
	part := n * int64(unit)
	if fraction != "" {
		// 18 digits of the longest unit are finer than a nanosecond.
		fraction = fraction[:min(len(fraction), 18)]
		f, err := strconv.ParseUint(fraction, 10, 64)
		if err != nil {
			return err
		}
		hi, lo := bits.Mul64(f, uint64(unit))
		scale := uint64(1)
		for range fraction {
			scale *= 10
		}
		nanos, _ := bits.Div64(hi, lo, scale) // hi < scale, for f < scale
		if part > math.MaxInt64-int64(nanos) {
			return errTooLong
		}
		part += int64(nanos)
	}
	if int64(d.total) > math.MaxInt64-part {
		return errTooLong
	}
	d.total += time.Duration(part)
	return nil
}

var errTooLong = errors.New("it is longer than 292 years")
