package main

import (
	"net/http"
	"strings"
	"testing"

	"example.com/bearer/bearertest"
)

// TestNonceKeys replaces the key that nonces are made with, replica by replica, as
// docs/operations.md says. No request is refused on account of it.
func TestNonceKeys(t *testing.T) {
	iss, redis, lb := startProvider(t), startRedis(t), startBalancer(t)
	before, after := strings.Repeat("ab", 32), strings.Repeat("cd", 32)
	args := func(keys ...string) []string {
		args := []string{"-redis", redis.addr, "-issuer", iss.URL, "-audience", audience, "-dpop", "-base-url", lb.url()}
		for _, key := range keys {
			args = append(args, "-nonce-key", key)
		}
		return args
	}
	for range 3 {
		lb.add(startReplica(t, args(before)...))
	}
	busy, idle := bearertest.NewClient(), bearertest.NewClient()
	// use sends a request to each replica, and one more each time that a replica
	// wants another nonce. It returns how many more.
	use := func(holder *bearertest.Client) (refused int) {
		t.Helper()
		bound := iss.Token(audience, bearertest.Claims{"cnf": bearertest.Claims{"jkt": holder.KeyThumbprint}})
		for range 3 {
			counted := &http.Client{Timeout: patience, Transport: counter{&refused}}
			resp, err := holder.Do(counted, get(lb.url(), path, ""), bound)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != 200 {
				t.Errorf("status %d, want 200", resp.StatusCode)
			}
		}
		return refused - 3
	}
	roll := func(keys ...string) (refused int) {
		t.Helper()
		for _, r := range lb.all() {
			lb.restart(t, r, args(keys...)...)
			refused += use(busy)
		}
		return refused
	}
	for name, holder := range map[string]*bearertest.Client{"busy": busy, "idle": idle} {
		if got := use(holder); got != 1 {
			t.Errorf("%s: %d requests were refused at first, want 1: the client has no nonce yet", name, got)
		}
	}
	if got := roll(before, after); got != 0 {
		t.Errorf("the new key comes second: %d requests were refused, want none", got)
	}
	if got := roll(after, before); got != 0 {
		t.Errorf("and then first: %d requests were refused, want none", got)
	}
	// Not yet: somebody may still have a nonce of the old key.
	roll(after)
	if got := use(idle); got == 0 {
		t.Error("the old key is gone: no request with a nonce of it was refused")
	}
}

// A counter counts the requests that it sends.
type counter struct{ sent *int }

func (c counter) RoundTrip(r *http.Request) (*http.Response, error) {
	*c.sent++
	return http.DefaultTransport.RoundTrip(r)
}
