package bearer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"example.com/bearer/internal/clip"
	"example.com/bearer/internal/jwks"
)

// A KeyCache keeps what it is given under a name. [DirCache] is one. Its methods
// are called in goroutines of their own, by several at once if it serves several
// issuers, and with contexts that end after a few seconds. No request waits for Put,
// and none fails because of an error.
type KeyCache interface {
	// Get returns what Put was last given under name. If there is nothing it
	// returns nothing, or fs.ErrNotExist.
	Get(ctx context.Context, name string) ([]byte, error)

	// Put keeps data under name. It must not change data.
	Put(ctx context.Context, name string, data []byte) error
}

// A DirCache is a [KeyCache] in the directory of that name, with a file for each
// issuer. It makes the directory if need be, for this user alone, and replaces files
// as a whole, so that several programs can share it. Whoever can write there can
// sign tokens.
type DirCache string

// Get implements [KeyCache].
func (d DirCache) Get(ctx context.Context, name string) ([]byte, error) {
	path, err := d.path(ctx, name)
	if err != nil {
		return nil, err
	}
	return os.ReadFile(path)
}

// Put implements [KeyCache].
func (d DirCache) Put(ctx context.Context, name string, data []byte) error {
	path, err := d.path(ctx, name)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(string(d), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(string(d), "new-*") // with mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync() // or a crash could leave an empty file under the name
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

// path returns the file for name, which must not lead out of d.
func (d DirCache) path(ctx context.Context, name string) (string, error) {
	if d == "" || name == "." || !filepath.IsLocal(name) || filepath.Base(name) != name {
		return "", fmt.Errorf("bearer: DirCache %q: %q cannot be the name of a file there", string(d), name)
	}
	return filepath.Join(string(d), name), ctx.Err()
}

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
	// succeeded, and once the keys at hand have been stale for more than a day.
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
