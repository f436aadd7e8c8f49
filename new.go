package bearer

import (
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"example.com/bearer/internal/dpop"
	"example.com/bearer/internal/jose"
	"example.com/bearer/internal/jwks"
)

// New returns a Middleware for cfg. It does not reach out to the issuer: the
// first request does, or [Middleware.Ready]. If anything is wrong with cfg, the
// error tells all of it. Changes of cfg or of its slices after New have no
// effect.
func New(cfg Config) (*Middleware, error) {
	var bad problems
	if len(cfg.Audience) == 0 && cfg.Resource != "" {
		cfg.Audience = []string{cfg.Resource}
	}
	log := cfg.Logger
	if log == nil {
		log = slog.Default()
	}
	leeway := checkLeeway(cfg.Leeway, &bad)
	v, source := newVerifier(&cfg, leeway, &bad)
	header := checkHeader(cfg.Header, &bad)
	maxLength := checkMaxLength(cfg.MaxTokenLength, &bad)
	bindings := newBindings(&cfg, leeway, log, &bad)
	c := challenger{realm: cfg.Realm, algs: bindings.algorithms(), dpopOnly: bindings.dpopOnly()}
	doc := newDocument(&cfg, v, &c, &bad)
	if strings.ContainsFunc(cfg.Realm, func(r rune) bool { return r < ' ' || r > '~' }) {
		bad.add("Realm", "%q has characters that a header cannot carry", cfg.Realm)
	}
	tokens := cfg.TokenCache
	if tokens == 0 {
		tokens = defaultTokenCache
	}
	if tokens > maxTokenCache {
		bad.add("TokenCache", "%d is more than %d", tokens, maxTokenCache)
	}
	if len(bad) > 0 {
		return nil, errors.Join(bad...)
	}

	c.prepare()
	revoked := newRevocation(cfg.Revoked, log)
	var all []*verifier
	if v != nil {
		if cfg.InsecureHTTP {
			log.Warn("bearer: keys may come over plain http", "issuer", v.issuer, "because_of", "Config.InsecureHTTP")
		}
		source.Log = log
		v.keys = &keyring{Source: jwks.New(source)}
		v.maxLength, v.revoked = maxLength, revoked
		all = append(all, v)
	}
	var finders []*finder
	if cfg.FindIssuer != nil {
		finders = append(finders, newFinder(cfg.FindIssuer, bindings, log))
	}
	return &Middleware{
		issuers:   newIssuers(all, finders),
		cache:     newTokenCache(tokens),
		header:    header,
		maxLength: maxLength,
		bindings:  bindings,
		replies:   replier{c, bindings, cfg.ErrorHandler},
		document:  doc,
		observer:  observer{log: log, observe: cfg.Observe},
		revoked:   revoked,
	}, nil
}

// newVerifier returns the verifier that cfg describes, without keys, and where
// those are. It returns nil if all is left to FindIssuer.
func newVerifier(cfg *Config, leeway time.Duration, bad *problems) (*verifier, jwks.Config) {
	if cfg.FindIssuer != nil && cfg.Issuer == "" && cfg.IssuerTemplate == "" {
		checkNoIssuer(cfg, bad)
		return nil, jwks.Config{}
	}
	v := &verifier{
		template:      cfg.IssuerTemplate != "",
		tenants:       slices.Clone(cfg.Tenants),
		audience:      slices.Clone(cfg.Audience),
		audienceClaim: cfg.AudienceClaim,
		leeway:        leeway,
	}
	issuer, base := checkIssuer(cfg, bad)
	v.issuer = issuer
	if len(cfg.Audience) == 0 {
		bad.add("Audience", "required: the \"aud\" of tokens that are meant for this API")
	}
	if slices.Contains(cfg.Audience, "") {
		bad.add("Audience", "an empty string is no audience; it must be what the tokens' \"aud\" says")
	}
	if v.audienceClaim == "" {
		v.audienceClaim = "aud"
	}
	v.algorithms = checkAlgorithms(cfg.Algorithms, bad)
	v.types = checkTypes(cfg.TokenTypes, bad)
	scopeClaims := cfg.ScopeClaims
	if len(scopeClaims) == 0 {
		scopeClaims = []string{"scope", "scp"}
	}
	if slices.Contains(scopeClaims, "") {
		bad.add("ScopeClaims", "an empty string is no claim")
	}
	for _, path := range append([]string{v.audienceClaim}, scopeClaims...) {
		v.places = append(v.places, lookup{path: path})
		if path != "" {
			v.letters[path[0]] = true
		}
	}
	v.validator = jwt.NewValidator(
		jwt.WithIssuer(issuer),
		jwt.WithAudience(v.audience...),
		jwt.WithExpirationRequired(),
		jwt.WithIssuedAt(),
		jwt.WithLeeway(v.leeway),
	)
	return v, jwks.Config{
		Issuer:       issuer,
		Base:         base,
		URL:          cfg.JWKSURL,
		InsecureHTTP: cfg.InsecureHTTP,
		Client:       cfg.Client,
		Algorithms:   v.algorithms,
		Fetch:        cfg.FetchKeys,
		Cache:        cfg.KeyCache,
	}
}

