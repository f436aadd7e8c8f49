package bearer_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"example.com/bearer"
	"example.com/bearer/bearertest"
)

func encode(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

// payload returns a good payload with members appended.
func payload(iss *bearertest.Issuer, members string) string {
	return fmt.Sprintf(`{"iss":%q,"aud":%q,"exp":%d%s}`, iss.URL, audience, time.Now().Unix()+3600, members)
}

// checkRefused checks that err refuses a token for the given reason.
func checkRefused(t *testing.T, c *bearer.Claims, err error, reason string, sentinel error) {
	t.Helper()
	var e *bearer.Error
	switch {
	case err == nil || c != nil:
		t.Fatalf("got %+v, %v, want the token refused", c, err)
	case !errors.As(err, &e):
		t.Fatalf("got %T, want *bearer.Error", err)
	}
	if e.Status != 401 || e.Code != "invalid_token" || e.Description == "" || e.Scope != "" || e.RetryAfter != 0 {
		t.Errorf("got %+v, want an invalid_token with status 401", e)
	}
	if !errors.Is(err, sentinel) {
		t.Errorf("got %v, want %v in it", err, sentinel)
	}
	if e.Reason != reason {
		t.Errorf("Reason = %q, want %q", e.Reason, reason)
	}
	if got := e.Err.Error(); got != reason && !strings.HasPrefix(got, reason+": ") && !strings.HasPrefix(got, reason+" is ") {
		t.Errorf("got %v, want the reason %s", e.Err, reason)
	}
	if len(err.Error()) > 500 {
		t.Errorf("the error has %d bytes: %s", len(err.Error()), err)
	}
}

// A tokenRow is a row of BEHAVIOUR's tables about tokens.
type tokenRow struct {
	name     string
	token    string
	reason   string // empty: accepted
	sentinel error
}

func formRows(iss *bearertest.Issuer) []tokenRow {
	valid := iss.Token(audience, nil)
	parts := strings.Split(valid, ".")
	header, body, signature := parts[0], parts[1], parts[2]
	kid := iss.KeyID()
	long := func(n int) string { return strings.Repeat("a", n) }

	// withHeader makes a token with these members in its header besides.
	withHeader := func(members string) string {
		return iss.Sign(fmt.Sprintf(`{"alg":"ES256","kid":%q%s}`, kid, members), payload(iss, ""))
	}
	withKID := func(kid string) string { return iss.Sign(`{"alg":"ES256","kid":`+kid+`}`, payload(iss, "")) }
	withAlg := func(alg string) string {
		return iss.Sign(fmt.Sprintf(`{"alg":%s,"kid":%q}`, alg, kid), payload(iss, ""))
	}

	malformed, unverifiable, signatureInvalid := jwt.ErrTokenMalformed, jwt.ErrTokenUnverifiable, jwt.ErrTokenSignatureInvalid
	return []tokenRow{
		{"as it is", valid, "", nil},
		{"no typ", withHeader(``), "", nil},
		{"typ JWT", withHeader(`,"typ":"JWT"`), "", nil},
		{"typ jwt", withHeader(`,"typ":"jwt"`), "", nil},
		{"typ AT+JWT", withHeader(`,"typ":"AT+JWT"`), "", nil},
		{"typ with application/", withHeader(`,"typ":"application/at+jwt"`), "", nil},
		{"unknown header parameters", withHeader(`,"x":{"y":[1,2]},"KID":"other","ALG":"none","Crit":["x"]`), "", nil},
		{"jwk, jku, x5u, x5c", withHeader(`,"jwk":{"kty":"oct","k":"AA"},"jku":"https://evil.example","x5u":"https://evil.example","x5c":["AA"]`), "", nil},
		{"no kid", iss.Sign(`{"alg":"ES256"}`, payload(iss, "")), "", nil},

		{"empty", "", "malformed", malformed},
		{"one part", header, "malformed", malformed},
		{"two parts", header + "." + body, "malformed", malformed},
		{"four parts", valid + "." + signature, "malformed", malformed},
		{"five parts", valid + ".a.b", "malformed", malformed},
		{"dots only", "..", "malformed", malformed},
		{"empty header", "." + body + "." + signature, "malformed", malformed},
		{"empty payload", header + ".." + signature, "malformed", malformed},
		{"empty signature", header + "." + body + ".", "malformed", malformed},
		{"million dots", strings.Repeat(".", 16<<10), "malformed", malformed},
		{"16 KiB and one", header + "." + long(16<<10-len(header)) + ".a", "too_long", malformed},
		{"padding", header + "=." + body + "." + signature, "malformed", malformed},
		{"plus", header + "." + body + "." + signature[:10] + "+" + signature[11:], "malformed", malformed},
		{"slash", header + "." + body[:10] + "/" + body[11:] + "." + signature, "malformed", malformed},
		{"space", " " + valid, "malformed", malformed},
		{"line break in the header", header[:4] + "\n" + header[4:] + "." + body + "." + signature, "malformed", malformed},
		{"line break in the payload", header + "." + body[:4] + "\r\n" + body[4:] + "." + signature, "malformed", malformed},
		{"line break at the end", valid + "\n", "malformed", malformed},
		{"one character too many", valid + "A", "signature", signatureInvalid},
		{"three characters too many", valid + "AAA", "malformed", malformed},
		{"unused bits in the signature", valid[:len(valid)-1] + next(valid[len(valid)-1]), "malformed", malformed},
		{"unused bits in the payload", iss.Sign("", payload(iss, ""))[:0] + unusedBits(header, payload(iss, ""), signature), "malformed", malformed},

		{"header an array", iss.Sign(`["alg"]`, payload(iss, "")), "malformed", malformed},
		{"header a string", iss.Sign(`"alg"`, payload(iss, "")), "malformed", malformed},
		{"header null", iss.Sign(`null`, payload(iss, "")), "malformed", malformed},
		{"header with more behind", withHeader(`}{`), "malformed", malformed},
		{"header with a byte-order mark", iss.Sign("\ufeff"+`{"alg":"ES256"}`, payload(iss, "")), "malformed", malformed},
		{"header not UTF-8", withHeader(",\"x\":\"\xff\""), "malformed", malformed},
		{"header too deep", withHeader(`,"x":` + strings.Repeat("[", 40) + strings.Repeat("]", 40)), "malformed", malformed},
		{"header with a member twice", withHeader(`,"alg":"ES256"`), "malformed", malformed},
		{"header with a member twice, escaped", withHeader(`,"\u0061lg":"ES256"`), "malformed", malformed},
		{"header with a member twice inside", withHeader(`,"x":{"a":1,"a":2}`), "malformed", malformed},

		{"no alg", iss.Sign(fmt.Sprintf(`{"kid":%q}`, kid), payload(iss, "")), "algorithm", unverifiable},
		{"ALG instead", iss.Sign(fmt.Sprintf(`{"ALG":"ES256","kid":%q}`, kid), payload(iss, "")), "algorithm", unverifiable},
		{"alg a number", withAlg(`256`), "malformed", malformed},
		{"alg null", withAlg(`null`), "malformed", malformed},
		{"alg an array", withAlg(`["ES256"]`), "malformed", malformed},
		{"alg none", withAlg(`"none"`), "algorithm", unverifiable},
		{"alg None", withAlg(`"None"`), "algorithm", unverifiable},
		{"alg NONE", withAlg(`"NONE"`), "algorithm", unverifiable},
		{"alg nOnE", withAlg(`"nOnE"`), "algorithm", unverifiable},
		{"alg empty", withAlg(`""`), "algorithm", unverifiable},
		{"alg HS256", withAlg(`"HS256"`), "algorithm", unverifiable},
		{"alg HS384", withAlg(`"HS384"`), "algorithm", unverifiable},
		{"alg HS512", withAlg(`"HS512"`), "algorithm", unverifiable},
		{"alg es256", withAlg(`"es256"`), "algorithm", unverifiable},
		{"alg ES256K", withAlg(`"ES256K"`), "algorithm", unverifiable},
		{"alg ML-DSA-44", withAlg(`"ML-DSA-44"`), "algorithm", unverifiable},
		{"an alg that the key does not have", withAlg(`"RS256"`), "key", unverifiable},
		{"an alg of another curve", withAlg(`"ES384"`), "key", unverifiable},
		{"an alg of another type", withAlg(`"EdDSA"`), "key", unverifiable},

		{"crit", withHeader(`,"crit":["exp"]`), "crit", unverifiable},
		{"crit empty", withHeader(`,"crit":[]`), "crit", unverifiable},
		{"crit null", withHeader(`,"crit":null`), "crit", unverifiable},
		{"b64", withHeader(`,"b64":true`), "crit", unverifiable},
		{"b64 false and critical", withHeader(`,"b64":false,"crit":["b64"]`), "crit", unverifiable},

		{"typ of a DPoP proof", withHeader(`,"typ":"dpop+jwt"`), "type", unverifiable},
		{"typ of a logout token", withHeader(`,"typ":"logout+jwt"`), "type", unverifiable},
		{"typ JOSE", withHeader(`,"typ":"JOSE"`), "type", unverifiable},
		{"typ JOSE+JSON", withHeader(`,"typ":"JOSE+JSON"`), "type", unverifiable},
		{"typ of an ID token", withHeader(`,"typ":"id_token+jwt"`), "type", unverifiable},
		{"typ of a security event", withHeader(`,"typ":"secevent+jwt"`), "type", unverifiable},
		{"typ of an introspection response", withHeader(`,"typ":"token-introspection+jwt"`), "type", unverifiable},
		{"typ of a request object", withHeader(`,"typ":"application/oauth-authz-req+jwt"`), "type", unverifiable},
		{"typ of another structure", withHeader(`,"typ":"at+cwt"`), "type", unverifiable},
		{"typ with a parameter", withHeader(`,"typ":"at+jwt; charset=utf-8"`), "type", unverifiable},
		{"typ with an empty parameter", withHeader(`,"typ":"JWT;"`), "type", unverifiable},
		{"typ with a parameter, application/", withHeader(`,"typ":"application/at+jwt;v=1"`), "type", unverifiable},
		{"typ of another top level", withHeader(`,"typ":"text/at+jwt"`), "type", unverifiable},
		{"typ with a slash before it", withHeader(`,"typ":"/jwt"`), "type", unverifiable},
		{"typ empty", withHeader(`,"typ":""`), "type", unverifiable},
		{"typ with a space", withHeader(`,"typ":"JWT "`), "type", unverifiable},
		{"typ with a long s", withHeader(`,"typ":"application/\u0041T+jwt2"`), "type", unverifiable},
		{"typ a number", withHeader(`,"typ":1`), "malformed", malformed},
		{"typ null", withHeader(`,"typ":null`), "malformed", malformed},

		{"kid a number", withKID(`1`), "malformed", malformed},
		{"kid null", withKID(`null`), "malformed", malformed},
		{"kid empty", withKID(`""`), "malformed", malformed},
		{"kid too long", withKID(`"` + long(257) + `"`), "malformed", malformed},
		{"kid with NUL", withKID(`"a\u0000"`), "malformed", malformed},
		{"kid with a line break", withKID(`"a\nb"`), "malformed", malformed},
		{"kid with DEL", withKID(`"a\u007f"`), "malformed", malformed},
		{"kid unknown", withKID(`"other"`), "unknown_key", unverifiable},

		{"signature of another token", header + "." + body + "." + strings.Split(iss.Token(audience, bearertest.Claims{"sub": "x"}), ".")[2], "signature", signatureInvalid},
		{"signature all zero", header + "." + body + "." + strings.Repeat("A", 86), "signature", signatureInvalid},
		{"signature too short", header + "." + body + "." + signature[:84], "signature", signatureInvalid},
		{"signature too long", header + "." + body + "." + signature[:84] + "AAAAAAAA", "signature", signatureInvalid},
		{"signature of 12 KB", header + "." + body + "." + strings.Repeat("A", 12000), "signature", signatureInvalid},
		{"payload changed", header + "." + encode(payload(iss, `,"scope":"admin"`)) + "." + signature, "signature", signatureInvalid},

		{"payload an array", iss.Sign("", `[]`), "malformed", malformed},
		{"payload a string", iss.Sign("", `"a"`), "malformed", malformed},
		{"payload not JSON", iss.Sign("", `hello`), "malformed", malformed},
		{"payload with more behind", iss.Sign("", payload(iss, "")+"x"), "malformed", malformed},
		{"payload with two objects", iss.Sign("", payload(iss, "")+"{}"), "malformed", malformed},
		{"payload with a byte-order mark", iss.Sign("", "\ufeff"+payload(iss, "")), "malformed", malformed},
		{"payload not UTF-8", iss.Sign("", payload(iss, ",\"x\":\"\xff\"")), "malformed", malformed},
		{"payload with a lone surrogate", iss.Sign("", payload(iss, `,"x":"\ud800"`)), "malformed", malformed},
		{"payload too deep", iss.Sign("", payload(iss, `,"x":`+strings.Repeat(`{"a":`, 40)+"1"+strings.Repeat("}", 40))), "malformed", malformed},
		{"payload with a member twice", iss.Sign("", payload(iss, `,"exp":4000000000`)), "malformed", malformed},
		{"payload with a member twice, escaped", iss.Sign("", payload(iss, `,"\u0065xp":4000000000`)), "malformed", malformed},
		{"payload with an unknown member twice", iss.Sign("", payload(iss, `,"x":1,"x":1`)), "malformed", malformed},
		{"payload with a member twice inside", iss.Sign("", payload(iss, `,"x":{"a":1,"a":1}`)), "malformed", malformed},
	}
}

func TestForm(t *testing.T) {
	iss, auth := newAuth(t)
	for _, tt := range formRows(iss) {
		t.Run(tt.name, func(t *testing.T) {
			c, err := auth.Verify(t.Context(), tt.token)
			if tt.reason == "" {
				if err != nil {
					t.Errorf("got %v, want the token accepted", err)
				}
				return
			}
			checkRefused(t, c, err, tt.reason, tt.sentinel)
		})
	}
	if got := iss.Fetches(); got > 2 {
		t.Errorf("%d fetches of the keys, want the first one and one for the unknown key id", got)
	}
}

// next returns the character after c in the alphabet of base64url, as far as it
// matters for the last one of a part.
func next(c byte) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return string(alphabet[strings.IndexByte(alphabet, c)+1])
}

