package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/leat-dev/leat/broker/operations"
)

// Verify has the server read its log, and calls report for each file.
func (c *Client) Verify(ctx context.Context, report func(operations.FileReport) error) error {
	body, err := c.get(ctx, nil, "leat/v1/log/verify")
	if err != nil {
		return err
	}
	defer body.Close()
	for d := json.NewDecoder(body); ; {
		var line operations.VerifyLine
		if err := d.Decode(&line); err != nil {
			return fmt.Errorf("the server's report broke off before its end: %w", err)
		}
		switch {
		case line.Error != "":
			return errors.New(line.Error)
		case line.Sum != nil:
			return nil
		case line.File != nil:
			if err := report(*line.File); err != nil {
				return err
			}
		}
	}
}
