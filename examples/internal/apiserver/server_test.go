package apiserver

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
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
		done <- Run(ctx, append([]string{"-addr", "127.0.0.1:0"}, args...), w, io.Discard, Extension{Name: "server"})
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
	if status, _ := get(t, "GET", base+"/ready", ""); status != 503 {
		t.Errorf("/ready: status %d, want 503", status)
	}
}

// Keys from a file, of an issuer that is no URL, and the bounds on tokens.
func TestKeysFromFile(t *testing.T) {
	iss := bearertest.NewIssuer("https://login.example.com")
	w := httptest.NewRecorder()
	iss.ServeHTTP(w, httptest.NewRequest("GET", "/.well-known/jwks.json", nil))
	file := filepath.Join(t.TempDir(), "jwks.json")
	_, base := start(t, "-issuer", "acme", "-audience", "a", "-jwks-file", file, "-type", "at+jwt", "-type", "", "-max-token", "1000")
	if status, _ := get(t, "GET", base+"/ready", ""); status != 503 {
		t.Errorf("/ready without the file: status %d, want 503", status)
	}
	if err := os.WriteFile(file, w.Body.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	token := func(typ, pad string) string {
		return iss.Sign(fmt.Sprintf(`{"alg":"ES256","kid":%q%s}`, iss.KeyID(), typ),
			fmt.Sprintf(`{"iss":"acme","aud":"a","exp":%d,"pad":%q}`, time.Now().Unix()+600, pad))
	}
	deadline := time.Now().Add(time.Minute) // until the next try is due
	for status := 0; status != 200; time.Sleep(50 * time.Millisecond) {
		if status, _ = get(t, "GET", base+"/ready", ""); time.Now().After(deadline) {
			t.Fatalf("/ready: status %d, want 200", status)
		}
	}
	if status, _ := get(t, "HEAD", base+"/ready", ""); status != 200 {
		t.Errorf("HEAD /ready: status %d, want 200", status)
	}
	for _, tt := range []struct {
		name, token string
		status      int
	}{
		{"without a type", token("", ""), 200},
		{"at+jwt", token(`,"typ":"at+jwt"`, ""), 200},
		{"JWT", token(`,"typ":"JWT"`, ""), 401},
		{"too long", token("", strings.Repeat("x", 1000)), 401},
	} {
		if status, _ := get(t, "GET", base+"/api/ping/secure", tt.token); status != tt.status {
			t.Errorf("%s: status %d, want %d", tt.name, status, tt.status)
		}
	}
}

// The program starts again while its issuer is down.
func TestKeyCache(t *testing.T) {
	dir := t.TempDir()
	issuer := httptest.NewServer(nil)
	iss := bearertest.NewIssuer(issuer.URL)
	issuer.Config.Handler = iss
	token := iss.Token("https://api.example.com", nil)
	_, base := start(t, "-issuer", iss.URL, "-key-cache", dir)
	if status, _ := get(t, "GET", base+"/api/ping/secure", token); status != 200 {
		t.Errorf("issuer up: status %d, want 200", status)
	}
	deadline := time.Now().Add(time.Minute)
	for files := 0; files == 0; time.Sleep(10 * time.Millisecond) {
		kept, _ := filepath.Glob(filepath.Join(dir, "*.json"))
		if files = len(kept); time.Now().After(deadline) {
			t.Fatal("no keys are kept")
		}
	}
	issuer.Close()
	_, base = start(t, "-issuer", iss.URL, "-key-cache", dir)
	for _, path := range []string{"/api/ping/secure", "/ready"} {
		if status, _ := get(t, "GET", base+path, token); status != 200 {
			t.Errorf("%s, issuer down: status %d, want 200", path, status)
		}
	}
}

func TestInsecureHTTP(t *testing.T) {
	_, base := start(t, "-issuer", "http://keycloak.invalid/realms/acme", "-insecure-http")
	if status, _ := get(t, "GET", base+"/api/ping", ""); status != 200 {
		t.Errorf("status %d, want 200", status)
	}
}

// With -v the log says why a request was refused, and without it nothing.
func TestVerbose(t *testing.T) {
	for _, verbose := range []bool{false, true} {
		ctx, cancel := context.WithCancel(t.Context())
		r, w := io.Pipe()
		done := make(chan int, 1)
		var stderr strings.Builder
		go func() {
			done <- Run(ctx, []string{"-addr", "127.0.0.1:0", fmt.Sprintf("-v=%t", verbose)}, w, &stderr, Extension{Name: "server"})
		}()
		stdout := bufio.NewReader(r)
		line, err := stdout.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		go io.Copy(io.Discard, stdout)
		if status, _ := get(t, "GET", regexp.MustCompile(`http://127\.0\.0\.1:\d+`).FindString(line)+"/api/ping/secure", "abc"); status != 401 {
			t.Errorf("status %d, want 401", status)
		}
		cancel()
		if status := <-done; status != 0 {
			t.Errorf("exit status %d, want 0", status)
		}
		if told := strings.Contains(stderr.String(), "reason=malformed"); told != verbose {
			t.Errorf("-v=%t: logged %q", verbose, stderr.String())
		}
	}
}

// A port that is taken is told, and is no success.
func TestBusyPort(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	var stdout, stderr strings.Builder
	if status := Run(t.Context(), []string{"-addr", taken.Addr().String()}, &stdout, &stderr, Extension{Name: "server"}); status != 1 {
		t.Errorf("exit status %d, want 1", status)
	}
	if stdout.Len() > 0 || !strings.Contains(stderr.String(), taken.Addr().String()) {
		t.Errorf("printed %q and %q, want the address in the second alone", stdout.String(), stderr.String())
	}
}

// A request that is being served when the server is told to end gets its answer. One
// that does not come to its end keeps it for a second.
func TestGracefulEnd(t *testing.T) {
	asked, answer := make(chan bool, 9), make(chan bool)
	issuer := httptest.NewServer(nil)
	defer issuer.Close()
	release := sync.OnceFunc(func() { close(answer) })
	defer release()
	iss := bearertest.NewIssuer(issuer.URL)
	issuer.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- true
		<-answer
		iss.ServeHTTP(w, r)
	})
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	done := make(chan int, 1)
	go func() {
		done <- Run(ctx, []string{"-addr", "127.0.0.1:0", "-issuer", iss.URL}, w, io.Discard, Extension{Name: "server"})
	}()
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	base := regexp.MustCompile(`http://127\.0\.0\.1:\d+`).FindString(line)
	stuck, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer stuck.Close()
	fmt.Fprint(stuck, "GET /api/ping HTTP/1.1\r\n") // and no more
	status := make(chan int, 1)
	go func() {
		r, _ := http.NewRequest("GET", base+"/api/ping/secure", nil)
		r.Header.Set("Authorization", "Bearer "+iss.Token("https://api.example.com", nil))
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			status <- 0
			return
		}
		resp.Body.Close()
		status <- resp.StatusCode
	}()
	<-asked
	cancel()
	begun := time.Now()
	var got int
	select {
	case got = <-status: // too early
	case <-time.After(100 * time.Millisecond):
		release()
		got = <-status
	}
	if took := time.Since(begun); got != 200 && took < 900*time.Millisecond { // or else the test was too slow
		t.Errorf("a request that was being served: status %d after %v, want 200", got, took)
	}
	if got := <-done; got != 0 {
		t.Errorf("exit status %d, want 0", got)
	}
}