// unusedBits returns a token whose payload ends in a character with unused bits
// that are set.
func unusedBits(header, payload, signature string) string {
	for len(payload)%3 == 0 {
		payload += " "
	}
	body := encode(payload)
	return header + "." + body[:len(body)-1] + next(body[len(body)-1]) + "." + signature
}

// Each algorithm with each kind of key: a key serves what it is for.
func TestAlgorithms(t *testing.T) {
	for _, alg := range []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"} {
		t.Run(alg, func(t *testing.T) {
			iss, auth := newAuth(t)
			iss.UseAlgorithm(alg)
			for range 2 { // the header is read, then remembered
				if _, err := auth.Verify(t.Context(), iss.Token(audience, nil)); err != nil {
					t.Error(err)
				}
			}
			_, err := auth.Verify(t.Context(), iss.Sign(`{"alg":"`+alg+`"}`, payload(iss, "")))
			if err != nil {
				t.Errorf("without kid: %v", err)
			}
			for _, other := range []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"} {
				if other == alg {
					continue
				}
				c, err := auth.Verify(t.Context(), iss.Sign(fmt.Sprintf(`{"alg":%q,"kid":%q}`, other, iss.KeyID()), payload(iss, "")))
				checkRefused(t, c, err, "key", jwt.ErrTokenUnverifiable)
			}
		})
	}
	t.Run("Ed25519", func(t *testing.T) {
		iss, auth := newAuth(t)
		iss.UseAlgorithm("EdDSA")
		for _, alg := range []string{"EdDSA", "Ed25519"} {
			if _, err := auth.Verify(t.Context(), iss.Sign(fmt.Sprintf(`{"alg":%q,"kid":%q}`, alg, iss.KeyID()), payload(iss, ""))); err != nil {
				t.Errorf("%s: %v", alg, err)
			}
		}
	})
	t.Run("Config.Algorithms", func(t *testing.T) {
		iss, auth := newAuth(t, func(c *bearer.Config) { c.Algorithms = []string{"RS256"} })
		iss.UseAlgorithm("RS256")
		if _, err := auth.Verify(t.Context(), iss.Token(audience, nil)); err != nil {
			t.Error(err)
		}
		auth = newMiddleware(t, iss, func(c *bearer.Config) { c.Algorithms = []string{"RS256", "PS256"} })
		iss.UseAlgorithm("PS256")
		if _, err := auth.Verify(t.Context(), iss.Token(audience, nil)); err != nil {
			t.Error(err)
		}
		auth = newMiddleware(t, iss, func(c *bearer.Config) { c.Algorithms = []string{"RS256"} })
		c, err := auth.Verify(t.Context(), iss.Token(audience, nil))
		checkRefused(t, c, err, "algorithm", jwt.ErrTokenUnverifiable)
	})
}

