package bearer_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"example.com/bearer"
	"example.com/bearer/bearertest"
)

func TestClaims(t *testing.T) {
	iss, auth := newAuth(t)
	c, err := auth.Verify(t.Context(), iss.Sign("", `{
		"iss": "https://login.example.com/", "sub": "a\u006cice", "aud": ["x", "https://api.example.com"],
		"exp": 4000000000, "iat": 1700000000.5, "nbf": 1.7e9, "jti": "id", "client_id": "app", "scope": "a b"
	}`))
	if err != nil {
		t.Fatal(err)
	}
	if c.Issuer != iss.URL || c.Subject != "alice" || c.ClientID != "app" || c.ID != "id" || c.Scope != "a b" {
		t.Errorf("got %+v", c)
	}
	if want := []string{"x", audience}; !slices.Equal(c.Audience, want) {
		t.Errorf("Audience = %q, want %q", c.Audience, want)
	}
	for name, times := range map[string][2]time.Time{
		"ExpiresAt": {c.ExpiresAt, time.Unix(4000000000, 0)},
		"IssuedAt":  {c.IssuedAt, time.Unix(1700000000, 5e8)},
		"NotBefore": {c.NotBefore, time.Unix(1700000000, 0)},
	} {
		if !times[0].Equal(times[1]) {
			t.Errorf("%s = %v, want %v", name, times[0], times[1])
		}
	}

	c, err = auth.Verify(t.Context(), iss.Sign("", payload(iss, "")))
	if err != nil || c.Subject != "" || c.ID != "" || c.ClientID != "" || c.IssuedAt != (time.Time{}) || c.NotBefore != (time.Time{}) || c.AuthTime != (time.Time{}) || c.Scope != "" {
		t.Errorf("without optional claims: got %+v, %v, want zero values", c, err)
	}
}

// Each date may be absent, and is what it is with its fraction otherwise, whichever others
// there are, at a token's first use and from the cache.
func TestDates(t *testing.T) {
	iss, auth := newAuth(t)
	names := []string{"exp", "nbf", "iat", "auth_time"}
	for mask := range 1 << len(names) {
		claims := bearertest.Claims{}
		var want [4]time.Time
		for i, name := range names {
			if claims[name] = nil; mask>>i&1 == 1 {
				fraction := time.Duration(i+1) * 125 * time.Millisecond
				want[i] = time.Unix(time.Now().Unix()-30, 0).Add(fraction)
				claims[name] = json.RawMessage(fmt.Sprintf("%d.%03d", want[i].Unix(), fraction.Milliseconds()))
			}
		}
		token := iss.Token(audience, claims)
		for range 2 {
			c, err := auth.Verify(t.Context(), token)
			if mask&1 == 0 {
				checkRefused(t, c, err, "no_expiry", jwt.ErrTokenRequiredClaimMissing)
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := [...]time.Time{c.ExpiresAt, c.NotBefore, c.IssuedAt, c.AuthTime}; got != want {
				t.Errorf("%v: got %v, want %v", claims, got, want)
			}
		}
	}
}

// Each claim is told apart from its neighbours, whatever they are, at a token's first use
// and from the cache.
func TestTextOfClaims(t *testing.T) {
	iss, auth := newAuth(t, func(c *bearer.Config) { c.MaxTokenLength = 256 << 10 })
	long := strings.Repeat("l", 12000)
	for _, text := range []string{"", "a", "é\"\\\n\x00\U0001d11e", long} {
		for _, audiences := range [][]string{{audience}, {audience, ""}, {"", audience, "", text}, {text, text, text, text, audience}} {
			for mask := range 32 {
				claims := bearertest.Claims{"aud": audiences}
				want := bearer.Claims{Issuer: iss.URL, Audience: audiences}
				for i, claim := range []struct {
					name string
					at   *string
				}{{"sub", &want.Subject}, {"client_id", &want.ClientID}, {"jti", &want.ID}, {"acr", &want.ACR}, {"scope", (*string)(&want.Scope)}} {
					if claims[claim.name] = nil; mask>>i&1 == 1 {
						claims[claim.name], *claim.at = text, text
					}
				}
				if mask&16 != 0 && text != "" {
					claims["scope"], want.Scope = "a b", "a b"
				}
				claims["iat"], want.IssuedAt = 1700000000.25, time.Unix(1700000000, 25e7)
				claims["auth_time"], want.AuthTime = 0, time.Unix(0, 0)
				claims["exp"], want.ExpiresAt = int64(253402300799), time.Unix(253402300799, 0)
				token := iss.Token(audience, claims)
				for range 2 {
					c, err := auth.Verify(t.Context(), token)
					if err != nil {
						t.Fatal(err)
					}
					got, _ := json.Marshal(c)
					if want, _ := json.Marshal(want); !bytes.Equal(got, want) {
						t.Fatalf("got %.1000s, want %.1000s", got, want)
					}
				}
			}
		}
	}
}

// However long a value of the audience is, it is told apart from the next one.
func TestLongAudience(t *testing.T) {
	iss, auth := newAuth(t, func(c *bearer.Config) { c.MaxTokenLength = 256 << 10 })
	for _, n := range []int{254, 255, 256, 257, 511, 512, 65535, 65536, 65537, 131329} {
		want := []string{strings.Repeat("a", n), audience, "b"}
		c, err := auth.Verify(t.Context(), iss.Token(audience, bearertest.Claims{"aud": want}))
		if err != nil || !slices.Equal(c.Audience, want) {
			t.Errorf("%d bytes: got %.100v, %v", n, c, err)
		}
	}
}

func TestClientID(t *testing.T) {
	iss, auth := newAuth(t)
	for members, want := range map[string]string{
		``:                           "",
		`,"client_id":"a"`:           "a",
		`,"azp":"b"`:                 "b",
		`,"cid":"c"`:                 "c",
		`,"appid":"d"`:               "d",
		`,"azp":"b","client_id":"a"`: "a",
		`,"appid":"d","azp":"b"`:     "b",
		`,"client_id":"a","azp":"b"`: "a",
		`,"azp":"b","appid":"d"`:     "b",
		`,"azp":"b","cid":"c"`:       "b",
		`,"cid":"c","azp":"b"`:       "b",
		`,"cid":"c","appid":"d"`:     "c",
		`,"appid":"d","cid":"c"`:     "c",
		`,"client_id":"a","cid":"c","azp":"b","appid":"d"`: "a",
		`,"client_id":1,"cid":"c"`:                         "c",
		`,"Client_id":"x","appid":"d"`:                     "d",
	} {
		c, err := auth.Verify(t.Context(), iss.Sign("", payload(iss, members)))
		if err != nil || c.ClientID != want {
			t.Errorf("%s: got %+v, %v, want ClientID %q", members, c, err, want)
		}
	}
}

func TestDecode(t *testing.T) {
	iss, auth := newAuth(t)
	c, err := auth.Verify(t.Context(), iss.Sign("", payload(iss, `,"tenant":"acme","n":9007199254740993,"ISS":"evil","iſs":"evil","Aud":["evil"],"Scope":"admin","nested":{"iss":"x"}`)))
	if err != nil {
		t.Fatal(err)
	}
	var own struct {
		Issuer string          `json:"iss"`
		Aud    string          `json:"aud"`
		Scope  string          `json:"scope"`
		Tenant string          `json:"tenant"`
		N      int64           `json:"n"`
		Nested json.RawMessage `json:"nested"`
	}
	if err := c.Decode(&own); err != nil {
		t.Fatal(err)
	}
	if own.Issuer != iss.URL || own.Aud != audience || own.Scope != "" || own.Tenant != "acme" || own.N != 9007199254740993 || string(own.Nested) != `{"iss":"x"}` {
		t.Errorf("got %+v", own)
	}

	// Names are written anew when an impostor was left out, whatever they are.
	c, err = auth.Verify(t.Context(), iss.Sign("", payload(iss, `,"CNF":1,"a\u0007\u007f\"\\é\ue001":"odd"`)))
	if err != nil {
		t.Fatal(err)
	}
	odd := map[string]any{}
	if err := c.Decode(&odd); err != nil || odd["a\a\x7f\"\\é\ue001"] != "odd" || odd["CNF"] != nil {
		t.Errorf("Decode with an odd name = %v, %v", odd, err)
	}

	c, err = auth.Verify(t.Context(), iss.Token(audience, bearertest.Claims{"tenant": "acme"}))
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]any
	if err := c.Decode(&all); err != nil || all["tenant"] != "acme" || all["client_id"] != "client" {
		t.Errorf("Decode into a map = %v, %v", all, err)
	}
	var wrong struct {
		Tenant int `json:"tenant"`
	}
	if err := c.Decode(&wrong); err == nil {
		t.Error("Decode of a string into an int succeeds")
	}
	if err := new(bearer.Claims).Decode(&all); err == nil {
		t.Error("Decode of claims without a payload succeeds")
	}
}

