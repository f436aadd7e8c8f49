package bearer

import (
	"context"
	"errors"
	"net/http"
	"time"
)

// A Middleware authenticates requests by their bearer token. It is safe for
// concurrent use. Make one with [New] for an API and use it for all of its
// routes, since it holds the issuer's keys. The zero value is not usable.
type Middleware struct {
	issuers   *issuers
	cache     *tokenCache // nil if there is none
	header    string      // that holds the token
	maxLength int         // of a token, in bytes; issuers may have less
	bindings  *bindings
	replies   replier
	document  *document // nil without Config.Resource
	observer  observer
	revoked   *revocation // nil if nobody is to be asked
}

// Handler returns a handler that serves only requests with a valid token, and
// serves those with next. [FromContext] gives next the token's claims.
//
// Without a bearer token in the Authorization header the reply is 401, with a
// malformed header 400, and with a token that does not verify 401. It is 503
// when the issuer's keys cannot be had, for then the token is neither good nor
// bad. Tokens in the query, in a body or in a cookie are not looked at.
//
// The Authorization header stays on the request.
func (m *Middleware) Handler(next http.Handler) http.Handler { return m.guard(false, "", nil)(next) }

// Optional is like [Middleware.Handler], but serves requests without a bearer
// token too: for those [FromContext] reports false. A token that is there must
// be valid.
func (m *Middleware) Optional(next http.Handler) http.Handler { return m.guard(true, "", nil)(next) }

// Authenticate returns the claims of the request's token, and writes nothing. It
// judges r as [Middleware.Handler] does, for frameworks and protocols that reply in a
// way of their own. The error is an [*Error]: hand it to [Middleware.WriteError], or
// translate it.
//
// It looks at the header and the context of r. If the token is bound to a key it also
// looks at the method and the URL, which must be those that the client used, and if it
// is bound to a certificate, at r.TLS and r.RemoteAddr, as far as Config.Certificate
// does. Each call uses up the request's proof, so that a second one is refused.
//
// Behind Handler, or another wrapper of m, it returns the claims that were verified
// there, and does not look at the header again. So a request within a request, such as
// one of a batch, that has a token of its own needs a context of its own.
//
// A new nonce (DPoP.NonceKeys) goes out with the replies of Handler and WriteError
// only, so a client learns it here when it is refused.
func (m *Middleware) Authenticate(r *http.Request) (*Claims, error) {
	if c, _ := m.passed(r.Context()); c != nil {
		if err := m.checkRevoked(r.Context(), c.verified); err != nil {
			return m.answer(r.Context(), r, judgement{verified: c.verified, by: c.verified.by, cached: c.cached}, err)
		}
		return c.verified.copy(), nil
	}
	j, err := m.authenticate(r)
	return m.answer(r.Context(), r, j, err)
}

// Verify returns the claims of a bare token, for callers without an HTTP
// request, such as those of queues. Only the token counts: its scheme and white space
// must have been removed, and one that is bound to a key or a certificate is refused,
// since nobody shows that they have it. The error is an [*Error].
func (m *Middleware) Verify(ctx context.Context, token string) (*Claims, error) {
	j, err := m.judge(ctx, token, sender{})
	return m.answer(ctx, nil, j, err)
}

// Ready returns nil once usable keys are at hand, of every issuer but those that
// Config.FindIssuer names, and fetches them if there are none. It is for readiness probes, and for programs that want
// to start with the keys in place. The error is an [*Error] with status 503.
func (m *Middleware) Ready(ctx context.Context) error {
	for _, v := range m.issuers.all {
		if err := v.keys.ready(ctx); err != nil {
			return asError(err)
		}
	}
	return nil
}

// KeyStats returns the present state of the keys. It causes no fetch and is
// cheap enough to be polled. With several issuers the numbers are added up,
// FetchedAt is the oldest and Err joins all errors; the Middlewares that were
// given to [Middleware.Or] tell of each. Those that Config.FindIssuer returns tell
// of themselves and are not counted here.
func (m *Middleware) KeyStats() KeyStats {
	var stats KeyStats
	for i, v := range m.issuers.all {
		if i == 0 {
			stats = v.keys.stats()
		} else {
			stats.add(v.keys.stats())
		}
	}
	return stats
}

// WriteError replies to the request with err, which should come from a method
// of m or be an [*Error] of the caller's own. It sets the headers
// WWW-Authenticate, Cache-Control and Retry-After as the reply needs them, and
// leaves the rest to [Config.ErrorHandler] or else to [DefaultErrorHandler].
// Called from within an ErrorHandler it uses DefaultErrorHandler, so that the two do
// not call each other without end, and its headers replace those that were set
// before.
//
// Any other error, which m cannot have returned, is answered with status 500,
// and an Error whose Status does not refuse (400 to 599 do) with 403.
//
// Nothing of err but the fields Status, Code, Description, Scope, ACRValues,
// MaxAge and RetryAfter is sent.
func (m *Middleware) WriteError(w http.ResponseWriter, r *http.Request, err error) {
	m.replies.write(w, r, err)
}

