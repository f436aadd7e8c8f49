package bearer

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"example.com/bearer/internal/clip"
)

// An Authentication says how the user behind a token must have logged in. At least
// one of ACR and MaxAge must be set.
type Authentication struct {
	// ACR lists the accepted authentication context classes in order of
	// preference: the token's "acr" must be one of them. They are compared byte
	// by byte, and none is taken to be above another. If it is empty any will
	// do.
	ACR []string

	// MaxAge is how long ago the user may have logged in, by the token's
	// "auth_time", with [Config.Leeway]. It must be whole seconds. Zero means
	// however long.
	MaxAge time.Duration

	// Scope lists scopes that the token must have as well, as for
	// [Middleware.RequireScope]. A client whose user must log in again is told
	// of them too, so that once is enough. If it is empty none are needed.
	Scope []string
}

// RequireAuthentication returns a wrapper that serves only requests of users who
// have logged in as a demands (RFC 9470): for what a stolen session should not be
// able to do. It authenticates the request unless m already has. Without a valid
// token the reply is that of [Middleware.Handler]. If the login does not suffice it
// is 401 with the code "insufficient_user_authentication", and the challenge says
// what the client must ask the authorization server for. A token that does not say
// how its user logged in, or has none, does not pass.
//
// The login is judged for each request anew, since it ages while its token is valid.
// Clients that do not know this code log in as before, in vain and for ever. Those
// of MCP are among them.
//
// RequireAuthentication panics if a demands nothing of the login, if a member of ACR
// or Scope cannot stand in a challenge, and if MaxAge is negative or not whole
// seconds.
func (m *Middleware) RequireAuthentication(a Authentication) func(http.Handler) http.Handler {
	const method = "RequireAuthentication"
	if len(a.ACR) == 0 && a.MaxAge == 0 {
		panic("bearer: " + method + " needs ACR or MaxAge; Handler and RequireScope are for routes that demand nothing of the login")
	}
	if a.MaxAge < 0 || a.MaxAge%time.Second != 0 {
		panic(fmt.Sprintf("bearer: %s: a MaxAge of %v is not a number of whole seconds above 0", method, a.MaxAge))
	}
	for _, acr := range a.ACR {
		// RFC 9470, section 3: a list with spaces in between, in quotes.
		if !isScopeName(acr) {
			panic(fmt.Sprintf("bearer: %s: %q is not a single value of \"acr\"; give each as a member of its own", method, acr))
		}
	}
	acr, maxAge := slices.Clone(a.ACR), a.MaxAge
	acrValues, scope := strings.Join(acr, " "), strings.Join(a.Scope, " ")
	login := m.guard(false, scope, func(_ *http.Request, c *claimsContext) error {
		why := lacksLogin(c.verified, acr, maxAge, c.verified.by.leeway)
		if why == nil {
			return nil
		}
		// Both demands, whichever was missed: the next login must meet both.
		e := refuse(why)
		e.Scope, e.ACRValues, e.MaxAge = scope, acrValues, maxAge
		return e
	})
	if len(a.Scope) == 0 {
		return login
	}
	scopes := m.RequireScope(a.Scope...)
	return func(next http.Handler) http.Handler { return login(scopes(next)) }
}

// lacksLogin tells in what the login behind v falls short, or returns nil. What a
// token says of it in a way that cannot be used is as if it did not say it.
func lacksLogin(v *verified, acr []string, maxAge, leeway time.Duration) *cause {
	why := &cause{reason: "insufficient_login"}
	if len(acr) > 0 && !slices.Contains(acr, v.claim(partACR)) {
		why.claim, why.got, why.want = "acr", clip.String(v.claim(partACR)), strings.Join(acr, " or ")
		if v.claim(partACR) == "" {
			why.got = "missing"
		}
		return why
	}
	if maxAge == 0 {
		return nil
	}
	login := moment(v.login)
	age := time.Since(login)
	switch why.claim = "auth_time"; {
	case login.IsZero():
		why.got = "missing"
	case age < -leeway:
		why.got, why.hint = login.UTC().Format(time.RFC3339), clockHint(login, time.Now())
	case age-leeway > maxAge:
		why.got = login.UTC().Format(time.RFC3339)
	default:
		return nil
	}
	why.want = fmt.Sprintf("at most %v ago", maxAge)
	return why
}
