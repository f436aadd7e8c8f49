package e2e

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
	"golang.org/x/oauth2/clientcredentials"
)

// The example server of zitadel/oidc. Its issuer has a slash at the end.
func TestZitadel(t *testing.T) {
	t.Parallel()
	store := &zitadelStorage{}
	var issuer string
	s := newSite(t, func(url string) http.Handler {
		issuer = url + "/"
		store.Storage = storage.NewStorage(storage.NewUserStore(issuer))
		return exampleop.SetupServer(issuer, store, slog.New(slog.DiscardHandler), true)
	})
	p := &provider{
		issuer:   issuer,
		client:   clientcredentials.Config{ClientID: "sid1", ClientSecret: "verysecret", TokenURL: issuer + "oauth/token"},
		alg:      jose.RS256,
		clientID: "sid1",
		setKeys:  func(_ *testing.T, keys ...*key) { store.keys.Store(&keys) },
		stop:     s.stop,
		start:    s.start,
	}
	p.test(t)
}

// zitadelStorage is the example's storage with other keys and other tokens.
type zitadelStorage struct {
	*storage.Storage
	keys atomic.Pointer[[]*key] // the first one signs
}

func (s *zitadelStorage) SigningKey(context.Context) (op.SigningKey, error) {
	return zitadelSigningKey{(*s.keys.Load())[0]}, nil
}

func (s *zitadelStorage) SignatureAlgorithms(context.Context) ([]jose.SignatureAlgorithm, error) {
	return []jose.SignatureAlgorithm{(*s.keys.Load())[0].alg}, nil
}

func (s *zitadelStorage) KeySet(context.Context) ([]op.Key, error) {
	var set []op.Key
	for _, k := range *s.keys.Load() {
		set = append(set, zitadelPublicKey{k})
	}
	return set, nil
}

func (s *zitadelStorage) ClientCredentials(ctx context.Context, id, secret string) (op.Client, error) {
	client, err := s.Storage.ClientCredentials(ctx, id, secret)
	return zitadelClient{client}, err
}

// The original gives tokens the client as audience.
func (s *zitadelStorage) ClientCredentialsTokenRequest(_ context.Context, id string, scopes []string) (op.TokenRequest, error) {
	return &oidc.JWTTokenRequest{Subject: id, Audience: []string{audience}, Scopes: scopes}, nil
}

// No "scope" gets into a JWT unless the storage puts it there.
func (s *zitadelStorage) GetPrivateClaimsFromRequest(_ context.Context, _ op.TokenRequest, scopes []string) (map[string]any, error) {
	return map[string]any{"scope": strings.Join(scopes, " ")}, nil
}

// zitadelClient gets its access tokens as JWTs.
type zitadelClient struct{ op.Client }

func (zitadelClient) AccessTokenType() op.AccessTokenType { return op.AccessTokenTypeJWT }

type zitadelSigningKey struct{ key *key }

func (k zitadelSigningKey) SignatureAlgorithm() jose.SignatureAlgorithm { return k.key.alg }
func (k zitadelSigningKey) Key() any                                    { return k.key.private }
func (k zitadelSigningKey) ID() string                                  { return k.key.id }

type zitadelPublicKey struct{ key *key }

func (k zitadelPublicKey) ID() string                         { return k.key.id }
func (k zitadelPublicKey) Algorithm() jose.SignatureAlgorithm { return k.key.alg }
func (k zitadelPublicKey) Use() string                        { return "sig" }
func (k zitadelPublicKey) Key() any                           { return k.key.private.Public() }
