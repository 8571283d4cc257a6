package core

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/util/intstr"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func serviceKind() *kind {
	return &kind{
		gv: corev1.SchemeGroupVersion, name: "Service", plural: "services", singular: "service", short: []string{"svc"},
		categories: []string{"all"}, namespaced: true,
		new: maker[corev1.Service](), newList: maker[corev1.ServiceList](),
		hasStatus: true,
		checkName: validation.NameIsDNS1035Label,
		defaults:  do(defaultService),
		validate:  check(validateService),
		fields: with(func(s *corev1.Service) fields.Set {
			return fields.Set{"spec.type": string(s.Spec.Type), "spec.clusterIP": s.Spec.ClusterIP}
		}),
		columns: []metav1.TableColumnDefinition{
			nameColumn(), column("Type", "How the service is reached."), column("Cluster-IP", "Address given in the spec; Leat assigns none."),
			column("External-IP", "External name or addresses."), column("Port(s)", "Ports and protocols."), ageColumn(),
			wide(column("Selector", "Labels that select what stands behind the service.")),
		},
		row: with(func(s *corev1.Service) []any {
			return []any{s.Name, string(s.Spec.Type), orNone(s.Spec.ClusterIP), externalAddress(s), servicePorts(s), age(s.CreationTimestamp), orNone(metav1.FormatLabelSelector(&metav1.LabelSelector{MatchLabels: s.Spec.Selector}))}
		}),
	}
}

// defaultService sets the defaults of Kubernetes. No cluster address is
// assigned: nothing would answer there.
func defaultService(s *corev1.Service) {
	spec := &s.Spec
	spec.Type = cmp.Or(spec.Type, corev1.ServiceTypeClusterIP)
	spec.SessionAffinity = cmp.Or(spec.SessionAffinity, corev1.ServiceAffinityNone)
	for i := range spec.Ports {
		p := &spec.Ports[i]
		p.Protocol = cmp.Or(p.Protocol, corev1.ProtocolTCP)
		if p.TargetPort == (intstr.IntOrString{}) || p.TargetPort == intstr.FromString("") {
			p.TargetPort = intstr.FromInt32(p.Port)
		}
	}
}

func validateService(s, _ *corev1.Service) field.ErrorList {
	var errs field.ErrorList
	spec, path := &s.Spec, field.NewPath("spec")
	types := []corev1.ServiceType{corev1.ServiceTypeClusterIP, corev1.ServiceTypeExternalName, corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeNodePort}
	if !slices.Contains(types, spec.Type) {
		errs = append(errs, field.NotSupported(path.Child("type"), spec.Type, types))
	}
	if spec.Type == corev1.ServiceTypeExternalName {
		errs = append(errs, checkExternalName(spec.ExternalName, path.Child("externalName"))...)
	} else if len(spec.Ports) == 0 && spec.ClusterIP != corev1.ClusterIPNone {
		errs = append(errs, field.Required(path.Child("ports"), `name the ports, or set clusterIP to "None", or type to ExternalName`))
	}
	if spec.ClusterIP != "" && spec.ClusterIP != corev1.ClusterIPNone {
		errs = append(errs, checkIP(spec.ClusterIP, path.Child("clusterIP"))...)
	}
	for i, ip := range spec.ExternalIPs {
		errs = append(errs, checkIP(ip, path.Child("externalIPs").Index(i))...)
	}
	affinities := []corev1.ServiceAffinity{corev1.ServiceAffinityClientIP, corev1.ServiceAffinityNone}
	if !slices.Contains(affinities, spec.SessionAffinity) {
		errs = append(errs, field.NotSupported(path.Child("sessionAffinity"), spec.SessionAffinity, affinities))
	}
	errs = append(errs, metav1validation.ValidateLabels(spec.Selector, path.Child("selector"))...)
	return append(errs, checkPorts(spec.Ports, path.Child("ports"))...)
}

func checkExternalName(name string, path *field.Path) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(path, "a Service of type ExternalName names a host")}
	}
	var errs field.ErrorList
	for _, msg := range utilvalidation.IsDNS1123Subdomain(strings.TrimSuffix(name, ".")) {
		errs = append(errs, field.Invalid(path, name, msg))
	}
	return errs
}

func checkIP(ip string, path *field.Path) field.ErrorList {
	if _, err := netip.ParseAddr(ip); err != nil {
		return field.ErrorList{field.Invalid(path, ip, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")}
	}
	return nil
}

func checkPorts(ports []corev1.ServicePort, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	protocols := []corev1.Protocol{corev1.ProtocolSCTP, corev1.ProtocolTCP, corev1.ProtocolUDP}
	type endpoint struct {
		protocol corev1.Protocol
		port     int32
	}
	named, used := map[string]bool{}, map[endpoint]bool{}
	for i := range ports {
		p, at := &ports[i], path.Index(i)
		switch {
		case p.Name == "" && len(ports) > 1:
			errs = append(errs, field.Required(at.Child("name"), "each of several ports has a name"))
		case p.Name != "":
			for _, msg := range utilvalidation.IsDNS1123Label(p.Name) {
				errs = append(errs, field.Invalid(at.Child("name"), p.Name, msg))
			}
			if named[p.Name] {
				errs = append(errs, field.Duplicate(at.Child("name"), p.Name))
			}
			named[p.Name] = true
		}
		if !slices.Contains(protocols, p.Protocol) {
			errs = append(errs, field.NotSupported(at.Child("protocol"), p.Protocol, protocols))
		}
		for _, msg := range utilvalidation.IsValidPortNum(int(p.Port)) {
			errs = append(errs, field.Invalid(at.Child("port"), p.Port, msg))
		}
		if e := (endpoint{p.Protocol, p.Port}); used[e] {
			errs = append(errs, field.Duplicate(at, fmt.Sprintf("%d/%s", p.Port, p.Protocol)))
		} else {
			used[e] = true
		}
		if p.NodePort != 0 {
			for _, msg := range utilvalidation.IsValidPortNum(int(p.NodePort)) {
				errs = append(errs, field.Invalid(at.Child("nodePort"), p.NodePort, msg))
			}
		}
		errs = append(errs, checkTarget(p.TargetPort, at.Child("targetPort"))...)
	}
	return errs
}

func checkTarget(target intstr.IntOrString, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	msgs := utilvalidation.IsValidPortNum(target.IntValue())
	if target.Type == intstr.String {
		msgs = utilvalidation.IsValidPortName(target.StrVal)
	}
	for _, msg := range msgs {
		errs = append(errs, field.Invalid(path, target.String(), msg))
	}
	return errs
}

func externalAddress(s *corev1.Service) string {
	if s.Spec.Type == corev1.ServiceTypeExternalName {
		return orNone(s.Spec.ExternalName)
	}
	addresses := map[string]bool{}
	for _, in := range s.Status.LoadBalancer.Ingress {
		addresses[cmp.Or(in.IP, in.Hostname)] = true
	}
	for _, ip := range s.Spec.ExternalIPs {
		addresses[ip] = true
	}
	if len(addresses) == 0 && s.Spec.Type == corev1.ServiceTypeLoadBalancer {
		return "<pending>"
	}
	return orNone(strings.Join(slices.Sorted(maps.Keys(addresses)), ","))
}

func servicePorts(s *corev1.Service) string {
	var all []string
	for _, p := range s.Spec.Ports {
		port := fmt.Sprint(p.Port)
		if p.NodePort > 0 {
			port += fmt.Sprintf(":%d", p.NodePort)
		}
		all = append(all, port+"/"+string(p.Protocol))
	}
	return orNone(strings.Join(all, ","))
}
