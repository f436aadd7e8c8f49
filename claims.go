package bearer

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"example.com/bearer/internal/dpop"
	"example.com/bearer/internal/jwks"
	"example.com/bearer/internal/strictjson"
)

// Claims are the claims of a verified token. Those that this package checked
// are fields; [As] and [Claims.Decode] give the others.
//
// Each request has a copy of its own: what a handler does to it ends with the
// request.
type Claims struct {
	Issuer  string // "iss"
	Subject string // "sub"; empty if the token has none

	// ClientID is the OAuth client that the token was issued to: "client_id"
	// (RFC 9068), or else "azp", "cid" or "appid", where other issuers put it.
	ClientID string

	ID        string    // "jti"; empty if the token has none
	Audience  []string  // the claim that Config.AudienceClaim names: "aud"
	Scope     Scope     // the first of Config.ScopeClaims that is present
	ExpiresAt time.Time // "exp"
	IssuedAt  time.Time // "iat"; the zero time if the token has none
	NotBefore time.Time // "nbf"; the zero time if the token has none

	// How the user logged in, for [Middleware.RequireAuthentication].
	ACR      string    // "acr"; empty if the token has none, or no string there
	AuthTime time.Time // "auth_time"; the zero time if the token has none, or no time there

	// Bound is what the token is bound to, of which the sender has given proof.
	Bound Binding

	payload *payload     // what the claims were read from; nil if they are not from a token
	idToken bool         // it looks like an ID token: for a hint in the log
	cnf     confirmation // judged anew for each request
}

// Decode unmarshals the token's whole payload into v, as [json.Unmarshal] does.
// It is for claims of your own:
//
//	var own struct {
//		Tenant string `json:"tenant"`
//	}
//	err := claims.Decode(&own)
//
// Claim names are case-sensitive, and json.Unmarshal's are not. So that no
// "ISS" takes the place of the "iss" that was checked, members that differ from
// one of the names that this package knows ("iss", "sub", "aud", "exp", "nbf",
// "iat", "jti", "cnf", "scope", "scp", "client_id", "azp", "cid", "appid",
// "tid", "acr", "auth_time", "authorization_details") by letter case only are left
// out.
//
// Decode fails if v does not fit the payload, and for Claims that did not come
// from a token. It may be called by several goroutines at once. [As] is faster where
// tokens come again and nobody changes the value.
func (c *Claims) Decode(v any) error {
	if c.payload == nil {
		return errors.New("bearer: Decode: the claims did not come from a token")
	}
	text := []byte(c.payload.text)
	if hasImpostor(c.payload.text) {
		text = []byte{'{'}
		o := strictjson.Object{Text: c.payload.text}
		for o.Next() {
			if impostor(o.Name) {
				continue
			}
			if len(text) > 1 {
				text = append(text, ',')
			}
			text = appendJSON(text, o.Name)
			text = append(append(text, ':'), o.Value...)
		}
		text = append(text, '}')
	}
	return json.Unmarshal(text, v)
}

func hasImpostor(payload string) bool {
	o := strictjson.Object{Text: payload}
	for o.Next() {
		if impostor(o.Name) {
			return true
		}
	}
	return false
}

// impostor reports whether encoding/json would take the member name for that of
// a registered claim, although it is another.
func impostor(name string) bool {
	for _, registered := range [...]string{"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "cnf", "scope", "scp", "client_id", "azp", "cid", "appid", "tid", "acr", "auth_time", "authorization_details"} {
		if name != registered && strings.EqualFold(name, registered) {
			return true
		}
	}
	return false
}

// A Binding is what a token is bound to, by SHA-256 thumbprints in base64url. The zero
// value is that of a bearer token.
type Binding struct {
	KeyThumbprint  string // of the client's key (RFC 9449, section 6.1); empty if it is bound to none
	CertThumbprint string // of the client's certificate (RFC 8705, section 3.1); empty if it is bound to none
}

// A confirmation says what a token is bound to by its "cnf" claim (RFC 7800, section
// 3.1). The zero value is that of a bearer token.
type confirmation struct {
	key         bool // a key, by its thumbprint: "jkt" (RFC 9449, section 6.1)
	certificate bool // "x5t#S256" (RFC 8705, section 3.1)
	other       bool // something that is not checked here, or nothing that could be
}

// readConfirmation reads the "cnf" claim. A thumbprint that is no string is one that
// nothing has.
func (c *Claims) readConfirmation(v strictjson.Value) {
	if v.Kind() != '{' {
		c.cnf.other = true
		return
	}
	o := strictjson.Object{Text: string(v)}
	for o.Next() {
		switch o.Name {
		case "jkt":
			c.cnf.key = true
			c.Bound.KeyThumbprint, _ = o.Value.Text()
		case "x5t#S256":
			c.cnf.certificate = true
			c.Bound.CertThumbprint, _ = o.Value.Text()
		case "jwk", "jwe", "jku", "kid": // RFC 7800, sections 3.2 to 3.5
			c.cnf.other = true
		}
	}
	if !c.cnf.key && !c.cnf.certificate {
		c.cnf.other = true
	}
}

