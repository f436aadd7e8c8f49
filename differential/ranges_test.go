package differential_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"encoding/base64"
	"math/big"
	"slices"
	"strings"
	"testing"
)

// TestSignatureRanges does to the halves of good signatures what the vectors of
// Wycheproof do: only what was there is accepted, and n-s for s.
func TestSignatureRanges(t *testing.T) {
	for _, alg := range []string{"ES256", "ES384", "ES512"} {
		t.Run(alg, func(t *testing.T) {
			t.Parallel()
			auth := newAuth(keySet())
			token := accepted(t, auth, alg, "")
			text := token[:strings.LastIndexByte(token, '.')]
			curve := signers()[alg].Signer.(*ecdsa.PrivateKey).Params()
			n, p, size := curve.N, curve.P, (curve.BitSize+7)/8

			sig, err := base64.RawURLEncoding.DecodeString(token[len(text)+1:])
			if err != nil {
				t.Fatal(err)
			}
			r, s := new(big.Int).SetBytes(sig[:size]), new(big.Int).SetBytes(sig[size:])
			replace := func(x *big.Int) []*big.Int {
				return []*big.Int{
					x, minus(n, x), plus(x, n), plus(x, new(big.Int).Lsh(n, 8)), plus(x, power(8*size)), plus(x, power(8*size+64)),
					big.NewInt(0), big.NewInt(1), n, minus(n, big.NewInt(1)), plus(n, big.NewInt(1)), p, plus(p, big.NewInt(1)), minus(power(8*size), big.NewInt(1)),
				}
			}
			good := 0
			for _, newR := range replace(r) {
				for _, newS := range replace(s) {
					width := max(size, (newR.BitLen()+7)/8, (newS.BitLen()+7)/8)
					changed := append(newR.FillBytes(make([]byte, width)), newS.FillBytes(make([]byte, width))...)
					_, err := auth.Verify(t.Context(), text+"."+encode(changed))
					want := newR.Cmp(r) == 0 && (newS.Cmp(s) == 0 || plus(newS, s).Cmp(n) == 0)
					if (err == nil) != want {
						t.Errorf("r %v -> %v, s %v -> %v: got %v, want accepted = %v", r, newR, s, newS, err, want)
					}
					if err == nil {
						good++
					}
				}
			}
			if good != 2 {
				t.Errorf("%d signatures accepted, want 2", good)
			}
		})
	}
	t.Run("EdDSA", func(t *testing.T) {
		auth := newAuth(keySet())
		token := accepted(t, auth, "EdDSA", "")
		text := token[:strings.LastIndexByte(token, '.')]
		sig, err := base64.RawURLEncoding.DecodeString(token[len(text)+1:])
		if err != nil {
			t.Fatal(err)
		}
		order, _ := new(big.Int).SetString("7237005577332262213973186563042994240857116359379907606001950938285454250989", 10)
		prime := minus(power(255), big.NewInt(19))
		one := big.NewInt(1)
		s := littleEndian(sig[32:])
		values := []*big.Int{
			s, minus(order, s), plus(s, order), plus(s, new(big.Int).Lsh(order, 1)), plus(s, new(big.Int).Lsh(order, 2)), plus(s, new(big.Int).Lsh(order, 3)),
			plus(s, power(253)), plus(s, power(254)), plus(s, power(255)), plus(s, prime),
			big.NewInt(0), one, order, minus(order, one), plus(order, one), prime, minus(power(256), one),
		}
		points := [][]byte{sig[:32], signers()["EdDSA"].Public().(ed25519.PublicKey)}
		for bit := range 256 {
			r := bytes.Clone(sig[:32])
			r[bit/8] ^= 1 << (bit % 8)
			points = append(points, r)
		}
		// Of small order, or not in canonical form.
		for _, y := range []*big.Int{big.NewInt(0), one, minus(prime, one), prime, plus(prime, one), minus(power(255), one), power(255), plus(power(255), one), minus(power(256), one)} {
			points = append(points, reverse(y))
		}
		for i, r := range points {
			for j, s := range values {
				if s.BitLen() > 256 {
					continue
				}
				if _, err := auth.Verify(t.Context(), text+"."+encode(slices.Concat(r, reverse(s)))); (err == nil) != (i == 0 && j == 0) {
					t.Errorf("R %x, S %v: got %v", r, s, err)
				}
			}
		}
	})
}

func plus(a, b *big.Int) *big.Int  { return new(big.Int).Add(a, b) }
func minus(a, b *big.Int) *big.Int { return new(big.Int).Sub(a, b) }
func power(bits int) *big.Int      { return new(big.Int).Lsh(big.NewInt(1), uint(bits)) }

func littleEndian(b []byte) *big.Int {
	b = bytes.Clone(b)
	slices.Reverse(b)
	return new(big.Int).SetBytes(b)
}

// reverse returns x in 32 bytes, the lowest first.
func reverse(x *big.Int) []byte {
	b := x.FillBytes(make([]byte, 32))
	slices.Reverse(b)
	return b
}
