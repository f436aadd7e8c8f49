// Package apiserver is the program examples/server, so that others can be made of
// it: a small API behind package bearer.
package apiserver

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"example.com/bearer"
	"example.com/bearer/bearertest"
)

// An Extension is what a program adds to the server. Only Name is needed.
type Extension struct {
	Name string // of the program

	// Flags registers further flags.
	Flags func(*flag.FlagSet)

	// Configure changes what the flags of the server have made of config. It is
	// called once, after all flags were parsed. Its error is one about flags.
	Configure func(config *bearer.Config) error

	// Routes registers further routes. It is called with the config that the API
	// has.
	Routes func(root *http.ServeMux, config bearer.Config) error
}

// Run runs the program with the given arguments until ctx ends. It returns the exit
// status.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer, x Extension) int {
	var (
		flags         = flag.NewFlagSet(x.Name, flag.ContinueOnError)
		addr          = flags.String("addr", "127.0.0.1:58105", "`host:port` to listen on")
		issuer        = flags.String("issuer", "", "issuer `URL`, exactly as in the tokens; without it an embedded issuer is used")
		jwks          = flags.String("jwks", "", "JWKS `URL`; without it the keys are found by discovery")
		audienceClaim = flags.String("audience-claim", "", "`claim` to compare with the audience (default aud)")
		resource      = flags.String("resource", "", "public `URL` of this API, as clients write it: its metadata are served, and challenges name them")
		verbose       = flags.Bool("v", false, "log why each refused request was refused")
		audience      list
		scopeClaims   list
		keys          keyFlags
		binding       boundFlags
	)
	flags.Var(&audience, "audience", "accepted `audience`; may be repeated (default https://api.example.com, and that of -resource)")
	flags.Var(&scopeClaims, "scope-claim", "`claim` with the scopes; may be repeated (default scope, scp)")
	keys.register(flags)
	binding.register(flags)
	if x.Flags != nil {
		x.Flags(flags)
	}
	// A flag that cannot be read is told of together with all else that is wrong.
	var problems []error
	flags.SetOutput(io.Discard)
	for rest := args; ; {
		err := flags.Parse(rest)
		if err == nil {
			break
		}
		if errors.Is(err, flag.ErrHelp) {
			flags.SetOutput(stderr)
			flags.Usage()
			return 0
		}
		problems = append(problems, err)
		if rest = flags.Args(); len(rest) > 0 && err.Error() == "bad flag syntax: "+rest[0] {
			rest = rest[1:] // Parse leaves such a one there
		}
	}
	if audience == nil {
		audience = list{"https://api.example.com"}
		if *resource != "" {
			audience = append(audience, *resource)
		}
	}
	level := slog.LevelInfo
	if *verbose {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level}))

	listenAddr, err := net.ResolveTCPAddr("tcp", *addr)
	if err != nil {
		problems = append(problems, fmt.Errorf("-addr: %q is no host:port to listen on: %w", *addr, err))
	}
	if flags.NArg() > 0 {
		problems = append(problems, fmt.Errorf("unexpected arguments %q", flags.Args()))
	}
	embedded := *issuer == ""
	config := bearer.Config{
		Issuer:        *issuer,
		Audience:      audience,
		Resource:      *resource,
		JWKSURL:       *jwks,
		AudienceClaim: *audienceClaim,
		ScopeClaims:   scopeClaims,
		Logger:        log,
	}
	if embedded {
		needIssuer := keys.given()
		needIssuer["-jwks"], needIssuer["-audience-claim"], needIssuer["-scope-claim"] = *jwks != "", *audienceClaim != "", scopeClaims != nil
		for _, name := range slices.Sorted(maps.Keys(needIssuer)) {
			if needIssuer[name] {
				problems = append(problems, fmt.Errorf("%s: needs -issuer", name))
			}
		}
		config.Issuer = "http://localhost" // for now: the flags are checked first
	}
	keys.apply(&config)
	https, bad := binding.apply(&config)
	problems = append(problems, bad...)
	if x.Configure != nil {
		if err := x.Configure(&config); err != nil {
			problems = append(problems, err)
		}
	}
	trial := config
	trial.Logger = slog.New(slog.DiscardHandler)
	if err := binding.check(trial); err != nil {
		problems = append(problems, err)
	}
	if len(problems) > 0 {
		asFlags := strings.NewReplacer("bearer: Config.Issuer", "-issuer", "bearer: Config.Audience:", "-audience:",
			"bearer: Config.AudienceClaim", "-audience-claim", "bearer: Config.ScopeClaims", "-scope-claim",
			"bearer: Config.JWKSURL", "-jwks", "bearer: Config.Resource", "-resource",
			"bearer: Config.Metadata.AuthorizationServers: required, since", "-resource: cannot be used here, since",
			"bearer: Config.DPoP.BaseURLs", "-base-url", "bearer: Config.DPoP.NonceKeys", "-nonce-key",
			"bearer: Config.TokenTypes", "-type", "bearer: Config.MaxTokenLength", "-max-token", "bearer: Config.FetchKeys", "-jwks-file",
			"JWKSURL", "-jwks", "FetchKeys", "-jwks-file", "InsecureHTTP", "-insecure-http")
		fmt.Fprintf(stderr, "%s: bad flags:\n%s\n", x.Name, asFlags.Replace(errors.Join(problems...).Error()))
		return 2
	}

	listener, err := net.ListenTCP("tcp", listenAddr)
	if err != nil {
		fmt.Fprintf(stderr, "%s: %v\n", x.Name, err)
		return 1
	}
	root := http.NewServeMux()
	var page *live // for the embedded issuer
	scheme, curl := "http", "curl -i "
	if https != nil {
		scheme, curl = "https", "curl -i --cacert "+binding.certFile+" "
	}
	base := origin(scheme, *addr, listener.Addr())
	if binding.dpop && binding.baseURLs == nil && *resource == "" {
		config.DPoP.BaseURLs = []string{base}
	}
	if embedded {
		iss := bearertest.NewIssuer(base + "/issuer")
		root.Handle("GET /issuer/", iss)
		config.Issuer, config.Client = iss.URL, iss.Client()
		where := ":"
		if isLoopback(listener.Addr().String()) { // a Host header is the client's to choose
			page = newLive(iss, &config)
			servePage(root, iss, audience[0], binding.pageURL(&config), page)
			where = fmt.Sprintf(",\nor open %s/ in a browser:", base)
		}
		fmt.Fprintf(stdout, "The API listens on %s. Paste these lines into another terminal%s\n\n%s", base, where, curlLines(curl, base, iss, audience[0]))
	} else {
		fmt.Fprintf(stdout, "The API listens on %s and accepts tokens of %s for %s.\n", base, *issuer, strings.Join(audience, " or "))
	}
	auth, err := bearer.New(config)
	if err != nil { // it was good a moment ago
		fmt.Fprintf(stderr, "%s: %v\n", x.Name, err)
		return 2
	}
	routes(root, auth)
	if x.Routes != nil {
		if err := x.Routes(root, config); err != nil {
			fmt.Fprintf(stderr, "%s: %v\n", x.Name, err)
			return 2
		}
	}
	if *resource != "" {
		auth.HandleMetadata(root)
	}

	handler := http.Handler(root)
	if page != nil {
		page.auth, handler = auth, page.watch(root)
	}
	server := &http.Server{Handler: handler, TLSConfig: https, ReadHeaderTimeout: 5 * time.Second, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn)}
	if page != nil {
		server.RegisterOnShutdown(page.stop)
	}
	served := make(chan error, 1)
	go func() {
		if https != nil {
			served <- server.ServeTLS(listener, "", "")
		} else {
			served <- server.Serve(listener)
		}
	}()
	select {
	case err := <-served:
		fmt.Fprintf(stderr, "%s: %v\n", x.Name, err)
		return 1
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		server.Close() // somebody is still connected: that is no reason to stay
	}
	return 0
}

