package jwks_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/bearer/bearertest"
	"example.com/bearer/internal/jose"
	"example.com/bearer/internal/jwks"
)

const (
	issuerURL    = "https://login.example.com/"
	keysPath     = "/.well-known/jwks.json"
	keysURL      = "https://login.example.com" + keysPath
	metadataPath = "/.well-known/openid-configuration"
	rfc8414Path  = "/.well-known/oauth-authorization-server"
)

// A bed is an issuer and a Source of its keys, and counts what passes between
// them.
type bed struct {
	*testing.T
	iss    *bearertest.Issuer
	source *jwks.Source
	log    *syncBuffer

	mu       sync.Mutex
	requests []string // paths that were asked for
	// answer, if set, may change or replace the issuer's answer.
	answer func(*http.Request, *http.Response) (*http.Response, error)
}

// newBed returns a bed whose Source knows the key set's URL, so that one fetch is
// one request.
func newBed(t *testing.T, change ...func(*jwks.Config)) *bed {
	b := &bed{T: t, iss: bearertest.NewIssuer(issuerURL), log: new(syncBuffer)}
	b.source = b.open(change...)
	return b
}

// open returns a Source of its own.
func (b *bed) open(change ...func(*jwks.Config)) *jwks.Source {
	c := jwks.Config{
		Issuer:     issuerURL,
		Base:       issuerURL,
		URL:        keysURL,
		Client:     &http.Client{Transport: b},
		Log:        slog.New(slog.NewTextHandler(b.log, nil)),
		Algorithms: jose.Algorithms,
	}
	for _, f := range change {
		f(&c)
	}
	return jwks.New(c)
}

// discovery makes a Source find the keys by itself.
func discovery(c *jwks.Config) { c.URL = "" }

func (b *bed) RoundTrip(r *http.Request) (*http.Response, error) {
	b.mu.Lock()
	b.requests = append(b.requests, r.URL.Path)
	answer := b.answer
	b.mu.Unlock()
	resp, err := b.iss.Client().Transport.RoundTrip(r)
	if err == nil && answer != nil {
		return answer(r, resp)
	}
	return resp, err
}

func (b *bed) setAnswer(f func(*http.Request, *http.Response) (*http.Response, error)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.answer = f
}

// setHeader makes the issuer send these headers besides its own.
func (b *bed) setHeader(h http.Header) {
	b.setAnswer(func(_ *http.Request, resp *http.Response) (*http.Response, error) {
		for name, values := range h {
			resp.Header[name] = values
		}
		return resp, nil
	})
}

// asked returns the paths that were asked for since the last call.
func (b *bed) asked() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	asked := b.requests
	b.requests = nil
	return asked
}

// fetches returns how often the issuer was asked since the last call.
func (b *bed) fetches() int { return len(b.asked()) }

func (b *bed) token() string { return b.iss.Sign("", "{}") }

// unknown returns a token of the issuer's with a key id of nobody's.
func (b *bed) unknown(kid string) string {
	return b.iss.Sign(fmt.Sprintf(`{"alg":"ES256","kid":%q}`, kid), "{}")
}

// keyless returns a token that names no key.
func (b *bed) keyless() string { return b.iss.Sign(`{"alg":"ES256"}`, "{}") }

// forged returns a token with a bad signature, of the key with the given id or of
// none.
func (b *bed) forged(kid string) string {
	header := `{"alg":"ES256"}`
	if kid != "" {
		header = fmt.Sprintf(`{"alg":"ES256","kid":%q}`, kid)
	}
	token := b.iss.Sign(header, "{}")
	return token[:strings.LastIndexByte(token, '.')+1] + strings.Repeat("A", 86)
}

var errSignature = errors.New("a bad signature")

// verify checks a token's signature as a verifier does.
func verify(ctx context.Context, s *jwks.Source, token string) (*jwks.Key, error) {
	parts, _ := jose.Cut(token)
	text, _ := base64.RawURLEncoding.DecodeString(parts.Header)
	signature, _ := base64.RawURLEncoding.DecodeString(parts.Signature)
	var header struct{ Alg, Kid string }
	if err := json.Unmarshal(text, &header); err != nil {
		return nil, err
	}
	method := jose.Method(header.Alg)
	now := time.Now()
	arrival := s.Arrival(now)
	set, err := s.Current(ctx, now)
	for err == nil {
		for _, c := range set.Candidates(method.Alg(), header.Kid) {
			if c.Verify(method, parts.Signed, signature) {
				return c.Key, nil
			}
		}
		if set.Lists(header.Kid) {
			return nil, errSignature
		}
		set, err = s.AwaitNewer(ctx, set, header.Kid, arrival)
	}
	return nil, err
}

// statusOf is the status that a verifier's reply has.
func statusOf(err error) int {
	var unavailable *jwks.UnavailableError
	switch {
	case err == nil:
		return 200
	case errors.As(err, &unavailable):
		return 503
	case errors.Is(err, jwks.ErrUnknownKey), errors.Is(err, errSignature):
		return 401
	}
	return 0
}

// status verifies token and returns the status of the reply.
func (b *bed) status(token string) int {
	b.Helper()
	_, err := verify(context.Background(), b.source, token)
	if statusOf(err) == 0 {
		b.Fatal(err)
	}
	return statusOf(err)
}

// unavailable verifies token, which must fail for want of keys.
func (b *bed) unavailable(token string) *jwks.UnavailableError {
	b.Helper()
	_, err := verify(context.Background(), b.source, token)
	var e *jwks.UnavailableError
	if !errors.As(err, &e) || e.RetryAfter < time.Second || e.Err == nil {
		b.Fatalf("got %v, want an UnavailableError with a reason and a second or more", err)
	}
	synctest.Wait() // for the log
	return e
}

// want checks a token's status, how long the reply took, and what it cost in
// requests to the issuer.
func (b *bed) want(what, token string, status int, within time.Duration, fetches int) {
	b.Helper()
	start := time.Now()
	got := b.status(token)
	if took := time.Since(start); got != status || took > within {
		b.Errorf("%s: status %d after %v, want %d within %v", what, got, took, status, within)
	}
	synctest.Wait()
	if asked := b.asked(); len(asked) != fetches {
		b.Errorf("%s: asked for %q, want %d requests", what, asked, fetches)
	}
}

// atOnce verifies n tokens at the same time and returns how often each status
// came.
func (b *bed) atOnce(n int, token func(i int) string) map[int]int {
	var mu sync.Mutex
	counts := make(map[int]int)
	var wg sync.WaitGroup
	for i := range n {
		text := token(i)
		wg.Go(func() {
			status := b.status(text)
			mu.Lock()
			counts[status]++
			mu.Unlock()
		})
	}
	wg.Wait()
	return counts
}

func inBubble(t *testing.T, f func(t *testing.T, b *bed), change ...func(*jwks.Config)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, newBed(t, change...)) })
}

// each runs f in a bubble for each row of a table, by its name.
func each[T any](t *testing.T, rows map[string]T, f func(t *testing.T, b *bed, row T), change ...func(*jwks.Config)) {
	t.Helper()
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bed) { f(t, b, row) }, change...)
		})
	}
}

// A syncBuffer is a log that several goroutines write to.
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

// take returns the records so far, without their time, and forgets them.
func (b *syncBuffer) take() (records []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for line := range strings.Lines(b.b.String()) {
		_, line, _ = strings.Cut(strings.TrimSpace(line), " ")
		records = append(records, line)
	}
	b.b.Reset()
	return records
}
