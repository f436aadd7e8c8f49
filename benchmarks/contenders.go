package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unsafe"

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

	"example.com/bearer"
	"example.com/bearer/bearertest"
)

// A contender is one way to protect an API.
type contender struct {
	name    string
	modules []string // whose versions tell what was measured
	protect func(ctx context.Context, iss *bearertest.Issuer, algorithm string) (protection, error)
}

// A protection is a contender at work for one issuer.
type protection struct {
	wrap    func(http.Handler) http.Handler
	subject func(context.Context) string // of the request's token, for the handler
}

// api returns the handler that is measured: the protection around a handler that
// reads "sub".
func (p protection) api() http.Handler {
	return p.wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status := http.StatusNoContent
		if p.subject(r.Context()) != subject {
			status = http.StatusInternalServerError
		}
		w.WriteHeader(status)
	}))
}

// leeway is that of package bearer, for all who can be given one.
const leeway = time.Minute

// ours comes first and the yardsticks are apart; the peers are in no order.
var (
	ours       = contender{"bearer", nil, protectBearer}
	contenders = []contender{
		ours,
		golangJWT,
		auth0Middleware,
		{"lestrrat-go/jwx", []string{"github.com/lestrrat-go/jwx/v3"}, protectJWX},
		{"coreos/go-oidc", []string{"github.com/coreos/go-oidc/v3"}, protectGoOIDC},
		{"go-jose", []string{"github.com/go-jose/go-jose/v4"}, protectGoJOSE},
		{"zitadel/oidc", []string{"github.com/zitadel/oidc/v3"}, protectZitadel},
	}
	golangJWT = contender{
		"golang-jwt + keyfunc",
		[]string{"github.com/golang-jwt/jwt/v5", "github.com/MicahParks/keyfunc/v3"},
		protectGolangJWT,
	}
	auth0Middleware = contender{
		"auth0/go-jwt-middleware",
		[]string{"github.com/auth0/go-jwt-middleware/v3"},
		protectAuth0,
	}

	// rawCrypto checks the signature and nothing else: nobody who verifies each
	// token can be faster.
	rawCrypto = contender{"rawcrypto", nil, protectRawCrypto}

	// floor puts a value into the context: nobody who hands on claims in the
	// context can be faster.
	floor = contender{"floor", nil, protectFloor}
)

func protectBearer(_ context.Context, iss *bearertest.Issuer, _ string) (protection, error) {
	auth, err := bearer.New(bearer.Config{
		Issuer:   issuerURL,
		Audience: []string{audience},
		Client:   iss.Client(),
		Logger:   slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return protection{}, err
	}
	return protection{auth.Handler, func(ctx context.Context) string {
		claims, ok := bearer.FromContext(ctx)
		if !ok {
			return ""
		}
		return claims.Subject
	}}, nil
}

// byHand returns the middleware that most people write around a function that
// verifies a token.
func byHand[C any](verify func(ctx context.Context, token string) (C, error), sub func(C) string) protection {
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
	}}
}

func protectGolangJWT(ctx context.Context, iss *bearertest.Issuer, algorithm string) (protection, error) {
	keys, err := keyfunc.NewDefaultOverrideCtx(ctx, []string{keysURL}, keyfunc.Override{Client: iss.Client()})
	if err != nil {
		return protection{}, err
	}
	parser := jwt.NewParser(
		jwt.WithValidMethods([]string{algorithm}),
		jwt.WithIssuer(issuerURL),
		jwt.WithAudience(audience),
		jwt.WithExpirationRequired(),
		jwt.WithIssuedAt(),
		jwt.WithLeeway(leeway),
	)
	type claims struct {
		Scope string `json:"scope"`
		jwt.RegisteredClaims
	}
	verify := func(_ context.Context, token string) (*claims, error) {
		var c claims
		_, err := parser.ParseWithClaims(token, &c, keys.Keyfunc)
		return &c, err
	}
	return byHand(verify, func(c *claims) string { return c.Subject }), nil
}

func protectAuth0(_ context.Context, iss *bearertest.Issuer, algorithm string) (protection, error) {
	u, err := url.Parse(issuerURL)
	if err != nil {
		return protection{}, err
	}
	keys, err := jwks.NewCachingProvider(jwks.WithIssuerURL(u), jwks.WithCustomClient(iss.Client()))
	if err != nil {
		return protection{}, err
	}
	v, err := validator.New(
		validator.WithKeyFunc(keys.KeyFunc),
		validator.WithAlgorithm(validator.SignatureAlgorithm(algorithm)),
		validator.WithIssuer(issuerURL),
		validator.WithAudience(audience),
		validator.WithAllowedClockSkew(leeway),
	)
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
	}}, nil
}

