package bearer_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/bearer"
	"example.com/bearer/bearertest"
)

// records returns a logger, and a function that tells what the records since it was
// called last say of a cause.
func records() (*slog.Logger, func() []string) {
	var log syncBuffer
	return slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})), func() (all []string) {
		for line := range bytes.Lines([]byte(log.String())) {
			var record map[string]any
			if err := json.Unmarshal(line, &record); err != nil {
				return []string{err.Error()}
			}
			if record["added"] != nil {
				continue // of the keys, which come when they come
			}
			var told []string
			for _, key := range []string{"reason", "detail", "claim", "got", "want", "hint", "cause"} {
				if value := record[key]; value != nil {
					told = append(told, fmt.Sprintf("%s: %v", key, value))
				}
				delete(record, key)
			}
			for _, key := range []string{"time", "level", "msg", "status", "description", "issuer", "method", "path"} {
				delete(record, key)
			}
			all = append(all, strings.Join(told, "; "))
			if len(record) > 0 {
				all = append(all, fmt.Sprint("more: ", record))
			}
		}
		log.Reset()
		return all
	}
}

// What is read about requests without a token tells what they have in its place, and
// requests that are served leave no record.
func TestRecordsOfHeaders(t *testing.T) {
	logger, told := records()
	iss, auth := newAuth(t, func(c *bearer.Config) { c.Logger = logger })
	token := iss.Token(audience, bearertest.Claims{"scope": "a"})
	served := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {})
	if w := serve(auth.Handler(served), "Bearer "+token); w.Code != 200 {
		t.Fatalf("status %d", w.Code)
	}
	told()
	for _, tt := range []struct{ header, want string }{
		{"", "reason: no_credentials"},
		{"abc", "reason: no_credentials; detail: another scheme than Bearer"},
		{"Basic YTpi", "reason: no_credentials; detail: another scheme than Bearer"},
		{"Digest a.b.c", "reason: no_credentials; detail: another scheme than Bearer"},
		{token, "reason: no_credentials; hint: the token stands there without its scheme: it must follow \"Bearer \""},
		{"Bearer", "reason: invalid_request; detail: no token after the scheme"},
		{"Bearer a b", "reason: invalid_request; detail: more than a token, or characters that no token has"},
		{"Bearer " + token, ""},
	} {
		for name, h := range map[string]http.Handler{
			"Handler":      auth.Handler(served),
			"RequireScope": auth.RequireScope("a")(served),
			"both":         auth.Handler(auth.RequireScope("a")(served)),
		} {
			serve(h, tt.header)
			var want []string // no record
			if tt.want != "" {
				want = []string{tt.want}
			}
			if got := told(); !slices.Equal(got, want) {
				t.Errorf("%s, %.20q: the records are %q, want %q", name, tt.header, got, want)
			}
		}
	}
	if serve(auth.Optional(served), ""); len(told()) > 0 {
		t.Error("an anonymous request leaves a record")
	}
}

