package channel

import (
	"fmt"

	"github.com/leat-dev/leat/api/event"
	"github.com/leat-dev/leat/filter"
)

// compileFilter is the default of Options.Compile. A filter that fails on an
// event does not match it.
func compileFilter(canonical []byte, engine int) (func(*event.Event) bool, error) {
	if len(canonical) == 0 {
		return func(*event.Event) bool { return true }, nil
	}
	if engine > filter.Engine {
		return nil, fmt.Errorf("filter engine %d is not known here, up to %d are", engine, filter.Engine)
	}
	spec, err := filter.ParseSpec(canonical)
	if err != nil {
		return nil, err
	}
	f, err := filter.Compile(spec)
	if err != nil {
		return nil, err
	}
	view := filter.NewView(nil)
	return func(e *event.Event) bool {
		view.Reset(e)
		ok, err := f.Match(view)
		return err == nil && ok
	}, nil
}
