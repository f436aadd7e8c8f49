package differential_test

import (
	"context"
	"crypto"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	josejwt "github.com/go-jose/go-jose/v4/jwt"
	"github.com/golang-jwt/jwt/v5"
	"github.com/lestrrat-go/jwx/v3/jws"
	jwxjwt "github.com/lestrrat-go/jwx/v3/jwt"

	"example.com/bearer"
)

const leeway = time.Minute // what bearer.Config.Leeway defaults to

// claims are what a library says that a token claims.
type claims struct {
	iss, sub, jti string
	aud           []string
	exp, nbf, iat int64 // seconds, since not every library keeps fractions
	rest          map[string]any
}

const absent = math.MinInt64

// setRest keeps the claims that have no field of their own.
func (c *claims) setRest(all map[string]any) {
	c.rest = maps.Clone(all)
	maps.DeleteFunc(c.rest, func(name string, _ any) bool { return slices.Contains(known[:7], name) })
}

// ours are the claims that package bearer found: those in its fields, and the
// others as Decode gives them.
func ours(t testing.TB, c *bearer.Claims) claims {
	t.Helper()
	all := claims{iss: c.Issuer, sub: c.Subject, jti: c.ID, aud: c.Audience,
		exp: unix(c.ExpiresAt), nbf: unix(c.NotBefore), iat: unix(c.IssuedAt)}
	var decoded map[string]any
	if err := c.Decode(&decoded); err != nil {
		t.Errorf("Decode of %+v: %v", c, err)
	}
	all.setRest(decoded)

	// A caller's struct must get what the fields say.
	var own struct {
		Iss, Sub, Jti string
		Aud           any
		Exp           float64
	}
	if err := c.Decode(&own); err != nil {
		t.Errorf("Decode of %+v: %v", c, err)
	}
	aud := c.Audience
	if text, ok := own.Aud.(string); ok {
		own.Aud = []any{text}
	}
	if own.Iss != c.Issuer || own.Sub != c.Subject || own.Jti != c.ID || int64(own.Exp) != c.ExpiresAt.Unix() ||
		fmt.Sprint(own.Aud) != fmt.Sprint(aud) {
		t.Errorf("Decode gives %+v, the fields are %+v", own, c)
	}
	return all
}

func unix(t time.Time) int64 {
	if t.IsZero() {
		return absent
	}
	return t.Unix()
}

