// Observability is a small API that can be watched: Prometheus metrics, JSON logs
// with trace ids, and an audit log that knows who was let in.
//
//	cd examples/observability && go run .
//
// starts it together with an issuer of its own and prints curl lines to try. With
// -issuer and -audience it takes the tokens of a real issuer.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"example.com/bearer"
	"example.com/bearer/bearertest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run is main with everything it touches as arguments. It serves until ctx ends.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("observability", flag.ContinueOnError)
	var (
		addr        = flags.String("addr", "127.0.0.1:58106", "`host:port` of the API")
		metricsAddr = flags.String("metrics-addr", "127.0.0.1:58107", "`host:port` of the metrics, which are not for everybody")
		issuer      = flags.String("issuer", "", "issuer `URL`, exactly as in the tokens; without it an embedded issuer is used")
		audience    = flags.String("audience", "https://api.example.com", "accepted `audience`")
		verbose     = flags.Bool("v", false, "log why each refused request was refused")
	)
	flags.SetOutput(stderr)
	if err := flags.Parse(args); err != nil {
		return err
	}
	apiListener, err := net.Listen("tcp", *addr)
	if err != nil {
		return err
	}
	defer apiListener.Close()
	metricsListener, err := net.Listen("tcp", *metricsAddr)
	if err != nil {
		return err
	}
	defer metricsListener.Close()

	root := http.NewServeMux()
	var embedded *bearertest.Issuer
	if *issuer == "" {
		embedded = bearertest.NewIssuer("http://" + apiListener.Addr().String() + "/issuer")
		*issuer = embedded.URL
		root.Handle("/issuer/", embedded)
	}
	level := slog.LevelInfo
	if *verbose {
		level = slog.LevelDebug
	}
	a, err := newApp(bearer.Config{Issuer: *issuer, Audience: []string{*audience}}, newLogger(stderr, level))
	if err != nil {
		return err
	}
	root.Handle("/", a.api)

	fmt.Fprintf(stdout, "curl -i http://%s/api/ping\ncurl http://%s/metrics\n", apiListener.Addr(), metricsListener.Addr())
	if embedded != nil {
		token := embedded.Token(*audience, bearertest.Claims{"scope": "read:messages", "tenant": "acme"})
		fmt.Fprintf(stdout, "curl -i -H 'Authorization: Bearer %s' http://%s/api/messages\n", token, apiListener.Addr())
	}
	return serve(ctx, map[net.Listener]http.Handler{apiListener: root, metricsListener: a.metrics})
}

// serve serves all handlers until ctx ends or one of them fails.
func serve(ctx context.Context, handlers map[net.Listener]http.Handler) error {
	failed := make(chan error, len(handlers))
	for listener, h := range handlers {
		server := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second}
		go func() { failed <- server.Serve(listener) }()
		defer func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			server.Shutdown(ctx)
		}()
	}
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		return nil
	}
}
