package jwks

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"
)

const (
	entryVersion = 1
	maxEntry     = 8 << 20 // bytes; the document may be six times as long in JSON
	maxSkew      = time.Minute
	readTimeout  = 2 * time.Second // less than the patience of those who wait
	writeTimeout = 5 * time.Second
	keepEvery    = time.Hour // how old the kept age of an unchanged set gets
)

// A Cache keeps key sets outside of the process. Its methods are called in
// goroutines of the Source's own, a few at once at most; errors, panics and calls
// that hang cost a log record each.
type Cache interface {
	// Get returns what Put was given, or nothing or fs.ErrNotExist if there is
	// nothing.
	Get(ctx context.Context, name string) ([]byte, error)
	Put(ctx context.Context, name string, data []byte) error
}

// An entry is a key set as Cache keeps it. It is bound to the issuer and to where
// its keys come from, so that one which stands under another's name is not used.
type entry struct {
	Version  int       `json:"version"`
	Issuer   string    `json:"issuer"`
	From     string    `json:"from"`
	Fetched  time.Time `json:"fetched"`
	Life     int64     `json:"life"` // seconds
	URL      string    `json:"url,omitempty"`
	ETag     string    `json:"etag,omitempty"`
	Document string    `json:"document"` // the key set as it was fetched
}

// kept is what is known of the entry in Cache.
type kept struct {
	sum     [sha256.Size]byte // of its document
	at      time.Time         // its age
	writing bool
}

// from names the place that the keys come from.
func (s *Source) from() string {
	switch {
	case s.cfg.Fetch != nil:
		return "function"
	case s.cfg.URL != "":
		return s.cfg.URL
	}
	return s.cfg.Base
}

// cacheName returns a name that no other issuer's keys have, and that can be a
// file's.
func (s *Source) cacheName() string {
	sum := sha256.Sum256([]byte(s.cfg.Issuer + "\n" + s.from()))
	return "bearer-keys-" + hex.EncodeToString(sum[:16]) + ".json"
}

// readCache returns the set that Cache keeps, or nil.
func (s *Source) readCache(ctx context.Context, old *Set) *Set {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	data, err := guard(ctx, &s.cacheCalls, func(ctx context.Context) ([]byte, error) {
		return s.cfg.Cache.Get(ctx, s.cfg.CacheName)
	})
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(data) == 0 {
		return nil
	}
	var set *Set
	if err == nil {
		set, err = s.readEntry(data, old)
	}
	s.log.ofCache(s.cfg.Log, s.cfg.Issuer, true, err)
	return set
}

// readEntry reads an entry as strictly as what comes from the issuer. A set that
// is too old to serve is no error, but nil.
func (s *Source) readEntry(data []byte, old *Set) (*Set, error) {
	if len(data) > maxEntry {
		return nil, fmt.Errorf("more than %d bytes", maxEntry)
	}
	var e entry
	if err := json.Unmarshal(data, &e); err != nil {
		return nil, err
	}
	switch {
	case e.Version != entryVersion:
		return nil, fmt.Errorf("version %d, want %d", e.Version, entryVersion)
	case e.Issuer != s.cfg.Issuer || e.From != s.from():
		return nil, errors.New("they are those of another issuer or place")
	case len(e.Document) > maxDocument:
		return nil, errTooLarge
	}
	if s.cfg.Fetch == nil && s.cfg.URL == "" {
		if err := s.checkLocation(e.URL); err != nil {
			return nil, err
		}
	}
	// The wall clock's, since no other outlasts the process. With the age
	// counted from now, the set grows old by both clocks.
	now := time.Now()
	age := now.Round(0).Sub(e.Fetched)
	if age < -maxSkew {
		return nil, errors.New("they are from the future")
	}
	set, err := readSet(e.Document, s.cfg.Algorithms, old)
	if err != nil {
		return nil, err
	}
	set.keep(e.Document)
	set.url, set.etag = e.URL, e.ETag
	set.life = min(max(time.Duration(e.Life)*time.Second, minLife), maxLife)
	set.fetched = now.Add(-max(age, 0))
	if len(set.keys) == 0 || age >= set.life+graceLife {
		return nil, nil
	}
	return set, nil
}

// keep gives s what Cache needs of it.
func (s *Set) keep(document string) { s.document, s.sum = document, sha256.Sum256([]byte(document)) }

// writeCache writes the set at hand to Cache if that has another one, or if it has
// an old age of this one: an API that starts while its issuer is down can use no
// set that seems too old. Only one writes at a time, and that one looks again
// afterwards.
func (s *Source) writeCache() {
	for s.cfg.Cache != nil {
		s.mu.Lock()
		set := s.set()
		if set == nil || s.kept.writing || set.sum == s.kept.sum && since(set.fetched, s.kept.at) < keepEvery {
			s.mu.Unlock()
			return
		}
		s.kept.writing = true
		s.mu.Unlock()

		err := s.put(set)

		s.mu.Lock()
		s.kept.writing = false
		if err == nil {
			s.kept.sum, s.kept.at = set.sum, set.fetched
		}
		s.mu.Unlock()
		s.log.ofCache(s.cfg.Log, s.cfg.Issuer, false, err)
		if err != nil {
			return // until the next fetch
		}
	}
}

func (s *Source) put(set *Set) error {
	data, err := json.Marshal(entry{
		Version:  entryVersion,
		Issuer:   s.cfg.Issuer,
		From:     s.from(),
		Fetched:  set.fetched.UTC(),
		Life:     int64(set.life / time.Second),
		URL:      set.url,
		ETag:     set.etag,
		Document: set.document,
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), writeTimeout)
	defer cancel()
	_, err = guard(ctx, &s.cacheCalls, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, s.cfg.Cache.Put(ctx, s.cfg.CacheName, data)
	})
	return err
}
