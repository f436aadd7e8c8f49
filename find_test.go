package bearer_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"example.com/bearer"
	"example.com/bearer/bearertest"
)

// A directory is Config.FindIssuer of the tests: it knows some tenants and counts
// its calls.
type directory struct {
	mu      sync.Mutex
	tenants map[string]*bearer.Middleware
	names   []string // that it was asked about
	instead func(ctx context.Context, issuer string) (*bearer.Middleware, error)
}

func (d *directory) find(ctx context.Context, issuer string) (*bearer.Middleware, error) {
	d.mu.Lock()
	d.names = append(d.names, issuer)
	m, instead := d.tenants[issuer], d.instead
	d.mu.Unlock()
	if instead != nil {
		return instead(ctx, issuer)
	}
	return m, nil
}

func (d *directory) set(issuer string, m *bearer.Middleware) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.tenants[issuer] = m
}

// setInstead lets f answer in place of d, if it is not nil.
func (d *directory) setInstead(f func(ctx context.Context, issuer string) (*bearer.Middleware, error)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.instead = f
}

// asked lists the names that d was asked about.
func (d *directory) asked() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.names)
}

func (d *directory) calls() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.names)
}

// newDirectory returns a directory without tenants and a Middleware that asks it.
func newDirectory(t testing.TB, change ...func(*bearer.Config)) (*directory, *bearer.Middleware) {
	d := &directory{tenants: make(map[string]*bearer.Middleware)}
	return d, newMiddleware(t, &bearertest.Issuer{}, append(change, func(c *bearer.Config) {
		c.FindIssuer = d.find
		if c.Issuer == "" {
			c.Audience = nil
		}
	})...)
}

// newTenant returns a tenant that d knows.
func newTenant(t testing.TB, d *directory, name string, change ...func(*bearer.Config)) *bearertest.Issuer {
	iss := bearertest.NewIssuer("https://" + name + ".example.com")
	d.set(iss.URL, newMiddleware(t, iss, change...))
	return iss
}

