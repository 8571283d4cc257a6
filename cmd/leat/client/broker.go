package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"
)

const brokersPath = "apis/eventing.knative.dev/v1/namespaces"

// NotReadyError says why a broker takes no events yet.
type NotReadyError struct{ Namespace, Name, Reason string }

func (e *NotReadyError) Error() string {
	return fmt.Sprintf("broker %s/%s is not ready: %s", e.Namespace, e.Name, e.Reason)
}

// EnsureBroker makes a broker where there is none. It is applied, not created:
// for two seconds after a definition was made, as by the first start of a
// server, the API holds back the creation of its objects.
func (c *Client) EnsureBroker(ctx context.Context, name string) error {
	names, err := c.Names(ctx, "brokers")
	if err != nil || slices.Contains(names, name) {
		return err
	}
	body, err := c.newBroker(name)
	if err != nil {
		return err
	}
	u := c.base.JoinPath(brokersPath, c.Namespace, "brokers", name)
	u.RawQuery = url.Values{"fieldManager": {"leat"}}.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodPatch, u.String(), bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/apply-patch+yaml") // of which JSON is a kind
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("make broker %s/%s: %w", c.Namespace, name, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode < 300 || resp.StatusCode == http.StatusConflict { // somebody else has made it just now
		return nil
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err == nil {
		err = responseError(resp.Status, b)
	}
	return fmt.Errorf("make broker %s/%s: %w", c.Namespace, name, err)
}

// newBroker is a broker as `kubectl apply` makes it, so that it can be applied
// over without a warning.
func (c *Client) newBroker(name string) ([]byte, error) {
	metadata := map[string]any{"name": name, "namespace": c.Namespace, "annotations": map[string]string{}}
	broker := map[string]any{"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "metadata": metadata}
	applied, err := json.Marshal(broker)
	if err != nil {
		return nil, err
	}
	metadata["annotations"] = map[string]string{"kubectl.kubernetes.io/last-applied-configuration": string(applied) + "\n"}
	return json.Marshal(broker)
}

// AwaitBroker waits until a broker takes events, and returns its address.
func (c *Client) AwaitBroker(ctx context.Context, name string) (string, error) {
	const every = 5 * time.Millisecond
	for {
		url, err := c.IngressURL(ctx, name)
		if notReady := (*NotReadyError)(nil); !errors.As(err, &notReady) {
			return url, err
		}
		select {
		case <-time.After(every):
		case <-ctx.Done():
			return "", fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
	}
}

// groups are the API groups of the resources that commands name.
var groups = map[string]string{
	"brokers": "eventing.knative.dev/v1", "triggers": "eventing.knative.dev/v1",
	"channels": "messaging.knative.dev/v1", "subscriptions": "messaging.knative.dev/v1",
}

// Names are the names of all objects of a resource, such as "brokers".
func (c *Client) Names(ctx context.Context, resource string) ([]string, error) {
	body, err := c.get(ctx, nil, "apis", groups[resource], "namespaces", c.Namespace, resource)
	if err != nil {
		return nil, fmt.Errorf("list %s in %s: %w", resource, c.Namespace, err)
	}
	defer body.Close()
	var list struct {
		Items []struct {
			Metadata struct {
				Name string `json:"name"`
			} `json:"metadata"`
		} `json:"items"`
	}
	if err := json.NewDecoder(body).Decode(&list); err != nil {
		return nil, fmt.Errorf("list %s in %s: %w", resource, c.Namespace, err)
	}
	var names []string
	for _, i := range list.Items {
		names = append(names, i.Metadata.Name)
	}
	return names, nil
}
