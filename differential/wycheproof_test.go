package differential_test

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	_ "crypto/sha1"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io/fs"
	"math/big"
	"slices"
	"sync"
	"testing"

	"github.com/c2sp/wycheproof"
)

// The vectors of signature algorithms sign messages of their own, and no JWS can
// have those: its signature covers text with a dot in it. So they cannot be
// tokens as they are. What can be made of them:
//
//   - RSA signatures can be opened with the public key. What is wrong with an
//     encoded message is put around the hash of a token and sealed again, with
//     the private key where the vectors have it: TestWycheproofRSA.
//   - For ECDSA and Ed25519, with messages that meet special cases of the
//     arithmetic and keys that nobody has, there is no such way. Their keys are
//     published and their signatures put behind a token:
//     TestWycheproofSignatures. That tells that the keys are usable, that no
//     signature fits just any text, and that nothing panics, but no more. What
//     the vectors do to r and s is done to a token by TestSignatureRanges.
//
// Not expressible at all are hashes and curves that JOSE has no name for, keys
// with parameters (RSASSA-PSS-params), shared secrets, and encryption.

type vectorFile struct{ TestGroups []vectorGroup }

type vectorGroup struct {
	Comment, Sha, MgfSha string
	SLen                 int
	PublicKeyPem         string
	PrivateKeyPem        string
	Public, Private      json.RawMessage // JWK or JWK set
	Tests                []vector
}

type vector struct {
	TcID            int
	Comment, Result string
	Msg, Sig        hexBytes
	JWS, JWE        json.RawMessage // mostly strings
}

type hexBytes []byte

func (h *hexBytes) UnmarshalText(text []byte) (err error) {
	*h, err = hex.AppendDecode(nil, text)
	return err
}

func vectors(t *testing.T, file string) []vectorGroup {
	t.Helper()
	text, err := fs.ReadFile(wycheproof.TestVectors, file)
	if err != nil {
		t.Fatal(err)
	}
	var f vectorFile
	if err := json.Unmarshal(text, &f); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return f.TestGroups
}

