package jwks_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"example.com/bearer/bearertest"
	"example.com/bearer/internal/jose"
	"example.com/bearer/internal/jwks"
)

func encode(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

type jwk = map[string]any

// with returns k with changes; nil removes a member.
func with(k jwk, changes jwk) jwk {
	changed := jwk{}
	for _, m := range []jwk{k, changes} {
		for name, value := range m {
			changed[name] = value
			if value == nil {
				delete(changed, name)
			}
		}
	}
	return changed
}

// published returns the keys that iss publishes.
func published(t testing.TB, iss *bearertest.Issuer) []json.RawMessage {
	t.Helper()
	resp, err := iss.Client().Get(strings.TrimSuffix(iss.URL, "/") + keysPath)
	if err != nil {
		t.Fatal(err)
	}
	var set struct{ Keys []json.RawMessage }
	if err := json.NewDecoder(resp.Body).Decode(&set); err != nil {
		t.Fatal(err)
	}
	return set.Keys
}

func rsaJWK(k *rsa.PublicKey) jwk {
	return jwk{"kty": "RSA", "kid": "odd", "n": encode(string(k.N.Bytes())), "e": encode(string(big.NewInt(int64(k.E)).Bytes()))}
}

func ecJWK(t *testing.T, k *ecdsa.PublicKey) jwk {
	point, err := k.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	half := len(point) / 2
	return jwk{"kty": "EC", "crv": k.Params().Name, "kid": "odd", "x": encode(string(point[1 : 1+half])), "y": encode(string(point[1+half:]))}
}

// One odd key among good ones: it is skipped, or used, and harms no other.
func TestOddKeys(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaPublic, ecPublic := rsaJWK(&rsaKey.PublicKey), ecJWK(t, &ecKey.PublicKey)
	edPublic := jwk{"kty": "OKP", "crv": "Ed25519", "kid": "odd", "x": encode(string(edKey.Public().(ed25519.PublicKey)))}
	modulus := func(bits uint) jwk {
		n := new(big.Int).Lsh(big.NewInt(1), bits-1)
		return with(rsaPublic, jwk{"n": encode(string(n.SetBit(n, 0, 1).Bytes()))})
	}
	octet := func(s any, f func([]byte) []byte) string {
		b, _ := base64.RawURLEncoding.DecodeString(s.(string))
		return encode(string(f(b)))
	}
	prepend := func(b []byte) []byte { return append([]byte{0}, b...) }
	flip := func(b []byte) []byte { b[5] ^= 1; return b }

	tests := []struct {
		name   string
		key    any
		alg    string // of the token that the key signs
		signer any
		used   bool
	}{
		{"RSA", rsaPublic, "RS256", rsaKey, true},
		{"EC", ecPublic, "ES256", ecKey, true},
		{"Ed25519", edPublic, "EdDSA", edKey, true},
		{"Ed25519 by its new name", with(edPublic, jwk{"alg": "Ed25519"}), "EdDSA", edKey, true},
		{"use sig", with(rsaPublic, jwk{"use": "sig"}), "RS256", rsaKey, true},
		{"use sig and key_ops verify", with(rsaPublic, jwk{"use": "sig", "key_ops": []string{"sign", "verify"}}), "RS256", rsaKey, true},
		{"unknown members", with(rsaPublic, jwk{"issuer": "x", "exp": 1, "KTY": "oct", "Use": "enc", "D": "x"}), "RS256", rsaKey, true},
		{"x5t as old Auth0 tenants have it", with(rsaPublic, jwk{"x5t": "MUYyQTNENEI1QzZEN0U4RjkwQTFCMkMzRDRFNUY2QTdCOEM5RDBFMQ", "x5c": []string{"AAAA"}}), "RS256", rsaKey, true},
		{"x5c nonsense", with(rsaPublic, jwk{"x5c": "nonsense", "x5u": "http://evil.example.com"}), "RS256", rsaKey, true},
		{"empty arrays", with(rsaPublic, jwk{"oth": []string{}, "key_ops": []string{}, "x5c": []string{}}), "RS256", rsaKey, true},
		{"null members", json.RawMessage(strings.Replace(string(marshal(rsaPublic)), "{", `{"d":null,"k":null,"alg":null,"use":null,"crv":null,"x5c":null,"key_ops":null,`, 1)), "RS256", rsaKey, true},
		{"use SIG", with(rsaPublic, jwk{"use": "SIG"}), "RS256", rsaKey, false},
		{"key_ops verifyX", with(rsaPublic, jwk{"key_ops": []string{"verifyX"}}), "RS256", rsaKey, false},
		{"padded", with(rsaPublic, jwk{"n": rsaPublic["n"].(string) + "=="}), "RS256", rsaKey, true},
		{"e with a leading zero", with(rsaPublic, jwk{"e": "AAEAAQ"}), "RS256", rsaKey, true},
		{"x with a leading zero", with(ecPublic, jwk{"x": octet(ecPublic["x"], prepend)}), "ES256", ecKey, true},

		{"use enc", with(rsaPublic, jwk{"use": "enc"}), "RS256", rsaKey, false},
		{"use of SPIFFE", with(rsaPublic, jwk{"use": "jwt-svid"}), "RS256", rsaKey, false},
		{"use empty", with(rsaPublic, jwk{"use": ""}), "RS256", rsaKey, false},
		{"alg empty", with(rsaPublic, jwk{"alg": ""}), "RS256", rsaKey, false},
		{"too deep", with(rsaPublic, jwk{"x": json.RawMessage(strings.Repeat("[", 100) + strings.Repeat("]", 100))}), "RS256", rsaKey, false},
		{"a lone surrogate", with(rsaPublic, jwk{"z": json.RawMessage(`"\ud800"`)}), "RS256", rsaKey, false},
		{"not UTF-8", json.RawMessage(strings.Replace(string(marshal(rsaPublic)), "{", "{\"z\":\"\xff\",", 1)), "RS256", rsaKey, false},
		{"use a number", with(rsaPublic, jwk{"use": 1}), "RS256", rsaKey, false},
		{"key_ops without verify", with(rsaPublic, jwk{"key_ops": []string{"sign"}}), "RS256", rsaKey, false},
		{"key_ops empty", with(rsaPublic, jwk{"key_ops": []string{}}), "RS256", rsaKey, true},
		{"key_ops a string", with(rsaPublic, jwk{"key_ops": "verify"}), "RS256", rsaKey, false},
		{"alg of another type", with(rsaPublic, jwk{"alg": "ES256"}), "RS256", rsaKey, false},
		{"alg of another hash", with(rsaPublic, jwk{"alg": "RS512"}), "RS256", rsaKey, false},
		{"alg RSA-OAEP", with(rsaPublic, jwk{"alg": "RSA-OAEP"}), "RS256", rsaKey, false},
		{"alg HS256", with(rsaPublic, jwk{"alg": "HS256"}), "RS256", rsaKey, false},
		{"alg a number", with(rsaPublic, jwk{"alg": 1}), "RS256", rsaKey, false},
		{"kid a number", with(rsaPublic, jwk{"kid": 1}), "RS256", rsaKey, false},
		{"private RSA", with(rsaPublic, jwk{"d": encode(string(rsaKey.D.Bytes()))}), "RS256", rsaKey, false},
		{"private RSA, a prime only", with(rsaPublic, jwk{"p": encode(string(rsaKey.Primes[0].Bytes()))}), "RS256", rsaKey, false},
		{"private EC", with(ecPublic, jwk{"d": "AA"}), "ES256", ecKey, false},
		{"private Ed25519", with(edPublic, jwk{"d": nil, "D": nil, "k": "x"}), "EdDSA", edKey, false},
		{"RSA without e", with(rsaPublic, jwk{"e": nil}), "RS256", rsaKey, false},
		{"RSA without n", with(rsaPublic, jwk{"n": nil}), "RS256", rsaKey, false},
		{"RSA, n in the standard alphabet", with(rsaPublic, jwk{"n": "+/" + rsaPublic["n"].(string)}), "RS256", rsaKey, false},
		{"RSA, n a number", with(rsaPublic, jwk{"n": 12345}), "RS256", rsaKey, false},
		{"RSA, e is 1", with(rsaPublic, jwk{"e": "AQ"}), "RS256", rsaKey, false},
		{"RSA, e is even", with(rsaPublic, jwk{"e": "AQAA"}), "RS256", rsaKey, false},
		{"RSA, e is 0", with(rsaPublic, jwk{"e": "AA"}), "RS256", rsaKey, false},
		{"RSA, e wraps to 3", with(rsaPublic, jwk{"e": "AQAAAAAAAAAD"}), "RS256", rsaKey, false},
		{"RSA, n is even", with(rsaPublic, jwk{"n": octet(rsaPublic["n"], func(b []byte) []byte { b[255] &^= 1; return b })}), "RS256", rsaKey, false},
		{"RSA with 512 bits", modulus(512), "RS256", rsaKey, false},
		{"RSA with 1024 bits", modulus(1024), "RS256", rsaKey, false},
		{"RSA with 2047 bits", modulus(2047), "RS256", rsaKey, false},
		{"RSA with 8193 bits", modulus(8193), "RS256", rsaKey, false},
		{"RSA with 65536 bits", modulus(65536), "RS256", rsaKey, false},
		{"EC off the curve", with(ecPublic, jwk{"x": octet(ecPublic["x"], flip)}), "ES256", ecKey, false},
		{"EC without y", with(ecPublic, jwk{"y": nil}), "ES256", ecKey, false},
		{"EC at infinity", with(ecPublic, jwk{"x": "AA", "y": "AA"}), "ES256", ecKey, false},
		{"EC on another curve", with(ecPublic, jwk{"crv": "P-384"}), "ES256", ecKey, false},
		{"secp256k1", with(ecPublic, jwk{"crv": "secp256k1"}), "ES256", ecKey, false},
		{"Ed25519, short", with(edPublic, jwk{"x": edPublic["x"].(string)[:40]}), "EdDSA", edKey, false},
		{"Ed448", with(edPublic, jwk{"crv": "Ed448"}), "EdDSA", edKey, false},
		{"X25519", with(edPublic, jwk{"crv": "X25519"}), "EdDSA", edKey, false},
		{"ML-DSA", jwk{"kty": "AKP", "alg": "ML-DSA-44", "kid": "odd", "pub": "AAAA"}, "RS256", rsaKey, false},
		{"oct", jwk{"kty": "oct", "kid": "odd", "k": "c2VjcmV0c2VjcmV0c2VjcmV0"}, "HS256", []byte("secretsecretsecret"), false},
		{"no kty", with(rsaPublic, jwk{"kty": nil}), "RS256", rsaKey, false},
		{"kty in other letters", with(rsaPublic, jwk{"kty": "rsa"}), "RS256", rsaKey, false},
		{"a member twice", json.RawMessage(strings.Replace(string(marshal(rsaPublic)), "{", `{"kid":"odd",`, 1)), "RS256", rsaKey, false},
		{"a string", "key", "RS256", rsaKey, false},
		{"null", nil, "RS256", rsaKey, false},
		{"an array", []any{rsaPublic}, "RS256", rsaKey, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, order := range []string{"first", "last"} {
				b := newBed(t)
				iss := b.iss
				keys := published(t, iss)
				if order == "first" {
					keys = append([]json.RawMessage{marshal(tt.key)}, keys...)
				} else {
					keys = append(keys, marshal(tt.key))
				}
				iss.SetKeys([]byte(`{"keys":[` + string(bytes.Join(rawMessages(keys), []byte(","))) + `]}`))
				if got := b.status(b.token()); got != 200 {
					t.Fatalf("the good key is lost: status %d", got)
				}
				before := iss.Fetches()
				signed := encode(fmt.Sprintf(`{"alg":%q,"kid":"odd"}`, tt.alg)) + "." + encode("{}")
				sig, err := jwt.GetSigningMethod(tt.alg).Sign(signed, tt.signer)
				if err != nil {
					t.Fatal(err)
				}
				want := 401
				if tt.used {
					want = 200
				}
				if tt.alg == "HS256" { // which no verifier asks for
					continue
				}
				if got := b.status(signed + "." + encode(string(sig))); got != want {
					t.Errorf("%s: a token signed with it: status %d, want %d", order, got, want)
				}
				// A key id that the set lists is not asked for again.
				listed := bytes.Contains(marshal(tt.key), []byte(`"kid":"odd"`)) && tt.key != nil && tt.name != "an array" && tt.name != "not UTF-8"
				if n := iss.Fetches() - before; listed && n != 0 {
					t.Errorf("%s: %d fetches for a key that was skipped, want none", order, n)
				}
			}
		})
	}
}

