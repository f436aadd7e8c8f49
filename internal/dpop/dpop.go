// Package dpop judges DPoP proofs (RFC 9449): signed statements that the sender of
// one request has the key which its access token is bound to.
package dpop

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"example.com/bearer/internal/clip"
	"example.com/bearer/internal/jose"
)

const (
	defaultMaxAge = 5 * time.Minute
	longestMaxAge = time.Hour // RFC 9449, section 11.1: seconds or minutes
)

// DefaultAlgorithms are accepted if Settings name none.
var DefaultAlgorithms = []string{"ES256", "EdDSA", "ES384", "ES512", "PS256", "RS256"}

// A Store knows the proofs that were used. Add reports whether key is new, and
// keeps it for ttl, in one step. It must return in good time.
type Store interface {
	Add(ctx context.Context, key string, ttl time.Duration) (fresh bool, err error)
}

// Settings are what New needs to know.
type Settings struct {
	BaseURLs   []string      // the API's public URLs: origin, and a path that a proxy takes away
	Algorithms []string      // names of jose.Algorithms, and Ed25519 for EdDSA; empty: DefaultAlgorithms
	MaxAge     time.Duration // of a proof; zero: five minutes without nonces, any age with
	Leeway     time.Duration // for clocks that differ; not negative
	NonceKeys  [][]byte      // the first one signs; empty: no nonces
	Resource   string        // what nonces are good for
	Store      Store         // nil: a memory of this verifier's own
	StoreID    any           // equal for verifiers that share a store; nil: Store
}

// A Verifier judges the proofs that an API is sent. Its methods can be called by
// many goroutines at the same time.
type Verifier struct {
	bases          []target
	algorithms     []string
	maxAge, leeway time.Duration // maxAge is zero if the age does not matter
	nonces         *nonces       // nil if there are none
	store          Store         // nil if there is a memory
	memory         *memory
	identity       any // of store or memory, comparable; nil if it is not known
	headers        headers
}

// New returns a verifier. The error joins all that is wrong with s, each beginning
// with the field's name.
func New(s Settings) (*Verifier, error) {
	v := &Verifier{maxAge: s.MaxAge, leeway: s.Leeway, store: s.Store}
	var errs []error
	if len(s.BaseURLs) == 0 {
		errs = append(errs, errors.New("BaseURLs: want the API's public URL, as clients write it"))
	}
	for _, text := range s.BaseURLs {
		base, err := parseBase(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("BaseURLs: %w", err))
		}
		v.bases = append(v.bases, base)
	}
	algorithms := s.Algorithms
	if len(algorithms) == 0 {
		algorithms = DefaultAlgorithms
	}
	for _, alg := range algorithms {
		method := jose.Method(alg)
		if method == nil {
			errs = append(errs, fmt.Errorf("Algorithms: %q is not supported; want some of %s", alg, strings.Join(jose.Algorithms, ", ")))
			continue
		}
		if !slices.Contains(v.algorithms, method.Alg()) {
			v.algorithms = append(v.algorithms, method.Alg())
		}
	}
	if s.MaxAge < 0 || s.MaxAge > longestMaxAge {
		errs = append(errs, fmt.Errorf("MaxAge: %v; want one hour at most, or zero for the default", s.MaxAge))
	}
	var nonceErrs []error
	v.nonces, nonceErrs = newNonces(s.NonceKeys, s.Resource)
	if errs = append(errs, nonceErrs...); len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	longest := maxNonceLife + v.slack()
	if v.nonces == nil {
		if v.maxAge == 0 {
			v.maxAge = defaultMaxAge
		}
		longest = v.maxAge + v.leeway + v.slack()
	}
	if v.store == nil {
		v.memory = newMemory(longest)
		v.identity = v.memory
	} else if id := cmp.Or[any](s.StoreID, s.Store); reflect.ValueOf(id).Comparable() {
		v.identity = id
	}
	return v, nil
}

// slack is how long a used proof is kept after it has ceased to be good: another
// replica's clock may be behind.
func (v *Verifier) slack() time.Duration { return max(v.leeway, time.Second) }

// Algorithms are the accepted ones, each by one name. The caller must not change
// them.
func (v *Verifier) Algorithms() []string { return v.algorithms }

