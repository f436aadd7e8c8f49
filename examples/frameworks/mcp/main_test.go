package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/bearer"
	"example.com/bearer/bearertest"
	"example.com/bearer/examples/frameworks/internal/apitest"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/modelcontextprotocol/go-sdk/oauthex"
)

// start starts the API and returns its URL, which is the audience of the tokens.
func start(t *testing.T) (*bearertest.Issuer, string) {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	base := "http://" + server.Listener.Addr().String()
	iss, config := apitest.New()
	config.Audience = []string{base}
	api, err := newAPI(config)
	if err != nil {
		t.Fatal(err)
	}
	server.Config.Handler = api
	server.Start()
	t.Cleanup(server.Close)
	return iss, base
}

// withToken is a transport that sends a token.
type withToken string

func (token withToken) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+string(token))
	return http.DefaultTransport.RoundTrip(r)
}

// connect opens a session with the SDK's own client.
func connect(ctx context.Context, url, token string) (*mcp.ClientSession, error) {
	client := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil)
	return client.Connect(ctx, &mcp.StreamableClientTransport{
		Endpoint:   url,
		HTTPClient: &http.Client{Transport: withToken(token)},
		MaxRetries: -1,
	}, nil)
}

func TestTools(t *testing.T) {
	iss, base := start(t)
	alice := iss.Token(base, bearertest.Claims{"sub": "alice"})
	for _, tt := range []struct {
		name  string
		path  string
		token string
		tool  string
		want  string // the tool's text; empty: no session
	}{
		{"no token", "/account", "", "whoami", ""},
		{"any token", "/account", alice, "whoami", "alice"},
		{"expired within the leeway", "/account", iss.Token(base, bearertest.Claims{"sub": "bob", "exp": time.Now().Add(-30 * time.Second).Unix()}), "whoami", "bob"},
		{"for the endpoint", "/account", iss.Token(base+"/account", bearertest.Claims{"sub": "carol"}), "whoami", "carol"},
		{"for another audience", "/account", iss.Token(apitest.Audience, nil), "whoami", ""},
		{"no scope", "/messages", alice, "list", ""},
		{"scope", "/messages", iss.Token(base, bearertest.Claims{"scope": "read:messages"}), "list", "here are your messages"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			session, err := connect(ctx, base+tt.path, tt.token)
			if err != nil {
				if tt.want != "" {
					t.Error(err)
				}
				return
			}
			defer session.Close()
			result, err := session.CallTool(ctx, &mcp.CallToolParams{Name: tt.tool})
			if err != nil {
				t.Fatal(err)
			}
			if got := result.Content[0].(*mcp.TextContent).Text; got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// Who learns the id of a session cannot speak in it with a token of his own.
func TestSessionBelongsToSubject(t *testing.T) {
	iss, base := start(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	session, err := connect(ctx, base+"/account", iss.Token(base, bearertest.Claims{"sub": "alice"}))
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	for sub, status := range map[string]int{"alice": 200, "mallory": 403} {
		r, err := http.NewRequest("POST", base+"/account", strings.NewReader(`{"jsonrpc":"2.0","id":9,"method":"ping"}`))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Mcp-Session-Id", session.ID())
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Accept", "application/json, text/event-stream")
		resp, err := (&http.Client{Transport: withToken(iss.Token(base, bearertest.Claims{"sub": sub}))}).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != status {
			t.Errorf("%s: got status %d, want %d", sub, resp.StatusCode, status)
		}
	}
}

func TestRefusals(t *testing.T) {
	iss, base := start(t)
	valid := "Bearer " + iss.Token(base, nil)
	expired := "Bearer " + iss.Token(base, bearertest.Claims{"exp": time.Now().Add(-time.Hour).Unix()})
	for _, tt := range []struct {
		name          string
		path          string
		authorization []string
		status        int
		challenge     string
		code          string
	}{
		{"no token", "/account", nil, 401, `Bearer resource_metadata="%s"`, ""},
		{"two headers", "/account", []string{valid, valid}, 400, `Bearer error="invalid_request", resource_metadata="%s"`, "invalid_request"},
		{"expired", "/account", []string{expired}, 401, `Bearer error="invalid_token", resource_metadata="%s"`, "invalid_token"},
		{"scope: no token", "/messages", nil, 401, `Bearer scope="read:messages", resource_metadata="%s"`, ""},
		{"scope: expired", "/messages", []string{expired}, 401, `Bearer error="invalid_token", resource_metadata="%s"`, "invalid_token"},
		{"scope: none", "/messages", []string{valid}, 403, `Bearer error="insufficient_scope", scope="read:messages", resource_metadata="%s"`, "insufficient_scope"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			resp, body := apitest.Do(t, "POST", base+tt.path, tt.authorization...)
			if resp.StatusCode != tt.status {
				t.Errorf("got status %d, want %d", resp.StatusCode, tt.status)
			}
			apitest.CheckRefusal(t, resp, body, fmt.Sprintf(tt.challenge, base+"/.well-known/oauth-protected-resource"+tt.path), tt.code)
		})
	}
	iss, base = start(t)
	iss.SetDown(true)
	resp, body := apitest.Do(t, "POST", base+"/account", "Bearer "+iss.Token(base, nil))
	if resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" {
		t.Errorf("issuer down: got status %d, Retry-After %q", resp.StatusCode, resp.Header.Get("Retry-After"))
	}
	apitest.CheckRefusal(t, resp, body, "", "temporarily_unavailable")
}

// A client that has nothing but the URL of an endpoint learns whom to ask for a
// token, and for which scopes.
func TestMetadata(t *testing.T) {
	iss, base := start(t)
	for path, scopes := range map[string][]string{"/account": nil, "/messages": {"read:messages"}} {
		resp, _ := apitest.Do(t, "POST", base+path)
		challenges, err := oauthex.ParseWWWAuthenticate(resp.Header.Values("WWW-Authenticate"))
		if err != nil || len(challenges) != 1 {
			t.Fatalf("%s: got challenges %v (%v), want one", path, challenges, err)
		}
		metadata, err := oauthex.GetProtectedResourceMetadata(t.Context(), challenges[0].Params["resource_metadata"], base+path, http.DefaultClient)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(metadata.AuthorizationServers, []string{iss.URL}) || !slices.Equal(metadata.ScopesSupported, scopes) {
			t.Errorf("%s: got servers %q, scopes %q; want %q, %q", path, metadata.AuthorizationServers, metadata.ScopesSupported, iss.URL, scopes)
		}
	}
}

func TestBadAudience(t *testing.T) {
	for _, audience := range [][]string{nil, {""}, {"messages"}, {"https://mcp.example.com/mcp"}, {"https://mcp.example.com", "more"}} {
		if _, err := newAPI(bearer.Config{Issuer: "https://login.example.com/", Audience: audience}); err == nil {
			t.Errorf("%q: no error", audience)
		}
	}
}
