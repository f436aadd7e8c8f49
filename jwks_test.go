package bearer_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"example.com/bearer"
	"example.com/bearer/bearertest"
)

// A bed is an issuer and an API, and counts what passes between them.
type bed struct {
	*testing.T
	iss  *bearertest.Issuer
	auth *bearer.Middleware
	log  *syncBuffer

	mu       sync.Mutex
	requests int // of the API to the issuer
	// answer, if set, may change or replace the issuer's answer.
	answer func(*http.Request, *http.Response) (*http.Response, error)
}

// newBed returns a bed whose API knows the key set's URL, so that one fetch is
// one request.
func newBed(t *testing.T, change ...func(*bearer.Config)) *bed {
	b := &bed{T: t, iss: bearertest.NewIssuer("https://login.example.com/"), log: new(syncBuffer)}
	b.auth = newMiddleware(t, b.iss, append([]func(*bearer.Config){func(c *bearer.Config) {
		c.JWKSURL = "https://login.example.com/.well-known/jwks.json"
		c.Client = &http.Client{Transport: b}
		c.Logger = slog.New(slog.NewTextHandler(io.MultiWriter(b.log, &logs), &slog.HandlerOptions{Level: slog.LevelInfo}))
	}}, change...)...)
	return b
}

func (b *bed) RoundTrip(r *http.Request) (*http.Response, error) {
	b.mu.Lock()
	b.requests++
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

// fetches returns how often the issuer was asked since the last call.
func (b *bed) fetches() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.requests
	b.requests = 0
	return n
}

// token returns a token that is valid for a week.
func (b *bed) token() string {
	return b.iss.Token(audience, bearertest.Claims{"exp": time.Now().Add(7 * 24 * time.Hour).Unix()})
}

// unknown returns a token of the issuer's with a key id of nobody's.
func (b *bed) unknown(kid string) string {
	return b.iss.Sign(fmt.Sprintf(`{"alg":"ES256","kid":%q}`, kid), payload(b.iss, ""))
}

// forged returns a token with a known key id and a bad signature.
func (b *bed) forged() string {
	parts := strings.Split(b.token(), ".")
	return parts[0] + "." + parts[1] + "." + strings.Repeat("A", 86)
}

// status verifies token and returns the status of the reply.
func (b *bed) status(token string) int {
	status, _ := b.reply(context.Background(), token)
	return status
}

func (b *bed) reply(ctx context.Context, token string) (int, *bearer.Error) {
	_, err := b.auth.Verify(ctx, token)
	var e *bearer.Error
	if err == nil {
		return 200, nil
	}
	if !errors.As(err, &e) {
		b.Fatalf("got %T, want *bearer.Error", err)
	}
	if (e.Status == 503) != (e.RetryAfter >= time.Second) {
		b.Errorf("status %d with RetryAfter %v", e.Status, e.RetryAfter)
	}
	return e.Status, e
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
	if n := b.fetches(); n != fetches {
		b.Errorf("%s: %d fetches, want %d", what, n, fetches)
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

func inBubble(t *testing.T, f func(t *testing.T, b *bed), change ...func(*bearer.Config)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, newBed(t, change...)) })
}

func TestNewDoesNotFetch(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		time.Sleep(time.Hour)
		if n := b.fetches(); n != 0 {
			t.Errorf("%d fetches before the first request, want none", n)
		}
		// Nor do tokens that no key could save.
		for _, token := range []string{"x", "x.y.z", b.iss.Sign(`{"alg":"none"}`, `{}`), b.iss.Sign(`{"alg":"ES256","kid":""}`, `{}`)} {
			b.want("a malformed token", token, 401, 0, 0)
		}
	})
}

