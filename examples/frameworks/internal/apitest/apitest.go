// Package apitest checks that an API refuses and serves requests as package
// bearer promises, whatever framework it is made with.
package apitest

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/bearer"
	"example.com/bearer/bearertest"
)

// Audience is what the tokens of the tests are for.
const Audience = "https://api.example.com"

// New returns an issuer and a Config that accepts its tokens.
func New() (*bearertest.Issuer, bearer.Config) {
	iss := bearertest.NewIssuer("https://login.example.com/")
	return iss, bearer.Config{
		Issuer:   iss.URL,
		Audience: []string{Audience},
		Client:   iss.Client(),
		Logger:   slog.New(slog.DiscardHandler),
	}
}

// Expired returns a token that was valid until an hour ago.
func Expired(iss *bearertest.Issuer) string {
	return iss.Token(Audience, bearertest.Claims{"exp": time.Now().Add(-time.Hour).Unix()})
}

// Tampered returns a token of the same length that differs in one character of
// the payload.
func Tampered(token string) string {
	middle, other := len(token)/2, "A"
	if token[middle] == 'A' {
		other = "B"
	}
	return token[:middle] + other + token[middle+1:]
}

// Run starts an API with start, which returns its base URL, and checks its three
// routes:
//
//	GET /api/ping         public
//	GET /api/ping/secure  replies {"sub": "…"} to any valid token
//	GET /api/messages     needs the scope read:messages
func Run(t *testing.T, start func(*testing.T, *bearer.Middleware) string) {
	iss, config := New()
	auth, err := bearer.New(config)
	if err != nil {
		t.Fatal(err)
	}
	base := start(t, auth)

	const (
		pong       = `{"message":"pong"}`
		alice      = `{"sub":"alice"}`
		messages   = `{"message":"here are your messages"}`
		needsScope = `Bearer error="insufficient_scope", scope="read:messages"`
	)
	var (
		valid  = iss.Token(Audience, bearertest.Claims{"sub": "alice"})
		reader = iss.Token(Audience, bearertest.Claims{"sub": "alice", "scope": "read:messages"})
	)
	for _, tt := range []struct {
		name          string
		path          string
		authorization []string
		status        int
		challenge     string
		body          string // of a refusal: its error code
	}{
		{"public", "/api/ping", nil, 200, "", pong},
		{"public, with a header that is not looked at", "/api/ping", []string{"Bearer a b"}, 200, "", pong},

		{"no token", "/api/ping/secure", nil, 401, `Bearer`, ""},
		{"another scheme", "/api/ping/secure", []string{"Basic YTpi"}, 401, `Bearer`, ""},
		{"scheme only", "/api/ping/secure", []string{"Bearer"}, 400, `Bearer error="invalid_request"`, "invalid_request"},
		{"more than a token", "/api/ping/secure", []string{"Bearer " + valid + " x"}, 400, `Bearer error="invalid_request"`, "invalid_request"},
		{"the same header twice", "/api/ping/secure", []string{"Bearer " + valid, "Bearer " + valid}, 400, `Bearer error="invalid_request"`, "invalid_request"},
		{"a good header before another", "/api/ping/secure", []string{"Bearer " + valid, "Basic YTpi"}, 400, `Bearer error="invalid_request"`, "invalid_request"},
		{"a good header after another", "/api/ping/secure", []string{"Basic YTpi", "Bearer " + valid}, 400, `Bearer error="invalid_request"`, "invalid_request"},
		{"no JWT", "/api/ping/secure", []string{"Bearer opaque"}, 401, `Bearer error="invalid_token"`, "invalid_token"},
		{"expired", "/api/ping/secure", []string{"Bearer " + Expired(iss)}, 401, `Bearer error="invalid_token"`, "invalid_token"},
		{"any token", "/api/ping/secure", []string{"Bearer " + valid}, 200, "", alice},
		{"scheme in lower case, spaces", "/api/ping/secure", []string{"bearer   " + valid}, 200, "", alice},

		{"scope: no token", "/api/messages", nil, 401, `Bearer`, ""},
		{"scope: header twice", "/api/messages", []string{"Bearer " + reader, "Bearer " + reader}, 400, `Bearer error="invalid_request"`, "invalid_request"},
		{"scope: expired", "/api/messages", []string{"Bearer " + Expired(iss)}, 401, `Bearer error="invalid_token"`, "invalid_token"},
		{"scope: none", "/api/messages", []string{"Bearer " + valid}, 403, needsScope, "insufficient_scope"},
		{"scope: a longer one", "/api/messages", []string{"Bearer " + iss.Token(Audience, bearertest.Claims{"scope": "read:messages:all"})}, 403, needsScope, "insufficient_scope"},
		{"scope: the one needed", "/api/messages", []string{"Bearer " + reader}, 200, "", messages},
	} {
		t.Run(tt.name, func(t *testing.T) {
			resp, body := Do(t, "GET", base+tt.path, tt.authorization...)
			if resp.StatusCode != tt.status {
				t.Errorf("got status %d, want %d", resp.StatusCode, tt.status)
			}
			if tt.status >= 400 {
				if tt.name == "scope: no token" {
					// Where the scope's own wrapper authenticates, it asks for it.
					if got := resp.Header.Get("WWW-Authenticate"); got == `Bearer scope="read:messages"` {
						tt.challenge = got
					}
				}
				CheckRefusal(t, resp, body, tt.challenge, tt.body)
			} else if body != tt.body || resp.Header.Get("WWW-Authenticate") != "" {
				t.Errorf("got %s and header %v, want %s", body, resp.Header, tt.body)
			}
		})
	}
	t.Run("issuer down", func(t *testing.T) {
		iss, config := New()
		iss.SetDown(true)
		auth, err := bearer.New(config)
		if err != nil {
			t.Fatal(err)
		}
		base := start(t, auth)
		for _, path := range []string{"/api/ping/secure", "/api/messages"} {
			resp, body := Do(t, "GET", base+path, "Bearer "+iss.Token(Audience, nil))
			if resp.StatusCode != 503 {
				t.Errorf("%s: got status %d, want 503", path, resp.StatusCode)
			}
			if resp.Header.Get("Retry-After") == "" {
				t.Errorf("%s: no Retry-After", path)
			}
			CheckRefusal(t, resp, body, "", "temporarily_unavailable")
		}
	})
	// Claims must not get from one request into another, also where memory is
	// used again and tokens come from the cache.
	t.Run("everyone at once", func(t *testing.T) {
		var wg sync.WaitGroup
		for client := range 8 {
			sub := fmt.Sprintf("user-%d", client)
			token := iss.Token(Audience, bearertest.Claims{"sub": sub})
			if client%2 == 1 {
				iss.Rotate()
			}
			wg.Go(func() {
				for i := range 30 {
					if resp, body := Do(t, "GET", base+"/api/ping/secure", "Bearer "+token); body != fmt.Sprintf(`{"sub":%q}`, sub) {
						t.Errorf("%s: got %d %s", sub, resp.StatusCode, body)
					}
					if i%3 == 0 {
						if resp, body := Do(t, "GET", base+"/api/ping/secure", "Bearer "+Tampered(token)); resp.StatusCode != 401 {
							t.Errorf("tampered: got %d %s, want 401", resp.StatusCode, body)
						}
					}
				}
			})
		}
		wg.Wait()
	})
}

