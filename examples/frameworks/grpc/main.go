// Grpc is a small gRPC server behind package bearer.
package main

import (
	"flag"
	"log"
	"net"
	"os"

	"example.com/bearer"
	"example.com/bearer/bearergrpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
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
	server, err := newServer(auth)
	if err != nil {
		log.Fatal(err)
	}
	listener, err := net.Listen("tcp", *addr)
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(server.Serve(listener)) // with TLS in real life: tokens are secrets
}

// newServer returns the server. A method that has no rule is closed.
func newServer(auth *bearer.Middleware) (*grpc.Server, error) {
	guard, err := bearergrpc.New(bearergrpc.Config{
		Auth:   auth,
		Public: []string{"/grpc.health.v1.Health/Check"},
		Scopes: map[string][]string{
			"/messages.v1.Messages/WhoAmI": nil, // any valid token
			"/messages.v1.Messages/List":   {"read:messages"},
			"/messages.v1.Messages/Watch":  {"read:messages"},
		},
	})
	if err != nil {
		return nil, err
	}
	server := grpc.NewServer(guard.ServerOptions()...)
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	registerMessages(server)
	return server, nil
}
