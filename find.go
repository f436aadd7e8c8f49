package bearer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"

	"example.com/bearer/internal/clip"
)

// When Config.FindIssuer is asked, and how long its answers count.
const (
	foundLife    = time.Minute      // an answer that names an issuer
	renewAfter   = 45 * time.Second // … from then on, its next use renews it in the background
	refusedLife  = 10 * time.Second // an answer that names none
	failedLife   = time.Second      // an error
	foundKept    = time.Hour        // an issuer that had good tokens is no stranger's invention for so long
	unknownEvery = time.Second      // in which FindIssuer is asked about
	unknownAsked = 100              // … so many names that bring no good token
	findWait     = time.Second      // how long a request waits
	findTimeout  = 5 * time.Second  // how long a call may take
	findCalls    = 256              // at one time: for issuers that had good tokens, and as many for others
	maxIssuer    = 256              // bytes of the name of an issuer
)

// A finder asks Config.FindIssuer and keeps its answers.
//
// Strangers choose the names that it is asked about. So what they can cause is
// bounded, by the number of calls and by the memory that the answers take: a name
// that no good token ever had leaves nothing behind for longer than its answer
// counts. Those that had one are apart from all that.
type finder struct {
	hook
	find                     func(context.Context, string) (*Middleware, error)
	bindings                 *bindings // by which the tokens' senders are judged
	knownCalls, unknownCalls chan struct{}

	mu      sync.Mutex // guards what follows; never held while find is called
	answers map[string]*answer
	asked   [unknownAsked]time.Time // when the last names were that have brought no good token
	swept   time.Time
}

// An answer is what is known of one name.
type answer struct {
	found  *found   // the latest issuer of that name, which may not count any more; nil if there was none
	until  int64    // when the name may be asked again, if found does not count; in microseconds of Unix time
	err    error    // why it may not before; nil if it was refused
	asking *inquiry // the call in flight; nil if there is none
	place  int      // in asked, when the name was last one that may be made up
	placed time.Time
}

// An inquiry is one call that all share who wait for it.
type inquiry struct {
	done  chan struct{} // closed when the rest is set
	found *found        // nil if the name was refused
	err   error
}

// A found issuer is one that FindIssuer named. Tokens that were verified by its
// rules count as long as it does.
type found struct {
	finder *finder
	issuer string
	by     *verifier
	until  atomic.Int64 // it counts, in microseconds of Unix time
	due    atomic.Int64 // when its next use renews it
	proven atomic.Bool  // a token of it was good
}

func newFinder(find func(context.Context, string) (*Middleware, error), b *bindings, log *slog.Logger) *finder {
	return &finder{
		hook:         hook{name: "FindIssuer", log: log},
		find:         find,
		bindings:     b,
		knownCalls:   make(chan struct{}, findCalls),
		unknownCalls: make(chan struct{}, findCalls),
		answers:      make(map[string]*answer),
	}
}

// counts reports whether the answer that f is still does. A clock that was set back
// must not prolong it.
func (f *found) counts(now int64) bool {
	left := f.until.Load() - now
	return 0 < left && left <= foundLife.Microseconds()
}

// use notes that a good token of f came, and has f renewed if it is time.
func (f *found) use(now int64) {
	if !f.proven.Load() {
		f.finder.prove(f)
	}
	if now >= f.due.Load() {
		f.finder.renew(f, now)
	}
}

// isSane reports whether a name is one that an issuer may have.
func isSane(issuer string) bool {
	return issuer != "" && len(issuer) <= maxIssuer && !strings.ContainsFunc(issuer, unicode.IsControl)
}

// of returns the issuer of that name, or nil if there is none, or none as far as
// FindIssuer may be asked.
func (f *finder) of(ctx context.Context, issuer string, now time.Time) (*found, error) {
	f.mu.Lock()
	a, at := f.answers[issuer], now.UnixMicro()
	if a != nil && a.found != nil && a.found.counts(at) {
		f.mu.Unlock()
		return a.found, nil
	}
	if a == nil || a.asking == nil {
		if a != nil && at < a.until && a.until-at <= refusedLife.Microseconds() {
			f.mu.Unlock()
			return nil, a.err
		}
		if a == nil || a.found == nil || !a.found.proven.Load() {
			place := f.freePlace(now)
			if place < 0 {
				f.mu.Unlock()
				return nil, nil
			}
			f.asked[place] = now
			f.sweep(now)
			if a = f.answers[issuer]; a == nil {
				a = new(answer)
				f.answers[issuer] = a
			}
			a.place, a.placed = place, now
		}
		f.start(issuer, a)
	}
	call := a.asking
	f.mu.Unlock()

	timer := time.NewTimer(findWait)
	defer timer.Stop()
	select {
	case <-call.done:
		return call.found, call.err
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-timer.C:
		return nil, errors.New("no answer yet")
	}
}

