package bearer_test

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"example.com/bearer"
	"example.com/bearer/bearertest"
)

// warm verifies token until it is in the cache, which shows in claims that
// share their memory.
func warm(t *testing.T, auth *bearer.Middleware, token string) *bearer.Claims {
	t.Helper()
	for range 3 {
		if _, err := auth.Verify(t.Context(), token); err != nil {
			t.Fatal(err)
		}
	}
	c, err := auth.Verify(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func cached(t *testing.T, auth *bearer.Middleware, token string, c *bearer.Claims) bool {
	t.Helper()
	again, err := auth.Verify(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	return sameMemory(again.Issuer, c.Issuer)
}

func TestTokenCache(t *testing.T) {
	for _, tt := range []struct {
		size int
		want bool
	}{{0, true}, {1, true}, {100, true}, {-1, false}} {
		iss, auth := newAuth(t, func(c *bearer.Config) { c.TokenCache = tt.size })
		token := iss.Token(audience, nil)
		c := warm(t, auth, token)
		if got := cached(t, auth, token, c); got != tt.want {
			t.Errorf("TokenCache %d: cached = %v, want %v", tt.size, got, tt.want)
		}
		// The same text at another address.
		if got := cached(t, auth, strings.Clone(token), c); got != tt.want {
			t.Errorf("TokenCache %d: another string of the same token: cached = %v, want %v", tt.size, got, tt.want)
		}
	}
	if _, err := bearer.New(bearer.Config{Issuer: "https://a.example", Audience: []string{"a"}, TokenCache: 1<<20 + 1}); err == nil {
		t.Error("a TokenCache beyond the bound is accepted")
	}
	iss, auth := newAuth(t)
	long := iss.Token(audience, bearertest.Claims{"x": strings.Repeat("x", 4000)})
	if cached(t, auth, long, warm(t, auth, long)) {
		t.Errorf("a token of %d bytes is kept", len(long))
	}
}

// A hit is refused on the very next request after the token's time is over, and
// before it has begun.
func TestCachedTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		iss, auth := newAuth(t)
		token := iss.Token(audience, nil)
		c := warm(t, auth, token)
		time.Sleep(time.Hour + 59*time.Second)
		if !cached(t, auth, token, c) {
			t.Error("not cached until the end")
		}
		time.Sleep(time.Second)
		_, err := auth.Verify(t.Context(), token)
		checkRefused(t, nil, err, "expired", err)
	})
}

// Nor is one before its time, should the clock be set back. It is in the bubble,
// by a quarter of a century.
func TestCachedTimesOfTheFuture(t *testing.T) {
	iss, auth := newAuth(t)
	now := time.Now().Unix()
	for _, tt := range []struct {
		claims bearertest.Claims
		reason string
	}{
		{bearertest.Claims{"nbf": now, "iat": nil}, "not_yet_valid"},
		{bearertest.Claims{"nbf": nil, "iat": now}, "issued_in_future"},
	} {
		token := iss.Token(audience, tt.claims)
		if c := warm(t, auth, token); !cached(t, auth, token, c) {
			t.Fatalf("%s: not cached", tt.reason)
		}
		synctest.Test(t, func(t *testing.T) {
			_, err := auth.Verify(t.Context(), token)
			checkRefused(t, nil, err, tt.reason, err)
		})
	}
}

// A token whose key was withdrawn is refused, one whose key stays is not looked
// at again.
func TestCachedKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		iss, auth := newAuth(t)
		old := iss.Token(audience, nil)
		c := warm(t, auth, old)
		iss.Rotate()
		token := iss.Token(audience, nil)
		warm(t, auth, token) // fetches
		if !cached(t, auth, old, c) {
			t.Error("a rotation that kept the key costs its tokens the cache")
		}
		iss.Replace()
		if _, err := auth.Verify(t.Context(), iss.Token(audience, nil)); err != nil {
			t.Fatal(err)
		}
		for _, gone := range []string{old, token} {
			_, err := auth.Verify(t.Context(), gone)
			checkRefused(t, nil, err, "unknown_key", err)
		}
	})
}

