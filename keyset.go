package bearer

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/MicahParks/jwkset"
	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"

	"example.com/bearer/internal/strictjson"
)

const (
	minRSABits = 2048
	maxRSABits = 8192 // a signature check at most 40 times as long as at 2048

	maxReasons      = 5       // keys skipped that a log record tells of
	maxKeyless      = 4       // keys that a token without key id is tried with
	maxHeaders      = 512     // headers that a key set remembers
	maxHeaderLength = 1 << 10 // bytes of such a header
)

// methods are the signature algorithms that can be accepted, by the name that a
// token gives them: all of RFC 7518 that need no shared secret, and EdDSA under
// both its names (RFC 8037, RFC 9864).
var methods = map[string]jwt.SigningMethod{
	"RS256":   jwt.SigningMethodRS256,
	"RS384":   jwt.SigningMethodRS384,
	"RS512":   jwt.SigningMethodRS512,
	"PS256":   strictPSS(jwt.SigningMethodPS256),
	"PS384":   strictPSS(jwt.SigningMethodPS384),
	"PS512":   strictPSS(jwt.SigningMethodPS512),
	"ES256":   jwt.SigningMethodES256,
	"ES384":   jwt.SigningMethodES384,
	"ES512":   jwt.SigningMethodES512,
	"EdDSA":   jwt.SigningMethodEdDSA,
	"Ed25519": jwt.SigningMethodEdDSA,
}

// strictPSS returns m with the salt as long as the hash (RFC 7518, section
// 3.5). golang-jwt takes any length.
func strictPSS(m *jwt.SigningMethodRSAPSS) jwt.SigningMethod {
	return &jwt.SigningMethodRSAPSS{
		SigningMethodRSA: m.SigningMethodRSA,
		Options:          m.Options,
		VerifyOptions:    &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash},
	}
}

var (
	rsaAlgorithms = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}
	allAlgorithms = append(slices.Clone(rsaAlgorithms), "ES256", "ES384", "ES512", "EdDSA")
)

// A key is one key of the issuer. It stays the same value from set to set for as
// long as the issuer publishes it unchanged, so that what was verified with it
// need not be verified again.
type key struct {
	identity   string // all that it was made from
	kid        string
	issuer     string // "issuer", which Entra ID has in its keys: for IssuerTemplate
	jwk        jwkset.JWK
	algorithms []string // that it serves
	sigLength  int      // bytes

	withdrawn atomic.Bool // the issuer does not publish it any more
}