// A verified token is what verification made of it. It does not change, and serves
// all requests with the token: each gets a copy of the claims.
type verified struct {
	claims  Claims
	payload payload // that claims.payload points to
	by      *verifier
	found   *found    // through which by was come to; nil if by is one of the fixed ones
	key     *jwks.Key // that signed the token
	from    int64     // microseconds of Unix time: the token is valid after that,
	until   int64     // and before this
	joined  int       // bytes of claims.Scope; zero if it is a part of the payload
}

// holds reports whether the token's times hold, its key is still published, and its
// issuer still accepted.
// Within the microseconds in which the times begin and end it reports false:
// verification is more precise.
func (v *verified) holds(now time.Time) bool {
	t := now.UnixMicro()
	return v.from < t && t < v.until && !v.key.Withdrawn() && (v.found == nil || v.found.counts(t))
}

// copyClaims returns a copy of the claims for a caller to own.
func (v *verified) copyClaims() *Claims {
	c := v.claims
	c.Audience = slices.Clone(c.Audience)
	return &c
}

// scopeHint tells the classic mistake behind a token without scopes.
func (c *Claims) scopeHint() string {
	if c.Scope != "" || c.payload == nil {
		return ""
	}
	o := strictjson.Object{Text: c.payload.text}
	for o.Next() {
		switch o.Name {
		case "permissions", "roles", "realm_access", "groups":
			return "the token has no scopes but \"" + o.Name + "\": Config.ScopeClaims can read it"
		}
	}
	return ""
}

type contextKey struct{}

// A claimsContext carries claims. It is a type of its own and no
// context.WithValue, because it then takes one allocation less space and time
// on every request, and because by must not be for others to set.
type claimsContext struct {
	context.Context
	claims   *Claims    // nil for an anonymous request
	verified *verified  // what the claims are of; nil if there are none, or if they came by NewContext
	cached   bool       // for Outcome
	asked    int64      // when Revoked was, in microseconds of Unix time; zero if it was not
	used     []dpop.Use // the proofs that the request has used up, for whichever Middleware
	by       any        // the Middleware that judged the request; nil if the claims came by NewContext

	request  http.Request // the copy of the request that has this context: here, for an allocation less
	own      Claims       // the request's copy, that claims points to
	audience [2]string    // room for its audience, which is seldom longer
}

// newClaimsContext returns a context for a request with the token that v is.
func newClaimsContext(ctx context.Context, by any, v *verified, cached bool) *claimsContext {
	c := &claimsContext{Context: ctx, verified: v, cached: cached, by: by, own: v.claims}
	c.own.Audience = append(c.audience[:0], v.claims.Audience...)
	c.claims = &c.own
	return c
}

// copyRequest returns a copy of r that has c as its context. giveBack must follow when
// the copy has served.
func (c *claimsContext) copyRequest(r *http.Request) *http.Request {
	keepTrailers(r)
	c.request = *r.WithContext(c)
	return &c.request
}

// keepTrailers lets a copy of r see trailers that no header announced, as a chunked
// body may end with (RFC 9112, section 7.1.2). net/http puts them into the request
// that it knows when the body has been read, and into a map if it has one: this one,
// which the copy has too.
func keepTrailers(r *http.Request) {
	if r.Trailer == nil && len(r.TransferEncoding) > 0 {
		r.Trailer = make(http.Header)
	}
}

// Value answers for the Middleware that asks, so that Middlewares within each other
// each find what they decided themselves, and for FromContext with what the
// innermost did.
func (c *claimsContext) Value(key any) any {
	if key == (contextKey{}) || c.by != nil && key == c.by {
		return c
	}
	return c.Context.Value(key)
}

// usedProofs returns the proofs that the request of ctx has used up.
func usedProofs(ctx context.Context) []dpop.Use {
	if c, ok := ctx.Value(contextKey{}).(*claimsContext); ok {
		return c.used
	}
	return nil
}

// FromContext returns the claims of the request that ctx belongs to. It reports
// false where no token was verified: outside of [Middleware.Handler], and
// behind [Middleware.Optional] for an anonymous request.
func FromContext(ctx context.Context) (*Claims, bool) {
	if c, ok := ctx.Value(contextKey{}).(*claimsContext); ok {
		return c.claims, c.claims != nil
	}
	return nil, false
}

// NewContext returns a context that carries c for [FromContext]. It is for tests
// of handlers, and for claims from [Middleware.Verify] where there is no HTTP
// request. It vouches for nothing: [Middleware.RequireScope] and its siblings
// do not trust claims that came this way.
func NewContext(ctx context.Context, c *Claims) context.Context {
	return &claimsContext{Context: ctx, claims: c, used: usedProofs(ctx)}
}
