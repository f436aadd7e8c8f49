package bearerredis_test

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"example.com/bearer"
	"example.com/bearer/bearerredis"
	"example.com/bearer/bearertest"
)

// Two replicas behind one Redis, and what requests get when it goes.
func TestMiddleware(t *testing.T) {
	t.Parallel()
	const url = audience + "/"
	s := newServer(t)
	iss := bearertest.NewIssuer(issuerURL)
	newReplica := func() http.Handler {
		store := bearerredis.New(s.client(t), "middleware")
		auth, err := bearer.New(bearer.Config{
			Issuer:   iss.URL,
			Audience: []string{audience},
			Client:   iss.Client(),
			Logger:   slog.New(slog.DiscardHandler),
			Revoked:  store.Revoked,
			DPoP:     &bearer.DPoP{BaseURLs: []string{audience}, Replay: store},
		})
		if err != nil {
			t.Fatal(err)
		}
		return auth.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	}
	replicas := []http.Handler{newReplica(), newReplica()}
	plain := func(claims bearertest.Claims) *http.Request {
		r := httptest.NewRequest("GET", url, nil)
		r.Header.Set("Authorization", "Bearer "+iss.Token(audience, claims))
		return r
	}
	client := bearertest.NewClient()
	proved := func(claims bearertest.Claims) *http.Request {
		claims["cnf"] = bearertest.Claims{"jkt": client.KeyThumbprint}
		r := httptest.NewRequest("GET", url, nil)
		client.Authorize(r, iss.Token(audience, claims))
		return r
	}
	anonymous := func() bearertest.Claims { return bearertest.Claims{"jti": nil, "sub": nil} }
	revoked := plain(bearertest.Claims{"jti": "revoked"})
	store := bearerredis.New(s.client(t), "middleware")
	if err := store.RevokeSession(t.Context(), issuerURL, "over", time.Hour); err != nil {
		t.Fatal(err)
	}
	check := func(name string, replica int, r *http.Request, want int) {
		t.Helper()
		w := httptest.NewRecorder()
		replicas[replica].ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("%s: replica %d says %d, want %d", name, replica, w.Code, want)
		}
	}

	proof := proved(bearertest.Claims{})
	check("a proof", 0, proof, 200)
	check("the same one again", 0, proof, 401)
	check("the same one elsewhere", 1, proof, 401)
	check("before it is revoked", 0, revoked, 200)
	check("before it is revoked", 1, revoked, 200)
	if err := store.RevokeToken(t.Context(), issuerURL, "revoked", time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	check("revoked", 0, revoked, 401)
	check("revoked", 1, revoked, 401)
	check("of a session that is over", 1, plain(bearertest.Claims{"sid": "over"}), 401)

	s.kill()
	for i := range replicas {
		check("without Redis: a token to be looked up", i, plain(nil), 503)
		check("without Redis: a proof", i, proved(anonymous()), 503)
		check("without Redis: a plain token that is not looked up", i, plain(anonymous()), 200)
		check("without Redis: an expired token", i, plain(bearertest.Claims{"exp": 1}), 401)
		check("without Redis: no token", i, httptest.NewRequest("GET", url, nil), 401)
	}
}
