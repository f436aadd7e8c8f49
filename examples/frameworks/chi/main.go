// Chi is a small API behind package bearer, made with chi.
package main

import (
	"encoding/json"
	"flag"
	"log"
	"net/http"
	"os"
	"time"

	"example.com/bearer"
	"github.com/go-chi/chi/v5"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "`host:port` to listen on")
	issuer := flag.String("issuer", os.Getenv("ISSUER"), "issuer `URL`, exactly as in the tokens; or set ISSUER")
	audience := flag.String("audience", os.Getenv("AUDIENCE"), "`audience` of the tokens; or set AUDIENCE")
	flag.Parse()
	auth, err := bearer.New(bearer.Config{Issuer: *issuer, Audience: []string{*audience}})
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{Addr: *addr, Handler: newAPI(auth), ReadHeaderTimeout: 5 * time.Second}
	log.Fatal(server.ListenAndServe())
}

// newAPI returns the API. What chi calls middleware is what bearer has: there is
// nothing to adapt.
func newAPI(auth *bearer.Middleware) http.Handler {
	root := chi.NewRouter()
	root.Get("/api/ping", message("pong"))
	root.Route("/api", func(api chi.Router) {
		api.Use(auth.Handler) // a route that is added here is closed
		api.Get("/ping/secure", secure)
		api.With(auth.RequireScope("read:messages")).Get("/messages", message("here are your messages"))
	})
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
