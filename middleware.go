package bearer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Defaults and bounds of Config.
const (
	defaultLeeway = 60 * time.Second
	maxLeeway     = 10 * time.Minute
)

// A Config says whose tokens an API accepts. Issuer, or IssuerTemplate in its
// place, and Audience are required; the zero value of every other field is a
// safe default.
type Config struct {
	_ [0]func() // no comparison, no literals without field names

	// Issuer is the authorization server whose tokens are accepted, exactly as
	// it stands in their "iss" claim: a slash at the end counts. It must be an
	// https URL (http on loopback hosts), from which the keys are found, unless
	// JWKSURL is set; then it may be any string.
	Issuer string

	// IssuerTemplate takes the place of Issuer for an authorization server that
	// names itself differently for each tenant, as Microsoft Entra ID does:
	// "https://login.microsoftonline.com/{tenantid}/v2.0". The "iss" of a token
	// must be the template with the token's "tid" claim filled in, and so must
	// the "issuer" of the key that signed it, if the key has one that is not the
	// template itself. Keys are found by discovery with "common" filled in.
	IssuerTemplate string

	// Tenants lists the tenants, the "tid" claims, that are accepted with
	// IssuerTemplate. If it is empty every tenant is, and anybody can have one:
	// Require must then decide by the tenant.
	Tenants []string

	// Audience lists the names of this API, as "aud" has them. A token must
	// carry at least one of them.
	Audience []string

	// JWKSURL is where the issuer's keys are. If it is empty they are found by
	// discovery (OpenID Connect Discovery 1.0, RFC 8414).
	JWKSURL string

	// Algorithms lists the signature algorithms that are accepted, out of
	// RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512 and EdDSA.
	// If it is empty all of them are, each with the keys it is meant for.
	// Algorithms with a shared secret, such as HS256, cannot be used.
	Algorithms []string

	// AudienceClaim is the claim that is compared with Audience, for issuers
	// that do not set "aud": "client_id" for Amazon Cognito, "azp" for Clerk. If
	// it is empty it is "aud". Like the names in ScopeClaims it may be a path.
	AudienceClaim string

	// ScopeClaims lists the claims that may hold the scopes, as a string of
	// names separated by spaces or an array of names. The first one that a
	// token has counts. If it is empty it is "scope", "scp". A name stands for
	// the member of that name or else, with dots, for a path into nested
	// objects: "realm_access.roles".
	ScopeClaims []string

	// Leeway is the tolerated difference between the issuer's clock and this
	// one. Zero means 60 seconds, a negative value none. More than 10 minutes
	// are refused.
	Leeway time.Duration

	// Header is the request header with the token, for proxies that put their
	// assertion into one of their own: "X-Goog-Iap-Jwt-Assertion" of Google's
	// Identity-Aware Proxy, "Cf-Access-Jwt-Assertion" of Cloudflare Access. The
	// token stands in it without a scheme. If Header is empty, it stands in
	// Authorization behind "Bearer".
	Header string

	// Realm is sent with every challenge if it is not empty (RFC 9110, section
	// 11.5).
	Realm string

	// Client fetches metadata and keys. Its redirect policy is replaced: only
	// redirects within one host are followed. Its transport must heed the
	// context of a request, since no other fetch begins before one has ended.
	// If it is nil a client with http.DefaultTransport is used.
	Client *http.Client

	// Logger gets a record when the state of the keys changes, and at debug
	// level one for each refused request and for each that came with what looks
	// like an ID token. None ever holds a token. If it is nil
	// slog.Default() is used, as it is when New is called.
	Logger *slog.Logger

	// TokenCache is how many verified tokens are kept, so that the next request
	// with the same token costs no signature check. Zero means 8192, a negative
	// value none; more than 1048576 are refused. Tokens of up to 4 KiB are kept
	// from their second use on, until others need the place; none is used after
	// it expired or its key was withdrawn. One takes about twice its length, so
	// that the default comes to 16 MiB with tokens of 1 KiB, and to 64 at most.
	TokenCache int

	// ErrorHandler writes the reply to a refused request. The headers
	// WWW-Authenticate, Cache-Control and Retry-After are set before it is
	// called; it should send e.Status. If it is nil the reply is a JSON object
	// with the members "error" and "error_description". It is called by many
	// goroutines at once.
	ErrorHandler func(w http.ResponseWriter, r *http.Request, e *Error)
}

