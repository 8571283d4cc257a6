package main

import (
	"context"
	"errors"

	amqp "github.com/rabbitmq/amqp091-go"
)

type rabbitClient struct {
	conn     *amqp.Connection
	channels []*amqp.Channel // each for some of the workers
	topic    string
}

// maxChannels are opened; more cost more than they bring.
const maxChannels = 16

func openRabbitMQ(_ context.Context, address, topic string, window int) (_ client, err error) {
	c := &rabbitClient{topic: topic}
	if c.conn, err = amqp.Dial("amqp://guest:guest@" + address + "/"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	for range min(window, maxChannels) {
		channel, err := c.conn.Channel()
		if err != nil {
			return nil, err
		}
		if err := channel.Confirm(false); err != nil {
			return nil, err
		}
		c.channels = append(c.channels, channel)
	}
	_, err = c.channels[0].QueueDeclare(topic, true, false, false, false, amqp.Table{"x-queue-type": "quorum"})
	return c, err
}

var errNack = errors.New("the server refused the event")

func (c *rabbitClient) publish(ctx context.Context, worker int, payload []byte) error {
	confirm, err := c.channels[worker%len(c.channels)].PublishWithDeferredConfirmWithContext(ctx, "", c.topic, false, false,
		amqp.Publishing{DeliveryMode: amqp.Persistent, Body: payload})
	if err != nil {
		return err
	}
	ok, err := confirm.WaitContext(ctx)
	if err == nil && !ok {
		err = errNack
	}
	return err
}

func (c *rabbitClient) stored(context.Context) (int, error) {
	q, err := c.channels[0].QueueDeclarePassive(c.topic, true, false, false, false, amqp.Table{"x-queue-type": "quorum"})
	return q.Messages, err
}

func (c *rabbitClient) consume(ctx context.Context, each func([]byte)) error {
	channel, err := c.conn.Channel()
	if err != nil {
		return err
	}
	if err := channel.Qos(500, 0, false); err != nil {
		return err
	}
	deliveries, err := channel.ConsumeWithContext(ctx, c.topic, "", false, false, false, false, nil)
	if err != nil {
		return err
	}
	for {
		select {
		case d, ok := <-deliveries:
			if !ok {
				return errors.Join(ctx.Err(), amqp.ErrClosed)
			}
			each(d.Body)
			if err := d.Ack(false); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (c *rabbitClient) close() { c.conn.Close() }
