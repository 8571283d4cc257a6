package dispatcher

import "time"

const (
	// placesInterval is how often the places of a lane are looked at.
	placesInterval = 20 * time.Millisecond
	// fewPlaces are enough for a host that answers at once.
	fewPlaces = 32
	// slowRate: a lane with fewer deliveries a second has them wait for the
	// host, not for processors.
	slowRate = 2000
)

// places is how many deliveries to one host go on at a time. Each more costs
// memory, and time of processors that have to turn to more connections, so there
// are as many as make deliveries faster, and no more. Where the host is slow
// there soon are as many as there may be; otherwise more or fewer are tried in
// turns, and kept where the rate says so.
type places struct {
	n, most int
	// Since the last look: deliveries that ended, and those that had to wait.
	done, waited int
	at           int64

	tried  int // +1, -1: more or fewer are tried; 0: the rate of n is being taken
	before int // how many there were before that
	rate   float64
	up     bool // what is tried next

	// slow: by the last look, deliveries wait for the host, not for processors.
	slow bool
}

func newPlaces(most int) places { return places{n: min(fewPlaces, most), most: most} }

// look sets the number by what has happened since the last time, and by how many
// wait.
func (p *places) look(now int64, waiting int) {
	took := time.Duration(now - p.at)
	rate := float64(p.done) / took.Seconds()
	if took <= 10*placesInterval {
		p.slow = rate < slowRate
	}
	switch {
	case took > 10*placesInterval, rate < slowRate && p.waited+waiting == 0, rate >= slowRate && 4*p.waited < p.done:
		// Nobody has looked for long, or there were enough: what was tried says
		// nothing.
		if p.tried != 0 {
			p.n, p.tried = p.before, 0
		}
	case rate < slowRate:
		p.n, p.tried = min(p.n+max(1, p.n/4), p.most), 0
	case p.done < 2*p.n:
		return // too few to tell
	case p.tried > 0 && rate < 1.25*p.rate, p.tried < 0 && rate < 0.95*p.rate:
		p.n, p.tried = p.before, 0
	case p.tried != 0:
		p.tried = 0 // it is kept
	default:
		p.rate, p.before = rate, p.n
		if p.up = !p.up; p.up {
			p.n, p.tried = min(p.n+p.n/2, p.most), 1
		} else {
			p.n, p.tried = max(p.n*2/3, min(fewPlaces, p.most)), -1
		}
	}
	p.done, p.waited, p.at = 0, 0, now
}
