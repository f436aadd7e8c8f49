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
		"refuses":       {func(iss *bearertest.Issuer) { iss.SetDown(true) }, 0},
		"hangs":         {func(iss *bearertest.Issuer) { iss.SetHanging(true) }, 5 * time.Second},
		"is slow":       {func(iss *bearertest.Issuer) { iss.SetDelay(time.Minute) }, 5 * time.Second},
		"HTML":          {func(iss *bearertest.Issuer) { iss.SetKeys([]byte("<html>")) }, 0},
		"broken JSON":   {func(iss *bearertest.Issuer) { iss.SetKeys([]byte(`{"keys":[`)) }, 0},
		"an empty set":  {func(iss *bearertest.Issuer) { iss.SetKeys([]byte(`{"keys":[]}`)) }, 0},
		"too much":      {func(iss *bearertest.Issuer) { iss.SetKeys(bytes.Repeat([]byte(" "), 1<<20+1)) }, 0},
		"keys is null":  {func(iss *bearertest.Issuer) { iss.SetKeys([]byte(`{"keys":null}`)) }, 0},
		"KEYS":          {func(iss *bearertest.Issuer) { iss.SetKeys([]byte(`{"KEYS":[{}]}`)) }, 0},
		"keys twice":    {func(iss *bearertest.Issuer) { iss.SetKeys([]byte(`{"keys":[{}],"keys":[{}]}`)) }, 0},
		"nothing valid": {func(iss *bearertest.Issuer) { iss.SetKeys([]byte(`{"keys":[1,"a",null,{},[]]}`)) }, 0},
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
				b.iss.SetDelay(0)
				b.iss.SetKeys(nil)
				_, e = b.reply(t.Context(), b.token())
				time.Sleep(e.RetryAfter)
				b.want("back again", b.token(), 200, 0, 1)
			})
		})
	}
}

// However long an outage, the API is back within 15 s of its issuer.
func TestBackoff(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		for name, fault := range map[string]func(bool){"down": b.iss.SetDown, "hanging": b.iss.SetHanging} {
			b.auth = newMiddleware(t, b.iss, func(c *bearer.Config) {
				c.JWKSURL = "https://login.example.com/.well-known/jwks.json"
				c.Client = &http.Client{Transport: b}
			})
			fault(true)
			b.fetches()
			for range 600 { // 10 min of a request a second, and more while it hangs
				b.status(b.token())
				time.Sleep(time.Second)
			}
			if n := b.fetches(); n < 40 || n > 120 {
				t.Errorf("%s: %d fetches in 10 min, want about one each 15 s", name, n)
			}
			fault(false)
			back := time.Now()
			for b.status(b.token()) != 200 {
				time.Sleep(100 * time.Millisecond)
			}
			if took := time.Since(back); took > 15*time.Second {
				t.Errorf("%s: back after %v, want 15 s at most", name, took)
			}
		}
	})
}

func TestColdStart(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.iss.SetDelay(time.Second)
		if got := b.atOnce(40, func(int) string { return b.token() }); got[200] != 40 {
			t.Errorf("40 at once: %v, want 200 for all", got)
		}
		if n := b.fetches(); n != 1 {
			t.Errorf("%d fetches, want 1", n)
		}
	})
}

func TestIssuerDown(t *testing.T) {
	for name, cache := range map[string]int{"cached": 0, "uncached": -1} {
		t.Run(name, func(t *testing.T) {
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
			}, func(c *bearer.Config) { c.TokenCache = cache })
		})
	}
}

// While the latest fetch failed, an unknown key may be a new one.
func TestUnknownKeyWhileDown(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.want("first", b.token(), 200, 0, 1)
		b.iss.SetDown(true)
		b.iss.Rotate()
		b.want("new key", b.token(), 503, 0, 1)
		b.want("new key again", b.token(), 503, 0, 0)
		b.want("another unknown key", b.unknown("x"), 503, 0, 0)
		b.want("no key id", b.iss.Sign(`{"alg":"ES256"}`, payload(b.iss, "")), 503, 0, 0)
		b.iss.SetDown(false)
		time.Sleep(time.Second)
		b.want("when the next try is due", b.token(), 200, 0, 1)

		b.iss.SetDown(true)
		old := b.forged()
		b.want("an unknown key", b.unknown("y"), 503, 0, 1)
		b.want("bad signature", old, 401, 0, 0)
		b.want("malformed", "x.y.z", 401, 0, 0)
		if w := serve(b.auth.Handler(ok)); w.Code != 401 {
			t.Errorf("no credentials: status %d, want 401", w.Code)
		}
		// The known key goes on, and sees to it that the next try is made.
		time.Sleep(time.Second)
		b.want("known key", b.token(), 200, 0, 1)
		b.iss.SetDown(false)
		time.Sleep(2 * time.Second)
		b.want("known key", b.token(), 200, 0, 1)
		b.want("unknown key, once the issuer is back", b.unknown("y"), 401, 0, 1)
	})
}

