package dispatcher

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

// httpSender is the Sender over net/http.
type httpSender struct {
	o         HTTPOptions
	transport *http.Transport
}

// NewHTTPSender makes a sender over net/http. It follows no redirects, knows
// no proxy, keeps no cookies, and checks each address that it dials.
func NewHTTPSender(o HTTPOptions) Sender {
	o = o.withDefaults()
	rule := o.addressRule()
	dialer := &net.Dialer{Timeout: o.DialTimeout, KeepAlive: 30 * time.Second, Control: rule.control}
	return &httpSender{o: o, transport: &http.Transport{
		DialContext:            rule.dial(dialer),
		MaxConnsPerHost:        o.MaxConnsPerHost,
		MaxIdleConnsPerHost:    o.MaxIdleConnsPerHost,
		MaxIdleConns:           o.MaxIdleConns,
		IdleConnTimeout:        o.IdleTimeout,
		TLSHandshakeTimeout:    o.DialTimeout,
		TLSClientConfig:        &tls.Config{RootCAs: o.RootCAs},
		MaxResponseHeaderBytes: 64 << 10,
		DisableCompression:     true,
		ForceAttemptHTTP2:      true,
	}}
}

func (h *httpSender) Close() { h.transport.CloseIdleConnections() }

// Send makes one POST.
func (h *httpSender) Send(ctx context.Context, r *Request) (Response, error) {
	req, err := newHTTPRequest(ctx, r)
	if err != nil {
		return Response{}, err
	}
	if token, ok := h.o.Tokens[req.URL.Scheme+"://"+req.URL.Host]; ok && req.Header.Get("Authorization") == "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := h.transport.RoundTrip(req)
	if err != nil {
		var denied *DeniedError
		if errors.As(err, &denied) {
			return Response{}, &DeniedError{Host: req.URL.Hostname(), Addr: denied.Addr, Reason: denied.Reason}
		}
		return Response{}, err
	}
	defer func() {
		_ = res.Body.Close() // what it could say was read before
	}()
	return h.answer(r, res)
}

func newHTTPRequest(ctx context.Context, r *Request) (*http.Request, error) {
	u, err := url.Parse(r.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		// The parser's own error would show the credentials in it.
		return nil, fmt.Errorf("%s is no http or https URL with a host", redact(r.URL))
	}
	header := make(http.Header, 16)
	data := encode(header, r)
	if u.User != nil {
		password, _ := u.User.Password()
		auth := http.Request{Header: header}
		auth.SetBasicAuth(u.User.Username(), password)
		u.User = nil
	}
	req := &http.Request{
		Method: http.MethodPost, URL: u, Host: u.Host, Header: header,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		ContentLength: int64(len(data)),
	}
	if len(data) == 0 {
		req.Body = http.NoBody
	} else {
		body := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
		req.Body, _ = body()
		req.GetBody = body // so that a kept connection that has gone stale costs no attempt
	}
	return req.WithContext(ctx), nil
}

// answer reads as much of an answer as is wanted, and a bounded rest, so that
// its connection can be used again.
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
	_, _ = io.CopyN(io.Discard, res.Body, int64(h.o.MaxAnswerBytes))
	return out, nil
}
