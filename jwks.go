package bearer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// When keys are fetched, and how long they serve.
const (
	fetchTimeout = 4500 * time.Millisecond // discovery included
	waitTimeout  = 4700 * time.Millisecond // how long a request waits; its reply goes out within 5 s
	maxDocument  = 1 << 20                 // bytes of metadata and of a key set, decompressed
	maxErrorText = 500                     // bytes of why a fetch failed, in logs
	maxRedirects = 5

	defaultLife = 10 * time.Minute // soft life of a key set that says nothing of it, up to a tenth less
	minLife     = time.Minute      // … and the bounds if Cache-Control does
	maxLife     = time.Hour
	refreshPart = 0.8            // part of the soft life after which a look-up starts a refresh
	graceLife   = 24 * time.Hour // how long a set serves beyond its soft life while no other can be had
	idleWait    = time.Second    // how long a request waits for the refresh of a set that was long idle

	metadataLife = 24 * time.Hour

	minBackoff = time.Second // wait after a failed fetch, doubling
	maxBackoff = 15 * time.Second

	unknownBurst   = 3               // fetches at once for unknown key ids
	unknownEvery   = 8 * time.Second // … and how often after that
	maxMissing     = 1024            // key ids known to be in no set
	missingExpires = 30 * time.Second
)

var errKeysUnavailable = errors.New("the issuer's keys cannot be had")

// keys are the keys of one issuer. They are fetched when a request needs them,
// never by a clock of their own, and served from an immutable set that readers
// load without a lock.
//
// What happens when:
//
//   - No set yet, or one too old to serve: requests wait for a fetch that they
//     share (usable). After a failure the next try is due after a pause; until
//     then requests are refused at once.
//   - A set past four fifths of its life: the next look-up starts a refresh in
//     the background and is served from the old set (usable).
//   - A token with a key id that the set does not list: its request waits for a
//     fetch too, but how many of those there are is bounded (renewFor).
//   - A fetch failed: the old set serves on for a day, unknown key ids get 503,
//     and requests start the next try when it is due (finish).
type keys struct {
	issuer     string // as the metadata name it
	base       string // where discovery starts
	jwksURL    string // empty: found by discovery
	client     *http.Client
	log        *slog.Logger
	algorithms []string
	epoch      time.Time // what due counts from

	current atomic.Pointer[fetchedSet] // nil until the first fetch succeeded
	due     atomic.Int64               // when a look-up must see to a refresh: nanoseconds after epoch
	fetches atomic.Int64               // begun so far
	refused atomic.Int64               // requests, for want of keys

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

func newKeys(issuer, base, jwksURL string, client *http.Client, log *slog.Logger, algorithms []string) *keys {
	return &keys{
		issuer:     issuer,
		base:       base,
		jwksURL:    jwksURL,
		client:     newClient(client),
		log:        log,
		algorithms: algorithms,
		epoch:      time.Now(),
		missing:    make(map[string]time.Time),
	}
}

// remembered returns the header that a token in use has, or nil.
func (k *keys) remembered(encoded string) *header {
	if s := k.current.Load(); s != nil {
		return s.remembered(encoded)
	}
	return nil
}

// A fetchedSet is a key set with what its fetch said about it.
type fetchedSet struct {
	*keySet
	url, etag string
	life      time.Duration // soft
	number    int64         // of the fetch that brought it
	fetched   time.Time
	refresh   time.Time // when to get a newer one
	idle      time.Time // nobody looked for one since long
	expires   time.Time // when the set serves no more
}

// A fetch is one attempt to get the keys. All who need its result share it.
type fetch struct {
	number  int64
	started time.Time
	done    chan struct{} // closed when err is set
	err     error
}

// wait waits until f is done, ctx is, or d is over. It reports whether f is.
func (f *fetch) wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-f.done:
		return true
	case <-ctx.Done():
	case <-timer.C:
	}
	return false
}

