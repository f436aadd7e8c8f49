package bearer_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"

	"example.com/bearer"
	"example.com/bearer/bearertest"
)

// A public route, a route for any valid token, and a route that needs a scope.
func Example() {
	iss := bearertest.NewIssuer("https://login.example.com/") // stands for your identity provider

	auth, err := bearer.New(bearer.Config{
		Issuer:   iss.URL,
		Audience: []string{"https://api.example.com"},
		Client:   iss.Client(),
	})
	if err != nil {
		log.Fatal(err)
	}

	api := http.NewServeMux()
	api.HandleFunc("GET /api/ping/secure", func(w http.ResponseWriter, r *http.Request) {
		claims, _ := bearer.FromContext(r.Context())
		fmt.Fprintf(w, "hello %s", claims.Subject)
	})
	read := auth.RequireScope("read:messages")
	api.Handle("GET /api/messages", read(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "you may read")
	})))

	root := http.NewServeMux()
	root.HandleFunc("GET /api/ping", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "pong")
	})
	root.Handle("/api/", auth.Handler(api))

	get := func(path, token string) {
		r := httptest.NewRequest("GET", path, nil)
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		w := httptest.NewRecorder()
		root.ServeHTTP(w, r)
		fmt.Println(path, w.Code, w.Header()["Www-Authenticate"])
	}
	alice := iss.Token("https://api.example.com", bearertest.Claims{"sub": "alice"})
	reader := iss.Token("https://api.example.com", bearertest.Claims{"scope": "read:messages"})
	get("/api/ping", "")
	get("/api/ping/secure", "")
	get("/api/ping/secure", alice)
	get("/api/messages", alice)
	get("/api/messages", reader)
	get("/api/anything/else", "")
	// Output:
	// /api/ping 200 []
	// /api/ping/secure 401 [Bearer]
	// /api/ping/secure 200 []
	// /api/messages 403 [Bearer error="insufficient_scope", scope="read:messages"]
	// /api/messages 200 []
	// /api/anything/else 401 [Bearer]
}

// newIssuer stands for your identity provider, and newAPI for the call of New
// that a program has once.
func newIssuer() *bearertest.Issuer { return bearertest.NewIssuer("https://login.example.com/") }

func newAPI(iss *bearertest.Issuer) *bearer.Middleware {
	auth, err := bearer.New(bearer.Config{
		Issuer:   iss.URL,
		Audience: []string{"https://api.example.com"},
		Client:   iss.Client(),
	})
	if err != nil {
		log.Fatal(err)
	}
	return auth
}

// request has h serve a request with the token, and prints what comes back.
func request(h http.Handler, method, path, token string) {
	r := httptest.NewRequest(method, path, nil)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	fmt.Println(method, path, w.Code, strings.TrimSpace(w.Body.String()))
}

// respond returns a handler that replies with a text.
func respond(text string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, text) })
}

// Reading needs one scope, writing needs two.
func ExampleMiddleware_RequireScope() {
	iss := newIssuer()
	auth := newAPI(iss)
	list, create := respond("list"), respond("created")

	api := http.NewServeMux()
	api.Handle("GET /api/messages", auth.RequireScope("read:messages")(list))
	api.Handle("POST /api/messages", auth.RequireScope("read:messages", "write:messages")(create))
	h := auth.Handler(api)

	token := iss.Token("https://api.example.com", bearertest.Claims{"scope": "openid read:messages"})
	request(h, "GET", "/api/messages", token)
	request(h, "POST", "/api/messages", token)
	// Output:
	// GET /api/messages 200 list
	// POST /api/messages 403 {"error":"insufficient_scope","error_description":"the token lacks a scope that this request needs"}
}

// Either scope opens the route.
func ExampleMiddleware_RequireAnyScope() {
	iss := newIssuer()
	auth := newAPI(iss)

	h := auth.RequireAnyScope("delete:messages", "admin")(respond("deleted"))

	request(h, "DELETE", "/api/messages", iss.Token("https://api.example.com", bearertest.Claims{"scope": "admin"}))
	request(h, "DELETE", "/api/messages", "")
	// Output:
	// DELETE /api/messages 200 deleted
	// DELETE /api/messages 401 {"error_description":"a bearer token is required"}
}

