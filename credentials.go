package bearer

import (
	"net/http"
	"strings"
)

const authorization = "Authorization"

// credentials returns the token that a request's header h has in the header of the
// given name (RFC 6750, section 2.1; RFC 9110, section 11.4).
func credentials(h http.Header, name string) (token string, err error) {
	values := h[name]
	if len(values) > 1 {
		// Which one counts would depend on who reads them.
		return "", invalidRequest("more than one header")
	}
	value := ""
	if len(values) == 1 {
		value = values[0]
		if n := len(value); n > 0 && (value[0] <= ' ' || value[n-1] <= ' ') { // net/http leaves none
			value = strings.Trim(value, " \t")
		}
	}
	const scheme = "Bearer"
	if n := len(scheme); len(value) < n || !strings.EqualFold(value[:n], scheme) ||
		len(value) > n && value[n] != ' ' && value[n] != '\t' {
		if name == authorization || value == "" {
			return "", noCredentials(value)
		}
		return value, nil // in a header of its own it needs no scheme
	}
	token = strings.TrimLeft(value[len(scheme):], " ")
	if token == "" {
		return "", invalidRequest("no token after the scheme")
	}
	return token, nil
}

// noCredentials is the refusal of a request without a bearer token. value is
// what stands in its Authorization header.
func noCredentials(value string) error {
	c := &cause{reason: "no_credentials"}
	switch {
	case strings.Count(value, ".") == 2 && !strings.Contains(value, " "):
		c.hint = "the token stands there without its scheme: it must follow \"Bearer \""
	case value != "":
		c.detail = "another scheme than Bearer"
	}
	return c
}

// isToken68 reports whether s has only the characters of a token68 (RFC 9110,
// section 11.2).
func isToken68(s string) bool {
	for i := range len(s) {
		if !token68[s[i]] {
			return false
		}
	}
	return true
}

var token68 = func() (set [256]bool) {
	for _, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/=") {
		set[c] = true
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
