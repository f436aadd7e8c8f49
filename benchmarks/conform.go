package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"time"
)

// An attempt is a request, and the status that it must get.
type attempt struct {
	name    string
	request *http.Request
	want    int
}

// Checks that some contenders lack.
const (
	inTheFuture = "one issued in the future"
	usedBefore  = "a proof that was used before"
)

// conform returns nil if h, which is c at work, does what all contenders must: speed
// is worth nothing without the checks. It also leaves h with the issuers' keys at hand,
// so that no timed part fetches them.
func conform(h http.Handler, c contender, t *trial) error {
	attempts := t.attempts()
	if c.more != nil {
		attempts = append(attempts, c.more(t)...)
	}
	var errs []error
	for _, a := range attempts {
		if slices.Contains(c.lacks, a.name) {
			a.want = http.StatusNoContent // or it is no longer true that it lacks this
		}
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, a.request)
		// RFC 6750, 3.1 has 400 for what is no request, and not all agree on what that is.
		if rec.Code == http.StatusBadRequest && a.want == http.StatusUnauthorized {
			rec.Code = a.want
		}
		if rec.Code != a.want {
			errs = append(errs, fmt.Errorf("%s: status = %d, want %d", a.name, rec.Code, a.want))
		}
	}
	return errors.Join(errs...)
}

// attempts returns those that all contenders are judged by.
func (t *trial) attempts() []attempt {
	const yes, no = http.StatusNoContent, http.StatusUnauthorized
	now := time.Now()
	good, other := t.token(t.claims), t.token(with(t.claims, "scope", "admin"))
	token := func(name string, value any) *http.Request { return t.request(t.token(with(t.claims, name, value))) }
	all := []attempt{
		{"a good token", t.request(good), yes},
		{"the same again", t.request(good), yes},
		{"another good token", t.request(t.token(t.claims)), yes},
		{"an expired one", token("exp", now.Add(-time.Hour).Unix()), no},
		{"one not valid yet", token("nbf", now.Add(time.Hour).Unix()), no},
		{inTheFuture, token("iat", now.Add(time.Hour).Unix()), no},
		{"one of another issuer", token("iss", "https://other.example.com/"), no},
		{"one for another API", token("aud", "https://other.example.com"), no},
		{"a tampered one", t.request(tampered(good, other)), no},
		{"no token", newRequest(""), no},
	}
	if t.refused != nil {
		all = append(all, attempt{t.name, newRequest(t.refused(good)), no})
	}
	if t.bound {
		proof := t.prover.proof(good, apiURL, now)
		all = append(all,
			attempt{"without a proof", newRequest("DPoP " + good), no},
			attempt{"without a proof, as a bearer token", newRequest("Bearer " + good), no},
			attempt{"with a proof by another key", provenRequest(good, newProver().proof(good, apiURL, now)), no},
			attempt{"with a proof for another token", provenRequest(good, t.prover.proof(other, apiURL, now)), no},
			attempt{"with a proof for another URL", provenRequest(good, t.prover.proof(good, apiURL+"/1", now)), no},
			attempt{"with an old proof", provenRequest(good, t.prover.proof(good, apiURL, now.Add(-time.Hour))), no},
			attempt{"with a tampered proof", provenRequest(good, tampered(proof, t.prover.proof(good, apiURL, now))), no},
			attempt{"with a proof", provenRequest(good, proof), yes},
			attempt{usedBefore, provenRequest(good, proof), no},
		)
	}
	return all
}
