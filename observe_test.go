package bearer_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
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

// An audit keeps the Outcomes that it is told.
type audit struct {
	mu  sync.Mutex
	all []bearer.Outcome
}

func (a *audit) observe(_ context.Context, o bearer.Outcome) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.all = append(a.all, o)
}

// take returns what was told since the last time, in short: "accepted" or the reason,
// with the issuer if there was one, and the subject if it is known.
func (a *audit) take() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	list := []string{}
	for _, o := range a.all {
		s := "accepted"
		if o.Err != nil {
			s = o.Err.Reason
		}
		if o.Issuer != "" {
			s += " by " + strings.TrimPrefix(o.Issuer, "https://")
		}
		if o.Claims != nil {
			s += " for " + o.Claims.Subject
		}
		list = append(list, s)
	}
	a.all = nil
	return list
}

func observed(t *testing.T) (*bearertest.Issuer, *bearer.Middleware, *audit) {
	a := new(audit)
	iss, auth := newAuth(t, func(c *bearer.Config) { c.Observe = a.observe })
	return iss, auth, a
}

// Each verdict is told once.
func TestObserve(t *testing.T) {
	iss, auth, a := observed(t)
	deny := func(err error) func(http.Handler) http.Handler {
		return auth.Require(func(*http.Request, *bearer.Claims) error { return err })
	}
	read := auth.RequireScope("read")
	authenticate := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { auth.Authenticate(r) })
	good := "Bearer " + iss.Token(audience, bearertest.Claims{"sub": "alice", "scope": "read"})
	poor := "Bearer " + iss.Token(audience, bearertest.Claims{"sub": "bob"})
	old := "Bearer " + iss.Token(audience, bearertest.Claims{"exp": 1000000000})
	const (
		accepted = "accepted by login.example.com/ for alice"
		bob      = "accepted by login.example.com/ for bob"
		lacking  = "insufficient_scope by login.example.com/ for bob"
	)
	tests := []struct {
		name   string
		h      http.Handler
		header string
		want   []string
	}{
		{"Handler", auth.Handler(ok), good, []string{accepted}},
		{"Handler, no credentials", auth.Handler(ok), "", []string{"no_credentials"}},
		{"Handler, malformed header", auth.Handler(ok), "Bearer a b", []string{"invalid_request"}},
		{"Handler, malformed token", auth.Handler(ok), "Bearer abc", []string{"malformed"}},
		{"Handler, expired", auth.Handler(ok), old, []string{"expired by login.example.com/"}},
		{"Optional", auth.Optional(ok), good, []string{accepted}},
		{"Optional, anonymous", auth.Optional(ok), "", []string{}},
		{"Optional, malformed token", auth.Optional(ok), "Bearer abc", []string{"malformed"}},
		{"RequireScope alone", read(ok), good, []string{accepted}},
		{"RequireScope alone, lacking", read(ok), poor, []string{lacking}},
		{"RequireScope alone, no credentials", read(ok), "", []string{"no_credentials"}},
		{"RequireScope in Handler", auth.Handler(read(ok)), good, []string{accepted}},
		{"RequireScope in Handler, lacking", auth.Handler(read(ok)), poor, []string{bob, lacking}},
		{"RequireScope in Optional, anonymous", auth.Optional(read(ok)), "", []string{"no_credentials"}},
		{"two wrappers in Handler, lacking", auth.Handler(auth.Require(func(*http.Request, *bearer.Claims) error { return nil })(read(ok))), poor, []string{bob, lacking}},
		{"RequireAnyScope in RequireScope", read(auth.RequireAnyScope("admin", "read")(ok)), good, []string{accepted}},
		{"Require", deny(errors.New("no"))(ok), good, []string{"denied by login.example.com/ for alice"}},
		{"Require with an Error", deny(&bearer.Error{Status: 402})(ok), good, []string{"denied by login.example.com/ for alice"}},
		{"Require with a reason", deny(&bearer.Error{Status: 402, Reason: "unpaid"})(ok), good, []string{"unpaid by login.example.com/ for alice"}},
		{"Require in Handler", auth.Handler(deny(errors.New("no"))(ok)), good, []string{accepted, "denied by login.example.com/ for alice"}},
		{"Authenticate", authenticate, good, []string{accepted}},
		{"Authenticate, no credentials", authenticate, "", []string{"no_credentials"}},
		{"Authenticate in Handler", auth.Handler(authenticate), good, []string{accepted}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for range 3 { // from the cache too
				if tt.header == "" {
					serve(tt.h)
				} else {
					serve(tt.h, tt.header)
				}
				if got := a.take(); fmt.Sprint(got) != fmt.Sprint(tt.want) {
					t.Errorf("got %q, want %q", got, tt.want)
				}
			}
		})
	}
}