func rawMessages(all []json.RawMessage) (raw [][]byte) {
	for _, m := range all {
		raw = append(raw, m)
	}
	return raw
}

func marshal(v any) json.RawMessage {
	if raw, ok := v.(json.RawMessage); ok {
		return raw // also what is no JSON
	}
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

// A token of RSA with the other hashes and paddings is none of a key that names
// one.
func TestKeyServesItsAlgorithm(t *testing.T) {
	b := newBed(t)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	public := rsaJWK(&key.PublicKey)
	b.iss.SetKeys(marshal(map[string]any{"keys": []any{
		with(public, jwk{"kid": "any"}), with(public, jwk{"kid": "RS512", "alg": "RS512"}), with(public, jwk{"kid": "PS256", "alg": "PS256"}),
	}}))
	for _, kid := range []string{"any", "RS512", "PS256"} {
		for _, alg := range []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"} {
			signed := encode(fmt.Sprintf(`{"alg":%q,"kid":%q}`, alg, kid)) + "." + encode("{}")
			sig, err := jwt.GetSigningMethod(alg).Sign(signed, key)
			if err != nil {
				t.Fatal(err)
			}
			want := 401
			if kid == "any" || kid == alg {
				want = 200
			}
			if got := b.status(signed + "." + encode(string(sig))); got != want {
				t.Errorf("%s with the key %s: status %d, want %d", alg, kid, got, want)
			}
		}
	}
}

