package system

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"
	"sync"
	"unicode/utf8"
)

// redacted stands where a credential was.
const redacted = "REDACTED"

// lastApplied is kubectl's copy of what was applied, as JSON in a string.
const lastApplied = "kubectl.kubernetes.io/last-applied-configuration"

// patterns find credentials inside of texts. Their first group, and the second
// where there is one, is kept.
type pattern struct {
	*regexp.Regexp
	with string
	// has is in each text in which it finds something: most texts do not have it.
	has string
	// after: one of the characters of has is enough, behind one of these words.
	after []string
}

// maybe says whether the pattern might find something.
func (p *pattern) maybe(text []byte) bool {
	if p.after == nil {
		return bytes.Contains(text, []byte(p.has))
	}
	for at, c := range text {
		if c >= utf8.RuneSelf {
			return true // there are other letters that are taken for those of a word
		}
		if strings.IndexByte(p.has, c) < 0 {
			continue
		}
		for _, word := range p.after {
			if at >= len(word) && bytes.EqualFold(text[at-len(word):at], []byte(word)) {
				return true
			}
		}
	}
	return false
}

func patterns() []pattern {
	compile := regexp.MustCompile
	return []pattern{
		// The user and password of a URL, wherever it stands.
		{compile(`([a-zA-Z][a-zA-Z0-9+.-]*://)[^/?#\s"'<>]*@`), "${1}" + redacted + "@", "@", nil},
		// What a URL's query calls a credential.
		{compile(`(?i)([?&;](?:[a-z0-9._~-]*(?:token|password|passwd|secret|signature|credential|apikey|api_key|api-key|accesskey|access_key)|sig|key|code)=)[^&;#\s"'<>]+`), "${1}" + redacted, "=", nil},
		// Authorization, as a header has it.
		{compile(`(?i)\b(bearer|basic)(\s+)[a-z0-9._~+/=-]{8,}`), "${1}${2}" + redacted, " \t\n\f\r", []string{"bearer", "basic"}},
		// A JSON web token.
		{compile(`\beyJ[A-Za-z0-9_-]{6,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*`), redacted, "eyJ", nil},
		// A private key.
		{compile(`-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----(?s:.*?)(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\z)`), redacted, "-----BEGIN ", nil},
	}
}

// redactor takes credentials out of objects.
type redactor struct {
	patterns []pattern
	names    *names
}

func newRedactor() redactor { return redactor{patterns(), &names{known: map[string]bool{}}} }

// names are those of fields that were looked at; there are few, again and again.
type names struct {
	mu    sync.Mutex
	known map[string]bool
}

// mostNames bounds them, longName how long one is that is kept.
const (
	mostNames = 4096
	longName  = 64
)

func (n *names) isCredential(name string) bool {
	if len(name) > longName {
		return isCredential(name)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	is, ok := n.known[name]
	if !ok {
		if len(n.known) >= mostNames {
			clear(n.known)
		}
		is = isCredential(name)
		n.known[strings.Clone(name)] = is
	}
	return is
}

func (r redactor) value(v any) any {
	switch v := v.(type) {
	case string:
		return r.text(v)
	case map[string]any:
		r.fields(v)
	case []any:
		for i := range v {
			v[i] = r.value(v[i])
		}
	}
	return v
}

// fields redacts an object in place.
func (r redactor) fields(m map[string]any) {
	for name, v := range m {
		s, isText := v.(string)
		_, isNumber := v.(json.Number)
		switch {
		case isText && name == lastApplied:
			m[name] = r.document(s)
		case (s != "" || isNumber) && r.names.isCredential(name):
			m[name] = redacted
		default:
			m[name] = r.value(v)
		}
	}
	// A Secret inside of another object, a template of one say.
	if kind, _ := m["kind"].(string); kind == "Secret" {
		for _, part := range []string{"data", "stringData"} {
			if inner, ok := m[part].(map[string]any); ok {
				for name := range inner {
					inner[name] = redacted
				}
			}
		}
	}
	// An entry of a list of variables or headers: {name: PASSWORD, value: ...}.
	if name, ok := m["name"].(string); ok && r.names.isCredential(name) {
		if s, ok := m["value"].(string); ok && s != "" {
			m["value"] = redacted
		}
	}
}

// document redacts JSON in a string; what is no JSON cannot be judged.
func (r redactor) document(s string) string {
	o, err := decodeObject([]byte(s))
	if err != nil {
		return redacted
	}
	if o.string("kind") == "Secret" {
		return redacted
	}
	r.fields(o)
	b, err := encode(map[string]any(o))
	if err != nil {
		return redacted
	}
	return string(b)
}

func (r redactor) text(s string) string {
	if trimmed := strings.TrimSpace(s); strings.HasPrefix(trimmed, "{") && json.Valid([]byte(trimmed)) {
		if o, err := decodeObject([]byte(trimmed)); err == nil {
			before, _ := encode(map[string]any(o)) // it was decoded just now
			r.fields(o)
			if after, err := encode(map[string]any(o)); err == nil && string(after) != string(before) {
				return string(after)
			}
		}
	}
	for i := range r.patterns {
		if p := &r.patterns[i]; p.maybe([]byte(s)) {
			s = p.ReplaceAllString(s, p.with)
		}
	}
	return s
}

// credentials are the endings of names whose values are credentials, in small
// letters and without separators.
func credentials() []string {
	return []string{
		"password", "passwd", "passphrase", "pwd", "token", "secret", "apikey", "accesskey", "accesskeyid", "secretkey",
		"privatekey", "secretaccesskey", "signingkey", "encryptionkey", "sharedkey", "credential", "credentials", "authorization",
		"connectionstring", "dockerconfigjson", "kubeconfig",
	}
}

// isCredential says whether a field of this name holds a credential when it
// holds a text or a number.
func isCredential(name string) bool {
	plain := strings.Map(func(c rune) rune {
		switch c {
		case '-', '_', '.', ' ', '/':
			return -1
		}
		return c
	}, strings.ToLower(name))
	for _, ending := range credentials() {
		if strings.HasSuffix(plain, ending) {
			return true
		}
	}
	return false
}
