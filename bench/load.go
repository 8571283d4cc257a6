package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// syncCeiling writes and syncs blocks, one after another, over space that has
// been written before.
func syncCeiling(ctx context.Context, dir string, size int, length time.Duration) (result, error) {
	f, err := os.Create(filepath.Join(dir, "sync"))
	if err != nil {
		return result{}, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	const space = 64 << 20
	block := make([]byte, size)
	for at := int64(0); at < space; at += int64(size) {
		if _, err := f.WriteAt(block, at); err != nil {
			return result{}, err
		}
	}
	if err := f.Sync(); err != nil {
		return result{}, err
	}
	var latencies []time.Duration
	start := time.Now()
	for at := int64(0); time.Since(start) < length && ctx.Err() == nil; at = (at + int64(size)) % space {
		began := time.Now()
		if _, err := f.WriteAt(block, at); err != nil {
			return result{}, err
		}
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			return result{}, err
		}
		latencies = append(latencies, time.Since(began))
	}
	return summarize([][]time.Duration{latencies}, 1, time.Since(start)), ctx.Err()
}

// publish sends requests of batch events each over w connections, each with
// one request in flight.
func publish(ctx context.Context, address, path string, w, batch, size int, length time.Duration) (result, error) {
	latencies := make([][]time.Duration, w)
	errs := make([]error, w)
	var wg sync.WaitGroup
	start := time.Now()
	for i := range w {
		wg.Go(func() {
			latencies[i], errs[i] = publisher(ctx, address, path, strconv.Itoa(i), batch, size, start.Add(length))
		})
	}
	wg.Wait()
	return summarize(latencies, batch, time.Since(start)), errors.Join(errs...)
}

// publisher writes requests by hand: the client must cost as little as it can,
// for it runs on the server's cores.
func publisher(ctx context.Context, address, path, name string, batch, size int, until time.Time) ([]time.Duration, error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	r := bufio.NewReader(conn)
	data := payload(size)
	var latencies []time.Duration
	for n := 0; time.Now().Before(until); n++ {
		request := binaryRequest(address, path, name, n, data)
		if batch > 1 {
			request = batchRequest(address, path, name, n, batch, data)
		}
		began := time.Now()
		if _, err := io.WriteString(conn, request); err != nil {
			return nil, err
		}
		if err := readAccepted(r); err != nil {
			return nil, err
		}
		latencies = append(latencies, time.Since(began))
	}
	return latencies, ctx.Err()
}

func binaryRequest(address, path, name string, n int, data string) string {
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: %s\r\nCe-Specversion: 1.0\r\nCe-Id: %s-%d\r\nCe-Source: /bench/%s\r\nCe-Type: bench.event\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		path, address, name, n, name, len(data), data)
}

func batchRequest(address, path, name string, n, batch int, data string) string {
	var b strings.Builder
	for i := range batch {
		sep := ","
		if i == 0 {
			sep = "["
		}
		fmt.Fprintf(&b, `%s{"specversion":"1.0","id":"%s-%d-%d","source":"/bench/%s","type":"bench.event","datacontenttype":"application/json","data":%s}`, sep, name, n, i, name, data)
	}
	b.WriteByte(']')
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/cloudevents-batch+json\r\nContent-Length: %d\r\n\r\n%s", path, address, b.Len(), b.String())
}

// readAccepted reads one answer, which must be 202.
func readAccepted(r *bufio.Reader) error {
	status, err := r.ReadString('\n')
	if err != nil {
		return err
	}
	length := 0
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return err
		}
		if line == "\r\n" {
			break
		}
		if k, v, ok := strings.Cut(line, ":"); ok && strings.EqualFold(k, "Content-Length") {
			if length, err = strconv.Atoi(strings.TrimSpace(v)); err != nil {
				return err
			}
		}
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(r, body); err != nil {
		return err
	}
	if !strings.HasPrefix(status, "HTTP/1.1 202") {
		return fmt.Errorf("answered %s: %s", strings.TrimSpace(status), body)
	}
	return nil
}

// nullServer is net/http answering 202 and storing nothing.
type nullServer struct {
	l net.Listener
	s *http.Server
}

func newNullServer() (*nullServer, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) // a client that goes away is its own loss
		w.WriteHeader(http.StatusAccepted)
	})}
	go s.Serve(l) // ends with close
	return &nullServer{l, s}, nil
}

func (n *nullServer) address() string { return n.l.Addr().String() }
func (n *nullServer) close()          { n.s.Close() }

// sink is the subscriber of the end-to-end measurement.
type sink struct {
	*nullServer
	received atomic.Int64
}

func newSink() *sink {
	s := &sink{}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err) // a port of the loopback
	}
	server := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) // as above
		s.received.Add(1)
		w.WriteHeader(http.StatusAccepted)
	})}
	go server.Serve(l) // ends with close
	s.nullServer = &nullServer{l, server}
	return s
}

func (s *sink) url() string { return "http://" + s.address() + "/" }

// endToEnd publishes for a while and counts until everything has been
// delivered.
func endToEnd(ctx context.Context, leat *leat, s *sink, w, size int, length time.Duration) (result, error) {
	before := s.received.Load()
	start := time.Now()
	r, err := publish(ctx, leat.address(), "/default/delivered", w, 1, size, length)
	if err != nil {
		return result{}, err
	}
	sent := int64(r.events)
	for s.received.Load()-before < sent {
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return result{}, ctx.Err()
		}
		if time.Since(start) > length+time.Minute {
			return result{}, fmt.Errorf("%d of %d events were delivered", s.received.Load()-before, sent)
		}
	}
	r.rate = float64(sent) / time.Since(start).Seconds()
	return r, nil
}
