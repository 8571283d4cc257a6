package dispatcher

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/leat-dev/leat/dispatcher/http1"
)

// httpSender is the Sender over HTTP: small requests over plain HTTP are made by
// package http1, all others by net/http.
type httpSender struct {
	o            HTTPOptions
	transport    *http.Transport
	client       *http1.Client
	buffers      sync.Pool // of *[]byte, for requests
	destinations destinations
}

// maxAnswerHeader bounds the headers of an answer, in bytes.
const maxAnswerHeader = 64 << 10

// NewHTTPSender makes a sender over HTTP. It follows no redirects, knows no
// proxy, keeps no cookies, and checks each address that it dials. A Request and its
// ctx are used again when Send has returned: a Sender that wraps this one keeps
// neither.
func NewHTTPSender(o HTTPOptions) Sender {
	o = o.withDefaults()
	rule := &addressRule{denied: o.DeniedAddrs, allowLinkLocal: o.AllowLinkLocal, allowed: o.AllowedPrefixes, local: net.InterfaceAddrs}
	dial := rule.dial(&net.Dialer{Timeout: o.DialTimeout, KeepAlive: 30 * time.Second, Control: rule.control})
	return &httpSender{o: o, transport: &http.Transport{
		DialContext:            dial,
		MaxConnsPerHost:        o.MaxConnsPerHost,
		MaxIdleConnsPerHost:    o.MaxIdleConnsPerHost,
		MaxIdleConns:           o.MaxIdleConns,
		IdleConnTimeout:        o.IdleTimeout,
		TLSHandshakeTimeout:    o.DialTimeout,
		TLSClientConfig:        &tls.Config{RootCAs: o.RootCAs},
		MaxResponseHeaderBytes: maxAnswerHeader,
		DisableCompression:     true,
		ForceAttemptHTTP2:      true,
	}, client: http1.New(http1.Options{
		Dial:     dial,
		MaxConns: o.MaxConnsPerHost, MaxIdlePerHost: o.MaxIdleConnsPerHost, MaxIdle: o.MaxIdleConns,
		IdleTimeout: o.IdleTimeout, MaxHeaderBytes: maxAnswerHeader,
	})}
}

func (h *httpSender) Close() {
	h.transport.CloseIdleConnections()
	h.client.CloseIdle()
}

// host implements hosts.
func (h *httpSender) host(url string) (name string, most int) {
	if to, err := h.destinations.get(url, h.o.Tokens); err == nil {
		return to.address, h.o.MaxConnsPerHost
	}
	return "", 0
}

// Send makes one POST.
func (h *httpSender) Send(ctx context.Context, r *Request) (Response, error) {
	to, err := h.destinations.get(r.URL, h.o.Tokens)
	if err != nil {
		return Response{}, err
	}
	res, sent, err := h.sendPlain(ctx, to, r)
	if !sent {
		res, err = h.sendStandard(ctx, to, r)
	}
	if denied, ok := errors.AsType[*DeniedError](err); ok {
		err = &DeniedError{Host: to.url.Hostname(), Addr: denied.Addr, Reason: denied.Reason}
	}
	return res, err
}

// sendPlain makes the request on a connection of ours, where it can be.
func (h *httpSender) sendPlain(ctx context.Context, to *destination, r *Request) (res Response, sent bool, err error) {
	if to.address == "" {
		return res, false, nil
	}
	buf, ok := h.buffers.Get().(*[]byte)
	if !ok {
		buf = new([]byte)
	}
	defer func() {
		if cap(*buf) <= maxKeptBuffer {
			h.buffers.Put(buf)
		}
	}()
	request, ok := r.plain(append((*buf)[:0], to.head...))
	if *buf = request; !ok {
		return res, false, nil
	}
	res, err = h.exchange(ctx, to, request, r)
	return res, true, err
}

// maxKeptBuffer is the most memory for a request that is kept for others.
const maxKeptBuffer = 8 << 10

// exchange sends a request and reads its answer.
func (h *httpSender) exchange(ctx context.Context, to *destination, request []byte, r *Request) (res Response, err error) {
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(defaultTimeout)
	}
	if a, ok := ctx.(*attempt); ok {
		KeepsNothing(a)
		ctx = a.Context // what follows uses the parent, as long as this lasts
	}
	conn, err := h.write(ctx, to, request, deadline)
	if err != nil {
		return res, err
	}
	keep := false
	defer func() { h.client.Put(conn, keep) }()
	a, plain, err := conn.ReadPlain(ctx, int64(h.o.MaxAnswerBytes))
	if plain || err != nil {
		keep = err == nil
		return Response{Status: a.Status, NotEvent: r.WantReply && a.Body}, err
	}
	answer, err := conn.ReadResponse(ctx)
	if err != nil {
		return res, err
	}
	res, err = h.answer(r, answer)
	keep = err == nil && !answer.Close && h.finish(answer.Body)
	return res, err
}

// write sends a request on a connection, which is to be given back. Connections
// that have ended while they were idle cost no attempt.
func (h *httpSender) write(ctx context.Context, to *destination, request []byte, deadline time.Time) (*http1.Conn, error) {
	for {
		conn, err := h.client.Get(ctx, to.address, deadline)
		if err != nil {
			return nil, err
		}
		if err = conn.Write(ctx, request); err == nil {
			return conn, nil
		}
		h.client.Put(conn, false)
		if !errors.Is(err, http1.ErrStale) {
			return nil, err
		}
	}
}

// sendStandard makes the request by net/http.
func (h *httpSender) sendStandard(ctx context.Context, to *destination, r *Request) (Response, error) {
	headers, body := r.headers(nil)
	req := &http.Request{
		Method: http.MethodPost, URL: to.url, Host: to.url.Host, Header: make(http.Header, len(headers)+2),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		ContentLength: int64(len(body)),
	}
	for _, x := range headers {
		req.Header[x.Name] = append(req.Header[x.Name], x.Value)
	}
	req.Header.Set("User-Agent", "leat")
	if to.authorization != "" {
		req.Header.Set("Authorization", to.authorization)
	}
	if len(body) == 0 {
		req.Body = http.NoBody
	} else {
		data := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
		req.Body, _ = data()
		req.GetBody = data // so that a kept connection that has gone stale costs no attempt
	}
	res, err := h.transport.RoundTrip(req.WithContext(ctx))
	if err != nil {
		return Response{}, err
	}
	defer func() {
		_ = res.Body.Close() // what it could say was read before
	}()
	out, err := h.answer(r, res)
	h.finish(res.Body)
	return out, err
}

// finish reads a bounded rest of an answer, so that its connection can be used
// again; it says whether that was all.
func (h *httpSender) finish(body io.Reader) bool {
	_, err := io.CopyN(io.Discard, body, int64(h.o.MaxAnswerBytes))
	return errors.Is(err, io.EOF)
}

// answer reads as much of an answer as is wanted.
func (h *httpSender) answer(r *Request, res *http.Response) (Response, error) {
	out := Response{Status: res.StatusCode}
	switch {
	case res.StatusCode < 200 || res.StatusCode > 299:
		out.RetryAfter = res.Header.Get("Retry-After")
		out.Body = make([]byte, maxAnswer)
		n, _ := io.ReadFull(res.Body, out.Body) // what there is of it
		out.Body = out.Body[:n]
	case r.WantReply && saysEvent(res.Header):
		return out, h.replies(&out, res)
	default:
		var one [1]byte
		n, _ := io.ReadFull(res.Body, one[:])
		out.NotEvent = r.WantReply && n > 0
	}
	return out, nil
}
