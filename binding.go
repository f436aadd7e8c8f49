package bearer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"example.com/bearer/internal/clip"
	"example.com/bearer/internal/dpop"
)

// DPoP says how proofs of possession are judged (RFC 9449): a token that is bound to
// a key of its client is accepted with a proof that was made with that key, for this
// one request. Changes after [New] have no effect.
type DPoP struct {
	// BaseURLs are the URLs of this API as clients write them: the origin and,
	// where a proxy takes a prefix off the path, that prefix. A proof names the
	// URL that it is for, and only this configuration says what that may be: never
	// the Host header or another one, which are the sender's. If it is empty it is
	// the origin of Config.Resource.
	BaseURLs []string

	// Algorithms lists the accepted signature algorithms of proofs. If it is empty
	// they are ES256, EdDSA (with Ed25519, its new name), ES384, ES512, PS256 and
	// RS256.
	Algorithms []string

	// MaxAge is how old a proof may be, by its own word. Zero means five minutes,
	// or with NonceKeys any age, since the nonce then tells it. At most an hour.
	MaxAge time.Duration

	// NonceKeys are the secrets from which nonces are made (RFC 9449, section 9),
	// of at least 32 bytes each. The first one makes nonces, all are good to check
	// them. If it is empty there are no nonces. All replicas of an API must have
	// the same: one without them would accept what the others refuse.
	NonceKeys [][]byte

	// Replay remembers the proofs that were used. If it is nil this process alone
	// does, in up to 64 MiB; replicas that are to know of each other's need a
	// shared one.
	Replay ReplayStore
}

// A ReplayStore remembers what was used once. Add reports whether key is new, and
// keeps it for ttl, in one step: of two calls at once with one key, one gets true.
// A store that cannot tell returns an error, and the request gets status 503. Keys
// are 43 characters of base64url.
//
// Add is called by many goroutines at once, without a lock, with the context of a
// request that waits for it, which ends after 1 second. A panic counts as an error,
// and so does an answer that is late; the first one is logged. At most 1024 calls run
// at one time. A call that ignores the end of its context keeps its place.
//
// Middlewares inside of one another that have the same store use up the proof of a
// request once, if the store is comparable, as pointers are; otherwise the inner one
// refuses it as used.
type ReplayStore interface {
	Add(ctx context.Context, key string, ttl time.Duration) (fresh bool, err error)
}

// A replayStore is DPoP.Replay: a store that hangs or panics does no more than refuse
// the requests that need it.
type replayStore struct {
	hook
	store ReplayStore
	calls chan struct{}
}

func (s *replayStore) Add(ctx context.Context, key string, ttl time.Duration) (fresh bool, err error) {
	return ask(ctx, &s.hook, s.calls, replayTimeout, func(ctx context.Context) (bool, error) { return s.store.Add(ctx, key, ttl) })
}

// ConnectionCertificate returns the certificate that the client of r showed in the
// TLS handshake, in DER, or nil if it showed none. It is for [Config.Certificate]
// where TLS ends in this process. Which certificates are asked for and accepted is
// for [crypto/tls.Config] to say; to check a binding, tls.RequestClientCert is
// enough (RFC 8705, section 6.2).
func ConnectionCertificate(r *http.Request) ([]byte, error) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return nil, nil
	}
	return r.TLS.PeerCertificates[0].Raw, nil
}

// ForwardedCertificate returns a function for [Config.Certificate] where TLS ends
// in a proxy that sends the client's certificate on in the Client-Cert header (RFC
// 9440). The header is believed if the request comes from one of the trusted
// networks, and then it alone counts; the certificate of any other peer is that of
// its connection. A trusted proxy must remove the header from what clients send.
//
// The peer is r.RemoteAddr. Middleware that rewrites it by what a header says must
// not stand outside: it would let strangers be trusted. Peers without an IP
// address, such as those of unix sockets, are not trusted.
//
// ForwardedCertificate panics if a prefix is not valid, or there is none.
func ForwardedCertificate(trusted ...netip.Prefix) func(*http.Request) ([]byte, error) {
	if len(trusted) == 0 || slices.ContainsFunc(trusted, func(p netip.Prefix) bool { return !p.IsValid() }) {
		panic(fmt.Sprintf("bearer: ForwardedCertificate: %v are not the networks of proxies", trusted))
	}
	networks := slices.Clone(trusted)
	for i, p := range networks {
		if p.Addr().Is4In6() && p.Bits() >= 96 { // as the peer's address is written, too
			networks[i] = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
	}
	return func(r *http.Request) ([]byte, error) {
		peer, err := netip.ParseAddrPort(r.RemoteAddr)
		address := peer.Addr().Unmap().WithZone("")
		if err != nil || !slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Contains(address) }) {
			return ConnectionCertificate(r)
		}
		if len(r.Header[clientCert]) == 0 {
			return nil, nil
		}
		return dpop.ClientCert(r.Header[clientCert])
	}
}

