package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"example.com/bearer/bearertest"
)

// start runs the program until the test ends and returns its first lines, up to
// and with the one that says where it listens.
func start(t *testing.T, args ...string) (stdout *bufio.Reader, base string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r, w := io.Pipe()
	done := make(chan int, 1)
	go func() {
		done <- run(ctx, append([]string{"-addr", "127.0.0.1:0"}, args...), w, io.Discard)
		w.Close()
	}()
	t.Cleanup(func() {
		cancel()
		go io.Copy(io.Discard, r)
		select {
		case status := <-done:
			if status != 0 {
				t.Errorf("exit status %d after an interrupt, want 0", status)
			}
		case <-time.After(5 * time.Second):
			t.Error("the server does not end")
		}
	})
	stdout = bufio.NewReader(r)
	line, err := stdout.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	base = regexp.MustCompile(`https?://127\.0\.0\.1:\d+`).FindString(line)
	if base == "" {
		t.Fatalf("no address in %q", line)
	}
	return stdout, base
}

func get(t *testing.T, method, url, token string) (int, string) {
	t.Helper()
	r, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	if got := resp.Header.Get("Content-Type"); got != "application/json" {
		t.Errorf("%s %s: Content-Type %q, want application/json", method, url, got)
	}
	return resp.StatusCode, strings.TrimSpace(string(body))
}

// The printed lines give what they announce.
func TestEmbedded(t *testing.T) {
	stdout, _ := start(t)
	command := regexp.MustCompile(`^curl -i (\S+)(?: -H 'Authorization: Bearer (\S+)')?\n$`)
	announced := regexp.MustCompile(`^# (\d+): `)
	want := ""
	seen := ""
	for len(seen) < len("401 200 403 200 401 401 ") {
		line, err := stdout.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if m := announced.FindStringSubmatch(line); m != nil {
			want = m[1]
		} else if m := command.FindStringSubmatch(line); m != nil {
			status, _ := get(t, "GET", m[1], m[2])
			if strconv.Itoa(status) != want {
				t.Errorf("%s: status %d, want %s", line, status, want)
			}
			seen += want + " "
		}
	}
	if want := "401 200 403 200 401 401 "; seen != want {
		t.Errorf("the lines announce %q, want %q", seen, want)
	}
}

// The same routes with the tokens of an issuer elsewhere.
func TestRoutes(t *testing.T) {
	issuer := httptest.NewServer(nil)
	defer issuer.Close()
	iss := bearertest.NewIssuer(issuer.URL)
	issuer.Config.Handler = iss
	_, base := start(t, "-issuer", iss.URL, "-audience", "a", "-audience", "b", "-scope-claim", "realm_access.roles", "-scope-claim", "scope")
	scope := func(s string) string { return iss.Token("b", bearertest.Claims{"scope": s}) }
	for _, tt := range []struct {
		request, token string
		status         int
		body           string // not compared if empty
	}{
		{"GET /api/ping", "", 200, ""},
		{"GET /api/ping/secure", "", 401, ""},
		{"GET /api/ping/secure", scope("b  a b"), 200, fmt.Sprintf(`{"bound":"","client_id":"client","iss":%q,"scope":["b","a"],"sub":"user"}`, iss.URL)},
		{"GET /api/ping/secure", iss.Token("a", nil), 200, fmt.Sprintf(`{"bound":"","client_id":"client","iss":%q,"scope":[],"sub":"user"}`, iss.URL)},
		{"GET /api/ping/secure", iss.Token("https://api.example.com", nil), 401, ""},
		{"GET /api/messages", "", 401, ""},
		{"GET /api/messages", scope("write:messages"), 403, ""},
		{"GET /api/messages", scope("read:messages"), 200, ""},
		{"GET /api/messages", iss.Token("a", bearertest.Claims{"realm_access": map[string]any{"roles": []string{"read:messages"}}}), 200, ""},
		{"POST /api/messages", scope("read:messages"), 403, ""},
		{"POST /api/messages", scope("read:messages write:messages"), 201, ""},
		{"DELETE /api/messages", scope("read:messages"), 403, ""},
		{"DELETE /api/messages", scope("admin"), 200, ""},
		{"DELETE /api/messages", scope("delete:messages"), 200, ""},
		{"PUT /api/messages", "", 401, ""},
		{"PUT /api/messages", scope(""), 404, ""},
		{"GET /api/nowhere", "", 401, ""},
		{"GET /api/nowhere", scope(""), 404, ""},
	} {
		method, path, _ := strings.Cut(tt.request, " ")
		status, body := get(t, method, base+path, tt.token)
		if status != tt.status || tt.body != "" && body != tt.body {
			t.Errorf("%s: got %d %s, want %d %s", tt.request, status, body, tt.status, tt.body)
		}
	}
}

