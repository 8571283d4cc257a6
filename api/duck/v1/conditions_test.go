package v1

import (
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestReadySumsUp(t *testing.T) {
	var s Status
	show := func() string {
		var lines []string
		for _, c := range s.Conditions {
			lines = append(lines, strings.TrimSpace(fmt.Sprintf("%s %s %d %s", c.Type, c.Status, c.LastTransitionTime.Unix(), c.Reason)))
		}
		return strings.Join(lines, "; ")
	}
	for i, step := range []struct {
		conditions []Condition
		want       string
	}{
		{[]Condition{{Type: "B", Status: "Unknown", Reason: "Waiting"}, {Type: "A", Status: "True"}},
			"A True 0; B Unknown 0 Waiting; Ready Unknown 0 Waiting"},
		{[]Condition{{Type: "B", Status: "Unknown", Reason: "Waiting"}, {Type: "A", Status: "False", Reason: "Gone"}},
			"A False 10 Gone; B Unknown 0 Waiting; Ready False 10 Gone"},
		{[]Condition{{Type: "B", Status: "True"}, {Type: "A", Status: "False", Reason: "Lost"}},
			"A False 10 Lost; B True 20; Ready False 10 Lost"},
		{[]Condition{{Type: "B", Status: "True"}, {Type: "A", Status: "True"}, {Type: "C", Status: "False", Severity: SeverityWarning, Reason: "Slow"}},
			"A True 30; B True 20; C False 30 Slow; Ready True 30"},
	} {
		s.SetConditions(metav1.Unix(int64(10*i), 0), step.conditions...)
		if got := show(); got != step.want {
			t.Errorf("got  %s\nwant %s", got, step.want)
		}
	}
	s.ObservedGeneration = 3
	if !s.IsReady(3) || s.IsReady(4) {
		t.Error("Ready holds for the generation that was observed, and only that")
	}
}