func TestFindIssuer(t *testing.T) {
	type find = func(ctx context.Context, issuer string) (*bearer.Middleware, error)
	boom := errors.New("boom")
	for _, tt := range []struct {
		name   string
		find   func(all *bearer.Middleware, tenant *bearer.Middleware) find
		status int
		reason string
		wait   time.Duration
	}{
		{"named", func(_, tenant *bearer.Middleware) find {
			return func(context.Context, string) (*bearer.Middleware, error) { return tenant, nil }
		}, 200, "", 0},
		{"named slowly", func(_, tenant *bearer.Middleware) find {
			return func(context.Context, string) (*bearer.Middleware, error) {
				time.Sleep(time.Second - 1)
				return tenant, nil
			}
		}, 200, "", time.Second - 1},
		{"not named", func(_, _ *bearer.Middleware) find {
			return func(context.Context, string) (*bearer.Middleware, error) { return nil, nil }
		}, 401, "issuer", 0},
		{"an error", func(_, _ *bearer.Middleware) find {
			return func(context.Context, string) (*bearer.Middleware, error) { return nil, boom }
		}, 503, "issuer_unavailable", 0},
		{"named and an error", func(_, tenant *bearer.Middleware) find {
			return func(context.Context, string) (*bearer.Middleware, error) { return tenant, boom }
		}, 503, "issuer_unavailable", 0},
		{"a nil", func(_, _ *bearer.Middleware) find {
			return func(context.Context, string) (*bearer.Middleware, error) { return nil, (*fs.PathError)(nil) }
		}, 503, "issuer_unavailable", 0},
		{"a panic", func(_, _ *bearer.Middleware) find {
			return func(context.Context, string) (*bearer.Middleware, error) { panic(boom) }
		}, 503, "issuer_unavailable", 0},
		{"no return", func(_, _ *bearer.Middleware) find {
			return func(context.Context, string) (*bearer.Middleware, error) { runtime.Goexit(); return nil, nil }
		}, 503, "issuer_unavailable", 0},
		{"no answer", func(_, _ *bearer.Middleware) find {
			return func(ctx context.Context, _ string) (*bearer.Middleware, error) { <-ctx.Done(); return nil, ctx.Err() }
		}, 503, "issuer_unavailable", time.Second},
		{"one that New did not make", func(_, _ *bearer.Middleware) find {
			return func(context.Context, string) (*bearer.Middleware, error) { return new(bearer.Middleware), nil }
		}, 503, "issuer_unavailable", 0},
		{"the one that asks", func(all, _ *bearer.Middleware) find {
			return func(context.Context, string) (*bearer.Middleware, error) { return all, nil }
		}, 503, "issuer_unavailable", 0},
		{"one for another issuer", func(_, _ *bearer.Middleware) find {
			return func(context.Context, string) (*bearer.Middleware, error) {
				return newMiddleware(t, bearertest.NewIssuer("https://other.example.com")), nil
			}
		}, 503, "issuer_unavailable", 0},
		{"one that requires bound tokens", func(_, _ *bearer.Middleware) find {
			return func(_ context.Context, issuer string) (*bearer.Middleware, error) {
				return newMiddleware(t, bearertest.NewIssuer(issuer), func(c *bearer.Config) {
					c.Certificate, c.RequireBound = bearer.ConnectionCertificate, true
				}), nil
			}
		}, 503, "issuer_unavailable", 0},
		{"one of several", func(_, tenant *bearer.Middleware) find {
			return func(context.Context, string) (*bearer.Middleware, error) {
				return newMiddleware(t, bearertest.NewIssuer("https://other.example.com")).Or(tenant), nil
			}
		}, 200, "", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log syncBuffer
				d, auth := newDirectory(t, func(c *bearer.Config) { c.Logger = debugLogger(&log) })
				iss := bearertest.NewIssuer("https://tenant.example.com")
				d.setInstead(tt.find(auth, newMiddleware(t, iss)))
				start := time.Now()
				c, err := auth.Verify(t.Context(), iss.Token(audience, nil))
				if waited := time.Since(start); waited != tt.wait {
					t.Errorf("waited for %v, want %v", waited, tt.wait)
				}
				if tt.status == 200 {
					if err != nil || c.Issuer != iss.URL {
						t.Fatalf("got %+v, %v, want the token accepted", c, err)
					}
				} else {
					var e *bearer.Error
					if !errors.As(err, &e) || e.Status != tt.status || e.Reason != tt.reason || (e.Status == 503) != (e.RetryAfter == time.Second) || c != nil {
						t.Errorf("got %+v, %v, want status %d, reason %s", c, err, tt.status, tt.reason)
					}
					if n := iss.Fetches(); n != 0 {
						t.Errorf("%d fetches", n)
					}
				}
				if errors.Is(err, boom) != strings.Contains(tt.name, "error") && tt.name != "a panic" {
					t.Errorf("the error is %v", err)
				}
				time.Sleep(5 * time.Second)
				want := 0
				if tt.status == 503 {
					want = 1
				}
				if n := strings.Count(log.String(), "level=WARN"); n != want {
					t.Errorf("%d warnings, want %d:\n%s", n, want, log.String())
				}
				if got := d.asked(); len(got) != 1 || got[0] != iss.URL {
					t.Errorf("asked about %q, want %q once", got, iss.URL)
				}
			})
		})
	}
}

// What is no name of an issuer is not asked about.
func TestFindIssuerNames(t *testing.T) {
	d, auth := newDirectory(t)
	iss := bearertest.NewIssuer("https://tenant.example.com")
	for name, issuer := range map[string]any{
		"none":               nil,
		"empty":              "",
		"a number":           1,
		"an array":           []string{"https://tenant.example.com"},
		"257 bytes":          strings.Repeat("a", 257),
		"a line break":       "https://tenant.example.com\n",
		"NUL":                "\x00",
		"a control of C1":    "\u0085",
		"a header not coded": iss.URL,
	} {
		token := iss.Token(audience, bearertest.Claims{"iss": issuer})
		if name == "a header not coded" {
			token = "é" + token
		}
		if _, err := auth.Verify(t.Context(), token); statusOf(err) != 401 {
			t.Errorf("%s: %v, want status 401", name, err)
		}
	}
	if n := d.calls(); n != 0 {
		t.Errorf("asked about %q", d.asked())
	}
	for _, issuer := range []string{strings.Repeat("a", 256), "acme", "https://x.example/ä?b#c"} {
		_, _ = auth.Verify(t.Context(), iss.Token(audience, bearertest.Claims{"iss": issuer}))
		if got := d.asked()[d.calls()-1]; got != issuer {
			t.Errorf("asked about %q, want %q", got, issuer)
		}
	}
}

