package jwks_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/bearer/bearertest"
	"example.com/bearer/internal/jwks"
)

func TestNewDoesNotFetch(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		time.Sleep(time.Hour)
		b.source.Stats()
		if n := b.fetches(); n != 0 {
			t.Errorf("%d fetches before the first request, want none", n)
		}
	})
}

func TestNeverHadKeys(t *testing.T) {
	type fault struct {
		set     func(*bearertest.Issuer)
		answers time.Duration // after which a fetch is known to have failed
	}
	keys := func(document string) fault {
		return fault{func(iss *bearertest.Issuer) { iss.SetKeys([]byte(document)) }, 0}
	}
	each(t, map[string]fault{
		"refuses":      {func(iss *bearertest.Issuer) { iss.SetDown(true) }, 0},
		"hangs":        {func(iss *bearertest.Issuer) { iss.SetHanging(true) }, 5 * time.Second},
		"is slow":      {func(iss *bearertest.Issuer) { iss.SetDelay(time.Minute) }, 5 * time.Second},
		"HTML":         keys("<html>"),
		"broken JSON":  keys(`{"keys":[`),
		"truncated":    keys(`{"keys":[{"kty":"RSA"}]`),
		"an empty set": keys(`{"keys":[]}`),
		"too much":     keys(string(bytes.Repeat([]byte(" "), 1<<20+1))),
		"keys is null": keys(`{"keys":null}`),
		"KEYS":         keys(`{"KEYS":[{"kty":"RSA"}]}`),
		"keys twice":   keys(`{"keys":[{"kty":"RSA"}],"keys":[{"kty":"RSA"}]}`),
		"no key in it": keys(`{"keys":[1,"a",null,{},[],{"kty":1},{"kty":""},{"KTY":"RSA"}]}`),
	}, func(t *testing.T, b *bed, fault fault) {
		fault.set(b.iss)
		start := time.Now()
		if got := b.atOnce(20, func(int) string { return b.token() }); got[503] != 20 {
			t.Errorf("20 at once: %v, want 503 for all", got)
		}
		if took := time.Since(start); took > fault.answers {
			t.Errorf("20 at once: took %v, want %v", took, fault.answers)
		}
		if n := b.fetches(); n != 1 {
			t.Errorf("20 at once: %d fetches, want 1", n)
		}
		b.want("until the next try is due", b.token(), 503, 0, 0)
		time.Sleep(b.unavailable(b.token()).RetryAfter)
		b.want("when it is due", b.token(), 503, fault.answers, 1)

		b.iss.SetDown(false)
		b.iss.SetHanging(false)
		b.iss.SetDelay(0)
		b.iss.SetKeys(nil)
		time.Sleep(b.unavailable(b.token()).RetryAfter)
		b.want("back again", b.token(), 200, 0, 1)
	})
}

// However long an outage, the API is back within 15 s of its issuer.
func TestBackoff(t *testing.T) {
	each(t, map[string]func(*bearertest.Issuer, bool){
		"down":    (*bearertest.Issuer).SetDown,
		"hanging": (*bearertest.Issuer).SetHanging,
	}, func(t *testing.T, b *bed, fault func(*bearertest.Issuer, bool)) {
		fault(b.iss, true)
		start := time.Now()
		for time.Since(start) < 10*time.Minute {
			b.status(b.token())
			time.Sleep(time.Second)
		}
		if n := b.fetches(); n < 38 || n > 60 {
			t.Errorf("%d fetches in 10 min, want about one each 15 s", n)
		}
		fault(b.iss, false)
		back := time.Now()
		for b.status(b.token()) != 200 {
			time.Sleep(100 * time.Millisecond)
		}
		if took := time.Since(back); took > 15*time.Second {
			t.Errorf("back after %v, want 15 s at most", took)
		}
	})
}

