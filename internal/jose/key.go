package jose

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"slices"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"

	"example.com/bearer/internal/strictjson"
)

// Sizes of RSA keys, in bits.
const (
	minRSABits      = 2048 // RFC 7518, section 3.3
	maxRSABits      = 8192 // a signature check at most 40 times as long as at 2048
	maxRSAProofBits = 4096 // for a key that a stranger chose
)

const maxProofMembers = 64 // of such a key; those that have a meaning are a dozen

// A Key is a public key for signatures. It does not change.
type Key struct {
	ID              string   // "kid"; empty if the key has none
	Issuer          string   // "issuer", which Entra ID has in its keys; else empty
	Algorithms      []string // that the key serves, each by the name that Method gives it
	SignatureLength int      // bytes
	Thumbprint      string   // RFC 7638, with SHA-256, in base64url
	JWK             jwkset.JWK

	Public any // of a type of crypto/*
}

// Verify reports whether signed was signed with k by the given method. A signature
// of the wrong length, which would cost as much as a good one, is refused before
// any arithmetic.
func (k *Key) Verify(method jwt.SigningMethod, signed string, signature []byte) bool {
	return len(signature) == k.SignatureLength && method.Verify(signed, signature, k.Public) == nil
}

// A jwk is a JWK's members (RFC 7517, section 4) as they stand.
type jwk struct {
	jwkset.JWKMarshal        // the public members alone
	alg, use, issuer  string // empty if absent
	hasAlg, hasUse    bool
	noVerify          bool   // "key_ops" is there and lacks "verify"
	private           string // a member of a private or symmetric key, with a value
	privateName       string // such a member, whatever its value
	wrongType         string // a member that is not a string
}

// ReadKey reads one JWK of an issuer's key set (RFC 7517, section 4). Members
// that are null or empty arrays count as absent: some issuers write every member
// that their type has. The key id is returned with an error too, as far as it
// could be read.
func ReadKey(text []byte) (k *Key, kid string, err error) {
	m, err := read(strictjson.Object{Text: text})
	if err != nil {
		return nil, m.KID, err
	}
	k, err = m.key(maxRSABits)
	return k, m.KID, err
}

// ReadProofKey reads the JWK in a DPoP proof (RFC 9449, section 4.2). A stranger
// chose it, so more is asked of it than of an issuer's key: no member of a private
// key, whatever its value; each number in its one canonical encoding; RSA of 4096
// bits at most; 64 members. The text is a value that a [strictjson.Object] has handed out,
// or empty, so that what is inside of the members need not be checked again.
func ReadProofKey(text []byte) (*Key, error) {
	m, err := read(strictjson.Object{Text: text, LooseBelow: true, MaxMembers: maxProofMembers})
	if err != nil {
		return nil, err
	}
	if m.privateName != "" {
		return nil, fmt.Errorf("it has %q, a member of private keys", m.privateName)
	}
	k, err := m.key(maxRSAProofBits)
	if err != nil {
		return nil, err
	}
	if n, e, x, y := numbers(k.Public); m.N != n || m.E != e || m.X != x || m.Y != y {
		return nil, errors.New("a number is not in its canonical encoding")
	}
	return k, nil
}

// errNoType needs no making: a document of 1 MiB has room for 350,000 such keys.
var errNoType = errors.New("\"kty\" is missing")

// read reads the members of a JWK. What is wrong with one of them is for key to
// say, so that m.KID is set whatever else is wrong.
func read(o strictjson.Object) (m jwk, err error) {
	str := func(v strictjson.Value, name string) string {
		text, ok := v.Text()
		if !ok {
			m.wrongType = name
		}
		return text
	}
	for o.Next() {
		absent := o.Value.IsAbsent()
		switch string(o.Name) {
		case "d", "p", "q", "dp", "dq", "qi", "oth", "k":
			// RFC 7518, sections 6.2.2, 6.3.2 and 6.4.
			if !absent {
				m.private = string(o.Name)
			}
			if string(o.Name) != "oth" || o.Value.Kind() == 'n' {
				m.privateName = string(o.Name)
			}
			continue
		}
		if absent {
			continue
		}
		switch string(o.Name) {
		case "kty":
			m.KTY = jwkset.KTY(str(o.Value, "kty"))
		case "crv":
			m.CRV = jwkset.CRV(str(o.Value, "crv"))
		case "x":
			m.X = str(o.Value, "x")
		case "y":
			m.Y = str(o.Value, "y")
		case "n":
			m.N = str(o.Value, "n")
		case "e":
			m.E = str(o.Value, "e")
		case "kid":
			m.KID = str(o.Value, "kid")
		case "alg":
			m.alg = str(o.Value, "alg")
			m.hasAlg = true
		case "use":
			m.use = str(o.Value, "use")
			m.hasUse = true
		case "issuer":
			var ok bool
			if m.issuer, ok = o.Value.Text(); !ok {
				m.issuer = string(o.Value) // and so nobody's
			}
		case "key_ops":
			m.noVerify = true
			for op := range o.Value.Elements() {
				if name, _ := op.Text(); name == "verify" {
					m.noVerify = false
				}
			}
		}
	}
	return m, o.Err()
}

