package bearer

import (
	"context"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/golang-jwt/jwt/v5"

	"example.com/bearer/internal/base64url"
	"example.com/bearer/internal/strictjson"
)

// Bounds on what a stranger may send.
const (
	maxTokenLength = 16 << 10     // bytes of the encoded token
	maxKeyID       = 256          // bytes of "kid"
	maxParameters  = 256          // members of the header, inner objects included
	maxUnverified  = 1024         // members of a payload in which Or looks for "iss"
	maxNumericDate = 253402300799 // 9999-12-31T23:59:59Z
)

// A verifier judges the tokens of one issuer.
type verifier struct {
	issuer        string
	template      bool     // issuer is one, see Config.IssuerTemplate
	tenants       []string // accepted with a template; empty: all
	audience      []string
	audienceClaim string
	scopeClaims   []string
	algorithms    []string // accepted
	leeway        time.Duration
	validator     *jwt.Validator
	keys          *keys
	cache         *tokenCache // nil if there is none
}

// verify takes a token its whole way: canonical form, header, key, signature,
// claims. The order matters. The form comes first because everything that knows
// a token by its text stands on a token having but one text. The signature
// comes before the claims because until then they are a stranger's.
//
// A token that went this way before, and for which nothing has changed since,
// need not go it again.
func (v *verifier) verify(ctx context.Context, token string) (*Claims, error) {
	// The clock is a good part of what a token costs that is in the cache, and
	// the monotonic one alone would be half of it. But it stands still while a
	// machine is suspended, and tokens expire meanwhile.
	now := time.Now()
	if e := v.cache.get(token); e != nil && e.valid(now) {
		// The keys have an age too. A look at them may show that this token's
		// is gone.
		if _, err := v.keys.usable(ctx, now); err != nil {
			return nil, err
		}
		if !e.key.withdrawn.Load() {
			return e.claims, nil
		}
	}

	s := scratchPool.Get().(*scratch)
	defer s.free()
	p, err := s.split(token)
	if err != nil {
		return nil, err
	}
	h := v.keys.remembered(p.header)
	if h == nil {
		if h, err = v.readHeader(s, p); err != nil {
			return nil, err
		}
	}
	k, err := v.checkSignature(ctx, h, p, v.keys.arrival(now))
	if err != nil {
		return nil, err
	}
	c, err := v.readClaims(s, string(p.payload), k)
	if err != nil {
		return nil, err
	}
	v.cache.put(token, c, k, v.leeway, now)
	return c, nil
}

// A scratch is the memory that the verification of one token needs and that
// nobody sees afterwards.
type scratch struct {
	decoded    [maxTokenLength * 3 / 4]byte // the token's payload, signature and header
	used       int                          // of decoded
	registered registeredClaims
}

var scratchPool = sync.Pool{New: func() any { return new(scratch) }}

func (s *scratch) free() {
	s.used = 0
	s.registered = registeredClaims{}
	scratchPool.Put(s)
}

// parts is a token in JWS compact form (RFC 7515, section 7.1), taken apart.
type parts struct {
	header    string // encoded
	signed    string // encoded: header, dot, payload
	payload   []byte
	signature []byte
}

// split takes token apart. It refuses a token that is not the one canonical
// encoding of what it says, but leaves the encoding of the header to
// readHeader: a remembered one need not be looked at again.
func (s *scratch) split(token string) (parts, error) {
	if len(token) > maxTokenLength {
		return parts{}, invalidToken("the token is too long", &refusal{
			reason: "too_long",
			err:    jwt.ErrTokenMalformed,
			got:    strconv.Itoa(len(token)) + " bytes",
			want:   strconv.Itoa(maxTokenLength) + " at most",
		})
	}
	header, rest, _ := strings.Cut(token, ".")
	payload, signature, ok := strings.Cut(rest, ".")
	if !ok || strings.IndexByte(signature, '.') >= 0 {
		r := &refusal{reason: "malformed", err: errEncoding, detail: "not three parts with dots between them"}
		switch strings.Count(token, ".") {
		case 0:
			r.hint = "an opaque token; some issuers make a JWT only when asked for an audience"
		case 4:
			r.hint = "an encrypted token (JWE)"
		}
		return parts{}, malformed(r)
	}
	p := parts{header: header, signed: token[:len(token)-len(signature)-1]}
	if p.payload, ok = s.decode(payload); !ok {
		return parts{}, malformed(&refusal{reason: "malformed", err: errEncoding, detail: "the payload is not base64url"})
	}
	if p.signature, ok = s.decode(signature); !ok {
		return parts{}, malformed(&refusal{reason: "malformed", err: errEncoding, detail: "the signature is not base64url"})
	}
	return p, nil
}

