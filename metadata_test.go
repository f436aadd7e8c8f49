package bearer_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"example.com/bearer"
	"example.com/bearer/bearertest"
)

const resource = "https://api.example.com/mcp"

func withResource(c *bearer.Config) { c.Resource, c.Audience = resource, nil }

// What each request for the metadata gets (RFC 9728, section 3), by the path of the
// resource. Everything else in the mux needs a token.
func TestMetadataRequests(t *testing.T) {
	const doc = "/.well-known/oauth-protected-resource"
	for _, tt := range []struct {
		name     string
		resource string
		request  string
		status   int
	}{
		{"D1", resource, "GET " + doc + "/mcp", 200},
		{"D1 without path", "https://api.example.com", "GET " + doc, 200},
		{"D1 with a slash for a path", "https://api.example.com/", "GET " + doc, 200},
		{"D1 with a slash at the end", "https://api.example.com/mcp/", "GET " + doc + "/mcp/", 200},
		{"D1 with escapes", "https://api.example.com/a%20b/c%2Fd", "GET " + doc + "/a%20b/c%2Fd", 200},
		{"D1 with a query", resource, "GET " + doc + "/mcp?a=b", 200},
		{"D2", resource, "HEAD " + doc + "/mcp", 200},
		{"D3", resource, "OPTIONS " + doc + "/mcp", 204},
		{"D3 with a slash more", resource, "OPTIONS " + doc + "/mcp/", 204},
		{"D4", resource, "POST " + doc + "/mcp", 405},
		{"D4", resource, "PUT " + doc + "/mcp", 405},
		{"D4", resource, "DELETE " + doc + "/mcp", 405},
		{"D5 a slash more", resource, "GET " + doc + "/mcp/", 200},
		{"D5 a slash more, without path", "https://api.example.com", "GET " + doc + "/", 200},
		{"D5 a slash more, with a slash for a path", "https://api.example.com/", "GET " + doc + "/", 200},
		{"D5 a slash less", "https://api.example.com/mcp/", "GET " + doc + "/mcp", 200},
		{"D9 below", resource, "GET " + doc + "/mcp/more", 404},
		{"D9 below, without path", "https://api.example.com", "GET " + doc + "/mcp", 404},
		{"D9 POST below", resource, "POST " + doc + "/mcp/more", 404},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, auth := newAuth(t, withResource, func(c *bearer.Config) { c.Resource = tt.resource })
			root := http.NewServeMux()
			root.Handle("GET /", auth.Handler(ok))
			root.Handle("POST /", auth.Handler(ok))
			auth.HandleMetadata(root)
			method, path, _ := strings.Cut(tt.request, " ")
			r := httptest.NewRequest(method, path, nil)
			r.Header.Set("Origin", "https://app.example.com")
			r.Header.Set("Authorization", "Bearer of nothing good") // D7
			w := httptest.NewRecorder()
			root.ServeHTTP(w, r)
			h := w.Header()
			if w.Code != tt.status || h["Www-Authenticate"] != nil {
				t.Errorf("status = %d with %q, want %d without challenge", w.Code, h["Www-Authenticate"], tt.status)
			}
			want := map[int]string{
				200: "application/json|public, max-age=3600||||",
				204: "||GET, HEAD|*, Authorization|86400|",
				405: "text/plain; charset=utf-8|||||GET, HEAD, OPTIONS",
				404: "text/plain; charset=utf-8|||||",
			}[tt.status]
			got := strings.Join([]string{h.Get("Content-Type"), h.Get("Cache-Control"), h.Get("Access-Control-Allow-Methods"),
				h.Get("Access-Control-Allow-Headers"), h.Get("Access-Control-Max-Age"), h.Get("Allow")}, "|")
			if origin := h.Get("Access-Control-Allow-Origin"); got != want || origin != "*" && tt.status != 404 {
				t.Errorf("headers = %s, %s, want %s, *", got, origin, want)
			}
			if tt.status != 200 {
				return
			}
			body := fmt.Sprintf(`{"resource":%q,"authorization_servers":["https://login.example.com/"],"bearer_methods_supported":["header"]}`+"\n", tt.resource)
			if got, want := h.Get("Content-Length"), fmt.Sprint(len(body)); got != want {
				t.Errorf("Content-Length = %s, want %s", got, want)
			}
			if method == "HEAD" {
				body = ""
			}
			if w.Body.String() != body {
				t.Errorf("body = %s, want %s", w.Body, body)
			}
		})
	}
}

