package client

import (
	"strings"
	"testing"
)

// TestLocalURL: what is no address is refused before anything is sent there.
func TestLocalURL(t *testing.T) {
	for to, want := range map[string]string{
		"3000": "http://localhost:3000/", ":3000": "http://localhost:3000/", "h": "http://h/", "h:80/x": "http://h:80/x",
		"https://h": "https://h/", "[::1]:1": "http://[::1]:1/",
	} {
		if got, err := LocalURL(to); got != want || err != nil {
			t.Errorf("%q is %q, %v", to, got, err)
		}
	}
	for to, want := range map[string]string{
		"h:99999": "there are those from 1 to 65535", "h:0": "there are those from 1 to 65535", "0": "there are those from 1 to 65535",
		"99999": "there are those from 1 to 65535", "ftp://h": "is no address", "http://": "is no address", "h:x": "is no address",
	} {
		if got, err := LocalURL(to); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is %q, %v", to, got, err)
		}
	}
}
