package bearer

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/golang-jwt/jwt/v5"

	"example.com/bearer/internal/clip"
)

// The error codes of RFC 6750, section 3.1.
const (
	codeInvalidRequest    = "invalid_request"
	codeInvalidToken      = "invalid_token"
	codeInsufficientScope = "insufficient_scope"
	codeInsufficientLogin = "insufficient_user_authentication" // RFC 9470, section 3
	codeInvalidProof      = "invalid_dpop_proof"               // RFC 9449, section 7.1
	codeUseNonce          = "use_dpop_nonce"                   // the same, section 9
)

// An Error is the reason why a request was refused.
type Error struct {
	// Status is the HTTP status of the reply: 400, 401, 403 or 503. It is 500
	// where a caller's error was no refusal, and from 400 to 599 in an Error of the
	// caller's own.
	Status int

	// Code is the error code of the challenge: "invalid_request", "invalid_token"
	// or "insufficient_scope" (RFC 6750, section 3.1), "invalid_dpop_proof" or
	// "use_dpop_nonce" (RFC 9449), or "insufficient_user_authentication" (RFC 9470).
	// It is empty when the request carried no credentials, when a check of
	// [Middleware.Require] refused it, and when Status is 500 or more.
	Code string

	// Reason is a stable word for what is wrong, for metrics and tests: one of
	// those that docs/refusals.md lists, such as "expired". It is not sent. An
	// Error of the caller's own without one counts as "denied".
	Reason string

	// Description says in a fixed phrase what is wrong. It holds nothing from
	// the token and may go to the client.
	Description string

	// Scope lists the scopes that a client should ask for, separated by spaces:
	// those of [Middleware.RequireScope], or the first of
	// [Middleware.RequireAnyScope]. It is set when a token lacks them, and when
	// such a route was requested without credentials.
	Scope string

	// ACRValues and MaxAge are how the user must have logged in, and how long
	// ago at most, when Code is "insufficient_user_authentication" (RFC 9470):
	// authentication context classes in order of preference, separated by
	// spaces, and whole seconds.
	ACRValues string
	MaxAge    time.Duration

	// RetryAfter is how long the client should wait before it tries again. It
	// is set when Status is 503.
	RetryAfter time.Duration

	// Err is the cause, for logs. It is never sent to the client. A token that
	// fails a check has one of the errors of github.com/golang-jwt/jwt/v5
	// here, such as jwt.ErrTokenExpired; a request that was cancelled while it
	// waited for keys has the error of its context.
	Err error
}

// Error returns the description, the reason and the cause in one line. It is for
// logs: the cause may quote short pieces of the token's header and claims.
func (e *Error) Error() string {
	if e == nil { // returned as an error by mistake
		return "bearer: a nil *Error"
	}
	s := "bearer: " + cmp.Or(e.Description, http.StatusText(e.Status), "request refused")
	c, _ := e.Err.(*cause)
	if e.Reason != "" && (c == nil || c.reason != e.Reason) { // a cause begins with it
		s += ": " + e.Reason
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) { // a caller's own error may have lines
			return ' '
		}
		return r
	}, s)
}

// Unwrap returns e.Err.
func (e *Error) Unwrap() error {
	if e == nil {
		return nil
	}
	return e.Err
}

const maxErrorText = 500 // bytes of an error that is not ours, in logs

// A cause is why a request is refused: what was checked, what was expected and
// what came, for logs. It becomes the Err of an Error.
type cause struct {
	reason     string // a key of replies
	err        error  // what errors.Is finds: golang-jwt's, or one of ours
	detail     string // more than the reason says, if there is more to say
	claim      string // the claim, header parameter or request header concerned
	want       string
	got        string // from the token: clipped
	hint       string // what usually causes this
	retryAfter time.Duration
}

func (c *cause) Error() string {
	s := c.reason
	if c.detail != "" {
		s += ": " + c.detail
	}
	if c.claim != "" {
		s += ": " + c.claim
	}
	if c.got != "" {
		s += " is " + strconv.Quote(c.got)
	}
	if c.want != "" {
		s += ", want " + c.want
	}
	return s
}

