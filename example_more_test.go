package bearer_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"time"

	"example.com/bearer"
	"example.com/bearer/bearertest"
)

// All that is wrong with a Config is told at once.
func ExampleNew() {
	_, err := bearer.New(bearer.Config{Issuer: "login.example.com", Leeway: time.Hour})
	fmt.Println(err)
	// Output:
	// bearer: Config.Leeway: 1h0m0s is more than 10m0s
	// bearer: Config.Issuer: "login.example.com" is not an absolute https URL without user and fragment; or set JWKSURL or FetchKeys
	// bearer: Config.Audience: required: the "aud" of tokens that are meant for this API
}

// A framework whose handlers return errors, and who replies to those in one place.
func ExampleMiddleware_Authenticate() {
	iss := newIssuer()
	auth := newAPI(iss)
	hello := func(w http.ResponseWriter, r *http.Request) error {
		claims, err := auth.Authenticate(r)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "hello %s", claims.Subject)
		return nil
	}
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := hello(w, r); err != nil {
			auth.WriteError(w, r, err)
		}
	})

	request(h, "GET", "/", iss.Token("https://api.example.com", nil))
	request(h, "GET", "/", "")
	// Output:
	// GET / 200 hello user
	// GET / 401 {"error_description":"a bearer token is required"}
}

// A handler that finds out late that the token does not suffice.
func ExampleMiddleware_WriteError() {
	iss := newIssuer()
	auth := newAPI(iss)
	h := auth.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if claims, _ := bearer.FromContext(r.Context()); !claims.Scope.Has("export") {
			auth.WriteError(w, r, &bearer.Error{
				Status: http.StatusForbidden, Code: "insufficient_scope", Scope: "export", Reason: "large_result",
				Description: "more than 1000 rows need another scope",
			})
			return
		}
		fmt.Fprint(w, "all rows")
	}))

	request(h, "GET", "/rows", iss.Token("https://api.example.com", nil))
	request(h, "GET", "/rows", iss.Token("https://api.example.com", bearertest.Claims{"scope": "export"}))
	// Output:
	// GET /rows 403 {"error":"insufficient_scope","error_description":"more than 1000 rows need another scope"}
	// GET /rows 200 all rows
}

// What went wrong, for a program: by Reason, which does not change, and by the cause.
func ExampleError() {
	iss := newIssuer()
	auth := newAPI(iss)
	_, err := auth.Verify(context.Background(), iss.Token("https://api.example.org", nil))

	var e *bearer.Error
	if errors.As(err, &e) {
		fmt.Println(e.Status, e.Code, e.Reason)
	}
	fmt.Println(err)
	// Output:
	// 401 invalid_token audience
	// bearer: the token's audience is not accepted: audience: aud is "https://api.example.org", want https://api.example.com
}

// Replies as they are, with a header more.
func ExampleDefaultErrorHandler() {
	iss := newIssuer()
	auth, err := bearer.New(bearer.Config{
		Issuer:   iss.URL,
		Audience: []string{"https://api.example.com"},
		Client:   iss.Client(),
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, e *bearer.Error) {
			w.Header().Set("Link", `<https://docs.example.com/errors>; rel="help"`)
			bearer.DefaultErrorHandler(w, r, e)
		},
	})
	if err != nil {
		log.Fatal(err)
	}

	w := httptest.NewRecorder()
	auth.Handler(respond("")).ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	fmt.Println(w.Code, w.Header()["Link"], w.Body)
	// Output:
	// 401 [<https://docs.example.com/errors>; rel="help"] {"error_description":"a bearer token is required"}
}

// Verdicts are counted by reason. Neither it nor the issuer can be made up by a
// stranger.
func ExampleOutcome() {
	iss := newIssuer()
	counts := make(map[string]int) // a metric, in a real program, and safe for concurrent use
	auth, err := bearer.New(bearer.Config{
		Issuer:   iss.URL,
		Audience: []string{"https://api.example.com"},
		Client:   iss.Client(),
		Observe: func(ctx context.Context, o bearer.Outcome) {
			reason := "accepted"
			if o.Err != nil {
				reason = o.Err.Reason
			}
			counts[reason+" "+o.Issuer]++
		},
	})
	if err != nil {
		log.Fatal(err)
	}

	h := auth.Handler(respond("hello"))
	request(h, "GET", "/", iss.Token("https://api.example.com", nil))
	request(h, "GET", "/", iss.Token("https://api.example.com", bearertest.Claims{"exp": time.Now().Add(-time.Hour)}))
	fmt.Println(counts)
	// Output:
	// GET / 200 hello
	// GET / 401 {"error":"invalid_token","error_description":"the token has expired"}
	// map[accepted https://login.example.com/:1 expired https://login.example.com/:1]
}

// Payments need a login by a second factor, not older than ten minutes.
func ExampleMiddleware_RequireAuthentication() {
	iss := newIssuer()
	auth := newAPI(iss)
	pay := auth.RequireAuthentication(bearer.Authentication{ACR: []string{"mfa"}, MaxAge: 10 * time.Minute})(respond("paid"))

	w := httptest.NewRecorder()
	r := httptest.NewRequest("POST", "/payments", nil)
	r.Header.Set("Authorization", "Bearer "+iss.Token("https://api.example.com", bearertest.Claims{"acr": "password", "auth_time": time.Now()}))
	pay.ServeHTTP(w, r)
	fmt.Println(w.Code, w.Header().Get("WWW-Authenticate"))
	request(pay, "POST", "/payments", iss.Token("https://api.example.com", bearertest.Claims{"acr": "mfa", "auth_time": time.Now()}))
	// Output:
	// 401 Bearer error="insufficient_user_authentication", acr_values="mfa", max_age="600"
	// POST /payments 200 paid
}