// The pauses after failures in a row, in seconds: doubling, and up to a quarter
// less.
func TestPauses(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.iss.SetDown(true)
		seen, longest := make(map[time.Duration]bool), make(map[time.Duration]bool)
		for i, want := range []float64{1, 2, 4, 8, 15, 15, 15, 15} {
			b.want(fmt.Sprint("try ", i), b.token(), 503, 0, 1)
			start := time.Now()
			for b.fetches() == 0 {
				time.Sleep(10 * time.Millisecond)
				b.status(b.token())
				synctest.Wait()
			}
			if got := time.Since(start); got.Seconds() < want*3/4-0.02 || got.Seconds() > want+0.02 {
				t.Errorf("pause %d was %v, want %v s", i+1, got, want)
			} else if seen[got] = true; i > 4 {
				longest[got] = true
			}
			b.source = b.open()
			for range i + 1 { // as many failures again
				b.status(b.token())
				time.Sleep(16 * time.Second)
			}
			b.fetches()
		}
		if len(seen) < 6 || len(longest) < 2 {
			t.Errorf("the pauses are %v, and the longest %v: without jitter", seen, longest)
		}
	})
}

func TestRetryAfter(t *testing.T) {
	type row struct {
		status   int
		header   string
		min, max float64 // seconds until the next try
	}
	date := func(d time.Duration) string { return time.Now().Add(d).UTC().Format(http.TimeFormat) }
	each(t, map[string]row{
		"none":        {503, "", 0.75, 1},
		"30 s":        {503, "30", 30, 30},
		"429":         {429, "30", 30, 30},
		"404":         {404, "30", 30, 30},
		"zero":        {503, "0", 0.75, 1},
		"an hour":     {503, "3600", 60, 60},
		"for ever":    {503, "99999999999999999999", 60, 60},
		"negative":    {503, "-5", 0.75, 1},
		"nonsense":    {503, "soon", 0.75, 1},
		"a date":      {503, "date", 19, 20},
		"a past date": {503, "Thu, 01 Jan 1998 00:00:00 GMT", 0.75, 1},
	}, func(t *testing.T, b *bed, row row) {
		if row.header == "date" {
			row.header = date(20 * time.Second)
		}
		b.setAnswer(func(_ *http.Request, resp *http.Response) (*http.Response, error) {
			resp.StatusCode = row.status
			resp.Header.Set("Retry-After", row.header)
			return resp, nil
		})
		b.want("first", b.token(), 503, 0, 1)
		if e := b.unavailable(b.token()); e.RetryAfter.Seconds() > max(row.max, 1) || e.RetryAfter.Seconds() < max(row.min, 1) {
			t.Errorf("callers are told %v, want %v to %v s", e.RetryAfter, row.min, row.max)
		}
		start := time.Now()
		for b.fetches() == 0 {
			time.Sleep(10 * time.Millisecond)
			b.status(b.token())
			synctest.Wait()
		}
		if took := time.Since(start).Seconds(); took < row.min-0.02 || took > row.max+0.02 {
			t.Errorf("the next try after %v s, want %v to %v", took, row.min, row.max)
		}
	})
}

// What the issuer asks for does not outlast the failure.
func TestRetryAfterSuccess(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.setHeader(http.Header{"Retry-After": {"60"}})
		b.want("first", b.token(), 200, 0, 1)
		b.want("unknown key", b.unknown("x"), 401, 0, 1)
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

// An issuer that is slow is not one that cannot be reached.
func TestSlowIssuer(t *testing.T) {
	each(t, map[string]struct{ metadata, keys time.Duration }{
		"3 s each":       {3 * time.Second, 3 * time.Second},
		"6 s for keys":   {0, 6 * time.Second},
		"14 s in all":    {8 * time.Second, 6 * time.Second},
		"10 and 10 s":    {10 * time.Second, 10 * time.Second},
		"14.9 s each":    {14900 * time.Millisecond, 14900 * time.Millisecond},
		"4 s and nobody": {2 * time.Second, 2 * time.Second},
	}, func(t *testing.T, b *bed, delay struct{ metadata, keys time.Duration }) {
		b.setAnswer(func(r *http.Request, resp *http.Response) (*http.Response, error) {
			d := delay.keys
			if r.URL.Path == metadataPath {
				d = delay.metadata
			}
			select {
			case <-time.After(d):
				return resp, nil
			case <-r.Context().Done():
				return nil, r.Context().Err()
			}
		})
		start := time.Now()
		status := b.status(b.token())
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("the first reply came after %v, want 5 s at most", took)
		}
		for status != 200 && time.Since(start) < time.Minute {
			before := time.Now()
			status = b.status(b.token())
			if took := time.Since(before); took > 5*time.Second {
				t.Errorf("a reply came after %v, want 5 s at most", took)
			}
			time.Sleep(100 * time.Millisecond)
		}
		limit := delay.metadata + delay.keys + time.Second
		if delay.metadata+delay.keys > 15*time.Second {
			limit = 15*time.Second + delay.keys + time.Second // the metadata are kept for the second try
		}
		if took := time.Since(start); status != 200 || took > limit {
			t.Errorf("status %d after %v, want 200 within %v", status, took, limit)
		}
		time.Sleep(15 * time.Second) // a fetch may be on its way
	}, discovery)
}

