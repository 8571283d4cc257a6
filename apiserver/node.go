package apiserver

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clientcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"

	"github.com/leat-dev/leat/apiserver/core"
)

// Node is a member as "kubectl get nodes" shows it.
type Node struct {
	Name string
	// Roles are shown in their column; "member".
	Roles []string
	// Addresses are how other members and clients reach it.
	Addresses []corev1.NodeAddress
	// NotReady is why the member does not work, as a reason in CamelCase; empty:
	// it does. Message says it in words.
	NotReady, Message string
	// Version is the Leat that it runs; that of the server's options.
	Version string
	// OSImage and KernelVersion describe the machine; this one's.
	OSImage, KernelVersion string
}

// RegisterNode makes a member's Node object say what n says. It writes only
// what has changed, and does nothing without a name.
func (s *Server) RegisterNode(ctx context.Context, n Node) error {
	if n.Name == "" {
		return nil
	}
	c, err := clientcorev1.NewForConfig(s.LoopbackConfig())
	if err != nil {
		return err
	}
	setDefault(&n.Version, s.o.Version)
	setDefault(&n.OSImage, osImage())
	setDefault(&n.KernelVersion, kernelVersion())
	if len(n.Roles) == 0 {
		n.Roles = []string{"member"}
	}
	for {
		err := s.writeNode(ctx, c.Nodes(), n)
		if !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err) {
			if err != nil {
				return fmt.Errorf("register node %s: %w", n.Name, err)
			}
			return nil
		}
	}
}

func (s *Server) writeNode(ctx context.Context, c clientcorev1.NodeInterface, n Node) error {
	node, err := c.Get(ctx, n.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		created := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: n.Name, Labels: n.labels(nil)}}
		node, err = c.Create(ctx, created, metav1.CreateOptions{})
	}
	if err != nil {
		return err
	}
	if labels := n.labels(node.Labels); !equality.Semantic.DeepEqual(labels, node.Labels) {
		node.Labels = labels
		if node, err = c.Update(ctx, node, metav1.UpdateOptions{}); err != nil {
			return err
		}
	}
	status := n.status(&node.Status, metav1.NewTime(s.o.Clock.Now()))
	if equality.Semantic.DeepEqual(status, node.Status) {
		return nil
	}
	node.Status = status
	_, err = c.UpdateStatus(ctx, node, metav1.UpdateOptions{})
	return err
}

// labels are a node's, with those of others kept.
func (n Node) labels(have map[string]string) map[string]string {
	want := map[string]string{corev1.LabelHostname: n.Name, corev1.LabelOSStable: runtime.GOOS, corev1.LabelArchStable: runtime.GOARCH}
	for _, r := range n.Roles {
		want[core.RoleLabel+r] = ""
	}
	return merge(have, want)
}

// status keeps the times of a condition that has not changed.
func (n Node) status(have *corev1.NodeStatus, now metav1.Time) corev1.NodeStatus {
	status := *have.DeepCopy()
	status.Addresses = n.Addresses
	if len(status.Addresses) == 0 {
		status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: n.Name}}
	}
	status.Capacity = corev1.ResourceList{corev1.ResourceCPU: *resource.NewQuantity(int64(runtime.NumCPU()), resource.DecimalSI)}
	status.NodeInfo.KubeletVersion = n.Version
	status.NodeInfo.OperatingSystem, status.NodeInfo.Architecture = runtime.GOOS, runtime.GOARCH
	status.NodeInfo.OSImage, status.NodeInfo.KernelVersion = n.OSImage, n.KernelVersion

	ready := corev1.NodeCondition{
		Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "Serving", Message: "the member serves",
		LastHeartbeatTime: now, LastTransitionTime: now,
	}
	if n.NotReady != "" {
		ready.Status, ready.Reason, ready.Message = corev1.ConditionFalse, n.NotReady, n.Message
	}
	for i := range status.Conditions {
		c := &status.Conditions[i]
		if c.Type != corev1.NodeReady {
			continue
		}
		if c.Status == ready.Status {
			ready.LastTransitionTime = c.LastTransitionTime
			if c.Reason == ready.Reason && c.Message == ready.Message {
				ready.LastHeartbeatTime = c.LastHeartbeatTime
			}
		}
		*c = ready
		return status
	}
	status.Conditions = append(status.Conditions, ready)
	return status
}

// osImage is the operating system's name for itself, or nothing.
func osImage() string {
	b, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(b)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "PRETTY_NAME="); ok {
			return strings.Trim(name, `"'`)
		}
	}
	return ""
}

func kernelVersion() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}
