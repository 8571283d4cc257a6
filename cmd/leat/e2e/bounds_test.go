package e2e

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestPartitionsBeyondTheBound: what admission lets through the log can hold,
// also where the bound was set.
func TestPartitionsBeyondTheBound(t *testing.T) {
	s := startServer(t, "--max-partitions", "3")
	broker := func(partitions string) string {
		return "apiVersion: eventing.knative.dev/v1\nkind: Broker\nmetadata: {name: wide, namespace: default, annotations: {leat.dev/partitions: '" + partitions + "'}}\n"
	}
	u := parse(t, broker("4"))[0]
	_, err := resource(s.client(), u).Create(t.Context(), u, metav1.CreateOptions{})
	if err == nil || !strings.Contains(err.Error(), "metadata.annotations[leat.dev/partitions]") || !strings.Contains(err.Error(), "3") {
		t.Errorf("4 partitions: %v", err)
	}
	s.apply(broker("3"))
}
