package apiserver

import (
	"bytes"
	"sync"
	"time"

	"k8s.io/apiserver/pkg/storage/value"
)

// newest are the values that were encrypted last: each is read soon by all who
// follow what is written, and they need not decrypt it. They are forgotten when
// nothing was written for a time.
type newest struct {
	mu     sync.Mutex
	values map[infoBytes]opened
	order  []infoBytes // the oldest first
	bytes  int         // of the values, encrypted and not
	added  time.Time
	forget *time.Timer // nil: there is nothing to forget
}

// infoBytes are the bytes that were drawn for a value, by which it is found.
type infoBytes [infoSize]byte

// opened is a value as it is stored, under which key, and what it was before it was
// encrypted.
type opened struct {
	stored, plain []byte
	under         string
}

// The bounds of what is kept: as much as is written while those who follow gather.
const (
	mostLatest      = 256
	mostLatestBytes = 1 << 20
	latestFor       = 5 * time.Second
)

// get is what was encrypted to a stored value under a key, if that is known.
func (l *newest) get(stored []byte, under value.Context) ([]byte, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	o, ok := l.values[infoBytes(stored)]
	if !ok || !bytes.Equal(o.stored, stored) || o.under != string(under.AuthenticatedData()) {
		return nil, false // whoever decrypts it says what is wrong
	}
	return o.plain, true
}

// add keeps a value, neither form of which may be changed from then on.
func (l *newest) add(stored, plain []byte, under value.Context) {
	o := opened{stored: stored, plain: plain[:len(plain):len(plain)], under: string(under.AuthenticatedData())}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.values[infoBytes(stored)] = o
	l.order = append(l.order, infoBytes(stored))
	l.bytes += len(o.stored) + len(o.plain)
	for len(l.order) > mostLatest || l.bytes > mostLatestBytes {
		gone := l.values[l.order[0]]
		l.bytes -= len(gone.stored) + len(gone.plain)
		delete(l.values, l.order[0])
		l.order = l.order[1:]
	}
	l.added = time.Now()
	if l.forget == nil {
		l.forget = time.AfterFunc(latestFor, l.expire)
	}
}

// expire forgets all, if it is time to.
func (l *newest) expire() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if left := latestFor - time.Since(l.added); left > 0 {
		l.forget.Reset(left)
		return
	}
	l.values, l.order, l.bytes, l.forget = map[infoBytes]opened{}, nil, 0, nil
}
