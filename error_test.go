package bearer_test

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
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
		{"unavailable for ever", "", &bearer.Error{Status: 503, RetryAfter: math.MaxInt64}, 503, "", "9223372037", `{"error":"temporarily_unavailable"}`},
		{"a login of less than a second ago", "", &bearer.Error{Status: 401, Code: "insufficient_user_authentication", MaxAge: 1}, 401, `Bearer error="insufficient_user_authentication", max_age="1"`, "", `{"error":"insufficient_user_authentication"}`},
		{"a login at no time", "", &bearer.Error{Status: 401, Code: "insufficient_user_authentication", MaxAge: -time.Second, RetryAfter: -1}, 401, `Bearer error="insufficient_user_authentication"`, "", `{"error":"insufficient_user_authentication"}`},
		{"cause", "", &bearer.Error{Status: 401, Code: "invalid_token", Err: errors.New("private")}, 401, `Bearer error="invalid_token"`, "", `{"error":"invalid_token"}`},
		{"wrapped", "", fmt.Errorf("private: %w", &bearer.Error{Status: 400, Code: "invalid_request"}), 400, `Bearer error="invalid_request"`, "", `{"error":"invalid_request"}`},
		{"control characters", "", &bearer.Error{Status: 403, Code: "insufficient_scope", Scope: "a\r\nX: b\x00\x7f"}, 403, `Bearer error="insufficient_scope", scope="aX: b"`, "", `{"error":"insufficient_scope"}`},
		{"another status", "", &bearer.Error{Status: 451, Description: "d"}, 451, "", "", `{"error_description":"d"}`},
		{"a status that does not refuse", "", &bearer.Error{Status: 200, Description: "d"}, 403, "", "", `{"error_description":"d"}`},
		{"a status that does not refuse, with a reason", "", &bearer.Error{Status: 200, Reason: "closed", Description: "d"}, 403, "", "", `{"error_description":"d"}`},
		{"backslashes and quotes", "", &bearer.Error{Status: 404, Description: `C:\a "b"`}, 404, "", "", `{"error_description":"C:\\a \"b\""}`},
		{"a backslash alone", "", &bearer.Error{Status: 404, Description: `C:\a`}, 404, "", "", `{"error_description":"C:\\a"}`},
		{"a line break", "", &bearer.Error{Status: 404, Description: "a\nb"}, 404, "", "", `{"error_description":"a\nb"}`},
		{"no UTF-8", "", &bearer.Error{Status: 404, Description: "\xff"}, 404, "", "", `{"error_description":"\ufffd"}`},
		{"no texts at all", "", &bearer.Error{Status: 404}, 404, "", "", `{}`},
		{"another error", "", io.ErrUnexpectedEOF, 500, "", "", `{"error_description":"internal error"}`},
		{"nil", "", nil, 500, "", "", `{"error_description":"internal error"}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, auth := newAuth(t, func(c *bearer.Config) { c.Realm = tt.realm })
			w := httptest.NewRecorder()
			w.Header().Set("Content-Length", "7") // left by a handler that gave up
			auth.WriteError(w, httptest.NewRequest("GET", "/", nil), tt.err)
			h := w.Header()
			got := fmt.Sprintf("%d %q %q %q %q %s", w.Code, h.Get("WWW-Authenticate"), h.Get("Retry-After"),
				h.Get("Cache-Control"), h.Get("Content-Type")+h.Get("Content-Length"), strings.TrimSpace(w.Body.String()))
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
	auth.WriteError(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil), io.ErrUnexpectedEOF)
	if got.Status != 500 || got.Reason != "internal" || !errors.Is(got, io.ErrUnexpectedEOF) {
		t.Errorf("for an error that is no refusal the handler got %+v", got)
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
		{"unknown key", "Bearer " + iss.Sign(`{"alg":"ES256","kid":"other"}`, payload(iss, "")), []string{"reason=unknown_key", "got=other"}},
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
		{&bearer.Error{Status: 403, Err: io.EOF}, "bearer: Forbidden: EOF"},
		{&bearer.Error{Status: 401, Reason: "own", Err: errors.Unwrap(expired)}, "bearer: Unauthorized: own: expired: exp is "},
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

// Every refusal leaves a record of which request it was and why, without its query.
func TestRefusalRecords(t *testing.T) {
	var log syncBuffer
	iss, auth := newAuth(t, func(c *bearer.Config) { c.Logger = debugLogger(&log) })
	good, bad := "Bearer "+iss.Token(audience, nil), "Bearer "+iss.Token("other", nil)
	refusing := func(err error) http.Handler {
		return auth.Require(func(*http.Request, *bearer.Claims) error { return err })(ok)
	}
	authenticates := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { auth.Authenticate(r) })
	const where = "method=PUT path=/api/a"
	for _, tt := range []struct {
		name   string
		h      http.Handler
		header string
		want   []string
	}{
		{"no token", auth.Handler(ok), "", []string{where, "reason=no_credentials"}},
		{"bad token", auth.Handler(ok), bad, []string{where, "reason=audience"}},
		{"bad token, Optional", auth.Optional(ok), bad, []string{where, "reason=audience"}},
		{"Authenticate", authenticates, bad, []string{where, "reason=audience"}},
		{"scope", auth.RequireScope("x")(ok), good, []string{where, "reason=insufficient_scope"}},
		{"scope inside of Handler", auth.Handler(auth.RequireScope("x")(ok)), good, []string{where, "reason=insufficient_scope"}},
		{"any scope", auth.RequireAnyScope("x", "y")(ok), good, []string{where, `want="x or y"`}},
		{"check", refusing(errors.New("not the owner")), good, []string{where, "reason=denied", `detail="not the owner"`}},
		{"check inside of Handler", auth.Handler(refusing(errors.New("not the owner"))), good, []string{where, "reason=denied"}},
		{"check with an Error", refusing(&bearer.Error{Status: 403, Err: errors.New("not the owner")}), good, []string{where, "reason=denied", `cause="not the owner"`}},
		{"check with an Error and its reason", refusing(&bearer.Error{Status: 404, Reason: "hidden"}), good, []string{where, "reason=hidden", "status=404"}},
		{"check with a nil Error", refusing((*bearer.Error)(nil)), good, []string{where, "reason=internal", "status=500", "nil *Error"}},
		{"check that talks", refusing(errors.New(strings.Repeat("x", 1e5))), good, []string{where, "reason=denied"}},
		{"check that talks in an Error", refusing(&bearer.Error{Status: 403, Err: errors.New(strings.Repeat("x", 1e5))}), good, []string{where, "reason=denied"}},
	} {
		for _, path := range []string{"", "/" + strings.Repeat("x", 1e5)} {
			log.Reset()
			r := httptest.NewRequest("PUT", "/api/a"+path+"?code=secret", nil)
			if tt.header != "" {
				r.Header.Set("Authorization", tt.header)
			}
			tt.h.ServeHTTP(httptest.NewRecorder(), r)
			record := log.String()
			if i := strings.Index(record, "level=DEBUG"); i >= 0 {
				record = record[i:] // the keys were fetched before
			}
			if strings.Count(record, "bearer: request refused") != 1 || strings.Contains(record, "secret") || len(record) > 1500 {
				t.Errorf("%s: got %.2000s, want one short record without the query", tt.name, record)
			}
			for _, want := range tt.want {
				if !strings.Contains(record, want) {
					t.Errorf("%s: want %s in %.2000s", tt.name, want, record)
				}
			}
		}
	}

	// A request that was made by hand may have no URL.
	log.Reset()
	auth.Authenticate(&http.Request{Method: "GET\n", Header: http.Header{"Authorization": {bad}}})
	if s := log.String(); !strings.Contains(s, "method=\"GET\ufffd\"") || strings.Contains(s, "path=") {
		t.Errorf("got %s", s)
	}
	log.Reset()
	serve(auth.Handler(ok), "Bearer "+iss.Token(audience, bearertest.Claims{"nonce": "n"}))
	if s := log.String(); !strings.Contains(s, "ID token") || !strings.Contains(s, "method=GET path=/api/messages") {
		t.Errorf("got %s", s)
	}
}

// compress is middleware as there are many: it sets the encoding first, and then
// compresses whatever is written.
func compress(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		defer z.Close()
		next.ServeHTTP(compressed{w, z}, r)
	})
}

type compressed struct {
	http.ResponseWriter
	z *gzip.Writer
}

func (c compressed) Write(b []byte) (int, error) { return c.z.Write(b) }

func TestCompressedRefusal(t *testing.T) {
	_, auth := newAuth(t)
	_, own := newAuth(t, func(c *bearer.Config) {
		c.ErrorHandler = func(w http.ResponseWriter, r *http.Request, e *bearer.Error) {
			w.WriteHeader(e.Status)
			fmt.Fprint(w, `{"error_description":"a bearer token is required"}`)
		}
	})
	for name, h := range map[string]http.Handler{"default": auth.Handler(ok), "ErrorHandler": own.Handler(ok)} {
		server := httptest.NewServer(compress(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "7") // of what was to be written
			h.ServeHTTP(w, r)
		})))
		resp, err := http.Get(server.URL) // undoes the compression
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		server.Close()
		if want := `{"error_description":"a bearer token is required"}`; err != nil || resp.StatusCode != 401 || strings.TrimSpace(string(body)) != want {
			t.Errorf("%s: got %d %q, %v, want 401 %s", name, resp.StatusCode, body, err, want)
		}
	}
}

// An ErrorHandler that calls WriteError, of whichever Middleware, ends.
func TestErrorHandlerCallsBack(t *testing.T) {
	var a, b *bearer.Middleware
	type handler = func(http.ResponseWriter, *http.Request, *bearer.Error)
	for _, tt := range []struct {
		name      string
		handle    handler
		challenge []string
		reply     string // but for the challenge
	}{
		{"with what it got", func(w http.ResponseWriter, r *http.Request, e *bearer.Error) { a.WriteError(w, r, e) },
			[]string{`Basic realm="x"`, `Bearer realm="a", error="invalid_token"`}, `401 "" {"error":"invalid_token","error_description":"the token is malformed"}`},
		{"with another Error", func(w http.ResponseWriter, r *http.Request, e *bearer.Error) {
			a.WriteError(w, r, &bearer.Error{Status: 503, RetryAfter: time.Second, Description: "closed"})
		}, []string{`Basic realm="x"`}, `503 "1" {"error":"temporarily_unavailable","error_description":"closed"}`},
		{"with another Error, after one that asked to wait", func(w http.ResponseWriter, r *http.Request, e *bearer.Error) {
			w.Header().Set("Retry-After", "7")
			a.WriteError(w, r, &bearer.Error{Status: 404})
		}, []string{`Basic realm="x"`}, `404 "" {}`},
		{"with another error", func(w http.ResponseWriter, r *http.Request, e *bearer.Error) { a.WriteError(w, r, io.EOF) },
			[]string{`Basic realm="x"`}, `500 "" {"error_description":"internal error"}`},
		{"of another Middleware, which does too", func(w http.ResponseWriter, r *http.Request, e *bearer.Error) { b.WriteError(w, r, e) },
			[]string{`Basic realm="x"`, `Bearer realm="b", error="invalid_token"`}, `401 "" {"error":"invalid_token","error_description":"the token is malformed"}`},
		{"by way of Handler", func(w http.ResponseWriter, r *http.Request, e *bearer.Error) { a.Handler(ok).ServeHTTP(w, r) },
			[]string{`Basic realm="x"`, `Bearer realm="a", error="invalid_token"`}, `401 "" {"error":"invalid_token","error_description":"the token is malformed"}`},
		{"with a challenge of its own", func(w http.ResponseWriter, r *http.Request, e *bearer.Error) {
			w.Header().Add("WWW-Authenticate", "Own")
			a.WriteError(w, r, e)
		}, []string{`Basic realm="x"`, "Own", `Bearer realm="a", error="invalid_token"`}, `401 "" {"error":"invalid_token","error_description":"the token is malformed"}`},
		{"with a context of its own", func(w http.ResponseWriter, r *http.Request, e *bearer.Error) {
			a.WriteError(w, r.WithContext(context.WithValue(r.Context(), struct{ own int }{}, 1)), e)
		}, []string{`Basic realm="x"`, `Bearer realm="a", error="invalid_token"`}, `401 "" {"error":"invalid_token","error_description":"the token is malformed"}`},
		{"DefaultErrorHandler", func(w http.ResponseWriter, r *http.Request, e *bearer.Error) { bearer.DefaultErrorHandler(w, r, e) },
			[]string{`Basic realm="x"`, `Bearer realm="a", error="invalid_token"`}, `401 "" {"error":"invalid_token","error_description":"the token is malformed"}`},
	} {
		_, a = newAuth(t, func(c *bearer.Config) { c.Realm, c.ErrorHandler = "a", tt.handle })
		_, b = newAuth(t, func(c *bearer.Config) { c.Realm, c.ErrorHandler = "b", tt.handle })
		for name, h := range map[string]http.Handler{
			"Handler":    a.Handler(ok),
			"WriteError": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, err := a.Authenticate(r); a.WriteError(w, r, err) }),
		} {
			r := httptest.NewRequest("GET", "/", nil)
			r.Header.Set("Authorization", "Bearer x.y.z")
			w := httptest.NewRecorder()
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`) // from outside
			h.ServeHTTP(w, r)
			got := fmt.Sprintf("%d %q %s", w.Code, w.Header().Get("Retry-After"), strings.TrimSpace(w.Body.String()))
			if challenge := w.Header()["Www-Authenticate"]; got != tt.reply || !slices.Equal(challenge, tt.challenge) {
				t.Errorf("%s, %s: got %q %s\nwant %q %s", tt.name, name, challenge, got, tt.challenge, tt.reply)
			}
			if w.Header().Get("Cache-Control") != "no-store" || w.Header().Get("Content-Type") != "application/json" {
				t.Errorf("%s, %s: headers %v", tt.name, name, w.Header())
			}
		}
	}
}

