package controller

import "sync"

// echoes are the versions that objects have since their status was written here,
// until they come back by the watch: nothing is to be done then that was not done
// before, unless they were reconciled in between.
type echoes struct {
	mu       sync.Mutex
	expected map[key]string
}

// expect has a version recognized when it comes, unless it has come already.
func (e *echoes) expect(k key, version string, came func() bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if came() {
		return
	}
	if e.expected == nil {
		e.expected = map[key]string{}
	}
	e.expected[k] = version
}

// heard says whether a version is one that was written here. Whatever comes, none
// that was expected before comes after it.
func (e *echoes) heard(k key, version string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	expected, ok := e.expected[k]
	delete(e.expected, k)
	return ok && expected == version
}

// forget has whatever comes next looked at. It is for who reconciles an object: as
// long as its echo has not come, it is seen as it was before. A status that is right
// for that is not written, although another one is stored.
func (e *echoes) forget(k key) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.expected, k)
}
