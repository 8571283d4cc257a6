package apiserver

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

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

// TestLatestValuesAreNotDecrypted: and whatever is not what was encrypted is.
func TestLatestValuesAreNotDecrypted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours := newSeeded(bytes.Repeat([]byte{7}, atRestKeySize))
		at, elsewhere := value.DefaultContext("/registry/a"), value.DefaultContext("/registry/b")
		plain := []byte(`{"kind":"Secret"}`)
		stored, err := ours.TransformToStorage(t.Context(), plain, at)
		if err != nil {
			t.Fatal(err)
		}
		got, stale, err := ours.TransformFromStorage(t.Context(), stored, at)
		if err != nil || stale || !bytes.Equal(got, plain) || &got[0] != &plain[0] || cap(got) != len(got) {
			t.Errorf("%q, %v, %v: decrypted, or another's to append to", got, stale, err)
		}
		for i := range stored {
			damaged := bytes.Clone(stored)
			damaged[i] ^= 1
			if _, _, err := ours.TransformFromStorage(t.Context(), damaged, at); err == nil {
				t.Errorf("damage at %d is not seen", i)
			}
		}
		if _, _, err := ours.TransformFromStorage(t.Context(), stored, elsewhere); err == nil {
			t.Error("it can be read under another key")
		}

		large := make([]byte, mostLatestBytes/8)
		for range 3 * mostLatest {
			if _, err := ours.TransformToStorage(t.Context(), large[:100], at); err != nil {
				t.Fatal(err)
			}
		}
		if n := len(ours.latest.values); n != mostLatest || len(ours.latest.order) != n {
			t.Errorf("%d values are kept", n)
		}
		for range 10 {
			if _, err := ours.TransformToStorage(t.Context(), large, at); err != nil {
				t.Fatal(err)
			}
		}
		if n := ours.latest.bytes; n > mostLatestBytes || n < mostLatestBytes/2 {
			t.Errorf("%d bytes are kept", n)
		}
		time.Sleep(latestFor - 1)
		synctest.Wait()
		if len(ours.latest.values) == 0 {
			t.Error("they are forgotten too soon")
		}
		time.Sleep(2)
		synctest.Wait()
		if l := &ours.latest; len(l.values)+len(l.order)+l.bytes != 0 || l.forget != nil {
			t.Error("they are not forgotten")
		}
		if got, _, err := ours.TransformFromStorage(t.Context(), stored, at); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("forgotten, it is %q, %v", got, err)
		}
	})
}