// The string that Verify is given may be part of a buffer that is used again.
func TestCachedTokenIsCloned(t *testing.T) {
	iss, auth := newAuth(t)
	alice := iss.Token(audience, bearertest.Claims{"sub": "alice"})
	buffer := []byte(alice)
	reused := unsafeString(buffer)
	warm(t, auth, reused)
	bob := iss.Token(audience, bearertest.Claims{"sub": "bobby"})
	if len(bob) != len(alice) {
		t.Fatal("the tokens are not of one length")
	}
	copy(buffer, bob)
	if c, err := auth.Verify(t.Context(), reused); err != nil || c.Subject != "bobby" {
		t.Errorf("bob's token in alice's buffer: got %+v, %v", c, err)
	}
	if c, err := auth.Verify(t.Context(), alice); err != nil || c.Subject != "alice" {
		t.Errorf("alice's token: got %+v, %v", c, err)
	}
	copy(buffer, strings.Repeat("x", len(buffer)))
	if c, err := auth.Verify(t.Context(), reused); err == nil {
		t.Errorf("no token in the buffer: got %+v", c)
	}
}

// What is remembered of a token does not keep the buffer that it came in.
func TestBufferIsNotKept(t *testing.T) {
	for _, size := range []int{0, -1} { // with the token's copy, and with its header alone
		iss, auth := newAuth(t, func(c *bearer.Config) { c.TokenCache = size })
		kept := func() weak.Pointer[byte] {
			buffer := []byte(iss.Token(audience, nil))
			warm(t, auth, unsafeString(buffer))
			return weak.Make(&buffer[0])
		}()
		for n := 0; kept.Value() != nil; n++ {
			if n == 10 {
				t.Errorf("TokenCache %d: the buffer is kept", size)
				break
			}
			runtime.GC()
		}
		runtime.KeepAlive(auth)
	}
}

// Tokens that end alike are told apart, and a forged one does not pass for the
// cached one whose signature it bears.
func TestCachedTokensThatEndAlike(t *testing.T) {
	iss, auth := newAuth(t)
	token := iss.Token(audience, bearertest.Claims{"sub": "alice", "scope": "read"})
	c := warm(t, auth, token)
	tail := token[len(token)-32:]
	for i := range 1000 {
		other := iss.Token(audience, bearertest.Claims{"sub": fmt.Sprint("mallory", i), "scope": "admin"})
		if _, err := auth.Verify(t.Context(), other[:len(other)-32]+tail); err == nil {
			t.Fatal("a forged token is accepted")
		}
	}
	parts := strings.Split(token, ".")
	_, err := auth.Verify(t.Context(), parts[0]+"."+encode(payload(iss, `,"scope":"admin"`))+"."+parts[2])
	checkRefused(t, nil, err, "signature", err)
	if !cached(t, auth, token, c) {
		t.Error("forged tokens drive a good one out of the cache")
	}
}

// More tokens than there are places cost some of them the cache, and nothing
// else.
func TestCacheIsBounded(t *testing.T) {
	iss, auth := newAuth(t, func(c *bearer.Config) { c.TokenCache = 64 })
	tokens := make([]string, 400)
	for i := range tokens {
		tokens[i] = iss.Token(audience, bearertest.Claims{"sub": fmt.Sprint(i)})
	}
	last := make([]*bearer.Claims, len(tokens))
	for i, token := range tokens {
		for range 4 {
			c, err := auth.Verify(t.Context(), token)
			if err != nil || c.Subject != fmt.Sprint(i) {
				t.Fatalf("token %d: got %+v, %v", i, c, err)
			}
			last[i] = c
		}
	}
	held := 0
	for i, token := range tokens {
		if cached(t, auth, token, last[i]) {
			held++
		}
	}
	if held == 0 || held > 64 {
		t.Errorf("%d tokens are held, want 64 at most and some", held)
	}
}

