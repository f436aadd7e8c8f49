package bearer

import (
	"math"
	"math/bits"
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// Sizes of the cache.
const (
	defaultTokenCache = 16384 // of 10,000 tokens in use, all but one of 1000 requests find theirs; with 8192, all but 38
	maxTokenCache     = 1 << 20
	maxCachedLength   = 4 << 10 // bytes of a token that is kept
	maxEntry          = 8 << 10 // bytes of memory that it may take with all that belongs to it:
	entrySize         = 192     // … besides its text
	ways              = 16      // places where one token can be
	mostUsed          = 3       // hits that tell an entry from others
)

// A tokenCache keeps verified tokens, so that the next request with the same
// token costs no signature check. It never vouches for a token by itself: a hit
// counts only if the token is the same to the last byte, its times hold, and
// the key that signed it is still published.
//
// It is a table of sets with a few places each, as in the cache of a processor.
// A token can be in one set only, so the table bounds the memory, and there is
// nothing to lock: places are read and replaced atomically, and when two
// requests replace the same one, one of the tokens is just not kept. The set is
// chosen by a seeded hash of the end of the token, which tells tokens apart at
// a small part of the cost of hashing it all.
//
// A token is kept at its first use if its set has room: a free place, or one whose
// token is expired. In a full set it has to come twice, so that tokens that are used
// once, as those of many machine clients are, drive out none that come again.
//
// The table is made when the first token is kept, so that a cache that nobody uses
// costs nothing.
type tokenCache struct {
	seed  [3]uint64 // of hash
	size  int       // tokens, about
	table atomic.Pointer[table]
}

type table struct {
	sets  []places
	seen  []atomic.Uint64 // two bits in one of them for each token that came lately
	marks atomic.Int64    // how many came as new since the bits were cleared
}

// places are where a token can be. What tells most tokens apart, and whether there is
// room, stands together in a few lines of a processor's cache: to look into 16
// entries would cost a new token about as much as all its claims.
type places struct {
	hashes  [ways]atomic.Uint32 // a part of the hash of each entry's token
	expired [ways]atomic.Uint32 // when each entry is, in seconds of Unix time; zero if there is none
	entries [ways]atomic.Pointer[verified]
}

// newTokenCache returns a cache for about n tokens, or nil if n is not positive:
// then none is kept.
func newTokenCache(n int) *tokenCache {
	if n <= 0 {
		return nil
	}
	return &tokenCache{seed: [3]uint64{rand.Uint64(), rand.Uint64(), rand.Uint64()}, size: n}
}

// capacity returns how many tokens can be kept, about.
func (c *tokenCache) capacity() int {
	if c == nil {
		return 0
	}
	return c.size
}

// made returns the table, and makes it first if need be.
func (c *tokenCache) made() *table {
	if t := c.table.Load(); t != nil {
		return t
	}
	sets := (c.size + ways - 1) / ways
	c.table.CompareAndSwap(nil, &table{sets: make([]places, sets), seen: make([]atomic.Uint64, 4*sets)})
	return c.table.Load()
}

// set returns the places where a token with this hash can be.
func (t *table) set(hash uint64) *places { return &t.sets[index(hash, len(t.sets))] }

// mark notes that a token with this hash came and reports whether one did
// before. It errs now and then, which costs little either way.
func (t *table) mark(hash uint64) bool {
	two := uint64(1)<<(hash%64) | uint64(1)<<(hash/64%64)
	if t.seen[index(hash, len(t.seen))].Or(two)&two == two {
		return true
	}
	// When a quarter of the bits is set, it is time to forget: not before twice
	// as many tokens have come as there are places, or those that come in turn
	// would be forgotten before their second time.
	if t.marks.Add(1) > int64(len(t.seen))*64/8 {
		t.marks.Store(0)
		for i := range t.seen {
			t.seen[i].Store(0)
		}
	}
	return false
}

// hash returns a hash of the end of token, which is its signature's. Who does not know the
// seed, which comes from the runtime's ChaCha8, cannot tell which tokens share a place.
// hash/maphash takes 10 ns more of 280 (BenchmarkHot).
func (c *tokenCache) hash(token string) uint64 {
	if len(token) < 16 { // none that is verified
		return 0
	}
	end := token[len(token)-16:]
	hi, lo := bits.Mul64(c.seed[0]^eight(end[:8]), c.seed[1]^eight(end[8:]))
	hi, lo = bits.Mul64(c.seed[2], hi^lo) // or ends that are alike would crowd (TestCacheSpreads)
	return hi ^ lo
}

// eight returns eight bytes as a number.
func eight(s string) uint64 {
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 | uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}

// index maps a hash to 0 … n-1.
func index(hash uint64, n int) int {
	i, _ := bits.Mul64(hash, uint64(n))
	return int(i)
}

// get returns what is kept for token, or nil. Whether it holds is for the caller
// to ask.
func (c *tokenCache) get(token string) *verified {
	if c == nil {
		return nil
	}
	t := c.table.Load()
	if t == nil {
		return nil
	}
	hash := c.hash(token)
	if _, v := t.set(hash).find(hash, token); v != nil {
		if n := v.used.Load(); n < mostUsed { // seldom written, so that cores can share it
			v.used.Store(n + 1)
		}
		return v
	}
	return nil
}

// find returns the place of token, and its entry, or nil if it has none.
func (set *places) find(hash uint64, token string) (int, *verified) {
	for i := range set.hashes {
		if set.hashes[i].Load() != uint32(hash) {
			continue
		}
		// The whole token is compared: its end alone identifies nothing.
		if v := set.entries[i].Load(); v != nil && v.token() == token {
			return i, v
		}
	}
	return 0, nil
}

// put keeps a token that was verified now, if there is room or it has been here
// before.
func (c *tokenCache) put(token string, v *verified, now time.Time) {
	if c == nil || len(token) > maxCachedLength || v.size+entrySize > maxEntry {
		return
	}
	t, hash := c.made(), c.hash(token)
	set := t.set(hash)
	i := set.room(hash, token, now)
	if i < 0 {
		if !t.mark(hash) {
			return
		}
		i = set.victim(hash, now)
	}
	set.hashes[i].Store(uint32(hash))
	set.expired[i].Store(uint32(min(v.until/1e6, math.MaxUint32)))
	set.entries[i].Store(v)
}

// room returns the place for a token that drives out none: the one it has, or else
// one that is free. It returns -1 if there is none.
func (set *places) room(hash uint64, token string, now time.Time) int {
	if i, v := set.find(hash, token); v != nil {
		return i
	}
	at := now.Unix()
	for i := range set.expired { // the first one, where find is soonest
		if int64(set.expired[i].Load()) < at {
			return i
		}
	}
	return -1
}

// victim returns the place of an entry to be driven out: one whose key was withdrawn,
// or one that was not used lately.
func (set *places) victim(hash uint64, now time.Time) int {
	for i := range set.entries {
		if v := set.entries[i].Load(); v == nil || !v.holds(now) {
			return i
		}
	}
	// Each time round takes one hit off each, so that who came twice goes before who
	// comes again and again.
	first := int(hash % ways)
	for n := range (mostUsed + 1) * ways {
		i := (first + n) % ways
		v := set.entries[i].Load()
		if v == nil {
			return i
		}
		used := v.used.Load()
		if used == 0 {
			return i
		}
		v.used.Store(used - 1)
	}
	return first
}
