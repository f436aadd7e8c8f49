package jwks

import (
	"log/slog"
	"slices"
	"sync"
	"time"

	"example.com/bearer/internal/clip"
)

const (
	maxErrorText = 500 // bytes of why a fetch failed
	maxListed    = 5   // keys that a log record tells of
)

// A state is what log records tell of: they are written when it changes, and not
// for each fetch or request.
type state struct {
	set         *Set // nil if there is none
	usable      bool // set has keys and has not expired
	failures    int
	err         error
	metadataErr error // of metadata that fail for long
}

// state returns the present state with set in it. s.mu is held.
func (s *Source) state(set *Set, now time.Time) state {
	st := state{set: set, failures: s.failures, err: s.lastErr}
	st.usable = set != nil && len(set.keys) > 0 && before(now, set.expires)
	if s.place.failsForLong(now) {
		st.metadataErr = s.place.err
	}
	return st
}

// A stateLog writes records. Its zero value is ready.
type stateLog struct {
	mu       sync.Mutex
	metadata bool   // it has been told that the metadata fail
	cache    string // what has been told of Cache
}

// changed writes what is new in is, compared with was. Nothing is new most of the
// time.
func (l *stateLog) changed(log *slog.Logger, issuer string, was, is state) {
	defer func() { _ = recover() }() // a log handler that panics ends no program
	log = log.With("issuer", issuer)
	switch {
	case is.failures > 0 && was.failures == 0:
		log.Warn("bearer: keys cannot be fetched", "error", text(is.err), "keys_at_hand", is.usable)
	case is.failures == 0 && was.failures > 0:
		log.Info("bearer: keys can be fetched again", "failed_fetches", was.failures)
	}
	l.mu.Lock()
	toldMetadata := l.metadata
	l.metadata = is.metadataErr != nil
	l.mu.Unlock()
	switch {
	case is.metadataErr != nil && !toldMetadata:
		log.Warn("bearer: metadata cannot be used", "error", text(is.metadataErr))
	case is.metadataErr == nil && toldMetadata:
		log.Info("bearer: metadata can be used again")
	}
	if is.set == nil {
		return
	}
	old := was.set
	if old == nil {
		old = &Set{}
	}
	added, removed := without(is.set.keys, old.keys), without(old.keys, is.set.keys)
	if len(added)+len(removed) > 0 {
		log.Info("bearer: keys changed", "keys", len(is.set.keys), "added", added, "removed", removed)
	}
	if is.set.skipped > 0 && !slices.Equal(is.set.reasons, old.reasons) {
		log.Warn("bearer: keys skipped", "keys", len(is.set.keys), "skipped", is.set.skipped, "reasons", is.set.reasons)
	}
}

// ofCache writes that Cache cannot be read or written, but not twice in a row. A
// nil err says that it can.
func (l *stateLog) ofCache(log *slog.Logger, issuer string, reading bool, err error) {
	defer func() { _ = recover() }()
	fault := "" // as long as there is none
	switch {
	case err == nil:
	case reading:
		fault = "reading"
	default:
		fault = "writing"
	}
	l.mu.Lock()
	told := l.cache
	l.cache = fault
	l.mu.Unlock()
	switch {
	case err == nil || fault == told:
	case reading:
		log.Warn("bearer: kept keys cannot be used", "issuer", issuer, "error", text(err))
	default:
		log.Warn("bearer: keys cannot be kept", "issuer", issuer, "error", text(err))
	}
}

func text(err error) string { return clip.To(err.Error(), maxErrorText) }

// without lists the ids of the keys in a that are not in b, but not too many.
func without(a, b map[string]*Key) []string {
	var ids []string
	for identity, k := range a {
		if b[identity] == nil {
			ids = append(ids, clip.String(k.ID))
		}
	}
	slices.Sort(ids)
	return ids[:min(len(ids), maxListed)]
}
