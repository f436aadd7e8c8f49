package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	cryptorand "crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"example.com/bearer/bearertest"
)

// A workload is one kind of requests, and who serves them.
type workload struct {
	name       string
	group      string // the table that its figures stand in
	algorithm  string
	claims     bearertest.Claims
	stream     stream
	yardstick  contender // what the contenders are divided by
	contenders []contender

	own     bool                      // the handler reads ownClaims
	bound   bool                      // tokens are bound to a key, and come with a proof (RFC 9449)
	others  int                       // issuers beside that of the tokens
	refused func(token string) string // makes an Authorization header that must be refused; nil if all are good
}

// A stream says in which order tokens come.
type stream int

const (
	fresh stream = iota // each is new
	again               // the same one
	twice               // each has come once before, and none comes a third time
	zipf                // ten thousand: a few come often, and most of them seldom
)

// The tables. Their names say what a figure is.
const (
	newTokens   = "new tokens, × rawcrypto"
	knownTokens = "tokens that came before, × floor"
	boundTokens = "a proof with each request, × the check of its signature"
	refusals    = "refusals, µs"
	additions   = "what more costs, × the same without it"
)

var workloads = []workload{
	{name: "cold RS256 0.9 KB", group: newTokens, algorithm: "RS256", claims: auth0, stream: fresh, yardstick: rawCrypto, contenders: everybody},
	{name: "cold RS256 1.6 KB", group: newTokens, algorithm: "RS256", claims: keycloak, stream: fresh, yardstick: rawCrypto, contenders: everybody},
	{name: "cold RS256 2.6 KB", group: newTokens, algorithm: "RS256", claims: entra, stream: fresh, yardstick: rawCrypto, contenders: everybody},
	{name: "cold ES256", group: newTokens, algorithm: "ES256", claims: auth0, stream: fresh, yardstick: rawCrypto, contenders: everybody},
	{name: "cold EdDSA", group: newTokens, algorithm: "EdDSA", claims: auth0, stream: fresh, yardstick: rawCrypto, contenders: everybody},

	{name: "hot RS256 0.9 KB", group: knownTokens, algorithm: "RS256", claims: auth0, stream: again, yardstick: floor, contenders: everybody},
	{name: "hot RS256 1.6 KB", group: knownTokens, algorithm: "RS256", claims: keycloak, stream: again, yardstick: floor, contenders: everybody},
	{name: "hot RS256 2.6 KB", group: knownTokens, algorithm: "RS256", claims: entra, stream: again, yardstick: floor, contenders: everybody},
	{name: "hot, three claims", group: knownTokens, algorithm: "RS256", claims: with(auth0, "org_id", "org_65f1c2a94be1d700"), stream: again, yardstick: floor, contenders: slices.Insert(slices.Clone(everybody), 1, oursDecoding), own: true},
	{name: "second use, collector off", group: knownTokens, algorithm: "RS256", claims: auth0, stream: twice, yardstick: floor, contenders: everybody},
	{name: "zipf", group: knownTokens, algorithm: "RS256", claims: auth0, stream: zipf, yardstick: floor, contenders: everybody},

	{name: "DPoP ES256", group: boundTokens, algorithm: "RS256", claims: auth0, stream: again, yardstick: rawProof, contenders: []contender{ours, auth0Bound}, bound: true},

	{name: "no header", group: refusals, algorithm: "RS256", claims: auth0, stream: again, yardstick: floor, contenders: everybody,
		refused: func(string) string { return "" }},
	{name: "another scheme", group: refusals, algorithm: "RS256", claims: auth0, stream: again, yardstick: floor, contenders: everybody,
		refused: func(string) string { return "Basic bWVzc2FnZXM6c2VjcmV0" }},
	{name: "garbage", group: refusals, algorithm: "RS256", claims: auth0, stream: again, yardstick: floor, contenders: everybody,
		refused: func(token string) string { return "Bearer " + garbage(len(token)) }},

	{name: "RequireScope", group: additions, algorithm: "RS256", claims: auth0, stream: again, yardstick: ours, contenders: []contender{oursScoped}},
	{name: "Or of ten issuers, the last one’s token", group: additions, algorithm: "RS256", claims: auth0, stream: again, yardstick: ours, contenders: []contender{oursOfTen}, others: 9},
}

// garbage returns n characters as tokens have them, without a dot.
func garbage(n int) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	text := make([]byte, n)
	for i := range text {
		text[i] = alphabet[rand.IntN(len(alphabet))]
	}
	return string(text)
}

// A trial is a workload with an issuer and a client of its own.
type trial struct {
	workload
	iss    *bearertest.Issuer
	others []*bearertest.Issuer
	prover *prover
}

// newTrial makes issuers that live in this process: nothing here touches a network,
// and in a timed part nothing fetches at all.
func newTrial(w workload) *trial {
	t := &trial{workload: w, iss: newIssuer(issuerURL, w.algorithm), prover: newProver()}
	for i := range w.others {
		t.others = append(t.others, newIssuer(fmt.Sprintf("https://login%d.example.com/", i), w.algorithm))
	}
	return t
}

