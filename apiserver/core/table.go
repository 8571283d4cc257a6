package core

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/apiserver/pkg/registry/rest"
)

// table shows objects of a kind as rows, for "kubectl get".
type table struct{ *kind }

var _ rest.TableConvertor = table{}

// ConvertToTable implements rest.TableConvertor.
func (t table) ConvertToTable(_ context.Context, obj, options runtime.Object) (*metav1.Table, error) {
	out := &metav1.Table{}
	add := func(obj runtime.Object) error {
		out.Rows = append(out.Rows, metav1.TableRow{Cells: t.row(obj), Object: runtime.RawExtension{Object: obj}})
		return nil
	}
	if meta.IsListType(obj) {
		if err := meta.EachListItem(obj, add); err != nil {
			return nil, err
		}
		list, err := meta.ListAccessor(obj)
		if err != nil {
			return nil, err
		}
		out.ResourceVersion, out.Continue, out.RemainingItemCount = list.GetResourceVersion(), list.GetContinue(), list.GetRemainingItemCount()
	} else {
		if err := add(obj); err != nil {
			return nil, err
		}
		out.ResourceVersion = metadata(obj).GetResourceVersion()
	}
	if o, ok := options.(*metav1.TableOptions); !ok || !o.NoHeaders {
		out.ColumnDefinitions = t.columns
	}
	return out, nil
}

const none = "<none>"

// column describes a column; wide ones are shown by "-o wide" only.
func column(name, what string) metav1.TableColumnDefinition {
	c := metav1.TableColumnDefinition{Name: name, Type: "string", Description: what}
	if name == "Name" {
		c.Format = "name"
	}
	return c
}

func wide(c metav1.TableColumnDefinition) metav1.TableColumnDefinition {
	c.Priority = 1
	return c
}

func number(c metav1.TableColumnDefinition) metav1.TableColumnDefinition {
	c.Type = "integer"
	return c
}

func nameColumn() metav1.TableColumnDefinition { return column("Name", "Name of the object.") }
func ageColumn() metav1.TableColumnDefinition {
	return column("Age", "Time since the object was created.")
}

// age is the time since t, as kubectl shows it.
func age(t metav1.Time) string {
	if t.IsZero() {
		return "<unknown>"
	}
	return duration.HumanDuration(time.Since(t.Time))
}

func orNone(s string) string {
	if s == "" {
		return none
	}
	return s
}
