// Package bearertest provides an issuer of access tokens, and clients to which they
// can be bound, for tests of APIs that are protected by package bearer: like
// net/http/httptest, but for tokens.
//
// The issuer lives in the test's process. Its [Issuer.Client] reaches it without
// port and network, so it also works inside of a testing/synctest bubble, where
// hours pass in no time:
//
//	iss := bearertest.NewIssuer("https://login.example.com/")
//	auth, err := bearer.New(bearer.Config{
//		Issuer:   iss.URL,
//		Audience: []string{"https://api.example.com"},
//		Client:   iss.Client(),
//	})
//	...
//	req.Header.Set("Authorization", "Bearer "+iss.Token("https://api.example.com", bearertest.Claims{
//		"scope": "read:messages",
//	}))
//
// Refused with 401 is not yet refused for the reason that a test is about. Where there
// is an error, as from bearer.Middleware.Verify, its Reason tells; where there is a
// reply, bearer.Config.Observe does, as the example shows.
//
// An Issuer is also an [http.Handler] and can be mounted in a server. One whose URL
// has {tenantid} in it is for bearer.Config.IssuerTemplate, and names itself
// differently for each tenant, as Microsoft Entra ID does:
//
//	iss := bearertest.NewIssuer("https://login.example.com/{tenantid}/v2.0")
//	auth, err := bearer.New(bearer.Config{
//		IssuerTemplate: iss.URL,
//		Audience:       []string{"https://api.example.com"},
//		Client:         iss.Client(),
//	})
//	...
//	token := iss.Token("https://api.example.com", bearertest.Claims{"tid": "acme"})
//
// Functions of this package panic when they cannot do what they are for, as
// those of httptest do. Nothing in it is fit for production.
package bearertest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"
)

// Under FIPS 140 random numbers begin with a measurement of time, which stands
// still in a testing/synctest bubble: the first one must be taken before.
func init() { rand.Read(make([]byte, 1)) }

// Claims are claims of a token by name. A nil value removes a claim that the
// token would have without it. A [time.Time] becomes a NumericDate, whole seconds
// since 1970, as "exp" and its like must be; the zero time removes the claim. All
// else is encoded as [json.Marshal] does it.
type Claims map[string]any

// An Issuer issues access tokens and publishes the keys to verify them with. It
// is safe for concurrent use.
type Issuer struct {
	// URL is the issuer's name: the "iss" claim of its tokens. It must not be
	// changed.
	URL string

	path string // of URL, without a slash at the end

	mu      sync.Mutex
	keys    []*signingKey // published; the last one signs
	next    *signingKey   // published too, if there is one, but does not sign yet
	made    int           // keys so far
	tokens  int
	fetches int
	down    bool
	hanging bool
	delay   time.Duration
	raw     []byte
}

type signingKey struct {
	id     string
	method jwt.SigningMethod
	signer crypto.Signer
}

// NewIssuer returns an issuer with the given URL and one key, for ES256. The
// URL is a name only: nothing listens there. It may have {tenantid} in its path.
func NewIssuer(issuerURL string) *Issuer {
	u, err := url.Parse(issuerURL)
	if err != nil || u.Host == "" {
		panic(fmt.Sprintf("bearertest: %q is not a URL", issuerURL))
	}
	i := &Issuer{URL: issuerURL, path: strings.TrimSuffix(fill(u.Path, "common"), "/")}
	i.UseAlgorithm("ES256")
	return i
}

// fill returns the name by which an issuer whose URL is a template goes with a tenant.
func fill(template, tenant string) string { return strings.ReplaceAll(template, "{tenantid}", tenant) }

