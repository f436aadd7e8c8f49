package bearer

import (
	"fmt"
	"math"
	"testing"
	"time"

	"example.com/bearer/internal/jwks"
)

// However often requests at the same time keep one token, it takes one place. Tokens
// of one set stand in different places of it.
func TestCachePlaces(t *testing.T) {
	c := newTokenCache(ways)
	v := &verified{until: math.MaxInt64, key: new(jwks.Key)}
	for n := 1; n <= ways; n++ {
		token := fmt.Sprint("token ", n)
		for range 5 {
			c.put(token, v, time.Now())
		}
		taken := 0
		for i := range c.made().sets[0].entries {
			if c.made().sets[0].entries[i].Load() != nil {
				taken++
			}
		}
		if taken != n || c.get(token) != v {
			t.Fatalf("%d tokens take %d places", n, taken)
		}
	}
	if sets := len(c.made().sets); sets != 1 {
		t.Errorf("%d tokens take %d sets", ways, sets)
	}
}
