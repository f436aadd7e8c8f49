package bearer_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"fmt"
	"hash"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"example.com/bearer/bearertest"
)

// A prover makes proofs with a key for any algorithm.
type prover struct {
	method jwt.SigningMethod
	key    crypto.Signer
	jwk    string
}

func newProver(tb testing.TB, alg string) *prover {
	tb.Helper()
	p := &prover{method: jwt.GetSigningMethod(alg)}
	encode := base64.RawURLEncoding.EncodeToString
	var err error
	switch alg {
	case "RS256":
		var key *rsa.PrivateKey
		key, err = rsa.GenerateKey(rand.Reader, 2048)
		p.key, p.jwk = key, fmt.Sprintf(`{"e":"AQAB","kty":"RSA","n":%q}`, encode(key.N.Bytes()))
	case "EdDSA":
		var public ed25519.PublicKey
		public, p.key, err = ed25519.GenerateKey(rand.Reader)
		p.jwk = fmt.Sprintf(`{"crv":"Ed25519","kty":"OKP","x":%q}`, encode(public))
	default:
		curve := map[string]elliptic.Curve{"ES256": elliptic.P256(), "ES384": elliptic.P384()}[alg]
		key, keyErr := ecdsa.GenerateKey(curve, rand.Reader)
		if keyErr != nil {
			tb.Fatal(keyErr)
		}
		var point []byte
		point, err = key.PublicKey.Bytes()
		half := len(point) / 2
		p.key, p.jwk = key, fmt.Sprintf(`{"crv":%q,"kty":"EC","x":%q,"y":%q}`, curve.Params().Name, encode(point[1:1+half]), encode(point[1+half:]))
	}
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

func (p *prover) thumbprint() string { return digest(p.jwk) }

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func (p *prover) proof(tb testing.TB, token string) string {
	encode := base64.RawURLEncoding.EncodeToString
	signed := encode(fmt.Appendf(nil, `{"typ":"dpop+jwt","alg":%q,"jwk":%s}`, p.method.Alg(), p.jwk)) + "." +
		encode(fmt.Appendf(nil, `{"jti":%q,"htm":"GET","htu":%q,"iat":%d,"ath":%q}`, rand.Text(), origin+"/api", time.Now().Unix(), digest(token)))
	signature, err := p.method.Sign(signed, p.key)
	if err != nil {
		tb.Fatal(err)
	}
	return signed + "." + encode(signature)
}

// BenchmarkBound is a whole request with a token from the cache and a fresh proof,
// beside the bare verification of such a proof by golang-jwt.
func BenchmarkBound(b *testing.B) {
	for _, alg := range []string{"ES256", "EdDSA", "RS256"} {
		p := newProver(b, alg)
		iss := bearertest.NewIssuer("https://login.example.com/")
		token := iss.Token(audience, cnf(bearertest.Claims{"jkt": p.thumbprint()}))
		proofs := make([]string, 4096)
		for i := range proofs {
			proofs[i] = p.proof(b, token)
		}
		dot := strings.LastIndexByte(proofs[0], '.')
		signature, err := base64.RawURLEncoding.DecodeString(proofs[0][dot+1:])
		if err != nil {
			b.Fatal(err)
		}
		b.Run(alg+"/bare", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := p.method.Verify(proofs[0][:dot], signature, p.key.Public()); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(alg+"/request", func(b *testing.B) {
			b.ReportAllocs()
			r := httptest.NewRequest("GET", "/api", nil)
			r.Header = http.Header{"Authorization": {"DPoP " + token}, "Dpop": {""}}
			w := httptest.NewRecorder()
			// A Middleware that has seen the token and none of the proofs.
			fresh := func() http.Handler {
				h := newMiddleware(b, iss, withDPoP).Handler(served)
				for range 3 {
					r.Header["Dpop"][0] = p.proof(b, token)
					h.ServeHTTP(w, r)
				}
				return h
			}
			h := fresh()
			for i := 0; b.Loop(); i++ {
				if i%len(proofs) == 0 && i > 0 {
					b.StopTimer()
					h = fresh()
					b.StartTimer()
				}
				r.Header["Dpop"][0] = proofs[i%len(proofs)]
				h.ServeHTTP(w, r)
				if w.Code != 200 {
					b.Fatal(w.Body)
				}
			}
		})
	}
}

// es384 counts how often golang-jwt began to verify, or make, a signature by ES384:
// that is when it asks for this hash.
var es384 atomic.Int64

func init() {
	crypto.RegisterHash(crypto.SHA384, func() hash.Hash {
		es384.Add(1)
		return sha512.New384()
	})
}

// Without a good token that is bound to it, no key of a proof is ever computed with,
// and the store is not asked, however many come.
func TestForgedProofsCostNothing(t *testing.T) {
	store := newReplayStore()
	iss, auth := newAuth(t, withDPoP, store.in)
	owner, thief := newProver(t, "ES384"), newProver(t, "ES384")
	bound := func(p *prover, more ...bearertest.Claims) string {
		return iss.Token(audience, cnf(bearertest.Claims{"jkt": p.thumbprint()}, more...))
	}
	good := bound(owner)
	other := bearertest.NewIssuer("https://login.example.com/")
	for _, tt := range []struct {
		name, scheme, token string
		by                  *prover
		reason              string
		count               int64 // of verifications
	}{
		{"no token", "DPoP", "", thief, "400 invalid_request", 0},
		{"no JWT", "DPoP", "abc", thief, "401 malformed", 0},
		{"another issuer's signature", "DPoP", other.Token(audience, cnf(bearertest.Claims{"jkt": thief.thumbprint()})), thief, "401 signature", 0},
		{"tampered", "DPoP", good[:len(good)-20] + strings.Repeat("A", 20), thief, "401 signature", 0},
		{"expired", "DPoP", bound(thief, bearertest.Claims{"exp": 1}), thief, "401 expired", 0},
		{"for another API", "DPoP", bound(thief, bearertest.Claims{"aud": "other"}), thief, "401 audience", 0},
		{"bound to nothing", "DPoP", iss.Token(audience, nil), thief, "401 unbound", 0},
		{"bound to another key", "DPoP", good, thief, "401 binding", 0},
		{"as a bearer token", "Bearer", good, owner, "401 bound", 0},
		{"no credentials", "", "", thief, "401 no_credentials", 0},
		{"the owner", "DPoP", good, owner, "", 1},
	} {
		for range 5 {
			proof := tt.by.proof(t, tt.token)
			r := httptest.NewRequest("GET", "/api", nil)
			r.Header = http.Header{"Authorization": {strings.TrimSpace(tt.scheme + " " + tt.token)}, "Dpop": {proof}}
			before, calls := es384.Load(), store.calls
			_, err := auth.Authenticate(r)
			if got := es384.Load() - before; word(err) != tt.reason || got != tt.count || int64(store.calls-calls) != tt.count {
				t.Errorf("%s: got %v after %d verifications and %d calls of the store, want %q and %d of each", tt.name, err, got, store.calls-calls, tt.reason, tt.count)
			}
		}
	}
}
