package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"example.com/bearer/bearertest"
)

// conform returns nil if h does what all contenders must: speed is worth nothing
// without the checks. It also leaves h with the issuer's keys at hand, so that
// no timed part fetches them.
func conform(h http.Handler, iss *bearertest.Issuer, w workload) error {
	claims := w.claims
	good := iss.Token(audience, claims)
	now := time.Now()
	tests := []struct {
		name  string
		token string
		want  int
	}{
		{"a good token", good, http.StatusNoContent},
		{"the same again", good, http.StatusNoContent},
		{"another good token", iss.Token(audience, claims), http.StatusNoContent},
		{"an expired one", iss.Token(audience, with(claims, "exp", now.Add(-time.Hour).Unix())), http.StatusUnauthorized},
		{"one not valid yet", iss.Token(audience, with(claims, "nbf", now.Add(time.Hour).Unix())), http.StatusUnauthorized},
		{"one issued in the future", iss.Token(audience, with(claims, "iat", now.Add(time.Hour).Unix())), http.StatusUnauthorized},
		{"one of another issuer", iss.Token(audience, with(claims, "iss", "https://other.example.com/")), http.StatusUnauthorized},
		{"one for another API", iss.Token(audience, with(claims, "aud", "https://other.example.com")), http.StatusUnauthorized},
		{"a tampered one", tampered(good, iss.Token(audience, with(claims, "scope", "admin"))), http.StatusUnauthorized},
	}
	var errs []error
	for _, tt := range tests {
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, requests([]string{tt.token})[0])
		if rec.Code != tt.want {
			errs = append(errs, fmt.Errorf("%s: status = %d, want %d", tt.name, rec.Code, tt.want))
		}
	}
	return errors.Join(errs...)
}
