package e2e

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"sync/atomic"
	"testing"

	josev3 "github.com/go-jose/go-jose/v3"
	"github.com/go-jose/go-jose/v4"
	"github.com/ory/fosite"
	"github.com/ory/fosite/compose"
	"github.com/ory/fosite/handler/oauth2"
	"github.com/ory/fosite/storage"
	"github.com/ory/fosite/token/jwt"
	"golang.org/x/crypto/bcrypt"
	"golang.org/x/oauth2/clientcredentials"
)

// A server made of ory/fosite, which has neither metadata nor keys to show: both
// are written here. Its issuer has a path, its metadata is that of RFC 8414 only,
// and its tokens have their scopes as a list in "scp", and no "client_id".
func TestFosite(t *testing.T) {
	t.Parallel()
	var keys atomic.Pointer[[]*key] // the first one signs
	var issuer string
	s := newSite(t, func(url string) http.Handler {
		issuer = url + "/tenant"
		return fositeServer(t, url, "/tenant", &keys)
	})
	p := &provider{
		issuer: issuer,
		client: clientcredentials.Config{
			ClientID:       "client",
			ClientSecret:   "secret",
			TokenURL:       issuer + "/token",
			EndpointParams: url.Values{"audience": {audience}},
		},
		alg:     jose.ES256,
		setKeys: func(_ *testing.T, set ...*key) { keys.Store(&set) },
		stop:    s.stop,
		start:   s.start,
	}
	p.test(t)
}

func fositeServer(t *testing.T, url, path string, keys *atomic.Pointer[[]*key]) http.Handler {
	t.Helper()
	secret, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	store := storage.NewMemoryStore()
	store.Clients["client"] = &fosite.DefaultClient{
		ID:         "client",
		Secret:     secret,
		GrantTypes: fosite.Arguments{"client_credentials"},
		Scopes:     fosite.Arguments{"read:messages", "write:messages"},
		Audience:   fosite.Arguments{audience},
	}
	config := &fosite.Config{AccessTokenIssuer: url + path, ScopeStrategy: fosite.ExactScopeStrategy}
	signing := func(context.Context) (any, error) {
		k := (*keys.Load())[0]
		return &josev3.JSONWebKey{KeyID: k.id, Algorithm: string(k.alg), Key: k.private}, nil
	}
	strategy := compose.NewOAuth2JWTStrategy(signing, compose.NewOAuth2HMACStrategy(config), config)
	provider := compose.Compose(config, store, strategy, compose.OAuth2ClientCredentialsGrantFactory)

	mux := http.NewServeMux()
	document := func(pattern string, content func() any) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			json.NewEncoder(w).Encode(content())
		})
	}
	document("GET /.well-known/oauth-authorization-server"+path, func() any {
		return map[string]string{"issuer": url + path, "token_endpoint": url + path + "/token", "jwks_uri": url + path + "/jwks"}
	})
	document("GET "+path+"/jwks", func() any {
		var set jose.JSONWebKeySet
		for _, k := range *keys.Load() {
			set.Keys = append(set.Keys, jose.JSONWebKey{KeyID: k.id, Algorithm: string(k.alg), Key: k.private.Public()})
		}
		return set
	})
	mux.HandleFunc("POST "+path+"/token", func(w http.ResponseWriter, r *http.Request) {
		session := &oauth2.JWTSession{JWTClaims: &jwt.JWTClaims{}}
		request, err := provider.NewAccessRequest(r.Context(), r, session)
		if err != nil {
			provider.WriteAccessError(r.Context(), w, request, err)
			return
		}
		session.JWTClaims.Subject = request.GetClient().GetID()
		for _, scope := range request.GetRequestedScopes() {
			request.GrantScope(scope)
		}
		for _, audience := range request.GetRequestedAudience() {
			request.GrantAudience(audience)
		}
		response, err := provider.NewAccessResponse(r.Context(), request)
		if err != nil {
			provider.WriteAccessError(r.Context(), w, request, err)
			return
		}
		provider.WriteAccessResponse(r.Context(), w, request, response)
	})
	return mux
}