// What an operator reads about each way to be refused, word for word: what came, what
// was wanted, and what usually causes it.
func TestRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // it is the beginning of 2000
		logger, told := records()
		iss, auth := newAuth(t, func(c *bearer.Config) {
			c.Logger = logger
			c.Audience = []string{audience, "urn:api"}
			c.Algorithms = []string{"ES256", "EdDSA"}
		})
		type claims = bearertest.Claims
		in := func(d time.Duration) int64 { return time.Now().Add(d).Unix() }
		header := func(members string) string { return iss.Sign("{"+members+"}", payload(iss, "")) }
		kid := fmt.Sprintf(`"kid":%q`, iss.KeyID())
		valid := iss.Token(audience, nil)
		if _, err := auth.Verify(t.Context(), valid); err != nil {
			t.Fatal(err)
		}
		told()
		long := strings.Repeat("x", 3000)
		x100 := long[:100]
		const aud = "want: https://api.example.com or urn:api"
		tests := []struct {
			token any // or claims
			want  string
		}{
			{valid, ""},
			{"abc", "reason: malformed; detail: not three parts with dots between them; hint: an opaque token; some issuers make a JWT only when asked for an audience"},
			{"a.b", "reason: malformed; detail: not three parts with dots between them"},
			{"a.b.c.d", "reason: malformed; detail: not three parts with dots between them"},
			{"a.b.c.d.e", "reason: malformed; detail: not three parts with dots between them; hint: an encrypted token (JWE)"},
			{strings.Repeat("x", 16<<10+1), "reason: too_long; got: 16385 bytes; want: 16384 at most"},
			{"é.e30.AAAA", "reason: malformed; detail: the header is not base64url"},
			{"e30.é.AAAA", "reason: malformed; detail: the payload is not base64url"},
			{"e30.e30.é", "reason: malformed; detail: the signature is not base64url"},
			{iss.Sign(`[]`, `{}`), "reason: malformed; detail: the header is not a JSON object"},
			{header(`"alg":1`), "reason: malformed; detail: a header parameter is not a string; claim: alg"},
			{header(`"alg":"ES256","typ":1`), "reason: malformed; detail: a header parameter is not a string; claim: typ"},
			{header(`"alg":"ES256","kid":1`), "reason: malformed; detail: a header parameter is not a string; claim: kid"},
			{header(`"alg":"ES256","kid":""`), "reason: malformed; detail: not a key id; claim: kid"},
			{header(`"alg":"ES256","crit":[]`), "reason: crit; claim: crit"},
			{header(`"alg":"ES256","b64":true`), "reason: crit; claim: b64"},
			{header(`"alg":"` + long + `"`), "reason: algorithm; claim: alg; got: " + x100 + "; want: ES256 or EdDSA"},
			{header(`"alg":"RS256"`), "reason: algorithm; claim: alg; got: RS256; want: ES256 or EdDSA"},
			{header(`"alg":"ES256","typ":"` + long + `"`), "reason: type; claim: typ; got: " + x100 + "; want: jwt or at+jwt or none"},
			{header(`"alg":"ES256","kid":"other"`), "reason: unknown_key; claim: kid; got: other"},
			{header(`"alg":"EdDSA",` + kid), "reason: key; detail: the issuer's key with this id cannot be used with EdDSA; claim: kid; got: key-1"},
			{valid[:len(valid)-40] + strings.Repeat("A", 40), "reason: signature; claim: kid; got: key-1"},
			{header(`"alg":"ES256","nonce":"x",`+kid) + "A", "reason: signature; claim: kid; got: key-1; hint: a header with a nonce: probably a token for Microsoft Graph, which nobody else can verify"},
			{iss.Sign("", `[]`), "reason: malformed; detail: the payload is not a JSON object"},

			{claims{"iss": 1}, "reason: claim_type; detail: a claim has the wrong type; claim: iss"},
			{claims{"sub": 1}, "reason: claim_type; detail: a claim has the wrong type; claim: sub"},
			{claims{"jti": 1}, "reason: claim_type; detail: a claim has the wrong type; claim: jti"},
			{claims{"aud": 1}, "reason: claim_type; detail: a claim has the wrong type; claim: aud"},
			{claims{"exp": "1"}, "reason: claim_type; detail: a claim has the wrong type; claim: exp"},
			{claims{"nbf": "1"}, "reason: claim_type; detail: a claim has the wrong type; claim: nbf"},
			{claims{"iat": "1"}, "reason: claim_type; detail: a claim has the wrong type; claim: iat"},

			{claims{"exp": nil}, "reason: no_expiry; claim: exp; got: missing"},
			{claims{"exp": in(-time.Hour)}, "reason: expired; claim: exp; got: 1999-12-31T23:00:00Z; want: later than 1999-12-31T23:59:00Z"},
			{claims{"nbf": in(5 * time.Minute)}, "reason: not_yet_valid; claim: nbf; got: 2000-01-01T00:05:00Z; hint: this clock or the issuer's is off by 5m0s"},
			{claims{"iat": in(90 * time.Second)}, "reason: issued_in_future; claim: iat; got: 2000-01-01T00:01:30Z; hint: this clock or the issuer's is off by 1m30s"},

			{claims{"iss": nil}, "reason: issuer; claim: iss; want: https://login.example.com/"},
			{claims{"iss": "https://login.example.com"}, "reason: issuer; claim: iss; got: https://login.example.com; want: https://login.example.com/; hint: the two differ by the slash at the end only"},
			{claims{"iss": "https://evil.example.com"}, "reason: issuer; claim: iss; got: https://evil.example.com; want: https://login.example.com/"},
			{claims{"iss": long}, "reason: issuer; claim: iss; got: " + x100 + "; want: https://login.example.com/"},

			{claims{"aud": nil}, "reason: audience; claim: aud; " + aud + "; hint: the token has no audience; Config.AudienceClaim names another claim"},
			{claims{"aud": "x"}, "reason: audience; claim: aud; got: x; " + aud},
			{claims{"aud": []string{"x", "y"}}, "reason: audience; claim: aud; got: x y; " + aud},
			{claims{"aud": []string{"x", long}}, "reason: audience; claim: aud; got: x " + long[:98] + "; " + aud},
			{claims{"aud": audience + "/"}, "reason: audience; claim: aud; got: https://api.example.com/; " + aud + "; hint: the two differ by the slash at the end only"},
			{claims{"aud": []string{"x", "urn:api/"}}, "reason: audience; claim: aud; got: x urn:api/; " + aud + "; hint: the two differ by the slash at the end only"},
			{claims{"aud": "https://graph.microsoft.com"}, "reason: audience; claim: aud; got: https://graph.microsoft.com; " + aud + "; hint: a token for Microsoft Graph: ask for a scope of this API instead"},
			{claims{"aud": "00000003-0000-0000-c000-000000000000"}, "reason: audience; claim: aud; got: 00000003-0000-0000-c000-000000000000; " + aud + "; hint: a token for Microsoft Graph: ask for a scope of this API instead"},
			{claims{"aud": "app", "nonce": "n"}, "reason: audience; claim: aud; got: app; " + aud + "; hint: an ID token: the client must send its access token"},
			{claims{"aud": "account"}, "reason: audience; claim: aud; got: account; " + aud + "; hint: Keycloak's default audience: add an audience mapper to the client"},
			{claims{"aud": []string{"account", "x"}}, "reason: audience; claim: aud; got: account x; " + aud},

			{claims{"nonce": "n"}, "hint: it has a nonce or at_hash claim: clients should send their access token"},
			{claims{"at_hash": "h"}, "hint: it has a nonce or at_hash claim: clients should send their access token"},
		}
		for _, tt := range tests {
			token, ok := tt.token.(string)
			if !ok {
				token = iss.Token(audience, tt.token.(claims))
			}
			auth.Verify(t.Context(), token)
			if got := strings.Join(told(), "\n"); got != tt.want {
				t.Errorf("%.100v\ngot  %s\nwant %s", tt.token, got, tt.want)
			}
		}
	})
}

