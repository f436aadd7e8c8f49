package bearergrpc_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"example.com/bearer"
	"example.com/bearer/bearergrpc"
	"example.com/bearer/bearertest"
)

const audience = "https://api.example.com"

// The methods of the tests' service. Each replies with the subject of the token, or
// with "nobody".
const (
	ping    = "/test.Service/Ping"
	whoAmI  = "/test.Service/WhoAmI"
	list    = "/test.Service/List"
	remove  = "/test.Service/Remove"
	maybe   = "/test.Service/Maybe"
	find    = "/test.Service/Find"
	slow    = "/test.Service/Slow"
	silent  = "/test.Service/Silent"
	broken  = "/test.Service/Broken"
	newest  = "/test.Service/Newest" // nobody has thought of a rule for it
	watch   = "/test.Service/Watch"
	public  = "/test.Service/Public"
	unruled = "/test.Service/Unruled"
)

var (
	unaryMethods  = []string{ping, whoAmI, list, remove, maybe, find, slow, silent, broken, newest}
	streamMethods = []string{watch, public, unruled}
)

// config has a rule of each kind.
func config(auth *bearer.Middleware) bearergrpc.Config {
	refuse := func(e *bearer.Error) func(http.Handler) http.Handler {
		return auth.Require(func(*http.Request, *bearer.Claims) error { return e })
	}
	return bearergrpc.Config{
		Auth:   auth,
		Public: []string{ping, public},
		Scopes: map[string][]string{
			whoAmI: nil,
			list:   {"read:messages"},
			watch:  {"read:messages", "write:messages"},
		},
		Wrappers: map[string]func(http.Handler) http.Handler{
			remove: auth.RequireAnyScope("delete:messages", "admin"),
			maybe:  auth.Optional,
			find:   refuse(&bearer.Error{Status: 404, Description: "there is no such message"}),
			slow:   refuse(&bearer.Error{Status: 429, Description: "too many calls", RetryAfter: 1500 * time.Millisecond}),
			broken: refuse(&bearer.Error{Status: 502, Description: "it broke"}),
			silent: func(http.Handler) http.Handler { return http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}) },
		},
	}
}

func subject(ctx context.Context) string {
	if claims, ok := bearer.FromContext(ctx); ok {
		return claims.Subject
	}
	return "nobody"
}

// register registers the service, in place of what protoc-gen-go-grpc generates.
func register(server *grpc.Server) {
	desc := grpc.ServiceDesc{ServiceName: "test.Service", HandlerType: (*any)(nil)}
	for _, method := range unaryMethods {
		desc.Methods = append(desc.Methods, grpc.MethodDesc{
			MethodName: method[strings.LastIndexByte(method, '/')+1:],
			Handler: func(srv any, ctx context.Context, decode func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
				in := new(emptypb.Empty)
				if err := decode(in); err != nil {
					return nil, err
				}
				return interceptor(ctx, in, &grpc.UnaryServerInfo{Server: srv, FullMethod: method}, func(ctx context.Context, _ any) (any, error) {
					return wrapperspb.String(subject(ctx)), nil
				})
			},
		})
	}
	for _, method := range streamMethods {
		desc.Streams = append(desc.Streams, grpc.StreamDesc{
			StreamName:    method[strings.LastIndexByte(method, '/')+1:],
			ServerStreams: true,
			Handler: func(_ any, stream grpc.ServerStream) error {
				if err := stream.RecvMsg(new(emptypb.Empty)); err != nil {
					return err
				}
				return stream.SendMsg(wrapperspb.String(subject(stream.Context())))
			},
		})
	}
	server.RegisterService(&desc, nil)
}

// newAuth returns an issuer and a Middleware that accepts its tokens, with whatever
// change makes of its Config.
func newAuth(t *testing.T, change func(*bearer.Config)) (*bearertest.Issuer, *bearer.Middleware) {
	t.Helper()
	iss := bearertest.NewIssuer("https://login.example.com/")
	cfg := bearer.Config{
		Issuer:   iss.URL,
		Audience: []string{audience},
		Client:   iss.Client(),
		Logger:   slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&cfg)
	}
	auth, err := bearer.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return iss, auth
}

