package e2e

import (
	"context"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestKn: Knative's own client does what it does with any cluster, where it is
// installed. What it asks of the API is tested without it, too.
func TestKn(t *testing.T) {
	kn, err := exec.LookPath("kn")
	if err != nil {
		t.Skip("kn is not installed here")
	}
	s := startServer(t)
	for _, step := range []struct{ args, want string }{
		{"broker create a", "Broker 'a' successfully created"},
		{"broker create b --class Leat --dl-sink http://dl.example --retry 5 --timeout PT2S --backoff-policy linear --backoff-delay PT1S --retry-after-max PT10S", "Broker 'b' successfully created"},
		{"broker create a", `"a" already exists`},
		{"broker create x --class NoSuch", `supported values: "Leat", "MTChannelBasedBroker", "Kafka"`},
		{"broker update a --backoff-delay bad", "is not an ISO 8601 duration"},
		{"broker update b --retry 7 --dl-sink broker:a", "Broker 'b' updated"},
		{"broker describe nope", `"nope" not found`},
		{"channel create c", "Channel 'c' created"},
		{"channel create d --type messaging.knative.dev:v1:InMemoryChannel", "Channel 'd' created"},
		{"channel list-types", "inmemorychannels.messaging.knative.dev"},
		{"trigger create t --broker a --filter type=com.x --sink http://x.example", "Trigger 't' successfully created"},
		{"trigger create u --broker a --sink channel:c", "Trigger 'u' successfully created"},
		{"trigger create v --broker a --sink ksvc:nope", "could not find the requested resource"},
		{"trigger update t --filter source=/s --sink broker:b", "Trigger 't' updated"},
		{"trigger describe t", "Broker (eventing.knative.dev/v1)"},
		{"subscription create s --channel c --sink broker:a --sink-reply broker:b --sink-dead-letter channel:d", "Subscription 's' created"},
		{"subscription update s --sink http://y.example", "Subscription 's' updated"},
		{"subscription describe s", "Channel:c (messaging.knative.dev/v1)"},
		{"source ping create p --schedule @hourly --data aGVsbG8= --encoding base64 --sink broker:a --ce-override foo=bar", "Ping source 'p' created"},
		{"source ping create q --schedule bad --data x --sink broker:a", "expected 5 to 6 fields"},
		{"source ping update p --schedule @daily --sink channel:c", "Ping source 'p' updated"},
		{"source ping describe p", "aGVsbG8="},
		{"source list", "pingsources.sources.knative.dev"},
		{"source list-types", "Send periodically ping events to addressable"},
		{"eventtype create e --type com.x --source /s --reference broker:a", "Eventtype 'e' successfully created"},
		{"eventtype list", "com.x"},
		{"service list", "no or newer Knative Serving API found"},
		{"source apiserver list", "no or newer Knative Sources API found"},
		{"trigger delete t", "Trigger 't' deleted"},
		{"source ping delete p", "Ping source 'p' deleted"},
		{"subscription delete s", "Subscription 's' deleted"},
		{"channel delete c", "Channel 'c' deleted"},
		{"broker delete b", "Broker 'b' successfully deleted"},
	} {
		if got := runKn(t, kn, s, step.args); !strings.Contains(got, step.want) {
			t.Errorf("kn %s: %q is not in\n%s", step.args, step.want, got)
		}
	}
	eventually(t, 20*time.Second, "the broker is ready", func() bool {
		return strings.Contains(runKn(t, kn, s, "broker list"), "6 OK / 6")
	})
}

func runKn(t *testing.T, kn string, s *server, args string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, kn, append(strings.Fields(args), "--kubeconfig", s.Kubeconfig)...).CombinedOutput()
	if ctx.Err() != nil {
		t.Fatalf("kn %s: %v\n%s", args, err, out)
	}
	return string(out) // with the reason, where it fails
}
