package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/modelcontextprotocol/go-sdk/oauthex"
)

const redirect = "http://127.0.0.1/callback"

// A visit is what a client did: what the tools said, and what the user was asked for,
// each time that there was something to agree to.
type visit struct {
	WhoAmI string  `json:"whoami"`
	List   string  `json:"list"`
	Asked  []asked `json:"asked"`
}

type asked struct {
	Scope    string `json:"scope"`
	Resource string `json:"resource"`
}

// The real clients of MCP get into an endpoint of which they know nothing but the
// URL. They log in as the 401 and the metadata say, with the endpoint as the audience;
// and once more when a 403 names a scope that one tool needs.
func TestMCP(t *testing.T) {
	t.Parallel()
	addr, issuerAddr := freeAddr(t), freeAddr(t)
	endpoint, issuer := "http://"+addr+"/mcp", "http://"+issuerAddr

	_, port, _ := net.SplitHostPort(issuerAddr)
	cmd := exec.Command("node", "server.js", port, issuer, "ES256")
	cmd.Dir = installNode(t, "oidc-provider")
	node := startProcess(t, cmd)
	k := newKey(t, jose.ES256)
	jwks, err := json.Marshal([]jose.JSONWebKey{{KeyID: k.id, Use: "sig", Key: k.private}})
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(node.stdin, "%s\n", jwks)
	node.await(t, "ready")
	startProcess(t, exec.Command(mcpServer, "-addr", addr, "-issuer", issuer, "-resource", endpoint))
	for began := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		if conn, err := net.Dial("tcp", addr); err == nil {
			conn.Close()
			break
		} else if time.Since(began) > startPatience {
			t.Fatal(err)
		}
	}

	for _, tt := range []struct {
		name   string
		visit  func(*testing.T, string) visit
		second string // the scope that it asks for after the 403
	}{
		{"TypeScript SDK", visitWithTypeScript, "read:messages"},
		{"Go SDK", visitWithGo, "read:messages whoami"}, // with what it has, in any order
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := tt.visit(t, endpoint)
			for i, a := range got.Asked {
				scopes := strings.Fields(a.Scope)
				slices.Sort(scopes)
				got.Asked[i].Scope = strings.Join(scopes, " ")
			}
			want := visit{"alice", "here are your messages", []asked{{"whoami", endpoint}, {tt.second, endpoint}}}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
		})
	}
}

func visitWithTypeScript(t *testing.T, endpoint string) visit {
	dir := installNode(t, "mcp-client")
	ctx, cancel := context.WithTimeout(t.Context(), startPatience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", "client.js", endpoint, redirect)
	cmd.Dir, cmd.Stderr = dir, t.Output()
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var v visit
	if err := json.Unmarshal(out, &v); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return v
}

func visitWithGo(t *testing.T, endpoint string) visit {
	ctx, cancel := context.WithTimeout(t.Context(), startPatience)
	defer cancel()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	browser := &http.Client{Jar: jar, CheckRedirect: func(r *http.Request, via []*http.Request) error {
		if len(via) > 10 {
			return errors.New("too many redirects")
		}
		if strings.HasPrefix(r.URL.String(), redirect) {
			return http.ErrUseLastResponse
		}
		return nil
	}}
	var v visit
	login := func(_ context.Context, args *auth.AuthorizationArgs) (*auth.AuthorizationResult, error) {
		u, err := url.Parse(args.URL)
		if err != nil {
			return nil, err
		}
		v.Asked = append(v.Asked, asked{u.Query().Get("scope"), u.Query().Get("resource")})
		resp, err := browser.Get(args.URL)
		if err != nil {
			return nil, err
		}
		resp.Body.Close()
		back, err := resp.Location()
		if err != nil {
			return nil, errors.New("no way back from " + resp.Request.URL.String())
		}
		q := back.Query()
		if q.Get("code") == "" {
			return nil, errors.New("no code comes back: " + back.String())
		}
		return &auth.AuthorizationResult{Code: q.Get("code"), State: q.Get("state"), Iss: q.Get("iss")}, nil
	}
	handler, err := auth.NewAuthorizationCodeHandler(&auth.AuthorizationCodeHandlerConfig{
		PreregisteredClient:      &oauthex.ClientCredentials{ClientID: "mcp"},
		RedirectURL:              redirect,
		AuthorizationCodeFetcher: login,
		Client:                   client,
	})
	if err != nil {
		t.Fatal(err)
	}
	session, err := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil).
		Connect(ctx, &mcp.StreamableClientTransport{Endpoint: endpoint, OAuthHandler: handler, MaxRetries: -1}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	call := func(tool string) string {
		result, err := session.CallTool(ctx, &mcp.CallToolParams{Name: tool})
		if err != nil {
			t.Fatalf("%s: %v", tool, err)
		}
		return result.Content[0].(*mcp.TextContent).Text
	}
	v.WhoAmI, v.List = call("whoami"), call("list")
	return v
}