func TestNeverHadKeys(t *testing.T) {
	for name, tt := range map[string]struct {
		fault   func(*bearertest.Issuer)
		answers time.Duration // after which a fetch is known to have failed
	}{
		"refuses": {func(iss *bearertest.Issuer) { iss.SetDown(true) }, 0},
		"hangs":   {func(iss *bearertest.Issuer) { iss.SetHanging(true) }, 5 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bed) {
				tt.fault(b.iss)
				start := time.Now()
				if got := b.atOnce(20, func(int) string { return b.token() }); got[503] != 20 {
					t.Errorf("20 at once: %v, want 503 for all", got)
				}
				if took := time.Since(start); took > tt.answers {
					t.Errorf("20 at once: took %v, want %v", took, tt.answers)
				}
				if n := b.fetches(); n != 1 {
					t.Errorf("20 at once: %d fetches, want 1", n)
				}
				b.want("until the next try is due", b.token(), 503, 0, 0)
				_, e := b.reply(t.Context(), b.token())
				time.Sleep(e.RetryAfter)
				b.want("when it is due", b.token(), 503, tt.answers, 1)

				b.iss.SetDown(false)
				b.iss.SetHanging(false)
				_, e = b.reply(t.Context(), b.token())
				time.Sleep(e.RetryAfter)
				b.want("back again", b.token(), 200, 0, 1)
			})
		})
	}
}

// As in internal/jwks, but with a token from the cache: it is as old as its keys.
func TestIssuerDown(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		token := b.token()
		start := time.Now()
		b.want("first", token, 200, 0, 1)
		b.iss.SetDown(true)
		for time.Since(start) < 24*time.Hour+9*time.Minute {
			before := time.Now()
			if got := b.status(token); got != 200 || time.Since(before) > 0 {
				t.Fatalf("%v after the fetch: status %d after %v, want 200 at once", time.Since(start), got, time.Since(before))
			}
			time.Sleep(7 * time.Minute)
		}
		time.Sleep(time.Until(start.Add(24*time.Hour + 10*time.Minute)))
		if got := b.status(token); got != 503 {
			t.Errorf("a day past the soft expiry: status %d, want 503", got)
		}
		b.iss.SetDown(false)
		time.Sleep(15 * time.Second)
		if got := b.status(token); got != 200 {
			t.Errorf("back again: status %d, want 200", got)
		}
	})
}

// While the latest fetch failed, an unknown key may be a new one. What is wrong all the
// same is told.
func TestUnknownKeyWhileDown(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.want("first", b.token(), 200, 0, 1)
		old := b.forged()
		b.iss.SetDown(true)
		b.iss.Rotate()
		b.want("new key", b.token(), 503, 0, 1)
		b.want("bad signature", old, 401, 0, 0)
		b.want("malformed", "x.y.z", 401, 0, 0)
		if w := serve(b.auth.Handler(ok)); w.Code != 401 {
			t.Errorf("no credentials: status %d, want 401", w.Code)
		}
		b.iss.SetDown(false)
		time.Sleep(time.Second)
		b.want("when the next try is due", b.token(), 200, 0, 1)
		b.want("an unknown key, once the issuer is back", b.unknown("x"), 401, 0, 1)
	})
}

func TestRotation(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		old := b.token()
		b.want("first", old, 200, 0, 1)
		b.iss.Rotate()
		b.iss.SetDelay(200 * time.Millisecond)
		if got := b.atOnce(100, func(int) string { return b.token() }); got[200] != 100 {
			t.Errorf("100 with the new key: %v, want 200 for all", got)
		}
		if n := b.fetches(); n != 1 {
			t.Errorf("100 with the new key: %d fetches, want 1", n)
		}
		b.want("the old key", old, 200, 0, 0)
	})
}

