package bearer_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"example.com/bearer"
	"example.com/bearer/bearertest"
)

// providerConfigs are the settings in docs/providers.md, word for word, by the
// fixture that they are for.
func providerConfigs() map[string]bearer.Config {
	configs := make(map[string]bearer.Config)
	configs["auth0-user-array-aud"] = bearer.Config{
		Issuer:   "https://acme.eu.auth0.com/", // ends in a slash
		Audience: []string{"https://api.acme.test/"},
	}
	configs["okta-custom-as"] = bearer.Config{
		Issuer:   "https://acme.okta.com/oauth2/default",
		Audience: []string{"api://default"},
	}
	configs["entra-v2-groups-overage"] = bearer.Config{
		Issuer:   "https://login.microsoftonline.com/11111111-2222-3333-4444-555555555555/v2.0", // the tenant
		Audience: []string{"aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"},                              // the API's client id
	}
	configs["entra-v1-delegated"] = bearer.Config{
		Issuer:   "https://sts.windows.net/11111111-2222-3333-4444-555555555555/",
		Audience: []string{"api://aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"},
		JWKSURL:  "https://login.microsoftonline.com/11111111-2222-3333-4444-555555555555/discovery/keys",
	}
	configs["entra-multitenant-template"] = bearer.Config{
		IssuerTemplate: "https://login.microsoftonline.com/{tenantid}/v2.0",
		Tenants:        []string{"11111111-2222-3333-4444-555555555555"},
		Audience:       []string{"aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"},
	}
	configs["external-id-user"] = bearer.Config{
		IssuerTemplate: "https://{tenantid}.ciamlogin.com/{tenantid}/v2.0",
		Tenants:        []string{"11111111-2222-3333-4444-555555555555"},
		Audience:       []string{"aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"},
		JWKSURL:        "https://acme.ciamlogin.com/11111111-2222-3333-4444-555555555555/discovery/v2.0/keys",
	}
	configs["azure-ad-b2c"] = bearer.Config{
		Issuer:   "https://acme.b2clogin.com/11111111-2222-3333-4444-555555555555/v2.0/",
		Audience: []string{"aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"},
		JWKSURL:  "https://acme.b2clogin.com/acme.onmicrosoft.com/B2C_1_signin/discovery/v2.0/keys",
	}
	configs["cognito-access-user"] = bearer.Config{
		Issuer:        "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_AbCdEfGhI",
		AudienceClaim: "client_id", // access tokens have no "aud"
		Audience:      []string{"5ff0clientid"},
	}
	configs["keycloak-user"] = bearer.Config{
		Issuer:      "https://sso.acme.test/realms/acme",
		Audience:    []string{"account"},                      // "my-api", once the client has an audience mapper
		ScopeClaims: []string{"resource_access.my-api.roles"}, // or "realm_access.roles", or "scope"
	}
	configs["google-id-token-bare-iss"] = bearer.Config{
		Issuer:   "accounts.google.com", // or "https://accounts.google.com", as the tokens have it
		Audience: []string{"c"},         // the OAuth client's id
		JWKSURL:  "https://www.googleapis.com/oauth2/v3/certs",
	}
	configs["firebase"] = bearer.Config{
		Issuer:   "https://securetoken.google.com/acme-project",
		Audience: []string{"acme-project"},
	}
	configs["gcp-iap"] = bearer.Config{
		Issuer:   "https://cloud.google.com/iap",
		Audience: []string{"/projects/123456789/global/backendServices/987654321"},
		JWKSURL:  "https://www.gstatic.com/iap/verify/public_key-jwk",
		Header:   "X-Goog-Iap-Jwt-Assertion", // not in Authorization
	}
	configs["cf-access-user"] = bearer.Config{
		Issuer:   "https://acme.cloudflareaccess.com",
		Audience: []string{"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}, // the application's AUD tag
		JWKSURL:  "https://acme.cloudflareaccess.com/cdn-cgi/access/certs",
		Header:   "Cf-Access-Jwt-Assertion", // not in Authorization
	}
	configs["github-actions"] = bearer.Config{
		Issuer:   "https://token.actions.githubusercontent.com",
		Audience: []string{"https://api.acme.test"}, // what the workflow asks for
	}
	configs["zitadel-jwt"] = bearer.Config{
		Issuer:   "https://acme.zitadel.cloud",
		Audience: []string{"163840776835432999"}, // the project's id
	}
	configs["hydra-jwt-list-scope"] = bearer.Config{
		Issuer:   "https://hydra.acme.test",
		Audience: []string{"https://api.acme.test"},
	}
	configs["dex-single-aud"] = bearer.Config{
		Issuer:   "https://dex.acme.test/dex",
		Audience: []string{"my-api"},
	}
	configs["k8s-projected"] = bearer.Config{
		Issuer:   "https://kubernetes.default.svc.cluster.local",
		Audience: []string{"my-api"},
	}
	configs["clerk-v1"] = bearer.Config{
		Issuer:        "https://clerk.acme.test",
		AudienceClaim: "azp", // session tokens have no "aud"
		Audience:      []string{"https://app.acme.test"},
	}
	configs["fusionauth"] = bearer.Config{
		Issuer:   "acme.com",                                       // no URL
		Audience: []string{"aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"}, // the application's id
		JWKSURL:  "https://auth.acme.com/.well-known/jwks.json",
	}
	configs["pingone-client-credentials"] = bearer.Config{
		Issuer:     "https://auth.pingone.eu/11111111-2222-3333-4444-555555555555/as",
		Audience:   []string{"https://api.acme.test"},
		TokenTypes: []string{"at+jwt"},
	}
	configs["forgerock-am"] = bearer.Config{
		Issuer:   "https://am.acme.test:443/am/oauth2/alpha", // the port counts
		Audience: []string{"my-client"},                      // the client is the audience
	}
	configs["identityserver-array-scope"] = bearer.Config{
		Issuer:     "https://ids.acme.test",
		Audience:   []string{"api1"},
		TokenTypes: []string{"at+jwt"},
	}
	return configs
}

// Each token is accepted with the settings for it, whose keys are wherever they say.
func TestProviderConfigs(t *testing.T) {
	text, err := os.ReadFile("testdata/providers.json")
	if err != nil {
		t.Fatal(err)
	}
	var fixtures []fixture
	if err := json.Unmarshal(text, &fixtures); err != nil {
		t.Fatal(err)
	}
	configs := providerConfigs()
	for _, f := range fixtures {
		cfg, ok := configs[f.ID]
		if !ok {
			continue
		}
		delete(configs, f.ID)
		t.Run(f.ID, func(t *testing.T) {
			iss := bearertest.NewIssuer("https://keys.example.com")
			iss.UseAlgorithm(f.Header["alg"].(string))
			var key jwk
			if err := json.Unmarshal(published(t, iss)[0], &key); err != nil {
				t.Fatal(err)
			}
			iss.SetKeys(marshal(map[string]any{"keys": []any{with(key, jwk{"kid": f.Header["kid"], "alg": nil})}}))
			cfg.Client = &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
				w := httptest.NewRecorder()
				switch {
				case cfg.JWKSURL != "" && r.URL.String() != cfg.JWKSURL:
					t.Errorf("a request for %s, want %s", r.URL, cfg.JWKSURL)
				case strings.HasSuffix(r.URL.Path, metadataPath):
					issuer := cfg.Issuer + cfg.IssuerTemplate
					w.Write(marshal(map[string]string{"issuer": issuer, "jwks_uri": "https://keys.example.com" + keysPath}))
				default:
					r.URL.Path = keysPath
					iss.ServeHTTP(w, r)
				}
				return w.Result(), nil
			})}
			cfg.Logger = quiet
			auth, err := bearer.New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			token := iss.Sign(string(marshal(f.Header)), string(marshal(resolve(f.Claims))))
			if cfg.Header == "" {
				cfg.Header = "Authorization"
				token = "Bearer " + token
			}
			r := httptest.NewRequest("GET", "/", nil)
			r.Header.Set(cfg.Header, token)
			if _, err := auth.Authenticate(r); err != nil {
				t.Error(err)
			}
		})
	}
	for id := range configs {
		t.Errorf("no fixture %s", id)
	}
}

