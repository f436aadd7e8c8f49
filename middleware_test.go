package bearer_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/bearer"
	"example.com/bearer/bearertest"
)

const audience = "https://api.example.com"

// TestMain looks through everything that the tests made this package log: no
// token and no part of one may be there.
func TestMain(m *testing.M) {
	code := m.Run()
	if strings.Contains(logs.String(), "eyJ") { // {" in base64url
		fmt.Println("FAIL: the log has (part of) a token")
		code = 1
	}
	os.Exit(code)
}

// logs is what all Middlewares of the tests logged.
var logs syncBuffer

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func (b *syncBuffer) Reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.b.Reset()
}

// newAuth returns an issuer and a Middleware that accepts its tokens for
// audience.
func newAuth(t testing.TB, change ...func(*bearer.Config)) (*bearertest.Issuer, *bearer.Middleware) {
	t.Helper()
	iss := bearertest.NewIssuer("https://login.example.com/")
	return iss, newMiddleware(t, iss, change...)
}

func newMiddleware(t testing.TB, iss *bearertest.Issuer, change ...func(*bearer.Config)) *bearer.Middleware {
	t.Helper()
	cfg := bearer.Config{
		Issuer:   iss.URL,
		Audience: []string{audience},
		Client:   iss.Client(),
		Logger:   slog.New(slog.NewTextHandler(&logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	for _, f := range change {
		f(&cfg)
	}
	auth, err := bearer.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return auth
}

var ok = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	fmt.Fprint(w, "served")
})

// Whatever a function of the caller's says of some other request, one with a token is
// never served as if it had none.
func TestOptionalIsNotForRefusedTokens(t *testing.T) {
	iss, other := newAuth(t)
	client := bearertest.NewClient()
	_, none := other.Authenticate(httptest.NewRequest("GET", "/", nil))
	for name, tt := range map[string]struct {
		change func(*bearer.Config)
		status int
	}{
		"Revoked": {func(c *bearer.Config) {
			c.Revoked = func(context.Context, *bearer.Claims) (bool, error) { return false, none }
		}, 503},
		"Certificate": {func(c *bearer.Config) { c.Certificate = func(*http.Request) ([]byte, error) { return nil, none } }, 401},
		"FetchKeys":   {func(c *bearer.Config) { c.FetchKeys = func(context.Context) ([]byte, error) { return nil, none } }, 503},
		"FindIssuer": {func(c *bearer.Config) {
			c.Issuer = "https://another.example.com"
			c.FindIssuer = func(context.Context, string) (*bearer.Middleware, error) { return nil, none }
		}, 503},
		"DPoP.Replay": {func(c *bearer.Config) { withDPoP(c); c.DPoP.Replay = failingStore{none} }, 503},
	} {
		auth := newMiddleware(t, iss, tt.change)
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Authorization", "Bearer "+iss.Token(audience, certBound(client)))
		if name == "DPoP.Replay" {
			token := iss.Token(audience, keyBound(client))
			r.Header = http.Header{"Authorization": {"DPoP " + token}, "Dpop": {client.Proof("GET", origin+"/", token, nil)}}
		} else if name != "Certificate" {
			r.Header.Set("Authorization", "Bearer "+iss.Token(audience, nil))
		}
		w := httptest.NewRecorder()
		auth.Optional(ok).ServeHTTP(w, r)
		if w.Code != tt.status {
			t.Errorf("%s fails with the Error of a request without a token: status %d, want %d", name, w.Code, tt.status)
		}
	}
}

// A failingStore is a ReplayStore that cannot tell.
type failingStore struct{ err error }

func (s failingStore) Add(context.Context, string, time.Duration) (bool, error) { return false, s.err }

// serve gives h a request with the given Authorization header lines.
func serve(h http.Handler, authorization ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("GET", "/api/messages", nil)
	if authorization != nil {
		r.Header["Authorization"] = authorization
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// checkReply checks all that BEHAVIOUR asks of a reply: an empty challenge
// stands for 200. The code in the body is the challenge's.
func checkReply(t *testing.T, w *httptest.ResponseRecorder, status int, challenge string) {
	t.Helper()
	_, code, _ := strings.Cut(challenge, `error="`)
	code, _, _ = strings.Cut(code, `"`)
	if status == 503 {
		code = "temporarily_unavailable"
	}
	checkReplyCode(t, w, status, challenge, code)
}

// checkReplyCode is checkReply where the body tells another code.
func checkReplyCode(t *testing.T, w *httptest.ResponseRecorder, status int, challenge, code string) {
	t.Helper()
	if w.Code != status {
		t.Errorf("status = %d, want %d; body: %s", w.Code, status, w.Body)
	}
	if got := w.Header().Get("WWW-Authenticate"); got != challenge {
		t.Errorf("WWW-Authenticate = %q, want %q", got, challenge)
	}
	if status < 300 {
		return
	}
	if got := w.Header().Get("Cache-Control"); got != "no-store" {
		t.Errorf("Cache-Control = %q, want no-store", got)
	}
	if got := w.Header().Get("Content-Type"); got != "application/json" {
		t.Errorf("Content-Type = %q, want application/json", got)
	}
	var body map[string]string
	if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
		t.Fatalf("body %q: %v", w.Body, err)
	}
	if body["error"] != code {
		t.Errorf("error in the body = %q, want %q", body["error"], code)
	}
	if _, present := body["error"]; present != (code != "") {
		t.Errorf("error in the body is present: %v, want %v", present, code != "")
	}
	if body["error_description"] == "" {
		t.Errorf("no error_description in %s", w.Body)
	}
	for name := range body {
		if name != "error" && name != "error_description" {
			t.Errorf("member %q in the body", name)
		}
	}
}

const (
	challengeNone    = `Bearer`
	challengeRequest = `Bearer error="invalid_request"`
	challengeToken   = `Bearer error="invalid_token"`
)

// A credentialRow is a row of BEHAVIOUR's first table.
type credentialRow struct {
	name      string
	header    []string // Authorization header lines
	status    int
	challenge string
}

func credentialRows(valid string) []credentialRow {
	return []credentialRow{
		{"no header", nil, 401, challengeNone},
		{"empty header", []string{""}, 401, challengeNone},
		{"spaces only", []string{"  "}, 401, challengeNone},
		{"Basic", []string{"Basic YTpi"}, 401, challengeNone},
		{"Token", []string{"Token " + valid}, 401, challengeNone},
		{"JWT", []string{"JWT " + valid}, 401, challengeNone},
		{"DPoP", []string{"DPoP " + valid}, 401, challengeNone},
		{"no scheme", []string{valid}, 401, challengeNone},
		{"longer scheme", []string{"Bearer2 " + valid}, 401, challengeNone},
		{"scheme with a colon", []string{"Bearer: " + valid}, 401, challengeNone},
		{"no space", []string{"Bearer" + valid}, 401, challengeNone},

		{"Bearer", []string{"Bearer " + valid}, 200, ""},
		{"bearer", []string{"bearer " + valid}, 200, ""},
		{"BEARER", []string{"BEARER " + valid}, 200, ""},
		{"several spaces", []string{"Bearer    " + valid}, 200, ""},
		{"white space around", []string{" \tBearer " + valid + " \t"}, 200, ""},
		{"a space in front", []string{" Bearer " + valid}, 200, ""},
		{"a space behind", []string{"Bearer " + valid + " "}, 200, ""},

		{"scheme only", []string{"Bearer"}, 400, challengeRequest},
		{"scheme and spaces", []string{"Bearer   "}, 400, challengeRequest},
		{"tab between", []string{"Bearer\t" + valid}, 400, challengeRequest},
		{"space and tab between", []string{"Bearer \t" + valid}, 400, challengeRequest},
		{"more after the token", []string{"Bearer " + valid + " x"}, 400, challengeRequest},
		{"parameter after the token", []string{"Bearer " + valid + ", realm=x"}, 400, challengeRequest},
		{"two credentials", []string{"Bearer " + valid + ", Bearer " + valid}, 400, challengeRequest},
		{"comma", []string{"Bearer " + valid + ","}, 400, challengeRequest},
		{"quotes", []string{`Bearer "` + valid + `"`}, 400, challengeRequest},
		{"a token of other characters", []string{"Bearer abc$"}, 400, challengeRequest},
		{"beyond ASCII", []string{"Bearer " + valid + "é"}, 400, challengeRequest},
		{"beyond ASCII in the header part", []string{"Bearer é" + valid}, 400, challengeRequest},
		{"NUL in the payload part", []string{"Bearer " + strings.Replace(valid, ".", ".\x00", 1)}, 400, challengeRequest},
		{"line break in the token", []string{"Bearer " + strings.Replace(valid, ".", ".\n", 1)}, 400, challengeRequest},

		{"opaque", []string{"Bearer abc"}, 401, challengeToken},
		{"padding", []string{"Bearer " + valid + "="}, 401, challengeToken},
		{"padding in front", []string{"Bearer =" + valid}, 401, challengeToken},
		{"plus", []string{"Bearer " + valid + "+"}, 401, challengeToken},
		{"slash", []string{"Bearer " + valid[:9] + "/" + valid[10:]}, 401, challengeToken},
		{"tilde", []string{"Bearer ~" + valid}, 401, challengeToken},
		{"too long", []string{"Bearer " + valid + strings.Repeat("A", 16<<10)}, 401, challengeToken},
		{"too long for anything", []string{"Bearer " + strings.Repeat("$", 16<<10+1)}, 401, challengeToken},

		{"two headers", []string{"Bearer " + valid, "Bearer " + valid}, 400, challengeRequest},
		{"two schemes", []string{"Basic YTpi", "Bearer " + valid}, 400, challengeRequest},
		{"two other schemes", []string{"Basic YTpi", "Basic YTpi"}, 400, challengeRequest},
	}
}

func TestCredentials(t *testing.T) {
	iss, auth := newAuth(t)
	h := auth.Handler(ok)
	for _, tt := range credentialRows(iss.Token(audience, nil)) {
		t.Run(tt.name, func(t *testing.T) {
			checkReply(t, serve(h, tt.header...), tt.status, tt.challenge)
		})
	}
}

// Tokens elsewhere than in the header are as good as none (RFC 6750, sections
// 2.2 and 2.3; RFC 9700, section 4.3.2).
func TestCredentialsElsewhere(t *testing.T) {
	iss, auth := newAuth(t)
	h := auth.Handler(ok)
	token := iss.Token(audience, nil)
	in := func(header string) *http.Request {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set(header, "Bearer "+token)
		return r
	}
	for name, r := range map[string]*http.Request{
		"query": httptest.NewRequest("GET", "/?access_token="+token, nil),
		"form":  httptest.NewRequest("POST", "/", strings.NewReader("access_token="+token)),
		"cookie": func() *http.Request {
			r := httptest.NewRequest("GET", "/", nil)
			r.AddCookie(&http.Cookie{Name: "access_token", Value: token})
			return r
		}(),
		"preflight":                 httptest.NewRequest("OPTIONS", "/", nil),
		"Proxy-Authorization":       in("Proxy-Authorization"),
		"X-Authorization":           in("X-Authorization"),
		"X-Forwarded-Authorization": in("X-Forwarded-Authorization"),
		"X-Forwarded-Access-Token":  in("X-Forwarded-Access-Token"),
		"Forwarded":                 in("Forwarded"),
		"Cookie":                    in("Cookie"),
	} {
		if r.Method == "POST" {
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		t.Run(name, func(t *testing.T) {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			checkReply(t, w, 401, challengeNone)
		})
	}
}

// No method is free, whatever the route asks for: who answers preflight requests does
// so further out.
func TestMethods(t *testing.T) {
	_, auth := newAuth(t)
	for name, wrap := range map[string]func(http.Handler) http.Handler{
		"Handler":               auth.Handler,
		"RequireScope":          auth.RequireScope("a"),
		"RequireAnyScope":       auth.RequireAnyScope("a", "b"),
		"Require":               auth.Require(func(*http.Request, *bearer.Claims) error { return nil }),
		"RequireAuthentication": auth.RequireAuthentication(bearer.Authentication{ACR: []string{"a"}}),
	} {
		h := wrap(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			t.Errorf("%s, %s: served", name, r.Method)
		}))
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND"} {
			r := httptest.NewRequest(method, "/", nil)
			r.Header.Set("Origin", "https://app.example.com")
			r.Header.Set("Access-Control-Request-Method", "GET")
			w := httptest.NewRecorder()
			if h.ServeHTTP(w, r); w.Code != 401 {
				t.Errorf("%s, %s: status %d, want 401", name, method, w.Code)
			}
		}
	}
}

