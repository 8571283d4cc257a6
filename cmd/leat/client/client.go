// Package client is the part of the command line that talks to a server.
package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/leat-dev/leat/broker/operations"
)

// Flags say which server a command talks to.
type Flags struct {
	Kubeconfig string
	Namespace  string
	Server     string
}

// Declare adds the flags to a set.
func (f *Flags) Declare(fs *pflag.FlagSet) {
	fs.StringVar(&f.Kubeconfig, "kubeconfig", "", "kubeconfig file (default: $KUBECONFIG, else the dev server's)")
	fs.StringVarP(&f.Namespace, "namespace", "n", "", "namespace (default: the kubeconfig's)")
	fs.StringVar(&f.Server, "server", "", "address of the API, instead of the kubeconfig's")
}

// DevDir is where the server for development keeps its data.
func DevDir(getenv func(string) string) string {
	base := getenv("XDG_DATA_HOME")
	if base == "" {
		base = filepath.Join(getenv("HOME"), ".local", "share")
	}
	return filepath.Join(base, "leat")
}

// Client talks to one server, in one namespace.
type Client struct {
	Namespace string

	http *http.Client
	base *url.URL
	// authority is the kubeconfig's, in PEM; it may be empty.
	authority []byte
}

// Connect reads the kubeconfig. It does not dial yet.
func Connect(f Flags) (*Client, error) {
	rules := &clientcmd.ClientConfigLoadingRules{ExplicitPath: f.Kubeconfig}
	if f.Kubeconfig == "" {
		if env := os.Getenv("KUBECONFIG"); env != "" {
			rules.Precedence = filepath.SplitList(env)
		} else {
			rules.Precedence = []string{filepath.Join(DevDir(os.Getenv), "kubeconfig")}
		}
	}
	loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{})
	config, err := loader.ClientConfig()
	if clientcmd.IsEmptyConfig(err) {
		err = fmt.Errorf("there is no kubeconfig at %s", strings.Join(rules.GetLoadingPrecedence(), ", "))
	}
	if err != nil {
		return nil, fmt.Errorf("no server to talk to: %w\nStart one with `leat dev`; or with `leat server --data DIR`, then set KUBECONFIG=DIR/kubeconfig or pass --kubeconfig", err)
	}
	if f.Server != "" {
		config.Host = f.Server
	}
	namespace := f.Namespace
	if namespace == "" {
		if namespace, _, err = loader.Namespace(); err != nil {
			return nil, fmt.Errorf("kubeconfig: %w", err)
		}
	}
	base, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return nil, fmt.Errorf("server address %q: %w", config.Host, err)
	}
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("kubeconfig: %w", err)
	}
	if err := rest.LoadTLSFiles(config); err != nil {
		return nil, fmt.Errorf("kubeconfig: %w", err)
	}
	return &Client{Namespace: namespace, http: client, base: base, authority: config.CAData}, nil
}

// EventTransport reaches the address that a broker takes events at. Where that
// is HTTPS its certificate must be signed by an authority of the system, by the
// kubeconfig's, or by one of the file, unless that is empty.
func (c *Client) EventTransport(file string) (*http.Transport, error) {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.Proxy = nil
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool() // a system without any
	}
	pool.AppendCertsFromPEM(c.authority) // there may be none
	if file != "" {
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("--ca: %w", err)
		}
		if !pool.AppendCertsFromPEM(b) {
			return nil, fmt.Errorf("--ca: %s holds no certificate in PEM", file)
		}
	}
	t.TLSClientConfig = &tls.Config{RootCAs: pool}
	return t, nil
}

// get asks the API for a path. Its body must be closed. Anything but 200 is an
// error that carries the server's reason.
func (c *Client) get(ctx context.Context, query url.Values, path ...string) (io.ReadCloser, error) {
	body, _, err := c.open(ctx, query, path...)
	return body, err
}

// open is get, with the headers of the answer.
func (c *Client) open(ctx context.Context, query url.Values, path ...string) (io.ReadCloser, http.Header, error) {
	u := c.base.JoinPath(path...)
	u.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, nil, err
	}
	resp, err := c.send(req)
	if err != nil {
		return nil, nil, err
	}
	return resp.Body, resp.Header, nil
}

