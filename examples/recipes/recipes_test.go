package recipes

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cedar-policy/cedar-go"
	"github.com/coder/websocket"

	"example.com/bearer"
	"example.com/bearer/bearertest"
)

const audience = "https://api.example.com"

// newAuth returns an issuer and a Middleware that accepts its tokens.
func newAuth(t *testing.T, change func(*bearer.Config)) (*bearertest.Issuer, *bearer.Middleware) {
	t.Helper()
	iss := bearertest.NewIssuer("https://login.example.com/")
	cfg := bearer.Config{Issuer: iss.URL, Audience: []string{audience}, Client: iss.Client(), Logger: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&cfg)
	}
	auth, err := bearer.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return iss, auth
}

var whoAmI = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	claims, _ := bearer.FromContext(r.Context())
	fmt.Fprint(w, claims.Subject)
})

// The code on each page stands word for word in the recipe of that name, or in a test.
func TestPages(t *testing.T) {
	sources, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	var code strings.Builder
	for _, name := range sources {
		code.WriteString(flat(t, name))
	}
	for _, name := range []string{"cookie", "websocket", "streams", "policy", "ratelimit", "owner", "proxies"} {
		page := "../../docs/recipes/" + name + ".md"
		blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(flat(t, page), -1)
		if len(blocks) == 0 {
			t.Errorf("%s: no code", name)
		}
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		blocks = append(blocks, regexp.MustCompile("(?m)^    ([^\n]*auth[^\n]*\n)").FindAllStringSubmatch(string(text), -1)...)
		for _, block := range blocks {
			if !strings.Contains(code.String(), block[1]) {
				t.Errorf("%s: no recipe has this:\n%s", name, block[1])
			}
		}
	}
}

// use has the lines by which the pages say where a recipe goes.
func use(
	auth *bearer.Middleware, mux, root *http.ServeMux, api, read http.Handler, subscribe func() <-chan string,
	talk func(context.Context, *websocket.Conn) error, policies *cedar.PolicySet, entities cedar.EntityMap,
	load func(context.Context, string) (*message, error), serve func(http.ResponseWriter, *http.Request, *message),
) {
	http.Handle("/api/", cookie(auth, auth.Handler(api)))
	http.Handle("/chat", fromSubprotocol(auth, auth.Handler(chat(talk))))
	http.Handle("GET /events", auth.Handler(events(auth, subscribe)))
	mux.Handle("GET /documents/{id}", auth.Require(permits(policies, entities, "read"))(read))
	limits := newLimiter(10, 100) // ten a second, a hundred at once
	root.Handle("/api/", auth.Require(limits.check)(api))
	mux.Handle("GET /messages/{id}", owned(auth, load, serve))
}

var _ = use

func usePrivateIssuer(client *http.Client, audience []string) (*bearer.Middleware, error) {
	auth, err := bearer.New(bearer.Config{Issuer: "https://login.corp.example/", Audience: audience, Client: client})
	return auth, err
}

var _ = usePrivateIssuer

// flat is a file's text with each line trimmed.
func flat(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for line := range strings.Lines(string(text)) {
		b.WriteString(strings.TrimSpace(line) + "\n")
	}
	return b.String()
}

