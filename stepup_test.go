package bearer_test

import (
	"fmt"
	"math"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/bearer"
	"example.com/bearer/bearertest"
)

// What each login gets (RFC 9470), with a leeway of a minute.
func TestRequireAuthentication(t *testing.T) {
	const insufficient = `Bearer error="insufficient_user_authentication", `
	levels := bearer.Authentication{ACR: []string{"gold", "silver"}}
	recent := bearer.Authentication{MaxAge: 5 * time.Minute}
	both := bearer.Authentication{ACR: []string{"gold", "silver"}, MaxAge: 5 * time.Minute}
	scoped := bearer.Authentication{ACR: []string{"gold"}, Scope: []string{"a", "b"}}
	const (
		wantLevel  = insufficient + `acr_values="gold silver"`
		wantRecent = insufficient + `max_age="300"`
		wantBoth   = insufficient + `acr_values="gold silver", max_age="300"`
		wantScoped = insufficient + `scope="a b", acr_values="gold"`
	)
	now := time.Now().Unix()
	type claims = bearertest.Claims
	for _, tt := range []struct {
		name      string
		need      bearer.Authentication
		claims    claims // nil: no token
		status    int
		challenge string
	}{
		{"A1", both, nil, 401, `Bearer`},
		{"A1 with scopes", scoped, nil, 401, `Bearer scope="a b"`},
		{"A2", both, claims{"exp": now - 3600, "acr": "bronze"}, 401, `Bearer error="invalid_token"`},
		{"A3", levels, claims{"acr": "gold"}, 200, ""},
		{"A3 the second one", levels, claims{"acr": "silver"}, 200, ""},
		{"A3 whatever the time", levels, claims{"acr": "gold", "auth_time": 1}, 200, ""},
		{"A4 another", levels, claims{"acr": "bronze"}, 401, wantLevel},
		{"A4 none", levels, claims{}, 401, wantLevel},
		{"A4 empty", levels, claims{"acr": ""}, 401, wantLevel},
		{"A4 a number", levels, claims{"acr": 1}, 401, wantLevel},
		{"A4 an array", levels, claims{"acr": []string{"gold"}}, 401, wantLevel},
		{"A4 the whole list", levels, claims{"acr": "gold silver"}, 401, wantLevel},
		{"A5", recent, claims{"auth_time": now - 290}, 200, ""},
		{"A5 within the leeway", recent, claims{"auth_time": now - 350}, 200, ""},
		{"A5 a fraction", recent, claims{"auth_time": float64(now) - 10.5}, 200, ""},
		{"A5 whatever the level", recent, claims{"auth_time": now, "acr": "bronze"}, 200, ""},
		{"A5 for ever", bearer.Authentication{MaxAge: math.MaxInt64 / time.Second * time.Second}, claims{"auth_time": 1}, 200, ""},
		{"A6 older", recent, claims{"auth_time": now - 370}, 401, wantRecent},
		{"A6 none", recent, claims{}, 401, wantRecent},
		{"A6 a string", recent, claims{"auth_time": fmt.Sprint(now)}, 401, wantRecent},
		{"A6 negative", recent, claims{"auth_time": -1}, 401, wantRecent},
		{"A6 an object", recent, claims{"auth_time": claims{}}, 401, wantRecent},
		{"A6 milliseconds", recent, claims{"auth_time": now * 1000}, 401, wantRecent},
		{"A6 1970", recent, claims{"auth_time": 0}, 401, wantRecent},
		{"A7 within the leeway", recent, claims{"auth_time": now + 50}, 200, ""},
		{"A7", recent, claims{"auth_time": now + 70}, 401, wantRecent},
		{"A8 both", both, claims{"acr": "silver", "auth_time": now}, 200, ""},
		{"A8 level missed", both, claims{"acr": "bronze", "auth_time": now}, 401, wantBoth},
		{"A8 time missed", both, claims{"acr": "gold", "auth_time": now - 3600}, 401, wantBoth},
		{"A8 neither", both, claims{}, 401, wantBoth},
		{"A9", scoped, claims{"acr": "bronze"}, 401, wantScoped},
		{"A9 the scopes are there", scoped, claims{"scope": "a b"}, 401, wantScoped},
		{"A10", scoped, claims{"acr": "gold", "scope": "a"}, 403, `Bearer error="insufficient_scope", scope="a b"`},
		{"A10 all there", scoped, claims{"acr": "gold", "scope": "b a"}, 200, ""},
		{"A14 letter case", levels, claims{"acr": "Gold"}, 401, wantLevel},
		{"A14 a longer name", levels, claims{"acr": "golden"}, 401, wantLevel},
		{"A15", both, claims{"sub": "client"}, 401, wantBoth},
	} {
		t.Run(tt.name, func(t *testing.T) {
			iss, auth := newAuth(t)
			var header []string
			if tt.claims != nil {
				header = []string{"Bearer " + iss.Token(audience, tt.claims)}
			}
			h := auth.RequireAuthentication(tt.need)(ok)
			for range 3 { // A12: from the cache too
				checkReply(t, serve(h, header...), tt.status, tt.challenge)
			}
			// Behind a wrapper that has authenticated it is the same.
			if tt.claims != nil {
				checkReply(t, serve(auth.Handler(h), header...), tt.status, tt.challenge)
			}
		})
	}
}

