package bearertest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// A Client is an OAuth client with a key and a certificate of its own, for tests of
// routes that take bound tokens (RFC 9449, RFC 8705):
//
//	client := bearertest.NewClient()
//	token := iss.Token(audience, bearertest.Claims{"cnf": bearertest.Claims{"jkt": client.KeyThumbprint}})
//	client.Authorize(req, token)
//
// A token is bound to the certificate by the member "x5t#S256", with CertThumbprint.
// A Client is safe for concurrent use.
type Client struct {
	KeyThumbprint  string          // of the key with which proofs are made
	CertThumbprint string          // of Certificate
	Certificate    tls.Certificate // self-signed, and good for a day; for tls.Config.Certificates

	key  *ecdsa.PrivateKey
	x, y string

	mu     sync.Mutex
	nonces map[string]string // the latest, by scheme and host
}

// NewClient returns a client with a new key and a new certificate.
func NewClient() *Client {
	c := &Client{nonces: make(map[string]string)}
	c.key = newP256()
	point, err := c.key.PublicKey.Bytes()
	if err != nil {
		panic("bearertest: " + err.Error())
	}
	encode := base64.RawURLEncoding.EncodeToString
	c.x, c.y = encode(point[1:33]), encode(point[33:])
	// RFC 7638, section 3.
	c.KeyThumbprint = sha256Text(fmt.Sprintf(`{"crv":"P-256","kty":"EC","x":%q,"y":%q}`, c.x, c.y))

	key, now := newP256(), time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "client"},
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.Add(24 * time.Hour),
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic("bearertest: " + err.Error())
	}
	c.Certificate = tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	c.CertThumbprint = sha256Text(string(der))
	return c
}

func newP256() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic("bearertest: " + err.Error())
	}
	return key
}

// sha256Text returns the SHA-256 of text in base64url.
func sha256Text(text string) string {
	sum := sha256.Sum256([]byte(text))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// Proof returns a new DPoP proof, made with the client's key, for a request with the
// given method and URL that carries token. Its claims, "jti", "htm", "htu", "iat" and
// "ath", can be overridden and removed by those given, and "nonce" added.
func (c *Client) Proof(method, url, token string, claims Claims) string {
	all := Claims{
		"jti": rand.Text(),
		"htm": method,
		"htu": url,
		"iat": time.Now().Unix(),
		"ath": sha256Text(token),
	}
	maps.Copy(all, claims)
	maps.DeleteFunc(all, func(_ string, value any) bool { return value == nil })
	payload, err := json.Marshal(all)
	if err != nil {
		panic("bearertest: " + err.Error())
	}
	header := fmt.Sprintf(`{"typ":"dpop+jwt","alg":"ES256","jwk":{"kty":"EC","crv":"P-256","x":%q,"y":%q}}`, c.x, c.y)
	return c.SignProof(header, string(payload))
}

// SignProof returns a proof with any text for header and payload, however wrong, under
// a signature of the client's key.
func (c *Client) SignProof(header, payload string) string {
	encode := base64.RawURLEncoding.EncodeToString
	signed := encode([]byte(header)) + "." + encode([]byte(payload))
	signature, err := jwt.SigningMethodES256.Sign(signed, c.key)
	if err != nil {
		panic("bearertest: " + err.Error())
	}
	return signed + "." + encode(signature)
}

// Authorize puts token into the headers of r, with the scheme DPoP and a new proof, in
// place of what is there. The proof names the URL of r without its query. Where that is
// a path only, it is the path at r.Host, by https if r.TLS is set. httptest.NewRequest
// makes that http://example.com of a path, so give it a whole URL, at one of
// bearer.DPoP.BaseURLs.
func (c *Client) Authorize(r *http.Request, token string) {
	origin := requestOrigin(r)
	claims := Claims{}
	c.mu.Lock()
	if nonce := c.nonces[origin]; nonce != "" {
		claims["nonce"] = nonce
	}
	c.mu.Unlock()
	r.Header.Set("Authorization", "DPoP "+token)
	r.Header.Set("DPoP", c.Proof(r.Method, origin+r.URL.EscapedPath(), token, claims))
}

func requestOrigin(r *http.Request) string {
	if r.URL.Host != "" {
		return r.URL.Scheme + "://" + r.URL.Host
	}
	if r.TLS != nil {
		return "https://" + r.Host
	}
	return "http://" + r.Host
}

// Do authorizes r with token, sends it by way of through, and repeats it once with a
// new proof if the server asks for a nonce (RFC 9449, section 9). Nonces are kept for
// later requests. A body is sent again only if r.GetBody is set, as
// [http.NewRequest] does for most.
func (c *Client) Do(through *http.Client, r *http.Request, token string) (*http.Response, error) {
	for first := true; ; first = false {
		c.Authorize(r, token)
		resp, err := through.Do(r)
		if err != nil {
			return nil, err
		}
		c.keepNonce(requestOrigin(r), resp.Header)
		if !first || !asksForNonce(resp) || r.Body != nil && r.GetBody == nil {
			return resp, nil
		}
		resp.Body.Close()
		r = r.Clone(r.Context())
		if r.GetBody != nil {
			if r.Body, err = r.GetBody(); err != nil {
				return nil, err
			}
		}
	}
}

func (c *Client) keepNonce(origin string, h http.Header) {
	if nonce := h.Get("DPoP-Nonce"); nonce != "" {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.nonces[origin] = nonce
	}
}

func asksForNonce(resp *http.Response) bool {
	return resp.StatusCode == http.StatusUnauthorized && resp.Header.Get("DPoP-Nonce") != "" &&
		slices.ContainsFunc(resp.Header.Values("WWW-Authenticate"), func(challenge string) bool {
			return strings.HasPrefix(challenge, "DPoP ") && strings.Contains(challenge, `error="use_dpop_nonce"`)
		})
}
