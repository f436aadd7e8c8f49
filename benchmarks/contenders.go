package main

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"example.com/bearer"
	"example.com/bearer/bearertest"
)

// A contender is one way to protect an API.
type contender struct {
	name    string
	modules []string // whose versions tell what was measured
	protect func(context.Context, *trial) (protection, error)

	blind bool                   // a yardstick, which checks less than contenders must
	lacks []string               // checks of conform that it does not make, and could not be given
	more  func(*trial) []attempt // what it must do besides
}

// A protection is a contender at work.
type protection struct {
	wrap    func(http.Handler) http.Handler
	subject func(context.Context) string // of the request's token, for the handler
	own     func(context.Context) ownClaims
}

// ownClaims are three claims that none of the libraries knows.
type ownClaims struct {
	Party       string   `json:"azp"`
	Org         string   `json:"org_id"`
	Permissions []string `json:"permissions"`
}

// ownClaims returns what the handler must find in each token.
func (t *trial) ownClaims() ownClaims {
	return ownClaims{t.claims["azp"].(string), t.claims["org_id"].(string), t.claims["permissions"].([]string)}
}

// api returns the handler that is measured: the protection around a handler that
// reads "sub", or three claims of its own.
func (p protection) api(t *trial) http.Handler {
	if !t.own {
		return p.wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			status := http.StatusNoContent
			if p.subject(r.Context()) != subject {
				status = http.StatusInternalServerError
			}
			w.WriteHeader(status)
		}))
	}
	want := t.ownClaims()
	return p.wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status := http.StatusNoContent
		got := p.own(r.Context())
		if got.Party != want.Party || got.Org != want.Org || !slices.Equal(got.Permissions, want.Permissions) {
			status = http.StatusInternalServerError
		}
		w.WriteHeader(status)
	}))
}

// leeway is that of package bearer, for all who can be given one.
const leeway = time.Minute

const kubernetesName = "Kubernetes’ authenticator"

// everybody is this library, which comes first, and its peers in no order.
var everybody = []contender{
	ours,
	golangJWT,
	auth0Middleware,
	{name: "lestrrat-go/jwx", modules: []string{"github.com/lestrrat-go/jwx/v3"}, protect: protectJWX},
	{name: "coreos/go-oidc", modules: []string{"github.com/coreos/go-oidc/v3"}, protect: protectGoOIDC},
	{name: "go-jose", modules: []string{"github.com/go-jose/go-jose/v4"}, protect: protectGoJOSE},
	{name: "zitadel/oidc", modules: []string{"github.com/zitadel/oidc/v3"}, protect: protectZitadel},
	{name: kubernetesName, modules: []string{"k8s.io/apiserver"}, protect: protectKubernetes, lacks: []string{inTheFuture}},
}

var (
	golangJWT = contender{
		name:    "golang-jwt + keyfunc",
		modules: []string{"github.com/golang-jwt/jwt/v5", "github.com/MicahParks/keyfunc/v3"},
		protect: protectGolangJWT,
	}
	auth0Middleware = contender{
		name:    "auth0/go-jwt-middleware",
		modules: []string{"github.com/auth0/go-jwt-middleware/v3"},
		protect: protectAuth0,
	}
	// It looks whether a proof has a "jti", and remembers none.
	auth0Bound = contender{
		name:    auth0Middleware.name,
		modules: auth0Middleware.modules,
		protect: protectAuth0,
		lacks:   []string{usedBefore},
	}
)

// This library, and this library with more to do.
var (
	ours = contender{name: "bearer", protect: func(_ context.Context, t *trial) (protection, error) {
		auth, err := newBearer(t, t.iss)
		if err != nil {
			return protection{}, err
		}
		return protection{auth.Handler, bearerSubject, func(ctx context.Context) ownClaims {
			claims, _ := bearer.FromContext(ctx)
			own, _ := bearer.As[ownClaims](claims) // the zero value tells of the error
			return own
		}}, nil
	}}
	oursDecoding = contender{name: "bearer, by Decode", protect: func(_ context.Context, t *trial) (protection, error) {
		auth, err := newBearer(t, t.iss)
		if err != nil {
			return protection{}, err
		}
		return protection{auth.Handler, bearerSubject, func(ctx context.Context) ownClaims {
			claims, _ := bearer.FromContext(ctx)
			var own ownClaims
			if err := claims.Decode(&own); err != nil {
				return ownClaims{}
			}
			return own
		}}, nil
	}}
	oursScoped = contender{
		name: "bearer, with RequireScope",
		protect: func(_ context.Context, t *trial) (protection, error) {
			auth, err := newBearer(t, t.iss)
			if err != nil {
				return protection{}, err
			}
			read := auth.RequireScope("read:messages")
			return protection{wrap: func(next http.Handler) http.Handler { return auth.Handler(read(next)) }, subject: bearerSubject}, nil
		},
		more: func(t *trial) []attempt {
			return []attempt{{"one without the scope", t.request(t.token(with(t.claims, "scope", "openid"))), http.StatusForbidden}}
		},
	}
	oursOfTen = contender{
		name: "bearer, with Or",
		protect: func(_ context.Context, t *trial) (protection, error) {
			auth, err := newBearer(t, t.others[0])
			if err != nil {
				return protection{}, err
			}
			for _, iss := range append(t.others[1:len(t.others):len(t.others)], t.iss) {
				next, err := newBearer(t, iss)
				if err != nil {
					return protection{}, err
				}
				auth = auth.Or(next)
			}
			return protection{wrap: auth.Handler, subject: bearerSubject}, nil
		},
		more: func(t *trial) (all []attempt) {
			for _, iss := range t.others {
				all = append(all, attempt{"one of " + iss.URL, t.request(iss.Token(audience, t.claims)), http.StatusNoContent})
			}
			return all
		},
	}
)

func newBearer(t *trial, iss *bearertest.Issuer) (*bearer.Middleware, error) {
	cfg := bearer.Config{
		Issuer:   iss.URL,
		Audience: []string{audience},
		Client:   iss.Client(),
		Logger:   slog.New(slog.DiscardHandler),
	}
	if t.bound {
		cfg.DPoP = &bearer.DPoP{BaseURLs: []string{audience}}
	}
	return bearer.New(cfg)
}

func bearerSubject(ctx context.Context) string {
	claims, ok := bearer.FromContext(ctx)
	if !ok {
		return ""
	}
	return claims.Subject
}

// byHand returns the middleware that most people write around a function that
// verifies a token.
func byHand[C any](verify func(ctx context.Context, token string) (C, error), sub func(C) string, own func(C) ownClaims) protection {
	type key struct{}
	wrap := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
			if !ok {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			claims, err := verify(r.Context(), token)
			if err != nil {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), key{}, claims)))
		})
	}
	return protection{wrap, func(ctx context.Context) string {
		claims, ok := ctx.Value(key{}).(C)
		if !ok {
			return ""
		}
		return sub(claims)
	}, func(ctx context.Context) ownClaims {
		claims, ok := ctx.Value(key{}).(C)
		if !ok {
			return ownClaims{}
		}
		return own(claims)
	}}
}
