package filter

import (
	"strings"

	"github.com/expr-lang/expr/vm"

	"github.com/leat-dev/leat/api/event"
	"github.com/leat-dev/leat/filter/cesql"
	"github.com/leat-dev/leat/filter/payload"
)

// View is an event as filters see it: its attributes, and its data, parsed at
// most once and only when a filter asks for it. A View also holds the memory
// that matching needs, so it is worth keeping (a sync.Pool does well) and
// reusing by Reset. It belongs to one goroutine at a time; the event is only
// read.
type View struct {
	e      *event.Event
	limits Limits

	data      any
	dataError error
	dataState dataState

	// For expr: the machine, its variables, and whether they hold something of
	// this event.
	vm      vm.VM
	env     map[string]any
	envUsed bool
	steps   steps

	// For a Matcher: the buckets to run, and which of its filters have run on
	// this event.
	buckets []*bucket
	ran     []uint64
	round   uint64
}

type dataState uint8

const (
	dataUnread dataState = iota
	dataAbsent
	dataRead
	dataBroken
)

// NewView makes a View of an event under the default limits. The event may be
// nil if Reset follows before the View is used.
func NewView(e *event.Event) *View { return Limits{}.NewView(e) }

// NewView is the function of that name under these limits.
func (l Limits) NewView(e *event.Event) *View {
	v := &View{limits: l.withDefaults()}
	v.Reset(e)
	return v
}

// Reset makes the View one of another event, or of none, so that it holds
// nothing of the last one.
func (v *View) Reset(e *event.Event) {
	v.e = e
	v.data, v.dataError, v.dataState = nil, nil, dataUnread
	if v.envUsed {
		clear(v.env)
		clear(v.vm.Stack[:cap(v.vm.Stack)])
		clear(v.vm.Variables)
		v.envUsed = false
	}
}

// Data is the event's data when it is JSON: its content type says so, or there
// is none and it parses. Values are those of package payload. An event without
// data, or with data of another kind, gives nil; JSON data that is broken or
// beyond the limits gives nil and an error, to every filter that asks for it.
func (v *View) Data() (any, error) {
	if v.dataState == dataUnread {
		v.parseData()
	}
	return v.data, v.dataError
}

func (v *View) parseData() {
	v.dataState = dataAbsent
	if len(v.e.Data) == 0 {
		return
	}
	declared := v.e.DataContentType != ""
	if declared && !isJSON(v.e.DataContentType) {
		return
	}
	data, err := payload.Parse(v.e.Data, v.limits.payload())
	switch {
	case err == nil:
		v.data, v.dataState = data, dataRead
	case declared:
		v.dataError, v.dataState = &EvalError{Path: "data", Reason: err.Error(), Err: err}, dataBroken
	}
}

// isJSON says whether a media type is JSON: application/json, text/json or one
// that ends in +json, whatever its parameters.
func isJSON(contentType string) bool {
	media, _, _ := strings.Cut(contentType, ";")
	media = strings.TrimSpace(media)
	if len(media) < 5 {
		return false
	}
	end := media[len(media)-5:]
	return strings.EqualFold(end, "/json") || strings.EqualFold(end, "+json")
}

// attribute is the name of an attribute, resolved once.
type attribute struct {
	name string
	core coreAttribute
}

type coreAttribute uint8

const (
	extension coreAttribute = iota
	coreID
	coreSource
	coreType
	coreSpecVersion
	coreSubject
	coreTime
	coreDataContentType
	coreDataSchema
)

func attributeOf(name string) attribute {
	a := attribute{name: name}
	switch name {
	case "id":
		a.core = coreID
	case "source":
		a.core = coreSource
	case "type":
		a.core = coreType
	case "specversion":
		a.core = coreSpecVersion
	case "subject":
		a.core = coreSubject
	case "time":
		a.core = coreTime
	case "datacontenttype":
		a.core = coreDataContentType
	case "dataschema":
		a.core = coreDataSchema
	}
	return a
}

// required says that every event has the attribute.
func (a attribute) required() bool { return a.core >= coreID && a.core <= coreSpecVersion }

// attribute gives an attribute's value; false when the event does not have it.
func (v *View) attribute(a attribute) (event.Value, bool) {
	var s string
	switch a.core {
	case coreID:
		s = v.e.ID
	case coreSource:
		s = v.e.Source
	case coreType:
		s = v.e.Type
	case coreSpecVersion:
		s = "1.0"
	case coreSubject:
		s = v.e.Subject
	case coreTime:
		s = v.e.Time
	case coreDataContentType:
		s = v.e.DataContentType
	case coreDataSchema:
		s = v.e.DataSchema
	default:
		return v.extension(a.name)
	}
	return event.Value{Kind: event.String, Str: s}, s != "" || a.required()
}

func (v *View) extension(name string) (event.Value, bool) {
	low, high := 0, len(v.e.Extensions)
	for low < high {
		mid := int(uint(low+high) >> 1)
		if v.e.Extensions[mid].Name < name {
			low = mid + 1
		} else {
			high = mid
		}
	}
	if low < len(v.e.Extensions) && v.e.Extensions[low].Name == name {
		return v.e.Extensions[low].Value, true
	}
	return event.Value{}, false
}

// CESQLAttribute gives an attribute to a CESQL expression.
func (v *View) CESQLAttribute(name string) (cesql.Value, bool) {
	a, ok := v.attribute(attributeOf(name))
	if !ok {
		return cesql.Value{}, false
	}
	switch a.Kind {
	case event.Integer:
		return cesql.Value{Type: cesql.Integer, Int: a.Int}, true
	case event.Boolean:
		return cesql.Value{Type: cesql.Boolean, Bool: a.Int != 0}, true
	default:
		return cesql.Value{Type: cesql.String, Str: a.Str}, true
	}
}
