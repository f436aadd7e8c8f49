package bearer

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"slices"
	"strings"

	"example.com/bearer/internal/clip"
	"example.com/bearer/internal/names"
	"example.com/bearer/internal/strictjson"
)

// A Scope is the set of scopes that a token grants, in the form in which RFC
// 6749, section 3.3, writes it: names separated by single spaces, in the
// token's order, each name once. The zero value holds none. Being a string it
// cannot be changed, so it is safe to share.
type Scope string

// Has reports whether name is one of the scopes in s. Names are compared byte
// by byte.
func (s Scope) Has(name string) bool {
	if name == "" || strings.IndexByte(name, ' ') >= 0 {
		return false
	}
	for from := 0; ; {
		i := strings.Index(string(s[from:]), name)
		if i < 0 {
			return false
		}
		start, end := from+i, from+i+len(name)
		if (start == 0 || s[start-1] == ' ') && (end == len(s) || s[end] == ' ') {
			return true
		}
		// Nor does the scope that the place is in begin anew further on.
		next := strings.IndexByte(string(s[end:]), ' ')
		if next < 0 {
			return false
		}
		from = end + next + 1
	}
}

// All returns the scopes in s, in the token's order.
func (s Scope) All() iter.Seq[string] {
	return func(yield func(string) bool) {
		for rest := string(s); rest != ""; {
			var name string
			name, rest, _ = strings.Cut(rest, " ")
			if name != "" && !yield(name) {
				return
			}
		}
	}
}

// readScope returns the scopes that the claim v grants: a string of names
// separated by spaces (RFC 9068, section 2.2.3), or an array of names, as many
// issuers write it. Whatever is not a scope name grants nothing. In particular
// an element of an array with a space in it is dropped and not split: its
// issuer meant one name, not several.
func readScope(v strictjson.Value) []byte {
	if text, ok := v.Bytes(); ok {
		if canonicalScope(text) {
			return text
		}
		return joinScope(bytes.SplitSeq(text, []byte(" ")), len(v))
	}
	return joinScope(func(yield func([]byte) bool) {
		for e := range v.Elements() {
			if name, ok := e.Bytes(); ok && !yield(name) {
				return
			}
		}
	}, len(v))
}

// joinScope returns those of all that are scope names, each once. They take no
// more than size bytes.
func joinScope(all iter.Seq[[]byte], size int) []byte {
	var joined []byte
	var seen names.Stack
	var set names.Set
	defer seen.Release()
	for name := range all {
		if !isScopeName(name) || !seen.Add(&set, name) {
			continue
		}
		if joined == nil {
			joined = make([]byte, 0, size)
		} else {
			joined = append(joined, ' ')
		}
		joined = append(joined, name...)
	}
	return joined
}

// canonicalScope reports whether text is the wire form of a Scope as it stands,
// as it nearly always is.
func canonicalScope(text []byte) bool {
	var seen names.Stack
	var set names.Set
	defer seen.Release()
	for start := 0; ; {
		i := start
		for i < len(text) && scopeBytes[text[i]] {
			i++
		}
		if i == start {
			return len(text) == 0
		}
		if !seen.Add(&set, text[start:i]) {
			return false
		}
		if i == len(text) {
			return true
		}
		if text[i] != ' ' {
			return false
		}
		start = i + 1
	}
}

// isScopeName reports whether s is a scope-token (RFC 6749, section 3.3).
func isScopeName[T string | []byte](s T) bool {
	for i := range len(s) {
		if !scopeBytes[s[i]] {
			return false
		}
	}
	return len(s) > 0
}

// scopeBytes tells of each byte whether a scope-token may have it.
var scopeBytes = func() (set [256]bool) {
	for c := '!'; c <= '~'; c++ {
		set[c] = c != '"' && c != '\\'
	}
	return set
}()

// RequireScope returns a wrapper that serves only requests whose token carries
// all of the given scopes. It authenticates the request unless m already has,
// so a route it wraps is never left open. Without a valid token the reply is
// that of [Middleware.Handler]; a token that lacks a scope gets 403. The challenge
// names the scopes in both cases (RFC 6750, section 3), unless there is a token
// and it is not valid.
//
// RequireScope panics if scopes is empty or contains a string that is not a
// single scope name.
func (m *Middleware) RequireScope(scopes ...string) func(http.Handler) http.Handler {
	checkScopes("RequireScope", scopes)
	all := strings.Join(scopes, " ")
	return m.requireScope(scopes, all, all, func(have Scope, needed []string) bool {
		for _, name := range needed {
			if !have.Has(name) {
				return false
			}
		}
		return true
	})
}

// RequireAnyScope is like [Middleware.RequireScope], but one of the scopes is
// enough. The challenge names the first one only: clients ask for all that it names,
// and should not ask for more than they need. So the least powerful comes first.
func (m *Middleware) RequireAnyScope(scopes ...string) func(http.Handler) http.Handler {
	checkScopes("RequireAnyScope", scopes)
	return m.requireScope(scopes, scopes[0], strings.Join(scopes, " or "), func(have Scope, needed []string) bool {
		for _, name := range needed {
			if have.Has(name) {
				return true
			}
		}
		return false
	})
}

// checkScopes panics if scopes are not what method, a wrapper's, can require.
func checkScopes(method string, scopes []string) {
	if len(scopes) == 0 {
		panic("bearer: " + method + " needs at least one scope; Handler is for routes that need just a valid token")
	}
	for _, name := range scopes {
		if !isScopeName(name) {
			panic(fmt.Sprintf("bearer: %s: %q is not a scope name; give each scope as an argument of its own", method, name))
		}
	}
}

// requireScope returns a wrapper for tokens whose scopes are enough. asked is what the
// challenge names, and want what a log record does.
func (m *Middleware) requireScope(scopes []string, asked, want string, enough func(have Scope, needed []string) bool) func(http.Handler) http.Handler {
	needed := slices.Clone(scopes)
	return m.guard(false, asked, func(_ *http.Request, c *claimsContext) error {
		have := Scope(c.verified.claim(partScope))
		if enough(have, needed) {
			return nil
		}
		e := refuse(&cause{
			reason: "insufficient_scope",
			claim:  "scope",
			want:   want,
			got:    clip.String(string(have)),
			hint:   c.verified.scopeHint(),
		})
		e.Scope = asked
		return e
	})
}

// Require returns a wrapper that serves only requests whose token passes check,
// for rules that are not about scopes: a role, a tenant, the owner of a
// resource. Like [Middleware.RequireScope] it authenticates the request unless
// m already has.
//
// An error from check refuses the request. An [*Error] is the reply as it
// stands; any other error is answered with status 403, without a challenge since
// no other token is asked for, and goes to the debug log only. A nil *Error that
// is returned as an error is a bug in check and answered with 500.
//
// The context of check's request has the claims, as that of a handler does, and
// what check parses of the body is there for the handler.
//
// Require panics if check is nil.
func (m *Middleware) Require(check func(*http.Request, *Claims) error) func(http.Handler) http.Handler {
	if check == nil {
		panic("bearer: Require needs a check")
	}
	return m.guard(false, "", func(r *http.Request, c *claimsContext) error {
		err := check(r, c.verified.copy())
		if err == nil {
			return nil
		}
		var e *Error
		if errors.As(err, &e) {
			return err
		}
		return refuse(&cause{reason: "denied", err: err, detail: text(err)})
	})
}
