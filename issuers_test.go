package bearer_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"example.com/bearer"
	"example.com/bearer/bearertest"
)

// A fixture is the token of a real provider.
type fixture struct {
	ID        string
	Header    map[string]any
	Claims    map[string]any
	Transport string
	Config    struct{ Issuer, Audience string }
	Expect    struct {
		Default string
		Scopes  []string
		Client  string
	}
}

// The settings without which a provider's tokens are refused, and why.
var providerConfig = map[string]func(*bearer.Config){
	"cognito-access-user":        func(c *bearer.Config) { c.AudienceClaim = "client_id" }, // no "aud"
	"clerk-v1":                   func(c *bearer.Config) { c.Audience, c.AudienceClaim = []string{"https://app.acme.test"}, "azp" },
	"google-id-token-bare-iss":   func(c *bearer.Config) { c.Issuer = "accounts.google.com" }, // with JWKSURL
	"external-id-user":           func(c *bearer.Config) { c.Issuer, c.IssuerTemplate = "", c.Issuer },
	"entra-multitenant-template": func(c *bearer.Config) { c.Issuer, c.IssuerTemplate = "", c.Issuer },
	"keycloak-user": func(c *bearer.Config) {
		c.ScopeClaims = []string{"resource_access.my-api.roles"}
		c.Audience = []string{"account"}
	},
}

// resolve replaces the fixtures' times, "@+3600" for an hour from now.
func resolve(v any) any {
	switch v := v.(type) {
	case string:
		if seconds, err := strconv.Atoi(strings.TrimPrefix(v, "@")); err == nil && strings.HasPrefix(v, "@") {
			return time.Now().Unix() + int64(seconds)
		}
	case map[string]any:
		for name, member := range v {
			v[name] = resolve(member)
		}
	}
	return v
}

func TestProviders(t *testing.T) {
	text, err := os.ReadFile("testdata/providers.json")
	if err != nil {
		t.Fatal(err)
	}
	var fixtures []fixture
	if err := json.Unmarshal(text, &fixtures); err != nil {
		t.Fatal(err)
	}
	if len(fixtures) < 30 {
		t.Fatalf("%d fixtures", len(fixtures))
	}
	for _, f := range fixtures {
		t.Run(f.ID, func(t *testing.T) {
			// The key has the fixture's algorithm and key id, and no "alg", as
			// Entra publishes it; tokens of algorithms that no key set holds
			// are signed with what there is.
			iss := bearertest.NewIssuer("https://keys.example.com")
			if alg, _ := f.Header["alg"].(string); !strings.HasPrefix(alg, "HS") {
				iss.UseAlgorithm(alg)
			}
			var key jwk
			if err := json.Unmarshal(published(t, iss)[0], &key); err != nil {
				t.Fatal(err)
			}
			changes := jwk{"kid": f.Header["kid"], "alg": nil}
			if strings.HasPrefix(f.ID, "entra") {
				changes["issuer"] = "https://login.microsoftonline.com/{tenantid}/v2.0"
			}
			if f.Header["kid"] == "k9" {
				delete(changes, "kid") // the fixture's key is not published
			}
			iss.SetKeys(marshal(map[string]any{"keys": []any{with(key, changes)}}))
			token := iss.Sign(string(marshal(f.Header)), string(marshal(resolve(f.Claims))))

			verify := func(change func(*bearer.Config)) (*bearer.Claims, error) {
				auth := newMiddleware(t, iss, func(c *bearer.Config) {
					c.Issuer, c.JWKSURL = f.Config.Issuer, "https://keys.example.com"+keysPath
					c.Audience = []string{f.Config.Audience}
					if f.Config.Audience == "" {
						c.Audience = []string{"some-api"}
					}
				}, change)
				return auth.Verify(t.Context(), token)
			}
			c, err := verify(func(*bearer.Config) {})
			if (err == nil) != (f.Expect.Default == "accept") {
				t.Fatalf("got %v, want it to %s", err, f.Expect.Default)
			}
			change, changed := providerConfig[f.ID]
			if changed {
				if c, err = verify(change); err != nil {
					t.Fatalf("with the settings for it: %v", err)
				}
			}
			if err != nil {
				return
			}
			want := f.Expect.Scopes
			if f.ID == "keycloak-user" {
				want = []string{"reader"}
			}
			if got := slices.Collect(c.Scope.All()); !slices.Equal(got, want) {
				t.Errorf("scopes = %q, want %q", got, want)
			}
			if f.Expect.Client != "" && c.ClientID != f.Expect.Client {
				t.Errorf("ClientID = %q, want %q", c.ClientID, f.Expect.Client)
			}
		})
	}
}

