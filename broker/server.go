package broker

import (
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/net/netutil"
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

// NewServer makes a server for h that speaks HTTP/1.1 and HTTP/2, the latter
// also without TLS (with prior knowledge).
func NewServer(h http.Handler, o ServerOptions) *http.Server {
	o.setDefaults()
	var p http.Protocols
	p.SetHTTP1(true)
	p.SetHTTP2(true)
	p.SetUnencryptedHTTP2(true)
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: o.ReadHeaderTimeout,
		ReadTimeout:       o.ReadTimeout,
		WriteTimeout:      o.WriteTimeout,
		IdleTimeout:       o.IdleTimeout,
		MaxHeaderBytes:    o.MaxHeaderBytes,
		Protocols:         &p,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: o.MaxStreams},
		ErrorLog:          slog.NewLogLogger(o.Logger.Handler(), slog.LevelDebug),
	}
}

// LimitConns bounds the connections that a listener has accepted at once.
func LimitConns(l net.Listener, o ServerOptions) net.Listener {
	o.setDefaults()
	return netutil.LimitListener(l, o.MaxConns)
}