// A client that has only the API's URL learns from the first refusal where to read
// whom to ask for a token.
func ExampleMiddleware_HandleMetadata() {
	auth, err := bearer.New(bearer.Config{
		Issuer:   "https://login.example.com/",
		Resource: "https://api.example.com/mcp",
		Metadata: bearer.Metadata{Name: "Messages", Scopes: []string{"read:messages"}},
	})
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/mcp", auth.Handler(respond("")))
	auth.HandleMetadata(mux)

	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest("POST", "/mcp", nil))
	fmt.Println(w.Header().Get("WWW-Authenticate"))
	request(mux, "GET", "/.well-known/oauth-protected-resource/mcp", "")
	// Output:
	// Bearer resource_metadata="https://api.example.com/.well-known/oauth-protected-resource/mcp"
	// GET /.well-known/oauth-protected-resource/mcp 200 {"resource":"https://api.example.com/mcp","authorization_servers":["https://login.example.com/"],"scopes_supported":["read:messages"],"bearer_methods_supported":["header"],"resource_name":"Messages"}
}

// With a router that has a way of its own to register handlers.
func ExampleMiddleware_Metadata() {
	auth, err := bearer.New(bearer.Config{Issuer: "https://login.example.com/", Resource: "https://api.example.com"})
	if err != nil {
		log.Fatal(err)
	}
	routes := make(map[string]http.Handler)
	path, metadata := auth.Metadata()
	routes[path] = metadata
	fmt.Println(path)
	// Output:
	// /.well-known/oauth-protected-resource
}

// A token that is bound to a key of its client is worth nothing to a thief.
func ExampleDPoP() {
	iss := newIssuer()
	auth, err := bearer.New(bearer.Config{
		Issuer:   iss.URL,
		Audience: []string{"https://api.example.com"},
		Client:   iss.Client(),
		DPoP:     &bearer.DPoP{BaseURLs: []string{"https://api.example.com"}},
	})
	if err != nil {
		log.Fatal(err)
	}
	h := auth.Handler(respond("hello"))

	client := bearertest.NewClient()
	token := iss.Token("https://api.example.com", bearertest.Claims{"cnf": bearertest.Claims{"jkt": client.KeyThumbprint}})
	r := httptest.NewRequest("GET", "https://api.example.com/", nil)
	client.Authorize(r, token)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	fmt.Println(w.Code, w.Body)
	request(h, "GET", "/", token)
	// Output:
	// 200 hello
	// GET / 401 {"error":"invalid_token","error_description":"the token is bound to a key and is no bearer token"}
}

// TLS ends in this process: clients are asked for a certificate, and whoever issued it
// is of no account (tls.RequestClientCert), since a token says which one it must be.
func ExampleConnectionCertificate() {
	_, err := bearer.New(bearer.Config{
		Issuer:      "https://login.example.com/",
		Audience:    []string{"https://api.example.com"},
		Certificate: bearer.ConnectionCertificate,
	})
	fmt.Println(err)
	// Output:
	// <nil>
}

// TLS ends in a proxy that passes the certificate on, and that alone is believed.
func ExampleForwardedCertificate() {
	certificate := bearer.ForwardedCertificate(netip.MustParsePrefix("10.0.0.0/8"))

	r := httptest.NewRequest("GET", "/", nil)
	own := bearertest.NewClient().Certificate.Certificate[0]
	r.Header.Set("Client-Cert", ":"+base64.StdEncoding.EncodeToString(own)+":")
	for _, r.RemoteAddr = range []string{"10.1.2.3:4567", "192.0.2.1:4567"} {
		der, err := certificate(r)
		fmt.Println(r.RemoteAddr, bytes.Equal(der, own), err)
	}
	// Output:
	// 10.1.2.3:4567 true <nil>
	// 192.0.2.1:4567 false <nil>
}

// The claims of the request's token, for what goes by who is asking.
func ExampleFromContext() {
	iss := newIssuer()
	h := newAPI(iss).Optional(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		claims, ok := bearer.FromContext(r.Context())
		if !ok {
			fmt.Fprint(w, "hello stranger")
			return
		}
		fmt.Fprintf(w, "hello %s of %s", claims.Subject, claims.Issuer)
	}))

	request(h, "GET", "/", "")
	request(h, "GET", "/", iss.Token("https://api.example.com", bearertest.Claims{"sub": "alice"}))
	// Output:
	// GET / 200 hello stranger
	// GET / 200 hello alice of https://login.example.com/
}

func ExampleScope() {
	s := bearer.Scope("read:messages write:messages")
	fmt.Println(s.Has("read:messages"), s.Has("read"))
	for name := range s.All() {
		fmt.Println(name)
	}
	// Output:
	// true false
	// read:messages
	// write:messages
}