// Over a connection: HEAD is answered as GET, without a body.
func TestHead(t *testing.T) {
	iss, auth := newAuth(t)
	server := httptest.NewServer(auth.Handler(ok))
	defer server.Close()
	for _, tt := range []struct {
		token     string
		status    int
		challenge string
	}{
		{"", 401, challengeNone},
		{"Bearer x", 401, challengeToken},
		{"Bearer " + iss.Token(audience, nil), 200, ""},
	} {
		r, _ := http.NewRequest("HEAD", server.URL, nil)
		if tt.token != "" {
			r.Header.Set("Authorization", tt.token)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != tt.status || resp.Header.Get("WWW-Authenticate") != tt.challenge || len(body) > 0 {
			t.Errorf("HEAD with %.9q: got %d %q %q, want %d %q and no body", tt.token,
				resp.StatusCode, resp.Header.Get("WWW-Authenticate"), body, tt.status, tt.challenge)
		}
	}
}

func TestHandlerServes(t *testing.T) {
	iss, auth := newAuth(t)
	token := iss.Token(audience, bearertest.Claims{"sub": "alice"})

	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/messages", func(w http.ResponseWriter, r *http.Request) {
		claims, found := bearer.FromContext(r.Context())
		if !found || claims.Subject != "alice" {
			t.Errorf("claims = %+v, %v, want those of alice", claims, found)
		}
		if got := r.Header.Get("Authorization"); got != "Bearer "+token {
			t.Errorf("Authorization = %q, want it left as it was", got)
		}
		if _, flusher := w.(http.Flusher); !flusher {
			t.Error("the ResponseWriter is wrapped")
		}
	})
	r := httptest.NewRequest("GET", "/api/messages", nil)
	r.Header.Set("Authorization", "Bearer "+token)
	w := httptest.NewRecorder()
	auth.Handler(mux).ServeHTTP(w, r)
	checkReply(t, w, 200, "")
	if r.Pattern != "GET /api/messages" {
		t.Errorf("Pattern outside = %q, want what the mux inside found", r.Pattern)
	}
	if _, found := bearer.FromContext(r.Context()); found {
		t.Error("the outer request was changed")
	}
}

