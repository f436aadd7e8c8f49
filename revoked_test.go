package bearer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"example.com/bearer"
	"example.com/bearer/bearertest"
)

// A denyList is Config.Revoked of the tests. Its zero value revokes nothing.
type denyList struct {
	calls  atomic.Int64
	answer atomic.Pointer[func(ctx context.Context, c *bearer.Claims) (bool, error)]
}

func (d *denyList) set(f func(ctx context.Context, c *bearer.Claims) (bool, error)) {
	d.answer.Store(&f)
}

func (d *denyList) revoked(ctx context.Context, c *bearer.Claims) (bool, error) {
	d.calls.Add(1)
	if f := d.answer.Load(); f != nil {
		return (*f)(ctx, c)
	}
	return false, nil
}

func newDenyList(c *bearer.Config) *denyList {
	d := new(denyList)
	c.Revoked = d.revoked
	return d
}

// An ownError cannot be printed if it is nil.
type ownError struct{ text string }

func (e *ownError) Error() string { return e.text }

func yes(context.Context, *bearer.Claims) (bool, error) { return true, nil }

// uses are all ways to use a token: each gives the status of a reply.
func uses(t *testing.T, auth *bearer.Middleware) map[string]func(token string) int {
	through := func(h http.Handler) func(string) int {
		return func(token string) int { return serve(h, "Bearer "+token).Code }
	}
	verdict := func(c *bearer.Claims, err error) int {
		if err == nil {
			return 200
		}
		if c != nil {
			t.Errorf("claims %+v beside the error %v", c, err)
		}
		return statusOf(err)
	}
	return map[string]func(string) int{
		"Handler":               through(auth.Handler(ok)),
		"Optional":              through(auth.Optional(ok)),
		"RequireScope":          through(auth.RequireScope("read")(ok)),
		"RequireAnyScope":       through(auth.RequireAnyScope("read", "x")(ok)),
		"Require":               through(auth.Require(func(*http.Request, *bearer.Claims) error { return nil })(ok)),
		"Handler, RequireScope": through(auth.Handler(auth.RequireScope("read")(ok))),
		"Authenticate": func(token string) int {
			r := httptest.NewRequest("GET", "/", nil)
			r.Header.Set("Authorization", "Bearer "+token)
			return verdict(auth.Authenticate(r))
		},
		"Verify": func(token string) int { return verdict(auth.Verify(t.Context(), token)) },
	}
}