// Who comes again and again is not driven out by those who came twice, as long
// as there is one of them to drive out, or one whose time is over.
func TestCacheKeepsWhatIsUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		iss, auth := newAuth(t, func(c *bearer.Config) { c.TokenCache = 16 })
		subject := 0
		twice := func() {
			subject++
			token := iss.Token(audience, bearertest.Claims{"sub": fmt.Sprint(subject)})
			for range 2 {
				if _, err := auth.Verify(t.Context(), token); err != nil {
					t.Fatal(err)
				}
			}
		}
		regular := iss.Token(audience, nil)
		c := warm(t, auth, regular)
		for i := range 100 {
			twice()
			if !cached(t, auth, regular, c) {
				t.Fatalf("a token that is used all the time is driven out by the %dth that came twice", i)
			}
		}
		for round := range 5 {
			time.Sleep(2 * time.Hour) // all are expired
			tokens := make([]string, 15)
			claims := make([]*bearer.Claims, len(tokens))
			for i := range tokens {
				tokens[i] = iss.Token(audience, nil)
				claims[i] = warm(t, auth, tokens[i])
			}
			warm(t, auth, iss.Token(audience, bearertest.Claims{"exp": time.Now().Unix()}))
			time.Sleep(2 * time.Minute) // the last one is
			twice()
			for i := range tokens {
				if !cached(t, auth, tokens[i], claims[i]) {
					t.Fatalf("round %d: a good token is driven out and an expired one stays", round)
				}
			}
		}
	})
}

// Tokens that come in turn are kept too, if they are a few more than there are
// places.
func TestCacheOfTokensInTurn(t *testing.T) {
	iss, auth := newAuth(t, func(c *bearer.Config) { c.TokenCache = 256 })
	iss.UseAlgorithm("EdDSA")
	tokens := make([]string, 320)
	last := make([]*bearer.Claims, len(tokens))
	for i := range tokens {
		tokens[i] = iss.Token(audience, nil)
	}
	hits := 0
	for round := range 10 {
		for i, token := range tokens {
			c, err := auth.Verify(t.Context(), token)
			if err != nil {
				t.Fatal(err)
			}
			if round >= 5 && sameMemory(c.Issuer, last[i].Issuer) {
				hits++
			}
			last[i] = c
		}
	}
	if want := 5 * len(tokens) / 3; hits < want {
		t.Errorf("%d of %d requests found their token in the cache, want %d at least", hits, 5*len(tokens), want)
	}
}

// A token is kept at its first use while there is room, and in a full cache at its
// second. A token that is expired makes room.
func TestCacheFirstUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		iss, auth := newAuth(t, func(c *bearer.Config) { c.TokenCache = 16 })
		// uses returns how often a new token must be used until it is kept.
		uses := func(life time.Duration) int {
			token := iss.Token(audience, bearertest.Claims{"exp": time.Now().Add(life).Unix()})
			for n := 1; n < 5; n++ {
				c, err := auth.Verify(t.Context(), token)
				if err != nil {
					t.Fatal(err)
				}
				if cached(t, auth, strings.Clone(token), c) {
					return n
				}
			}
			return 0
		}
		for i := range 16 {
			if got := uses(time.Duration(1+i) * time.Hour); got != 1 {
				t.Fatalf("with %d tokens in 16 places, a token is kept at use %d, want 1", i, got)
			}
		}
		token := iss.Token(audience, nil)
		first, err := auth.Verify(t.Context(), token)
		if err != nil {
			t.Fatal(err)
		}
		if second, err := auth.Verify(t.Context(), token); err != nil || sameMemory(first.Issuer, second.Issuer) {
			t.Errorf("in a full cache a token is kept at its first use; %v", err)
		} else if !cached(t, auth, token, second) {
			t.Error("in a full cache a token is not kept at its second use")
		}
		// The one that came twice may have taken the place of the first to expire.
		time.Sleep(2*time.Hour + 2*time.Minute)
		if got := uses(time.Hour); got != 1 {
			t.Errorf("with an expired token in the cache, one is kept at use %d, want 1", got)
		}
	})
}

