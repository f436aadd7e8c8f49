package recipes

import (
	"context"
	"errors"
	"log/slog"
	"net/http"

	"example.com/bearer"
)

// shadow has the old middleware decide, and logs where auth would decide otherwise.
func shadow(auth *bearer.Middleware, old func(http.Handler) http.Handler, log *slog.Logger) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, err := auth.Authenticate(r)
			accepted := false
			old(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				accepted = true
				if e := new(bearer.Error); errors.As(err, &e) {
					log.Warn("would be refused", "method", r.Method, "path", r.URL.Path, "status", e.Status, "reason", e.Reason)
				}
				next.ServeHTTP(w, r)
			})).ServeHTTP(w, r)
			if err == nil && !accepted {
				log.Warn("would be accepted", "method", r.Method, "path", r.URL.Path)
			}
		})
	}
}

// account is what an API's own claims are.
type account struct {
	Tenant string   `json:"tenant"`
	Roles  []string `json:"roles"`
}

// newConfig has the settings that docs/migrating.md names, but for the first two.
func newConfig() bearer.Config {
	return bearer.Config{
		Issuer:      "https://login.example.com/",
		Audience:    []string{"https://api.example.com"},
		JWKSURL:     "https://login.example.com/keys.json",
		Algorithms:  []string{"RS256"},
		Leeway:      -1,
		ScopeClaims: []string{"permissions"},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, e *bearer.Error) {
			slog.Info("refused", "reason", e.Reason)
			bearer.DefaultErrorHandler(w, r, e)
		},
	}
}

// newAPI returns an API that has moved.
func newAPI(cfg bearer.Config) (http.Handler, error) {
	auth, err := bearer.New(cfg)
	if err != nil {
		return nil, err
	}
	next, check := http.HandlerFunc(greet), ofTenant
	mux := http.NewServeMux()
	mux.Handle("/api/", auth.Handler(next)) // the rest is closed
	mux.Handle("GET /api/messages", auth.RequireScope("read:messages")(next))
	mux.Handle("GET /api/news", auth.Optional(next))
	mux.Handle("GET /api/tenant", auth.Require(check)(next))
	mux.Handle("GET /api/ping", next) // public
	if cfg.Resource != "" {
		auth.HandleMetadata(mux)
	}
	return mux, nil
}

func ofTenant(r *http.Request, claims *bearer.Claims) error {
	own, err := bearer.As[account](claims)
	if err == nil && own.Tenant != "acme" {
		err = errors.New("another tenant")
	}
	return err
}

func greet(w http.ResponseWriter, r *http.Request) {
	if claims, ok := bearer.FromContext(r.Context()); ok {
		w.Write([]byte("hello " + claims.Subject))
	}
}

// fromQueue is for a token that came without an HTTP request.
func fromQueue(ctx context.Context, auth *bearer.Middleware, token string) (string, error) {
	claims, err := auth.Verify(ctx, token)
	if err != nil {
		return "", err
	}
	return claims.Subject, nil
}