func TestCookie(t *testing.T) {
	iss, auth := newAuth(t, nil)
	api := cookie(auth, auth.Handler(whoAmI))
	rec := httptest.NewRecorder()
	setTokenCookie(rec, iss.Token(audience, bearertest.Claims{"sub": "alice"}), time.Now().Add(time.Hour))
	for _, attribute := range []string{"__Host-token=", "; Path=/;", "; HttpOnly;", "; Secure;", "; SameSite=Lax"} {
		if got := rec.Header().Get("Set-Cookie"); !strings.Contains(got, attribute) || strings.Contains(got, "Domain") {
			t.Errorf("got %s, want %s", got, attribute)
		}
	}
	good, _, _ := strings.Cut(rec.Header().Get("Set-Cookie"), ";")
	bob := iss.Token(audience, bearertest.Claims{"sub": "bob"})
	for _, tt := range []struct {
		name, method  string
		cookie        string
		authorization string
		site          string // Sec-Fetch-Site
		status        int
		body          string
	}{
		{"a cookie", "GET", good, "", "same-origin", 200, "alice"},
		{"a cookie, to change something", "POST", good, "", "same-origin", 200, "alice"},
		{"a cookie, without a browser", "POST", good, "", "", 200, "alice"},
		{"a header", "POST", "", "Bearer " + bob, "cross-site", 200, "bob"},
		{"neither", "GET", "other=1", "", "same-origin", 401, ""},
		{"a cookie from another site", "POST", good, "", "cross-site", 403, "another site"},
		{"a cookie by a link of another site", "GET", good, "", "cross-site", 200, "alice"},
		{"a bad cookie", "GET", good + "x", "", "same-origin", 401, "invalid_token"},
		{"a cookie and a header", "GET", good, "Bearer " + bob, "same-origin", 400, "more than one"},
		{"two cookies", "GET", good + "; " + good, "", "same-origin", 400, "more than one"},
		{"a cookie without the prefix", "GET", strings.TrimPrefix(good, "__Host-"), "", "same-origin", 401, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest(tt.method, "https://api.example.com/", nil)
			for name, value := range map[string]string{"Cookie": tt.cookie, "Authorization": tt.authorization, "Sec-Fetch-Site": tt.site} {
				if value != "" {
					r.Header.Set(name, value)
				}
			}
			rec := httptest.NewRecorder()
			api.ServeHTTP(rec, r)
			if rec.Code != tt.status || !strings.Contains(rec.Body.String(), tt.body) {
				t.Errorf("got %d %s, want %d %s", rec.Code, rec.Body, tt.status, tt.body)
			}
		})
	}
}

func TestWebsocket(t *testing.T) {
	iss, auth := newAuth(t, nil)
	server := httptest.NewServer(fromSubprotocol(auth, auth.Handler(chat(func(ctx context.Context, conn *websocket.Conn) error {
		claims, _ := bearer.FromContext(ctx)
		if err := conn.Write(ctx, websocket.MessageText, []byte("hello "+claims.Subject)); err != nil {
			return err
		}
		_, _, err := conn.Read(ctx) // until the client has said something, or is gone
		return err
	}))))
	defer server.Close()
	token := func(exp time.Duration) string {
		return "bearer." + iss.Token(audience, bearertest.Claims{"sub": "alice", "exp": time.Now().Add(exp).Unix()})
	}
	for _, tt := range []struct {
		name      string
		protocols []string
		header    http.Header
		status    int // of the reply, if it is no websocket
		closed    websocket.StatusCode
	}{
		{"a token", []string{"messages.v1", token(time.Hour)}, nil, 101, websocket.StatusNormalClosure},
		{"a token in the header", []string{"messages.v1"}, http.Header{"Authorization": {"Bearer " + token(time.Hour)[7:]}}, 101, websocket.StatusNormalClosure},
		{"none", []string{"messages.v1"}, nil, 401, 0},
		{"two", []string{token(time.Hour), "messages.v1", token(time.Hour)}, nil, 400, 0},
		{"one in each place", []string{token(time.Hour)}, http.Header{"Authorization": {"Basic YTpi"}}, 400, 0},
		{"expired", []string{"messages.v1", token(-time.Hour)}, nil, 401, 0},
		{"expired within the leeway", []string{"messages.v1", token(-time.Second)}, nil, 101, websocket.StatusPolicyViolation},
		{"from another origin", []string{"messages.v1", token(time.Hour)}, http.Header{"Origin": {"https://evil.example"}}, 403, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			conn, resp, err := websocket.Dial(t.Context(), server.URL, &websocket.DialOptions{Subprotocols: tt.protocols, HTTPHeader: tt.header})
			if resp == nil || resp.StatusCode != tt.status {
				t.Fatalf("got %v, %v, want %d", resp, err, tt.status)
			}
			if got := resp.Header.Get("Sec-WebSocket-Protocol"); strings.Contains(got, "bearer") {
				t.Errorf("the token came back: %s", got)
			}
			if err != nil {
				return
			}
			defer conn.CloseNow()
			_, got, err := conn.Read(t.Context())
			if tt.closed == websocket.StatusNormalClosure {
				if err != nil || string(got) != "hello alice" || conn.Subprotocol() != "messages.v1" {
					t.Errorf("got %q, %v, subprotocol %q", got, err, conn.Subprotocol())
				}
				conn.Write(t.Context(), websocket.MessageText, []byte("bye"))
			}
			for err == nil {
				_, _, err = conn.Read(t.Context())
			}
			if got := websocket.CloseStatus(err); got != tt.closed {
				t.Errorf("closed with %v (%v), want %v", got, err, tt.closed)
			}
		})
	}
}