// Token returns a token for audience that is valid for an hour from now, signed
// with the issuer's current key. Unless the given claims say otherwise it has "iss",
// which is the issuer's URL, "sub", which is "user", "aud", "exp", "iat", "jti",
// which is another number for each token, "client_id", which is "client", and
// nothing else. If the URL has {tenantid} in it there is also "tid", which is
// "tenant", and "iss" is filled in with it.
func (i *Issuer) Token(audience string, claims Claims) string {
	i.mu.Lock()
	i.tokens++
	id := strconv.Itoa(i.tokens)
	i.mu.Unlock()
	now := time.Now().Unix()
	all := Claims{
		"iss":       i.URL,
		"sub":       "user",
		"aud":       audience,
		"exp":       now + 3600,
		"iat":       now,
		"jti":       id,
		"client_id": "client",
	}
	if strings.Contains(i.URL, "{tenantid}") {
		tenant, ok := claims["tid"].(string)
		if !ok {
			tenant = "tenant"
		}
		all["tid"], all["iss"] = tenant, fill(i.URL, tenant)
	}
	maps.Copy(all, claims)
	for name, value := range all {
		if t, ok := value.(time.Time); ok {
			all[name] = t.Unix()
			if t.IsZero() {
				all[name] = nil
			}
		}
	}
	maps.DeleteFunc(all, func(_ string, value any) bool { return value == nil })
	payload, err := json.Marshal(all)
	if err != nil {
		panic("bearertest: " + err.Error())
	}
	return i.Sign("", string(payload))
}

// Sign returns a token with any text for header and payload, however wrong, under
// a signature of the issuer's current key. An empty header stands for the one
// that Token makes: "typ", "alg" and "kid".
func (i *Issuer) Sign(header, payload string) string {
	i.mu.Lock()
	k := i.keys[len(i.keys)-1]
	i.mu.Unlock()
	if header == "" {
		header = fmt.Sprintf(`{"typ":"at+jwt","alg":%q,"kid":%q}`, k.method.Alg(), k.id)
	}
	encode := base64.RawURLEncoding.EncodeToString
	signed := encode([]byte(header)) + "." + encode([]byte(payload))
	signature, err := k.method.Sign(signed, k.signer)
	if err != nil {
		panic("bearertest: " + err.Error())
	}
	return signed + "." + encode(signature)
}

// KeyID returns the id of the key that signs at present.
func (i *Issuer) KeyID() string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.keys[len(i.keys)-1].id
}

// UseAlgorithm makes the issuer forget its keys and sign with a new one for the
// algorithm: one of those that bearer.Config.Algorithms lists.
func (i *Issuer) UseAlgorithm(algorithm string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys, i.next = []*signingKey{i.newKey(algorithm)}, nil
}

// Announce makes the issuer publish a new key without signing with it yet. The
// next Rotate or Replace takes it into use.
func (i *Issuer) Announce() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.next = i.newKey(i.keys[0].method.Alg())
}

// Rotate makes the issuer sign with a new key. The old ones stay published, so
// that tokens signed with them stay valid.
func (i *Issuer) Rotate() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys = append(i.keys, i.takeNext())
}

// Replace makes the issuer sign with a new key and withdraws the old ones, as
// after a theft.
func (i *Issuer) Replace() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys = []*signingKey{i.takeNext()}
}

func (i *Issuer) takeNext() *signingKey {
	k := i.next
	if k == nil {
		k = i.newKey(i.keys[0].method.Alg())
	}
	i.next = nil
	return k
}

func (i *Issuer) newKey(algorithm string) *signingKey {
	i.made++
	k := &signingKey{id: "key-" + strconv.Itoa(i.made), method: jwt.GetSigningMethod(algorithm)}
	var err error
	switch m := k.method.(type) {
	case *jwt.SigningMethodECDSA:
		curve := map[int]elliptic.Curve{256: elliptic.P256(), 384: elliptic.P384(), 521: elliptic.P521()}[m.CurveBits]
		k.signer, err = ecdsa.GenerateKey(curve, rand.Reader)
	case *jwt.SigningMethodEd25519:
		_, k.signer, err = ed25519.GenerateKey(rand.Reader)
	case *jwt.SigningMethodRSA, *jwt.SigningMethodRSAPSS:
		k.signer, err = rsa.GenerateKey(rand.Reader, 2048)
	default:
		err = fmt.Errorf("no algorithm %q", algorithm)
	}
	if err != nil {
		panic("bearertest: " + err.Error())
	}
	return k
}