// serve starts a server on loopback and connects to it, by TLS if there are
// certificates: the server's and the client's.
func serve(t *testing.T, auth *bearer.Middleware, options []grpc.ServerOption, certificates ...tls.Certificate) *grpc.ClientConn {
	t.Helper()
	guard, err := bearergrpc.New(config(auth))
	if err != nil {
		t.Fatal(err)
	}
	client := insecure.NewCredentials()
	if len(certificates) > 0 {
		roots := x509.NewCertPool()
		roots.AddCert(certificates[0].Leaf)
		client = credentials.NewTLS(&tls.Config{RootCAs: roots, ServerName: "example.com", Certificates: certificates[1:]})
		options = append(options, grpc.Creds(credentials.NewTLS(&tls.Config{
			Certificates: certificates[:1],
			ClientAuth:   tls.RequestClientCert,
		})))
	}
	server := grpc.NewServer(append(options, guard.ServerOptions()...)...)
	register(server)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go server.Serve(listener)
	t.Cleanup(server.Stop)
	conn, err := grpc.NewClient("passthrough:///"+listener.Addr().String(), grpc.WithTransportCredentials(client))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// call calls a method with the given metadata, names and values, and returns its
// reply and the header metadata.
func call(t *testing.T, conn *grpc.ClientConn, method string, md ...string) (string, metadata.MD, error) {
	t.Helper()
	ctx := metadata.AppendToOutgoingContext(t.Context(), md...)
	reply := new(wrapperspb.StringValue)
	var header metadata.MD
	if !slices.Contains(streamMethods, method) && strings.HasPrefix(method, "/test.Service/") {
		err := conn.Invoke(ctx, method, new(emptypb.Empty), reply, grpc.Header(&header))
		return reply.Value, header, err
	}
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, method)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.SendMsg(new(emptypb.Empty)); err != nil {
		t.Fatal(err)
	}
	err = stream.RecvMsg(reply)
	header, _ = stream.Header()
	return reply.Value, header, err
}

