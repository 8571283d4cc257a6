package apiserver

import (
	"bytes"
	"testing"

	"k8s.io/apiserver/pkg/storage/value"
	"k8s.io/apiserver/pkg/storage/value/encrypt/aes"
)

// What an earlier version has written can be read, and the other way round.
func TestCipherIsTheLibrarysForm(t *testing.T) {
	seed := bytes.Repeat([]byte{7}, atRestKeySize)
	ours := newSeeded(seed)
	library, err := aes.NewHKDFExtendedNonceGCMTransformer(seed)
	if err != nil {
		t.Fatal(err)
	}
	at, elsewhere := value.DefaultContext("/registry/a"), value.DefaultContext("/registry/b")
	for _, way := range []struct{ to, from value.Transformer }{{ours, library}, {library, ours}, {ours, ours}} {
		plain := []byte(`{"kind":"Secret"}`)
		stored, err := way.to.TransformToStorage(t.Context(), plain, at)
		if err != nil {
			t.Fatal(err)
		}
		if got, _, err := way.from.TransformFromStorage(t.Context(), stored, at); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%q, %v, want %q", got, err, plain)
		}
		if _, _, err := way.from.TransformFromStorage(t.Context(), stored, elsewhere); err == nil {
			t.Error("it can be read under another key")
		}
		again, err := way.to.TransformToStorage(t.Context(), plain, at)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Equal(stored[:infoSize], again[:infoSize]) {
			t.Error("two values have the same key")
		}
	}
}

func TestCutValuesAreRefused(t *testing.T) {
	ours, at := newSeeded(bytes.Repeat([]byte{7}, atRestKeySize)), value.DefaultContext("/registry/a")
	stored, err := ours.TransformToStorage(t.Context(), []byte("value"), at)
	if err != nil {
		t.Fatal(err)
	}
	for n := range stored {
		if _, _, err := ours.TransformFromStorage(t.Context(), stored[:n], at); err == nil {
			t.Errorf("%d of %d bytes can be read", n, len(stored))
		}
	}
}

func BenchmarkCipher(b *testing.B) {
	seed, at := bytes.Repeat([]byte{7}, atRestKeySize), value.DefaultContext("/registry/a")
	library, err := aes.NewHKDFExtendedNonceGCMTransformer(seed)
	if err != nil {
		b.Fatal(err)
	}
	plain := make([]byte, 1500)
	for name, c := range map[string]value.Transformer{"ours": newSeeded(seed), "library": library} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				stored, err := c.TransformToStorage(b.Context(), plain, at)
				if err != nil {
					b.Fatal(err)
				}
				if _, _, err := c.TransformFromStorage(b.Context(), stored, at); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
