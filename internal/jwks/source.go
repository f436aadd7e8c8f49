// Package jwks holds the keys of one issuer: it finds them, fetches them when
// requests need them, and decides how long a set serves. It knows nothing of HTTP
// replies or of tokens.
package jwks

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// When keys are fetched, and how long they serve.
const (
	fetchTimeout = 15 * time.Second        // discovery included
	waitTimeout  = 4700 * time.Millisecond // how long a request waits for a fetch; its reply goes out within 5 s

	defaultLife = 10 * time.Minute // soft life of a key set that says nothing of it
	minLife     = time.Minute      // … and the bounds if its headers do
	maxLife     = time.Hour
	refreshPart = 0.8             // part of the soft life after which a look-up starts a refresh
	graceLife   = 24 * time.Hour  // how long a set serves beyond its soft life while no other can be had
	idleGap     = 2 * time.Minute // without look-ups; more than any pause after a failure
	idleWait    = time.Second     // how long requests wait for the refresh of a set that was idle

	minBackoff    = time.Second // wait after a failed fetch, doubling
	maxBackoff    = 15 * time.Second
	maxRetryAfter = time.Minute // … and if the issuer says how long
)

// ErrUnknownKey says that the issuer has no key with the id that was asked for, as
// far as it may be asked.
var ErrUnknownKey = errors.New("the issuer has no such key")

// errSlow is why keys cannot be had while the first fetch is on its way.
var errSlow = errors.New("the issuer has not answered yet")

// An UnavailableError says that keys cannot be had at present.
type UnavailableError struct {
	RetryAfter time.Duration // at least a second
	Err        error         // why; that of the caller's context if it was done first
}

func (e *UnavailableError) Error() string { return "the issuer's keys cannot be had: " + e.Err.Error() }

// Unwrap returns e.Err.
func (e *UnavailableError) Unwrap() error { return e.Err }

// A Config says whose keys a Source holds. All of it has been checked before.
type Config struct {
	Issuer       string       // as the metadata name it
	Base         string       // where discovery starts
	URL          string       // of the key set; empty: found by discovery
	InsecureHTTP bool         // plain http also to a host that is not this one
	Client       *http.Client // nil: one with http.DefaultTransport
	Log          *slog.Logger
	Algorithms   []string // keys that serve none of these are of no use

	// Fetch, if it is set, brings the key set in place of discovery and HTTP.
	Fetch func(ctx context.Context) ([]byte, error)

	// Cache, if it is set, keeps the key set outside of the process, under
	// CacheName or, if that is empty, a name made from Issuer and URL.
	Cache     Cache
	CacheName string
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
//
// The client, Fetch and Cache are foreign code. They run in goroutines of their
// own (guard), never under the lock or on a caller's.
type Source struct {
	cfg    Config
	client *http.Client

	current    atomic.Pointer[view] // nil until there is a set
	fetches    atomic.Int64         // begun so far
	calls      running              // of the client and of Fetch
	cacheCalls running
	log        stateLog

	mu       sync.Mutex // guards what follows, and changes of current
	inflight *fetch     // nil if there is none
	failures int        // since the last success
	retryAt  time.Time  // no fetch before that
	lastErr  error
	looked   time.Time // when look was last asked
	idle     bool      // nobody saw to it that the set was refreshed in time, and it has not been since
	place    place     // where the keys are
	unknown  unknown
	kept     kept // what Cache has
}

// A view is what callers see: a set, and how long there is nothing to do but to
// serve it.
type view struct {
	set  *Set
	due  time.Time
	wall int64 // due in nanoseconds of Unix time: before costs 20 ns, and all requests ask
}

// New returns a Source. It fetches nothing yet.
func New(cfg Config) *Source {
	s := &Source{cfg: cfg, client: newClient(cfg.Client), unknown: newUnknown()}
	if s.cfg.CacheName == "" {
		s.cfg.CacheName = s.cacheName()
	}
	return s
}

// Stats is the state of a Source at one moment.
type Stats struct {
	Keys      int       // usable ones at hand
	FetchedAt time.Time // of the set at hand; zero before there is one
	Err       error     // why the latest fetch failed, or the metadata for long; else nil
	Fetches   int64     // begun so far
}

// Stats returns the present state. It causes no fetch.
func (s *Source) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	stats := Stats{Err: s.lastErr, Fetches: s.fetches.Load()}
	if stats.Err == nil && s.place.failsForLong(now) {
		stats.Err = s.place.err
	}
	if set := s.set(); set != nil {
		stats.FetchedAt = set.fetched
		if before(now, set.expires) {
			stats.Keys = len(set.keys)
		}
	}
	return stats
}

