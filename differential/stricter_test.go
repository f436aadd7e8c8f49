package differential_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// A crafted token is a good one but for what is set here.
type crafted struct {
	alg     string                   // of the header; "" is ES256
	kid     string                   // "" is the key for alg
	header  string                   // members behind the others
	without string                   // claim that is left out
	payload string                   // members behind the others
	sign    func(text string) []byte // nil signs as alg says
	mangle  func(token string) string
}

func (c crafted) token() string {
	if c.alg == "" {
		c.alg = "ES256"
	}
	if c.kid == "" {
		c.kid = signers()[c.alg].kid
	}
	if c.sign == nil {
		c.sign = func(text string) []byte { return signature(c.alg, text) }
	}
	payload := "{"
	for _, m := range []string{fmt.Sprintf(`"iss":%q`, issuer), fmt.Sprintf(`"aud":%q`, audience), fmt.Sprintf(`"exp":%d`, in(time.Hour))} {
		if c.without == "" || !strings.HasPrefix(m, `"`+c.without+`"`) {
			payload += m + ","
		}
	}
	text := encode(fmt.Sprintf(`{"alg":%q,"kid":%q%s}`, c.alg, c.kid, c.header)) + "." +
		encode(strings.TrimSuffix(payload, ",")+c.payload+"}")
	token := text + "." + encode(c.sign(text))
	if c.mangle != nil {
		token = c.mangle(token)
	}
	return token
}

func in(d time.Duration) int64 { return time.Now().Add(d).Unix() }

func pss(salt int) func(string) []byte {
	return func(text string) []byte {
		k := signers()["PS256"].Signer.(*rsa.PrivateKey)
		sig, err := rsa.SignPSS(rand.Reader, k, crypto.SHA256, sum(crypto.SHA256, text), &rsa.PSSOptions{SaltLength: salt})
		if err != nil {
			panic(err)
		}
		return sig
	}
}

// p256 signs with the key for ES256 and writes r and s with size bytes each.
func p256(hash crypto.Hash, size int) func(string) []byte {
	return func(text string) []byte {
		sig := signECDSA(signers()["ES256"].Signer.(*ecdsa.PrivateKey), hash, text)
		pad := make([]byte, size-32)
		return slices.Concat(pad, sig[:32], pad, sig[32:])
	}
}

// insert puts what into part i of a token, behind its fourth byte.
func insert(i int, what string) func(string) string {
	return func(token string) string {
		parts := strings.Split(token, ".")
		parts[i] = parts[i][:4] + what + parts[i][4:]
		return strings.Join(parts, ".")
	}
}

// insertAndSign is like insert, with a signature of the result.
func insertAndSign(i int, what string) func(string) string {
	return func(token string) string {
		token = insert(i, what)(token)
		text := token[:strings.LastIndexByte(token, '.')]
		return text + "." + encode(signature("ES256", text))
	}
}

// allPeers are the peers, and golang-jwt once more as most programs use it: with
// a struct for the claims.
var allPeers = map[byte]func(string) (claims, error){'G': verifyGolangJWT, 'R': verifyStruct, 'J': verifyGoJose, 'X': verifyJWX}