// What Observe is told of is the request that the handler gets, before there is a
// reply, with claims that are not the handler's.
func TestObserveRequest(t *testing.T) {
	type key struct{}
	var (
		w    *httptest.ResponseRecorder
		told []bearer.Outcome
	)
	iss, auth := newAuth(t, func(c *bearer.Config) {
		c.Observe = func(ctx context.Context, o bearer.Outcome) {
			if len(w.Header()) > 0 || w.Body.Len() > 0 {
				t.Error("the reply has begun")
			}
			if o.Request == nil || ctx != o.Request.Context() || ctx.Value(key{}) != "from outside" {
				t.Errorf("got %v and %v, want the context of the request", ctx, o.Request)
			}
			told = append(told, o)
			if o.Claims != nil {
				o.Claims.Subject = "observed"
			}
		}
	})
	var seen *bearer.Claims
	h := auth.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen, _ = bearer.FromContext(r.Context())
		if told[0].Request != r {
			t.Error("the handler gets another request")
		}
	}))
	for _, tt := range []struct {
		h      http.Handler
		header string
		claims bool
	}{
		{h, "Bearer " + iss.Token(audience, nil), true},
		{auth.RequireScope("read")(ok), "Bearer " + iss.Token(audience, nil), true},
		{h, "Bearer abc", false},
		{h, "", false},
	} {
		told, seen, w = nil, nil, httptest.NewRecorder()
		r := httptest.NewRequest("GET", "/api/messages", nil)
		r = r.WithContext(context.WithValue(r.Context(), key{}, "from outside"))
		r.Header.Set("Authorization", tt.header)
		tt.h.ServeHTTP(w, r)
		if len(told) != 1 || (told[0].Claims != nil) != tt.claims || told[0].Request.URL.Path != "/api/messages" {
			t.Fatalf("%q: told %+v, want claims = %v", tt.header, told, tt.claims)
		}
		if !tt.claims {
			continue
		}
		inside, _ := bearer.FromContext(told[0].Request.Context())
		if inside.Subject != "user" || seen != nil && !reflect.DeepEqual(seen, inside) {
			t.Errorf("%q: in the context %+v, in the handler %+v, want those of the token", tt.header, inside, seen)
		}
		if inside.Subject = "observed"; !reflect.DeepEqual(inside, told[0].Claims) {
			t.Errorf("%q: told %+v, want %+v", tt.header, told[0].Claims, inside)
		}
	}
}

func TestObserveVerify(t *testing.T) {
	iss, auth, a := observed(t)
	token := iss.Token(audience, nil)
	for i, cached := range []bool{false, true, true} {
		c := verified(t, auth, token)
		if o := a.all[i]; o.Request != nil || o.Claims == c || !reflect.DeepEqual(o.Claims, c) || o.Err != nil || o.Issuer != iss.URL || o.Cached != cached {
			t.Errorf("use %d: told %+v, want cached = %v", i, o, cached)
		}
	}
	a.take()
	_, err := auth.Verify(t.Context(), "abc")
	if o := a.all[0]; o.Request != nil || o.Claims != nil || o.Err != err || o.Issuer != "" || o.Cached || len(a.all) != 1 {
		t.Errorf("told %+v, want what Verify returned: %v", a.all, err)
	}
}

