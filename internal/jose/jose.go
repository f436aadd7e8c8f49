// Package jose holds what access tokens and DPoP proofs share: the signature
// algorithms, the compact form of a signed token, and public keys as JWKs with
// their thumbprints.
package jose

import (
	"crypto/rsa"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"example.com/bearer/internal/strictjson"
)

// MaxNumericDate is the last moment that counts as a NumericDate (RFC 7519,
// section 2) here, 9999-12-31T23:59:59Z: later times do not survive conversions.
const MaxNumericDate = 253402300799

var rsaAlgorithms = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}

// Algorithms are the signature algorithms that can be accepted: all of RFC 7518
// that need no shared secret, and EdDSA (RFC 8037).
var Algorithms = slices.Concat(rsaAlgorithms, []string{"ES256", "ES384", "ES512", "EdDSA"})

// methods verify signatures, by the name that "alg" has. The verification itself
// is golang-jwt's, which brings upstream's fixes; keys are never taken from it.
// It does not know the name Ed25519, by which RFC 9864 replaces EdDSA.
var methods = map[string]jwt.SigningMethod{
	"RS256":   jwt.SigningMethodRS256,
	"RS384":   jwt.SigningMethodRS384,
	"RS512":   jwt.SigningMethodRS512,
	"PS256":   strictPSS(jwt.SigningMethodPS256),
	"PS384":   strictPSS(jwt.SigningMethodPS384),
	"PS512":   strictPSS(jwt.SigningMethodPS512),
	"ES256":   jwt.SigningMethodES256,
	"ES384":   jwt.SigningMethodES384,
	"ES512":   jwt.SigningMethodES512,
	"EdDSA":   jwt.SigningMethodEdDSA,
	"Ed25519": jwt.SigningMethodEdDSA,
}

// strictPSS returns m with the salt as long as the hash (RFC 7518, section
// 3.5). golang-jwt takes any length.
func strictPSS(m *jwt.SigningMethodRSAPSS) jwt.SigningMethod {
	return &jwt.SigningMethodRSAPSS{
		SigningMethodRSA: m.SigningMethodRSA,
		VerifyOptions:    &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash},
	}
}

// Method returns the method of the algorithm that a token or a key names, or nil
// if there is none. Its Alg is the one name for an algorithm that has two.
func Method(alg string) jwt.SigningMethod { return methods[alg] }

// Compact is a token in JWS compact form (RFC 7515, section 7.1), taken apart.
// Its parts are still encoded.
type Compact struct {
	Header, Payload, Signature string
	Signed                     string // header, dot, payload
}

// Cut takes token apart. It reports false if there are not exactly three parts
// with dots between them; what they consist of is not looked at.
func Cut(token string) (Compact, bool) {
	header, rest, _ := strings.Cut(token, ".")
	payload, signature, ok := strings.Cut(rest, ".")
	if !ok || strings.IndexByte(signature, '.') >= 0 {
		return Compact{}, false
	}
	return Compact{header, payload, signature, token[:len(token)-len(signature)-1]}, true
}

// maxDate is how many bytes of a number are read as a date, and maxExponent how many
// digits its exponent may have, without zeros in front. Nobody writes dates that are longer, and ParseFloat
// takes up to 70 µs for some of them, as long as two signature checks.
const (
	maxDate     = 64
	maxExponent = 2
)

// NumericDate reads a NumericDate (RFC 7519, section 2) from the beginning of 1970
// to MaxNumericDate.
func NumericDate(v strictjson.Value) (time.Time, bool) {
	if c := v.Kind(); c < '0' || '9' < c || len(v) > maxDate {
		return time.Time{}, false
	}
	// As nearly all are: 50 instructions in place of 260.
	whole, i := int64(0), 0
	for i < len(v) && '0' <= v[i] && v[i] <= '9' {
		whole = whole*10 + int64(v[i]-'0')
		i++
	}
	if i == len(v) && i < 19 { // and so no overflow
		return time.Unix(whole, 0), whole <= MaxNumericDate
	}
	if i := strings.IndexAny(string(v), "eE"); i >= 0 && len(strings.TrimLeft(string(v[i+1:]), "+-0")) > maxExponent {
		return time.Time{}, false
	}
	seconds, err := strconv.ParseFloat(string(v), 64)
	if err != nil || seconds > MaxNumericDate {
		return time.Time{}, false
	}
	integer, fraction := math.Modf(seconds)
	return time.Unix(int64(integer), int64(fraction*1e9)), true
}
