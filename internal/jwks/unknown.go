package jwks

import (
	"context"
	"strings"
	"time"
)

// How often the issuer is asked for keys that strangers name.
const (
	unknownBurst = 3               // fetches at once
	unknownEvery = 4 * time.Second // … and how often after that

	maxWaitingKeys = 8   // key ids that wait until the next fetch is allowed
	maxWaiting     = 256 // requests with one of them

	minBelief  = 4 * time.Second // how long it is believed that a key id is nobody's; doubled for the same one
	maxBelief  = 15 * time.Second
	maxMissing = 1024 // key ids of which something is believed
)

// An Arrival is when a token came, by the clock and in the order of fetches. A
// fetch that began later tells whether the issuer has the token's key. A fetch
// already in flight proves nothing, since its answer may predate the key.
type Arrival struct {
	at      time.Time
	fetches int64 // begun before
}

// Arrival returns that of a token that came now.
func (s *Source) Arrival(now time.Time) Arrival { return Arrival{now, s.fetches.Load()} }

// AwaitNewer returns a newer set than old for a token whose key old does not hold:
// the issuer may have begun to sign with a new key. An empty kid stands for the
// tokens that name no key and that none of the keys verifies. The error is
// ErrUnknownKey or an *UnavailableError.
//
// A caller that looks into set after set comes to an end: the error is
// ErrUnknownKey at the latest when old comes from a fetch that began after the
// token came, and each set that is returned comes from a later fetch than old.
//
// Strangers can send such tokens too. So a bucket bounds how many of these
// fetches there are. While it is empty a few key ids wait for the next fetch,
// which brings all keys, whoever caused it. What a fetch did not bring is believed
// for a while. Known keys never wait for any of this.
func (s *Source) AwaitNewer(ctx context.Context, old *Set, kid string, a Arrival) (*Set, error) {
	patience := a.at.Add(waitTimeout)
	for waited := false; ; {
		s.mu.Lock()
		now := time.Now()
		if set := s.set(); set != old {
			s.mu.Unlock()
			return set, nil
		}
		f := s.flying(now)
		switch {
		case s.failures > 0:
			// What is not known here may be a new key that cannot be seen.
			if f == nil && before(now, s.retryAt) {
				s.mu.Unlock()
				return nil, s.unavailable(now, nil)
			}
		case old.number > a.fetches:
			// The issuer was asked since the token came and does not have the key.
			s.unknown.miss(kid, old.number, now)
			s.mu.Unlock()
			return nil, ErrUnknownKey
		case s.unknown.believed(kid, now):
			s.mu.Unlock()
			return nil, ErrUnknownKey
		case f == nil && !s.unknown.bucket.take(now):
			pause := s.unknown.bucket.wait(now)
			enters := !waited && s.unknown.enter(kid)
			s.mu.Unlock()
			if !enters {
				return nil, ErrUnknownKey
			}
			err := sleep(ctx, pause)
			s.mu.Lock()
			s.unknown.leave(kid)
			s.mu.Unlock()
			if err != nil {
				return nil, s.unavailable(time.Now(), err)
			}
			// The first who comes back starts the fetch, and the others share it.
			waited, patience = true, patience.Add(pause)
			continue
		}
		if f == nil {
			f = s.start(now)
			f.kid = strings.Clone(kid)
			s.schedule(now)
		}
		s.mu.Unlock()
		if !f.wait(ctx, patience.Sub(now)) {
			return nil, s.unavailable(time.Now(), ctx.Err())
		}
	}
}

// sleep returns nil after d, or the context's error when it is done before.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// unknown is what is noted about key ids that the set at hand does not list. The
// Source's lock guards it.
type unknown struct {
	bucket  bucket
	waiting map[string]int // requests by key id
	missing map[string]belief
}

// A belief is that a key id is nobody's.
type belief struct {
	fetch int64 // that did not bring it
	life  time.Duration
	until time.Time
}

func newUnknown() unknown {
	return unknown{waiting: make(map[string]int), missing: make(map[string]belief)}
}

// miss notes that the fetch of the given number did not bring a key with this id.
func (u *unknown) miss(kid string, fetch int64, now time.Time) {
	b, noted := u.missing[kid]
	switch {
	case noted && b.fetch == fetch: // by another request
		return
	case noted:
		b.life = min(2*b.life, maxBelief)
	case len(u.missing) >= maxMissing:
		return
	default:
		b.life = minBelief
		kid = strings.Clone(kid) // a part of a stranger's token, which need not stay
	}
	b.fetch, b.until = fetch, now.Add(b.life)
	u.missing[kid] = b
}

// believed reports whether a key id is still believed to be nobody's.
func (u *unknown) believed(kid string, now time.Time) bool {
	b, noted := u.missing[kid]
	return noted && before(now, b.until)
}

// forget drops what has not been believed for as long as anything is.
func (u *unknown) forget(now time.Time) {
	for kid, b := range u.missing {
		if !before(now, b.until.Add(maxBelief)) {
			delete(u.missing, kid)
		}
	}
}

// enter lets a request wait for the next fetch that the bucket allows, and reports
// whether there was room.
func (u *unknown) enter(kid string) bool {
	n, there := u.waiting[kid]
	if n >= maxWaiting || !there && len(u.waiting) >= maxWaitingKeys {
		return false
	}
	if !there {
		kid = strings.Clone(kid)
	}
	u.waiting[kid] = n + 1
	return true
}

// leave is the end of what enter allowed.
func (u *unknown) leave(kid string) {
	if u.waiting[kid]--; u.waiting[kid] <= 0 {
		delete(u.waiting, kid)
	}
}

// A bucket bounds the fetches that strangers can cause. Its zero value is full.
type bucket struct {
	owed time.Time // when it will be full again
}

// take takes one fetch out of b and reports whether there was one.
func (b *bucket) take(now time.Time) bool {
	if b.wait(now) > 0 {
		return false
	}
	if b.owed.Before(now) {
		b.owed = now
	}
	b.owed = b.owed.Add(unknownEvery)
	return true
}

// wait returns how long it takes until there is something to take: unknownEvery at
// most.
func (b *bucket) wait(now time.Time) time.Duration {
	owed := max(b.owed.Sub(now), 0)
	return max(owed-(unknownBurst-1)*unknownEvery, 0)
}