// A stream of tokens that are used once, and one of tokens that are used twice, take
// about one and a half times the length of as many tokens as are kept, and no more.
func TestCacheMemory(t *testing.T) {
	const places = 1024
	iss, auth := newAuth(t, func(c *bearer.Config) { c.TokenCache = places })
	iss.UseAlgorithm("EdDSA")
	heap := func() int64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	pad := strings.Repeat("x", 1000)
	before := heap()
	for uses := 1; uses <= 2; uses++ {
		length := 0
		for i := range 3 * places {
			token := iss.Token(audience, bearertest.Claims{"pad": pad, "sub": fmt.Sprint(i)})
			length = len(token)
			for range uses {
				if _, err := auth.Verify(t.Context(), token); err != nil {
					t.Fatal(err)
				}
			}
		}
		grown, most := heap()-before, int64(places*length*7/4)
		t.Logf("%d tokens of %d bytes used %d times: %d KiB", 3*places, length, uses, grown>>10)
		if grown > most {
			t.Errorf("%d tokens of %d bytes used %d times: %d KiB, want %d at most", 3*places, length, uses, grown>>10, most>>10)
		}
	}
	runtime.KeepAlive(auth)
}

// However many tokens came once to a full cache, a new one is not kept on its first
// use.
func TestCacheForgets(t *testing.T) {
	iss, auth := newAuth(t, func(c *bearer.Config) { c.TokenCache = 16 })
	kept := 0
	for i := range 300 {
		token := iss.Token(audience, bearertest.Claims{"sub": fmt.Sprint(i)})
		c, err := auth.Verify(t.Context(), token)
		if err != nil {
			t.Fatal(err)
		}
		if i >= 200 && cached(t, auth, token, c) {
			kept++
		}
	}
	if kept > 12 {
		t.Errorf("%d of 100 tokens are kept on their first use", kept)
	}
}

func TestCachedLength(t *testing.T) {
	iss, auth := newAuth(t)
	for size, want := range map[int]bool{4 << 10: true, 4<<10 + 1: false} {
		token := sized(t, iss, size)
		if got := cached(t, auth, token, warm(t, auth, token)); got != want {
			t.Errorf("%d bytes: cached = %v, want %v", size, got, want)
		}
	}
}

// A token without a key id, or with one that several keys have, hangs on the key
// that verified it: neither on the first that was tried nor on the others.
func TestCachedKeyIsTheOneThatVerified(t *testing.T) {
	for name, kid := range map[string]string{"no id": "", "a shared id": "shared"} {
		synctest.Test(t, func(t *testing.T) {
			iss, auth := newAuth(t)
			header := jwk{"alg": "ES256"}
			var keys []any
			var tokens []string
			for range 3 {
				signer := bearertest.NewIssuer(iss.URL)
				var key jwk
				if err := json.Unmarshal(published(t, signer)[0], &key); err != nil {
					t.Fatal(err)
				}
				delete(key, "kid")
				if kid != "" {
					key["kid"], header["kid"] = kid, kid
				}
				keys = append(keys, key)
				tokens = append(tokens, signer.Sign(string(marshal(header)), fmt.Sprintf(`{"iss":%q,"aud":%q,"exp":4000000000}`, iss.URL, audience)))
			}
			publish := func(keys ...any) {
				iss.SetKeys(marshal(map[string]any{"keys": keys}))
				time.Sleep(time.Hour) // all of them are fetched anew
				auth.Ready(t.Context())
			}
			publish(keys...)
			for i, token := range tokens {
				if c := warm(t, auth, token); !cached(t, auth, token, c) {
					t.Fatalf("%s: the token of key %d is not cached", name, i)
				}
			}
			publish(keys[0], keys[2])
			for i, accepted := range []bool{true, false, true} {
				if _, err := auth.Verify(t.Context(), tokens[i]); (err == nil) != accepted {
					t.Errorf("%s: without key 1, the token of key %d: %v, want accepted %t", name, i, err, accepted)
				}
			}
			publish(keys[1], keys[2])
			for i, accepted := range []bool{false, true, true} {
				if _, err := auth.Verify(t.Context(), tokens[i]); (err == nil) != accepted {
					t.Errorf("%s: without key 0, the token of key %d: %v, want accepted %t", name, i, err, accepted)
				}
			}
		})
	}
}

