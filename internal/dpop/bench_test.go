package dpop_test

import (
	"context"
	"crypto/elliptic"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"example.com/bearer/internal/dpop"
)

// BenchmarkProof is a fresh proof, beside the bare verification of its signature by
// golang-jwt with a key that is there already.
func BenchmarkProof(b *testing.B) {
	for _, c := range []*client{alice, newEC(elliptic.P384(), "ES384"), newEd25519("EdDSA"), newRSA(2048, "RS256"), newRSA(2048, "PS256"), newRSA(4096, "PS256")} {
		name := c.alg
		if len(c.jwk) > 500 {
			name += "-4096"
		}
		// As many proofs as are made once are checked over and over, each time by a
		// verifier that has not seen them.
		const proofs = 1024
		texts := make([][]string, proofs)
		for i := range texts {
			texts[i] = []string{c.sign(c.header(), payload())}
		}
		dot := strings.LastIndexByte(texts[0][0], '.')
		signature, err := base64.RawURLEncoding.DecodeString(texts[0][0][dot+1:])
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name+"/bare", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := c.method.Verify(texts[0][0][:dot], signature, c.key.Public()); err != nil {
					b.Fatal(err)
				}
			}
		})
		for kind, settings := range map[string]dpop.Settings{"time": {}, "nonce": {NonceKeys: [][]byte{make([]byte, 32)}}} {
			if kind == "nonce" {
				if c != alice {
					continue
				}
				nonce := newVerifier(b, settings).Nonce(now)
				for i := range texts {
					texts[i][0] = c.sign(c.header(), edit(payload(), "nonce", fmt.Sprintf("%q", nonce)))
				}
			}
			r := dpop.Request{Method: "GET", Path: "/a", Token: token, Thumbprint: c.thumbprint()}
			b.Run(name+"/"+kind, func(b *testing.B) {
				b.ReportAllocs()
				v := newVerifier(b, settings)
				for i := 0; b.Loop(); i++ {
					if i%proofs == 0 && i > 0 {
						b.StopTimer()
						v = newVerifier(b, settings)
						b.StartTimer()
					}
					p, err := v.Parse(texts[i%proofs])
					if err == nil {
						_, err = v.Check(context.Background(), p, r, now)
					}
					if err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
