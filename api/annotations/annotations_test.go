package annotations

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func refusals(errs field.ErrorList) string {
	var lines []string
	for _, e := range errs {
		lines = append(lines, e.Error())
	}
	return strings.Join(lines, "\n")
}

func TestParseDelivery(t *testing.T) {
	got, errs := ParseDelivery(map[string]string{
		MaxInFlight: "5", MaxWaiting: "7", KafkaDeliveryOrder: "ordered", StartFrom: "-PT1H", "other.dev/x": "y",
	}, Limits{})
	want := Delivery{MaxInFlight: 5, MaxWaiting: 7, Ordered: true, Start: Start{At: "ago", Ago: time.Hour}}
	if d := cmp.Diff(want, got); d != "" || len(errs) > 0 {
		t.Error(d, errs)
	}
	got, errs = ParseDelivery(nil, Limits{})
	if d := cmp.Diff(Delivery{Start: Start{At: "end"}}, got); d != "" || len(errs) > 0 {
		t.Error(d, errs)
	}
}

func TestParseDeliveryRefuses(t *testing.T) {
	_, errs := ParseDelivery(map[string]string{
		MaxInFlight: "0", MaxWaiting: "many", DeliveryOrder: "sorted", StartFrom: "yesterday", Retention: "P1D", Prefix + "xyz": "",
	}, Limits{MaxInFlight: 9})
	want := `metadata.annotations[leat.dev/retention]: Forbidden: not known on a Trigger or Subscription, which takes leat.dev/max-in-flight, leat.dev/max-waiting, leat.dev/delivery-order, leat.dev/start-from
metadata.annotations[leat.dev/xyz]: Forbidden: not known on a Trigger or Subscription, which takes leat.dev/max-in-flight, leat.dev/max-waiting, leat.dev/delivery-order, leat.dev/start-from
metadata.annotations[leat.dev/max-in-flight]: Invalid value: "0": must be a whole number from 1 to 9
metadata.annotations[leat.dev/max-waiting]: Invalid value: "many": must be a whole number from 1 to 100000
metadata.annotations[leat.dev/delivery-order]: Unsupported value: "sorted": supported values: "ordered", "unordered"
metadata.annotations[leat.dev/start-from]: Invalid value: "yesterday": must be "end", "beginning", an offset, an RFC 3339 time such as 2026-01-31T12:00:00Z, or a duration back such as -PT1H`
	if d := cmp.Diff(want, refusals(errs)); d != "" {
		t.Error(d)
	}
	_, errs = ParseDelivery(map[string]string{DeliveryOrder: Ordered, KafkaDeliveryOrder: Unordered}, Limits{})
	if d := cmp.Diff(`metadata.annotations[leat.dev/delivery-order]: Invalid value: "ordered": kafka.eventing.knative.dev/delivery.order says "unordered": remove one of the two`, refusals(errs)); d != "" {
		t.Error(d)
	}
}

func TestParseLog(t *testing.T) {
	got, errs := ParseLog(map[string]string{Retention: "P1D", RetentionBytes: "2Gi", Partitions: "4"}, Limits{})
	if d := cmp.Diff(Log{Partitions: 4, Retention: 24 * time.Hour, RetentionBytes: 2 << 30}, got); d != "" || len(errs) > 0 {
		t.Error(d, errs)
	}
	_, errs = ParseLog(map[string]string{Retention: "-P1D", RetentionBytes: "0.5", Partitions: "257", StartFrom: "end"}, Limits{})
	want := `metadata.annotations[leat.dev/start-from]: Forbidden: not known on a Broker or channel, which takes leat.dev/retention, leat.dev/retention-bytes, leat.dev/partitions
metadata.annotations[leat.dev/partitions]: Invalid value: "257": must be a whole number from 1 to 64
metadata.annotations[leat.dev/retention]: Invalid value: "-P1D": must be longer than zero, such as P7D
metadata.annotations[leat.dev/retention-bytes]: Invalid value: "0.5": must be a whole number of bytes above zero, such as 1073741824 or 1Gi`
	if d := cmp.Diff(want, refusals(errs)); d != "" {
		t.Error(d)
	}
}

func TestParseService(t *testing.T) {
	if got, errs := ParseService(map[string]string{URL: "http://127.0.0.1:8081/x"}); got != "http://127.0.0.1:8081/x" || len(errs) > 0 {
		t.Error(got, errs)
	}
	for _, bad := range []string{"", "127.0.0.1:8081", "ftp://x/", "http://", "http://:80", "/x", "http://[::1"} {
		if got, errs := ParseService(map[string]string{URL: bad}); got != "" || len(errs) != 1 {
			t.Errorf("%q: %q %v", bad, got, errs)
		}
	}
}

func FuzzParseStart(f *testing.F) {
	for _, s := range []string{"end", "beginning", "0", "18446744073709551616", "2026-01-31T12:00:00Z", "-PT1H", "-P1Y", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		start, err := ParseStart(s)
		if err == nil && start.Ago < 0 {
			t.Fatalf("%q starts in the future", s)
		}
	})
}