// A rule of your own: the user may see what is theirs.
func ExampleMiddleware_Require() {
	iss := newIssuer()
	auth := newAPI(iss)

	owner := auth.Require(func(r *http.Request, c *bearer.Claims) error {
		// A subject is one user's only together with its issuer.
		if c.Issuer != iss.URL || r.PathValue("user") != c.Subject {
			return errors.New("not the owner") // for the log; the client learns that it is forbidden
		}
		return nil
	})
	api := http.NewServeMux()
	api.Handle("GET /api/users/{user}", owner(respond("your data")))

	alice := iss.Token("https://api.example.com", bearertest.Claims{"sub": "alice"})
	request(api, "GET", "/api/users/alice", alice)
	request(api, "GET", "/api/users/bob", alice)
	// Output:
	// GET /api/users/alice 200 your data
	// GET /api/users/bob 403 {"error":"access_denied","error_description":"the token does not allow this request"}
}

// A page for everybody that knows its users.
func ExampleMiddleware_Optional() {
	iss := newIssuer()
	auth := newAPI(iss)

	h := auth.Optional(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if claims, ok := bearer.FromContext(r.Context()); ok {
			fmt.Fprintf(w, "hello %s", claims.Subject)
			return
		}
		fmt.Fprint(w, "hello stranger")
	}))

	request(h, "GET", "/", "")
	request(h, "GET", "/", iss.Token("https://api.example.com", bearertest.Claims{"sub": "alice"}))
	request(h, "GET", "/", "not a token")
	// Output:
	// GET / 200 hello stranger
	// GET / 200 hello alice
	// GET / 400 {"error":"invalid_request","error_description":"the header with the token is malformed"}
}

// Claims of your own, in a type of your own. A token that comes again is not
// decoded again.
func ExampleAs() {
	type account struct {
		Tenant string   `json:"tenant"`
		Roles  []string `json:"roles"`
	}
	iss := newIssuer()
	auth := newAPI(iss)

	h := auth.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		claims, _ := bearer.FromContext(r.Context())
		own, err := bearer.As[account](claims)
		if err != nil {
			http.Error(w, "unexpected claims", http.StatusForbidden)
			return
		}
		fmt.Fprintf(w, "%s of %s", own.Roles, own.Tenant)
	}))

	request(h, "GET", "/", iss.Token("https://api.example.com", bearertest.Claims{"tenant": "acme", "roles": []string{"editor"}}))
	// Output:
	// GET / 200 [editor] of acme
}

// A value of one's own, to be changed at will.
func ExampleClaims_Decode() {
	iss := newIssuer()
	auth := newAPI(iss)

	h := auth.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		claims, _ := bearer.FromContext(r.Context())
		var own struct {
			Roles []string `json:"roles"`
		}
		if err := claims.Decode(&own); err != nil {
			http.Error(w, "unexpected claims", http.StatusForbidden)
			return
		}
		slices.Sort(own.Roles)
		fmt.Fprint(w, own.Roles)
	}))

	request(h, "GET", "/", iss.Token("https://api.example.com", bearertest.Claims{"roles": []string{"editor", "author"}}))
	// Output:
	// GET / 200 [author editor]
}

// Replies in the form of RFC 9457. The headers that the reply needs are set
// before the handler runs.
func ExampleConfig_errorHandler() {
	iss := newIssuer()
	auth, err := bearer.New(bearer.Config{
		Issuer:   iss.URL,
		Audience: []string{"https://api.example.com"},
		Client:   iss.Client(),
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, e *bearer.Error) {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(e.Status)
			json.NewEncoder(w).Encode(map[string]any{"title": e.Description, "status": e.Status})
		},
	})
	if err != nil {
		log.Fatal(err)
	}

	request(auth.Handler(respond("")), "GET", "/", "")
	// Output:
	// GET / 401 {"status":401,"title":"a bearer token is required"}
}

// A test of a protected handler needs no server and no network.
func Example_testing() {
	iss := bearertest.NewIssuer("https://login.example.com/")
	auth, err := bearer.New(bearer.Config{
		Issuer:   iss.URL,
		Audience: []string{"https://api.example.com"},
		Client:   iss.Client(),
	})
	if err != nil {
		log.Fatal(err) // t.Fatal in a test
	}
	h := auth.RequireScope("read:messages")(respond("list")) // your handler

	r := httptest.NewRequest("GET", "/api/messages", nil)
	r.Header.Set("Authorization", "Bearer "+iss.Token("https://api.example.com", bearertest.Claims{"scope": "read:messages"}))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	fmt.Println(w.Code, w.Body)

	iss.SetDown(true) // the keys are at hand: nothing changes
	w = httptest.NewRecorder()
	h.ServeHTTP(w, r)
	fmt.Println(w.Code, w.Body)
	// Output:
	// 200 list
	// 200 list
}

