package bearer

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"
)

// The error codes of RFC 6750, section 3.1.
const (
	codeInvalidRequest    = "invalid_request"
	codeInvalidToken      = "invalid_token"
	codeInsufficientScope = "insufficient_scope"
)

// An Error is the reason why a request was refused.
type Error struct {
	// Status is the HTTP status of the reply: 400, 401, 403 or 503.
	Status int

	// Code is the error code of RFC 6750, section 3.1: "invalid_request",
	// "invalid_token" or "insufficient_scope". It is empty when the request
	// carried no credentials, and when Status is 503.
	Code string

	// Description says in a fixed phrase what is wrong. It holds nothing from
	// the token and may go to the client.
	Description string

	// Scope lists the scopes that the route needs, separated by spaces. It is
	// set when they are why Status is 403.
	Scope string

	// RetryAfter is how long the client should wait before it tries again. It
	// is set when Status is 503.
	RetryAfter time.Duration

	// Err is the cause, for logs. It is never sent to the client. A token that
	// fails a check has one of the errors of github.com/golang-jwt/jwt/v5
	// here, such as jwt.ErrTokenExpired; a request that was cancelled while it
	// waited for keys has the error of its context.
	Err error
}

// Error returns the description and the cause. It is for logs: the cause may
// quote short pieces of the token's header and claims.
func (e *Error) Error() string {
	if e.Err == nil {
		return "bearer: " + e.Description
	}
	return "bearer: " + e.Description + ": " + e.Err.Error()
}

// Unwrap returns e.Err.
func (e *Error) Unwrap() error { return e.Err }

// challenge returns the value of the WWW-Authenticate header, as RFC 6750,
// section 3, has it.
func (e *Error) challenge(realm string) string {
	if realm == "" && e.Code == "" && e.Scope == "" {
		return "Bearer"
	}
	b := make([]byte, 0, 128)
	b = append(b, "Bearer"...)
	for _, p := range [...]struct{ name, value string }{{"realm", realm}, {"error", e.Code}, {"scope", e.Scope}} {
		if p.value == "" {
			continue
		}
		if len(b) > len("Bearer") {
			b = append(b, ',')
		}
		b = append(append(append(b, ' '), p.name...), '=')
		b = appendQuoted(b, p.value)
	}
	return string(b)
}

// appendQuoted appends s as a quoted-string (RFC 9110, section 5.6.4). Only the
// two characters that would end it are escaped: what Go's %q escapes besides
// would reach the client as it stands. What RFC 6750, section 3, does not allow
// in there, control characters above all, is left out.
func appendQuoted(b []byte, s string) []byte {
	b = append(b, '"')
	for _, c := range []byte(s) {
		switch {
		case c < ' ' || c > '~':
			continue
		case c == '"' || c == '\\':
			b = append(b, '\\')
		}
		b = append(b, c)
	}
	return append(b, '"')
}

// WriteError replies to the request with err, which should come from a method
// of m or be an [*Error] of the caller's own. It sets the headers
// WWW-Authenticate, Cache-Control and Retry-After as the reply needs them, and
// leaves the rest to [Config.ErrorHandler] or else writes a small JSON object.
// Any other error, which m cannot have returned, is answered with status 500,
// and an Error whose Status does not refuse (400 to 599 do) with 403.
//
// Nothing of err but the fields Status, Code, Description, Scope and RetryAfter
// is sent.
func (m *Middleware) WriteError(w http.ResponseWriter, r *http.Request, err error) {
	e := asError(err)
	if e == nil {
		e = &Error{Status: http.StatusInternalServerError, Description: "internal error", Err: err}
	}
	if e.Status < 400 || e.Status > 599 {
		// An Error of the caller's own whose status would not refuse, or not
		// even be one.
		refusing := *e
		refusing.Status = http.StatusForbidden
		e = &refusing
	}
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	// RFC 9110, section 11.6.1: a 401 must carry a challenge, others may. One
	// with a code of RFC 6750 tells it there.
	if e.Status == http.StatusUnauthorized || e.Code != "" {
		h["Www-Authenticate"] = []string{e.challenge(m.realm)}
	}
	if e.RetryAfter > 0 {
		h.Set("Retry-After", strconv.FormatInt(int64((e.RetryAfter+time.Second-1)/time.Second), 10))
	}
	if m.errorHandler != nil {
		m.errorHandler(w, r, e)
		return
	}
	h.Set("Content-Type", "application/json")
	// A body that is about to be replaced must not keep its description.
	h.Del("Content-Length")
	h.Del("Content-Encoding")
	w.WriteHeader(e.Status)
	w.Write(e.body())
}

// asError returns the Error in err, or nil. Nearly always err is one.
func asError(err error) *Error {
	if e, ok := err.(*Error); ok {
		return e
	}
	var e *Error
	errors.As(err, &e)
	return e
}

// body returns a JSON object with the members of RFC 6749, section 5.2.
func (e *Error) body() []byte {
	code := e.Code
	if e.Status == http.StatusServiceUnavailable {
		code = "temporarily_unavailable" // RFC 6749, section 4.1.2.1
	}
	b := make([]byte, 0, 128)
	sep := byte('{')
	for _, m := range [...]struct{ name, value string }{{"error", code}, {"error_description", e.Description}} {
		if m.value == "" {
			continue
		}
		b = append(append(append(b, sep, '"'), m.name...), '"', ':')
		b = appendJSON(b, m.value)
		sep = ','
	}
	if sep == '{' {
		b = append(b, '{')
	}
	return append(b, '}', '\n')
}

// appendJSON appends s as a JSON string. The phrases of this package need no
// escapes.
func appendJSON(b []byte, s string) []byte {
	for _, c := range []byte(s) {
		if c < ' ' || c > '~' || c == '"' || c == '\\' {
			text, _ := json.Marshal(s) // a string: it cannot fail
			return append(b, text...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}