// Whose token it was is told of one that verified and is refused all the same.
func TestObserveVerifiedAndRefused(t *testing.T) {
	a := new(audit)
	iss, auth := newAuth(t, func(c *bearer.Config) {
		c.Observe = a.observe
		c.Revoked = func(_ context.Context, c *bearer.Claims) (bool, error) { return c.Subject == "mallory", nil }
	})
	for range 3 { // from the cache too
		for token, want := range map[string]string{
			iss.Token(audience, bearertest.Claims{"sub": "mallory"}):                                     "revoked by login.example.com/ for mallory",
			iss.Token(audience, bearertest.Claims{"sub": "alice", "cnf": map[string]string{"jkt": "x"}}): "bound by login.example.com/ for alice",
			iss.Token(audience, bearertest.Claims{"sub": "mallory", "exp": 1000000000}):                  "expired by login.example.com/",
		} {
			serve(auth.Handler(ok), "Bearer "+token)
			auth.Verify(t.Context(), token)
			if got := a.take(); len(got) != 2 || got[0] != want || got[1] != want {
				t.Errorf("got %q, want %q twice", got, want)
			}
		}
	}
}

// A token that is revoked while its request is served has claims to tell of, too.
func TestObserveRevokedLater(t *testing.T) {
	a := new(audit)
	var revoked atomic.Bool
	iss, auth := newAuth(t, func(c *bearer.Config) {
		c.Observe = a.observe
		c.Revoked = func(context.Context, *bearer.Claims) (bool, error) { return revoked.Load(), nil }
	})
	serve(auth.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		a.take()
		revoked.Store(true)
		auth.Authenticate(r)
	})), "Bearer "+iss.Token(audience, bearertest.Claims{"sub": "mallory"}))
	if got, want := a.take(), []string{"revoked by login.example.com/ for mallory"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// The issuer is told, and whether the token came from the cache, by inner wrappers and
// of later verdicts too.
func TestObserveLaterVerdicts(t *testing.T) {
	a := new(audit)
	revoked := false
	iss, auth := newAuth(t, func(c *bearer.Config) {
		c.Observe = a.observe
		c.Revoked = func(context.Context, *bearer.Claims) (bool, error) { return revoked, nil }
	})
	other := newMiddleware(t, iss, func(c *bearer.Config) { c.Header = "X-Token" })
	authenticates := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		revoked = true
		auth.Authenticate(r)
		revoked = false
	})
	header := "Bearer " + iss.Token(audience, nil)
	for use := range 4 { // the last ones from the cache
		for name, h := range map[string]http.Handler{
			"a scope":                     auth.Handler(auth.RequireScope("x")(ok)),
			"a scope, another in between": auth.Handler(other.Optional(auth.RequireScope("x")(ok))),
			"revoked meanwhile":           auth.Handler(authenticates),
		} {
			serve(h, header)
			if len(a.all) != 2 {
				t.Fatalf("%s: told %+v, want two verdicts", name, a.all)
			}
			if first, later := a.all[0], a.all[1]; later.Issuer != iss.URL || later.Cached != first.Cached || later.Err == nil || use > 2 && !later.Cached {
				t.Errorf("%s, use %d: told %+v, want issuer and cached as in %+v", name, use, later, first)
			}
			a.take()
		}
	}
}

// A status that does not refuse is told as it is replied.
func TestObserveStatus(t *testing.T) {
	iss, auth, a := observed(t)
	h := auth.Require(func(*http.Request, *bearer.Claims) error { return &bearer.Error{Status: 200} })(ok)
	if w := serve(h, "Bearer "+iss.Token(audience, nil)); w.Code != 403 || a.all[0].Err.Status != 403 {
		t.Errorf("replied %d, told %d, want 403", w.Code, a.all[0].Err.Status)
	}
}

