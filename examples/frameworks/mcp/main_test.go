package main

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
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

// start starts the API and returns the URL of its endpoint, which is the audience
// of the tokens.
func start(t *testing.T) (iss *bearertest.Issuer, resource string) {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	iss, config := apitest.New()
	config.Audience, config.Resource = nil, "http://"+server.Listener.Addr().String()+"/mcp"
	api, err := newAPI(config)
	if err != nil {
		t.Fatal(err)
	}
	server.Config.Handler = api
	server.Start()
	t.Cleanup(server.Close)
	return iss, config.Resource
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
	iss, resource := start(t)
	token := func(c bearertest.Claims) string { return iss.Token(resource, c) }
	alice := token(bearertest.Claims{"sub": "alice"})
	for _, tt := range []struct {
		name  string
		token string
		tool  string
		want  string // the tool's text; empty: no session, or no result
	}{
		{"no token", "", "whoami", ""},
		{"any token", alice, "whoami", "alice"},
		{"expired within the leeway", token(bearertest.Claims{"sub": "bob", "exp": time.Now().Add(-30 * time.Second).Unix()}), "whoami", "bob"},
		{"for another audience", iss.Token(apitest.Audience, nil), "whoami", ""},
		{"no scope", alice, "list", ""},
		{"scope", token(bearertest.Claims{"scope": "read:messages"}), "list", "here are your messages"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			session, err := connect(ctx, resource, tt.token)
			got := ""
			if err == nil {
				defer session.Close()
				var result *mcp.CallToolResult
				if result, err = session.CallTool(ctx, &mcp.CallToolParams{Name: tt.tool}); err == nil {
					got = result.Content[0].(*mcp.TextContent).Text
				}
			}
			if got != tt.want || (err != nil) != (tt.want == "") {
				t.Errorf("got %q, %v, want %q", got, err, tt.want)
			}
		})
	}
}

// post sends a message in the session of that id.
func post(t *testing.T, resource, token, session, message string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequest("POST", resource, strings.NewReader(message))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Mcp-Session-Id", session)
	r.Header.Set("Mcp-Protocol-Version", "2025-03-26") // the last one with batches
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json, text/event-stream")
	r.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

// Who learns the id of a session cannot speak in it with a token of his own.
func TestSessionBelongsToSubject(t *testing.T) {
	iss, resource := start(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	session, err := connect(ctx, resource, iss.Token(resource, bearertest.Claims{"sub": "alice"}))
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	for sub, status := range map[string]int{"alice": 200, "mallory": 403} {
		token := iss.Token(resource, bearertest.Claims{"sub": sub})
		if resp, _ := post(t, resource, token, session.ID(), `{"jsonrpc":"2.0","id":9,"method":"ping"}`); resp.StatusCode != status {
			t.Errorf("%s: got status %d, want %d", sub, resp.StatusCode, status)
		}
	}
}

func TestRefusals(t *testing.T) {
	iss, resource := start(t)
	valid := "Bearer " + iss.Token(resource, nil)
	expired := "Bearer " + iss.Token(resource, bearertest.Claims{"exp": time.Now().Add(-time.Hour).Unix()})
	metadata := `resource_metadata="` + strings.Replace(resource, "/mcp", "/.well-known/oauth-protected-resource/mcp", 1) + `"`
	for _, tt := range []struct {
		name          string
		authorization []string
		status        int
		challenge     string
		code          string
	}{
		{"no token", nil, 401, `Bearer `, ""},
		{"two headers", []string{valid, valid}, 400, `Bearer error="invalid_request", `, "invalid_request"},
		{"expired", []string{expired}, 401, `Bearer error="invalid_token", `, "invalid_token"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			resp, body := apitest.Do(t, "POST", resource, tt.authorization...)
			if resp.StatusCode != tt.status {
				t.Errorf("got status %d, want %d", resp.StatusCode, tt.status)
			}
			apitest.CheckRefusal(t, resp, body, tt.challenge+metadata, tt.code)
		})
	}

	// A tool that needs a scope more: a 403 that names it.
	resp, body := post(t, resource, iss.Token(resource, nil), "", callList)
	if resp.StatusCode != 403 {
		t.Errorf("a scope is missing: got %d, want 403", resp.StatusCode)
	}
	apitest.CheckRefusal(t, resp, body, `Bearer error="insufficient_scope", scope="read:messages", `+metadata, "insufficient_scope")

	iss, resource = start(t)
	iss.SetDown(true)
	resp, body = apitest.Do(t, "POST", resource, "Bearer "+iss.Token(resource, nil))
	if resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" {
		t.Errorf("issuer down: got status %d, Retry-After %q", resp.StatusCode, resp.Header.Get("Retry-After"))
	}
	apitest.CheckRefusal(t, resp, body, "", "temporarily_unavailable")
}

