package differential_test

import (
	"bytes"
	"crypto/ecdsa"
	"encoding/asn1"
	"encoding/base64"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/bearer"
)

// accepted returns a token that auth accepts and has in its cache. padding is
// white space at the end of the payload, for parts of different lengths.
func accepted(t *testing.T, auth *bearer.Middleware, alg, padding string) string {
	t.Helper()
	header := fmt.Sprintf(`{"alg":%q,"kid":%q}`, alg, signers()[alg].kid)
	payload := fmt.Sprintf(`{"iss":%q,"aud":%q,"exp":%d}`, issuer, audience, time.Now().Unix()+3600)
	token := sign(alg, header, payload+padding)
	if _, err := verify(t, auth, token); err != nil {
		t.Fatal(err)
	}
	return token
}

// Any single bit of an accepted token counts.
func TestBits(t *testing.T) {
	eachAlgorithm(t, func(t *testing.T, alg string, _ corpus) {
		auth := newAuth(keySet())
		token := accepted(t, auth, alg, "")
		// A sample where it takes long. Being odd, the steps meet all bits of
		// a byte.
		step := map[string]int{"ES384": 3, "ES512": 9}[alg]
		for i := 0; i < len(token)*8; i += max(1, step) {
			changed := []byte(token)
			changed[i/8] ^= 1 << (i % 8)
			mustRefuse(t, auth, string(changed), fmt.Sprintf("bit %d changed", i))
		}
	})
}

const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

// An accepted token has one spelling: what many readers of base64url take for
// the same is refused.
func TestSpellings(t *testing.T) {
	for _, alg := range []string{"EdDSA", "ES256", "RS256"} {
		auth := newAuth(keySet())
		// Between them the payloads leave 0, 2 and 4 bits of the last character
		// unused. The signatures leave 4.
		for _, padding := range []string{"", " ", "  "} {
			token := accepted(t, auth, alg, padding)
			parts := strings.Split(token, ".")
			refuse := func(what, changed string) {
				t.Helper()
				if changed != token {
					mustRefuse(t, auth, changed, what)
				}
			}
			join := func(i int, part string) string {
				changed := slices.Clone(parts)
				changed[i] = part
				return strings.Join(changed, ".")
			}
			for i, part := range parts {
				decoded, err := base64.RawURLEncoding.DecodeString(part)
				if err != nil {
					t.Fatal(err)
				}
				for _, c := range alphabet {
					refuse("last character", join(i, part[:len(part)-1]+string(c)))
				}
				for _, behind := range []string{"=", "==", "===", "%3D", "A", "AA", "AAA", "AAAA", ".", "=.", "#", "?a=b", ";"} {
					refuse("something behind a part", join(i, part+behind))
					refuse("something before a part", join(i, behind+part))
				}
				refuse("with padding", join(i, base64.URLEncoding.EncodeToString(decoded)))
				refuse("standard alphabet", join(i, base64.RawStdEncoding.EncodeToString(decoded)))
				refuse("standard alphabet with padding", join(i, base64.StdEncoding.EncodeToString(decoded)))
				refuse("hexadecimal", join(i, fmt.Sprintf("%x", decoded)))
				refuse("not encoded", join(i, string(decoded)))
				refuse("upper case", join(i, strings.ToUpper(part)))
				refuse("lower case", join(i, strings.ToLower(part)))
				refuse("without the part", join(i, ""))
				refuse("the part twice", join(i, part+part))
				refuse("one part more", join(i, part+"."+part))
			}
			for i := range len(token) + 1 {
				for _, s := range []string{"\n", "\r", "\r\n", " ", "\t", "\v", "\f", "\x00", "\x7f", "\u00a0", "\u00ad", "\u200b", "\ufeff", "=", "+", "/", "%0A", "."} {
					refuse("something put in", token[:i]+s+token[i:])
				}
				if i < len(token) {
					refuse("a character less", token[:i]+token[i+1:])
					refuse("a character twice", token[:i+1]+token[i:])
					refuse("cut off", token[:i])
					refuse("percent encoding", fmt.Sprintf("%s%%%02X%s", token[:i], token[i], token[i+1:]))
				}
			}
			refuse("in quotes", `"`+token+`"`)
			refuse("with its scheme", "Bearer "+token)
			refuse("twice", token+","+token)
		}
	}
}

