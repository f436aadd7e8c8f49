// Package jwks holds the keys of one issuer: it finds them, fetches them when
// requests need them, and decides how long a set serves. It knows nothing of HTTP
// replies or of tokens.
package jwks

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// When keys are fetched, and how long they serve.
const (
	fetchTimeout = 4500 * time.Millisecond // discovery included
	waitTimeout  = 4700 * time.Millisecond // how long a request waits; its reply goes out within 5 s

	defaultLife = 10 * time.Minute // soft life of a key set that says nothing of it, up to a tenth less
	minLife     = time.Minute      // … and the bounds if Cache-Control does
	maxLife     = time.Hour
	refreshPart = 0.8            // part of the soft life after which a look-up starts a refresh
	graceLife   = 24 * time.Hour // how long a set serves beyond its soft life while no other can be had
	idleWait    = time.Second    // how long a request waits for the refresh of a set that was long idle

	minBackoff = time.Second // wait after a failed fetch, doubling
	maxBackoff = 15 * time.Second

	unknownBurst   = 3               // fetches at once for unknown key ids
	unknownEvery   = 8 * time.Second // … and how often after that
	maxMissing     = 1024            // key ids known to be in no set
	missingExpires = 30 * time.Second
)

// ErrUnknownKey says that the issuer has no key with the id that was asked for, as
// far as it may be asked.
var ErrUnknownKey = errors.New("the issuer has no such key")

// An UnavailableError says that keys cannot be had at present.
type UnavailableError struct {
	RetryAfter time.Duration // at least a second
	Err        error         // why; that of the caller's context if it was done first; may be nil
}

func (e *UnavailableError) Error() string {
	if e.Err == nil {
		return "the issuer's keys cannot be had"
	}
	return "the issuer's keys cannot be had: " + e.Err.Error()
}

// Unwrap returns e.Err.
func (e *UnavailableError) Unwrap() error { return e.Err }

// A Config says whose keys a Source holds. All of it has been checked before.
type Config struct {
	Issuer     string       // as the metadata name it
	Base       string       // where discovery starts
	URL        string       // of the key set; empty: found by discovery
	Client     *http.Client // nil: one with http.DefaultTransport
	Log        *slog.Logger
	Algorithms []string // keys that serve none of these are of no use
}

// A Source holds the keys of one issuer. They are fetched when a request needs
// them, never by a clock of their own, and served from an immutable set that
// readers load without a lock. It is safe for concurrent use.
//
// What happens when:
//
//   - No set yet, or one too old to serve: callers wait for a fetch that they
//     share (Current). After a failure the next try is due after a pause; until
//     then callers are refused at once.
//   - A set past four fifths of its life: the next look-up starts a refresh in
//     the background and is served from the old set (Current).
//   - A key id that the set does not list: its caller waits for a fetch too, but
//     how many of those there are is bounded (AwaitNewer).
//   - A fetch failed: the old set serves on for a day, unknown key ids are
//     refused as unavailable, and callers start the next try when it is due
//     (finish).
type Source struct {
	cfg    Config
	client *http.Client
	epoch  time.Time // what due counts from

	current atomic.Pointer[Set] // nil until the first fetch succeeded
	due     atomic.Int64        // before that, Current has nothing to do but to load: nanoseconds after epoch
	fetches atomic.Int64        // begun so far

	mu       sync.Mutex // guards what follows, and changes of current and due
	inflight *fetch     // nil if there is none
	failures int        // since the last success
	retryAt  time.Time  // no fetch before that
	lastErr  error
	unknown  bucket
	missing  map[string]time.Time // key ids that a fetch did not bring: until when that is believed

	// Used by the fetch in flight only.
	metadata      string // the key set's URL, from discovery
	metadataUntil time.Time
}

// New returns a Source. It fetches nothing yet.
func New(cfg Config) *Source {
	return &Source{cfg: cfg, client: newClient(cfg.Client), epoch: time.Now(), missing: make(map[string]time.Time)}
}

// Stats is the state of a Source at one moment.
type Stats struct {
	Keys      int       // usable ones at hand
	FetchedAt time.Time // zero before the first fetch succeeded
	Err       error     // why the latest fetch failed; nil if it did not
	Fetches   int64     // begun so far
}

// Stats returns the present state. It causes no fetch.
func (s *Source) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	stats := Stats{Err: s.lastErr, Fetches: s.fetches.Load()}
	if set := s.current.Load(); set != nil {
		stats.FetchedAt = set.fetched
		if time.Now().Before(set.expires) {
			stats.Keys = len(set.keys)
		}
	}
	return stats
}

