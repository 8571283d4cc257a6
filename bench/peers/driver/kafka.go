package main

import (
	"context"
	"errors"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

type kafkaClient struct {
	*kgo.Client
	address, topic string
	acknowledged   []chan error // by worker
}

func openKafka(ctx context.Context, address, topic string, window int) (client, error) {
	k, err := kgo.NewClient(kgo.SeedBrokers(address), kgo.DefaultProduceTopic(topic), kgo.ProducerLinger(0), kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		return nil, err
	}
	c := &kafkaClient{Client: k, address: address, topic: topic}
	for range window {
		c.acknowledged = append(c.acknowledged, make(chan error, 1))
	}
	if _, err := kadm.NewClient(k).CreateTopic(ctx, 1, 1, nil, topic); err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
		k.Close()
		return nil, err
	}
	return c, nil
}

func (c *kafkaClient) publish(ctx context.Context, worker int, payload []byte) error {
	done := c.acknowledged[worker]
	c.Produce(ctx, &kgo.Record{Value: payload}, func(_ *kgo.Record, err error) { done <- err })
	return <-done
}

func (c *kafkaClient) stored(ctx context.Context) (int, error) {
	ends, err := kadm.NewClient(c.Client).ListEndOffsets(ctx, c.topic)
	if err != nil {
		return 0, err
	}
	end, _ := ends.Lookup(c.topic, 0)
	return int(end.Offset), end.Err
}

func (c *kafkaClient) consume(ctx context.Context, each func([]byte)) error {
	k, err := kgo.NewClient(kgo.SeedBrokers(c.address), kgo.ConsumeTopics(c.topic), kgo.ConsumerGroup(c.topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return err
	}
	defer k.Close()
	for ctx.Err() == nil {
		fetches := k.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return err
		}
		fetches.EachRecord(func(r *kgo.Record) { each(r.Value) })
	}
	return ctx.Err()
}

func (c *kafkaClient) close() { c.Close() }