// Nonce returns the nonce that a client should use now, or "" if there are no
// nonces.
func (v *Verifier) Nonce(now time.Time) string {
	if v.nonces == nil {
		return ""
	}
	return v.nonces.newest(now)
}

// A Request is what a proof is judged by.
type Request struct {
	Method     string
	Path       string // from Target; empty if it has none
	Token      string // the access token
	Thumbprint string // of the key that the token is bound to: its "jkt"
	Used       []Use  // what this request has used up before
}

// A Use is a proof that was used up in a store.
type Use struct {
	store any
	key   string
}

// Accepted is what there is to say of a request whose proof holds.
type Accepted struct {
	Nonce string // to be sent to the client, which used an older one; often empty
	Use   Use
}

// Check judges whether p proves that its sender may use the token in r. The order
// matters. A key is used only after an issuer has put its thumbprint into a token,
// so nobody makes us compute with keys of his own choosing. The proof is used up
// last, so that a request which is refused uses up none. All errors are of type
// [*Error].
func (v *Verifier) Check(ctx context.Context, p *Proof, r Request, now time.Time) (Accepted, error) {
	// RFC 9449, section 6.1. What is no thumbprint equals none.
	if p.key.Thumbprint != r.Thumbprint {
		return Accepted{}, &Error{Code: InvalidToken, Reason: "binding", Detail: "the proof is made with another key than the token's",
			Got: p.key.Thumbprint, Want: shown(r.Thumbprint)}
	}
	if !p.key.Verify(p.method, p.signed, p.signature) {
		return Accepted{}, badProof("proof_signature", "")
	}
	v.headers.keep(p.encoded, p.header)
	if err := v.checkRequest(p, r); err != nil {
		return Accepted{}, err
	}
	end, nonce, err := v.checkTime(p, now)
	if err != nil {
		return Accepted{}, err
	}
	use, err := v.use(ctx, p, r, end, now)
	if err != nil {
		return Accepted{}, err
	}
	return Accepted{nonce, use}, nil
}

// checkRequest judges whether p is for r (RFC 9449, section 4.3, checks 8, 9, 12).
func (v *Verifier) checkRequest(p *Proof, r Request) error {
	// Methods are case-sensitive (RFC 9110, section 9.1).
	if p.htm != r.Method {
		return &Error{Code: InvalidProof, Reason: "proof_htm", Got: shown(p.htm), Want: shown(r.Method)}
	}
	if err := v.checkURL(p.htu, r.Path); err != nil {
		return err
	}
	hash := sha256.Sum256([]byte(r.Token))
	if p.ath != base64.RawURLEncoding.EncodeToString(hash[:]) {
		return badProof("proof_ath", "not the hash of this token")
	}
	return nil
}

// checkURL judges whether htu is the URL of a request for path. The public base
// URLs are known by configuration alone: a Host header is the sender's word, and so
// would turn a proof for one server into one for another.
func (v *Verifier) checkURL(htu, path string) error {
	bad := func(detail, got, want string) error {
		return &Error{Code: InvalidProof, Reason: "proof_htu", Detail: detail, Got: got, Want: want}
	}
	if path == "" {
		return bad("the request has no path", "", "")
	}
	path, err := normalPath(path)
	if err != nil {
		return bad("the request's path: "+err.Error(), "", "")
	}
	got, err := parseURL(htu)
	if err != nil {
		sent, _, _ := strings.Cut(htu, "?")
		if strings.IndexByte(sent, '@') >= 0 {
			sent = "" // there may be a password in it
		}
		return bad(err.Error(), shown(sent), "")
	}
	for _, base := range v.bases {
		if rest, ok := strings.CutPrefix(got.path, base.path); ok && rest == path && got.origin == base.origin {
			return nil
		}
	}
	var want []string
	for _, base := range v.bases {
		want = append(want, shown(base.origin+base.path+path))
	}
	return bad("", shown(got.origin+got.path), strings.Join(want, " or "))
}