func TestConfigHeader(t *testing.T) {
	iss, auth := newAuth(t, func(c *bearer.Config) { c.Header = "x-goog-iap-jwt-assertion" })
	token := iss.Token(audience, nil)
	h := auth.Handler(ok)
	for _, tt := range []struct {
		name      string
		header    http.Header
		status    int
		challenge string
	}{
		{"there", http.Header{"X-Goog-Iap-Jwt-Assertion": {token}}, 200, ""},
		{"spaces around", http.Header{"X-Goog-Iap-Jwt-Assertion": {" " + token + " "}}, 200, ""},
		{"missing", http.Header{}, 401, challengeNone},
		{"empty", http.Header{"X-Goog-Iap-Jwt-Assertion": {""}}, 401, challengeNone},
		{"only in Authorization", http.Header{"Authorization": {"Bearer " + token}}, 401, challengeNone},
		{"Authorization besides", http.Header{"X-Goog-Iap-Jwt-Assertion": {token}, "Authorization": {"Basic x", "Bearer y"}}, 200, ""},
		{"two", http.Header{"X-Goog-Iap-Jwt-Assertion": {token, token}}, 400, challengeRequest},
		{"with the scheme", http.Header{"X-Goog-Iap-Jwt-Assertion": {"Bearer " + token}}, 200, ""},
		{"with the scheme in other letters", http.Header{"X-Goog-Iap-Jwt-Assertion": {"bEARER   " + token}}, 200, ""},
		{"with the scheme twice", http.Header{"X-Goog-Iap-Jwt-Assertion": {"Bearer Bearer " + token}}, 400, challengeRequest},
		{"the scheme alone", http.Header{"X-Goog-Iap-Jwt-Assertion": {"Bearer "}}, 400, challengeRequest},
		{"the scheme and a tab", http.Header{"X-Goog-Iap-Jwt-Assertion": {"Bearer\t" + token}}, 400, challengeRequest},
		{"with another scheme", http.Header{"X-Goog-Iap-Jwt-Assertion": {"Basic " + token}}, 400, challengeRequest},
		{"bad token", http.Header{"X-Goog-Iap-Jwt-Assertion": {"x.y.z"}}, 401, challengeToken},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest("GET", "/", nil)
			r.Header = tt.header
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			checkReply(t, w, tt.status, tt.challenge)
		})
	}
	for _, name := range []string{"authorization", "a b", "a:b", "ä"} {
		if _, err := bearer.New(bearer.Config{Issuer: "https://a.example", Audience: []string{"a"}, Header: name}); err == nil || !strings.Contains(err.Error(), "Config.Header") {
			t.Errorf("Header %q: error %v", name, err)
		}
	}
}