// decode decodes a part of the token into memory that s.free takes back.
func (s *scratch) decode(part string) ([]byte, bool) {
	if part == "" {
		return nil, false // the shortest JSON and the shortest signature are longer
	}
	n, ok := base64url.Decode(s.decoded[s.used:], part)
	out := s.decoded[s.used : s.used+n : s.used+n]
	s.used += n
	return out, ok
}

// A header is a JOSE header that passed every check.
type header struct {
	method jwt.SigningMethod
	alg    string     // one name for one thing: "EdDSA" also where the token says "Ed25519"
	kid    string     // "" if the token names no key
	nonce  bool       // for a hint
	token  *jwt.Token // what keyfunc wants to see

	// In a header that a key set remembers: the set, and its keys for h.
	set        *keySet
	candidates []candidate
}

// readHeader reads and checks the header of p.
func (v *verifier) readHeader(s *scratch, p parts) (*header, error) {
	text, ok := s.decode(p.header)
	if !ok {
		return nil, malformed(&refusal{reason: "malformed", err: errEncoding, detail: "the header is not base64url"})
	}
	var (
		alg, typ, kid, forbidden string
		hasTyp, hasKID           bool
		wrongType                string // a parameter that should be a string
		nonce                    bool
	)
	str := func(v strictjson.Value, name string) string {
		text, ok := v.Text()
		if !ok {
			wrongType = name
		}
		return text
	}
	o := strictjson.Object{Text: string(text), MaxMembers: maxParameters}
	for o.Next() {
		switch o.Name {
		case "alg":
			alg = str(o.Value, "alg")
		case "typ":
			typ, hasTyp = str(o.Value, "typ"), true
		case "kid":
			kid, hasKID = str(o.Value, "kid"), true
		case "crit", "b64":
			forbidden = o.Name
		case "nonce":
			nonce = true
		}
	}
	if err := o.Err(); err != nil {
		return nil, malformed(&refusal{reason: "malformed", detail: "the header is " + err.Error()})
	}
	if wrongType != "" {
		return nil, malformed(&refusal{reason: "malformed", claim: wrongType, detail: "a header parameter is not a string"})
	}
	// RFC 7515, section 4.1.11: no extension is understood here, so none that
	// is critical can be. "b64" (RFC 7797) changes what is signed.
	if forbidden != "" {
		return nil, unverifiable("the token's header asks for an extension that is not supported", &refusal{
			reason: "crit", claim: forbidden,
		})
	}
	method := methods[alg]
	if method == nil || !slices.Contains(v.algorithms, method.Alg()) {
		return nil, unverifiable("the token's signature algorithm is not accepted", &refusal{
			reason: "algorithm",
			claim:  "alg",
			got:    clip(alg),
			want:   strings.Join(v.algorithms, " or "),
		})
	}
	// RFC 8725, section 3.11. Anything else says that the token is for another
	// use: an ID token in new profiles, a DPoP proof, a logout token.
	if hasTyp && !slices.ContainsFunc(accessTokenTypes, func(t string) bool { return strings.EqualFold(t, typ) }) {
		return nil, unverifiable("the token is not an access token", &refusal{
			reason: "type",
			claim:  "typ",
			got:    clip(typ),
			want:   strings.Join(accessTokenTypes, " or "),
		})
	}
	if hasKID && (kid == "" || len(kid) > maxKeyID || strings.ContainsFunc(kid, unicode.IsControl)) {
		return nil, malformed(&refusal{reason: "malformed", claim: "kid", detail: "not a key id"})
	}
	h := &header{method: method, alg: method.Alg(), kid: kid, nonce: nonce}
	h.token = &jwt.Token{Method: method, Header: map[string]any{"alg": h.alg}}
	if hasKID {
		h.token.Header["kid"] = kid
	}
	return h, nil
}

