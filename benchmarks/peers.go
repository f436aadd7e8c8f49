package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/MicahParks/keyfunc/v3"
	jwtmiddleware "github.com/auth0/go-jwt-middleware/v3"
	"github.com/auth0/go-jwt-middleware/v3/jwks"
	"github.com/auth0/go-jwt-middleware/v3/validator"
	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
	josejwt "github.com/go-jose/go-jose/v4/jwt"
	"github.com/golang-jwt/jwt/v5"
	"github.com/lestrrat-go/httprc/v3"
	"github.com/lestrrat-go/jwx/v3/jwk"
	jwxjwt "github.com/lestrrat-go/jwx/v3/jwt"
	"github.com/zitadel/oidc/v3/pkg/client/rp"
	zitadel "github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	kubernetes "k8s.io/apiserver/plugin/pkg/authenticator/token/oidc"
)

func protectGolangJWT(ctx context.Context, t *trial) (protection, error) {
	keys, err := keyfunc.NewDefaultOverrideCtx(ctx, []string{keysURL}, keyfunc.Override{Client: t.iss.Client()})
	if err != nil {
		return protection{}, err
	}
	parser := jwt.NewParser(
		jwt.WithValidMethods([]string{t.algorithm}),
		jwt.WithIssuer(issuerURL),
		jwt.WithAudience(audience),
		jwt.WithExpirationRequired(),
		jwt.WithIssuedAt(),
		jwt.WithLeeway(leeway),
	)
	if t.own {
		type claims struct {
			golangJWTClaims
			ownClaims
		}
		return byHand(func(_ context.Context, token string) (*claims, error) {
			c := new(claims)
			_, err := parser.ParseWithClaims(token, c, keys.Keyfunc)
			return c, err
		}, func(c *claims) string { return c.Subject }, func(c *claims) ownClaims { return c.ownClaims }), nil
	}
	return byHand(func(_ context.Context, token string) (*golangJWTClaims, error) {
		c := new(golangJWTClaims)
		_, err := parser.ParseWithClaims(token, c, keys.Keyfunc)
		return c, err
	}, func(c *golangJWTClaims) string { return c.Subject }, nil), nil
}

type golangJWTClaims struct {
	Scope string `json:"scope"`
	jwt.RegisteredClaims
}

func protectAuth0(_ context.Context, t *trial) (protection, error) {
	u, err := url.Parse(issuerURL)
	if err != nil {
		return protection{}, err
	}
	keys, err := jwks.NewCachingProvider(jwks.WithIssuerURL(u), jwks.WithCustomClient(t.iss.Client()))
	if err != nil {
		return protection{}, err
	}
	options := []validator.Option{
		validator.WithKeyFunc(keys.KeyFunc),
		validator.WithAlgorithm(validator.SignatureAlgorithm(t.algorithm)),
		validator.WithIssuer(issuerURL),
		validator.WithAudience(audience),
		validator.WithAllowedClockSkew(leeway),
	}
	if t.own {
		options = append(options, validator.WithCustomClaims(func() *auth0Claims { return new(auth0Claims) }))
	}
	v, err := validator.New(options...)
	if err != nil {
		return protection{}, err
	}
	m, err := jwtmiddleware.New(jwtmiddleware.WithValidator(v))
	if err != nil {
		return protection{}, err
	}
	return protection{m.CheckJWT, func(ctx context.Context) string {
		claims, err := jwtmiddleware.GetClaims[*validator.ValidatedClaims](ctx)
		if err != nil {
			return ""
		}
		return claims.RegisteredClaims.Subject
	}, func(ctx context.Context) ownClaims {
		claims, err := jwtmiddleware.GetClaims[*validator.ValidatedClaims](ctx)
		if err != nil {
			return ownClaims{}
		}
		return claims.CustomClaims.(*auth0Claims).ownClaims
	}}, nil
}

type auth0Claims struct{ ownClaims }

func (*auth0Claims) Validate(context.Context) error { return nil }

func protectJWX(ctx context.Context, t *trial) (protection, error) {
	cache, err := jwk.NewCache(ctx, httprc.NewClient())
	if err != nil {
		return protection{}, err
	}
	if err := cache.Register(ctx, keysURL, jwk.WithHTTPClient(t.iss.Client())); err != nil {
		return protection{}, err
	}
	keys, err := cache.CachedSet(keysURL)
	if err != nil {
		return protection{}, err
	}
	options := []jwxjwt.ParseOption{
		jwxjwt.WithKeySet(keys),
		jwxjwt.WithIssuer(issuerURL),
		jwxjwt.WithAudience(audience),
		jwxjwt.WithRequiredClaim("exp"),
		jwxjwt.WithAcceptableSkew(leeway),
	}
	if t.own {
		options = append(options, jwxjwt.WithTypedClaim("permissions", []string(nil)))
	}
	verify := func(_ context.Context, token string) (jwxjwt.Token, error) {
		return jwxjwt.ParseString(token, options...)
	}
	return byHand(verify, func(t jwxjwt.Token) string { sub, _ := t.Subject(); return sub }, func(t jwxjwt.Token) (own ownClaims) {
		if errors.Join(t.Get("azp", &own.Party), t.Get("org_id", &own.Org), t.Get("permissions", &own.Permissions)) != nil {
			return ownClaims{}
		}
		return own
	}), nil
}