// D6: clients that look at the root find nothing, unless somebody puts it there.
func TestMetadataAtRoot(t *testing.T) {
	_, auth := newAuth(t, withResource)
	root := http.NewServeMux()
	auth.HandleMetadata(root)
	const doc = "/.well-known/oauth-protected-resource"
	get := func() int {
		w := httptest.NewRecorder()
		root.ServeHTTP(w, httptest.NewRequest("GET", doc, nil))
		return w.Code
	}
	if got := get(); got != 404 {
		t.Errorf("the root's metadata: %d, want 404", got)
	}
	root.Handle(doc, ok)
	if got := get(); got != 200 {
		t.Errorf("the root's metadata, registered: %d, want 200", got)
	}
}

// Several APIs in one mux, one below the other.
func TestMetadataOfSeveral(t *testing.T) {
	root := http.NewServeMux()
	for _, path := range []string{"", "/mcp", "/mcp/a", "/mcp/b"} {
		_, auth := newAuth(t, withResource, func(c *bearer.Config) { c.Resource = "https://api.example.com" + path })
		auth.HandleMetadata(root)
	}
	for _, path := range []string{"", "/mcp", "/mcp/a", "/mcp/b", "/mcp/b/"} {
		w := httptest.NewRecorder()
		root.ServeHTTP(w, httptest.NewRequest("GET", "/.well-known/oauth-protected-resource"+path, nil))
		if want := `"https://api.example.com` + strings.TrimSuffix(path, "/") + `"`; !strings.Contains(w.Body.String(), want) {
			t.Errorf("%q: got %s, want %s in it", path, w.Body, want)
		}
	}
}

// document returns the members of auth's metadata but "resource" and
// "bearer_methods_supported", as JSON.
func document(t *testing.T, auth *bearer.Middleware) string {
	t.Helper()
	path, h := auth.Metadata()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
	var all map[string]json.RawMessage
	if err := json.Unmarshal(w.Body.Bytes(), &all); err != nil {
		t.Fatalf("%v: %s", err, w.Body)
	}
	if string(all["resource"]) != `"`+resource+`"` || string(all["bearer_methods_supported"]) != `["header"]` {
		t.Errorf("the document is %s", w.Body)
	}
	delete(all, "resource")
	delete(all, "bearer_methods_supported")
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(&b, "%s=%s ", name, all[name])
	}
	return strings.TrimSuffix(b.String(), " ")
}