// usable returns the key set to serve a request from.
func (k *keys) usable(ctx context.Context, now time.Time) (*fetchedSet, error) {
	if s := k.current.Load(); s != nil && now.Before(s.expires) && int64(now.Sub(k.epoch)) < k.due.Load() {
		return s, nil
	}

	k.mu.Lock()
	s := k.current.Load()
	f := k.inflight
	if f == nil && !now.Before(k.retryAt) && (s == nil || k.failures > 0 || !now.Before(s.refresh)) {
		f = k.start(now)
	}
	var patience time.Duration
	switch {
	case s == nil || !now.Before(s.expires):
		s, patience = nil, waitTimeout
	case f != nil && k.failures == 0 && !now.Before(s.idle):
		// Keys may have been withdrawn long since. But if the issuer does not
		// answer soon the old set has to do, and if it failed to, does already.
		patience = f.started.Add(idleWait).Sub(now)
	}
	k.mu.Unlock()

	switch {
	case s != nil && patience <= 0:
		return s, nil
	case f == nil:
		return nil, k.unavailable(now)
	case f.wait(ctx, patience) && f.err == nil:
		return k.current.Load(), nil
	case s != nil && ctx.Err() == nil:
		return s, nil
	}
	return nil, k.gaveUp(ctx)
}

// An arrival is when a token came, by the clock and in the order of fetches: the
// answer to a fetch that began later tells whether the issuer has its key. That
// to an earlier one may have left before the key was published.
type arrival struct {
	at      time.Time
	fetches int64 // begun before
}

func (k *keys) arrival(now time.Time) arrival { return arrival{now, k.fetches.Load()} }

// renewFor gets a newer set than s for a token whose key s does not hold: the
// issuer may have begun to sign with a new key. It returns nil if there is one,
// to look into again.
//
// Strangers can send such tokens too. So a bucket bounds how many of these
// fetches there are, and a key id that a fetch did not bring is not asked for
// again for a while. Known keys never wait for any of this.
func (k *keys) renewFor(ctx context.Context, s *fetchedSet, kid string, arrived arrival) error {
	k.mu.Lock()
	now := time.Now()
	if k.current.Load() != s {
		k.mu.Unlock()
		return nil
	}
	f := k.inflight
	switch {
	case k.failures > 0 && f == nil && now.Before(k.retryAt):
		// What is not known here may be a new key that cannot be seen.
		k.mu.Unlock()
		return k.unavailable(now)
	case k.failures > 0 && f == nil:
		f = k.start(now)
	case k.failures > 0:
	case s.number > arrived.fetches:
		// The issuer was asked since the token came and does not have the key.
		k.miss(kid, now)
		fallthrough
	case now.Before(k.missing[kid]), f == nil && !k.unknown.take(now):
		k.mu.Unlock()
		return unknownKey(kid)
	case f == nil:
		f = k.start(now)
	}
	k.mu.Unlock()

	if f.wait(ctx, arrived.at.Add(waitTimeout).Sub(now)) && f.err == nil {
		return nil
	}
	return k.gaveUp(ctx)
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
	all := m.verifiers[0].keys.stats()
	for _, v := range m.verifiers[1:] {
		one := v.keys.stats()
		if one.FetchedAt.Before(all.FetchedAt) {
			all.FetchedAt = one.FetchedAt
		}
		all.Keys += one.Keys
		all.Err = errors.Join(all.Err, one.Err)
		all.Fetches += one.Fetches
		all.Refused += one.Refused
	}
	return all
}

func (k *keys) stats() KeyStats {
	k.mu.Lock()
	defer k.mu.Unlock()
	stats := KeyStats{Err: k.lastErr, Fetches: k.fetches.Load(), Refused: k.refused.Load()}
	if s := k.current.Load(); s != nil {
		stats.FetchedAt = s.fetched
		if time.Now().Before(s.expires) {
			stats.Keys = len(s.keys)
		}
	}
	return stats
}

// unavailable is the refusal of a request whose key cannot be had at present.
func (k *keys) unavailable(now time.Time) *Error {
	k.mu.Lock()
	retryAfter, err := k.retryAt.Sub(now), k.lastErr
	k.mu.Unlock()
	r := &refusal{reason: "keys_unavailable", err: errKeysUnavailable}
	if err != nil {
		r.err, r.detail = fmt.Errorf("%w: %w", errKeysUnavailable, err), clipTo(err.Error(), maxErrorText)
	}
	return &Error{
		Status:      http.StatusServiceUnavailable,
		Description: "the keys that the token is verified with cannot be had at present",
		RetryAfter:  max(retryAfter, time.Second),
		Err:         r,
	}
}

// gaveUp is the refusal of a request that waited for keys in vain.
func (k *keys) gaveUp(ctx context.Context) error {
	err := k.unavailable(time.Now())
	if ctx.Err() != nil {
		err.Err = ctx.Err()
	}
	return err
}

func unknownKey(kid string) error {
	return unverifiable("the token's key is not known", &refusal{reason: "unknown_key", claim: "kid", got: clip(kid)})
}