func protectJWX(ctx context.Context, iss *bearertest.Issuer, _ string) (protection, error) {
	cache, err := jwk.NewCache(ctx, httprc.NewClient())
	if err != nil {
		return protection{}, err
	}
	if err := cache.Register(ctx, keysURL, jwk.WithHTTPClient(iss.Client())); err != nil {
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
	verify := func(_ context.Context, token string) (jwxjwt.Token, error) {
		return jwxjwt.ParseString(token, options...)
	}
	return byHand(verify, func(t jwxjwt.Token) string { sub, _ := t.Subject(); return sub }), nil
}

func protectGoOIDC(ctx context.Context, iss *bearertest.Issuer, algorithm string) (protection, error) {
	keys := oidc.NewRemoteKeySet(oidc.ClientContext(ctx, iss.Client()), keysURL)
	verifier := oidc.NewVerifier(issuerURL, keys, &oidc.Config{
		ClientID:             audience,
		SupportedSigningAlgs: []string{algorithm},
	})
	verify := func(ctx context.Context, token string) (*oidc.IDToken, error) {
		t, err := verifier.Verify(ctx, token)
		if err == nil && t.IssuedAt.After(time.Now().Add(leeway)) {
			err = errors.New("issued in the future")
		}
		return t, err
	}
	return byHand(verify, func(t *oidc.IDToken) string { return t.Subject }), nil
}

func protectGoJOSE(_ context.Context, iss *bearertest.Issuer, algorithm string) (protection, error) {
	keys, err := publishedKeys(iss)
	if err != nil {
		return protection{}, err
	}
	algorithms := []jose.SignatureAlgorithm{jose.SignatureAlgorithm(algorithm)}
	expected := josejwt.Expected{Issuer: issuerURL, AnyAudience: josejwt.Audience{audience}}
	verify := func(_ context.Context, token string) (*josejwt.Claims, error) {
		t, err := josejwt.ParseSigned(token, algorithms)
		if err != nil {
			return nil, err
		}
		var c josejwt.Claims
		if err := t.Claims(keys, &c); err != nil {
			return nil, err
		}
		if c.Expiry == nil {
			return nil, errors.New("no expiry")
		}
		return &c, c.ValidateWithLeeway(expected, leeway)
	}
	return byHand(verify, func(c *josejwt.Claims) string { return c.Subject }), nil
}

func protectZitadel(_ context.Context, iss *bearertest.Issuer, algorithm string) (protection, error) {
	verifier := op.NewAccessTokenVerifier(issuerURL, rp.NewRemoteKeySet(iss.Client(), keysURL),
		op.WithSupportedAccessTokenSigningAlgorithms(algorithm))
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
	return byHand(verify, func(c *zitadel.AccessTokenClaims) string { return c.Subject }), nil
}

// known is what the yardsticks put into the context.
var known = &struct{ subject string }{subject}

func protectFloor(context.Context, *bearertest.Issuer, string) (protection, error) {
	type key struct{}
	wrap := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), key{}, known)))
		})
	}
	return protection{wrap, func(ctx context.Context) string {
		return ctx.Value(key{}).(*struct{ subject string }).subject
	}}, nil
}

func protectRawCrypto(_ context.Context, iss *bearertest.Issuer, _ string) (protection, error) {
	keys, err := publishedKeys(iss)
	if err != nil {
		return protection{}, err
	}
	check, err := signatureCheck(keys.Keys[0].Key)
	if err != nil {
		return protection{}, err
	}
	verify := func(_ context.Context, token string) (*struct{ subject string }, error) {
		if !check(token) {
			return nil, errors.New("wrong signature")
		}
		return known, nil
	}
	return byHand(verify, func(v *struct{ subject string }) string { return v.subject }), nil
}

// signatureCheck returns the function that checks signatures of key: RS256, ES256
// or EdDSA. It makes no copy and no allocation that could be spared.
func signatureCheck(key any) (func(token string) bool, error) {
	switch key := key.(type) {
	case *rsa.PublicKey:
		return func(token string) bool {
			var room [256]byte
			signed, signature := cut(token, room[:])
			sum := sha256.Sum256(signed)
			return rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], signature) == nil
		}, nil
	case *ecdsa.PublicKey:
		return func(token string) bool {
			var room [64]byte
			var der [72]byte
			signed, signature := cut(token, room[:])
			if len(signature) != 64 {
				return false
			}
			sum := sha256.Sum256(signed)
			return ecdsa.VerifyASN1(key, sum[:], appendASN1(der[:0], signature))
		}, nil
	case ed25519.PublicKey:
		return func(token string) bool {
			var room [64]byte
			signed, signature := cut(token, room[:])
			return ed25519.Verify(key, signed, signature)
		}, nil
	}
	return nil, fmt.Errorf("no check for a %T", key)
}

// cut returns what of a token is signed, which must not be changed, and the signature,
// for which there must be room. Without one that fits it is empty.
func cut(token string, room []byte) (signed, signature []byte) {
	dot := strings.LastIndexByte(token, '.')
	if dot < 0 || base64.RawURLEncoding.DecodedLen(len(token)-dot-1) > len(room) {
		return nil, nil
	}
	text := unsafe.Slice(unsafe.StringData(token), len(token))
	n, err := base64.RawURLEncoding.Decode(room, text[dot+1:])
	if err != nil {
		return nil, nil
	}
	return text[:dot], room[:n]
}

// appendASN1 appends an ECDSA signature to b as crypto/ecdsa wants it: two integers in
// DER. signature is both of them, in 32 bytes each.
func appendASN1(b, signature []byte) []byte {
	b = append(b, 0x30, 0)
	for _, n := range [...][]byte{signature[:32], signature[32:]} {
		for len(n) > 1 && n[0] == 0 {
			n = n[1:]
		}
		length := len(n)
		if n[0] >= 0x80 { // or it would be negative
			length++
		}
		b = append(b, 0x02, byte(length))
		if length > len(n) {
			b = append(b, 0)
		}
		b = append(b, n...)
	}
	b[1] = byte(len(b) - 2)
	return b
}

// publishedKeys returns the issuer's key set as go-jose reads it.
func publishedKeys(iss *bearertest.Issuer) (*jose.JSONWebKeySet, error) {
	resp, err := iss.Client().Get(keysURL)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	keys := new(jose.JSONWebKeySet)
	if err := json.NewDecoder(resp.Body).Decode(keys); err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(keys.Keys, func(k jose.JSONWebKey) bool { return k.Valid() }) {
		return nil, errors.New("no keys")
	}
	return keys, nil
}