func newIssuer(url, algorithm string) *bearertest.Issuer {
	iss := bearertest.NewIssuer(url)
	iss.UseAlgorithm(algorithm)
	return iss
}

// token returns a token with the claims of the workload, or with others.
func (t *trial) token(claims bearertest.Claims) string {
	return t.iss.Token(audience, t.confirmed(claims))
}

// confirmed returns claims that bind the token to the client's key, if that is what the
// workload is about (RFC 9449, 6.1).
func (t *trial) confirmed(claims bearertest.Claims) bearertest.Claims {
	if !t.bound {
		return claims
	}
	return with(claims, "cnf", map[string]string{"jkt": t.prover.thumbprint})
}

// request returns the request that a client with the token would send.
func (t *trial) request(token string) *http.Request {
	if t.bound {
		return provenRequest(token, t.prover.proof(token, apiURL, time.Now()))
	}
	return newRequest("Bearer " + token)
}

// anyRequest is what all requests have in common, so that those that wait for their
// turn take little memory.
var anyRequest = func() *http.Request {
	r, err := http.NewRequest("GET", apiURL, nil)
	if err != nil {
		panic(err)
	}
	r.TLS = new(tls.ConnectionState)
	return r
}()

// newRequest returns a request with this Authorization header, or without one.
func newRequest(authorization string) *http.Request {
	r := anyRequest.WithContext(context.Background())
	r.Header = make(http.Header)
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	return r
}

func provenRequest(token, proof string) *http.Request {
	r := newRequest("DPoP " + token)
	r.Header.Set("DPoP", proof)
	return r
}

// requests returns those of a round. They are new ones each time if the workload
// needs that, and else the ones that were there before.
//
// A repeated token comes in copies: Go takes strings at one address for equal
// without a look at them, and no two requests from a network share their token's
// address.
func (t *trial) requests(before []*http.Request, x extent) []*http.Request {
	switch {
	case t.bound:
		token := t.token(t.claims)
		if before != nil {
			token = before[0].Header.Get("Authorization")[len("DPoP "):]
		}
		return t.all(slices.Repeat([]string{token}, x.tokens))
	case t.stream == fresh:
		return t.all(mint(t, x.tokens))
	case before != nil:
		return before
	case t.refused != nil:
		header := t.refused(t.token(t.claims))
		var all []*http.Request
		for range copies {
			all = append(all, newRequest(strings.Clone(header)))
		}
		return all
	case t.stream == twice:
		return t.all(mint(t, x.twice))
	case t.stream == zipf:
		distinct := t.all(mint(t, x.distinct))
		draw := rand.NewZipf(rand.New(rand.NewPCG(1, 2)), 1.07, 1, uint64(len(distinct)-1))
		all := make([]*http.Request, 16*len(distinct))
		for i := range all {
			all[i] = distinct[draw.Uint64()]
		}
		return all
	}
	return t.all(slices.Repeat([]string{t.token(t.claims)}, copies))
}

// once reports whether no request may come a second time.
func (t *trial) once() bool { return t.bound || t.stream == fresh }

// copies is how many requests have the same token, in turns.
const copies = 8

// all returns a request for each of tokens, in which each has its own copy of it.
func (t *trial) all(tokens []string) []*http.Request {
	all := make([]*http.Request, len(tokens))
	for i, token := range tokens {
		all[i] = t.request(token)
	}
	return all
}

// A prover is a client with a key of its own for ES256.
type prover struct {
	key             *ecdsa.PrivateKey
	jwk, thumbprint string
}

func newProver() *prover {
	key, err := ecdsa.GenerateKey(elliptic.P256(), cryptorand.Reader)
	if err != nil {
		panic(err)
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		panic(err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	// The members and their order are those of RFC 7638, 3.2, so that this is also
	// what the thumbprint is made of.
	jwk := fmt.Sprintf(`{"crv":"P-256","kty":"EC","x":%q,"y":%q}`, encode(point[1:33]), encode(point[33:]))
	return &prover{key, jwk, digest(jwk)}
}

// proof returns a proof for a GET request with token, made at the given time.
func (p *prover) proof(token, url string, at time.Time) string {
	encode := base64.RawURLEncoding.EncodeToString
	signed := encode(fmt.Appendf(nil, `{"typ":"dpop+jwt","alg":"ES256","jwk":%s}`, p.jwk)) + "." +
		encode(fmt.Appendf(nil, `{"jti":%q,"htm":"GET","htu":%q,"iat":%d,"ath":%q}`, cryptorand.Text(), url, at.Unix(), digest(token)))
	signature, err := jwt.SigningMethodES256.Sign(signed, p.key)
	if err != nil {
		panic(err)
	}
	return signed + "." + encode(signature)
}

func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
