package jwks_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestUnknownKey(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.want("the very first request", b.unknown("x"), 401, 0, 1)
		b.want("the same again", b.unknown("x"), 401, 0, 0)
		b.want("another", b.unknown("y"), 401, 0, 1)
		b.want("no key id, and a bad signature", b.forged(""), 401, 0, 1)
		b.want("the same again", b.forged(""), 401, 0, 0)
		b.want("a bad signature under a listed key id", b.forged(b.iss.KeyID()), 401, 0, 0)
	})
}

// What a fetch did not bring is believed for 4 s, and for the same key id for
// twice as long each time, up to 15 s.
func TestBelief(t *testing.T) {
	each(t, map[string]struct {
		token func(b *bed) string
		n     int // at once, after each belief
	}{
		"key id": {func(b *bed) string { return b.unknown("x") }, 10},
		"none":   {func(b *bed) string { return b.forged("") }, 1},
	}, func(t *testing.T, b *bed, row struct {
		token func(b *bed) string
		n     int
	}) {
		token := row.token
		b.want("first", token(b), 401, 0, 1)
		for i, seconds := range []time.Duration{4, 8, 15, 15, 15} {
			time.Sleep(seconds*time.Second - time.Millisecond)
			b.want(fmt.Sprint("within belief ", i), token(b), 401, 0, 0)
			time.Sleep(time.Millisecond)
			// Many at once are one more time and not many.
			if got, n := b.atOnce(row.n, func(int) string { return token(b) }), b.fetches(); got[401] != row.n || n != 1 {
				t.Errorf("after belief %d: %v and %d fetches, want 401 for all and one", i, got, n)
			}
		}
		time.Sleep(time.Minute)
		b.want("it is forgotten", token(b), 401, 0, 1)
		b.iss.Rotate()
		time.Sleep(4 * time.Second)
		b.want("and was believed for 4 s again", token(b), 401, 0, 1)
	})
}

// Each step is a token that comes after a wait. Its status is 200 if its key is
// the issuer's new one by then.
func TestRotationAmongStrangers(t *testing.T) {
	type step struct {
		wait   time.Duration
		kid    string // of a stranger's token; "new" for the issuer's new key
		rotate bool   // before it
		status int
		within time.Duration
	}
	const s = time.Second
	strangers := func(n int) (steps []step) {
		for i := range n {
			steps = append(steps, step{0, fmt.Sprint("stranger ", i), false, 401, 0})
		}
		return steps
	}
	guess := step{0, "key-2", false, 401, 0}
	rotated := func(status int, within time.Duration) step { return step{0, "new", true, status, within} }
	again := func(wait time.Duration, status int) step { return step{wait, "new", false, status, 0} }
	each(t, map[string][]step{
		"no strangers":     {rotated(200, 0)},
		"two strangers":    append(strangers(2), rotated(200, 0)),
		"three strangers":  append(strangers(3), rotated(200, 4*s)),
		"later":            append(strangers(3), step{3 * s, "new", true, 200, 1 * s}),
		"refilled":         append(strangers(3), step{4 * s, "new", true, 200, 0}),
		"a guess":          {guess, rotated(401, 0), again(4*s, 200)},
		"a guess, earlier": {guess, rotated(401, 0), again(3900*time.Millisecond, 401)},
		"two guesses":      {guess, {4 * s, "key-2", false, 401, 0}, rotated(401, 0), again(8*s, 200)},
		"guessed over and over": {guess, {4 * s, "key-2", false, 401, 0}, {8 * s, "key-2", false, 401, 0}, {15 * s, "key-2", false, 401, 0},
			rotated(401, 0), again(15*s, 200)},
	}, func(t *testing.T, b *bed, steps []step) {
		b.want("first", b.token(), 200, 0, 1)
		for i, step := range steps {
			time.Sleep(step.wait)
			if step.rotate {
				b.iss.Rotate()
			}
			token := b.unknown(step.kid)
			if step.kid == "new" {
				token = b.token()
			}
			start := time.Now()
			if got := b.status(token); got != step.status || time.Since(start) > step.within {
				t.Errorf("step %d, %+v: status %d after %v", i, step, got, time.Since(start))
			}
		}
	})
}