func TestDefaultErrorHandler(t *testing.T) {
	shared := &bearer.Error{Status: 200}
	for _, tt := range []struct {
		e    *bearer.Error
		want string
	}{
		{&bearer.Error{Status: 403, Code: "insufficient_scope", Description: `"no"`}, `403 {"error":"insufficient_scope","error_description":"\"no\""}`},
		{&bearer.Error{Status: 404}, `404 {}`},
		{shared, `403 {}`},
		{nil, `500 {"error_description":"internal error"}`},
	} {
		w := httptest.NewRecorder()
		w.Header().Set("Content-Length", "7")
		bearer.DefaultErrorHandler(w, httptest.NewRequest("GET", "/", nil), tt.e)
		if got := fmt.Sprintf("%d %s", w.Code, strings.TrimSpace(w.Body.String())); got != tt.want || w.Header().Get("Content-Length") != "" {
			t.Errorf("%v: got %s %v, want %s", tt.e, got, w.Header(), tt.want)
		}
	}
	if shared.Status != 200 {
		t.Error("the Error was changed")
	}
}

// A careless ResponseWriter, or the middleware that brought it, writes to whatever it
// gets: to the values of headers, and behind the body.
type careless struct {
	*httptest.ResponseRecorder
	mark  byte
	notes [][]byte // bodies with the mark behind them
}