// A number that is beyond what a time can be is no time, and no fault of the token.
func TestAuthTimeOutOfRange(t *testing.T) {
	iss, auth := newAuth(t)
	for _, text := range []string{"1e400", "253402300800", "99999999999999999999", "null", "true"} {
		c, err := auth.Verify(t.Context(), iss.Sign("", payload(iss, `,"auth_time":`+text)))
		if err != nil || !c.AuthTime.IsZero() {
			t.Errorf("auth_time %s: got %v, %v, want the zero time", text, c, err)
		}
	}
	c, err := auth.Verify(t.Context(), iss.Sign("", payload(iss, `,"auth_time":1.5,"acr":"gold"`)))
	if err != nil || !c.AuthTime.Equal(time.UnixMilli(1500)) || c.ACR != "gold" {
		t.Errorf("got %+v, %v", c, err)
	}
}

// A5, A12: the login ages while its token is valid, to the second, with the leeway of
// the issuer whose token it is.
func TestAuthenticationAges(t *testing.T) {
	for _, tt := range []struct {
		leeway time.Duration
		last   time.Duration // after the login, at which it is still good
	}{
		{0, 6 * time.Minute},
		{-1, 5 * time.Minute},
		{2 * time.Minute, 7 * time.Minute},
	} {
		synctest.Test(t, func(t *testing.T) {
			iss := bearertest.NewIssuer("https://login.example.com/")
			auth := newMiddleware(t, iss, func(c *bearer.Config) { c.Leeway = tt.leeway })
			other := newMiddleware(t, bearertest.NewIssuer("https://partners.example.com/"), func(c *bearer.Config) { c.Leeway = 10 * time.Minute })
			header := "Bearer " + iss.Token(audience, bearertest.Claims{"auth_time": time.Now().Unix()})
			h := other.Or(auth).RequireAuthentication(bearer.Authentication{MaxAge: 5 * time.Minute})(ok)
			for _, s := range []struct {
				wait time.Duration
				want int
			}{{0, 200}, {0, 200}, {tt.last, 200}, {time.Second, 401}, {time.Minute, 401}} {
				time.Sleep(s.wait)
				if w := serve(h, header); w.Code != s.want {
					t.Errorf("leeway %v, after %v more: got %d, want %d", tt.leeway, s.wait, w.Code, s.want)
				}
			}
		})
	}
}