// readKey reads one element of a JWK set (RFC 7517, section 4) for a token
// verifier that accepts the given algorithms. Only public members reach jwkset:
// it would refuse a key for what stands beside the key, as the certificate
// thumbprints of old Auth0 tenants do. The key id is returned also with an
// error, as far as it could be read.
func readKey(text string, accepted []string) (k *key, kid string, err error) {
	var m jwkset.JWKMarshal
	var alg, use, issuer, wrongType string
	str := func(v strictjson.Value, name string) string {
		text, ok := v.Text()
		if !ok {
			wrongType = name
		}
		return text
	}
	hasAlg, hasUse, verifies, private := false, false, true, ""
	o := strictjson.Object{Text: text}
	for o.Next() {
		switch o.Name {
		case "kty":
			m.KTY = jwkset.KTY(str(o.Value, "kty"))
		case "crv":
			m.CRV = jwkset.CRV(str(o.Value, "crv"))
		case "x":
			m.X = str(o.Value, "x")
		case "y":
			m.Y = str(o.Value, "y")
		case "n":
			m.N = str(o.Value, "n")
		case "e":
			m.E = str(o.Value, "e")
		case "kid":
			kid = str(o.Value, "kid")
		case "alg":
			alg, hasAlg = str(o.Value, "alg"), true
		case "use":
			use, hasUse = str(o.Value, "use"), true
		case "issuer":
			var ok bool
			if issuer, ok = o.Value.Text(); !ok {
				issuer = string(o.Value) // and so nobody's
			}
		case "key_ops":
			verifies = false
			for op := range o.Value.Elements() {
				name, _ := op.Text()
				verifies = verifies || name == "verify"
			}
		case "d", "p", "q", "dp", "dq", "qi", "oth", "k":
			private = o.Name
		}
	}
	switch {
	case o.Err() != nil:
		return nil, kid, o.Err()
	case wrongType != "":
		return nil, kid, fmt.Errorf("%q is not a string", wrongType)
	case m.KTY == "oct":
		return nil, kid, errors.New("a shared secret")
	case private != "":
		return nil, kid, fmt.Errorf("published with its private part %q: it is compromised", private)
	case hasUse && use != "sig":
		return nil, kid, fmt.Errorf("\"use\" is %q", clip(use))
	case !verifies:
		return nil, kid, errors.New("\"key_ops\" lacks \"verify\"")
	}
	m.KID = kid
	if hasAlg {
		method := methods[alg]
		if method == nil {
			return nil, kid, fmt.Errorf("\"alg\" is %q", clip(alg))
		}
		m.ALG = jwkset.ALG(method.Alg())
	}
	jwk, err := jwkset.NewJWKFromMarshal(m, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{})
	if err != nil {
		return nil, kid, err
	}
	k = &key{
		identity: fmt.Sprintf("%q", []string{kid, m.ALG.String(), m.KTY.String(), m.CRV.String(), m.N, m.E, m.X, m.Y, issuer}),
		kid:      kid,
		issuer:   issuer,
		jwk:      jwk,
	}
	switch public := jwk.Key().(type) {
	case *rsa.PublicKey:
		if bits := public.N.BitLen(); bits < minRSABits || bits > maxRSABits {
			return nil, kid, fmt.Errorf("RSA with %d bits, want %d to %d", bits, minRSABits, maxRSABits)
		}
		if public.N.Bit(0) == 0 || public.E < 3 || public.E%2 == 0 {
			return nil, kid, errors.New("not an RSA key")
		}
		k.algorithms, k.sigLength = rsaAlgorithms, public.Size()
	case *ecdsa.PublicKey:
		// jwkset has looked at the curve and at the point.
		bits := public.Params().BitSize
		k.algorithms = []string{map[int]string{256: "ES256", 384: "ES384", 521: "ES512"}[bits]}
		k.sigLength = (bits + 7) / 8 * 2
	case ed25519.PublicKey:
		k.algorithms, k.sigLength = []string{"EdDSA"}, ed25519.SignatureSize
	default:
		return nil, kid, errors.New("not a key for signatures")
	}
	// RFC 8725, section 3.1: a key serves the algorithm that it names. One
	// that names none, which RFC 7517, section 4.4, allows, serves all that its
	// type allows.
	serves := func(name string) bool {
		return slices.Contains(accepted, name) && (!hasAlg || name == m.ALG.String())
	}
	k.algorithms = slices.DeleteFunc(slices.Clone(k.algorithms), func(name string) bool { return !serves(name) })
	if len(k.algorithms) == 0 {
		return nil, kid, fmt.Errorf("no accepted algorithm; \"alg\" is %q", clip(alg))
	}
	return k, kid, nil
}

// A keySet is the keys of an issuer as they were fetched once. It does not
// change, but for the headers that it remembers.
type keySet struct {
	keys    map[string]*key     // by identity
	serving map[string]*serving // by algorithm
	listed  map[string]bool     // the key ids in the document, also of keys that were skipped
	skipped int                 // keys that cannot be used
	reasons []string            // why not, of the first few

	headers     sync.Map // encoded header -> *header
	headerCount atomic.Int32
}