func (c *careless) WriteHeader(status int) {
	for name, values := range c.Header() {
		for i := range values {
			values[i] = name + string(c.mark)
		}
		c.Header()[name] = append(values, "more")
	}
	c.ResponseRecorder.WriteHeader(status)
}

func (c *careless) Write(body []byte) (int, error) {
	c.notes = append(c.notes, behind(body, c.mark))
	return c.ResponseRecorder.Write(body)
}

// behind writes mark behind body, into the same memory if there is room.
func behind(body []byte, mark byte) []byte { return append(body, mark) }

// Whatever is done to a reply or to its Error, the next one is as it should be, and so
// are the other headers of the same one.
func TestRefusalsAreTheirOwn(t *testing.T) {
	iss, auth := newAuth(t, func(c *bearer.Config) { c.Realm = "api" })
	changing := newMiddleware(t, iss, func(c *bearer.Config) {
		c.Realm = "api"
		c.ErrorHandler = func(w http.ResponseWriter, r *http.Request, e *bearer.Error) {
			bearer.DefaultErrorHandler(w, r, e)
			*e = bearer.Error{Status: 418, Code: "c", Reason: "r", Description: "d", Scope: "s", Err: io.EOF}
		}
	})
	for name, authorization := range map[string][]string{
		"no_credentials":     nil,
		"another scheme":     {"Basic YTpi"},
		"no scheme":          {"a.b.c"},
		"invalid_request":    {"Bearer"},
		"malformed":          {"Bearer garbage"},
		"expired":            {"Bearer " + iss.Token(audience, bearertest.Claims{"exp": 1})},
		"insufficient_scope": {"Bearer " + iss.Token(audience, nil)},
	} {
		want := serve(auth.RequireScope("a")(ok), authorization...)
		var notes [][]byte
		for mark := byte('1'); mark <= '2'; mark++ {
			for _, m := range []*bearer.Middleware{auth, changing} {
				w := &careless{httptest.NewRecorder(), mark, nil}
				r := httptest.NewRequest("GET", "/", nil)
				r.Header["Authorization"] = authorization
				m.RequireScope("a")(ok).ServeHTTP(w, r)
				notes = append(notes, w.notes...)
				for _, header := range []string{"Cache-Control", "Www-Authenticate", "Content-Type"} {
					if got, want := w.Header()[header], []string{header + string(mark), "more"}; !slices.Equal(got, want) {
						t.Errorf("%s: %s is %q, want %q", name, header, got, want)
					}
				}
				got := serve(m.RequireScope("a")(ok), authorization...)
				if got.Code != want.Code || got.Body.String() != want.Body.String() || !reflect.DeepEqual(got.Header(), want.Header()) {
					t.Errorf("%s: got %d %v %s, want %d %v %s", name, got.Code, got.Header(), got.Body, want.Code, want.Header(), want.Body)
				}
			}
		}
		for i, note := range notes {
			if want := "1122"[i]; note[len(note)-1] != want {
				t.Errorf("%s: the %dth body is followed by %c, want %c", name, i, note[len(note)-1], want)
			}
		}
	}
}