// A cache holds about as many tokens as it is for, wherever in it they come to stand.
func TestCacheHoldsWhatItIsFor(t *testing.T) {
	iss, _ := newAuth(t)
	iss.UseAlgorithm("EdDSA")
	for _, tt := range []struct{ size, tokens, least int }{
		{0, 1500, 1490}, // of 16384
		{1, 1, 1},
		{16, 16, 16},
		{17, 17, 17},
		{300, 300, 190}, // some of its sets are full before others
	} {
		auth := newMiddleware(t, iss, func(c *bearer.Config) { c.TokenCache = tt.size })
		tokens := make([]string, tt.tokens)
		claims := make([]*bearer.Claims, tt.tokens)
		for i := range tokens {
			tokens[i] = iss.Token(audience, nil)
			claims[i] = warm(t, auth, tokens[i])
		}
		held := 0
		for i := range tokens {
			if cached(t, auth, tokens[i], claims[i]) {
				held++
			}
		}
		if held < tt.least {
			t.Errorf("TokenCache %d: %d of %d tokens are held, want %d at least", tt.size, held, tt.tokens, tt.least)
		}
	}
}

// Tokens that nobody uses any more make room, all of them.
func TestCacheTurnsOver(t *testing.T) {
	iss, auth := newAuth(t, func(c *bearer.Config) { c.TokenCache = 16 })
	for range 3 {
		tokens := make([]string, 14)
		claims := make([]*bearer.Claims, len(tokens))
		for i := range tokens {
			tokens[i] = iss.Token(audience, nil)
		}
		for range 40 {
			for i := range tokens {
				claims[i] = warm(t, auth, tokens[i])
			}
		}
		for i := range tokens {
			if !cached(t, auth, tokens[i], claims[i]) {
				t.Errorf("token %d of %d in use is not held, though 16 can be", i, len(tokens))
			}
		}
	}
}

// A token whose key was withdrawn makes room before any other.
func TestCacheForgetsWithdrawnKeys(t *testing.T) {
	for range 12 {
		synctest.Test(t, func(t *testing.T) {
			iss, auth := newAuth(t, func(c *bearer.Config) { c.TokenCache = 16 })
			token := func() string {
				return iss.Sign("", fmt.Sprintf(`{"iss":%q,"aud":%q,"exp":4000000000,"jti":%q}`, iss.URL, audience, rand.Text()))
			}
			for range 8 {
				warm(t, auth, token())
			}
			iss.Rotate()
			tokens := make([]string, 8)
			claims := make([]*bearer.Claims, len(tokens))
			for i := range tokens {
				tokens[i] = token()
				claims[i] = warm(t, auth, tokens[i])
			}
			iss.SetKeys(marshal(map[string]any{"keys": published(t, iss)[1:]}))
			time.Sleep(time.Hour)
			auth.Ready(t.Context())
			warm(t, auth, token())
			for i := range tokens {
				if !cached(t, auth, tokens[i], claims[i]) {
					t.Error("a good token is driven out and one of a withdrawn key stays")
				}
			}
		})
	}
}