// A keyHolder serves one published key and signs in ways that an issuer would
// not.
type keyHolder struct {
	iss  *bearertest.Issuer
	auth *bearer.Middleware
}

func publish(t *testing.T, jwk map[string]any) keyHolder {
	iss, auth := newAuth(t)
	document, err := json.Marshal(map[string]any{"keys": []any{jwk}})
	if err != nil {
		t.Fatal(err)
	}
	iss.SetKeys(document)
	return keyHolder{iss, auth}
}

// token returns a token with a signature of one's own making.
func (h keyHolder) token(header string, sign func(signed []byte) []byte) string {
	signed := encode(header) + "." + encode(payload(h.iss, ""))
	return signed + "." + encode(string(sign([]byte(signed))))
}

func TestECDSASignatures(t *testing.T) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := k.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	h := publish(t, map[string]any{"kty": "EC", "crv": "P-256", "kid": "k", "x": encode(string(point[1:33])), "y": encode(string(point[33:]))})
	n := elliptic.P256().Params().N
	raw := func(r, s *big.Int) []byte {
		return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	}
	rs := func(signed []byte) (r, s *big.Int) {
		sum := sha256.Sum256(signed)
		r, s, err := ecdsa.Sign(rand.Reader, k, sum[:])
		if err != nil {
			t.Fatal(err)
		}
		return r, s
	}
	for name, tt := range map[string]struct {
		sign   func(signed []byte) []byte
		accept bool
	}{
		"r and s": {func(b []byte) []byte { return raw(rs(b)) }, true},
		"n-s": {func(b []byte) []byte {
			r, s := rs(b)
			return raw(r, s.Sub(n, s))
		}, true}, // no signature scheme without it is standardized for JOSE
		"DER": {func(b []byte) []byte {
			sum := sha256.Sum256(b)
			der, _ := ecdsa.SignASN1(rand.Reader, k, sum[:])
			return der
		}, false},
		"DER, cut to size": {func(b []byte) []byte {
			r, s := rs(b)
			der, _ := asn1.Marshal([]*big.Int{r, s})
			return der[:64]
		}, false},
		"r zero": {func(b []byte) []byte {
			_, s := rs(b)
			return raw(new(big.Int), s)
		}, false},
		"s zero": {func(b []byte) []byte {
			r, _ := rs(b)
			return raw(r, new(big.Int))
		}, false},
		"r is n": {func(b []byte) []byte {
			_, s := rs(b)
			return raw(n, s)
		}, false},
		"s is n": {func(b []byte) []byte {
			r, _ := rs(b)
			return raw(r, n)
		}, false},
		"both one":     {func([]byte) []byte { return raw(big.NewInt(1), big.NewInt(1)) }, false},
		"all ones":     {func([]byte) []byte { return []byte(strings.Repeat("\xff", 64)) }, false},
		"leading zero": {func(b []byte) []byte { return append([]byte{0}, raw(rs(b))...) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := h.auth.Verify(t.Context(), h.token(`{"alg":"ES256","kid":"k"}`, tt.sign))
			if tt.accept {
				if err != nil {
					t.Error(err)
				}
				return
			}
			checkRefused(t, c, err, "signature", jwt.ErrTokenSignatureInvalid)
		})
	}
}

