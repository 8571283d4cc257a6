package v1

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Ready is the condition that sums up the others.
const Ready = "Ready"

// SeverityWarning is that of a condition that does not keep an object from
// being Ready.
const SeverityWarning = "Warning"

// GetCondition is the condition of a type, nil where there is none.
func (s *Status) GetCondition(kind string) *Condition {
	i := slices.IndexFunc(s.Conditions, func(c Condition) bool { return c.Type == kind })
	if i < 0 {
		return nil
	}
	return &s.Conditions[i]
}

// IsReady says that the Ready condition is true and of this generation.
func (s *Status) IsReady(generation int64) bool {
	c := s.GetCondition(Ready)
	return c != nil && c.Status == metav1.ConditionTrue && s.ObservedGeneration == generation
}

// SetConditions makes conditions, with a Ready that sums them up, the whole
// set: Ready is False with the reason of the first that is False, else Unknown
// with that of the first Unknown, else True; one with a severity does not
// count. A condition whose status has not changed keeps its time; the others
// get now. They are kept in order of type.
func (s *Status) SetConditions(now metav1.Time, conditions ...Condition) {
	ready := Condition{Type: Ready, Status: metav1.ConditionTrue}
	for _, c := range conditions {
		if c.Severity != "" {
			continue
		}
		worse := c.Status == metav1.ConditionFalse && ready.Status != metav1.ConditionFalse ||
			c.Status == metav1.ConditionUnknown && ready.Status == metav1.ConditionTrue
		if worse {
			ready.Status, ready.Reason, ready.Message = c.Status, c.Reason, c.Message
		}
	}
	all := append(slices.Clone(conditions), ready)
	for i := range all {
		all[i].LastTransitionTime = now
		if old := s.GetCondition(all[i].Type); old != nil && old.Status == all[i].Status {
			all[i].LastTransitionTime = old.LastTransitionTime
		}
	}
	slices.SortFunc(all, func(a, b Condition) int {
		if a.Type < b.Type {
			return -1
		}
		return 1
	})
	s.Conditions = all
}