// Three fetches at once and one each 4 s, however long it was quiet before.
func TestBucket(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.setHeader(http.Header{"Cache-Control": {"max-age=3600"}})
		b.want("first", b.token(), 200, 0, 1)
		time.Sleep(40 * time.Minute)
		for i := range 3 {
			b.want("burst", b.unknown(fmt.Sprint("a", i)), 401, 0, 1)
		}
		start := time.Now()
		for i := range 5 {
			b.want("after the burst", b.unknown(fmt.Sprint("b", i)), 401, 4*time.Second, 1)
		}
		if took := time.Since(start); took != 20*time.Second {
			t.Errorf("five more took %v, want 20 s", took)
		}
	})
}

// While the bucket is empty eight key ids wait for the next fetch, with 256
// requests each, and share it.
func TestWaiting(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		empty := func() {
			b.status(b.token())
			for i := range 3 {
				b.status(b.unknown(fmt.Sprint(time.Now().UnixNano(), i)))
			}
			b.fetches()
		}
		empty()
		start := time.Now()
		var wg sync.WaitGroup
		for i := range 7 {
			wg.Go(func() { b.status(b.unknown(fmt.Sprint(i))) })
		}
		wg.Go(func() {
			if got := b.atOnce(300, func(int) string { return b.forged("") }); got[401] != 300 {
				t.Errorf("300 without key id: %v, want 401 for all", got)
			}
		})
		synctest.Wait()
		b.want("a ninth key id", b.unknown("ninth"), 401, 0, 0)
		b.want("a known key", b.token(), 200, 0, 0)
		// The 257th and later requests were refused at once, and one more with a
		// key id that waits is welcome.
		b.want("one more with a key id that waits", b.unknown("3"), 401, 4*time.Second, 1)
		wg.Wait()
		if took := time.Since(start); took != 4*time.Second {
			t.Errorf("all were answered after %v, want 4 s", took)
		}

		// All who share the fetch have what it brought.
		time.Sleep(time.Minute)
		empty()
		b.iss.Rotate()
		start = time.Now()
		if got := b.atOnce(400, func(int) string { return b.token() }); got[200] != 256 || got[401] != 144 {
			t.Errorf("400 with a new key: %v, want 200 for 256", got)
		}
		if took, n := time.Since(start), b.fetches(); took != 4*time.Second || n != 1 {
			t.Errorf("took %v and %d fetches, want 4 s and 1", took, n)
		}

		// The room is free again.
		time.Sleep(time.Minute)
		empty()
		b.iss.Rotate()
		if got := b.atOnce(8, func(i int) string {
			if i == 7 {
				return b.token()
			}
			return b.unknown(fmt.Sprint("again", i))
		}); got[200] != 1 || got[401] != 7 {
			t.Errorf("eight key ids, one of them new: %v, want 200 for one", got)
		}
	})
}

// Those who wait for their turn are given the time that a fetch takes besides.
func TestWaitingForSlowIssuer(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.want("first", b.token(), 200, 0, 1)
		for i := range 3 {
			b.status(b.unknown(fmt.Sprint(i)))
		}
		b.fetches()
		b.iss.Rotate()
		b.iss.SetDelay(2 * time.Second)
		b.want("a new key", b.token(), 200, 6*time.Second, 1)

		time.Sleep(time.Minute)
		b.iss.SetDelay(0)
		for i := range 3 {
			b.status(b.unknown(fmt.Sprint(i)))
		}
		b.fetches()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		_, err := verify(ctx, b.source, b.unknown("x"))
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("a request that is cancelled while it waits: %v after %v", err, time.Since(start))
		}
		b.want("the place it had is free", b.unknown("y"), 401, 3*time.Second, 1)
	})
}

