// Fleet is examples/server for many replicas: what they have to share goes through
// one Redis.
//
//	go run . -redis 127.0.0.1:6379 -issuer ISS -audience AUD
//
// starts a replica; all flags of examples/server serve here too. Then
//
//	go run . revoke -redis 127.0.0.1:6379 -iss ISS -jti ID
//
// revokes a token on all of them, and the provider does so at a logout, by way of
// POST /backchannel-logout.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"example.com/bearer"
	"example.com/bearer/bearerredis"
	"example.com/bearer/examples/internal/apiserver"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
)

// prefix is what all keys in Redis begin with.
const prefix = "fleet"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run is main with everything it touches as arguments. It returns the exit
// status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	logging.Disable() // the middleware logs once that Redis is gone, and not for each request
	if len(args) > 0 && args[0] == "revoke" {
		return revoke(ctx, args[1:], stdout, stderr)
	}
	var s sharing
	defer s.close()
	return apiserver.Run(ctx, args, stdout, stderr, apiserver.Extension{
		Name:      "fleet",
		Flags:     s.flags,
		Configure: s.configure,
		Routes:    s.routes,
	})
}

// sharing is what a replica has besides the server.
type sharing struct {
	all     *flag.FlagSet
	redis   string
	clients []string
	life    time.Duration

	client *redis.Client
	store  *bearerredis.Store
}

func (s *sharing) flags(flags *flag.FlagSet) {
	s.all = flags
	flags.StringVar(&s.redis, "redis", "", "`host:port` of the Redis that all replicas share; required")
	flags.Func("logout-client", "`client id` whose logout tokens are accepted; may be repeated (default the audience)", func(id string) error {
		s.clients = append(s.clients, id)
		return nil
	})
	flags.DurationVar(&s.life, "token-life", 24*time.Hour, "the longest `time` that the issuer's tokens live: a logout is remembered for so long")
}

// configure lets the replica share what config can share. A -key-cache stays.
func (s *sharing) configure(config *bearer.Config) error {
	if s.life <= 0 {
		return fmt.Errorf("-token-life: %v is not more than 0", s.life)
	}
	client, err := dial(s.redis)
	if err != nil {
		return err
	}
	s.client, s.store = client, bearerredis.New(client, prefix)
	config.Revoked = s.store.Revoked
	// The embedded issuer makes new keys at each start: they are not worth keeping.
	if embedded := s.all.Lookup("issuer").Value.String() == ""; config.KeyCache == nil && !embedded {
		config.KeyCache = s.store
	}
	if config.DPoP != nil {
		config.DPoP.Replay = s.store
	}
	return nil
}

// routes registers the endpoint that the provider calls at a logout.
func (s *sharing) routes(root *http.ServeMux, config bearer.Config) error {
	l, err := newLogout(config, s.clients, s.store, s.life)
	if err != nil {
		return err
	}
	root.Handle("POST /backchannel-logout", l)
	return nil
}

func (s *sharing) close() {
	if s.client != nil {
		s.client.Close()
	}
}

// dial returns a client for the Redis at address, without connecting yet.
func dial(address string) (*redis.Client, error) {
	if address == "" {
		return nil, errors.New("-redis: required")
	}
	if host, port, err := net.SplitHostPort(address); err != nil || host == "" || port == "" {
		return nil, fmt.Errorf("-redis: %q is no host:port", address)
	}
	return redis.NewClient(&redis.Options{
		Addr:                  address,
		ContextTimeoutEnabled: true, // a call that was given up gives its connection back
		DialerRetries:         1,    // a Redis that is gone is told of sooner
	}), nil
}
