package bearerredis_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"example.com/bearer"
	"example.com/bearer/bearerredis"
	"example.com/bearer/bearertest"
	"github.com/redis/go-redis/v9"
)

// A token is revoked for all replicas, by any program that knows its issuer and
// its "jti".
func Example() {
	client := redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: true})
	defer client.Close()
	store := bearerredis.New(client, "messages-api")

	iss := bearertest.NewIssuer("https://login.example.com/") // stands for your identity provider
	auth, err := bearer.New(bearer.Config{
		Issuer:   iss.URL,
		Audience: []string{"https://api.example.com"},
		Client:   iss.Client(),
	})
	if err != nil {
		log.Fatal(err)
	}

	ctx := context.Background()
	claims, err := auth.Verify(ctx, iss.Token("https://api.example.com", nil))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(store.Revoked(ctx, claims)) // what Config.Revoked asks for each request
	if err := store.RevokeToken(ctx, claims.Issuer, claims.ID, claims.ExpiresAt); err != nil {
		log.Fatal(err)
	}
	fmt.Println(store.Revoked(ctx, claims))
	// Output:
	// false <nil>
	// true <nil>
}

// All three at once: keys, revoked tokens and used proofs.
func ExampleNew() {
	client := redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: true})
	defer client.Close()
	store := bearerredis.New(client, "messages-api")

	iss := bearertest.NewIssuer("https://login.example.com/") // stands for your identity provider
	newReplica := func() (*bearer.Middleware, error) {
		return bearer.New(bearer.Config{
			Issuer:   iss.URL,
			Audience: []string{"https://api.example.com"},
			Client:   iss.Client(),
			KeyCache: store,
			Revoked:  store.Revoked,
			DPoP:     &bearer.DPoP{BaseURLs: []string{"https://api.example.com"}, Replay: store},
		})
	}
	one, err := newReplica()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(one.Ready(context.Background())) // it has fetched the keys …
	for stored := false; !stored; {
		keys, err := client.Keys(context.Background(), "messages-api:keys:*").Result()
		if err != nil {
			log.Fatal(err)
		}
		stored = len(keys) > 0 // … and stored them, in the background
	}

	iss.SetDown(true)
	two, err := newReplica()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(two.Ready(context.Background()))
	// Output:
	// <nil>
	// <nil>
}

// At logout, or when a password is changed: all tokens that were issued until
// now. The issuer's clock may be a few seconds ahead, and its tokens live for an
// hour at most.
func ExampleStore_RevokeSubject() {
	client := redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: true})
	defer client.Close()
	store := bearerredis.New(client, "messages-api")

	err := store.RevokeSubject(context.Background(), "https://login.example.com/", "alice", time.Now().Add(5*time.Second), time.Hour)
	fmt.Println(err)
	// Output: <nil>
}
