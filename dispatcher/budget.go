package dispatcher

import "sync/atomic"

// budget bounds what all subscriptions have out together. A subscription may
// use a share of what is left, so that those that hang take less and less of
// the rest, and there is always room for another; each may always have one.
type budget struct {
	maxRequests int64
	maxBytes    int64
	maxWaiting  int64

	requests atomic.Int64
	bytes    atomic.Int64
	waiting  atomic.Int64
}

// share is the part of what is left that one subscription may use: 1/share.
const share = 4

// allows says whether a subscription with so much out may start one more. The
// check and the start are not one step, so a burst may pass the bound by as
// many requests as start at the same instant.
func (b *budget) allows(out int, bytes int64) bool {
	if out == 0 {
		return true
	}
	return int64(out) < (b.maxRequests-b.requests.Load())/share &&
		bytes < (b.maxBytes-b.bytes.Load())/share
}

func (b *budget) start(bytes int64) {
	b.requests.Add(1)
	b.bytes.Add(bytes)
}

func (b *budget) end(bytes int64) {
	b.requests.Add(-1)
	b.bytes.Add(-bytes)
}

// mayWait says whether one more event may wait outside its window.
func (b *budget) mayWait() bool { return b.waiting.Load() < b.maxWaiting }
