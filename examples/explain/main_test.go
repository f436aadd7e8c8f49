package main

import (
	"strings"
	"testing"

	"example.com/bearer"
	"example.com/bearer/bearertest"
)

const audience = "https://api.example.com"

func TestExplain(t *testing.T) {
	iss := bearertest.NewIssuer("https://login.example.com/")
	good := iss.Token(audience, bearertest.Claims{"scope": "read write"})
	forged := good[:len(good)-20] + strings.Repeat("A", 20)
	tests := []struct {
		name, token string
		status      int
		want        []string
		passed      int
	}{
		{"good", good, 0, []string{`"sub": "user"`, `"alg": "ES256"`, `accepted: subject "user", client "client", scopes "read write"`}, 11},
		{"with the scheme", "Bearer " + good + "\n", 0, []string{"accepted"}, 11},
		{"opaque", "abc", 1, []string{"FAIL  form", "reason: malformed", "hint:   an opaque token"}, 0},
		{"encrypted", "a.b.c.d.e", 1, []string{"FAIL  form", "encrypted token"}, 0},
		{"algorithm", iss.Sign(`{"alg":"HS256"}`, `{}`), 1, []string{"FAIL  header", "reason: algorithm", "got:    HS256"}, 1},
		{"key", iss.Sign(`{"alg":"ES256","kid":"x"}`, `{"iss":"https://login.example.com/"}`), 1, []string{"FAIL  key", "reason: unknown_key"}, 3},
		{"signature", forged, 1, []string{"FAIL  signature"}, 4},
		{"issuer", iss.Token(audience, bearertest.Claims{"iss": "https://login.example.com"}), 1, []string{"FAIL  issuer", "slash at the end"}, 2},
		{"audience", iss.Token(audience+"/", nil), 1, []string{"FAIL  audience", "want:   " + audience, "slash at the end"}, 6},
		{"expired", iss.Token(audience, bearertest.Claims{"exp": 1000000000}), 1, []string{"FAIL  expiry", "2001-09-09"}, 7},
		{"too long", strings.Repeat("x", 16<<10+1), 1, []string{"FAIL  form", "reason: too_long", "want:   16384 at most"}, 0},
		{"critical", iss.Sign(`{"alg":"ES256","crit":["x"]}`, `{}`), 1, []string{"FAIL  header", "reason: crit"}, 1},
		{"type", iss.Sign(`{"alg":"ES256","typ":"dpop+jwt"}`, `{}`), 1, []string{"FAIL  header", "reason: type"}, 1},
		{"key for another algorithm", iss.Sign(`{"alg":"EdDSA","kid":"key-1"}`, `{"iss":"https://login.example.com/"}`), 1, []string{"FAIL  key", "reason: key"}, 3},
		{"type of a claim", iss.Token(audience, bearertest.Claims{"sub": 1}), 1, []string{"FAIL  types", "claim:  sub"}, 5},
		{"no expiry", iss.Token(audience, bearertest.Claims{"exp": nil}), 1, []string{"FAIL  expiry", "reason: no_expiry"}, 7},
		{"not before", iss.Token(audience, bearertest.Claims{"nbf": int64(4000000000)}), 1, []string{"FAIL  not before"}, 8},
		{"issued at", iss.Token(audience, bearertest.Claims{"iat": int64(4000000000)}), 1, []string{"FAIL  issued at"}, 9},
		{"bound", iss.Token(audience, bearertest.Claims{"cnf": 1}), 1, []string{"FAIL  sender", "next:   -proof"}, 10},
	}
	for _, tt := range tests {
		for _, how := range []string{"argument", "standard input"} {
			var stdout, stderr strings.Builder
			args, stdin := []string{"-issuer", iss.URL, "-audience", audience}, ""
			if how == "argument" {
				args = append(args, tt.token)
			} else {
				stdin = tt.token
			}
			if got := run(args, strings.NewReader(stdin), &stdout, &stderr, bearer.Config{Client: iss.Client()}); got != tt.status {
				t.Errorf("%s by %s: exit status %d, want %d; %s", tt.name, how, got, tt.status, stderr.String())
			}
			for _, want := range tt.want {
				if !strings.Contains(stdout.String(), want) {
					t.Errorf("%s by %s: want %q in\n%s", tt.name, how, want, stdout.String())
				}
			}
			if got := strings.Count(stdout.String(), "pass  "); got != tt.passed {
				t.Errorf("%s by %s: %d checks passed, want %d", tt.name, how, got, tt.passed)
			}
		}
	}

	iss.SetDown(true)
	var stdout strings.Builder
	if got := run([]string{"-issuer", iss.URL, "-audience", audience, good}, nil, &stdout, &stdout, bearer.Config{Client: iss.Client()}); got != 1 || !strings.Contains(stdout.String(), "FAIL  key") || !strings.Contains(stdout.String(), "connection refused") {
		t.Errorf("issuer down: exit status %d and\n%s", got, stdout.String())
	}
}