func TestCalls(t *testing.T) {
	var mu sync.Mutex
	var told []string // of each verdict: path, reason
	iss, auth := newAuth(t, func(cfg *bearer.Config) {
		cfg.Observe = func(_ context.Context, o bearer.Outcome) {
			mu.Lock()
			defer mu.Unlock()
			verdict := o.Request.Method + " " + o.Request.URL.Path
			if o.Err != nil {
				verdict += " " + o.Err.Reason
			}
			told = append(told, verdict)
		}
	})
	conn := serve(t, auth, []grpc.ServerOption{grpc.UnknownServiceHandler(func(any, grpc.ServerStream) error {
		t.Error("a method without a rule was forwarded")
		return nil
	})})
	token := func(scope string) string {
		return "Bearer " + iss.Token(audience, bearertest.Claims{"sub": "alice", "scope": scope})
	}
	expired := "Bearer " + iss.Token(audience, bearertest.Claims{"exp": time.Now().Add(-time.Hour).Unix()})
	const (
		none  = "a bearer token is required"
		twice = "the header with the token is malformed"
		old   = "the token has expired"
		lacks = "the token lacks a scope that this request needs"
		no    = "the token does not allow this request"
	)
	for _, tt := range []struct {
		name          string
		method        string
		authorization []string
		code          codes.Code
		reply         string // or the message
		challenge     string
		reason        string // of the one verdict that is told; "-" for none, since nobody was asked
	}{
		{"public", ping, nil, codes.OK, "nobody", "", "-"},
		{"public, with what is not looked at", ping, []string{"Bearer a b"}, codes.OK, "nobody", "", "-"},
		{"public stream", public, nil, codes.OK, "nobody", "", "-"},

		{"no token", whoAmI, nil, codes.Unauthenticated, none, `Bearer`, "no_credentials"},
		{"another scheme", whoAmI, []string{"Basic YTpi"}, codes.Unauthenticated, none, `Bearer`, "no_credentials"},
		{"scheme only", whoAmI, []string{"Bearer"}, codes.Unauthenticated, twice, `Bearer error="invalid_request"`, "invalid_request"},
		{"two tokens", whoAmI, []string{token(""), token("")}, codes.Unauthenticated, twice, `Bearer error="invalid_request"`, "invalid_request"},
		{"two schemes", whoAmI, []string{token(""), "Basic YTpi"}, codes.Unauthenticated, twice, `Bearer error="invalid_request"`, "invalid_request"},
		{"expired", whoAmI, []string{expired}, codes.Unauthenticated, old, `Bearer error="invalid_token"`, "expired"},
		{"any token", whoAmI, []string{token("")}, codes.OK, "alice", "", ""},

		{"scope: no token", list, nil, codes.Unauthenticated, none, `Bearer scope="read:messages"`, "no_credentials"},
		{"scope: none", list, []string{token("")}, codes.PermissionDenied, lacks, `Bearer error="insufficient_scope", scope="read:messages"`, "insufficient_scope"},
		{"scope: a longer one", list, []string{token("read:messages:all")}, codes.PermissionDenied, lacks, `Bearer error="insufficient_scope", scope="read:messages"`, "insufficient_scope"},
		{"scope: the one needed", list, []string{token("read:messages")}, codes.OK, "alice", "", ""},

		{"stream: no token", watch, nil, codes.Unauthenticated, none, `Bearer scope="read:messages write:messages"`, "no_credentials"},
		{"stream: two tokens", watch, []string{token(""), token("")}, codes.Unauthenticated, twice, `Bearer error="invalid_request"`, "invalid_request"},
		{"stream: one scope of two", watch, []string{token("read:messages")}, codes.PermissionDenied, lacks, `Bearer error="insufficient_scope", scope="read:messages write:messages"`, "insufficient_scope"},
		{"stream: both scopes", watch, []string{token("read:messages write:messages")}, codes.OK, "alice", "", ""},

		{"any of: none", remove, []string{token("read:messages")}, codes.PermissionDenied, lacks, `Bearer error="insufficient_scope", scope="delete:messages"`, "insufficient_scope"},
		{"any of: the second", remove, []string{token("admin")}, codes.OK, "alice", "", ""},
		{"optional: no token", maybe, nil, codes.OK, "nobody", "", "-"},
		{"optional: a token", maybe, []string{token("")}, codes.OK, "alice", "", ""},
		{"optional: expired", maybe, []string{expired}, codes.Unauthenticated, old, `Bearer error="invalid_token"`, "expired"},
		{"a check's own 404", find, []string{token("")}, codes.NotFound, "there is no such message", "", "denied"},
		{"a check's own 429", slow, []string{token("")}, codes.ResourceExhausted, "too many calls", "", "denied"},
		{"a check's own 502", broken, []string{token("")}, codes.Internal, "it broke", "", "denied"},
		{"a wrapper that says nothing", silent, []string{token("")}, codes.PermissionDenied, "the call is refused", "", "-"},

		{"no rule: no token", newest, nil, codes.Unauthenticated, none, `Bearer`, "no_credentials"},
		{"no rule: any token", newest, []string{token("admin read:messages")}, codes.PermissionDenied, no, "", "denied"},
		{"no rule, stream: any token", unruled, []string{token("admin")}, codes.PermissionDenied, no, "", "denied"},
		{"no rule, unknown to the server", "/another.Service/Method", []string{token("admin")}, codes.PermissionDenied, no, "", "denied"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			told = nil
			var md []string
			for _, value := range tt.authorization {
				md = append(md, "authorization", value)
			}
			got, header, err := call(t, conn, tt.method, md...)
			if err != nil {
				got = status.Convert(err).Message()
			}
			if code := status.Code(err); code != tt.code || got != tt.reply {
				t.Errorf("got %v %q, want %v %q", code, got, tt.code, tt.reply)
			}
			if got := strings.Join(header.Get("www-authenticate"), " and "); got != tt.challenge {
				t.Errorf("www-authenticate: got %s, want %s", got, tt.challenge)
			}
			mu.Lock()
			defer mu.Unlock()
			want := []string{strings.TrimSpace("POST " + tt.method + " " + tt.reason)}
			if tt.reason == "-" {
				want = nil
			}
			if !slices.Equal(told, want) {
				t.Errorf("told %q, want %q", told, want)
			}
		})
	}
}

