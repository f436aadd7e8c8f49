package bearer

import (
	"net/http"
	"strconv"
	"time"
)

// A challenger writes the challenges of refusals: what RFC 6750 (section 3), RFC
// 9449 (section 7), RFC 9470 (section 3), RFC 9728 (section 5.1) and RFC 9110
// (section 11) say of WWW-Authenticate is written down here alone.
//
// The RFCs leave much of the form open, and clients do not read all of it. So
// there is one challenge to a header line, Bearer comes first, every value is
// quoted, none is empty, and the order of the parameters is fixed.
type challenger struct {
	realm    string // empty: none is sent
	metadata string // URL of the metadata document (RFC 9728); empty: there is none
	algs     string // that proofs may be signed with, separated by spaces; empty: DPoP is off
	dpopOnly bool   // Bearer is not accepted

	prepared map[string]map[string]string // scheme -> code -> the challenge that says no more of a refusal
}

// prepare makes the challenges beforehand that nearly all refusals get: 70 ns less of
// 350, and 300 of 700 with DPoP.
func (c *challenger) prepare() {
	prepared := make(map[string]map[string]string)
	for _, scheme := range []string{schemeBearer, schemeDPoP} {
		prepared[scheme] = make(map[string]string)
		for _, r := range replies {
			prepared[scheme][r.code] = c.challenge(scheme, &Error{Code: r.code})
		}
	}
	c.prepared = prepared
}

// challenges adds to the lines of a reply those of its WWW-Authenticate header and
// returns them. used is the scheme that the request used, if DPoP is on. RFC 9110,
// section 11.6.1: a 401 must carry a challenge, others may. One with a code tells it
// there.
func (c *challenger) challenges(l *lines, e *Error, used string) []string {
	if e.Status != http.StatusUnauthorized && e.Code == "" {
		return nil
	}
	if c.algs == "" {
		return l.add(c.challenge(schemeBearer, e))
	}
	// RFC 9449, section 7.2: the error belongs to the scheme that the request
	// used, and the other one may be offered without it. If it used neither, or
	// both, it belongs to both. Clients that use DPoP look for one challenge.
	switch {
	case c.dpopOnly || used == schemeDPoP:
		return l.add(c.challenge(schemeDPoP, e))
	case used == "":
		return l.add(c.challenge(schemeBearer, e), c.challenge(schemeDPoP, e))
	case e.Status == http.StatusUnauthorized:
		return l.add(c.challenge(schemeBearer, e), c.challenge(schemeDPoP, &Error{}))
	}
	return l.add(c.challenge(schemeBearer, e))
}

func (c *challenger) challenge(scheme string, e *Error) string {
	if e.Scope == "" && e.ACRValues == "" && e.MaxAge == 0 {
		if prepared := c.prepared[scheme][e.Code]; prepared != "" {
			return prepared
		}
	}
	maxAge, algs := "", ""
	if e.MaxAge > 0 {
		maxAge = wholeSeconds(e.MaxAge)
	}
	if scheme == schemeDPoP {
		algs = c.algs
	}
	b := append(make([]byte, 0, 256), scheme...)
	for _, p := range [...]struct{ name, value string }{
		{"realm", c.realm},
		{"error", e.Code},
		{"scope", e.Scope},
		{"acr_values", e.ACRValues},
		{"max_age", maxAge},
		{"algs", algs},
		{"resource_metadata", c.metadata},
	} {
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
	return string(b)
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

// wholeSeconds writes d in seconds, rounded up: zero would say something else.
func wholeSeconds(d time.Duration) string {
	n := int64(d / time.Second)
	if d%time.Second > 0 {
		n++
	}
	return strconv.FormatInt(n, 10)
}