func (c *cause) Unwrap() error {
	if c.err == nil {
		return replies[c.reason].err
	}
	return c.err
}

var (
	errNoCredentials   = errors.New("no bearer token")
	errProof           = errors.New("no good DPoP proof")
	errKeysUnavailable = errors.New("the issuer's keys cannot be had")
)

// A reply is what a client is told.
type reply struct {
	status      int
	code        string
	description string
	err         error // the sentinel of causes that have no other
}

// replies are all reasons there are to refuse a request. docs/refusals.md tells
// people of them.
var replies = map[string]reply{
	"no_credentials":     {401, "", "a bearer token is required", errNoCredentials},
	"invalid_request":    {400, codeInvalidRequest, "the header with the token is malformed", jwt.ErrTokenMalformed},
	"too_long":           {401, codeInvalidToken, "the token is too long", jwt.ErrTokenMalformed},
	"malformed":          {401, codeInvalidToken, "the token is malformed", jwt.ErrTokenMalformed},
	"crit":               {401, codeInvalidToken, "the token's header asks for an extension that is not supported", jwt.ErrTokenUnverifiable},
	"algorithm":          {401, codeInvalidToken, "the token's signature algorithm is not accepted", jwt.ErrTokenUnverifiable},
	"type":               {401, codeInvalidToken, "the token is not an access token", jwt.ErrTokenUnverifiable},
	"unknown_key":        {401, codeInvalidToken, "the token's key is not known", jwt.ErrTokenUnverifiable},
	"key":                {401, codeInvalidToken, "the token's signature is invalid", jwt.ErrTokenUnverifiable},
	"signature":          {401, codeInvalidToken, "the token's signature is invalid", jwt.ErrTokenSignatureInvalid},
	"claim_type":         {401, codeInvalidToken, "the token's claims are malformed", jwt.ErrTokenInvalidClaims},
	"issuer":             {401, codeInvalidToken, "the token's issuer is not accepted", fmt.Errorf("%w: %w", jwt.ErrTokenInvalidClaims, jwt.ErrTokenInvalidIssuer)},
	"audience":           {401, codeInvalidToken, "the token's audience is not accepted", jwt.ErrTokenInvalidClaims},
	"no_expiry":          {401, codeInvalidToken, "the token has no expiry", jwt.ErrTokenInvalidClaims},
	"expired":            {401, codeInvalidToken, "the token has expired", jwt.ErrTokenInvalidClaims},
	"not_yet_valid":      {401, codeInvalidToken, "the token is not valid yet", jwt.ErrTokenInvalidClaims},
	"issued_in_future":   {401, codeInvalidToken, "the token was issued in the future", jwt.ErrTokenInvalidClaims},
	"claims":             {401, codeInvalidToken, "the token's claims are not valid", jwt.ErrTokenInvalidClaims},
	"bound":              {401, codeInvalidToken, "the token is bound to a key and is no bearer token", jwt.ErrTokenInvalidClaims},
	"revoked":            {401, codeInvalidToken, "the token has been revoked", jwt.ErrTokenInvalidClaims},
	"unbound":            {401, codeInvalidToken, "the token is not bound to the key of its sender", jwt.ErrTokenInvalidClaims},
	"binding":            {401, codeInvalidToken, "the token is bound to another key", jwt.ErrTokenInvalidClaims},
	"client_cert":        {401, codeInvalidToken, "the client's certificate cannot be read", jwt.ErrTokenInvalidClaims},
	"proof_missing":      {401, codeInvalidProof, "a DPoP proof is required", errProof},
	"proof_count":        {401, codeInvalidProof, "there is more than one DPoP proof", errProof},
	"proof_size":         {401, codeInvalidProof, "the DPoP proof is too long", errProof},
	"proof_form":         {401, codeInvalidProof, "the DPoP proof is malformed", errProof},
	"proof_typ":          {401, codeInvalidProof, "the DPoP proof has another type", errProof},
	"proof_alg":          {401, codeInvalidProof, "the DPoP proof's algorithm is not accepted", errProof},
	"proof_key":          {401, codeInvalidProof, "the DPoP proof's key cannot be used", errProof},
	"proof_signature":    {401, codeInvalidProof, "the DPoP proof's signature is invalid", errProof},
	"proof_htm":          {401, codeInvalidProof, "the DPoP proof is for another method", errProof},
	"proof_htu":          {401, codeInvalidProof, "the DPoP proof is for another URL", errProof},
	"proof_iat":          {401, codeInvalidProof, "the DPoP proof is not of this time", errProof},
	"proof_ath":          {401, codeInvalidProof, "the DPoP proof is for another token", errProof},
	"proof_replay":       {401, codeInvalidProof, "the DPoP proof was used before", errProof},
	"nonce":              {401, codeUseNonce, "the DPoP proof needs the nonce of this response", errProof},
	"replay_store":       {503, "", "whether the DPoP proof was used before cannot be told at present", errProof},
	"insufficient_login": {401, codeInsufficientLogin, "the user must log in again, or in another way", nil},
	"insufficient_scope": {403, codeInsufficientScope, "the token lacks a scope that this request needs", nil},
	"denied":             {403, "", "the token does not allow this request", nil},
	"keys_unavailable":   {503, "", "the keys that the token is verified with cannot be had at present", errKeysUnavailable},
	"internal":           {500, "", "internal error", nil},

	"issuer_unavailable":     {503, "", "whether the token's issuer is accepted cannot be told at present", nil},
	"revocation_unavailable": {503, "", "whether the token has been revoked cannot be told at present", nil},
}

