package main

import (
	"context"
	"net"
	"testing"
	"time"

	"example.com/bearer"
	"example.com/bearer/bearertest"
	"example.com/bearer/examples/frameworks/internal/apitest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// dial starts a server and connects to it.
func dial(t *testing.T, config bearer.Config) *grpc.ClientConn {
	t.Helper()
	auth, err := bearer.New(config)
	if err != nil {
		t.Fatal(err)
	}
	listener := bufconn.Listen(1 << 20)
	server, err := newServer(auth)
	if err != nil {
		t.Fatal(err)
	}
	go server.Serve(listener)
	t.Cleanup(server.Stop)
	conn, err := grpc.NewClient("passthrough:///bufconn",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// call calls a method and returns the first message of its reply.
func call(t *testing.T, conn *grpc.ClientConn, method string, authorization ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for _, value := range authorization {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", value)
	}
	reply := new(wrapperspb.StringValue)
	switch method {
	case "/messages.v1.Messages/Watch", "/grpc.health.v1.Health/Watch":
		stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, method)
		if err != nil {
			return "", err
		}
		if err := stream.SendMsg(new(emptypb.Empty)); err != nil {
			return "", err
		}
		err = stream.RecvMsg(reply)
		return reply.Value, err
	case "/grpc.health.v1.Health/Check":
		reply, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, new(grpc_health_v1.HealthCheckRequest))
		return reply.GetStatus().String(), err
	default:
		err := conn.Invoke(ctx, method, new(emptypb.Empty), reply)
		return reply.Value, err
	}
}

func TestServer(t *testing.T) {
	iss, config := apitest.New()
	conn := dial(t, config)
	const (
		check  = "/grpc.health.v1.Health/Check"
		whoAmI = "/messages.v1.Messages/WhoAmI"
		list   = "/messages.v1.Messages/List"
		watch  = "/messages.v1.Messages/Watch"
	)
	valid := "Bearer " + iss.Token(apitest.Audience, bearertest.Claims{"sub": "alice"})
	reader := "Bearer " + iss.Token(apitest.Audience, bearertest.Claims{"sub": "alice", "scope": "read:messages"})
	longer := "Bearer " + iss.Token(apitest.Audience, bearertest.Claims{"scope": "read:messages:all"})
	for _, tt := range []struct {
		name          string
		method        string
		authorization []string
		code          codes.Code
		want          string // the reply
	}{
		{"public", check, nil, codes.OK, "SERVING"},
		{"public, with a header that is not looked at", check, []string{"Bearer a b"}, codes.OK, "SERVING"},

		{"no token", whoAmI, nil, codes.Unauthenticated, ""},
		{"another scheme", whoAmI, []string{"Basic YTpi"}, codes.Unauthenticated, ""},
		{"scheme only", whoAmI, []string{"Bearer"}, codes.Unauthenticated, ""},
		{"two headers", whoAmI, []string{valid, valid}, codes.Unauthenticated, ""},
		{"two schemes", whoAmI, []string{valid, "Basic YTpi"}, codes.Unauthenticated, ""},
		{"expired", whoAmI, []string{"Bearer " + apitest.Expired(iss)}, codes.Unauthenticated, ""},
		{"any token", whoAmI, []string{valid}, codes.OK, "alice"},

		{"scope: no token", list, nil, codes.Unauthenticated, ""},
		{"scope: expired", list, []string{"Bearer " + apitest.Expired(iss)}, codes.Unauthenticated, ""},
		{"scope: none", list, []string{valid}, codes.PermissionDenied, ""},
		{"scope: a longer one", list, []string{longer}, codes.PermissionDenied, ""},
		{"scope: the one needed", list, []string{reader}, codes.OK, "here are your messages"},

		{"stream: no token", watch, nil, codes.Unauthenticated, ""},
		{"stream: two headers", watch, []string{reader, reader}, codes.Unauthenticated, ""},
		{"stream: no scope", watch, []string{valid}, codes.PermissionDenied, ""},
		{"stream: the scope needed", watch, []string{reader}, codes.OK, "a message for alice"},

		{"no rule", "/messages.v1.Messages/Delete", []string{reader}, codes.PermissionDenied, ""},
		{"no rule, stream", "/grpc.health.v1.Health/Watch", []string{reader}, codes.PermissionDenied, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := call(t, conn, tt.method, tt.authorization...)
			if err != nil && status.Convert(err).Message() == "" {
				t.Error("no message")
			}
			if code := status.Code(err); code != tt.code || got != tt.want {
				t.Errorf("got %v %q, want %v %q", code, got, tt.code, tt.want)
			}
		})
	}
}

func TestIssuerDown(t *testing.T) {
	iss, config := apitest.New()
	iss.SetDown(true)
	conn := dial(t, config)
	for _, method := range []string{"/messages.v1.Messages/WhoAmI", "/messages.v1.Messages/Watch"} {
		if _, err := call(t, conn, method, "Bearer "+iss.Token(apitest.Audience, nil)); status.Code(err) != codes.Unavailable {
			t.Errorf("%s: got %v, want %v", method, err, codes.Unavailable)
		}
	}
	if _, err := call(t, conn, "/messages.v1.Messages/WhoAmI"); status.Code(err) != codes.Unauthenticated {
		t.Errorf("no token: got %v, want %v", err, codes.Unauthenticated)
	}
}
