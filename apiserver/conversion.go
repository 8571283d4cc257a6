package apiserver

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/util/webhook"
	"k8s.io/client-go/rest"
)

// ConvertFunc gives an object in another version of its group. It is pure, and
// called from many goroutines.
type ConvertFunc func(obj *unstructured.Unstructured, to schema.GroupVersion) (*unstructured.Unstructured, error)

// The Service that definitions name for the conversion of their objects. There
// is none: what is sent to it never leaves the process.
const (
	conversionNamespace = "leat-system"
	conversionService   = "leat-conversion"
)

// converting answers conversion webhooks in process, in place of a connection
// to a Service.
func converting(convert ConvertFunc, outer webhook.AuthenticationInfoResolverWrapper) webhook.AuthenticationInfoResolverWrapper {
	if convert == nil {
		return outer
	}
	return func(delegate webhook.AuthenticationInfoResolver) webhook.AuthenticationInfoResolver {
		others := outer(delegate)
		return &webhook.AuthenticationInfoResolverDelegator{
			ClientConfigForFunc: others.ClientConfigFor,
			ClientConfigForServiceFunc: func(service, namespace string, port int) (*rest.Config, error) {
				if service != conversionService || namespace != conversionNamespace {
					return others.ClientConfigForService(service, namespace, port)
				}
				return &rest.Config{WrapTransport: func(http.RoundTripper) http.RoundTripper { return conversions{convert} }}, nil
			},
		}
	}
}

// conversions is a transport whose other end converts.
type conversions struct{ convert ConvertFunc }

// RoundTrip implements http.RoundTripper.
func (c conversions) RoundTrip(r *http.Request) (*http.Response, error) {
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, fmt.Errorf("conversion: %w", err)
	}
	var review apiextensionsv1.ConversionReview
	if err := json.Unmarshal(b, &review); err != nil {
		return nil, fmt.Errorf("conversion: the request is no review: %w", err)
	}
	if review.Request == nil {
		return nil, errors.New("conversion: the review asks for nothing")
	}
	review.Response = c.answer(review.Request)
	review.Request = nil
	out, err := json.Marshal(review)
	if err != nil {
		return nil, fmt.Errorf("conversion: %w", err)
	}
	return &http.Response{
		Status: "200 OK", StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
		Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(bytes.NewReader(out)), ContentLength: int64(len(out)),
	}, nil
}

func (c conversions) answer(r *apiextensionsv1.ConversionRequest) *apiextensionsv1.ConversionResponse {
	out := &apiextensionsv1.ConversionResponse{UID: r.UID, Result: metav1.Status{Status: metav1.StatusSuccess}}
	for _, raw := range r.Objects {
		converted, err := c.one(raw.Raw, r.DesiredAPIVersion)
		if err != nil {
			return &apiextensionsv1.ConversionResponse{UID: r.UID, Result: metav1.Status{Status: metav1.StatusFailure, Message: err.Error()}}
		}
		out.ConvertedObjects = append(out.ConvertedObjects, runtime.RawExtension{Raw: converted})
	}
	return out
}

func (c conversions) one(raw []byte, version string) ([]byte, error) {
	to, err := schema.ParseGroupVersion(version)
	if err != nil {
		return nil, err
	}
	var u unstructured.Unstructured
	if err := u.UnmarshalJSON(raw); err != nil {
		return nil, err
	}
	converted, err := c.convert(&u, to)
	if err != nil {
		return nil, err
	}
	return converted.MarshalJSON()
}
