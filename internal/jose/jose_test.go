package jose_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"example.com/bearer/internal/jose"
	"example.com/bearer/internal/strictjson"
)

func TestCut(t *testing.T) {
	for _, tt := range []struct {
		token string
		want  jose.Compact
		ok    bool
	}{
		{"a.b.c", jose.Compact{Header: "a", Payload: "b", Signature: "c", Signed: "a.b"}, true},
		{"..", jose.Compact{Signed: "."}, true},
		{"a.b.", jose.Compact{Header: "a", Payload: "b", Signed: "a.b."[:3]}, true},
		{"", jose.Compact{}, false},
		{"a", jose.Compact{}, false},
		{"a.b", jose.Compact{}, false},
		{"a.b.c.d", jose.Compact{}, false},
		{"a.b..c", jose.Compact{}, false},
		{"a.b.c.d.e", jose.Compact{}, false},
	} {
		if got, ok := jose.Cut(tt.token); got != tt.want || ok != tt.ok {
			t.Errorf("Cut(%q) = %+v, %v, want %+v, %v", tt.token, got, ok, tt.want, tt.ok)
		}
	}
}

func TestMethod(t *testing.T) {
	for _, alg := range jose.Algorithms {
		if m := jose.Method(alg); m == nil || m.Alg() != alg {
			t.Errorf("Method(%q) = %v", alg, m)
		}
	}
	if m := jose.Method("Ed25519"); m == nil || m.Alg() != "EdDSA" {
		t.Errorf("Method(Ed25519) = %v, want EdDSA", m)
	}
	for _, alg := range []string{"", "none", "None", "HS256", "HS384", "HS512", "rs256", "ES256K", "ML-DSA-44", "Ed448"} {
		if m := jose.Method(alg); m != nil {
			t.Errorf("Method(%q) = %v, want none", alg, m)
		}
	}
}

// The keys of RFC 7638, section 3.1, RFC 9449, figure 3, and RFC 8037, appendix A.3.
const (
	rsaN   = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
	rsaJWK = `{"kty":"RSA","n":"` + rsaN + `","e":"AQAB"`
	ecJWK  = `{"kty":"EC","x":"l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs","y":"9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA","crv":"P-256"`
	edJWK  = `{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"`
)

func TestThumbprint(t *testing.T) {
	for jwk, want := range map[string]string{
		rsaJWK: "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs",
		ecJWK:  "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I",
		edJWK:  "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k",
	} {
		for _, more := range []string{`}`, `,"kid":"a","use":"sig","ext":true,"key_ops":["verify"],"x5c":["?"]}`} {
			k, err := jose.ReadProofKey([]byte(jwk + more))
			if err != nil || k.Thumbprint != want {
				t.Errorf("%s: got %+v, %v, want the thumbprint %s", jwk+more, k, err, want)
			}
		}
	}
}

