package cesql

import (
	"errors"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// attributes is an event for tests.
type attributes map[string]Value

func (a attributes) CESQLAttribute(name string) (Value, bool) {
	v, ok := a[name]
	return v, ok
}

func toValue(t testing.TB, v any) Value {
	t.Helper()
	switch v := v.(type) {
	case string:
		return stringValue(v)
	case bool:
		return boolValue(v)
	case float64:
		if v != math.Trunc(v) {
			t.Fatalf("%v is no integer", v)
		}
		return intValue(int32(v))
	default:
		t.Fatalf("a %T is no CESQL value", v)
		return Value{}
	}
}

func toAttributes(t testing.TB, m map[string]any) attributes {
	a := attributes{"specversion": stringValue("1.0")}
	for name, v := range m {
		a[name] = toValue(t, v)
	}
	return a
}

// fullEvent is the event that the compatibility kit uses where a case names
// none.
func fullEvent() map[string]any {
	return map[string]any{
		"specversion": "1.0", "id": "full-event", "source": "http://localhost/source", "type": "com.example.FullEvent",
		"subject": "topic", "time": "2020-03-21T12:34:56.78Z", "dataschema": "http://example.com/schema",
		"datacontenttype": "text/json", "exbool": true, "exint": 42.0, "exstring": "exstring",
	}
}

var tckErrors = map[string]ErrorKind{
	"parse": ParseError, "math": MathError, "cast": CastError, "missingAttribute": MissingAttributeError,
	"missingFunction": MissingFunctionError, "functionEvaluation": FunctionEvaluationError, "generic": GenericError,
}

type tckCase struct {
	Name           string
	Expression     string
	Result         any
	Error          string
	Event          map[string]any
	EventOverrides map[string]any
}

// TestCompatibilityKit runs every case of the CloudEvents project's own
// compatibility kit, which comes with the CloudEvents SDK.
func TestCompatibilityKit(t *testing.T) {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/cloudevents/sdk-go/sql/v2").Output()
	if err != nil {
		t.Fatal("where the SDK is:", err)
	}
	files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(dir)), "test", "tck", "*.yaml"))
	if err != nil || len(files) < 18 {
		t.Fatalf("the kit's files: %d, %v", len(files), err)
	}
	cases := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var kit struct {
			Name  string
			Tests []tckCase
		}
		if err := yaml.Unmarshal(text, &kit); err != nil {
			t.Fatal(file, err)
		}
		for _, c := range kit.Tests {
			cases++
			t.Run(kit.Name+"/"+c.Name, c.run)
		}
	}
	if cases < 250 {
		t.Errorf("only %d cases ran", cases)
	}
	t.Logf("%d cases", cases)
}

func (c tckCase) run(t *testing.T) {
	event := c.Event
	if event == nil {
		event = fullEvent()
	}
	for k, v := range c.EventOverrides {
		event[k] = v
	}
	e, err := Parse(c.Expression, Limits{})
	if c.Error == "parse" {
		if kindOf(err) != ParseError {
			t.Fatalf("Parse(%q) = %v, want a parse error", c.Expression, err)
		}
		return
	}
	if err != nil {
		t.Fatalf("Parse(%q): %v", c.Expression, err)
	}
	got, err := e.Evaluate(toAttributes(t, event))
	if (err != nil) != (c.Error != "") || err != nil && kindOf(err) != tckErrors[c.Error] {
		t.Errorf("%q: error %v, want %q", c.Expression, err, c.Error)
	}
	want := boolValue(false) // a case that names no result
	if c.Result != nil {
		want = toValue(t, c.Result)
	}
	if got != want {
		t.Errorf("%q = %+v, want %+v", c.Expression, got, want)
	}
	if static := e.Type(); err == nil && static != Any && static != got.Type {
		t.Errorf("%q is statically %s, but its value is %s", c.Expression, static, got.Type)
	}
}

func kindOf(err error) ErrorKind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return GenericError
}