// checkNoIssuer checks that cfg has no rules for the tokens of an issuer that it
// does not name. They would be taken for those of all.
func checkNoIssuer(cfg *Config, bad *problems) {
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"Tenants", len(cfg.Tenants) > 0},
		{"JWKSURL", cfg.JWKSURL != ""},
		{"FetchKeys", cfg.FetchKeys != nil},
		{"KeyCache", cfg.KeyCache != nil},
		{"InsecureHTTP", cfg.InsecureHTTP},
		{"Algorithms", len(cfg.Algorithms) > 0},
		{"TokenTypes", len(cfg.TokenTypes) > 0},
		{"AudienceClaim", cfg.AudienceClaim != ""},
		{"ScopeClaims", len(cfg.ScopeClaims) > 0},
	} {
		if f.set {
			bad.add(f.name, "needs Issuer; the Middlewares that FindIssuer returns have their own")
		}
	}
}

// checkIssuer returns the issuer, or the template of issuers, and the URL that
// discovery starts from.
func checkIssuer(cfg *Config, bad *problems) (issuer, base string) {
	issuer, base = cfg.Issuer, cfg.Issuer
	field := "Issuer"
	if cfg.IssuerTemplate != "" {
		issuer, base, field = cfg.IssuerTemplate, fillTemplate(cfg.IssuerTemplate, "common"), "IssuerTemplate"
		if cfg.Issuer != "" {
			bad.add("IssuerTemplate", "cannot be set together with Issuer")
		}
		if !strings.Contains(issuer, tenantPlaceholder) {
			bad.add("IssuerTemplate", "%q must hold %s", issuer, tenantPlaceholder)
		}
		// Whose host "common" is nobody knows.
		if host, _, _ := strings.Cut(strings.TrimPrefix(issuer, "https://"), "/"); cfg.JWKSURL == "" && cfg.FetchKeys == nil && strings.Contains(host, tenantPlaceholder) {
			bad.add("IssuerTemplate", "%q has another host for each tenant; set JWKSURL or FetchKeys", issuer)
		}
	} else if len(cfg.Tenants) > 0 {
		bad.add("Tenants", "needs IssuerTemplate")
	}
	if slices.Contains(cfg.Tenants, "") {
		bad.add("Tenants", "an empty string is no tenant")
	}
	if issuer == "" {
		bad.add("Issuer", "required: the \"iss\" claim of the tokens to accept; or IssuerTemplate, or FindIssuer")
	} else if cfg.JWKSURL == "" && cfg.FetchKeys == nil {
		if err := checkURL(base, cfg.InsecureHTTP); err != nil {
			bad.add(field, "%w; or set JWKSURL or FetchKeys", err)
		} else if strings.ContainsAny(issuer, "?#") {
			bad.add(field, "%q must have no query (RFC 8414, section 2); or set JWKSURL or FetchKeys", issuer)
		}
	}
	if cfg.JWKSURL != "" {
		if err := checkURL(cfg.JWKSURL, cfg.InsecureHTTP); err != nil {
			bad.add("JWKSURL", "%w", err)
		}
		if cfg.FetchKeys != nil {
			bad.add("FetchKeys", "cannot be set together with JWKSURL")
		}
	}
	if dir, ok := cfg.KeyCache.(DirCache); ok && dir == "" {
		bad.add("KeyCache", "a DirCache needs the name of a directory")
	}
	return issuer, base
}

