package bearer_test

import (
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"

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