func TestOr(t *testing.T) {
	customers, partners, strangers := bearertest.NewIssuer("https://customers.example.com"), bearertest.NewIssuer("https://partners.example.com/"), bearertest.NewIssuer("https://strangers.example.com")
	forCustomers := newMiddleware(t, customers, func(c *bearer.Config) { c.Realm = "customers" })
	forPartners := newMiddleware(t, partners, func(c *bearer.Config) { c.Audience = []string{"partner-api"}; c.Realm = "partners" })
	auth := forCustomers.Or(forPartners)
	h := auth.Handler(auth.RequireScope("read")(ok))
	as := func(iss *bearertest.Issuer, aud string, claims bearertest.Claims) string {
		if claims["scope"] == nil {
			claims["scope"] = "read"
		}
		return "Bearer " + iss.Token(aud, claims)
	}
	const refused = `Bearer realm="customers", error="invalid_token"`
	tests := []struct {
		name      string
		header    string
		status    int
		challenge string
	}{
		{"a customer", as(customers, audience, bearertest.Claims{}), 200, ""},
		{"a partner", as(partners, "partner-api", bearertest.Claims{}), 200, ""},
		{"a customer for the partners' audience", as(customers, "partner-api", bearertest.Claims{}), 401, refused},
		{"a partner for the customers' audience", as(partners, audience, bearertest.Claims{}), 401, refused},
		{"a stranger", as(strangers, audience, bearertest.Claims{}), 401, refused},
		{"a stranger as a customer", as(strangers, audience, bearertest.Claims{"iss": customers.URL}), 401, refused},
		{"a partner as a customer", as(partners, audience, bearertest.Claims{"iss": customers.URL}), 401, refused},
		{"a customer as a partner", as(customers, "partner-api", bearertest.Claims{"iss": partners.URL}), 401, refused},
		{"a partner with a customer's ISS", as(partners, "partner-api", bearertest.Claims{"ISS": customers.URL}), 200, ""},
		{"ISS only", as(customers, audience, bearertest.Claims{"iss": nil, "ISS": customers.URL}), 401, refused},
		{"iss an array", as(customers, audience, bearertest.Claims{"iss": []string{customers.URL, partners.URL}}), 401, refused},
		{"iss twice", "Bearer " + customers.Sign("", strings.Replace(payload(customers, ""), "{", fmt.Sprintf(`{"iss":%q,`, partners.URL), 1)), 401, refused},
		{"no slash", as(partners, "partner-api", bearertest.Claims{"iss": "https://partners.example.com"}), 401, refused},
		{"malformed", "Bearer x.y.z", 401, refused},
		{"not a token", "Bearer a b", 400, `Bearer realm="customers", error="invalid_request"`},
		{"no credentials", "", 401, `Bearer realm="customers"`},
		{"a partner without the scope", as(partners, "partner-api", bearertest.Claims{"scope": "x"}), 403, `Bearer realm="customers", error="insufficient_scope", scope="read"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for range 4 { // cached, too
				checkReply(t, serve(h, tt.header), tt.status, tt.challenge)
			}
		})
	}
	if n := strangers.Fetches(); n != 0 {
		t.Errorf("%d fetches from an issuer that nobody trusts", n)
	}
	if a, b := customers.Fetches(), partners.Fetches(); a > 4 || b > 4 {
		t.Errorf("%d and %d fetches", a, b)
	}

	// What auth verified, its parts do not take for granted.
	w := serve(auth.Handler(forCustomers.RequireScope("read")(ok)), as(partners, "partner-api", bearertest.Claims{}))
	checkReply(t, w, 401, refused)

	// An outage of one is none of the other's.
	partners.SetDown(true)
	fresh := newMiddleware(t, customers).Or(newMiddleware(t, partners))
	checkReply(t, serve(fresh.Handler(ok), as(customers, audience, bearertest.Claims{})), 200, "")
	checkReply(t, serve(fresh.Handler(ok), as(partners, "partner-api", bearertest.Claims{})), 503, "")
	if err := fresh.Ready(t.Context()); statusOf(err) != 503 {
		t.Errorf("Ready with one issuer down = %v, want status 503", err)
	}
	if s := fresh.KeyStats(); s.Keys != 1 || s.Err == nil || s.Fetches != 2 || s.Refused != 1 || !s.FetchedAt.IsZero() {
		t.Errorf("KeyStats = %+v", s)
	}

	// A malformed header is one, whoever the token says that it is from.
	checkReply(t, serve(h, as(strangers, audience, bearertest.Claims{})+" x"), 400, `Bearer realm="customers", error="invalid_request"`)
	checkReply(t, serve(h, "Bearer é"+strangers.Token(audience, nil)), 400, `Bearer realm="customers", error="invalid_request"`)

	of := func(change func(*bearer.Config)) *bearer.Middleware { return newMiddleware(t, customers, change) }
	template := func(c *bearer.Config) { c.Issuer, c.IssuerTemplate = "", "https://login.example.com/{tenantid}" }
	tenant := func(c *bearer.Config) { c.Issuer = "https://login.example.com/a" }
	for name, pair := range map[string][2]*bearer.Middleware{
		"the same issuer":             {auth, newMiddleware(t, customers)},
		"a template and one of it":    {of(template), of(tenant)},
		"one of a template and it":    {of(tenant), of(template)},
		"tokens in different headers": {auth, of(func(c *bearer.Config) { c.Issuer, c.Header = "https://other.example.com", "X-Assertion" })},
	} {
		func() {
			defer func() {
				if p := fmt.Sprint(recover()); !strings.HasPrefix(p, "bearer: Or: ") {
					t.Errorf("%s: panic %q, want one of Or", name, p)
				}
			}()
			pair[0].Or(pair[1])
		}()
	}
}

func TestIssuerTemplate(t *testing.T) {
	const template = "https://login.microsoftonline.com/{tenantid}/v2.0"
	in := func(tenant string) string { return strings.Replace(template, "{tenantid}", tenant, 1) }
	iss := bearertest.NewIssuer(in("common"))
	auth := func(tenants ...string) *bearer.Middleware {
		return newMiddleware(t, iss, func(c *bearer.Config) {
			c.Issuer, c.IssuerTemplate, c.Tenants = "", template, tenants
			c.Client = &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
				w := httptest.NewRecorder()
				if r.URL.Path == "/common/v2.0"+metadataPath {
					fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":"https://login.microsoftonline.com/common/v2.0%s"}`, template, keysPath)
				} else {
					iss.ServeHTTP(w, r)
				}
				return w.Result(), nil
			})}
		})
	}
	var key jwk
	if err := json.Unmarshal(published(t, iss)[0], &key); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name      string
		keyIssuer any
		iss, tid  any
		tenants   []string
		accepted  bool
	}{
		{"any tenant", template, in("a"), "a", nil, true},
		{"a key without issuer", nil, in("a"), "a", nil, true},
		{"a key of the tenant", in("a"), in("a"), "a", nil, true},
		{"a key of another tenant", in("b"), in("a"), "a", nil, false},
		{"a key of many tenants", []string{in("a"), in("b")}, in("a"), "a", nil, false},
		{"a key of nobody's", 1, in("a"), "a", nil, false},
		{"an allowed tenant", template, in("a"), "a", []string{"b", "a"}, true},
		{"another tenant", template, in("c"), "c", []string{"b", "a"}, false},
		{"tid of another tenant", template, in("a"), "b", nil, false},
		{"no tid", template, in("a"), nil, nil, false},
		{"tid a number", template, in("1"), 1, nil, false},
		{"tid empty", template, in(""), "", nil, false},
		{"tid a path", template, in("a/b"), "a/b", nil, false},
		{"the template itself", template, template, "{tenantid}", nil, false},
		{"the template itself, no tid", template, template, nil, nil, false},
		{"more behind the tenant's", template, in("a") + "/more", "a", nil, false},
		{"more before the tenant's", template, "x" + in("a"), "a", nil, false},
		{"a longer tenant's", template, in("ab"), "a", nil, false},
		{"a tenant whose name begins like it", template, in("ab"), "ab", []string{"a"}, false},
		{"an allowed tenant in other letters", template, in("A"), "A", []string{"a"}, false},
		{"a key of the tenant in other letters", in("A"), in("a"), "a", nil, false},
		{"a key of a tenant whose name begins it", in("a"), in("ab"), "ab", nil, false},
		{"a key of a tenant that it begins", in("ab"), in("a"), "a", nil, false},
		{"a key with more behind the tenant's", in("a") + "/more", in("a"), "a", nil, false},
		{"tid in other letters", template, in("A"), "a", nil, false},
		{"another version", template, "https://sts.windows.net/a/", "a", nil, false},
		{"no iss", template, nil, "a", nil, false},
	} {
		iss.SetKeys(marshal(map[string]any{"keys": []any{with(key, jwk{"issuer": tt.keyIssuer})}}))
		m := auth(tt.tenants...)
		token := iss.Token(audience, bearertest.Claims{"iss": tt.iss, "tid": tt.tid})
		for _, m := range []*bearer.Middleware{m, newMiddleware(t, bearertest.NewIssuer("https://other.example.com")).Or(m)} {
			c, err := m.Verify(t.Context(), token)
			if !tt.accepted {
				t.Run(tt.name, func(t *testing.T) { checkRefused(t, c, err, "issuer", jwt.ErrTokenInvalidIssuer) })
			} else if err != nil || c.Issuer != tt.iss {
				t.Errorf("%s: got %+v, %v, want it accepted", tt.name, c, err)
			}
		}
	}

	// The other claims count as they always do.
	iss.SetKeys(marshal(map[string]any{"keys": []any{key}}))
	m := auth()
	for reason, claims := range map[string]bearertest.Claims{
		"expired":       {"exp": 1},
		"no_expiry":     {"exp": nil},
		"not_yet_valid": {"nbf": time.Now().Unix() + 3600},
		"audience":      {"aud": "other"},
	} {
		claims["iss"], claims["tid"] = in("a"), "a"
		c, err := m.Verify(t.Context(), iss.Token(audience, claims))
		checkRefused(t, c, err, reason, jwt.ErrTokenInvalidClaims)
	}

	// A tenant may stand in several places, as with Entra External ID.
	iss.SetKeys(nil)
	const twice = "https://{tenantid}.ciamlogin.com/{tenantid}/v2.0"
	external := newMiddleware(t, iss, func(c *bearer.Config) {
		c.Issuer, c.IssuerTemplate, c.JWKSURL = "", twice, in("common")+keysPath
	})
	for issuer, accepted := range map[string]bool{
		"https://a.ciamlogin.com/a/v2.0":          true,
		"https://a.ciamlogin.com/b/v2.0":          false,
		"https://b.ciamlogin.com/b/v2.0":          false,
		"https://a.ciamlogin.com/{tenantid}/v2.0": false,
		"https://aa.ciamlogin.com/v2.0":           false,
		"https://.ciamlogin.com//v2.0":            false,
		"https://":                                false,
	} {
		token := iss.Token(audience, bearertest.Claims{"iss": issuer, "tid": "a"})
		for _, m := range []*bearer.Middleware{external, newMiddleware(t, bearertest.NewIssuer("https://other.example.com")).Or(external)} {
			if c, err := m.Verify(t.Context(), token); (err == nil) != accepted {
				t.Errorf("%s with the template %s: %+v, %v, want accepted %t", issuer, twice, c, err, accepted)
			}
		}
	}

	// Templates that begin or end alike are told apart by the whole of them.
	iss.SetKeys(nil)
	var any *bearer.Middleware
	templates := []string{
		"https://a.example.com/{tenantid}/v1", "https://a.example.com/{tenantid}/v2",
		"https://bb.example.com/{tenantid}/v1", "https://{tenantid}.example.com/{tenantid}/x",
	}
	for _, template := range templates {
		m := newMiddleware(t, iss, func(c *bearer.Config) {
			c.Issuer, c.IssuerTemplate, c.JWKSURL = "", template, in("common")+keysPath
		})
		if any == nil {
			any = m
		} else {
			any = any.Or(m)
		}
	}
	for _, template := range templates {
		issuer := strings.ReplaceAll(template, "{tenantid}", "t")
		if c, err := any.Verify(t.Context(), iss.Token(audience, bearertest.Claims{"iss": issuer, "tid": "t"})); err != nil || c.Issuer != issuer {
			t.Errorf("%s among other templates: %+v, %v, want it accepted", issuer, c, err)
		}
	}

	// Without a field of its own it is a plain string that no token has.
	iss.SetKeys(nil)
	plain := newMiddleware(t, iss, func(c *bearer.Config) {
		c.Issuer, c.JWKSURL, c.Client = template, in("common")+keysPath, iss.Client()
	})
	c, err := plain.Verify(t.Context(), iss.Token(audience, bearertest.Claims{"iss": in("a"), "tid": "a"}))
	checkRefused(t, c, err, "issuer", jwt.ErrTokenInvalidIssuer)

	_, err = bearer.New(bearer.Config{Issuer: "https://a.example", IssuerTemplate: "http://b.example/", Tenants: []string{""}, Audience: []string{"a"}})
	for _, want := range []string{"IssuerTemplate: cannot be set together", "must hold {tenantid}", "must use https", "Tenants: an empty"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q in %v", want, err)
		}
	}
	if _, err := bearer.New(bearer.Config{Issuer: "https://a.example", Tenants: []string{"a"}, Audience: []string{"a"}}); err == nil {
		t.Error("Tenants without IssuerTemplate is accepted")
	}
}

