package differential_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha256"
	_ "crypto/sha512"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/bearer"
)

const (
	issuer        = "https://login.example.com/"
	audience      = "https://api.example.com"
	otherAudience = "urn:example:api"
	keysURL       = "https://login.example.com/keys"
)

var algorithms = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}

// A signer is one of the issuer's keys.
type signer struct {
	kid string
	crypto.Signer
}

// signers has the key for each algorithm: one for all that use RSA. All but that
// one are the same in each run, so that what the fuzzer finds stays found.
var signers = sync.OnceValue(func() map[string]signer {
	all := make(map[string]signer)
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	for _, alg := range algorithms[:6] {
		all[alg] = signer{"rsa", k}
	}
	for alg, curve := range map[string]elliptic.Curve{"ES256": elliptic.P256(), "ES384": elliptic.P384(), "ES512": elliptic.P521()} {
		scalar := make([]byte, (curve.Params().BitSize+7)/8)
		for i := range scalar[1:] {
			scalar[1+i] = byte(i + 1)
		}
		k, err := ecdsa.ParseRawPrivateKey(curve, scalar)
		if err != nil {
			panic(err)
		}
		all[alg] = signer{curve.Params().Name, k}
	}
	all["EdDSA"] = signer{"ed25519", ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))}
	all["Ed25519"] = all["EdDSA"]
	return all
})

// publicJWK returns the JWK (RFC 7517, RFC 7518, RFC 8037) of a public key.
func publicJWK(kid string, public crypto.PublicKey) map[string]any {
	switch k := public.(type) {
	case *rsa.PublicKey:
		return map[string]any{"kty": "RSA", "kid": kid, "n": encode(k.N.Bytes()), "e": encode(big.NewInt(int64(k.E)).Bytes())}
	case *ecdsa.PublicKey:
		point, err := k.Bytes()
		if err != nil {
			panic(err)
		}
		x, y := point[1:1+len(point)/2], point[1+len(point)/2:]
		return map[string]any{"kty": "EC", "kid": kid, "crv": k.Params().Name, "x": encode(x), "y": encode(y)}
	case ed25519.PublicKey:
		return map[string]any{"kty": "OKP", "kid": kid, "crv": "Ed25519", "x": encode(k)}
	}
	panic("no such key")
}

// keySet is the document with the public parts of signers.
var keySet = sync.OnceValue(func() []byte {
	var list []any
	for _, alg := range []string{"RS256", "ES256", "ES384", "ES512", "EdDSA"} {
		jwk := publicJWK(signers()[alg].kid, signers()[alg].Public())
		jwk["use"] = "sig"
		if alg == "EdDSA" {
			jwk["alg"] = alg // the others serve what their type and curve allow
		}
		list = append(list, jwk)
	}
	document, err := json.Marshal(map[string]any{"keys": list})
	if err != nil {
		panic(err)
	}
	return document
})

func encode[T ~string | ~[]byte](s T) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

func hashOf(alg string) crypto.Hash {
	return map[string]crypto.Hash{"256": crypto.SHA256, "384": crypto.SHA384, "512": crypto.SHA512}[alg[2:]]
}

func sum(hash crypto.Hash, text string) []byte {
	h := hash.New()
	io.WriteString(h, text)
	return h.Sum(nil)
}

// sign returns a token with any text for header and payload, signed as alg
// says, whatever the header says. It uses none of the libraries under test.
func sign(alg, header, payload string) string {
	signed := encode(header) + "." + encode(payload)
	return signed + "." + encode(signature(alg, signed))
}

func signature(alg, signed string) []byte { return signWith(signers()[alg].Signer, alg, signed) }

func signWith(k crypto.Signer, alg, signed string) []byte {
	switch key := k.(type) {
	case ed25519.PrivateKey:
		return ed25519.Sign(key, []byte(signed))
	case *ecdsa.PrivateKey:
		return signECDSA(key, hashOf(alg), signed)
	}
	var options crypto.SignerOpts = hashOf(alg)
	if alg[0] == 'P' {
		options = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: hashOf(alg)}
	}
	sig, err := k.Sign(rand.Reader, sum(hashOf(alg), signed), options)
	if err != nil {
		panic(err)
	}
	return sig
}

// signECDSA signs without randomness, in the form of RFC 7518, section 3.4.
func signECDSA(k *ecdsa.PrivateKey, hash crypto.Hash, signed string) []byte {
	der, err := k.Sign(nil, sum(hash, signed), hash)
	if err != nil {
		panic(err)
	}
	var rs struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &rs); err != nil {
		panic(err)
	}
	size := (k.Params().BitSize + 7) / 8
	return append(rs.R.FillBytes(make([]byte, size)), rs.S.FillBytes(make([]byte, size))...)
}

// respond answers every request with a document.
type respond []byte

func (document respond) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: http.StatusOK,
		Header:     http.Header{},
		Body:       io.NopCloser(bytes.NewReader(document)),
		Request:    r,
	}, nil
}

func newAuth(document []byte) *bearer.Middleware {
	auth, err := bearer.New(bearer.Config{
		Issuer:   issuer,
		Audience: []string{audience, otherAudience},
		JWKSURL:  keysURL,
		Client:   &http.Client{Transport: respond(document)},
		Logger:   slog.New(slog.DiscardHandler),
	})
	if err != nil {
		panic(err)
	}
	auth.Ready(context.Background()) // whether there are keys or not
	return auth
}

// ask asks package bearer. It does not wait until a key id that nobody has may be
// asked for once more: the keys are at hand, so a token that has to wait is one whose
// key is not among them.
func ask(t testing.TB, auth *bearer.Middleware, token string) (*bearer.Claims, error) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
	defer cancel()
	return auth.Verify(ctx, token)
}

// verify asks package bearer. The token goes each of its ways: with a header
// that may be new, with one that is remembered, and, if it is accepted, from the
// cache of tokens. They must not differ.
func verify(t testing.TB, auth *bearer.Middleware, token string) (*bearer.Claims, error) {
	t.Helper()
	c, err := ask(t, auth, token)
	for range 2 {
		again, errAgain := ask(t, auth, token)
		if (err == nil) != (errAgain == nil) || !reflect.DeepEqual(c, again) {
			t.Fatalf("%s: got %+v, %v, and then %+v, %v", token, c, err, again, errAgain)
		}
	}
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		var e *bearer.Error
		if !errors.As(err, &e) || e.Status != http.StatusUnauthorized || e.Code != "invalid_token" || c != nil {
			t.Fatalf("%s: got %+v, %#v, want an invalid_token", token, c, err)
		}
	}
	return c, err
}

// reason returns the word for why package bearer refused a token.
func reason(err error) string {
	if errors.Is(err, context.DeadlineExceeded) {
		return "unknown_key" // see ask
	}
	var e *bearer.Error
	if !errors.As(err, &e) {
		return ""
	}
	text := e.Err.Error()
	return text[:strings.IndexAny(text+" ", ":, ")]
}

// mustRefuse checks that token is refused. It may be one of very many.
func mustRefuse(t testing.TB, auth *bearer.Middleware, token, what string) {
	t.Helper()
	if c, err := ask(t, auth, token); err == nil {
		t.Errorf("%s: got %+v, want it refused: %q", what, c, token)
	}
}