// Each flag has its effect.
func TestFlags(t *testing.T) {
	const template = "https://login.example.com/{tenantid}/v2.0"
	iss := bearertest.NewIssuer("https://login.example.com/t/v2.0")
	for _, tt := range []struct {
		name   string
		args   string
		claims bearertest.Claims
		status int
		want   string
	}{
		{"as it is", "-issuer https://login.example.com/t/v2.0 -audience " + audience, nil, 0, `scopes ""`},
		{"another issuer", "-issuer https://login.example.com/u/v2.0 -jwks " + iss.URL + "/.well-known/jwks.json -audience " + audience, nil, 1, "FAIL  issuer"},
		{"two audiences", "-issuer https://login.example.com/t/v2.0 -audience x -audience " + audience, nil, 0, "accepted"},
		{"a template", "-issuer-template " + template + " -jwks " + iss.URL + "/.well-known/jwks.json -audience " + audience, bearertest.Claims{"tid": "t"}, 0, "accepted"},
		{"a template, another tenant", "-issuer-template " + template + " -jwks " + iss.URL + "/.well-known/jwks.json -audience " + audience, bearertest.Claims{"tid": "u"}, 1, "FAIL  issuer"},
		{"keys elsewhere", "-issuer https://login.example.com/t/v2.0 -jwks https://login.example.com/nothing -audience " + audience, nil, 1, "FAIL  key"},
		{"an audience claim", "-issuer https://login.example.com/t/v2.0 -audience-claim client_id -audience client", nil, 0, "accepted"},
		{"scope claims", "-issuer https://login.example.com/t/v2.0 -audience " + audience + " -scope-claim roles -scope-claim scope", bearertest.Claims{"roles": []string{"a", "b"}, "scope": "c"}, 0, `scopes "a b"`},
		{"scope claims, the second", "-issuer https://login.example.com/t/v2.0 -audience " + audience + " -scope-claim roles -scope-claim scope", bearertest.Claims{"scope": "c"}, 0, `scopes "c"`},
	} {
		var stdout, stderr strings.Builder
		got := run(strings.Fields(tt.args), strings.NewReader(iss.Token(audience, tt.claims)), &stdout, &stderr, bearer.Config{Client: iss.Client()})
		if got != tt.status || !strings.Contains(stdout.String(), tt.want) {
			t.Errorf("%s: exit status %d and\n%s%s, want %d and %q", tt.name, got, stdout.String(), stderr.String(), tt.status, tt.want)
		}
	}
}

// The whole of what is printed for a token that is refused, and for one that is not
// even a token.
func TestPrinted(t *testing.T) {
	iss := bearertest.NewIssuer("https://login.example.com/")
	for _, tt := range []struct{ token, want string }{
		{iss.Sign(`{"alg":"ES256","kid":"key-1"}`, `{"iss":"https://login.example.com/","aud":"x","exp":4000000000}`), `header: {
  "alg": "ES256",
  "kid": "key-1"
}
payload: {
  "iss": "https://login.example.com/",
  "aud": "x",
  "exp": 4000000000
}
pass  form: three parts of base64url, strict JSON
pass  header: no critical extension, an accepted algorithm, an access token
pass  issuer
pass  key: one that the issuer publishes for the algorithm
pass  signature
pass  types of the claims
FAIL  audience

refused: the token's audience is not accepted
  reason: audience
  claim:  aud
  want:   https://api.example.com
  got:    x
`},
		{"é.YQ", `header: (not base64url)
payload: (not JSON)
FAIL  form: three parts of base64url, strict JSON

refused: the token is malformed
  reason: malformed
  detail: not three parts with dots between them
`},
	} {
		for _, args := range [][]string{{tt.token}, {"bearer  " + tt.token + " "}, {"-"}} {
			var stdout strings.Builder
			if got := run(append([]string{"-issuer", iss.URL, "-audience", audience}, args...), strings.NewReader(tt.token+"\r\n"), &stdout, &stdout, bearer.Config{Client: iss.Client()}); got != 1 {
				t.Errorf("%q: exit status %d, want 1", args, got)
			}
			if stdout.String() != tt.want {
				t.Errorf("%q: got\n%s\nwant\n%s", args, stdout.String(), tt.want)
			}
		}
	}
	var stdout strings.Builder
	if got := run([]string{"-h"}, nil, &stdout, &stdout, bearer.Config{}); got != 0 || !strings.Contains(stdout.String(), "-issuer-template") || !strings.Contains(stdout.String(), "from\nstandard input") {
		t.Errorf("-h: exit status %d and %s, want 0 and the flags", got, stdout.String())
	}
}

func TestBadFlags(t *testing.T) {
	for _, args := range [][]string{
		{}, {"-nonsense"}, {"-issuer", "http://a.example", "-audience", "x", "token"}, {"-issuer", "https://a.example", "-audience", "x", "a", "b"},
		{"-resource", "https://a.example", "token"}, {"-resource", "https://a.example", "-issuer", "https://a.example"},
		{"-issuer", "https://a.example", "-audience", "x", "-proof", "p", "token"},
		{"-issuer", "https://a.example", "-audience", "x", "-proof", "p", "-url", "a.example", "token"},
		{"-issuer", "https://a.example", "-audience", "x", "-proof", "p", "-url", "https://a.example", "-method", "G E T", "token"},
		{"-issuer", "https://a.example", "-audience", "x", "-url", "https://a.example", "token"},
	} {
		var stderr strings.Builder
		if got := run(args, strings.NewReader(""), &stderr, &stderr, bearer.Config{}); got != 2 || stderr.Len() == 0 {
			t.Errorf("%q: exit status %d and %q, want 2 and a message", args, got, stderr.String())
		}
	}
}

// A reason that this program does not know must not look as if all were well.
func TestUnknownReason(t *testing.T) {
	var stdout strings.Builder
	status := explainVerdict(&stdout, nil, &bearer.Error{Status: 401, Reason: "news", Description: "something new"}, refusal{"hint": "h"}, nil)
	if want := "\nrefused: something new\n  reason: news\n  hint:   h\n"; status != 1 || stdout.String() != want {
		t.Errorf("exit status %d and %q, want 1 and %q", status, stdout.String(), want)
	}
}
