// Cors is a small API behind package bearer for scripts on other origins.
package main

import (
	"encoding/json"
	"flag"
	"log"
	"net/http"
	"os"
	"time"

	"example.com/bearer"
	"github.com/jub0bs/cors"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "`host:port` to listen on")
	issuer := flag.String("issuer", os.Getenv("ISSUER"), "issuer `URL`, exactly as in the tokens; or set ISSUER")
	audience := flag.String("audience", os.Getenv("AUDIENCE"), "`audience` of the tokens; or set AUDIENCE")
	origin := flag.String("origin", "https://app.example.com", "`origin` of the scripts")
	flag.Parse()
	auth, err := bearer.New(bearer.Config{Issuer: *issuer, Audience: []string{*audience}})
	if err != nil {
		log.Fatal(err)
	}
	allow, err := allowOrigin(*origin)
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{Addr: *addr, Handler: allow.Wrap(newAPI(auth)), ReadHeaderTimeout: 5 * time.Second}
	log.Fatal(server.ListenAndServe())
}

// allowOrigin returns middleware for scripts of one origin. It must stand outside of
// bearer's: a browser asks beforehand whether it may send Authorization, in a request
// without it. And it must name what scripts may see of a refusal.
//
// With DPoP the request header DPoP and the response header DPoP-Nonce come to that.
// What is not needed are Credentialed and cookies: a token is neither.
func allowOrigin(origin string) (*cors.Middleware, error) {
	return cors.NewMiddleware(cors.Config{
		Origins:         []string{origin},
		Methods:         []string{http.MethodGet, http.MethodPost},
		RequestHeaders:  []string{"Authorization", "Content-Type"},
		ResponseHeaders: []string{"WWW-Authenticate"},
	})
}

// newAPI returns the API, as it would be without scripts on other origins.
func newAPI(auth *bearer.Middleware) http.Handler {
	root := http.NewServeMux()
	root.HandleFunc("GET /api/ping", message("pong"))
	api := http.NewServeMux()
	api.HandleFunc("GET /api/ping/secure", secure)
	api.Handle("GET /api/messages", auth.RequireScope("read:messages")(message("here are your messages")))
	root.Handle("/api/", auth.Handler(api))
	return root
}

func secure(w http.ResponseWriter, r *http.Request) {
	claims, _ := bearer.FromContext(r.Context())
	reply(w, map[string]string{"sub": claims.Subject})
}

func message(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		reply(w, map[string]string{"message": text})
	}
}

func reply(w http.ResponseWriter, body any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(body)
}