// Nobody behind fromSubprotocol sees the token among the protocols.
func TestSubprotocols(t *testing.T) {
	iss, auth := newAuth(t, nil)
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Sec-WebSocket-Protocol", "messages.v1, bearer."+iss.Token(audience, nil)+", other")
	fromSubprotocol(auth, auth.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if got := r.Header.Get("Sec-WebSocket-Protocol"); got != "messages.v1, other" {
			t.Errorf("got %s", got)
		}
	}))).ServeHTTP(httptest.NewRecorder(), r)
}

func TestStreams(t *testing.T) {
	for _, tt := range []struct {
		name   string
		revoke time.Duration // after which the token is revoked
		last   time.Duration // by when the stream must have ended
	}{
		{"until the token has expired", 0, time.Hour + 90*time.Second}, // with the leeway
		{"until it was revoked", 10 * time.Minute, 10*time.Minute + 30*time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begin := time.Now()
				iss, auth := newAuth(t, func(cfg *bearer.Config) {
					cfg.Revoked = func(context.Context, *bearer.Claims) (bool, error) {
						return tt.revoke > 0 && time.Since(begin) >= tt.revoke, nil
					}
				})
				messages := make(chan string, 1)
				messages <- "hello"
				r := httptest.NewRequest("GET", "/", nil)
				r.Header.Set("Authorization", "Bearer "+iss.Token(audience, nil))
				rec := httptest.NewRecorder()
				auth.Handler(events(auth, func() <-chan string { return messages })).ServeHTTP(rec, r)
				if got, want := rec.Body.String(), "data: hello\n\nevent: reauthenticate\ndata:\n\n"; got != want {
					t.Errorf("got %q, want %q", got, want)
				}
				if lasted := time.Since(begin); lasted > tt.last || lasted < tt.last-time.Minute {
					t.Errorf("it lasted %v, want %v", lasted, tt.last)
				}
			})
		})
	}
}