func TestUnknownKey(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.want("the very first request", b.unknown("x"), 401, 0, 1)
		b.want("the same again", b.unknown("x"), 401, 0, 0)
		b.want("another", b.unknown("y"), 401, 0, 1)
		time.Sleep(29 * time.Second)
		b.want("the first within 30 s", b.unknown("x"), 401, 0, 0)
		time.Sleep(2 * time.Second)
		b.want("the first after 30 s", b.unknown("x"), 401, 0, 1)
		b.want("an algorithm that is not accepted", b.iss.Sign(`{"alg":"HS256","kid":"z"}`, payload(b.iss, "")), 401, 0, 0)
	})
}

func TestFlood(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		valid := b.token()
		b.want("first", valid, 200, 0, 1)
		b.iss.SetDelay(100 * time.Millisecond)
		start := time.Now()
		for i := range 100 { // 2,000 in 10 s
			if got := b.atOnce(20, func(j int) string { return b.unknown(fmt.Sprintf("%d-%d", i, j)) }); got[401] != 20 {
				t.Fatalf("unknown keys: %v, want 401 for all", got)
			}
			before := time.Now()
			if got := b.status(b.token()); got != 200 || time.Since(before) > 0 {
				t.Fatalf("valid token: status %d after %v, want 200 at once", got, time.Since(before))
			}
			time.Sleep(100 * time.Millisecond)
		}
		if n := b.fetches(); n > 5 {
			t.Errorf("2,000 unknown keys in %v: %d fetches, want 5 at most", time.Since(start), n)
		}
		// In the middle of it, a key that nobody announced.
		b.iss.Replace()
		since := time.Now()
		for b.status(b.token()) != 200 {
			b.status(b.unknown(time.Since(since).String()))
			time.Sleep(100 * time.Millisecond)
		}
		if took := time.Since(since); took > 10*time.Second {
			t.Errorf("a new key in the flood: accepted after %v, want 10 s at most", took)
		}
		b.fetches()
		for range 1000 {
			if got := b.status(b.forged()); got != 401 {
				t.Fatalf("bad signature: status %d, want 401", got)
			}
		}
		if n := b.fetches(); n != 0 {
			t.Errorf("1,000 bad signatures: %d fetches, want none", n)
		}
	})
}

// The list of key ids that are known to be nobody's is bounded.
func TestMissingKeysAreBounded(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		for i := range 3000 {
			b.status(b.unknown(fmt.Sprint(i)))
			time.Sleep(8 * time.Second)
		}
		b.fetches()
		b.want("a valid one", b.token(), 200, 0, 0)
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

// A fetch that began before a key was published says nothing about the key.
func TestRotationDuringFetch(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.want("first", b.token(), 200, 0, 1)
		// The set is read when the fetch begins, and arrives a second later.
		b.setAnswer(func(r *http.Request, resp *http.Response) (*http.Response, error) {
			time.Sleep(time.Second)
			return resp, nil
		})
		var wg sync.WaitGroup
		wg.Go(func() { b.status(b.unknown("x")) })
		synctest.Wait()
		time.Sleep(time.Millisecond)
		b.iss.Rotate()
		b.want("new key", b.token(), 200, 2*time.Second, 2)
		wg.Wait()
	})
}

func TestKeyRemoved(t *testing.T) {
	for name, cache := range map[string]int{"cached": 0, "uncached": -1} {
		t.Run(name, func(t *testing.T) {
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
			}, func(c *bearer.Config) { c.TokenCache = cache })
		})
	}
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

