package bearer

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"example.com/bearer/internal/jwks"
)

// However often requests at the same time keep one token, it takes one place. Tokens
// of one set stand in different places of it.
func TestCachePlaces(t *testing.T) {
	c := newTokenCache(ways)
	var all []*verified
	for n := 1; n <= ways; n++ {
		token := fmt.Sprint("token ", n)
		v := &verified{until: math.MaxInt64, key: new(jwks.Key)}
		v.write(token, new([numParts][]byte), nil)
		for range 5 {
			c.put(token, v, time.Now())
		}
		taken := 0
		for i := range c.made().sets[0].entries {
			if c.made().sets[0].entries[i].Load() != nil {
				taken++
			}
		}
		if taken != n {
			t.Fatalf("%d tokens take %d places", n, taken)
		}
		all = append(all, v)
		for _, v := range all {
			if c.get(v.token()) != v {
				t.Fatalf("%q is lost after %d tokens", v.token(), n)
			}
		}
	}
	if sets := len(c.made().sets); sets != 1 {
		t.Errorf("%d tokens take %d sets", ways, sets)
	}
}

// Tokens whose ends are alike do not share a place for that, and which do is another
// matter in each cache.
func TestCacheSpreads(t *testing.T) {
	const chars = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	var tokens []string
	for at := range 16 { // one character differs
		for _, c := range []byte(chars) {
			end := []byte("kR3-zQ0aX_b7LmTt")
			end[at] = c
			tokens = append(tokens, strings.Repeat("x", 100)+string(end))
		}
	}
	const sets = 64
	var before *tokenCache
	for range 200 {
		c := newTokenCache(sets * ways)
		var loads [sets]int
		for _, token := range tokens {
			loads[index(c.hash(token), sets)]++
		}
		for set, n := range loads {
			if n > 4*len(tokens)/sets { // 64 where 16 are expected: chance does not make it
				t.Errorf("%d of %d tokens in set %d of %d", n, len(tokens), set, sets)
			}
		}
		for i := range c.seed {
			if before != nil && c.seed[i] == before.seed[i] {
				t.Errorf("two caches have the same seed %d", i)
			}
		}
		before = c
	}
}

// So many headers and no more are remembered, none that is long, and none beyond the
// next key set.
func TestHeaderMemo(t *testing.T) {
	var m headerMemo
	h := new(header)
	longest := strings.Repeat("a", maxHeaderLength)
	for range 2 * maxHeaders {
		m.put(nil, longest, h)
	}
	sets := []*jwks.Set{new(jwks.Set), new(jwks.Set)}
	for _, set := range sets {
		m.put(set, longest+"a", h)
		m.put(set, fmt.Sprintf("first with %p", set), h)
		for range maxHeaders { // by requests that came at the same time
			m.put(set, longest, h)
		}
		for n := 2; n <= 2*maxHeaders; n++ {
			text := fmt.Sprintf("%p %d", set, n)
			m.put(set, text, h)
			if kept := m.get(text) == h; kept != (n < maxHeaders) {
				t.Fatalf("the header after %d others: kept = %t", n, kept)
			}
		}
		if m.get(longest) != h {
			t.Errorf("a header of %d bytes is not kept", len(longest))
		}
		if m.get(longest+"a") != nil {
			t.Errorf("a header of %d bytes is kept", len(longest)+1)
		}
		n := 1 // the first one, which has a place of its own
		m.byText.Range(func(any, any) bool { n++; return true })
		if n != maxHeaders {
			t.Errorf("%d headers are kept, want %d", n, maxHeaders)
		}
		for _, other := range sets {
			if kept := m.get(fmt.Sprintf("first with %p", other)) == h; kept != (other == set) {
				t.Errorf("with %p, the first header of %p is kept: %v", set, other, kept)
			}
		}
	}
}
