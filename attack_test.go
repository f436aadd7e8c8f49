package bearer_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/fips140"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"example.com/bearer"
	"example.com/bearer/bearertest"
)

// The attacks on JWT verifiers that have a name, each with where it is told of.
// None may get in, and none may make the API speak to a place of the attacker's.
func TestAttacks(t *testing.T) {
	var canary atomic.Int32
	evil := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { canary.Add(1) }))
	defer evil.Close()

	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	mine, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	iss := bearertest.NewIssuer("https://login.example.com/")
	auth := newMiddleware(t, iss, func(c *bearer.Config) {
		c.Client = &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			if r.URL.Host != "login.example.com" {
				canary.Add(1)
			}
			return iss.Client().Transport.RoundTrip(r)
		})}
	})
	public := with(rsaJWK(&k.PublicKey), jwk{"kid": "rsa", "alg": "RS256"})
	open := with(rsaJWK(&k.PublicKey), jwk{"kid": "open"}) // without alg
	iss.SetKeys(marshal(map[string]any{"keys": []any{public, open, with(ecJWK(t, &ec.PublicKey), jwk{"kid": "ec"})}}))

	der, err := x509.MarshalPKIXPublicKey(&k.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	pkixPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	pkcs1PEM := pem.EncodeToMemory(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: x509.MarshalPKCS1PublicKey(&k.PublicKey)})

	good := payload(iss, "")
	hs256 := func(secret []byte) func(string) []byte {
		return func(signed string) []byte {
			// Zero bytes at its end do not change an HMAC, and FIPS 140 wants 14 bytes.
			mac := hmac.New(sha256.New, append(secret, make([]byte, max(0, 14-len(secret)))...))
			mac.Write([]byte(signed))
			return mac.Sum(nil)
		}
	}
	rs256 := func(key *rsa.PrivateKey) func(string) []byte {
		return func(signed string) []byte {
			sum := sha256.Sum256([]byte(signed))
			sig, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, sum[:])
			if err != nil {
				t.Fatal(err)
			}
			return sig
		}
	}
	bytes := func(b []byte) func(string) []byte { return func(string) []byte { return b } }
	token := func(header, payload string, sign func(string) []byte) string {
		signed := encode(header) + "." + encode(payload)
		return signed + "." + encode(string(sign(signed)))
	}
	members := func(s string) string { return `{"alg":"RS256","kid":"rsa",` + s + `}` }
	mineJWK := string(marshal(rsaJWK(&mine.PublicKey)))

	for _, tt := range []struct{ source, name, token string }{
		{"RFC 8725, 2.1", "RS256 to HS256, secret: PEM of the public key", token(`{"alg":"HS256","kid":"rsa"}`, good, hs256(pkixPEM))},
		{"RFC 8725, 2.1", "the same, PKCS #1", token(`{"alg":"HS256","kid":"rsa"}`, good, hs256(pkcs1PEM))},
		{"RFC 8725, 2.1", "the same, DER", token(`{"alg":"HS256","kid":"rsa"}`, good, hs256(der))},
		{"RFC 8725, 2.1", "the same, JWK", token(`{"alg":"HS256","kid":"rsa"}`, good, hs256(marshal(public)))},
		{"RFC 8725, 2.1", "the same, modulus", token(`{"alg":"HS256","kid":"open"}`, good, hs256(k.N.Bytes()))},
		{"RFC 8725, 2.1", "HS256 with an empty secret", token(`{"alg":"HS256","kid":"rsa"}`, good, hs256(nil))},
		{"RFC 8725, 2.1", "HS256 without kid", token(`{"alg":"HS256"}`, good, hs256(pkixPEM))},
		{"RFC 8725, 2.1", "none", token(`{"alg":"none"}`, good, bytes([]byte("x")))},
		{"RFC 8725, 2.1", "none, no signature", encode(`{"alg":"none"}`) + "." + encode(good) + "."},
		{"CVE-2020-28042", "no signature at all", encode(members(`"typ":"JWT"`)) + "." + encode(good) + "."},
		{"CVE-2015-9235", "nonE", token(`{"alg":"nonE","kid":"rsa"}`, good, bytes([]byte("x")))},
		{"RFC 8725, 3.1", "another algorithm than the key names", token(`{"alg":"RS512","kid":"rsa"}`, good, rs256(k))},
		{"RFC 8725, 3.1", "ES384 on a P-256 key", token(`{"alg":"ES384","kid":"ec"}`, good, bytes(make([]byte, 96)))},
		{"CVE-2022-21449", "psychic signature", token(`{"alg":"ES256","kid":"ec"}`, good, bytes(make([]byte, 64)))},
		{"CVE-2022-21449", "psychic signature, r and s are n", token(`{"alg":"ES256","kid":"ec"}`, good, bytes(append(ec.Params().N.Bytes(), ec.Params().N.Bytes()...)))},
		{"CVE-2018-0114", "embedded jwk", token(members(`"jwk":`+mineJWK), good, rs256(mine))},
		{"CVE-2018-0114", "embedded jwk, without kid", token(`{"alg":"RS256","jwk":`+mineJWK+`}`, good, rs256(mine))},
		{"RFC 8725, 2.9", "jku", token(members(`"jku":"`+evil.URL+`"`), good, rs256(mine))},
		{"RFC 8725, 2.9", "x5u", token(members(`"x5u":"`+evil.URL+`"`), good, rs256(mine))},
		{"RFC 7515, 4.1.6", "x5c", token(members(`"x5c":["`+encode(string(der))+`"]`), good, rs256(mine))},
		{"RFC 8725, 2.10", "kid as a path", token(`{"alg":"HS256","kid":"../../dev/null"}`, good, hs256(nil))},
		{"RFC 8725, 2.10", "kid as a URL", token(`{"alg":"RS256","kid":"`+evil.URL+`"}`, good, rs256(mine))},
		{"RFC 8725, 2.10", "kid with SQL", token(`{"alg":"RS256","kid":"x' UNION SELECT 'key"}`, good, rs256(mine))},
		{"RFC 7515, 4.1.11", "crit with an unknown extension", token(members(`"crit":["exp"],"exp":1`), good, rs256(k))},
		{"RFC 7515, 4.1.11", "crit empty", token(members(`"crit":[]`), good, rs256(k))},
		{"RFC 7797, 7", "b64 false", token(members(`"b64":false,"crit":["b64"]`), good, rs256(k))},
		{"RFC 7516", "JWE", encode(`{"alg":"RSA-OAEP","enc":"A256GCM"}`) + ".a.b.c.d"},
		{"RFC 7515, 7.2", "JSON serialization", `{"payload":"` + encode(good) + `","signatures":[]}`},
		{"RFC 7515, 4", "alg twice", token(`{"alg":"none","alg":"RS256","kid":"rsa"}`, good, rs256(k))},
		{"RFC 7519, 4", "exp twice", token(members(`"typ":"JWT"`), strings.Replace(good, "{", `{"exp":1,`, 1), rs256(k))},
		{"golang/go#14750", "EXP for exp", token(members(`"typ":"JWT"`), fmt.Sprintf(`{"iss":%q,"aud":%q,"EXP":4000000000}`, iss.URL, audience), rs256(k))},
		{"golang/go#14750", "iſs for iss", token(members(`"typ":"JWT"`), fmt.Sprintf(`{"iſs":%q,"aud":%q,"exp":4000000000}`, iss.URL, audience), rs256(k))},
		{"golang-jwt/jwt#526", "nbf that overflows", token(members(`"typ":"JWT"`), strings.Replace(good, "{", `{"nbf":1e19,`, 1), rs256(k))},
		{"RFC 7518, 3.5", "PSS with another salt", token(`{"alg":"PS256","kid":"open"}`, good, func(signed string) []byte {
			return signPSS(k, crypto.SHA256, []byte(signed), 8)
		})},
		{"CVE-2025-30204", "a million dots", strings.Repeat(".", 16<<10)},
		{"CVE-2024-21319", "a header bomb", token(members(`"x":`+strings.Repeat("[", 10000)), good, rs256(k))},
		{"RFC 8725, 2.7", "a token for somebody else", token(members(`"typ":"JWT"`), strings.Replace(good, audience, "https://other.example.com", 1), rs256(k))},
		{"RFC 8725, 2.8", "a DPoP proof as an access token", token(members(`"typ":"dpop+jwt"`), good, rs256(k))},
		{"RFC 9449, 7.1", "a DPoP-bound token as a bearer token", token(members(`"typ":"at+jwt"`), strings.Replace(good, "{", `{"cnf":{"jkt":"x"},`, 1), rs256(k))},
		{"RFC 8705, 3", "a certificate-bound token as a bearer token", token(members(`"typ":"at+jwt"`), strings.Replace(good, "{", `{"cnf":{"x5t#S256":"x"},`, 1), rs256(k))},
	} {
		t.Run(tt.source+"/"+tt.name, func(t *testing.T) {
			if _, err := auth.Verify(t.Context(), tt.token); statusOf(err) != 401 {
				t.Errorf("got %v, want status 401", err)
			}
		})
	}
	if n := canary.Load(); n > 0 {
		t.Errorf("%d requests went to the attacker", n)
	}
	// The counterpart, without which all of this would prove nothing.
	for _, header := range []string{members(`"typ":"JWT"`), members(`"jku":"` + evil.URL + `","jwk":` + mineJWK), `{"alg":"RS256","kid":"open"}`, `{"alg":"RS256"}`} {
		if _, err := auth.Verify(t.Context(), token(header, good, rs256(k))); err != nil {
			t.Errorf("%s with the right key: %v", header, err)
		}
	}
}