// do sends a request; see get.
func (c *Client) do(req *http.Request) (io.ReadCloser, error) {
	resp, err := c.send(req)
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

func (c *Client) send(req *http.Request) (*http.Response, error) {
	req.Header.Set("Accept", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w\nIs the server running? `leat dev` starts one; the addresses of a server are in endpoints.json, in its data directory", err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return nil, &statusError{resp.StatusCode, fmt.Errorf("%s: %w", resp.Status, err)}
	}
	return nil, &statusError{resp.StatusCode, responseError(resp.Status, b)}
}

// orThoseThereAre adds to the answer that a thing is not there which ones are:
// resource is "brokers" or "channels". Other errors are returned as they are.
func (c *Client) orThoseThereAre(ctx context.Context, err error, resource string) error {
	if refused := (*statusError)(nil); !errors.As(err, &refused) || refused.code != http.StatusNotFound {
		return err
	}
	names, failed := c.Names(ctx, resource)
	switch {
	case failed != nil: // the answer stands as it is
		return err
	case len(names) == 0:
		return fmt.Errorf("%w\nThere are no %s in namespace %s: `leat kubectl apply` makes one, -n names another namespace", err, resource, c.Namespace)
	}
	const most = 10
	more := ""
	if len(names) > most {
		names, more = names[:most], fmt.Sprintf(" and %d more", len(names)-most)
	}
	return fmt.Errorf("%w\nThe %s in namespace %s: %s%s; -n names another namespace", err, resource, c.Namespace, strings.Join(names, ", "), more)
}

// statusError is a refusal of the server.
type statusError struct {
	code int
	error
}

// Unwrap returns the reason.
func (e *statusError) Unwrap() error { return e.error }

// Refused says whether the server has refused a request for a reason that does not
// pass by itself: who asks, or for what.
func Refused(err error) bool {
	refused := (*statusError)(nil)
	return errors.As(err, &refused) && refused.code >= 400 && refused.code < 500 &&
		refused.code != http.StatusRequestTimeout && refused.code != http.StatusTooManyRequests
}

// responseError reads the reason out of a refusal: a Kubernetes Status, a
// Problem of the operations API, or plain text.
func responseError(status string, body []byte) error {
	var p struct {
		operations.Problem
		Message string `json:"message"`
	}
	switch err := json.Unmarshal(body, &p); {
	case err == nil && p.Message != "":
		return errors.New(p.Message)
	case err == nil && p.Field != "":
		return fmt.Errorf("%s: %s", p.Field, p.Problem.Reason)
	case err == nil && p.Problem.Reason != "":
		return errors.New(p.Problem.Reason)
	}
	return fmt.Errorf("%s: %s", status, body)
}

// IngressURL is the address that a broker takes events at.
func (c *Client) IngressURL(ctx context.Context, broker string) (string, error) {
	body, err := c.get(ctx, nil, brokersPath, c.Namespace, "brokers", broker)
	if err != nil {
		return "", c.orThoseThereAre(ctx, fmt.Errorf("broker %s/%s: %w", c.Namespace, broker, err), "brokers")
	}
	defer body.Close()
	var b struct {
		Status struct {
			Address struct {
				URL string `json:"url"`
			} `json:"address"`
			Conditions []struct{ Type, Status, Message string } `json:"conditions"`
		} `json:"status"`
	}
	if err := json.NewDecoder(body).Decode(&b); err != nil {
		return "", fmt.Errorf("broker %s/%s: %w", c.Namespace, broker, err)
	}
	if b.Status.Address.URL == "" {
		for _, cond := range b.Status.Conditions {
			if cond.Type == "Ready" && cond.Message != "" {
				return "", &NotReadyError{c.Namespace, broker, cond.Message}
			}
		}
		return "", &NotReadyError{c.Namespace, broker, "it has no address yet"}
	}
	return b.Status.Address.URL, nil
}
