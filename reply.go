package bearer

import (
	"context"
	"net/http"
	"slices"
)

// A replier replies to refused requests.
type replier struct {
	challenger   challenger
	bindings     *bindings
	errorHandler func(http.ResponseWriter, *http.Request, *Error) // nil: DefaultErrorHandler
}

// write is [Middleware.WriteError].
func (rp *replier) write(w http.ResponseWriter, r *http.Request, err error) {
	e := asError(err)
	if e == nil {
		e = internalError(err)
	}
	e = e.asReplied()
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Del("Content-Length") // of another body
	const name = "Www-Authenticate"
	others := h[name]
	before, _ := r.Context().Value(replyKey{}).(*replyContext)
	if before != nil {
		others = slices.DeleteFunc(slices.Clone(others), func(s string) bool { return slices.Contains(before.challenges, s) })
		h[name] = others
		h.Del("Retry-After")
	}
	challenges := rp.challenger.challenges(e, r)
	if len(challenges) > 0 {
		h[name] = challenges
		if len(others) > 0 {
			h[name] = append(others[:len(others):len(others)], challenges...)
		}
	}
	rp.bindings.refused(h, r)
	if e.RetryAfter > 0 {
		h.Set("Retry-After", wholeSeconds(e.RetryAfter))
	}
	if rp.errorHandler == nil || before != nil {
		DefaultErrorHandler(w, r, e)
		return
	}
	keepTrailers(r)
	inner := r.WithContext(&replyContext{r.Context(), challenges})
	defer giveBack(r, inner)
	rp.errorHandler(w, inner, e)
}

// DefaultErrorHandler writes the reply that a refused request gets without
// [Config.ErrorHandler]: status e.Status and a JSON object with the members "error"
// and "error_description", as far as e has them. With status 503 "error" is
// "temporarily_unavailable", and where a check of [Middleware.Require] returned an
// error that is no *Error it is "access_denied", though e.Code is empty. It is for
// ErrorHandlers that only add to it. All other headers are set before, by
// [Middleware.WriteError].
func DefaultErrorHandler(w http.ResponseWriter, _ *http.Request, e *Error) {
	if e == nil {
		e = internalError(e)
	}
	e = e.asReplied()
	h := w.Header()
	h.Set("Content-Type", "application/json")
	// Content-Encoding stays, as with http.Error: middleware that compresses sets
	// it before it compresses what is written here.
	h.Del("Content-Length")
	w.WriteHeader(e.Status)
	w.Write(e.body())
}

type replyKey struct{}

// A replyContext is that of a request whose reply an ErrorHandler writes.
type replyContext struct {
	context.Context
	challenges []string // that have been set
}

// Value shows WriteError that it has been called for this request before.
func (c *replyContext) Value(key any) any {
	if key == (replyKey{}) {
		return c
	}
	return c.Context.Value(key)
}