// smallKey returns an RSA key of two primes with so many bits each. crypto/rsa makes
// no small ones under FIPS 140.
func smallKey(bits int) *rsa.PrivateKey {
	one, e := big.NewInt(1), big.NewInt(65537)
	for {
		var primes [2]*big.Int
		for i := range primes {
			random := make([]byte, bits/8)
			rand.Read(random)
			random[0] |= 0xc0
			random[len(random)-1] |= 1
			for primes[i] = new(big.Int).SetBytes(random); !primes[i].ProbablyPrime(20); {
				primes[i].Add(primes[i], big.NewInt(2))
			}
		}
		p, q := primes[0], primes[1]
		phi := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
		if d := new(big.Int).ModInverse(e, phi); d != nil {
			return &rsa.PrivateKey{PublicKey: rsa.PublicKey{N: new(big.Int).Mul(p, q), E: 65537}, D: d}
		}
	}
}

// RFC 8725, section 2.2: 512 to 2047 bits are too few. The key sets are tested
// in TestOddKeys; this is the whole way of a token signed with such a key.
func TestWeakKey(t *testing.T) {
	k := smallKey(512)
	iss, auth := newAuth(t)
	keys := append(published(t, iss), marshal(rsaJWK(&k.PublicKey)))
	iss.SetKeys(marshal(map[string]any{"keys": keys}))
	signed := encode(`{"alg":"RS256","kid":"odd"}`) + "." + encode(payload(iss, ""))
	sum := sha256.Sum256([]byte(signed))
	// RFC 8017, section 9.2.
	prefix := []byte{0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20}
	padding := bytes.Repeat([]byte{0xff}, 128-3-len(prefix)-len(sum))
	sig := power(k, slices.Concat([]byte{0, 1}, padding, []byte{0}, prefix, sum[:]))
	if err := rsa.VerifyPKCS1v15(&k.PublicKey, crypto.SHA256, sum[:], sig); err != nil && !fips140.Enabled() {
		t.Fatal(err)
	}
	if _, err := auth.Verify(context.Background(), signed+"."+encode(string(sig))); statusOf(err) != 401 {
		t.Errorf("a token signed with 1024 bits: %v, want status 401", err)
	}
}

