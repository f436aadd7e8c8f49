package jwks

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"example.com/bearer/internal/clip"
)

const maxErrorText = 500 // bytes of why a fetch failed, in logs

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

// start starts a fetch. s.mu is held, and s.inflight is nil.
func (s *Source) start(now time.Time) *fetch {
	f := &fetch{number: s.fetches.Add(1), started: now, done: make(chan struct{})}
	s.inflight = f
	old := s.current.Load()
	if old != nil && (s.failures > 0 || now.Before(old.idle)) {
		s.due.Store(never) // until f is done
	}
	go func() {
		// Its own context: no request that waits may take the fetch away from
		// the others.
		ctx, cancel := context.WithTimeout(context.Background(), fetchTimeout)
		defer cancel()
		var fresh *Set
		err := errors.New("the HTTP client did not return")
		defer func() {
			// A client that panics takes down neither the API nor the keys.
			if p := recover(); p != nil {
				err = fmt.Errorf("the fetch panicked: %v", p)
			}
			s.finish(f, old, fresh, err)
		}()
		fresh, err = s.fetch(ctx, old)
	}()
	return f
}

// finish takes note of what came of f, which was to replace old.
func (s *Source) finish(f *fetch, old, fresh *Set, err error) {
	s.mu.Lock()
	now := time.Now()
	failures := s.failures
	if err != nil {
		s.failed(f, now, err)
	} else {
		s.succeeded(f, now, old, fresh)
	}
	s.inflight = nil
	f.err = err
	close(f.done)
	s.mu.Unlock()

	// Outside the lock, and no reason to end the program either: a log handler
	// is foreign code.
	defer func() { _ = recover() }()
	switch {
	case err != nil && failures == 0:
		s.cfg.Log.Warn("bearer: keys cannot be fetched", "issuer", s.cfg.Issuer, "error", clip.To(err.Error(), maxErrorText), "keys_at_hand", old != nil)
	case err == nil:
		s.logFetched(old, fresh, failures)
	}
}

// failed notes that f failed, and when to try again. s.mu is held.
func (s *Source) failed(f *fetch, now time.Time, err error) {
	pause := min(minBackoff<<min(s.failures, 10), maxBackoff)
	s.failures++
	s.lastErr = err
	s.retryAt = now.Add(pause - rand.N(pause/4))
	// The fetch itself may have taken long. An outage must not outlast itself by
	// more than maxBackoff.
	if limit := f.started.Add(maxBackoff); s.retryAt.After(limit) {
		s.retryAt = limit
	}
	s.due.Store(int64(s.retryAt.Sub(s.epoch)))
}

// succeeded puts fresh, which f brought, in the place of old. s.mu is held.
func (s *Source) succeeded(f *fetch, now time.Time, old, fresh *Set) {
	s.failures, s.lastErr, s.retryAt = 0, nil, time.Time{}
	fresh.number = f.number
	fresh.fetched = now
	fresh.refresh = now.Add(time.Duration(float64(fresh.life) * refreshPart))
	fresh.idle = now.Add(2 * fresh.life)
	fresh.expires = now.Add(fresh.life + graceLife)
	for kid, until := range s.missing {
		if !now.Before(until) {
			delete(s.missing, kid)
		}
	}
	s.current.Store(fresh)
	if old != nil {
		for identity, gone := range old.keys {
			if fresh.keys[identity] == nil {
				gone.withdrawn.Store(true)
			}
		}
	}
	s.due.Store(int64(fresh.refresh.Sub(s.epoch)))
}

// logFetched logs what is new with a fetched set. Nothing is new with most.
func (s *Source) logFetched(old, fresh *Set, failures int) {
	log, issuer := s.cfg.Log, s.cfg.Issuer
	if failures > 0 {
		log.Info("bearer: keys can be fetched again", "issuer", issuer, "failed_fetches", failures)
	}
	if old == nil {
		old = &Set{}
	}
	added, removed := without(fresh.keys, old.keys), without(old.keys, fresh.keys)
	if len(added)+len(removed) > 0 {
		log.Info("bearer: keys changed", "issuer", issuer, "keys", len(fresh.keys), "added", added, "removed", removed)
	}
	if fresh.skipped > 0 && !slices.Equal(fresh.reasons, old.reasons) {
		log.Warn("bearer: keys skipped", "issuer", issuer, "skipped", fresh.skipped, "reasons", fresh.reasons)
	}
}

// without lists the ids of the keys in a that are not in b, but not too many.
func without(a, b map[string]*Key) []string {
	var ids []string
	for identity, k := range a {
		if b[identity] == nil && len(ids) < maxReasons {
			ids = append(ids, clip.String(k.ID))
		}
	}
	return ids
}