func TestPolicy(t *testing.T) {
	iss, auth := newAuth(t, nil)
	const text = `
permit (principal == User::"https://login.example.com/ alice", action == Action::"read", resource)
when { context.scopes.contains("read:documents") };
permit (principal, action, resource) when { resource in Folder::"public" };
forbid (principal, action, resource == Document::"secret") when { context.nothing == 1 };
`
	policies, err := cedar.NewPolicySetFromBytes("policy.cedar", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	handbook := cedar.NewEntityUID("Document", "handbook")
	entities := cedar.EntityMap{handbook: {UID: handbook, Parents: cedar.NewEntityUIDSet(cedar.NewEntityUID("Folder", "public"))}}
	mux := http.NewServeMux()
	mux.Handle("GET /documents/{id}", auth.Require(permits(policies, entities, "read"))(whoAmI))
	mux.Handle("DELETE /documents/{id}", auth.Require(permits(policies, entities, "delete"))(whoAmI))
	for _, tt := range []struct {
		name, request string
		claims        bearertest.Claims
		status        int
	}{
		{"permitted", "GET /documents/1", bearertest.Claims{"sub": "alice", "scope": "read:documents"}, 200},
		{"another action", "DELETE /documents/1", bearertest.Claims{"sub": "alice", "scope": "read:documents"}, 403},
		{"without the scope", "GET /documents/1", bearertest.Claims{"sub": "alice"}, 403},
		{"another user", "GET /documents/1", bearertest.Claims{"sub": "bob", "scope": "read:documents"}, 403},
		{"in the public folder", "GET /documents/handbook", bearertest.Claims{"sub": "bob"}, 200},
		{"a policy that fails", "GET /documents/secret", bearertest.Claims{"sub": "alice", "scope": "read:documents"}, 403},
		{"no token", "GET /documents/handbook", nil, 401},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if rec := do(iss, mux, tt.request, tt.claims); rec.Code != tt.status {
				t.Errorf("got %d %s, want %d", rec.Code, rec.Body, tt.status)
			}
		})
	}
}

// do sends a request with a token of the given claims, or without one.
func do(iss *bearertest.Issuer, h http.Handler, request string, claims bearertest.Claims) *httptest.ResponseRecorder {
	method, path, _ := strings.Cut(request, " ")
	r := httptest.NewRequest(method, path, nil)
	if claims != nil {
		r.Header.Set("Authorization", "Bearer "+iss.Token(audience, claims))
	}
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, r)
	return rec
}

func TestRateLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		iss, auth := newAuth(t, nil)
		limits := newLimiter(1, 2) // two at once, then one per second
		api := auth.Require(limits.check)(whoAmI)
		for _, tt := range []struct {
			after  time.Duration
			client string // empty: no token
			status int
			retry  string
		}{
			{0, "one", 200, ""},
			{0, "one", 200, ""},
			{0, "one", 429, "1"},
			{0, "another", 200, ""},
			{0, "", 401, ""},
			{time.Second, "one", 200, ""},
			{0, "one", 429, "1"},
		} {
			time.Sleep(tt.after)
			var claims bearertest.Claims
			if tt.client != "" {
				claims = bearertest.Claims{"client_id": tt.client}
			}
			if rec := do(iss, api, "GET /", claims); rec.Code != tt.status || rec.Header().Get("Retry-After") != tt.retry {
				t.Errorf("%q: got %d, Retry-After %q, want %d, %q", tt.client, rec.Code, rec.Header().Get("Retry-After"), tt.status, tt.retry)
			}
		}
		if got := len(limits.clients); got != 2 {
			t.Errorf("%d clients are known, want 2", got)
		}
		for i := range 20000 {
			limits.of(client{id: fmt.Sprint(i)})
		}
		if got := len(limits.clients); got > 10001 {
			t.Errorf("%d clients are known", got)
		}
	})
}

func TestOwner(t *testing.T) {
	iss, auth := newAuth(t, nil)
	loads := 0
	load := func(_ context.Context, id string) (*message, error) {
		loads++
		switch id {
		case "1":
			return &message{iss.URL, "alice", "hello"}, nil
		case "2":
			return &message{"https://other.example.com/", "alice", "not hers"}, nil
		case "broken":
			return nil, errors.New("no connection")
		}
		return nil, errNotFound
	}
	mux := http.NewServeMux()
	mux.Handle("GET /messages/{id}", owned(auth, load, func(w http.ResponseWriter, _ *http.Request, m *message) { fmt.Fprint(w, m.Text) }))
	for _, tt := range []struct {
		name, id, subject string
		status, loads     int
		body              string
	}{
		{"the owner's", "1", "alice", 200, 1, "hello"},
		{"another's", "1", "bob", 404, 1, "there is no such message"},
		{"one that there is not", "3", "alice", 404, 1, "there is no such message"},
		{"of a user of the same name", "2", "alice", 404, 1, "there is no such message"},
		{"cannot be loaded", "broken", "alice", 503, 1, "try again later"},
		{"no token", "1", "", 401, 0, "a bearer token is required"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			loads = 0
			var claims bearertest.Claims
			if tt.subject != "" {
				claims = bearertest.Claims{"sub": tt.subject}
			}
			rec := do(iss, mux, "GET /messages/"+tt.id, claims)
			if rec.Code != tt.status || loads != tt.loads || !strings.Contains(rec.Body.String(), tt.body) {
				t.Errorf("got %d %s after %d loads, want %d %s after %d", rec.Code, rec.Body, loads, tt.status, tt.body, tt.loads)
			}
		})
	}
}