// checkTime judges whether p was made lately, by its nonce or by its own word. It
// returns when p ceases to be good, and the nonce to send back, if any.
func (v *Verifier) checkTime(p *Proof, now time.Time) (end time.Time, nonce string, err error) {
	if v.nonces != nil {
		var renew, ok bool
		if end, renew, ok = v.nonces.check(p.nonce, now); !ok {
			// RFC 9449, section 9. The client repeats the request with the nonce
			// that it now gets, so this comes before "iat": a nonce mends a wrong
			// clock.
			detail := "not a nonce that is good now"
			if p.nonce == "" {
				detail = "no nonce"
			}
			return end, "", &Error{Code: UseNonce, Reason: "nonce", Detail: detail}
		}
		// RFC 9449, section 8.2.
		if renew {
			nonce = v.nonces.newest(now)
		}
	} else {
		end = p.iat.Add(v.maxAge)
	}
	early := func(t time.Time) bool { return t.After(now.Add(v.leeway)) }
	switch {
	case v.maxAge > 0 && (p.iat.Before(now.Add(-v.maxAge)) || early(p.iat)):
		return end, "", &Error{Code: InvalidProof, Reason: "proof_iat", Got: p.iat.UTC().Format(time.RFC3339),
			Want: now.Add(-v.maxAge).UTC().Format(time.RFC3339) + " to " + now.Add(v.leeway).UTC().Format(time.RFC3339)}
	case !p.exp.IsZero() && !now.Before(p.exp.Add(v.leeway)):
		return end, "", &Error{Code: InvalidProof, Reason: "proof_iat", Detail: "exp is over", Got: p.exp.UTC().Format(time.RFC3339)}
	case early(p.nbf):
		return end, "", &Error{Code: InvalidProof, Reason: "proof_iat", Detail: "nbf is yet to come", Got: p.nbf.UTC().Format(time.RFC3339)}
	}
	return end, nonce, nil
}

// use uses p up (RFC 9449, section 11.1), which is good until end.
func (v *Verifier) use(ctx context.Context, p *Proof, r Request, end, now time.Time) (Use, error) {
	// The URL and the text of the proof are no part of the key: one URL has many
	// spellings, and one ECDSA signature has a second one. The thumbprint is, so
	// that nobody can use up another client's proofs.
	hash := sha256.Sum256([]byte("v1" + r.Thumbprint + "\x00" + p.id))
	use := Use{store: v.identity, key: base64.RawURLEncoding.EncodeToString(hash[:])}
	if use.store != nil && slices.Contains(r.Used, use) {
		return use, nil
	}
	// A proof must not be forgotten before it is over, on any replica.
	ttl := end.Add(v.slack()).Sub(now)
	ttl = (ttl + time.Second - 1).Truncate(time.Second)
	var fresh bool
	var err error
	if v.memory != nil {
		fresh, err = v.memory.add([16]byte(hash[:16]), r.Thumbprint, ttl, now)
	} else {
		fresh, err = v.store.Add(ctx, use.key, ttl)
	}
	switch {
	case err != nil:
		return Use{}, &Error{Code: Unavailable, Reason: "replay_store", Err: err}
	case !fresh:
		return Use{}, badProof("proof_replay", "")
	}
	return use, nil
}

// Codes of an [Error]: the first three are those of RFC 9449, section 7.1.
const (
	InvalidProof = "invalid_dpop_proof"
	InvalidToken = "invalid_token"
	UseNonce     = "use_dpop_nonce"
	Unavailable  = "temporarily_unavailable" // nothing is wrong with the proof
)

// An Error tells why a proof does not help a request. Nothing in it is secret, but
// for what Err says: no proof, no "jti", no nonce.
type Error struct {
	Code      string
	Reason    string // a word that does not change, for metrics and logs
	Detail    string // "" if Reason says it all
	Got, Want string // for logs; shortened, and without unprintable characters
	Err       error  // the cause, or nil
}

func badProof(reason, detail string) *Error {
	return &Error{Code: InvalidProof, Reason: reason, Detail: detail}
}

func (e *Error) Error() string {
	text := e.Code + ": " + e.Reason
	if e.Detail != "" {
		text += ": " + e.Detail
	}
	if e.Got != "" || e.Want != "" {
		text += fmt.Sprintf(": got %q, want %q", e.Got, e.Want)
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

func (e *Error) Unwrap() error { return e.Err }

// shown is as much of what a stranger sent as a log record has room for.
func shown(s string) string { return clip.To(s, 200) }