// What must wait is told how long.
func TestUnavailable(t *testing.T) {
	iss, auth := newAuth(t, nil)
	iss.SetDown(true)
	conn := serve(t, auth, nil)
	for _, method := range []string{whoAmI, watch, newest} {
		_, header, err := call(t, conn, method, "authorization", "Bearer "+iss.Token(audience, nil))
		s := status.Convert(err)
		if s.Code() != codes.Unavailable || len(header.Get("www-authenticate")) > 0 {
			t.Errorf("%s: got %v, header %v", method, s, header)
		}
		if wait := retryDelay(s); wait < time.Second || wait > time.Minute {
			t.Errorf("%s: RetryInfo %v", method, wait)
		}
	}

	iss, auth = newAuth(t, nil)
	_, _, err := call(t, serve(t, auth, nil), slow, "authorization", "Bearer "+iss.Token(audience, nil))
	if wait := retryDelay(status.Convert(err)); wait != 2*time.Second { // in whole seconds, as over HTTP
		t.Errorf("%v: RetryInfo %v, want 2s", err, wait)
	}
}

func retryDelay(s *status.Status) time.Duration {
	for _, detail := range s.Details() {
		if retry, ok := detail.(*errdetails.RetryInfo); ok {
			return retry.RetryDelay.AsDuration()
		}
	}
	return 0
}

// A call that ends while it waits for keys is no failure of the server's.
func TestCancelled(t *testing.T) {
	iss, auth := newAuth(t, nil)
	iss.SetHanging(true)
	defer iss.SetHanging(false)
	guard, err := bearergrpc.New(config(auth))
	if err != nil {
		t.Fatal(err)
	}
	for want, cancelled := range map[codes.Code]func(context.Context) context.Context{
		codes.Canceled: func(ctx context.Context) context.Context {
			ctx, cancel := context.WithCancel(ctx)
			cancel()
			return ctx
		},
		codes.DeadlineExceeded: func(ctx context.Context) context.Context {
			ctx, cancel := context.WithDeadline(ctx, time.Unix(1, 0))
			cancel()
			return ctx
		},
	} {
		ctx := metadata.NewIncomingContext(cancelled(t.Context()), metadata.Pairs("authorization", "Bearer "+iss.Token(audience, nil)))
		_, err := guard.Unary(ctx, nil, &grpc.UnaryServerInfo{FullMethod: whoAmI}, func(context.Context, any) (any, error) {
			t.Error("a call without keys passed")
			return nil, nil
		})
		if status.Code(err) != want {
			t.Errorf("got %v, want %v", err, want)
		}
	}
}

// Tokens that are bound to a certificate need the client's, and the connection's it is.
func TestCertificate(t *testing.T) {
	iss, auth := newAuth(t, func(cfg *bearer.Config) { cfg.Certificate = bearer.ConnectionCertificate })
	web := httptest.NewTLSServer(nil) // has a certificate for example.com
	defer web.Close()
	server := web.TLS.Certificates[0]
	server.Leaf = web.Certificate()
	alice, mallory := bearertest.NewClient(), bearertest.NewClient()
	token := "Bearer " + iss.Token(audience, bearertest.Claims{
		"sub":   "alice",
		"scope": "read:messages write:messages",
		"cnf":   bearertest.Claims{"x5t#S256": alice.CertThumbprint},
	})
	for _, tt := range []struct {
		name         string
		certificates []tls.Certificate
		code         codes.Code
	}{
		{"the client's", []tls.Certificate{server, alice.Certificate}, codes.OK},
		{"a thief's", []tls.Certificate{server, mallory.Certificate}, codes.Unauthenticated},
		{"none", []tls.Certificate{server}, codes.Unauthenticated},
		{"no TLS", nil, codes.Unauthenticated},
	} {
		t.Run(tt.name, func(t *testing.T) {
			conn := serve(t, auth, nil, tt.certificates...)
			for _, method := range []string{whoAmI, watch} {
				if got, header, err := call(t, conn, method, "authorization", token); status.Code(err) != tt.code {
					t.Errorf("%s: got %q, %v, header %v, want %v", method, got, err, header, tt.code)
				}
			}
		})
	}
}

