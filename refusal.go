package bearer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"
)

// A refusal is the cause in an Error: what was checked, what was expected and
// what came, for logs.
type refusal struct {
	reason string // stable, for machines; docs/refusals.md lists them
	err    error  // what errors.Is finds: golang-jwt's, or one of ours
	detail string // more than the reason says, if there is more to say
	claim  string // the claim, header parameter or request header concerned
	want   string
	got    string // from the token: clipped
	hint   string // what usually causes this
}

func (r *refusal) Error() string {
	s := r.reason
	if r.detail != "" {
		s += ": " + r.detail
	}
	if r.claim != "" {
		s += ": " + r.claim
	}
	if r.got != "" {
		s += " is " + strconv.Quote(r.got)
	}
	if r.want != "" {
		s += ", want " + r.want
	}
	return s
}

func (r *refusal) Unwrap() error { return r.err }

// clip makes text that a stranger wrote fit for a log record or an error:
// bounded, and without characters that could break its line.
func clip(s string) string {
	const most = 100
	return clipTo(s, most)
}

func clipTo(s string, most int) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return utf8.RuneError
		}
		return r
	}, s[:min(len(s), most)])
}

// logRefusal writes the one debug record of a refused request.
func (m *Middleware) logRefusal(ctx context.Context, err error) {
	if !m.log.Enabled(ctx, slog.LevelDebug) || ctx.Err() != nil {
		return
	}
	e := asError(err)
	if e == nil {
		return
	}
	attrs := []slog.Attr{slog.Int("status", e.Status), slog.String("description", e.Description)}
	add := func(key, value string) {
		if value != "" {
			attrs = append(attrs, slog.String(key, value))
		}
	}
	var r *refusal
	if errors.As(err, &r) {
		add("reason", r.reason)
		add("detail", r.detail)
		add("claim", r.claim)
		add("want", r.want)
		add("got", r.got)
		add("hint", r.hint)
	} else if e.Err != nil {
		add("cause", e.Err.Error())
	}
	m.log.LogAttrs(ctx, slog.LevelDebug, "bearer: request refused", attrs...)
}

// invalidClaims makes the refusal for claims that golang-jwt's validator did not
// accept. It may have found several faults; the first one here is told.
func (v *verifier) invalidClaims(c *Claims, err error) *Error {
	r := &refusal{err: fmt.Errorf("%w: %w", jwt.ErrTokenInvalidClaims, err)} // as from jwt.Parser
	now := time.Now()
	switch {
	case c.Issuer == "" || errors.Is(err, jwt.ErrTokenInvalidIssuer):
		r.reason, r.claim, r.got, r.want = "issuer", "iss", clip(c.Issuer), v.issuer
		r.hint = issuerHint(c.Issuer, v.issuer)
		return invalidToken("the token's issuer is not accepted", r)
	case !slices.ContainsFunc(c.Audience, func(a string) bool { return slices.Contains(v.audience, a) }):
		r.reason, r.claim = "audience", v.audienceClaim
		r.got, r.want = clip(strings.Join(c.Audience, " ")), strings.Join(v.audience, " or ")
		r.hint = v.audienceHint(c)
		return invalidToken("the token's audience is not accepted", r)
	case c.ExpiresAt.IsZero():
		r.reason, r.claim, r.got = "no_expiry", "exp", "missing"
		return invalidToken("the token has no expiry", r)
	case errors.Is(err, jwt.ErrTokenExpired):
		r.reason, r.claim, r.got = "expired", "exp", c.ExpiresAt.UTC().Format(time.RFC3339)
		r.want = "later than " + now.Add(-v.leeway).UTC().Format(time.RFC3339)
		return invalidToken("the token has expired", r)
	case errors.Is(err, jwt.ErrTokenNotValidYet):
		r.reason, r.claim, r.got = "not_yet_valid", "nbf", c.NotBefore.UTC().Format(time.RFC3339)
		r.hint = "this clock or the issuer's is off by " + c.NotBefore.Sub(now).Round(time.Second).String()
		return invalidToken("the token is not valid yet", r)
	case errors.Is(err, jwt.ErrTokenUsedBeforeIssued):
		r.reason, r.claim, r.got = "issued_in_future", "iat", c.IssuedAt.UTC().Format(time.RFC3339)
		r.hint = "this clock or the issuer's is off by " + c.IssuedAt.Sub(now).Round(time.Second).String()
		return invalidToken("the token was issued in the future", r)
	}
	r.reason = "claims"
	return invalidToken("the token's claims are not valid", r)
}

func issuerHint(got, want string) string {
	switch {
	case strings.TrimSuffix(got, "/") == strings.TrimSuffix(want, "/"):
		return "the two differ by the slash at the end only"
	case strings.HasPrefix(got, "https://sts.windows.net/") && strings.HasPrefix(want, "https://login.microsoftonline.com/"):
		return "a version 1 token of Entra ID: set requestedAccessTokenVersion of the API to 2, or expect this issuer"
	case strings.HasPrefix(want, "https://sts.windows.net/") && strings.HasPrefix(got, "https://login.microsoftonline.com/"):
		return "a version 2 token of Entra ID: expect this issuer"
	}
	return ""
}

func (v *verifier) audienceHint(c *Claims) string {
	for _, got := range c.Audience {
		for _, want := range v.audience {
			if strings.TrimSuffix(got, "/") == strings.TrimSuffix(want, "/") {
				return "the two differ by the slash at the end only"
			}
		}
		if got == "00000003-0000-0000-c000-000000000000" || got == "https://graph.microsoft.com" {
			return "a token for Microsoft Graph: ask for a scope of this API instead"
		}
	}
	switch {
	case c.idToken:
		return "an ID token: the client must send its access token"
	case len(c.Audience) == 0 && v.audienceClaim == "aud":
		return "the token has no audience; Config.AudienceClaim names another claim"
	case slices.Equal(c.Audience, []string{"account"}):
		return "Keycloak's default audience: add an audience mapper to the client"
	}
	return ""
}

// invalidToken is the reply to a token that is at fault (RFC 6750, section 3.1).
func invalidToken(description string, r *refusal) *Error {
	return &Error{Status: http.StatusUnauthorized, Code: codeInvalidToken, Description: description, Err: r}
}

// errEncoding is the malformed token that is not even base64url in three parts.
var errEncoding = fmt.Errorf("%w: not in compact form", jwt.ErrTokenMalformed)

func malformed(r *refusal) *Error {
	if r.err == nil {
		r.err = jwt.ErrTokenMalformed
	}
	return invalidToken("the token is malformed", r)
}

func unverifiable(description string, r *refusal) *Error {
	r.err = jwt.ErrTokenUnverifiable
	return invalidToken(description, r)
}