// freePlace returns a place in asked for a name that may be made up, or -1 if so many
// have been asked about that this one cannot be. f.mu is held.
func (f *finder) freePlace(now time.Time) int {
	if len(f.unknownCalls) == cap(f.unknownCalls) {
		return -1
	}
	return slices.IndexFunc(f.asked[:], func(t time.Time) bool { return now.Sub(t) >= unknownEvery })
}

// prove notes that a good token of p came. It was no stranger's invention, and its
// place is free for the next name: when a program starts, all its tenants are new.
func (f *finder) prove(p *found) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if a := f.answers[p.issuer]; a != nil && a.found == p && f.asked[a.place].Equal(a.placed) {
		f.asked[a.place] = time.Time{}
	}
	p.proven.Store(true)
}

// sweep forgets what is of no more use. f.mu is held.
func (f *finder) sweep(now time.Time) {
	if now.Sub(f.swept) < refusedLife {
		return
	}
	f.swept = now
	at := now.UnixMicro()
	for issuer, a := range f.answers {
		until := a.until
		if a.found != nil {
			until = max(until, a.found.until.Load())
			if a.found.proven.Load() {
				until += foundKept.Microseconds()
			}
		}
		if a.asking == nil && at >= until {
			delete(f.answers, issuer)
		}
	}
}

// renew has old renewed in the background, which counts meanwhile.
func (f *finder) renew(old *found, now int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	a := f.answers[old.issuer]
	if a == nil || a.found != old || a.asking != nil || now < old.due.Load() {
		return
	}
	old.due.Store(now + failedLife.Microseconds())
	if len(f.knownCalls) < cap(f.knownCalls) {
		f.start(old.issuer, a)
	}
}

// start asks about issuer, of which a is known. f.mu is held, and a.asking is nil.
func (f *finder) start(issuer string, a *answer) {
	call := &inquiry{done: make(chan struct{})}
	a.asking = call
	calls := f.unknownCalls
	if a.found != nil && a.found.proven.Load() {
		calls = f.knownCalls
	}
	go func() {
		// Its own context: no request that waits may take the answer away from the
		// others.
		by, err := ask(context.Background(), &f.hook, calls, findTimeout, func(ctx context.Context) (*verifier, error) { return f.call(ctx, issuer) })
		f.mu.Lock()
		defer f.mu.Unlock()
		call.found, call.err = f.take(issuer, a, by, err, time.Now().UnixMicro())
		a.asking = nil
		close(call.done)
	}()
}

// call calls find and returns the verifier in what it returns, or nil.
func (f *finder) call(ctx context.Context, issuer string) (*verifier, error) {
	m, err := f.find(ctx, issuer)
	switch {
	case err != nil || m == nil:
		return nil, err
	case m.issuers == nil:
		return nil, errors.New("it returned a Middleware that New did not make")
	}
	by := m.issuers.byName(issuer)
	if by == nil {
		return nil, fmt.Errorf("it returned a Middleware of %s for another issuer", m.issuers.names)
	}
	if m.bindings.required && !m.bindings.same(f.bindings) {
		return nil, errors.New("it returned a Middleware that requires bound tokens in another way")
	}
	return by, nil
}

// take puts what find returned for issuer into a, and returns what those are told
// who wait. f.mu is held.
func (f *finder) take(issuer string, a *answer, by *verifier, err error, now int64) (*found, error) {
	old := a.found
	a.err = err
	switch {
	case err != nil:
		a.until = now + failedLife.Microseconds()
		return nil, err // whoever waits came when old did not count any more
	case by == nil:
		a.found, a.until = nil, now+refusedLife.Microseconds()
	case old == nil || old.by != by:
		a.found = &found{finder: f, issuer: issuer, by: by}
		a.found.proven.Store(old != nil && old.proven.Load())
	}
	if old != nil && a.found != old {
		old.until.Store(0) // and with it all that was verified by its rules
	}
	if a.found != nil {
		a.found.due.Store(now + renewAfter.Microseconds())
		a.found.until.Store(now + foundLife.Microseconds())
	}
	return a.found, nil
}

// issuerUnavailable is the refusal of a token when FindIssuer failed.
func issuerUnavailable(issuer string, err error) error {
	return &cause{reason: "issuer_unavailable", err: err, detail: clip.To(err.Error(), maxErrorText), claim: "iss", got: clip.String(issuer), retryAfter: time.Second}
}
