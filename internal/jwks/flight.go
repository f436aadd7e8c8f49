package jwks

import (
	"context"
	"math/rand/v2"
	"time"
)

// A fetch is one attempt to get the keys. All who need its result share it.
type fetch struct {
	started  time.Time
	deadline time.Time // when its time is over, whether it has ended or not
	cancel   context.CancelFunc
	done     chan struct{} // closed when it has ended

	// The key id that an unknown key's token caused it for; s.mu guards it.
	kid string
}

// fetchSlack is how long after its timeout a fetch is given up. Until then it is
// expected to end by itself.
const fetchSlack = 2 * time.Second

// wait waits until f is done, ctx is, or d is over. It reports whether f is.
func (f *fetch) wait(ctx context.Context, d time.Duration) bool {
	select {
	case <-f.done:
		return true
	default:
	}
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

// A haul is what a fetch brought, and what it learned on the way there.
type haul struct {
	set        *Set
	cached     bool  // set is from Cache, and the issuer was not asked
	place      place // where the keys are now
	retryAfter time.Duration
}

// flying returns the fetch in flight, or nil. s.mu is held.
//
// A fetch whose time is over is given up: machine or process stood still
// meanwhile, and whatever it still brings is of before that. This is no failure of
// the issuer's, so that the next one need not wait.
func (s *Source) flying(now time.Time) *fetch {
	if f := s.inflight; f != nil && !before(now, f.deadline) {
		s.inflight = nil
		s.looked = time.Time{} // there were no look-ups either
		f.cancel()
		close(f.done)
	}
	return s.inflight
}

// start starts a fetch. s.mu is held, and s.inflight is nil.
func (s *Source) start(now time.Time) *fetch {
	// Its own context: no request that waits may take the fetch away from the
	// others.
	ctx, cancel := context.WithTimeout(context.Background(), fetchTimeout)
	f := &fetch{started: now, deadline: now.Add(fetchTimeout + fetchSlack), cancel: cancel, done: make(chan struct{})}
	s.inflight = f
	old, at := s.set(), s.place
	go func() {
		defer cancel()
		h, err := s.bring(ctx, old, at)
		s.finish(f, old, h, err)
	}()
	return f
}

// bring gets a set to replace old. While there is none it asks Cache first.
func (s *Source) bring(ctx context.Context, old *Set, at place) (haul, error) {
	if s.cfg.Cache != nil && (old == nil || !before(time.Now(), old.expires)) {
		if set := s.readCache(ctx, old); set != nil {
			if at.url == "" {
				at.url = set.url
			}
			return haul{set: set, cached: true, place: at}, nil
		}
	}
	number := s.fetches.Add(1)
	its := &job{s: s, old: old, haul: haul{place: at}}
	j, err := guard(ctx, &s.calls, func(ctx context.Context) (*job, error) { return its, its.fetch(ctx) })
	if j == nil { // it did not come back, and may yet write to what is its own
		at.until = time.Time{}
		return haul{place: at}, err
	}
	if err == nil {
		j.set.number = number
	}
	return j.haul, err
}

// finish takes note of what came of f, which was to replace old.
func (s *Source) finish(f *fetch, old *Set, h haul, err error) {
	s.mu.Lock()
	now := time.Now()
	if s.flying(now) != f {
		s.mu.Unlock()
		return // given up
	}
	s.inflight = nil
	was := s.state(old, now)
	s.place = h.place
	if err != nil {
		s.failed(f, now, err, h.retryAfter)
	} else {
		s.succeeded(now, old, h)
		if f.kid != "" && !h.cached && !h.set.listed[f.kid] {
			// Now, and not when those who wait look into the set: whoever comes
			// between the two would cause the next fetch.
			s.unknown.miss(f.kid, h.set.number, now)
		}
	}
	is := s.state(s.set(), now)
	s.schedule(now)
	close(f.done)
	s.mu.Unlock()

	// Outside the lock: a log handler and a cache are foreign code.
	s.log.changed(s.cfg.Log, s.cfg.Issuer, was, is)
	s.writeCache()
}

// failed notes that f failed, and when to try again. s.mu is held.
func (s *Source) failed(f *fetch, now time.Time, err error, retryAfter time.Duration) {
	pause := min(minBackoff<<min(s.failures, 10), maxBackoff)
	s.failures++
	s.lastErr = err
	s.retryAt = now.Add(pause - rand.N(pause/4))
	// The fetch itself may have taken long. An outage must not outlast itself by
	// more than maxBackoff.
	if limit := f.started.Add(maxBackoff); s.retryAt.After(limit) {
		s.retryAt = limit
	}
	// RFC 9110, section 10.2.3.
	if asked := now.Add(min(retryAfter, maxRetryAfter)); asked.After(s.retryAt) {
		s.retryAt = asked
	}
}

// succeeded puts the set in h, which a fetch or Cache brought, in the place of
// old. s.mu is held.
func (s *Source) succeeded(now time.Time, old *Set, h haul) {
	fresh := h.set
	if h.cached {
		// Whether the issuer can be had is as unknown as before, but may be
		// found out at once: no pause is on, or this try would not have begun.
		s.kept.sum, s.kept.at = fresh.sum, fresh.fetched
	} else {
		s.failures, s.lastErr, s.retryAt, s.idle = 0, nil, time.Time{}, false
		fresh.fetched = now
	}
	life := fresh.life
	if len(fresh.keys) == 0 {
		life = minLife // probably a mistake, which will be mended
	}
	// The servers of one API must not all come back at the same moment.
	life -= rand.N(life / 10)
	fresh.refresh = fresh.fetched.Add(time.Duration(float64(life) * refreshPart))
	fresh.idle = fresh.fetched.Add(2 * life)
	fresh.expires = fresh.fetched.Add(life + graceLife)
	s.unknown.forget(now)
	s.current.Store(&view{set: fresh})
	if old != nil {
		for identity, gone := range old.keys {
			if fresh.keys[identity] == nil {
				gone.withdrawn.Store(true)
			}
		}
	}
}