func TestIssuerDown(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.setHeader(http.Header{"Cache-Control": {"max-age=600"}})
		token := b.token()
		start := time.Now()
		b.want("first", token, 200, 0, 1)
		b.iss.SetDown(true)
		for time.Since(start) < 24*time.Hour+8*time.Minute {
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

// The last good set is given up on time, also between two tries.
func TestSetExpires(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.setHeader(http.Header{"Cache-Control": {"max-age=3600"}})
		token := b.token()
		start := time.Now()
		b.want("first", token, 200, 0, 1)
		b.setAnswer(func(*http.Request, *http.Response) (*http.Response, error) {
			return &http.Response{StatusCode: 503, Body: http.NoBody, Header: http.Header{"Retry-After": {"60"}}}, nil
		})
		last := start
		for b.status(token) == 200 && time.Since(start) < 26*time.Hour {
			last = time.Now()
			step := time.Second
			if time.Since(start) < 24*time.Hour+50*time.Minute {
				step = 5 * time.Minute
			}
			time.Sleep(step)
		}
		if served := last.Sub(start); served < 24*time.Hour+54*time.Minute-time.Second || served > 25*time.Hour {
			t.Errorf("served for %v, want a day and the soft life of 54 to 60 min", served)
		}
	})
}

// While the latest fetch failed, an unknown key may be a new one.
func TestUnknownKeyWhileDown(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.want("first", b.token(), 200, 0, 1)
		b.want("an unknown key", b.unknown("noted"), 401, 0, 1)
		b.iss.SetDown(true)
		kid := b.iss.KeyID()
		b.iss.Rotate()
		b.want("new key", b.token(), 503, 0, 1)
		b.want("new key again", b.token(), 503, 0, 0)
		b.want("another unknown key", b.unknown("x"), 503, 0, 0)
		b.want("a key id noted before", b.unknown("noted"), 503, 0, 0)
		b.want("no key id", b.keyless(), 503, 0, 0)
		b.iss.SetDown(false)
		time.Sleep(time.Second)
		b.want("when the next try is due", b.token(), 200, 0, 1)

		b.iss.SetDown(true)
		b.want("an unknown key", b.unknown("y"), 503, 0, 1)
		b.want("bad signature", b.forged(kid), 401, 0, 0)
		// The known key goes on, and sees to it that the next try is made.
		time.Sleep(time.Second)
		b.want("known key", b.token(), 200, 0, 1)
		b.iss.SetDown(false)
		time.Sleep(2 * time.Second)
		b.want("known key", b.token(), 200, 0, 1)
		b.want("unknown key, once the issuer is back", b.unknown("y"), 401, 0, 1)
	})
}

func TestKeyRemoved(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		old := b.token()
		key, err := verify(t.Context(), b.source, old)
		if err != nil {
			t.Fatal(err)
		}
		b.fetches()
		b.iss.Replace()
		b.want("before the next fetch", old, 200, 0, 0)
		if key.Withdrawn() {
			t.Error("withdrawn before the next fetch")
		}
		b.want("the new key", b.token(), 200, 0, 1)
		if !key.Withdrawn() {
			t.Error("not withdrawn after the fetch")
		}
		b.want("the old key", old, 401, 0, 1) // it may have come back
		b.want("the old key again", old, 401, 0, 0)

		// Without a token of the new key it takes until the refresh.
		old = b.token()
		b.iss.Replace()
		time.Sleep(10 * time.Minute)
		b.status(old) // starts the refresh
		synctest.Wait()
		b.want("after the refresh", old, 401, 0, 2)
	})
}

