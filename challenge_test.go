package bearer

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// The challenges of each kind of refusal, by what is configured and by the scheme
// that the request used.
func TestChallenges(t *testing.T) {
	const rm = `resource_metadata="https://api.example.com/.well-known/oauth-protected-resource/mcp"`
	const algs = `algs="ES256 EdDSA"`
	const url = "https://api.example.com/.well-known/oauth-protected-resource/mcp"
	var (
		plain    = challenger{}
		off      = challenger{metadata: url}
		on       = challenger{metadata: url, algs: "ES256 EdDSA"}
		required = challenger{metadata: url, algs: "ES256 EdDSA", dpopOnly: true}
		named    = challenger{realm: `the "A\B" API`, metadata: url, algs: "ES256"}

		none    = &Error{Status: 401}
		noneFor = &Error{Status: 401, Scope: "a"}
		token   = &Error{Status: 401, Code: "invalid_token"}
		request = &Error{Status: 400, Code: "invalid_request"}
		scope   = &Error{Status: 403, Code: "insufficient_scope", Scope: "a b"}
		login   = &Error{Status: 401, Code: "insufficient_user_authentication", Scope: "a", ACRValues: "gold silver", MaxAge: 5 * time.Minute}
		classes = &Error{Status: 401, Code: "insufficient_user_authentication", ACRValues: "gold"}
		recent  = &Error{Status: 401, Code: "insufficient_user_authentication", MaxAge: time.Minute}
		proof   = &Error{Status: 401, Code: "invalid_dpop_proof"}
		nonce   = &Error{Status: 401, Code: "use_dpop_nonce"}
		down    = &Error{Status: 503}
		denied  = &Error{Status: 403}
		own     = &Error{Status: 402, Code: "payment_required"}

		nothing   []string
		basic     = []string{"Basic YTpi"}
		bearer    = []string{"bearer x.y.z"}
		noToken   = []string{"Bearer "}
		twoTokens = []string{"Bearer a, DPoP b"}
		quoted    = []string{`Bearer "a"`}
		tab       = []string{"Bearer\ta"}
		dpop      = []string{"dPoP x.y.z"}
		dpopAlone = []string{"DPoP"}
		dpopTab   = []string{"DPoP\tx"}
		two       = []string{"DPoP a", "Bearer b"}
	)
	for _, tt := range []struct {
		name          string
		c             challenger
		e             *Error
		authorization []string
		want          []string
	}{
		{"nothing configured", plain, none, nothing, []string{`Bearer`}},
		{"nothing configured, scope route", plain, noneFor, nothing, []string{`Bearer scope="a"`}},
		{"nothing configured, token", plain, token, bearer, []string{`Bearer error="invalid_token"`}},
		{"nothing configured, DPoP", plain, none, dpop, []string{`Bearer`}},
		{"order", named, login, bearer, []string{
			`Bearer realm="the \"A\\B\" API", error="insufficient_user_authentication", scope="a", acr_values="gold silver", max_age="300", ` + rm,
			`DPoP realm="the \"A\\B\" API", algs="ES256", ` + rm}},
		{"how alone", plain, classes, bearer, []string{`Bearer error="insufficient_user_authentication", acr_values="gold"`}},
		{"when alone", plain, recent, bearer, []string{`Bearer error="insufficient_user_authentication", max_age="60"`}},
		{"C11: metadata with 400", off, request, two, []string{`Bearer error="invalid_request", ` + rm}},
		{"C11: metadata with 403", off, scope, bearer, []string{`Bearer error="insufficient_scope", scope="a b", ` + rm}},
		{"C8: no bare Bearer", off, none, nothing, []string{`Bearer ` + rm}},
		{"no challenge: 503", on, down, bearer, nil},
		{"no challenge: 403 without a code", on, denied, dpop, nil},
		{"a code of the caller's own", on, own, bearer, []string{`Bearer error="payment_required", ` + rm}},
		{"a code of the caller's own, DPoP", on, own, dpop, []string{`DPoP error="payment_required", ` + algs + `, ` + rm}},

		{"S1 on", on, none, nothing, []string{`Bearer ` + rm, `DPoP ` + algs + `, ` + rm}},
		{"S1 on, another scheme", on, none, basic, []string{`Bearer ` + rm, `DPoP ` + algs + `, ` + rm}},
		{"S1 on, scope route", on, noneFor, nothing, []string{`Bearer scope="a", ` + rm, `DPoP scope="a", ` + algs + `, ` + rm}},
		{"S1 required", required, none, nothing, []string{`DPoP ` + algs + `, ` + rm}},
		{"S2 required", required, token, bearer, []string{`DPoP error="invalid_token", ` + algs + `, ` + rm}},
		{"S4, S23 on", on, token, bearer, []string{`Bearer error="invalid_token", ` + rm, `DPoP ` + algs + `, ` + rm}},
		{"S6, S9 on", on, token, dpop, []string{`DPoP error="invalid_token", ` + algs + `, ` + rm}},
		{"S7, S8 on", on, proof, dpop, []string{`DPoP error="invalid_dpop_proof", ` + algs + `, ` + rm}},
		{"S8 required", required, proof, dpop, []string{`DPoP error="invalid_dpop_proof", ` + algs + `, ` + rm}},
		{"C9: nonce", on, nonce, dpop, []string{`DPoP error="use_dpop_nonce", ` + algs + `, ` + rm}},
		{"S10 off", off, none, dpop, []string{`Bearer ` + rm}},
		{"S11 on, no token", on, request, dpopAlone, []string{`DPoP error="invalid_request", ` + algs + `, ` + rm}},
		{"S11 on, tab", on, request, dpopTab, []string{`DPoP error="invalid_request", ` + algs + `, ` + rm}},
		{"S12 on", on, request, two, []string{`Bearer error="invalid_request", ` + rm, `DPoP error="invalid_request", ` + algs + `, ` + rm}},
		{"S12 required", required, request, two, []string{`DPoP error="invalid_request", ` + algs + `, ` + rm}},
		{"S13 on", on, request, twoTokens, []string{`Bearer error="invalid_request", ` + rm, `DPoP error="invalid_request", ` + algs + `, ` + rm}},
		{"S18 on", on, scope, dpop, []string{`DPoP error="insufficient_scope", scope="a b", ` + algs + `, ` + rm}},
		{"S22 on", on, scope, bearer, []string{`Bearer error="insufficient_scope", scope="a b", ` + rm}},
		{"S22 required", required, scope, bearer, []string{`DPoP error="insufficient_scope", scope="a b", ` + algs + `, ` + rm}},
		{"S24 on, no token", on, request, noToken, []string{`Bearer error="invalid_request", ` + rm, `DPoP error="invalid_request", ` + algs + `, ` + rm}},
		{"S24 on, quotes", on, request, quoted, []string{`Bearer error="invalid_request", ` + rm, `DPoP error="invalid_request", ` + algs + `, ` + rm}},
		{"S24 on, tab", on, request, tab, []string{`Bearer error="invalid_request", ` + rm, `DPoP error="invalid_request", ` + algs + `, ` + rm}},
		{"S24 required", required, request, noToken, []string{`DPoP error="invalid_request", ` + algs + `, ` + rm}},
		{"A13 on", on, login, dpop, []string{`DPoP error="insufficient_user_authentication", scope="a", acr_values="gold silver", max_age="300", ` + algs + `, ` + rm}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := tt.c.challenges(new(lines), tt.e, usedScheme(tt.authorization))
			tt.c.prepare()
			if prepared := tt.c.challenges(new(lines), tt.e, usedScheme(tt.authorization)); !slices.Equal(got, tt.want) || !slices.Equal(prepared, tt.want) {
				t.Errorf("got  %q\nand  %q, prepared;\nwant %q", got, prepared, tt.want)
			}
			for _, line := range got {
				if line == "Bearer" { // clients know it, and with metadata it is never sent
					continue
				}
				if _, err := parseChallenge(line); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// Whatever the texts of an Error are, each line is one challenge by RFC 9110.
func TestChallengesOfAnyText(t *testing.T) {
	texts := []string{"", " ", "a", `"`, `\`, `\"`, `a", error="b`, "a\r\nX: b", "\x00\x7f", "ä€", ",", "=", "a=b, DPoP c=d"}
	for _, text := range texts {
		for _, c := range []challenger{{}, {realm: text}, {realm: text, metadata: "https://a/", algs: "ES256"}} {
			e := &Error{Status: 401, Code: text, Scope: text, ACRValues: text, MaxAge: time.Second}
			for _, line := range c.challenges(new(lines), e, "") {
				params, err := parseChallenge(line)
				if err != nil {
					t.Errorf("%q: %v", text, err)
				}
				clean := strings.Map(func(r rune) rune {
					if r < ' ' || r > '~' {
						return -1
					}
					return r
				}, text)
				for _, name := range []string{"error", "scope", "acr_values"} {
					if params[name] != clean {
						t.Errorf("%q: %s = %q, want %q", text, name, params[name], clean)
					}
				}
			}
		}
	}
}

// parseChallenge parses a header line that holds one challenge with parameters, by
// the grammar of RFC 9110, sections 11.2, 11.3 and 5.6, and by what this package
// promises besides: every value is a quoted-string and not empty.
func parseChallenge(line string) (map[string]string, error) {
	fail := func(what string) (map[string]string, error) {
		return nil, fmt.Errorf("challenge %q: %s", line, what)
	}
	scheme, rest, _ := strings.Cut(line, " ")
	if scheme != "Bearer" && scheme != "DPoP" {
		return fail("another scheme")
	}
	params := map[string]string{}
	for {
		name, after, ok := strings.Cut(rest, `="`)
		if !ok || !isToken(name) || params[name] != "" {
			return fail("no parameter, or one twice: " + rest)
		}
		value, i := "", 0
		for ; i < len(after) && after[i] != '"'; i++ {
			if after[i] == '\\' {
				i++
			}
			if i == len(after) || after[i] < ' ' || after[i] > '~' {
				return fail("a character that a quoted-string cannot have")
			}
			value += after[i : i+1]
		}
		if i >= len(after) || value == "" {
			return fail("a value that is empty or does not end")
		}
		params[name] = value
		switch rest = after[i+1:]; {
		case rest == "":
			return params, nil
		case !strings.HasPrefix(rest, ", "):
			return fail("something after a value: " + rest)
		}
		rest = rest[2:]
	}
}
