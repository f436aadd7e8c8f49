package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"example.com/bearer"
	"example.com/bearer/bearertest"
)

// A token with the proof that came with it.
func TestProof(t *testing.T) {
	const api = "https://api.example.com/messages?page=2"
	iss, client := bearertest.NewIssuer("https://login.example.com/"), bearertest.NewClient()
	token := iss.Token(audience, bearertest.Claims{"cnf": bearertest.Claims{"jkt": client.KeyThumbprint}})
	proof := client.Proof("POST", "https://api.example.com/messages", token, nil)
	for _, tt := range []struct {
		name, token, proof, method, url string
		status                          int
		want                            string
		passed                          int
	}{
		{"good", "DPoP " + token, proof, "POST", api, 0, `accepted: subject "user"`, 14},
		{"the same again", token, proof, "POST", api, 0, `"htu": "https://api.example.com/messages"`, 14},
		{"another method", token, proof, "GET", api, 1, "FAIL  proof: by the token's key", 12},
		{"another path", token, proof, "POST", "https://api.example.com/", 1, "reason: proof_htu", 12},
		{"another host", token, proof, "POST", "https://api.example.org/messages", 1, "reason: proof_htu", 12},
		{"another key", token, bearertest.NewClient().Proof("POST", "https://api.example.com/messages", token, nil), "POST", api, 1, "FAIL  sender", 11},
		{"no proof at all", token, "abc", "POST", api, 1, "FAIL  proof: its form", 0},
		{"a token that is not bound", iss.Token(audience, nil), proof, "POST", api, 1, "reason: unbound", 11},
	} {
		var stdout, stderr strings.Builder
		args := []string{"-issuer", iss.URL, "-audience", audience, "-proof", tt.proof, "-method", tt.method, "-url", tt.url}
		got := run(args, strings.NewReader(tt.token), &stdout, &stderr, bearer.Config{Client: iss.Client()})
		if got != tt.status || !strings.Contains(stdout.String(), tt.want) || strings.Count(stdout.String(), "pass  ") != tt.passed {
			t.Errorf("%s: exit status %d and\n%s%s, want %d, %q and %d checks passed", tt.name, got, stdout.String(), stderr.String(), tt.status, tt.want, tt.passed)
		}
	}
}

// One API and its authorization server, and what may be wrong with them.
func TestResource(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(mux map[string]http.HandlerFunc, api *apiUnderTest)
		status int
		want   []string
	}{
		{"good", nil, 0, []string{"pass  they are of this resource", "pass  it supports PKCE with S256", "note  clients cannot register", "scopes: read", "finds its way"}},
		{"open", func(h map[string]http.HandlerFunc, _ *apiUnderTest) {
			h["/mcp"] = func(http.ResponseWriter, *http.Request) {}
		}, 1, []string{"FAIL  without a token the status is 401: 200 OK"}},
		{"no challenge", func(h map[string]http.HandlerFunc, _ *apiUnderTest) { h["/mcp"] = status(401) }, 1, []string{"FAIL  the challenge is of the scheme Bearer", "FAIL  the challenge says where the metadata are", "pass  they are of this resource"}},
		{"no metadata", func(h map[string]http.HandlerFunc, _ *apiUnderTest) {
			h["/.well-known/oauth-protected-resource/mcp"] = status(404)
		}, 1, []string{"FAIL  the metadata of the API", "404 Not Found"}},
		{"metadata behind the login", func(h map[string]http.HandlerFunc, _ *apiUnderTest) {
			h["/.well-known/oauth-protected-resource/mcp"] = status(401)
		}, 1, []string{"FAIL  the metadata of the API", "401 Unauthorized"}},
		{"of another resource", func(_ map[string]http.HandlerFunc, api *apiUnderTest) { api.asked += "/" }, 1, []string{"FAIL  they are of this resource, to the letter", "/mcp/"}},
		{"no authorization server", func(h map[string]http.HandlerFunc, _ *apiUnderTest) {
			h["/.well-known/oauth-authorization-server/as"] = status(404)
		}, 1, []string{"FAIL  the metadata of "}},
		{"no PKCE", func(_ map[string]http.HandlerFunc, api *apiUnderTest) { api.pkce = "" }, 1, []string{"FAIL  it supports PKCE with S256"}},
		{"another issuer", func(_ map[string]http.HandlerFunc, api *apiUnderTest) { api.slash = "/" }, 1, []string{"FAIL  they are of this issuer, to the letter"}},
	} {
		mux := http.NewServeMux()
		s := httptest.NewServer(mux)
		api := &apiUnderTest{asked: s.URL + "/mcp", pkce: `"S256"`}
		auth, err := bearer.New(bearer.Config{Issuer: s.URL + "/as", Resource: s.URL + "/mcp", Metadata: bearer.Metadata{Scopes: []string{"read"}}})
		if err != nil {
			t.Fatal(err)
		}
		path, metadata := auth.Metadata()
		handlers := map[string]http.HandlerFunc{
			"/mcp": auth.Handler(http.NotFoundHandler()).ServeHTTP,
			path:   metadata.ServeHTTP,
			"/.well-known/oauth-authorization-server/as": func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				fmt.Fprintf(w, `{"issuer":"%s/as%s","authorization_endpoint":"https://a","token_endpoint":"https://a","code_challenge_methods_supported":[%s]}`, s.URL, api.slash, api.pkce)
			},
		}
		if tt.change != nil {
			tt.change(handlers, api)
		}
		for path, h := range handlers {
			mux.Handle(path, h)
		}
		mux.Handle("/mcp/", handlers["/mcp"])

		var stdout strings.Builder
		if got := run([]string{"-resource", api.asked}, nil, &stdout, &stdout, bearer.Config{}); got != tt.status {
			t.Errorf("%s: exit status %d, want %d", tt.name, got, tt.status)
		}
		for _, want := range tt.want {
			if !strings.Contains(stdout.String(), want) {
				t.Errorf("%s: want %q in\n%s", tt.name, want, stdout.String())
			}
		}
		s.Close()
	}
	var stdout strings.Builder
	if got := run([]string{"-resource", "api.example.com"}, nil, &stdout, &stdout, bearer.Config{}); got != 1 || !strings.Contains(stdout.String(), "FAIL  the resource is a URL") {
		t.Errorf("no URL: exit status %d and\n%s", got, stdout.String())
	}
}

// An apiUnderTest is what there is to change.
type apiUnderTest struct{ asked, pkce, slash string }

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}
