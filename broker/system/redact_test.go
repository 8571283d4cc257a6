package system

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/leat-dev/leat/raftlog/kv"
)

const (
	word   = "hunter2-hunter2"
	number = "1234567890123"
)

// TestSecretsNeverAppear: what a credential looks like, wherever it stands.
func TestSecretsNeverAppear(t *testing.T) {
	w := newWorld(t)
	w.run()
	secret := `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"s","namespace":"default","uid":"u"},"data":{"password":"` + base64.StdEncoding.EncodeToString([]byte(word)) + `"},"stringData":{"x":"` + word + `"}}`
	n := 0
	put := func(key, value string) {
		w.put(key, value)
		n++
	}
	put("core/secrets/default/s", secret)
	put("core/secrets/default/s", "leat:aesgcm:0a0b:"+word) // as it is stored
	w.remove("core/secrets/default/s")
	n++
	applied, err := json.Marshal(secret)
	w.ok(err)
	for i, content := range []string{
		`"spec":{"subscriber":{"uri":"https://user:` + word + `@example.com/x"}}`,
		`"spec":{"uri":"amqp://` + word + `@example.com"}`,
		`"spec":{"list":["see https://u:` + word + `@h/p, please"]}`,
		`"spec":{"uri":"https://h/p?a=b&access_token=` + word + `&c=d"}`,
		`"spec":{"uri":"https://h/p?sig=` + word + `"}`,
		`"data":{"password":"` + word + `","DB_PASSWORD":"` + word + `","api-key":"` + word + `","accessToken":"` + word + `","client_secret":"` + word + `"}`,
		`"spec":{"env":[{"name":"API_TOKEN","value":"` + word + `"},{"name":"X","value":"y"}]}`,
		`"spec":{"headers":{"Authorization":"Bearer ` + word + `"}}`,
		`"spec":{"note":"curl -H 'Authorization: Bearer ` + word + `'"}`,
		`"spec":{"note":"eyJhbGciOiJIUzI1NiJ9.` + word + `.` + word + `"}`,
		`"data":{"tls.key":"-----BEGIN RSA PRIVATE KEY-----\n` + word + `\n-----END RSA PRIVATE KEY-----\n"}`,
		`"data":{"tls":"-----BEGIN EC PRIVATE KEY-----\n` + word + `"}`,
		`"metadata":{"name":"x","annotations":{"kubectl.kubernetes.io/last-applied-configuration":` + string(applied) + `}}`,
		`"metadata":{"name":"x","annotations":{"kubectl.kubernetes.io/last-applied-configuration":"{\"spec\":{\"uri\":\"http://u:` + word + `@h\",\"token\":\"` + word + `\"}}"}}`,
		`"metadata":{"name":"x","annotations":{"kubectl.kubernetes.io/last-applied-configuration":"no JSON, ` + word + `"}}`,
		`"data":{"config.json":"{\"auth\":{\"password\":\"` + word + `\"}}"}`,
		`"spec":{"template":` + secret + `}`,
		`"spec":{"password":` + number + `,"note":"{\"pwd\":` + number + `}"}`,
		`"status":{"conditions":[{"message":"dial https://u:` + word + `@h/: refused"}]}`,
	} {
		put(fmt.Sprintf("core/configmaps/default/c%d", i), `{"apiVersion":"v1","kind":"ConfigMap",`+content+`}`)
		w.remove(fmt.Sprintf("core/configmaps/default/c%d", i))
		n++
	}
	events := w.published(n)
	for _, e := range events {
		all := fmt.Sprintf("%+v %s", e, e.Data)
		if strings.Contains(all, word) || strings.Contains(all, number) || strings.Contains(all, base64.StdEncoding.EncodeToString([]byte(word))) {
			t.Errorf("a credential in the clear: %s", e.Data)
		}
	}
	w.equal("a Secret's event", events[0].Type, "dev.knative.apiserver.ref.add")
	w.equal("a Secret's data", string(events[0].Data), `{"apiVersion":"v1","kind":"Secret","namespace":"default","name":"s","resourceVersion":"2"}`)
	w.equal("a Secret's subject", events[0].Subject, "/apis/v1/namespaces/default/secrets/s")
	w.equal("a Secret's id", events[0].ID, "/apis/v1/namespaces/default/secrets/s/2")
	w.equal("verbs", []string{events[1].Type, events[2].Type}, []string{"dev.knative.apiserver.ref.update", "dev.knative.apiserver.ref.delete"})
}

