package bearer_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"example.com/bearer"
	"example.com/bearer/bearertest"
)

func TestWriteError(t *testing.T) {
	tests := []struct {
		name       string
		realm      string
		err        error
		status     int
		challenge  string
		retryAfter string
		body       string
	}{
		{"no credentials", "", &bearer.Error{Status: 401, Description: "d"}, 401, `Bearer`, "", `{"error_description":"d"}`},
		{"realm", `the "A\B" API`, &bearer.Error{Status: 401, Description: "d"}, 401, `Bearer realm="the \"A\\B\" API"`, "", `{"error_description":"d"}`},
		{"invalid token", "api", &bearer.Error{Status: 401, Code: "invalid_token", Description: "d"}, 401, `Bearer realm="api", error="invalid_token"`, "", `{"error":"invalid_token","error_description":"d"}`},
		{"scope", "", &bearer.Error{Status: 403, Code: "insufficient_scope", Scope: "a b", Description: "d"}, 403, `Bearer error="insufficient_scope", scope="a b"`, "", `{"error":"insufficient_scope","error_description":"d"}`},
		{"unavailable", "api", &bearer.Error{Status: 503, RetryAfter: 1500 * time.Millisecond, Description: "d"}, 503, "", "2", `{"error":"temporarily_unavailable","error_description":"d"}`},
		{"cause", "", &bearer.Error{Status: 401, Code: "invalid_token", Err: errors.New("private")}, 401, `Bearer error="invalid_token"`, "", `{"error":"invalid_token"}`},
		{"wrapped", "", fmt.Errorf("private: %w", &bearer.Error{Status: 400, Code: "invalid_request"}), 400, `Bearer error="invalid_request"`, "", `{"error":"invalid_request"}`},
		{"control characters", "", &bearer.Error{Status: 403, Code: "insufficient_scope", Scope: "a\r\nX: b\x00\x7f"}, 403, `Bearer error="insufficient_scope", scope="aX: b"`, "", `{"error":"insufficient_scope"}`},
		{"another status", "", &bearer.Error{Status: 451, Description: "d"}, 451, "", "", `{"error_description":"d"}`},
		{"a status that does not refuse", "", &bearer.Error{Status: 200, Description: "d"}, 403, "", "", `{"error_description":"d"}`},
		{"another error", "", io.ErrUnexpectedEOF, 500, "", "", `{"error_description":"internal error"}`},
		{"nil", "", nil, 500, "", "", `{"error_description":"internal error"}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, auth := newAuth(t, func(c *bearer.Config) { c.Realm = tt.realm })
			w := httptest.NewRecorder()
			w.Header().Set("Content-Encoding", "gzip") // left by a handler that gave up
			auth.WriteError(w, httptest.NewRequest("GET", "/", nil), tt.err)
			h := w.Header()
			got := fmt.Sprintf("%d %q %q %q %q %s", w.Code, h.Get("WWW-Authenticate"), h.Get("Retry-After"),
				h.Get("Cache-Control"), h.Get("Content-Type")+h.Get("Content-Encoding"), strings.TrimSpace(w.Body.String()))
			want := fmt.Sprintf("%d %q %q %q %q %s", tt.status, tt.challenge, tt.retryAfter, "no-store", "application/json", tt.body)
			if got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}

func TestErrorHandler(t *testing.T) {
	var got *bearer.Error
	_, auth := newAuth(t, func(c *bearer.Config) {
		c.Realm = "api"
		c.ErrorHandler = func(w http.ResponseWriter, r *http.Request, e *bearer.Error) {
			got = e
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(e.Status)
			fmt.Fprintf(w, `{"title":%q,"instance":%q}`, e.Description, r.URL.Path)
		}
	})
	w := serve(auth.Handler(ok), "Bearer x.y.z")
	h := w.Header()
	if w.Code != 401 || h.Get("WWW-Authenticate") != `Bearer realm="api", error="invalid_token"` ||
		h.Get("Cache-Control") != "no-store" || h.Get("Content-Type") != "application/problem+json" {
		t.Errorf("got %d %v", w.Code, h)
	}
	if want := `{"title":"the token is malformed","instance":"/api/messages"}`; w.Body.String() != want {
		t.Errorf("body = %s, want %s", w.Body, want)
	}
	if got.Code != "invalid_token" || !errors.Is(got, jwt.ErrTokenMalformed) {
		t.Errorf("the handler got %v", got)
	}
}

// A status that does not refuse never reaches the handler either.
func TestErrorHandlerStatus(t *testing.T) {
	iss, auth := newAuth(t, func(c *bearer.Config) {
		c.ErrorHandler = func(w http.ResponseWriter, r *http.Request, e *bearer.Error) { w.WriteHeader(e.Status) }
	})
	for _, status := range []int{0, 200, 302, 600, -1} {
		h := auth.Require(func(*http.Request, *bearer.Claims) error { return &bearer.Error{Status: status} })(ok)
		if w := serve(h, "Bearer "+iss.Token(audience, nil)); w.Code != 403 {
			t.Errorf("status %d is answered with %d, want 403", status, w.Code)
		}
	}
}

// One debug record tells why a request was refused, and none holds more of the
// token than it must.
func TestDebugLog(t *testing.T) {
	var log syncBuffer
	iss, auth := newAuth(t, func(c *bearer.Config) {
		c.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		c.Algorithms = []string{"ES256"}
	})
	h := auth.Handler(ok)
	long := strings.Repeat("x", 3000)
	token := func(c bearertest.Claims) string { return "Bearer " + iss.Token(audience, c) }
	at := func(d time.Duration) int64 { return time.Now().Add(d).Unix() }
	serve(h, token(nil)) // fetches the keys
	tests := []struct {
		name   string
		header string
		want   []string // in the record
	}{
		{"no scheme", strings.TrimPrefix(token(nil), "Bearer "), []string{"reason=no_credentials", "without its scheme"}},
		{"another scheme", "Basic YTpi", []string{"reason=no_credentials", "another scheme"}},
		{"malformed header", "Bearer a b", []string{"reason=invalid_request", "status=400"}},
		{"opaque token", "Bearer abc", []string{"reason=malformed", "opaque token"}},
		{"encrypted token", "Bearer a.b.c.d.e", []string{"reason=malformed", "encrypted token"}},
		{"too long", "Bearer " + strings.Repeat("x", 16<<10+1), []string{"reason=too_long", "16385 bytes"}},
		{"alg", "Bearer " + iss.Sign(`{"alg":"`+long+`"}`, `{}`), []string{"reason=algorithm", "claim=alg", "want=ES256", "got=xxx"}},
		{"typ", "Bearer " + iss.Sign(`{"alg":"ES256","typ":"secevent+jwt\n"}`, `{}`), []string{"reason=type", "claim=typ", "secevent+jwt\ufffd", "at+jwt"}},
		{"unknown key", "Bearer " + iss.Sign(`{"alg":"ES256","kid":"other"}`, `{}`), []string{"reason=unknown_key", "got=other"}},
		{"Graph", token(nil)[:len("Bearer ")] + iss.Sign(fmt.Sprintf(`{"alg":"ES256","kid":%q,"nonce":"x"}`, iss.KeyID()), `{}`) + "AAAA", []string{"reason=signature", "Microsoft Graph"}},
		{"issuer", token(bearertest.Claims{"iss": "https://login.example.com"}), []string{"reason=issuer", "claim=iss", "want=https://login.example.com/", "got=https://login.example.com", "slash"}},
		{"long issuer", token(bearertest.Claims{"iss": long}), []string{"reason=issuer", "got=xxx"}},
		{"audience", token(bearertest.Claims{"aud": audience + "/"}), []string{"reason=audience", "want=" + audience, "slash"}},
		{"ID token", token(bearertest.Claims{"aud": "app", "nonce": "n"}), []string{"reason=audience", "an ID token"}},
		{"no audience", token(bearertest.Claims{"aud": nil}), []string{"reason=audience", "Config.AudienceClaim"}},
		{"Keycloak", token(bearertest.Claims{"aud": "account"}), []string{"reason=audience", "audience mapper"}},
		{"Graph's audience", token(bearertest.Claims{"aud": "00000003-0000-0000-c000-000000000000"}), []string{"reason=audience", "Microsoft Graph"}},
		{"no expiry", token(bearertest.Claims{"exp": nil}), []string{"reason=no_expiry"}},
		{"expired", token(bearertest.Claims{"exp": 1000000000}), []string{"reason=expired", "got=2001-09-09T01:46:40Z", "later than"}},
		{"clock", token(bearertest.Claims{"nbf": at(5 * time.Minute)}), []string{"reason=not_yet_valid", "off by"}},
		{"issued in the future", token(bearertest.Claims{"iat": at(5 * time.Minute)}), []string{"reason=issued_in_future", "off by"}},
		{"bound", token(bearertest.Claims{"cnf": 1}), []string{"reason=bound", "claim=cnf"}},
		{"type of a claim", token(bearertest.Claims{"sub": 1}), []string{"reason=claim_type", "claim=sub"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			log.Reset()
			serve(h, tt.header)
			record := log.String()
			if strings.Count(record, "bearer: request refused") != 1 {
				t.Errorf("want one record, got %s", record)
			}
			for _, want := range tt.want {
				if !strings.Contains(record, want) {
					t.Errorf("want %q in %s", want, record)
				}
			}
			if len(record) > 1000 || strings.Contains(record, "eyJ") {
				t.Errorf("the record says too much: %s", record)
			}
		})
	}

	t.Run("missing scope", func(t *testing.T) {
		log.Reset()
		serve(auth.RequireScope("read")(ok), token(bearertest.Claims{"permissions": []string{"read"}}))
		for _, want := range []string{"reason=insufficient_scope", "want=read", "permissions", "Config.ScopeClaims"} {
			if !strings.Contains(log.String(), want) {
				t.Errorf("want %q in %s", want, log.String())
			}
		}
	})
	t.Run("accepted ID token", func(t *testing.T) {
		log.Reset()
		serve(h, token(bearertest.Claims{"at_hash": "x"}))
		if !strings.Contains(log.String(), "ID token") {
			t.Errorf("no hint in %s", log.String())
		}
	})
	t.Run("private cause", func(t *testing.T) {
		log.Reset()
		serve(auth.Require(func(*http.Request, *bearer.Claims) error { return errors.New("not the owner") })(ok), token(nil))
		if !strings.Contains(log.String(), "not the owner") {
			t.Errorf("no cause in %s", log.String())
		}
	})
}

// No request may carry anything into the reply.
func TestNothingIsEchoed(t *testing.T) {
	iss, auth := newAuth(t)
	const canary = "canary"
	h := auth.RequireScope("read")(ok)
	for name, token := range map[string]string{
		"alg":   iss.Sign(`{"alg":"canary"}`, `{}`),
		"typ":   iss.Sign(`{"alg":"ES256","typ":"canary"}`, `{}`),
		"kid":   iss.Sign(`{"alg":"ES256","kid":"canary\""}`, `{}`),
		"iss":   iss.Token(audience, bearertest.Claims{"iss": canary}),
		"aud":   iss.Token(canary, nil),
		"scope": iss.Token(audience, bearertest.Claims{"scope": canary}),
		"text":  canary,
	} {
		w := serve(h, "Bearer "+token)
		if all := fmt.Sprint(w.Header(), w.Body); w.Code < 400 || strings.Contains(all, canary) {
			t.Errorf("%s: %d %s", name, w.Code, all)
		}
	}
}

func TestWriteErrorStatus(t *testing.T) {
	_, auth := newAuth(t)
	for status, want := range map[int]int{0: 403, 204: 403, 302: 403, 399: 403, 400: 400, 599: 599, 600: 403, 1000: 403} {
		w := httptest.NewRecorder()
		w.Header().Set("Content-Length", "5")
		auth.WriteError(w, httptest.NewRequest("GET", "/", nil), &bearer.Error{Status: status, Description: "d"})
		if w.Code != want || w.Header().Get("Content-Length") != "" {
			t.Errorf("status %d: got %d, %v, want %d", status, w.Code, w.Header(), want)
		}
	}
}

// A request that nobody waits for any more leaves no record.
func TestCancelledRequestIsNotLogged(t *testing.T) {
	var log syncBuffer
	iss, auth := newAuth(t, func(c *bearer.Config) { c.Logger = debugLogger(&log) })
	iss.SetDelay(time.Second)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	r := httptest.NewRequest("GET", "/", nil).WithContext(ctx)
	r.Header.Set("Authorization", "Bearer "+iss.Token(audience, nil))
	auth.Handler(ok).ServeHTTP(httptest.NewRecorder(), r)
	if strings.Contains(log.String(), "refused") {
		t.Errorf("logged: %s", log.String())
	}
}

// Every way to be refused leaves one record.
func TestRefusalsAreLogged(t *testing.T) {
	var log syncBuffer
	iss, auth := newAuth(t, func(c *bearer.Config) { c.Logger = debugLogger(&log) })
	header := "Bearer " + iss.Token("other", nil)
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Authorization", header)
	for name, refuse := range map[string]func(){
		"Handler":      func() { serve(auth.Handler(ok), header) },
		"Optional":     func() { serve(auth.Optional(ok), header) },
		"RequireScope": func() { serve(auth.RequireScope("a")(ok), header) },
		"Authenticate": func() { auth.Authenticate(r) },
		"Verify":       func() { auth.Verify(t.Context(), strings.TrimPrefix(header, "Bearer ")) },
	} {
		log.Reset()
		refuse()
		if n := strings.Count(log.String(), "bearer: request refused"); n != 1 {
			t.Errorf("%s: %d records, want 1: %s", name, n, log.String())
		}
	}
	log.Reset()
	serve(auth.Handler(ok), "Bearer "+iss.Token(audience, nil))
	if s := log.String(); strings.Contains(s, "ID token") || strings.Contains(s, "refused") {
		t.Errorf("an accepted access token is logged: %s", s)
	}
}

// What a stranger wrote is clipped, and cannot change how a log record looks.
func TestClippedInLog(t *testing.T) {
	var log syncBuffer
	iss, auth := newAuth(t, func(c *bearer.Config) {
		c.Logger = slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	auth.Verify(t.Context(), iss.Token(audience, bearertest.Claims{"iss": "\u202e\u2028\u200b" + strings.Repeat("x", 3000)}))
	if s := log.String(); strings.ContainsAny(s, "\u202e\u2028\u200b") || strings.Contains(s, strings.Repeat("x", 101)) || !strings.Contains(s, strings.Repeat("x", 80)) {
		t.Errorf("logged %s", s)
	}
}

func debugLogger(w io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// An Error is one line for a log, and says why.
func TestErrorText(t *testing.T) {
	iss, auth := newAuth(t)
	_, expired := auth.Verify(t.Context(), iss.Token(audience, bearertest.Claims{"exp": 1000000000}))
	_, malformed := auth.Verify(t.Context(), "abc")
	for _, tt := range []struct {
		err  error
		want string // the beginning
	}{
		{expired, `bearer: the token has expired: expired: exp is "2001-09-09T01:46:40Z", want later than 2`},
		{malformed, "bearer: the token is malformed: malformed: not three parts with dots between them"},
		{&bearer.Error{Status: 403}, "bearer: Forbidden"},
		{&bearer.Error{}, "bearer: request refused"},
		{&bearer.Error{Status: 402, Reason: "unpaid", Description: "pay first"}, "bearer: pay first: unpaid"},
		{&bearer.Error{Status: 402, Reason: "unpaid", Err: errors.Join(io.EOF, errors.New("a\r\nb"))}, "bearer: Payment Required: unpaid: EOF a  b"},
	} {
		for _, got := range []string{tt.err.Error(), fmt.Sprintf("%v", tt.err), fmt.Sprintf("%+v", tt.err)} {
			if !strings.HasPrefix(got, tt.want) || strings.ContainsAny(got, "\r\n") {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		}
	}
}