// From four fifths of its life on, a set is refreshed in the background.
func TestRefresh(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		token := b.token()
		b.want("first", token, 200, 0, 1)
		b.iss.SetDelay(2 * time.Second)
		time.Sleep(7 * time.Minute)
		b.want("fresh", token, 200, 0, 0)
		time.Sleep(70 * time.Second)
		b.want("at four fifths", token, 200, 0, 1)
		for range 20 {
			b.want("while the refresh is on its way", token, 200, 0, 0)
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(7 * time.Minute)
		b.want("fresh again", token, 200, 0, 0)
	})
}

// A set that nobody looked at for long is refreshed first, if that is quick.
func TestIdle(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		old := b.token()
		for range 3 {
			b.status(old)
		}
		b.fetches()
		b.iss.Replace()
		time.Sleep(21 * time.Minute)
		b.iss.SetDelay(500 * time.Millisecond)
		if got := b.atOnce(10, func(int) string { return old }); got[401] != 10 {
			t.Errorf("a key withdrawn meanwhile: %v, want 401 for all", got)
		}

		old = b.token()
		b.status(old)
		time.Sleep(21 * time.Minute)
		b.fetches()
		b.iss.SetHanging(true)
		start := time.Now()
		if got := b.atOnce(10, func(int) string { return old }); got[200] != 10 || time.Since(start) != time.Second {
			t.Errorf("an issuer that hangs: %v after %v, want 200 for all after 1 s", got, time.Since(start))
		}
		start = time.Now()
		for range 100 { // no request pays again
			b.status(old)
			time.Sleep(100 * time.Millisecond)
		}
		if took := time.Since(start); took != 10*time.Second {
			t.Errorf("100 requests waited for %v", took-10*time.Second)
		}
	})
}

func TestCacheControl(t *testing.T) {
	for _, tt := range []struct {
		header   http.Header
		min, max time.Duration // life of the set: refreshed after four fifths
	}{
		{http.Header{}, 9 * time.Minute, 10 * time.Minute},
		{http.Header{"Cache-Control": {"public"}}, 9 * time.Minute, 10 * time.Minute},
		{http.Header{"Cache-Control": {"max-age=300"}}, 5 * time.Minute, 5 * time.Minute},
		{http.Header{"Cache-Control": {"public, MAX-AGE=300, must-revalidate"}}, 5 * time.Minute, 5 * time.Minute},
		{http.Header{"Cache-Control": {"public", `max-age="300"`}}, 5 * time.Minute, 5 * time.Minute},
		{http.Header{"Cache-Control": {"max-age=300"}, "Age": {"100"}}, 200 * time.Second, 200 * time.Second},
		{http.Header{"Cache-Control": {"max-age=7200"}, "Age": {"6000"}}, 20 * time.Minute, 20 * time.Minute},
		{http.Header{"Cache-Control": {"max-age=300"}, "Age": {"-100"}}, 5 * time.Minute, 5 * time.Minute},
		{http.Header{"Cache-Control": {"max-age=0"}}, time.Minute, time.Minute},
		{http.Header{"Cache-Control": {"no-store"}}, time.Minute, time.Minute},
		{http.Header{"Cache-Control": {"no-cache, max-age=600"}}, time.Minute, time.Minute},
		{http.Header{"Cache-Control": {"max-age=3600, no-store"}}, time.Minute, time.Minute},
		{http.Header{"Cache-Control": {"max-age=3600"}, "Age": {"99999999999999999999"}}, time.Minute, time.Minute},
		{http.Header{"Cache-Control": {"max-age=nonsense"}}, time.Minute, time.Minute},
		{http.Header{"Cache-Control": {"max-age=-5"}}, time.Minute, time.Minute},
		{http.Header{"Cache-Control": {"max-age=99999"}}, time.Hour, time.Hour},
		{http.Header{"Cache-Control": {"max-age=9223372036854775807"}, "Age": {"9223372036854775807"}}, time.Minute, time.Minute},
		{http.Header{"Cache-Control": {"max-age=9999999999999999999999"}}, time.Hour, time.Hour},
	} {
		inBubble(t, func(t *testing.T, b *bed) {
			b.setAnswer(func(_ *http.Request, resp *http.Response) (*http.Response, error) {
				for name, values := range tt.header {
					resp.Header[name] = values
				}
				return resp, nil
			})
			token := b.token()
			b.status(token)
			b.fetches()
			start := time.Now()
			for b.fetches() == 0 && time.Since(start) < 2*time.Hour {
				time.Sleep(time.Second)
				b.status(token)
				synctest.Wait()
			}
			if after, slack := time.Since(start), 2*time.Second; after < tt.min*4/5-slack || after > tt.max*4/5+slack {
				t.Errorf("%v: refreshed after %v, want four fifths of %v to %v", tt.header, after, tt.min, tt.max)
			}
		})
	}
}