// Ready and Or look at every issuer, the second and the third too.
func TestOrOfMany(t *testing.T) {
	a, b, c := bearertest.NewIssuer("https://a.example.com"), bearertest.NewIssuer("https://b.example.com"), bearertest.NewIssuer("https://c.example.com")
	authA, authB, authC := newMiddleware(t, a), newMiddleware(t, b), newMiddleware(t, c)
	b.SetDown(true)
	if err := authA.Or(authB).Ready(t.Context()); statusOf(err) != 503 {
		t.Errorf("Ready = %v, want status 503", err)
	}
	panics := func(f func()) (panicked bool) {
		defer func() { panicked = recover() != nil }()
		f()
		return
	}
	for name, f := range map[string]func(){
		"the second of the first":  func() { authA.Or(authB).Or(authB) },
		"the second of the second": func() { authB.Or(authA.Or(authB)) },
		"both second":              func() { authA.Or(authB).Or(authC.Or(authB)) },
	} {
		if !panics(f) {
			t.Errorf("%s: no panic", name)
		}
	}
	// A Middleware that is part of two is not changed by either.
	ab := authA.Or(authB)
	abc, abd := ab.Or(authC), ab.Or(newMiddleware(t, bearertest.NewIssuer("https://d.example.com")))
	_ = abd
	if _, err := abc.Verify(t.Context(), c.Token(audience, nil)); err != nil {
		t.Error(err)
	}
	if _, err := ab.Verify(t.Context(), c.Token(audience, nil)); statusOf(err) != 401 {
		t.Errorf("%v", err)
	}
}