// refuse returns the Error for c.
func refuse(c *cause) *Error {
	r := replies[c.reason]
	return &Error{Status: r.status, Code: r.code, Reason: c.reason, Description: r.description, RetryAfter: c.retryAfter, Err: c}
}

// asError returns the Error that err is or holds, or becomes if it is a cause, and
// nil for any other error.
func asError(err error) *Error {
	switch e := err.(type) {
	case *Error: // nearly always
		return e
	case *cause:
		return refuse(e)
	}
	var e *Error
	errors.As(err, &e)
	return e
}

// internalError returns the Error for err, which is no refusal.
func internalError(err error) *Error {
	return refuse(&cause{reason: "internal", err: err, detail: text(err)})
}

// text returns the text of an error that is not from here, for logs. fmt recovers
// from what a nil pointer's method does.
func text(err error) string { return clip.To(fmt.Sprint(err), maxErrorText) }

// asReplied returns e, or for an Error of the caller's own that needs it, a copy with
// a status that refuses and with a reason.
func (e *Error) asReplied() *Error {
	refuses := 400 <= e.Status && e.Status <= 599
	if refuses && e.Reason != "" {
		return e
	}
	own := *e
	if !refuses {
		own.Status = http.StatusForbidden
	}
	own.Reason = cmp.Or(e.Reason, "denied")
	return &own
}

// words are what the body of a reply says: the members of RFC 6749, section 5.2.
type words struct{ code, description string }

// words returns those of e.
func (e *Error) words() words {
	// RFC 6749, section 4.1.2.1, has words where RFC 6750 has none.
	code := e.Code
	if c, ok := e.Err.(*cause); ok && c.reason == "denied" {
		code = "access_denied"
	}
	if e.Status == http.StatusServiceUnavailable {
		code = "temporarily_unavailable"
	}
	return words{code, e.Description}
}

// body returns the body of the reply that e is.
func (e *Error) body() []byte {
	w := e.words()
	if b := bodies[w]; b != nil {
		return b
	}
	return w.encode()
}

// bodies are those of this package's own refusals, made once: 60 ns less of 470. Nobody
// may write to them: a Write must not (io.Writer).
var bodies = func() map[words][]byte {
	all := make(map[words][]byte)
	for reason := range replies {
		w := refuse(&cause{reason: reason}).words()
		all[w] = slices.Clip(w.encode()) // or whoever appends to one would write behind it
	}
	return all
}()

// encode returns a JSON object with w.
func (w words) encode() []byte {
	b := make([]byte, 0, 128)
	sep := byte('{')
	for _, m := range [...]struct{ name, value string }{{"error", w.code}, {"error_description", w.description}} {
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
