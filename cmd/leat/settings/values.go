package settings

import (
	"errors"
	"fmt"

	"github.com/spf13/pflag"
)

// examples say, for the types whose own errors speak of Go's parsers, what a
// value looks like.
var examples = map[string]string{
	"duration":       "a duration: a number with its unit, such as 500ms, 30s, 5m or 1h30m; a day is 24h",
	"int":            "a whole number, such as 10",
	"int64":          "a whole number, such as 10",
	"uint64":         "a whole number that is not negative, such as 10",
	"float64":        "a number, such as 0.5",
	"bool":           "true or false",
	"stringToString": "NAME=VALUE, such as tenant=a",
}

// FlagError says of what is wrong with a flag which one it is, what was given,
// and what is right. Other errors are returned as they are.
func FlagError(f *pflag.FlagSet, err error) error {
	var (
		value   *pflag.InvalidValueError
		missing *pflag.ValueRequiredError
		unknown *pflag.NotExistError
	)
	switch {
	case errors.As(err, &value):
		return fmt.Errorf("--%s: %w", value.GetFlag().Name, wrongValue(value))
	case errors.As(err, &missing):
		if example, ok := examples[missing.GetFlag().Value.Type()]; ok {
			return fmt.Errorf("--%s needs a value: %s", missing.GetFlag().Name, example)
		}
		return fmt.Errorf("--%s needs a value: %s", missing.GetFlag().Name, missing.GetFlag().Usage)
	case errors.As(err, &unknown) && unknown.GetSpecifiedShortnames() == "":
		if near := nearest(f, unknown.GetSpecifiedName()); near != "" {
			return fmt.Errorf("%w; did you mean --%s?", err, near)
		}
	}
	return err
}

// wrongValue says what is wrong with the value of a flag, without its name.
func wrongValue(err *pflag.InvalidValueError) error {
	if example, ok := examples[err.GetFlag().Value.Type()]; ok {
		return fmt.Errorf("%q is not %s", err.GetValue(), example)
	}
	if cause := errors.Unwrap(err); cause != nil {
		return cause
	}
	return err
}

// set sets a flag to what a variable or the configuration file has.
func set(f *pflag.FlagSet, name, value string) error {
	err := f.Set(name, value)
	if wrong := (*pflag.InvalidValueError)(nil); errors.As(err, &wrong) {
		return wrongValue(wrong)
	}
	return err
}
