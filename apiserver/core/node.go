package core

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// RoleLabel begins the labels that name a node's roles.
const RoleLabel = "node-role.kubernetes.io/"

func nodeKind() *kind {
	return &kind{
		gv: corev1.SchemeGroupVersion, name: "Node", plural: "nodes", singular: "node", short: []string{"no"},
		new: maker[corev1.Node](), newList: maker[corev1.NodeList](),
		hasStatus: true,
		checkName: validation.NameIsDNSSubdomain,
		fields: with(func(n *corev1.Node) fields.Set {
			return fields.Set{"spec.unschedulable": strconv.FormatBool(n.Spec.Unschedulable)}
		}),
		columns: []metav1.TableColumnDefinition{
			nameColumn(), column("Status", "Whether the node is a working member."), column("Roles", "Roles, from the labels "+RoleLabel+"ROLE."),
			ageColumn(), column("Version", "Version of Leat that the node runs."),
			wide(column("Internal-IP", "Address for the other members.")), wide(column("External-IP", "Address for clients.")),
			wide(column("OS-Image", "Operating system.")), wide(column("Kernel-Version", "Kernel.")), wide(column("Container-Runtime", "What runs functions.")),
		},
		row: with(func(n *corev1.Node) []any {
			info := &n.Status.NodeInfo
			return []any{
				n.Name, nodeStatus(n), nodeRoles(n), age(n.CreationTimestamp), info.KubeletVersion,
				nodeAddress(n, corev1.NodeInternalIP), nodeAddress(n, corev1.NodeExternalIP),
				orUnknown(info.OSImage), orUnknown(info.KernelVersion), orUnknown(info.ContainerRuntimeVersion),
			}
		}),
	}
}

func nodeStatus(n *corev1.Node) string {
	status := "Unknown"
	for _, c := range n.Status.Conditions {
		if c.Type != corev1.NodeReady {
			continue
		}
		switch c.Status {
		case corev1.ConditionTrue:
			status = "Ready"
		case corev1.ConditionFalse:
			status = "NotReady"
		}
	}
	if n.Spec.Unschedulable {
		status += ",SchedulingDisabled"
	}
	return status
}

func nodeRoles(n *corev1.Node) string {
	var roles []string
	for _, label := range slices.Sorted(maps.Keys(n.Labels)) {
		if role, ok := strings.CutPrefix(label, RoleLabel); ok && role != "" {
			roles = append(roles, role)
		}
	}
	return orNone(strings.Join(roles, ","))
}

func nodeAddress(n *corev1.Node, kind corev1.NodeAddressType) string {
	for _, a := range n.Status.Addresses {
		if a.Type == kind {
			return a.Address
		}
	}
	return none
}

func orUnknown(s string) string {
	if s == "" {
		return "<unknown>"
	}
	return s
}

func leaseKind() *kind {
	return &kind{
		gv: coordinationv1.SchemeGroupVersion, name: "Lease", plural: "leases", singular: "lease", namespaced: true,
		new: maker[coordinationv1.Lease](), newList: maker[coordinationv1.LeaseList](),
		noGeneration: true, createOnUpdate: true,
		checkName: validation.NameIsDNSSubdomain,
		validate:  check(validateLease),
		columns:   []metav1.TableColumnDefinition{nameColumn(), column("Holder", "Who holds the lease."), ageColumn()},
		row: with(func(l *coordinationv1.Lease) []any {
			holder := ""
			if l.Spec.HolderIdentity != nil {
				holder = *l.Spec.HolderIdentity
			}
			return []any{l.Name, holder, age(l.CreationTimestamp)}
		}),
	}
}

func validateLease(l, _ *coordinationv1.Lease) field.ErrorList {
	var errs field.ErrorList
	spec := field.NewPath("spec")
	if d := l.Spec.LeaseDurationSeconds; d != nil && *d <= 0 {
		errs = append(errs, field.Invalid(spec.Child("leaseDurationSeconds"), *d, "must be greater than 0"))
	}
	if n := l.Spec.LeaseTransitions; n != nil && *n < 0 {
		errs = append(errs, field.Invalid(spec.Child("leaseTransitions"), *n, "must be greater than or equal to 0"))
	}
	return errs
}