func TestKeyRemoved(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		old := b.token()
		for range 3 { // it is in the cache
			b.status(old)
		}
		b.fetches()
		b.iss.Replace()
		b.want("before the next fetch", old, 200, 0, 0)
		b.want("the new key", b.token(), 200, 0, 1)
		b.want("the old key", old, 401, 0, 1) // it may have come back
		b.want("the old key again", old, 401, 0, 0)

		// Without a token of the new key it takes until the refresh.
		old = b.token()
		for range 3 {
			b.status(old)
		}
		b.fetches()
		b.iss.Replace()
		time.Sleep(10 * time.Minute)
		b.status(old) // starts the refresh
		synctest.Wait()
		b.want("after the refresh", old, 401, 0, 2)

		// After two days without requests no set is at hand, and the first one waits.
		old = b.token()
		for range 3 {
			b.status(old)
		}
		b.fetches()
		b.iss.Replace()
		time.Sleep(48 * time.Hour)
		b.want("after two days", old, 401, 0, 2)
	})
}

// A key that stays keeps its cached tokens, and one whose material changed
// under its id is a new one.
func TestSameIDNewKey(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		old := b.token()
		for range 3 {
			b.status(old)
		}
		other := bearertest.NewIssuer(b.iss.URL) // its key is named key-1, too
		if other.KeyID() != b.iss.KeyID() {
			t.Fatal("the keys have different ids")
		}
		theirs := other.Token(audience, nil)
		b.want("signed with a key that is not published", theirs, 401, 0, 1)
		b.iss = other
		b.want("before the next fetch", theirs, 401, 0, 0)
		time.Sleep(10 * time.Minute)
		b.status(theirs)
		synctest.Wait()
		b.want("after the refresh, the new key", theirs, 200, 0, 1)
		b.want("after the refresh, the old key", old, 401, 0, 0)
	})
}

// A token without key id may be of a key that is not known yet.
func TestKeyless(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		keyless := func() string { return b.iss.Sign(`{"alg":"ES256"}`, payload(b.iss, "")) }
		b.want("one key", keyless(), 200, 0, 1)
		b.iss.Rotate()
		b.want("a new key", keyless(), 200, 0, 1)
		b.want("an algorithm without a key", b.iss.Sign(`{"alg":"RS256"}`, payload(b.iss, "")), 401, 0, 1)
	})
}

// Every refusal for want of keys tells so.
func TestUnavailableError(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.iss.SetDown(true)
		_, e := b.reply(t.Context(), b.token())
		if e == nil || e.Status != 503 || e.Code != "" || errors.Is(e, jwt.ErrTokenUnverifiable) || !strings.Contains(e.Error(), "connection refused") {
			t.Errorf("got %+v", e)
		}
		w := serve(b.auth.Handler(ok), "Bearer "+b.token())
		checkReply(t, w, 503, "")
		if got := w.Header().Get("Retry-After"); got != "1" {
			t.Errorf("Retry-After = %q, want 1", got)
		}
	})
}

func TestKeyStats(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		start := time.Now()
		check := func(when string, want bearer.KeyStats) {
			t.Helper()
			got := b.auth.KeyStats()
			if (got.Err == nil) != (want.Err == nil) {
				t.Errorf("%s: Err = %v, want %v", when, got.Err, want.Err)
			}
			if got.Err = want.Err; got != want {
				t.Errorf("%s: got %+v, want %+v", when, got, want)
			}
		}
		down := errors.New("down")
		b.iss.SetDown(true)
		b.auth.Ready(t.Context())
		if got := b.auth.KeyStats().Refused; got != 0 {
			t.Errorf("Refused = %d after Ready, want 0: that is no token", got)
		}
		b.auth = newMiddleware(t, b.iss)
		check("new", bearer.KeyStats{})
		b.iss.SetDown(true)
		b.status(b.token())
		b.status(b.token())
		check("down", bearer.KeyStats{Err: down, Fetches: 1, Refused: 2})
		b.iss.SetDown(false)
		time.Sleep(time.Second)
		b.status(b.token())
		check("up", bearer.KeyStats{Keys: 1, FetchedAt: start.Add(time.Second), Fetches: 2, Refused: 2})
		last := time.Now()
		b.iss.SetDown(true)
		b.status(b.unknown("x"))
		check("an unknown key while down", bearer.KeyStats{Keys: 1, FetchedAt: last, Err: down, Fetches: 3, Refused: 3})
	})
}