const clientCert = "Client-Cert"

// bindings judge whether the sender of a request may use its token.
type bindings struct {
	settings    dpop.Settings
	proofs      *dpop.Verifier                      // nil: tokens bound to a key are refused
	certificate func(*http.Request) ([]byte, error) // nil: those bound to a certificate are
	required    bool
}

// A sender is who sent a token, as far as the request shows it.
type sender struct {
	request *http.Request // nil if there is none
	proof   *dpop.Proof   // nil if the scheme is Bearer
}

// sender returns the sender of r. It refuses a request whose proof is not even one:
// that is looked at before the token, since it costs least.
func (b *bindings) sender(r *http.Request, scheme string) (sender, error) {
	if scheme == schemeBearer {
		return sender{request: r}, nil
	}
	proof, err := b.proofs.Parse(r.Header["Dpop"])
	if err != nil {
		return sender{}, proofCause(err)
	}
	return sender{r, proof}, nil
}

// A binding is what there is to say of an accepted request on account of its token's
// binding.
type binding struct {
	used      []dpop.Use // the request's proofs, this one included
	nonce     string     // to be sent to the client; often empty
	forwarded bool       // the client's certificate came in a header
}

// check decides whether the sender may use the token with the given text.
// It is asked for every request, also when the token comes from the cache: a proof
// counts for one request only. The proof is used up last.
func (b *bindings) check(ctx context.Context, s sender, text string, v *verified) (*binding, error) {
	cnf := v.cnf
	if !cnf.key && !cnf.certificate && !cnf.other {
		// RFC 9449, section 7.1: the proof must be made with the token's key. Or
		// else the thief of a bearer token could make it look like a bound one.
		if s.proof != nil || b.required {
			return nil, &cause{reason: "unbound", claim: "cnf", got: "missing"}
		}
		return nil, nil
	}
	// A binding that the issuer has set is never dropped: RFC 7800, sections 3.2
	// to 3.5, have others, which are not checked here.
	if cnf.other || cnf.key && b.proofs == nil || cnf.certificate && b.certificate == nil || s.request == nil {
		return nil, &cause{reason: "bound", claim: "cnf"}
	}
	// RFC 9449, section 7.2: a token that is bound to a key is no bearer token; and
	// section 7.1: one that is not has no business with a proof.
	if cnf.key && s.proof == nil {
		return nil, &cause{reason: "bound", claim: "cnf", hint: "bound to a key: it must be sent with the scheme DPoP, and a proof"}
	}
	if !cnf.key && s.proof != nil {
		return nil, &cause{reason: "unbound", claim: "cnf", got: "bound to a certificate alone"}
	}
	out := new(binding)
	if cnf.certificate {
		var err error
		if out.forwarded, err = b.checkCertificate(s.request, v.claim(partCert)); err != nil {
			return nil, err
		}
	}
	if cnf.key {
		path := ""
		if s.request.URL != nil { // code may make a request without
			path, _ = dpop.Target(s.request.RequestURI, s.request.URL.EscapedPath())
		}
		used := usedProofs(s.request.Context())
		accepted, err := b.proofs.Check(ctx, s.proof, dpop.Request{
			Method:     s.request.Method,
			Path:       path,
			Token:      text,
			Thumbprint: v.claim(partKey),
			Used:       used,
		}, time.Now()) // the keys may have been waited for
		if err != nil {
			return nil, proofCause(err)
		}
		out.nonce, out.used = accepted.Nonce, append(used[:len(used):len(used)], accepted.Use)
	}
	return out, nil
}

