package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"example.com/bearer"
	"example.com/bearer/bearerredis"
)

const (
	// maxLogoutAge is how long after its issue a logout token counts. The
	// provider sends it at once.
	maxLogoutAge = 5 * time.Minute

	// keepLogouts is how long the id of one is remembered: as long as it counts,
	// with clocks that differ as much as they may.
	keepLogouts = maxLogoutAge + 10*time.Minute

	logoutEvent = "http://schemas.openid.net/event/backchannel-logout"
)

// logout is the endpoint of OpenID Connect Back-Channel Logout 1.0: the provider
// sends it a logout token when a user has logged out, and the tokens of the session
// end at all replicas.
type logout struct {
	auth  *bearer.Middleware // of logout tokens
	store *bearerredis.Store
	life  time.Duration // the longest of access tokens
	log   *slog.Logger
}

// newLogout returns the endpoint for the issuer of an API. clients are the client
// ids that the provider sends logout tokens for; if there are none they are the
// API's own audience.
func newLogout(api bearer.Config, clients []string, store *bearerredis.Store, life time.Duration) (*logout, error) {
	if len(clients) == 0 {
		clients = api.Audience
	}
	// Section 2.6: logout tokens are verified as ID tokens are, with the issuer's
	// keys. Access tokens do not pass, since their type is another one (section
	// 2.4), and no logout token passes for an access token.
	auth, err := bearer.New(bearer.Config{
		Issuer:       api.Issuer,
		Audience:     clients,
		JWKSURL:      api.JWKSURL,
		FetchKeys:    api.FetchKeys,
		KeyCache:     api.KeyCache,
		InsecureHTTP: api.InsecureHTTP,
		Client:       api.Client,
		Logger:       api.Logger,
		TokenTypes:   []string{"logout+jwt"},
		TokenCache:   -1, // each of them comes once
	})
	if err != nil {
		return nil, err
	}
	return &logout{auth, store, life, api.Logger}, nil
}

// ServeHTTP implements section 2.8: 200, or 400 if the request is at fault or the
// logout failed, and neither of them is to be cached.
func (l *logout) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
	err := r.ParseForm()
	if tokens := r.PostForm["logout_token"]; err == nil && len(tokens) == 1 {
		err = l.end(r.Context(), tokens[0])
	} else {
		err = errors.Join(errors.New("want one logout_token, in a form"), err)
	}
	if err == nil {
		w.WriteHeader(http.StatusOK)
		return
	}
	l.log.Warn("logout refused", "error", err)
	code := "invalid_request"
	var refusal *bearer.Error
	if failed := (failure{}); errors.As(err, &failed) || errors.As(err, &refusal) && refusal.Status == http.StatusServiceUnavailable {
		code = "temporarily_unavailable"
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusBadRequest)
	json.NewEncoder(w).Encode(map[string]string{"error": code})
}

// A failure is an error that the logout token is not to blame for.
type failure struct{ error }

// end ends the session that a logout token names, or all of its subject.
func (l *logout) end(ctx context.Context, token string) error {
	claims, err := l.auth.Verify(ctx, token)
	if err != nil {
		return err
	}
	sid, err := checkLogout(claims, time.Now())
	if err != nil {
		return err
	}
	if sid != "" {
		err = l.store.RevokeSession(ctx, claims.Issuer, sid, l.life)
	} else {
		err = l.store.RevokeSubject(ctx, claims.Issuer, claims.Subject, claims.IssuedAt, l.life)
	}
	if err != nil {
		return failure{err}
	}
	// Afterwards, so that the provider can send it again if Redis failed. What a
	// second time revokes was revoked before.
	fresh, err := l.store.Add(ctx, fmt.Sprintf("logout %q %q", claims.Issuer, claims.ID), keepLogouts)
	if err != nil {
		return failure{err}
	}
	if !fresh {
		return errors.New("the logout token was used before")
	}
	return nil
}

// checkLogout judges the claims of a logout token as sections 2.4 and 2.6 say, and
// returns its "sid", or "" if all sessions of its subject are to end.
func checkLogout(claims *bearer.Claims, now time.Time) (sid string, err error) {
	var members map[string]json.RawMessage // no struct, since "Nonce" is not "nonce"
	if err := claims.Decode(&members); err != nil {
		return "", err
	}
	var events map[string]json.RawMessage
	var event map[string]any
	if json.Unmarshal(members["events"], &events) != nil || json.Unmarshal(events[logoutEvent], &event) != nil || event == nil {
		return "", fmt.Errorf("events: want an object with the member %q, an object too", logoutEvent)
	}
	// An ID token that got into the wrong hands must not serve to log its user out.
	if _, there := members["nonce"]; there {
		return "", errors.New("nonce: not in a logout token")
	}
	if text, there := members["sid"]; there && (json.Unmarshal(text, &sid) != nil || sid == "") {
		return "", errors.New("sid: want a string")
	}
	switch {
	case sid == "" && claims.Subject == "":
		return "", errors.New("neither sub nor sid")
	case claims.ID == "":
		return "", errors.New("no jti")
	case claims.IssuedAt.IsZero() || now.Sub(claims.IssuedAt) > maxLogoutAge:
		return "", fmt.Errorf("iat: want a time within the last %v", maxLogoutAge)
	}
	return sid, nil
}
