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
		{"bound", iss.Token(audience, bearertest.Claims{"cnf": 1}), 1, []string{"FAIL  not bound"}, 10},
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

func TestBadFlags(t *testing.T) {
	for _, args := range [][]string{{}, {"-issuer", "http://a.example", "-audience", "x", "token"}, {"-nonsense"}, {"-issuer", "https://a.example", "-audience", "x", "a", "b"}} {
		var stderr strings.Builder
		if got := run(args, strings.NewReader(""), &stderr, &stderr, bearer.Config{}); got != 2 || stderr.Len() == 0 {
			t.Errorf("%q: exit status %d and %q, want 2 and a message", args, got, stderr.String())
		}
	}
}
