package core

import (
	"context"
	"reflect"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/storage/names"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
)

// strategy is how a kind is created and changed.
type strategy struct {
	runtime.ObjectTyper
	names.NameGenerator
	*kind
}

var (
	_ rest.RESTCreateStrategy  = strategy{}
	_ rest.RESTUpdateStrategy  = strategy{}
	_ rest.ResetFieldsStrategy = strategy{}
	_ rest.RESTUpdateStrategy  = statusStrategy{}
	_ rest.ResetFieldsStrategy = statusStrategy{}
)

func (s strategy) NamespaceScoped() bool                         { return s.namespaced }
func (s strategy) Canonicalize(runtime.Object)                   {}
func (s strategy) AllowCreateOnUpdate(context.Context) bool      { return s.createOnUpdate }
func (s strategy) AllowUnconditionalUpdate(context.Context) bool { return true }

func (s strategy) WarningsOnCreate(context.Context, runtime.Object) []string { return nil }
func (s strategy) WarningsOnUpdate(context.Context, runtime.Object, runtime.Object) []string {
	return nil
}

func (s strategy) PrepareForCreate(_ context.Context, obj runtime.Object) {
	if s.hasStatus {
		part(obj, "Status").SetZero()
	}
	if !s.noGeneration {
		metadata(obj).SetGeneration(1)
	}
	if s.onCreate != nil {
		s.onCreate(obj)
	}
}

func (s strategy) PrepareForUpdate(_ context.Context, obj, old runtime.Object) {
	if s.hasStatus {
		part(obj, "Status").Set(part(old.DeepCopyObject(), "Status"))
	}
	if s.keep != nil {
		s.keep(obj, old)
	}
	if !s.noGeneration && !sameContent(obj, old) {
		metadata(obj).SetGeneration(metadata(old).GetGeneration() + 1)
	}
}

func (s strategy) Validate(_ context.Context, obj runtime.Object) field.ErrorList {
	errs := validation.ValidateObjectMetaAccessor(metadata(obj), s.namespaced, s.checkName, field.NewPath("metadata"))
	if s.validate != nil {
		errs = append(errs, s.validate(obj, nil)...)
	}
	return errs
}

func (s strategy) ValidateUpdate(_ context.Context, obj, old runtime.Object) field.ErrorList {
	// What is being deleted may lose its finalizers, whatever it holds.
	if s.validate == nil || metadata(obj).GetDeletionTimestamp() != nil && sameContent(obj, old) {
		return nil
	}
	return s.validate(obj, old)
}

// GetResetFields tells server-side apply which fields a write does not own.
func (s strategy) GetResetFields() map[fieldpath.APIVersion]*fieldpath.Set {
	if !s.hasStatus {
		return nil
	}
	return s.reset("status")
}

func (k *kind) reset(field string) map[fieldpath.APIVersion]*fieldpath.Set {
	return map[fieldpath.APIVersion]*fieldpath.Set{
		fieldpath.APIVersion(k.gv.String()): fieldpath.NewSet(fieldpath.MakePathOrDie(field)),
	}
}

// statusStrategy is how a kind's status is changed: all else stays.
type statusStrategy struct{ strategy }

func (s statusStrategy) PrepareForUpdate(_ context.Context, obj, old runtime.Object) {
	status := part(obj, "Status")
	m := metadata(obj)
	managed, version := m.GetManagedFields(), m.GetResourceVersion()

	changed := old.DeepCopyObject()
	part(changed, "Status").Set(status)
	c := metadata(changed)
	c.SetManagedFields(managed)
	c.SetResourceVersion(version)
	reflect.ValueOf(obj).Elem().Set(reflect.ValueOf(changed).Elem())
}

func (s statusStrategy) ValidateUpdate(context.Context, runtime.Object, runtime.Object) field.ErrorList {
	return nil
}

func (s statusStrategy) GetResetFields() map[fieldpath.APIVersion]*fieldpath.Set {
	return s.reset("spec")
}

// metadata is an object's; all types served here have it.
func metadata(obj runtime.Object) metav1.Object {
	m, err := meta.Accessor(obj)
	if err != nil {
		panic(err) // no other object reaches a strategy
	}
	return m
}

// part is a field of an object's struct.
func part(obj runtime.Object, name string) reflect.Value {
	return reflect.ValueOf(obj).Elem().FieldByName(name)
}

// sameContent says whether two objects differ in type and metadata only.
func sameContent(a, b runtime.Object) bool {
	content := func(obj runtime.Object) any {
		v := reflect.ValueOf(obj).Elem()
		c := reflect.New(v.Type())
		c.Elem().Set(v)
		c.Elem().FieldByName("TypeMeta").SetZero()
		c.Elem().FieldByName("ObjectMeta").SetZero()
		return c.Interface()
	}
	return equality.Semantic.DeepEqual(content(a), content(b))
}
