package bearerredis_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"example.com/bearer"
	"example.com/bearer/bearerredis"
	"example.com/bearer/bearertest"
)

func TestRevoked(t *testing.T) {
	const other = "https://other.example.com/"
	iss := newIssuer(t, issuerURL)
	now := time.Now().Truncate(time.Second)
	nextHour := now.Add(time.Hour)
	type claims = bearertest.Claims
	token := claims{"jti": "J", "sub": "S", "sid": "D", "iat": now.Unix()}
	issuedAt := func(iat any) claims { return claims{"jti": "J", "sub": "S", "sid": "D", "iat": iat} }

	type store = *bearerredis.Store
	ctx := t.Context()
	jti := func(issuer, id string, expires time.Time) func(store) error {
		return func(s store) error { return s.RevokeToken(ctx, issuer, id, expires) }
	}
	sub := func(issuer, subject string, before time.Time) func(store) error {
		return func(s store) error { return s.RevokeSubject(ctx, issuer, subject, before, time.Hour) }
	}
	sid := func(issuer, id string) func(store) error {
		return func(s store) error { return s.RevokeSession(ctx, issuer, id, time.Hour) }
	}
	both := func(first, second func(store) error) func(store) error {
		return func(s store) error { return errors.Join(first(s), second(s)) }
	}
	tests := []struct {
		name   string
		claims claims
		revoke func(store) error
		want   bool
	}{
		{"nothing", token, func(store) error { return nil }, false},

		{"its id", token, jti(issuerURL, "J", nextHour), true},
		{"its id, expired within the leeway", token, jti(issuerURL, "J", now.Add(-9*time.Minute)), true},
		{"its id, expired", token, jti(issuerURL, "J", now.Add(-11*time.Minute)), false},
		{"its id, for ever", token, jti(issuerURL, "J", time.Unix(253402300799, 0)), true},
		{"its id, then with a shorter life", token, both(jti(issuerURL, "J", nextHour), jti(issuerURL, "J", now.Add(-10*time.Minute+time.Second))), true},
		{"another id", token, jti(issuerURL, "j", nextHour), false},
		{"the id of another issuer", token, jti(other, "J", nextHour), false},
		{"no id", claims{"jti": nil}, jti(issuerURL, "J", nextHour), false},

		{"its subject", token, sub(issuerURL, "S", now.Add(time.Second)), true},
		{"issued a second before", token, sub(issuerURL, "S", now.Add(time.Second)), true},
		{"issued in that second", token, sub(issuerURL, "S", now), true},
		{"issued in that second, at its end", token, sub(issuerURL, "S", now.Add(time.Second-1)), true},
		{"issued in that second, with a fraction", issuedAt(float64(now.Unix()) + 0.75), sub(issuerURL, "S", now.Add(time.Second/2)), true},
		{"issued in the next second", token, sub(issuerURL, "S", now.Add(-1)), false},
		{"issued long after", token, sub(issuerURL, "S", now.Add(-time.Minute)), false},
		{"issued long before", issuedAt(now.Add(-time.Hour).Unix()), sub(issuerURL, "S", now), true},
		{"issued at the epoch", issuedAt(0), sub(issuerURL, "S", now), true},
		{"issued nobody knows when", issuedAt(nil), sub(issuerURL, "S", now), true},
		{"before a later time, then an earlier one", token, both(sub(issuerURL, "S", now), sub(issuerURL, "S", now.Add(-time.Minute))), true},
		{"before an earlier time, then a later one", token, both(sub(issuerURL, "S", now.Add(-time.Minute)), sub(issuerURL, "S", now)), true},
		{"so long ago that all have expired", token, sub(issuerURL, "S", now.Add(-2*time.Hour)), false},
		{"another subject", token, sub(issuerURL, "s", now), false},
		{"the subject of another issuer", token, sub(other, "S", now), false},
		{"no subject", claims{"sub": nil}, sub(issuerURL, "S", now), false},

		{"its session", token, sid(issuerURL, "D"), true},
		{"its session, issued later", issuedAt(now.Add(30 * time.Second).Unix()), sid(issuerURL, "D"), true},
		{"another session", token, sid(issuerURL, "d"), false},
		{"the session of another issuer", token, sid(other, "D"), false},
		{"no session", claims{}, sid(issuerURL, "D"), false},
		{"a session of another letter case", claims{"SID": "D", "Sid": "D"}, sid(issuerURL, "D"), false},
		{"a session beside one of another letter case", claims{"sid": "D", "sie": "d", "siD": "d"}, sid(issuerURL, "D"), true},
		{"a session that is a number", claims{"sid": 17}, sid(issuerURL, "17"), true},
		{"a session that is null", claims{"sid": map[string]any(nil)}, sid(issuerURL, "null"), false},

		{"the id as a subject", token, sub(issuerURL, "J", now), false},
		{"the id as a session", token, sid(issuerURL, "J"), false},
		{"the session as an id", token, jti(issuerURL, "D", nextHour), false},
		{"issuer and id divided elsewhere", token, jti(issuerURL[:len(issuerURL)-1], "/J", nextHour), false},
	}
	for i, tt := range tests {
		_, client := newStore(t)
		s := bearerredis.New(client, fmt.Sprint("Revoked", i))
		if err := tt.revoke(s); err != nil {
			t.Errorf("%s: cannot revoke: %v", tt.name, err)
		}
		if got, err := s.Revoked(ctx, iss.claims(t, tt.claims)); err != nil || got != tt.want {
			t.Errorf("%s: Revoked = %v, %v, want %v", tt.name, got, err, tt.want)
		}
	}
}