// The same of what is the route's: scopes, and what a check says.
func TestRecordsOfRoutes(t *testing.T) {
	logger, told := records()
	iss, auth := newAuth(t, func(c *bearer.Config) { c.Logger = logger })
	own := &bearer.Error{Status: 402, Description: "pay first", Err: errors.New("no invoice")}
	check := func(err error) func(http.Handler) http.Handler {
		return auth.Require(func(*http.Request, *bearer.Claims) error { return err })
	}
	read, either := auth.RequireScope("read", "write"), auth.RequireAnyScope("read", "admin")
	configurable := func(claim string) string {
		return `; hint: the token has no scopes but "` + claim + `": Config.ScopeClaims can read it`
	}
	const lacks = "reason: insufficient_scope; claim: scope; "
	serve(read(ok), "Bearer "+iss.Token(audience, nil)) // the keys
	told()
	for _, tt := range []struct {
		route  func(http.Handler) http.Handler
		claims bearertest.Claims
		want   string
	}{
		{read, bearertest.Claims{"scope": "read write"}, ""},
		{read, bearertest.Claims{"scope": "read"}, lacks + "got: read; want: read write"},
		{read, bearertest.Claims{"scope": strings.Repeat("x", 3000)}, lacks + "got: " + strings.Repeat("x", 100) + "; want: read write"},
		{read, nil, lacks + "want: read write"},
		{either, nil, lacks + "want: read or admin"},
		{read, bearertest.Claims{"permissions": "read"}, lacks + "want: read write" + configurable("permissions")},
		{read, bearertest.Claims{"roles": "read"}, lacks + "want: read write" + configurable("roles")},
		{read, bearertest.Claims{"realm_access": "read"}, lacks + "want: read write" + configurable("realm_access")},
		{read, bearertest.Claims{"groups": "read"}, lacks + "want: read write" + configurable("groups")},
		{read, bearertest.Claims{"groups": "read", "scope": "x"}, lacks + "got: x; want: read write"},
		{check(nil), nil, ""},
		{check(errors.New("not the owner")), nil, "reason: denied; detail: not the owner"},
		{check(own), nil, "reason: denied; cause: no invoice"},
	} {
		serve(tt.route(ok), "Bearer "+iss.Token(audience, tt.claims))
		if got := strings.Join(told(), "\n"); got != tt.want {
			t.Errorf("%.100v\ngot  %s\nwant %s", tt.claims, got, tt.want)
		}
	}
}

