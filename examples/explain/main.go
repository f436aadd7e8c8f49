// Explain tells why an access token is accepted or refused.
//
//	pbpaste | go run ./examples/explain -issuer https://login.example.com/ -audience https://api.example.com
//
// prints what the token says and the checks in their order. The token is read from
// standard input, or else from the argument, which stays in the shell's history. It is
// not sent anywhere: only the issuer's keys are fetched. With -proof, -method and -url
// it is judged as it came, in a request with a DPoP proof.
//
//	go run ./examples/explain -resource https://api.example.com/mcp
//
// asks an API for its challenge and its metadata, as an MCP client does that has
// nothing but this URL, and says what such a client would stumble over.
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
	"maps"
	"net/http"
	"net/url"
	"os"
	"strings"

	"example.com/bearer"
	"example.com/bearer/examples/internal/verdict"
)

func main() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr, bearer.Config{})) }

const usage = `Explain tells why an access token is accepted or refused. It reads the token from
standard input, or from an argument, which stays in the shell's history:

    explain -issuer URL -audience AUDIENCE < FILE
    explain -issuer URL -audience AUDIENCE -proof PROOF -method POST -url URL < FILE

and looks at an API as an MCP client does:

    explain -resource URL

`

// run is main with everything it touches as arguments; cfg is what the flags
// fill in. It returns the exit status: 0 for an accepted token or a good API, 1 for
// another one, 2 for bad flags.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer, cfg bearer.Config) int {
	var resource string
	var sent request
	flags := flag.NewFlagSet("explain", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		io.WriteString(stderr, usage)
		flags.PrintDefaults()
	}
	flags.StringVar(&cfg.Issuer, "issuer", "", "issuer `URL`, exactly as in the tokens")
	flags.StringVar(&cfg.IssuerTemplate, "issuer-template", "", "issuer `URL` with {tenantid}, instead of -issuer")
	flags.StringVar(&cfg.JWKSURL, "jwks", "", "JWKS `URL`; without it the keys are found by discovery")
	flags.StringVar(&cfg.AudienceClaim, "audience-claim", "", "`claim` to compare with the audience (default aud)")
	several := func(list *[]string) func(string) error {
		return func(s string) error { *list = append(*list, s); return nil }
	}
	flags.Func("audience", "accepted `audience`; may be repeated", several(&cfg.Audience))
	flags.Func("scope-claim", "`claim` with the scopes; may be repeated (default scope, scp)", several(&cfg.ScopeClaims))
	flags.StringVar(&sent.proof, "proof", "", "DPoP `proof` that came with the token; nonces and earlier uses are not looked at")
	flags.StringVar(&sent.method, "method", "GET", "`method` of the request with the proof")
	flags.StringVar(&sent.url, "url", "", "public `URL` of the request with the proof, as the client writes it")
	flags.StringVar(&resource, "resource", "", "`URL` of an API whose challenge and metadata are to be checked; no token is read")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return 0
	} else if err != nil {
		return 2
	}
	bad := func(err error) int {
		fmt.Fprintf(stderr, "explain: %v\n", err)
		return 2
	}
	if resource != "" {
		if flags.NFlag() > 1 || flags.NArg() > 0 {
			return bad(errors.New("-resource stands alone"))
		}
		return explainResource(stdout, cfg.Client, resource)
	}

	why := make(refusal)
	cfg.Logger = slog.New(why)
	err := sent.apply(&cfg)
	auth, invalid := bearer.New(cfg)
	if flags.NArg() > 1 {
		err = errors.Join(err, errors.New("more than one token"))
	}
	if err = errors.Join(err, invalid); err != nil {
		return bad(err)
	}
	token := flags.Arg(0)
	if token == "" || token == "-" {
		if f, ok := stdin.(*os.File); ok {
			if info, err := f.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
				fmt.Fprintln(stderr, "Paste the token, then press Enter and Ctrl+D.")
			}
		}
		b, err := io.ReadAll(io.LimitReader(stdin, 1<<20))
		if err != nil {
			return bad(err)
		}
		token = string(b)
	}
	// What people paste: with the scheme, or with a line's end.
	token = strings.TrimSpace(token)
	if scheme, rest, found := strings.Cut(token, " "); found && (strings.EqualFold(scheme, "Bearer") || strings.EqualFold(scheme, "DPoP")) {
		token = strings.TrimSpace(rest)
	}

	show(stdout, "", token)
	var claims *bearer.Claims
	var has []string
	if sent.proof == "" {
		claims, err = auth.Verify(context.Background(), token)
	} else {
		show(stdout, "proof's ", sent.proof)
		has = []string{verdict.Proof}
		claims, err = auth.Authenticate(sent.with(token))
	}
	return explainVerdict(stdout, claims, err, why, has)
}

