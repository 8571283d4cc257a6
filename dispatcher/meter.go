package dispatcher

import (
	"sync"
	"time"
)

// A meter counts over the last minute, in slots.
const (
	meterSlot  = 5 * time.Second
	meterSlots = 12
)

// meter gives a rate. Its zero value is ready.
type meter struct {
	mu     sync.Mutex
	counts *[meterSlots + 1]uint64 // the slot that is filling is one more; nil: nothing ever came
	slot   int64                   // number of the slot that is filling
}

func (m *meter) add(now int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.counts == nil {
		m.counts = new([meterSlots + 1]uint64)
	}
	m.turn(now)
	m.counts[m.slot%int64(len(m.counts))]++
}

// turn clears the slots that time has passed over. m.mu is held.
func (m *meter) turn(now int64) {
	slot := now / int64(meterSlot)
	for i := max(m.slot+1, slot-meterSlots); i <= slot; i++ {
		m.counts[i%int64(len(m.counts))] = 0
	}
	m.slot = max(m.slot, slot)
}

// perSecond is the rate over the last minute.
func (m *meter) perSecond(now int64) float64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.counts == nil {
		return 0
	}
	m.turn(now)
	var sum uint64
	for _, n := range m.counts {
		sum += n
	}
	// The slot that is filling counts as far as it has come.
	span := time.Duration(meterSlots)*meterSlot + time.Duration(now)%meterSlot
	return float64(sum) / span.Seconds()
}
