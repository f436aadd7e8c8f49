package bearertest_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/bearer"
	"example.com/bearer/bearertest"
)

const audience = "https://api.example.com"

func newAuth(t *testing.T, iss *bearertest.Issuer, client *http.Client) *bearer.Middleware {
	t.Helper()
	auth, err := bearer.New(bearer.Config{Issuer: iss.URL, Audience: []string{audience}, Client: client})
	if err != nil {
		t.Fatal(err)
	}
	return auth
}

// status verifies token and returns the status of the reply.
func status(auth *bearer.Middleware, token string) int {
	_, err := auth.Verify(context.Background(), token)
	var e *bearer.Error
	if errors.As(err, &e) {
		return e.Status
	}
	return 200
}

func TestToken(t *testing.T) {
	iss := bearertest.NewIssuer("https://login.example.com/tenant/")
	part := func(token string, i int) map[string]any {
		b, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[i])
		if err != nil {
			t.Fatal(err)
		}
		var m map[string]any
		if err := json.Unmarshal(b, &m); err != nil {
			t.Fatal(err)
		}
		return m
	}
	now := float64(time.Now().Unix())
	token := iss.Token(audience, bearertest.Claims{"sub": "alice", "client_id": nil, "tenant": map[string]any{"id": 1}})
	if got, want := fmt.Sprint(part(token, 0)), "map[alg:ES256 kid:key-1 typ:at+jwt]"; got != want {
		t.Errorf("header = %s, want %s", got, want)
	}
	claims := part(token, 1)
	if exp, iat := claims["exp"].(float64), claims["iat"].(float64); exp-iat != 3600 || iat < now || iat > now+2 {
		t.Errorf("exp and iat are %v and %v, want now and an hour later", exp, iat)
	}
	delete(claims, "exp")
	delete(claims, "iat")
	if got, want := fmt.Sprint(claims), "map[aud:https://api.example.com iss:https://login.example.com/tenant/ jti:1 sub:alice tenant:map[id:1]]"; got != want {
		t.Errorf("claims = %s, want %s", got, want)
	}
	if got := part(iss.Token(audience, nil), 1)["jti"]; got != "2" {
		t.Errorf("jti of the next token = %v, want 2", got)
	}
	if got, want := iss.Sign("a", "b"), base64.RawURLEncoding.EncodeToString([]byte("a"))+"."; !strings.HasPrefix(got, want) {
		t.Errorf("Sign = %s, want it to take any header", got)
	}
}

func TestKeys(t *testing.T) {
	for _, algorithm := range []string{"ES256", "ES384", "ES512", "EdDSA", "RS256", "PS512"} {
		iss := bearertest.NewIssuer("https://login.example.com")
		iss.UseAlgorithm(algorithm)
		auth := newAuth(t, iss, iss.Client())
		first := iss.Token(audience, nil)
		iss.Rotate()
		second := iss.Token(audience, nil)
		for i, token := range []string{first, second} {
			if got := status(auth, token); got != 200 {
				t.Errorf("%s: token %d: status %d, want 200", algorithm, i, got)
			}
		}
	}

	iss := bearertest.NewIssuer("https://login.example.com")
	iss.Announce()
	auth := newAuth(t, iss, iss.Client())
	if status(auth, iss.Token(audience, nil)) != 200 || iss.KeyID() != "key-1" {
		t.Errorf("an announced key signs already: %s", iss.KeyID())
	}
	old := iss.Token(audience, nil)
	iss.Replace()
	if iss.KeyID() != "key-2" || status(auth, iss.Token(audience, nil)) != 200 || iss.Fetches() != 1 {
		t.Errorf("the announced key %s is not in use, or was not published: %d fetches", iss.KeyID(), iss.Fetches())
	}
	iss.Announce()
	iss.UseAlgorithm("EdDSA")
	iss.Rotate()
	if got := status(newAuth(t, iss, iss.Client()), iss.Sign(fmt.Sprintf(`{"alg":"EdDSA","kid":%q}`, iss.KeyID()),
		fmt.Sprintf(`{"iss":%q,"aud":%q,"exp":4000000000}`, iss.URL, audience))); got != 200 {
		t.Errorf("UseAlgorithm keeps an announced key: status %d, want 200", got)
	}
	if got := status(newAuth(t, iss, iss.Client()), old); got != 401 {
		t.Errorf("a replaced key: status %d, want 401", got)
	}
}

