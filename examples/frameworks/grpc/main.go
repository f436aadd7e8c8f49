// Grpc is a small gRPC server behind package bearer.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"

	"example.com/bearer"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
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
	listener, err := net.Listen("tcp", *addr)
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(newServer(auth).Serve(listener)) // with TLS in real life: tokens are secrets
}

// A rule says who may call a method.
type rule struct {
	public bool     // everybody, also without a token
	scopes []string // or those whose token has all of these, if only a valid one
}

// rules are for methods by their full name. A method without one is closed.
var rules = map[string]rule{
	"/grpc.health.v1.Health/Check": {public: true},
	"/messages.v1.Messages/WhoAmI": {},
	"/messages.v1.Messages/List":   {scopes: []string{"read:messages"}},
	"/messages.v1.Messages/Watch":  {scopes: []string{"read:messages"}},
}

func newServer(auth *bearer.Middleware) *grpc.Server {
	g := guard{auth, rules}
	// Both: an interceptor for unary methods leaves the streams open.
	server := grpc.NewServer(grpc.UnaryInterceptor(g.unary), grpc.StreamInterceptor(g.stream))
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	registerMessages(server)
	return server
}

// A guard lets through the calls that its rules allow.
type guard struct {
	auth  *bearer.Middleware
	rules map[string]rule
}

func (g guard) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	ctx, err := g.authorize(ctx, info.FullMethod)
	if err != nil {
		return nil, err
	}
	return handler(ctx, req)
}

// stream asks once, when the call begins: it may last longer than its token.
func (g guard) stream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	ctx, err := g.authorize(stream.Context(), info.FullMethod)
	if err != nil {
		return err
	}
	return handler(srv, serverStream{stream, ctx})
}

type serverStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s serverStream) Context() context.Context { return s.ctx }

// authorize returns a context with the claims of the caller.
func (g guard) authorize(ctx context.Context, method string) (context.Context, error) {
	rule, ok := g.rules[method]
	if !ok {
		return nil, status.Error(codes.PermissionDenied, "nobody may call this method")
	}
	if rule.public {
		return ctx, nil
	}
	// The metadata as the header that it was on the wire: Authenticate knows what
	// such a header may look like, and that there must be one only.
	r := &http.Request{Header: http.Header{"Authorization": metadata.ValueFromIncomingContext(ctx, "authorization")}}
	claims, err := g.auth.Authenticate(r.WithContext(ctx))
	if err != nil {
		return nil, statusOf(err)
	}
	for _, scope := range rule.scopes {
		if !claims.Scope.Has(scope) {
			return nil, status.Error(codes.PermissionDenied, fmt.Sprintf("this method needs the scopes %q", rule.scopes))
		}
	}
	return bearer.NewContext(ctx, claims), nil
}

// statusOf translates an error of Authenticate. Only the fixed description is
// for the caller.
func statusOf(err error) error {
	var e *bearer.Error
	switch {
	case !errors.As(err, &e):
		return status.Error(codes.Internal, "internal error")
	case e.Status == http.StatusServiceUnavailable:
		return status.Error(codes.Unavailable, e.Description)
	default:
		return status.Error(codes.Unauthenticated, e.Description)
	}
}
