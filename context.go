package bearer

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"example.com/bearer/internal/dpop"
)

type contextKey int

const claimsKey contextKey = 0

// A claimsContext carries a verified token, of which FromContext makes claims. It is a
// type of its own and no context.WithValue, because by must not be for others to set, and
// because it is then the only allocation of a request: two take 20 ns more.
type claimsContext struct {
	context.Context
	by       *Middleware // that verified it
	verified *verified
	cached   bool         // it was verified before; for Config.Observe
	taken    atomic.Bool  // audience is somebody's
	audience [2]string    // room for that of one copy of the claims; seldom is it longer
	request  http.Request // the copy of the request that has this context
}

// Value answers for the Middleware that asks, so that Middlewares within each other
// each find what they decided themselves, and for FromContext with what the
// innermost did.
func (c *claimsContext) Value(key any) any {
	if key == claimsKey || key == c.by {
		return c
	}
	return c.Context.Value(key)
}

// Format writes what c is and no more, whatever the verb: the token and its claims are
// inside, and contexts get into logs.
func (c *claimsContext) Format(f fmt.State, _ rune) { io.WriteString(f, "bearer.claimsContext") }

// asked returns when Revoked was asked about the token.
func (c *claimsContext) asked() time.Time {
	at, _ := c.Value(askedKey{c.by}).(int64)
	return time.UnixMicro(at)
}

// claims sets room to the claims, for somebody to own, and returns it.
func (c *claimsContext) claims(room *Claims) *Claims {
	c.verified.claims(room)
	// Last: a swap waits for what was written before, which is then on its way for longer: 3 ns
	// of 280 for a token from the cache (BenchmarkHot).
	var audience []string
	if !c.taken.Swap(true) {
		audience = c.audience[:0]
	}
	room.Audience = c.verified.audience(audience)
	return room
}

// outcome returns what there is to tell of r, but for the claims and the Error.
func (c *claimsContext) outcome(r *http.Request) Outcome {
	return Outcome{Request: r, Issuer: c.verified.by.issuer, Cached: c.cached}
}

// A plainContext shows claims that no Middleware vouches for, or none, whatever those
// further out have found.
type plainContext struct {
	context.Context
	claims    *Claims
	anonymous bool // a request's without credentials; otherwise from NewContext
}

// Format is as that of a claimsContext.
func (c *plainContext) Format(f fmt.State, _ rune) { io.WriteString(f, "bearer.plainContext") }

func (c *plainContext) Value(key any) any {
	if key == claimsKey {
		return c
	}
	return c.Context.Value(key)
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

// copyRequest returns a copy of r that has c as its context. giveBack must follow when
// the copy has served.
func (c *claimsContext) copyRequest(r *http.Request) *http.Request {
	keepTrailers(r)
	c.request = *r.WithContext(c)
	return &c.request
}

// giveBack gives r what net/http and those outside look for in it, and what has
// been put into its copy: the files of a form, which net/http removes, the form
// itself, whose body is read by now, and what the router noted for access logs. It
// is deferred, since whoever recovers from a panic outside goes on with r.
func giveBack(r, inner *http.Request) {
	// Only if there is anything: to write pointers costs 20 ns while the collector runs.
	if inner.Form != nil || inner.PostForm != nil || inner.MultipartForm != nil || r.Form != nil || r.PostForm != nil || r.MultipartForm != nil {
		r.Form, r.PostForm, r.MultipartForm = inner.Form, inner.PostForm, inner.MultipartForm
	}
	if inner.Pattern != r.Pattern {
		r.Pattern = inner.Pattern
	}
}

// usedKey is for the proofs that a request has used up until then, for whichever
// Middleware: a []dpop.Use.
type usedKey struct{}

func usedProofs(ctx context.Context) []dpop.Use {
	used, _ := ctx.Value(usedKey{}).([]dpop.Use)
	return used
}

// askedKey is for when Revoked was asked about the token of a request on behalf of a
// Middleware: an int64, in microseconds of Unix time.
type askedKey struct{ by *Middleware }

// FromContext returns the claims of the request that ctx belongs to. It reports
// false where no token was verified: outside of [Middleware.Handler], and
// behind [Middleware.Optional] for an anonymous request.
//
// Each call returns a copy: call it once, and pass the claims on. Claims that were given to
// [NewContext] are returned as they are.
func FromContext(ctx context.Context) (*Claims, bool) {
	// Small enough to be part of its caller, so that the claims are on the stack of one that
	// passes them to nobody: a token from the cache takes 50 ns less of 320, and 384 bytes in
	// place of 640 (BenchmarkHot). Else it takes 35 ns more than if each request had some; so
	// it does in closures of functions that are inlined themselves, as of Go 1.26.
	c := claimsOf(ctx, new(Claims))
	return c, c != nil
}

// claimsOf returns the claims of ctx, in room if a Middleware has put them there, or nil.
func claimsOf(ctx context.Context, room *Claims) *Claims {
	if c, ok := ctx.(*claimsContext); ok { // mostly; without this 10 ns of 280 more (BenchmarkHot)
		return c.claims(room)
	}
	switch c := ctx.Value(claimsKey).(type) {
	case *claimsContext:
		return c.claims(room)
	case *plainContext:
		return c.claims
	}
	return nil
}

// NewContext returns a context that carries c for [FromContext]. It is for tests
// of handlers, and for claims from [Middleware.Verify] where there is no HTTP
// request. It vouches for nothing: [Middleware.RequireScope] and its siblings
// do not trust claims that came this way.
func NewContext(ctx context.Context, c *Claims) context.Context {
	return &plainContext{Context: ctx, claims: c}
}