// A proxy's word on the certificate counts if the connection is the proxy's.
func TestForwardedCertificate(t *testing.T) {
	for prefix, want := range map[string]codes.Code{"127.0.0.0/8": codes.OK, "192.0.2.0/24": codes.Unauthenticated} {
		iss, auth := newAuth(t, func(cfg *bearer.Config) {
			cfg.Certificate = bearer.ForwardedCertificate(netip.MustParsePrefix(prefix))
		})
		conn := serve(t, auth, nil)
		client := bearertest.NewClient()
		token := iss.Token(audience, bearertest.Claims{"cnf": bearertest.Claims{"x5t#S256": client.CertThumbprint}})
		_, _, err := call(t, conn, whoAmI, "authorization", "Bearer "+token, "client-cert", byteSequence(client.Certificate.Certificate[0]))
		if status.Code(err) != want {
			t.Errorf("%s: got %v, want %v", prefix, err, want)
		}
	}
}

// Proofs are for POST and the full name of a method, and are used up.
func TestDPoP(t *testing.T) {
	iss, auth := newAuth(t, func(cfg *bearer.Config) {
		cfg.DPoP = &bearer.DPoP{BaseURLs: []string{audience}, NonceKeys: [][]byte{make([]byte, 32)}}
	})
	conn := serve(t, auth, nil)
	client := bearertest.NewClient()
	token := iss.Token(audience, bearertest.Claims{"sub": "alice", "cnf": bearertest.Claims{"jkt": client.KeyThumbprint}})

	_, header, err := call(t, conn, whoAmI, "authorization", "DPoP "+token, "dpop", client.Proof("POST", audience+whoAmI, token, nil))
	nonce := header.Get("dpop-nonce")
	if challenge := strings.Join(header.Get("www-authenticate"), ""); status.Code(err) != codes.Unauthenticated || len(nonce) != 1 ||
		!strings.HasPrefix(challenge, `DPoP error="use_dpop_nonce", algs="`) {
		t.Fatalf("without nonce: got %v, header %v", err, header)
	}
	proof := func(method, url string) string {
		return client.Proof(method, url, token, bearertest.Claims{"nonce": nonce[0]})
	}
	once := proof("POST", audience+whoAmI)
	for _, tt := range []struct {
		name   string
		proofs []string
		code   codes.Code
	}{
		{"good", []string{once}, codes.OK},
		{"used before", []string{once}, codes.Unauthenticated},
		{"two", []string{proof("POST", audience+whoAmI), proof("POST", audience+whoAmI)}, codes.Unauthenticated},
		{"none", nil, codes.Unauthenticated},
		{"another method of HTTP", []string{proof("GET", audience+whoAmI)}, codes.Unauthenticated},
		{"another method of gRPC", []string{proof("POST", audience+list)}, codes.Unauthenticated},
	} {
		md := []string{"authorization", "DPoP " + token}
		for _, p := range tt.proofs {
			md = append(md, "dpop", p)
		}
		if _, header, err := call(t, conn, whoAmI, md...); status.Code(err) != tt.code {
			t.Errorf("%s: got %v, header %v, want %v", tt.name, err, header, tt.code)
		}
	}
}

// An accepted call brings the next nonce, when it is time for one.
func TestNewNonce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		iss, auth := newAuth(t, func(cfg *bearer.Config) {
			cfg.DPoP = &bearer.DPoP{BaseURLs: []string{audience}, NonceKeys: [][]byte{make([]byte, 32)}}
		})
		guard, err := bearergrpc.New(config(auth))
		if err != nil {
			t.Fatal(err)
		}
		client := bearertest.NewClient()
		token := iss.Token(audience, bearertest.Claims{"cnf": bearertest.Claims{"jkt": client.KeyThumbprint}})
		header := metadata.MD{}
		invoke := func(nonce any) error {
			header = metadata.MD{}
			ctx := grpc.NewContextWithServerTransportStream(t.Context(), transportStream{header})
			proof := client.Proof("POST", audience+whoAmI, token, bearertest.Claims{"nonce": nonce})
			ctx = metadata.NewIncomingContext(ctx, metadata.Pairs("authorization", "DPoP "+token, "dpop", proof))
			_, err := guard.Unary(ctx, nil, &grpc.UnaryServerInfo{FullMethod: whoAmI}, func(context.Context, any) (any, error) { return nil, nil })
			return err
		}
		invoke(nil)
		first := header.Get("dpop-nonce")[0]
		time.Sleep(5 * time.Minute)
		if err := invoke(first); err != nil {
			t.Fatal(err)
		}
		if got := header.Get("dpop-nonce"); len(got) != 1 || got[0] == first {
			t.Errorf("got %q after %q, want another one", got, first)
		}
	})
}

