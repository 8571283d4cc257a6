package client

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/leat-dev/leat/broker/operations"
)

// Status asks how the channels of the client's namespace are doing, or with
// all, of every namespace.
func (c *Client) Status(ctx context.Context, all bool) (operations.Status, error) {
	path := []string{"leat/v1/namespaces", c.Namespace, "status"}
	if all {
		path = []string{"leat/v1/status"}
	}
	var s operations.Status
	body, err := c.get(ctx, nil, path...)
	if err != nil {
		return s, fmt.Errorf("status: %w", err)
	}
	defer body.Close()
	if err := json.NewDecoder(body).Decode(&s); err != nil {
		return s, fmt.Errorf("status: %w", err)
	}
	return s, nil
}
