package bearer_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"example.com/bearer"
	"example.com/bearer/bearertest"
)

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
				iss, auth := newAuth(t)
				keys := published(t, iss)
				if order == "first" {
					keys = append([]json.RawMessage{marshal(tt.key)}, keys...)
				} else {
					keys = append(keys, marshal(tt.key))
				}
				iss.SetKeys([]byte(`{"keys":[` + string(bytes.Join(rawMessages(keys), []byte(","))) + `]}`))
				if _, err := auth.Verify(t.Context(), iss.Token(audience, nil)); err != nil {
					t.Fatalf("the good key is lost: %v", err)
				}
				before := iss.Fetches()
				signed := encode(fmt.Sprintf(`{"alg":%q,"kid":"odd"}`, tt.alg)) + "." + encode(payload(iss, ""))
				sig, err := jwt.GetSigningMethod(tt.alg).Sign(signed, tt.signer)
				if err != nil {
					t.Fatal(err)
				}
				_, err = auth.Verify(t.Context(), signed+"."+encode(string(sig)))
				if (err == nil) != tt.used {
					t.Errorf("%s: a token signed with it: %v, want it accepted: %v", order, err, tt.used)
				}
				if err != nil && statusOf(err) != 401 {
					t.Errorf("%s: a token signed with it: status %d, want 401", order, statusOf(err))
				}
				// A key id that the set lists is not asked for again.
				listed := bytes.Contains(marshal(tt.key), []byte(`"kid":"odd"`)) && tt.alg != "HS256" && tt.key != nil && tt.name != "an array" && tt.name != "not UTF-8"
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

// Of two keys with one id, the one that can serve the token's algorithm counts.
func TestOneIDForTwoKeys(t *testing.T) {
	ec, r, enc := bearertest.NewIssuer("https://login.example.com/"), bearertest.NewIssuer("https://login.example.com/"), bearertest.NewIssuer("https://login.example.com/")
	r.UseAlgorithm("RS256")
	enc.UseAlgorithm("PS256")
	rename := func(keys []json.RawMessage, change jwk) json.RawMessage {
		var k jwk
		json.Unmarshal(keys[0], &k)
		return marshal(with(k, change))
	}
	keys := []json.RawMessage{
		rename(published(t, enc), jwk{"kid": "one", "use": "enc"}),
		rename(published(t, ec), jwk{"kid": "one"}),
		rename(published(t, r), jwk{"kid": "one"}),
	}
	for range 2 {
		auth := newMiddleware(t, ec)
		ec.SetKeys(marshal(map[string]any{"keys": keys}))
		for alg, iss := range map[string]*bearertest.Issuer{"ES256": ec, "RS256": r} {
			if _, err := auth.Verify(t.Context(), iss.Sign(`{"alg":"`+alg+`","kid":"one"}`, payload(iss, ""))); err != nil {
				t.Errorf("%s: %v", alg, err)
			}
		}
		keys[1], keys[2] = keys[2], keys[1]
	}
}

func TestManyKeys(t *testing.T) {
	iss, auth := newAuth(t)
	keys := published(t, iss)
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
	iss.SetKeys(document)
	if _, err := auth.Verify(t.Context(), iss.Token(audience, nil)); err != nil {
		t.Error(err)
	}
}

// A document of a million nothings is refused in a few words.
func TestManyOddKeys(t *testing.T) {
	var log syncBuffer
	iss, auth := newAuth(t, func(c *bearer.Config) {
		c.Logger = slog.New(slog.NewTextHandler(io.MultiWriter(&log, &logs), nil))
	})
	iss.SetKeys([]byte(`{"keys":[` + strings.Repeat(`1,`, 400000) + `{"kty":"` + strings.Repeat("x", 1000) + `"}]}`))
	_, err := auth.Verify(t.Context(), iss.Token(audience, nil))
	if statusOf(err) != 503 || len(err.Error()) > 2000 || !strings.Contains(err.Error(), "400001 skipped") {
		t.Errorf("got %.3000v", err)
	}
	if n := len(log.String()); n > 2000 {
		t.Errorf("%d bytes logged", n)
	}
}