// Keys serve the accepted algorithms only, and those that serve none are told of.
func TestAcceptedAlgorithms(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		rsaIssuer := bearertest.NewIssuer(issuerURL)
		rsaIssuer.UseAlgorithm("RS256")
		var rs, es jwk
		json.Unmarshal(published(t, rsaIssuer)[0], &rs)
		json.Unmarshal(published(t, b.iss)[0], &es)
		b.iss.SetKeys(marshal(map[string]any{"keys": []any{with(rs, jwk{"alg": nil, "kid": "r"}), es}}))
		b.source = b.open(func(c *jwks.Config) { c.Algorithms = []string{"ES256", "PS256"} })
		set, err := b.source.Current(t.Context(), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		for alg, want := range map[string]int{"ES256": 1, "PS256": 1, "RS256": 0, "PS512": 0} {
			if found := set.Candidates(alg, ""); len(found) != want {
				t.Errorf("%s: %d keys, want %d", alg, len(found), want)
			}
		}
		b.source = b.open(func(c *jwks.Config) { c.Algorithms = []string{"PS384"} })
		set = mustCurrent(t, b.source)
		if found := set.Candidates("ES256", b.iss.KeyID()); len(found) != 0 || !set.Lists(b.iss.KeyID()) {
			t.Errorf("a key without an accepted algorithm: %d candidates, listed: %v", len(found), set.Lists(b.iss.KeyID()))
		}
		synctest.Wait()
		if !strings.Contains(b.log.String(), "serves no accepted algorithm") {
			t.Errorf("logged %s", b.log)
		}
	})
}