// What the issuer publishes, and which key signs, after each step.
func TestPublishedKeys(t *testing.T) {
	iss := bearertest.NewIssuer("https://login.example.com")
	for i, step := range []struct {
		name      string
		do        func()
		published string
		signs     string
	}{
		{"at first", func() {}, "key-1", "key-1"},
		{"announced", iss.Announce, "key-1 key-2", "key-1"},
		{"announced anew", iss.Announce, "key-1 key-3", "key-1"},
		{"rotated to it", iss.Rotate, "key-1 key-3", "key-3"},
		{"rotated", iss.Rotate, "key-1 key-3 key-4", "key-4"},
		{"announced again", iss.Announce, "key-1 key-3 key-4 key-5", "key-4"},
		{"replaced by it", iss.Replace, "key-5", "key-5"},
		{"replaced", iss.Replace, "key-6", "key-6"},
		{"of another algorithm", func() { iss.Announce(); iss.UseAlgorithm("EdDSA") }, "key-8", "key-8"},
		{"rotated after all", iss.Rotate, "key-8 key-9", "key-9"},
	} {
		step.do()
		resp, err := iss.Client().Get("https://login.example.com/.well-known/jwks.json")
		if err != nil {
			t.Fatal(err)
		}
		var set struct {
			Keys []struct{ KID, Use, Alg, Kty, D string }
		}
		if err := json.NewDecoder(resp.Body).Decode(&set); err != nil {
			t.Fatal(err)
		}
		alg, kty := "ES256", "EC"
		if i >= 8 {
			alg, kty = "EdDSA", "OKP"
		}
		var ids []string
		for _, k := range set.Keys {
			ids = append(ids, k.KID)
			if k.Use != "sig" || k.Alg != alg || k.Kty != kty || k.D != "" {
				t.Errorf("%s: published %+v, want a public key for %s", step.name, k, alg)
			}
		}
		if got := strings.Join(ids, " "); got != step.published || iss.KeyID() != step.signs {
			t.Errorf("%s: publishes %s and signs with %s, want %s and %s", step.name, got, iss.KeyID(), step.published, step.signs)
		}
	}
}

// Each answer with the keys counts, conditional ones too, and nothing else does.
func TestFetches(t *testing.T) {
	iss := bearertest.NewIssuer("https://login.example.com/tenant")
	var tag string
	for i, step := range []struct {
		url, condition string
		status         int
		fetches        int
		media          string
	}{
		{"https://login.example.com/tenant/.well-known/openid-configuration", "", 200, 0, "application/json"},
		{"https://login.example.com/tenant/.well-known/jwks.json", "", 200, 1, "application/jwk-set+json"},
		{"https://login.example.com/tenant/.well-known/jwks.json", "the tag", 304, 2, ""},
		{"https://login.example.com/tenant/.well-known/jwks.json", `"other"`, 200, 3, "application/jwk-set+json"},
		{"https://login.example.com/tenant/elsewhere", "", 404, 3, "text/plain; charset=utf-8"},
	} {
		r := httptest.NewRequest("GET", step.url, nil)
		r.RequestURI = ""
		if step.condition == "the tag" {
			step.condition = tag
		}
		r.Header.Set("If-None-Match", step.condition)
		resp, err := iss.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		if got := resp.Header.Get("Content-Type"); resp.StatusCode != step.status || iss.Fetches() != step.fetches || got != step.media {
			t.Errorf("request %d: status %d, %q, %d fetches, want %d, %q, %d", i, resp.StatusCode, got, iss.Fetches(), step.status, step.media, step.fetches)
		}
		if i == 1 {
			tag = resp.Header.Get("ETag")
		}
	}
	r := httptest.NewRequest("GET", "https://login.example.com/tenant/.well-known/jwks.json", nil)
	r.RequestURI = ""
	r.Header.Set("If-None-Match", tag)
	iss.Rotate()
	if resp, err := iss.Client().Do(r); err != nil || resp.StatusCode != 200 {
		t.Errorf("a conditional request after a rotation: %v, %v, want status 200", resp, err)
	}
}

// Everything may be called by several goroutines at once: a test for the race
// detector.
func TestConcurrentUse(t *testing.T) {
	iss := bearertest.NewIssuer("https://login.example.com")
	auth := newAuth(t, iss, iss.Client())
	var wg sync.WaitGroup
	for _, f := range []func(){
		func() { status(auth, iss.Token(audience, nil)) },
		func() { iss.Sign("{}", "{}") },
		func() { iss.KeyID() },
		func() { iss.Fetches() },
		iss.Announce, iss.Rotate, iss.Replace,
		func() { iss.UseAlgorithm("EdDSA") },
		func() { iss.SetDown(false) },
		func() { iss.SetHanging(false) },
		func() { iss.SetDelay(0) },
		func() { iss.SetKeys(nil) },
		func() { iss.Client().Get(iss.URL + "/.well-known/jwks.json") },
	} {
		wg.Go(func() {
			for range 20 {
				f()
			}
		})
	}
	wg.Wait()
	if got := status(newAuth(t, iss, iss.Client()), iss.Token(audience, nil)); got != 200 {
		t.Errorf("when all is over: status %d, want 200", got)
	}
}

func TestFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, tt := range map[string]struct {
			begin, end func(*bearertest.Issuer)
			status     int
			takes      time.Duration
		}{
			"down":    {func(i *bearertest.Issuer) { i.SetDown(true) }, func(i *bearertest.Issuer) { i.SetDown(false) }, 503, 0},
			"hanging": {func(i *bearertest.Issuer) { i.SetHanging(true) }, func(i *bearertest.Issuer) { i.SetHanging(false) }, 503, 4700 * time.Millisecond},
			"slow":    {func(i *bearertest.Issuer) { i.SetDelay(time.Second) }, func(i *bearertest.Issuer) { i.SetDelay(0) }, 200, 2 * time.Second},
			"slower":  {func(i *bearertest.Issuer) { i.SetDelay(time.Hour) }, func(i *bearertest.Issuer) { i.SetDelay(0) }, 503, 4700 * time.Millisecond},
			"garbage": {func(i *bearertest.Issuer) { i.SetKeys([]byte("x")) }, func(i *bearertest.Issuer) { i.SetKeys(nil) }, 503, 0},
		} {
			iss := bearertest.NewIssuer("https://login.example.com")
			auth := newAuth(t, iss, iss.Client())
			tt.begin(iss)
			start := time.Now()
			if got := status(auth, iss.Token(audience, nil)); got != tt.status || time.Since(start) != tt.takes {
				t.Errorf("%s: status %d after %v, want %d after %v", name, got, time.Since(start), tt.status, tt.takes)
			}
			tt.end(iss)
			time.Sleep(15 * time.Second)
			if got := status(auth, iss.Token(audience, nil)); got != 200 {
				t.Errorf("%s, when it is over: status %d, want 200", name, got)
			}
		}
	})
}

func TestMounted(t *testing.T) {
	server := httptest.NewServer(nil)
	defer server.Close()
	iss := bearertest.NewIssuer(server.URL + "/issuer")
	mux := http.NewServeMux()
	mux.Handle("/issuer/", iss)
	server.Config.Handler = mux
	if got := status(newAuth(t, iss, nil), iss.Token(audience, nil)); got != 200 {
		t.Errorf("over HTTP: status %d, want 200", got)
	}
	resp, err := http.Get(server.URL + "/issuer/nothing")
	if err != nil {
		t.Fatal(err)
	}
	if resp.Body.Close(); resp.StatusCode != 404 {
		t.Errorf("elsewhere: status %d, want 404", resp.StatusCode)
	}
	iss.SetDown(true)
	if resp, err := http.Get(server.URL + "/issuer/.well-known/jwks.json"); err == nil {
		t.Errorf("down: got status %d, want no answer", resp.StatusCode)
	}
}

// Client reaches the issuer and nothing else, and needs no network for it.
func TestClient(t *testing.T) {
	iss := bearertest.NewIssuer("https://login.example.com")
	if _, err := iss.Client().Get("https://elsewhere.example.com/.well-known/jwks.json"); err == nil {
		t.Error("a request to another host succeeds")
	}
	resp, err := iss.Client().Get("https://login.example.com/.well-known/jwks.json")
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	if !strings.Contains(string(body), `"kid":"key-1"`) || strings.Contains(string(body), `"d":`) {
		t.Errorf("key set = %s, want the public key", body)
	}
	r, _ := http.NewRequest("GET", resp.Request.URL.String(), nil)
	r.Header.Set("If-None-Match", resp.Header.Get("ETag"))
	if resp, err := iss.Client().Do(r); err != nil || resp.StatusCode != 304 {
		t.Errorf("a conditional request: %v, %v, want status 304", resp, err)
	}
}

func TestPanics(t *testing.T) {
	for name, f := range map[string]func(){
		"no URL":       func() { bearertest.NewIssuer("issuer") },
		"no algorithm": func() { bearertest.NewIssuer("https://login.example.com").UseAlgorithm("HS256") },
		"no JSON":      func() { bearertest.NewIssuer("https://login.example.com").Token("", bearertest.Claims{"f": func() {}}) },
	} {
		func() {
			defer func() {
				if p := fmt.Sprint(recover()); !strings.HasPrefix(p, "bearertest: ") {
					t.Errorf("%s: panic %q, want one of bearertest", name, p)
				}
			}()
			f()
		}()
	}
}

