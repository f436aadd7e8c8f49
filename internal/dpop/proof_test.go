package dpop_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"example.com/bearer/internal/dpop"
)

func encode(s string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(s))
}

// A client has a key and makes proofs with it.
type client struct {
	alg    string
	method jwt.SigningMethod
	key    crypto.Signer
	jwk    string // without the closing brace
}

func newEC(curve elliptic.Curve, alg string) *client {
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		panic(err)
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		panic(err)
	}
	half := len(point) / 2
	return &client{alg, jwt.GetSigningMethod(alg), key, fmt.Sprintf(`{"kty":"EC","crv":%q,"x":%q,"y":%q`,
		curve.Params().Name, encode(string(point[1:1+half])), encode(string(point[1+half:])))}
}

func newEd25519(alg string) *client {
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	return &client{alg, jwt.SigningMethodEdDSA, key, fmt.Sprintf(`{"kty":"OKP","crv":"Ed25519","x":%q`, encode(string(public)))}
}

func newRSA(bits int, alg string) *client {
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		panic(err)
	}
	return &client{alg, jwt.GetSigningMethod(alg), key, fmt.Sprintf(`{"kty":"RSA","n":%q,"e":"AQAB"`, encode(string(key.N.Bytes())))}
}

// as returns c with another algorithm for the same key.
func (c *client) as(alg string) *client {
	d := *c
	d.alg, d.method = alg, jwt.GetSigningMethod(alg)
	return &d
}

// thumbprint is the key's by RFC 7638, made from the JWK as it is written above.
func (c *client) thumbprint() string {
	m := c.members()
	text := ""
	switch m["kty"] {
	case "EC":
		text = fmt.Sprintf(`{"crv":%q,"kty":"EC","x":%q,"y":%q}`, m["crv"], m["x"], m["y"])
	case "OKP":
		text = fmt.Sprintf(`{"crv":%q,"kty":"OKP","x":%q}`, m["crv"], m["x"])
	case "RSA":
		text = fmt.Sprintf(`{"e":%q,"kty":"RSA","n":%q}`, m["e"], m["n"])
	}
	return hash(text)
}

func (c *client) members() map[string]string {
	m := map[string]string{}
	for pair := range strings.SplitSeq(strings.Trim(c.jwk, "{"), ",") {
		name, value, _ := strings.Cut(pair, ":")
		m[strings.Trim(name, `"`)] = strings.Trim(value, `"`)
	}
	return m
}

func hash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// sign returns the proof with this header and payload as they stand.
func (c *client) sign(header, payload string) string {
	return c.signEncoded(encode(header), encode(payload))
}

// signEncoded is sign for what is encoded already.
func (c *client) signEncoded(header, payload string) string {
	signed := header + "." + payload
	signature, err := c.method.Sign(signed, c.key)
	if err != nil {
		panic(err)
	}
	return signed + "." + encode(string(signature))
}

func (c *client) header() string {
	return fmt.Sprintf(`{"typ":"dpop+jwt","alg":%q,"jwk":%s}}`, c.alg, c.jwk)
}

const (
	token = "header.payload.signature"
	api   = "https://api.example.com"
)

var (
	now    = time.Unix(1800000000, 0)
	alice  = newEC(elliptic.P256(), "ES256")
	serial int
)

// payload returns the payload of a good proof for GET /a, with a new "jti".
func payload() string {
	serial++
	return fmt.Sprintf(`{"jti":"id%d","htm":"GET","htu":"https://api.example.com/a","iat":%d,"ath":%q}`, serial, now.Unix(), hash(token))
}

// with replaces or adds a claim of a good payload; an empty value takes it away.
func with(name, value string) string { return edit(payload(), name, value) }

// edit does so with any object whose members are simple.
func edit(object, name, value string) string {
	if i := strings.Index(object, `"`+name+`":`); i >= 0 {
		end := i + strings.IndexAny(object[i:], ",}")
		before := strings.TrimSuffix(object[:i], ",")
		after := object[end:]
		if strings.HasSuffix(before, "{") {
			after = strings.TrimPrefix(after, ",")
		}
		object = before + after
	}
	if value == "" {
		return object
	}
	return strings.TrimSuffix(object, "}") + `,"` + name + `":` + value + "}"
}