func TestOptional(t *testing.T) {
	iss, auth := newAuth(t)
	h := auth.Optional(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		claims, found := bearer.FromContext(r.Context())
		if found {
			fmt.Fprint(w, claims.Subject)
			return
		}
		fmt.Fprint(w, "anonymous")
	}))
	tests := []struct {
		name      string
		header    []string
		status    int
		challenge string
		body      string
	}{
		{"no header", nil, 200, "", "anonymous"},
		{"another scheme", []string{"Basic YTpi"}, 200, "", "anonymous"},
		{"valid", []string{"Bearer " + iss.Token(audience, nil)}, 200, "", "user"},
		{"scheme only", []string{"Bearer"}, 400, challengeRequest, ""},
		{"two headers", []string{"Basic YTpi", "Basic YTpi"}, 400, challengeRequest, ""},
		{"bad token", []string{"Bearer x.y.z"}, 401, challengeToken, ""},
		{"another audience", []string{"Bearer " + iss.Token("https://other.example.com", nil)}, 401, challengeToken, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := serve(h, tt.header...)
			checkReply(t, w, tt.status, tt.challenge)
			if tt.status == 200 && w.Body.String() != tt.body {
				t.Errorf("body = %q, want %q", w.Body, tt.body)
			}
		})
	}
}

