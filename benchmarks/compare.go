package main

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"log"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"
)

// An extent says how long to measure.
type extent struct {
	rounds   int
	tokens   int           // in a slice of a workload whose requests are all new
	twice    int           // tokens that come a second time, in a slice at most
	distinct int           // tokens of zipf
	slice    time.Duration // of all other workloads, about
}

// The figures of a run, as they are written to a file.
type results struct {
	Date      string   `json:"date"`
	Go        string   `json:"go"`
	Platform  string   `json:"platform"`
	CPUs      int      `json:"cpus"`
	Machine   string   `json:"machine,omitempty"` // its processor's name, if that is known
	Rounds    int      `json:"rounds"`
	Workloads []result `json:"workloads"`
}

type result struct {
	Workload   string   `json:"workload"`
	Group      string   `json:"group"`
	TokenBytes int      `json:"token_bytes"`
	Yardstick  figure   `json:"yardstick"`
	Contenders []figure `json:"contenders"`
}

// A figure is how a contender did. All of it is per request, and of CPU time.
type figure struct {
	Name    string  `json:"name"`
	Version string  `json:"version,omitempty"`
	Problem string  `json:"problem,omitempty"`   // why it was not measured
	Ratio   float64 `json:"ratio,omitempty"`     // to the yardstick slices beside it: the median of all rounds
	Low     float64 `json:"ratio_low,omitempty"` // quartiles
	High    float64 `json:"ratio_high,omitempty"`
	NS      float64 `json:"ns,omitempty"`       // the median
	Added   float64 `json:"added_ns,omitempty"` // to the yardstick slices beside it: the median
	Allocs  float64 `json:"allocs,omitempty"`
	Bytes   float64 `json:"bytes,omitempty"`
}

// compare measures each of the workloads.
func compare(workloads []workload, x extent) (results, error) {
	all := results{
		Date:     time.Now().Format("2 January 2006"),
		Go:       runtime.Version(),
		Platform: runtime.GOOS + "/" + runtime.GOARCH,
		CPUs:     runtime.NumCPU(),
		Machine:  processor(),
		Rounds:   x.rounds,
	}
	for _, w := range workloads {
		r, err := compareOne(w, x)
		if err != nil {
			return results{}, fmt.Errorf("%s: %w", w.name, err)
		}
		all.Workloads = append(all.Workloads, r)
	}
	return all, nil
}

// compareOne measures all contenders for one workload. They take turns, with a
// slice of the yardstick between any two, so that whatever else the machine does
// falls upon all of them, and each is divided by the yardstick as it was at that
// very time.
func compareOne(w workload, x extent) (result, error) {
	if w.stream == zipf { // so much memory is in use that the collector comes seldom
		x.slice *= 6
		x.rounds = (x.rounds + 1) / 2
	}
	t := newTrial(w)
	yardstick := w.yardstick.enter(t)
	defer func() { yardstick.leave() }() // the last one: begin makes others
	if yardstick.problem != nil {
		return result{}, yardstick.problem
	}
	var all, able []*entrant
	for _, c := range w.contenders {
		e := c.enter(t)
		defer func() { e.leave() }()
		all = append(all, e)
		if e.problem != nil {
			log.Printf("%s: %s is not measured: %v", w.name, c.name, e.problem)
			continue
		}
		able = append(able, e)
	}

	var reqs []*http.Request
	for round := range x.rounds {
		reqs = t.requests(reqs, x)
		if round == 0 {
			for _, e := range append(able, yardstick) {
				e.fit(reqs, x)
			}
		}
		runtime.GC() // what the minting left is not for the first slices to sweep
		before, err := yardstick.serve(reqs)
		if err != nil {
			return result{}, err
		}
		for i := range able {
			e := able[(round+i)%len(able)] // nobody always comes after the same one
			ns, err := e.serve(reqs)
			if err != nil {
				return result{}, err
			}
			after, err := yardstick.serve(reqs)
			if err != nil {
				return result{}, err
			}
			e.ratios = append(e.ratios, ns/((before+after)/2))
			e.added = append(e.added, ns-(before+after)/2)
			before = after
		}
	}

	r := result{Workload: w.name, Group: w.group, TokenBytes: len(t.token(w.claims)), Yardstick: yardstick.figure()}
	for _, e := range all {
		r.Contenders = append(r.Contenders, e.figure())
	}
	return r, nil
}

// An entrant is a contender that is being measured.
type entrant struct {
	contender
	trial    *trial
	api      http.Handler
	leave    context.CancelFunc
	problem  error // why it cannot be measured
	requests int   // in a slice
	next     int   // where in the stream the next slice begins

	ns, ratios, added []float64 // of each slice
	served            uint64
	allocs, bytes     uint64 // of all that was served
}

// enter returns c at work for the workload, after it has shown that it makes all
// checks.
func (c contender) enter(t *trial) *entrant {
	e := &entrant{contender: c, trial: t}
	e.begin()
	if e.problem == nil && !c.blind {
		e.problem = conform(e.api, c, t)
	}
	return e
}