// A mutation makes another text of an accepted token. other is another
// accepted one.
var mutations = []struct {
	name   string
	mutate func(g corpus, token, other []string) []string
}{
	{"parts swapped", func(g corpus, token, _ []string) []string {
		g.Shuffle(3, func(i, j int) { token[i], token[j] = token[j], token[i] })
		return token
	}},
	{"a part of another token", func(g corpus, token, other []string) []string {
		i := g.IntN(3)
		token[i] = other[i]
		return token
	}},
	{"a part less", func(g corpus, token, _ []string) []string { return slices.Delete(token, 1, 1+g.IntN(3)) }},
	{"a part more", func(g corpus, token, other []string) []string {
		return slices.Insert(token, g.IntN(4), pick(g, token[0], other[1], other[2], "", "e30"))
	}},
	{"a part cut short", func(g corpus, token, _ []string) []string {
		i := g.IntN(3)
		token[i] = token[i][:g.IntN(len(token[i]))]
		return token
	}},
	{"a part without its beginning", func(g corpus, token, _ []string) []string {
		i := g.IntN(3)
		token[i] = token[i][1+g.IntN(len(token[i])):]
		return token
	}},
	{"some characters changed", func(g corpus, token, _ []string) []string {
		i := g.IntN(3)
		b := []byte(token[i])
		for range 1 + g.IntN(3) {
			b[g.IntN(len(b))] = alphabet[g.IntN(64)]
		}
		token[i] = string(b)
		return token
	}},
	{"some bytes of what is encoded changed", reencode(func(g corpus, b []byte) []byte {
		for range 1 + g.IntN(3) {
			b[g.IntN(len(b))] = byte(g.Uint32())
		}
		return b
	})},
	{"bytes before, between or behind what is encoded", reencode(func(g corpus, b []byte) []byte {
		i := pick(g, 0, g.IntN(len(b)), len(b))
		return slices.Insert(b, i, pick(g, []byte{0}, []byte{' '}, []byte{'\n'}, []byte{0xff}, []byte{0, 0, 0, 0})...)
	})},
	{"bytes of what is encoded taken away", reencode(func(g corpus, b []byte) []byte {
		i := pick(g, 0, g.IntN(len(b)), len(b)-1)
		return slices.Delete(b, i, i+1)
	})},
	{"bytes of what is encoded in another order", reencode(func(g corpus, b []byte) []byte {
		if g.in(2) {
			slices.Reverse(b)
			return b
		}
		i := pick(g, len(b)/2, g.IntN(len(b)))
		return slices.Concat(b[i:], b[:i]) // r and s changed places, with ECDSA
	})},
	{"a signature that fits all", func(g corpus, token, _ []string) []string {
		size := base64.RawURLEncoding.DecodedLen(len(token[2]))
		half := pick(g, make([]byte, size/2), bytes.Repeat([]byte{0xff}, size/2), big.NewInt(1).FillBytes(make([]byte, max(1, size/2))))
		token[2] = encode(slices.Concat(half, half))
		return token
	}},
	{"the signature in DER", func(g corpus, token, _ []string) []string {
		b, _ := base64.RawURLEncoding.DecodeString(token[2])
		r, s := new(big.Int).SetBytes(b[:len(b)/2]), new(big.Int).SetBytes(b[len(b)/2:])
		der, _ := asn1.Marshal([]*big.Int{r, s})
		token[2] = encode(der)
		return token
	}},
}

func reencode(change func(g corpus, b []byte) []byte) func(g corpus, token, other []string) []string {
	return func(g corpus, token, _ []string) []string {
		i := g.IntN(3)
		b, err := base64.RawURLEncoding.DecodeString(token[i])
		if err == nil && len(b) > 0 {
			token[i] = encode(change(g, b))
		}
		return token
	}
}

// What is made of an accepted token without the key is refused, unless nothing
// changed.
func TestMutations(t *testing.T) {
	eachAlgorithm(t, func(t *testing.T, alg string, g corpus) {
		auth := newAuth(keySet())
		var tokens []string
		for range 8 {
			token := sign(alg, g.object(g.header(alg)), g.object(g.payload()))
			if _, err := verify(t, auth, token); err != nil {
				t.Fatal(err)
			}
			tokens = append(tokens, token)
		}
		changed := 0
		for _, m := range mutations {
			for range rounds(alg, 100) {
				token, other := pick(g, tokens...), pick(g, tokens...)
				mutant := strings.Join(m.mutate(g, strings.Split(token, "."), strings.Split(other, ".")), ".")
				if slices.Contains(tokens, mutant) {
					continue
				}
				changed++
				mustRefuse(t, auth, mutant, m.name)
			}
		}
		if want := len(mutations) * rounds(alg, 100) / 2; changed < want {
			t.Errorf("%d tokens changed, want at least %d", changed, want)
		}
	})
}

// The one exception: of an ECDSA signature r, s anybody can make r, n-s. JOSE
// knows no rule that would refuse one of the two, so deny-lists go by "jti".
func TestTwoSignatures(t *testing.T) {
	for _, alg := range []string{"ES256", "ES384", "ES512"} {
		auth := newAuth(keySet())
		token := accepted(t, auth, alg, "")
		i := strings.LastIndexByte(token, '.') + 1
		b, err := base64.RawURLEncoding.DecodeString(token[i:])
		if err != nil {
			t.Fatal(err)
		}
		s := new(big.Int).SetBytes(b[len(b)/2:])
		s.Sub(signers()[alg].Signer.(*ecdsa.PrivateKey).Params().N, s)
		s.FillBytes(b[len(b)/2:])
		twin := token[:i] + encode(b)
		if ok, by, err := compare(t, auth, twin); !ok || len(by) != len(peers) || twin == token {
			t.Errorf("%s: n-s is accepted by %q, here: %v", alg, by, err)
		}
	}
}