// key returns the key that m is, if it is one for signatures.
func (m *jwk) key(maxBits int) (*Key, error) {
	switch {
	case m.wrongType != "":
		return nil, fmt.Errorf("%q is not a string", m.wrongType)
	case m.KTY == "":
		return nil, errNoType
	case m.KTY == "oct":
		return nil, errors.New("a shared secret")
	case m.CRV == jwkset.CrvX25519: // jwkset would make a key of it, but not where FIPS 140 rules
		return nil, errors.New("not a key for signatures")
	case m.private != "":
		return nil, fmt.Errorf("published with its private part %q: it is compromised", m.private)
	case m.hasUse && m.use != "sig":
		return nil, fmt.Errorf("\"use\" is %q", m.use)
	case m.noVerify:
		return nil, errors.New("\"key_ops\" lacks \"verify\"")
	}
	if m.hasAlg {
		method := Method(m.alg)
		if method == nil {
			return nil, fmt.Errorf("\"alg\" is %q", m.alg)
		}
		m.ALG = jwkset.ALG(method.Alg())
	}
	// jwkset sees the public members alone. It would refuse a key for what stands
	// beside the key, as the certificate thumbprints of old Auth0 tenants do.
	parsed, err := jwkset.NewJWKFromMarshal(m.JWKMarshal, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{})
	if err != nil {
		return nil, err
	}
	k := &Key{ID: m.KID, Issuer: m.issuer, JWK: parsed, Public: parsed.Key()}
	switch public := k.Public.(type) {
	case *rsa.PublicKey:
		if bits := public.N.BitLen(); bits < minRSABits || bits > maxBits {
			return nil, fmt.Errorf("RSA with %d bits, want %d to %d", bits, minRSABits, maxBits)
		}
		if public.N.Bit(0) == 0 || public.E%2 == 0 { // jwkset wants 2 to 2^31-1
			return nil, errors.New("not an RSA key")
		}
		k.Algorithms, k.SignatureLength = rsaAlgorithms, public.Size()
	case *ecdsa.PublicKey:
		// jwkset has looked at the curve and at the point.
		bits := public.Params().BitSize
		k.Algorithms = []string{map[int]string{256: "ES256", 384: "ES384", 521: "ES512"}[bits]}
		k.SignatureLength = (bits + 7) / 8 * 2
	case ed25519.PublicKey:
		k.Algorithms, k.SignatureLength = []string{"EdDSA"}, ed25519.SignatureSize
	default:
		return nil, errors.New("not a key for signatures")
	}
	// RFC 8725, section 3.1: a key serves the algorithm that it names. One that
	// names none, which RFC 7517, section 4.4, allows, serves all that its type
	// allows.
	if m.hasAlg {
		if !slices.Contains(k.Algorithms, m.ALG.String()) {
			return nil, fmt.Errorf("\"alg\" is %q, which is for another type of key", m.alg)
		}
		k.Algorithms = []string{m.ALG.String()}
	}
	k.Thumbprint = thumbprint(k.Public)
	return k, nil
}

// thumbprint returns the thumbprint of a public key (RFC 7638, section 3; RFC
// 8037, section 2). It is made from the parsed key and not from the text, so that
// a key has but one.
func thumbprint(public any) string {
	n, e, x, y := numbers(public)
	text := ""
	switch public := public.(type) {
	case *rsa.PublicKey:
		text = `{"e":"` + e + `","kty":"RSA","n":"` + n + `"}`
	case *ecdsa.PublicKey:
		text = `{"crv":"` + public.Params().Name + `","kty":"EC","x":"` + x + `","y":"` + y + `"}`
	case ed25519.PublicKey:
		text = `{"crv":"Ed25519","kty":"OKP","x":"` + x + `"}`
	}
	sum := sha256.Sum256([]byte(text))
	return encode(sum[:])
}

// numbers returns the numbers of a public key as a JWK has them (RFC 7518,
// sections 6.2.1 and 6.3.1; RFC 8037, section 2).
func numbers(public any) (n, e, x, y string) {
	switch public := public.(type) {
	case *rsa.PublicKey:
		return encode(public.N.Bytes()), encode(big.NewInt(int64(public.E)).Bytes()), "", ""
	case *ecdsa.PublicKey:
		if point, err := public.Bytes(); err == nil { // 4, x, y
			half := len(point) / 2
			return "", "", encode(point[1 : 1+half]), encode(point[1+half:])
		}
	case ed25519.PublicKey:
		return "", "", encode(public), ""
	}
	return "", "", "", ""
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
