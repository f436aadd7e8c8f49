package bearer

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"example.com/bearer/internal/clip"
	"example.com/bearer/internal/jwks"
)

const maxErrorText = 500 // bytes of an error that is not ours, in logs

// keyring is the keys of one issuer for a verifier: what internal/jwks says of them
// becomes the cause of a refusal here and nowhere else.
type keyring struct {
	*jwks.Source
	refused atomic.Int64 // tokens, for want of keys
}

// current returns the key set to judge a token by that came now.
func (k *keyring) current(ctx context.Context, now time.Time) (*jwks.Set, error) {
	set, err := k.Current(ctx, now)
	if err != nil {
		k.refused.Add(1)
		return nil, unavailable(err)
	}
	return set, nil
}

// ready returns nil once usable keys are at hand.
func (k *keyring) ready(ctx context.Context) error {
	if _, err := k.Current(ctx, time.Now()); err != nil {
		return unavailable(err)
	}
	return nil
}

// awaitNewer returns a newer set than old for a token whose key old does not hold.
func (k *keyring) awaitNewer(ctx context.Context, old *jwks.Set, kid string, a jwks.Arrival) (*jwks.Set, error) {
	set, err := k.AwaitNewer(ctx, old, kid, a)
	switch {
	case errors.Is(err, jwks.ErrUnknownKey):
		return nil, &cause{reason: "unknown_key", claim: "kid", got: clip.String(kid)}
	case err != nil:
		k.refused.Add(1)
		return nil, unavailable(err)
	}
	return set, nil
}

// unavailable returns the cause for want of keys.
func unavailable(err error) error {
	c := &cause{reason: "keys_unavailable", retryAfter: time.Second}
	var u *jwks.UnavailableError
	if errors.As(err, &u) {
		c.retryAfter = u.RetryAfter
		if u.Err != nil {
			c.err, c.detail = fmt.Errorf("%w: %w", errKeysUnavailable, u.Err), clip.To(u.Err.Error(), maxErrorText)
		}
	}
	return c
}

// KeyStats is the state of an issuer's keys at one moment, for health pages and
// metrics. The counters only ever grow.
type KeyStats struct {
	// Keys is how many usable keys are at hand: zero before the first fetch
	// succeeded, and when the latest that did is more than a day past its time.
	Keys int

	// FetchedAt is when the keys were last fetched or confirmed. It is the zero
	// time before the first fetch succeeded.
	FetchedAt time.Time

	// Err is why the latest fetch failed, or nil if it did not.
	Err error

	// Fetches counts the fetches that have begun.
	Fetches int64

	// Refused counts the tokens that could not be judged: the keys could not be
	// had, or the request was cancelled while it waited for them.
	Refused int64
}

// stats returns the present state of the keys.
func (k *keyring) stats() KeyStats {
	s := k.Stats()
	return KeyStats{Keys: s.Keys, FetchedAt: s.FetchedAt, Err: s.Err, Fetches: s.Fetches, Refused: k.refused.Load()}
}

// add adds other, so that s tells of both.
func (s *KeyStats) add(other KeyStats) {
	s.Keys += other.Keys
	if other.FetchedAt.Before(s.FetchedAt) {
		s.FetchedAt = other.FetchedAt
	}
	s.Err = errors.Join(s.Err, other.Err)
	s.Fetches += other.Fetches
	s.Refused += other.Refused
}
