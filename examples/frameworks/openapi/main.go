// Openapi is a small API behind package bearer whose OpenAPI document says which
// operation needs which scopes, as with servers that oapi-codegen generates.
package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"net/http"
	"os"
	"strings"
	"time"

	"example.com/bearer"
	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	nethttpmiddleware "github.com/oapi-codegen/nethttp-middleware"
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

// authenticate checks the token of a request and the scopes that the document
// wants for its operation.
func authenticate(auth *bearer.Middleware) openapi3filter.AuthenticationFunc {
	return func(_ context.Context, in *openapi3filter.AuthenticationInput) error {
		if in.SecuritySchemeName != "token" {
			return fmt.Errorf("no check for the security scheme %q", in.SecuritySchemeName)
		}
		r := in.RequestValidationInput.Request
		claims, err := auth.Authenticate(r)
		if err != nil {
			return err
		}
		for _, scope := range in.Scopes {
			if !claims.Scope.Has(scope) {
				return &bearer.Error{
					Status:      http.StatusForbidden,
					Code:        "insufficient_scope",
					Reason:      "insufficient_scope",
					Description: "the token lacks a scope that this request needs",
					Scope:       strings.Join(in.Scopes, " "),
				}
			}
		}
		// The handler gets the same *http.Request: there is no other way to it.
		*r = *r.WithContext(bearer.NewContext(r.Context(), claims))
		return nil
	}
}

// writeError answers requests that do not fit the document. By default a refusal
// has no WWW-Authenticate, and its body tells the cause to the client.
func writeError(auth *bearer.Middleware) nethttpmiddleware.ErrorHandlerWithOpts {
	return func(_ context.Context, err error, w http.ResponseWriter, r *http.Request, opts nethttpmiddleware.ErrorHandlerOpts) {
		var security *openapi3filter.SecurityRequirementsError
		var tooLong *http.MaxBytesError
		switch {
		case errors.As(err, &tooLong):
			http.Error(w, http.StatusText(http.StatusRequestEntityTooLarge), http.StatusRequestEntityTooLarge)
		case errors.As(err, &security):
			auth.WriteError(w, r, err) // the *bearer.Error in it; without one it is 500
		default:
			http.Error(w, http.StatusText(opts.StatusCode), opts.StatusCode)
		}
	}
}

//go:embed openapi.yaml
var document []byte

func newAPI(auth *bearer.Middleware) http.Handler {
	spec, err := openapi3.NewLoader().LoadFromData(document)
	if err != nil {
		panic(err) // it is part of the program
	}
	validate := nethttpmiddleware.OapiRequestValidatorWithOptions(spec, &nethttpmiddleware.Options{
		Options:              openapi3filter.Options{AuthenticationFunc: authenticate(auth)},
		ErrorHandlerWithOpts: writeError(auth),
	})
	// What the document does not have is 404, also where the mux has it.
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/ping", message("pong"))
	mux.HandleFunc("GET /api/ping/secure", secure)
	mux.HandleFunc("GET /api/messages", message("here are your messages"))
	mux.HandleFunc("POST /api/messages", write)
	// The validator reads the whole body before it asks for the token.
	return http.MaxBytesHandler(validate(mux), 1<<20)
}

func secure(w http.ResponseWriter, r *http.Request) {
	claims, _ := bearer.FromContext(r.Context())
	reply(w, map[string]string{"sub": claims.Subject})
}

func write(w http.ResponseWriter, r *http.Request) {
	var in struct{ Text string }
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		http.Error(w, http.StatusText(http.StatusBadRequest), http.StatusBadRequest)
		return
	}
	claims, _ := bearer.FromContext(r.Context())
	reply(w, map[string]string{"message": claims.Subject + " wrote " + in.Text})
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