// A Middleware authenticates requests by their bearer token. It is safe for
// concurrent use. Make one with [New] for an API and use it for all of its
// routes, since it holds the issuer's keys. The zero value is not usable.
type Middleware struct {
	verifiers    []*verifier // of different issuers; several only by Or
	header       string      // that holds the token
	realm        string
	log          *slog.Logger
	errorHandler func(http.ResponseWriter, *http.Request, *Error)
}

// New returns a Middleware for cfg. It does not reach out to the issuer: the
// first request does, or [Middleware.Ready]. If anything is wrong with cfg, the
// error tells all of it. Changes of cfg or of its slices after New have no
// effect.
func New(cfg Config) (*Middleware, error) {
	var errs []error
	bad := func(field, format string, args ...any) {
		errs = append(errs, fmt.Errorf("bearer: Config.%s: "+format, append([]any{field}, args...)...))
	}

	issuer, base, field := cfg.Issuer, cfg.Issuer, "Issuer"
	if cfg.IssuerTemplate != "" {
		issuer, base, field = cfg.IssuerTemplate, fillTemplate(cfg.IssuerTemplate, "common"), "IssuerTemplate"
		if cfg.Issuer != "" {
			bad("IssuerTemplate", "cannot be set together with Issuer")
		}
		if strings.Count(issuer, tenantPlaceholder) != 1 {
			bad("IssuerTemplate", "%q must hold %s once", issuer, tenantPlaceholder)
		}
	} else if len(cfg.Tenants) > 0 {
		bad("Tenants", "needs IssuerTemplate")
	}
	if slices.Contains(cfg.Tenants, "") {
		bad("Tenants", "an empty string is no tenant")
	}
	if issuer == "" {
		bad("Issuer", "required: the \"iss\" claim of the tokens to accept")
	} else if cfg.JWKSURL == "" {
		if err := checkURL(base); err != nil {
			bad(field, "%w; or set JWKSURL", err)
		} else if strings.ContainsAny(issuer, "?#") {
			bad(field, "%q must have no query (RFC 8414, section 2); or set JWKSURL", issuer)
		}
	}
	if cfg.JWKSURL != "" {
		if err := checkURL(cfg.JWKSURL); err != nil {
			bad("JWKSURL", "%w", err)
		}
	}
	if len(cfg.Audience) == 0 {
		bad("Audience", "required: the \"aud\" of tokens that are meant for this API")
	}
	for _, audience := range cfg.Audience {
		if audience == "" {
			bad("Audience", "an empty string is no audience; it must be what the tokens' \"aud\" says")
		}
	}
	algorithms := make([]string, 0, len(allAlgorithms))
	for _, name := range cfg.Algorithms {
		if method := methods[name]; method == nil {
			bad("Algorithms", "%q is not one of %s", name, strings.Join(allAlgorithms, ", "))
		} else {
			algorithms = append(algorithms, method.Alg())
		}
	}
	if len(cfg.Algorithms) == 0 {
		algorithms = allAlgorithms
	}
	audienceClaim := cfg.AudienceClaim
	if audienceClaim == "" {
		audienceClaim = "aud"
	}
	scopeClaims := slices.Clone(cfg.ScopeClaims)
	if len(scopeClaims) == 0 {
		scopeClaims = []string{"scope", "scp"}
	}
	if slices.Contains(scopeClaims, "") {
		bad("ScopeClaims", "an empty string is no claim")
	}
	leeway := cfg.Leeway
	switch {
	case leeway == 0:
		leeway = defaultLeeway
	case leeway < 0:
		leeway = 0
	case leeway > maxLeeway:
		bad("Leeway", "%v is more than %v", leeway, maxLeeway)
	}
	header := http.CanonicalHeaderKey(cfg.Header)
	switch {
	case header == "":
		header = authorization
	case header == authorization:
		bad("Header", "leave it empty for Authorization with the scheme Bearer")
	case !isToken(header):
		bad("Header", "%q is not the name of a header", cfg.Header)
	}
	if strings.ContainsFunc(cfg.Realm, func(r rune) bool { return r < ' ' || r > '~' }) {
		bad("Realm", "%q has characters that a header cannot carry", cfg.Realm)
	}
	var cache *tokenCache
	switch n := cfg.TokenCache; {
	case n > maxTokenCache:
		bad("TokenCache", "%d is more than %d", n, maxTokenCache)
	case n > 0:
		cache = newTokenCache(n)
	case n == 0:
		cache = newTokenCache(defaultTokenCache)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}

	// golang-jwt keeps the slice it is given, and the caller's may change.
	audience := slices.Clone(cfg.Audience)
	log := cfg.Logger
	if log == nil {
		log = slog.Default()
	}
	return &Middleware{
		verifiers: []*verifier{{
			issuer:        issuer,
			template:      cfg.IssuerTemplate != "",
			tenants:       slices.Clone(cfg.Tenants),
			audience:      audience,
			audienceClaim: audienceClaim,
			scopeClaims:   scopeClaims,
			algorithms:    algorithms,
			leeway:        leeway,
			validator: jwt.NewValidator(
				jwt.WithIssuer(issuer),
				jwt.WithAudience(audience...),
				jwt.WithExpirationRequired(),
				jwt.WithIssuedAt(),
				jwt.WithLeeway(leeway),
			),
			cache: cache,
			keys:  newKeys(issuer, base, cfg.JWKSURL, cfg.Client, log, algorithms),
		}},
		header:       header,
		realm:        cfg.Realm,
		log:          log,
		errorHandler: cfg.ErrorHandler,
	}, nil
}

