package bearer_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"example.com/bearer"
	"example.com/bearer/bearertest"
)

var quiet = slog.New(slog.DiscardHandler)

type attack struct {
	name, header string
	allocs       float64 // at most
}

// hostile are the headers that should cost next to nothing. None of them gets
// as far as a signature check.
func hostile(iss *bearertest.Issuer, valid string) []attack {
	parts := strings.Split(valid, ".")
	forge := func(header string) string { return "Bearer " + encode(header) + "." + parts[1] + "." + parts[2] }
	fill := func(n int) string { return strings.Repeat("A", n) }
	var members strings.Builder
	for i := range 1100 {
		fmt.Fprintf(&members, `,"%d":1`, i)
	}
	var alike strings.Builder // to a filter that looks at their ends and lengths
	for i := range 250 {
		fmt.Fprintf(&alike, `,"a%s%03da":0`, strings.Repeat("x", 33), i)
	}
	return []attack{
		{"no-header", "", 2},
		{"another-scheme", "Basic YTpi", 2},
		{"garbage", "Bearer garbage", 2},
		{"16KiB-garbage", "Bearer " + fill(16<<10), 2},
		{"16KiB-dots", "Bearer " + strings.Repeat(".", 16<<10), 2},
		{"1MiB", "Bearer " + fill(1<<20), 7},
		{"16KiB-payload", "Bearer " + parts[0] + "." + fill(15<<10) + "." + fill(300), 8},
		{"16KiB-signature", "Bearer " + parts[0] + "." + parts[1] + "." + fill(14<<10), 10},
		{"alg-none", forge(`{"alg":"none"}`), 12},
		{"header-nested", forge(`{"alg":"RS256","x":` + strings.Repeat("[", 11000)), 12},
		{"header-of-1100-members", forge(`{"alg":"none"` + members.String() + `}`), 20},
		{"header-of-names-alike", forge(`{"alg":"none"` + alike.String() + `}`), 20},
		{"header-of-escapes", forge(`{"alg":"none","x":"` + strings.Repeat(`\u0041`, 1700) + `"}`), 12},
		{"zero-signature", "Bearer " + parts[0] + "." + parts[1] + "." + fill(86), 14},
	}
}

// The bounds of PERFORMANCE: what a request may cost in allocations.
func TestAllocations(t *testing.T) {
	iss, auth := newAuth(t, func(c *bearer.Config) { c.Logger = quiet })
	valid := iss.Token(audience, bearertest.Claims{"scope": "read write"})
	nothing := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	w := nullWriter{http.Header{}}
	measure := func(h http.Handler, header string) float64 {
		r := httptest.NewRequest("GET", "/", nil)
		if header != "" {
			r.Header.Set("Authorization", header)
		}
		for range 3 {
			h.ServeHTTP(w, r)
		}
		return testing.AllocsPerRun(100, func() { h.ServeHTTP(w, r) })
	}

	// The copy of the request together with its context: one allocation, where
	// r.WithContext and context.WithValue make two.
	if got := measure(auth.Handler(nothing), "Bearer "+valid); got > 1 {
		t.Errorf("a token that comes again: %v allocations, want 1", got)
	}
	if got := measure(auth.RequireScope("read")(nothing), "Bearer "+valid); got > 1 {
		t.Errorf("the same with RequireScope alone: %v allocations, want 1", got)
	}
	if got := measure(auth.Handler(auth.RequireScope("read", "write")(nothing)), "Bearer "+valid); got > 1 {
		t.Errorf("the same with RequireScope inside of Handler: %v allocations, want 1", got)
	}
	// Claims that the handler does not pass on cost none, nor what As gives of them.
	reads := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, _ := bearer.FromContext(r.Context())
		if c.Subject != "user" || len(c.Audience) != 1 || c.Audience[0] != audience || !c.Scope.Has("write") || c.ExpiresAt.IsZero() {
			t.Errorf("got %v", *c)
		}
	})
	if got := measure(auth.Handler(reads), "Bearer "+valid); got > 1 {
		t.Errorf("the same with a handler that reads claims: %v allocations, want 1", got)
	}
	as := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, _ := bearer.FromContext(r.Context())
		if all, err := bearer.As[map[string]any](c); err != nil || all["scope"] != "read write" {
			t.Errorf("As = %v, %v", all, err)
		}
	})
	if got := measure(auth.Handler(as), "Bearer "+valid); got > 1 {
		t.Errorf("the same with As: %v allocations, want 1", got)
	}
	// Others get claims that do not depend on the request.
	checked := auth.Require(func(*http.Request, *bearer.Claims) error { return nil })
	if got := measure(checked(reads), "Bearer "+valid); got > 2 {
		t.Errorf("Require, and a handler that reads claims: %v allocations, want 2", got)
	}
	inside := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, err := auth.Authenticate(r); err != nil || len(c.Audience) != 1 {
			t.Errorf("Authenticate = %v, %v", c, err)
		}
	})
	if got := measure(auth.Handler(inside), "Bearer "+valid); got > 2 {
		t.Errorf("Authenticate behind Handler: %v allocations, want 2", got)
	}
	told := 0
	seen := newMiddleware(t, iss, func(c *bearer.Config) {
		c.Logger = quiet
		c.Observe = func(_ context.Context, o bearer.Outcome) {
			if o.Err == nil && o.Claims.Subject == "user" {
				told++
			}
		}
	})
	for name, h := range map[string]http.Handler{
		"Handler":      seen.Handler(reads),
		"RequireScope": seen.RequireScope("read")(nothing),
	} {
		before := told
		if got := measure(h, "Bearer "+valid); got > 2 || told <= before {
			t.Errorf("%s with Observe: %v allocations, want 2; told %d times", name, got, told-before)
		}
	}
	for _, tt := range hostile(iss, valid) {
		if got := measure(seen.Handler(nothing), tt.header); got > tt.allocs {
			t.Errorf("%s with Observe: %v allocations, want %v at most", tt.name, got, tt.allocs)
		}
		if got := measure(auth.Handler(nothing), tt.header); got > tt.allocs {
			t.Errorf("%s: %v allocations, want %v at most", tt.name, got, tt.allocs)
		}
	}
}