func TestETag(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		var statuses []int
		b.setAnswer(func(_ *http.Request, resp *http.Response) (*http.Response, error) {
			statuses = append(statuses, resp.StatusCode)
			return resp, nil
		})
		token := b.token()
		b.status(token)
		for range 3 {
			time.Sleep(10 * time.Minute)
			b.status(token)
			synctest.Wait()
		}
		if want := "[200 304 304 304]"; fmt.Sprint(statuses) != want {
			t.Errorf("the issuer answered %v, want %v", statuses, want)
		}
		b.want("after them", token, 200, 0, 4)
		b.iss.Rotate()
		b.want("a new key", b.token(), 200, 0, 1)

		// 304 to a request without condition is no key set.
		b.auth = newMiddleware(t, b.iss, func(c *bearer.Config) { c.Client = &http.Client{Transport: b} })
		b.setAnswer(func(_ *http.Request, resp *http.Response) (*http.Response, error) {
			resp.StatusCode = 304
			return resp, nil
		})
		if got := b.status(token); got != 503 {
			t.Errorf("304 out of the blue: status %d, want 503", got)
		}
	})
}

// A set that is of no use leaves the old one in place.
func TestSetReplacedByNonsense(t *testing.T) {
	for _, document := range []string{``, `{}`, `null`, `[]`, `{"keys":[]}`, `{"keys":null}`, `{"keys":{}}`, `{"error":"x"}`, `<html>`,
		`{"keys":[{"kty":"oct","k":"AAAA","kid":"key-1"}]}`, `{"keys":[{"kty":"RSA","kid":"key-1"}]}`} {
		inBubble(t, func(t *testing.T, b *bed) {
			token := b.token()
			b.want("first", token, 200, 0, 1)
			b.iss.SetKeys([]byte(document))
			b.want("unknown key", b.unknown("x"), 503, 0, 1)
			time.Sleep(12 * time.Hour)
			b.want("known key, "+document, token, 200, 0, 1)
		})
	}
}

func TestKeyless(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		keyless := func() string { return b.iss.Sign(`{"alg":"ES256"}`, payload(b.iss, "")) }
		b.want("one key", keyless(), 200, 0, 1)
		b.iss.Rotate()
		b.want("a new key", keyless(), 200, 0, 1)
		b.iss.Rotate()
		b.iss.Rotate()
		b.want("the fourth key", keyless(), 200, 0, 1)
		for range 12 {
			b.iss.Rotate()
		}
		time.Sleep(time.Minute)
		b.want("the sixteenth key", keyless(), 200, 0, 1)
		b.iss.Rotate()
		time.Sleep(time.Minute)
		b.want("the seventeenth key", keyless(), 401, 0, 1) // sixteen are tried
		b.want("an algorithm without a key", b.iss.Sign(`{"alg":"RS256"}`, payload(b.iss, "")), 401, 0, 1)
	})
}

func TestCancelledRequest(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.iss.SetDelay(time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		var wg sync.WaitGroup
		wg.Go(func() { b.want("a request that stays", b.token(), 200, time.Second, 1) })
		start := time.Now()
		_, e := b.reply(ctx, b.token())
		if !errors.Is(e, context.DeadlineExceeded) || time.Since(start) != 100*time.Millisecond {
			t.Errorf("a request that is cancelled: %v after %v, want its context's error at once", e, time.Since(start))
		}
		wg.Wait()
		if s := b.log.String(); strings.Contains(s, "WARN") {
			t.Errorf("logged as a failure: %s", s)
		}
	})
}

// A client that panics harms nobody.
func TestClientPanics(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.setAnswer(func(*http.Request, *http.Response) (*http.Response, error) { panic("boom") })
		b.want("while it panics", b.token(), 503, 0, 1)
		b.setAnswer(nil)
		time.Sleep(time.Second)
		b.want("afterwards", b.token(), 200, 0, 1)
	})
}

