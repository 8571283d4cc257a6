package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/leat-dev/leat/broker/operations"
)

// Skip gives up damage of a Broker, or with isChannel of a Channel.
func (c *Client) Skip(ctx context.Context, isChannel bool, name string, s operations.Skip) (skipped operations.Skipped, err error) {
	kind := "brokers"
	if isChannel {
		kind = "channels"
	}
	b, err := json.Marshal(s)
	if err != nil {
		return skipped, err
	}
	u := c.base.JoinPath("leat/v1/namespaces", c.Namespace, kind, name, "skip")
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), bytes.NewReader(b))
	if err != nil {
		return skipped, err
	}
	req.Header.Set("Content-Type", "application/json")
	body, err := c.do(req)
	if err != nil {
		return skipped, c.orThoseThereAre(ctx, err, kind)
	}
	defer body.Close()
	if err := json.NewDecoder(body).Decode(&skipped); err != nil {
		return skipped, fmt.Errorf("the server's answer: %w", err)
	}
	return skipped, nil
}