// A list is a flag that may be repeated.
type list []string

func (l *list) String() string { return strings.Join(*l, " ") }

func (l *list) Set(value string) error {
	*l = append(*l, value)
	return nil
}

// routes registers the API. What is not for everybody is in a mux of its own
// behind auth, so that a route added there is closed before anyone thinks of it.
func routes(root *http.ServeMux, auth *bearer.Middleware) {
	root.HandleFunc("GET /api/ping", func(w http.ResponseWriter, r *http.Request) {
		reply(w, http.StatusOK, map[string]any{"message": "pong"})
	})

	root.HandleFunc("GET /ready", func(w http.ResponseWriter, r *http.Request) {
		if err := auth.Ready(r.Context()); err != nil {
			reply(w, http.StatusServiceUnavailable, map[string]any{"message": "the issuer's keys cannot be had"})
			return
		}
		reply(w, http.StatusOK, map[string]any{"message": "ready"})
	})

	api := http.NewServeMux()
	api.HandleFunc("GET /api/ping/secure", func(w http.ResponseWriter, r *http.Request) {
		claims, _ := bearer.FromContext(r.Context())
		reply(w, http.StatusOK, map[string]any{
			"sub":       claims.Subject,
			"scope":     slices.AppendSeq([]string{}, claims.Scope.All()),
			"iss":       claims.Issuer,
			"client_id": claims.ClientID,
			"bound":     bound(claims.Bound),
		})
	})
	message := func(status int, text string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			reply(w, status, map[string]any{"message": text})
		})
	}
	login := bearer.Authentication{ACR: []string{"gold", "silver"}, MaxAge: 300 * time.Second}
	api.Handle("GET /api/vault", auth.RequireAuthentication(login)(message(http.StatusOK, "the vault is open")))
	api.Handle("/api/", message(http.StatusNotFound, "no such route"))
	root.Handle("/api/", auth.Handler(api))

	// Beside that, and not inside of it: they authenticate by themselves, and so
	// tell those who come without a token which scope to ask for.
	root.Handle("GET /api/messages", auth.RequireScope("read:messages")(message(http.StatusOK, "here are your messages")))
	root.Handle("POST /api/messages", auth.RequireScope("read:messages", "write:messages")(message(http.StatusCreated, "message written")))
	root.Handle("DELETE /api/messages", auth.RequireAnyScope("delete:messages", "admin")(message(http.StatusOK, "messages deleted")))
}