// signPSS signs with a key of 2048 bits and a salt of any length (RFC 8017, section
// 9.1.1). crypto/rsa makes no signature without a salt, and under FIPS 140
// none whose salt is longer than the hash.
func signPSS(k *rsa.PrivateKey, h crypto.Hash, signed []byte, saltLength int) []byte {
	salt := make([]byte, saltLength)
	rand.Read(salt)
	sum := func(parts ...[]byte) []byte {
		d := h.New()
		d.Write(slices.Concat(parts...))
		return d.Sum(nil)
	}
	hash := sum(make([]byte, 8), sum(signed), salt)
	block := slices.Concat(make([]byte, 254-h.Size()-saltLength), []byte{1}, salt)
	for i := range block {
		block[i] ^= sum(hash, []byte{0, 0, 0, byte(i / h.Size())})[i%h.Size()]
	}
	block[0] &= 0x7f
	return power(k, slices.Concat(block, hash, []byte{0xbc}))
}

// power is the private operation of RSA by itself.
func power(k *rsa.PrivateKey, message []byte) []byte {
	return new(big.Int).Exp(new(big.Int).SetBytes(message), k.D, k.N).FillBytes(make([]byte, (k.N.BitLen()+7)/8))
}

func TestRSASignatures(t *testing.T) {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	jwk := map[string]any{"kty": "RSA", "kid": "k", "n": encode(string(k.N.Bytes())), "e": "AQAB"}
	h := publish(t, jwk) // no alg: all of RSA
	pss := func(salt int) func([]byte) []byte {
		return func(signed []byte) []byte { return signPSS(k, crypto.SHA256, signed, salt) }
	}
	pssOf := func(hash crypto.Hash, salt int) func([]byte) []byte {
		return func(signed []byte) []byte { return signPSS(k, hash, signed, salt) }
	}
	pkcs1 := func(signed []byte) []byte {
		sum := sha256.Sum256(signed)
		sig, err := rsa.SignPKCS1v15(nil, k, 5, sum[:])
		if err != nil {
			t.Fatal(err)
		}
		return sig
	}
	for name, tt := range map[string]struct {
		alg    string
		sign   func(signed []byte) []byte
		accept bool
	}{
		"PKCS #1":             {"RS256", pkcs1, true},
		"PSS":                 {"PS256", pss(32), true},
		"PSS, no salt":        {"PS256", pss(0), false},
		"PSS, short salt":     {"PS256", pss(31), false},
		"PSS, long salt":      {"PS256", pss(33), false},
		"PSS, longest salt":   {"PS256", pss(222), false},
		"PS384":               {"PS384", pssOf(crypto.SHA384, 48), true},
		"PS384, no salt":      {"PS384", pssOf(crypto.SHA384, 0), false},
		"PS384, short salt":   {"PS384", pssOf(crypto.SHA384, 32), false},
		"PS384, long salt":    {"PS384", pssOf(crypto.SHA384, 64), false},
		"PS512":               {"PS512", pssOf(crypto.SHA512, 64), true},
		"PS512, no salt":      {"PS512", pssOf(crypto.SHA512, 0), false},
		"PS512, short salt":   {"PS512", pssOf(crypto.SHA512, 32), false},
		"PS512, long salt":    {"PS512", pssOf(crypto.SHA512, 65), false},
		"PSS of another hash": {"PS512", pssOf(crypto.SHA256, 64), false},
		"PSS as PKCS #1":      {"RS256", pss(32), false},
		"PKCS #1 as PSS":      {"PS256", pkcs1, false},
		"of another hash":     {"RS384", pkcs1, false},
		"a byte short":        {"RS256", func(b []byte) []byte { return pkcs1(b)[:255] }, false},
		"a zero byte more":    {"RS256", func(b []byte) []byte { return append([]byte{0}, pkcs1(b)...) }, false},
		"all zero":            {"RS256", func([]byte) []byte { return make([]byte, 256) }, false},
		"as large as modulus": {"RS256", func([]byte) []byte { return k.N.Bytes() }, false},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := h.auth.Verify(t.Context(), h.token(`{"alg":"`+tt.alg+`","kid":"k"}`, tt.sign))
			if tt.accept {
				if err != nil {
					t.Error(err)
				}
				return
			}
			checkRefused(t, c, err, "signature", jwt.ErrTokenSignatureInvalid)
		})
	}

	// RFC 8725, section 2.1: the public key as the secret of an HMAC.
	t.Run("key confusion", func(t *testing.T) {
		c, err := h.auth.Verify(t.Context(), h.token(`{"alg":"HS256","kid":"k"}`, func(signed []byte) []byte {
			mac := hmac.New(sha256.New, k.N.Bytes())
			mac.Write(signed)
			return mac.Sum(nil)
		}))
		checkRefused(t, c, err, "algorithm", jwt.ErrTokenUnverifiable)
	})

	t.Run("a key serves the algorithm it names", func(t *testing.T) {
		jwk["alg"] = "RS256"
		h := publish(t, jwk)
		if _, err := h.auth.Verify(t.Context(), h.token(`{"alg":"RS256","kid":"k"}`, pkcs1)); err != nil {
			t.Error(err)
		}
		c, err := h.auth.Verify(t.Context(), h.token(`{"alg":"PS256","kid":"k"}`, pss(32)))
		checkRefused(t, c, err, "key", jwt.ErrTokenUnverifiable)
		c, err = h.auth.Verify(t.Context(), h.token(`{"alg":"PS256"}`, pss(32)))
		checkRefused(t, c, err, "unknown_key", jwt.ErrTokenUnverifiable)
	})
}

