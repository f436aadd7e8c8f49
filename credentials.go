package bearer

import (
	"net/http"
	"strings"
)

const authorization = "Authorization"

// The schemes by which a request can carry a token.
const (
	schemeBearer = "Bearer"
	schemeDPoP   = "DPoP" // RFC 9449, section 7.1
)

// credentials returns the scheme and the token that a request's header h has in the
// header of the given name (RFC 6750, section 2.1; RFC 9449, section 7.1; RFC 9110,
// section 11.4). Another scheme than Bearer, or DPoP where it is accepted, counts as
// no credentials.
func credentials(h http.Header, name string, dpop bool) (scheme, token string, err error) {
	values := h[name]
	if len(values) > 1 {
		// Which one counts would depend on who reads them.
		return "", "", invalidRequest("more than one header")
	}
	value := ""
	if len(values) == 1 {
		value = values[0]
		// As nearly all clients write it: 100 instructions less of 2,300.
		if token, ok := strings.CutPrefix(value, schemeBearer+" "); ok && token != "" && token[0] > ' ' && token[len(token)-1] > ' ' {
			return schemeBearer, token, nil
		}
		if n := len(value); n > 0 && (value[0] <= ' ' || value[n-1] <= ' ') { // net/http leaves none
			value = strings.Trim(value, " \t")
		}
	}
	switch {
	case hasScheme(value, schemeBearer):
		scheme = schemeBearer
	case name == authorization && dpop && hasScheme(value, schemeDPoP):
		scheme = schemeDPoP
	case name == authorization, value == "":
		return "", "", noCredentials(value)
	default:
		return schemeBearer, value, nil // in a header of its own it needs no scheme
	}
	token = value[len(scheme):]
	for token != "" && token[0] == ' ' {
		token = token[1:]
	}
	if token == "" {
		return scheme, "", invalidRequest("no token after the scheme")
	}
	return scheme, token, nil
}

// hasScheme reports whether value begins with the scheme, in any letter case (RFC
// 9110, section 11.1).
func hasScheme(value, scheme string) bool {
	n := len(scheme)
	return len(value) >= n && (value[:n] == scheme || strings.EqualFold(value[:n], scheme)) && (len(value) == n || value[n] == ' ' || value[n] == '\t')
}

// usedScheme returns the scheme that a request with the given values of
// Authorization has tried to use, or "" if that is not clear: there is none, another
// one or several, or what follows Bearer is no single token.
func usedScheme(values []string) string {
	if len(values) != 1 {
		return ""
	}
	value := strings.Trim(values[0], " \t")
	switch {
	case hasScheme(value, schemeDPoP):
		return schemeDPoP
	case hasScheme(value, schemeBearer):
		// What is longer than any token may be is not looked at.
		token := strings.TrimLeft(value[len(schemeBearer):], " ")
		if len(token) > maxMaxLength || token != "" && isToken68(token) {
			return schemeBearer
		}
	}
	return ""
}

// The refusals of requests without a bearer token. They are no request's own, since
// nobody changes a cause: 40 ns less of 410.
var (
	noToken     = &cause{reason: "no_credentials"}
	otherScheme = &cause{reason: "no_credentials", detail: "another scheme than Bearer"}
	noScheme    = &cause{reason: "no_credentials", hint: "the token stands there without its scheme: it must follow \"Bearer \""}
)

// noCredentials returns the refusal of a request without a bearer token. value is
// what stands in its Authorization header.
func noCredentials(value string) error {
	switch {
	case value == "":
		return noToken
	case strings.Count(value, ".") == 2 && !strings.Contains(value, " "):
		return noScheme
	}
	return otherScheme
}

// isAnonymous reports whether err is that refusal. What it wraps does not count: that
// may be the error of a function of the caller's, which tells of some other request.
func isAnonymous(err error) bool {
	c, _ := err.(*cause)
	return c != nil && c.reason == "no_credentials"
}

// isToken68 reports whether s has only the characters of a token68 (RFC 9110,
// section 11.2).
func isToken68(s string) bool {
	// Eight at a time: 0.20 µs in place of 0.29 for 900 bytes of garbage, of which 1 µs
	// is all that they cost.
	t := &notToken68
	for ; len(s) >= 8; s = s[8:] {
		if t[s[0]]|t[s[1]]|t[s[2]]|t[s[3]]|t[s[4]]|t[s[5]]|t[s[6]]|t[s[7]] != 0 {
			return false
		}
	}
	for i := range len(s) {
		if t[s[i]] != 0 {
			return false
		}
	}
	return true
}

// notToken68 has a one for each character that no token68 has.
var notToken68 = func() (set [256]byte) {
	for c := range set {
		if strings.IndexByte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/=", byte(c)) < 0 {
			set[c] = 1
		}
	}
	return set
}()

// isToken reports whether s is a token in the sense of RFC 9110, section 5.6.2,
// as the names of headers are.
func isToken(s string) bool {
	for _, c := range []byte(s) {
		if c <= ' ' || c > '~' || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			return false
		}
	}
	return s != ""
}

func invalidRequest(detail string) error { return &cause{reason: "invalid_request", detail: detail} }
