package bearer

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// What strangers' names leave in memory, whether they are refused, fail or are
// accepted without a good token.
func TestFinderForgets(t *testing.T) {
	for _, tt := range []struct {
		name string
		find func(context.Context, string) (*Middleware, error)
		most int // names in memory
	}{
		{"refused", func(context.Context, string) (*Middleware, error) { return nil, nil }, 2100},
		{"failed", func(context.Context, string) (*Middleware, error) { return nil, context.Canceled }, 1200},
		{"accepted", func(_ context.Context, issuer string) (*Middleware, error) {
			return &Middleware{bindings: &bindings{}, issuers: newIssuers([]*verifier{{issuer: issuer}}, nil)}, nil
		}, 7100},
	} {
		synctest.Test(t, func(t *testing.T) {
			f, most := newFinder(tt.find, &bindings{}, slog.New(slog.DiscardHandler)), 0
			for second := range 120 {
				for i := range 150 {
					_, _ = f.of(t.Context(), fmt.Sprintf("https://%d.%d.example.com/%s", second, i, strings.Repeat("x", 200)), time.Now())
				}
				f.mu.Lock()
				most = max(most, len(f.answers))
				f.mu.Unlock()
				time.Sleep(time.Second)
			}
			if most > tt.most || most < 100 {
				t.Errorf("%s: %d names in memory, want %d at most", tt.name, most, tt.most)
			}
		})
	}
}

// Tenants are forgotten an hour after their last token.
func TestFinderForgetsTenants(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFinder(func(_ context.Context, issuer string) (*Middleware, error) {
			if issuer != "tenant" {
				return nil, nil
			}
			return &Middleware{bindings: &bindings{}, issuers: newIssuers([]*verifier{{issuer: issuer}}, nil)}, nil
		}, &bindings{}, slog.New(slog.DiscardHandler))
		found, err := f.of(t.Context(), "tenant", time.Now())
		if err != nil || found == nil {
			t.Fatal(found, err)
		}
		found.use(time.Now().UnixMicro())
		for _, step := range []struct {
			wait time.Duration
			kept bool
		}{{time.Minute, true}, {59 * time.Minute, true}, {2 * time.Minute, false}} {
			time.Sleep(step.wait)
			_, _ = f.of(t.Context(), "stranger", time.Now())
			synctest.Wait()
			if _, kept := f.answers["tenant"]; kept != step.kept {
				t.Errorf("after %v more: kept %t, want %t", step.wait, kept, step.kept)
			}
		}
	})
}

// A registry is Config.FindIssuer of the tests below: names that begin with "tenant"
// have an issuer, and those that begin with "slow" are answered after wait.
type registry struct {
	mu    sync.Mutex // guards what follows but wait
	calls map[string]int
	wait  time.Duration
	by    map[string]*Middleware
}

func newRegistry() (*registry, *finder) {
	r := &registry{calls: make(map[string]int), by: make(map[string]*Middleware)}
	return r, newFinder(r.find, &bindings{}, slog.New(slog.DiscardHandler))
}

// newTenant returns a Middleware that judges tokens of issuer.
func newTenant(issuer string) *Middleware {
	return &Middleware{bindings: &bindings{}, issuers: newIssuers([]*verifier{{issuer: issuer}}, nil)}
}

