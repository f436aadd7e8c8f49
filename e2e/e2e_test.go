// Package e2e tests package bearer from outside: the example server, as its own
// process, with tokens of real authorization servers over real HTTP. The servers
// are started here, on loopback, and nothing is skipped: without Node.js and npm,
// which one of them needs, its test fails.
//
//	go test -count=1 ./...
//
// Without -count=1 the go command may repeat an old result, since it does not see
// that the example server has changed.
package e2e

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"example.com/bearer"
)

const (
	audience = "https://api.example.com"

	// How long the authorization servers are away. By then the pauses between
	// the API's fetches have grown to 8 s, half of what they can be.
	outage = 7 * time.Second

	recovery = 15 * time.Second // at most, from the server's return to the first 200
)

// A provider is an authorization server under test.
type provider struct {
	issuer   string
	client   clientcredentials.Config  // without scopes
	alg      jose.SignatureAlgorithm   // that its tokens for client are signed with
	clientID string                    // what the API should take for the client, empty if the tokens do not tell
	setKeys  func(*testing.T, ...*key) // publishes the keys and signs with the first
	stop     func(*testing.T)
	start    func(*testing.T) // … with the keys that it had
}

// token gets a token as any client would.
func (p *provider) token(t *testing.T, scopes ...string) string {
	t.Helper()
	config := p.client
	config.Scopes = scopes
	token, err := config.Token(context.WithValue(t.Context(), oauth2.HTTPClient, client))
	if err != nil {
		t.Fatalf("token for %q: %v", scopes, err)
	}
	return token.AccessToken
}

// test is what must hold with every provider.
func (p *provider) test(t *testing.T) {
	t.Run("access", p.testAccess)
	t.Run("one fetch", p.testOneFetch)
	t.Run("rotation", p.testRotation)
	t.Run("outage", p.testOutage)
}

func (p *provider) testAccess(t *testing.T) {
	p.setKeys(t, newKey(t, p.alg))
	api, other := startAPI(t, p.issuer, audience), startAPI(t, p.issuer, "https://other.example.com")
	none, read, both := p.token(t), p.token(t, "read:messages"), p.token(t, "read:messages", "write:messages")
	const invalid = `Bearer error="invalid_token"`
	for _, tt := range []struct {
		name      string
		api       string
		request   string
		token     string
		status    int
		challenge string
	}{
		{"public route", api, "GET /api/ping", "", 200, ""},
		{"no token", api, "GET /api/ping/secure", "", 401, "Bearer"},
		{"no token, scope route", api, "GET /api/messages", "", 401, `Bearer scope="read:messages"`},
		{"no token, unknown route", api, "GET /api/nowhere", "", 401, "Bearer"},
		{"bad signature", api, "GET /api/ping/secure", tampered(read), 401, invalid},
		{"bad signature, scope route", api, "GET /api/messages", tampered(read), 401, invalid},
		{"another audience", other, "GET /api/ping/secure", read, 401, invalid},
		{"two tokens", api, "GET /api/ping/secure", read + ", " + read, 400, `Bearer error="invalid_request"`},
		{"token without scopes", api, "GET /api/ping/secure", none, 200, ""},
		{"scope missing", api, "GET /api/messages", none, 403, `Bearer error="insufficient_scope", scope="read:messages"`},
		{"scope there", api, "GET /api/messages", read, 200, ""},
		{"one scope of two", api, "POST /api/messages", read, 403, `Bearer error="insufficient_scope", scope="read:messages write:messages"`},
		{"both scopes", api, "POST /api/messages", both, 201, ""},
		{"neither of the alternatives", api, "DELETE /api/messages", both, 403, `Bearer error="insufficient_scope", scope="delete:messages"`},
		{"unknown route", api, "GET /api/nowhere", read, 404, ""},
	} {
		got := ask(t, tt.api, tt.request, tt.token)
		if got.status != tt.status || got.challenge != tt.challenge {
			t.Errorf("%s: %s = %d %q, want %d %q; body: %s", tt.name, tt.request, got.status, got.challenge, tt.status, tt.challenge, got.body)
		}
	}

	got := ask(t, api, "GET /api/ping/secure", both).body
	want := fmt.Sprintf(`{"bound":"","client_id":%q,"iss":%q,"scope":["read:messages","write:messages"],"sub":%q}`, p.clientID, p.issuer, p.client.ClientID)
	if got != want {
		t.Errorf("claims = %s, want %s", got, want)
	}
}