// miss notes that the issuer has no key with this id. A token without key id
// leaves no note: it stands for no key in particular.
func (k *keys) miss(kid string, now time.Time) {
	if kid == "" {
		return
	}
	if len(k.missing) < maxMissing {
		// The string is part of a stranger's token: a copy keeps only the id.
		k.missing[strings.Clone(kid)] = now.Add(missingExpires)
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

// start starts a fetch. k.mu is held, and k.inflight is nil.
func (k *keys) start(now time.Time) *fetch {
	f := &fetch{number: k.fetches.Add(1), started: now, done: make(chan struct{})}
	k.inflight = f
	s := k.current.Load()
	if s != nil && (k.failures > 0 || now.Before(s.idle)) {
		k.due.Store(math.MaxInt64) // nothing to see to until f is done
	}
	go func() {
		// Its own context: no request that waits may take the fetch away from
		// the others.
		ctx, cancel := context.WithTimeout(context.Background(), fetchTimeout)
		defer cancel()
		var fresh *fetchedSet
		err := errors.New("the HTTP client did not return")
		defer func() {
			// A client that panics takes down neither the API nor the keys.
			if p := recover(); p != nil {
				err = fmt.Errorf("the fetch panicked: %v", p)
			}
			k.finish(f, s, fresh, err)
		}()
		fresh, err = k.fetch(ctx, s)
	}()
	return f
}

// finish takes note of what came of f, which was to replace old.
func (k *keys) finish(f *fetch, old, fresh *fetchedSet, err error) {
	k.mu.Lock()
	now := time.Now()
	failures := k.failures
	if err != nil {
		k.failures++
		k.lastErr = err
		pause := min(minBackoff<<min(failures, 10), maxBackoff)
		k.retryAt = now.Add(pause - rand.N(pause/4))
		// The fetch itself may have taken long. An outage must not outlast
		// itself by more than maxBackoff.
		if limit := f.started.Add(maxBackoff); k.retryAt.After(limit) {
			k.retryAt = limit
		}
		k.due.Store(int64(k.retryAt.Sub(k.epoch)))
	} else {
		k.failures, k.lastErr, k.retryAt = 0, nil, time.Time{}
		fresh.number = f.number
		fresh.fetched = now
		fresh.refresh = now.Add(time.Duration(float64(fresh.life) * refreshPart))
		fresh.idle = now.Add(2 * fresh.life)
		fresh.expires = now.Add(fresh.life + graceLife)
		for kid, until := range k.missing {
			if !now.Before(until) {
				delete(k.missing, kid)
			}
		}
		k.current.Store(fresh)
		if old != nil {
			for identity, gone := range old.keys {
				if fresh.keys[identity] == nil {
					gone.withdrawn.Store(true)
				}
			}
		}
		k.due.Store(int64(fresh.refresh.Sub(k.epoch)))
	}
	k.inflight = nil
	f.err = err
	close(f.done)
	k.mu.Unlock()

	// Outside the lock, and no reason to end the program either: a log handler
	// is foreign code.
	defer func() { _ = recover() }()
	switch {
	case err != nil && failures == 0:
		k.log.Warn("bearer: keys cannot be fetched", "issuer", k.issuer, "error", clipTo(err.Error(), maxErrorText), "keys_at_hand", old != nil)
	case err == nil:
		k.logFetched(old, fresh, failures)
	}
}

// logFetched logs what is new with a fetched set. Nothing is new with most.
func (k *keys) logFetched(old, fresh *fetchedSet, failures int) {
	if failures > 0 {
		k.log.Info("bearer: keys can be fetched again", "issuer", k.issuer, "failed_fetches", failures)
	}
	var oldKeys map[string]*key
	var oldReasons []string
	if old != nil {
		oldKeys, oldReasons = old.keys, old.reasons
	}
	added, removed := without(fresh.keys, oldKeys), without(oldKeys, fresh.keys)
	if len(added)+len(removed) > 0 {
		k.log.Info("bearer: keys changed", "issuer", k.issuer, "keys", len(fresh.keys), "added", added, "removed", removed)
	}
	if fresh.skipped > 0 && !slices.Equal(fresh.reasons, oldReasons) {
		k.log.Warn("bearer: keys skipped", "issuer", k.issuer, "skipped", fresh.skipped, "reasons", fresh.reasons)
	}
}

// without lists the ids of the keys in a that are not in b, but not too many.
func without(a, b map[string]*key) []string {
	var ids []string
	for identity, k := range a {
		if b[identity] == nil && len(ids) < maxReasons {
			ids = append(ids, clip(k.kid))
		}
	}
	return ids
}
