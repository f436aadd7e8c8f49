package bearer

import (
	"encoding/json"
	"errors"
	"strings"
	"time"

	"example.com/bearer/internal/strictjson"
)

// Claims are the claims of a verified token. Those that this package checked
// are fields; [As] and [Claims.Decode] give the others.
//
// Whoever gets them, from [FromContext] or elsewhere, has a copy of their own: what they do
// to it nobody else sees. [NewContext] hands changed ones on, as they are. An Audience from
// FromContext that is kept may keep the request in memory, which slices.Clone avoids.
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

	token *verified // what the claims were read from; nil if they are not from a token
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
	if c.token == nil {
		return errors.New("bearer: Decode: the claims did not come from a token")
	}
	text := c.token.payload()
	if hasImpostor(text) {
		o := strictjson.Object{Text: text}
		text = []byte{'{'}
		for o.Next() {
			if impostor(string(o.Name)) {
				continue
			}
			if len(text) > 1 {
				text = append(text, ',')
			}
			text = appendJSON(text, string(o.Name))
			text = append(append(text, ':'), o.Value...)
		}
		text = append(text, '}')
	}
	return json.Unmarshal(text, v)
}

func hasImpostor(payload []byte) bool {
	o := strictjson.Object{Text: payload}
	for o.Next() {
		if impostor(string(o.Name)) {
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

// readConfirmation reads the "cnf" claim, and what it binds the token to. A thumbprint
// that is no string is one that nothing has.
func readConfirmation(v strictjson.Value) (cnf confirmation, key, certificate []byte) {
	if v.Kind() != '{' {
		cnf.other = true
		return
	}
	o := strictjson.Object{Text: v}
	for o.Next() {
		switch string(o.Name) {
		case "jkt":
			cnf.key = true
			key, _ = o.Value.Bytes()
		case "x5t#S256":
			cnf.certificate = true
			certificate, _ = o.Value.Bytes()
		case "jwk", "jwe", "jku", "kid": // RFC 7800, sections 3.2 to 3.5
			cnf.other = true
		}
	}
	if !cnf.key && !cnf.certificate {
		cnf.other = true
	}
	return cnf, key, certificate
}

// scopeHint tells the classic mistake behind a token without scopes.
func (v *verified) scopeHint() string {
	if v.claim(partScope) != "" {
		return ""
	}
	o := strictjson.Object{Text: v.payload()}
	for o.Next() {
		switch string(o.Name) {
		case "permissions", "roles", "realm_access", "groups":
			return "the token has no scopes but \"" + string(o.Name) + "\": Config.ScopeClaims can read it"
		}
	}
	return ""
}

// maxDecoded is how many types As keeps values of for one token.
const maxDecoded = 8

// decoded is a list of what As made of a token's payload. An element does not change once
// it is in a list, and new ones come in front.
type decoded struct {
	result any // a *result of some type
	next   *decoded
}

type result[T any] struct {
	value T
	err   error
}

// As returns the token's payload as a T, decoded as [Claims.Decode] does it. It
// decodes only once for all requests that bring the token, as long as the token
// stays in the cache of [Config.TokenCache]; after that it costs next to nothing:
//
//	type own struct {
//		Tenant string   `json:"tenant"`
//		Roles  []string `json:"roles"`
//	}
//	mine, err := bearer.As[own](claims)
//
// The requests share what the T refers to. Maps, slices and what pointers point
// to must therefore not be changed; Decode makes a value of one's own.
//
// As fails if the payload does not fit a T, and then returns the zero T and the
// same error each time; and for Claims that are nil or did not come from a token.
// It may be called by several goroutines at once. If they are the first ones, each
// of them may decode, and all of them get the same value.
//
// For each token in the cache, which has 4 KiB at most, values of up to eight types
// are kept. Those of further types are decoded each time.
func As[T any](c *Claims) (T, error) {
	if c == nil || c.token == nil {
		var none T
		return none, errors.New("bearer: As: the claims did not come from a token")
	}
	r, _ := find[T](c.token.decoded.Load())
	if r == nil {
		r = new(result[T])
		if r.err = c.Decode(&r.value); r.err != nil {
			r = &result[T]{err: r.err} // nothing of what was decoded until then
		}
		r = keep(c.token, r)
	}
	return r.value, r.err
}

// find returns the result of type T in a list, or nil, and how many elements it
// looked at.
func find[T any](list *decoded) (*result[T], int) {
	n := 0
	for ; list != nil; list = list.next {
		if r, ok := list.result.(*result[T]); ok {
			return r, n
		}
		n++
	}
	return nil, n
}

// keep adds r to what is kept with v, if there is room, and returns it, or the one
// of its type that somebody else has kept meanwhile.
func keep[T any](v *verified, r *result[T]) *result[T] {
	for {
		list := v.decoded.Load()
		kept, n := find[T](list)
		switch {
		case kept != nil:
			return kept
		case n >= maxDecoded || v.decoded.CompareAndSwap(list, &decoded{r, list}):
			return r
		}
	}
}

// A lookup finds a claim by its exact name or else by a dotted path into
// nested objects. A name may have dots in it: the longest one that is there
// counts.
type lookup struct {
	path    string
	value   strictjson.Value // of the member named path[:matched]
	matched int
}

func (l *lookup) see(name []byte, value strictjson.Value) {
	n := len(name)
	if n > l.matched && n <= len(l.path) && l.path[:n] == string(name) && (n == len(l.path) || l.path[n] == '.') {
		l.value, l.matched = value, n
	}
}

func (l *lookup) find() (strictjson.Value, bool) {
	for l.matched > 0 && l.matched < len(l.path) {
		inner := lookup{path: l.path[l.matched+1:]}
		o := strictjson.Object{Text: l.value}
		for o.Next() {
			inner.see(o.Name, o.Value)
		}
		*l = inner
	}
	return l.value, l.matched > 0
}

// readAudience reads a string or an array of strings (RFC 7519, section 4.1.3), and
// appends them to audience, which is empty.
func readAudience(v strictjson.Value, audience [][]byte) ([][]byte, bool) {
	if text, ok := v.Bytes(); ok {
		return append(audience, text), true
	}
	if v.Kind() != '[' {
		return nil, false
	}
	for e := range v.Elements() {
		text, ok := e.Bytes()
		if !ok {
			return nil, false
		}
		audience = append(audience, text)
	}
	return audience, true
}
