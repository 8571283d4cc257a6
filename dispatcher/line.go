package dispatcher

// lines are deliveries that wait: each subscription's in order, and the
// subscriptions in turns, one delivery each. So none that has much to deliver has
// the others wait for all of it, and windows at one host end, and are committed,
// together, in place of one after another. The zero value is empty.
type lines struct {
	n     int
	turns fifo[*line] // those with something; who goes next first
	bySub map[*sub]*line
	spare []*line
}

// line is what waits of one subscription.
type line struct {
	sub   *sub
	items fifo[*item]
}

// maxSpareLines is how many lines are kept for who has to wait next.
const maxSpareLines = 32

func (l *lines) len() int { return l.n }

func (l *lines) push(it *item) {
	x := l.bySub[it.sub]
	if x == nil {
		x = l.begin(it.sub)
	}
	x.items.push(it)
	l.n++
}

// begin makes the line of a subscription, which is the last to have its turn.
func (l *lines) begin(s *sub) *line {
	x := &line{}
	if n := len(l.spare); n > 0 {
		x = l.spare[n-1]
		l.spare = l.spare[:n-1]
	}
	x.sub = s
	if l.bySub == nil {
		l.bySub = make(map[*sub]*line)
	}
	l.bySub[s] = x
	l.turns.push(x)
	return x
}

func (l *lines) pop() (it *item, ok bool) {
	x, ok := l.turns.pop()
	if !ok {
		return nil, false
	}
	it, _ = x.items.pop()
	l.n--
	l.again(x)
	return it, true
}

// again has a line wait for its next turn, if something is left in it.
func (l *lines) again(x *line) {
	if x.items.len() > 0 {
		l.turns.push(x)
		return
	}
	delete(l.bySub, x.sub)
	x.sub = nil
	if len(l.spare) < maxSpareLines {
		l.spare = append(l.spare, x)
	}
}

// drop takes some out.
func (l *lines) drop(is func(*item) bool) (dropped []*item) {
	for range l.turns.len() {
		x, _ := l.turns.pop()
		dropped = append(dropped, dropItems(&x.items, is)...)
		l.again(x)
	}
	l.n -= len(dropped)
	return dropped
}
