// Connect is a small Connect, gRPC and gRPC-Web server behind package bearer.
package main

import (
	"errors"
	"flag"
	"log"
	"net/http"
	"os"
	"time"

	"connectrpc.com/connect"
	"example.com/bearer"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "`host:port` to listen on")
	issuer := flag.String("issuer", os.Getenv("ISSUER"), "issuer `URL`, exactly as in the tokens; or set ISSUER")
	audience := flag.String("audience", os.Getenv("AUDIENCE"), "`audience` of the tokens; or set AUDIENCE")
	flag.Parse()
	api, err := newAPI(bearer.Config{Issuer: *issuer, Audience: []string{*audience}})
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{Addr: *addr, Handler: api, ReadHeaderTimeout: 5 * time.Second, Protocols: new(http.Protocols)}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true) // gRPC needs HTTP/2
	log.Fatal(server.ListenAndServe())
}

// newAPI returns the API. Connect's handlers are http.Handlers, so bearer goes
// around them. Interceptors would be too late: they run after the message was
// read.
func newAPI(config bearer.Config) (http.Handler, error) {
	config.ErrorHandler = writeError
	auth, err := bearer.New(config)
	if err != nil {
		return nil, err
	}
	service, messages := newMessagesHandler()
	root := http.NewServeMux()
	root.Handle(service, auth.Handler(messages)) // a procedure that is added there is closed
	root.Handle(listProcedure, auth.RequireScope("read:messages")(messages))
	root.Handle(watchProcedure, auth.RequireScope("read:messages")(messages))
	root.Handle(pingProcedure, messages) // public
	return root, nil
}

var errorWriter = connect.NewErrorWriter()

// writeError writes refusals in the protocol of the client: what bearer writes
// by itself is JSON that a gRPC client cannot read. WWW-Authenticate,
// Cache-Control and Retry-After are set already.
func writeError(w http.ResponseWriter, r *http.Request, e *bearer.Error) {
	code := map[int]connect.Code{
		http.StatusBadRequest:         connect.CodeInvalidArgument, // 400 in the Connect protocol
		http.StatusUnauthorized:       connect.CodeUnauthenticated,
		http.StatusForbidden:          connect.CodePermissionDenied,
		http.StatusServiceUnavailable: connect.CodeUnavailable,
	}[e.Status]
	if code == 0 {
		code = connect.CodeInternal
	}
	errorWriter.Write(w, r, connect.NewError(code, errors.New(e.Description)))
}