func protectGoOIDC(ctx context.Context, t *trial) (protection, error) {
	keys := oidc.NewRemoteKeySet(oidc.ClientContext(ctx, t.iss.Client()), keysURL)
	verifier := oidc.NewVerifier(issuerURL, keys, &oidc.Config{
		ClientID:             audience,
		SupportedSigningAlgs: []string{t.algorithm},
	})
	verify := func(ctx context.Context, token string) (*oidc.IDToken, error) {
		t, err := verifier.Verify(ctx, token)
		if err == nil && t.IssuedAt.After(time.Now().Add(leeway)) {
			err = errors.New("issued in the future")
		}
		return t, err
	}
	return byHand(verify, func(t *oidc.IDToken) string { return t.Subject }, func(t *oidc.IDToken) (own ownClaims) {
		if err := t.Claims(&own); err != nil {
			return ownClaims{}
		}
		return own
	}), nil
}

func protectGoJOSE(_ context.Context, t *trial) (protection, error) {
	keys, err := publishedKeys(t.iss)
	if err != nil {
		return protection{}, err
	}
	algorithms := []jose.SignatureAlgorithm{jose.SignatureAlgorithm(t.algorithm)}
	expected := josejwt.Expected{Issuer: issuerURL, AnyAudience: josejwt.Audience{audience}}
	type claims struct {
		josejwt.Claims
		own ownClaims
	}
	verify := func(_ context.Context, token string) (*claims, error) {
		parsed, err := josejwt.ParseSigned(token, algorithms)
		if err != nil {
			return nil, err
		}
		c := new(claims)
		into := []any{&c.Claims}
		if t.own {
			into = append(into, &c.own)
		}
		if err := parsed.Claims(keys, into...); err != nil {
			return nil, err
		}
		if c.Expiry == nil {
			return nil, errors.New("no expiry")
		}
		return c, c.ValidateWithLeeway(expected, leeway)
	}
	return byHand(verify, func(c *claims) string { return c.Subject }, func(c *claims) ownClaims { return c.own }), nil
}

func protectZitadel(_ context.Context, t *trial) (protection, error) {
	verifier := op.NewAccessTokenVerifier(issuerURL, rp.NewRemoteKeySet(t.iss.Client(), keysURL),
		op.WithSupportedAccessTokenSigningAlgorithms(t.algorithm))
	verify := func(ctx context.Context, token string) (*zitadel.AccessTokenClaims, error) {
		c, err := op.VerifyAccessToken[*zitadel.AccessTokenClaims](ctx, token, verifier)
		if err != nil {
			return nil, err
		}
		if err := zitadel.CheckAudience(c, audience); err != nil {
			return nil, err
		}
		if err := zitadel.CheckIssuedAt(c, 0, leeway); err != nil {
			return nil, err
		}
		if c.NotBefore.AsTime().After(time.Now().Add(leeway)) {
			return nil, errors.New("not valid yet")
		}
		return c, nil
	}
	return byHand(verify, func(c *zitadel.AccessTokenClaims) string { return c.Subject }, func(c *zitadel.AccessTokenClaims) (own ownClaims) {
		own.Party, _ = c.Claims["azp"].(string)
		own.Org, _ = c.Claims["org_id"].(string)
		permissions, _ := c.Claims["permissions"].([]any)
		for _, p := range permissions {
			text, _ := p.(string)
			own.Permissions = append(own.Permissions, text)
		}
		return own
	}), nil
}

// protectKubernetes uses the authenticator by itself. An API server puts a cache before
// it, and after a success takes the Authorization header off the request.
func protectKubernetes(ctx context.Context, t *trial) (protection, error) {
	if t.algorithm == "EdDSA" || t.own {
		return protection{}, fmt.Errorf("neither EdDSA nor claims but by CEL: %w", errors.ErrUnsupported)
	}
	a, err := kubernetes.New(ctx, kubernetes.Options{
		JWTAuthenticator: apiserver.JWTAuthenticator{
			Issuer:        apiserver.Issuer{URL: issuerURL, Audiences: []string{audience}},
			ClaimMappings: apiserver.ClaimMappings{Username: apiserver.PrefixedClaimOrExpression{Claim: "sub", Prefix: new(string)}},
		},
		Client:               t.iss.Client(),
		SupportedSigningAlgs: []string{t.algorithm},
	})
	if err != nil {
		return protection{}, err
	}
	for a.HealthCheck() != nil { // it begins with discovery, on its own
		select {
		case <-ctx.Done():
			return protection{}, ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
	verify := func(ctx context.Context, token string) (*authenticator.Response, error) {
		response, ok, err := a.AuthenticateToken(ctx, token)
		if err == nil && !ok {
			err = errors.New("no token of this issuer")
		}
		return response, err
	}
	return byHand(verify, func(r *authenticator.Response) string { return r.User.GetName() }, nil), nil
}