func TestMetadataMembers(t *testing.T) {
	const servers = `authorization_servers=["https://login.example.com/"]`
	for _, tt := range []struct {
		name   string
		change func(*bearer.Config)
		want   string
	}{
		{"nothing", func(c *bearer.Config) {}, servers},
		{"texts", func(c *bearer.Config) {
			c.Metadata = bearer.Metadata{Name: `The "Ä" & B`, Documentation: "https://api.example.com/docs", Policy: "http://a/p", Terms: "https://a/t"}
		}, servers + ` resource_documentation="https://api.example.com/docs" resource_name="The \"Ä\" \u0026 B" resource_policy_uri="http://a/p" resource_tos_uri="https://a/t"`},
		{"scopes", func(c *bearer.Config) { c.Metadata.Scopes = []string{"a", "offline_access", "b"} }, servers + ` scopes_supported=["a","b"]`},
		{"no scopes", func(c *bearer.Config) { c.Metadata.Scopes = []string{"offline_access"} }, servers},
		{"types", func(c *bearer.Config) { c.Metadata.AuthorizationDetails = []string{"payment"} }, `authorization_details_types_supported=["payment"] ` + servers},
		{"servers", func(c *bearer.Config) {
			c.Metadata.AuthorizationServers = []string{"https://a.example.com", "http://localhost:8080"}
		}, `authorization_servers=["https://a.example.com","http://localhost:8080"]`},
		{"servers in place of an issuer that is no URL", func(c *bearer.Config) {
			c.Issuer, c.JWKSURL = "login", "https://login.example.com/jwks"
			c.Metadata.AuthorizationServers = []string{"https://login.example.com/"}
		}, servers},
		{"tenants", func(c *bearer.Config) {
			c.Issuer, c.IssuerTemplate, c.Tenants = "", "https://login.example.com/{tenantid}/v2.0", []string{"a", "b"}
		}, `authorization_servers=["https://login.example.com/a/v2.0","https://login.example.com/b/v2.0"]`},
		{"servers of a template", func(c *bearer.Config) {
			c.Issuer, c.IssuerTemplate = "", "https://login.example.com/{tenantid}/v2.0"
			c.Metadata.AuthorizationServers = []string{"https://login.example.com/common/v2.0"}
		}, `authorization_servers=["https://login.example.com/common/v2.0"]`},
		{"DPoP", func(c *bearer.Config) { c.DPoP = &bearer.DPoP{Algorithms: []string{"ES256", "EdDSA"}} },
			servers + ` dpop_signing_alg_values_supported=["ES256","EdDSA","Ed25519"]`},
		{"DPoP alone", func(c *bearer.Config) { c.DPoP, c.RequireBound = &bearer.DPoP{Algorithms: []string{"ES256"}}, true },
			servers + ` dpop_bound_access_tokens_required=true dpop_signing_alg_values_supported=["ES256"]`},
		{"certificates", func(c *bearer.Config) { c.Certificate = bearer.ConnectionCertificate },
			servers + ` tls_client_certificate_bound_access_tokens=true`},
		{"DPoP or certificates", func(c *bearer.Config) {
			c.DPoP, c.Certificate, c.RequireBound = &bearer.DPoP{Algorithms: []string{"ES256"}}, bearer.ConnectionCertificate, true
		}, servers + ` dpop_signing_alg_values_supported=["ES256"] tls_client_certificate_bound_access_tokens=true`},
		{"extra", func(c *bearer.Config) {
			c.Metadata.Extra = map[string]any{"resource_name#de": "Nachrichten", "jwks_uri": "https://a/keys", "none": []string{}, "null": nil, "n": 1}
		}, servers + ` jwks_uri="https://a/keys" n=1 resource_name#de="Nachrichten"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, auth := newAuth(t, withResource, tt.change)
			if got := document(t, auth); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestMetadataOfOr(t *testing.T) {
	at := func(issuer string, change ...func(*bearer.Config)) *bearer.Middleware {
		return newMiddleware(t, bearertest.NewIssuer(issuer), change...)
	}
	noURL := func(c *bearer.Config) { c.Issuer, c.JWKSURL = "partners", "https://partners.example.com/jwks" }
	given := func(servers ...string) func(*bearer.Config) {
		return func(c *bearer.Config) { c.Metadata.AuthorizationServers = servers }
	}
	finding := func(c *bearer.Config) {
		c.FindIssuer = func(context.Context, string) (*bearer.Middleware, error) { return nil, nil }
	}
	a, b := at("https://a.example.com", withResource), at("https://b.example.com")
	for _, tt := range []struct {
		name string
		auth *bearer.Middleware
		want string
	}{
		{"both", a.Or(b), `["https://a.example.com","https://b.example.com"]`},
		{"three", a.Or(b).Or(at("https://c.example.com")), `["https://a.example.com","https://b.example.com","https://c.example.com"]`},
		{"two behind one", a.Or(b.Or(at("https://c.example.com"))), `["https://a.example.com","https://b.example.com","https://c.example.com"]`},
		{"those of other's metadata", a.Or(at("https://b.example.com", withResource, given("https://a.example.com", "https://c.example.com"))), `["https://a.example.com","https://c.example.com"]`},
		{"m's metadata name all", at("https://a.example.com", withResource, given("https://c.example.com")).Or(at("https://b.example.com", noURL)), `["https://c.example.com"]`},
		{"m itself is as it was", a, `["https://a.example.com"]`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got, want := document(t, tt.auth), "authorization_servers="+tt.want; got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
	for _, f := range []func(){
		func() { a.Or(at("https://b.example.com", noURL)) },
		func() { a.Or(at("https://b.example.com", finding)) },
		func() { b.Or(a).Metadata() }, // it is b that has no resource
		func() { b.Metadata() },
	} {
		func() {
			defer func() {
				if text, ok := recover().(string); !ok || !strings.Contains(text, "Metadata") {
					t.Errorf("got panic %q, want one about Metadata", text)
				}
			}()
			f()
		}()
	}
}

// A resource in each reply that has a challenge, and nowhere else.
func TestResourceInChallenges(t *testing.T) {
	iss, auth := newAuth(t, withResource, func(c *bearer.Config) { c.Realm = "api" })
	const rm = `resource_metadata="https://api.example.com/.well-known/oauth-protected-resource/mcp"`
	good := "Bearer " + iss.Token(resource, nil)
	for _, tt := range []struct {
		name          string
		authorization []string
		status        int
		challenge     string
	}{
		{"no token", nil, 401, `Bearer realm="api", ` + rm},
		{"malformed", []string{"Bearer"}, 400, `Bearer realm="api", error="invalid_request", ` + rm},
		{"bad token", []string{"Bearer x"}, 401, `Bearer realm="api", error="invalid_token", ` + rm},
		{"another audience", []string{"Bearer " + iss.Token(audience, nil)}, 401, `Bearer realm="api", error="invalid_token", ` + rm},
		{"good token", []string{good}, 200, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			checkReply(t, serve(auth.Handler(ok), tt.authorization...), tt.status, tt.challenge)
		})
	}
	checkReply(t, serve(auth.RequireScope("a", "b")(ok), good), 403, `Bearer realm="api", error="insufficient_scope", scope="a b", `+rm)
	own := auth.Require(func(*http.Request, *bearer.Claims) error {
		return &bearer.Error{Status: 402, Code: "payment_required", Description: "d"}
	})
	checkReply(t, serve(own(ok), good), 402, `Bearer realm="api", error="payment_required", `+rm)
	iss.SetDown(true)
	other := newMiddleware(t, iss, withResource)
	checkReply(t, serve(other.Handler(ok), good), 503, "")
}

// A root resource's URL is where the document is, whether or not it has a slash.
func TestResourceURL(t *testing.T) {
	for in, want := range map[string]string{
		"https://api.example.com":      "https://api.example.com/.well-known/oauth-protected-resource",
		"https://api.example.com/":     "https://api.example.com/.well-known/oauth-protected-resource",
		"https://api.example.com/mcp/": "https://api.example.com/.well-known/oauth-protected-resource/mcp/",
		"http://127.0.0.1:8080/a/b":    "http://127.0.0.1:8080/.well-known/oauth-protected-resource/a/b",
		"http://[::1]:8080":            "http://[::1]:8080/.well-known/oauth-protected-resource",
		"https://api.example.com/a%2F": "https://api.example.com/.well-known/oauth-protected-resource/a%2F",
		"https://api.example.com/~a:@": "https://api.example.com/.well-known/oauth-protected-resource/~a:@",
	} {
		_, auth := newAuth(t, withResource, func(c *bearer.Config) { c.Resource = in })
		if got, want := serve(auth.Handler(ok)).Header().Get("WWW-Authenticate"), `Bearer resource_metadata="`+want+`"`; got != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
}

func TestBadResource(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*bearer.Config)
		want   []string // in the error
	}{
		{"relative", func(c *bearer.Config) { c.Resource = "/mcp" }, []string{`Config.Resource: "/mcp" must be an absolute https URL`}},
		{"no host", func(c *bearer.Config) { c.Resource = "https:///mcp" }, []string{"Config.Resource: ", "must be an absolute https URL"}},
		{"URN", func(c *bearer.Config) { c.Resource = "urn:api" }, []string{"Config.Resource: ", "must be an absolute https URL"}},
		{"no URL", func(c *bearer.Config) { c.Resource = "https://a b/" }, []string{"Config.Resource: "}},
		{"http", func(c *bearer.Config) { c.Resource = "http://api.example.com/mcp" }, []string{"Config.Resource: ", "must be an absolute https URL"}},
		{"another scheme", func(c *bearer.Config) { c.Resource = "ftp://api.example.com/mcp" }, []string{"Config.Resource: ", "must be an absolute https URL"}},
		{"user", func(c *bearer.Config) { c.Resource = "https://me@api.example.com/mcp" }, []string{"Config.Resource: ", "without user"}},
		{"fragment", func(c *bearer.Config) { c.Resource = "https://api.example.com/mcp#a" }, []string{"Config.Resource: ", "fragment"}},
		{"empty fragment", func(c *bearer.Config) { c.Resource = "https://api.example.com/mcp#" }, []string{"Config.Resource: ", "no fragment"}},
		{"query", func(c *bearer.Config) { c.Resource = "https://api.example.com/mcp?a=b" }, []string{"Config.Resource: ", "no query"}},
		{"empty query", func(c *bearer.Config) { c.Resource = "https://api.example.com/mcp?" }, []string{"Config.Resource: ", "no query"}},
		{"host in upper case", func(c *bearer.Config) { c.Resource = "https://API.example.com/mcp" }, []string{"Config.Resource: ", "lower case"}},
		{"scheme in upper case", func(c *bearer.Config) { c.Resource = "HTTPS://api.example.com/mcp" }, []string{"Config.Resource: ", "as clients write it"}},
		{"default port", func(c *bearer.Config) { c.Resource = "https://api.example.com:443/mcp" }, []string{"Config.Resource: ", "default port"}},
		{"default port of http", func(c *bearer.Config) { c.Resource = "http://localhost:80/mcp" }, []string{"Config.Resource: ", "default port"}},
		{"empty port", func(c *bearer.Config) { c.Resource = "https://api.example.com:/mcp" }, []string{"Config.Resource: ", "default port"}},
		{"dots", func(c *bearer.Config) { c.Resource = "https://api.example.com/a/../b" }, []string{"Config.Resource: ", "dots"}},
		{"escaped dots", func(c *bearer.Config) { c.Resource = "https://api.example.com/a/%2e/b" }, []string{"Config.Resource: ", "dots"}},
		{"two slashes", func(c *bearer.Config) { c.Resource = "https://api.example.com/a//b" }, []string{"Config.Resource: ", "empty"}},
		{"a wildcard of ServeMux", func(c *bearer.Config) { c.Resource = "https://api.example.com/{id}" }, []string{"Config.Resource: ", "%7Bid%7D"}},
		{"quotes", func(c *bearer.Config) { c.Resource = `https://api.example.com/"a"` }, []string{"Config.Resource: ", "%22a%22"}},
		{"not ASCII", func(c *bearer.Config) { c.Resource = "https://api.example.com/ä" }, []string{"Config.Resource: ", "%C3%A4"}},
		{"host not ASCII", func(c *bearer.Config) { c.Resource = "https://äpi.example.com/" }, []string{"Config.Resource: "}},
		{"no issuer to tell", func(c *bearer.Config) { c.Issuer, c.JWKSURL = "login", "https://a/jwks" }, []string{`Config.Metadata.AuthorizationServers: required, since "login"`}},
		{"no tenants to tell", func(c *bearer.Config) { c.Issuer, c.IssuerTemplate = "", "https://a/{tenantid}" }, []string{"Config.Metadata.AuthorizationServers: required"}},
		{"issuers that come and go", func(c *bearer.Config) {
			c.FindIssuer = func(context.Context, string) (*bearer.Middleware, error) { return nil, nil }
		}, []string{"Config.Metadata.AuthorizationServers: required, since FindIssuer"}},
		{"nothing but issuers that come and go", func(c *bearer.Config) {
			c.Issuer, c.FindIssuer = "", func(context.Context, string) (*bearer.Middleware, error) { return nil, nil }
		}, []string{"Config.Metadata.AuthorizationServers: required, since FindIssuer"}},
		{"an issuer that is no URL is told once", func(c *bearer.Config) { c.Issuer = "login" }, []string{"Config.Issuer: "}},
		{"servers", func(c *bearer.Config) {
			c.Metadata.AuthorizationServers = []string{"http://a.example.com", "login", "https://a/?b", ""}
		}, []string{`"http://a.example.com" is not`, `"login" is not`, `"https://a/?b" is not`, `"" is not`}},
		{"scopes", func(c *bearer.Config) { c.Metadata.Scopes = []string{"a b", ""} }, []string{`Config.Metadata.Scopes: "a b" is not`, `"" is not`}},
		{"servers with an empty fragment", func(c *bearer.Config) { c.Metadata.AuthorizationServers = []string{"https://a/#", "https://a/~"} }, []string{`"https://a/#" is not`}},
		{"no issuer to tell, with FetchKeys", func(c *bearer.Config) { c.Issuer, c.FetchKeys = "login", noKeys }, []string{`Config.Metadata.AuthorizationServers: required, since "login"`}},
		{"a page that is no URL", func(c *bearer.Config) { c.Metadata.Terms = "https://a/%zz" }, []string{"Config.Metadata.Terms: "}},
		{"types", func(c *bearer.Config) { c.Metadata.AuthorizationDetails = []string{""} }, []string{"Config.Metadata.AuthorizationDetails: "}},
		{"pages", func(c *bearer.Config) {
			c.Metadata = bearer.Metadata{Documentation: "/docs", Policy: "ftp://a/", Terms: "https:///a"}
		}, []string{"Config.Metadata.Documentation: ", "Config.Metadata.Policy: ", "Config.Metadata.Terms: "}},
		{"extra", func(c *bearer.Config) {
			c.Metadata.Extra = map[string]any{"": 1, "resource": 1, "dpop_bound_access_tokens_required": true, "f": func() {}}
		}, []string{`Extra: "" is`, `Extra: "resource" is`, `Extra: "dpop_bound_access_tokens_required" is`, `Extra: "f": json`}},
		{"all at once", func(c *bearer.Config) { c.Issuer, c.Resource, c.Metadata.Terms = "", "/", "x" }, []string{"Config.Issuer: ", "Config.Resource: ", "Config.Metadata.Terms: "}},
		{"no resource", func(c *bearer.Config) { c.Resource, c.Audience, c.Metadata.Name = "", []string{"a"}, "x" }, []string{"Config.Metadata: needs Resource"}},
		{"no resource, no audience", func(c *bearer.Config) { c.Resource = "" }, []string{"Config.Audience: required"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := bearer.Config{Issuer: "https://login.example.com/", Resource: resource}
			tt.change(&cfg)
			_, err := bearer.New(cfg)
			got := fmt.Sprint(err)
			for _, want := range tt.want {
				if !strings.Contains(got, want) {
					t.Errorf("got %s, want %s in it", got, want)
				}
			}
			if lines := strings.Count(got, "\n") + 1; lines > len(tt.want) {
				t.Errorf("got %d problems, want %d:\n%s", lines, len(tt.want), got)
			}
		})
	}
}

// Names that need not be refused.
func TestGoodResource(t *testing.T) {
	for _, resource := range []string{"https://api.example.com:80/mcp", "http://localhost:443/mcp", "https://api.example.com/~me"} {
		if _, err := bearer.New(bearer.Config{Issuer: "https://login.example.com/", Resource: resource}); err != nil {
			t.Errorf("%s: %v", resource, err)
		}
	}
	_, err := bearer.New(bearer.Config{FindIssuer: noIssuer, Resource: resource, Metadata: bearer.Metadata{AuthorizationServers: []string{"https://login.example.com"}}})
	if err != nil {
		t.Errorf("FindIssuer, and the servers are told: %v", err)
	}
}

// Documents that were made of one another do not change each other, nor what New was
// given.
func TestDocumentsAreApart(t *testing.T) {
	scopes := []string{"offline_access", "a", "b"}
	_, tenants := newAuth(t, withResource, func(c *bearer.Config) {
		c.Issuer, c.IssuerTemplate, c.Tenants = "", "https://login.example.com/{tenantid}/", []string{"a", "b", "c"}
		c.Metadata.Scopes = scopes
	})
	other := func(name string) *bearer.Middleware {
		return newMiddleware(t, bearertest.NewIssuer("https://"+name+".example.com"))
	}
	const three = `"https://login.example.com/a/","https://login.example.com/b/","https://login.example.com/c/"`
	x := tenants.Or(other("x"))
	y := tenants.Or(other("y"))
	xz := x.Or(other("z"))
	for _, tt := range []struct {
		auth *bearer.Middleware
		more string
	}{
		{tenants, ""},
		{x, `,"https://x.example.com"`},
		{y, `,"https://y.example.com"`},
		{xz, `,"https://x.example.com","https://z.example.com"`},
	} {
		if got, want := document(t, tt.auth), "authorization_servers=["+three+tt.more+`] scopes_supported=["a","b"]`; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	if !slices.Equal(scopes, []string{"offline_access", "a", "b"}) {
		t.Errorf("New changed what it was given: %q", scopes)
	}
}
