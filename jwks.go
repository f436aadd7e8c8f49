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
	const maxErrorText = 500 // bytes of why a fetch failed, in logs
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

// Ready returns nil once usable keys are at hand, of every issuer, and fetches
// them if there are none. It is for readiness probes, and for programs that want
// to start with the keys in place. The error is an [*Error] with status 503.
func (m *Middleware) Ready(ctx context.Context) error {
	for _, v := range m.issuers.all {
		if _, err := v.keys.Current(ctx, time.Now()); err != nil {
			return asError(unavailable(err))
		}
	}
	return nil
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

// KeyStats returns the present state of the keys. It causes no fetch and is
// cheap enough to be polled. With several issuers the numbers are added up,
// FetchedAt is the oldest and Err joins all errors; the Middlewares that were
// given to [Middleware.Or] tell of each.
func (m *Middleware) KeyStats() KeyStats {
	var all KeyStats
	for i, v := range m.issuers.all {
		one := v.keys.Stats()
		if i == 0 || one.FetchedAt.Before(all.FetchedAt) {
			all.FetchedAt = one.FetchedAt
		}
		all.Keys += one.Keys
		all.Err = errors.Join(all.Err, one.Err)
		all.Fetches += one.Fetches
		all.Refused += v.keys.refused.Load()
	}
	return all
}
