package main

import (
	"context"
	crand "crypto/rand"
	"encoding/base64"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"example.com/bearer"
	"example.com/bearer/bearertest"
)

var replicas = flag.Int("replicas", 10, "how many processes the fleet of TestFleet has")

const (
	fleetIssuer   = "https://login.example.com/"
	fleetAudience = "https://api.example.com"

	// useEvery is how often each replica gets a good token. What it finds out
	// when a request comes, it finds out so much later at most.
	useEvery = 10 * time.Second
)

// TestFleet is a day of a fleet, in virtual time: what its provider is asked, and
// what its users get, once with keys that each replica keeps for itself and once
// with a KeyCache that all share. It prints a table with -v.
func TestFleet(t *testing.T) {
	for _, shared := range []bool{false, true} {
		var f *fleet
		synctest.Test(t, func(t *testing.T) {
			f = newFleet(shared)
			f.run()
		})
		if testing.Verbose() {
			f.report(os.Stdout)
		}
		f.judge(t)
	}
}

// A fleet is many replicas of one API and their provider.
type fleet struct {
	ctx      context.Context
	began    time.Time
	cache    bearer.KeyCache // nil: none
	iss      *bearertest.Issuer
	token    atomic.Pointer[string] // a good one
	replicas []*replica
	phases   []*phase
	current  atomic.Pointer[phase]
}

type replica struct {
	auth atomic.Pointer[bearer.Middleware]
}

// A phase is what happens to the fleet in a part of the day, and what came of it.
type phase struct {
	name        string
	from, until time.Duration // of the day
	do          func(*phase)
	cold        bool    // replicas without a KeyCache have no keys
	average     float64 // fetches a minute that each replica may make
	worst       int     // … in any one minute
	within      time.Duration

	took    time.Duration // until all replicas knew
	note    string
	refused atomic.Int64 // good tokens

	mu      sync.Mutex
	minutes map[int]int // fetches, metadata and keys alike
	slowest time.Duration
}

func newFleet(shared bool) *fleet {
	f := &fleet{began: time.Now(), iss: bearertest.NewIssuer(fleetIssuer)}
	f.iss.SetDelay(50 * time.Millisecond)
	if shared {
		f.cache = &memoryCache{}
	}
	for range *replicas {
		f.replicas = append(f.replicas, &replica{})
	}
	return f
}

// start makes a replica a process that has just begun.
func (f *fleet) start(r *replica) {
	auth, err := bearer.New(bearer.Config{
		Issuer:     f.iss.URL,
		Audience:   []string{fleetAudience},
		Client:     &http.Client{Transport: f},
		KeyCache:   f.cache,
		TokenCache: 16,
		Logger:     slog.New(slog.DiscardHandler),
	})
	if err != nil {
		panic(err)
	}
	r.auth.Store(auth)
}

// RoundTrip is the way to the provider, on which every fetch is counted.
func (f *fleet) RoundTrip(r *http.Request) (*http.Response, error) {
	p := f.current.Load()
	p.mu.Lock()
	p.minutes[int(time.Since(f.began)/time.Minute)]++
	p.mu.Unlock()
	return f.iss.Client().Transport.RoundTrip(r)
}

func (f *fleet) mint() {
	token := f.iss.Token(fleetAudience, nil)
	f.token.Store(&token)
}

// use sends a good token to a replica.
func (f *fleet) use(r *replica) {
	auth, p, before := r.auth.Load(), f.current.Load(), time.Now()
	if auth == nil {
		return // not started
	}
	_, err := auth.Verify(f.ctx, *f.token.Load())
	if f.ctx.Err() != nil {
		return
	}
	if err != nil {
		p.refused.Add(1)
	}
	p.mu.Lock()
	p.slowest = max(p.slowest, time.Since(before))
	p.mu.Unlock()
}

// roll restarts all replicas, one after the other, within d.
func (f *fleet) roll(d time.Duration) {
	for _, r := range f.replicas {
		f.start(r)
		time.Sleep(d / time.Duration(len(f.replicas)))
	}
}

// all notes how long it takes until all replicas know something.
func (f *fleet) all(p *phase, what string, knows func(bearer.KeyStats) bool) {
	before := time.Now()
	for _, r := range f.replicas {
		for !knows(r.auth.Load().KeyStats()) && f.ctx.Err() == nil {
			time.Sleep(time.Second)
		}
	}
	p.took = time.Since(before)
	p.note = fmt.Sprintf("%s after %v", what, p.took.Round(time.Second))
}

func hold(n int) func(bearer.KeyStats) bool {
	return func(s bearer.KeyStats) bool { return s.Keys == n }
}

// flood sends each replica a token with a new key id each second.
func (f *fleet) flood(d time.Duration) {
	_, rest, _ := strings.Cut(*f.token.Load(), ".")
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(time.Second) {
		for _, r := range f.replicas {
			go r.auth.Load().Verify(f.ctx, base64.RawURLEncoding.EncodeToString([]byte(fmt.Sprintf(`{"alg":"ES256","kid":%q}`, crand.Text())))+"."+rest)
		}
	}
}

