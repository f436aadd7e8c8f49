package bearer

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"example.com/bearer/internal/clip"
)

// issuers choose who judges a token.
type issuers struct {
	all       []*verifier
	names     string               // of them for a log record, but not too many
	exact     map[string]*verifier // by the issuer; those without a template
	templates []*verifier
	finders   []*finder // asked about issuers that none of them is
}

func newIssuers(all []*verifier, finders []*finder) *issuers {
	is := &issuers{all: all, finders: finders, names: listNames(all, finders), exact: make(map[string]*verifier, len(all))}
	for _, v := range all {
		if v.template {
			is.templates = append(is.templates, v)
		} else {
			is.exact[v.issuer] = v
		}
	}
	return is
}

// of returns the verifier of the issuer that t claims to be from, and the standing of
// one that was found at run time. That is the only thing that an unverified claim
// decides: the verifier checks it, as it checks all the rest.
func (is *issuers) of(ctx context.Context, t *token, now time.Time) (*verifier, standing, error) {
	if len(is.all) == 1 && len(is.finders) == 0 {
		return is.all[0], nil, nil
	}
	issuer, _, err := t.unverifiedIssuer()
	if err != nil {
		return nil, nil, err
	}
	if v := is.byName(issuer); v != nil {
		t.routed = true
		return v, nil, nil
	}
	// The header's encoding has not been looked at yet.
	if !isToken68(t.Header) {
		return nil, nil, &cause{reason: "malformed", err: errEncoding, detail: "the header is not base64url"}
	}
	if len(is.finders) > 0 && isSane(issuer) {
		t.free() // thousands may wait
		t.waited = true
		for _, f := range is.finders {
			found, err := f.of(ctx, issuer, now)
			if err != nil {
				return nil, nil, issuerUnavailable(issuer, err)
			}
			if found != nil {
				t.routed = true
				return found.by, found, nil
			}
		}
	}
	c := &cause{reason: "issuer", claim: "iss", got: clip.String(issuer), want: is.names}
	if len(issuer) > maxIssuer {
		return nil, nil, c // like none
	}
	if v := is.byName(otherSlash(issuer)); v != nil {
		c.want, c.hint = v.issuer, clip.BySlash
	}
	for _, v := range is.all[:min(len(is.all), maxNames)] {
		if c.hint == "" {
			c.hint = v.issuerHint(issuer)
		}
	}
	return nil, nil, c
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

const maxNames = 10 // issuers in a log record

func listNames(all []*verifier, finders []*finder) string {
	var names []string
	for _, v := range all[:min(len(all), maxNames)] {
		names = append(names, v.issuer)
	}
	if more := len(all) - maxNames; more > 0 {
		names = append(names, fmt.Sprintf("one of %d more", more))
	}
	if len(finders) > 0 {
		names = append(names, "one that FindIssuer names")
	}
	return strings.Join(names, " or ")
}

// servers returns the authorization servers of all issuers, and whether these can be
// told.
func (is *issuers) servers() (servers []string, told bool) {
	told = len(is.finders) == 0
	for _, v := range is.all {
		more := v.servers()
		told = told && len(more) > 0
		servers = append(servers, more...)
	}
	return servers, told
}

// Or returns a Middleware that accepts the tokens of m's issuer and those of other's,
// for an API that serves the customers of one and the partners of another. The "iss"
// claim of a token chooses which of the two judges it, and then the keys, the audience
// and all other rules of that one count, and none of the other's. A token of any other
// issuer is refused, and nobody is asked for keys. With Config.FindIssuer, m's function
// is asked about an issuer that neither of them has, and then other's.
//
// Whatever is not about tokens is as with m: the header, the realm, the log, the
// replies, and the metadata, which name the authorization servers of both unless
// Config.Metadata.AuthorizationServers is set.
//
// m and other stay usable and share their keys with the result. The result is a Middleware
// of its own, though: what it has verified, a wrapper of m verifies again.
//
// Or panics
//
//   - if both accept the same issuer: one Middleware with all the audiences does that;
//   - if they look for tokens in different headers;
//   - if they differ in DPoP, in RequireBound, or in whether there is a Certificate;
//   - if m's metadata would have to name issuers of other's that cannot be told;
//   - if they share a FindIssuer, because one was made of the other.
func (m *Middleware) Or(other *Middleware) *Middleware {
	if m.header != other.header {
		panic(fmt.Sprintf("bearer: Or: one has its tokens in the header %s, the other in %s", m.header, other.header))
	}
	if !m.bindings.same(other.bindings) {
		panic("bearer: Or: the two ask for different proofs of bound tokens: DPoP, Certificate and RequireBound must be the same")
	}
	for _, a := range m.issuers.all {
		for _, b := range other.issuers.all {
			if a.mayBe(b.issuer) || b.mayBe(a.issuer) {
				panic(fmt.Sprintf("bearer: Or: both accept the issuer %q; one Middleware with all the audiences does that", a.issuer))
			}
		}
	}
	for _, f := range other.issuers.finders {
		if slices.Contains(m.issuers.finders, f) {
			panic("bearer: Or: both have the same FindIssuer")
		}
	}
	both := *m
	both.issuers = newIssuers(slices.Concat(m.issuers.all, other.issuers.all), slices.Concat(m.issuers.finders, other.issuers.finders))
	both.maxLength = max(m.maxLength, other.maxLength)
	servers, told := other.issuers.servers()
	if other.document != nil {
		servers, told = other.document.servers, true
	}
	both.document = m.document.or(servers, told)
	both.cache = newTokenCache(max(m.cache.capacity(), other.cache.capacity()))
	return &both
}