// TestWhatIsNoCredentialStays: an audit that hides everything is of no use.
func TestWhatIsNoCredentialStays(t *testing.T) {
	r := newRedactor()
	for _, s := range []string{
		`{"spec":{"broker":"default","subscriber":{"uri":"https://example.com:8080/a/b?x=1&page=2"}}}`,
		`{"spec":{"accessToken":{"secretKeyRef":{"key":"k","name":"n"}},"secretName":"s","tokens":["a"]}}`,
		`{"data":{"mail":"someone@example.com","text":"basic needs, bearer of news"}}`,
		`{"spec":{"cert":"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----"}}`,
		`{"metadata":{"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"{\"apiVersion\":\"v1\",\"spec\":{\"a\":1}}"}}}`,
		`{"data":{"password":""}}`,
	} {
		o, err := decodeObject([]byte(s))
		if err != nil {
			t.Fatal(err)
		}
		r.fields(o)
		b, err := encode(map[string]any(o))
		if err != nil {
			t.Fatal(err)
		}
		if string(b) != s {
			t.Errorf("got  %s\nwant %s", b, s)
		}
	}
}

func TestLargeObjectsAreToldByReference(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.MaxDataBytes = 4000 })
	w.run()
	w.put("core/configmaps/default/small", config("small", strings.Repeat("x", 3000)))
	w.put("core/configmaps/default/large", config("large", strings.Repeat("x", 4000)))
	w.put("core/configmaps/default/odd", "no JSON at all, "+word)
	events := w.published(3)
	w.equal("small", events[0].Type, "dev.knative.apiserver.resource.add")
	w.equal("large", events[1].Type, "dev.knative.apiserver.ref.add")
	w.equal("data", string(events[1].Data), `{"apiVersion":"v1","kind":"ConfigMap","namespace":"default","name":"large","uid":"uid-large","resourceVersion":"3"}`)
	w.equal("id", events[1].ID, "uid-large/3")
	w.equal("what cannot be read", string(events[2].Data), `{"namespace":"default","name":"odd","resourceVersion":"4"}`)
	if s := w.said.String(); !strings.Contains(s, "told by reference") || strings.Contains(s, word) {
		t.Errorf("logged: %s", s)
	}
}

// FuzzMake: whatever is stored, there is an event of one form, without what
// stands under a name of a credential.
func FuzzMake(f *testing.F) {
	for _, s := range []string{config("c", "1"), `{"metadata":[]}`, `{"metadata":{"managedFields":1,"uid":2}}`, "[]", "null", `{"a":{"kind":"Secret","data":3}}`} {
		f.Add("/registry/core/configmaps/default/c", []byte(s))
	}
	m := maker{source: "s", prefix: "/registry/", maxData: 1 << 10, redact: newRedactor()}
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		w, _ := m.make(t.Context(), &kv.Event{Rev: 7, Key: key, Value: value})
		if w == nil {
			return
		}
		if !json.Valid(w.event.Data) || w.event.ID == "" || w.event.Subject == "" || w.event.Type == "" {
			t.Errorf("%+v", w.event)
		}
		if strings.HasPrefix(w.event.Type, typeResource) && len(w.event.Data) > m.maxData {
			t.Errorf("%d bytes", len(w.event.Data))
		}
	})
}

// TestTextsArePassedOver: a text is not looked through for a pattern only where
// that finds nothing in it.
func TestTextsArePassedOver(t *testing.T) {
	for _, p := range patterns() {
		found := ""
		for _, text := range []string{
			"amqp://user:" + word + "@host/x", "http://host/?a=b&token=" + word, "http://host/?sig=" + word, "Bearer " + word, "basic\t" + word, "BEARER\n" + word,
			"eyJhbGciOiJIUzI1NiJ9.e30.sig", "-----BEGIN RSA PRIVATE KEY-----\n" + word,
		} {
			if !p.MatchString(text) {
				continue
			}
			if found = text; !strings.ContainsAny(text, p.has) {
				t.Errorf("%q is not looked through for %s", text, p.Regexp)
			}
			without := strings.NewReplacer(split(p.has)...).Replace(text)
			if p.MatchString(without) {
				t.Errorf("%s is found in %q, which has none of %q", p.Regexp, without, p.has)
			}
		}
		if found == "" {
			t.Errorf("nothing here has %s", p.Regexp)
		}
	}
}

// split gives what a Replacer needs to take characters out.
func split(chars string) (out []string) {
	for _, c := range chars {
		out = append(out, string(c), "")
	}
	return out
}