func mustCurrent(t *testing.T, s *jwks.Source) *jwks.Set {
	t.Helper()
	set, err := s.Current(t.Context(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// All keys of one id that serve the algorithm are tried, as RFC 7517, section 4.5,
// allows several of them. So are all keys for a token without id.
func TestManyCandidates(t *testing.T) {
	for name, kid := range map[string]any{"one id": "one", "no id": nil} {
		for n, want := range map[int]int{2: 200, 6: 200, 16: 200, 17: 401} {
			t.Run(fmt.Sprint(name, n), func(t *testing.T) {
				b := newBed(t)
				for range n - 1 {
					b.iss.Rotate()
				}
				var keys []any
				for _, raw := range published(t, b.iss) {
					var k jwk
					json.Unmarshal(raw, &k)
					keys = append(keys, with(k, jwk{"kid": kid}), with(k, jwk{"kid": kid})) // each of them twice
				}
				// Keys that do not serve the algorithm take nobody's place.
				other := bearertest.NewIssuer(issuerURL)
				other.UseAlgorithm("ES384")
				for range 20 {
					keys = append([]any{published(t, other)[0]}, keys...)
					other.UseAlgorithm("ES384")
				}
				b.iss.SetKeys(marshal(map[string]any{"keys": keys}))
				token := b.keyless()
				if kid != nil {
					token = b.unknown("one")
				}
				key, err := verify(t.Context(), b.source, token)
				if got := statusOf(err); got != want {
					t.Errorf("the last of %d keys: status %d, want %d", n, got, want)
				}
				if err == nil && key.JWK.Key().(*ecdsa.PublicKey).X.Cmp(lastKey(t, b.iss).X) != 0 {
					t.Error("another key was named")
				}
			})
		}
	}
}

func lastKey(t *testing.T, iss *bearertest.Issuer) *ecdsa.PublicKey {
	iss.SetKeys(nil)
	keys := published(t, iss)
	k, _, err := jose.ReadKey(keys[len(keys)-1])
	if err != nil {
		t.Fatal(err)
	}
	return k.Public.(*ecdsa.PublicKey)
}

// Of two keys with one id, the one that can serve the token's algorithm counts.
func TestOneIDForTwoTypes(t *testing.T) {
	ec, r, enc := newBed(t), newBed(t), newBed(t)
	r.iss.UseAlgorithm("RS256")
	enc.iss.UseAlgorithm("PS256")
	rename := func(b *bed, change jwk) json.RawMessage {
		var k jwk
		json.Unmarshal(published(t, b.iss)[0], &k)
		return marshal(with(k, change))
	}
	keys := []json.RawMessage{rename(enc, jwk{"kid": "one", "use": "enc"}), rename(ec, jwk{"kid": "one"}), rename(r, jwk{"kid": "one"})}
	for range 2 {
		ec.source = ec.open()
		ec.iss.SetKeys(marshal(map[string]any{"keys": keys}))
		for alg, b := range map[string]*bed{"ES256": ec, "RS256": r} {
			if _, err := verify(t.Context(), ec.source, b.iss.Sign(`{"alg":"`+alg+`","kid":"one"}`, "{}")); err != nil {
				t.Errorf("%s: %v", alg, err)
			}
		}
		keys[1], keys[2] = keys[2], keys[1]
	}
}

// The id of a key that was skipped is known, and is tried with no other key.
func TestSkippedKeyIsListed(t *testing.T) {
	b := newBed(t)
	var k jwk
	json.Unmarshal(published(t, b.iss)[0], &k)
	b.iss.SetKeys(marshal(map[string]any{"keys": []any{k, jwk{"kid": "skipped", "kty": "odd"}}}))
	set := mustCurrent(t, b.source)
	if found := set.Candidates("ES256", "skipped"); len(found) != 0 || !set.Lists("skipped") {
		t.Errorf("%d candidates, listed: %v, want none, but listed", len(found), set.Lists("skipped"))
	}
	if found := set.Candidates("ES256", "nobody's"); len(found) != 0 || set.Lists("nobody's") {
		t.Errorf("an unknown id: %d candidates, listed: %v", len(found), set.Lists("nobody's"))
	}
}

func TestManyKeys(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		keys := published(t, b.iss)
		for i := range 2000 {
			k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			keys = append(keys, marshal(with(ecJWK(t, &k.PublicKey), jwk{"kid": fmt.Sprint("k", i), "use": "sig"})))
		}
		document := marshal(map[string]any{"keys": keys})
		if len(document) > 1<<20 {
			t.Fatalf("the test's set has %d bytes", len(document))
		}
		b.iss.SetKeys(document)
		if got := b.status(b.token()); got != 200 {
			t.Errorf("status %d, want 200", got)
		}
		if n := b.source.Stats().Keys; n != 2001 {
			t.Errorf("%d keys, want 2001", n)
		}
		synctest.Wait()
		if n := len(b.log.String()); n > 2000 || n == 0 {
			t.Errorf("%d bytes logged", n)
		}
	})
}

// A document of many nothings is refused, or skipped, in a few words.
func TestManyOddKeys(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		nothings := strings.Repeat(`1,`, 400000)
		b.iss.SetKeys([]byte(`{"keys":[` + nothings + `2]}`))
		if e := b.unavailable(b.token()); len(e.Error()) > 2000 || !strings.Contains(e.Error(), "400001 skipped") {
			t.Errorf("got %.3000v", e)
		}
		b.source = b.open()
		b.iss.SetKeys([]byte(`{"keys":[` + nothings + `{"kid":"` + strings.Repeat("y", 10000) + `","kty":"` + strings.Repeat("x", 1000) + `"}]}`))
		if got := b.status(b.token()); got != 401 {
			t.Errorf("one key, which is odd: status %d, want 401", got)
		}
		synctest.Wait()
		if n := len(b.log.String()); n > 4000 || !strings.Contains(b.log.String(), "skipped=400001") {
			t.Errorf("%d bytes logged: %.4000s", n, b.log)
		}
	})
}