// accessTokenTypes are the values of "typ" that an access token may have, in
// any letter case (RFC 7519, section 5.1; RFC 9068, section 2.1).
var accessTokenTypes = []string{"JWT", "at+jwt", "application/at+jwt"}

// checkSignature returns the issuer's key that p was signed with.
func (v *verifier) checkSignature(ctx context.Context, h *header, p parts, arrived arrival) (*key, error) {
	for {
		set, err := v.keys.usable(ctx, arrived.at)
		if err != nil {
			return nil, err
		}
		candidates, known := set.candidates(h)
		for _, c := range candidates {
			if c.verify(h.method, p) {
				set.remember(p.header, h, candidates)
				return c.key, nil
			}
		}
		if known {
			r := &refusal{reason: "signature", err: jwt.ErrTokenSignatureInvalid, claim: "kid", got: clip(h.kid)}
			if len(candidates) == 0 {
				r.reason, r.err, r.detail = "key", jwt.ErrTokenUnverifiable, "the issuer's key with this id cannot be used with "+h.alg
			}
			if h.nonce {
				r.hint = "a header with a nonce: probably a token for Microsoft Graph, which nobody else can verify"
			}
			return nil, invalidToken("the token's signature is invalid", r)
		}
		// No key with this id, or a token without an id that none of the keys
		// verifies: the issuer may have a key that is not known here yet.
		if err := v.keys.renewFor(ctx, set, h.kid, arrived); err != nil {
			return nil, err
		}
	}
}

// registeredClaims are those claims that golang-jwt's validator judges. Their
// types have been checked before.
type registeredClaims struct {
	iss, sub      string
	aud           []string
	exp, nbf, iat *jwt.NumericDate
	dates         [3]jwt.NumericDate
}

func (c *registeredClaims) GetIssuer() (string, error)                   { return c.iss, nil }
func (c *registeredClaims) GetSubject() (string, error)                  { return c.sub, nil }
func (c *registeredClaims) GetAudience() (jwt.ClaimStrings, error)       { return c.aud, nil }
func (c *registeredClaims) GetExpirationTime() (*jwt.NumericDate, error) { return c.exp, nil }
func (c *registeredClaims) GetNotBefore() (*jwt.NumericDate, error)      { return c.nbf, nil }
func (c *registeredClaims) GetIssuedAt() (*jwt.NumericDate, error)       { return c.iat, nil }

