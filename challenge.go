package bearer

import "net/http"

// A challenger writes the challenges of refusals: what RFC 6750, section 3, and
// RFC 9110, section 11, say of WWW-Authenticate is written down here alone.
type challenger struct {
	realm string // empty: none is sent
}

// challenges returns the values of the WWW-Authenticate header lines for e, one for
// each challenge. RFC 9110, section 11.6.1: a 401 must carry a challenge, others
// may. One with a code of RFC 6750 tells it there.
func (c *challenger) challenges(e *Error) []string {
	if e.Status != http.StatusUnauthorized && e.Code == "" {
		return nil
	}
	const scheme = "Bearer"
	b := append(make([]byte, 0, 128), scheme...)
	for _, p := range [...]struct{ name, value string }{{"realm", c.realm}, {"error", e.Code}, {"scope", e.Scope}} {
		before := len(b)
		if before > len(scheme) {
			b = append(b, ',')
		}
		b = append(append(append(b, ' '), p.name...), `="`...)
		start := len(b)
		if b = appendQuotable(b, p.value); len(b) == start {
			b = b[:before] // nothing of it may be sent
			continue
		}
		b = append(b, '"')
	}
	if len(b) == len(scheme) {
		return []string{scheme} // what most strangers get, for an allocation less
	}
	return []string{string(b)}
}

// appendQuotable appends s as the inside of a quoted-string (RFC 9110, section
// 5.6.4). Only the two characters that would end it are escaped: what Go's %q
// escapes besides would reach the client as it stands. What RFC 6750, section 3,
// does not allow in there, control characters above all, is left out.
func appendQuotable(b []byte, s string) []byte {
	for _, c := range []byte(s) {
		switch {
		case c < ' ' || c > '~':
			continue
		case c == '"' || c == '\\':
			b = append(b, '\\')
		}
		b = append(b, c)
	}
	return b
}
