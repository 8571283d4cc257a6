package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
)

// Report is what a subscriber says of itself.
type Report struct {
	First    []string `json:"first"`    // ids, in the order they first came
	Extra    int      `json:"extra"`    // deliveries of what it had already
	Failed   int      `json:"failed"`   // requests it answered with 503
	Disorder int      `json:"disorder"` // events that came before an earlier one of the same customer
}

// subscriber is one of the processes: it takes events, remembers their ids, and
// tells them.
type subscriber struct {
	name      string
	downUntil time.Time

	mu     sync.Mutex
	report Report
	seen   map[string]bool
	last   map[string]int // by customer: the highest sequence taken
}

// subscribe runs a subscriber in this process until standard input ends.
func subscribe(name string) error {
	s := &subscriber{name: name, seen: map[string]bool{}, last: map[string]int{}}
	if name == "audit" {
		s.downUntil = time.Now().Add(3 * time.Second)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /", s.take)
	mux.HandleFunc("GET /report", s.tell)
	fmt.Fprintf(os.Stdout, "http://%s/\n", l.Addr())
	go func() {
		io.Copy(io.Discard, os.Stdin) // ends with the parent
		l.Close()
	}()
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	if err := server.Serve(l); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

func (s *subscriber) take(w http.ResponseWriter, r *http.Request) {
	e, err := cloudevents.NewEventFromHTTPRequest(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var o order
	if err := e.DataAs(&o); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	if time.Now().Before(s.downUntil) {
		s.report.Failed++
		s.mu.Unlock()
		http.Error(w, "closed for stocktaking", http.StatusServiceUnavailable)
		return
	}
	s.remember(e.ID(), o)
	s.mu.Unlock()
	if s.name == "billing" {
		s.invoice(w, r, e)
	}
}

func (s *subscriber) remember(id string, o order) {
	if s.seen[id] {
		s.report.Extra++
		return
	}
	s.seen[id] = true
	s.report.First = append(s.report.First, id)
	if last, ok := s.last[o.Customer]; ok && o.Sequence < last {
		s.report.Disorder++
	}
	s.last[o.Customer] = max(s.last[o.Customer], o.Sequence)
}

// invoice replies with an event of its own.
func (s *subscriber) invoice(w http.ResponseWriter, r *http.Request, placed *cloudevents.Event) {
	e := cloudevents.NewEvent()
	e.SetID("invoice-" + placed.ID())
	e.SetType("shop.order.invoiced")
	e.SetSource("/shop/billing")
	if err := e.SetData(cloudevents.ApplicationJSON, json.RawMessage(placed.Data())); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", cloudevents.ApplicationCloudEventsJSON)
	if err := json.NewEncoder(w).Encode(e); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

func (s *subscriber) tell(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	json.NewEncoder(w).Encode(s.report)
}

// subscribers are the processes, seen from the example's own.
type subscribers map[string]*child

type child struct {
	url   string
	cmd   *exec.Cmd
	stdin io.Closer
}

func startSubscribers(ctx context.Context) (subscribers, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	all := subscribers{}
	for name := range owed {
		cmd := exec.CommandContext(ctx, self, "subscriber", name)
		cmd.Stderr = os.Stderr
		stdin, err := cmd.StdinPipe()
		if err != nil {
			return nil, err
		}
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			return nil, err
		}
		if err := cmd.Start(); err != nil {
			return nil, fmt.Errorf("start subscriber %s: %w", name, err)
		}
		line, err := bufio.NewReader(stdout).ReadString('\n')
		if err != nil {
			return nil, fmt.Errorf("subscriber %s did not say its address: %w", name, err)
		}
		all[name] = &child{url: strings.TrimSpace(line), cmd: cmd, stdin: stdin}
	}
	return all, nil
}

func (s subscribers) stop() {
	for _, c := range s {
		c.stdin.Close()
		c.cmd.Wait() // it ends because its input has
	}
}

func (s subscribers) urls() map[string]string {
	urls := map[string]string{}
	for name, c := range s {
		urls[name] = c.url
	}
	return urls
}

func (c *child) report(ctx context.Context) (Report, error) {
	var r Report
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url+"report", nil)
	if err != nil {
		return r, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return r, err
	}
	defer resp.Body.Close()
	return r, json.NewDecoder(resp.Body).Decode(&r)
}

// row is a line of the account.
type row struct {
	name                                             string
	owed, received, missing, again, failed, disorder int
}

// count compares what each subscriber got with what it is owed.
func count(ctx context.Context, p *producer, all subscribers) (rows []row, missing int, err error) {
	for name, c := range all {
		r, err := c.report(ctx)
		if err != nil {
			return nil, 0, fmt.Errorf("subscriber %s: %w", name, err)
		}
		got := map[string]bool{}
		for _, id := range r.First {
			got[id] = true
		}
		line := row{name: name, received: len(r.First), again: r.Extra, failed: r.Failed}
		for _, id := range p.expected(name) {
			line.owed++
			if !got[id] {
				line.missing++
			}
		}
		if name == "warehouse" {
			line.disorder = r.Disorder
		}
		missing += line.missing
		rows = append(rows, line)
	}
	slices.SortFunc(rows, func(a, b row) int { return strings.Compare(a.name, b.name) })
	return rows, missing, nil
}

func printRows(rows []row) {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "subscriber\towed\treceived\tmissing\tonce more\tfailed on purpose\t")
	for _, r := range rows {
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t\n", r.name, r.owed, r.received, r.missing, r.again, r.failed)
	}
	w.Flush()
}
