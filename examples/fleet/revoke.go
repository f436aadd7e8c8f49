package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"time"

	"example.com/bearer/bearerredis"
)

// revoke is the command for administrators. When it ends with status 0 every
// replica refuses what was revoked.
func revoke(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var (
		flags   = flag.NewFlagSet("fleet revoke", flag.ContinueOnError)
		address = flags.String("redis", "", "`host:port` of the Redis that the replicas share; required")
		issuer  = flags.String("iss", "", "the tokens' `issuer`; required")
		token   = flags.String("jti", "", "`id` of a token to revoke")
		subject = flags.String("sub", "", "`subject` whose tokens, as issued until now, are revoked")
		session = flags.String("sid", "", "`id` of a session whose tokens are revoked")
		life    = flags.Duration("life", 24*time.Hour, "the longest `time` that the issuer's tokens live: it is remembered for so long")
	)
	flags.SetOutput(stderr)
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return 0
	} else if err != nil {
		return 2 // Parse has told why
	}
	var problems []error
	client, err := dial(*address)
	if err != nil {
		problems = append(problems, err)
	} else {
		defer client.Close()
	}
	if *issuer == "" {
		problems = append(problems, errors.New("-iss: required"))
	}
	if *token == "" && *subject == "" && *session == "" {
		problems = append(problems, errors.New("nothing to revoke: give -jti, -sub or -sid"))
	}
	if *life <= 0 {
		problems = append(problems, fmt.Errorf("-life: %v is not more than 0", *life))
	}
	if flags.NArg() > 0 {
		problems = append(problems, fmt.Errorf("unexpected arguments %q", flags.Args()))
	}
	if len(problems) > 0 {
		fmt.Fprintf(stderr, "fleet revoke: bad flags:\n%v\n", errors.Join(problems...))
		return 2
	}

	store, now := bearerredis.New(client, prefix), time.Now()
	for _, what := range []struct {
		kind, id string
		revoke   func() error
	}{
		{"token", *token, func() error { return store.RevokeToken(ctx, *issuer, *token, now.Add(*life)) }},
		{"subject", *subject, func() error { return store.RevokeSubject(ctx, *issuer, *subject, now, *life) }},
		{"session", *session, func() error { return store.RevokeSession(ctx, *issuer, *session, *life) }},
	} {
		if what.id == "" {
			continue
		}
		if err := what.revoke(); err != nil {
			fmt.Fprintf(stderr, "fleet revoke: %s %q is not revoked: %v\n", what.kind, what.id, err)
			return 1
		}
		fmt.Fprintf(stdout, "%s %q is revoked\n", what.kind, what.id)
	}
	return 0
}