// Handler is the start function of an API that is an http.Handler.
func Handler(newAPI func(*bearer.Middleware) http.Handler) func(*testing.T, *bearer.Middleware) string {
	return func(t *testing.T, auth *bearer.Middleware) string {
		server := httptest.NewServer(newAPI(auth))
		t.Cleanup(server.Close)
		return server.URL
	}
}

// Do sends a request with the given Authorization headers and returns the reply
// and its body.
func Do(t *testing.T, method, url string, authorization ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header["Authorization"] = authorization
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Error(err)
		return new(http.Response), ""
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Error(err)
	}
	return resp, strings.TrimSpace(string(body))
}

// CheckRefusal checks what a refusal has besides its status: the challenge and
// the error code in the body, where that stands alone but for a description.
func CheckRefusal(t *testing.T, resp *http.Response, body, challenge, code string) {
	t.Helper()
	CheckHeader(t, resp.Header, challenge)
	var e struct {
		Code        string `json:"error"`
		Description string `json:"error_description"`
	}
	decoder := json.NewDecoder(strings.NewReader(body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&e); err != nil || decoder.More() {
		t.Errorf("body: got %s (%v), want one object with an error", body, err)
	}
	if e.Code != code || e.Description == "" || strings.Contains(body, `"error":""`) {
		t.Errorf("body: got %s, want error code %q and a description", body, code)
	}
}

// CheckHeader checks the header of a refusal.
func CheckHeader(t *testing.T, header http.Header, challenge string) {
	t.Helper()
	if got := strings.Join(header.Values("WWW-Authenticate"), " and "); got != challenge {
		t.Errorf("WWW-Authenticate: got %s, want %s", got, challenge)
	}
	if got := strings.Join(header.Values("Cache-Control"), ", "); got != "no-store" {
		t.Errorf("Cache-Control: got %q, want no-store", got)
	}
	if got := header.Get("Content-Type"); got != "application/json" {
		t.Errorf("Content-Type: got %q, want application/json", got)
	}
}
