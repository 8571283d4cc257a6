package main

import (
	"fmt"
	"net/http"
	"os"
	"strings"

	"github.com/spf13/pflag"

	"github.com/leat-dev/leat/cmd/leat/client"
)

// eventFlags are what is needed to send to a broker's address.
type eventFlags struct{ tokenFile, ca string }

func (e *eventFlags) declare(f *pflag.FlagSet) {
	f.StringVar(&e.tokenFile, "token-file", "", "file that holds the token of a ServiceAccount, where the server asks for one (default: the variable LEAT_TOKEN)")
	f.StringVar(&e.ca, "ca", "", "certificate authorities of the broker's address, beside the system's and the kubeconfig's, as a PEM file")
}

// client sends to brokers, so many requests at once.
func (e eventFlags) client(cl *client.Client, concurrency int) (*http.Client, error) {
	transport, err := cl.EventTransport(e.ca)
	if err != nil {
		return nil, err
	}
	token, err := readToken(e.tokenFile)
	if err != nil {
		return nil, err
	}
	transport.MaxIdleConnsPerHost = concurrency
	return &http.Client{Transport: client.WithToken(transport, token), CheckRedirect: noRedirect}, nil
}

// readToken reads the token to send with: a flag would show it to everybody
// who lists the processes.
func readToken(file string) (string, error) {
	if file == "" {
		return strings.TrimSpace(os.Getenv("LEAT_TOKEN")), nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("--token-file: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