// The same of issuers with many names.
func TestRecordsOfTenants(t *testing.T) {
	logger, told := records()
	const v1, v2 = "https://sts.windows.net/{tenantid}/", "https://login.microsoftonline.com/{tenantid}/v2.0"
	iss := bearertest.NewIssuer("https://login.microsoftonline.com/common")
	in := func(template, tenant string) string { return strings.ReplaceAll(template, "{tenantid}", tenant) }
	for _, tt := range []struct {
		template, issuer, tenant string
		keyIssuer                string
		want                     string
	}{
		{v2, in(v2, "b"), "b", "", ""},
		{v2, in(v2, "a"), "b", "", "reason: issuer; claim: iss; got: " + in(v2, "a") + "; want: " + v2 + ` with the token's "tid"; hint: the two differ by one character only, number 35`},
		{v2, in(v2, "b") + "/more", "b", "", "reason: issuer; claim: iss; got: " + in(v2, "b") + "/more; want: " + v2 + ` with the token's "tid"`},
		{v2, in(v2, "c"), "c", "", "reason: issuer; claim: tid; got: c; want: a or b or ab"},
		{v2, in(v2, "B"), "B", "", "reason: issuer; claim: tid; got: B; want: a or b or ab"},
		{v2, in(v2, "a"), "a", in(v2, "a"), ""},
		{v2, in(v2, "ab"), "ab", in(v2, "a"), "reason: issuer; claim: iss; got: " + in(v2, "ab") + "; want: the issuer of the key, " + in(v2, "a")},
		{v2, in(v2, "a"), "a", in(v2, "A"), "reason: issuer; claim: iss; got: " + in(v2, "a") + "; want: the issuer of the key, " + in(v2, "A")},
		{in(v2, "a"), in(v1, "a"), "a", "", "reason: issuer; claim: iss; got: " + in(v1, "a") + "; want: " + in(v2, "a") + "; hint: a version 1 token of Entra ID: set requestedAccessTokenVersion of the API to 2, or expect this issuer"},
		{in(v1, "a"), in(v2, "a"), "a", "", "reason: issuer; claim: iss; got: " + in(v2, "a") + "; want: " + in(v1, "a") + "; hint: a version 2 token of Entra ID: expect this issuer"},
		{in(v2, "a"), in(v2, "b"), "b", "", "reason: issuer; claim: iss; got: " + in(v2, "b") + "; want: " + in(v2, "a") + "; hint: the two differ by one character only, number 35"},
		{in(v1, "a"), in(v1, "b"), "b", "", "reason: issuer; claim: iss; got: " + in(v1, "b") + "; want: " + in(v1, "a") + "; hint: the two differ by one character only, number 25"},
		{in(v1, "a"), "https://x.example.com/", "b", "", "reason: issuer; claim: iss; got: https://x.example.com/; want: " + in(v1, "a")},
		{in(v2, "a"), "https://x.example.com/", "b", "", "reason: issuer; claim: iss; got: https://x.example.com/; want: " + in(v2, "a")},
	} {
		auth := newMiddleware(t, iss, func(c *bearer.Config) {
			c.Issuer, c.JWKSURL, c.Logger = tt.template, iss.URL+keysPath, logger
			if strings.Contains(tt.template, "{") {
				c.Issuer, c.IssuerTemplate, c.Tenants = "", tt.template, []string{"a", "b", "ab"}
			}
		})
		var key jwk
		iss.SetKeys(nil)
		if err := json.Unmarshal(published(t, iss)[0], &key); err != nil {
			t.Fatal(err)
		}
		if tt.keyIssuer != "" {
			key["issuer"] = tt.keyIssuer
		}
		iss.SetKeys(marshal(map[string]any{"keys": []any{key}}))
		auth.Ready(t.Context())
		told()
		auth.Verify(t.Context(), iss.Token(audience, bearertest.Claims{"iss": tt.issuer, "tid": tt.tenant}))
		if got := strings.Join(told(), "\n"); got != tt.want {
			t.Errorf("%s at %s\ngot  %s\nwant %s", tt.issuer, tt.template, got, tt.want)
		}
	}
}