type claimRow struct {
	name     string
	claims   bearertest.Claims
	reason   string // empty: accepted
	sentinel error
}

func claimRows(iss *bearertest.Issuer) []claimRow {
	at := func(d time.Duration) int64 { return time.Now().Add(d).Unix() }
	missing, claims := jwt.ErrTokenRequiredClaimMissing, jwt.ErrTokenInvalidClaims
	raw := func(s string) json.RawMessage { return json.RawMessage(s) }
	return []claimRow{
		{"exp 3 s ago", bearertest.Claims{"exp": at(-3 * time.Second)}, "", nil},
		{"exp 30 s ago", bearertest.Claims{"exp": at(-30 * time.Second)}, "", nil},
		{"exp 90 s ago", bearertest.Claims{"exp": at(-90 * time.Second)}, "expired", jwt.ErrTokenExpired},
		{"exp an hour ago", bearertest.Claims{"exp": at(-time.Hour)}, "expired", jwt.ErrTokenExpired},
		{"exp missing", bearertest.Claims{"exp": nil}, "no_expiry", missing},
		{"EXP instead", bearertest.Claims{"exp": nil, "EXP": at(time.Hour)}, "no_expiry", missing},
		{"EXP besides", bearertest.Claims{"exp": at(-time.Hour), "EXP": at(time.Hour)}, "expired", jwt.ErrTokenExpired},
		{"EXP besides a good one", bearertest.Claims{"EXP": "x", "Nbf": at(time.Hour), "IAT": "x", "CNF": 1, "ſub": 1}, "", nil},
		{"exp a string", bearertest.Claims{"exp": fmt.Sprint(at(time.Hour))}, "claim_type", claims},
		{"exp null", bearertest.Claims{"exp": raw("null")}, "claim_type", claims},
		{"exp a boolean", bearertest.Claims{"exp": true}, "claim_type", claims},
		{"exp an array", bearertest.Claims{"exp": []int64{at(time.Hour)}}, "claim_type", claims},
		{"exp negative", bearertest.Claims{"exp": -1}, "claim_type", claims},
		{"exp negative zero", bearertest.Claims{"exp": raw("-0")}, "claim_type", claims},
		{"exp zero", bearertest.Claims{"exp": 0}, "expired", jwt.ErrTokenExpired},
		{"exp the last second of 9999", bearertest.Claims{"exp": int64(253402300799)}, "", nil},
		{"exp beyond 9999", bearertest.Claims{"exp": int64(253402300800)}, "claim_type", claims},
		{"exp half a second beyond 9999", bearertest.Claims{"exp": raw("253402300799.5")}, "claim_type", claims},
		{"exp beyond int64", bearertest.Claims{"exp": raw("9223372036854775808")}, "claim_type", claims},
		{"exp beyond uint64", bearertest.Claims{"exp": raw("18446744073709551616")}, "claim_type", claims},
		{"exp 1e300", bearertest.Claims{"exp": raw("1e300")}, "claim_type", claims},
		{"exp 1e999", bearertest.Claims{"exp": raw("1e999")}, "claim_type", claims},
		{"exp with a fraction", bearertest.Claims{"exp": raw(fmt.Sprintf("%d.75", at(time.Hour)))}, "", nil},
		{"exp with an exponent", bearertest.Claims{"exp": raw("4.0e9")}, "", nil},
		{"exp in milliseconds", bearertest.Claims{"exp": at(time.Hour) * 1000}, "claim_type", claims},

		{"nbf 30 s ahead", bearertest.Claims{"nbf": at(30 * time.Second)}, "", nil},
		{"nbf 10 min ahead", bearertest.Claims{"nbf": at(10 * time.Minute)}, "not_yet_valid", jwt.ErrTokenNotValidYet},
		{"nbf a string", bearertest.Claims{"nbf": "0"}, "claim_type", claims},
		{"nbf null", bearertest.Claims{"nbf": raw("null")}, "claim_type", claims},
		{"nbf far beyond", bearertest.Claims{"nbf": raw("9.3e18")}, "claim_type", claims},
		{"iat 30 s ahead", bearertest.Claims{"iat": at(30 * time.Second)}, "", nil},
		{"iat 10 min ahead", bearertest.Claims{"iat": at(10 * time.Minute)}, "issued_in_future", jwt.ErrTokenUsedBeforeIssued},
		{"nbf 10 min ahead, iat now", bearertest.Claims{"nbf": at(10 * time.Minute), "iat": at(0)}, "not_yet_valid", jwt.ErrTokenNotValidYet},
		{"nbf now, iat 10 min ahead", bearertest.Claims{"nbf": at(0), "iat": at(10 * time.Minute)}, "issued_in_future", jwt.ErrTokenUsedBeforeIssued},
		{"nbf 30 s ago, iat an hour ago", bearertest.Claims{"nbf": at(-30 * time.Second), "iat": at(-time.Hour)}, "", nil},
		{"nbf negative", bearertest.Claims{"nbf": -1}, "claim_type", claims},
		{"iat negative", bearertest.Claims{"iat": -1}, "claim_type", claims},
		{"iat null", bearertest.Claims{"iat": raw("null")}, "claim_type", claims},
		{"iat a string", bearertest.Claims{"iat": "0"}, "claim_type", claims},
		{"iat missing", bearertest.Claims{"iat": nil}, "", nil},

		{"iss missing", bearertest.Claims{"iss": nil}, "issuer", missing},
		{"iss empty", bearertest.Claims{"iss": ""}, "issuer", missing},
		{"iss a number", bearertest.Claims{"iss": 1}, "claim_type", claims},
		{"iss an array", bearertest.Claims{"iss": []string{iss.URL}}, "claim_type", claims},
		{"iss without the slash", bearertest.Claims{"iss": "https://login.example.com"}, "issuer", jwt.ErrTokenInvalidIssuer},
		{"iss with a port", bearertest.Claims{"iss": "https://login.example.com:443/"}, "issuer", jwt.ErrTokenInvalidIssuer},
		{"iss in other letters", bearertest.Claims{"iss": "https://Login.example.com/"}, "issuer", jwt.ErrTokenInvalidIssuer},
		{"Iss besides", bearertest.Claims{"iss": "https://evil.example.com/", "Iss": iss.URL, "iſs": iss.URL}, "issuer", jwt.ErrTokenInvalidIssuer},
		{"iſs instead", bearertest.Claims{"iss": nil, "iſs": iss.URL}, "issuer", missing},

		{"aud an array", bearertest.Claims{"aud": []string{"x", audience}}, "", nil},
		{"aud the other one", bearertest.Claims{"aud": "https://api2.example.com"}, "", nil},
		{"aud missing", bearertest.Claims{"aud": nil}, "audience", missing},
		{"aud empty", bearertest.Claims{"aud": ""}, "audience", missing},
		{"aud an empty array", bearertest.Claims{"aud": []string{}}, "audience", missing},
		{"aud null", bearertest.Claims{"aud": raw("null")}, "claim_type", claims},
		{"aud nested", bearertest.Claims{"aud": [][]string{{audience}}}, "claim_type", claims},
		{"aud with a number", bearertest.Claims{"aud": []any{audience, 1}}, "claim_type", claims},
		{"aud an object", bearertest.Claims{"aud": map[string]string{"a": audience}}, "claim_type", claims},
		{"aud in other letters", bearertest.Claims{"aud": "https://API.example.com"}, "audience", jwt.ErrTokenInvalidAudience},
		{"aud a prefix", bearertest.Claims{"aud": "https://api.example.co"}, "audience", jwt.ErrTokenInvalidAudience},
		{"aud longer", bearertest.Claims{"aud": audience + ".evil"}, "audience", jwt.ErrTokenInvalidAudience},
		{"aud with a slash", bearertest.Claims{"aud": audience + "/"}, "audience", jwt.ErrTokenInvalidAudience},
		{"aud in one string", bearertest.Claims{"aud": "x " + audience}, "audience", jwt.ErrTokenInvalidAudience},
		{"aud in one string with a comma", bearertest.Claims{"aud": audience + "," + "https://api2.example.com"}, "audience", jwt.ErrTokenInvalidAudience},
		{"aud in one string before a comma", bearertest.Claims{"aud": audience + ",x"}, "audience", jwt.ErrTokenInvalidAudience},
		{"aud in one string behind a comma", bearertest.Claims{"aud": "x," + audience}, "audience", jwt.ErrTokenInvalidAudience},
		{"aud in one string with a semicolon", bearertest.Claims{"aud": audience + ";x"}, "audience", jwt.ErrTokenInvalidAudience},
		{"aud with white space around it", bearertest.Claims{"aud": " " + audience + " "}, "audience", jwt.ErrTokenInvalidAudience},
		{"aud in one string of an array", bearertest.Claims{"aud": []string{audience + "," + audience, "x " + audience}}, "audience", jwt.ErrTokenInvalidAudience},
		{"aud an array as text", bearertest.Claims{"aud": fmt.Sprintf("[%q]", audience)}, "audience", jwt.ErrTokenInvalidAudience},
		{"aud a boolean", bearertest.Claims{"aud": true}, "claim_type", claims},
		{"aUd instead", bearertest.Claims{"aud": nil, "aUd": audience}, "audience", missing},

		{"sub missing", bearertest.Claims{"sub": nil}, "", nil},
		{"sub empty", bearertest.Claims{"sub": ""}, "", nil},
		{"sub a number", bearertest.Claims{"sub": 1}, "claim_type", claims},
		{"sub null", bearertest.Claims{"sub": raw("null")}, "claim_type", claims},
		{"jti a number", bearertest.Claims{"jti": 1}, "claim_type", claims},
		{"cnf", bearertest.Claims{"cnf": map[string]string{"jkt": "x"}}, "bound", claims},
		{"cnf null", bearertest.Claims{"cnf": raw("null")}, "bound", claims},
		{"an ID token", bearertest.Claims{"nonce": "x", "at_hash": "y"}, "", nil},
	}
}