// A key whose algorithm, id, issuer or material changes is another key, and the
// old one is withdrawn.
func TestKeyChanges(t *testing.T) {
	octet := func(name string, change func([]byte)) func(k jwk) jwk {
		return func(k jwk) jwk {
			b, _ := base64.RawURLEncoding.DecodeString(k[name].(string))
			change(b)
			return with(k, jwk{name: encode(string(b))})
		}
	}
	to := func(changes jwk) func(jwk) jwk { return func(k jwk) jwk { return with(k, changes) } }
	other := bearertest.NewIssuer(issuerURL)
	var theirs jwk
	json.Unmarshal(published(t, other)[0], &theirs)
	edPublic, _, _ := ed25519.GenerateKey(rand.Reader)
	for name, tt := range map[string]struct {
		alg    string
		change func(jwk) jwk
		stays  bool
	}{
		"nothing":          {"ES256", to(nil), true},
		"what counts less": {"ES256", to(jwk{"x5t": "a", "ext": true, "use": nil, "alg": nil}), true},
		"alg":              {"RS256", to(jwk{"alg": "PS256"}), false},
		"no alg":           {"RS256", to(jwk{"alg": nil}), false},
		"kid":              {"ES256", to(jwk{"kid": "renamed"}), false},
		"no kid":           {"ES256", to(jwk{"kid": nil}), false},
		"issuer":           {"ES256", to(jwk{"issuer": "https://login.example.com/b"}), false},
		"n":                {"RS256", octet("n", func(b []byte) { b[100] ^= 1 }), false},
		"e":                {"RS256", to(jwk{"e": "Aw"}), false},
		"x and y":          {"ES256", to(jwk{"x": theirs["x"], "y": theirs["y"]}), false},
		"y alone":          {"ES256", negateY, false},
		"x of Ed25519":     {"EdDSA", to(jwk{"x": encode(string(edPublic))}), false},
		"use":              {"ES256", to(jwk{"use": "enc"}), false},
		"private":          {"ES256", to(jwk{"d": "AQAB"}), false},
		"type":             {"ES256", to(jwk{"kty": "AKP"}), false},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bed) {
				b.iss.UseAlgorithm(tt.alg)
				var before jwk
				if err := json.Unmarshal(published(t, b.iss)[0], &before); err != nil {
					t.Fatal(err)
				}
				token := b.token()
				key, err := verify(t.Context(), b.source, token)
				if err != nil {
					t.Fatal(err)
				}
				b.iss.SetKeys(marshal(map[string]any{"keys": []any{tt.change(before)}}))
				time.Sleep(10 * time.Minute)
				b.status(token) // starts the refresh
				synctest.Wait()
				if err := b.source.Stats().Err; err != nil {
					t.Fatal(err)
				}
				if key.Withdrawn() == tt.stays {
					t.Errorf("withdrawn: %v, want it to stay: %v", key.Withdrawn(), tt.stays)
				}
				again, err := verify(t.Context(), b.source, token)
				if tt.stays && again != key {
					t.Errorf("got %p, %v, want the key of before, %p", again, err, key)
				} else if !tt.stays && err == nil && again == key {
					t.Error("the old key goes on")
				}
			})
		})
	}
}

