package controller

import (
	"sync"

	"github.com/leat-dev/leat/channel"
)

// Names finds channels by name; *channel.Log does.
type Names interface {
	ByName(kind, namespace, name string) (channel.Channel, bool)
}

// Registry finds the log that a path of the ingress names. It may be used from
// many goroutines at once, also before a Controller runs.
type Registry struct {
	names Names
	mu    sync.RWMutex
	// doomed are the UIDs of logs that are about to be dropped, or shelved.
	doomed map[string]bool
}

// NewRegistry makes a Registry of the channels of a log.
func NewRegistry(names Names) *Registry {
	return &Registry{names: names, doomed: map[string]bool{}}
}

// Broker is the log of a Broker; false where there is none.
func (r *Registry) Broker(namespace, name string) (channel.Channel, bool) {
	return r.find(logKind(kindBroker), namespace, name)
}

// Channel is the log of a Channel or InMemoryChannel; false where there is none.
func (r *Registry) Channel(namespace, name string) (channel.Channel, bool) {
	return r.find(logKind(kindChannel), namespace, name)
}

func (r *Registry) find(kind, namespace, name string) (channel.Channel, bool) {
	if r.names == nil {
		return nil, false
	}
	ch, ok := r.names.ByName(kind, namespace, name)
	if !ok {
		return nil, false
	}
	if r.isDoomed(ch.ID().UID) {
		return nil, false
	}
	return ch, true
}

func (r *Registry) isDoomed(uid string) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.doomed[uid]
}

func (r *Registry) doom(uid string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.doomed[uid] = true
}

func (r *Registry) undoom(uid string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.doomed, uid)
}

// logKind is the kind in a log's ID: both kinds of channel share one.
func logKind(kind string) string {
	if kind == kindBroker {
		return kindBroker
	}
	return kindChannel
}