// A member that stands twice makes a token invalid wherever it stands, even if
// it says the same both times: readers differ in which of the two they take.
func TestMembersTwice(t *testing.T) {
	auth := newAuth(keySet())
	g := newCorpus(1)
	for range 100 {
		header, payload := g.header("EdDSA"), g.payload()
		for _, part := range []members{header, payload} {
			for _, m := range part {
				twice := append(slices.Clone(part), [2]string{m[0], pick(g, m[1], g.value(2))})
				h, p := header, payload
				if &part[0] == &header[0] {
					h = twice
				} else {
					p = twice
				}
				mustRefuse(t, auth, sign("EdDSA", g.object(h), g.object(p)), "a member twice")
			}
		}
		inside := g.object(members{{"a", g.value(1)}, {"a", g.value(1)}})
		for range g.IntN(5) {
			inside = pick(g, g.array(g.value(1), inside), g.object(members{{"b", inside}}))
		}
		payload.set("x", inside)
		mustRefuse(t, auth, sign("EdDSA", g.object(header), g.object(payload)), "a member twice inside")
	}
}

// No token does without the claims that are checked, and nothing takes their
// place.
func TestClaimsRemoved(t *testing.T) {
	auth := newAuth(keySet())
	good := func() members {
		return members{
			{"iss", fmt.Sprintf("%q", issuer)},
			{"aud", fmt.Sprintf("%q", audience)},
			{"exp", fmt.Sprint(time.Now().Unix() + 3600)},
			{"scope", `"read"`},
		}
	}
	g := newCorpus(1)
	for i, claim := range good()[:3] {
		name, value := claim[0], claim[1]
		refuse := func(what string, header, payload members) {
			t.Helper()
			if header == nil {
				header = members{{"alg", `"EdDSA"`}, {"kid", `"ed25519"`}}
			}
			mustRefuse(t, auth, sign("EdDSA", g.object(header), g.object(payload)), what)
		}
		without := slices.Delete(good(), i, i+1)
		with := func(name, value string) members { return append(slices.Clone(without), [2]string{name, value}) }

		refuse("no "+name, nil, without)
		for mask := 1; mask < 8; mask++ {
			variant := []byte(name)
			for bit := range variant {
				if mask>>bit&1 == 1 {
					variant[bit] -= 'a' - 'A'
				}
			}
			refuse("instead of "+name, nil, with(string(variant), value))
		}
		for _, other := range []string{
			name + " ", " " + name, name + "\x00", name + "\u200b", "\ufeff" + name, "\u202e" + name, name + "s", name[:2], "",
			strings.ReplaceAll(name, "s", "ſ"), strings.ReplaceAll(name, "a", "а"), strings.ReplaceAll(name, "e", "е"),
			"/" + name, "$." + name, "claims." + name, name + ".0",
		} {
			if other != name {
				refuse("instead of "+name, nil, with(other, value))
			}
		}
		for _, other := range []string{"null", "true", "false", `""`, "[]", "{}", "[null]", "-1", `[{}]`, `"null"`,
			`{"` + name + `":` + value + "}", "[[" + value + "]]", "[" + value + ",null]", "[" + value + ",0]"} {
			refuse("instead of "+value, nil, with(name, other))
		}
		refuse(name+" inside", nil, with("claims", g.object(members{{name, value}})))
		refuse(name+" inside an array", nil, with("claims", g.array(g.object(members{{name, value}}))))
		// RFC 7519, section 5.3, is for encrypted tokens: these here have no
		// claims in their header.
		refuse(name+" in the header", members{{"alg", `"EdDSA"`}, {"kid", `"ed25519"`}, {name, value}}, without)
	}

	// A scope is checked by the routes that need one.
	h := auth.RequireScope("read")(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	for _, tt := range []struct {
		name   string
		scope  [2]string
		status int
	}{
		{"as it is", [2]string{"scope", `"read"`}, 200},
		{"no scope", [2]string{"x", `"read"`}, 403},
		{"Scope", [2]string{"Scope", `"read"`}, 403},
		{"empty", [2]string{"scope", `""`}, 403},
		{"null", [2]string{"scope", `null`}, 403},
		{"nested", [2]string{"scope", `[["read"]]`}, 403},
		{"an object", [2]string{"scope", `{"read":true}`}, 403},
		{"roles", [2]string{"roles", `["read"]`}, 403},
	} {
		token := sign("EdDSA", `{"alg":"EdDSA"}`, g.object(append(good()[:3], tt.scope)))
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Authorization", "Bearer "+token)
		w := httptest.NewRecorder()
		if h.ServeHTTP(w, r); w.Code != tt.status {
			t.Errorf("%s: status = %d, want %d", tt.name, w.Code, tt.status)
		}
	}
}