// negateY returns the other point with the same x.
func negateY(k jwk) jwk {
	b, _ := base64.RawURLEncoding.DecodeString(k["y"].(string))
	y := new(big.Int).SetBytes(b)
	y.Sub(elliptic.P256().Params().P, y)
	return with(k, jwk{"y": encode(string(y.FillBytes(make([]byte, 32))))})
}

// A set that is of no use leaves the old one in place.
func TestSetReplacedByNonsense(t *testing.T) {
	for _, document := range []string{``, `{}`, `null`, `[]`, `{"keys":[]}`, `{"keys":null}`, `{"keys":{}}`, `{"error":"x"}`, `<html>`,
		`{"keys":[{}]}`, `{"keys":[null]}`, `{"keys":[{"kty":"RSA"}]`, `{"keys":[{"kty":"RSA"}]}x`, `{"keys":[{"kty":"RSA"}],"keys":[]}`, `{"Keys":[{"kty":"RSA"}]}`} {
		inBubble(t, func(t *testing.T, b *bed) {
			token := b.token()
			b.want("first", token, 200, 0, 1)
			b.iss.SetKeys([]byte(document))
			b.want("unknown key", b.unknown("x"), 503, 0, 1)
			time.Sleep(12 * time.Hour)
			b.want("known key, "+document, token, 200, 0, 1)
		})
	}
}