// The middleware in this process, since only so its fetches can be counted.
func (p *provider) testOneFetch(t *testing.T) {
	auth, err := bearer.New(bearer.Config{
		Issuer:   p.issuer,
		Audience: []string{audience},
		Logger:   slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	for fetches := range int64(2) {
		p.setKeys(t, newKey(t, p.alg))
		token := p.token(t)
		var requests sync.WaitGroup
		for range 40 {
			requests.Go(func() {
				if _, err := auth.Verify(context.Background(), token); err != nil {
					t.Error(err)
				}
			})
		}
		requests.Wait()
		if got, want := auth.KeyStats().Fetches, fetches+1; got != want {
			t.Errorf("%d fetches with key set %d, want %d", got, fetches+1, want)
		}
	}
}

func (p *provider) testRotation(t *testing.T) {
	a, b, c := newKey(t, p.alg), newKey(t, p.alg), newKey(t, p.alg)
	api := startAPI(t, p.issuer, audience)
	expect := func(when, token string, status int, challenge string) {
		t.Helper()
		// Twice: the second time the token may come from the cache.
		for range 2 {
			got := ask(t, api, "GET /api/messages", token)
			if got.status != status || got.challenge != challenge {
				t.Errorf("%s: status %d %q, want %d %q; body: %s", when, got.status, got.challenge, status, challenge, got.body)
			}
		}
	}

	p.setKeys(t, a)
	withA := p.token(t, "read:messages")
	expect("first key", withA, 200, "")

	p.setKeys(t, b, a)
	withB := p.token(t, "read:messages")
	expect("first request with the new key", withB, 200, "")
	expect("old key, still published", withA, 200, "")

	p.setKeys(t, c, b)
	withC := p.token(t, "read:messages")
	expect("first request with the newest key", withC, 200, "")
	expect("withdrawn key", withA, 401, `Bearer error="invalid_token"`)
	expect("old key, still published", withB, 200, "")
}

func (p *provider) testOutage(t *testing.T) {
	a, b := newKey(t, p.alg), newKey(t, p.alg)
	warm := startAPI(t, p.issuer, audience)
	p.setKeys(t, a)
	known := p.token(t, "read:messages")
	if got := ask(t, warm, "GET /api/messages", known); got.status != 200 {
		t.Fatalf("before the outage: status %d, want 200; body: %s", got.status, got.body)
	}
	// A key that warm has not seen before the outage.
	p.setKeys(t, b, a)
	unknown := p.token(t, "read:messages")

	p.stop(t)
	cold := startAPI(t, p.issuer, audience)
	rows := []struct {
		name    string
		api     string
		request string
		token   string
		status  int
	}{
		{"known key", warm, "GET /api/messages", known, 200},
		{"unknown key", warm, "GET /api/messages", unknown, 503},
		{"known key after a failed fetch", warm, "GET /api/messages", known, 200},
		{"known key, scope missing", warm, "POST /api/messages", known, 403},
		{"known key, bad signature", warm, "GET /api/messages", tampered(known), 401},
		{"no token", warm, "GET /api/messages", "", 401},
		{"public route", warm, "GET /api/ping", "", 200},
		{"no keys", cold, "GET /api/messages", known, 503},
		{"no keys, no token", cold, "GET /api/messages", "", 401},
		{"no keys, public route", cold, "GET /api/ping", "", 200},
	}
	for stopped := time.Now(); time.Since(stopped) < outage && !t.Failed(); time.Sleep(500 * time.Millisecond) {
		for _, tt := range rows {
			began := time.Now()
			got := ask(t, tt.api, tt.request, tt.token)
			limit := 2 * time.Second // nobody else waits for keys
			if tt.status == 503 {
				limit = 5 * time.Second
			}
			if took := time.Since(began); got.status != tt.status || took > limit {
				t.Errorf("%s: status %d in %v, want %d within %v; body: %s", tt.name, got.status, took, tt.status, limit, got.body)
			}
			seconds, err := strconv.Atoi(got.retryAfter)
			if tt.status == 503 && (err != nil || seconds < 1 || seconds > 15) || tt.status != 503 && got.retryAfter != "" {
				t.Errorf("%s: Retry-After %q with status %d, want 1 to 15 with 503 only", tt.name, got.retryAfter, got.status)
			}
		}
	}

	p.start(t)
	back := time.Now()
	for _, tt := range []struct{ name, api, token string }{
		{"unknown key", warm, unknown},
		{"known key", warm, known},
		{"no keys", cold, known},
		{"no keys, new key", cold, unknown},
	} {
		for {
			got := ask(t, tt.api, "GET /api/messages", tt.token)
			after := time.Since(back)
			if got.status == 200 {
				t.Logf("%s: 200 after %v", tt.name, after.Round(time.Millisecond))
				break
			}
			if got.status != 503 || after > recovery {
				t.Errorf("%s: status %d %v after the return, want 503 and then 200 within %v; body: %s", tt.name, got.status, after, recovery, got.body)
				break
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
}

// tampered returns token with another signature of the right form.
func tampered(token string) string {
	other := "A"
	middle := strings.LastIndexByte(token, '.') + 20
	if token[middle] == 'A' {
		other = "B"
	}
	return token[:middle] + other + token[middle+1:]
}