// A revocation is kept until the last token that it concerns is refused anyway:
// it has expired, and the leeway is over.
func TestRevocationsLife(t *testing.T) {
	const leeway = 10 * time.Minute
	ctx := t.Context()
	now := time.Now().Truncate(time.Second)
	type store = *bearerredis.Store
	token := func(expires time.Time) func(store) error {
		return func(s store) error { return s.RevokeToken(ctx, issuerURL, "x", expires) }
	}
	subject := func(before time.Time, life time.Duration) func(store) error {
		return func(s store) error { return s.RevokeSubject(ctx, issuerURL, "x", before, life) }
	}
	session := func(life time.Duration) func(store) error {
		return func(s store) error { return s.RevokeSession(ctx, issuerURL, "x", life) }
	}
	tests := []struct {
		name   string
		revoke []func(store) error
		until  time.Time
	}{
		{"token", []func(store) error{token(now.Add(time.Hour))}, now.Add(time.Hour)},
		{"token-again", []func(store) error{token(now.Add(time.Hour)), token(now.Add(time.Minute))}, now.Add(time.Hour)},
		{"token-longer", []func(store) error{token(now.Add(time.Minute)), token(now.Add(time.Hour))}, now.Add(time.Hour)},
		{"subject", []func(store) error{subject(now.Add(-time.Minute), time.Hour)}, now.Add(59*time.Minute + time.Second)},
		{"subject-again", []func(store) error{subject(now, time.Hour), subject(now, time.Minute)}, now.Add(time.Hour + time.Second)},
		{"session", []func(store) error{session(time.Hour)}, now.Add(time.Hour)},
		{"session-again", []func(store) error{session(time.Hour), session(time.Minute)}, now.Add(time.Hour)},
	}
	for _, tt := range tests {
		_, client := newStore(t)
		s := bearerredis.New(client, "Life-"+tt.name)
		for _, revoke := range tt.revoke {
			if err := revoke(s); err != nil {
				t.Fatal(err)
			}
		}
		key := client.Keys(ctx, "Life-"+tt.name+":*").Val()[0]
		ttl := client.PTTL(ctx, key).Val()
		// Redis may be a millisecond ahead, and the test slow.
		if want := tt.until.Add(leeway).Sub(now); ttl < time.Until(now.Add(want))-time.Millisecond || ttl > want+patience {
			t.Errorf("%s: kept for %v, want %v", tt.name, ttl, want)
		}
	}
}

