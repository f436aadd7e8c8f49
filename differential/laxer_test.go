package differential_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// excuses are the tokens that are accepted here though others refuse them, and
// why that does no harm. No other comparison takes a refusal for granted.
var excuses = []struct {
	name    string
	refused string // by these peers
	crafted
	applies func(header, payload string) bool
}{
	// RFC 9864 gives EdDSA with this curve a name of its own. These do not
	// know it.
	{"Ed25519", "golang-jwt go-jose", crafted{alg: "Ed25519"}, func(header, _ string) bool {
		var h struct{ Alg string }
		json.Unmarshal([]byte(header), &h)
		return h.Alg == "Ed25519"
	}},
	// It takes the white space away before it looks at the signature, which
	// covers it.
	{"white space around the header", "jwx", crafted{mangle: func(string) string {
		return sign("ES256", ` {"alg":"ES256"}`, goodPayload())
	}}, func(header, _ string) bool { return strings.TrimSpace(header) != header }},
	// Keys come from the issuer only, so what is said about keys here is not
	// looked at: not where they are, and not whether it makes sense.
	{"jwk of a secret", "go-jose", crafted{header: `,"jwk":{"kty":"oct","k":"AA"}`}, hasParameter("jwk")},
	{"jwk a number", "go-jose jwx", crafted{header: `,"jwk":1`}, hasParameter("jwk")},
	{"x5c no certificate", "go-jose jwx", crafted{header: `,"x5c":["AA"]`}, hasParameter("x5c")},
	{"jku a number", "jwx", crafted{header: `,"jku":1`}, hasOther("jku")},
	{"x5u a number", "jwx", crafted{header: `,"x5u":1`}, hasOther("x5u")},
	{"x5t a number", "jwx", crafted{header: `,"x5t":1`}, hasOther("x5t", "x5t#S256")},
	{"cty a number", "jwx", crafted{header: `,"cty":1`}, hasOther("cty")},
	{"nonce a number", "go-jose", crafted{header: `,"nonce":1`}, hasOther("nonce")},
	// RFC 8259, section 6, leaves the range of numbers open. Only who decodes
	// the claim meets with it.
	{"a number beyond float64", "golang-jwt go-jose jwx", crafted{payload: `,"x":1e400`}, undecodable},
	{"a number beyond float64 in the header", "golang-jwt go-jose jwx", crafted{header: `,"x":1e400`}, undecodable},
}

func goodPayload() string {
	return fmt.Sprintf(`{"iss":%q,"aud":%q,"exp":%d}`, issuer, audience, in(time.Hour))
}

func hasParameter(name string) func(string, string) bool {
	return func(header, _ string) bool {
		var h map[string]json.RawMessage
		json.Unmarshal([]byte(header), &h)
		return h[name] != nil
	}
}

// hasOther tells headers with one of the parameters as something other than a
// string.
func hasOther(names ...string) func(string, string) bool {
	return func(header, _ string) bool {
		var h map[string]json.RawMessage
		json.Unmarshal([]byte(header), &h)
		return slices.ContainsFunc(names, func(name string) bool { return len(h[name]) > 0 && h[name][0] != '"' })
	}
}

func undecodable(header, payload string) bool {
	var h, p any
	return json.Unmarshal([]byte(header), &h) != nil || json.Unmarshal([]byte(payload), &p) != nil
}

// excused reports whether a peer may refuse a token that is accepted here.
func excused(peer, token string) bool {
	header, payload := decode(token)
	for _, e := range excuses {
		if strings.Contains(e.refused, peer) && e.applies(header, payload) {
			return true
		}
	}
	return false
}

// decode returns the text of a token's header and payload.
func decode(token string) (header, payload string) {
	parts := strings.Split(token+"..", ".")
	h, _ := base64.RawURLEncoding.DecodeString(parts[0])
	p, _ := base64.RawURLEncoding.DecodeString(parts[1])
	return string(h), string(p)
}

func TestExcuses(t *testing.T) {
	auth := newAuth(keySet())
	for _, e := range excuses {
		token := e.token()
		if _, err := verify(t, auth, token); err != nil {
			t.Errorf("%s: got %v, want it accepted", e.name, err)
		}
		for _, p := range peers {
			_, err := p.verify(token)
			if want := strings.Contains(e.refused, p.name); (err != nil) != want || want && !excused(p.name, token) {
				t.Errorf("%s: %s says %v, want refused = %v", e.name, p.name, err, want)
			}
		}
	}
	token := accepted(t, auth, "ES256", "")
	for _, p := range peers {
		if excused(p.name, token) {
			t.Errorf("%s is excused from accepting a good token", p.name)
		}
	}
}

// A token is valid until its "exp", to the fraction of a second. The others cut
// the fraction off.
func TestFractions(t *testing.T) {
	signers() // made outside of the bubble, for the other tests
	synctest.Test(t, func(t *testing.T) {
		auth := newAuth(keySet())
		token := crafted{without: "exp", payload: fmt.Sprintf(`,"exp":%d.5`, in(-leeway))}.token()
		for _, tt := range []struct {
			wait time.Duration
			want string
		}{
			{0, ""},
			{499 * time.Millisecond, ""},
			{time.Millisecond, "expired"},
		} {
			time.Sleep(tt.wait)
			if _, err := auth.Verify(t.Context(), token); reason(err) != tt.want {
				t.Errorf("after %v more: got %v, want %q", tt.wait, err, tt.want)
			}
			for _, p := range peers {
				if _, err := p.verify(token); err == nil && tt.want != "" {
					t.Errorf("after %v more: %s accepts it", tt.wait, p.name)
				}
			}
		}
		if _, err := verifyGolangJWT(token); err == nil {
			t.Error("golang-jwt keeps fractions")
		}
	})
}
