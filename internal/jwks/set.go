package jwks

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"

	"example.com/bearer/internal/clip"
	"example.com/bearer/internal/jose"
	"example.com/bearer/internal/strictjson"
)

const (
	maxReasons    = 5  // keys skipped that a log record tells of
	maxCandidates = 16 // keys that one token is tried with
)

// A Key is one key of the issuer. It stays the same value from set to set for as
// long as the issuer publishes it unchanged, so that what was verified with it
// need not be verified again.
type Key struct {
	*jose.Key
	identity  string // all that it was made from
	withdrawn atomic.Bool
}

// Withdrawn reports whether the issuer has stopped publishing the key.
func (k *Key) Withdrawn() bool { return k.withdrawn.Load() }

// A Candidate is a key that may have signed a token, as keyfunc chose it.
type Candidate struct {
	*Key
	public jwt.VerificationKey
}

// Verify reports whether signed was signed with the key.
func (c Candidate) Verify(method jwt.SigningMethod, signed string, signature []byte) bool {
	return len(signature) == c.SignatureLength && method.Verify(signed, signature, c.public) == nil
}

// A Set is the keys of an issuer as one fetch brought them. It does not change.
type Set struct {
	keys       map[string]*Key // by identity
	candidates map[selector][]Candidate
	listed     map[string]bool // the key ids in the document, also of keys that were skipped
	skipped    int             // keys that cannot be used
	reasons    []string        // why not, of the first few

	url, etag string
	life      time.Duration // soft, as the issuer has it
	number    int64         // of the fetch that brought it; 0 if it is from Cache
	fetched   time.Time
	refresh   time.Time // when to get a newer one
	idle      time.Time // when it is so old that requests may wait for a newer one
	expires   time.Time // when the set serves no more

	document string            // what it was read from, if Cache is to have it
	sum      [sha256.Size]byte // of document
}

// A selector is what a token says of its key. The id is empty if it says none.
type selector struct{ alg, kid string }

// Candidates returns the keys that may have signed a token with this algorithm
// and key id: those of that id, or without an id those of the algorithm.
func (s *Set) Candidates(alg, kid string) []Candidate { return s.candidates[selector{alg, kid}] }

// Lists reports whether the issuer's document has the key id, if only for a key that
// cannot be used.
func (s *Set) Lists(kid string) bool { return s.listed[kid] }

// readSet reads a JWK set (RFC 7517, section 5) for a verifier that accepts the
// given algorithms. Keys that cannot be used are skipped one by one, even if none
// is left: what the issuer no longer publishes usably is withdrawn. Only a document
// without any key in it is refused. Keys that are in old, which may be nil, too are
// taken from there.
func readSet(document string, accepted []string, old *Set) (*Set, error) {
	s := &Set{keys: make(map[string]*Key), listed: make(map[string]bool)}
	groups := make(map[selector][]*Key)
	hasKey := false
	// What is wrong inside of a key is wrong with that key only.
	o := strictjson.Object{Text: []byte(document), LooseBelow: true}
	for o.Next() {
		if string(o.Name) != "keys" {
			continue
		}
		for element := range o.Value.Elements() {
			k, kid, err := readKey(element, accepted)
			if kid != "" {
				s.listed[kid] = true
			}
			hasKey = hasKey || err == nil || isKey(element)
			if err != nil {
				if s.skipped++; s.skipped <= maxReasons {
					s.reasons = append(s.reasons, fmt.Sprintf("%q: %s", clip.String(kid), clip.String(err.Error())))
				}
				continue
			}
			if old != nil && old.keys[k.identity] != nil {
				k = old.keys[k.identity]
			}
			if s.keys[k.identity] != nil {
				continue // the same key twice
			}
			s.keys[k.identity] = k
			for _, alg := range k.Algorithms {
				for _, id := range slices.Compact([]string{"", kid}) {
					if g := groups[selector{alg, id}]; len(g) < maxCandidates {
						groups[selector{alg, id}] = append(g, k)
					}
				}
			}
		}
	}
	err := o.Err()
	if err != nil {
		return nil, fmt.Errorf("the key set is %w", err)
	}
	if !hasKey {
		return nil, fmt.Errorf("the key set has no key in it; %d skipped %q", s.skipped, s.reasons)
	}
	s.candidates = make(map[selector][]Candidate, len(groups))
	for by, keys := range groups {
		if s.candidates[by], err = choose(by, keys); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// isKey reports whether an element of a JWK set is a key, if perhaps one that
// cannot be used: an object with a key type (RFC 7517, section 4.1).
func isKey(element strictjson.Value) bool {
	o := strictjson.Object{Text: element, LooseBelow: true}
	for o.Next() {
		if kty, ok := o.Value.Text(); ok && string(o.Name) == "kty" && kty != "" {
			return true
		}
	}
	return false
}

// readKey reads one element of a JWK set. The key id is returned with an error
// too, as far as it could be read.
func readKey(text []byte, accepted []string) (*Key, string, error) {
	k, kid, err := jose.ReadKey(text)
	if err != nil {
		return nil, kid, err
	}
	serves := slices.DeleteFunc(slices.Clone(k.Algorithms), func(alg string) bool { return !slices.Contains(accepted, alg) })
	if len(serves) == 0 {
		return nil, kid, fmt.Errorf("it serves no accepted algorithm, only %q", k.Algorithms)
	}
	identity := fmt.Sprintf("%q", []string{k.Thumbprint, k.ID, k.Issuer, strings.Join(k.Algorithms, " ")})
	k.Algorithms = serves
	return &Key{Key: k, identity: identity}, kid, nil
}

// choose lets keyfunc choose among keys, which all serve the algorithm and have
// the id that by names, as it would for a token that names them. It is asked once
// for each set and not for each token: its answer is the same, and a look-up in it
// costs a twentieth.
func choose(by selector, keys []*Key) ([]Candidate, error) {
	all := jwkset.NewMemoryStorage()
	for _, k := range keys {
		// In memory: it cannot fail.
		_ = all.KeyWrite(context.Background(), k.JWK)
	}
	chooser, err := keyfunc.New(keyfunc.Options{Storage: all})
	if err != nil {
		return nil, err
	}
	// keyfunc sees but the first of several keys with one id, unless the token has
	// none.
	token := &jwt.Token{Header: map[string]any{"alg": by.alg}}
	if len(keys) == 1 {
		token.Header["kid"] = keys[0].ID
	}
	chosen, err := chooser.Keyfunc(token)
	if err != nil {
		return nil, err
	}
	public := []jwt.VerificationKey{chosen}
	if several, ok := chosen.(jwt.VerificationKeySet); ok {
		public = several.Keys
	}
	candidates := make([]Candidate, len(keys))
	for i, k := range keys {
		candidates[i] = Candidate{k, public[i]}
	}
	return candidates, nil
}