func newVerifier(t testing.TB, s dpop.Settings) *dpop.Verifier {
	t.Helper()
	if s.BaseURLs == nil {
		s.BaseURLs = []string{api}
	}
	if s.Leeway == 0 {
		s.Leeway = time.Minute
	}
	s.Leeway = max(s.Leeway, 0) // negative: none
	v, err := dpop.New(s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// verdict is what a verifier says of a request for GET /a: "", or code and reason.
func verdict(v *dpop.Verifier, thumbprint string, fields ...string) string {
	_, err := judge(v, dpop.Request{Method: "GET", Path: "/a", Token: token, Thumbprint: thumbprint}, now, fields...)
	return word(err)
}

func judge(v *dpop.Verifier, r dpop.Request, now time.Time, fields ...string) (dpop.Accepted, error) {
	p, err := v.Parse(fields)
	if err != nil {
		return dpop.Accepted{}, err
	}
	return v.Check(context.Background(), p, r, now)
}

func word(err error) string {
	if err == nil {
		return ""
	}
	var e *dpop.Error
	if !errors.As(err, &e) {
		return err.Error()
	}
	return e.Code + " " + e.Reason
}

func invalid(reason string) string { return "invalid_dpop_proof " + reason }

// One proof by its outward form.
func TestProofForm(t *testing.T) {
	v := newVerifier(t, dpop.Settings{})
	good := func() string { return alice.sign(alice.header(), payload()) }
	header, claims, _ := strings.Cut(good(), ".")
	claims, signature, _ := strings.Cut(claims, ".")
	twice := good()
	long := func(n int) string { // a good proof of n bytes
		for pad := n*3/4 - 600; ; pad++ {
			if p := alice.sign(alice.header(), with("pad", `"`+strings.Repeat("x", pad)+`"`)); len(p) >= n {
				return p
			}
		}
	}
	// A text of which base64url has two spellings.
	unaligned := func(text string) string {
		for len(text)%3 == 0 {
			text += " "
		}
		return encode(text)
	}
	for _, tt := range []struct {
		name   string
		fields []string
		want   string
	}{
		{"good", []string{good()}, ""},
		{"good, with white space in JSON", []string{alice.signEncoded(unaligned(alice.header()), unaligned(payload()))}, ""},
		{"another spelling of the header", []string{alice.signEncoded(respell(unaligned(alice.header())), encode(payload()))}, invalid("proof_form")},
		{"another spelling of the payload", []string{alice.signEncoded(encode(alice.header()), respell(unaligned(payload())))}, invalid("proof_form")},
		{"none", nil, invalid("proof_missing")},
		{"two fields", []string{good(), good()}, invalid("proof_count")},
		{"two fields that are equal", []string{twice, twice}, invalid("proof_count")},
		{"two in one field", []string{good() + ", " + good()}, invalid("proof_count")},
		{"two in one field without blank", []string{good() + "," + good()}, invalid("proof_count")},
		{"empty", []string{""}, invalid("proof_form")},
		{"white space", []string{"  \t"}, invalid("proof_form")},
		{"an empty field behind", []string{good(), ""}, invalid("proof_count")},
		{"as long as may be", []string{long(8190)}, ""},
		{"too long", []string{long(8193)}, invalid("proof_size")},
		{"too long and no proof", []string{strings.Repeat("!", 8193)}, invalid("proof_size")},
		{"one part", []string{header}, invalid("proof_form")},
		{"two parts", []string{header + "." + claims}, invalid("proof_form")},
		{"five parts", []string{good() + ".a.b"}, invalid("proof_form")},
		{"empty header", []string{"." + claims + "." + signature}, invalid("proof_form")},
		{"empty payload", []string{header + ".." + signature}, invalid("proof_form")},
		{"empty signature", []string{header + "." + claims + "."}, invalid("proof_signature")},
		{"padding", []string{header + "=." + claims + "." + signature}, invalid("proof_form")},
		{"padded signature", []string{good() + "=="}, invalid("proof_form")},
		{"blank before", []string{" " + good()}, invalid("proof_form")},
		{"blank behind", []string{good() + " "}, invalid("proof_form")},
		{"line break", []string{header + ".\n" + claims + "." + signature}, invalid("proof_form")},
		{"another spelling of the last character", []string{respell(good())}, invalid("proof_form")},
		{"standard alphabet", []string{header + "." + claims + "." + strings.Repeat("+", 86)}, invalid("proof_form")},
		{"JSON form", []string{`{"protected":"` + header + `","payload":"` + claims + `","signature":"` + signature + `"}`}, invalid("proof_form")},
	} {
		if got := verdict(v, alice.thumbprint(), tt.fields...); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

// respell changes the unused bits of a proof's last character.
func respell(proof string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(alphabet, proof[len(proof)-1])
	return proof[:len(proof)-1] + alphabet[last^1:last^1+1]
}

func TestProofHeader(t *testing.T) {
	v := newVerifier(t, dpop.Settings{Algorithms: []string{"ES256", "EdDSA", "RS256"}})
	jwk := alice.jwk + "}"
	x, y := alice.members()["x"], alice.members()["y"]
	for _, tt := range []struct {
		name, header, want string
	}{
		{"good", alice.header(), ""},
		{"no typ", `{"alg":"ES256","jwk":` + jwk + `}`, invalid("proof_typ")},
		{"typ JWT", `{"typ":"JWT","alg":"ES256","jwk":` + jwk + `}`, invalid("proof_typ")},
		{"typ with application/", `{"typ":"application/dpop+jwt","alg":"ES256","jwk":` + jwk + `}`, invalid("proof_typ")},
		{"typ in upper case", `{"typ":"DPOP+JWT","alg":"ES256","jwk":` + jwk + `}`, invalid("proof_typ")},
		{"typ at+jwt", `{"typ":"at+jwt","alg":"ES256","jwk":` + jwk + `}`, invalid("proof_typ")},
		{"typ an array", `{"typ":["dpop+jwt"],"alg":"ES256","jwk":` + jwk + `}`, invalid("proof_typ")},
		{"typ escaped", `{"typ":"\u0064pop+jwt","alg":"ES256","jwk":` + jwk + `}`, ""},
		{"alg none", `{"typ":"dpop+jwt","alg":"none","jwk":` + jwk + `}`, invalid("proof_alg")},
		{"alg HS256", `{"typ":"dpop+jwt","alg":"HS256","jwk":` + jwk + `}`, invalid("proof_alg")},
		{"alg unknown", `{"typ":"dpop+jwt","alg":"ES256K","jwk":` + jwk + `}`, invalid("proof_alg")},
		{"alg not in the list", `{"typ":"dpop+jwt","alg":"ES384","jwk":` + jwk + `}`, invalid("proof_alg")},
		{"alg in lower case", `{"typ":"dpop+jwt","alg":"es256","jwk":` + jwk + `}`, invalid("proof_alg")},
		{"no alg", `{"typ":"dpop+jwt","jwk":` + jwk + `}`, invalid("proof_alg")},
		{"alg a number", `{"typ":"dpop+jwt","alg":256,"jwk":` + jwk + `}`, invalid("proof_alg")},
		{"alg for another type of key", `{"typ":"dpop+jwt","alg":"RS256","jwk":` + jwk + `}`, invalid("proof_key")},
		{"EdDSA with P-256", `{"typ":"dpop+jwt","alg":"EdDSA","jwk":` + jwk + `}`, invalid("proof_key")},
		{"crit", `{"typ":"dpop+jwt","alg":"ES256","crit":["exp"],"exp":1,"jwk":` + jwk + `}`, invalid("proof_form")},
		{"crit empty", `{"typ":"dpop+jwt","alg":"ES256","crit":[],"jwk":` + jwk + `}`, invalid("proof_form")},
		{"b64", `{"typ":"dpop+jwt","alg":"ES256","b64":false,"jwk":` + jwk + `}`, invalid("proof_form")},
		{"names of other keys", `{"typ":"dpop+jwt","alg":"ES256","kid":"a","jku":"https://evil.example/","x5u":"https://evil.example/","x5c":["a"],"x5t":1,"jwk":` + jwk + `}`, ""},
		{"typ twice", `{"typ":"dpop+jwt","typ":"dpop+jwt","alg":"ES256","jwk":` + jwk + `}`, invalid("proof_form")},
		{"jwk twice", `{"typ":"dpop+jwt","alg":"ES256","jwk":` + jwk + `,"jwk":` + jwk + `}`, invalid("proof_form")},
		{"member of jwk twice", `{"typ":"dpop+jwt","alg":"ES256","jwk":` + alice.jwk + `,"x":"` + x + `"}}`, invalid("proof_form")},
		{"member of jwk twice, escaped", `{"typ":"dpop+jwt","alg":"ES256","jwk":` + alice.jwk + `,"\u0078":"` + x + `"}}`, invalid("proof_form")},
		{"another letter case", `{"TYP":"JWT","typ":"dpop+jwt","alg":"ES256","ALG":"none","JWK":{},"jwk":` + jwk + `}`, ""},
		{"only in another letter case", `{"Typ":"dpop+jwt","alg":"ES256","jwk":` + jwk + `}`, invalid("proof_typ")},
		{"trailing data", alice.header() + "{}", invalid("proof_form")},
		{"not UTF-8", `{"typ":"dpop+jwt","alg":"ES256","a":"` + "\xff" + `","jwk":` + jwk + `}`, invalid("proof_form")},
		{"not JSON", `dpop+jwt`, invalid("proof_form")},
		{"too many members", `{"typ":"dpop+jwt","alg":"ES256","a":[` + strings.Repeat(`{"":0},`, 300) + `0],"jwk":` + jwk + `}`, invalid("proof_form")},
		{"no jwk", `{"typ":"dpop+jwt","alg":"ES256"}`, invalid("proof_key")},
		{"jwk null", `{"typ":"dpop+jwt","alg":"ES256","jwk":null}`, invalid("proof_key")},
		{"jwk a string", `{"typ":"dpop+jwt","alg":"ES256","jwk":"` + x + `"}`, invalid("proof_key")},
		{"jwk an array", `{"typ":"dpop+jwt","alg":"ES256","jwk":[` + jwk + `]}`, invalid("proof_key")},
		{"private key", `{"typ":"dpop+jwt","alg":"ES256","jwk":` + alice.jwk + `,"d":"AQAB"}}`, invalid("proof_key")},
		{"private member null", `{"typ":"dpop+jwt","alg":"ES256","jwk":` + alice.jwk + `,"d":null}}`, invalid("proof_key")},
		{"private member empty", `{"typ":"dpop+jwt","alg":"ES256","jwk":` + alice.jwk + `,"d":""}}`, invalid("proof_key")},
		{"member of an RSA key's private part", `{"typ":"dpop+jwt","alg":"ES256","jwk":` + alice.jwk + `,"qi":1}}`, invalid("proof_key")},
		{"secret beside the key", `{"typ":"dpop+jwt","alg":"ES256","jwk":` + alice.jwk + `,"k":"AQAB"}}`, invalid("proof_key")},
		{"oth with a prime", `{"typ":"dpop+jwt","alg":"ES256","jwk":` + alice.jwk + `,"oth":[{}]}}`, invalid("proof_key")},
		{"oth empty", `{"typ":"dpop+jwt","alg":"ES256","jwk":` + alice.jwk + `,"oth":[]}}`, ""},
		{"shared secret", `{"typ":"dpop+jwt","alg":"ES256","jwk":{"kty":"oct","k":"AQAB"}}`, invalid("proof_key")},
		{"unknown type", `{"typ":"dpop+jwt","alg":"ES256","jwk":{"kty":"AKP","pub":"AQAB"}}`, invalid("proof_key")},
		{"unknown curve", `{"typ":"dpop+jwt","alg":"ES256","jwk":` + strings.Replace(jwk, "P-256", "secp256k1", 1) + `}`, invalid("proof_key")},
		{"curve P-192", `{"typ":"dpop+jwt","alg":"ES256","jwk":` + strings.Replace(jwk, "P-256", "P-192", 1) + `}`, invalid("proof_key")},
		{"curve X25519", `{"typ":"dpop+jwt","alg":"EdDSA","jwk":{"kty":"OKP","crv":"X25519","x":"` + x + `"}}`, invalid("proof_key")},
		{"curve Ed448", `{"typ":"dpop+jwt","alg":"EdDSA","jwk":{"kty":"OKP","crv":"Ed448","x":"` + x + `"}}`, invalid("proof_key")},
		{"short coordinate", `{"typ":"dpop+jwt","alg":"ES256","jwk":` + strings.Replace(jwk, x, x[:42], 1) + `}`, invalid("proof_key")},
		{"long coordinate", `{"typ":"dpop+jwt","alg":"ES256","jwk":` + strings.Replace(jwk, x, "AAAA"+x, 1) + `}`, invalid("proof_key")},
		{"coordinate with a zero octet before it", `{"typ":"dpop+jwt","alg":"ES256","jwk":` + strings.Replace(jwk, x, zeroBefore(x), 1) + `}`, invalid("proof_key")},
		{"off the curve", `{"typ":"dpop+jwt","alg":"ES256","jwk":` + strings.Replace(jwk, y, x, 1) + `}`, invalid("proof_key")},
		{"the point at infinity", `{"typ":"dpop+jwt","alg":"ES256","jwk":` + strings.NewReplacer(x, strings.Repeat("A", 43), y, strings.Repeat("A", 43)).Replace(jwk) + `}`, invalid("proof_key")},
		{"P-256 by the name of P-384", `{"typ":"dpop+jwt","alg":"ES256","jwk":` + strings.Replace(jwk, "P-256", "P-384", 1) + `}`, invalid("proof_key")},
		{"Ed25519 of 31 bytes", `{"typ":"dpop+jwt","alg":"EdDSA","jwk":{"kty":"OKP","crv":"Ed25519","x":"` + encode(strings.Repeat("a", 31)) + `"}}`, invalid("proof_key")},
		{"RSA of 1024 bits", rsaHeader(1024, "AQAB"), invalid("proof_key")},
		{"RSA of 4104 bits", rsaHeader(4104, "AQAB"), invalid("proof_key")},
		{"exponent even", rsaHeader(2048, "Ag"), invalid("proof_key")},
		{"exponent 1", rsaHeader(2048, "AQ"), invalid("proof_key")},
		{"exponent 2^32+1", rsaHeader(2048, "AQAAAAE"), invalid("proof_key")},
		{"exponent not minimal", rsaHeader(2048, "AAEAAQ"), invalid("proof_key")},
		{"key for encryption", `{"typ":"dpop+jwt","alg":"ES256","jwk":` + alice.jwk + `,"use":"enc"}}`, invalid("proof_key")},
		{"key_ops without verify", `{"typ":"dpop+jwt","alg":"ES256","jwk":` + alice.jwk + `,"key_ops":["sign"]}}`, invalid("proof_key")},
		{"key for another algorithm", `{"typ":"dpop+jwt","alg":"ES256","jwk":` + alice.jwk + `,"alg":"ES384"}}`, invalid("proof_key")},
		{"a key as WebCrypto exports it", `{"typ":"dpop+jwt","alg":"ES256","jwk":` + alice.jwk + `,"ext":true,"key_ops":["verify"],"kid":"a","use":"sig","alg":"ES256","x5c":["?"]}}`, ""},
		{"members without value", `{"typ":"dpop+jwt","alg":"ES256","jwk":` + alice.jwk + `,"use":null,"key_ops":[],"alg":null}}`, ""},
	} {
		if got := verdict(v, alice.thumbprint(), alice.sign(tt.header, payload())); got != tt.want {
			t.Errorf("%s: got %q, want %q; %s", tt.name, got, tt.want, tt.header)
		}
	}
}

// zeroBefore returns the number that x is in base64url with a zero octet before it.
func zeroBefore(x string) string {
	b, err := base64.RawURLEncoding.DecodeString(x)
	if err != nil {
		panic(err)
	}
	return encode("\x00" + string(b))
}

// rsaHeader has a modulus that is odd and as long as wanted. Nobody needs its
// factors: the proof is refused before its signature is looked at.
func rsaHeader(bits int, e string) string {
	n := encode(strings.Repeat("\xff", bits/8))
	return `{"typ":"dpop+jwt","alg":"RS256","jwk":{"kty":"RSA","n":"` + n + `","e":"` + e + `"}}`
}

func TestProofAlgorithms(t *testing.T) {
	p384, p521, rsa2048 := newEC(elliptic.P384(), "ES384"), newEC(elliptic.P521(), "ES512"), newRSA(2048, "RS256")
	all := dpop.Settings{Algorithms: []string{"ES256", "ES384", "ES512", "EdDSA", "RS256", "RS384", "PS256", "PS384"}}
	for _, tt := range []struct {
		name     string
		settings dpop.Settings
		client   *client
		want     string
	}{
		{"ES256", dpop.Settings{}, alice, ""},
		{"ES384", dpop.Settings{}, p384, ""},
		{"ES512", dpop.Settings{}, p521, ""},
		{"EdDSA", dpop.Settings{}, newEd25519("EdDSA"), ""},
		{"Ed25519", dpop.Settings{}, newEd25519("Ed25519"), ""},
		{"Ed25519 where EdDSA is accepted", dpop.Settings{Algorithms: []string{"EdDSA"}}, newEd25519("Ed25519"), ""},
		{"EdDSA where Ed25519 is accepted", dpop.Settings{Algorithms: []string{"Ed25519"}}, newEd25519("EdDSA"), ""},
		{"RS256", dpop.Settings{}, rsa2048, ""},
		{"PS256", dpop.Settings{}, rsa2048.as("PS256"), ""},
		{"RS384 by default", dpop.Settings{}, rsa2048.as("RS384"), invalid("proof_alg")},
		{"RS384", all, rsa2048.as("RS384"), ""},
		{"PS384", all, rsa2048.as("PS384"), ""},
		{"RSA of 4096 bits", all, newRSA(4096, "PS256"), ""},
		{"EdDSA where it is not accepted", dpop.Settings{Algorithms: []string{"ES256"}}, newEd25519("EdDSA"), invalid("proof_alg")},
	} {
		v := newVerifier(t, tt.settings)
		if got := verdict(v, tt.client.thumbprint(), tt.client.sign(tt.client.header(), payload())); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}

	// "alg" of the key may use the other name of the algorithm.
	ed := newEd25519("EdDSA")
	v := newVerifier(t, dpop.Settings{})
	header := `{"typ":"dpop+jwt","alg":"EdDSA","jwk":` + ed.jwk + `,"alg":"Ed25519"}}`
	if got := verdict(v, ed.thumbprint(), ed.sign(header, payload())); got != "" {
		t.Errorf("a key for Ed25519 in a proof with EdDSA: got %q, want none", got)
	}
}

func TestProofSignature(t *testing.T) {
	v := newVerifier(t, dpop.Settings{})
	mallory := newEC(elliptic.P256(), "ES256")
	rsa2048 := newRSA(2048, "PS256")
	pss := *jwt.SigningMethodPS256
	pss.Options = &rsa.PSSOptions{SaltLength: 8}
	salted := *rsa2048
	salted.method = &pss
	good := alice.sign(alice.header(), payload())
	dot := strings.LastIndexByte(good, '.')
	raw, err := base64.RawURLEncoding.DecodeString(good[dot+1:])
	if err != nil {
		t.Fatal(err)
	}
	der, err := asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(raw[:32]), new(big.Int).SetBytes(raw[32:])})
	if err != nil {
		t.Fatal(err)
	}
	another := alice.sign(alice.header(), payload())
	// (r, n-s) is the other signature that verifies. It is accepted; that the proof
	// still counts once is for the memory to see to.
	s := new(big.Int).Sub(elliptic.P256().Params().N, new(big.Int).SetBytes(raw[32:]))
	mirrored := append(bytes.Clone(raw[:32]), s.FillBytes(make([]byte, 32))...)
	for _, tt := range []struct {
		name       string
		thumbprint string
		proof      string
		want       string
	}{
		{"of another key", alice.thumbprint(), mallory.sign(alice.header(), payload()), invalid("proof_signature")},
		{"of another payload", alice.thumbprint(), good[:dot] + another[strings.LastIndexByte(another, '.'):], invalid("proof_signature")},
		{"in DER", alice.thumbprint(), good[:dot+1] + encode(string(der)), invalid("proof_signature")},
		{"a byte short", alice.thumbprint(), good[:dot+1] + encode(string(raw[:63])), invalid("proof_signature")},
		{"a byte long", alice.thumbprint(), good[:dot+1] + encode(string(raw)+"\x00"), invalid("proof_signature")},
		{"zeros", alice.thumbprint(), good[:dot+1] + encode(strings.Repeat("\x00", 64)), invalid("proof_signature")},
		{"PSS with another length of salt", rsa2048.thumbprint(), salted.sign(rsa2048.header(), payload()), invalid("proof_signature")},
		{"the other signature", alice.thumbprint(), good[:dot+1] + encode(string(mirrored)), ""},
		{"the first again", alice.thumbprint(), good, invalid("proof_replay")},
	} {
		if got := verdict(v, tt.thumbprint, tt.proof); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestProofClaims(t *testing.T) {
	v := newVerifier(t, dpop.Settings{})
	at := func(offset float64) string { return fmt.Sprintf("%.1f", float64(now.Unix())+offset) }
	for _, tt := range []struct {
		name, payload, want string
	}{
		{"good", payload(), ""},
		{"other claims", `{"iss":1,"aud":[],"sub":"a","cnf":{},"b64":false,"crit":1,` + payload()[1:], ""},
		{"no jti", with("jti", ""), invalid("proof_form")},
		{"jti a number", with("jti", "1"), invalid("proof_form")},
		{"jti null", with("jti", "null"), invalid("proof_form")},
		{"jti empty", with("jti", `""`), invalid("proof_form")},
		{"jti of a byte", with("jti", `"a"`), ""},
		{"jti of 256 bytes", with("jti", `"`+strings.Repeat("a", 256)+`"`), ""},
		{"jti of 257 bytes", with("jti", `"`+strings.Repeat("a", 257)+`"`), invalid("proof_form")},
		{"no htm", with("htm", ""), invalid("proof_htm")},
		{"htm a number", with("htm", "1"), invalid("proof_htm")},
		{"htm in lower case", with("htm", `"get"`), invalid("proof_htm")},
		{"htm of another method", with("htm", `"POST"`), invalid("proof_htm")},
		{"htm HEAD", with("htm", `"HEAD"`), invalid("proof_htm")},
		{"htm empty", with("htm", `""`), invalid("proof_htm")},
		{"htm with a blank", with("htm", `"GET "`), invalid("proof_htm")},
		{"htm in another letter case of the name", edit(with("htm", ""), "HTM", `"GET"`), invalid("proof_htm")},
		{"no htu", with("htu", ""), invalid("proof_htu")},
		{"htu a number", with("htu", "1"), invalid("proof_htu")},
		{"htu an array", with("htu", `["https://api.example.com/a"]`), invalid("proof_htu")},
		{"htu in another letter case of the name", edit(with("htu", ""), "HTU", `"https://api.example.com/a"`), invalid("proof_htu")},
		{"HTU beside htu", edit(payload(), "HTU", `"https://evil.example.com/a"`), ""},
		{"htu relative", with("htu", `"/a"`), invalid("proof_htu")},
		{"no iat", with("iat", ""), invalid("proof_iat")},
		{"iat a string", with("iat", `"`+at(0)+`"`), invalid("proof_iat")},
		{"iat null", with("iat", "null"), invalid("proof_iat")},
		{"iat negative", with("iat", "-1"), invalid("proof_iat")},
		{"iat 1e400", with("iat", "1e400"), invalid("proof_iat")},
		{"iat in milliseconds", with("iat", at(0)[:10]+"000"), invalid("proof_iat")},
		{"iat with an exponent", with("iat", "18e8"), ""},
		{"iat with a fraction", with("iat", at(-0.5)), ""},
		{"iat 300 s ago", with("iat", at(-300)), ""},
		{"iat more than 300 s ago", with("iat", at(-300.5)), invalid("proof_iat")},
		{"iat 303 s ago", with("iat", at(-303)), invalid("proof_iat")},
		{"iat in 60 s", with("iat", at(60)), ""},
		{"iat in more than 60 s", with("iat", at(60.5)), invalid("proof_iat")},
		{"iat in 303 s", with("iat", at(303)), invalid("proof_iat")},
		{"exp to come", with("exp", at(1)), ""},
		{"exp over, within the leeway", with("exp", at(-59)), ""},
		{"exp over", with("exp", at(-60)), invalid("proof_iat")},
		{"exp 0", with("exp", "0"), invalid("proof_iat")},
		{"exp a string", with("exp", `"a"`), invalid("proof_iat")},
		{"nbf over", with("nbf", at(-1)), ""},
		{"nbf within the leeway", with("nbf", at(60)), ""},
		{"nbf to come", with("nbf", at(61)), invalid("proof_iat")},
		{"nbf null", with("nbf", "null"), invalid("proof_iat")},
		{"no ath", with("ath", ""), invalid("proof_ath")},
		{"ath of another token", with("ath", `"`+hash("another")+`"`), invalid("proof_ath")},
		{"ath padded", with("ath", `"`+hash(token)+`="`), invalid("proof_ath")},
		{"ath in another spelling", with("ath", `"`+respell(hash(token))+`"`), invalid("proof_ath")},
		{"ath the token itself", with("ath", `"`+token+`"`), invalid("proof_ath")},
		{"ath null", with("ath", "null"), invalid("proof_ath")},
		{"a nonce nobody asked for", with("nonce", `"abc"`), ""},
		{"a nonce nobody asked for, a number", with("nonce", "5"), ""},
		{"jti twice", `{"jti":"x",` + payload()[1:], invalid("proof_form")},
		{"trailing data", payload() + " x", invalid("proof_form")},
		{"not UTF-8", with("a", "\"\xff\""), invalid("proof_form")},
		{"half a surrogate", with("jti", `"\ud800"`), invalid("proof_form")},
		{"too many members", with("a", "["+strings.Repeat(`{"":0},`, 300)+"0]"), invalid("proof_form")},
		{"an array", "[" + payload() + "]", invalid("proof_form")},
	} {
		if got := verdict(v, alice.thumbprint(), alice.sign(alice.header(), tt.payload)); got != tt.want {
			t.Errorf("%s: got %q, want %q; %s", tt.name, got, tt.want, tt.payload)
		}
	}
}

// What must be in a proof is missed before the token is looked at.
func TestParseMissesClaims(t *testing.T) {
	v := newVerifier(t, dpop.Settings{})
	for _, name := range []string{"jti", "htm", "htu", "iat"} {
		if _, err := v.Parse([]string{alice.sign(alice.header(), with(name, ""))}); err == nil {
			t.Errorf("a proof without %s is well-formed", name)
		}
	}
	// These it can do without, as far as its form goes.
	if _, err := v.Parse([]string{alice.sign(alice.header(), with("ath", ""))}); err != nil {
		t.Errorf("a proof without ath: got %v", err)
	}
}

// The key of the token and the proof's must be one.
func TestBinding(t *testing.T) {
	v := newVerifier(t, dpop.Settings{})
	jkt := alice.thumbprint()
	for _, tt := range []struct {
		name, thumbprint string
	}{
		{"another key's", newEC(elliptic.P256(), "ES256").thumbprint()},
		{"empty", ""},
		{"padded", jkt + "="},
		{"shortened", jkt[:42]},
		{"in another spelling", respell(jkt)},
		{"in hexadecimal", fmt.Sprintf("%x", jkt)},
	} {
		if got := verdict(v, tt.thumbprint, alice.sign(alice.header(), payload())); got != "invalid_token binding" {
			t.Errorf("%s: got %q, want invalid_token binding", tt.name, got)
		}
	}
}

// What is wrong first in the order of checks is what is reported.
func TestOrder(t *testing.T) {
	mallory := newEC(elliptic.P256(), "ES256")
	key := bytes.Repeat([]byte{1}, 32)
	nonces := newVerifier(t, dpop.Settings{NonceKeys: [][]byte{key}, MaxAge: time.Minute})
	times := newVerifier(t, dpop.Settings{})
	old := func() string { return with("iat", "1") }
	for _, tt := range []struct {
		name       string
		verifier   *dpop.Verifier
		thumbprint string
		proof      string
		want       string
	}{
		{"form before key", times, "", alice.sign(alice.header(), with("jti", "")), invalid("proof_form")},
		{"key before signature", times, "", mallory.sign(alice.header(), payload()), "invalid_token binding"},
		{"key before nonce", nonces, "", alice.sign(alice.header(), payload()), "invalid_token binding"},
		{"signature before nonce", nonces, alice.thumbprint(), mallory.sign(alice.header(), payload()), invalid("proof_signature")},
		{"signature before method", times, alice.thumbprint(), mallory.sign(alice.header(), with("htm", `"PUT"`)), invalid("proof_signature")},
		{"method before nonce", nonces, alice.thumbprint(), alice.sign(alice.header(), with("htm", `"PUT"`)), invalid("proof_htm")},
		{"URL before nonce", nonces, alice.thumbprint(), alice.sign(alice.header(), with("htu", `"https://a.example/"`)), invalid("proof_htu")},
		{"token before time", times, alice.thumbprint(), alice.sign(alice.header(), edit(old(), "ath", `"a"`)), invalid("proof_ath")},
		{"nonce before time", nonces, alice.thumbprint(), alice.sign(alice.header(), old()), "use_dpop_nonce nonce"},
	} {
		if got := verdict(tt.verifier, tt.thumbprint, tt.proof); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

// A store tells what it was asked.
type store struct {
	mu    sync.Mutex
	seen  map[string]time.Duration
	order []string
	err   error
}

func (s *store) Add(ctx context.Context, key string, ttl time.Duration) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen == nil {
		s.seen = map[string]time.Duration{}
	}
	_, old := s.seen[key]
	s.seen[key] = ttl
	s.order = append(s.order, key)
	return !old, s.err
}

func TestReplay(t *testing.T) {
	bob := newEC(elliptic.P256(), "ES256")
	same := func(c *client, name, value string) string {
		p := strings.Replace(payload(), fmt.Sprintf(`"id%d"`, serial), `"same"`, 1)
		if name != "" {
			p = edit(p, name, value)
		}
		return c.sign(c.header(), p)
	}
	first := same(alice, "", "")
	for name, v := range map[string]*dpop.Verifier{
		"in memory":  newVerifier(t, dpop.Settings{BaseURLs: []string{api, "https://other.example.com"}}),
		"in a store": newVerifier(t, dpop.Settings{BaseURLs: []string{api, "https://other.example.com"}, Store: &store{}}),
	} {
		for _, tt := range []struct {
			name   string
			client *client
			proof  string
			want   string
		}{
			{"refused for its method", alice, same(alice, "htm", `"PUT"`), invalid("proof_htm")},
			{"refused for its age", alice, same(alice, "iat", "1"), invalid("proof_iat")},
			{"refused for its token", alice, same(alice, "ath", `"a"`), invalid("proof_ath")},
			{"refused for its signature", alice, same(bob, "", "")[:10] + first[10:len(first)-4] + "AAAA", invalid("proof_signature")},
			{"the first that is good", alice, first, ""},
			{"again", alice, first, invalid("proof_replay")},
			{"again with another signature", alice, same(alice, "", ""), invalid("proof_replay")},
			{"again with another time", alice, same(alice, "iat", fmt.Sprint(now.Unix()-9)), invalid("proof_replay")},
			{"again for another URL", alice, same(alice, "htu", `"https://other.example.com/a"`), invalid("proof_replay")},
			{"again with another spelling of the URL", alice, same(alice, "htu", `"HTTPS://API.example.com:443/%61"`), invalid("proof_replay")},
			{"another client's", bob, same(bob, "", ""), ""},
			{"another client's again", bob, same(bob, "", ""), invalid("proof_replay")},
		} {
			if tt.name == "refused for its signature" && !strings.HasPrefix(tt.proof, first[:10]) {
				t.Fatal("the headers differ")
			}
			if got := verdict(v, tt.client.thumbprint(), tt.proof); got != tt.want {
				t.Errorf("%s, %s: got %q, want %q", name, tt.name, got, tt.want)
			}
		}
	}
}

// Of many requests with one proof, one is served.
func TestReplayRace(t *testing.T) {
	v := newVerifier(t, dpop.Settings{})
	for range 20 {
		proof := alice.sign(alice.header(), payload())
		verdicts := make(chan string, 16)
		for range cap(verdicts) {
			go func() { verdicts <- verdict(v, alice.thumbprint(), proof) }()
		}
		count := map[string]int{}
		for range cap(verdicts) {
			count[<-verdicts]++
		}
		if count[""] != 1 || count[invalid("proof_replay")] != cap(verdicts)-1 {
			t.Fatalf("got %v, want one that is good and else replays", count)
		}
	}
}

// How long a proof is kept, and by which name.
func TestStore(t *testing.T) {
	key := bytes.Repeat([]byte{1}, 32)
	at := func(offset float64) string { return fmt.Sprintf("%.1f", float64(now.Unix())+offset) }
	for _, tt := range []struct {
		name     string
		settings dpop.Settings
		iat      string
		want     time.Duration
	}{
		{"made now", dpop.Settings{}, at(0), 360 * time.Second},
		{"made in the future", dpop.Settings{}, at(60), 420 * time.Second},
		{"made at the limit", dpop.Settings{}, at(-300), 60 * time.Second},
		{"rounded up", dpop.Settings{}, at(-0.9), 360 * time.Second},
		{"another age", dpop.Settings{MaxAge: 10 * time.Second, Leeway: 5 * time.Second}, at(0), 15 * time.Second},
		{"at the limit without leeway", dpop.Settings{MaxAge: 10 * time.Second, Leeway: -1}, at(-10), time.Second},
		{"with a nonce", dpop.Settings{NonceKeys: [][]byte{key}}, at(-5000), 460 * time.Second},
	} {
		s := &store{}
		tt.settings.Store = s
		v := newVerifier(t, tt.settings)
		p := edit(strings.Replace(payload(), fmt.Sprintf(`"id%d"`, serial), `"a \u0000 b"`, 1), "iat", tt.iat)
		if len(tt.settings.NonceKeys) > 0 {
			p = edit(p, "nonce", `"`+v.Nonce(now)+`"`)
		}
		if got := verdict(v, alice.thumbprint(), alice.sign(alice.header(), p)); got != "" {
			t.Errorf("%s: got %q, want none", tt.name, got)
		}
		name := hash("v1" + alice.thumbprint() + "\x00" + "a \x00 b")
		if got, ok := s.seen[name]; !ok || got != tt.want || len(s.seen) != 1 {
			t.Errorf("%s: the store has %v, want %s for %v", tt.name, s.seen, name, tt.want)
		}
	}
}

func TestStoreFails(t *testing.T) {
	down := errors.New("connection refused")
	s := &store{err: down}
	v := newVerifier(t, dpop.Settings{Store: s})
	_, err := judge(v, dpop.Request{Method: "GET", Path: "/a", Token: token, Thumbprint: alice.thumbprint()}, now, alice.sign(alice.header(), payload()))
	if word(err) != "temporarily_unavailable replay_store" || !errors.Is(err, down) {
		t.Errorf("got %v, want the store's error", err)
	}
	// A bad proof does not reach it.
	s.order = nil
	if got := verdict(v, alice.thumbprint(), alice.sign(alice.header(), with("ath", `"a"`))); got != invalid("proof_ath") || len(s.order) > 0 {
		t.Errorf("a bad proof: got %q and %d calls, want proof_ath and none", got, len(s.order))
	}
}

// One request that two verifiers with one store look at uses its proof up once.
func TestUsedByThisRequest(t *testing.T) {
	shared := &store{}
	a, b := newVerifier(t, dpop.Settings{Store: shared}), newVerifier(t, dpop.Settings{Store: shared})
	other := newVerifier(t, dpop.Settings{Store: &store{}})
	memory := newVerifier(t, dpop.Settings{})
	r := dpop.Request{Method: "GET", Path: "/a", Token: token, Thumbprint: alice.thumbprint()}
	proof := alice.sign(alice.header(), payload())
	for _, tt := range []struct {
		name     string
		verifier *dpop.Verifier
		forget   bool
		want     string
	}{
		{"the first", a, false, ""},
		{"the second with the same store", b, false, ""},
		{"with another store", other, false, ""},
		{"with another store again", other, false, ""},
		{"in memory", memory, false, ""},
		{"in memory again", memory, false, ""},
		{"another request", b, true, invalid("proof_replay")},
		{"another request, another store", other, true, invalid("proof_replay")},
		{"another request, in memory", memory, true, invalid("proof_replay")},
	} {
		if tt.forget {
			r.Used = nil
		}
		got, err := judge(tt.verifier, r, now, proof)
		if word(err) != tt.want {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
		r.Used = append(r.Used, got.Use)
	}
	if len(shared.order) != 2 {
		t.Errorf("the shared store was asked %d times, want once per request", len(shared.order))
	}
	// Another proof in the same request is another proof.
	if _, err := judge(b, r, now, alice.sign(alice.header(), payload())); err != nil || len(shared.order) != 3 {
		t.Errorf("another proof: got %v after %d calls, want none after 3", err, len(shared.order))
	}
}

// A store whose type cannot be compared is asked each time.
type uncomparable struct {
	*store
	_ []int
}

func TestStoreThatCannotBeCompared(t *testing.T) {
	v := newVerifier(t, dpop.Settings{Store: uncomparable{store: &store{}}})
	r := dpop.Request{Method: "GET", Path: "/a", Token: token, Thumbprint: alice.thumbprint()}
	proof := alice.sign(alice.header(), payload())
	got, err := judge(v, r, now, proof)
	if err != nil {
		t.Fatal(err)
	}
	r.Used = []dpop.Use{got.Use}
	if _, err := judge(v, r, now, proof); word(err) != invalid("proof_replay") {
		t.Errorf("got %v, want a replay", err)
	}
}