// A token that says itself that it cannot be accepted causes no fetch: not when
// there are no keys yet, and not for a key id that is not known.
func TestNoFetchForOthersTokens(t *testing.T) {
	template := func(c *bearer.Config) {
		c.IssuerTemplate, c.Issuer, c.JWKSURL = "https://login.example.com/{tenantid}/", "", c.Issuer+".well-known/jwks.json"
	}
	single := func(*bearer.Config) {}
	many := strings.Repeat(`"a":1,`, 2000) // twice the same: no token at all
	var members strings.Builder
	for i := range 1100 {
		fmt.Fprintf(&members, `"m%d":1,`, i)
	}
	for _, tt := range []struct {
		name    string
		change  func(*bearer.Config)
		header  string // members of it
		payload string
		reason  string
		fetches bool
	}{
		{"another issuer", single, ``, `{"iss":"https://other.example.com"}`, "issuer", false},
		{"no slash", single, ``, `{"iss":"https://login.example.com"}`, "issuer", false},
		{"more behind the issuer", single, ``, `{"iss":"https://login.example.com/a"}`, "issuer", false},
		{"no issuer", single, ``, `{"a":1}`, "issuer", false},
		{"issuer of another type", single, ``, `{"iss":["https://login.example.com/"]}`, "issuer", false},
		{"issuer in other letters", single, ``, `{"ISS":"https://login.example.com/"}`, "issuer", false},
		{"issuer within another member", single, ``, `{"a":{"iss":"https://login.example.com/"}}`, "issuer", false},
		{"the right issuer", single, ``, `{"iss":"https://login.example.com/"}`, "unknown_key", true},
		{"the right issuer behind many members", single, ``, `{` + members.String() + `"iss":"https://login.example.com/"}`, "unknown_key", true},
		{"no JSON before it", single, ``, `{` + many + `"iss":"https://other.example.com"}`, "unknown_key", true},
		{"algorithm", single, `,"alg":"HS256"`, `{"iss":"https://login.example.com/"}`, "algorithm", false},
		{"type", single, `,"alg":"ES256","typ":"dpop+jwt"`, `{"iss":"https://login.example.com/"}`, "type", false},
		{"key id", single, `,"alg":"ES256","kid":""`, `{"iss":"https://login.example.com/"}`, "malformed", false},
		{"no tenant", template, ``, `{"iss":"https://login.example.com/"}`, "issuer", false},
		{"another template", template, ``, `{"iss":"https://login.example.org/a/"}`, "issuer", false},
		{"a tenant", template, ``, `{"iss":"https://login.example.com/a/","tid":"a"}`, "unknown_key", true},
	} {
		for _, cold := range []bool{true, false} {
			iss, auth := newAuth(t, tt.change)
			if !cold {
				if err := auth.Ready(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			before := iss.Fetches()
			header := tt.header
			if header == "" {
				header = `,"alg":"ES256","kid":"unknown"`
			}
			_, err := auth.Verify(t.Context(), iss.Sign(`{"x":1`+header+`}`, tt.payload))
			var e *bearer.Error
			if !errors.As(err, &e) || e.Reason != tt.reason || (iss.Fetches() > before) != tt.fetches {
				t.Errorf("%s, cold %v: %v after %d fetches, want reason %s and fetches: %v",
					tt.name, cold, err, iss.Fetches()-before, tt.reason, tt.fetches)
			}
		}
	}

	// It is no secret that the token is not ours, whether there are keys or not.
	iss, auth := newAuth(t)
	iss.SetDown(true)
	if _, err := auth.Verify(t.Context(), iss.Token(audience, bearertest.Claims{"iss": "https://other.example.com"})); statusOf(err) != 401 {
		t.Errorf("while the issuer is down: %v, want status 401", err)
	}
}

// Thousands who wait for keys hold next to nothing.
func TestWaitersHoldLittle(t *testing.T) {
	const n = 2000
	heap := func() int64 {
		runtime.GC()
		runtime.GC() // what the pool holds goes with the second one
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	for _, tt := range []string{"cold start", "unknown key", "FindIssuer"} {
		synctest.Test(t, func(t *testing.T) {
			iss, auth := newAuth(t, func(c *bearer.Config) {
				c.Logger = quiet
				if tt == "FindIssuer" {
					c.FindIssuer = func(ctx context.Context, _ string) (*bearer.Middleware, error) { <-ctx.Done(); return nil, ctx.Err() }
				}
			})
			token := iss.Token(audience, nil)
			if tt == "FindIssuer" {
				token = iss.Token(audience, bearertest.Claims{"iss": "https://tenant.example.com"})
			}
			if tt == "unknown key" {
				auth.Verify(t.Context(), token)
				iss.Rotate()
				token = iss.Token(audience, nil)
			}
			iss.SetHanging(true)
			ctx, cancel := context.WithCancel(t.Context())
			before := heap()
			var waiters sync.WaitGroup
			for range n {
				waiters.Go(func() { auth.Verify(ctx, token) })
			}
			synctest.Wait()
			held := (heap() - before) / n
			cancel()
			waiters.Wait()
			time.Sleep(time.Minute) // the fetch ends
			if held > 4<<10 {
				t.Errorf("%s: each of those who wait holds %d bytes, want 4 KiB at most", tt, held)
			}
		})
	}
}

// The hint where one character is all that differs.
func TestLikeHints(t *testing.T) {
	const slash = "differ by the slash at the end only"
	template := func(c *bearer.Config) {
		c.IssuerTemplate, c.Issuer, c.JWKSURL = "https://login.example.com/{tenantid}/", "", c.Issuer+".well-known/jwks.json"
	}
	plain := func(*bearer.Config) {}
	for _, tt := range []struct {
		name   string
		change func(*bearer.Config)
		claims bearertest.Claims
		want   string
	}{
		{"no slash", plain, bearertest.Claims{"iss": "https://login.example.com"}, slash},
		{"http", plain, bearertest.Claims{"iss": "http://login.example.com/"}, "differ by one character only, number 5"},
		{"a typing mistake", plain, bearertest.Claims{"iss": "https://logIn.example.org/"}, ""},
		{"another letter", plain, bearertest.Claims{"iss": "https://lagin.example.com/"}, "differ by one character only, number 10"},
		{"the last letter", plain, bearertest.Claims{"iss": "https://login.example.com."}, "differ by one character only, number 26"},
		{"one more in front", plain, bearertest.Claims{"iss": " https://login.example.com/"}, "differ by one character only, number 1"},
		{"letter case", plain, bearertest.Claims{"iss": "https://LOGIN.example.com/"}, "differ by letter case only"},
		{"two characters", plain, bearertest.Claims{"iss": "https://loginn.example.comm/"}, ""},
		{"one more, and another one", plain, bearertest.Claims{"iss": "https://lagin.example.com/x"}, ""},
		{"one less, and another one", plain, bearertest.Claims{"iss": "https://lagin.example.co/"}, ""},
		{"another", plain, bearertest.Claims{"iss": "x"}, ""},
		{"Entra's version 1", plain, bearertest.Claims{"iss": "https://sts.windows.net/a/"}, ""},
		{"Entra's version 2", plain, bearertest.Claims{"iss": "https://login.microsoftonline.com/a/v2.0"}, ""},
		{"template, unfilled", template, bearertest.Claims{"iss": "https://login.example.com/{tenantid}/", "tid": "a"}, ""},
		{"template, another issuer", template, bearertest.Claims{"iss": "https://other.example.com/a/", "tid": "a"}, ""},
		{"template, more behind", template, bearertest.Claims{"iss": "https://login.example.com/a/b/", "tid": "a"}, ""},
		{"template, no slash", template, bearertest.Claims{"iss": "https://login.example.com/a", "tid": "a"}, slash},
		{"template, another tenant", template, bearertest.Claims{"iss": "https://login.example.com/b/", "tid": "a"}, "differ by one character only, number 27"},
		{"audience, slash", plain, bearertest.Claims{"aud": audience + "/"}, slash},
		{"audience, http", plain, bearertest.Claims{"aud": "http://api.example.com"}, "differ by one character only, number 5"},
		{"audience, second of two", plain, bearertest.Claims{"aud": []string{"x", "HTTPS://api.example.com"}}, "differ by letter case only"},
		{"audience, of a claim that is missing", func(c *bearer.Config) { c.AudienceClaim = "cid" }, nil, ""},
		{"audience, another", plain, bearertest.Claims{"aud": "https://api.example.org"}, ""},
	} {
		for _, cold := range []bool{true, false} {
			var log syncBuffer
			iss, auth := newAuth(t, tt.change, func(c *bearer.Config) { c.Logger = debugLogger(&log) })
			if !cold {
				if err := auth.Ready(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			auth.Verify(t.Context(), iss.Token(audience, tt.claims))
			_, hint, _ := strings.Cut(log.String(), " hint=")
			if (hint == "") != (tt.want == "") || !strings.Contains(hint, tt.want) {
				t.Errorf("%s, cold %v: hint %s, want %q", tt.name, cold, hint, tt.want)
			}
		}
	}
}

// manyIssuers returns a Middleware for the tokens of n issuers, and the last of them.
func manyIssuers(t testing.TB, n int, log *slog.Logger) (*bearer.Middleware, *bearertest.Issuer) {
	var all *bearer.Middleware
	var last *bearertest.Issuer
	for i := range n {
		last = bearertest.NewIssuer(fmt.Sprintf("https://tenant-%d.example.com", i))
		one := newMiddleware(t, last, func(c *bearer.Config) { c.Logger = log })
		if i == 0 {
			all = one
			continue
		}
		all = all.Or(one)
	}
	return all, last
}

// What a request costs does not grow with the number of issuers.
func TestThousandIssuers(t *testing.T) {
	type cost struct{ hot, cold, stranger int64 }
	bytes := func(f func()) int64 { // per call, the least of a few runs: pools lose memory by chance
		const n = 500
		least := int64(math.MaxInt64)
		f()
		for range 5 {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			for range n {
				f()
			}
			runtime.ReadMemStats(&after)
			least = min(least, int64(after.TotalAlloc-before.TotalAlloc)/n)
		}
		return least
	}
	measure := func(n int) (c cost) {
		var log syncBuffer
		auth, last := manyIssuers(t, n, debugLogger(&log))
		token := last.Token(audience, nil)
		if _, err := auth.Verify(t.Context(), token); err != nil {
			t.Fatal(err)
		}
		auth.Verify(t.Context(), token)
		c.hot = bytes(func() { auth.Verify(t.Context(), token) })
		stranger := last.Token(audience, bearertest.Claims{"iss": "https://tenant-1001.example.com"})
		c.stranger = bytes(func() { log.Reset(); auth.Verify(t.Context(), stranger) })
		wrong := last.Token("other", nil)
		c.cold = bytes(func() { log.Reset(); auth.Verify(t.Context(), wrong) })

		log.Reset()
		auth.Verify(t.Context(), last.Token(audience, bearertest.Claims{"iss": last.URL + "/"}))
		if s := log.String(); !strings.Contains(s, "by the slash") || !strings.Contains(s, "want="+last.URL+" ") {
			t.Errorf("%d issuers: the log does not tell whose slash is missing: %s", n, s)
		}
		// Other likenesses are looked for among the first few only.
		for iss, hint := range map[string]bool{"https://tenant-1x.example.com": true, "https://tenant-15x.example.com": false} {
			log.Reset()
			auth.Verify(t.Context(), last.Token(audience, bearertest.Claims{"iss": iss}))
			if s := log.String(); strings.Contains(s, "one character") != hint {
				t.Errorf("%d issuers: got %s, want a hint: %v", n, s, hint)
			}
		}
		return c
	}
	few, many := measure(20), measure(1000)
	for _, tt := range []struct {
		name      string
		few, many int64
	}{{"hot", few.hot, many.hot}, {"cold", few.cold, many.cold}, {"stranger", few.stranger, many.stranger}} {
		if tt.many > tt.few+tt.few/4+256 {
			t.Errorf("%s: %d bytes with 1000 issuers and %d with 20", tt.name, tt.many, tt.few)
		}
	}
}

// Beside a single issuer.
func BenchmarkIssuers(b *testing.B) {
	for _, n := range []int{1, 1000} {
		auth, last := manyIssuers(b, n, quiet)
		h := auth.Handler(ok)
		run(b, fmt.Sprintf("hot-%d", n), h, requests(last, nil, 1))
		run(b, fmt.Sprintf("cold-%d", n), h, requests(last, nil, 20000))
		run(b, fmt.Sprintf("stranger-%d", n), h, requests(last, bearertest.Claims{"iss": "https://tenant-x.example.com"}, 1))
	}
}

// What Or returns remembers tokens by itself: m does not accept other's for it, and it
// does not depend on what either remembers.
func TestOrHasItsOwnCache(t *testing.T) {
	a, b := bearertest.NewIssuer("https://a.example.com"), bearertest.NewIssuer("https://b.example.com")
	none := func(c *bearer.Config) { c.TokenCache = -1 }
	for name, change := range map[string][2]func(*bearer.Config){
		"both":  {func(*bearer.Config) {}, func(*bearer.Config) {}},
		"one":   {func(*bearer.Config) {}, none},
		"other": {none, func(*bearer.Config) {}},
		"none":  {none, none},
	} {
		told := new(audit)
		forA := newMiddleware(t, a, change[0], func(c *bearer.Config) { c.Observe = told.observe })
		forB := newMiddleware(t, b, change[1])
		both := forA.Or(forB)
		tokenA, tokenB := a.Token(audience, nil), b.Token(audience, nil)
		for range 4 {
			verified(t, both, tokenA)
			verified(t, both, tokenB)
			if _, err := forA.Verify(t.Context(), tokenB); statusOf(err) != 401 {
				t.Errorf("%s: a accepts b's token: %v", name, err)
			}
			if _, err := forB.Verify(t.Context(), tokenA); statusOf(err) != 401 {
				t.Errorf("%s: b accepts a's token: %v", name, err)
			}
		}
		told.take()
		verified(t, both, tokenB)
		if o, want := told.all[0], name != "none"; o.Cached != want {
			t.Errorf("%s: told %+v, want cached = %v", name, o, want)
		}
	}
}

// Each issuer's tokens may be as long as its own Middleware lets them be.
func TestOrKeepsLengths(t *testing.T) {
	a, b := bearertest.NewIssuer("https://a.example.com"), bearertest.NewIssuer("https://b.example.com")
	short := newMiddleware(t, a)
	long := newMiddleware(t, b, func(c *bearer.Config) { c.MaxTokenLength = 64 << 10 })
	for name, both := range map[string]*bearer.Middleware{"the long one first": long.Or(short), "the long one second": short.Or(long)} {
		if _, err := both.Verify(t.Context(), sized(t, b, 32<<10)); err != nil {
			t.Errorf("%s: a long token of it: %v", name, err)
		}
		if _, err := both.Verify(t.Context(), sized(t, a, 32<<10)); statusOf(err) != 401 {
			t.Errorf("%s: a long token of the other: %v, want status 401", name, err)
		}
	}
}