// The last good set is given up on time, also between two tries.
func TestSetExpires(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.setAnswer(func(_ *http.Request, resp *http.Response) (*http.Response, error) {
			resp.Header.Set("Cache-Control", "max-age=600")
			return resp, nil
		})
		token := b.token()
		start := time.Now()
		for range 3 {
			b.status(token)
		}
		b.iss.SetDown(true)
		time.Sleep(10 * time.Minute)
		for range 10 { // until the pause is the longest
			b.status(token)
			time.Sleep(15 * time.Second)
		}
		// The soft life is ten minutes, or up to a tenth less.
		time.Sleep(time.Until(start.Add(24*time.Hour + 9*time.Minute - time.Second)))
		b.fetches()
		b.want("before it expires", token, 200, 0, 1)
		time.Sleep(time.Minute + time.Second)
		b.want("when it has expired", token, 503, 0, 1)
	})
}

// A token that expires in the cache is refused from there, as it would be otherwise,
// for as long as its key is published and the keys are at hand.
func TestExpiresInCache(t *testing.T) {
	for name, change := range map[string]func(*bearer.Config){
		"issuer":   func(*bearer.Config) {},
		"template": func(c *bearer.Config) { c.Issuer, c.IssuerTemplate = "", "https://login.example.com/{tenantid}" },
	} {
		t.Run(name, func(t *testing.T) {
			var told, uncachedTold bearer.Outcome
			inBubble(t, func(t *testing.T, b *bed) {
				uncached := newMiddleware(t, b.iss, change, func(c *bearer.Config) {
					c.Observe = func(_ context.Context, o bearer.Outcome) { uncachedTold = o }
					c.JWKSURL, c.TokenCache = "https://login.example.com/.well-known/jwks.json", -1
				})
				claims := bearertest.Claims{"exp": time.Now().Add(time.Minute).Unix()}
				if name == "template" {
					claims["iss"], claims["tid"] = "https://login.example.com/a", "a"
				}
				token := b.iss.Token(audience, claims)
				check := func(when string, status int, reason string, cached bool) {
					t.Helper()
					_, e := b.reply(t.Context(), token)
					_, err := uncached.Verify(t.Context(), token)
					if e == nil || e.Status != status || e.Reason != reason || told.Cached != cached || told.Err != e || told.Claims != nil {
						t.Errorf("%s: got %v, told %+v; want %d %s, cached = %v", when, e, told, status, reason, cached)
					}
					if told.Issuer == "" || told.Issuer != uncachedTold.Issuer {
						t.Errorf("%s: told of the issuer %q, and without a cache of %q", when, told.Issuer, uncachedTold.Issuer)
					}
					if e.Error() != err.Error() || errors.Is(e, jwt.ErrTokenExpired) != (reason == "expired") {
						t.Errorf("%s: got %v, and without a cache %v", when, e, err)
					}
				}
				b.want("valid", token, 200, 0, 1)
				time.Sleep(2*time.Minute - time.Microsecond)
				b.want("within the leeway", token, 200, 0, 0)
				time.Sleep(time.Second)
				check("expired", 401, "expired", true)
				check("expired", 401, "expired", true)
				b.iss.Replace()
				time.Sleep(10 * time.Minute)
				check("a refresh is due", 401, "expired", false)
				synctest.Wait()
				check("its key is gone", 401, "unknown_key", false)
				b.iss.SetDown(true)
				time.Sleep(48 * time.Hour)
				check("there are no keys", 503, "keys_unavailable", false)
			}, change, func(c *bearer.Config) { c.Observe = func(_ context.Context, o bearer.Outcome) { told = o } })
		})
	}
}

const (
	metadataPath = "/.well-known/openid-configuration"
	keysPath     = "/.well-known/jwks.json"
)

func statusOf(err error) int {
	var e *bearer.Error
	if errors.As(err, &e) {
		return e.Status
	}
	return 200
}
