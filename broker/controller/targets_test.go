package controller

import (
	"reflect"
	"testing"
	"time"

	"github.com/leat-dev/leat/dispatcher"
)

// TestSumTellsTargetsApart: whatever of a target changes, the dispatcher is told.
func TestSumTellsTargetsApart(t *testing.T) {
	least := dispatcher.Target{}
	seen := map[[32]byte]string{sumOf("", least): "nothing", sumOf("log", least): "the log"}
	if len(seen) != 2 {
		t.Fatal("another log makes no difference")
	}
	var look func(target *dispatcher.Target, v reflect.Value, name string)
	look = func(target *dispatcher.Target, v reflect.Value, name string) {
		before := reflect.New(v.Type()).Elem()
		before.Set(v)
		switch {
		case v.Type() == reflect.TypeFor[dispatcher.ReplyFunc](): // goes with the log
			return
		case v.Kind() == reflect.Struct:
			for i := range v.NumField() {
				look(target, v.Field(i), name+"."+v.Type().Field(i).Name)
			}
			return
		case v.Kind() == reflect.String:
			v.SetString("x")
		case v.Kind() == reflect.Bool:
			v.SetBool(true)
		case v.CanInt():
			v.SetInt(7)
		case v.Type() == reflect.TypeFor[*time.Duration]():
			v.Set(reflect.ValueOf(new(time.Duration)))
		default:
			t.Fatalf("%s: what is a %s?", name, v.Type())
		}
		sum := sumOf("", *target)
		if other, ok := seen[sum]; ok {
			t.Errorf("%s is not told from %s", name, other)
		}
		seen[sum] = name
		v.Set(before)
	}
	target := least
	look(&target, reflect.ValueOf(&target).Elem(), "target")
}