// A transportStream is a call without a connection.
type transportStream struct{ header metadata.MD }

func (transportStream) Method() string                   { return whoAmI }
func (s transportStream) SetHeader(md metadata.MD) error { maps.Copy(s.header, md); return nil }
func (transportStream) SendHeader(metadata.MD) error     { return nil }
func (transportStream) SetTrailer(metadata.MD) error     { return nil }

// In a stream that goes on, Authenticate tells whether its token still counts.
func TestStreamAsksAgain(t *testing.T) {
	var revoked, paths sync.Map
	iss, auth := newAuth(t, func(cfg *bearer.Config) {
		cfg.Observe = func(_ context.Context, o bearer.Outcome) { paths.Store(o.Request.URL.Path, true) }
		cfg.Revoked = func(_ context.Context, c *bearer.Claims) (bool, error) {
			_, is := revoked.Load(c.ID)
			return is, nil
		}
	})
	guard, err := bearergrpc.New(bearergrpc.Config{Auth: auth, Scopes: map[string][]string{"/ask.Service/Again": nil}})
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(guard.ServerOptions()...)
	server.RegisterService(&grpc.ServiceDesc{ServiceName: "ask.Service", HandlerType: (*any)(nil), Streams: []grpc.StreamDesc{{
		StreamName: "Again", ServerStreams: true, ClientStreams: true,
		Handler: func(_ any, stream grpc.ServerStream) error {
			for {
				if err := stream.RecvMsg(new(emptypb.Empty)); err != nil {
					return err
				}
				if _, err := auth.Authenticate(bearergrpc.Request(stream.Context())); err != nil {
					var e *bearer.Error
					errors.As(err, &e)
					return status.Error(codes.Unauthenticated, e.Reason)
				}
				if err := stream.SendMsg(wrapperspb.String("go on")); err != nil {
					return err
				}
			}
		},
	}}}, nil)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go server.Serve(listener)
	defer server.Stop()
	conn, err := grpc.NewClient("passthrough:///"+listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+iss.Token(audience, bearertest.Claims{"jti": "one"}))
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/ask.Service/Again")
	if err != nil {
		t.Fatal(err)
	}
	ask := func() error {
		if err := stream.SendMsg(new(emptypb.Empty)); err != nil {
			t.Fatal(err)
		}
		return stream.RecvMsg(new(wrapperspb.StringValue))
	}
	for range 2 {
		if err := ask(); err != nil {
			t.Fatalf("valid: %v", err)
		}
	}
	revoked.Store("one", true)
	if err := ask(); status.Code(err) != codes.Unauthenticated || status.Convert(err).Message() != "revoked" {
		t.Errorf("revoked: got %v", err)
	}
	for path := range paths.Range {
		if path != "/ask.Service/Again" {
			t.Errorf("told of %s", path)
		}
	}
}