// Who does not finish the header of a request is sent away.
func TestSlowHeader(t *testing.T) {
	t.Parallel()
	_, base := start(t)
	c, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "GET /api/ping HTTP/1.1\r\nHost: x\r\n")
	c.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.ReadAll(c); err != nil {
		t.Errorf("after 20 s: %v, want the connection closed", err)
	}
}

// The defaults of the flags, and what -h prints.
func TestHelp(t *testing.T) {
	var stdout, stderr strings.Builder
	if status := Run(t.Context(), []string{"-h"}, &stdout, &stderr, Extension{Name: "server"}); status != 0 || !strings.Contains(stderr.String(), "127.0.0.1:58105") {
		t.Errorf("exit status %d and %s", status, stderr.String())
	}
}

// Each flag has its effect.
func TestFlags(t *testing.T) {
	issuer := httptest.NewServer(nil)
	defer issuer.Close()
	iss := bearertest.NewIssuer(issuer.URL)
	issuer.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/keys" {
			r.URL.Path = "/.well-known/jwks.json"
			iss.ServeHTTP(w, r)
			return
		}
		http.NotFound(w, r) // no discovery
	})
	_, base := start(t, "-issuer", iss.URL, "-jwks", issuer.URL+"/keys", "-audience-claim", "azp", "-audience", "me")
	for name, tt := range map[string]struct {
		claims bearertest.Claims
		status int
	}{
		"the claim":         {bearertest.Claims{"azp": "me", "aud": nil}, 200},
		"another":           {bearertest.Claims{"azp": "you", "aud": "me"}, 401},
		"the usual one":     {bearertest.Claims{"aud": "me"}, 401},
		"another claim yet": {bearertest.Claims{"client_id": "me"}, 401},
	} {
		if status, body := get(t, "GET", base+"/api/ping/secure", iss.Token("x", tt.claims)); status != tt.status {
			t.Errorf("%s: got %d %s, want %d", name, status, body, tt.status)
		}
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
		{[]string{"-resource", "http://api.example.com/?a"}, []string{"-resource: ", "must be an absolute https URL"}},
		{[]string{"-issuer", "https://login.example.com", "-jwks", "https://login.example.com/keys", "-jwks-file", "x", "-type", "a b", "-max-token", "1000000"},
			[]string{"-jwks-file: cannot be set together with -jwks", `-type: "a b"`, "-max-token: 1000000 is more than"}},
		{[]string{"-jwks-file", "x", "-key-cache", "x", "-insecure-http", "-type", "JWT"},
			[]string{"-jwks-file: needs -issuer", "-key-cache: needs -issuer", "-insecure-http: needs -issuer", "-type: needs -issuer"}},
		{[]string{"-issuer", "http://login.example.com"}, []string{"with -insecure-http", "or set -jwks or -jwks-file"}},
		{[]string{"-nonsense"}, []string{"-nonsense"}},
		{[]string{"-max-token", "x", "-addr", "nowhere", "-dpop=maybe", "-nonsense", "---", "-require-bound", "-=x", "more"},
			[]string{"-max-token: parse error", "-addr: ", `"maybe" for -dpop`, "-nonsense", "syntax: ---", "syntax: -=x", "-require-bound: needs", `["more"]`}},
		{[]string{"-issuer", "acme", "-jwks-file", "x", "-resource", "https://api.example.com"}, []string{`-resource: cannot be used here, since "acme" tells clients of no server`}},
	} {
		var stderr strings.Builder
		if status := Run(t.Context(), tt.args, io.Discard, &stderr, Extension{Name: "server"}); status != 2 {
			t.Errorf("%q: exit status %d, want 2", tt.args, status)
		}
		for _, want := range tt.want {
			if !strings.Contains(stderr.String(), want) {
				t.Errorf("%q: want %q in %s", tt.args, want, stderr.String())
			}
		}
	}
}
