package bearer_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"example.com/bearer"
	"example.com/bearer/bearertest"
	"example.com/bearer/internal/strictjson"
)

// A place is where something hostile is read.
type place struct {
	name    string
	room    int    // bytes of it
	trusted bool   // not anybody's: it is an issuer's document, or behind a signature that holds
	reasons string // for which it may be refused, unless it is trusted
	make    func(g genome, room int) attempt
}

// An attempt is something hostile that is about to be read. Without work it is of no use.
type attempt struct {
	size   int // bytes that were sent
	work   func()
	reason func() string // of the refusal; empty if there is none
}

const (
	decodedRoom = 3 * (16<<10 - 400) / 4 // of a token of the greatest length
	proofRoom   = 3 * (8<<10 - 400) / 4  // of a proof
	foreign     = `"iss":"https://nobody.example.com/"`
)

var signature = "." + strings.Repeat("A", 342) // of no key

// attemptOf is a request with these headers to h, a handler of m's.
func attemptOf(m *bearer.Middleware, h http.Handler, header http.Header) attempt {
	r := httptest.NewRequest("GET", "/api/messages", nil)
	r.Header = header
	size := 0
	for _, values := range header {
		for _, v := range values {
			size += len(v)
		}
	}
	w := nullWriter{http.Header{}}
	return attempt{size, func() { h.ServeHTTP(w, r) }, func() string {
		_, err := m.Authenticate(r)
		return reasonOf(err)
	}}
}

// tokenRequest is a request with the token.
func tokenRequest(m *bearer.Middleware, token string) attempt {
	return attemptOf(m, m.Handler(ok), http.Header{"Authorization": {"Bearer " + token}})
}

func reasonOf(err error) string {
	var e *bearer.Error
	if errors.As(err, &e) {
		return e.Reason
	}
	return ""
}