// set returns the set at hand, or nil.
func (s *Source) set() *Set {
	if v := s.current.Load(); v != nil {
		return v.set
	}
	return nil
}

// AtHand returns the key set to serve a request from that came now, or nil if there
// is none or a fetch may be due: that is for Current, which can take its time.
func (s *Source) AtHand(now time.Time) *Set {
	if v := s.current.Load(); v != nil && now.Before(v.due) && now.UnixNano() < v.wall { // as before has it
		return v.set
	}
	return nil
}

// Current returns the key set to serve a request from that came now. The error is
// an *UnavailableError.
func (s *Source) Current(ctx context.Context, now time.Time) (*Set, error) {
	if set := s.AtHand(now); set != nil {
		return set, nil
	}
	for came := now; ; now = time.Now() {
		set, f, patience := s.look(came, now)
		switch {
		case patience > 0 && f.wait(ctx, patience):
			// Whatever f brought is looked at in the next round, which waits
			// for another fetch if for any, and never beyond the patience that
			// is counted from came or from that fetch's start.
			continue
		case set != nil && ctx.Err() == nil:
			return set, nil
		}
		return nil, s.unavailable(time.Now(), ctx.Err())
	}
}

// look decides for a request that came at came what serves it: set, or nil if none
// can, and before that f, if it ends within patience. It starts a fetch when one
// is due.
func (s *Source) look(came, now time.Time) (set *Set, f *fetch, patience time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	set, f = s.set(), s.flying(now)
	expired := set == nil || !before(now, set.expires)
	// An old set alone is no idle one: during an outage nobody has to wait.
	s.idle = s.idle || set != nil && !before(now, set.idle) && since(now, s.looked) >= idleGap
	s.looked = now
	if f == nil && !before(now, s.retryAt) && (expired || s.failures > 0 || !before(now, set.refresh)) {
		f = s.start(now)
	}
	if expired || s.useless(set) {
		set = nil
	}
	switch {
	case f == nil:
	case set == nil && came.Sub(f.started) < waitTimeout:
		// A fetch that has outlasted the patience of those who waited for it
		// from its start is not waited for by others.
		patience = came.Add(waitTimeout).Sub(now)
	case set != nil && s.idle:
		// Keys may have been withdrawn long since. But if the issuer does not
		// answer soon the old set has to do. Each try is given that time once.
		patience = f.started.Add(idleWait).Sub(now)
	}
	s.schedule(now)
	return set, f, patience
}

// useless reports whether set cannot say of any token that it is at fault: no key
// is left in it, and whether that is still so is not known.
func (s *Source) useless(set *Set) bool { return len(set.keys) == 0 && s.failures > 0 }

// schedule sets until when callers have nothing to do but to serve the set at
// hand. s.mu is held.
func (s *Source) schedule(now time.Time) {
	set := s.set()
	if set == nil {
		return
	}
	due := set.refresh
	switch f := s.inflight; {
	case s.useless(set), f != nil && s.idle && before(now, f.started.Add(idleWait)):
		due = time.Time{} // everybody has to wait, or to be refused
	case f != nil:
		due = f.deadline
	case s.failures > 0:
		due = s.retryAt
	}
	if set.expires.Before(due) {
		due = set.expires
	}
	s.current.Store(&view{set, due, due.UnixNano()})
}

// unavailable returns the error for a caller whose key cannot be had at present.
// done is why the caller does not wait any longer, if it is for its own reasons.
func (s *Source) unavailable(now time.Time, done error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := s.retryAt
	if s.inflight != nil {
		next = s.inflight.started.Add(fetchTimeout + minBackoff) // more is known by then
	}
	e := &UnavailableError{RetryAfter: max(next.Sub(now), time.Second), Err: done}
	if e.Err == nil {
		e.Err = s.lastErr
	}
	if e.Err == nil {
		e.Err = errSlow
	}
	return e
}

// before reports whether now is before t by each of the two clocks that a time
// holds. The monotonic one stands still while a machine is suspended, and the wall
// clock may be set back.
func before(now, t time.Time) bool { return now.Before(t) && now.UnixNano() < t.UnixNano() }

// since returns how long ago t was by the clock that says more.
func since(now, t time.Time) time.Duration { return max(now.Sub(t), now.Round(0).Sub(t.Round(0))) }