// Handler returns a handler that serves only requests with a valid token, and
// serves those with next. [FromContext] gives next the token's claims.
//
// Without a bearer token in the Authorization header the reply is 401, with a
// malformed header 400, and with a token that does not verify 401. It is 503
// when the issuer's keys cannot be had, for then the token is neither good nor
// bad. Tokens in the query, in a body or in a cookie are not looked at.
//
// The Authorization header stays on the request.
func (m *Middleware) Handler(next http.Handler) http.Handler {
	mustHandle(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := m.authenticate(r)
		if err != nil {
			m.refuse(w, r, err)
			return
		}
		m.serve(next, w, r, c)
	})
}

// mustHandle panics if there is no handler to protect: when the route is
// registered and not when it is called, as http.ServeMux does.
func mustHandle(next http.Handler) {
	if next == nil {
		panic("bearer: nil handler")
	}
}

// Optional is like [Middleware.Handler], but serves requests without a bearer
// token too: for those [FromContext] reports false. A token that is there must
// be valid.
func (m *Middleware) Optional(next http.Handler) http.Handler {
	mustHandle(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := m.authenticate(r)
		switch {
		case err == nil:
			m.serve(next, w, r, c)
		case errors.Is(err, errNoCredentials):
			next.ServeHTTP(w, r)
		default:
			m.refuse(w, r, err)
		}
	})
}

// Authenticate returns the claims of the request's token, as
// [Middleware.Handler] would pass them on. It writes nothing, and of r it looks
// at the header and the context only: it is for frameworks and protocols with a
// way of their own to reply. If m has already verified the request, those
// claims count and the header does not; so a request within a request, such as
// one of a batch, that has a token of its own needs a context of its own. The error is an
// [*Error], for [Middleware.WriteError] or to be translated.
func (m *Middleware) Authenticate(r *http.Request) (*Claims, error) {
	if c := m.verified(r.Context()); c != nil {
		return c, nil
	}
	c, err := m.authenticate(r)
	if err != nil {
		m.logRefusal(r.Context(), err)
	}
	return c, err
}

// Verify returns the claims of a bare token, for callers without an HTTP
// request: gRPC, queues. Only the token counts: its scheme and white space must
// have been removed. The error is an [*Error].
func (m *Middleware) Verify(ctx context.Context, token string) (*Claims, error) {
	c, err := m.verify(ctx, token)
	if err != nil {
		m.logRefusal(ctx, err)
	}
	return c, err
}

func (m *Middleware) verify(ctx context.Context, token string) (*Claims, error) {
	v, err := m.verifierOf(token)
	if err != nil {
		return nil, err
	}
	c, err := v.verify(ctx, token)
	if err != nil {
		if asError(err).Status == http.StatusServiceUnavailable {
			v.keys.refused.Add(1)
		}
		return nil, err
	}
	if c.idToken && m.log.Enabled(ctx, slog.LevelDebug) {
		m.log.LogAttrs(ctx, slog.LevelDebug, "bearer: accepted what looks like an ID token",
			slog.String("hint", "it has a nonce or at_hash claim: clients should send their access token"))
	}
	return c, nil
}