// known are the names of which [bearer.Claims.Decode] leaves case variants out,
// as its doc says.
var known = []string{"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "cnf", "scope", "scp", "client_id", "azp", "cid", "appid", "tid"}

func withoutVariants(all map[string]any) map[string]any {
	kept := maps.Clone(all)
	maps.DeleteFunc(kept, func(name string, _ any) bool {
		return slices.ContainsFunc(known, func(k string) bool { return name != k && strings.EqualFold(name, k) })
	})
	return kept
}

// A peer is another library, set up to check the same as package bearer. It
// gets the right key by other means: how keys are found is not compared.
type peer struct {
	name   string
	verify func(token string) (claims, error)
}

var peers = []peer{
	{"golang-jwt", verifyGolangJWT},
	{"go-jose", verifyGoJose},
	{"jwx", verifyJWX},
}

// publicFor returns the key that a token's header names or else that serves its
// algorithm. The algorithm is not tied to a key that was named: that is the
// libraries' to do.
func publicFor(kid, alg string) crypto.PublicKey {
	for _, s := range signers() {
		if s.kid == kid {
			return s.Public()
		}
	}
	if s, ok := signers()[alg]; ok {
		return s.Public()
	}
	return nil
}

var golangJWT = []jwt.ParserOption{
	jwt.WithValidMethods(algorithms),
	jwt.WithIssuer(issuer),
	jwt.WithAudience(audience, otherAudience),
	jwt.WithExpirationRequired(),
	jwt.WithIssuedAt(),
	jwt.WithLeeway(leeway),
}

func golangJWTKey(token *jwt.Token) (any, error) {
	kid, _ := token.Header["kid"].(string)
	return publicFor(kid, token.Method.Alg()), nil
}

func verifyGolangJWT(token string) (c claims, err error) {
	parsed, err := jwt.NewParser(golangJWT...).Parse(token, golangJWTKey)
	if err != nil {
		return c, err
	}
	m := parsed.Claims.(jwt.MapClaims)
	var ok bool
	if c.jti, ok = m["jti"].(string); !ok && m["jti"] != nil {
		return c, fmt.Errorf("jti is %v", m["jti"])
	}
	if c.iss, err = m.GetIssuer(); err != nil {
		return c, err
	}
	if c.sub, err = m.GetSubject(); err != nil {
		return c, err
	}
	aud, err := m.GetAudience()
	if err != nil {
		return c, err
	}
	c.aud = aud
	for _, date := range []struct {
		name string
		get  func() (*jwt.NumericDate, error)
		unix *int64
	}{{"exp", m.GetExpirationTime, &c.exp}, {"nbf", m.GetNotBefore, &c.nbf}, {"iat", m.GetIssuedAt, &c.iat}} {
		d, err := date.get()
		switch *date.unix = absent; {
		case err != nil:
			return c, err
		case d != nil:
			*date.unix = d.Unix()
		case m[date.name] == 0.0: // taken for absent
			*date.unix = 0
		}
	}
	c.setRest(m)
	return c, nil
}

// verifyStruct is what most programs with golang-jwt do.
func verifyStruct(token string) (c claims, err error) {
	_, err = jwt.NewParser(golangJWT...).ParseWithClaims(token, &jwt.RegisteredClaims{}, golangJWTKey)
	return c, err
}

func verifyGoJose(token string) (c claims, err error) {
	var allowed []jose.SignatureAlgorithm
	for _, alg := range algorithms {
		allowed = append(allowed, jose.SignatureAlgorithm(alg))
	}
	parsed, err := josejwt.ParseSigned(token, allowed)
	if err != nil {
		return c, err
	}
	var std josejwt.Claims
	var all map[string]any
	h := parsed.Headers[0]
	if err := parsed.Claims(publicFor(h.KeyID, h.Algorithm), &std, &all); err != nil {
		return c, err
	}
	if std.Expiry == nil {
		return c, fmt.Errorf("no exp")
	}
	expected := josejwt.Expected{Issuer: issuer, AnyAudience: josejwt.Audience{audience, otherAudience}, Time: time.Now()}
	if err := std.ValidateWithLeeway(expected, leeway); err != nil {
		return c, err
	}
	c = claims{iss: std.Issuer, sub: std.Subject, jti: std.ID, aud: std.Audience}
	for _, date := range []struct {
		from *josejwt.NumericDate
		unix *int64
	}{{std.Expiry, &c.exp}, {std.NotBefore, &c.nbf}, {std.IssuedAt, &c.iat}} {
		if *date.unix = absent; date.from != nil {
			*date.unix = int64(*date.from)
		}
	}
	c.setRest(all)
	return c, nil
}

func verifyJWX(token string) (c claims, err error) {
	keys := jws.KeyProviderFunc(func(_ context.Context, sink jws.KeySink, sig *jws.Signature, _ *jws.Message) error {
		alg, ok := sig.ProtectedHeaders().Algorithm()
		if !ok {
			return fmt.Errorf("no alg")
		}
		kid, _ := sig.ProtectedHeaders().KeyID()
		public := publicFor(kid, alg.String())
		if public == nil {
			return fmt.Errorf("no key")
		}
		sink.Key(alg, public)
		return nil
	})
	anyAudience := jwxjwt.ValidatorFunc(func(_ context.Context, token jwxjwt.Token) error {
		if aud, _ := token.Audience(); !slices.Contains(aud, audience) && !slices.Contains(aud, otherAudience) {
			return fmt.Errorf("aud is %q", aud)
		}
		return nil
	})
	parsed, err := jwxjwt.ParseString(token,
		jwxjwt.WithKeyProvider(keys),
		jwxjwt.WithIssuer(issuer),
		jwxjwt.WithValidator(anyAudience),
		jwxjwt.WithRequiredClaim("exp"),
		jwxjwt.WithAcceptableSkew(leeway),
	)
	if err != nil {
		return c, err
	}
	c.iss, _ = parsed.Issuer()
	c.sub, _ = parsed.Subject()
	c.jti, _ = parsed.JwtID()
	c.aud, _ = parsed.Audience()
	c.exp, c.nbf, c.iat = absent, absent, absent
	if t, ok := parsed.Expiration(); ok {
		c.exp = t.Unix()
	}
	if t, ok := parsed.NotBefore(); ok {
		c.nbf = t.Unix()
	}
	if t, ok := parsed.IssuedAt(); ok {
		c.iat = t.Unix()
	}
	all := make(map[string]any)
	for _, name := range parsed.Keys() {
		var value any
		if parsed.Get(name, &value) != nil {
			value = nil // Get fails for null, and only for that
		}
		all[name] = value
	}
	c.setRest(all)
	return c, nil
}

// compare checks what this module is about: a token that package bearer accepts
// is accepted by each peer too, but for the excuses, with the same claims. It reports whether package
// bearer accepts it, which of the peers do, and why package bearer does not.
func compare(t testing.TB, auth *bearer.Middleware, token string) (accepted bool, by []string, err error) {
	t.Helper()
	c, err := verify(t, auth, token)
	var want claims
	if accepted = err == nil; accepted && !undecodable(decode(token)) {
		want = ours(t, c)
	}
	for _, p := range peers {
		got, peerErr := p.verify(token)
		if peerErr == nil {
			by = append(by, p.name)
		}
		switch {
		case !accepted || excused(p.name, token):
		case peerErr != nil:
			t.Errorf("accepted, but not by %s: %v\n%s", p.name, peerErr, readable(token))
		default:
			got.rest = withoutVariants(got.rest)
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%s finds other claims\ngot  %+v\nwant %+v\n%s", p.name, got, want, readable(token))
			}
		}
	}
	return accepted, by, err
}