// A key set without any key that can be used withdraws what was there.
func TestSetReplacedByUnusableKeys(t *testing.T) {
	for _, key := range []string{`{"kty":"oct","k":"AAAA","kid":"key-1"}`, `{"kty":"RSA","kid":"key-1"}`, `{"kty":"AKP","kid":"key-1"}`, `{"kty":"EC","kty":"EC"}`} {
		inBubble(t, func(t *testing.T, b *bed) {
			token := b.token()
			old, err := verify(t.Context(), b.source, token)
			if err != nil {
				t.Fatal(err)
			}
			b.iss.SetKeys([]byte(`{"keys":[` + key + `]}`))
			if got := b.status(b.unknown("x")); got != 401 {
				t.Errorf("an unknown key: status %d, want 401", got)
			}
			if got := b.status(token); got != 401 || !old.Withdrawn() {
				t.Errorf("%s: status %d, withdrawn: %v, want 401", key, got, old.Withdrawn())
			}
			if stats := b.source.Stats(); stats.Keys != 0 || stats.Err != nil {
				t.Errorf("%+v, want no keys and no error", stats)
			}
			// It is probably a mistake, and soon mended.
			b.iss.SetKeys(nil)
			time.Sleep(time.Minute)
			b.status(token)
			synctest.Wait()
			if got := b.status(token); got != 200 {
				t.Errorf("mended: status %d, want 200", got)
			}
		})
	}
}

// Sets in memory keep their keys, and not the documents that they were read from.
func TestMemory(t *testing.T) {
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	b := newBed(t)
	space := strings.Repeat(" ", 900<<10)
	document := fmt.Sprintf(`{"keys":[%s,{"kty":"odd","kid":"skipped"}]%s}`, published(t, b.iss)[0], space)
	b.iss.SetKeys([]byte(document))
	good := site{metadataPath: `{"issuer":"ISSUER","jwks_uri":"KEYS"` + space + `}`}.answer(b, issuerURL, keysURL)
	b.setAnswer(good)
	sources := make([]*jwks.Source, 20)
	mustCurrent(t, b.open(discovery))
	before := heap()
	for i := range sources {
		sources[i] = b.open(discovery)
		mustCurrent(t, sources[i])
	}
	if grown := int64(heap()) - int64(before); grown > 4<<20 {
		t.Errorf("%d sets of 1 KiB from documents of 900 KiB keep %d KiB", len(sources), grown>>10)
	}
	runtime.KeepAlive(sources)
}