func TestContext(t *testing.T) {
	if c, found := bearer.FromContext(context.Background()); found || c != nil {
		t.Errorf("FromContext of an empty context = %v, %v", c, found)
	}
	type key struct{}
	claims := &bearer.Claims{Subject: "alice"}
	ctx := bearer.NewContext(context.WithValue(context.Background(), key{}, "kept"), claims)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if c, found := bearer.FromContext(ctx); !found || c != claims {
		t.Errorf("FromContext = %v, %v, want what NewContext was given", c, found)
	}
	if ctx.Value(key{}) != "kept" {
		t.Error("other values are lost")
	}
	if c, found := bearer.FromContext(bearer.NewContext(ctx, nil)); found || c != nil {
		t.Errorf("FromContext of no claims = %v, %v", c, found)
	}
	other := &bearer.Claims{}
	if c, _ := bearer.FromContext(bearer.NewContext(ctx, other)); c != other {
		t.Error("the inner claims do not count")
	}
}

// The request's context still ends as it did.
func TestContextIsDerived(t *testing.T) {
	iss, auth := newAuth(t)
	ctx, cancel := context.WithCancel(context.Background())
	h := auth.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	}))
	r := httptest.NewRequest("GET", "/", nil).WithContext(ctx)
	r.Header.Set("Authorization", "Bearer "+iss.Token(audience, nil))
	h.ServeHTTP(httptest.NewRecorder(), r)
}

func TestDecodeLeavesImpostorsOut(t *testing.T) {
	iss, auth := newAuth(t)
	for _, name := range []string{"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "cnf", "client_id", "azp", "cid", "appid", "tid", "scope", "scp"} {
		for _, other := range []string{strings.ToUpper(name), strings.ToUpper(name[:1]) + name[1:], strings.Replace(name, "s", "ſ", 1)} {
			if other == name {
				continue
			}
			c, err := auth.Verify(t.Context(), iss.Sign("", payload(iss, fmt.Sprintf(`,%q:"evil"`, other))))
			if err != nil {
				t.Fatal(err)
			}
			var all map[string]any
			if err := c.Decode(&all); err != nil || len(all) != 3 {
				t.Errorf("%s: Decode = %v, %v, want it left out", other, all, err)
			}
		}
	}
}