func TestNew(t *testing.T) {
	_, auth := newAuth(t, nil)
	for _, tt := range []struct {
		name string
		cfg  bearergrpc.Config
		want []string // what the error says, in this order
	}{
		{"nothing", bearergrpc.Config{}, []string{"Auth is nil"}},
		{"no rules", bearergrpc.Config{Auth: auth}, nil},
		{"all is well", config(auth), nil},
		{"everything at once", bearergrpc.Config{
			Public: []string{"/a.B/C", "/a.B/C", "a.B/D", "/a.B/", "/a.B"},
			Scopes: map[string][]string{"/a.B/C": {"good", "not good", ""}, "/a.B/E": {`"`}, "/a.B/*/F": nil},
			Wrappers: map[string]func(http.Handler) http.Handler{
				"/a.B/E": auth.Handler,
				"/a.B/G": nil,
			},
		}, []string{
			"Auth is nil",
			`Public: "/a.B/C" stands in Public already`,
			`Public: "a.B/D" is no full method name`,
			`Public: "/a.B/" is no full method name`,
			`Public: "/a.B" is no full method name`,
			`Scopes: "/a.B/*/F" is no full method name`,
			`Scopes: "/a.B/C" stands in Public already`,
			`Scopes: "/a.B/C": bearer: RequireScope: "not good" is not a scope name`,
			`Scopes: "/a.B/C": bearer: RequireScope: "" is not a scope name`,
			`Scopes: "/a.B/E": bearer: RequireScope: "\"" is not a scope name`,
			`Wrappers: "/a.B/E" stands in Scopes already`,
			`Wrappers: "/a.B/G": the wrapper is nil`,
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			guard, err := bearergrpc.New(tt.cfg)
			if (guard == nil) != (len(tt.want) > 0) || (err == nil) == (guard == nil) {
				t.Fatalf("got %v and error %v", guard, err)
			}
			checkLines(t, err, tt.want)
		})
	}
}

// checkLines checks that err has one line for each of want.
func checkLines(t *testing.T, err error, want []string) {
	t.Helper()
	var lines []string
	if err != nil {
		lines = strings.Split(err.Error(), "\n")
	}
	if len(lines) != len(want) {
		t.Errorf("got %q, want %q", lines, want)
		return
	}
	for i, line := range lines {
		if !strings.HasPrefix(line, "bearergrpc: ") || !strings.Contains(line, want[i]) {
			t.Errorf("got %s, want %s", line, want[i])
		}
	}
}

func TestConfigIsCopied(t *testing.T) {
	_, auth := newAuth(t, nil)
	cfg := config(auth)
	cfg.Public = slices.Clone(cfg.Public)
	guard, err := bearergrpc.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Public[0] = newest
	cfg.Wrappers[newest] = auth.Optional
	_, err = guard.Unary(t.Context(), nil, &grpc.UnaryServerInfo{FullMethod: newest}, func(context.Context, any) (any, error) { return nil, nil })
	if status.Code(err) != codes.Unauthenticated {
		t.Errorf("got %v, want Unauthenticated", err)
	}
}

func TestCheck(t *testing.T) {
	_, auth := newAuth(t, nil)
	server := grpc.NewServer()
	register(server)
	cfg := config(auth)
	for _, tt := range []struct {
		name   string
		scopes map[string][]string
		want   []string
	}{
		{"all have one", map[string][]string{newest: nil, unruled: nil}, nil},
		{"two have none", nil, []string{"no rule for " + newest, "no rule for " + unruled}},
		{"a slip", map[string][]string{newest: nil, "/test.Service/Unrulled": nil}, []string{"no rule for " + unruled, "a rule for /test.Service/Unrulled"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := cfg
			cfg.Scopes = maps.Clone(cfg.Scopes)
			maps.Copy(cfg.Scopes, tt.scopes)
			guard, err := bearergrpc.New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			checkLines(t, guard.Check(server.GetServiceInfo()), tt.want)
		})
	}
}

// An ErrorHandler may write what it likes: the code and the challenge stay.
func TestErrorHandler(t *testing.T) {
	_, auth := newAuth(t, func(cfg *bearer.Config) {
		cfg.ErrorHandler = func(w http.ResponseWriter, r *http.Request, e *bearer.Error) { http.Error(w, "<p>no</p>", e.Status) }
	})
	_, header, err := call(t, serve(t, auth, nil), whoAmI)
	if s := status.Convert(err); s.Code() != codes.Unauthenticated || s.Message() != "the call is refused" {
		t.Errorf("got %v", s)
	}
	if got := header.Get("www-authenticate"); !slices.Equal(got, []string{"Bearer"}) {
		t.Errorf("www-authenticate: got %q", got)
	}
}

// byteSequence writes a certificate as the Client-Cert header has it (RFC 9440).
func byteSequence(der []byte) string { return ":" + base64.StdEncoding.EncodeToString(der) + ":" }
