package recipes

import (
	"net/http"
	"time"

	"example.com/bearer"
)

const tokenCookie = "__Host-token"

// setTokenCookie gives a browser its token, where scripts cannot read it and no other
// host, not even one below the same domain, can have set it.
func setTokenCookie(w http.ResponseWriter, token string, expires time.Time) {
	http.SetCookie(w, &http.Cookie{
		Name:     tokenCookie,
		Value:    token,
		Path:     "/", // this and Secure, and no Domain, are what "__Host-" stands for
		Secure:   true,
		HttpOnly: true,
		SameSite: http.SameSiteLaxMode,
		Expires:  expires,
	})
}

// cookie serves requests that have their token in the cookie like those that have it
// in the header. It goes outside of all wrappers of auth.
func cookie(auth *bearer.Middleware, next http.Handler) http.Handler {
	csrf := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		cookies := r.CookiesNamed(tokenCookie)
		if len(cookies) == 0 {
			next.ServeHTTP(w, r)
			return
		}
		if len(cookies) > 1 || len(r.Header["Authorization"]) > 0 {
			// Which one counts would depend on who reads them.
			auth.WriteError(w, r, &bearer.Error{Status: 400, Code: "invalid_request", Description: "there is more than one token"})
			return
		}
		// Browsers send cookies whoever made them send the request. Headers they do not.
		if err := csrf.Check(r); err != nil {
			auth.WriteError(w, r, &bearer.Error{Status: 403, Description: "the request comes from another site", Err: err})
			return
		}
		inner := r.Clone(r.Context())
		inner.Header.Set("Authorization", "Bearer "+cookies[0].Value)
		next.ServeHTTP(w, inner)
	})
}