// Nor does a log handler.
func TestLogHandlerPanics(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.want("with such a handler", b.token(), 200, 0, 1)
	}, func(c *bearer.Config) { c.Logger = slog.New(panickingHandler{slog.DiscardHandler}) })
}

type panickingHandler struct{ slog.Handler }

func (panickingHandler) Enabled(_ context.Context, l slog.Level) bool { return l > slog.LevelDebug }
func (panickingHandler) Handle(context.Context, slog.Record) error    { panic("boom") }

// States are logged when they change and not per request.
func TestKeyLog(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		records := func() (all []string) {
			b.log.mu.Lock()
			defer b.log.mu.Unlock()
			for line := range strings.Lines(b.log.b.String()) {
				_, line, _ = strings.Cut(line, `msg="bearer: `)
				line, _, _ = strings.Cut(line, `"`)
				all = append(all, line)
			}
			b.log.b.Reset()
			return all
		}
		step := func(what string, want ...string) {
			t.Helper()
			for range 20 {
				b.status(b.token())
				b.status(b.unknown("x"))
				b.status(b.forged())
				time.Sleep(10 * time.Second)
			}
			if got := records(); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%s: logged %q, want %q", what, got, want)
			}
		}
		step("start", "keys changed")
		step("quiet")
		b.iss.SetDown(true)
		step("outage", "keys cannot be fetched")
		step("the same outage")
		b.iss.SetDown(false)
		step("back", "keys can be fetched again")
		b.iss.Rotate()
		step("rotation", "keys changed")
		odd := func(kids ...string) {
			keys := []json.RawMessage{}
			for _, kid := range kids {
				keys = append(keys, json.RawMessage(fmt.Sprintf(`{"kty":"odd","kid":%q}`, kid)))
			}
			var set struct{ Keys []json.RawMessage }
			b.iss.SetKeys(nil)
			resp, err := b.iss.Client().Get("https://login.example.com/.well-known/jwks.json")
			if err != nil {
				t.Fatal(err)
			}
			json.NewDecoder(resp.Body).Decode(&set)
			document, _ := json.Marshal(map[string]any{"keys": append(set.Keys, keys...)})
			b.iss.SetKeys(document)
			time.Sleep(10 * time.Minute)
		}
		odd("a")
		step("an odd key", "keys skipped")
		step("the same odd key")
		odd("a", "b")
		step("another odd key", "keys skipped")
		odd()
		step("no odd key")
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
		b.iss.Rotate()
		time.Sleep(10 * time.Minute)
		b.status(b.token())
		check("rotated", bearer.KeyStats{Keys: 2, FetchedAt: time.Now(), Fetches: 3, Refused: 2})
		last := time.Now()
		b.iss.SetDown(true)
		time.Sleep(10 * time.Minute)
		b.status(b.token())
		synctest.Wait()
		check("down again", bearer.KeyStats{Keys: 2, FetchedAt: last, Err: down, Fetches: 4, Refused: 2})
		time.Sleep(25 * time.Hour)
		b.status(b.token())
		check("down for a day", bearer.KeyStats{FetchedAt: last, Err: down, Fetches: 5, Refused: 3})
	})
}

// A key that the document lists again and again takes no other's place.
func TestKeylessWithDuplicates(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.iss.Rotate()
		keys := published(t, b.iss)
		b.iss.SetKeys(marshal(map[string]any{"keys": []any{keys[0], keys[0], keys[0], keys[0], keys[1]}}))
		b.want("the second key", b.iss.Sign(`{"alg":"ES256"}`, payload(b.iss, "")), 200, 0, 1)
		if n := b.auth.KeyStats().Keys; n != 2 {
			t.Errorf("%d keys, want 2", n)
		}
	})
}

// Two fetches in a row do not make a request wait twice as long.
func TestTwoSlowFetches(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.want("first", b.token(), 200, 0, 1)
		b.setAnswer(func(_ *http.Request, resp *http.Response) (*http.Response, error) {
			time.Sleep(4 * time.Second)
			return resp, nil
		})
		var wg sync.WaitGroup
		wg.Go(func() { b.status(b.unknown("x")) })
		synctest.Wait()
		b.fetches()
		b.iss.SetHanging(true)
		time.Sleep(time.Millisecond)
		b.want("unknown key during a slow fetch", b.unknown("y"), 503, 5*time.Second, 1)
		wg.Wait()
		time.Sleep(5 * time.Second) // the fetch ends
	})
}

