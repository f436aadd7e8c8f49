// Package bearergrpc protects gRPC servers with package bearer: interceptors that
// let through only calls with a valid access token, with rules by method.
//
//	guard, err := bearergrpc.New(bearergrpc.Config{
//		Auth:   auth, // of bearer.New
//		Public: []string{"/grpc.health.v1.Health/Check"},
//		Scopes: map[string][]string{
//			"/messages.v1.Messages/WhoAmI": nil, // any valid token
//			"/messages.v1.Messages/List":   {"read:messages"},
//		},
//	})
//	...
//	server := grpc.NewServer(guard.ServerOptions()...)
//
// [bearer.FromContext] gives the methods the token's claims. The token comes in the
// metadata "authorization", as the header of that name would.
//
// # Methods without a rule
//
// A method that no rule names is closed: a call with a valid token gets
// PermissionDenied, any other what it would get anywhere, so that strangers do not
// learn which methods there are. There is no default to open the rest with, since it
// would open what is added later. [Guard.Check] tells when the program starts which
// methods have been forgotten.
//
// # Refusals
//
// A refused call is refused as a request to an http.Handler would be, by the same
// wrappers, and is told to Config.Observe and the log as a POST request for the
// method's full name. HTTP's status becomes a code:
//
//   - Unauthenticated for 400 and 401: no token, several, or one that is not valid
//   - PermissionDenied for 403: the token is valid and does not suffice
//   - Unavailable for 503: it cannot be judged at present. The status has
//     google.rpc.RetryInfo with the time to wait
//   - NotFound for 404, ResourceExhausted for 429 and Internal for other 5xx, which
//     only a check of the program's own says
//
// The header metadata of the reply have the challenges of HTTP as
// "www-authenticate", and "dpop-nonce" where a proof needs one.
//
// # Bound tokens
//
// The client's certificate is that of the connection, where the server's credentials
// are of package credentials: [bearer.ConnectionCertificate] finds it. A DPoP proof
// comes in the metadata "dpop"; its "htm" is POST and its "htu" ends with the full
// method name.
//
// # Streams
//
// A stream is judged once, when it begins, and may outlive its token. A method that
// is not to serve on asks now and then whether the token still counts:
//
//	_, err := auth.Authenticate(bearergrpc.Request(stream.Context()))
//
// returns an error when it has expired, was revoked, or has lost its key.
package bearergrpc

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"google.golang.org/grpc"

	"example.com/bearer"
)

// A Config says who may call which methods. Methods go by their full names, such as
// "/messages.v1.Messages/List". One name must not stand in two places.
type Config struct {
	// Auth judges the tokens. It is required.
	Auth *bearer.Middleware

	// Public lists methods that everybody may call. Their metadata are not looked
	// at, and their context has no claims.
	Public []string

	// Scopes has methods for tokens with all of the given scopes. An empty list
	// means any valid token.
	Scopes map[string][]string

	// Wrappers has methods with rules of another kind: [bearer.Middleware.Optional],
	// or what [bearer.Middleware.RequireAnyScope], Require or RequireAuthentication
	// return. The request that they see is a POST for the full method name with the
	// call's metadata as its header, and without a body. Whatever serves such a
	// request without calling the handler that it wraps refuses the call.
	Wrappers map[string]func(http.Handler) http.Handler
}

// A Guard lets through the calls that a [Config] allows. It is safe for concurrent
// use. Make one with [New]; the zero value is not usable.
type Guard struct {
	public   map[string]bool
	wrappers map[string]func(http.Handler) http.Handler
	closed   func(http.Handler) http.Handler // for methods without a rule
}

var errNoRule = errors.New("bearergrpc: no rule for this method")

