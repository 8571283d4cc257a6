package dispatcher

import "sync"

// maxIdleWorkers is how many goroutines wait for work in one dispatcher: a
// running one has its stack grown already.
const maxIdleWorkers = 512

// task is something to do. What it returns is done next, by the same goroutine.
type task interface{ run() (next task) }

// pool runs tasks on goroutines that it makes on demand and keeps a few of. It
// sets no bound of its own: windows and the budget do.
type pool struct {
	mu      sync.Mutex
	idle    []chan task
	closed  bool
	running sync.WaitGroup
}

// run starts t. It never blocks.
func (p *pool) run(t task) {
	p.mu.Lock()
	if n := len(p.idle); n > 0 {
		c := p.idle[n-1]
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		c <- t // has room for one: the worker is waiting for just this
		return
	}
	p.running.Add(1)
	p.mu.Unlock()
	go p.work(t)
}

func (p *pool) work(t task) {
	defer p.running.Done()
	c := make(chan task, 1)
	for t != nil {
		for t != nil {
			t = t.run()
		}
		p.mu.Lock()
		if p.closed || len(p.idle) >= maxIdleWorkers {
			p.mu.Unlock()
			return
		}
		p.idle = append(p.idle, c)
		p.mu.Unlock()
		t = <-c
	}
}

// close ends the idle goroutines and waits for all others to finish. Nothing
// may be run after it.
func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	idle := p.idle
	p.idle = nil
	p.mu.Unlock()
	for _, c := range idle {
		c <- nil
	}
	p.running.Wait()
}

// gate counts what goes on, refuses more once it is shut, and tells when the
// last has ended.
type gate struct {
	mu    sync.Mutex
	n     int
	shut  bool
	empty chan struct{}
}

func newGate() *gate { return &gate{empty: make(chan struct{})} }

// enter counts one more, unless the gate is shut.
func (g *gate) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut {
		return false
	}
	g.n++
	return true
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.n--
	if g.shut && g.n == 0 {
		close(g.empty)
	}
}

// close shuts the gate. The channel is closed when all have left.
func (g *gate) close() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.shut {
		g.shut = true
		if g.n == 0 {
			close(g.empty)
		}
	}
	return g.empty
}

func (g *gate) isShut() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.shut
}
