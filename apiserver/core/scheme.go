package core

import (
	"fmt"

	authenticationv1 "k8s.io/api/authentication/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
)

// PublicScheme holds the kinds as clients see them. The names of the OpenAPI
// definitions come from it.
func PublicScheme() *runtime.Scheme {
	s := runtime.NewScheme()
	for _, k := range kinds(0) {
		s.AddKnownTypes(k.gv, k.new(), k.newList())
	}
	s.AddKnownTypes(eventsv1.SchemeGroupVersion, &eventsv1.Event{}, &eventsv1.EventList{})
	for _, r := range reviews(Access{}) {
		s.AddKnownTypes(r.gv, r.new())
	}
	s.AddKnownTypes(authenticationv1.SchemeGroupVersion, &authenticationv1.TokenRequest{})
	for _, gv := range groups() {
		metav1.AddToGroupVersion(s, gv)
	}
	return s
}

// newScheme is PublicScheme with the hub version, defaults and conversions.
func newScheme(all []*kind) (*runtime.Scheme, error) {
	s := PublicScheme()
	s.AddUnversionedTypes(corev1.SchemeGroupVersion, &metav1.Status{}, &metav1.APIVersions{}, &metav1.APIGroupList{}, &metav1.APIGroup{}, &metav1.APIResourceList{})
	for _, k := range all {
		s.AddKnownTypes(schema.GroupVersion{Group: k.gv.Group, Version: runtime.APIVersionInternal}, k.new(), k.newList())
		if k.defaults != nil {
			s.AddTypeDefaultingFunc(k.new(), func(obj any) { k.defaults(obj.(runtime.Object)) })
		}
		if err := s.AddFieldLabelConversionFunc(k.gv.WithKind(k.name), selectable(k)); err != nil {
			return nil, err
		}
		if k.name == "Event" {
			if err := s.AddFieldLabelConversionFunc(eventsv1.SchemeGroupVersion.WithKind(k.name), regardingSelectable(selectable(k))); err != nil {
				return nil, err
			}
		}
	}
	s.AddKnownTypes(schema.GroupVersion{Group: eventsv1.GroupName, Version: runtime.APIVersionInternal}, &corev1.Event{}, &corev1.EventList{})
	for _, r := range reviews(Access{}) {
		s.AddKnownTypes(schema.GroupVersion{Group: r.gv.Group, Version: runtime.APIVersionInternal}, r.new())
	}
	s.AddKnownTypes(schema.GroupVersion{Group: authenticationv1.GroupName, Version: runtime.APIVersionInternal}, &authenticationv1.TokenRequest{})
	if err := addEventConversions(s); err != nil {
		return nil, err
	}
	for _, gv := range groups() {
		if err := s.SetVersionPriority(gv); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// selectable refuses selectors of fields that a kind does not offer.
func selectable(k *kind) runtime.FieldLabelConversionFunc {
	return func(label, value string) (string, string, error) {
		if label == "metadata.name" || label == "metadata.namespace" && k.namespaced {
			return label, value, nil
		}
		if k.fields != nil {
			if _, ok := k.fields(k.new())[label]; ok {
				return label, value, nil
			}
		}
		return "", "", fmt.Errorf("field label not supported: %s", label)
	}
}

// storageCodec writes every kind in the version that it is stored in.
func storageCodec(s *runtime.Scheme) runtime.Codec {
	return serializer.NewCodecFactory(s).LegacyCodec(corev1.SchemeGroupVersion, coordinationv1.SchemeGroupVersion)
}