// New returns a Guard for cfg. If anything is wrong with cfg, the error tells all of
// it. Changes of cfg after New have no effect.
func New(cfg Config) (*Guard, error) {
	var bad []error
	if cfg.Auth == nil {
		bad = append(bad, errors.New("bearergrpc: Auth is nil: it is what bearer.New returns"))
	}
	g := &Guard{
		public:   make(map[string]bool),
		wrappers: make(map[string]func(http.Handler) http.Handler),
	}
	seen := make(map[string]string) // by method: the field that has it
	add := func(field, method string) {
		if !isFullMethod(method) {
			bad = append(bad, fmt.Errorf("bearergrpc: %s: %q is no full method name: write it as /package.Service/Method", field, method))
		}
		if first := seen[method]; first != "" {
			bad = append(bad, fmt.Errorf("bearergrpc: %s: %q stands in %s already", field, method, first))
		}
		seen[method] = field
	}
	for _, method := range cfg.Public {
		add("Public", method)
		g.public[method] = true
	}
	for _, method := range slices.Sorted(maps.Keys(cfg.Scopes)) {
		add("Scopes", method)
		wrapper, problems := requireScopes(cfg.Auth, cfg.Scopes[method])
		for _, problem := range problems {
			bad = append(bad, fmt.Errorf("bearergrpc: Scopes: %q: %s", method, problem))
		}
		g.wrappers[method] = wrapper
	}
	for _, method := range slices.Sorted(maps.Keys(cfg.Wrappers)) {
		add("Wrappers", method)
		if cfg.Wrappers[method] == nil {
			bad = append(bad, fmt.Errorf("bearergrpc: Wrappers: %q: the wrapper is nil", method))
		}
		g.wrappers[method] = cfg.Wrappers[method]
	}
	if len(bad) > 0 {
		return nil, errors.Join(bad...)
	}
	g.closed = cfg.Auth.Require(func(*http.Request, *bearer.Claims) error { return errNoRule })
	return g, nil
}

func isFullMethod(name string) bool {
	service, method, ok := strings.Cut(strings.TrimPrefix(name, "/"), "/")
	return ok && strings.HasPrefix(name, "/") && service != "" && method != "" && !strings.Contains(method, "/")
}

// requireScopes returns the wrapper for scopes, or what is wrong with each of them:
// RequireScope knows, and panics.
func requireScopes(auth *bearer.Middleware, scopes []string) (wrapper func(http.Handler) http.Handler, problems []any) {
	for _, scope := range scopes {
		func() {
			defer func() {
				if p := recover(); p != nil {
					problems = append(problems, p)
				}
			}()
			auth.RequireScope(scope)
		}()
	}
	switch {
	case auth == nil || len(problems) > 0:
		return nil, problems
	case len(scopes) == 0:
		return auth.Handler, nil
	}
	return auth.RequireScope(scopes...), nil
}

// ServerOptions returns the options that put both interceptors to use, since one
// alone leaves the methods of the other kind open. They follow the interceptors of
// the options before, and those of grpc.UnaryInterceptor and grpc.StreamInterceptor.
func (g *Guard) ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{grpc.ChainUnaryInterceptor(g.Unary), grpc.ChainStreamInterceptor(g.Stream)}
}

// Unary is a grpc.UnaryServerInterceptor. It must not be used without Stream where
// there are streams.
func (g *Guard) Unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (resp any, err error) {
	err = g.serve(ctx, info.FullMethod, func(ctx context.Context) error {
		resp, err = handler(ctx, req)
		return err
	})
	return resp, err
}

// Stream is a grpc.StreamServerInterceptor. It must not be used without Unary where
// there are unary methods.
func (g *Guard) Stream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	return g.serve(stream.Context(), info.FullMethod, func(ctx context.Context) error {
		return handler(srv, serverStream{stream, ctx})
	})
}

type serverStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s serverStream) Context() context.Context { return s.ctx }

// serve makes the call, if it is allowed, and returns what it returns.
func (g *Guard) serve(ctx context.Context, method string, call func(context.Context) error) error {
	if g.public[method] {
		return call(ctx)
	}
	wrapper, ok := g.wrappers[method]
	if !ok {
		wrapper = g.closed
	}
	var err error
	passed := false
	reply := reply{header: make(http.Header)}
	wrapper(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		passed = true
		reply.sendHeader(ctx)
		err = call(r.Context())
	})).ServeHTTP(&reply, newRequest(ctx, method))
	if !passed {
		reply.sendHeader(ctx)
		return reply.refusal(ctx)
	}
	return err
}

// Check reports, in one error, each method of the server that no rule names and each
// rule whose method the server does not have. services is what the server's
// GetServiceInfo returns once all services have been registered.
func (g *Guard) Check(services map[string]grpc.ServiceInfo) error {
	var bad []error
	unknown := maps.Clone(g.public)
	for method := range g.wrappers {
		unknown[method] = true
	}
	for _, service := range slices.Sorted(maps.Keys(services)) {
		for _, m := range services[service].Methods {
			method := "/" + service + "/" + m.Name
			if !unknown[method] {
				bad = append(bad, fmt.Errorf("bearergrpc: no rule for %s: nobody can call it", method))
			}
			delete(unknown, method)
		}
	}
	for _, method := range slices.Sorted(maps.Keys(unknown)) {
		bad = append(bad, fmt.Errorf("bearergrpc: a rule for %s, which the server does not have", method))
	}
	return errors.Join(bad...)
}