// What is refused here though others accept it, and why. The letters say which
// of them do: G is golang-jwt with MapClaims, R with RegisteredClaims, J go-jose,
// X jwx. All get the right key and check the same claims.
func TestStricter(t *testing.T) {
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	many := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `,"x%d":1`, i)
		}
		return b.String()
	}
	past, future := in(-2*time.Hour), in(time.Hour)
	f := fmt.Sprintf
	tests := []struct {
		name     string
		accepted string
		reason   string // here
		crafted
		why string
	}{
		// The header.
		{"crit, of a claim", "GRX", "crit", crafted{header: `,"crit":["exp"]`}, "RFC 7515, section 4.1.11: no extension is understood"},
		{"crit, unknown", "GRX", "crit", crafted{header: `,"crit":["x"],"x":1`}, "as before"},
		{"crit, empty", "GRJX", "crit", crafted{header: `,"crit":[]`}, "as before: must not be empty"},
		{"crit, null", "GRJX", "crit", crafted{header: `,"crit":null`}, "as before: must be an array"},
		{"b64", "GRJX", "crit", crafted{header: `,"b64":true`}, "RFC 7797 changes what is signed, and must be in crit"},
		{"b64 in crit", "GRJX", "crit", crafted{header: `,"b64":true,"crit":["b64"]`}, "as before"},
		{"b64 false", "GR", "crit", crafted{header: `,"b64":false`}, "as before; these do not look at it"},
		{"b64 false in crit", "GR", "crit", crafted{header: `,"b64":false,"crit":["b64"]`}, "as before"},
		{"typ of a DPoP proof", "GRJX", "type", crafted{header: `,"typ":"dpop+jwt"`}, "RFC 8725, section 3.11: tokens of one kind must not pass for another"},
		{"typ of a logout token", "GRJX", "type", crafted{header: `,"typ":"logout+jwt"`}, "as before"},
		{"typ empty", "GRJX", "type", crafted{header: `,"typ":""`}, "as before"},
		{"typ a number", "GRJ", "malformed", crafted{header: `,"typ":1`}, "RFC 7515, section 4.1.9: a string"},
		{"typ null", "GRJX", "malformed", crafted{header: `,"typ":null`}, "as before"},
		{"kid too long", "GRJX", "malformed", crafted{kid: strings.Repeat("k", 257)}, "nobody needs one, and it would be looked for and logged"},
		{"kid empty", "GRJX", "malformed", crafted{mangle: func(string) string {
			return sign("ES256", `{"alg":"ES256","kid":""}`, goodPayload())
		}}, "an id of no key is no way to ask for any key"},
		{"kid with a line break", "GRJX", "malformed", crafted{kid: "a\nb"}, "as before"},

		// Members twice.
		{"alg twice", "GRX", "malformed", crafted{header: `,"alg":"ES256"`}, "RFC 7515, section 4: readers differ in which of the two counts"},
		{"an unknown parameter twice", "GRX", "malformed", crafted{header: `,"x":1,"x":2`}, "as before"},
		{"a parameter twice inside", "GRX", "malformed", crafted{header: `,"x":{"a":1,"a":2}`}, "as before"},
		{"exp twice", "GRX", "malformed", crafted{without: "exp", payload: f(`,"exp":%d,"exp":%d`, past, future)}, "RFC 7519, section 4"},
		{"exp twice, once escaped", "GRX", "malformed", crafted{without: "exp", payload: f(`,"\u0065xp":%d,"exp":%d`, past, future)}, "as before"},
		{"iss twice", "GRX", "malformed", crafted{without: "iss", payload: f(`,"iss":"x","iss":%q`, issuer)}, "as before"},
		{"an unknown claim twice", "GRX", "malformed", crafted{payload: `,"x":1,"x":2`}, "as before"},
		{"a claim twice inside", "GRX", "malformed", crafted{payload: `,"x":{"a":1,"a":2}`}, "as before"},

		// Names in other letters: encoding/json takes them for the same.
		{"Exp alone", "R", "no_expiry", crafted{without: "exp", payload: f(`,"Exp":%d`, future)}, "RFC 7519, section 4.1.4: names are case-sensitive"},
		{"EXP besides", "R", "expired", crafted{without: "exp", payload: f(`,"exp":%d,"EXP":%d`, past, future)}, "as before"},
		{"Iss besides", "R", "issuer", crafted{without: "iss", payload: f(`,"iss":"x","Iss":%q`, issuer)}, "as before"},
		{"iſs alone", "R", "issuer", crafted{without: "iss", payload: f(`,"iſs":%q`, issuer)}, "as before: a long s folds too"},
		{"Aud besides", "R", "audience", crafted{without: "aud", payload: f(`,"aud":"x","Aud":%q`, audience)}, "as before"},

		// Claims of other types.
		{"exp a string", "RX", "claim_type", crafted{without: "exp", payload: f(`,"exp":"%d"`, future)}, "RFC 7519, section 2: a NumericDate is a number"},
		{"exp in RFC 3339", "X", "claim_type", crafted{without: "exp", payload: f(`,"exp":%q`, time.Now().Add(time.Hour).Format(time.RFC3339))}, "as before"},
		{"nbf a string", "RX", "claim_type", crafted{payload: `,"nbf":"1"`}, "as before"},
		{"iat a string", "RX", "claim_type", crafted{payload: `,"iat":"1"`}, "as before"},
		{"nbf null", "RJ", "claim_type", crafted{payload: `,"nbf":null`}, "as before"},
		{"iat null", "RJ", "claim_type", crafted{payload: `,"iat":null`}, "as before"},
		{"nbf negative", "GRJX", "claim_type", crafted{payload: `,"nbf":-1`}, "no token is older than 1970"},
		{"nbf minus zero", "GRJX", "claim_type", crafted{payload: `,"nbf":-0`}, "as before"},
		{"nbf 9.3e18", "GR", "claim_type", crafted{payload: `,"nbf":9.3e18`}, "in 300 billion years: it wraps around to the past"},
		{"nbf 1e300", "GR", "claim_type", crafted{payload: `,"nbf":1e300`}, "as before"},
		{"exp beyond 9999", "GRJX", "claim_type", crafted{without: "exp", payload: `,"exp":253402300800`}, "cannot be written as a date"},
		{"exp in milliseconds", "GRJX", "claim_type", crafted{without: "exp", payload: f(`,"exp":%d000`, future)}, "as before: an issuer's mistake"},
		{"sub null", "RJX", "claim_type", crafted{payload: `,"sub":null`}, "RFC 7519, section 4.1.2: a string"},
		{"jti null", "GRJX", "claim_type", crafted{payload: `,"jti":null`}, "as before, section 4.1.7"},
		{"cnf", "GRJX", "bound", crafted{payload: `,"cnf":{"jkt":"0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}`}, "RFC 7800: no bearer token, and nobody asked for the proof"},

		// JSON.
		{"payload too deep", "GRJX", "malformed", crafted{payload: `,"x":` + deep(32)}, "bounds the work for a stranger's token"},
		{"header too deep", "GRJX", "malformed", crafted{header: `,"x":` + deep(32)}, "as before"},
		{"far too deep", "GRJX", "malformed", crafted{payload: `,"x":` + deep(5000)}, "as before"},
		{"300 header parameters", "GRJX", "malformed", crafted{header: many(300)}, "as before"},
		{"more than 16 KiB", "GRJX", "too_long", crafted{payload: `,"x":"` + strings.Repeat("x", 16<<10) + `"`}, "as before"},
		{"payload not UTF-8", "GRJX", "malformed", crafted{payload: ",\"x\":\"\xff\""}, "RFC 8259, section 8.1: two texts would be read as one"},
		{"header not UTF-8", "GRJX", "malformed", crafted{header: ",\"x\":\"\xff\""}, "as before"},
		{"a surrogate in UTF-8", "GRJX", "malformed", crafted{payload: ",\"x\":\"\xed\xa0\x80\""}, "as before"},
		{"a lone surrogate", "GRJX", "malformed", crafted{payload: `,"x":"\ud800"`}, "RFC 8259, section 8.2: as before"},

		// The form: what tells tokens apart must tell the same tokens apart
		// everywhere.
		{"unused bits in the signature", "GRJX", "malformed", crafted{alg: "EdDSA", mangle: func(token string) string {
			i := strings.IndexByte(alphabet, token[len(token)-1])
			return token[:len(token)-1] + alphabet[i+1:i+2]
		}}, "two texts for one token: caches, deny-lists and hashes go by the text"},
		{"a line break in the signature", "GRJX", "malformed", crafted{mangle: insert(2, "\r\n")}, "as before"},
		{"a line break in the payload", "JX", "malformed", crafted{mangle: insert(1, "\n")}, "as before"},
		{"a line break in the header", "JX", "malformed", crafted{mangle: insert(0, "\n")}, "as before"},
		{"a line break in the payload, and signed", "GR", "malformed", crafted{mangle: insertAndSign(1, "\n")}, "as before"},
		{"a line break in the header, and signed", "GR", "malformed", crafted{mangle: insertAndSign(0, "\r")}, "as before"},
		{"a line break behind the token", "GRJX", "malformed", crafted{mangle: func(token string) string { return token + "\n" }}, "as before"},
		{"a space before the token", "X", "malformed", crafted{mangle: func(token string) string { return " " + token }}, "as before"},
		{"padding", "X", "malformed", crafted{mangle: func(token string) string { return token + "==" }}, "as before"},

		// The signature.
		{"PSS without salt", "GRJ", "signature", crafted{alg: "PS256", sign: pss(0)}, "RFC 7518, section 3.5: as long as the hash"},
		{"PSS with less salt", "GRJ", "signature", crafted{alg: "PS256", sign: pss(31)}, "as before"},
		{"PSS with more salt", "GRJ", "signature", crafted{alg: "PS256", sign: pss(64)}, "as before"},
		{"ES384 on P-256", "X", "key", crafted{alg: "ES384", kid: "P-256", sign: p256(crypto.SHA384, 32)}, "RFC 7518, section 3.4: each has its curve"},
		{"ES512 on P-256", "X", "key", crafted{alg: "ES512", kid: "P-256", sign: p256(crypto.SHA512, 32)}, "as before"},
		{"ES384 on P-256, as long as on P-384", "GR", "key", crafted{alg: "ES384", kid: "P-256", sign: p256(crypto.SHA384, 48)}, "as before"},
		{"ES512 on P-256, as long as on P-521", "GR", "key", crafted{alg: "ES512", kid: "P-256", sign: p256(crypto.SHA512, 66)}, "as before"},
	}
	auth := newAuth(keySet())
	for _, alg := range algorithms {
		if ok, by, err := compare(t, auth, crafted{alg: alg}.token()); !ok || len(by) != len(peers) {
			t.Errorf("a good token is accepted by %q, here: %v", by, err)
		}
	}
	for _, tt := range tests {
		token := tt.token()
		c, err := verify(t, auth, token)
		if err == nil || reason(err) != tt.reason {
			t.Errorf("%s: got %+v, %v, want the reason %s (%s)", tt.name, c, err, tt.reason, tt.why)
		}
		for letter, verify := range allPeers {
			_, err := verify(token)
			if want := strings.IndexByte(tt.accepted, letter) >= 0; (err == nil) != want {
				t.Errorf("%s: %c says %v, want accepted = %v", tt.name, letter, err, want)
			}
		}
	}
}