// answer tells of a verdict and returns it to a caller that replies by itself.
func (m *Middleware) answer(ctx context.Context, r *http.Request, j judgement, err error) (*Claims, error) {
	o := j.outcome(r)
	if err != nil {
		o.Err = asError(err)
		m.observer.tell(ctx, o, j.verified)
		return nil, o.Err
	}
	m.observer.tell(ctx, o, j.verified)
	return j.verified.copy(), nil
}

// guard returns a wrapper that makes a handler a guarded one. A nil check refuses no
// request.
func (m *Middleware) guard(optional bool, scope string, check func(*http.Request, *claimsContext) error) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		if next == nil {
			// When the route is registered and not when it is called, as
			// http.ServeMux does.
			panic("bearer: nil handler")
		}
		return &guarded{m, next, optional, scope, check}
	}
}

// A guarded handler serves those requests with next which m has verified, or verifies
// now, and which check does not refuse.
type guarded struct {
	m        *Middleware
	next     http.Handler
	optional bool                                      // requests without credentials are served too
	scope    string                                    // otherwise, what their challenge asks for
	check    func(*http.Request, *claimsContext) error // nil if there is none
}

func (g *guarded) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m := g.m
	if c, shown := m.passed(r.Context()); c != nil {
		g.serveAgain(w, r, c, shown)
		return
	}
	j, err := m.authenticate(r)
	if err != nil {
		switch {
		case !isAnonymous(err):
			m.refuse(w, j.outcome(r), j.verified, err)
		case !g.optional:
			e := asError(err)
			e.Scope = g.scope
			m.refuse(w, Outcome{Request: r}, nil, e)
		default:
			keepTrailers(r)
			inner := r.WithContext(&plainContext{Context: r.Context(), anonymous: true})
			defer giveBack(r, inner)
			g.next.ServeHTTP(w, inner)
		}
		return
	}
	c := &claimsContext{Context: m.note(r.Context(), j), by: m, verified: j.verified, cached: j.cached}
	if j.binding != nil {
		m.bindings.announce(w, r, j.binding)
	}
	inner := c.copyRequest(r)
	defer giveBack(r, inner)
	if g.check != nil {
		if err := g.check(inner, c); err != nil {
			m.refuse(w, c.outcome(inner), c.verified, err)
			return
		}
	}
	if m.observer.hears(c.verified) {
		m.observer.tell(c, c.outcome(inner), c.verified)
	}
	g.next.ServeHTTP(w, inner)
}

// serveAgain serves a request for which m itself has verified the token, as c says. shown
// is as for passed.
func (g *guarded) serveAgain(w http.ResponseWriter, r *http.Request, c *claimsContext, shown bool) {
	inner := r
	if !shown {
		inner = c.copyRequest(r)
		defer giveBack(r, inner)
	}
	var err error
	if m := g.m; m.asks(c.verified) && time.Since(c.asked()) >= revokedShared {
		err = m.checkRevoked(r.Context(), c.verified)
	}
	if err == nil && g.check != nil {
		err = g.check(inner, c)
	}
	if err != nil {
		g.m.refuse(w, c.outcome(inner), c.verified, err)
		return
	}
	g.next.ServeHTTP(w, inner)
}

// note returns ctx with what later wrappers and calls may want to know of the judgement
// beside the token: seldom anything.
func (m *Middleware) note(ctx context.Context, j judgement) context.Context {
	if m.asks(j.verified) {
		ctx = context.WithValue(ctx, askedKey{m}, time.Now().UnixMicro())
	}
	if j.binding != nil && j.binding.used != nil { // or those from further out would be hidden
		ctx = context.WithValue(ctx, usedKey{}, j.binding.used)
	}
	return ctx
}

// refuse tells that the request of o is refused for err, and replies to it. v is as for
// observer.tell.
func (m *Middleware) refuse(w http.ResponseWriter, o Outcome, v *verified, err error) {
	if o.Err = asError(err); o.Err == nil {
		o.Err = internalError(err)
	}
	m.observer.tell(o.Request.Context(), o, v)
	m.WriteError(w, o.Request, o.Err)
}

