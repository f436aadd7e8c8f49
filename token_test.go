package bearer_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"example.com/bearer"
	"example.com/bearer/bearertest"
)

func TestTokenTypes(t *testing.T) {
	iss, _ := newAuth(t)
	none := `{"alg":"ES256","kid":"` + iss.KeyID() + `"`
	typ := func(s string) string { return none + fmt.Sprintf(`,"typ":%q}`, s) }
	for _, tt := range []struct {
		name     string
		types    []string
		header   string
		accepted bool
	}{
		{"none of the default", nil, none + "}", true},
		{"JWT of the default", nil, typ("jwt"), true},
		{"JWT as a media type", nil, typ("application/JWT"), true},
		{"at+jwt of the default", nil, typ("Application/AT+jwt"), true},
		{"a prefix twice", nil, typ("application/application/jwt"), false},
		{"a prefix alone", nil, typ("application/"), false},
		{"empty", nil, typ(""), false},
		{"RFC 9068", []string{"at+jwt"}, typ("at+jwt"), true},
		{"RFC 9068, the media type", []string{"at+jwt"}, typ("application/at+JWT"), true},
		{"RFC 9068, JWT", []string{"at+jwt"}, typ("JWT"), false},
		{"RFC 9068, none", []string{"at+jwt"}, none + "}", false},
		{"RFC 9068, empty", []string{"at+jwt"}, typ(""), false},
		{"configured as a media type", []string{"application/AT+JWT"}, typ("at+jwt"), true},
		{"none only", []string{""}, none + "}", true},
		{"none only, empty", []string{""}, typ(""), false},
		{"none only, JWT", []string{""}, typ("JWT"), false},
		{"another", []string{"keyset+jwt", "example/x"}, typ("KEYSET+jwt"), true},
		{"another, with a slash", []string{"keyset+jwt", "example/x"}, typ("example/x"), true},
		{"another, with a Kelvin sign", []string{"keyset+jwt"}, typ("\u212aeyset+jwt"), false},
		{"another, with a Z", []string{"ZAP+jwt"}, typ("zap+JWT"), true},
		{"another, JWT", []string{"keyset+jwt"}, typ("JWT"), false},
	} {
		auth := newMiddleware(t, iss, func(c *bearer.Config) { c.TokenTypes = tt.types })
		token := iss.Sign(tt.header, payload(iss, ""))
		for range 3 { // with a remembered header and from the cache, too
			c, err := auth.Verify(t.Context(), token)
			if tt.accepted && err != nil {
				t.Errorf("%s: %v, want it accepted", tt.name, err)
			}
			if !tt.accepted {
				t.Run(tt.name, func(t *testing.T) { checkRefused(t, c, err, "type", jwt.ErrTokenUnverifiable) })
			}
		}
	}
}

func TestMaxTokenLength(t *testing.T) {
	iss, _ := newAuth(t)
	for _, tt := range []struct {
		most, length int
		accepted     bool
	}{
		{0, 16 << 10, true},
		{0, 16<<10 + 1, false},
		{1024, 1024, true},
		{1024, 1025, false},
		{64 << 10, 64 << 10, true},
		{64 << 10, 64<<10 + 1, false},
		{256 << 10, 256 << 10, true},
	} {
		auth := newMiddleware(t, iss, func(c *bearer.Config) { c.MaxTokenLength = tt.most })
		token := sized(t, iss, tt.length)
		for range 3 {
			c, err := auth.Verify(t.Context(), token)
			if tt.accepted && (err != nil || c.Issuer != iss.URL) {
				t.Errorf("%d bytes of %d: %+v, %v, want it accepted", tt.length, tt.most, c, err)
			}
			if !tt.accepted {
				checkRefused(t, c, err, "too_long", jwt.ErrTokenMalformed)
			}
		}
	}

	// Who asked for long tokens gets them, and nobody besides.
	long, short := bearertest.NewIssuer("https://long.example.com"), bearertest.NewIssuer("https://short.example.com")
	both := newMiddleware(t, short).Or(newMiddleware(t, long, func(c *bearer.Config) { c.MaxTokenLength = 64 << 10 }))
	if _, err := both.Verify(t.Context(), sized(t, long, 32<<10)); err != nil {
		t.Errorf("Or, a long token of the one that allows it: %v", err)
	}
	c, err := both.Verify(t.Context(), sized(t, short, 32<<10))
	checkRefused(t, c, err, "too_long", jwt.ErrTokenMalformed)
}

func TestNewTokenConfig(t *testing.T) {
	_, err := bearer.New(bearer.Config{
		Issuer:         "https://login.example.com",
		Audience:       []string{audience},
		TokenTypes:     []string{"at+jwt", "a b", "Application/AT+JWT", "", "", "a/b/c", "application/"},
		MaxTokenLength: 256<<10 + 1,
	})
	const want = `bearer: Config.TokenTypes: "a b" is no media type
bearer: Config.TokenTypes: "Application/AT+JWT" is there twice
bearer: Config.TokenTypes: "" is there twice
bearer: Config.TokenTypes: "a/b/c" is no media type
bearer: Config.TokenTypes: "application/" is no media type
bearer: Config.MaxTokenLength: 262145 is more than 262144`
	if err == nil || err.Error() != want {
		t.Errorf("got error\n%v\nwant\n%s", err, want)
	}
	_, err = bearer.New(bearer.Config{Issuer: "https://login.example.com", Audience: []string{audience}, MaxTokenLength: -1})
	if err == nil || !strings.Contains(err.Error(), "MaxTokenLength: -1 is no length") {
		t.Errorf("negative: error %v", err)
	}
}