func TestAuthenticateAndVerify(t *testing.T) {
	iss, auth := newAuth(t)
	token := iss.Token(audience, bearertest.Claims{"sub": "alice"})
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Authorization", "Bearer "+token)
	if c, err := auth.Authenticate(r); err != nil || c.Subject != "alice" {
		t.Errorf("Authenticate = %+v, %v, want the claims of alice", c, err)
	}
	if c, err := auth.Verify(context.Background(), token); err != nil || c.Subject != "alice" {
		t.Errorf("Verify = %+v, %v, want the claims of alice", c, err)
	}
	// Behind Handler there is nothing left to do, not even with the header gone.
	auth.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Del("Authorization")
		if c, err := auth.Authenticate(r); err != nil || c.Subject != "alice" {
			t.Errorf("Authenticate behind Handler = %+v, %v, want the claims of alice", c, err)
		}
	})).ServeHTTP(httptest.NewRecorder(), r)

	for name, refused := range map[string]func() (*bearer.Claims, error){
		"no credentials": func() (*bearer.Claims, error) {
			return auth.Authenticate(httptest.NewRequest("GET", "/", nil))
		},
		"empty token":     func() (*bearer.Claims, error) { return auth.Verify(context.Background(), "") },
		"with the scheme": func() (*bearer.Claims, error) { return auth.Verify(context.Background(), "Bearer "+token) },
		"space behind":    func() (*bearer.Claims, error) { return auth.Verify(context.Background(), token+" ") },
		"line break":      func() (*bearer.Claims, error) { return auth.Verify(context.Background(), token+"\n") },
		"break inside":    func() (*bearer.Claims, error) { return auth.Verify(context.Background(), token[:3]+"\r\n"+token[3:]) },
	} {
		c, err := refused()
		var e *bearer.Error
		if c != nil || !errors.As(err, &e) || e.Status != 401 {
			t.Errorf("%s: got %+v, %v, want an Error with status 401", name, c, err)
		}
	}
}