// readClaims reads and checks the payload of a token that was signed with k.
func (v *verifier) readClaims(s *scratch, payload string, k *key) (*Claims, error) {
	c := &Claims{payload: payload}
	reg := &s.registered
	wrongType := "" // a claim of another type than it must have
	text := func(v strictjson.Value, name string) string {
		text, ok := v.Text()
		if !ok {
			wrongType = name
		}
		return text
	}
	date := func(v strictjson.Value, name string, i int) (*jwt.NumericDate, time.Time) {
		t, ok := numericDate(v)
		if !ok {
			wrongType = name
		}
		reg.dates[i].Time = t
		return &reg.dates[i], t
	}
	bound, tenant := false, ""
	client := len(clientClaims)
	audience := lookup{path: v.audienceClaim}
	scopes := make([]lookup, 0, 4)
	for _, path := range v.scopeClaims {
		scopes = append(scopes, lookup{path: path})
	}

	o := strictjson.Object{Text: payload}
	for o.Next() {
		switch o.Name {
		case "iss":
			c.Issuer = text(o.Value, "iss")
		case "sub":
			c.Subject = text(o.Value, "sub")
		case "jti":
			c.ID = text(o.Value, "jti")
		case "exp":
			reg.exp, c.ExpiresAt = date(o.Value, "exp", 0)
		case "nbf":
			reg.nbf, c.NotBefore = date(o.Value, "nbf", 1)
		case "iat":
			reg.iat, c.IssuedAt = date(o.Value, "iat", 2)
		case "tid":
			tenant, _ = o.Value.Text()
		case "cnf":
			bound = true
		case "nonce", "at_hash":
			c.idToken = true
		case "client_id", "azp", "cid", "appid":
			if id, ok := o.Value.Text(); ok {
				if rank := slices.Index(clientClaims, o.Name); rank < client {
					client, c.ClientID = rank, id
				}
			}
		}
		if audience.may(o.Name) {
			audience.see(o.Name, o.Value)
		}
		for i := range scopes {
			if scopes[i].may(o.Name) {
				scopes[i].see(o.Name, o.Value)
			}
		}
	}
	if err := o.Err(); err != nil {
		return nil, malformed(&refusal{reason: "malformed", detail: "the payload is " + err.Error()})
	}
	if aud, ok := audience.find(); ok {
		if c.Audience, ok = readAudience(aud); !ok {
			wrongType = v.audienceClaim
		}
	}
	if wrongType != "" {
		return nil, invalidToken("the token's claims are malformed", &refusal{
			reason: "claim_type",
			err:    jwt.ErrTokenInvalidClaims,
			claim:  wrongType,
			detail: "a claim has the wrong type",
		})
	}
	reg.iss, reg.sub, reg.aud = c.Issuer, c.Subject, c.Audience
	if v.template {
		if err := v.checkTenant(c.Issuer, tenant, k); err != nil {
			return nil, err
		}
		reg.iss = v.issuer
	}
	if err := v.validator.Validate(reg); err != nil {
		return nil, v.invalidClaims(c, err)
	}
	// RFC 7800, section 3: a token that is bound to a key is worth nothing
	// without proof of that key, and no proof was asked for.
	if bound {
		return nil, invalidToken("the token is bound to a key and is no bearer token", &refusal{
			reason: "bound", err: jwt.ErrTokenInvalidClaims, claim: "cnf",
		})
	}
	for i := range scopes {
		if value, ok := scopes[i].find(); ok {
			c.Scope = readScope(value)
			break
		}
	}
	return c, nil
}

// clientClaims are the places of a client's id, the standard one first.
var clientClaims = []string{"client_id", "azp", "cid", "appid"}

// A lookup finds a claim by its exact name or else by a dotted path into
// nested objects. A name may have dots in it: the longest one that is there
// counts.
type lookup struct {
	path    string
	value   strictjson.Value // of the member named path[:matched]
	matched int
}

// may tells most names apart that see has no use for, at next to no cost.
func (l *lookup) may(name string) bool { return name != "" && l.path != "" && name[0] == l.path[0] }

func (l *lookup) see(name string, value strictjson.Value) {
	if len(name) > l.matched && strings.HasPrefix(l.path, name) &&
		(len(name) == len(l.path) || l.path[len(name)] == '.') {
		l.value, l.matched = value, len(name)
	}
}

func (l *lookup) find() (strictjson.Value, bool) {
	for l.matched > 0 && l.matched < len(l.path) {
		inner := lookup{path: l.path[l.matched+1:]}
		o := strictjson.Object{Text: string(l.value)}
		for o.Next() {
			inner.see(o.Name, o.Value)
		}
		*l = inner
	}
	return l.value, l.matched > 0
}

// readAudience reads a string or an array of strings (RFC 7519, section 4.1.3).
func readAudience(v strictjson.Value) ([]string, bool) {
	if text, ok := v.Text(); ok {
		return []string{text}, true
	}
	if v.Kind() != '[' {
		return nil, false
	}
	audience := make([]string, 0, 2) // the API and the issuer itself, often
	for e := range v.Elements() {
		text, ok := e.Text()
		if !ok {
			return nil, false
		}
		audience = append(audience, text)
	}
	return audience, true
}

// numericDate reads a NumericDate (RFC 7519, section 2) from the beginning of
// 1970 to the end of 9999. Beyond that, times do not survive conversions.
func numericDate(v strictjson.Value) (time.Time, bool) {
	if seconds, err := strconv.ParseUint(string(v), 10, 64); err == nil {
		return time.Unix(int64(min(seconds, math.MaxInt64)), 0), seconds <= maxNumericDate
	}
	seconds, err := strconv.ParseFloat(string(v), 64)
	if err != nil || v.Kind() == '-' || seconds > maxNumericDate {
		return time.Time{}, false
	}
	whole, fraction := math.Modf(seconds)
	return time.Unix(int64(whole), int64(fraction*1e9)), true
}