const callList = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"list"}}`

// A call that stepUp does not understand, as one in a batch, is refused by the tool.
func TestToolLooksAtScopes(t *testing.T) {
	iss, resource := start(t)
	for scope, want := range map[string]string{"": "the token lacks the scope read:messages", "read:messages": "here are your messages"} {
		token := iss.Token(resource, bearertest.Claims{"scope": scope})
		resp, _ := post(t, resource, token, "", `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-03-26","capabilities":{},"clientInfo":{"name":"test","version":"1"}}}`)
		id := resp.Header.Get("Mcp-Session-Id")
		post(t, resource, token, id, `{"jsonrpc":"2.0","method":"notifications/initialized"}`)
		if resp, body := post(t, resource, token, id, "["+callList+"]"); resp.StatusCode != 200 || !strings.Contains(body, want) {
			t.Errorf("scope %q: got %d %s, want %s", scope, resp.StatusCode, body, want)
		}
	}
}

// A client that has nothing but the URL of the endpoint learns whom to ask for a
// token.
func TestMetadata(t *testing.T) {
	iss, resource := start(t)
	resp, _ := apitest.Do(t, "POST", resource)
	challenges, err := oauthex.ParseWWWAuthenticate(resp.Header.Values("WWW-Authenticate"))
	if err != nil || len(challenges) != 1 {
		t.Fatalf("got challenges %v (%v), want one", challenges, err)
	}
	metadata, err := oauthex.GetProtectedResourceMetadata(t.Context(), challenges[0].Params["resource_metadata"], resource, http.DefaultClient)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(metadata.AuthorizationServers, []string{iss.URL}) {
		t.Errorf("got servers %q, want %q", metadata.AuthorizationServers, iss.URL)
	}
}

func TestBadResource(t *testing.T) {
	for _, resource := range []string{"", "messages", "https://mcp.example.com", "http://mcp.example.com/mcp"} {
		if _, err := newAPI(bearer.Config{Issuer: "https://login.example.com/", Resource: resource}); err == nil {
			t.Errorf("%q: no error", resource)
		}
	}
}

// The program in docs/mcp.md compiles, and is as short as it says. The rest of its
// code stands word for word in main.go.
func TestDocs(t *testing.T) {
	text, err := os.ReadFile("../../../docs/mcp.md")
	if err != nil {
		t.Fatal(err)
	}
	_, program, _ := strings.Cut(string(text), "```go\n")
	program, rest, _ := strings.Cut(program, "```")
	_, body, _ := strings.Cut(program, "func main() {\n")
	if lines := strings.Count(strings.TrimSpace(body), "\n"); lines < 5 || lines > 15 || strings.Count(program, `"example.com/`) != 1 {
		t.Errorf("the program has %d lines", lines)
	}
	file := filepath.Join(t.TempDir(), "main.go")
	if err := os.WriteFile(file, []byte(program), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("go", "vet", file).CombinedOutput(); err != nil {
		t.Errorf("%v:\n%s", err, out)
	}

	source, err := os.ReadFile("main.go")
	if err != nil {
		t.Fatal(err)
	}
	indent := regexp.MustCompile(`(?m)^\t+`)
	code := indent.ReplaceAllString(string(source), "")
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(rest, -1)
	if len(blocks) != 2 {
		t.Errorf("%d blocks of code besides, want 2", len(blocks))
	}
	for _, block := range blocks {
		if !strings.Contains(code, indent.ReplaceAllString(block[1], "")) {
			t.Errorf("main.go does not have this:\n%s", block[1])
		}
	}
}