// readKeySet reads a JWK set (RFC 7517, section 5). Keys that cannot be used are
// skipped one by one; a set without any that can is refused. Keys that are in
// old, which may be nil, too are taken from there.
func readKeySet(document string, accepted []string, old *keySet) (*keySet, error) {
	s := &keySet{keys: make(map[string]*key), serving: make(map[string]*serving), listed: make(map[string]bool)}
	var all []jwkset.JWK
	// What is wrong inside of a key is wrong with that key only.
	o := strictjson.Object{Text: document, LooseBelow: true}
	for o.Next() {
		if o.Name != "keys" {
			continue
		}
		for element := range o.Value.Elements() {
			k, kid, err := readKey(strings.Clone(string(element)), accepted) // a key that stays must not keep the document
			if kid != "" {
				s.listed[kid] = true
			}
			if err != nil {
				if s.skipped++; s.skipped <= maxReasons {
					s.reasons = append(s.reasons, fmt.Sprintf("%q: %s", clip(kid), clip(err.Error())))
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
			all = append(all, k.jwk)
			for _, alg := range k.algorithms {
				s.serve(alg, k)
			}
		}
	}
	if err := o.Err(); err != nil {
		return nil, fmt.Errorf("the key set is %w", err)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("the key set has no usable key; %d skipped %q", s.skipped, s.reasons)
	}
	whole := jwkset.NewMemoryStorage()
	whole.KeyReplaceAll(context.Background(), all) // in memory: it cannot fail
	for _, a := range s.serving {
		a.Storage = whole
	}
	return s, nil
}

// serving is the part of a key set that serves one algorithm, as a
// [jwkset.Storage] for keyfunc. There is one for each algorithm, because keyfunc
// tries a token without key id with all keys there are, and of two keys with
// one id it sees the first only.
type serving struct {
	jwkset.Storage // the whole set, for the methods that keyfunc does not call
	byID           map[string]*key
	keyless        []*key // what a token without key id is tried with
	keyfunc        keyfunc.Keyfunc
}

func (s *keySet) serve(alg string, k *key) {
	a := s.serving[alg]
	if a == nil {
		a = &serving{byID: make(map[string]*key)}
		a.keyfunc, _ = keyfunc.New(keyfunc.Options{Storage: a}) // fails without a Storage only
		s.serving[alg] = a
	}
	if a.byID[k.kid] == nil {
		a.byID[k.kid] = k
	}
	if len(a.keyless) < maxKeyless {
		a.keyless = append(a.keyless, k)
	}
}

// KeyRead implements [jwkset.Storage].
func (a *serving) KeyRead(_ context.Context, kid string) (jwkset.JWK, error) {
	if k := a.byID[kid]; k != nil {
		return k.jwk, nil
	}
	return jwkset.JWK{}, jwkset.ErrKeyNotFound
}

// KeyReadAll implements [jwkset.Storage].
func (a *serving) KeyReadAll(context.Context) ([]jwkset.JWK, error) {
	all := make([]jwkset.JWK, len(a.keyless))
	for i, k := range a.keyless {
		all[i] = k.jwk
	}
	return all, nil
}

// A candidate is a key that may have signed a token.
type candidate struct {
	key    *key
	public jwt.VerificationKey
}

// verify reports whether p was signed with the key. A signature of the wrong
// length, which would cost as much as a good one, is refused before that.
func (c candidate) verify(method jwt.SigningMethod, p parts) bool {
	return len(p.signature) == c.key.sigLength && method.Verify(p.signed, p.signature, c.public) == nil
}

// candidates returns the keys that may have signed a token with header h. known
// means that the document lists the key id in h, if only for a key that cannot
// be used.
func (s *keySet) candidates(h *header) (found []candidate, known bool) {
	if h.set == s {
		return h.candidates, h.kid != ""
	}
	known = h.kid != "" && s.listed[h.kid]
	a := s.serving[h.alg]
	if a == nil {
		return nil, known
	}
	selected, err := a.keyfunc.Keyfunc(h.token)
	if err != nil {
		return nil, known // no such key: the only error of this storage
	}
	if several, ok := selected.(jwt.VerificationKeySet); ok {
		for i, public := range several.Keys {
			found = append(found, candidate{a.keyless[i], public})
		}
		return found, known
	}
	return []candidate{{a.byID[h.kid], selected}}, known
}

// remember keeps the header of a token whose signature held, so that the next
// token with the same one, as most are, needs no reading of it and no search
// for the key.
func (s *keySet) remember(encoded string, h *header, candidates []candidate) {
	if h.set == s || len(encoded) > maxHeaderLength || s.headerCount.Load() >= maxHeaders {
		return
	}
	kept := *h
	kept.set, kept.candidates = s, candidates
	// The string is part of a request's token: a copy keeps only the header.
	if _, loaded := s.headers.LoadOrStore(strings.Clone(encoded), &kept); !loaded {
		s.headerCount.Add(1)
	}
}

// remembered returns what remember was given, or nil.
func (s *keySet) remembered(encoded string) *header {
	if h, ok := s.headers.Load(encoded); ok {
		return h.(*header)
	}
	return nil
}