// The list of key ids that are nobody's has an end, and room again when its
// entries are out of date.
func TestMissingKeysList(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.want("first", b.token(), 200, 0, 1)
		b.iss.SetDelay(100 * time.Millisecond)
		kid := func(i int) string { return b.unknown(fmt.Sprint(i)) }
		if got := b.atOnce(1100, kid); got[401] != 1100 {
			t.Errorf("1,100 unknown keys: %v, want 401 for all", got)
		}
		if n := b.fetches(); n > 2 { // the second for those that came during the first
			t.Errorf("1,100 unknown keys: %d fetches, want 2 at most", n)
		}
		for i := range 1100 {
			b.status(kid(i))
		}
		if n := b.fetches(); n == 0 {
			t.Error("more than 1,024 key ids are noted")
		}
		time.Sleep(time.Minute)
		b.want("later", b.unknown("x"), 401, time.Second, 1)
		b.want("later, again", b.unknown("x"), 401, 0, 0)
	})
}

// An issuer that comes back while a fetch hangs is not waited for longer than
// one that comes back between two.
func TestBackoffWhileHanging(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.iss.SetHanging(true)
		for range 60 {
			b.status(b.token())
			time.Sleep(time.Second)
		}
		for range 5 {
			var wg sync.WaitGroup
			for b.fetches(); b.fetches() == 0; time.Sleep(100 * time.Millisecond) {
				wg.Go(func() { b.status(b.token()) })
				synctest.Wait()
			}
			wg.Wait()
		}
		var wg sync.WaitGroup
		for b.fetches(); b.fetches() == 0; time.Sleep(100 * time.Millisecond) {
			wg.Go(func() { b.status(b.token()) })
			synctest.Wait()
		}
		b.iss.SetHanging(false)
		back := time.Now()
		for b.status(b.token()) != 200 {
			time.Sleep(100 * time.Millisecond)
		}
		if took := time.Since(back); took > 15*time.Second {
			t.Errorf("back after %v, want 15 s at most", took)
		}
		wg.Wait()
	})
}

// The servers of one API do not all come back at the same moment, and none
// comes later than it would without chance.
func TestBackoffIsJittered(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.iss.SetDown(true)
		pauses := make(map[time.Duration]bool)
		for range 10 {
			b.auth = newMiddleware(t, b.iss, func(c *bearer.Config) { c.Client = &http.Client{Transport: b} })
			b.status(b.token())
			time.Sleep(time.Second)
			_, e := b.reply(t.Context(), b.token())
			if e.RetryAfter < 1500*time.Millisecond || e.RetryAfter > 2*time.Second {
				t.Errorf("RetryAfter = %v after two failures, want 1.5 to 2 s", e.RetryAfter)
			}
			pauses[e.RetryAfter] = true
		}
		if len(pauses) < 3 {
			t.Errorf("10 APIs pause for %v", pauses)
		}
	})
}

func TestBucketRate(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.want("first", b.token(), 200, 0, 1)
		for i := range 3 {
			b.want("burst", b.unknown(fmt.Sprint("a", i)), 401, 0, 1)
		}
		b.want("after the burst", b.unknown("b"), 401, 0, 0)
		time.Sleep(7900 * time.Millisecond)
		b.want("within 8 s", b.unknown("c"), 401, 0, 0)
		time.Sleep(100 * time.Millisecond)
		b.want("after 8 s", b.unknown("d"), 401, 0, 1)
		b.want("right after", b.unknown("e"), 401, 0, 0)
	})
}

// The last good set is given up on time, also between two tries.
func TestSetExpires(t *testing.T) {
	for name, cache := range map[string]int{"cached": 0, "uncached": -1} {
		t.Run(name, func(t *testing.T) {
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
				time.Sleep(time.Until(start.Add(24*time.Hour + 10*time.Minute - time.Second)))
				b.fetches()
				b.want("a second before", token, 200, 0, 1) // the next try is 11 s away
				time.Sleep(time.Second)
				b.want("when it expires", token, 503, 0, 0)
			}, func(c *bearer.Config) { c.TokenCache = cache })
		})
	}
}