// passed returns a context with the claims that m itself verified for the request of
// ctx, or nil if there are none that still hold. It may be hours since: a
// websocket's, or a batch's. shown means that ctx shows these claims already, and
// not those of another Middleware in between.
func (m *Middleware) passed(ctx context.Context) (c *claimsContext, shown bool) {
	c, _ = ctx.Value(m).(*claimsContext)
	if c == nil {
		return nil, false
	}
	// The keys have an age too. A look at them may show that this token's is gone.
	now := time.Now()
	if _, err := c.verified.by.keys.Current(ctx, now); err != nil || !c.verified.holds(now) {
		return nil, false
	}
	switch top := ctx.Value(claimsKey).(type) {
	case *claimsContext:
		shown = top == c
	case *plainContext:
		shown = !top.anonymous // claims from NewContext in between are the caller's own wish
	}
	if !shown {
		c = &claimsContext{Context: ctx, by: m, verified: c.verified, cached: c.cached}
	}
	return c, shown
}

// A judgement is what became of a token.
type judgement struct {
	verified *verified // nil if it did not verify; otherwise it may still be refused
	by       *verifier // by whose rules; nil if nobody's
	cached   bool
	binding  *binding // nil for a bearer token
}

// outcome returns what there is to tell, but for the claims and the Error.
func (j judgement) outcome(r *http.Request) Outcome {
	o := Outcome{Request: r, Cached: j.cached}
	if j.by != nil {
		o.Issuer = j.by.issuer
	}
	return o
}

// authenticate judges the request's token.
func (m *Middleware) authenticate(r *http.Request) (judgement, error) {
	scheme, text, err := credentials(r.Header, m.header, m.bindings.proofs != nil)
	if err != nil {
		return judgement{}, err
	}
	var j judgement
	sender, err := m.bindings.sender(r, scheme)
	badProof := err != nil
	if !badProof {
		j, err = m.judge(r.Context(), text, sender)
	}
	// Characters that no token may have make the header malformed and not only
	// the token. They are looked for here, since a good token has none.
	if (badProof || err != nil && errors.Is(err, errEncoding)) && !isToken68(text) {
		return j, invalidRequest("more than a token, or characters that no token has")
	}
	return j, err
}

// judge judges a token: whether it is good, and whether its sender may use it.
func (m *Middleware) judge(ctx context.Context, text string, s sender) (judgement, error) {
	j, err := m.lookUp(ctx, text)
	if err == nil && m.asks(j.verified) {
		err = m.checkRevoked(ctx, j.verified)
	}
	if err == nil {
		j.binding, err = m.bindings.check(ctx, s, text, j.verified)
	}
	return j, err
}

// asks reports whether it takes a function of the caller's to tell if v was revoked.
func (m *Middleware) asks(v *verified) bool { return m.revoked != nil || v.by.revoked != nil }

// checkRevoked refuses a token that was revoked. The Middleware that judged it may
// be another one, and what that knows counts too.
func (m *Middleware) checkRevoked(ctx context.Context, v *verified) error {
	if err := m.revoked.check(ctx, v); err != nil || v.by.revoked == m.revoked {
		return err
	}
	return v.by.revoked.check(ctx, v)
}

// lookUp returns what the token text is. A token that was verified before, and for
// which nothing has changed since, is not verified again.
func (m *Middleware) lookUp(ctx context.Context, text string) (judgement, error) {
	v := m.cache.get(text)
	// The clock is a good part of what a token costs that is in the cache, and
	// the monotonic one alone would be half of it. But it stands still while a
	// machine is suspended, and tokens expire meanwhile. It is read after the
	// cache: before, it takes 5 ns more of 280 (BenchmarkHot).
	now := time.Now()
	if v != nil && v.holds(now) {
		if v.standing != nil {
			v.standing.use(now.UnixMicro())
		}
		// The keys have an age too. A look at them may show that this token's
		// is gone.
		if v.by.keys.AtHand(now) == nil {
			if _, err := v.by.keys.current(ctx, now); err != nil {
				return judgement{by: v.by, cached: true}, err
			}
		}
		if !v.key.Withdrawn() {
			return judgement{verified: v, by: v.by, cached: true}, nil
		}
	}
	if v != nil && v.expired(now) {
		if err := v.by.validate(v); err != nil {
			return judgement{by: v.by, cached: true}, err
		}
	}
	t, err := newToken(text, m.maxLength)
	if err != nil {
		return judgement{}, err
	}
	by, standing, err := m.issuers.of(ctx, &t, now)
	if err != nil {
		t.free()
		return judgement{}, err
	}
	v, err = by.verify(ctx, &t, now)
	t.free()
	if err == nil {
		if standing != nil {
			v.standing = standing
			standing.use(now.UnixMicro())
		}
		m.cache.put(text, v, now)
	}
	return judgement{verified: v, by: by}, err
}
