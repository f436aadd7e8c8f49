package main

import (
	"cmp"
	"context"
	"fmt"
	"log"
	"math"
	"net/http"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"example.com/bearer/bearertest"
)

// A workload is one kind of requests.
type workload struct {
	name      string
	algorithm string
	claims    bearertest.Claims
	hot       bool      // the same token again and again, instead of a new one each time
	yardstick contender // what the contenders are divided by
}

var workloads = []workload{
	{"cold RS256 0.9 KB", "RS256", auth0, false, rawCrypto},
	{"cold RS256 1.6 KB", "RS256", keycloak, false, rawCrypto},
	{"cold RS256 2.6 KB", "RS256", entra, false, rawCrypto},
	{"cold ES256", "ES256", auth0, false, rawCrypto},
	{"cold EdDSA", "EdDSA", auth0, false, rawCrypto},
	{"hot RS256 0.9 KB", "RS256", auth0, true, floor},
}

// tokens returns n new tokens for one round. A hot token comes in copies: Go
// takes strings at one address for equal without a look at them, and no two
// requests from a network share their token's address.
func (w workload) tokens(iss *bearertest.Issuer, n int) []string {
	if !w.hot {
		return mint(iss, w.claims, n)
	}
	return slices.Repeat(mint(iss, w.claims, 1), 8)
}

// An extent says how long to measure.
type extent struct {
	rounds int
	tokens int           // in a slice of a cold workload
	slice  time.Duration // of a hot workload, about
}

// The figures of a run, as they are written to a file.
type results struct {
	Go        string   `json:"go"`
	Platform  string   `json:"platform"`
	CPUs      int      `json:"cpus"`
	Rounds    int      `json:"rounds"`
	Workloads []result `json:"workloads"`
}

type result struct {
	Workload   string   `json:"workload"`
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
	NS      float64 `json:"ns,omitempty"` // the median
	Allocs  float64 `json:"allocs,omitempty"`
	Bytes   float64 `json:"bytes,omitempty"`
}

// compare measures all contenders for each of the workloads.
func compare(workloads []workload, x extent) (results, error) {
	all := results{
		Go:       runtime.Version(),
		Platform: runtime.GOOS + "/" + runtime.GOARCH,
		CPUs:     runtime.NumCPU(),
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
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	iss := newIssuer(w.algorithm)

	yardstick := w.yardstick.enter(ctx, iss, w)
	if yardstick.problem != nil {
		return result{}, yardstick.problem
	}
	var all, able []*entrant
	for _, c := range contenders {
		e := c.enter(ctx, iss, w)
		if e.problem == nil {
			e.problem = conform(e.api, iss, w)
		}
		all = append(all, e)
		if e.problem != nil {
			log.Printf("%s: %s is not measured: %v", w.name, c.name, e.problem)
			continue
		}
		able = append(able, e)
	}

	bytes := 0
	for round := range x.rounds {
		tokens := w.tokens(iss, x.tokens)
		bytes = len(tokens[0])
		reqs := requests(tokens)
		if round == 0 {
			for _, e := range append(able, yardstick) {
				e.requests = len(reqs)
				if w.hot {
					e.fit(reqs, x.slice)
				}
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
			before = after
		}
	}

	r := result{Workload: w.name, TokenBytes: bytes, Yardstick: yardstick.figure()}
	for _, e := range all {
		r.Contenders = append(r.Contenders, e.figure())
	}
	return r, nil
}

// An entrant is a contender that is being measured.
type entrant struct {
	contender
	api      http.Handler
	problem  error // why it cannot be measured
	requests int   // in a slice

	ns, ratios    []float64 // of each slice
	served        uint64
	allocs, bytes uint64 // of all that was served
}

func (c contender) enter(ctx context.Context, iss *bearertest.Issuer, w workload) *entrant {
	p, err := c.protect(ctx, iss, w.algorithm)
	if err != nil {
		return &entrant{contender: c, problem: err}
	}
	return &entrant{contender: c, api: p.api()}
}

// fit sets how many requests make a slice of length d.
func (e *entrant) fit(reqs []*http.Request, d time.Duration) {
	e.requests = 200
	ns, _ := e.run(reqs) // serve will tell of an error
	e.requests = max(200, int(float64(d)/max(ns, 1)))
}

// serve runs one slice and returns the nanoseconds of CPU time per request.
func (e *entrant) serve(reqs []*http.Request) (float64, error) {
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

func (e *entrant) run(reqs []*http.Request) (float64, error) {
	w := &tally{header: make(http.Header)}
	start := cpuTime()
	for i := range e.requests {
		e.api.ServeHTTP(w, reqs[i%len(reqs)])
	}
	ns := float64(cpuTime()-start) / float64(e.requests)
	if w.served != e.requests {
		return 0, fmt.Errorf("%s served %d of %d good requests", e.name, w.served, e.requests)
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
		Allocs:  round(float64(e.allocs)/float64(e.served), 1),
		Bytes:   round(float64(e.bytes)/float64(e.served), 0),
	}
}

func round(x float64, digits int) float64 {
	shift := math.Pow10(digits)
	return math.Round(x*shift) / shift
}

// A tally is a ResponseWriter that counts the requests that were served.
type tally struct {
	header http.Header
	served int
}

func (t *tally) Header() http.Header            { return t.header }
func (t *tally) Write(text []byte) (int, error) { return len(text), nil }
func (t *tally) WriteHeader(status int) {
	if status == http.StatusNoContent {
		t.served++
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