// What the handlers do to their copy of the claims is no login, and what becomes of
// the demands' slices afterwards changes nothing.
func TestAuthenticationIsTheTokens(t *testing.T) {
	iss, auth := newAuth(t)
	demands := []string{"gold"}
	h := auth.Require(func(_ *http.Request, c *bearer.Claims) error {
		c.ACR = "gold"
		return nil
	})(auth.RequireAuthentication(bearer.Authentication{ACR: demands})(ok))
	demands[0] = "bronze"
	if w := serve(h, "Bearer "+iss.Token(audience, bearertest.Claims{"acr": "bronze"})); w.Code != 401 {
		t.Errorf("got %d, want 401", w.Code)
	}
}

// What is told of a login that does not suffice, and not to the client.
func TestAuthenticationError(t *testing.T) {
	now := time.Now()
	at := func(t time.Time) string { return t.UTC().Format(time.RFC3339) }
	for _, tt := range []struct {
		claims bearertest.Claims
		want   string
	}{
		{nil, `insufficient_login: acr is "missing", want gold or silver`},
		{bearertest.Claims{"acr": "bronze"}, `insufficient_login: acr is "bronze", want gold or silver`},
		{bearertest.Claims{"acr": "gold"}, `insufficient_login: auth_time is "missing", want at most 5m0s ago`},
		{bearertest.Claims{"acr": "gold", "auth_time": now.Add(-time.Hour).Unix()}, `insufficient_login: auth_time is "` + at(now.Add(-time.Hour)) + `", want at most 5m0s ago`},
		{bearertest.Claims{"acr": "gold", "auth_time": now.Add(time.Hour).Unix()}, `insufficient_login: auth_time is "` + at(now.Add(time.Hour)) + `", want at most 5m0s ago`},
	} {
		var got *bearer.Error
		iss, auth := newAuth(t, func(c *bearer.Config) {
			c.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, e *bearer.Error) { got = e; w.WriteHeader(e.Status) }
		})
		need := bearer.Authentication{ACR: []string{"gold", "silver"}, MaxAge: 5 * time.Minute}
		serve(auth.RequireAuthentication(need)(ok), "Bearer "+iss.Token(audience, tt.claims))
		if got == nil || got.Err.Error() != tt.want {
			t.Errorf("%v: got %v, want %s", tt.claims, got, tt.want)
		}
		if got.Code != "insufficient_user_authentication" || got.Reason != "insufficient_login" || got.ACRValues != "gold silver" || got.MaxAge != 5*time.Minute {
			t.Errorf("%v: got %+v", tt.claims, got)
		}
	}
}

// A11 and other demands that nobody could meet, or anybody.
func TestRequireAuthenticationPanics(t *testing.T) {
	_, auth := newAuth(t)
	for _, tt := range []struct {
		a    bearer.Authentication
		want string
	}{
		{bearer.Authentication{}, "needs ACR or MaxAge"},
		{bearer.Authentication{ACR: []string{}, Scope: []string{"a"}}, "needs ACR or MaxAge"},
		{bearer.Authentication{MaxAge: -time.Second}, "-1s"},
		{bearer.Authentication{MaxAge: time.Millisecond}, "1ms"},
		{bearer.Authentication{MaxAge: 1500 * time.Millisecond}, "1.5s"},
		{bearer.Authentication{ACR: []string{"gold", ""}}, `""`},
		{bearer.Authentication{ACR: []string{"gold silver"}}, `"gold silver"`},
		{bearer.Authentication{ACR: []string{`g"`}}, `"g\""`},
		{bearer.Authentication{ACR: []string{"gold"}, Scope: []string{"a b"}}, `"a b"`},
		{bearer.Authentication{ACR: []string{"gold"}, Scope: []string{""}}, `""`},
	} {
		func() {
			defer func() {
				if text, ok := recover().(string); !ok || !strings.HasPrefix(text, "bearer: Require") || !strings.Contains(text, tt.want) {
					t.Errorf("%+v: got panic %q, want one with %s", tt.a, text, tt.want)
				}
			}()
			auth.RequireAuthentication(tt.a)
		}()
	}
}