// However a token's claims are made, what is kept of it takes 8 KiB at most, and
// tokens like those of large issuers are kept.
func TestEntryMemory(t *testing.T) {
	const places, most = 128, 8 << 10
	heap := func() int64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	// list is a JSON array of audience and of as many elements as make 2600 bytes.
	list := func(element func(i int) string) string {
		var b strings.Builder
		fmt.Fprintf(&b, `[%q`, audience)
		for i := 0; b.Len() < 2600; i++ {
			b.WriteString("," + element(i))
		}
		return b.String() + "]"
	}
	short, long := func(i int) string { return `"` + strconv.Itoa(i) + `"` }, func(i int) string { return fmt.Sprintf(`"scope-%d:%s"`, i, strings.Repeat("x", 200)) }
	escaped := func(n int) string { return `"` + strings.Repeat(`\n`, n) + `"` }
	for _, tt := range []struct {
		name    string
		members string // of the payload
		kept    bool
	}{
		{"few claims", `"aud":"` + audience + `"`, true},
		{"long text", `"aud":"` + audience + `","x":"` + strings.Repeat("x", 2700) + `"`, true},
		{"escapes elsewhere", `"aud":"` + audience + `","x":` + escaped(1350), true},
		{"long scope", `"aud":"` + audience + `","scope":"a` + strings.Repeat("z", 2600) + `"`, true},
		{"scope array of 500 bytes", `"aud":"` + audience + `","x":"` + strings.Repeat("x", 1500) + `","scope":["a","` + strings.Repeat("b", 500) + `"]`, true},
		{"scope array", `"aud":"` + audience + `","scope":` + list(long), true},
		{"escaped scope", `"aud":"` + audience + `","scope":"a` + strings.Repeat(`\u0020b`+strings.Repeat("c", 40), 54) + `"`, true},
		{"three audiences", `"aud":["` + audience + `","b","c"],"x":"` + strings.Repeat("x", 2600) + `"`, true},
		{"audience of empty strings", `"aud":` + list(func(int) string { return `""` }), false},
		{"audience of short strings", `"aud":` + list(short), true},
		{"audience of long strings", `"aud":` + list(long), true},
		{"audience of escapes", `"aud":` + list(func(int) string { return `"\n"` }), true},
		{"audience of long escapes", `"aud":` + list(func(int) string { return escaped(150) }), true},
		{"escaped subject", `"aud":"` + audience + `","sub":` + escaped(1350), true},
		{"all at once", `"aud":["` + audience + `",` + escaped(150) + `,` + escaped(150) + `],"sub":` + escaped(150) + `,"client_id":` + escaped(150) + `,"acr":` + escaped(150) + `,"jti":` + escaped(150) + `,"scope":` + escaped(300), true},
	} {
		iss, auth := newAuth(t, func(c *bearer.Config) { c.TokenCache, c.Logger = places, quiet })
		iss.UseAlgorithm("EdDSA")
		token := func(i int) string {
			return iss.Sign("", fmt.Sprintf(`{"iss":%q,"exp":4000000000,"n":%d,%s}`, iss.URL, i, tt.members))
		}
		if n := len(token(0)); n > 4<<10 {
			t.Fatalf("%s: the token has %d bytes", tt.name, n)
		}
		first := token(0)
		if got := cached(t, auth, first, warm(t, auth, first)); got != tt.kept {
			t.Errorf("%s: kept = %v, want %v", tt.name, got, tt.kept)
		}
		before := heap()
		for i := range 2 * places {
			text := token(i)
			for range 2 {
				if _, err := auth.Verify(t.Context(), text); err != nil {
					t.Fatal(err)
				}
			}
		}
		held := (heap() - before) / places
		t.Logf("%s: %d bytes for each place", tt.name, held)
		if held > most {
			t.Errorf("%s: %d bytes for each place, want %d at most", tt.name, held, most)
		}
		runtime.KeepAlive(auth)
	}
}