func TestFlood(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		valid := b.token()
		b.want("first", valid, 200, 0, 1)
		b.iss.SetDelay(100 * time.Millisecond)
		start := time.Now()
		var wg sync.WaitGroup
		flood := func(name string, d time.Duration) {
			for i := 0; time.Since(start) < d; i++ {
				for j := range 20 {
					wg.Go(func() {
						if got := b.status(b.unknown(fmt.Sprint(name, i, j))); got != 401 {
							t.Errorf("an unknown key: status %d, want 401", got)
						}
					})
				}
				before := time.Now()
				if got := b.status(valid); got != 200 || time.Since(before) > 0 {
					t.Fatalf("valid token: status %d after %v, want 200 at once", got, time.Since(before))
				}
				time.Sleep(100 * time.Millisecond)
			}
		}
		flood("a", 20*time.Second)
		if n := b.fetches(); n > 8 {
			t.Errorf("4,000 unknown keys in 20 s: %d fetches, want 8 at most", n)
		}
		// In the middle of it, a key that nobody announced.
		wg.Go(func() { flood("b", 30*time.Second) })
		time.Sleep(time.Second)
		b.iss.Rotate()
		since := time.Now()
		token := b.token()
		for b.status(token) != 200 {
			time.Sleep(50 * time.Millisecond)
		}
		if took := time.Since(since); took > 4*time.Second+200*time.Millisecond {
			t.Errorf("a new key in the flood: accepted after %v, want 4 s at most", took)
		}
		wg.Wait()
		time.Sleep(time.Minute)
		b.fetches()
		for range 1000 {
			if got := b.status(b.forged("key-1")); got != 401 {
				t.Fatalf("bad signature: status %d, want 401", got)
			}
		}
		if n := b.fetches(); n != 0 {
			t.Errorf("1,000 bad signatures: %d fetches, want none", n)
		}
	})
}

// An hour of bad signatures without key id, ten a second, costs the issuer a fetch
// each 15 s, and a real rotation is seen in time.
func TestFloodWithoutKeyID(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.want("first", b.token(), 200, 0, 1)
		forged := b.forged("")
		for range 36000 {
			if got := b.status(forged); got != 401 {
				t.Fatalf("status %d, want 401", got)
			}
			time.Sleep(100 * time.Millisecond)
		}
		if n := b.fetches(); n > 250 {
			t.Errorf("%d fetches in an hour, want 240 and the refreshes at most", n)
		}
		b.iss.Rotate()
		b.want("a new key", b.token(), 200, 0, 1)
	})
}

// What is known of unknown key ids is bounded, and forgotten.
func TestUnknownKeysAreBounded(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.want("first", b.token(), 200, 0, 1)
		b.iss.SetDelay(100 * time.Millisecond)
		long := make([]byte, 10000)
		for i := range long {
			long[i] = 'x'
		}
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		// All of them share two fetches, the second of which they are noted for.
		if got := b.atOnce(2400, func(i int) string { return b.unknown(fmt.Sprint(i, string(long))) }); got[401] != 2400 {
			t.Errorf("unknown keys: %v, want 401 for all", got)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 14<<20 {
			t.Errorf("2,400 key ids of 10 KB keep %d MiB", grown>>20)
		}
		time.Sleep(time.Minute)
		b.fetches()
		b.iss.SetDelay(0)
		b.want("later", b.unknown("y"), 401, 0, 1)
		b.want("later, again", b.unknown("y"), 401, 0, 0)
		time.Sleep(4 * time.Second)
		b.want("a valid one", b.token(), 200, 0, 0)
	})
}

func TestRotation(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		old := b.token()
		b.want("first", old, 200, 0, 1)
		b.iss.Rotate()
		b.iss.SetDelay(200 * time.Millisecond)
		if got := b.atOnce(1000, func(int) string { return b.token() }); got[200] != 1000 {
			t.Errorf("1,000 with the new key: %v, want 200 for all", got)
		}
		if n := b.fetches(); n != 1 {
			t.Errorf("1,000 with the new key: %d fetches, want 1", n)
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

// What another's fetch has brought meanwhile is looked into, and costs no further
// one.
func TestNewerSetAtHand(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.want("first", b.token(), 200, 0, 1)
		now := time.Now()
		arrival := b.source.Arrival(now)
		old, err := b.source.Current(t.Context(), now)
		if err != nil {
			t.Fatal(err)
		}
		b.want("another's", b.unknown("x"), 401, 0, 1)
		newer, err := b.source.AwaitNewer(t.Context(), old, "y", arrival)
		if err != nil || newer == old {
			t.Errorf("got %p, %v, want a newer set than %p", newer, err, old)
		}
		if _, err := b.source.AwaitNewer(t.Context(), newer, "y", arrival); statusOf(err) != 401 {
			t.Errorf("after a fetch that began later: %v, want ErrUnknownKey", err)
		}
		if n := b.fetches(); n != 0 {
			t.Errorf("%d fetches, want none", n)
		}
	})
}

// Two fetches in a row do not make a request wait twice as long.
func TestTwoSlowFetches(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.want("first", b.token(), 200, 0, 1)
		b.setAnswer(func(r *http.Request, resp *http.Response) (*http.Response, error) {
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
		time.Sleep(15 * time.Second) // the fetch ends
	})
}