// What each reader makes of a JWK: an issuer's, and a stranger's in a proof.
func TestReadKey(t *testing.T) {
	b := func(more string) string { return ecJWK + more + "}" }
	r := func(n, e string) string { return `{"kty":"RSA","n":"` + n + `","e":"` + e + `"}` }
	others := func(n int) (more string) {
		for i := range n {
			more += fmt.Sprintf(`,"m%d":0`, i)
		}
		return more
	}
	for _, tt := range []struct {
		name, text    string
		issuer, proof bool
	}{
		{"as it is", b(``), true, true},
		{"other members", b(`,"kid":"k","x5t":"?","ext":true`), true, true},
		{"64 members", b(others(60)), true, true},
		{"65 members", b(others(61)), true, false},
		{"null members", b(`,"alg":null,"kid":null,"use":null,"n":null,"key_ops":null,"x5c":null`), true, true},
		{"empty arrays", b(`,"key_ops":[],"x5c":[],"alg":[],"oth":[]`), true, true},
		{"private member", b(`,"d":"AQAB"`), false, false},
		{"private member null", b(`,"d":null`), true, false},
		{"private member empty", b(`,"d":""`), false, false},
		{"private member []", b(`,"d":[]`), true, false},
		{"oth null", b(`,"oth":null`), true, false},
		{"oth with a prime", b(`,"oth":[{}]`), false, false},
		{"k null", b(`,"k":null`), true, false},
		{"use sig", b(`,"use":"sig"`), true, true},
		{"use SIG", b(`,"use":"SIG"`), false, false},
		{"use enc", b(`,"use":"enc"`), false, false},
		{"use empty", b(`,"use":""`), false, false},
		{"use a number", b(`,"use":1`), false, false},
		{"key_ops verify", b(`,"key_ops":["sign","verify"]`), true, true},
		{"key_ops verifyX", b(`,"key_ops":["verifyX"]`), false, false},
		{"key_ops a string", b(`,"key_ops":"verify"`), false, false},
		{"alg of the key", b(`,"alg":"ES256"`), true, true},
		{"alg of another curve", b(`,"alg":"ES384"`), false, false},
		{"alg empty", b(`,"alg":""`), false, false},
		{"alg unknown", b(`,"alg":"ES256K"`), false, false},
		{"alg a number", b(`,"alg":256`), false, false},
		{"kid a number", b(`,"kid":5`), false, false},
		{"member twice", b(`,"kty":"EC"`), false, false},
		{"trailing data", b(``) + "x", false, false},
		{"an array", `[` + b(``) + `]`, false, false},
		{"secret", `{"kty":"oct","k":"AAAA"}`, false, false},
		{"secret without value", `{"kty":"oct","k":null}`, false, false},
		{"off the curve", strings.Replace(b(``), "9VE4", "9VE5", 1), false, false},
		{"no y", strings.Replace(b(``), `"y"`, `"Y"`, 1), false, false},
		{"another curve's name", strings.Replace(b(``), "P-256", "P-384", 1), false, false},
		{"secp256k1", strings.Replace(b(``), "P-256", "secp256k1", 1), false, false},
		{"X25519", strings.Replace(edJWK+"}", "Ed25519", "X25519", 1), false, false},
		{"short x", strings.Replace(edJWK+"}", "11qY", "", 1), false, false},
		{"Ed25519", edJWK + `,"alg":"Ed25519"}`, true, true},
		{"EdDSA", edJWK + `,"alg":"EdDSA"}`, true, true},
		{"RSA", r(rsaN, "AQAB"), true, true},
		{"RSA for PS256", rsaJWK + `,"alg":"PS256"}`, true, true},
		{"RSA-OAEP", rsaJWK + `,"alg":"RSA-OAEP"}`, false, false},
		{"RSA 1024", r("_"+rsaN[:170], "AQAB"), false, false},
		{"RSA even", r(rsaN[:len(rsaN)-1]+"g", "AQAB"), false, false},
		{"exponent 1", r(rsaN, "AQ"), false, false},
		{"exponent 2", r(rsaN, "Ag"), false, false},
		{"exponent 3", r(rsaN, "Aw"), true, true},
		{"exponent 2^32+1", r(rsaN, "AQAAAAE"), false, false},
		{"exponent 2^32+3", r(rsaN, "AQAAAAM"), false, false}, // 3 in an int of 32 bits
		{"exponent with a zero before it", r(rsaN, "AAEAAQ"), true, false},
		{"no exponent", r(rsaN, ""), false, false},
		{"padding", r(rsaN, "AQAB=="), true, false},
		{"padding of n", r(rsaN+"==", "AQAB"), true, false},
		{"padding of x", strings.Replace(b(``), `WBFs"`, `WBFs="`, 1), true, false},
		{"padding of y", strings.Replace(b(``), `vGRDA"`, `vGRDA="`, 1), true, false},
		{"padding of an Ed25519 key", strings.Replace(edJWK+"}", `cHURo"`, `cHURo="`, 1), true, false},
	} {
		_, _, err := jose.ReadKey([]byte(tt.text))
		if got := err == nil; got != tt.issuer {
			t.Errorf("%s: an issuer's key is accepted = %v (%v), want %v", tt.name, got, err, tt.issuer)
		}
		_, err = jose.ReadProofKey([]byte(tt.text))
		if got := err == nil; got != tt.proof {
			t.Errorf("%s: a proof's key is accepted = %v (%v), want %v", tt.name, got, err, tt.proof)
		}
	}
}

