package bearer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"example.com/bearer/internal/clip"
	"example.com/bearer/internal/jose"
	"example.com/bearer/internal/jwks"
	"example.com/bearer/internal/strictjson"
)

// A verifier judges the tokens of one issuer.
type verifier struct {
	issuer        string
	template      bool     // issuer is one, see Config.IssuerTemplate
	tenants       []string // accepted with a template; empty: all
	audience      []string
	audienceClaim string
	places        []lookup  // of the audience, and then of scopes
	letters       [256]bool // that the names begin with which see has a use for
	algorithms    []string  // accepted
	types         []string  // accepted, as mediaType has them
	maxLength     int       // of a token, in bytes
	leeway        time.Duration
	validator     *jwt.Validator
	keys          *keyring
	revoked       *revocation // its Middleware's; nil if there is none
	headers       headerMemo
}

// verify takes a token its whole way: header, key, signature, claims. The order
// matters. The signature comes before the claims because until then they are a
// stranger's.
//
// Keys are waited for without the token's scratch, so that thousands who wait hold
// next to nothing. Before that, "iss" is looked at too.
func (v *verifier) verify(ctx context.Context, t *token, now time.Time) (*verified, error) {
	if len(t.text) > v.maxLength { // another Middleware's tokens may be longer
		return nil, tooLong(len(t.text), v.maxLength)
	}
	if err := t.decode(); err != nil {
		return nil, err
	}
	h := v.headers.get(t.Header)
	known := h != nil
	if !known {
		var err error
		if h, err = t.readHeader(v.algorithms, v.types); err != nil {
			return nil, err
		}
	}
	arrival := v.keys.Arrival(now)
	set, err := v.keys.AtHand(now), error(nil)
	if set == nil {
		set, err = v.await(t, func() (*jwks.Set, error) { return v.keys.current(ctx, now) })
	}
	for err == nil {
		if key := findKey(set, h, t); key != nil {
			if !known {
				v.headers.put(set, t.Header, h)
			}
			if t.waited {
				now = time.Now()
			}
			return v.readClaims(t, key, now)
		}
		if set.Lists(h.kid) { // so there is nothing to be had from a newer one
			return nil, badSignature(set, h)
		}
		// No key with this id, or a token without an id that none of the keys
		// verifies: the issuer may have a key that is not known here yet. Each
		// set that awaitNewer returns is from a later fetch than the one before,
		// and it returns none once a fetch that began after the token came has
		// answered. So there are three rounds at most.
		old := set
		set, err = v.await(t, func() (*jwks.Set, error) { return v.keys.awaitNewer(ctx, old, h.kid, arrival) })
	}
	return nil, err
}

// await returns the keys that get waits for, and may ask the issuer for: not for a
// token that says itself that it is another's.
func (v *verifier) await(t *token, get func() (*jwks.Set, error)) (*jwks.Set, error) {
	if !t.routed {
		issuer, known, err := t.unverifiedIssuer()
		if err != nil {
			return nil, err
		}
		if known && !v.mayBe(issuer) {
			return nil, &cause{reason: "issuer", claim: "iss", got: clip.String(issuer), want: v.issuer, hint: v.issuerHint(issuer)}
		}
		t.routed = true
	}
	t.free()
	t.waited = true
	set, err := get()
	if err == nil {
		err = t.decode()
	}
	return set, err
}

// findKey returns the key of set that t was signed with, or nil.
func findKey(set *jwks.Set, h *header, t *token) *jwks.Key {
	for _, c := range set.Candidates(h.alg, h.kid) {
		if c.Verify(h.method, t.Signed, t.signature) {
			return c.Key
		}
	}
	return nil
}

// badSignature is the refusal of a token whose key is listed and did not sign it.
func badSignature(set *jwks.Set, h *header) error {
	c := &cause{reason: "signature", claim: "kid", got: clip.String(h.kid)}
	if len(set.Candidates(h.alg, h.kid)) == 0 {
		c.reason, c.detail = "key", "the issuer's key with this id cannot be used with "+h.alg
	}
	if h.nonce {
		c.hint = "a header with a nonce: probably a token for Microsoft Graph, which nobody else can verify"
	}
	return c
}