func reply(w http.ResponseWriter, status int, body map[string]any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(body)
}

// curlLines returns a command for each answer there is, under the status that
// it will get. Each begins with curl.
func curlLines(curl, base string, iss *bearertest.Issuer, audience string) string {
	read := iss.Token(audience, bearertest.Claims{"scope": "read:messages"})
	none := iss.Token(audience, nil)
	expired := iss.Token(audience, bearertest.Claims{"scope": "read:messages", "exp": time.Now().Add(-time.Hour).Unix()})
	// A signature of the right form, but another one.
	middle, other := len(read)-40, "A"
	if read[middle] == 'A' {
		other = "B"
	}
	tampered := read[:middle] + other + read[middle+1:]

	var b strings.Builder
	for _, line := range []struct{ status, route, token string }{
		{"401: no token", "/api/ping/secure", ""},
		{"200: a token", "/api/ping/secure", none},
		{"403: a token without the scope read:messages", "/api/messages", none},
		{"200: a token with the scope read:messages", "/api/messages", read},
		{"401: an expired token", "/api/messages", expired},
		{"401: a token that was tampered with", "/api/messages", tampered},
	} {
		fmt.Fprintf(&b, "# %s\n%s%s%s", line.status, curl, base, line.route)
		if line.token != "" {
			fmt.Fprintf(&b, " -H 'Authorization: Bearer %s'", line.token)
		}
		b.WriteString("\n\n")
	}
	return b.String()
}