// The issuer is the one by whose rules a token was judged, as it was configured, and
// nothing that a token says.
func TestObserveIssuer(t *testing.T) {
	a := new(audit)
	one, two := bearertest.NewIssuer("https://one.example"), bearertest.NewIssuer("https://two.example")
	first := newMiddleware(t, one, func(c *bearer.Config) { c.Observe = a.observe })
	auth := first.Or(newMiddleware(t, two))
	for token, want := range map[string]string{
		one.Token(audience, nil): "accepted by one.example for user",
		two.Token(audience, nil): "accepted by two.example for user",
		two.Token("other", nil):  "audience by two.example",
		two.Token(audience, bearertest.Claims{"iss": "https://three.example"}): "issuer",
		one.Token(audience, bearertest.Claims{"iss": two.URL}):                 "signature by two.example",
	} {
		auth.Verify(t.Context(), token)
		if got := a.take(); len(got) != 1 || got[0] != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	// Two Middlewares each judge by themselves.
	inner := newMiddleware(t, one, func(c *bearer.Config) { c.Observe = a.observe })
	serve(first.Handler(inner.Handler(ok)), "Bearer "+one.Token(audience, nil))
	if got := a.take(); len(got) != 2 {
		t.Errorf("two Middlewares: got %q, want the verdicts of both", got)
	}

	finding, err := bearer.New(bearer.Config{
		Logger:  quiet,
		Observe: a.observe,
		FindIssuer: func(_ context.Context, issuer string) (*bearer.Middleware, error) {
			switch issuer {
			case two.URL:
				return newMiddleware(t, two), nil
			case one.URL:
				return nil, errors.New("no answer")
			}
			return nil, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	for token, want := range map[string]string{
		two.Token(audience, nil): "accepted by two.example for user",
		one.Token(audience, nil): "issuer_unavailable",
		two.Token(audience, bearertest.Claims{"iss": "https://three.example"}): "issuer",
	} {
		finding.Verify(t.Context(), token)
		if got := a.take(); len(got) != 1 || got[0] != want {
			t.Errorf("with FindIssuer: got %q, want %q", got, want)
		}
	}

	template := "https://login.microsoftonline.com/{tenantid}/v2.0"
	entra := newMiddleware(t, one, func(c *bearer.Config) {
		c.Issuer, c.IssuerTemplate, c.JWKSURL, c.Observe = "", template, one.URL+"/.well-known/jwks.json", a.observe
	})
	if _, err := entra.Verify(t.Context(), one.Token(audience, bearertest.Claims{"iss": strings.Replace(template, "{tenantid}", "t1", 1), "tid": "t1"})); err != nil {
		t.Fatal(err)
	}
	if o := a.all[0]; o.Issuer != template {
		t.Errorf("Issuer = %q, want the template", o.Issuer)
	}
}

// Whoever panics in Observe panics in the request: nothing is served and nothing is
// swallowed.
func TestObservePanics(t *testing.T) {
	iss, auth := newAuth(t, func(c *bearer.Config) {
		c.Observe = func(context.Context, bearer.Outcome) { panic("mine") }
	})
	for _, header := range []string{"Bearer " + iss.Token(audience, nil), "Bearer abc"} {
		served := false
		h := auth.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { served = true }))
		func() {
			defer func() {
				if p := recover(); p != "mine" || served {
					t.Errorf("%.20s: recovered %v, served = %v; want the panic alone", header, p, served)
				}
			}()
			serve(h, header)
		}()
	}
}

// Without keys there is a verdict too, and so there is when nobody waits for it
// any more. The log has no record of the latter.
func TestObserveWithoutKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log syncBuffer
		a := new(audit)
		iss, auth := newAuth(t, func(c *bearer.Config) {
			c.Observe = a.observe
			c.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		})
		iss.SetHanging(true)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		r := httptest.NewRequestWithContext(ctx, "GET", "/", nil)
		r.Header.Set("Authorization", "Bearer "+iss.Token(audience, nil))
		auth.Handler(ok).ServeHTTP(httptest.NewRecorder(), r)
		if len(a.all) != 1 || a.all[0].Issuer != iss.URL || a.all[0].Err.Reason != "keys_unavailable" || !errors.Is(a.all[0].Err, context.DeadlineExceeded) {
			t.Errorf("a request that ended: told %+v", a.all)
		}
		if strings.Contains(log.String(), "request refused") {
			t.Errorf("a request that ended is logged: %s", log.String())
		}
		a.take()
		serve(auth.Handler(ok), "Bearer "+iss.Token(audience, nil))
		if got := a.take(); len(got) != 1 || got[0] != "keys_unavailable by login.example.com/" {
			t.Errorf("a request without keys: told %q", got)
		}
		if n := strings.Count(log.String(), "request refused"); n != 1 {
			t.Errorf("a request without keys: %d records, want 1", n)
		}
		time.Sleep(15 * time.Second) // the fetch ends
	})
}