func TestNewReportsEverything(t *testing.T) {
	_, err := bearer.New(bearer.Config{
		Issuer:      "http://login.example.com",
		JWKSURL:     "",
		Audience:    []string{audience, ""},
		Algorithms:  []string{"HS256", "none", "RS256"},
		ScopeClaims: []string{""},
		Leeway:      time.Hour,
		Realm:       "a\nb",
	})
	if err == nil {
		t.Fatal("no error")
	}
	want := `bearer: Config.Leeway: 1h0m0s is more than 10m0s
bearer: Config.Issuer: "http://login.example.com" must use https (http is for loopback hosts, and for others with InsecureHTTP); or set JWKSURL or FetchKeys
bearer: Config.Audience: an empty string is no audience; it must be what the tokens' "aud" says
bearer: Config.Algorithms: "HS256" is not one of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, EdDSA
bearer: Config.Algorithms: "none" is not one of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, EdDSA
bearer: Config.ScopeClaims: an empty string is no claim
bearer: Config.Realm: "a\nb" has characters that a header cannot carry`
	if err.Error() != want {
		t.Errorf("got error\n%v\nwant\n%s", err, want)
	}
}

func TestNewConfig(t *testing.T) {
	tests := []struct {
		name   string
		change func(*bearer.Config)
		want   string // part of the error; empty for none
	}{
		{"as it is", func(c *bearer.Config) {}, ""},
		{"no issuer", func(c *bearer.Config) { c.Issuer = "" }, "Config.Issuer: required"},
		{"no audience", func(c *bearer.Config) { c.Audience = nil }, "Config.Audience: required"},
		{"http on loopback", func(c *bearer.Config) { c.Issuer = "http://127.0.0.1:8080/realm" }, ""},
		{"http on localhost", func(c *bearer.Config) { c.Issuer = "http://localhost" }, ""},
		{"http on IPv6 loopback", func(c *bearer.Config) { c.Issuer = "http://[::1]:80" }, ""},
		{"http on a name like localhost", func(c *bearer.Config) { c.Issuer = "http://localhost.example.com" }, "must use https"},
		{"no scheme", func(c *bearer.Config) { c.Issuer = "login.example.com" }, "is not an absolute https URL"},
		{"another scheme", func(c *bearer.Config) { c.Issuer = "ftp://login.example.com" }, "must use https"},
		{"query", func(c *bearer.Config) { c.Issuer = "https://login.example.com?a=b" }, "no query"},
		{"fragment", func(c *bearer.Config) { c.Issuer = "https://login.example.com#a" }, "Config.Issuer"},
		{"no host", func(c *bearer.Config) { c.Issuer = "https://:443/" }, "Config.Issuer"},
		{"user", func(c *bearer.Config) { c.Issuer = "https://a@login.example.com" }, "Config.Issuer"},
		{"any issuer with JWKSURL", func(c *bearer.Config) { c.Issuer, c.JWKSURL = "acme.com", "https://acme.com/keys" }, ""},
		{"JWKSURL with a query", func(c *bearer.Config) { c.JWKSURL = "https://acme.com/keys?v=1" }, ""},
		{"http JWKSURL", func(c *bearer.Config) { c.JWKSURL = "http://acme.com/keys" }, "Config.JWKSURL: \"http://acme.com/keys\" must use https"},
		{"negative leeway", func(c *bearer.Config) { c.Leeway = -1 }, ""},
		{"largest leeway", func(c *bearer.Config) { c.Leeway = 10 * time.Minute }, ""},
		{"Ed25519", func(c *bearer.Config) { c.Algorithms = []string{"Ed25519"} }, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := bearer.Config{Issuer: "https://login.example.com", Audience: []string{audience}}
			tt.change(&cfg)
			auth, err := bearer.New(cfg)
			if (err == nil) != (tt.want == "") || (auth == nil) != (err != nil) {
				t.Fatalf("New = %v, %v, want error %q", auth, err, tt.want)
			}
			if err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error = %v, want %q in it", err, tt.want)
			}
		})
	}
}