func TestRevoked(t *testing.T) {
	var d *denyList
	iss, auth := newAuth(t, func(c *bearer.Config) { d = newDenyList(c) })
	boom := errors.New("boom")
	for name, use := range uses(t, auth) {
		token := iss.Token(audience, bearertest.Claims{"scope": "read", "jti": name})
		for _, step := range []struct {
			what string
			f    func(context.Context, *bearer.Claims) (bool, error)
			want int
		}{
			{"new", func(context.Context, *bearer.Claims) (bool, error) { return false, nil }, 200},
			{"a second time", func(_ context.Context, c *bearer.Claims) (bool, error) { return c.ID != name, nil }, 200},
			{"from the cache", func(_ context.Context, c *bearer.Claims) (bool, error) { return c.ID != name, nil }, 200},
			{"revoked", yes, 401},
			{"revoked, again", yes, 401},
			{"not any more", func(context.Context, *bearer.Claims) (bool, error) { return false, nil }, 200},
			{"an error", func(context.Context, *bearer.Claims) (bool, error) { return false, boom }, 503},
			{"revoked and an error", func(context.Context, *bearer.Claims) (bool, error) { return true, boom }, 503},
			{"an error that is nil", func(context.Context, *bearer.Claims) (bool, error) { return false, (*ownError)(nil) }, 503},
			{"one whose cause panics", func(context.Context, *bearer.Claims) (bool, error) { return false, (*fs.PathError)(nil) }, 503},
			{"a panic", func(context.Context, *bearer.Claims) (bool, error) { panic("boom") }, 503},
			{"a panic with nil", func(context.Context, *bearer.Claims) (bool, error) { panic(nil) }, 503},
			{"no return", func(context.Context, *bearer.Claims) (bool, error) { runtime.Goexit(); return false, nil }, 503},
			{"well again", func(context.Context, *bearer.Claims) (bool, error) { return false, nil }, 200},
		} {
			d.set(step.f)
			before := d.calls.Load()
			if got := use(token); got != step.want {
				t.Errorf("%s, %s: status %d, want %d", name, step.what, got, step.want)
			}
			// A wrapper within another one has its answer.
			if n := d.calls.Load() - before; n != 1 {
				t.Errorf("%s, %s: %d calls, want 1", name, step.what, n)
			}
		}
	}

	// Nobody is asked about what is no good anyway.
	before := d.calls.Load()
	for name, use := range uses(t, auth) {
		if got := use(iss.Token("another", nil)); got != 401 {
			t.Errorf("%s, another audience: status %d, want 401", name, got)
		}
	}
	if got := serve(auth.Optional(ok)).Code; got != 200 {
		t.Errorf("anonymous: status %d, want 200", got)
	}
	if n := d.calls.Load() - before; n != 0 {
		t.Errorf("%d calls for tokens that are not accepted", n)
	}

	// What is told.
	token := iss.Token(audience, nil)
	d.set(yes)
	c, err := auth.Verify(t.Context(), token)
	checkRefused(t, c, err, "revoked", jwt.ErrTokenInvalidClaims)
	checkReply(t, serve(auth.Handler(ok), "Bearer "+token), 401, challengeToken)
	d.set(func(context.Context, *bearer.Claims) (bool, error) { return false, boom })
	_, err = auth.Verify(t.Context(), token)
	var e *bearer.Error
	if !errors.As(err, &e) || e.Reason != "revocation_unavailable" || e.Status != 503 || e.Code != "" || e.RetryAfter != time.Second || !errors.Is(err, boom) {
		t.Errorf("an error: got %+v", e)
	}
	w := serve(auth.Handler(ok), "Bearer "+token)
	checkReply(t, w, 503, "")
	if got := w.Header().Get("Retry-After"); got != "1" || strings.Contains(w.Body.String(), "boom") {
		t.Errorf("Retry-After %q, body %s", got, w.Body)
	}
}

// The claims are the function's own, and the context is the request's.
func TestRevokedArguments(t *testing.T) {
	type key struct{}
	iss, auth := newAuth(t, func(c *bearer.Config) {
		c.Revoked = func(ctx context.Context, c *bearer.Claims) (bool, error) {
			if ctx.Value(key{}) != "value" {
				return false, fmt.Errorf("another context: %v", ctx)
			}
			if _, ok := ctx.Deadline(); !ok {
				return false, errors.New("no deadline")
			}
			c.Subject, c.Audience[0] = "changed", "changed"
			return false, nil
		}
	})
	token := iss.Token(audience, bearertest.Claims{"sub": "alice"})
	ctx := context.WithValue(t.Context(), key{}, "value")
	for range 4 {
		c, err := auth.Verify(ctx, token)
		if err != nil || c.Subject != "alice" || c.Audience[0] != audience {
			t.Fatalf("got %+v, %v, want the claims as they came", c, err)
		}
	}
}

// A connection may last for hours after the token was looked at.
func TestRevokedLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d *denyList
		iss, auth := newAuth(t, func(c *bearer.Config) { d = newDenyList(c) })
		nested := auth.RequireScope("read")(ok)
		serve(auth.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			calls := d.calls.Load()
			if _, err := auth.Authenticate(r); err != nil || d.calls.Load() != calls+1 {
				t.Errorf("Authenticate = %v with %d calls, want nil with one more", err, d.calls.Load()-calls)
			}
			d.set(yes)
			if _, err := auth.Authenticate(r); statusOf(err) != 401 {
				t.Errorf("Authenticate of a revoked token = %v, want status 401", err)
			}
			time.Sleep(time.Minute)
			w2 := httptest.NewRecorder()
			nested.ServeHTTP(w2, r)
			checkReply(t, w2, 401, challengeToken)
		})), "Bearer "+iss.Token(audience, bearertest.Claims{"scope": "read"}))
	})
}

