package main

import (
	"context"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

type natsClient struct {
	conn   *nats.Conn
	js     jetstream.JetStream
	stream jetstream.Stream
	topic  string
}

func openNATS(ctx context.Context, address, topic string, _ int) (client, error) {
	conn, err := nats.Connect("nats://" + address)
	if err != nil {
		return nil, err
	}
	c := &natsClient{conn: conn, topic: topic}
	if c.js, err = jetstream.New(conn); err == nil {
		c.stream, err = c.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{Name: topic, Subjects: []string{topic}, Storage: jetstream.FileStorage})
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return c, nil
}

func (c *natsClient) publish(ctx context.Context, _ int, payload []byte) error {
	_, err := c.js.Publish(ctx, c.topic, payload)
	return err
}

func (c *natsClient) stored(ctx context.Context) (int, error) {
	info, err := c.stream.Info(ctx)
	if err != nil {
		return 0, err
	}
	return int(info.State.Msgs), nil
}

func (c *natsClient) consume(ctx context.Context, each func([]byte)) error {
	consumer, err := c.stream.CreateConsumer(ctx, jetstream.ConsumerConfig{Durable: "bench", AckPolicy: jetstream.AckExplicitPolicy})
	if err != nil {
		return err
	}
	failed := make(chan error, 1)
	consuming, err := consumer.Consume(func(m jetstream.Msg) {
		each(m.Data())
		if err := m.Ack(); err != nil {
			select {
			case failed <- err:
			default:
			}
		}
	})
	if err != nil {
		return err
	}
	defer consuming.Stop()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *natsClient) close() { c.conn.Close() }