// The vault opens for those who have logged in well, and lately.
func TestVault(t *testing.T) {
	issuer := httptest.NewServer(nil)
	defer issuer.Close()
	iss := bearertest.NewIssuer(issuer.URL)
	issuer.Config.Handler = iss
	_, base := start(t, "-issuer", iss.URL)
	const challenge = `Bearer error="insufficient_user_authentication", acr_values="gold silver", max_age="300"`
	now := time.Now().Unix()
	for _, tt := range []struct {
		claims    bearertest.Claims // nil: no token
		status    int
		challenge string
	}{
		{nil, 401, "Bearer"},
		{bearertest.Claims{"acr": "gold", "auth_time": now}, 200, ""},
		{bearertest.Claims{"acr": "silver", "auth_time": now - 290}, 200, ""},
		{bearertest.Claims{"acr": "bronze", "auth_time": now}, 401, challenge},
		{bearertest.Claims{"acr": "gold", "auth_time": now - 400}, 401, challenge},
	} {
		for _, method := range []string{"GET", "HEAD"} {
			r, err := http.NewRequest(method, base+"/api/vault", nil)
			if err != nil {
				t.Fatal(err)
			}
			if tt.claims != nil {
				r.Header.Set("Authorization", "Bearer "+iss.Token("https://api.example.com", tt.claims))
			}
			resp, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if got := resp.Header.Get("WWW-Authenticate"); resp.StatusCode != tt.status || got != tt.challenge {
				t.Errorf("%s %v: got %d %s, want %d %s", method, tt.claims, resp.StatusCode, got, tt.status, tt.challenge)
			}
		}
	}
}

// With -resource the metadata are served, and named by challenges; tokens for the
// resource are good, and those for the default audience too.
func TestResource(t *testing.T) {
	issuer := httptest.NewServer(nil)
	defer issuer.Close()
	iss := bearertest.NewIssuer(issuer.URL)
	issuer.Config.Handler = iss
	_, base := start(t, "-issuer", iss.URL, "-resource", "https://api.example.com/v1")
	const doc = "/.well-known/oauth-protected-resource/v1"
	for _, path := range []string{doc, doc + "/"} {
		status, body := get(t, "GET", base+path, "")
		if want := fmt.Sprintf(`{"resource":"https://api.example.com/v1","authorization_servers":[%q],"bearer_methods_supported":["header"]}`, iss.URL); status != 200 || body != want {
			t.Errorf("%s: got %d %s, want %s", path, status, body, want)
		}
	}
	for _, audience := range []string{"https://api.example.com/v1", "https://api.example.com"} {
		if status, _ := get(t, "GET", base+"/api/ping/secure", iss.Token(audience, nil)); status != 200 {
			t.Errorf("a token for %s: status %d, want 200", audience, status)
		}
	}
	resp, err := http.Get(base + "/api/messages")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if got, want := resp.Header.Get("WWW-Authenticate"), `Bearer scope="read:messages", resource_metadata="https://api.example.com`+doc+`"`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// It starts while the issuer is down.
func TestIssuerDown(t *testing.T) {
	issuer := httptest.NewServer(nil)
	issuer.Close()
	_, base := start(t, "-issuer", issuer.URL)
	if status, _ := get(t, "GET", base+"/api/ping", ""); status != 200 {
		t.Errorf("public route: status %d, want 200", status)
	}
	token := bearertest.NewIssuer(issuer.URL).Token("https://api.example.com", nil)
	if status, _ := get(t, "GET", base+"/api/ping/secure", token); status != 503 {
		t.Errorf("protected route: status %d, want 503", status)
	}
}

func TestBadFlags(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want []string // each in the message
	}{
		{[]string{"-addr", "nowhere", "-issuer", "http://login.example.com", "-audience", "", "-scope-claim", "", "more"},
			[]string{"-addr: ", "-issuer: ", "must use https", "-audience: ", "-scope-claim: ", `["more"]`}},
		{[]string{"-issuer", "acme", "-jwks", "ftp://x"}, []string{"-jwks: "}},
		{[]string{"-jwks", "https://login.example.com/keys", "-audience-claim", "azp", "-scope-claim", "x"},
			[]string{"-jwks: needs -issuer", "-audience-claim: needs -issuer", "-scope-claim: needs -issuer"}},
		{[]string{"-resource", "http://api.example.com/?a"}, []string{"-resource: ", "must use https"}},
		{[]string{"-nonsense"}, []string{"-nonsense"}},
	} {
		var stderr strings.Builder
		if status := run(t.Context(), tt.args, io.Discard, &stderr); status != 2 {
			t.Errorf("%q: exit status %d, want 2", tt.args, status)
		}
		for _, want := range tt.want {
			if !strings.Contains(stderr.String(), want) {
				t.Errorf("%q: want %q in %s", tt.args, want, stderr.String())
			}
		}
	}
}