// Wrappers within each other share an answer for a second, another Middleware's in
// between or not.
func TestRevokedIsShared(t *testing.T) {
	for _, tt := range []struct {
		name  string
		wait  time.Duration
		calls int64
	}{
		{"at once", 0, 1},
		{"within the second", time.Second - time.Microsecond, 1},
		{"after the second", time.Second, 2},
	} {
		synctest.Test(t, func(t *testing.T) {
			var d *denyList
			iss, auth := newAuth(t, func(c *bearer.Config) { d = newDenyList(c) })
			other := newMiddleware(t, iss, func(c *bearer.Config) { c.Header = "X-Token" })
			later := func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { time.Sleep(tt.wait); next.ServeHTTP(w, r) })
			}
			for name, h := range map[string]http.Handler{
				"inside":                     auth.Handler(later(auth.RequireScope("read")(ok))),
				"inside of another's inside": auth.Handler(other.Optional(later(auth.RequireScope("read")(ok)))),
			} {
				before := d.calls.Load()
				w := serve(h, "Bearer "+iss.Token(audience, bearertest.Claims{"scope": "read"}))
				if n := d.calls.Load() - before; w.Code != 200 || n != tt.calls {
					t.Errorf("%s, %s: status %d and %d calls, want 200 and %d", tt.name, name, w.Code, n, tt.calls)
				}
			}
		})
	}
}

// A function that hangs costs those who wait for it a second, and holds nothing else.
func TestRevokedHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		var d *denyList
		iss, auth := newAuth(t, func(c *bearer.Config) { d = newDenyList(c); c.Logger = debugLogger(&log) })
		release := make(chan struct{})
		var running atomic.Int64
		hang := func(context.Context, *bearer.Claims) (bool, error) {
			running.Add(1)
			defer running.Add(-1)
			<-release
			return false, nil
		}
		bad, good := iss.Token(audience, bearertest.Claims{"sub": "bad"}), iss.Token(audience, bearertest.Claims{"sub": "good"})
		d.set(func(ctx context.Context, c *bearer.Claims) (bool, error) {
			if c.Subject == "good" {
				return false, nil
			}
			return hang(ctx, c)
		})
		start := time.Now()
		if _, err := auth.Verify(t.Context(), bad); statusOf(err) != 503 || time.Since(start) != time.Second {
			t.Errorf("hanging: %v after %v, want status 503 after 1s", err, time.Since(start))
		}
		start = time.Now()
		if _, err := auth.Verify(t.Context(), good); err != nil || time.Since(start) != 0 {
			t.Errorf("another token meanwhile: %v after %v, want nil at once", err, time.Since(start))
		}

		// However many come, no more than the bound are left behind.
		var wg sync.WaitGroup
		for range 3000 {
			wg.Go(func() {
				if _, err := auth.Verify(t.Context(), bad); statusOf(err) != 503 {
					t.Errorf("hanging: %v, want status 503", err)
				}
			})
		}
		wg.Wait()
		if n := running.Load(); n != 1024 {
			t.Errorf("%d calls hang, want 1024", n)
		}
		if _, err := auth.Verify(t.Context(), bad); err == nil || !strings.Contains(err.Error(), "too many calls have not returned") {
			t.Errorf("one more: %v, want that there are too many", err)
		}
		if n := strings.Count(log.String(), "level=WARN"); n != 1 {
			t.Errorf("%d warnings, want 1:\n%.1000s", n, log.String())
		}

		// A request that is given up is no failure of anybody's.
		close(release)
		synctest.Wait()
		if n := running.Load(); n != 0 {
			t.Errorf("%d calls hang, want none", n)
		}
		time.Sleep(2 * time.Minute)
		log.Reset()
		if _, err := auth.Verify(t.Context(), good); err != nil || !strings.Contains(log.String(), "works again") {
			t.Errorf("well again: %v; log: %s", err, log.String())
		}
		log.Reset()
		d.set(func(ctx context.Context, c *bearer.Claims) (bool, error) { <-ctx.Done(); return false, ctx.Err() })
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if _, err := auth.Verify(ctx, good); !errors.Is(err, context.DeadlineExceeded) || log.Len() != 0 {
			t.Errorf("given up: %v; log: %s", err, log.String())
		}
	})
}