// The trick for tokens without an audience.
func TestAudienceOfIssuer(t *testing.T) {
	iss := bearertest.NewIssuer("https://login.acme.test")
	cfg := bearer.Config{
		Issuer:        "https://login.acme.test",
		AudienceClaim: "iss",
		Audience:      []string{"https://login.acme.test"},
	}
	cfg.Client, cfg.Logger = iss.Client(), quiet
	auth, err := bearer.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, aud := range []any{nil, "another", []string{}} {
		if _, err := auth.Verify(t.Context(), iss.Token("", bearertest.Claims{"aud": aud})); err != nil {
			t.Errorf("aud %v: %v", aud, err)
		}
	}
	c, err := auth.Verify(t.Context(), iss.Token("", bearertest.Claims{"aud": nil, "iss": "https://other.acme.test"}))
	checkRefused(t, c, err, "issuer", jwt.ErrTokenInvalidIssuer)
}

// The check that keeps other people's workflows out.
func TestGitHubActions(t *testing.T) {
	iss, auth := newAuth(t)
	fromOurOrganization := auth.Require(func(_ *http.Request, c *bearer.Claims) error {
		var own struct {
			Owner string `json:"repository_owner_id"`
		}
		if err := c.Decode(&own); err != nil {
			return err
		}
		if own.Owner != "1234567" {
			return errors.New("a workflow of somebody else")
		}
		return nil
	})
	for owner, status := range map[string]int{"1234567": 200, "7654321": 403, "": 403} {
		token := iss.Token(audience, bearertest.Claims{"repository_owner_id": owner})
		if got := serve(fromOurOrganization(ok), "Bearer "+token).Code; got != status {
			t.Errorf("owner %q: status %d, want %d", owner, got, status)
		}
	}
}

// Every block of Go in the guides stands word for word in a test or an example,
// and so compiles and is run.
func TestGuides(t *testing.T) {
	code := ""
	for _, name := range []string{"provider_test.go", "deployment_test.go", "example_keys_test.go", "example_more_test.go", "example_tenants_test.go"} {
		code += flat(read(t, name))
	}
	for name, least := range map[string]int{"docs/providers.md": 20, "docs/deployments.md": 9, "docs/operations.md": 1} {
		blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(read(t, name), -1)
		if len(blocks) < least {
			t.Errorf("%s has %d blocks of code, want %d", name, len(blocks), least)
		}
		for _, block := range blocks {
			if !strings.Contains(code, flat(block[1])) {
				t.Errorf("%s: no test has this:\n%s", name, block[1])
			}
		}
	}
}

// Every fixture that docs/providers.md names is there, and every setting names one.
func TestProvidersAreDocumented(t *testing.T) {
	fixtures := read(t, "testdata/providers.json")
	var named []string
	for _, m := range regexp.MustCompile("(?m)^Fixture `([a-z0-9-]+)`\\.$").FindAllStringSubmatch(read(t, "docs/providers.md"), -1) {
		named = append(named, m[1])
		if !strings.Contains(fixtures, `"id": "`+m[1]+`"`) {
			t.Errorf("no fixture %s", m[1])
		}
	}
	for id := range providerConfigs() {
		if !slices.Contains(named, id) {
			t.Errorf("docs/providers.md does not have %s", id)
		}
	}
}
