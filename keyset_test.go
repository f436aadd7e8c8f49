package bearer_test

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"math/big"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

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

// A key whose algorithm, id or issuer changes is another key: the tokens of the old one
// are refused, though they are in the cache.
func TestKeyChanges(t *testing.T) {
	const template = "https://login.example.com/{tenantid}"
	for name, tt := range map[string]struct {
		before, after jwk
	}{
		"alg":    {jwk{"alg": nil}, jwk{"alg": "PS256"}},
		"kid":    {jwk{}, jwk{"kid": "renamed"}},
		"issuer": {jwk{"issuer": template}, jwk{"issuer": "https://login.example.com/b"}},
	} {
		t.Run(name, func(t *testing.T) {
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
			}, func(c *bearer.Config) { c.Issuer, c.IssuerTemplate = "", template })
		})
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
