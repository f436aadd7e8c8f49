package bearer_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"example.com/bearer"
)

var soak = flag.Duration("soak", 10*time.Minute, "how much (virtual) time TestSoak takes")

// An API under constant traffic while its issuer rotates keys, goes down and
// comes back, and strangers do what strangers do. The bubble also sees to it
// that no goroutine is left behind.
func TestSoak(t *testing.T) {
	for name, cache := range map[string]int{"cached": 0, "uncached": -1} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, soakBed, func(c *bearer.Config) { c.TokenCache = cache })
		})
	}
}

func soakBed(t *testing.T, b *bed) {
	h := b.auth.Handler(ok)
	end := time.Now().Add(*soak)
	pause := func(d time.Duration) { time.Sleep(d/2 + rand.N(d)) }

	b.setAnswer(func(_ *http.Request, resp *http.Response) (*http.Response, error) {
		resp.Header.Set("Cache-Control", "max-age=60")
		return resp, nil
	})
	// Tokens that were accepted once, so that their key is at hand.
	var mu sync.Mutex
	accepted := []string{b.token()}
	if got := b.status(accepted[0]); got != 200 {
		t.Fatalf("at the start: status %d, want 200", got)
	}

	forged := accepted[0][:len(accepted[0])-43] + strings.Repeat("A", 43)

	var wg sync.WaitGroup
	var served, strangers atomic.Int64
	for range 4 {
		wg.Go(func() {
			for time.Now().Before(end) && !t.Failed() {
				mu.Lock()
				token := accepted[rand.N(len(accepted))]
				mu.Unlock()
				start := time.Now()
				if w := serve(h, "Bearer "+token); w.Code != 200 || time.Since(start) > 0 {
					t.Errorf("a token whose key is at hand: status %d after %v, want 200 at once", w.Code, time.Since(start))
				}
				served.Add(1)
				pause(200 * time.Millisecond)
			}
		})
	}
	for i := range 4 {
		wg.Go(func() {
			for n := 0; time.Now().Before(end); n++ {
				token := forged
				if i%2 == 0 {
					token = b.unknown(fmt.Sprint("stranger ", i, " ", n))
				}
				if got := b.status(token); got != 401 && (got != 503 || i%2 != 0) {
					t.Errorf("a stranger's token: status %d, want 401, or 503 for an unknown key", got)
				}
				strangers.Add(1)
				pause(200 * time.Millisecond)
			}
		})
	}

	// until waits until a token of the current key is accepted.
	until := func(what string, limit time.Duration) {
		token := b.token()
		start := time.Now()
		for b.status(token) != 200 {
			time.Sleep(100 * time.Millisecond)
		}
		if took := time.Since(start); took > limit {
			t.Errorf("%s: accepted after %v, want %v at most", what, took, limit)
		}
		mu.Lock()
		accepted = append(accepted, token)
		mu.Unlock()
	}
	for n := 0; time.Now().Before(end); n++ {
		switch n % 5 {
		case 0:
			b.iss.Announce()
			time.Sleep(time.Minute) // a refresh brings it
			b.iss.Rotate()
			until("an announced key", 0)
		case 1:
			b.iss.Rotate()
			until("an unannounced key amid a flood", 10*time.Second)
		case 2:
			b.iss.SetDown(true)
			pause(time.Minute)
			b.iss.SetDown(false)
		case 3:
			b.iss.SetHanging(true)
			b.iss.Rotate()
			pause(time.Minute)
			b.iss.SetHanging(false)
			until("a key of the time of the outage", 15*time.Second)
		case 4:
			b.iss.SetDelay(2 * time.Second)
			b.iss.Rotate()
			until("a key of a slow issuer", 14*time.Second)
			b.iss.SetDelay(0)
		}
		pause(20 * time.Second)
	}
	wg.Wait()
	synctest.Wait()
	fetches, most := b.fetches(), 20+int((*soak+2*time.Minute)/(5*time.Second))
	if fetches > most {
		t.Errorf("%d fetches in %v, want %d at most", fetches, *soak, most)
	}
	t.Logf("%d valid requests, %d of strangers, %d fetches, %d keys", served.Load(), strangers.Load(), fetches, b.auth.KeyStats().Keys)
}
