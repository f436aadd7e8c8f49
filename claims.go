package bearer

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"example.com/bearer/internal/strictjson"
)

// Claims are the claims of a verified token. Those that this package checked
// are fields; [Claims.Decode] gives the others.
//
// One Claims value serves all requests that carry the same token, also at the
// same time: it must not be changed.
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

	payload string // the JSON object; empty if the claims are not from a token
	idToken bool   // it looks like an ID token: for a hint in the log
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
// "tid") by letter case only are left out.
//
// Decode fails if v does not fit the payload, and for Claims that did not come
// from a token. It may be called by several goroutines at once.
func (c *Claims) Decode(v any) error {
	if c.payload == "" {
		return errors.New("bearer: Decode: the claims did not come from a token")
	}
	text := []byte(c.payload)
	if hasImpostor(c.payload) {
		text = []byte{'{'}
		o := strictjson.Object{Text: c.payload}
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
	for _, registered := range [...]string{"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "cnf", "scope", "scp", "client_id", "azp", "cid", "appid", "tid"} {
		if name != registered && strings.EqualFold(name, registered) {
			return true
		}
	}
	return false
}

// scopeHint tells the classic mistake behind a token without scopes.
func (c *Claims) scopeHint() string {
	if c.Scope != "" {
		return ""
	}
	o := strictjson.Object{Text: c.payload}
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
	claims *Claims
	by     *Middleware // who verified them; nil if the claims came by NewContext
}

func (c *claimsContext) Value(key any) any {
	if key == (contextKey{}) {
		return c
	}
	return c.Context.Value(key)
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
	return &claimsContext{Context: ctx, claims: c}
}
