package apiserver

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/leat-dev/leat/raftlog/kv"
	"github.com/leat-dev/leat/raftlog/kv/kvtest"
)

// TestChunksAreConsistent: a list read in chunks is that of one moment, whatever
// is written meanwhile.
func TestChunksAreConsistent(t *testing.T) {
	s := start(t, options(t))
	triggers := s.triggers()
	var want []string
	for i := range 25 {
		u := object(t, triggerManifest)
		u.SetName(fmt.Sprintf("t%02d", i))
		want = append(want, u.GetName())
		if _, err := triggers.Create(t.Context(), u, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	o := metav1.ListOptions{Limit: 4}
	version := ""
	for chunk := 0; ; chunk++ {
		page, err := triggers.List(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		if version == "" {
			version = page.GetResourceVersion()
		}
		if page.GetResourceVersion() != version {
			t.Errorf("chunk %d is of version %s, the first of %s", chunk, page.GetResourceVersion(), version)
		}
		for _, u := range page.Items {
			got = append(got, u.GetName())
		}
		o.Continue = page.GetContinue()
		if left := page.GetRemainingItemCount(); o.Continue != "" && (left == nil || int(*left) != len(want)-len(got)) {
			t.Errorf("chunk %d says that %v remain, want %d", chunk, left, len(want)-len(got))
		}
		if o.Continue == "" {
			break
		}
		// Behind and ahead of where the list is.
		for _, name := range []string{fmt.Sprintf("t%02d", 24-chunk), fmt.Sprintf("t%02d", chunk)} {
			if err := triggers.Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		for _, name := range []string{fmt.Sprintf("s%d", chunk), fmt.Sprintf("t%02dx", 20+chunk)} {
			u := object(t, triggerManifest)
			u.SetName(name)
			if _, err := triggers.Create(t.Context(), u, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("the chunks hold %v", got)
	}
	if _, err := triggers.List(t.Context(), metav1.ListOptions{Limit: 1, Continue: "nonsense"}); !apierrors.IsBadRequest(err) {
		t.Errorf("a token of ours it is not: %v", err)
	}
}

// TestResourceVersionMatch: the rules of which state a list is of.
func TestResourceVersionMatch(t *testing.T) {
	s := start(t, options(t))
	configs := s.client().CoreV1().ConfigMaps("default")
	first, err := configs.Create(t.Context(), configMap("first", nil), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	second, err := configs.Create(t.Context(), configMap("second", nil), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	none := metav1.ResourceVersionMatch("")
	for _, c := range []struct {
		version string
		match   metav1.ResourceVersionMatch
		limit   int64
		items   int // -1: refused
	}{
		{"", none, 0, 2},
		{first.ResourceVersion, metav1.ResourceVersionMatchExact, 0, 1},
		{first.ResourceVersion, metav1.ResourceVersionMatchExact, 5, 1},
		{second.ResourceVersion, metav1.ResourceVersionMatchExact, 0, 2},
		{second.ResourceVersion, metav1.ResourceVersionMatchNotOlderThan, 0, 2},
		{second.ResourceVersion, none, 0, 2},
		{first.ResourceVersion, none, 1, 1},
		{"0", metav1.ResourceVersionMatchExact, 0, -1},
		{"", metav1.ResourceVersionMatchExact, 0, -1},
		{first.ResourceVersion, "Whatever", 0, -1},
		{"x", none, 0, -1},
	} {
		list, err := configs.List(t.Context(), metav1.ListOptions{ResourceVersion: c.version, ResourceVersionMatch: c.match, Limit: c.limit})
		switch {
		case c.items < 0 && err == nil, c.items < 0 && !apierrors.IsInvalid(err) && !apierrors.IsBadRequest(err):
			t.Errorf("%q %s: %v, want it to be refused", c.version, c.match, err)
		case c.items >= 0 && (err != nil || len(list.Items) != c.items):
			t.Errorf("%q %s limit %d: %d items, %v; want %d", c.version, c.match, c.limit, len(list.Items), err, c.items)
		}
	}
	if _, err := configs.List(t.Context(), metav1.ListOptions{ResourceVersion: "0"}); err != nil {
		t.Errorf("any version: %v", err)
	}
	// The client would come back as often as it is asked to.
	future := s.client().CoreV1().RESTClient().Get().AbsPath("/api/v1/configmaps").Param("resourceVersion", "999999").MaxRetries(0)
	if err := future.Do(t.Context()).Error(); !apierrors.IsTimeout(err) || !apierrors.HasStatusCause(err, metav1.CauseTypeResourceVersionTooLarge) {
		t.Errorf("a version of the future: %v", err)
	}
	got, err := configs.Get(t.Context(), "second", metav1.GetOptions{ResourceVersion: first.ResourceVersion})
	if err != nil || got.Name != "second" {
		t.Errorf("get, not older than: %v, %v", got, err)
	}
}

func TestSelectors(t *testing.T) {
	s := start(t, options(t))
	client := s.client().CoreV1()
	for _, name := range []string{"a", "b"} {
		if _, err := client.Secrets("default").Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"l": name}}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		u := object(t, triggerManifest)
		u.SetName(name)
		u.SetLabels(map[string]string{"l": name})
		if _, err := s.triggers().Create(t.Context(), u, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, o := range []metav1.ListOptions{
		{FieldSelector: "metadata.name=a"}, {FieldSelector: "metadata.name!=b"}, {FieldSelector: "metadata.name=a,metadata.namespace=default"},
		{LabelSelector: "l=a"}, {LabelSelector: "l notin (b),l"}, {LabelSelector: "l in (a,b)", FieldSelector: "metadata.name=a"},
	} {
		list, err := client.Secrets("default").List(t.Context(), o)
		if err != nil || len(list.Items) != 1 || list.Items[0].Name != "a" {
			t.Errorf("secrets by %+v: %v, %v", o, list, err)
		}
		triggers, err := s.triggers().List(t.Context(), o)
		if err != nil || len(triggers.Items) != 1 || triggers.Items[0].GetName() != "a" {
			t.Errorf("triggers by %+v: %v, %v", o, triggers, err)
		}
	}
	if list, err := client.Secrets("default").List(t.Context(), metav1.ListOptions{FieldSelector: "type=Opaque"}); err != nil || len(list.Items) != 2 {
		t.Errorf("by type: %v, %v", list, err)
	}
	for _, selector := range []string{"spec.x=1", "metadata.uid=1"} {
		if _, err := client.Secrets("default").List(t.Context(), metav1.ListOptions{FieldSelector: selector}); !apierrors.IsBadRequest(err) || !strings.Contains(err.Error(), "field label not supported") {
			t.Errorf("secrets by %s: %v", selector, err)
		}
		if _, err := s.triggers().List(t.Context(), metav1.ListOptions{FieldSelector: selector}); !apierrors.IsBadRequest(err) {
			t.Errorf("triggers by %s: %v", selector, err)
		}
	}
}

// TestDelete: preconditions, finalizers, and the deletion of many at once.
func TestDelete(t *testing.T) {
	s := start(t, options(t))
	triggers, configs := s.triggers(), s.client().CoreV1().ConfigMaps("default")
	u, err := triggers.Create(t.Context(), object(t, triggerManifest), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	c, err := configs.Create(t.Context(), configMap("c", nil), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	uid, version := u.GetUID(), "1"
	for what, err := range map[string]error{
		"another's UID":               triggers.Delete(t.Context(), "t1", metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &c.UID}}),
		"an old version":              triggers.Delete(t.Context(), "t1", metav1.DeleteOptions{Preconditions: &metav1.Preconditions{ResourceVersion: &version}}),
		"another's UID, core kind":    configs.Delete(t.Context(), "c", metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}}),
		"an old version, a core kind": configs.Delete(t.Context(), "c", metav1.DeleteOptions{Preconditions: &metav1.Preconditions{ResourceVersion: &version}}),
	} {
		if !apierrors.IsConflict(err) {
			t.Errorf("%s: %v, want a conflict", what, err)
		}
	}
	if err := triggers.Delete(t.Context(), "none", metav1.DeleteOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("nothing: %v", err)
	}
	// The collector ends it once it has seen that there are no dependents.
	foreground := metav1.DeletePropagationForeground
	if err := triggers.Delete(t.Context(), "t1", metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}, PropagationPolicy: &foreground}); err != nil {
		t.Error(err)
	}
	eventually(t, "the Trigger deleted in the foreground is gone", func() bool {
		_, err := triggers.Get(t.Context(), "t1", metav1.GetOptions{})
		return apierrors.IsNotFound(err)
	})

	held := object(t, triggerManifest)
	held.SetFinalizers([]string{"example.com/held"})
	if _, err := triggers.Create(t.Context(), held, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := triggers.Delete(t.Context(), "t1", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	held, err = triggers.Get(t.Context(), "t1", metav1.GetOptions{})
	if err != nil || held.GetDeletionTimestamp() == nil {
		t.Fatalf("held by a finalizer: %v, %v", held, err)
	}
	held.SetFinalizers(nil)
	if _, err := triggers.Update(t.Context(), held, metav1.UpdateOptions{}); err != nil {
		t.Error(err)
	}
	if _, err := triggers.Get(t.Context(), "t1", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("without its finalizer: %v", err)
	}

	var work errgroup.Group
	for i := range 10 {
		work.Go(func() error {
			_, err := configs.Create(t.Context(), configMap(fmt.Sprint("m", i), map[string]string{"odd": fmt.Sprint(i % 2)}), metav1.CreateOptions{})
			return err
		})
	}
	if err := work.Wait(); err != nil {
		t.Fatal(err)
	}
	if err := configs.DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "odd=1"}); err != nil {
		t.Error(err)
	}
	if left, err := configs.List(t.Context(), metav1.ListOptions{}); err != nil || len(left.Items) != 6 {
		t.Errorf("%d left, %v", len(left.Items), err)
	}
	if err := s.client().CoreV1().RESTClient().Delete().AbsPath("/api/v1/namespaces").Do(t.Context()).Error(); !apierrors.IsMethodNotSupported(err) {
		t.Errorf("deletion of all namespaces: %v", err)
	}
}

// TestOwnNamespacesStay: the server's own namespaces are not deleted.
func TestOwnNamespacesStay(t *testing.T) {
	s := start(t, options(t))
	namespaces := s.client().CoreV1().Namespaces()
	for _, name := range []string{"default", "kube-system", "leat-system"} {
		if err := namespaces.Delete(t.Context(), name, metav1.DeleteOptions{}); !apierrors.IsForbidden(err) {
			t.Errorf("deletion of %s: %v", name, err)
		}
	}
}

// TestEvents: both groups show the same events, which expire.
func TestEvents(t *testing.T) {
	clock := kvtest.NewClock()
	clock.Advance(time.Since(clock.Now())) // or the certificates would be of another time
	o := options(t)
	o.KV, _ = kvtest.Open(t, kv.Options{Clock: clock, ExpireEvery: 50 * time.Millisecond})
	o.Clock = clock
	s := start(t, o)
	now := metav1.NowMicro()
	made, err := s.client().EventsV1().Events("default").Create(t.Context(), &eventsv1.Event{
		ObjectMeta: metav1.ObjectMeta{Name: "e"}, Regarding: corev1.ObjectReference{Kind: "Trigger", Name: "t", Namespace: "default"},
		Reason: "Because", Note: "it happened", Type: corev1.EventTypeWarning, EventTime: now, ReportingController: "us", ReportingInstance: "here", Action: "Do",
		Series: &eventsv1.EventSeries{Count: 3, LastObservedTime: now},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	core, err := s.client().CoreV1().Events("default").Get(t.Context(), "e", metav1.GetOptions{})
	if err != nil || core.InvolvedObject.Name != "t" || core.Message != "it happened" || core.Series == nil || core.Series.Count != 3 || core.UID != made.UID {
		t.Errorf("as an Event of core: %+v, %v", core, err)
	}
	for selector, want := range map[string]int{"involvedObject.name=t,reason=Because": 1, "involvedObject.kind=Broker": 0, "type!=Warning": 0} {
		if list, err := s.client().CoreV1().Events("").List(t.Context(), metav1.ListOptions{FieldSelector: selector}); err != nil || len(list.Items) != want {
			t.Errorf("by %s: %v, %v", selector, list, err)
		}
	}
	if list, err := s.client().EventsV1().Events("").List(t.Context(), metav1.ListOptions{FieldSelector: "regarding.name=t,reportingController=us"}); err != nil || len(list.Items) != 1 {
		t.Errorf("by the other names: %v, %v", list, err)
	}
	clock.Advance(30 * time.Minute)
	if _, err := s.client().CoreV1().Events("default").Get(t.Context(), "e", metav1.GetOptions{}); err != nil {
		t.Errorf("within its time: %v", err)
	}
	eventually(t, "the event expires", func() bool {
		clock.Advance(31 * time.Minute)
		_, err := s.client().CoreV1().Events("default").Get(t.Context(), "e", metav1.GetOptions{})
		return apierrors.IsNotFound(err)
	})
}

// TestLeases: PUT makes what is not there, and of two who take a lease one gets
// it.
func TestLeases(t *testing.T) {
	s := start(t, options(t))
	leases := s.client().CoordinationV1().Leases("kube-system")
	holder, seconds := "a", int32(15)
	l, err := leases.Update(t.Context(), &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: "l"}, Spec: coordinationv1.LeaseSpec{HolderIdentity: &holder, LeaseDurationSeconds: &seconds}}, metav1.UpdateOptions{})
	if err != nil || l.UID == "" {
		t.Fatalf("%v, %v", l, err)
	}
	takers := make(chan error, 2)
	for _, name := range []string{"b", "c"} {
		go func() {
			mine := l.DeepCopy()
			mine.Spec.HolderIdentity = &name
			_, err := leases.Update(t.Context(), mine, metav1.UpdateOptions{})
			takers <- err
		}()
	}
	first, second := <-takers, <-takers
	if (first == nil) == (second == nil) || !apierrors.IsConflict(first) && !apierrors.IsConflict(second) {
		t.Errorf("two took the lease at once: %v, %v", first, second)
	}
}

// TestSecrets: stringData is never shown, and the data can be read again.
func TestSecrets(t *testing.T) {
	s := start(t, options(t))
	secrets := s.client().CoreV1().Secrets("default")
	made, err := secrets.Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "s"}, Data: map[string][]byte{"a": []byte("data"), "b": []byte("data")}, StringData: map[string]string{"b": "string"},
	}, metav1.CreateOptions{})
	if err != nil || made.Type != corev1.SecretTypeOpaque || len(made.StringData) > 0 || string(made.Data["a"]) != "data" || string(made.Data["b"]) != "string" {
		t.Fatalf("%v, %v", made, err)
	}
	made.StringData = map[string]string{"c": "more"}
	made.ResourceVersion = ""
	if made, err = secrets.Update(t.Context(), made, metav1.UpdateOptions{}); err != nil || len(made.Data) != 3 || string(made.Data["c"]) != "more" {
		t.Errorf("%v, %v", made, err)
	}
}