func (r *registry) find(_ context.Context, issuer string) (*Middleware, error) {
	r.mu.Lock()
	r.calls[issuer]++
	r.mu.Unlock()
	if strings.HasPrefix(issuer, "slow") {
		time.Sleep(r.wait)
	}
	if !strings.HasPrefix(issuer, "tenant") {
		return nil, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.by[issuer] == nil {
		r.by[issuer] = newTenant(issuer)
	}
	return r.by[issuer], nil
}

// asked returns how many of n names that begin with prefix are asked about at once.
func (r *registry) asked(t *testing.T, f *finder, prefix string, n int) int {
	before := r.total()
	for i := range n {
		_, _ = f.of(t.Context(), fmt.Sprint(prefix, i), time.Now())
	}
	return r.total() - before
}

// of returns how often the name was asked about.
func (r *registry) of(name string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.calls[name]
}

func (r *registry) total() (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, calls := range r.calls {
		n += calls
	}
	return n
}

// What brings no good token takes one of a hundred places in a second, each time that
// it is asked about, and only a good token of that name gives it back.
func TestFinderPlaces(t *testing.T) {
	steps := map[string]func(t *testing.T, r *registry, f *finder){
		"accepted names take one again": func(t *testing.T, r *registry, f *finder) {
			r.asked(t, f, "tenant", 60)
			time.Sleep(foundLife)
			if n := r.asked(t, f, "tenant", 60) + r.asked(t, f, "stranger", 60); n != 100 {
				t.Errorf("%d names were asked about, want 100", n)
			}
		},
		"a good token gives its place back": func(t *testing.T, r *registry, f *finder) {
			found, _ := f.of(t.Context(), "tenant", time.Now())
			found.use(time.Now().UnixMicro())
			if n := r.asked(t, f, "stranger", 120); n != 100 {
				t.Errorf("%d names were asked about, want 100", n)
			}
		},
		"and not the place of another name that has it by now": func(t *testing.T, r *registry, f *finder) {
			found, _ := f.of(t.Context(), "tenant", time.Now())
			time.Sleep(unknownEvery)
			n := r.asked(t, f, "stranger", 100)
			found.use(time.Now().UnixMicro())
			if n += r.asked(t, f, "more", 10); n != 100 {
				t.Errorf("%d names were asked about, want 100", n)
			}
		},
		"and not for an issuer that was replaced": func(t *testing.T, r *registry, f *finder) {
			old, _ := f.of(t.Context(), "tenant", time.Now())
			time.Sleep(foundLife)
			r.by["tenant"] = nil
			if found, _ := f.of(t.Context(), "tenant", time.Now()); found == old {
				t.Error("the issuer was not replaced")
			}
			old.use(time.Now().UnixMicro())
			if n := r.asked(t, f, "stranger", 120); n != 99 || r.of("tenant") != 2 {
				t.Errorf("%d names were asked about, want 99, and the tenant %d times, want 2", n, r.of("tenant"))
			}
		},
		"a tenant that was replaced is still one": func(t *testing.T, r *registry, f *finder) {
			found, _ := f.of(t.Context(), "tenant", time.Now())
			found.use(time.Now().UnixMicro())
			time.Sleep(foundLife)
			r.by["tenant"] = nil
			_, _ = f.of(t.Context(), "tenant", time.Now())
			time.Sleep(foundLife)
			r.asked(t, f, "stranger", 120)
			if found, err := f.of(t.Context(), "tenant", time.Now()); found == nil {
				t.Errorf("in a flood of others: %v, %v, want the tenant", found, err)
			}
		},
		"a stranger that was replaced is not": func(t *testing.T, r *registry, f *finder) {
			old, _ := f.of(t.Context(), "tenant", time.Now())
			time.Sleep(foundLife - time.Second)
			r.asked(t, f, "stranger", 1) // forgets what is over, and not the tenant
			time.Sleep(time.Second)
			r.by["tenant"] = nil
			if found, _ := f.of(t.Context(), "tenant", time.Now()); found == old {
				t.Error("the issuer was not replaced")
			}
			time.Sleep(foundLife)
			r.asked(t, f, "stranger", 120)
			if found, _ := f.of(t.Context(), "tenant", time.Now()); found != nil {
				t.Error("in a flood of others: found, want none")
			}
		},
		"a token may outlast what is known of its issuer": func(t *testing.T, r *registry, f *finder) {
			found, _ := f.of(t.Context(), "tenant", time.Now())
			time.Sleep(2 * foundLife)
			r.asked(t, f, "stranger", 1) // forgets the tenant
			if len(f.answers) != 1 {
				t.Errorf("%d names are known, want 1", len(f.answers))
			}
			found.use(time.Now().UnixMicro())
		},
	}
	for name, step := range steps {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, f := newRegistry()
				step(t, r, f)
			})
		})
	}
}

// How long an answer counts, also by a clock that was set back.
func TestFinderTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, f := newRegistry()
		start := time.Now()
		for _, step := range []struct {
			at    time.Duration
			name  string
			calls int
		}{
			{0, "tenant", 1},
			{foundLife - time.Microsecond, "tenant", 1},
			{-time.Microsecond, "tenant", 2},
			{0, "stranger", 1},
			{refusedLife - time.Microsecond, "stranger", 1},
			{-time.Microsecond, "stranger", 2},
		} {
			_, _ = f.of(t.Context(), step.name, start.Add(step.at))
			if n := r.of(step.name); n != step.calls {
				t.Errorf("%s at %v: asked %d times, want %d", step.name, step.at, n, step.calls)
			}
		}
		found, _ := f.of(t.Context(), "tenant", start)
		for _, step := range []struct {
			at    time.Duration
			calls int
		}{{renewAfter - time.Microsecond, 2}, {renewAfter, 3}} {
			found.use(start.Add(step.at).UnixMicro())
			synctest.Wait()
			if n := r.of("tenant"); n != step.calls {
				t.Errorf("used at %v: asked %d times, want %d", step.at, n, step.calls)
			}
		}
	})
}

// A call is waited for by all who come, however long it takes.
func TestFinderAsksOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, f := newRegistry()
		r.asked(t, f, "stranger", 1)
		time.Sleep(refusedLife - time.Second)
		r.wait = 3 * time.Second
		_, err := f.of(t.Context(), "slow", time.Now()) // for a second
		if err == nil {
			t.Error("no error for an answer that is late")
		}
		r.asked(t, f, "another stranger", 1) // forgets what is over
		_, _ = f.of(t.Context(), "slow", time.Now())
		if n := r.of("slow"); n != 1 {
			t.Errorf("asked %d times, want once", n)
		}
		time.Sleep(5 * time.Second)
	})
}

// A renewal that takes its time is not begun again, and needs none of the places of
// calls for names that may be made up.
func TestFinderRenews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int32
		release := make(chan struct{})
		by := newTenant("tenant")
		f := newFinder(func(ctx context.Context, issuer string) (*Middleware, error) {
			if issuer != "tenant" {
				<-release
				return nil, nil
			}
			if calls.Add(1) > 1 {
				time.Sleep(3 * time.Second)
			}
			return by, nil
		}, &bindings{}, slog.New(slog.DiscardHandler))
		found, _ := f.of(t.Context(), "tenant", time.Now())
		found.use(time.Now().UnixMicro())
		for i := range findCalls {
			go func() { _, _ = f.of(t.Context(), fmt.Sprint(i), time.Now()) }()
			if i%50 == 49 {
				time.Sleep(unknownEvery)
			}
		}
		time.Sleep(renewAfter - 5*time.Second)
		for range 5 {
			found.use(time.Now().UnixMicro())
			time.Sleep(500 * time.Millisecond)
		}
		if n := calls.Load(); n != 2 {
			t.Errorf("asked %d times, want once and once more", n)
		}
		time.Sleep(30 * time.Second)
		if !found.counts(time.Now().UnixMicro()) {
			t.Error("was not renewed")
		}
		close(release)
	})
}