// Fetches returns how often the key set was asked for so far.
func (i *Issuer) Fetches() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.fetches
}

// SetDown makes the issuer refuse connections, or ends that.
func (i *Issuer) SetDown(down bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.down = down
}

// SetHanging makes the issuer take requests and not answer them, or ends that.
func (i *Issuer) SetHanging(hanging bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.hanging = hanging
}

// SetDelay makes the issuer take its time for each answer.
func (i *Issuer) SetDelay(d time.Duration) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.delay = d
}

// SetKeys makes the issuer answer with document, whatever it is, instead of its
// key set. Nil ends that.
func (i *Issuer) SetKeys(document []byte) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.raw = document
}

// ServeHTTP serves the issuer's metadata (OpenID Connect Discovery 1.0) and its
// key set, at their places under the path of URL: the latter is at
// .well-known/jwks.json, for a test that puts it into a file.
func (i *Issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if i.isDown() {
		panic(http.ErrAbortHandler) // the nearest that a handler can do
	}
	i.serve(w, r)
}

func (i *Issuer) isDown() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.down
}

func (i *Issuer) serve(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	hanging, delay := i.hanging, i.delay
	i.mu.Unlock()
	if hanging {
		<-r.Context().Done()
		return
	}
	if delay > 0 {
		select {
		case <-time.After(delay):
		case <-r.Context().Done():
			return
		}
	}
	const metadata, keys = "/.well-known/openid-configuration", "/.well-known/jwks.json"
	switch strings.TrimPrefix(r.URL.Path, i.path) {
	case metadata:
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(map[string]any{
			"issuer":   i.URL,
			"jwks_uri": strings.TrimSuffix(fill(i.URL, "common"), "/") + keys,
		})
	case keys:
		document := i.keySet()
		sum := sha256.Sum256(document)
		tag := fmt.Sprintf("%q", hex.EncodeToString(sum[:8]))
		w.Header().Set("ETag", tag)
		if r.Header.Get("If-None-Match") == tag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		w.Header().Set("Content-Type", "application/jwk-set+json")
		w.Write(document)
	default:
		http.NotFound(w, r)
	}
}

// keySet returns the document with the published keys and counts the request.
func (i *Issuer) keySet() []byte {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.fetches++
	if i.raw != nil {
		return i.raw
	}
	var set jwkset.JWKSMarshal
	all := i.keys[:len(i.keys):len(i.keys)]
	if i.next != nil {
		all = append(all, i.next)
	}
	for _, k := range all {
		jwk, err := jwkset.NewJWKFromKey(k.signer.Public(), jwkset.JWKOptions{Metadata: jwkset.JWKMetadataOptions{
			KID: k.id,
			ALG: jwkset.ALG(k.method.Alg()),
			USE: jwkset.UseSig,
		}})
		if err != nil {
			panic("bearertest: " + err.Error())
		}
		set.Keys = append(set.Keys, jwk.Marshal())
	}
	document, err := json.Marshal(set)
	if err != nil {
		panic("bearertest: " + err.Error())
	}
	return document
}

// Client returns a client whose requests reach the issuer within the process,
// and nothing else.
func (i *Issuer) Client() *http.Client { return &http.Client{Transport: transport{i}} }

type transport struct{ issuer *Issuer }

func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if home, _ := url.Parse(t.issuer.URL); t.issuer.isDown() || r.URL.Host != home.Host {
		return nil, errors.New("bearertest: connection refused")
	}
	rec := httptest.NewRecorder()
	t.issuer.serve(rec, r)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	resp := rec.Result()
	resp.Request = r
	return resp, nil
}