// Each claim is what the test means, and nothing else is wrong with the token.
func TestClaimsOfTime(t *testing.T) {
	iss := bearertest.NewIssuer("https://login.example.com/")
	auth := newAuth(t, iss, iss.Client())
	now := time.Now()
	for _, tt := range []struct {
		name   string
		claims bearertest.Claims
		reason string
	}{
		{"expires later", bearertest.Claims{"exp": now.Add(time.Minute)}, ""},
		{"expired", bearertest.Claims{"exp": now.Add(-time.Hour)}, "expired"},
		{"not yet valid", bearertest.Claims{"nbf": now.Add(time.Hour).UTC()}, "not_yet_valid"},
		{"valid since", bearertest.Claims{"nbf": now.Add(-time.Hour)}, ""},
		{"issued in the future", bearertest.Claims{"iat": now.Add(time.Hour)}, "issued_in_future"},
		{"zero is none", bearertest.Claims{"exp": time.Time{}}, "no_expiry"},
		{"zero is none where none is needed", bearertest.Claims{"nbf": time.Time{}, "iat": time.Time{}}, ""},
		{"auth_time", bearertest.Claims{"auth_time": now}, ""},
	} {
		c, err := auth.Verify(t.Context(), iss.Token(audience, tt.claims))
		var e *bearer.Error
		if errors.As(err, &e); (tt.reason == "") != (err == nil) || err != nil && e.Reason != tt.reason {
			t.Errorf("%s: %v, want reason %q", tt.name, err, tt.reason)
		}
		if tt.name == "auth_time" && !c.AuthTime.Equal(now.Truncate(time.Second)) {
			t.Errorf("AuthTime = %v, want %v", c.AuthTime, now)
		}
	}
}

// What a token has without any claims given, and no more.
func TestDefaultClaims(t *testing.T) {
	iss := bearertest.NewIssuer("https://login.example.com/{tenantid}/v2.0")
	for _, tt := range []struct {
		iss    *bearertest.Issuer
		claims bearertest.Claims
		want   string // but for the times
	}{
		{bearertest.NewIssuer("https://login.example.com/"), nil, `{"aud":"a","client_id":"client","iss":"https://login.example.com/","jti":"1","sub":"user"}`},
		{iss, nil, `{"aud":"a","client_id":"client","iss":"https://login.example.com/tenant/v2.0","jti":"1","sub":"user","tid":"tenant"}`},
		{iss, bearertest.Claims{"tid": "acme"}, `{"aud":"a","client_id":"client","iss":"https://login.example.com/acme/v2.0","jti":"2","sub":"user","tid":"acme"}`},
		{iss, bearertest.Claims{"tid": nil, "iss": "x", "sub": nil}, `{"aud":"a","client_id":"client","iss":"x","jti":"3"}`},
	} {
		text, err := base64.RawURLEncoding.DecodeString(strings.Split(tt.iss.Token("a", tt.claims), ".")[1])
		if err != nil {
			t.Fatal(err)
		}
		var claims map[string]any
		if err := json.Unmarshal(text, &claims); err != nil {
			t.Fatal(err)
		}
		if exp, iat := claims["exp"].(float64), claims["iat"].(float64); exp-iat != 3600 {
			t.Errorf("exp = %v, iat = %v", exp, iat)
		}
		delete(claims, "exp")
		delete(claims, "iat")
		if got, _ := json.Marshal(claims); string(got) != tt.want {
			t.Errorf("got  %s\nwant %s", got, tt.want)
		}
	}
}

// With a template as its URL an issuer is found by discovery, and goes by the name
// of each tenant.
func TestIssuerTemplate(t *testing.T) {
	iss := bearertest.NewIssuer("https://login.example.com/{tenantid}/v2.0")
	auth, err := bearer.New(bearer.Config{IssuerTemplate: iss.URL, Tenants: []string{"acme", "tenant"}, Audience: []string{audience}, Client: iss.Client()})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		claims bearertest.Claims
		want   int
	}{
		{nil, 200},
		{bearertest.Claims{"tid": "acme"}, 200},
		{bearertest.Claims{"tid": "other"}, 401},
		{bearertest.Claims{"iss": "https://login.example.com/acme/v2.0"}, 401}, // of another tenant
	} {
		if got := status(auth, iss.Token(audience, tt.claims)); got != tt.want {
			t.Errorf("%v: status %d, want %d", tt.claims, got, tt.want)
		}
	}
}
