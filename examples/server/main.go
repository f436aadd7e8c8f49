// Server is a small API behind package bearer.
//
//	go run ./examples/server
//
// starts it together with an issuer of its own and prints curl lines to try, and
// the address of a page that does the same by clicks. With -issuer and -audience
// it guards the same routes with the tokens of a real issuer; -h lists all flags.
// Package apiserver has the code, since examples/fleet is made of it too.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"example.com/bearer/examples/internal/apiserver"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(apiserver.Run(ctx, os.Args[1:], os.Stdout, os.Stderr, apiserver.Extension{Name: "server"}))
}