// readClaims reads and judges the payload of a token that was signed with k.
func (v *verifier) readClaims(t *token, k *jwks.Key, now time.Time) (*verified, error) {
	out := &verified{by: v, key: k, expires: absent, issued: absent, notBefore: absent, login: absent}
	tenant, err := v.scan(t, out)
	if err != nil {
		return nil, err
	}
	issuer := out.claim(partIssuer)
	if v.template {
		if err := v.checkTenant(issuer, tenant, k); err != nil {
			return nil, err
		}
		issuer = v.issuer
	}
	out.setSpan(v.leeway)
	// golang-jwt judges the registered claims: its rules are what users of its
	// errors know. A good token is told without it, which saves 1,200 instructions of
	// the 13,000 that a token takes besides its signature check.
	if !v.accepts(out, issuer, now) {
		if err := v.validate(out); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// validate has v.validator judge the claims of a token whose signature was checked.
func (v *verifier) validate(token *verified) error {
	c := token.copy()
	issuer := c.Issuer
	if v.template {
		issuer = v.issuer
	}
	if err := v.validator.Validate(registeredClaims{c, issuer}); err != nil {
		return v.invalidClaims(c, err)
	}
	return nil
}

// accepts reports whether v.validator would accept the token's claims at that time. Within
// the microseconds in which its times begin and end it may report false though it would
// (TestAcceptsAsValidator).
func (v *verifier) accepts(token *verified, issuer string, now time.Time) bool {
	var room [2]string
	return token.spans(now.UnixMicro()) && issuer == v.issuer && v.isFor(token.audience(room[:0]))
}

// isFor reports whether one of the audience's values is accepted.
func (v *verifier) isFor(audience []string) bool {
	return slices.ContainsFunc(audience, func(a string) bool { return slices.Contains(v.audience, a) })
}

// scan reads the claims of t into out, and judges nothing but their types. It returns
// the tenant besides.
func (v *verifier) scan(t *token, out *verified) (tenant string, err error) {
	var parts [numParts][]byte // of the token's scratch: out.write copies them
	wrongType := ""            // a claim of another type than it must have
	text := func(v strictjson.Value, name string) []byte {
		text, ok := v.Bytes()
		if !ok {
			wrongType = name
		}
		return text
	}
	date := func(v strictjson.Value, name string) int64 {
		t, ok := jose.NumericDate(v)
		if !ok {
			wrongType = name
		}
		return t.UnixMicro()
	}
	client := len(clientClaims)
	places := append(make([]lookup, 0, 4), v.places...)

	o := strictjson.Object{Text: t.payload}
	for o.Next() {
		switch string(o.Name) {
		case "iss":
			parts[partIssuer] = text(o.Value, "iss")
		case "sub":
			parts[partSubject] = text(o.Value, "sub")
		case "jti":
			parts[partID] = text(o.Value, "jti")
		case "exp":
			out.expires = date(o.Value, "exp")
		case "nbf":
			out.notBefore = date(o.Value, "nbf")
		case "iat":
			out.issued = date(o.Value, "iat")
		case "tid":
			if v.template { // or nobody asks for it
				tenant, _ = o.Value.Text()
			}
		case "cnf":
			out.cnf, parts[partKey], parts[partCert] = readConfirmation(o.Value)
		case "acr":
			parts[partACR], _ = o.Value.Bytes()
		case "auth_time":
			if t, ok := jose.NumericDate(o.Value); ok {
				out.login = t.UnixMicro()
			}
		case "nonce", "at_hash":
			out.idToken = true
		case "client_id", "azp", "cid", "appid":
			if id, ok := o.Value.Bytes(); ok {
				if rank := slices.Index(clientClaims, string(o.Name)); rank < client {
					client, parts[partClient] = rank, id
				}
			}
		}
		// Most names are none of them: 1,000 instructions less of 13,000.
		if len(o.Name) > 0 && v.letters[o.Name[0]] {
			for i := range places {
				places[i].see(o.Name, o.Value)
			}
		}
	}
	if err := o.Err(); err != nil {
		return "", &cause{reason: "malformed", detail: "the payload is " + err.Error()}
	}
	var (
		values [][]byte
		room   [2][]byte // for the API and the issuer itself, often
	)
	if aud, ok := places[0].find(); ok {
		if values, ok = readAudience(aud, room[:0]); !ok {
			wrongType = v.audienceClaim
		}
	}
	if wrongType != "" {
		return "", &cause{reason: "claim_type", claim: wrongType, detail: "a claim has the wrong type"}
	}
	for _, scope := range places[1:] {
		if value, ok := scope.find(); ok {
			parts[partScope] = readScope(value)
			break
		}
	}
	out.write(t.text, &parts, values)
	return tenant, nil
}

// invalidClaims tells what is wrong with claims that golang-jwt's validator did not
// accept. It may have found several faults; the first one here is told.
func (v *verifier) invalidClaims(c *Claims, err error) error {
	why := &cause{err: fmt.Errorf("%w: %w", jwt.ErrTokenInvalidClaims, err)} // as from jwt.Parser
	now := time.Now()
	switch {
	case c.Issuer == "" || errors.Is(err, jwt.ErrTokenInvalidIssuer):
		why.reason, why.claim, why.got, why.want = "issuer", "iss", clip.String(c.Issuer), v.issuer
		why.hint = v.issuerHint(c.Issuer)
	case !v.isFor(c.Audience):
		why.reason, why.claim = "audience", v.audienceClaim
		why.got, why.want = clip.String(strings.Join(c.Audience, " ")), strings.Join(v.audience, " or ")
		why.hint = audienceHint(c, v.audienceClaim, v.audience)
	case c.ExpiresAt.IsZero():
		why.reason, why.claim, why.got = "no_expiry", "exp", "missing"
	case errors.Is(err, jwt.ErrTokenExpired):
		why.reason, why.claim, why.got = "expired", "exp", c.ExpiresAt.UTC().Format(time.RFC3339)
		why.want = "later than " + now.Add(-v.leeway).UTC().Format(time.RFC3339)
	case errors.Is(err, jwt.ErrTokenNotValidYet):
		why.reason, why.claim, why.got = "not_yet_valid", "nbf", c.NotBefore.UTC().Format(time.RFC3339)
		why.hint = clockHint(c.NotBefore, now)
	case errors.Is(err, jwt.ErrTokenUsedBeforeIssued):
		why.reason, why.claim, why.got = "issued_in_future", "iat", c.IssuedAt.UTC().Format(time.RFC3339)
		why.hint = clockHint(c.IssuedAt, now)
	default:
		why.reason = "claims"
	}
	return why
}

const tenantPlaceholder = "{tenantid}"

func fillTemplate(template, tenant string) string {
	return strings.ReplaceAll(template, tenantPlaceholder, tenant)
}

// checkTenant checks that issuer, tenant and key of a token belong together, as
// v.issuer, a template, says.
func (v *verifier) checkTenant(issuer, tenant string, k *jwks.Key) error {
	c := &cause{reason: "issuer"}
	switch {
	case tenant == "" || strings.ContainsAny(tenant, "/{}") || issuer != fillTemplate(v.issuer, tenant):
		c.claim, c.got, c.want = "iss", clip.String(issuer), v.issuer+" with the token's \"tid\""
		c.hint = clip.Difference(issuer, fillTemplate(v.issuer, tenant))
	case len(v.tenants) > 0 && !slices.Contains(v.tenants, tenant):
		c.claim, c.got, c.want = "tid", clip.String(tenant), strings.Join(v.tenants, " or ")
	case k.Issuer != "" && k.Issuer != v.issuer && k.Issuer != issuer:
		c.claim, c.got, c.want = "iss", clip.String(issuer), "the issuer of the key, "+clip.String(k.Issuer)
	default:
		return nil
	}
	return c
}

// mayBe reports whether issuer is v's, or one of the many that are.
func (v *verifier) mayBe(issuer string) bool {
	if !v.template {
		return issuer == v.issuer
	}
	before, after, _ := strings.Cut(v.issuer, tenantPlaceholder)
	places := strings.Count(v.issuer, tenantPlaceholder)
	length := len(issuer) - (len(v.issuer) - places*len(tenantPlaceholder)) // of all tenants in it
	if length < 0 || length%places != 0 || !strings.HasPrefix(issuer, before) {
		return false
	}
	tenant, rest := issuer[len(before):][:length/places], issuer[len(before)+length/places:]
	return rest == fillTemplate(after, tenant)
}

// issuerHint tells the classic mistakes behind another issuer than v's.
func (v *verifier) issuerHint(got string) string {
	const v1, v2 = "https://sts.windows.net/", "https://login.microsoftonline.com/"
	want := v.issuer
	switch like := clip.Difference(got, want); {
	case like != "":
		return like
	case v.template && v.mayBe(otherSlash(got)):
		return clip.BySlash
	case strings.HasPrefix(got, v1) && strings.HasPrefix(want, v2):
		return "a version 1 token of Entra ID: set requestedAccessTokenVersion of the API to 2, or expect this issuer"
	case strings.HasPrefix(want, v1) && strings.HasPrefix(got, v2):
		return "a version 2 token of Entra ID: expect this issuer"
	}
	return ""
}

// clientClaims are the places of a client's id, the standard one first.
var clientClaims = []string{"client_id", "azp", "cid", "appid"}
