// Huma is a small API behind package bearer, made with huma v2, which writes the
// OpenAPI document from the program: its security requirements are those that are
// enforced.
package main

import (
	"context"
	"flag"
	"log"
	"net/http"
	"os"
	"time"

	"example.com/bearer"
	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
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

// token is the name of the security scheme.
const token = "token"

// What an operation can say in its Security. One that says nothing needs any valid
// token, and so does one that says something else.
var public = []map[string][]string{{}}

func needs(scopes ...string) []map[string][]string { return []map[string][]string{{token: scopes}} }

// secure enforces what operations say in their Security.
func secure(auth *bearer.Middleware) func(huma.Context, func(huma.Context)) {
	return func(ctx huma.Context, next func(huma.Context)) {
		wrapper := auth.Handler
		if security := ctx.Operation().Security; len(security) == 1 {
			if len(security[0]) == 0 {
				next(ctx)
				return
			}
			if scopes := security[0][token]; len(scopes) > 0 {
				wrapper = auth.RequireScope(scopes...)
			}
		}
		r, w := humago.Unwrap(ctx)
		wrapper(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			next(huma.WithContext(ctx, r.Context()))
		})).ServeHTTP(w, r)
	}
}

func newAPI(auth *bearer.Middleware) http.Handler {
	config := huma.DefaultConfig("Messages", "1")
	config.CreateHooks = nil // no "$schema" in replies
	config.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		token: {Type: "http", Scheme: "bearer", BearerFormat: "JWT"},
	}
	config.Security = needs() // what the document says of operations that say nothing
	mux := http.NewServeMux()
	api := humago.New(mux, config)
	api.UseMiddleware(secure(auth)) // before the operations: those that are there already stay open
	huma.Register(api, huma.Operation{OperationID: "ping", Method: "GET", Path: "/api/ping", Security: public}, message("pong"))
	huma.Register(api, huma.Operation{OperationID: "secure", Method: "GET", Path: "/api/ping/secure"}, whoAmI)
	huma.Register(api, huma.Operation{OperationID: "list", Method: "GET", Path: "/api/messages", Security: needs("read:messages")}, message("here are your messages"))
	return mux
}

type text struct {
	Body struct {
		Message string `json:"message"`
	}
}

type caller struct {
	Body struct {
		Subject string `json:"sub"`
	}
}

func whoAmI(ctx context.Context, _ *struct{}) (*caller, error) {
	claims, _ := bearer.FromContext(ctx)
	reply := new(caller)
	reply.Body.Subject = claims.Subject
	return reply, nil
}

func message(what string) func(context.Context, *struct{}) (*text, error) {
	return func(context.Context, *struct{}) (*text, error) {
		reply := new(text)
		reply.Body.Message = what
		return reply, nil
	}
}
