package bearer

import (
	"fmt"
	"slices"
	"strings"

	"github.com/golang-jwt/jwt/v5"

	"example.com/bearer/internal/strictjson"
)

// Or returns a Middleware that accepts the tokens of m's issuer and those of
// other's, for an API that serves the customers of one and the partners of
// another. A token's "iss" claim chooses which of the two judges it, by its own
// keys, audience and claims alone. Tokens of any other issuer are refused
// without asking anybody for keys.
//
// All else is as with m: the header, the realm, the log, the replies. m and
// other stay usable by themselves and share their keys with the result, which
// is a Middleware of its own: the wrappers of m do not trust what it verified.
//
// Or panics if m and other accept the same issuer, since one Middleware with all
// the audiences does that, and if they look for tokens in different headers.
func (m *Middleware) Or(other *Middleware) *Middleware {
	if m.header != other.header {
		panic(fmt.Sprintf("bearer: Or: one has its tokens in the header %s, the other in %s", m.header, other.header))
	}
	for _, a := range m.verifiers {
		for _, b := range other.verifiers {
			if a.mayBe(b.issuer) || b.mayBe(a.issuer) {
				panic(fmt.Sprintf("bearer: Or: both accept the issuer %q; one Middleware with all the audiences does that", a.issuer))
			}
		}
	}
	both := *m
	both.verifiers = slices.Concat(m.verifiers, other.verifiers)
	return &both
}

const tenantPlaceholder = "{tenantid}"

func fillTemplate(template, tenant string) string {
	return strings.Replace(template, tenantPlaceholder, tenant, 1)
}

// checkTenant checks that issuer, tenant and key of a token belong together, as
// v.issuer, a template, says.
func (v *verifier) checkTenant(issuer, tenant string, k *key) error {
	r := &refusal{reason: "issuer", err: fmt.Errorf("%w: %w", jwt.ErrTokenInvalidClaims, jwt.ErrTokenInvalidIssuer)}
	switch {
	case tenant == "" || strings.ContainsAny(tenant, "/{}") || issuer != fillTemplate(v.issuer, tenant):
		r.claim, r.got, r.want = "iss", clip(issuer), v.issuer+" with the token's \"tid\""
	case len(v.tenants) > 0 && !slices.Contains(v.tenants, tenant):
		r.claim, r.got, r.want = "tid", clip(tenant), strings.Join(v.tenants, " or ")
	case k.issuer != "" && k.issuer != v.issuer && k.issuer != issuer:
		r.claim, r.got, r.want = "iss", clip(issuer), "the issuer of the key, "+clip(k.issuer)
	default:
		return nil
	}
	return invalidToken("the token's issuer is not accepted", r)
}

// mayBe reports whether issuer is v's, or one of the many that are.
func (v *verifier) mayBe(issuer string) bool {
	if !v.template {
		return issuer == v.issuer
	}
	before, after, _ := strings.Cut(v.issuer, tenantPlaceholder)
	return len(issuer) >= len(before)+len(after) && strings.HasPrefix(issuer, before) && strings.HasSuffix(issuer, after)
}

// verifierOf returns the verifier of the issuer that token claims to be from.
// That is the only thing that an unverified claim decides: the verifier checks
// it, as it checks all the rest.
func (m *Middleware) verifierOf(token string) (*verifier, error) {
	if len(m.verifiers) == 1 {
		return m.verifiers[0], nil
	}
	for _, v := range m.verifiers {
		if v.cache.get(token) != nil {
			return v, nil
		}
	}
	s := scratchPool.Get().(*scratch)
	defer s.free()
	p, err := s.split(token)
	if err != nil {
		return nil, err
	}
	issuer := ""
	o := strictjson.Object{Text: string(p.payload), MaxMembers: maxUnverified}
	for o.Next() {
		if o.Name == "iss" {
			issuer, _ = o.Value.Text()
			break
		}
	}
	var names []string
	for _, v := range m.verifiers {
		if v.mayBe(issuer) {
			return v, nil
		}
		names = append(names, v.issuer)
	}
	// The header's encoding has not been looked at yet.
	if !isToken68(token) {
		return nil, malformed(&refusal{reason: "malformed", err: errEncoding, detail: "the header is not base64url"})
	}
	return nil, invalidToken("the token's issuer is not accepted", &refusal{
		reason: "issuer",
		err:    fmt.Errorf("%w: %w", jwt.ErrTokenInvalidClaims, jwt.ErrTokenInvalidIssuer),
		claim:  "iss",
		got:    clip(issuer),
		want:   strings.Join(names, " or "),
	})
}
