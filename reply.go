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
	used := ""
	if rp.bindings.proofs != nil {
		used = usedScheme(r.Header[authorization])
	}
	values := make(lines, 0, 4)
	// Canonical names, without Set and Del, which look at each letter of a name: 1,700
	// instructions of the 6,400 that a refusal took.
	h := w.Header()
	h["Cache-Control"] = values.add("no-store")
	const name = "Www-Authenticate"
	others := h[name]
	before, _ := r.Context().Value(replyKey{}).(*replyContext)
	if before != nil {
		others = slices.DeleteFunc(slices.Clone(others), func(s string) bool { return slices.Contains(before.challenges, s) })
		h[name] = others
		delete(h, "Retry-After")
	}
	challenges := rp.challenger.challenges(&values, e, used)
	if len(challenges) > 0 {
		h[name] = challenges
		if len(others) > 0 {
			h[name] = append(others[:len(others):len(others)], challenges...)
		}
	}
	rp.bindings.refused(h, r, used)
	if e.RetryAfter > 0 {
		h["Retry-After"] = values.add(wholeSeconds(e.RetryAfter))
	}
	if rp.errorHandler == nil || before != nil {
		e.reply(w, values.add("application/json"))
		return
	}
	delete(h, "Content-Length") // of another body
	keepTrailers(r)
	inner := r.WithContext(&replyContext{r.Context(), challenges})
	defer giveBack(r, inner)
	rp.errorHandler(w, inner, e)
}

// lines are the values of a reply's headers, in one allocation as net/textproto has
// those of a request: 40 ns less of 350. They are this reply's alone, since whoever sees
// a header may write to its values.
type lines []string

// add returns a header's values. Whoever appends to them gets a copy.
func (l *lines) add(values ...string) []string {
	n := len(*l)
	*l = append(*l, values...)
	return slices.Clip((*l)[n:])
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
	e.asReplied().reply(w, []string{"application/json"})
}

// reply writes the reply that e is, but for the headers that others set before.
func (e *Error) reply(w http.ResponseWriter, contentType []string) {
	h := w.Header()
	h["Content-Type"] = contentType
	// Content-Encoding stays, as with http.Error: middleware that compresses sets
	// it before it compresses what is written here.
	delete(h, "Content-Length") // of another body
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
