package dpop

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"time"
)

const (
	noncePeriod  = 100 * time.Second // a new nonce comes each
	noncePeriods = 4                 // that a nonce is good for, its own one included
	nonceVersion = 1
	minNonceKey  = 32 // bytes

	// maxNonceLife is how long a nonce may still be good that came just now, from a
	// replica whose clock is ahead by one period.
	maxNonceLife = (noncePeriods + 1) * noncePeriod
)

// nonces makes and knows the nonces of an API (RFC 9449, section 9). Nothing is
// kept of the ones that were handed out: all replicas that have the same keys know
// each other's. Within one period all clients get the same nonce, which is sound
// because each proof counts once (section 11.1).
//
// A nonce is 33 bytes in base64url: the version, the number of its period since
// 1970, and the first 28 bytes of an HMAC-SHA-256 over them and the API's name, so
// that APIs which share a key do not take each other's.
type nonces struct {
	keys     [][]byte
	resource string
	known    atomic.Pointer[nonceWindow]
}

// A nonceWindow is all nonces that are good in one period, the newest one first.
type nonceWindow struct {
	period int64
	good   []nonce
}

type nonce struct {
	text   string
	period int64
}

// newNonces returns nil if there are no keys.
func newNonces(keys [][]byte, resource string) (*nonces, []error) {
	if len(keys) == 0 {
		return nil, nil
	}
	n := &nonces{resource: resource}
	var errs []error
	for i, key := range keys {
		if len(key) < minNonceKey {
			errs = append(errs, fmt.Errorf("NonceKeys: key %d has %d bytes, want %d random bytes or more", i, len(key), minNonceKey))
		}
		n.keys = append(n.keys, append([]byte(nil), key...))
	}
	return n, errs
}

// window returns the nonces that are good now. They are made once a period.
func (n *nonces) window(now time.Time) *nonceWindow {
	period := now.Unix() / int64(noncePeriod/time.Second)
	if w := n.known.Load(); w != nil && w.period == period {
		return w
	}
	w := &nonceWindow{period: period}
	// The nonce of the next period comes from a replica whose clock is ahead.
	for _, p := range []int64{period, period + 1, period - 1, period - 2, period - 3} {
		for _, key := range n.keys {
			w.good = append(w.good, nonce{n.text(key, p), p})
		}
	}
	n.known.Store(w)
	return w
}

// text makes the nonce of a period with key.
func (n *nonces) text(key []byte, period int64) string {
	var b [33]byte
	b[0] = nonceVersion
	binary.BigEndian.PutUint32(b[1:], uint32(period))
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("bearer dpop nonce\x00"))
	mac.Write([]byte(n.resource))
	mac.Write([]byte{0})
	mac.Write(b[1:5])
	copy(b[5:], mac.Sum(nil))
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// newest returns the nonce to hand out.
func (n *nonces) newest(now time.Time) string { return n.window(now).good[0].text }

// check reports whether a nonce is good, when it ceases to be, and whether the
// client should get a newer one.
func (n *nonces) check(text string, now time.Time) (end time.Time, renew, ok bool) {
	w := n.window(now)
	found := -1
	for i := range w.good {
		// All are compared, and each in constant time: how far a guess was right
		// does not show.
		if subtle.ConstantTimeCompare([]byte(text), []byte(w.good[i].text)) == 1 {
			found = i
		}
	}
	if found < 0 {
		return time.Time{}, false, false
	}
	period := w.good[found].period
	end = time.Unix((period+noncePeriods)*int64(noncePeriod/time.Second), 0)
	return end, found > 0 && period <= w.period, true
}