// checkURL reports what keeps raw from being a URL to fetch keys from.
func checkURL(raw string, insecure bool) error {
	if insecure {
		return jwks.CheckInsecureURL(raw)
	}
	return jwks.CheckURL(raw)
}

// checkAlgorithms returns the accepted algorithms, each by its one name.
func checkAlgorithms(names []string, bad *problems) []string {
	if len(names) == 0 {
		return jose.Algorithms
	}
	var algorithms []string
	for _, name := range names {
		if method := jose.Method(name); method == nil {
			bad.add("Algorithms", "%q is not one of %s", name, strings.Join(jose.Algorithms, ", "))
		} else {
			algorithms = append(algorithms, method.Alg())
		}
	}
	return algorithms
}

// checkTypes returns the accepted types of tokens, as mediaType has them.
func checkTypes(types []string, bad *problems) []string {
	if len(types) == 0 {
		return []string{"jwt", "at+jwt", ""}
	}
	var accepted []string
	for _, t := range types {
		name := mediaType(t)
		switch {
		case t != "" && !isToken(strings.Replace(name, "/", "", 1)):
			bad.add("TokenTypes", "%q is no media type", t)
		case slices.Contains(accepted, name):
			bad.add("TokenTypes", "%q is there twice", t)
		}
		accepted = append(accepted, name)
	}
	return accepted
}

func checkMaxLength(n int, bad *problems) int {
	switch {
	case n == 0:
		return defaultMaxLength
	case n < 0:
		bad.add("MaxTokenLength", "%d is no length", n)
	case n > maxMaxLength:
		bad.add("MaxTokenLength", "%d is more than %d", n, maxMaxLength)
	}
	return n
}

func checkLeeway(leeway time.Duration, bad *problems) time.Duration {
	switch {
	case leeway == 0:
		return defaultLeeway
	case leeway > maxLeeway:
		bad.add("Leeway", "%v is more than %v", leeway, maxLeeway)
	}
	return max(leeway, 0)
}

// checkHeader returns the canonical name of the header that holds the token.
func checkHeader(name string, bad *problems) string {
	header := http.CanonicalHeaderKey(name)
	switch {
	case header == "":
		return authorization
	case header == authorization:
		bad.add("Header", "leave it empty for Authorization with the scheme Bearer")
	case !isToken(header):
		bad.add("Header", "%q is not the name of a header", name)
	}
	return header
}

// newBindings returns how the bindings of tokens are judged.
func newBindings(cfg *Config, leeway time.Duration, log *slog.Logger, bad *problems) *bindings {
	b := &bindings{certificate: cfg.Certificate, required: cfg.RequireBound}
	if cfg.RequireBound && cfg.DPoP == nil && cfg.Certificate == nil {
		bad.add("RequireBound", "needs DPoP or Certificate, or else no token is accepted")
	}
	if cfg.DPoP == nil {
		return b
	}
	if cfg.Header != "" {
		bad.add("DPoP", "cannot be set together with Header: its tokens are in Authorization")
	}
	b.settings = dpop.Settings{
		BaseURLs:   slices.Clone(cfg.DPoP.BaseURLs),
		Algorithms: slices.Clone(cfg.DPoP.Algorithms),
		MaxAge:     cfg.DPoP.MaxAge,
		Leeway:     leeway,
		Resource:   cfg.Resource,
	}
	if store := cfg.DPoP.Replay; store != nil {
		b.settings.Store, b.settings.StoreID = &replayStore{hook{name: "DPoP.Replay", log: log}, store, make(chan struct{}, replayCalls)}, store
	}
	if len(b.settings.BaseURLs) == 0 && cfg.Resource != "" {
		b.settings.BaseURLs = []string{resourceOrigin(cfg.Resource)}
	}
	for _, key := range cfg.DPoP.NonceKeys {
		b.settings.NonceKeys = append(b.settings.NonceKeys, slices.Clone(key))
	}
	var err error
	if b.proofs, err = dpop.New(b.settings); err != nil {
		for text := range strings.SplitSeq(err.Error(), "\n") {
			*bad = append(*bad, errors.New("bearer: Config.DPoP."+text))
		}
	}
	return b
}