// Whether a key is skipped shows in the reason: a key that is not fails by the
// signature only.
func TestKeyIsSkipped(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	public := rsaJWK(&rsaKey.PublicKey)
	modulus := func(bits uint) jwk {
		n := new(big.Int).Lsh(big.NewInt(1), bits-1)
		return with(public, jwk{"n": encode(string(n.SetBit(n, 0, 1).Bytes()))})
	}
	even := new(big.Int).SetBit(new(big.Int).Set(rsaKey.N), 0, 0)
	for name, tt := range map[string]struct {
		key  jwk
		used bool
	}{
		"as it is":       {public, true},
		"2047 bits":      {modulus(2047), false},
		"2048 bits":      {modulus(2048), true},
		"8192 bits":      {modulus(8192), true},
		"8193 bits":      {modulus(8193), false},
		"n even":         {with(public, jwk{"n": encode(string(even.Bytes()))}), false},
		"e is 1":         {with(public, jwk{"e": "AQ"}), false},
		"e is 3":         {with(public, jwk{"e": "Aw"}), true},
		"e is even":      {with(public, jwk{"e": "AQAA"}), false},
		"e is 0":         {with(public, jwk{"e": "AA"}), false},
		"e wraps to 3":   {with(public, jwk{"e": "AQAAAAAAAAAD"}), false},
		"e of 33 bits":   {with(public, jwk{"e": "AQAAAAE"}), false},
		"private q":      {with(public, jwk{"q": "AQ"}), false},
		"private dp":     {with(public, jwk{"dp": "AQ"}), false},
		"private dq":     {with(public, jwk{"dq": "AQ"}), false},
		"private qi":     {with(public, jwk{"qi": "AQ"}), false},
		"private oth":    {with(public, jwk{"oth": []string{}}), true},
		"private d null": {with(public, jwk{"d": json.RawMessage("null")}), true},
	} {
		t.Run(name, func(t *testing.T) {
			iss, auth := newAuth(t)
			iss.SetKeys(marshal(map[string]any{"keys": []any{published(t, iss)[0], tt.key}}))
			_, err := auth.Verify(t.Context(), encode(`{"alg":"RS256","kid":"odd"}`)+"."+encode(payload(iss, ""))+"."+strings.Repeat("A", 342))
			var e *bearer.Error
			if !errors.As(err, &e) || strings.HasPrefix(e.Err.Error(), "signature") != tt.used {
				t.Errorf("got %v, want the key used: %v", err, tt.used)
			}
		})
	}
}

// A key whose algorithm, id or issuer changes is another key: the tokens of the
// old one are refused, also those in the cache.
func TestKeyChanges(t *testing.T) {
	const template = "https://login.example.com/{tenantid}"
	for name, tt := range map[string]struct {
		before, after jwk
	}{
		"alg":    {jwk{"alg": nil}, jwk{"alg": "PS256"}},
		"kid":    {jwk{}, jwk{"kid": "renamed"}},
		"issuer": {jwk{"issuer": template}, jwk{"issuer": "https://login.example.com/b"}},
	} {
		for _, size := range []int{0, -1} {
			t.Run(fmt.Sprint(name, size), func(t *testing.T) {
				inBubble(t, func(t *testing.T, b *bed) {
					b.iss.UseAlgorithm("RS256")
					var key jwk
					if err := json.Unmarshal(published(t, b.iss)[0], &key); err != nil {
						t.Fatal(err)
					}
					publish := func(changes jwk) {
						b.iss.SetKeys(marshal(map[string]any{"keys": []any{with(key, changes)}}))
					}
					token := func(kid any) string {
						return b.iss.Sign(fmt.Sprintf(`{"alg":"RS256","kid":%q}`, kid), fmt.Sprintf(
							`{"iss":"https://login.example.com/a","tid":"a","aud":%q,"exp":%d}`, audience, time.Now().Add(time.Hour).Unix()))
					}
					publish(tt.before)
					old := token(key["kid"])
					for range 3 {
						if got := b.status(old); got != 200 {
							t.Fatalf("before: status %d, want 200", got)
						}
					}
					publish(tt.after)
					time.Sleep(10 * time.Minute)
					b.status(old) // starts the refresh
					synctest.Wait()
					if got := b.status(old); got != 401 {
						t.Errorf("after: status %d, want 401", got)
					}
					if kid := tt.after["kid"]; kid != nil {
						if got := b.status(token(kid)); got != 200 {
							t.Errorf("under its new id: status %d, want 200", got)
						}
					}
				}, func(c *bearer.Config) { c.Issuer, c.IssuerTemplate, c.TokenCache = "", template, size })
			})
		}
	}
}

// Headers are remembered up to a number and a length.
func TestHeaderMemory(t *testing.T) {
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	for _, tt := range []struct{ n, length int }{{5000, 600}, {500, 9000}} {
		iss, auth := newAuth(t, func(c *bearer.Config) { c.TokenCache = -1; c.Logger = quiet })
		iss.UseAlgorithm("EdDSA")
		pad := strings.Repeat("x", tt.length)
		before := heap()
		for i := range tt.n {
			token := iss.Sign(fmt.Sprintf(`{"alg":"EdDSA","kid":%q,"x":"%d%s"}`, iss.KeyID(), i, pad), payload(iss, ""))
			if _, err := auth.Verify(t.Context(), token); err != nil {
				t.Fatal(err)
			}
		}
		if grown := int64(heap()) - int64(before); grown > 3<<20 {
			t.Errorf("%d headers of %d bytes: %d KiB, want 3 MiB at most", tt.n, tt.length, grown>>10)
		}
		runtime.KeepAlive(auth)
	}
}

// Of two keys with one id and one algorithm the first counts.
func TestOneIDForTwoLikeKeys(t *testing.T) {
	iss, auth := newAuth(t)
	iss.Rotate()
	var first, second jwk
	for i, raw := range published(t, iss) {
		json.Unmarshal(raw, []*jwk{&first, &second}[i])
	}
	iss.SetKeys(marshal(map[string]any{"keys": []any{with(second, jwk{"kid": "one"}), with(first, jwk{"kid": "one"})}}))
	if _, err := auth.Verify(t.Context(), iss.Sign(`{"alg":"ES256","kid":"one"}`, payload(iss, ""))); err != nil {
		t.Error(err)
	}
}