// What is told of a name that was not accepted.
func TestFindIssuerTells(t *testing.T) {
	iss, tenant := bearertest.NewIssuer("https://login.example.com/"), bearertest.NewIssuer("https://tenant.example.com")
	none := func(*bearer.Middleware) *bearer.Middleware { return nil }
	for _, tt := range []struct {
		name   string
		change func(*bearer.Config)
		find   func(self *bearer.Middleware) *bearer.Middleware
		want   string
	}{
		{"nobody", func(c *bearer.Config) { c.Issuer, c.Audience = "", nil }, none, "want one that FindIssuer names"},
		{"an issuer besides", func(*bearer.Config) {}, none, "want https://login.example.com/ or one that FindIssuer names"},
		{"itself", func(c *bearer.Config) { c.Issuer, c.Audience = "", nil }, func(self *bearer.Middleware) *bearer.Middleware { return self }, "a Middleware of one that FindIssuer names for another issuer"},
	} {
		var auth *bearer.Middleware
		auth = newMiddleware(t, iss, tt.change, func(c *bearer.Config) {
			c.FindIssuer = func(context.Context, string) (*bearer.Middleware, error) { return tt.find(auth), nil }
		})
		if _, err := auth.Verify(t.Context(), tenant.Token(audience, nil)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q in it", tt.name, err, tt.want)
		}
	}
}

// How long answers count, in a script.
func TestFindIssuerTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, auth := newDirectory(t)
		iss := newTenant(t, d, "tenant")
		tenant := d.tenants[iss.URL]
		token := iss.Token(audience, bearertest.Claims{"exp": time.Now().Unix() + 7200})
		use := func(what string, status, calls int) {
			t.Helper()
			start, before := time.Now(), d.calls()
			_, err := auth.Verify(t.Context(), token)
			if got := statusOf(err); got != status && (err != nil || status != 200) {
				t.Errorf("%s: %v, want status %d", what, err, status)
			}
			if waited := time.Since(start); waited != 0 {
				t.Errorf("%s: waited for %v", what, waited)
			}
			synctest.Wait()
			if n := d.calls() - before; n != calls {
				t.Errorf("%s: %d calls, want %d", what, n, calls)
			}
		}
		fail := func(context.Context, string) (*bearer.Middleware, error) { return nil, errors.New("down") }

		use("new", 200, 1)
		use("again", 200, 0)
		use("from the cache", 200, 0)
		time.Sleep(44 * time.Second)
		use("after 44s", 200, 0)
		time.Sleep(2 * time.Second)
		use("after 46s: renewed in the background", 200, 1)
		use("renewed", 200, 0)
		time.Sleep(46 * time.Second)
		d.setInstead(func(ctx context.Context, _ string) (*bearer.Middleware, error) { <-ctx.Done(); return nil, ctx.Err() })
		use("renewal that hangs", 200, 1)
		use("meanwhile", 200, 0)
		d.setInstead(nil)
		time.Sleep(6 * time.Second)
		use("renewed at the second try", 200, 1)

		time.Sleep(46 * time.Second)
		d.setInstead(fail)
		use("renewal fails", 200, 1)
		use("not tried again at once", 200, 0)
		time.Sleep(10 * time.Second)
		use("still within the minute", 200, 1)
		time.Sleep(4 * time.Second)
		use("the minute is over", 503, 1)
		use("believed for a second", 503, 0)
		time.Sleep(time.Second)
		use("asked again", 503, 1)
		d.setInstead(nil)
		time.Sleep(time.Second)
		use("up again", 200, 1)

		time.Sleep(10 * time.Minute)
		use("after a long pause", 200, 1)
		use("and from the cache", 200, 0)

		d.set(iss.URL, nil)
		use("withdrawn: within the minute", 200, 0)
		time.Sleep(46 * time.Second)
		use("withdrawn: asked", 200, 1)
		use("withdrawn: known", 401, 0)
		time.Sleep(9 * time.Second)
		use("withdrawn: believed for 10s", 401, 0)
		d.set(iss.URL, tenant)
		time.Sleep(2 * time.Second)
		use("back again", 200, 1)
		d.set(iss.URL, nil)
		time.Sleep(61 * time.Second)
		use("withdrawn while nobody came", 401, 1)
	})
}

