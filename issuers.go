package bearer

import (
	"fmt"
	"slices"
	"strings"

	"example.com/bearer/internal/clip"
	"example.com/bearer/internal/strictjson"
)

const maxUnverified = 1024 // members of a payload in which "iss" is looked for

// issuers choose who judges a token.
type issuers struct {
	all       []*verifier
	exact     map[string]*verifier // by the issuer; those without a template
	templates []*verifier
}

func newIssuers(all ...*verifier) *issuers {
	is := &issuers{all: all, exact: make(map[string]*verifier, len(all))}
	for _, v := range all {
		if v.template {
			is.templates = append(is.templates, v)
		} else {
			is.exact[v.issuer] = v
		}
	}
	return is
}

// of returns the verifier of the issuer that t claims to be from. That is the only
// thing that an unverified claim decides: the verifier checks it, as it checks all
// the rest.
func (is *issuers) of(t *token) (*verifier, error) {
	if len(is.all) == 1 {
		return is.all[0], nil
	}
	issuer, err := t.unverifiedIssuer()
	if err != nil {
		return nil, err
	}
	if v := is.byName(issuer); v != nil {
		return v, nil
	}
	// The header's encoding has not been looked at yet.
	if !isToken68(t.text) {
		return nil, &cause{reason: "malformed", err: errEncoding, detail: "the header is not base64url"}
	}
	return nil, &cause{reason: "issuer", claim: "iss", got: clip.String(issuer), want: is.names()}
}

// byName returns the verifier that judges tokens of issuer, or nil.
func (is *issuers) byName(issuer string) *verifier {
	if v := is.exact[issuer]; v != nil {
		return v
	}
	for _, v := range is.templates {
		if v.mayBe(issuer) {
			return v
		}
	}
	return nil
}

// names lists the issuers for a log record, but not too many.
func (is *issuers) names() string {
	const most = 10
	var names []string
	for _, v := range is.all[:min(len(is.all), most)] {
		names = append(names, v.issuer)
	}
	list := strings.Join(names, " or ")
	if more := len(is.all) - most; more > 0 {
		list += fmt.Sprintf(" or one of %d more", more)
	}
	return list
}

// unverifiedIssuer returns what t says that its issuer is.
func (t *token) unverifiedIssuer() (string, error) {
	if err := t.decode(); err != nil {
		return "", err
	}
	issuer := ""
	o := strictjson.Object{Text: string(t.payload), MaxMembers: maxUnverified}
	for o.Next() {
		if o.Name == "iss" {
			issuer, _ = o.Value.Text()
			break
		}
	}
	return issuer, nil
}

// Or returns a Middleware that accepts the tokens of m's issuer and those of
// other's, for an API that serves the customers of one and the partners of
// another. A token's "iss" claim chooses which of the two judges it, by its own
// keys, audience and claims alone. Tokens of any other issuer are refused
// without asking anybody for keys.
//
// All else is as with m: the header, the realm, the log, the replies, the metadata,
// which name other's authorization servers too unless
// Config.Metadata.AuthorizationServers names them all. m and
// other stay usable by themselves and share their keys with the result, which
// is a Middleware of its own: the wrappers of m do not trust what it verified.
//
// Or panics if m and other accept the same issuer, since one Middleware with all
// the audiences does that, if they look for tokens in different headers, if they
// differ in what they ask of bound tokens (DPoP, whether there is a Certificate, and
// RequireBound), and if m's metadata would have to name an issuer of other's that is
// no URL.
func (m *Middleware) Or(other *Middleware) *Middleware {
	if m.header != other.header {
		panic(fmt.Sprintf("bearer: Or: one has its tokens in the header %s, the other in %s", m.header, other.header))
	}
	if !m.bindings.same(&other.bindings) {
		panic("bearer: Or: the two ask for different proofs of bound tokens: DPoP, Certificate and RequireBound must be the same")
	}
	for _, a := range m.issuers.all {
		for _, b := range other.issuers.all {
			if a.mayBe(b.issuer) || b.mayBe(a.issuer) {
				panic(fmt.Sprintf("bearer: Or: both accept the issuer %q; one Middleware with all the audiences does that", a.issuer))
			}
		}
	}
	both := *m
	both.issuers = newIssuers(slices.Concat(m.issuers.all, other.issuers.all)...)
	both.maxLength = max(m.maxLength, other.maxLength)
	both.document = m.document.or(other)
	both.cache = newTokenCache(max(m.cache.capacity(), other.cache.capacity()))
	return &both
}