func TestClaimRows(t *testing.T) {
	iss, _ := newAuth(t)
	auth := newMiddleware(t, iss, func(c *bearer.Config) { c.Audience = []string{audience, "https://api2.example.com"} })
	for _, tt := range claimRows(iss) {
		t.Run(tt.name, func(t *testing.T) {
			c, err := auth.Verify(t.Context(), iss.Token(audience, tt.claims))
			if tt.reason == "" {
				if err != nil {
					t.Errorf("got %v, want the token accepted", err)
				}
				return
			}
			checkRefused(t, c, err, tt.reason, tt.sentinel)
		})
	}
	t.Run("exp NaN", func(t *testing.T) {
		c, err := auth.Verify(t.Context(), iss.Sign("", fmt.Sprintf(`{"iss":%q,"aud":%q,"exp":NaN}`, iss.URL, audience)))
		checkRefused(t, c, err, "malformed", jwt.ErrTokenMalformed)
	})
}

func TestAudienceClaim(t *testing.T) {
	for _, tt := range []struct {
		claim    string
		claims   bearertest.Claims
		accepted bool
	}{
		{"client_id", bearertest.Claims{"aud": nil, "client_id": audience}, true},
		{"client_id", bearertest.Claims{"client_id": "other"}, false},
		{"client_id", bearertest.Claims{"client_id": nil}, false},
		{"azp", bearertest.Claims{"azp": audience, "aud": []int{1}}, true},
		{"a.b", bearertest.Claims{"a": map[string]string{"b": audience}}, true},
		{"a.b", bearertest.Claims{"a.b": audience}, true},
		{"a.b", bearertest.Claims{"a": audience}, false},
	} {
		iss, auth := newAuth(t, func(c *bearer.Config) { c.AudienceClaim = tt.claim })
		c, err := auth.Verify(t.Context(), iss.Token(audience, tt.claims))
		if !tt.accepted {
			checkRefused(t, c, err, "audience", jwt.ErrTokenInvalidClaims)
			continue
		}
		if err != nil || len(c.Audience) != 1 || c.Audience[0] != audience {
			t.Errorf("%s of %v: got %+v, %v, want it accepted", tt.claim, tt.claims, c, err)
		}
	}
}