// The Middleware that FindIssuer returns judges, also what another one let pass.
func TestFindIssuerAnotherMiddleware(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, auth := newDirectory(t)
		iss := newTenant(t, d, "tenant")
		token := iss.Token(audience, nil)
		warm(t, auth, token)
		d.set(iss.URL, newMiddleware(t, iss, func(c *bearer.Config) { c.Audience = []string{"another"} }))
		time.Sleep(46 * time.Second)
		if _, err := auth.Verify(t.Context(), token); err != nil {
			t.Errorf("before it is asked again: %v", err)
		}
		synctest.Wait()
		c, err := auth.Verify(t.Context(), token)
		if statusOf(err) != 401 || !strings.Contains(err.Error(), "audience") {
			t.Errorf("got %+v, %v, want it refused for its audience", c, err)
		}
		if _, err := auth.Verify(t.Context(), iss.Token("another", nil)); err != nil {
			t.Errorf("a token for the other one: %v", err)
		}
	})
}

// Strangers with made-up issuers.
func TestFindIssuerFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, auth := newDirectory(t)
		iss, fresh := newTenant(t, d, "tenant"), newTenant(t, d, "fresh")
		good := func(what string) {
			t.Helper()
			for _, token := range []string{iss.Token(audience, nil), iss.Token(audience, bearertest.Claims{"sub": "x"})} {
				start := time.Now()
				if _, err := auth.Verify(t.Context(), token); err != nil || time.Since(start) != 0 {
					t.Errorf("%s: %v after %v, want nil at once", what, err, time.Since(start))
				}
			}
		}
		good("before")
		stranger := bearertest.NewIssuer("https://stranger.example.com")
		made := func(i int) string {
			return stranger.Token(audience, bearertest.Claims{"iss": fmt.Sprintf("https://%d.example.com", i)})
		}
		flood := func(n int) {
			t.Helper()
			before := d.calls()
			for i := range 1000 {
				start := time.Now()
				if _, err := auth.Verify(t.Context(), made(1000*n+i)); statusOf(err) != 401 || time.Since(start) != 0 {
					t.Fatalf("made up: %v after %v, want status 401 at once", err, time.Since(start))
				}
			}
			if n := d.calls() - before; n > 100 {
				t.Errorf("%d calls for 1000 made-up issuers at once, want 100 at most", n)
			}
		}
		for n := range 5 {
			flood(n)
			good("while there is a flood")
			time.Sleep(time.Second)
		}
		time.Sleep(5 * time.Minute)
		flood(5)
		good("after a pause, in a flood") // must be asked about again, and is
		if _, err := auth.Verify(t.Context(), fresh.Token(audience, nil)); statusOf(err) != 401 {
			t.Errorf("a tenant that never came before, in a flood: %v, want status 401", err)
		}
		time.Sleep(11 * time.Second)
		if _, err := auth.Verify(t.Context(), fresh.Token(audience, nil)); err != nil {
			t.Errorf("a tenant that never came before: %v", err)
		}
		if n := stranger.Fetches(); n != 0 {
			t.Errorf("%d fetches from an issuer that only tokens name", n)
		}

		// A function that hangs for what it does not know is no obstacle either.
		release := make(chan struct{})
		d.setInstead(func(_ context.Context, issuer string) (*bearer.Middleware, error) {
			if issuer != iss.URL {
				<-release
			}
			d.mu.Lock()
			defer d.mu.Unlock()
			return d.tenants[issuer], nil
		})
		var hanging atomic.Int64
		for i := range 3000 {
			go func() {
				if _, err := auth.Verify(t.Context(), made(10000+i)); statusOf(err) == 503 {
					hanging.Add(1)
				}
			}()
			if i%100 == 99 {
				time.Sleep(time.Second)
			}
		}
		time.Sleep(10 * time.Second)
		good("while calls for others hang")
		if n := hanging.Load(); n > 300 {
			t.Errorf("%d requests got 503 for made-up issuers", n)
		}
		close(release)
	})
}