// What an operator reads about a key that is not used.
func TestReadKeyTellsWhy(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{`{"kty":1}`, `"kty" is not a string`},
		{ecJWK[:len(ecJWK)-len(`"P-256"`)] + `256}`, `"crv" is not a string`},
		{`{"kty":"EC","x":1}`, `"x" is not a string`},
		{`{"kty":"EC","y":1}`, `"y" is not a string`},
		{`{"kty":"RSA","n":1}`, `"n" is not a string`},
		{`{"kty":"RSA","e":65537}`, `"e" is not a string`},
		{ecJWK + `,"kid":1}`, `"kid" is not a string`},
		{ecJWK + `,"alg":256}`, `"alg" is not a string`},
		{ecJWK + `,"use":{}}`, `"use" is not a string`},
		{`{"kty":"oct","k":"AAAA"}`, "a shared secret"},
		{`{"kty":"oct"}`, "a shared secret"},
		{ecJWK + `,"d":"AQ"}`, `private part "d": it is compromised`},
		{rsaJWK + `,"dq":"AQ"}`, `private part "dq": it is compromised`},
		{ecJWK + `,"use":"enc"}`, `"use" is "enc"`},
		{ecJWK + `,"key_ops":["sign"]}`, `"key_ops" lacks "verify"`},
		{ecJWK + `,"alg":"ES256K"}`, `"alg" is "ES256K"`},
		{ecJWK + `,"alg":"RS256"}`, `"alg" is "RS256", which is for another type of key`},
		{strings.Replace(ecJWK, "9VE4", "9VE5", 1) + `}`, "not on the specified curve"},
		{`{"kty":"RSA","n":"` + rsaN[:170] + `","e":"AQAB"}`, "bits, want 2048 to 8192"},
		{`{"kty":"RSA","n":"` + rsaN + `","e":"Ag"}`, "not an RSA key"},
		{strings.Replace(edJWK, "Ed25519", "X25519", 1) + `}`, "not a key for signatures"},
	} {
		if _, _, err := jose.ReadKey([]byte(tt.text)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q in it", tt.text, err, tt.want)
		}
	}
}

// The key id is told of a key that cannot be used, too.
func TestReadKeyTellsTheID(t *testing.T) {
	for _, text := range []string{ecJWK + `,"kid":"a","use":"enc"}`, `{"kid":"a","kty":"AKP"}`, `{"kid":"a","kty":"oct"}`} {
		if k, kid, err := jose.ReadKey([]byte(text)); k != nil || kid != "a" || err == nil {
			t.Errorf("%s: got %v, %q, %v, want the id a and an error", text, k, kid, err)
		}
	}
}

func TestNumericDate(t *testing.T) {
	for _, tt := range []struct {
		value string
		want  time.Time
		ok    bool
	}{
		{"0", time.Unix(0, 0), true},
		{"9", time.Unix(9, 0), true},
		{"1800000000", time.Unix(1800000000, 0), true},
		{"1800000000.5", time.Unix(1800000000, 5e8), true},
		{"18e8", time.Unix(1800000000, 0), true},
		{"253402300799", time.Unix(253402300799, 0), true},
		{"253402300800", time.Time{}, false},
		{"253402300799.0", time.Unix(253402300799, 0), true},
		{"253402300799.5", time.Time{}, false},
		{"9999999999999999999", time.Time{}, false}, // more than 63 bits
		{"18446744073709551616", time.Time{}, false},
		{"18446744073709551617", time.Time{}, false}, // 1, but for 64 bits
		{"999999999999999999", time.Time{}, false},
		{"0.0000000018E+18", time.Unix(1800000000, 0), true},
		{"1800000000.0" + strings.Repeat("0", 52), time.Unix(1800000000, 0), true},
		{"1800000000.0" + strings.Repeat("0", 53), time.Time{}, false}, // 65 bytes
		{"1800000000" + strings.Repeat("0", 90) + "e-90", time.Time{}, false},
		{"1800000000e-000", time.Unix(1800000000, 0), true},
		{"1.8e+009", time.Unix(1800000000, 0), true}, // as C on Windows wrote it
		{"0.0e100", time.Time{}, false},
		{"1e99", time.Time{}, false},
		{"1e-99", time.Unix(0, 0), true},
		{"1e400", time.Time{}, false},
		{"-1", time.Time{}, false},
		{"-0", time.Time{}, false},
		{"1e-400", time.Time{}, false},
		{"1E-400", time.Time{}, false},
		{"-1e-400", time.Time{}, false},
		{`"1800000000"`, time.Time{}, false},
		{"null", time.Time{}, false},
		{"true", time.Time{}, false},
		{"[1800000000]", time.Time{}, false},
	} {
		if got, ok := jose.NumericDate(strictjson.Value(tt.value)); ok != tt.ok || ok && !got.Equal(tt.want) {
			t.Errorf("%s: got %v, %v, want %v, %v", tt.value, got, ok, tt.want, tt.ok)
		}
	}
}