// explainVerdict prints the checks and what came of them.
func explainVerdict(w io.Writer, claims *bearer.Claims, err error, why refusal, has []string) int {
	var refused *bearer.Error
	reason := ""
	if errors.As(err, &refused) {
		reason = refused.Reason
	}
	passed, failed := verdict.Checks(reason, has...)
	for _, name := range passed {
		fmt.Fprintf(w, "pass  %s\n", name)
	}
	if err == nil {
		fmt.Fprintf(w, "\naccepted: subject %q, client %q, scopes %q\n", claims.Subject, claims.ClientID, claims.Scope)
		return 0
	}
	if failed != "" {
		fmt.Fprintf(w, "FAIL  %s\n", failed)
	}
	fmt.Fprintf(w, "\nrefused: %s\n  %-7s %s\n", refused.Description, "reason:", reason)
	for _, key := range []string{"detail", "cause", "claim", "want", "got", "hint"} {
		if why[key] != "" {
			fmt.Fprintf(w, "  %-7s %s\n", key+":", why[key])
		}
	}
	if reason == "bound" && len(has) == 0 {
		fmt.Fprintf(w, "  %-7s %s\n", "next:", "-proof, -method and -url judge a token that is bound to a key")
	}
	return 1
}

// show prints what can be read in a token or a proof.
func show(w io.Writer, whose, token string) {
	parts := strings.Split(token, ".")
	for i, name := range []string{"header", "payload"} {
		if len(parts) > i {
			fmt.Fprintf(w, "%s%s: %s\n", whose, name, pretty(parts[i]))
		}
	}
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

// A request is what came with the token.
type request struct{ proof, method, url string }

// apply has cfg accept proofs for the request, if it has one.
func (r *request) apply(cfg *bearer.Config) error {
	u, err := url.Parse(r.url)
	switch {
	case r.proof == "" && (r.url != "" || r.method != "GET"):
		return errors.New("-method and -url: need -proof")
	case r.proof == "":
		return nil
	case err != nil || u.Host == "":
		return fmt.Errorf("-proof needs the -url that it is for: %q is no URL", r.url)
	}
	if _, err := http.NewRequest(r.method, r.url, nil); err != nil {
		return fmt.Errorf("-method: %w", err)
	}
	cfg.DPoP = &bearer.DPoP{BaseURLs: []string{u.Scheme + "://" + u.Host}}
	return nil
}

// with returns the request as it came, with token.
func (r *request) with(token string) *http.Request {
	req, err := http.NewRequest(r.method, r.url, nil)
	if err != nil {
		panic(err) // apply has made one
	}
	req.RequestURI = req.URL.RequestURI()
	req.Header.Set("Authorization", "DPoP "+token)
	req.Header.Set("DPoP", r.proof)
	return req
}

// A refusal is a log handler that keeps what the record of a refused token says.
type refusal map[string]string

func (refusal) Enabled(context.Context, slog.Level) bool { return true }
func (r refusal) WithAttrs([]slog.Attr) slog.Handler     { return r }
func (r refusal) WithGroup(string) slog.Handler          { return r }

func (r refusal) Handle(_ context.Context, record slog.Record) error {
	maps.Copy(r, verdict.Why(record))
	return nil
}