// What the log says of a function that fails, and that it says it once.
func TestRevokedRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log syncBuffer
		var d *denyList
		iss, auth := newAuth(t, func(c *bearer.Config) { d = newDenyList(c); c.Logger = debugLogger(&log) })
		token := iss.Token(audience, nil)
		verified(t, auth, token) // fetches the keys
		synctest.Wait()          // and the record of it is written
		panics := func(context.Context, *bearer.Claims) (bool, error) { panic("boom" + strings.Repeat("x", 5000)) }
		no := func(context.Context, *bearer.Claims) (bool, error) { return false, nil }
		for _, step := range []struct {
			what string
			wait time.Duration
			f    func(context.Context, *bearer.Claims) (bool, error)
			want string // in the one record that is not for debugging; empty: there is none
		}{
			{"a good answer", time.Hour, no, ""},
			{"a panic", 0, panics, `level=WARN msg="bearer: a function of Config fails" error="it panicked: boomxxx`},
			{"another", time.Hour, panics, ""},
			{"a good answer soon after", time.Minute - time.Microsecond, no, ""},
			{"a good answer later", time.Microsecond, no, `level=INFO msg="bearer: a function of Config works again" function=Revoked`},
			{"another good answer", time.Hour, no, ""},
			{"a panic again", 0, panics, `level=WARN`},
		} {
			time.Sleep(step.wait)
			d.set(step.f)
			log.Reset()
			auth.Verify(t.Context(), token)
			var records []string
			for line := range strings.Lines(log.String()) {
				if !strings.Contains(line, "level=DEBUG") && strings.Contains(line, "function") {
					records = append(records, line)
				}
			}
			got := strings.Join(records, "")
			if len(records) > 1 || (got == "") != (step.want == "") || !strings.Contains(got, step.want) || len(got) > 800 ||
				got != "" && !strings.Contains(got, "function=Revoked") {
				t.Errorf("%s: got %q, want %q", step.what, got, step.want)
			}
			token = iss.Token(audience, nil)
		}
	})
}

// A log whose handler panics takes nothing with it.
func TestRevokedAndPanickingLog(t *testing.T) {
	iss, auth := newAuth(t, func(c *bearer.Config) {
		c.Revoked = func(context.Context, *bearer.Claims) (bool, error) { return false, errors.New("boom") }
		c.Logger = slog.New(panickingHandler{c.Logger.Handler()})
	})
	if _, err := auth.Verify(t.Context(), iss.Token(audience, nil)); statusOf(err) != 503 {
		t.Errorf("got %v, want status 503", err)
	}
}

// A panickingHandler panics for warnings.
type panickingHandler struct{ slog.Handler }

func (h panickingHandler) Handle(ctx context.Context, r slog.Record) error {
	if r.Level == slog.LevelWarn {
		panic("log")
	}
	return h.Handler.Handle(ctx, r)
}

