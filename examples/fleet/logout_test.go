package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"example.com/bearer"
	"example.com/bearer/bearerredis"
	"example.com/bearer/bearertest"
)

// logoutToken returns a good logout token but for the claims and the type given.
func logoutToken(iss *bearertest.Issuer, typ string, claims bearertest.Claims) string {
	now := time.Now().Unix()
	all := bearertest.Claims{
		"iss":    iss.URL,
		"aud":    audience,
		"iat":    now,
		"exp":    now + 120,
		"jti":    fmt.Sprintf("logout-%d", time.Now().UnixNano()),
		"events": map[string]any{logoutEvent: struct{}{}},
	}
	maps.Copy(all, claims)
	maps.DeleteFunc(all, func(_ string, value any) bool { return value == nil })
	payload, err := json.Marshal(all)
	if err != nil {
		panic(err)
	}
	return iss.Sign(fmt.Sprintf(`{"typ":%q,"alg":"ES256","kid":%q}`, typ, iss.KeyID()), string(payload))
}

func TestLogout(t *testing.T) {
	iss := bearertest.NewIssuer("https://login.example.com/")
	other := bearertest.NewIssuer(iss.URL)
	server := startRedis(t)
	client, err := dial(server.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	store := bearerredis.New(client, prefix)
	api := bearer.Config{Issuer: iss.URL, Audience: []string{audience}, Client: iss.Client(), Logger: slog.New(slog.DiscardHandler), Revoked: store.Revoked}
	endpoint, err := newLogout(api, nil, store, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	auth, err := bearer.New(api)
	if err != nil {
		t.Fatal(err)
	}
	good := func(claims bearertest.Claims) bool {
		_, err := auth.Verify(t.Context(), iss.Token(audience, claims))
		return err == nil
	}
	logout := func(body string) (status int, code string) {
		t.Helper()
		r := httptest.NewRequest("POST", "/backchannel-logout", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		w := httptest.NewRecorder()
		endpoint.ServeHTTP(w, r)
		if got := w.Header().Get("Cache-Control"); got != "no-store" {
			t.Errorf("Cache-Control %q, want no-store", got)
		}
		var reply struct{ Error string }
		if w.Code != 200 && json.Unmarshal(w.Body.Bytes(), &reply) != nil {
			t.Errorf("body %q, want JSON", w.Body)
		}
		return w.Code, reply.Error
	}
	form := func(tokens ...string) string { return url.Values{"logout_token": tokens}.Encode() }

	now := time.Now().Unix()
	session := bearertest.Claims{"sub": "alice", "sid": "s1"}
	with := func(claims bearertest.Claims) string {
		all := maps.Clone(session)
		maps.Copy(all, claims)
		return form(logoutToken(iss, "logout+jwt", all))
	}
	for _, tt := range []struct{ name, body string }{
		{"no form", ""},
		{"no token", "logout_token="},
		{"two tokens", form(logoutToken(iss, "logout+jwt", session), logoutToken(iss, "logout+jwt", session))},
		{"too long", with(nil) + "&more=" + strings.Repeat("a", 64<<10)},
		{"type of an access token", form(logoutToken(iss, "at+jwt", session))},
		{"type of an ID token", form(logoutToken(iss, "JWT", session))},
		{"another's key", form(logoutToken(other, "logout+jwt", session))},
		{"another issuer", with(bearertest.Claims{"iss": "https://other.example.com/"})},
		{"another client", with(bearertest.Claims{"aud": "https://other.example.com"})},
		{"expired", with(bearertest.Claims{"exp": now - 120})},
		{"no expiry", with(bearertest.Claims{"exp": nil})},
		{"old", with(bearertest.Claims{"iat": now - 301, "exp": now + 3600})},
		{"no time of issue", with(bearertest.Claims{"iat": nil})},
		{"no id", with(bearertest.Claims{"jti": nil})},
		{"nobody", with(bearertest.Claims{"sub": nil, "sid": nil})},
		{"a session that is no string", with(bearertest.Claims{"sid": 1})},
		{"an empty session", with(bearertest.Claims{"sid": ""})},
		{"a nonce", with(bearertest.Claims{"nonce": "n"})},
		{"a nonce that is null", with(bearertest.Claims{"nonce": json.RawMessage("null")})},
		{"no events", with(bearertest.Claims{"events": nil})},
		{"another case", with(bearertest.Claims{"events": nil, "Events": map[string]any{logoutEvent: struct{}{}}})},
		{"other events", with(bearertest.Claims{"events": map[string]any{"logout": struct{}{}}})},
		{"an event that is no object", with(bearertest.Claims{"events": map[string]any{logoutEvent: true}})},
		{"an event that is null", with(bearertest.Claims{"events": map[string]any{logoutEvent: nil}})},
		{"events that are a list", with(bearertest.Claims{"events": []string{logoutEvent}})},
	} {
		if status, code := logout(tt.body); status != 400 || code != "invalid_request" {
			t.Errorf("%s: %d %s, want 400 invalid_request", tt.name, status, code)
		}
	}
	if !good(session) {
		t.Error("a logout that was refused has revoked something")
	}

	// By session: the user's other ones go on.
	body := with(nil)
	if status, code := logout(body); status != 200 {
		t.Errorf("sid: %d %s, want 200", status, code)
	}
	if good(session) || !good(bearertest.Claims{"sub": "alice", "sid": "s2"}) {
		t.Errorf("sid: s1 good = %v, want false, s2 good = %v, want true", good(session), good(bearertest.Claims{"sub": "alice", "sid": "s2"}))
	}
	if status, code := logout(body); status != 400 || code != "invalid_request" {
		t.Errorf("once more: %d %s, want 400 invalid_request", status, code)
	}

	// By subject: what was issued until then.
	if status, code := logout(with(bearertest.Claims{"sid": nil})); status != 200 {
		t.Errorf("sub: %d %s, want 200", status, code)
	}
	if good(bearertest.Claims{"sub": "alice", "iat": now}) || !good(bearertest.Claims{"sub": "alice", "iat": now + 30}) || !good(bearertest.Claims{"sub": "bob"}) {
		t.Error("sub: want alice's tokens of before refused, and those of after and bob's good")
	}

	// The provider can send one again that failed for want of Redis.
	body = with(bearertest.Claims{"sid": "s3"})
	server.end(os.Kill)
	if status, code := logout(body); status != 400 || code != "temporarily_unavailable" {
		t.Errorf("without Redis: %d %s, want 400 temporarily_unavailable", status, code)
	}
	if !server.start(t) {
		t.Fatal("redis-server does not start again")
	}
	eventually(t, "a logout after Redis is back", func() bool {
		status, _ := logout(body)
		return status == 200
	})

	// So it can for want of keys.
	iss.SetDown(true)
	endpoint, err = newLogout(api, nil, store, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if status, code := logout(with(bearertest.Claims{"sid": "s4"})); status != 400 || code != "temporarily_unavailable" {
		t.Errorf("without keys: %d %s, want 400 temporarily_unavailable", status, code)
	}
}