func TestTokenExpires(t *testing.T) {
	for _, tt := range []struct {
		leeway time.Duration
		last   time.Duration // after exp
	}{
		{0, 59 * time.Second},
		{-1, -time.Second},
		{10 * time.Second, 9 * time.Second},
		{10 * time.Minute, 10*time.Minute - time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			iss, auth := newAuth(t, func(c *bearer.Config) { c.Leeway = tt.leeway })
			token := iss.Token(audience, nil) // valid for an hour
			for _, s := range []struct {
				wait time.Duration
				want error
			}{
				{0, nil},
				{time.Hour + tt.last, nil},
				{time.Second, jwt.ErrTokenExpired},
			} {
				time.Sleep(s.wait)
				if _, err := auth.Verify(context.Background(), token); !errors.Is(err, s.want) {
					t.Errorf("leeway %v, after %v more: err = %v, want %v", tt.leeway, s.wait, err, s.want)
				}
			}
		})
	}
}

// A token is valid from the very moment of "nbf" and "iat" less the leeway, and until that
// of "exp" and the leeway, when it is not any more: at its first use, and from the cache.
func TestBorders(t *testing.T) {
	const us = time.Microsecond
	for _, tt := range []struct {
		claim string
		after time.Duration // the claim's time
		want  error
	}{
		{"exp", -us, nil},
		{"exp", 0, jwt.ErrTokenExpired},
		{"exp", us, jwt.ErrTokenExpired},
		{"nbf", -us, jwt.ErrTokenNotValidYet},
		{"nbf", 0, nil},
		{"nbf", us, nil},
		{"iat", -us, jwt.ErrTokenUsedBeforeIssued},
		{"iat", 0, nil},
		{"iat", us, nil},
	} {
		for _, leeway := range []time.Duration{-1, 10 * time.Second} {
			synctest.Test(t, func(t *testing.T) {
				iss, auth := newAuth(t, func(c *bearer.Config) { c.Leeway = leeway })
				at := time.Now().Add(20500 * time.Millisecond)
				claims := bearertest.Claims{"iat": nil, tt.claim: json.RawMessage(fmt.Sprintf("%d.5", at.Unix()))}
				border := max(leeway, 0)
				if tt.claim == "exp" {
					border = -border
				}
				first, kept := iss.Token(audience, claims), iss.Token(audience, claims)
				if tt.claim == "exp" {
					warm(t, auth, kept)
				}
				time.Sleep(time.Until(at) - border + tt.after)
				for _, token := range []string{first, first, kept} {
					if _, err := auth.Verify(t.Context(), token); !errors.Is(err, tt.want) {
						t.Errorf("leeway %v, %v after %s: got %v, want %v", leeway, tt.after, tt.claim, err, tt.want)
					}
				}
			})
		}
	}
}

