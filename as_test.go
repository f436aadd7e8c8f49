package bearer_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"example.com/bearer"
	"example.com/bearer/bearertest"
)

// A counting value is decoded like its map, and counts how often, for each X.
type counting[X any] struct{ claims map[string]any }

var decodings sync.Map // a zero X -> *atomic.Int64

func count[X any]() *atomic.Int64 {
	n, _ := decodings.LoadOrStore(*new(X), new(atomic.Int64))
	return n.(*atomic.Int64)
}

func (c *counting[X]) UnmarshalJSON(text []byte) error {
	count[X]().Add(1)
	return json.Unmarshal(text, &c.claims)
}

func TestAs(t *testing.T) {
	type once struct{}
	iss, auth := newAuth(t)
	token := iss.Token(audience, bearertest.Claims{"tenant": "acme"})
	warm(t, auth, token)
	before := count[once]().Load()
	var first, again counting[once]
	for i, into := range []*counting[once]{&first, &again} {
		h := auth.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			c, _ := bearer.FromContext(r.Context())
			var err error
			if *into, err = bearer.As[counting[once]](c); err != nil || into.claims["tenant"] != "acme" {
				t.Errorf("request %d: As = %v, %v", i, into, err)
			}
		}))
		serve(h, "Bearer "+token)
	}
	if n := count[once]().Load() - before; n != 1 {
		t.Errorf("two requests with one token: decoded %d times, want once", n)
	}
	first.claims["shared"] = true
	if again.claims["shared"] != true {
		t.Error("the requests do not share what was decoded")
	}
	var own counting[once]
	if err := verified(t, auth, token).Decode(&own); err != nil || own.claims["tenant"] != "acme" || own.claims["shared"] != nil {
		t.Errorf("Decode beside As = %v, %v, want a value of one's own", own, err)
	}
	other := iss.Token(audience, bearertest.Claims{"tenant": "other"})
	if own, err := bearer.As[counting[once]](verified(t, auth, other)); err != nil || own.claims["tenant"] != "other" {
		t.Errorf("another token: As = %v, %v", own, err)
	}
}

func verified(t *testing.T, auth *bearer.Middleware, token string) *bearer.Claims {
	t.Helper()
	c, err := auth.Verify(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// As leaves out what Decode does, and takes the same types.
func TestAsDecodesAsDecodeDoes(t *testing.T) {
	iss, auth := newAuth(t)
	c := verified(t, auth, iss.Sign("", payload(iss, `,"tenant":"acme","ISS":"evil","Scope":"admin"`)))
	type own struct {
		Issuer string `json:"iss"`
		Scope  string `json:"scope"`
		Tenant string `json:"tenant"`
	}
	want := own{iss.URL, "", "acme"}
	if got, err := bearer.As[own](c); err != nil || got != want {
		t.Errorf("As a struct = %+v, %v, want %+v", got, err, want)
	}
	if got, err := bearer.As[*own](c); err != nil || *got != want {
		t.Errorf("As a pointer = %+v, %v, want %+v", got, err, want)
	}
	if got, err := bearer.As[any](c); err != nil || len(got.(map[string]any)) != 4 {
		t.Errorf("As an interface = %v, %v, want a map of four claims", got, err)
	}
	if got, err := bearer.As[json.RawMessage](c); err != nil || strings.Contains(string(got), "evil") {
		t.Errorf("As raw JSON = %s, %v", got, err)
	}
}

// An error is kept too, with nothing of what was decoded before it.
func TestAsErrors(t *testing.T) {
	iss, auth := newAuth(t)
	token := iss.Token(audience, bearertest.Claims{"tenant": "acme"})
	warm(t, auth, token)
	type wrong struct {
		Client string `json:"client_id"`
		Tenant int    `json:"tenant"`
	}
	got, err := bearer.As[wrong](verified(t, auth, token))
	if err == nil || got != (wrong{}) {
		t.Errorf("As with a field of another type = %+v, %v, want an error alone", got, err)
	}
	if _, again := bearer.As[wrong](verified(t, auth, token)); again != err {
		t.Errorf("the next request gets another error: %v, not %v", again, err)
	}
	for name, c := range map[string]*bearer.Claims{"nil": nil, "made up": {Subject: "alice"}} {
		if got, err := bearer.As[map[string]any](c); err == nil || got != nil {
			t.Errorf("%s claims: As = %v, %v, want an error", name, got, err)
		}
	}
}

// Up to eight types are kept for a token, so that its memory is bounded.
func TestAsIsBounded(t *testing.T) {
	iss, auth := newAuth(t)
	token := iss.Token(audience, bearertest.Claims{"tenant": "acme"})
	warm(t, auth, token)
	all := []func(*bearer.Claims) bool{
		decode[int], decode[int8], decode[int16], decode[int32], decode[int64],
		decode[uint], decode[uint8], decode[uint16], decode[uint32], decode[uint64],
	}
	for round := range 3 {
		for i, decode := range all {
			if got, want := decode(verified(t, auth, token)), round == 0 || i >= 8; got != want {
				t.Errorf("round %d, type %d: decoded = %v, want %v", round, i, got, want)
			}
		}
	}
}

// decode reports whether a token had to be decoded to be had as a counting[X].
func decode[X any](c *bearer.Claims) bool {
	before := count[X]().Load()
	bearer.As[counting[X]](c)
	return count[X]().Load() > before
}

// Many at once get one value, whoever decoded it.
func TestAsByMany(t *testing.T) {
	iss, auth := newAuth(t)
	type a struct{ Subject string }
	type b struct{ Subject string }
	for range 20 {
		token := iss.Token(audience, nil)
		warm(t, auth, token)
		var (
			wg    sync.WaitGroup
			start = make(chan struct{})
			as    [16]*a
			bs    [16]*b
		)
		for i := range as {
			c := verified(t, auth, token)
			wg.Go(func() {
				<-start
				as[i], _ = bearer.As[*a](c)
				bs[i], _ = bearer.As[*b](c)
			})
		}
		close(start)
		wg.Wait()
		for i := range as {
			if as[i] == nil || as[i] != as[0] || bs[i] == nil || bs[i] != bs[0] {
				t.Fatalf("goroutine %d: got %p and %p, the first one %p and %p", i, as[i], bs[i], as[0], bs[0])
			}
		}
	}
}

// What a handler, a check or Observe does to its claims, however odd, makes
// nothing panic that comes after.
func TestEmptiedClaims(t *testing.T) {
	iss, auth := newAuth(t, func(c *bearer.Config) {
		c.Observe = func(_ context.Context, o bearer.Outcome) { *o.Claims = bearer.Claims{} }
	})
	token := iss.Token(audience, nil)
	empties := func(_ *http.Request, c *bearer.Claims) error { *c = bearer.Claims{}; return nil }
	checkReply(t, serve(auth.Require(empties)(ok), "Bearer "+token), 200, "")
	if c, err := auth.Verify(t.Context(), token); err != nil || c.Subject != "user" {
		t.Errorf("Verify: got %+v, %v, want the token's claims", c, err)
	}
	inner := auth.RequireScope("read")(ok)
	h := auth.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, _ := bearer.FromContext(r.Context())
		*c = bearer.Claims{}
		inner.ServeHTTP(w, r)
	}))
	checkReply(t, serve(h, "Bearer "+token), 403, `Bearer error="insufficient_scope", scope="read"`)
}