// checkCertificate decides whether the sender of r has the certificate that a token
// is bound to (RFC 8705, section 3.1), and tells whether it came in a header.
func (b *bindings) checkCertificate(r *http.Request, thumbprint string) (forwarded bool, err error) {
	der, err := b.certificate(r)
	if err != nil {
		return false, &cause{reason: "client_cert", err: err, detail: clip.String(err.Error())}
	}
	if len(der) == 0 {
		return false, &cause{reason: "binding", claim: "cnf", got: "no client certificate"}
	}
	sum := sha256.Sum256(der)
	if got := base64.RawURLEncoding.EncodeToString(sum[:]); got != thumbprint {
		return false, &cause{reason: "binding", claim: "cnf", got: "a certificate with the thumbprint " + got, want: clip.String(thumbprint)}
	}
	direct, _ := ConnectionCertificate(r)
	return len(r.Header[clientCert]) > 0 && !bytes.Equal(der, direct), nil
}

// proofCause returns the cause for what internal/dpop says of a proof.
func proofCause(err error) error {
	var e *dpop.Error
	if !errors.As(err, &e) {
		return &cause{reason: "internal", err: err, detail: err.Error()}
	}
	c := &cause{reason: e.Reason, err: e.Err, detail: e.Detail, got: e.Got, want: e.Want}
	if e.Code == dpop.Unavailable {
		c.retryAfter = time.Second
		if e.Err != nil {
			c.detail = clip.String(e.Err.Error())
		}
	}
	return c
}

// announce sets the response headers of an accepted request.
func (b *bindings) announce(w http.ResponseWriter, r *http.Request, bound *binding) {
	if bound.forwarded {
		w.Header().Add("Vary", clientCert) // RFC 9440, section 2.4
	}
	if bound.nonce != "" {
		// RFC 9449, section 8.2.
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("DPoP-Nonce", bound.nonce)
		expose(w.Header(), r)
	}
}

// refused sets the response headers of a refused request that used DPoP, or has to:
// a nonce in time saves a round trip. used is the scheme that r used.
func (b *bindings) refused(h http.Header, r *http.Request, used string) {
	if b.proofs == nil {
		return
	}
	if used == schemeDPoP || b.dpopOnly() {
		if nonce := b.proofs.Nonce(time.Now()); nonce != "" {
			h.Set("DPoP-Nonce", nonce)
		}
	}
	if len(h["Www-Authenticate"]) > 0 || len(h["Dpop-Nonce"]) > 0 {
		expose(h, r)
	}
}

// expose lets scripts on other origins see the headers that clients need (RFC 9449,
// section 8).
func expose(h http.Header, r *http.Request) {
	const name, exposed = "Access-Control-Expose-Headers", "DPoP-Nonce, WWW-Authenticate"
	if len(r.Header["Origin"]) > 0 && !slices.Contains(h[name], exposed) {
		h.Add(name, exposed)
	}
}

// algorithms lists the algorithms of proofs as clients know them, under both names of
// EdDSA (RFC 9864), separated by spaces. It is empty if there are no proofs.
func (b *bindings) algorithms() string {
	if b.proofs == nil {
		return ""
	}
	list := strings.Join(b.proofs.Algorithms(), " ")
	return strings.Replace(list, "EdDSA", "EdDSA Ed25519", 1)
}

// same reports whether b and other ask for the same proofs, as far as that can be
// told: functions cannot be compared, and not all stores.
func (b *bindings) same(other *bindings) bool {
	mine, others := b.settings, other.settings
	stores := (mine.StoreID == nil) == (others.StoreID == nil)
	if reflect.ValueOf(mine.StoreID).Comparable() && reflect.ValueOf(others.StoreID).Comparable() {
		stores = mine.StoreID == others.StoreID
	}
	for _, s := range []*dpop.Settings{&mine, &others} {
		s.Store, s.StoreID, s.Resource = nil, nil, ""
	}
	return stores && b.required == other.required &&
		(b.certificate == nil) == (other.certificate == nil) &&
		reflect.DeepEqual(mine, others)
}

// dpopOnly reports whether bearer tokens are never accepted.
func (b *bindings) dpopOnly() bool { return b.required && b.proofs != nil && b.certificate == nil }