// The same where several issuers could have judged the token.
func TestRecordsOfSeveralIssuers(t *testing.T) {
	logger, told := records()
	logs := func(c *bearer.Config) { c.Logger = logger }
	a, b := bearertest.NewIssuer("https://a.example.com"), bearertest.NewIssuer("https://b.example.com")
	two := newMiddleware(t, a, logs).Or(newMiddleware(t, b))
	ten, _ := manyIssuers(t, 10, logger)
	twelve, _ := manyIssuers(t, 12, logger)
	fails := func(err error) *bearer.Middleware {
		return newMiddleware(t, a, logs, func(c *bearer.Config) {
			c.FindIssuer = func(context.Context, string) (*bearer.Middleware, error) { return nil, err }
		})
	}
	bound := func(d *bearer.DPoP) *bearer.Middleware {
		return newMiddleware(t, a, logs, func(c *bearer.Config) {
			c.FindIssuer = func(context.Context, string) (*bearer.Middleware, error) {
				return newMiddleware(t, b, withDPoP, withRequired), nil
			}
			c.DPoP, c.RequireBound = d, d != nil
		})
	}
	long := strings.Repeat("x", 200)
	from := func(issuer string) string { return b.Token(audience, bearertest.Claims{"iss": issuer}) }
	members := func(n int) string {
		var all strings.Builder
		for i := range n - 4 { // iss, aud, exp and these
			fmt.Fprintf(&all, `"m%d":0,`, i)
		}
		return b.Sign("", "{"+all.String()+strings.TrimPrefix(payload(b, `,"last":1`), "{"))
	}
	lists := func(n int) string {
		var names []string
		for i := range n {
			names = append(names, fmt.Sprintf("https://tenant-%d.example.com", i))
		}
		return strings.Join(names, " or ")
	}
	const nobody = "reason: issuer; claim: iss; got: x; want: "
	for _, tt := range []struct {
		name  string
		auth  *bearer.Middleware
		token string
		want  string
	}{
		{"one of them", two, b.Token(audience, nil), ""},
		{"nobody's", two, from("x"), nobody + "https://a.example.com or https://b.example.com"},
		{"a long one's", two, from(long), "reason: issuer; claim: iss; got: " + long[:100] + "; want: https://a.example.com or https://b.example.com"},
		{"none", two, b.Token(audience, bearertest.Claims{"iss": nil}), "reason: issuer; claim: iss; want: https://a.example.com or https://b.example.com"},
		{"many members", two, members(1000), ""},
		{"too many members before it", two, members(1100), "reason: issuer; claim: iss; want: https://a.example.com or https://b.example.com"},
		{"no payload that can be read", two, "eyJhbGciOiJFUzI1NiJ9.a.AAAA", "reason: malformed; detail: the payload is not base64url"},
		{"no header that can be read, and nobody's", two, "e!" + from("x"), "reason: invalid_request; detail: more than a token, or characters that no token has"},
		{"ten", ten, from("x"), nobody + lists(10)},
		{"twelve", twelve, from("x"), nobody + lists(10) + " or one of 2 more"},
		{"none that is found", fails(nil), from("x"), nobody + "https://a.example.com or one that FindIssuer names"},
		{"a function that fails", fails(errors.New("boom" + strings.Repeat("x", 5000))), from(long),
			"reason: issuer_unavailable; detail: boom" + strings.Repeat("x", 496) + "; claim: iss; got: " + long[:100]},
		{"one that was not made by New", newMiddleware(t, a, logs, func(c *bearer.Config) {
			c.FindIssuer = func(context.Context, string) (*bearer.Middleware, error) { return new(bearer.Middleware), nil }
		}), from("x"), "reason: issuer_unavailable; detail: it returned a Middleware that New did not make; claim: iss; got: x"},
		{"one of another issuer", newMiddleware(t, a, logs, func(c *bearer.Config) {
			c.FindIssuer = func(context.Context, string) (*bearer.Middleware, error) { return newMiddleware(t, b), nil }
		}), from("x"), "reason: issuer_unavailable; detail: it returned a Middleware of https://b.example.com for another issuer; claim: iss; got: x"},
		{"one that wants other proofs", bound(nil), from(b.URL),
			"reason: issuer_unavailable; detail: it returned a Middleware that requires bound tokens in another way; claim: iss; got: https://b.example.com"},
		{"one that wants none", newMiddleware(t, a, logs, withDPoP, func(c *bearer.Config) {
			c.FindIssuer = func(context.Context, string) (*bearer.Middleware, error) { return newMiddleware(t, b), nil }
		}), from(b.URL), ""},
		{"one that wants the same proofs", bound(&bearer.DPoP{BaseURLs: []string{origin}}), from(b.URL), "reason: unbound; claim: cnf; got: missing"},
	} {
		told()
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Authorization", "Bearer "+tt.token)
		tt.auth.Handler(ok).ServeHTTP(httptest.NewRecorder(), r)
		var got []string
		for _, record := range told() {
			if strings.HasPrefix(record, "reason: ") {
				got = append(got, record)
			}
		}
		if strings.Join(got, "\n") != tt.want {
			t.Errorf("%s\ngot  %q\nwant %q", tt.name, got, tt.want)
		}
	}
}