// When a program starts, all its tenants are new.
func TestFindIssuerStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, auth := newDirectory(t)
		for i := range 500 {
			iss := newTenant(t, d, fmt.Sprint("tenant", i))
			if _, err := auth.Verify(t.Context(), iss.Token(audience, nil)); err != nil {
				t.Fatalf("tenant %d of the same second: %v", i, err)
			}
		}
		// Tokens that are no good make no room.
		for i := range 500 {
			iss := newTenant(t, d, fmt.Sprint("stranger", i))
			_, _ = auth.Verify(t.Context(), iss.Token("another", nil))
		}
		if n := d.calls(); n != 600 {
			t.Errorf("%d calls, want 500 for tenants and 100 for strangers", n)
		}
	})
}

// All who come at once share one call, and one who leaves takes nothing away.
func TestFindIssuerAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, auth := newDirectory(t)
		iss := newTenant(t, d, "tenant")
		tenant := d.tenants[iss.URL]
		d.setInstead(func(ctx context.Context, _ string) (*bearer.Middleware, error) {
			time.Sleep(500 * time.Millisecond)
			return tenant, ctx.Err()
		})
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				if i == 0 {
					cancel()
				}
				defer cancel()
				_, err := auth.Verify(ctx, iss.Token(audience, nil))
				if i == 0 && !errors.Is(err, context.Canceled) || i > 0 && err != nil {
					t.Errorf("request %d: %v", i, err)
				}
			})
		}
		wg.Wait()
		if n := d.calls(); n != 1 {
			t.Errorf("%d calls, want 1", n)
		}
	})
}

// Fixed issuers stand beside FindIssuer, and so does another one.
func TestFindIssuerBeside(t *testing.T) {
	fixed := bearertest.NewIssuer("https://fixed.example.com")
	d, auth := newDirectory(t, func(c *bearer.Config) { c.Issuer, c.Client = fixed.URL, fixed.Client() })
	other, both := newDirectory(t)
	both = auth.Or(both)
	first, second, partner := newTenant(t, d, "first"), newTenant(t, other, "second"), bearertest.NewIssuer("https://partner.example.com")
	all := both.Or(newMiddleware(t, partner))
	for _, tt := range []struct {
		name   string
		auth   *bearer.Middleware
		iss    *bearertest.Issuer
		status int
	}{
		{"fixed", auth, fixed, 200},
		{"a tenant beside it", auth, first, 200},
		{"nobody's tenant", auth, second, 401},
		{"Or, fixed", both, fixed, 200},
		{"Or, a tenant of the one", both, first, 200},
		{"Or, a tenant of the other", both, second, 200},
		{"Or, another fixed one", all, partner, 200},
		{"Or, a tenant of the other still", all, second, 200},
		{"Or, nobody's", both, partner, 401},
	} {
		h := tt.auth.Handler(ok)
		for range 3 {
			if got := serve(h, "Bearer "+tt.iss.Token(audience, nil)).Code; got != tt.status {
				t.Errorf("%s: status %d, want %d", tt.name, got, tt.status)
			}
		}
	}
	for _, asked := range d.asked() {
		if asked == fixed.URL {
			t.Error("FindIssuer was asked about the fixed issuer")
		}
	}
	if err := auth.Ready(t.Context()); err != nil {
		t.Errorf("Ready = %v", err)
	}
	if s := both.KeyStats(); s.Keys != 1 {
		t.Errorf("KeyStats = %+v, want the fixed issuer's", s)
	}
	if _, alone := newDirectory(t); alone.KeyStats() != (bearer.KeyStats{}) || alone.Ready(t.Context()) != nil {
		t.Error("without a fixed issuer there is nothing to be ready for")
	}
	func() {
		defer func() {
			if p := fmt.Sprint(recover()); !strings.Contains(p, "the same FindIssuer") {
				t.Errorf("panic %q", p)
			}
		}()
		_, alone := newDirectory(t)
		alone.Or(alone)
	}()
}