// AtHand returns the key set to serve a request from that came now, or nil if there
// is none or a fetch may be due: that is for Current, which can take its time.
func (s *Source) AtHand(now time.Time) *Set {
	if set := s.current.Load(); set != nil && now.Before(set.expires) && int64(now.Sub(s.epoch)) < s.due.Load() {
		return set
	}
	return nil
}

// Current returns the key set to serve a request from that came now. The error is
// an *UnavailableError.
func (s *Source) Current(ctx context.Context, now time.Time) (*Set, error) {
	if set := s.AtHand(now); set != nil {
		return set, nil
	}

	s.mu.Lock()
	set := s.current.Load()
	f := s.inflight
	if f == nil && !now.Before(s.retryAt) && (set == nil || s.failures > 0 || !now.Before(set.refresh)) {
		f = s.start(now)
	}
	var patience time.Duration
	switch {
	case set == nil || !now.Before(set.expires):
		set, patience = nil, waitTimeout
	case f != nil && s.failures == 0 && !now.Before(set.idle):
		// Keys may have been withdrawn long since. But if the issuer does not
		// answer soon the old set has to do, and if it failed to, does already.
		patience = f.started.Add(idleWait).Sub(now)
	}
	s.mu.Unlock()

	switch {
	case set != nil && patience <= 0:
		return set, nil
	case f == nil:
		return nil, s.unavailable(now, nil)
	case f.wait(ctx, patience) && f.err == nil:
		return s.current.Load(), nil
	case set != nil && ctx.Err() == nil:
		return set, nil
	}
	return nil, s.unavailable(time.Now(), ctx.Err())
}

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
// the issuer may have begun to sign with a new key. The error is ErrUnknownKey or
// an *UnavailableError. It is ErrUnknownKey at the latest when old comes from a
// fetch that began after the token came, so a caller that looks into set after set
// comes to an end.
//
// Strangers can send such tokens too. So a bucket bounds how many of these
// fetches there are, and a key id that a fetch did not bring is not asked for
// again for a while. Known keys never wait for any of this.
func (s *Source) AwaitNewer(ctx context.Context, old *Set, kid string, a Arrival) (*Set, error) {
	s.mu.Lock()
	now := time.Now()
	if set := s.current.Load(); set != old {
		s.mu.Unlock()
		return set, nil
	}
	f := s.inflight
	switch {
	case s.failures > 0 && f == nil && now.Before(s.retryAt):
		// What is not known here may be a new key that cannot be seen.
		s.mu.Unlock()
		return nil, s.unavailable(now, nil)
	case s.failures > 0 && f == nil:
		f = s.start(now)
	case s.failures > 0:
	case old.number > a.fetches:
		// The issuer was asked since the token came and does not have the key.
		s.miss(kid, now)
		fallthrough
	case now.Before(s.missing[kid]), f == nil && !s.unknown.take(now):
		s.mu.Unlock()
		return nil, ErrUnknownKey
	case f == nil:
		f = s.start(now)
	}
	s.mu.Unlock()

	if f.wait(ctx, a.at.Add(waitTimeout).Sub(now)) && f.err == nil {
		return s.current.Load(), nil
	}
	return nil, s.unavailable(time.Now(), ctx.Err())
}

// unavailable returns the error for a caller whose key cannot be had at present.
// done is why the caller does not wait any longer, if it is for its own reasons.
func (s *Source) unavailable(now time.Time, done error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := &UnavailableError{RetryAfter: max(s.retryAt.Sub(now), time.Second), Err: done}
	if done == nil {
		e.Err = s.lastErr
	}
	return e
}

// miss notes that the issuer has no key with this id. A token without key id
// leaves no note: it stands for no key in particular.
func (s *Source) miss(kid string, now time.Time) {
	if kid != "" && len(s.missing) < maxMissing {
		// The string is part of a stranger's token: a copy keeps only the id.
		s.missing[strings.Clone(kid)] = now.Add(missingExpires)
	}
}

// A bucket bounds the fetches that strangers can cause. Its zero value is full.
type bucket struct {
	owed time.Time // when it will be full again
}

func (b *bucket) take(now time.Time) bool {
	full := b.owed
	if full.Before(now) {
		full = now
	}
	full = full.Add(unknownEvery)
	if full.Sub(now) > unknownBurst*unknownEvery {
		return false
	}
	b.owed = full
	return true
}

// never is a time that due does not reach.
const never = math.MaxInt64
