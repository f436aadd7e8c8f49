package bearer

import (
	"context"
	"net/http"

	"example.com/bearer/internal/dpop"
)

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
	used     []dpop.Use // the proofs that the request has used up until then, for whichever Middleware; nil if this one used none
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

// giveBack gives r what net/http and those outside look for in it, and what has
// been put into its copy: the files of a form, which net/http removes, the form
// itself, whose body is read by now, and what the router noted for access logs. It
// is deferred, since whoever recovers from a panic outside goes on with r.
func giveBack(r, inner *http.Request) {
	r.Pattern, r.MultipartForm = inner.Pattern, inner.MultipartForm
	r.Form, r.PostForm = inner.Form, inner.PostForm
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

// usedProofs returns the proofs that the request of ctx has used up. Whoever used
// none of them, or put claims of its own into the context, stands in the way of those
// further out.
func usedProofs(ctx context.Context) []dpop.Use {
	for {
		c, ok := ctx.Value(contextKey{}).(*claimsContext)
		if !ok {
			return nil
		}
		if c.used != nil {
			return c.used
		}
		ctx = c.Context
	}
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