// A token in the cache whose issuer's keys are too old is not judged either.
func TestObserveOldKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		iss, auth, a := observed(t)
		token := iss.Token(audience, bearertest.Claims{"exp": time.Now().Add(48 * time.Hour).Unix()})
		warm(t, auth, token)
		a.take()
		iss.SetDown(true)
		time.Sleep(26 * time.Hour)
		auth.Verify(t.Context(), token)
		if o := a.all[0]; o.Err == nil || o.Err.Reason != "keys_unavailable" || o.Issuer != iss.URL || !o.Cached || o.Claims != nil {
			t.Errorf("told %+v, want no keys for a cached token, and no claims", o)
		}
	})
}

// A request may outlive its first token and come with another one.
func TestObserveSecondToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		iss, auth, a := observed(t)
		first := iss.Token(audience, bearertest.Claims{"exp": time.Now().Add(time.Minute).Unix()})
		second := iss.Token(audience, nil)
		verified(t, auth, second)
		lacking := auth.RequireScope("read")(ok)
		serve(auth.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(10 * time.Minute)
			r.Header.Set("Authorization", "Bearer "+second)
			auth.Handler(lacking).ServeHTTP(w, r)
		})), "Bearer "+first)
		for i, cached := range []bool{false, false, true, true} { // the second one by Verify, the first one, the second one twice
			if o := a.all[i]; o.Cached != cached {
				t.Errorf("verdict %d: told %+v, want Cached = %v", i, o, cached)
			}
		}
	})
}

// Many requests at once are told of one by one.
func TestObserveByMany(t *testing.T) {
	var accepted, refused atomic.Int64
	iss, auth := newAuth(t, func(c *bearer.Config) {
		c.Logger = quiet
		c.Observe = func(_ context.Context, o bearer.Outcome) {
			if o.Err == nil && o.Claims.Scope == "read" {
				accepted.Add(1)
			} else if o.Err != nil && o.Err.Reason == "insufficient_scope" {
				refused.Add(1)
			}
		}
	})
	h := auth.RequireScope("read")(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, _ := bearer.FromContext(r.Context())
		c.Scope, c.Audience[0] = "changed", "changed"
	}))
	var tokens []string
	for i := range 4 {
		tokens = append(tokens, "Bearer "+iss.Token(audience, bearertest.Claims{"scope": []string{"read", "write"}[i%2]}))
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 100 {
				serve(h, tokens[i%4])
			}
		})
	}
	wg.Wait()
	if a, r := accepted.Load(), refused.Load(); a != 400 || r != 400 {
		t.Errorf("told of %d accepted and %d refused requests, want 400 each", a, r)
	}
}
