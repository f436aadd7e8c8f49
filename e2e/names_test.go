package e2e

import (
	"encoding/json"
	"fmt"

	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/oauth2/clientcredentials"
)

// As in docker compose: the issuer calls itself what browsers call it, and the API
// reaches it by another name, over plain http. The API keeps the keys, and starts
// again while the issuer is down.
func TestTwoNames(t *testing.T) {
	t.Parallel()
	const issuer, inside = "http://sso.acme.test:8080", "keycloak:8080"
	dir := installNode(t, "oidc-provider")
	addr := freeAddr(t)
	var node *process
	start := func(keys ...*key) {
		cmd := exec.Command("node", "server.js", addr[strings.LastIndexByte(addr, ':')+1:], issuer, "ES256")
		cmd.Dir = dir
		node = startProcess(t, cmd)
		set := make([]jose.JSONWebKey, len(keys))
		for i, k := range keys {
			set[i] = jose.JSONWebKey{KeyID: k.id, Use: "sig", Key: k.private}
		}
		jwks, err := json.Marshal(set)
		if err == nil {
			_, err = fmt.Fprintf(node.stdin, "%s\n", jwks)
		}
		if err != nil {
			t.Fatal(err)
		}
		node.await(t, "ready")
	}
	old := newKey(t, jose.ES256)
	start(old)

	// The network of the API, in which only one name leads to the issuer.
	target, err := url.Parse("http://" + addr)
	if err != nil {
		t.Fatal(err)
	}
	forward := httputil.NewSingleHostReverseProxy(target)
	network := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Host != inside {
			http.Error(w, "no such host", http.StatusBadGateway)
			return
		}
		forward.ServeHTTP(w, r)
	}))
	defer network.Close()

	cache := filepath.Join(t.TempDir(), "keys")
	args := []string{"-addr", "127.0.0.1:0", "-issuer", issuer, "-audience", audience, "-jwks", "http://" + inside + "/jwks", "-key-cache", cache}
	run := func(more ...string) *exec.Cmd {
		cmd := exec.Command(server, append(args[:len(args):len(args)], more...)...)
		cmd.Env = append(os.Environ(), "HTTP_PROXY="+network.URL, "http_proxy="+network.URL, "NO_PROXY=", "no_proxy=")
		return cmd
	}
	startHere := func() (*process, string) {
		p := startProcess(t, run("-insecure-http"))
		return p, regexp.MustCompile(`http://127\.0\.0\.1:\d+`).FindString(p.await(t, "The API listens on "))
	}
	out, err := run().CombinedOutput()
	if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() != 2 || !strings.Contains(string(out), "-insecure-http") {
		t.Errorf("without -insecure-http: %v, want exit status 2 and the flag named\n%s", err, out)
	}

	p := provider{client: clientcredentials.Config{
		ClientID:       "ES256",
		ClientSecret:   "secret",
		TokenURL:       "http://" + addr + "/token",
		EndpointParams: url.Values{"resource": {audience}},
	}}
	token := p.token(t, "read:messages")
	want := func(what, base, request, token string, status int) {
		t.Helper()
		if got := ask(t, base, request, token); got.status != status {
			t.Errorf("%s: %s = %d, want %d; body: %s", what, request, got.status, status, got.body)
		}
	}
	api, base := startHere()
	want("issuer up", base, "GET /ready", "", 200)
	want("issuer up", base, "GET /api/messages", token, 200)
	want("issuer up, bad signature", base, "GET /api/messages", tampered(token), 401)
	var claims struct{ Iss string }
	if err := json.NewDecoder(strings.NewReader(ask(t, base, "GET /api/ping/secure", token).body)).Decode(&claims); err != nil || claims.Iss != issuer {
		t.Errorf("iss = %q, %v, want %q", claims.Iss, err, issuer)
	}
	for deadline := time.Now().Add(startPatience); ; time.Sleep(50 * time.Millisecond) {
		if files, _ := filepath.Glob(filepath.Join(cache, "*.json")); len(files) > 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("no keys are kept")
		}
	}

	api.signal(t, os.Interrupt)
	if err := api.cmd.Wait(); err != nil {
		t.Errorf("the API ends with %v after an interrupt, want 0", err)
	}
	node.kill()
	_, base = startHere()
	want("issuer down, started again", base, "GET /ready", "", 200)
	want("issuer down, started again", base, "GET /api/messages", token, 200)
	want("issuer down, bad signature", base, "GET /api/messages", tampered(token), 401)

	fresh := newKey(t, jose.ES256)
	start(fresh, old)
	token = p.token(t, "read:messages")
	for deadline := time.Now().Add(recovery); ; time.Sleep(200 * time.Millisecond) {
		got := ask(t, base, "GET /api/messages", token)
		if got.status == 200 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("issuer back with a new key: status %d, want 200; body: %s", got.status, got.body)
		}
	}
}
