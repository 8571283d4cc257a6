package broker

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/leat-dev/leat/broker/http1"
)

// ServerOptions bound what one peer can hold of the HTTP server. Zero values
// mean the defaults.
type ServerOptions struct {
	// ReadHeaderTimeout is how long a request's headers may take; 10 s.
	ReadHeaderTimeout time.Duration
	// ReadTimeout is how long a whole request may take; 60 s.
	ReadTimeout time.Duration
	// WriteTimeout is how long an answer may take, the handler's time included;
	// 2 min.
	WriteTimeout time.Duration
	// IdleTimeout is how long a connection is kept without a request; 2 min.
	IdleTimeout time.Duration
	// MaxHeaderBytes bounds the headers of a request; 64 KiB. More is 431.
	MaxHeaderBytes int
	// MaxStreams bounds the requests at once on an HTTP/2 connection; 250.
	MaxStreams int
	// MaxConns bounds the connections; 20,000. More wait to be accepted.
	MaxConns int
	// Logger gets the server's own complaints, about peers mostly, at the level
	// of debugging; nil discards them.
	Logger *slog.Logger
}

func (o *ServerOptions) setDefaults() {
	setDefault(&o.ReadHeaderTimeout, 10*time.Second)
	setDefault(&o.ReadTimeout, 60*time.Second)
	setDefault(&o.WriteTimeout, 2*time.Minute)
	setDefault(&o.IdleTimeout, 2*time.Minute)
	setDefault(&o.MaxHeaderBytes, 64<<10)
	setDefault(&o.MaxStreams, 250)
	setDefault(&o.MaxConns, 20_000)
	if o.Logger == nil {
		o.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
}

// Server serves HTTP/1.1 and HTTP/2, the latter also without TLS (with prior
// knowledge). The plain requests of senders of events are read by package http1,
// all others by net/http.
type Server struct {
	plain    *http1.Server
	standard *http.Server
}

// NewServer makes a server for i; h serves what is no plain request to it.
func NewServer(i *Ingress, h http.Handler, o ServerOptions) *Server {
	o.setDefaults()
	var p http.Protocols
	p.SetHTTP1(true)
	p.SetHTTP2(true)
	p.SetUnencryptedHTTP2(true)
	s := &Server{standard: &http.Server{
		Handler:           h,
		ReadHeaderTimeout: o.ReadHeaderTimeout,
		ReadTimeout:       o.ReadTimeout,
		WriteTimeout:      o.WriteTimeout,
		IdleTimeout:       o.IdleTimeout,
		MaxHeaderBytes:    o.MaxHeaderBytes,
		Protocols:         &p,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: o.MaxStreams},
		ErrorLog:          slog.NewLogLogger(o.Logger.Handler(), slog.LevelDebug),
	}}
	s.plain = http1.NewServer(http1.Options{
		Handler: i.ServePlain, Async: i.async(), Buffers: buffers{&i.bodies}, Fallback: s.standard,
		ReadHeaderTimeout: o.ReadHeaderTimeout, ReadTimeout: o.ReadTimeout, WriteTimeout: o.WriteTimeout, IdleTimeout: o.IdleTimeout,
		Logger: o.Logger,
	})
	return s
}

// Serve serves a listener until Shutdown or Close; then it returns
// http.ErrServerClosed.
func (s *Server) Serve(l net.Listener) error { return s.plain.Serve(l) }

// ServeTLS is Serve for a listener whose connections speak TLS.
func (s *Server) ServeTLS(l net.Listener, c *tls.Config) error {
	s.standard.TLSConfig = c
	return s.standard.ServeTLS(l, "", "")
}

// Shutdown stops listening, answers what has come, and ends; ctx bounds it.
func (s *Server) Shutdown(ctx context.Context) error { return s.plain.Shutdown(ctx) }

// Close ends everything at once.
func (s *Server) Close() error { return s.plain.Close() }