// An Error of the caller's own may be one for all requests: nothing is written to it.
func TestOwnErrorsStayAsTheyAre(t *testing.T) {
	iss, auth := newAuth(t)
	header := "Bearer " + iss.Token(audience, bearertest.Claims{"scope": "a"})
	for _, before := range []bearer.Error{
		{},
		{Status: 200, Description: "d"},
		{Status: 401, Code: "invalid_token"},
		{Status: 403, Code: "insufficient_scope", Reason: "own"},
		{Status: 404},
		{Status: 503},
	} {
		e := before
		check := auth.Require(func(*http.Request, *bearer.Claims) error { return &e })
		wrapped := auth.Require(func(*http.Request, *bearer.Claims) error { return fmt.Errorf("own: %w", &e) })
		for name, h := range map[string]http.Handler{
			"Require":            check(ok),
			"Require, wrapped":   wrapped(ok),
			"inside of Handler":  auth.Handler(check(ok)),
			"inside of a scope":  auth.RequireScope("a")(check(ok)),
			"outside of a scope": check(auth.RequireScope("a")(ok)),
			"WriteError":         http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { auth.WriteError(w, r, &e) }),
			"DefaultErrorHandler": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				bearer.DefaultErrorHandler(w, r, &e)
			}),
		} {
			if w := serve(h, header); w.Code < 400 || e != before {
				t.Errorf("%s: the reply to %+v is %d, and the Error %+v", name, before, w.Code, e)
			}
			e = before
		}
	}
}

// Challenges that others have set may be those of all their replies: nothing is written
// behind them.
func TestChallengesOfOthers(t *testing.T) {
	_, auth := newAuth(t)
	theirs := []string{"Basic", ""}
	w := serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Www-Authenticate"] = theirs[:1]
		auth.Handler(ok).ServeHTTP(w, r)
	}))
	if got := w.Header().Values("WWW-Authenticate"); !slices.Equal(got, []string{"Basic", "Bearer"}) || theirs[1] != "" {
		t.Errorf("the challenges are %q, and behind those of others stands %q", got, theirs[1])
	}
}