// A handler by itself is tested with made-up claims.
func ExampleNewContext() {
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		claims, _ := bearer.FromContext(r.Context())
		fmt.Fprintf(w, "hello %s", claims.Subject)
	})

	ctx := bearer.NewContext(context.Background(), &bearer.Claims{Subject: "alice"})
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/", nil).WithContext(ctx))
	fmt.Println(w.Body)
	// Output:
	// hello alice
}

// A readiness probe: the API takes traffic once it could serve it.
func ExampleMiddleware_Ready() {
	iss := newIssuer()
	auth := newAPI(iss)
	ready := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := auth.Ready(r.Context()); err != nil {
			auth.WriteError(w, r, err)
			return
		}
		fmt.Fprint(w, "ready")
	})

	request(ready, "GET", "/readyz", "")
	// Output:
	// GET /readyz 200 ready
}

// Customers and partners come with tokens of different issuers, for different
// audiences.
func ExampleMiddleware_Or() {
	customerIssuer, partnerIssuer := bearertest.NewIssuer("https://customers.example.com"), bearertest.NewIssuer("https://partners.example.com")
	customers, err := bearer.New(bearer.Config{Issuer: customerIssuer.URL, Audience: []string{"shop"}, Client: customerIssuer.Client()})
	if err != nil {
		log.Fatal(err)
	}
	partners, err := bearer.New(bearer.Config{Issuer: partnerIssuer.URL, Audience: []string{"b2b"}, Client: partnerIssuer.Client()})
	if err != nil {
		log.Fatal(err)
	}
	auth := customers.Or(partners)
	h := auth.Handler(respond("welcome"))

	request(h, "GET", "/", customerIssuer.Token("shop", nil))
	request(h, "GET", "/", partnerIssuer.Token("b2b", nil))
	request(h, "GET", "/", partnerIssuer.Token("shop", nil))
	// Output:
	// GET / 200 welcome
	// GET / 200 welcome
	// GET / 401 {"error":"invalid_token","error_description":"the token's audience is not accepted"}
}

// Where there is no HTTP request, as with gRPC or a queue, Verify takes the bare
// token. The error's status tells what to reply.
func ExampleMiddleware_Verify() {
	iss := newIssuer()
	auth := newAPI(iss)
	intercept := func(ctx context.Context, metadata map[string]string) (context.Context, string) {
		token, ok := strings.CutPrefix(metadata["authorization"], "Bearer ")
		if !ok {
			return nil, "Unauthenticated"
		}
		claims, err := auth.Verify(ctx, token)
		var e *bearer.Error
		switch {
		case err == nil:
			return bearer.NewContext(ctx, claims), "OK"
		case errors.As(err, &e) && e.Status == http.StatusServiceUnavailable:
			return nil, "Unavailable"
		default:
			return nil, "Unauthenticated"
		}
	}

	ctx, code := intercept(context.Background(), map[string]string{"authorization": "Bearer " + iss.Token("https://api.example.com", nil)})
	claims, _ := bearer.FromContext(ctx)
	fmt.Println(code, claims.Subject)
	_, code = intercept(context.Background(), map[string]string{"authorization": "Bearer x.y.z"})
	fmt.Println(code)
	// Output:
	// OK user
	// Unauthenticated
}

// Health that a monitor can poll.
func ExampleMiddleware_KeyStats() {
	iss := newIssuer()
	auth := newAPI(iss)
	auth.Ready(context.Background())

	stats := auth.KeyStats()
	fmt.Println(stats.Keys, stats.Fetches, stats.Refused, stats.Err)
	// Output:
	// 1 1 0 <nil>
}

// Public routes are registered outside, and everything else below /api/ is
// closed, also what nobody has thought of yet.
func ExampleMiddleware_Handler() {
	iss := newIssuer()
	auth := newAPI(iss)
	ping, list, remove := respond("pong"), respond("list"), respond("removed")

	api := http.NewServeMux() // everything here needs a token
	api.Handle("GET /api/messages", auth.RequireScope("read:messages")(list))
	api.Handle("DELETE /api/messages", auth.RequireAnyScope("delete:messages", "admin")(remove))

	root := http.NewServeMux()
	root.Handle("GET /api/ping", ping)      // public: outside
	root.Handle("/api/", auth.Handler(api)) // the rest below /api/ is closed

	reader := iss.Token("https://api.example.com", bearertest.Claims{"scope": "read:messages"})
	request(root, "GET", "/api/ping", "")
	request(root, "GET", "/api/messages", reader)
	request(root, "GET", "/api/new", "")
	request(root, "GET", "/api/new", reader)
	// Output:
	// GET /api/ping 200 pong
	// GET /api/messages 200 list
	// GET /api/new 401 {"error_description":"a bearer token is required"}
	// GET /api/new 404 404 page not found
}
