//go:build linux

package server

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Stored is how many events a broker has.
func (s *Server) Stored(ctx context.Context, broker string) (int, error) {
	b, err := s.raw.Get().AbsPath("/leat/v1/namespaces", namespace, "brokers", broker, "status").DoRaw(ctx)
	if err != nil {
		return 0, err
	}
	var status struct{ Channels []struct{ Events int } }
	if err := json.Unmarshal(b, &status); err != nil {
		return 0, err
	}
	if len(status.Channels) != 1 {
		return 0, fmt.Errorf("the status of broker %s has %d channels", broker, len(status.Channels))
	}
	return status.Channels[0].Events, nil
}

// Tail reads a broker's events from the beginning to the end, as leat tail
// does, and counts those that match a filter, which may be empty.
func (s *Server) Tail(ctx context.Context, broker, filter string) (events int, err error) {
	get := s.raw.Get().AbsPath("/leat/v1/namespaces", namespace, "brokers", broker, "events").Param("since", "beginning").Param("follow", "false")
	if filter != "" {
		get = get.Param("filter", filter)
	}
	body, err := get.Stream(ctx)
	if err != nil {
		return 0, err
	}
	defer body.Close()
	for r := bufio.NewReaderSize(body, 1<<20); ; {
		_, err := r.ReadSlice('\n') // an event is a line
		switch {
		case err == nil:
			events++
		case errors.Is(err, io.EOF):
			return events, nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return events, err
		}
	}
}