func TestConfigIsNotRetained(t *testing.T) {
	audiences, scopes := []string{audience}, []string{"scope"}
	iss, auth := newAuth(t, func(c *bearer.Config) { c.Audience, c.ScopeClaims = audiences, scopes })
	needed := []string{"read"}
	h := auth.RequireScope(needed...)(ok)
	audiences[0], scopes[0], needed[0] = "other", "other", "other"
	checkReply(t, serve(h, "Bearer "+iss.Token(audience, bearertest.Claims{"scope": "read"})), 200, "")
	checkReply(t, serve(h, "Bearer "+iss.Token("other", nil)), 401, challengeToken)
}

func TestConfigForbidsComparison(t *testing.T) {
	if reflect.TypeFor[bearer.Config]().Comparable() {
		t.Error("Config can be compared")
	}
}

func TestNilHandler(t *testing.T) {
	_, auth := newAuth(t)
	for name, wrap := range map[string]func(http.Handler) http.Handler{
		"Handler": auth.Handler, "Optional": auth.Optional, "RequireScope": auth.RequireScope("a"),
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s(nil) does not panic", name)
				}
			}()
			wrap(nil)
		}()
	}
}

func TestReady(t *testing.T) {
	iss, auth := newAuth(t)
	iss.SetDown(true)
	var e *bearer.Error
	if err := auth.Ready(context.Background()); !errors.As(err, &e) || e.Status != 503 || e.RetryAfter < time.Second {
		t.Errorf("Ready while the issuer is down = %v, want an Error with status 503 and RetryAfter", err)
	}
	iss.SetDown(false)
	auth = newMiddleware(t, iss)
	for range 2 {
		if err := auth.Ready(context.Background()); err != nil {
			t.Errorf("Ready = %v, want nil", err)
		}
	}
	if got := iss.Fetches(); got != 1 {
		t.Errorf("%d fetches, want 1", got)
	}
}

