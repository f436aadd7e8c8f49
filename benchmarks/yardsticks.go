package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"unsafe"

	"github.com/go-jose/go-jose/v4"

	"example.com/bearer/bearertest"
)

var (
	// rawCrypto checks the signature and nothing else: nobody who verifies each
	// token can be faster.
	rawCrypto = contender{name: "rawcrypto", protect: protectRawCrypto, blind: true}

	// rawProof checks the signature of the proof and nothing else: every proof is new.
	rawProof = contender{name: "rawproof", protect: protectRawProof, blind: true}

	// floor puts a value into the context: nobody who hands on claims in the
	// context can be faster.
	floor = contender{name: "floor", protect: protectFloor, blind: true}
)

// A verified token as the yardsticks have it.
type verified struct {
	subject string
	own     ownClaims
}

// knownTo returns what the yardsticks put into the context.
func knownTo(t *trial) *verified {
	v := &verified{subject: subject}
	if t.own {
		v.own = t.ownClaims()
	}
	return v
}

func protectFloor(_ context.Context, t *trial) (protection, error) {
	type key struct{}
	known := knownTo(t)
	wrap := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), key{}, known)))
		})
	}
	return protection{
		wrap,
		func(ctx context.Context) string { return ctx.Value(key{}).(*verified).subject },
		func(ctx context.Context) ownClaims { return ctx.Value(key{}).(*verified).own },
	}, nil
}

func protectRawCrypto(_ context.Context, t *trial) (protection, error) {
	keys, err := publishedKeys(t.iss)
	if err != nil {
		return protection{}, err
	}
	check, err := signatureCheck(keys.Keys[0].Key)
	if err != nil {
		return protection{}, err
	}
	known := knownTo(t)
	verify := func(_ context.Context, token string) (*verified, error) {
		if !check(token) {
			return nil, errors.New("wrong signature")
		}
		return known, nil
	}
	return byHand(verify, func(v *verified) string { return v.subject }, nil), nil
}

func protectRawProof(_ context.Context, t *trial) (protection, error) {
	check, err := signatureCheck(&t.prover.key.PublicKey)
	if err != nil {
		return protection{}, err
	}
	wrap := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !check(r.Header.Get("DPoP")) {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			next.ServeHTTP(w, r)
		})
	}
	return protection{wrap: wrap, subject: func(context.Context) string { return subject }}, nil
}

// signatureCheck returns the function that checks signatures of key: RS256, ES256
// or EdDSA. It makes no copy and no allocation that could be spared.
func signatureCheck(key any) (func(token string) bool, error) {
	switch key := key.(type) {
	case *rsa.PublicKey:
		return func(token string) bool {
			var room [256]byte
			signed, signature := cut(token, room[:])
			sum := sha256.Sum256(signed)
			return rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], signature) == nil
		}, nil
	case *ecdsa.PublicKey:
		return func(token string) bool {
			var room [64]byte
			var der [72]byte
			signed, signature := cut(token, room[:])
			if len(signature) != 64 {
				return false
			}
			sum := sha256.Sum256(signed)
			return ecdsa.VerifyASN1(key, sum[:], appendASN1(der[:0], signature))
		}, nil
	case ed25519.PublicKey:
		return func(token string) bool {
			var room [64]byte
			signed, signature := cut(token, room[:])
			return ed25519.Verify(key, signed, signature)
		}, nil
	}
	return nil, fmt.Errorf("no check for a %T", key)
}

// cut returns what of a token is signed, which must not be changed, and the signature,
// for which there must be room. Without one that fits it is empty.
func cut(token string, room []byte) (signed, signature []byte) {
	dot := strings.LastIndexByte(token, '.')
	if dot < 0 || base64.RawURLEncoding.DecodedLen(len(token)-dot-1) > len(room) {
		return nil, nil
	}
	text := unsafe.Slice(unsafe.StringData(token), len(token))
	n, err := base64.RawURLEncoding.Decode(room, text[dot+1:])
	if err != nil {
		return nil, nil
	}
	return text[:dot], room[:n]
}

// appendASN1 appends an ECDSA signature to b as crypto/ecdsa wants it: two integers in
// DER. signature is both of them, in 32 bytes each.
func appendASN1(b, signature []byte) []byte {
	b = append(b, 0x30, 0)
	for _, n := range [...][]byte{signature[:32], signature[32:]} {
		for len(n) > 1 && n[0] == 0 {
			n = n[1:]
		}
		length := len(n)
		if n[0] >= 0x80 { // or it would be negative
			length++
		}
		b = append(b, 0x02, byte(length))
		if length > len(n) {
			b = append(b, 0)
		}
		b = append(b, n...)
	}
	b[1] = byte(len(b) - 2)
	return b
}

// publishedKeys returns the issuer's key set as go-jose reads it.
func publishedKeys(iss *bearertest.Issuer) (*jose.JSONWebKeySet, error) {
	resp, err := iss.Client().Get(keysURL)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	keys := new(jose.JSONWebKeySet)
	if err := json.NewDecoder(resp.Body).Decode(keys); err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(keys.Keys, func(k jose.JSONWebKey) bool { return k.Valid() }) {
		return nil, errors.New("no keys")
	}
	return keys, nil
}
