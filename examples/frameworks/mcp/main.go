// Mcp is a small MCP server behind package bearer.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"example.com/bearer"
	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/modelcontextprotocol/go-sdk/oauthex"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "`host:port` to listen on")
	issuer := flag.String("issuer", os.Getenv("ISSUER"), "issuer `URL`, exactly as in the tokens; or set ISSUER")
	audience := flag.String("audience", os.Getenv("AUDIENCE"), "`URL` of this server without a path, which the tokens are for; or set AUDIENCE")
	flag.Parse()
	api, err := newAPI(bearer.Config{Issuer: *issuer, Audience: []string{*audience}})
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{Addr: *addr, Handler: api, ReadHeaderTimeout: 5 * time.Second}
	log.Fatal(server.ListenAndServe())
}

// protect returns a wrapper for MCP endpoints. Outside is middleware of b, such
// as b.Handler, which refuses: the refusals of RequireBearerToken lack the error
// attribute, and it has no 503. Inside, RequireBearerToken hands the claims to
// the tools, which no one else can.
func protect(b *bearer.Middleware, middleware func(http.Handler) http.Handler) func(http.Handler) http.Handler {
	verify := func(_ context.Context, _ string, r *http.Request) (*auth.TokenInfo, error) {
		claims, err := b.Authenticate(r) // no work, since middleware has done it
		if err != nil {
			return nil, auth.ErrInvalidToken // and not err: the client would see its text
		}
		return &auth.TokenInfo{
			UserID:     claims.Subject, // binds sessions to it
			Scopes:     slices.Collect(claims.Scope.All()),
			Expiration: claims.ExpiresAt,
			Extra:      map[string]any{"claims": claims},
		}, nil
	}
	// Without a skew it would refuse what passed outside within bearer's leeway.
	options := &auth.RequireBearerTokenOptions{ClockSkew: 10 * time.Minute}
	return func(next http.Handler) http.Handler {
		return middleware(auth.RequireBearerToken(verify, options)(next))
	}
}

const wellKnown = "/.well-known/oauth-protected-resource" // RFC 9728

// newAPI returns two MCP endpoints, and for each the public metadata that tells
// clients where to get a token. Which scopes a request needs is decided by its
// path, before any message is read. So tools that need others have an endpoint
// of their own, or look at the scopes in TokenInfo.
func newAPI(config bearer.Config) (http.Handler, error) {
	if len(config.Audience) != 1 {
		return nil, fmt.Errorf("audience: got %q, want one", config.Audience)
	}
	origin := strings.TrimSuffix(config.Audience[0], "/")
	if u, err := url.Parse(origin); err != nil || u.Host == "" || u.Scheme+"://"+u.Host != origin {
		return nil, fmt.Errorf("audience: %q is not the URL of a server", config.Audience[0])
	}
	const account, messages = "/account", "/messages"
	// Clients ask for tokens for the endpoint that they are going to use.
	config.Audience = []string{config.Audience[0], origin + account, origin + messages}
	config.ErrorHandler = errorHandler(origin)
	b, err := bearer.New(config)
	if err != nil {
		return nil, err
	}
	root := http.NewServeMux()
	root.Handle(account, protect(b, b.Handler)(endpoint("whoami", whoAmI)))
	root.Handle(messages, protect(b, b.RequireScope("read:messages"))(endpoint("list", list)))
	for path, scopes := range map[string][]string{account: nil, messages: {"read:messages"}} {
		root.Handle(wellKnown+path, auth.ProtectedResourceMetadataHandler(&oauthex.ProtectedResourceMetadata{
			Resource:             origin + path, // clients insist on the URL that they use
			AuthorizationServers: []string{config.Issuer},
			ScopesSupported:      scopes,
		}))
	}
	return root, nil
}

// errorHandler adds to the challenge where the endpoint's metadata is.
func errorHandler(origin string) func(http.ResponseWriter, *http.Request, *bearer.Error) {
	return func(w http.ResponseWriter, r *http.Request, e *bearer.Error) {
		if challenge := w.Header().Get("WWW-Authenticate"); challenge != "" {
			separator := ", "
			if challenge == "Bearer" {
				separator = " "
			}
			w.Header().Set("WWW-Authenticate", fmt.Sprintf("%s%sresource_metadata=\"%s\"", challenge, separator, origin+wellKnown+r.URL.Path))
		}
		code := e.Code
		if e.Status == http.StatusServiceUnavailable {
			code = "temporarily_unavailable"
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(e.Status)
		json.NewEncoder(w).Encode(struct {
			Code        string `json:"error,omitempty"`
			Description string `json:"error_description"`
		}{code, e.Description})
	}
}

// endpoint returns an MCP server with one tool, which takes nothing and returns
// a text.
func endpoint(name string, tool func(*mcp.CallToolRequest) string) http.Handler {
	server := mcp.NewServer(&mcp.Implementation{Name: "messages", Version: "1"}, nil)
	mcp.AddTool(server, &mcp.Tool{Name: name}, func(_ context.Context, r *mcp.CallToolRequest, _ struct{}) (*mcp.CallToolResult, any, error) {
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: tool(r)}}}, nil, nil
	})
	return mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, nil)
}

// whoAmI reads the claims of the request at hand. The context of a tool belongs
// to the session and does not have them.
func whoAmI(r *mcp.CallToolRequest) string {
	claims := r.Extra.TokenInfo.Extra["claims"].(*bearer.Claims)
	return claims.Subject
}

func list(*mcp.CallToolRequest) string { return "here are your messages" }