// Ready returns nil once usable keys are at hand, of every issuer, and fetches
// them if there are none. It is for readiness probes, and for programs that want
// to start with the keys in place. The error is an [*Error] with status 503.
func (m *Middleware) Ready(ctx context.Context) error {
	for _, v := range m.verifiers {
		if _, err := v.keys.usable(ctx, time.Now()); err != nil {
			return err
		}
	}
	return nil
}

// authenticate verifies the request's token.
func (m *Middleware) authenticate(r *http.Request) (*Claims, error) {
	token, err := m.token(r.Header)
	if err != nil {
		return nil, err
	}
	c, err := m.verify(r.Context(), token)
	if err == nil {
		return c, nil
	}
	// Characters that no token may have make the header malformed and not only
	// the token. They are looked for here, since a good token has none.
	if errors.Is(err, errEncoding) && !isToken68(token) {
		return nil, invalidRequest("more than a token, or characters that no token has")
	}
	return nil, err
}

var errNoCredentials = errors.New("no bearer token")

const authorization = "Authorization"

// token returns what stands where the request's token should stand (RFC 6750,
// section 2.1; RFC 9110, section 11.4).
func (m *Middleware) token(h http.Header) (string, error) {
	values := h[m.header]
	if len(values) > 1 {
		// Which one counts would depend on who reads them.
		return "", invalidRequest("more than one header")
	}
	value := ""
	if len(values) == 1 {
		value = values[0]
		if n := len(value); n > 0 && (value[0] <= ' ' || value[n-1] <= ' ') { // net/http leaves none
			value = strings.Trim(value, " \t")
		}
	}
	if m.header != authorization {
		if value == "" {
			return "", noCredentials("")
		}
		return value, nil
	}
	const scheme = "Bearer"
	if n := len(scheme); len(value) < n || !strings.EqualFold(value[:n], scheme) ||
		len(value) > n && value[n] != ' ' && value[n] != '\t' {
		return "", noCredentials(value)
	}
	token := strings.TrimLeft(value[len(scheme):], " ")
	if token == "" {
		return "", invalidRequest("no token after the scheme")
	}
	return token, nil
}

// noCredentials is the refusal of a request without a bearer token. value is
// what stands in its Authorization header.
func noCredentials(value string) *Error {
	r := &refusal{reason: "no_credentials", err: errNoCredentials}
	switch {
	case strings.Count(value, ".") == 2 && !strings.Contains(value, " "):
		r.hint = "the token stands there without its scheme: it must follow \"Bearer \""
	case value != "":
		r.detail = "another scheme than Bearer"
	}
	return &Error{Status: http.StatusUnauthorized, Description: "a bearer token is required", Err: r}
}

// isToken68 reports whether s has only the characters of a token68 (RFC 9110,
// section 11.2).
func isToken68(s string) bool {
	for i := range len(s) {
		if !token68[s[i]] {
			return false
		}
	}
	return true
}

var token68 = func() (set [256]bool) {
	for _, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/=") {
		set[c] = true
	}
	return set
}()

// isToken reports whether s is a token in the sense of RFC 9110, section 5.6.2,
// as the names of headers are.
func isToken(s string) bool {
	for _, c := range []byte(s) {
		if c <= ' ' || c > '~' || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			return false
		}
	}
	return s != ""
}

func invalidRequest(detail string) *Error {
	return &Error{
		Status:      http.StatusBadRequest,
		Code:        codeInvalidRequest,
		Description: "the header with the token is malformed",
		Err:         &refusal{reason: "invalid_request", err: jwt.ErrTokenMalformed, detail: detail},
	}
}

// verified returns the claims in ctx that m itself put there, or nil.
func (m *Middleware) verified(ctx context.Context) *Claims {
	if c, ok := ctx.Value(contextKey{}).(*claimsContext); ok && c.by == m {
		return c.claims
	}
	return nil
}

// serve passes the request on with its claims.
func (m *Middleware) serve(next http.Handler, w http.ResponseWriter, r *http.Request, c *Claims) {
	r2 := r.WithContext(&claimsContext{Context: r.Context(), claims: c, by: m})
	next.ServeHTTP(w, r2)
	// WithContext made a copy. What the router noted there is what access logs
	// and metrics outside look for here.
	r.Pattern = r2.Pattern
}

func (m *Middleware) refuse(w http.ResponseWriter, r *http.Request, err error) {
	m.logRefusal(r.Context(), err)
	m.WriteError(w, r, err)
}