// The context ends with the call, so that what hangs on it is given up.
func TestRevokedContextEnds(t *testing.T) {
	var kept context.Context
	iss, auth := newAuth(t, func(c *bearer.Config) {
		c.Revoked = func(ctx context.Context, _ *bearer.Claims) (bool, error) { kept = ctx; return false, ctx.Err() }
	})
	verified(t, auth, iss.Token(audience, nil))
	if kept.Err() == nil {
		t.Error("the context goes on after the answer")
	}
}

// What the one that judges a token knows counts, and so does what the one knows that
// was asked.
func TestRevokedOr(t *testing.T) {
	a, b := bearertest.NewIssuer("https://a.example.com"), bearertest.NewIssuer("https://b.example.com")
	var ofA, ofB *denyList
	forA := newMiddleware(t, a, func(c *bearer.Config) { ofA = newDenyList(c) })
	forB := newMiddleware(t, b, func(c *bearer.Config) { ofB = newDenyList(c) })
	plain := newMiddleware(t, a)
	tokenA, tokenB := a.Token(audience, nil), b.Token(audience, nil)
	for _, tt := range []struct {
		name  string
		auth  *bearer.Middleware
		token string
		a, b  int64 // calls
	}{
		{"a's token", forA.Or(forB), tokenA, 1, 0},
		{"b's token", forA.Or(forB), tokenB, 1, 1},
		{"one that asks nobody, a's token", plain.Or(forB), tokenA, 0, 0},
		{"one that asks nobody, b's token", plain.Or(forB), tokenB, 0, 1},
	} {
		beforeA, beforeB := ofA.calls.Load(), ofB.calls.Load()
		if _, err := tt.auth.Verify(t.Context(), tt.token); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		if ca, cb := ofA.calls.Load()-beforeA, ofB.calls.Load()-beforeB; ca != tt.a || cb != tt.b {
			t.Errorf("%s: %d and %d calls, want %d and %d", tt.name, ca, cb, tt.a, tt.b)
		}
	}
	ofB.set(yes)
	if _, err := plain.Or(forB).Verify(t.Context(), tokenB); statusOf(err) != 401 {
		t.Errorf("revoked by the one that judges: %v, want status 401", err)
	}
}

// Either function is enough to refuse a token, at once and later on.
func TestRevokedByEither(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := bearertest.NewIssuer("https://a.example.com"), bearertest.NewIssuer("https://b.example.com")
		list := new(denyList)
		asks := func(c *bearer.Config) { c.Revoked = list.revoked }
		others := func(c *bearer.Config) { newDenyList(c) }
		no := func(context.Context, *bearer.Claims) (bool, error) { return false, nil }
		for _, tt := range []struct {
			name string
			auth *bearer.Middleware
		}{
			{"the one that was asked", newMiddleware(t, a, asks).Or(newMiddleware(t, b, others))},
			{"the one that was asked, alone", newMiddleware(t, a, asks).Or(newMiddleware(t, b))},
			{"the one that judges", newMiddleware(t, a, others).Or(newMiddleware(t, b, asks))},
			{"the one that judges, alone", newMiddleware(t, a).Or(newMiddleware(t, b, asks))},
		} {
			header := "Bearer " + b.Token(audience, nil)
			inner := httptest.NewRecorder()
			list.set(no)
			outer := serve(tt.auth.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				list.set(yes)
				if _, err := tt.auth.Authenticate(r); statusOf(err) != 401 {
					t.Errorf("revoked by %s meanwhile: Authenticate = %v, want status 401", tt.name, err)
				}
				time.Sleep(time.Second)
				tt.auth.Handler(ok).ServeHTTP(inner, r)
			})), header)
			if outer.Code != 200 || inner.Code != 401 {
				t.Errorf("revoked by %s meanwhile: status %d outside and %d inside, want 200 and 401", tt.name, outer.Code, inner.Code)
			}
			if w := serve(tt.auth.Handler(ok), header); w.Code != 401 {
				t.Errorf("revoked by %s: status %d, want 401", tt.name, w.Code)
			}
		}
	})
}
