// Mcp is a small MCP server behind package bearer.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"log"
	"net/http"
	"net/url"
	"os"
	"slices"
	"time"

	"example.com/bearer"
	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "`host:port` to listen on")
	issuer := flag.String("issuer", os.Getenv("ISSUER"), "issuer `URL`, exactly as in the tokens; or set ISSUER")
	resource := flag.String("resource", os.Getenv("RESOURCE"), "`URL` of the endpoint, as its users type it, which the tokens are for; or set RESOURCE")
	flag.Parse()
	api, err := newAPI(bearer.Config{Issuer: *issuer, Resource: *resource})
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{Addr: *addr, Handler: api, ReadHeaderTimeout: 5 * time.Second}
	log.Fatal(server.ListenAndServe())
}

// newAPI returns an MCP endpoint at the path of config.Resource, and beside it the
// public metadata that tell clients where to get a token.
func newAPI(config bearer.Config) (http.Handler, error) {
	// What a client asks for that has not been told of a scope. Some authorization
	// servers refuse a login for none at all.
	config.Metadata = bearer.Metadata{Name: "Messages", Scopes: []string{"whoami"}}
	b, err := bearer.New(config)
	if err != nil {
		return nil, err
	}
	resource, err := url.Parse(config.Resource)
	if err != nil || resource.Path == "" {
		return nil, errors.New("the resource must be the URL of the endpoint, with its path")
	}
	root := http.NewServeMux()
	root.Handle(resource.Path, protect(b, endpoint()))
	b.HandleMetadata(root)
	return root, nil
}

// scopes are what some tools need besides a valid token.
var scopes = map[string]string{"list": "read:messages"}

// protect guards an MCP endpoint. Outside is b, which refuses: the refusals of the
// SDK's RequireBearerToken lack the error attribute, and it has no 503. Inside,
// RequireBearerToken hands the claims to the tools, which no one else can.
func protect(b *bearer.Middleware, next http.Handler) http.Handler {
	verify := func(_ context.Context, _ string, r *http.Request) (*auth.TokenInfo, error) {
		claims, ok := bearer.FromContext(r.Context())
		if !ok {
			return nil, auth.ErrInvalidToken
		}
		return &auth.TokenInfo{
			UserID:     claims.Issuer + " " + claims.Subject, // binds sessions to it
			Scopes:     slices.Collect(claims.Scope.All()),
			Expiration: claims.ExpiresAt,
			Extra:      map[string]any{"claims": claims},
		}, nil
	}
	// Without a skew it would refuse what passed outside within bearer's leeway.
	inner := auth.RequireBearerToken(verify, &auth.RequireBearerTokenOptions{ClockSkew: 10 * time.Minute})(next)
	return b.Handler(stepUp(b, inner))
}

// stepUp refuses calls of tools for which the token lacks a scope, with status 403
// and a challenge that names the scope, so that the client can ask its user for it.
// That must happen before the SDK begins its reply; and so it is not what keeps a
// tool safe, since it need not understand a message as the SDK does. The tool looks
// at the scopes itself.
func stepUp(b *bearer.Middleware, next http.Handler) http.Handler {
	tools := map[string]http.Handler{}
	for tool, scope := range scopes {
		tools[tool] = b.RequireScope(scope)(next)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
		if err != nil {
			http.Error(w, "the message is too long", http.StatusRequestEntityTooLarge)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		var message struct {
			Method string `json:"method"`
			Params struct {
				Name string `json:"name"`
			} `json:"params"`
		}
		json.Unmarshal(body, &message) // what is no message is the SDK's to refuse
		if tool := tools[message.Params.Name]; tool != nil && message.Method == "tools/call" {
			tool.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// endpoint returns an MCP server with two tools, which take nothing.
func endpoint() http.Handler {
	server := mcp.NewServer(&mcp.Implementation{Name: "messages", Version: "1"}, nil)
	add := func(name string, tool func(*bearer.Claims) string) {
		mcp.AddTool(server, &mcp.Tool{Name: name}, func(_ context.Context, r *mcp.CallToolRequest, _ struct{}) (*mcp.CallToolResult, any, error) {
			// The context of a tool belongs to the session. The claims of the
			// request at hand are in TokenInfo.
			claims := r.Extra.TokenInfo.Extra["claims"].(*bearer.Claims)
			if scope := scopes[name]; scope != "" && !claims.Scope.Has(scope) {
				return nil, nil, errors.New("the token lacks the scope " + scope)
			}
			return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: tool(claims)}}}, nil, nil
		})
	}
	add("whoami", func(c *bearer.Claims) string { return c.Subject })
	add("list", func(*bearer.Claims) string { return "here are your messages" })
	return mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, nil)
}