func TestPrivateIssuer(t *testing.T) {
	var iss *bearertest.Issuer
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { iss.ServeHTTP(w, r) }))
	defer server.Close()
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	iss = bearertest.NewIssuer(server.URL)
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	client, err := privateIssuer(authority)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		client *http.Client
		status int
	}{{client, 200}, {nil, 503}} {
		_, auth := newAuth(t, func(cfg *bearer.Config) { cfg.Issuer, cfg.Client = iss.URL, tt.client })
		if rec := do(iss, auth.Handler(whoAmI), "GET /", bearertest.Claims{}); rec.Code != tt.status {
			t.Errorf("client %v: got %d, want %d", tt.client, rec.Code, tt.status)
		}
	}
	if _, err := privateIssuer([]byte("nonsense")); err == nil {
		t.Error("nonsense is no authority")
	}
}

func TestProxy(t *testing.T) {
	iss := bearertest.NewIssuer("https://login.example.com/")
	auth, err := bearer.New(behindProxy(bearer.Config{Issuer: iss.URL, Client: iss.Client(), Logger: slog.New(slog.DiscardHandler)}, netip.MustParsePrefix("10.0.0.0/8")))
	if err != nil {
		t.Fatal(err)
	}
	client := bearertest.NewClient()
	const resource = "https://api.example.com/v1"
	byKey := iss.Token(resource, bearertest.Claims{"cnf": bearertest.Claims{"jkt": client.KeyThumbprint}})
	byCertificate := iss.Token(resource, bearertest.Claims{"cnf": bearertest.Claims{"x5t#S256": client.CertThumbprint}})
	certificate := ":" + base64.StdEncoding.EncodeToString(client.Certificate.Certificate[0]) + ":"
	for _, tt := range []struct {
		name                 string
		scheme, token, proof string // the URL that the proof is for
		peer, certificate    string
		status               int
	}{
		{"a proof for the URL that clients know", "DPoP", byKey, resource + "/messages", "", "", 200},
		{"a proof for the URL that the proxy asks", "DPoP", byKey, "https://api.example.com/messages", "", "", 401},
		{"a certificate from the proxy", "Bearer", byCertificate, "", "10.1.2.3:4", certificate, 200},
		{"a certificate from elsewhere", "Bearer", byCertificate, "", "192.0.2.1:4", certificate, 401},
		{"no certificate", "Bearer", byCertificate, "", "10.1.2.3:4", "", 401},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest("GET", "/messages", nil) // without the prefix
			r.RemoteAddr = cmp.Or(tt.peer, r.RemoteAddr)
			r.Header.Set("Authorization", tt.scheme+" "+tt.token)
			if tt.proof != "" {
				r.Header.Set("DPoP", client.Proof("GET", tt.proof, tt.token, nil))
			}
			if tt.certificate != "" {
				r.Header.Set("Client-Cert", tt.certificate)
			}
			rec := httptest.NewRecorder()
			auth.Handler(whoAmI).ServeHTTP(rec, r)
			if rec.Code != tt.status {
				t.Errorf("got %d %s, want %d", rec.Code, rec.Body, tt.status)
			}
		})
	}
}
