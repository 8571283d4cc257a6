package main

import (
	"context"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"
)

type redisClient struct {
	*redis.Client
	topic string
}

func openRedis(ctx context.Context, address, topic string, window int) (client, error) {
	c := &redisClient{redis.NewClient(&redis.Options{Addr: address, PoolSize: window + 2, MaxRetries: -1}), topic}
	if err := c.XGroupCreateMkStream(ctx, topic, topic, "0").Err(); err != nil && !redis.HasErrorPrefix(err, "BUSYGROUP") {
		c.close()
		return nil, err
	}
	return c, nil
}

func (c *redisClient) publish(ctx context.Context, _ int, payload []byte) error {
	return c.XAdd(ctx, &redis.XAddArgs{Stream: c.topic, Values: []any{"data", payload}}).Err()
}

func (c *redisClient) stored(ctx context.Context) (int, error) {
	n, err := c.XLen(ctx, c.topic).Result()
	return int(n), err
}

func (c *redisClient) consume(ctx context.Context, each func([]byte)) error {
	for ctx.Err() == nil {
		streams, err := c.XReadGroup(ctx, &redis.XReadGroupArgs{Group: c.topic, Consumer: "bench", Streams: []string{c.topic, ">"}, Count: 256, Block: 100 * time.Millisecond}).Result()
		if errors.Is(err, redis.Nil) {
			continue
		}
		if err != nil {
			return err
		}
		var ids []string
		for _, m := range streams[0].Messages {
			data, _ := m.Values["data"].(string)
			each([]byte(data))
			ids = append(ids, m.ID)
		}
		if err := c.XAck(ctx, c.topic, c.topic, ids...).Err(); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (c *redisClient) close() { c.Close() }