// A key that stays is the same one in the next set.
func TestKeyStays(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		token := b.token()
		first, _ := verify(t.Context(), b.source, token)
		b.iss.Rotate()
		b.want("a new key", b.token(), 200, 0, 2)
		second, err := verify(t.Context(), b.source, token)
		if err != nil || first != second || first.Withdrawn() {
			t.Errorf("got %p, %v, want the key of before, %p, not withdrawn", second, err, first)
		}
		if _, err := verify(t.Context(), b.source, b.token()); err != nil {
			t.Error(err)
		}
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
		b.want("first", old, 200, 0, 1)
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
		// Each further try is waited for as long, in which a withdrawn key may
		// show.
		time.Sleep(time.Minute)
		b.iss.SetHanging(false)
		b.iss.Replace()
		b.want("a key withdrawn, after a failure", old, 401, time.Second, 2)
	})
}

// However old the set gets while the issuer hangs: requests that keep coming do not
// wait.
func TestOutageCostsNoTime(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		token := b.token()
		b.want("first", token, 200, 0, 1)
		b.iss.SetHanging(true)
		for range 3600 {
			start := time.Now()
			if got := b.status(token); got != 200 || time.Since(start) > 0 {
				t.Fatalf("status %d after %v, want 200 at once", got, time.Since(start))
			}
			time.Sleep(time.Second)
		}
		time.Sleep(15 * time.Second) // the fetch ends
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
		_, err := verify(ctx, b.source, b.token())
		if !errors.Is(err, context.DeadlineExceeded) || statusOf(err) != 503 || time.Since(start) != 100*time.Millisecond {
			t.Errorf("a request that is cancelled: %v after %v, want its context's error at once", err, time.Since(start))
		}
		wg.Wait()
		if s := b.log.String(); strings.Contains(s, "WARN") {
			t.Errorf("logged as a failure: %s", s)
		}
	})
}

func TestStats(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		start := time.Now()
		check := func(when string, want jwks.Stats) {
			t.Helper()
			got := b.source.Stats()
			if (got.Err == nil) != (want.Err == nil) {
				t.Errorf("%s: Err = %v, want %v", when, got.Err, want.Err)
			}
			if got.Err = want.Err; got != want {
				t.Errorf("%s: got %+v, want %+v", when, got, want)
			}
		}
		down := errors.New("down")
		check("new", jwks.Stats{})
		b.iss.SetDown(true)
		b.status(b.token())
		b.status(b.token())
		check("down", jwks.Stats{Err: down, Fetches: 1})
		b.iss.SetDown(false)
		time.Sleep(time.Second)
		b.status(b.token())
		check("up", jwks.Stats{Keys: 1, FetchedAt: start.Add(time.Second), Fetches: 2})
		b.iss.Rotate()
		time.Sleep(10 * time.Minute)
		b.status(b.token())
		check("rotated", jwks.Stats{Keys: 2, FetchedAt: time.Now(), Fetches: 3})
		last := time.Now()
		b.iss.SetDown(true)
		time.Sleep(10 * time.Minute)
		b.status(b.token())
		synctest.Wait()
		check("down again", jwks.Stats{Keys: 2, FetchedAt: last, Err: down, Fetches: 4})
		time.Sleep(25 * time.Hour)
		b.status(b.token())
		check("down for a day", jwks.Stats{FetchedAt: last, Err: down, Fetches: 5})
	})
}

// Reading the statistics races with nothing.
func TestStatsWhileFetching(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				for j := range 50 {
					b.source.Stats()
					b.status(b.unknown(fmt.Sprint(i, j%2)))
				}
			})
		}
		wg.Wait()
	}, discovery)
}

// Once the issuer has withdrawn all of its keys and cannot be had any more, whose
// fault a token is cannot be said.
func TestNoKeyLeft(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		token := b.token()
		b.want("first", token, 200, 0, 1)
		b.iss.SetKeys([]byte(`{"keys":[{"kty":"oct","kid":"key-1","k":"AAAA"}]}`))
		time.Sleep(10 * time.Minute)
		b.status(token)
		synctest.Wait()
		b.fetches()
		b.want("withdrawn", token, 401, 0, 0)
		if n := b.source.Stats().Keys; n != 0 {
			t.Errorf("%d keys, want none", n)
		}
		b.iss.SetDown(true)
		time.Sleep(time.Minute)
		b.status(token)
		synctest.Wait()
		b.fetches()
		b.want("and the issuer is down", token, 503, 0, 0)
		b.iss.SetDown(false)
		b.iss.SetKeys(nil)
		time.Sleep(15 * time.Second)
		b.want("all is well again", token, 200, 0, 1)
	})
}