// All that concerns requests and replies is the combining Middleware's.
func TestFindIssuerReplies(t *testing.T) {
	var revoked, own *denyList
	var outcomes []bearer.Outcome
	d, auth := newDirectory(t, func(c *bearer.Config) {
		c.Realm, c.Header, c.MaxTokenLength = "all", "X-Assertion", 64<<10
		c.Observe = func(_ context.Context, o bearer.Outcome) { outcomes = append(outcomes, o) }
		revoked = newDenyList(c)
	})
	iss := newTenant(t, d, "tenant", func(c *bearer.Config) { c.Realm = "tenant"; own = newDenyList(c) })
	h := auth.Handler(ok)
	get := func(token string) (int, string) {
		w := serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.Header.Set("X-Assertion", token)
			h.ServeHTTP(w, r)
		}))
		return w.Code, w.Header().Get("WWW-Authenticate")
	}
	token := iss.Token(audience, nil)
	for range 3 {
		if status, _ := get(token); status != 200 {
			t.Errorf("status %d", status)
		}
	}
	if o := outcomes[len(outcomes)-1]; o.Issuer != iss.URL || !o.Cached {
		t.Errorf("the last outcome is %+v", o)
	}
	if a, b := revoked.calls.Load(), own.calls.Load(); a != 3 || b != 3 {
		t.Errorf("%d and %d calls of Revoked, want 3 and 3", a, b)
	}
	own.set(yes)
	if status, challenge := get(token); status != 401 || challenge != `Bearer realm="all", error="invalid_token"` {
		t.Errorf("revoked by the tenant: status %d, %s", status, challenge)
	}
	if status, _ := get(sized(t, iss, 16<<10+1)); status != 401 {
		t.Errorf("longer than the tenant's tokens: status %d", status)
	}
}

func TestNewFindIssuer(t *testing.T) {
	_, err := bearer.New(bearer.Config{
		FindIssuer: func(context.Context, string) (*bearer.Middleware, error) { return nil, nil },
		Tenants:    []string{"a"}, JWKSURL: "https://a.example/keys", Algorithms: []string{"RS256"}, TokenTypes: []string{"at+jwt"},
		AudienceClaim: "azp", ScopeClaims: []string{"scp"}, MaxTokenLength: -1,
	})
	for _, field := range []string{"Tenants", "JWKSURL", "Algorithms", "TokenTypes", "AudienceClaim", "ScopeClaims"} {
		if want := "bearer: Config." + field + ": needs Issuer"; err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q in %v", want, err)
		}
	}
	if err == nil || !strings.Contains(err.Error(), "MaxTokenLength") {
		t.Errorf("want MaxTokenLength in %v", err)
	}
	_, err = bearer.New(bearer.Config{FindIssuer: func(context.Context, string) (*bearer.Middleware, error) { return nil, nil }, Resource: "https://api.example.com"})
	if err == nil || !strings.Contains(err.Error(), "Metadata.AuthorizationServers: required") {
		t.Errorf("metadata of issuers that are not known: %v", err)
	}
	if _, err := bearer.New(bearer.Config{}); err == nil || !strings.Contains(err.Error(), "or FindIssuer") {
		t.Errorf("nothing at all: %v", err)
	}
	_, err = bearer.New(bearer.Config{Issuer: "https://a.example", FindIssuer: func(context.Context, string) (*bearer.Middleware, error) { return nil, nil }})
	if err == nil || !strings.Contains(err.Error(), "Config.Audience: required") {
		t.Errorf("a fixed issuer without audience: %v", err)
	}
}

// What a FindIssuer that fails is called in the log.
func TestFindIssuerIsLogged(t *testing.T) {
	var log syncBuffer
	iss, auth := newAuth(t, func(c *bearer.Config) {
		c.Logger = debugLogger(&log)
		c.FindIssuer = func(context.Context, string) (*bearer.Middleware, error) { return nil, errors.New("boom") }
	})
	auth.Verify(t.Context(), iss.Token(audience, bearertest.Claims{"iss": "x"}))
	const want = `level=WARN msg="bearer: a function of Config fails" error=boom function=FindIssuer`
	if !strings.Contains(log.String(), want) {
		t.Errorf("got %s, want %s", log.String(), want)
	}
}

// A template of issuers stands beside FindIssuer as one issuer does.
func TestFindIssuerBesideTemplate(t *testing.T) {
	iss := bearertest.NewIssuer("https://login.example.com/{tenantid}/")
	d := &directory{tenants: make(map[string]*bearer.Middleware)}
	auth := newMiddleware(t, iss, func(c *bearer.Config) {
		c.Issuer, c.IssuerTemplate, c.FindIssuer, c.ScopeClaims = "", iss.URL, d.find, []string{"scope"}
	})
	for _, issuer := range []*bearertest.Issuer{iss, newTenant(t, d, "tenant")} {
		if _, err := auth.Verify(t.Context(), issuer.Token(audience, nil)); err != nil {
			t.Errorf("%s: %v", issuer.URL, err)
		}
	}
}