func (g vectorGroup) public(t *testing.T) crypto.PublicKey {
	t.Helper()
	block, _ := pem.Decode([]byte(g.PublicKeyPem))
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// unsigned returns a good token for a key of a vector, without signature.
func unsigned(alg, kid string) string {
	return encode(fmt.Sprintf(`{"alg":%q,"kid":%q}`, alg, kid)) + "." + encode(goodPayload())
}

// vectorKeys is the document with the keys of all groups, each under its
// number.
func vectorKeys(t *testing.T, groups []vectorGroup) []byte {
	t.Helper()
	var list []any
	for i, g := range groups {
		list = append(list, publicJWK(fmt.Sprint(i), g.public(t)))
	}
	document, err := json.Marshal(map[string]any{"keys": list})
	if err != nil {
		t.Fatal(err)
	}
	return document
}

func TestWycheproofSignatures(t *testing.T) {
	for _, tt := range []struct{ file, alg string }{
		{"ecdsa_secp256r1_sha256_p1363_test.json", "ES256"},
		{"ecdsa_secp384r1_sha384_p1363_test.json", "ES384"},
		{"ecdsa_secp521r1_sha512_p1363_test.json", "ES512"},
		{"ed25519_test.json", "EdDSA"},
		// These take too long to be opened and sealed, or their keys are
		// missing. Their faults are the same as those of other sizes.
		{"rsa_signature_4096_sha256_test.json", "RS256"},
		{"rsa_signature_4096_sha384_test.json", "RS384"},
		{"rsa_signature_8192_sha256_test.json", "RS256"},
		{"rsa_signature_8192_sha384_test.json", "RS384"},
		{"rsa_signature_8192_sha512_test.json", "RS512"},
		{"rsa_pss_4096_sha256_mgf1_32_test.json", "PS256"},
		{"rsa_signature_3072_sha384_test.json", "RS384"},
		{"rsa_signature_3072_sha512_test.json", "RS512"},
		{"rsa_signature_4096_sha512_test.json", "RS512"},
		{"rsa_pss_4096_sha384_mgf1_48_test.json", "PS384"},
		{"rsa_pss_misc_test.json", "PS256"},
	} {
		t.Run(tt.file, func(t *testing.T) {
			t.Parallel()
			groups := vectors(t, tt.file)
			auth := newAuth(vectorKeys(t, groups))
			n := 0
			for i, g := range groups {
				n += len(g.Tests)
				for _, v := range g.Tests {
					want := "signature" // so the key was found
					if len(v.Sig) == 0 {
						want = "malformed"
					}
					_, err := auth.Verify(t.Context(), unsigned(tt.alg, fmt.Sprint(i))+"."+encode(v.Sig))
					if got := reason(err); got != want {
						t.Errorf("%d, %s: got %v, want the reason %s", v.TcID, v.Comment, err, want)
					}
				}
			}
			if n < 100 {
				t.Errorf("the file has %d vectors", n)
			}
		})
	}
}

// vectorPrivateKeys are those that the vectors have, by modulus.
var vectorPrivateKeys = sync.OnceValue(func() map[string]*rsa.PrivateKey {
	keys := make(map[string]*rsa.PrivateKey)
	for _, bits := range []int{2048, 3072, 4096} {
		text, err := fs.ReadFile(wycheproof.TestVectors, fmt.Sprintf("rsa_pkcs1_%d_sig_gen_test.json", bits))
		if err != nil {
			panic(err)
		}
		var f vectorFile
		if err := json.Unmarshal(text, &f); err != nil {
			panic(err)
		}
		for _, g := range f.TestGroups {
			block, _ := pem.Decode([]byte(g.PrivateKeyPem))
			key, err := x509.ParsePKCS1PrivateKey(block.Bytes)
			if err != nil {
				panic(err)
			}
			keys[key.N.String()] = key
		}
	}
	return keys
})

func TestWycheproofRSA(t *testing.T) {
	for _, tt := range []struct {
		file, alg string
		valid     bool // vectors that are valid for what they are, are for JOSE too
	}{
		{"rsa_signature_2048_sha256_test.json", "RS256", true},
		{"rsa_signature_2048_sha384_test.json", "RS384", true},
		{"rsa_signature_2048_sha512_test.json", "RS512", true},
		{"rsa_signature_3072_sha256_test.json", "RS256", true},
		{"rsa_signature_2048_sha224_test.json", "RS256", false}, // RFC 7518: another hash
		{"rsa_pss_2048_sha256_mgf1_32_test.json", "PS256", true},
		{"rsa_pss_2048_sha384_mgf1_48_test.json", "PS384", true},
		{"rsa_pss_3072_sha256_mgf1_32_test.json", "PS256", true},
		{"rsa_pss_4096_sha512_mgf1_64_test.json", "PS512", true},
		{"rsa_pss_2048_sha256_mgf1_0_test.json", "PS256", false},      // RFC 7518: salt as long as the hash
		{"rsa_pss_2048_sha256_mgf1sha1_20_test.json", "PS256", false}, // and the hash for the mask
	} {
		t.Run(tt.file, func(t *testing.T) {
			t.Parallel()
			groups := vectors(t, tt.file)
			auth := newAuth(vectorKeys(t, groups))
			counts := make(map[string]int)
			for i, g := range groups {
				key := vectorPrivateKeys()[g.public(t).(*rsa.PublicKey).N.String()]
				if key == nil {
					t.Fatal("no private key")
				}
				for _, v := range g.Tests {
					text := unsigned(tt.alg, fmt.Sprint(i))
					_, err := auth.Verify(t.Context(), text+"."+encode(g.transplant(key, v, tt.alg, text)))
					want := tt.valid && v.Result == "valid"
					if g.Sha == g.MgfSha && g.SLen == 0 && v.Comment == "s_len changed to 32" {
						want = true // so it is right for JOSE
					}
					if got := reason(err); (err == nil) != want || !want && got != "signature" && got != "malformed" {
						t.Errorf("%d, %s: got %v, want accepted = %v", v.TcID, v.Comment, err, want)
					}
					counts[v.Result]++
				}
			}
			if counts["valid"] < 5 || counts["invalid"] < 30 {
				t.Errorf("the file has %v", counts)
			}
		})
	}
}

// transplant returns a signature of text that has wrong with it what that of v
// has.
func (g vectorGroup) transplant(key *rsa.PrivateKey, v vector, alg, text string) []byte {
	sig := new(big.Int).SetBytes(v.Sig)
	e := big.NewInt(int64(key.E))
	encoded := new(big.Int).Exp(sig, e, key.N).FillBytes(make([]byte, key.Size()))
	hash := hashNamed(g.Sha)
	if alg[0] == 'R' {
		// The hash stands in the encoded message. If it does not, what does
		// is no better for any other text.
		encoded = bytes.ReplaceAll(encoded, sum(hash, string(v.Msg)), sum(hash, text))
	} else {
		encoded = transplantPSS(encoded, hash, hashNamed(g.MgfSha), string(v.Msg), text)
	}
	fresh := decrypt(key, new(big.Int).SetBytes(encoded))
	// Some are not less than the modulus, some have more bytes or less.
	fresh.Add(fresh, sig.Sub(sig, new(big.Int).Mod(sig, key.N)))
	if (fresh.BitLen()+7)/8 > len(v.Sig) {
		return v.Sig
	}
	return fresh.FillBytes(make([]byte, len(v.Sig)))
}

func hashNamed(sha string) crypto.Hash {
	return map[string]crypto.Hash{"SHA-1": crypto.SHA1, "SHA-224": crypto.SHA224, "SHA-256": crypto.SHA256, "SHA-384": crypto.SHA384, "SHA-512": crypto.SHA512}[sha]
}

// transplantPSS takes an encoded message of RFC 8017, section 9.1.1, apart and
// makes one for text: with the same salt and padding, and with the same bits
// wrong in the hash and outside of the mask.
func transplantPSS(encoded []byte, hash, mask crypto.Hash, msg, text string) []byte {
	db, h := encoded[:len(encoded)-hash.Size()-1], encoded[len(encoded)-hash.Size()-1:len(encoded)-1]
	plain := xor(db, mgf1(mask, h, len(db)))
	plain[0] &= 0x7f
	salt := plain[bytes.IndexByte(plain, 1)+1:]
	hashOf := func(text string) []byte {
		return sum(hash, string(make([]byte, 8))+string(sum(hash, text))+string(salt))
	}

	fresh := xor(hashOf(text), xor(h, hashOf(msg)))
	masked := xor(plain, mgf1(mask, fresh, len(db)))
	masked[0] = masked[0]&0x7f | db[0]&0x80
	return slices.Concat(masked, fresh, encoded[len(encoded)-1:])
}

func xor(a, b []byte) []byte {
	out := make([]byte, len(a))
	for i := range a {
		out[i] = a[i] ^ b[i]
	}
	return out
}

// mgf1 is the mask of RFC 8017, section B.2.1.
func mgf1(hash crypto.Hash, seed []byte, size int) []byte {
	var out []byte
	for i := uint32(0); len(out) < size; i++ {
		out = append(out, sum(hash, string(binary.BigEndian.AppendUint32(slices.Clone(seed), i)))...)
	}
	return out[:size]
}

// decrypt is the private operation of RFC 8017, section 5.1.2, on any number.
func decrypt(key *rsa.PrivateKey, c *big.Int) *big.Int {
	p, q := key.Primes[0], key.Primes[1]
	m1 := new(big.Int).Exp(c, key.Precomputed.Dp, p)
	m2 := new(big.Int).Exp(c, key.Precomputed.Dq, q)
	h := m1.Sub(m1, m2)
	h.Mul(h, key.Precomputed.Qinv).Mod(h, p)
	return h.Mul(h, q).Add(h, m2)
}