// places are where strangers, users of an issuer and issuers have something read.
func places(t testing.TB, log *slog.Logger) []place {
	iss := bearertest.NewIssuer("https://login.example.com/")
	iss.UseAlgorithm("RS256")
	var all []*bearer.Middleware
	middleware := func(iss *bearertest.Issuer, change ...func(*bearer.Config)) *bearer.Middleware {
		m := newMiddleware(t, iss, append([]func(*bearer.Config){func(c *bearer.Config) {
			c.Logger, c.MaxTokenLength, c.TokenCache = log, 256<<10, -1
			c.ScopeClaims = []string{"realm_access.roles", "scope", "scp"}
		}}, change...)...)
		all = append(all, m)
		return m
	}
	single := middleware(iss)
	or := single.Or(middleware(bearertest.NewIssuer("https://other.example.com/")))
	for i := range 10 { // alike as far as strangers choose
		tenants := bearertest.NewIssuer(fmt.Sprintf("https://login.example.org/{tenantid}/%d", i))
		or = or.Or(middleware(tenants, func(c *bearer.Config) { c.Issuer, c.IssuerTemplate = "", tenants.URL }))
	}
	find := middleware(iss, func(c *bearer.Config) {
		c.FindIssuer = func(context.Context, string) (*bearer.Middleware, error) { return nil, nil }
	})
	template := middleware(bearertest.NewIssuer("https://login.example.org/{tenantid}/v2.0"), func(c *bearer.Config) {
		c.Issuer, c.IssuerTemplate = "", "https://login.example.org/{tenantid}/v2.0"
	})
	proofs := middleware(iss, withDPoP)
	cached := middleware(iss, func(c *bearer.Config) { c.TokenCache = 0 })
	forwarded := middleware(iss, func(c *bearer.Config) {
		c.TokenCache = 0
		c.Certificate = bearer.ForwardedCertificate(netip.MustParsePrefix("192.0.2.0/24")) // httptest's client
	})
	for _, m := range all {
		if err := m.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	header := encode(`{"alg":"RS256","kid":"` + iss.KeyID() + `"}`)
	unknown := `"alg":"RS256","kid":"nobody"`
	payloadOf := func(m *bearer.Middleware, header, last string) func(genome, int) attempt {
		return func(g genome, room int) attempt {
			text := g.render(room, "", []string{"iss"}, last)
			if last != "" && !reachesIssuer(text) {
				return attempt{} // the issuer would be asked for the key, and waited for
			}
			return tokenRequest(m, header+"."+encode(text)+signature)
		}
	}
	good := strings.Trim(payload(iss, ""), "{}")
	claims := []string{"scope", "scp", "realm_access", "aud", "acr", "cnf", "sub", "azp", "auth_time", "nbf", "jti", "tid"}
	signed := func(m *bearer.Middleware, h http.Handler, first string, names []string) func(genome, int) attempt {
		return func(g genome, room int) attempt {
			token := iss.Sign("", g.render(room, first, names, ""))
			return attemptOf(m, h, http.Header{"Authorization": {"Bearer " + token}})
		}
	}
	proof := func(header, payload string) attempt {
		return attemptOf(proofs, proofs.Handler(ok), http.Header{
			"Authorization": {"DPoP x"}, "Dpop": {encode(header) + "." + encode(payload) + ".AAAA"}})
	}
	keys := proofKeys(t)
	withKey := `{"typ":"dpop+jwt","alg":"ES256","jwk":` + keys[0].jwk + "}"
	client := bearertest.NewClient()
	bound := iss.Token(audience, keyBound(client))
	certificate := iss.Token(audience, certBound(client))

	list := []place{
		{name: "header", room: decodedRoom, reasons: "malformed algorithm type crit", make: func(g genome, room int) attempt {
			text := g.render(room, "", []string{"alg", "typ", "kid", "crit", "nonce"}, "")
			return tokenRequest(single, encode(text)+".e30"+signature)
		}},
		{name: "header of an unknown key", room: decodedRoom, reasons: "malformed type issuer", make: func(g genome, room int) attempt {
			text := g.render(room, unknown, []string{"typ", "nonce"}, "")
			return tokenRequest(single, encode(text)+"."+encode("{"+foreign+"}")+signature)
		}},
		{name: "payload with an unknown key", room: decodedRoom, reasons: "issuer", make: payloadOf(single, encode("{"+unknown+"}"), foreign)},
		{name: "payload where there is a template", room: decodedRoom, reasons: "issuer", make: payloadOf(template, encode("{"+unknown+"}"), foreign)},
		{name: "payload with Or", room: decodedRoom, reasons: "issuer", make: payloadOf(or, header, "")},
		{name: "payload with Or, its issuer last", room: decodedRoom, reasons: "issuer", make: payloadOf(or, header, foreign)},
		{name: "payload with FindIssuer", room: decodedRoom, reasons: "issuer", make: payloadOf(find, header, "")},
		{name: "header and payload", room: decodedRoom, reasons: "malformed issuer", make: func(g genome, room int) attempt {
			one := g.render(room*g.split/8, unknown, nil, "")
			two := g.render(room*(8-g.split)/8, "", nil, foreign)
			if !reachesIssuer(two) {
				return attempt{}
			}
			return tokenRequest(single, encode(one)+"."+encode(two)+signature)
		}},
		// Base64url that is wrong at its end only.
		{name: "base64url", room: decodedRoom, reasons: "malformed invalid_request", make: func(g genome, room int) attempt {
			parts := []string{header, "e30", signature[1:]}
			end := []string{"B", "*", "AB", "AAB", "="}[g.pick(15)%5]
			parts[g.pick(15)/5] = strings.Repeat("AAAA", room/3) + end
			return tokenRequest(single, strings.Join(parts, "."))
		}},
		{name: "proof header", room: proofRoom, reasons: "proof_form proof_key", make: func(g genome, room int) attempt {
			return proof(g.render(room, `"typ":"dpop+jwt","alg":"ES256"`, []string{"jwk", "kid"}, ""), "{}")
		}},
		{name: "proof key", room: proofRoom - 100, reasons: "proof_form proof_key", make: func(g genome, room int) attempt {
			jwk := g.render(room, `"crv":"P-521"`, []string{"n", "e", "x", "y", "kty", "alg", "use", "key_ops", "oth", "issuer"}, "")
			return proof(`{"typ":"dpop+jwt","alg":"ES256","jwk":`+jwk+"}", "{}")
		}},
		{name: "proof key that is one", room: 1, reasons: "proof_form proof_key", make: func(g genome, _ int) attempt {
			k := keys[g.pick(len(keys))]
			return proof(`{"typ":"dpop+jwt","alg":"`+k.alg+`","jwk":`+k.jwk+"}", "{}")
		}},
		{name: "proof payload", room: proofRoom - 200, reasons: "proof_form proof_htm proof_htu proof_iat", make: func(g genome, room int) attempt {
			return proof(withKey, g.render(room, "", []string{"iat", "exp", "nbf", "htu", "htm", "jti", "ath", "nonce"}, ""))
		}},
		{name: "proof payload with dates", room: proofRoom - 200, reasons: "proof_form proof_iat malformed", make: func(g genome, room int) attempt {
			return proof(withKey, g.render(room, `"jti":"j","htm":"GET","htu":"https://x"`, []string{"iat", "exp", "nbf"}, ""))
		}},
	}
	// Headers that are no token, or more than one.
	pieces := []string{"A", ".", "=", " ", "\t", "%", "é", ",", "Bearer ", "A.", "..A", "\"", "Bearer A,", "~"}
	odd := func(g genome, room int) string {
		var b strings.Builder
		for _, x := range g.genes {
			piece := pieces[genome{genes: []gene{x}}.pick(len(pieces))]
			b.WriteString(strings.Repeat(piece, room/len(g.genes)/len(piece)))
		}
		return b.String()
	}
	const anything = "no_credentials invalid_request malformed too_long proof_missing"
	for _, scheme := range []string{"", "Bearer ", "DPoP "} {
		list = append(list, place{name: "Authorization: " + scheme + "…", room: 64 << 10, reasons: anything, make: func(g genome, room int) attempt {
			return attemptOf(proofs, proofs.Handler(ok), http.Header{"Authorization": {scheme + odd(g, room)}})
		}})
	}
	list = append(list,
		place{name: "Authorization and DPoP, many", room: 64 << 10, reasons: "invalid_request", make: func(g genome, room int) attempt {
			all := slices.Repeat([]string{odd(g, 16)}, room/16)
			return attemptOf(proofs, proofs.Handler(ok), http.Header{"Authorization": all, "Dpop": all})
		}},
		// What the holder of a good token can do. One signature check is that of the token,
		// unless it is kept.
		place{name: "claims", room: decodedRoom, trusted: true, make: signed(single, single.Handler(ok), good, claims)},
		place{name: "claims of another API", room: decodedRoom, trusted: true, make: signed(single, single.Handler(ok), strings.Replace(good, audience, "x", 1), claims)},
		place{name: "claims and audience", room: decodedRoom, trusted: true, make: signed(single, single.Handler(ok), `"exp":1`, claims)},
		place{name: "scopes of a kept token", room: 2500, trusted: true, make: signed(cached, cached.RequireScope("aa")(ok), good, claims[:3])},
		place{name: "proof with a URL", room: 4000, trusted: true, make: func(g genome, room int) attempt {
			piece := []string{"/..", "/.", "%2e", "/a/..", "%C3%A9", "a", "/", "%41", "//", "/%2e%2e", "/a"}[g.pick(11)]
			text := client.Proof("GET", origin+"/"+strings.Repeat(piece, room/len(piece)), bound, nil)
			return attemptOf(proofs, proofs.Handler(ok), http.Header{"Authorization": {"DPoP " + bound}, "Dpop": {text}})
		}},
		place{name: "Client-Cert", room: 16<<10 - 100, trusted: true, make: func(g genome, room int) attempt {
			tail := []string{";a=1", `;a="\\"`, ";a", ";a=:AAAA:", ";a=1.5", ";a=?1", `;a=%"%ff"`, ";    a", `;a="`, ";a=a:/"}[g.pick(10)]
			value := ":MAMCAQE=:" + strings.Repeat(tail, min(room, 1<<g.genes[0].size%15)/len(tail))
			if g.pick(11) == 0 {
				value = ":" + strings.Repeat("MAMC", room/4) + ":"
			}
			return attemptOf(forwarded, forwarded.Handler(ok), http.Header{"Authorization": {"Bearer " + certificate}, "Client-Cert": {value}})
		}},
	)
	return append(list, documents(t, log)...)
}

// documents are the places of what an issuer publishes. Each is read by a Middleware of
// its own, as at the first fetch.
func documents(t testing.TB, log *slog.Logger) []place {
	iss := bearertest.NewIssuer("https://login.example.com/")
	const room = 1<<20 - 100
	fetch := func(document string, change func(*bearer.Config)) attempt {
		var m *bearer.Middleware
		ready := func() string { return reasonOf(m.Ready(t.Context())) }
		renew := func() { m = newMiddleware(t, iss, func(c *bearer.Config) { c.Logger = log }, change) }
		renew()
		return attempt{len(document), func() { renew(); ready() }, func() string { renew(); return ready() }}
	}
	set := func(document string) attempt {
		return fetch(document, func(c *bearer.Config) {
			c.FetchKeys = func(context.Context) ([]byte, error) { return []byte(document), nil }
		})
	}
	kinds := proofKeys(t)
	return []place{
		{name: "metadata", room: room, trusted: true, make: func(g genome, room int) attempt {
			document := g.render(room, "", []string{"issuer", "jwks_uri"}, "")
			return fetch(document, func(c *bearer.Config) {
				c.Client = &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
					return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader([]byte(document))), Request: r}, nil
				})}
			})
		}},
		{name: "key set", room: room, trusted: true, make: func(g genome, room int) attempt {
			return set(g.render(room, "", []string{"keys"}, ""))
		}},
		{name: "key set of many keys", room: room, trusted: true, make: func(g genome, room int) attempt {
			k := kinds[g.pick(len(kinds))]
			var b strings.Builder
			for n := 0; b.Len()+len(k.jwk)+20 < room; n++ {
				fmt.Fprintf(&b, `,{"kid":"%d",%s`, n, k.jwk[1:])
			}
			return set(`{"keys":[` + strings.TrimPrefix(b.String(), ",") + "]}")
		}},
		{name: "keys", room: room, trusted: true, make: func(g genome, room int) attempt {
			g.end = 0
			one := g.render(1000, `"kty":"RSA"`, []string{"n", "e", "x5c", "kid", "d"}, "")
			return set(`{"keys":[` + one + strings.Repeat(","+one, max(0, room/(len(one)+1)-1)) + "]}")
		}},
	}
}