func TestConfigBounds(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*bearer.Config)
		want   string
	}{
		{"http on LOCALHOST", func(c *bearer.Config) { c.Issuer = "http://LOCALHOST:8080" }, ""},
		{"JWKSURL with a fragment", func(c *bearer.Config) { c.JWKSURL = "https://acme.com/keys#a" }, "Config.JWKSURL"},
		{"JWKSURL with a user", func(c *bearer.Config) { c.JWKSURL = "https://a@acme.com/keys" }, "Config.JWKSURL"},
		{"largest cache", func(c *bearer.Config) { c.TokenCache = 1 << 20 }, ""},
		{"template with two placeholders", func(c *bearer.Config) {
			c.Issuer, c.IssuerTemplate = "", "https://a.example/{tenantid}/{tenantid}"
		}, ""},
		{"template with a placeholder in the host and JWKSURL", func(c *bearer.Config) {
			c.Issuer, c.IssuerTemplate, c.JWKSURL = "", "https://{tenantid}.a.example/", "https://a.example/keys"
		}, ""},
		{"template with a placeholder in the host and FetchKeys", func(c *bearer.Config) {
			c.Issuer, c.IssuerTemplate, c.FetchKeys = "", "https://{tenantid}.a.example/", noKeys
		}, ""},
		{"issuer with a tilde", func(c *bearer.Config) { c.Issuer = "https://login.example.com/~a" }, ""},
		{"issuer with an empty fragment", func(c *bearer.Config) { c.Issuer = "https://login.example.com/#" }, "Config.Issuer"},
		{"audience that is empty and not nil", func(c *bearer.Config) { c.Audience = []string{} }, "Config.Audience: required"},
		{"realm of all that a header can carry", func(c *bearer.Config) { c.Realm = ` a"\~` }, ""},
		{"realm that is not ASCII", func(c *bearer.Config) { c.Realm = "café" }, "Config.Realm"},
		{"realm with DEL", func(c *bearer.Config) { c.Realm = "a\x7f" }, "Config.Realm"},
		{"realm that is no UTF-8", func(c *bearer.Config) { c.Realm = "a\xff" }, "Config.Realm"},
		{"header with a separator", func(c *bearer.Config) { c.Header = "X(Token)" }, "Config.Header"},
		{"header with a colon", func(c *bearer.Config) { c.Header = "X-Token:" }, "Config.Header"},
		{"header with a line break", func(c *bearer.Config) { c.Header = "X\nToken" }, "Config.Header"},
		{"header that is not ASCII", func(c *bearer.Config) { c.Header = "X-Tökén" }, "Config.Header"},
		{"header Authorization", func(c *bearer.Config) { c.Header = "authorization" }, "Config.Header"},
		{"template with a placeholder in the host", func(c *bearer.Config) {
			c.Issuer, c.IssuerTemplate = "", "https://{tenantid}.a.example/{tenantid}"
		}, "for each tenant; set JWKSURL"},
	} {
		cfg := bearer.Config{Issuer: "https://login.example.com", Audience: []string{audience}}
		tt.change(&cfg)
		_, err := bearer.New(cfg)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want %q", tt.name, err, tt.want)
		}
	}
}

// The slices of Config are copied.
func TestTenantsAreNotRetained(t *testing.T) {
	tenants := []string{"a"}
	iss := bearertest.NewIssuer("https://login.example.com/common")
	auth := newMiddleware(t, iss, func(c *bearer.Config) {
		c.Issuer, c.IssuerTemplate, c.Tenants = "", "https://login.example.com/{tenantid}", tenants
		c.JWKSURL = iss.URL + keysPath
	})
	tenants[0] = "b"
	for tenant, want := range map[string]int{"a": 200, "b": 401} {
		_, err := auth.Verify(t.Context(), iss.Token(audience, bearertest.Claims{"iss": "https://login.example.com/" + tenant, "tid": tenant}))
		if got := statusOf(err); got != want {
			t.Errorf("tenant %s: status %d, want %d: %v", tenant, got, want, err)
		}
	}
}
