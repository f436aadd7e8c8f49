package recipes

import (
	"context"
	"errors"
	"net/http"

	"example.com/bearer"
)

type message struct {
	Issuer, Owner string // whose it is: two issuers can have a user of the same name
	Text          string
}

var errNotFound = errors.New("there is no such message")

// owned returns a handler for messages of the caller's own. The message is loaded
// once, for the check, which passes it on to serve.
func owned(
	auth *bearer.Middleware,
	load func(ctx context.Context, id string) (*message, error),
	serve func(http.ResponseWriter, *http.Request, *message),
) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var m *message
		check := func(r *http.Request, c *bearer.Claims) (err error) {
			m, err = load(r.Context(), r.PathValue("id"))
			switch {
			case err == nil && m.Issuer == c.Issuer && m.Owner == c.Subject:
				return nil
			case err == nil, errors.Is(err, errNotFound):
				// The same for both, or else it tells which messages there are.
				return &bearer.Error{Status: http.StatusNotFound, Reason: "not_owner", Description: errNotFound.Error()}
			}
			return &bearer.Error{Status: http.StatusServiceUnavailable, Reason: "load", Description: "try again later", Err: err}
		}
		auth.Require(check)(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			serve(w, r, m)
		})).ServeHTTP(w, r)
	})
}
