// Explain tells why an access token is accepted or refused.
//
//	go run ./examples/explain -issuer https://login.example.com/ -audience https://api.example.com TOKEN
//
// prints what the token says and the checks in their order. The token is taken
// from the argument or, so that it stays out of the shell's history, from
// standard input. It is not sent anywhere: only the issuer's keys are fetched.
package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"

	"example.com/bearer"
)

func main() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr, bearer.Config{})) }

// checks are the stages of a token's way, each with the reasons for which a
// token fails there.
var checks = []struct {
	name    string
	reasons []string
}{
	{"form: three parts of base64url, strict JSON", []string{"too_long", "malformed", "invalid_request"}},
	{"header: no critical extension, an accepted algorithm, an access token", []string{"crit", "algorithm", "type"}},
	{"issuer", []string{"issuer"}}, // before the keys, since others' tokens are none of its business
	{"key: one that the issuer publishes for the algorithm", []string{"keys_unavailable", "unknown_key", "key"}},
	{"signature", []string{"signature"}},
	{"types of the claims", []string{"claim_type", "claims"}},
	{"audience", []string{"audience"}},
	{"expiry", []string{"no_expiry", "expired"}},
	{"not before", []string{"not_yet_valid"}},
	{"issued at", []string{"issued_in_future"}},
	{"not bound to a key", []string{"bound"}},
}

// run is main with everything it touches as arguments; cfg is what the flags
// fill in. It returns the exit status: 0 for an accepted token, 1 for a refused
// one, 2 for bad flags.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer, cfg bearer.Config) int {
	flags := flag.NewFlagSet("explain", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&cfg.Issuer, "issuer", "", "issuer `URL`, exactly as in the tokens")
	flags.StringVar(&cfg.IssuerTemplate, "issuer-template", "", "issuer `URL` with {tenantid}, instead of -issuer")
	flags.StringVar(&cfg.JWKSURL, "jwks", "", "JWKS `URL`; without it the keys are found by discovery")
	flags.StringVar(&cfg.AudienceClaim, "audience-claim", "", "`claim` to compare with the audience (default aud)")
	several := func(list *[]string) func(string) error {
		return func(s string) error { *list = append(*list, s); return nil }
	}
	flags.Func("audience", "accepted `audience`; may be repeated", several(&cfg.Audience))
	flags.Func("scope-claim", "`claim` with the scopes; may be repeated (default scope, scp)", several(&cfg.ScopeClaims))
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return 0
	} else if err != nil {
		return 2
	}
	record := make(refusal)
	cfg.Logger = slog.New(record)
	auth, err := bearer.New(cfg)
	if err != nil || flags.NArg() > 1 {
		if flags.NArg() > 1 {
			err = errors.Join(err, errors.New("more than one token"))
		}
		fmt.Fprintf(stderr, "explain: %v\n", err)
		return 2
	}
	token := flags.Arg(0)
	if token == "" || token == "-" {
		b, err := io.ReadAll(io.LimitReader(stdin, 1<<20))
		if err != nil {
			fmt.Fprintf(stderr, "explain: %v\n", err)
			return 2
		}
		token = string(b)
	}
	// What people paste: with the scheme, or with a line's end.
	token = strings.TrimSpace(token)
	if scheme, rest, found := strings.Cut(token, " "); found && strings.EqualFold(scheme, "Bearer") {
		token = strings.TrimSpace(rest)
	}

	parts := strings.Split(token, ".")
	for i, name := range []string{"header", "payload"} {
		if len(parts) > i {
			fmt.Fprintf(stdout, "%s: %s\n", name, pretty(parts[i]))
		}
	}
	claims, err := auth.Verify(context.Background(), token)
	if err == nil {
		for _, check := range checks {
			fmt.Fprintf(stdout, "pass  %s\n", check.name)
		}
		fmt.Fprintf(stdout, "\naccepted: subject %q, client %q, scopes %q\n", claims.Subject, claims.ClientID, claims.Scope)
		return 0
	}
	for _, check := range checks {
		if !slices.Contains(check.reasons, record["reason"]) {
			fmt.Fprintf(stdout, "pass  %s\n", check.name)
			continue
		}
		fmt.Fprintf(stdout, "FAIL  %s\n", check.name)
		break
	}
	fmt.Fprintf(stdout, "\nrefused: %s\n", record["description"])
	for _, key := range []string{"reason", "detail", "claim", "want", "got", "hint"} {
		if record[key] != "" {
			fmt.Fprintf(stdout, "  %-7s %s\n", key+":", record[key])
		}
	}
	return 1
}

// pretty returns the JSON in an encoded part of a token, or what keeps it from
// being shown.
func pretty(part string) string {
	text, err := base64.RawURLEncoding.DecodeString(part)
	if err != nil {
		return "(not base64url)"
	}
	var b bytes.Buffer
	if err := json.Indent(&b, text, "", "  "); err != nil {
		return "(not JSON)"
	}
	return b.String()
}

// A refusal is a log handler that keeps the attributes of the debug record of a
// refused token.
type refusal map[string]string

func (refusal) Enabled(context.Context, slog.Level) bool { return true }
func (r refusal) WithAttrs([]slog.Attr) slog.Handler     { return r }
func (r refusal) WithGroup(string) slog.Handler          { return r }

func (r refusal) Handle(_ context.Context, record slog.Record) error {
	if record.Level == slog.LevelDebug && strings.Contains(record.Message, "refused") {
		record.Attrs(func(a slog.Attr) bool {
			r[a.Key] = a.Value.String()
			return true
		})
	}
	return nil
}