// reachesIssuer reports whether the payload says whose it is, to who looks for it as
// the verifier does.
func reachesIssuer(payload string) bool {
	_, ok := strictjson.Find([]byte(payload), "iss", 1024)
	return ok
}

type proofKey struct{ alg, jwk string }

// proofKeys are keys that a stranger may put into a proof: small and large, good and bad.
func proofKeys(t testing.TB) (all []proofKey) {
	for _, c := range []struct {
		alg, crv string
		curve    elliptic.Curve
	}{{"ES256", "P-256", elliptic.P256()}, {"ES384", "P-384", elliptic.P384()}, {"ES512", "P-521", elliptic.P521()}} {
		k, err := ecdsa.GenerateKey(c.curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		point, err := k.PublicKey.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		add := func(x, y string) {
			all = append(all, proofKey{c.alg, fmt.Sprintf(`{"kty":"EC","crv":%q,"x":%q,"y":%q}`, c.crv, x, y)})
		}
		half := len(point) / 2
		x, y := point[1:1+half], point[1+half:]
		add(encode(string(x)), encode(string(y)))
		add(encode(string(x)), encode(string(x))) // on no curve
		add(strings.Repeat("_", 2000), strings.Repeat("_", 2000))
	}
	for _, n := range []int{256, 512, 513, 3000} {
		for _, e := range []string{"AQAB", "Aw", strings.Repeat("_", 1000)} {
			all = append(all, proofKey{"RS256", fmt.Sprintf(`{"kty":"RSA","n":%q,"e":%q}`, encode(strings.Repeat("\xff", n)), e)})
		}
	}
	return all
}
