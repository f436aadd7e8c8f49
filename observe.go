package bearer

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"example.com/bearer/internal/clip"
)

// An Outcome is a verdict: what [Config.Observe] is told.
type Outcome struct {
	// Request is nil for [Middleware.Verify]. Its header still has the token, which is
	// not for logs.
	Request *http.Request

	// Claims are Observe's own, and nil if the token did not verify. One that did may still
	// be refused: it was revoked, or whoever sent it has not shown that it is theirs.
	Claims *Claims

	// Err is nil if nothing was refused. It is not to be changed. A request that was
	// cancelled while it waited for keys has the reason "keys_unavailable" and the
	// error of its context in Err.Err.
	Err *Error

	// Issuer is the one by whose rules the token was judged, as it was configured, and
	// empty if there was none. No token can invent one, so it is safe as a label.
	Issuer string

	Cached bool // the token had been verified before
}

// An observer is told of every verdict, in one place.
type observer struct {
	log     *slog.Logger
	observe func(context.Context, Outcome) // nil if nobody wants to know
}

// hears reports whether there is anything to tell of an accepted token.
func (ob *observer) hears(v *verified) bool { return ob.observe != nil || v.idToken }

// tell tells of a verdict, and writes a debug record if it is worth one. v is the token, of
// which Observe gets claims of its own, or nil if it did not verify.
func (ob *observer) tell(ctx context.Context, o Outcome, v *verified) {
	if o.Err != nil {
		o.Err = o.Err.asReplied()
	}
	if ob.observe != nil {
		if v != nil {
			o.Claims = v.copy()
		}
		ob.observe(ctx, o)
	}
	if o.Err == nil && !v.idToken || !ob.log.Enabled(ctx, slog.LevelDebug) {
		return
	}
	attrs := make([]slog.Attr, 0, 12)
	add := func(key, value string) {
		if value != "" {
			attrs = append(attrs, slog.String(key, value))
		}
	}
	if r := o.Request; r != nil {
		const maxPath = 200 // bytes
		add("method", clip.String(r.Method))
		if r.URL != nil { // and never its query, in which people do put secrets
			add("path", clip.To(r.URL.Path, maxPath))
		}
	}
	if o.Err == nil {
		add("hint", "it has a nonce or at_hash claim: clients should send their access token")
		ob.log.LogAttrs(ctx, slog.LevelDebug, "bearer: accepted what looks like an ID token", attrs...)
		return
	}
	if ctx.Err() != nil {
		return // nobody waits for the answer
	}
	attrs = append(attrs, slog.Int("status", o.Err.Status), slog.String("description", o.Err.Description))
	add("reason", o.Err.Reason)
	var c *cause
	if errors.As(o.Err, &c) {
		add("detail", c.detail)
		add("claim", c.claim)
		add("want", c.want)
		add("got", c.got)
		add("hint", c.hint)
	} else if o.Err.Err != nil {
		add("cause", text(o.Err.Err))
	}
	ob.log.LogAttrs(ctx, slog.LevelDebug, "bearer: request refused", attrs...)
}

// otherSlash returns s without the slash at its end, or with one if there is none.
func otherSlash(s string) string {
	if without, ok := strings.CutSuffix(s, "/"); ok {
		return without
	}
	return s + "/"
}

// audienceHint tells the classic mistakes behind another audience. claim is the
// one that c.Audience was read from.
func audienceHint(c *Claims, claim string, want []string) string {
	for _, got := range c.Audience {
		for _, w := range want {
			if like := clip.Difference(got, w); like != "" {
				return like
			}
		}
		if got == "00000003-0000-0000-c000-000000000000" || got == "https://graph.microsoft.com" {
			return "a token for Microsoft Graph: ask for a scope of this API instead"
		}
	}
	switch {
	case c.token.idToken:
		return "an ID token: the client must send its access token"
	case len(c.Audience) == 0 && claim == "aud":
		return "the token has no audience; Config.AudienceClaim names another claim"
	case slices.Equal(c.Audience, []string{"account"}):
		return "Keycloak's default audience: add an audience mapper to the client"
	}
	return ""
}

func clockHint(t, now time.Time) string {
	return "this clock or the issuer's is off by " + t.Sub(now).Round(time.Second).String()
}
