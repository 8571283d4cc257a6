package admission

import (
	"testing"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/json"
)

// FuzzAdmission: no object makes admission panic, and defaults are set once.
func FuzzAdmission(f *testing.F) {
	for _, s := range []string{
		`{"kind":"Broker","apiVersion":"eventing.knative.dev/v1","spec":{"delivery":{"retry":-1,"backoffDelay":"PT"}}}`,
		`{"kind":"Trigger","apiVersion":"eventing.knative.dev/v1","metadata":{"annotations":{"leat.dev/start-from":"-PT1H"}},"spec":{"broker":"b","filters":[{"not":{"all":[{"exact":{"a":"b"}}]}}],"subscriber":{"uri":"http://x"}}}`,
		`{"kind":"Channel","apiVersion":"messaging.knative.dev/v1","spec":{"channelTemplate":{"spec":{"delivery":{}}}}}`,
		`{"kind":"InMemoryChannel","apiVersion":"messaging.knative.dev/v1","spec":[]}`,
		`{"kind":"Subscription","apiVersion":"messaging.knative.dev/v1","spec":{"channel":{"kind":"Channel"},"reply":{"ref":{}}}}`,
		`{"kind":"PingSource","apiVersion":"sources.knative.dev/v1","spec":{"schedule":"* * * * *","sink":{"ref":{"kind":"Broker"}},"dataBase64":"e30=","contentType":"application/json","ceOverrides":{"extensions":{"a":"b"}}}}`,
		`{"kind":"CronJobSource","apiVersion":"sources.eventing.knative.dev/v1alpha1","spec":{"schedule":"","sink":{"kind":"Broker","name":"b","uri":"/x"}}}`,
		`{"kind":"Service","apiVersion":"v1","metadata":{"annotations":{"leat.dev/url":"x"}}}`,
	} {
		f.Add([]byte(s), []byte(s))
	}
	a := New(Options{})
	f.Fuzz(func(t *testing.T, text, oldText []byte) {
		obj, old := &unstructured.Unstructured{}, &unstructured.Unstructured{}
		if json.Unmarshal(text, &obj.Object) != nil || obj.Object == nil {
			return
		}
		if json.Unmarshal(oldText, &old.Object) != nil || old.Object == nil {
			old = nil
		}
		a.Default(obj, old)
		again := obj.DeepCopy()
		a.Default(again, old)
		if !equality.Semantic.DeepEqual(obj.Object, again.Object) {
			t.Fatalf("defaults are set a second time:\n%v\n%v", obj.Object, again.Object)
		}
		a.Validate(obj, old)
		a.Warnings(obj)
	})
}