// Two issuers whose keys have the same ids: each is good for its own tokens only.
func TestIssuersAreKeptApart(t *testing.T) {
	a, b := bearertest.NewIssuer("https://a.example.com"), bearertest.NewIssuer("https://b.example.com")
	authA, authB := newMiddleware(t, a), newMiddleware(t, b)
	claims := bearertest.Claims{"iss": "https://b.example.com"}
	for name, tt := range map[string]struct {
		auth   *bearer.Middleware
		token  string
		status int
	}{
		"a at a":            {authA, a.Token(audience, nil), 200},
		"b at b":            {authB, b.Token(audience, nil), 200},
		"a at b":            {authB, a.Token(audience, nil), 401},
		"a as b, at b":      {authB, a.Token(audience, claims), 401},
		"a as b, at a":      {authA, a.Token(audience, claims), 401},
		"a with ISS b":      {authB, a.Token(audience, bearertest.Claims{"ISS": "https://b.example.com"}), 401},
		"a with ISS b at a": {authA, a.Token(audience, bearertest.Claims{"ISS": "https://b.example.com"}), 200},
	} {
		_, err := tt.auth.Verify(t.Context(), tt.token)
		if got := statusOf(err); got != tt.status {
			t.Errorf("%s: status %d, want %d: %v", name, got, tt.status, err)
		}
	}
}
