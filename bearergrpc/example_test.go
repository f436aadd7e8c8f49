package bearergrpc_test

import (
	"context"
	"fmt"
	"log"
	"net"
	"os"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"

	"example.com/bearer"
	"example.com/bearer/bearergrpc"
	"example.com/bearer/bearertest"
)

func Example() {
	iss := bearertest.NewIssuer("https://login.example.com/") // stands for your identity provider
	auth, err := bearer.New(bearer.Config{
		Issuer:   iss.URL,
		Audience: []string{"https://api.example.com"},
		Client:   iss.Client(),
	})
	if err != nil {
		log.Fatal(err)
	}
	guard, err := bearergrpc.New(bearergrpc.Config{
		Auth:   auth,
		Public: []string{"/grpc.health.v1.Health/Check"},
		Scopes: map[string][]string{
			"/grpc.health.v1.Health/List":  nil, // any valid token
			"/grpc.health.v1.Health/Watch": {"watch:health"},
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	server := grpc.NewServer(guard.ServerOptions()...)
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	if err := guard.Check(server.GetServiceInfo()); err != nil {
		log.Fatal(err) // a method without a rule, or a rule without a method
	}

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go server.Serve(listener)
	defer server.Stop()
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	client := grpc_health_v1.NewHealthClient(conn)

	_, err = client.List(context.Background(), &grpc_health_v1.HealthListRequest{})
	fmt.Println(err)
	token := iss.Token("https://api.example.com", nil)
	ctx := metadata.AppendToOutgoingContext(context.Background(), "authorization", "Bearer "+token)
	_, err = client.List(ctx, &grpc_health_v1.HealthListRequest{})
	fmt.Println(err)
	// Output:
	// rpc error: code = Unauthenticated desc = a bearer token is required
	// <nil>
}

// The snippets in README stand word for word in the tests.
func TestReadme(t *testing.T) {
	flat := func(names ...string) string {
		var b strings.Builder
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(string(text)) {
				b.WriteString(strings.TrimSpace(line) + "\n")
			}
		}
		return b.String()
	}
	code := flat("example_test.go", "bearergrpc_test.go")
	blocks := strings.Split(flat("README.md"), "```")
	if len(blocks) != 5 {
		t.Fatalf("%d blocks", len(blocks)/2)
	}
	for _, i := range []int{1, 3} {
		if block := strings.TrimPrefix(blocks[i], "go\n"); !strings.Contains(code, block) {
			t.Errorf("no test has this:\n%s", block)
		}
	}
}