// begin makes a new protection, which has seen no token.
func (e *entrant) begin() {
	ctx, cancel := context.WithCancel(context.Background())
	e.leave = cancel
	p, err := e.protect(ctx, e.trial)
	if err != nil {
		e.problem = err
		return
	}
	e.api = p.api(e.trial)
}

// fit sets how many requests make a slice. It also leaves caches as they are after
// a while.
func (e *entrant) fit(reqs []*http.Request, x extent) {
	e.requests = len(reqs)
	if e.trial.once() {
		return
	}
	// All of them once, but those who keep nothing would only lose time with that.
	for start, i := cpuTime(), 0; i < len(reqs) && cpuTime()-start < 5*x.slice; i++ {
		e.api.ServeHTTP(httptest.NewRecorder(), reqs[i])
	}
	e.requests = min(200, len(reqs)*copies)
	ns, _ := e.run(reqs) // serve will tell of an error
	e.requests = max(e.requests, int(float64(x.slice)/max(ns, 1)))
	if e.trial.stream == twice {
		e.requests = min(e.requests, len(reqs))
	}
}

// serve runs one slice and returns the nanoseconds of CPU time per request.
func (e *entrant) serve(reqs []*http.Request) (float64, error) {
	if e.trial.once() || e.trial.stream == twice {
		e.next = 0
	}
	if e.trial.stream == twice {
		e.leave()
		if e.begin(); e.problem != nil {
			return 0, e.problem
		}
		if _, err := e.run(reqs); err != nil {
			return 0, err
		}
		e.next = 0
		// A slice as short as these holds a part of one of the collector's cycles, or
		// none. So it is none, for all.
		runtime.GC()
		defer debug.SetGCPercent(debug.SetGCPercent(-1))
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	ns, err := e.run(reqs)
	runtime.ReadMemStats(&after)
	e.ns = append(e.ns, ns)
	e.served += uint64(e.requests)
	e.allocs += after.Mallocs - before.Mallocs
	e.bytes += after.TotalAlloc - before.TotalAlloc
	return ns, err
}

// run serves as many requests of the stream as make a slice.
func (e *entrant) run(reqs []*http.Request) (float64, error) {
	w := &tally{header: make(http.Header), refused: e.trial.refused != nil && !e.blind}
	first := e.next
	e.next += e.requests
	start := cpuTime()
	for i := range e.requests {
		e.api.ServeHTTP(w, reqs[(first+i)%len(reqs)])
	}
	ns := float64(cpuTime()-start) / float64(e.requests)
	if w.right != e.requests {
		return 0, fmt.Errorf("%s gave %d of %d requests the right answer", e.name, w.right, e.requests)
	}
	return ns, nil
}

func (e *entrant) figure() figure {
	if e.problem != nil {
		return figure{Name: e.name, Version: e.version(), Problem: e.problem.Error()}
	}
	return figure{
		Name:    e.name,
		Version: e.version(),
		Ratio:   round(quantile(e.ratios, 0.5), 3),
		Low:     round(quantile(e.ratios, 0.25), 3),
		High:    round(quantile(e.ratios, 0.75), 3),
		NS:      round(quantile(e.ns, 0.5), 1),
		Added:   round(quantile(e.added, 0.5), 1),
		Allocs:  round(float64(e.allocs)/float64(e.served), 1),
		Bytes:   round(float64(e.bytes)/float64(e.served), 0),
	}
}

func round(x float64, digits int) float64 {
	shift := math.Pow10(digits)
	return math.Round(x*shift) / shift
}

// A tally is a ResponseWriter that counts right answers: that the handler was
// reached, or that it was not. Each response begins without headers, as in a server.
type tally struct {
	header  http.Header
	refused bool
	right   int
}

func (t *tally) Header() http.Header            { return t.header }
func (t *tally) Write(text []byte) (int, error) { return len(text), nil }
func (t *tally) WriteHeader(status int) {
	if !t.refused && status == http.StatusNoContent || t.refused && (status == http.StatusUnauthorized || status == http.StatusBadRequest) {
		t.right++
	}
	if len(t.header) > 0 {
		clear(t.header)
	}
}

// cpuTime returns the processor time that this process has used, on all cores:
// the garbage collector's too, and not that of other processes.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// processor returns the name of this machine's processor, or "" where it is not known.
func processor() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if name, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// quantile returns the q-quantile of values, 0 if there are none.
func quantile[T cmp.Ordered](values []T, q float64) T {
	if len(values) == 0 {
		return *new(T)
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[int(q*float64(len(sorted)-1)+0.5)]
}

// version returns the versions of what c measures.
func (c contender) version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	var versions []string
	for _, path := range c.modules {
		for _, m := range info.Deps {
			if m.Path == path {
				versions = append(versions, m.Version)
			}
		}
	}
	return strings.Join(versions, " + ")
}