// run lets the day pass.
func (f *fleet) run() {
	ctx, cancel := context.WithCancel(context.Background())
	f.ctx = ctx
	f.mint()
	const hour = time.Hour
	// In quiet times each replica fetches every 7.2 to 8 minutes, and its metadata
	// once a day.
	const quiet = 0.16
	f.phases = []*phase{
		{name: "all start within a minute", until: hour, average: 0.25, worst: 2, do: func(*phase) { f.roll(time.Minute) }},
		{name: "quiet", until: 4 * hour, average: quiet, worst: 1},
		{name: "a key is published", until: 5 * hour, average: quiet, worst: 1, within: 8*time.Minute + useEvery, do: func(p *phase) {
			f.iss.Announce()
			f.all(p, "all have it", hold(2))
		}},
		{name: "it signs, and the old one is withdrawn", until: 6 * hour, average: quiet, worst: 1, within: 8*time.Minute + useEvery, do: func(p *phase) {
			f.iss.Replace()
			f.mint()
			f.all(p, "all have dropped it", hold(1))
		}},
		{name: "a key signs that was not published before", until: 8 * hour, average: quiet, worst: 2, within: useEvery + 2*time.Second, do: func(p *phase) {
			f.iss.Rotate()
			f.mint()
			f.all(p, "all have it", hold(2))
		}},
		{name: "the provider is down", until: 9 * hour, average: 7, worst: 12, do: func(*phase) { f.iss.SetDown(true) }},
		{name: "still down: all restart within 10 min", until: 10 * hour, average: 7, worst: 12, cold: true, do: func(*phase) { f.roll(10 * time.Minute) }},
		{name: "the provider is back", until: 12 * hour, average: 0.25, worst: 4, cold: true, within: 15*time.Second + useEvery, do: func(p *phase) {
			back := time.Now()
			f.iss.SetDown(false)
			f.all(p, "all have fetched", func(s bearer.KeyStats) bool { return !s.FetchedAt.Before(back) })
		}},
		{name: "10 min of made-up key ids, one a second for each replica", until: 12*hour + 5*time.Minute, average: 17, worst: 19, do: func(*phase) { go f.flood(10 * time.Minute) }},
		{name: "… and in their midst a key that was not published before", until: 14 * hour, average: 1, worst: 19, within: useEvery + 5*time.Second, do: func(p *phase) {
			f.iss.Rotate()
			f.mint()
			f.all(p, "all have it", hold(3))
		}},
		{name: "all restart within 10 min", until: 16 * hour, average: 0.25, worst: 2, do: func(*phase) { f.roll(10 * time.Minute) }},
		{name: "quiet", until: 24 * hour, average: quiet, worst: 1},
	}
	var all sync.WaitGroup
	for i, p := range f.phases {
		p.from, p.minutes = time.Since(f.began), make(map[int]int)
		f.current.Store(p)
		if i == 0 {
			for _, r := range f.replicas {
				all.Go(func() {
					for sleep(ctx, rand.N(useEvery)); ctx.Err() == nil; sleep(ctx, useEvery) {
						f.use(r)
					}
				})
			}
		}
		if p.do != nil {
			all.Go(func() { p.do(p) })
		}
		for time.Since(f.began) < p.until {
			sleep(ctx, min(20*time.Minute, p.until-time.Since(f.began)))
			f.mint()
		}
	}
	cancel()
	all.Wait()
	synctest.Wait()
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// counts returns the fetches of a phase in its average minute and in its worst
// one.
func (p *phase) counts() (average float64, worst int) {
	all := 0
	for _, n := range p.minutes {
		all += n
		worst = max(worst, n)
	}
	return float64(all) / (p.until - p.from).Minutes(), worst
}

func (f *fleet) report(w io.Writer) {
	keys := "each with keys of its own"
	if f.cache != nil {
		keys = "with one KeyCache"
	}
	fmt.Fprintf(w, "\n%d replicas, %s:\n\n| from | what happens | fetches a minute | worst minute | refused | slowest | |\n|---|---|---:|---:|---:|---:|---|\n", len(f.replicas), keys)
	for _, p := range f.phases {
		average, worst := p.counts()
		from := fmt.Sprintf("%d:%02d", int(p.from.Hours()), int(p.from.Minutes())%60)
		fmt.Fprintf(w, "| %s | %s | %.0f | %d | %d | %v | %s |\n", from, p.name, average, worst, p.refused.Load(), p.slowest.Round(time.Millisecond), p.note)
	}
}

// judge holds the fleet to what docs/operations.md says.
func (f *fleet) judge(t *testing.T) {
	for _, p := range f.phases {
		if refused := p.refused.Load(); refused > 0 && !(f.cache == nil && p.cold) {
			t.Errorf("%s: %d good tokens were refused, want none", p.name, refused)
		}
		if p.slowest > 5*time.Second {
			t.Errorf("%s: a request took %v, want 5 s at most", p.name, p.slowest)
		}
		if p.took > p.within {
			t.Errorf("%s: %v until all replicas knew, want %v at most", p.name, p.took, p.within)
		}
		if average, worst := p.counts(); average > p.average*float64(len(f.replicas)) || worst > p.worst*len(f.replicas) {
			t.Errorf("%s: %.1f fetches a minute and %d in the worst one, want %.1f and %d at most for each of %d replicas", p.name, average, worst, p.average, p.worst, len(f.replicas))
		}
	}
}

// A memoryCache stands for a server that keeps keys for all.
type memoryCache struct{ data sync.Map }

func (c *memoryCache) Get(_ context.Context, name string) ([]byte, error) {
	time.Sleep(time.Millisecond)
	data, _ := c.data.Load(name)
	text, _ := data.([]byte)
	return text, nil
}

func (c *memoryCache) Put(_ context.Context, name string, data []byte) error {
	time.Sleep(time.Millisecond)
	c.data.Store(name, data)
	return nil
}