// A token may wait before it is judged, and then the clock of that moment counts.
func TestTokenExpiresMeanwhile(t *testing.T) {
	strict := func(c *bearer.Config) { c.Leeway = -1 }
	ready := func(t *testing.T, iss *bearertest.Issuer) *bearer.Middleware {
		auth := newMiddleware(t, iss, strict)
		if err := auth.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		return auth
	}
	for _, tt := range []struct {
		what string // it waits for
		auth func(t *testing.T, iss *bearertest.Issuer, wait time.Duration) *bearer.Middleware
	}{
		{"the first keys", func(t *testing.T, iss *bearertest.Issuer, wait time.Duration) *bearer.Middleware {
			iss.SetDelay(wait)
			return newMiddleware(t, iss, strict)
		}},
		{"a new key", func(t *testing.T, iss *bearertest.Issuer, wait time.Duration) *bearer.Middleware {
			auth := ready(t, iss)
			iss.Rotate()
			iss.SetDelay(wait)
			return auth
		}},
		{"FindIssuer", func(t *testing.T, iss *bearertest.Issuer, wait time.Duration) *bearer.Middleware {
			found := ready(t, iss)
			d, auth := newDirectory(t)
			d.setInstead(func(context.Context, string) (*bearer.Middleware, error) {
				time.Sleep(wait)
				return found, nil
			})
			return auth
		}},
	} {
		for wait, want := range map[time.Duration]error{0: nil, 900 * time.Millisecond: jwt.ErrTokenExpired} {
			synctest.Test(t, func(t *testing.T) {
				iss := bearertest.NewIssuer("https://login.example.com/")
				auth := tt.auth(t, iss, wait)
				token := iss.Token(audience, bearertest.Claims{"exp": time.Now().Add(time.Second)})
				time.Sleep(time.Second / 2)
				if _, err := auth.Verify(t.Context(), token); !errors.Is(err, want) {
					t.Errorf("half a second before it expires it waits for %s, %v: err = %v, want %v", tt.what, wait, err, want)
				}
			})
		}
	}
}

// Every single bit of a token counts.
func TestBitFlips(t *testing.T) {
	// In virtual time: each key id that no key has may wait for a fetch.
	synctest.Test(t, testBitFlips)
}

func testBitFlips(t *testing.T) {
	for _, alg := range []string{"ES256", "EdDSA", "RS256"} {
		iss, auth := newAuth(t)
		iss.UseAlgorithm(alg)
		token := iss.Token(audience, nil)
		if _, err := auth.Verify(t.Context(), token); err != nil {
			t.Fatal(err)
		}
		for i := range token {
			for bit := range 8 {
				changed := []byte(token)
				changed[i] ^= 1 << bit
				if _, err := auth.Verify(t.Context(), string(changed)); err == nil {
					t.Errorf("%s: accepted with bit %d of byte %d changed", alg, bit, i)
				}
			}
		}
	}
}

func TestFormBounds(t *testing.T) {
	iss, auth := newAuth(t)
	valid := iss.Token(audience, nil)
	kid := iss.KeyID()
	parts := strings.Split(valid, ".")
	long := func(n int) string { return strings.Repeat("a", n) }
	withHeader := func(members string) string {
		return iss.Sign(fmt.Sprintf(`{"alg":"ES256","kid":%q%s}`, kid, members), payload(iss, ""))
	}
	withKID := func(kid string) string { return iss.Sign(`{"alg":"ES256","kid":`+kid+`}`, payload(iss, "")) }
	malformed, unverifiable := jwt.ErrTokenMalformed, jwt.ErrTokenUnverifiable
	members := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `,"%d":1`, i)
		}
		return b.String()
	}
	arrays := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	sized := func(n int) string { return sized(t, iss, n) }
	for _, tt := range []struct {
		name     string
		token    string
		reason   string
		sentinel error
	}{
		{"16 KiB", sized(16 << 10), "", nil},
		{"16 KiB and one", sized(16<<10 + 1), "too_long", malformed},
		{"carriage return at the end", valid + "\r", "malformed", malformed},
		{"carriage return in the signature", parts[0] + "." + parts[1] + "." + parts[2][:8] + "\r" + parts[2][8:], "malformed", malformed},
		{"line feed in the signature", parts[0] + "." + parts[1] + "." + parts[2][:8] + "\n" + parts[2][8:], "malformed", malformed},
		{"header of 256 members", withHeader(members(254)), "", nil},
		{"header of 257 members", withHeader(members(255)), "malformed", malformed},
		{"header nested 32 deep", withHeader(`,"x":` + arrays(31)), "", nil},
		{"header nested 33 deep", withHeader(`,"x":` + arrays(32)), "malformed", malformed},
		{"payload nested 32 deep", iss.Sign("", payload(iss, `,"x":`+arrays(31))), "", nil},
		{"payload nested 33 deep", iss.Sign("", payload(iss, `,"x":`+arrays(32))), "malformed", malformed},
		{"kid of 256 bytes", withKID(`"` + long(256) + `"`), "unknown_key", unverifiable},
		{"kid of 257 bytes", withKID(`"` + long(257) + `"`), "malformed", malformed},
		{"kid with a C1 control character", withKID(`"a\u0085"`), "malformed", malformed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := auth.Verify(t.Context(), tt.token)
			if tt.reason == "" {
				if err != nil {
					t.Errorf("%d bytes: got %v, want the token accepted", len(tt.token), err)
				}
				return
			}
			checkRefused(t, c, err, tt.reason, tt.sentinel)
		})
	}
}

// sized returns a good token of n bytes.
func sized(t *testing.T, iss *bearertest.Issuer, n int) string {
	for i := range 4 { // base64url has no part of 4k+1 characters
		header := fmt.Sprintf(`{"alg":"ES256","kid":%q,"x":"%s"}`, iss.KeyID(), strings.Repeat("a", i))
		for pad := (n - 400) / 4 * 3; ; pad++ {
			token := iss.Sign(header, payload(iss, `,"pad":"`+strings.Repeat("a", pad)+`"`))
			if len(token) == n {
				return token
			}
			if len(token) > n {
				break
			}
		}
	}
	t.Fatalf("no token of %d bytes", n)
	return ""
}
