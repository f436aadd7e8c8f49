package differential_test

import (
	"crypto"
	"crypto/rsa"
	"encoding/json"
	"math/big"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

// The vectors for JOSE are tokens, but for their payloads, which are no claims.
// So none of them can be accepted. But a payload is not read before the
// signature holds, and the reason for the refusal tells how far a token came.
func TestWycheproofJOSE(t *testing.T) {
	for _, tt := range []struct {
		file                string
		vectors, held, full int // at least
	}{
		{"json_web_signature_test.json", 401, 26, 19},
		{"json_web_key_test.json", 26, 1, 8},
		{"json_web_crypto_test.json", 83, 2, 3},
	} {
		n, held, full := 0, 0, 0
		for _, g := range vectors(t, tt.file) {
			auth := newAuth(g.document(t))
			valid := false
			for _, v := range g.Tests {
				n++
				_, err := auth.Verify(t.Context(), v.token())
				got, want := signatureHeld(err), v.Result == "valid"
				switch {
				case judgedOtherwise(g, v, want):
				case got != want:
					t.Errorf("%s: %d, %s, %s: got %v, want the signature accepted = %v", tt.file, v.TcID, g.Comment, v.Comment, err, want)
				case got:
					held++
					valid = true
				}
			}
			// Where the vectors have the private key, a token with claims tells
			// whether the public one serves.
			token := g.good(t)
			if token == "" {
				continue
			}
			full++
			if _, err := auth.Verify(t.Context(), token); (err == nil) != (valid || g.Comment == "jws_rsa_roca_key") {
				t.Errorf("%s: %s: got %v, want a token of the key accepted = %v", tt.file, g.Comment, err, valid)
			}
		}
		if n < tt.vectors || held < tt.held || full < tt.full {
			t.Errorf("%s has %d vectors, %d with a good signature, and %d groups with a private key, want %d, %d and %d", tt.file, n, held, full, tt.vectors, tt.held, tt.full)
		}
	}
}

// good returns a token with claims that is signed with the key of the first
// vector, or "" if that is no private key. A key with the exponent 1 opens
// anything to itself and needs no private part.
func (g vectorGroup) good(t *testing.T) string {
	t.Helper()
	header, _ := decode(g.Tests[0].token())
	var h struct{ Alg, Kid string }
	json.Unmarshal([]byte(header), &h)
	text := unsigned(h.Alg, h.Kid)
	if g.Comment == "exponentOne" {
		k := signers()["RS256"].Signer.(*rsa.PrivateKey)
		sig := new(big.Int).SetBytes(signature("RS256", text))
		return text + "." + encode(sig.Exp(sig, big.NewInt(int64(k.E)), k.N).FillBytes(make([]byte, k.Size())))
	}
	for _, key := range keysOf(t, g.Private) {
		var jwk jose.JSONWebKey
		if json.Unmarshal(key, &jwk) == nil && jwk.KeyID == h.Kid {
			if k, ok := jwk.Key.(crypto.Signer); ok {
				return text + "." + encode(signWith(k, h.Alg, text))
			}
		}
	}
	return ""
}

// signatureHeld reports whether the payload is the first thing that is wrong
// with a token.
func signatureHeld(err error) bool {
	return err == nil || strings.Contains(err.Error(), "the payload is not a JSON object") ||
		strings.Contains(err.Error(), "the payload is not valid Unicode")
}

// judgedOtherwise reports whether a vector gets another verdict here than that
// of its author, for a known reason.
func judgedOtherwise(g vectorGroup, v vector, valid bool) bool {
	header, _ := decode(v.token())
	switch {
	case v.JWE != nil:
		return valid // encrypted
	case strings.Contains(header, `"HS`):
		return valid // a shared secret
	case v.Comment == "emptyPayload":
		return valid // no claims are so short
	case g.Comment == "rfc7520" || g.Comment == "rfc7520WithKeyOps":
		// The figures are those of RFC 7520, but to the keys the vectors add an
		// "alg" that the tokens do not have: PS256 for PS384, and "ES521".
		return v.Comment == "Figure20" || v.Comment == "Figure27"
	case v.Comment == "rejectsKeyWithRocaVulnerability":
		// CVE-2017-15361: a key that a faulty device made, and that can be
		// factored. What an issuer's keys are made with is the issuer's to
		// know; package crypto/rsa does not look for it either.
		return !valid
	}
	return false
}

// token returns the text that a vector is about. Of the JSON serializations it
// is the JSON.
func (v vector) token() string {
	text := v.JWS
	if text == nil {
		text = v.JWE
	}
	var token string
	if json.Unmarshal(text, &token) != nil {
		token = string(text)
	}
	return token
}

// document returns the keys of a group for JOSE, and a good one, so that there is
// a key set even if no other key is usable.
func (g vectorGroup) document(t *testing.T) []byte {
	t.Helper()
	key := g.Public
	if key == nil {
		key = g.Private // a shared secret, or a mistake that must not matter
	}
	keys := keysOf(t, key)
	good, err := json.Marshal(publicJWK("good", signers()["EdDSA"].Public()))
	if err != nil {
		t.Fatal(err)
	}
	document, err := json.Marshal(map[string]any{"keys": append(keys, good)})
	if err != nil {
		t.Fatal(err)
	}
	return document
}

// keysOf returns the keys in a JWK set, or the one that text is.
func keysOf(t *testing.T, text json.RawMessage) []json.RawMessage {
	t.Helper()
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(text, &set); err != nil {
		t.Fatal(err)
	}
	if set.Keys == nil {
		set.Keys = []json.RawMessage{text}
	}
	return set.Keys
}