func TestRevokeNeeds(t *testing.T) {
	store, client := newStore(t)
	ctx, now := t.Context(), time.Now()
	for name, err := range map[string]error{
		"token, no issuer":    store.RevokeToken(ctx, "", "x", now),
		"token, no id":        store.RevokeToken(ctx, issuerURL, "", now),
		"token, no time":      store.RevokeToken(ctx, issuerURL, "x", time.Time{}),
		"subject, no issuer":  store.RevokeSubject(ctx, "", "x", now, time.Hour),
		"subject, none":       store.RevokeSubject(ctx, issuerURL, "", now, time.Hour),
		"subject, no time":    store.RevokeSubject(ctx, issuerURL, "x", time.Time{}, time.Hour),
		"subject, no life":    store.RevokeSubject(ctx, issuerURL, "x", now, 0),
		"subject, life below": store.RevokeSubject(ctx, issuerURL, "x", now, -time.Hour),
		"session, no issuer":  store.RevokeSession(ctx, "", "x", time.Hour),
		"session, none":       store.RevokeSession(ctx, issuerURL, "", time.Hour),
		"session, no life":    store.RevokeSession(ctx, issuerURL, "x", 0),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if keys := client.Keys(ctx, "RevokeNeeds:*").Val(); len(keys) > 0 {
		t.Errorf("these were stored: %q", keys)
	}
}

// One token costs one round trip, with a question for each thing that it can be
// revoked by, and none if there is no such thing.
func TestOneRoundTrip(t *testing.T) {
	iss := newIssuer(t, issuerURL)
	tests := []struct {
		claims bearertest.Claims
		asked  []string
	}{
		{bearertest.Claims{"sid": "D"}, []string{"token", "subject", "session"}},
		{nil, []string{"token", "subject"}},
		{bearertest.Claims{"jti": nil}, []string{"subject"}},
		{bearertest.Claims{"jti": nil, "sub": nil}, nil},
	}
	for _, tt := range tests {
		store, client := newStore(t)
		var r recorder
		client.AddHook(&r)
		if _, err := store.Revoked(t.Context(), iss.claims(t, tt.claims)); err != nil {
			t.Errorf("%v: %v", tt.claims, err)
		}
		var asked []string
		for get := range strings.SplitSeq(strings.Join(r.sent, "; "), "; ") {
			if get != "" {
				asked = append(asked, strings.Split(get, ":")[1])
			}
		}
		if len(r.sent) > 1 || fmt.Sprint(asked) != fmt.Sprint(tt.asked) {
			t.Errorf("%v: sent %q, want one round trip for %q", tt.claims, r.sent, tt.asked)
		}
	}
}

// An answer that is none is an error, unless another one says that the token was
// revoked.
func TestRevokedFails(t *testing.T) {
	store, client := newStore(t)
	ctx := t.Context()
	iss := newIssuer(t, issuerURL)
	c := iss.claims(t, bearertest.Claims{"sid": "D"})
	if err := store.RevokeSubject(ctx, issuerURL, c.Subject, time.Now().Add(-time.Hour), 2*time.Hour); err != nil {
		t.Fatal(err)
	}
	key := client.Keys(ctx, "RevokedFails:subject:*").Val()[0]
	spoil := map[string]func() error{
		"no number":    func() error { return client.Set(ctx, key, "soon", time.Hour).Err() },
		"empty":        func() error { return client.Set(ctx, key, "", time.Hour).Err() },
		"another type": func() error { client.Del(ctx, key); return client.LPush(ctx, key, "1").Err() },
	}
	for name, spoil := range spoil {
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		if revoked, err := store.Revoked(ctx, c); err == nil || revoked {
			t.Errorf("%s: Revoked = %v, %v, want an error", name, revoked, err)
		}
	}
	if err := store.RevokeSession(ctx, issuerURL, "D", time.Hour); err != nil {
		t.Fatal(err)
	}
	if revoked, err := store.Revoked(ctx, c); err != nil || !revoked {
		t.Errorf("with the session revoked: Revoked = %v, %v, want true", revoked, err)
	}
	if revoked, err := store.Revoked(ctx, &bearer.Claims{Issuer: issuerURL, Subject: "S"}); err == nil || revoked {
		t.Errorf("claims that are of no token: Revoked = %v, %v, want an error", revoked, err)
	}

	r := recorder{fail: errors.New("refused by a hook")}
	client.AddHook(&r)
	if revoked, err := store.Revoked(context.Background(), c); !errors.Is(err, r.fail) || revoked {
		t.Errorf("Revoked = %v, %v, want %v", revoked, err, r.fail)
	}
}
