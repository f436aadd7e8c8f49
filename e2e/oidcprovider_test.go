package e2e

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/oauth2/clientcredentials"
)

// The npm package oidc-provider, in a process of its own, which is killed for
// the outage.
func TestOIDCProvider(t *testing.T) {
	t.Parallel()
	algorithms := []string{"RS256", "PS256", "ES256", "EdDSA", "Ed25519"}
	dir := installNode(t, "oidc-provider")
	addr := freeAddr(t)
	issuer := "http://" + addr

	var node *process
	var jwks []byte
	publish := func(t *testing.T) {
		t.Helper()
		if _, err := fmt.Fprintf(node.stdin, "%s\n", jwks); err != nil {
			t.Fatalf("oidc-provider: %v", err)
		}
		node.await(t, "ready")
	}
	start := func() {
		cmd := exec.Command("node", append([]string{"server.js", addr[strings.LastIndexByte(addr, ':')+1:], issuer}, algorithms...)...)
		cmd.Dir = dir
		node = startProcess(t, cmd) // which outlives the subtest that starts it
	}
	with := func(alg string) *provider {
		return &provider{
			issuer: issuer,
			client: clientcredentials.Config{
				ClientID:       alg,
				ClientSecret:   "secret",
				TokenURL:       issuer + "/token",
				EndpointParams: url.Values{"resource": {audience}},
			},
			alg:      jose.SignatureAlgorithm(alg),
			clientID: alg,
			setKeys: func(t *testing.T, keys ...*key) {
				t.Helper()
				// Without "alg", which RFC 7517 leaves to the issuer.
				set := make([]jose.JSONWebKey, len(keys))
				for i, k := range keys {
					set[i] = jose.JSONWebKey{KeyID: k.id, Use: "sig", Key: k.private}
				}
				var err error
				if jwks, err = json.Marshal(set); err != nil {
					t.Fatal(err)
				}
				publish(t)
			},
			stop:  func(*testing.T) { node.kill() },
			start: func(t *testing.T) { start(); publish(t) },
		}
	}
	start()

	t.Run("algorithms", func(t *testing.T) {
		keys := []*key{newKey(t, jose.RS256), newKey(t, jose.ES256), newKey(t, jose.EdDSA)}
		kids := map[string]*key{"RS256": keys[0], "PS256": keys[0], "ES256": keys[1], "EdDSA": keys[2], "Ed25519": keys[2]}
		with(algorithms[0]).setKeys(t, keys...)
		// The server itself adds the only one that an EC key can have.
		if set := ask(t, issuer, "GET /jwks", "").body; strings.Count(set, `"alg"`) != 1 {
			t.Errorf("only the EC key should name an algorithm: %s", set)
		}
		api := startAPI(t, issuer, audience)
		for _, alg := range algorithms {
			token := with(alg).token(t, "read:messages")
			// Or else this would test less than it seems to.
			first, _, _ := strings.Cut(token, ".")
			header, _ := base64.RawURLEncoding.DecodeString(first)
			if got, want := string(header), fmt.Sprintf(`{"alg":%q,"typ":"at+jwt","kid":%q}`, alg, kids[alg].id); got != want {
				t.Errorf("%s: header %s, want %s", alg, got, want)
			}
			if got := ask(t, api, "GET /api/messages", token); got.status != 200 {
				t.Errorf("%s: status %d, want 200; body: %s", alg, got.status, got.body)
			}
			if got := ask(t, api, "GET /api/messages", tampered(token)); got.status != 401 {
				t.Errorf("%s, bad signature: status %d, want 401; body: %s", alg, got.status, got.body)
			}
		}

		// A token for no resource in particular is none for this API.
		opaque := with("RS256")
		opaque.client.EndpointParams = nil
		got := ask(t, api, "GET /api/ping/secure", opaque.token(t))
		if want := `Bearer error="invalid_token"`; got.status != 401 || got.challenge != want {
			t.Errorf("opaque token: status %d %q, want 401 %q", got.status, got.challenge, want)
		}
	})

	p := with("Ed25519")
	p.test(t)

	// It takes connections and does not answer.
	p.stop = func(t *testing.T) { node.signal(t, syscall.SIGSTOP) }
	p.start = func(t *testing.T) { node.signal(t, syscall.SIGCONT) }
	t.Run("hang", p.testOutage)
}

// installNode copies a folder with a package.json and installs what that needs.
func installNode(t *testing.T, folder string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(folder)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), installPatience)
	defer cancel()
	npm := exec.CommandContext(ctx, "npm", "ci", "--prefer-offline")
	npm.Dir, npm.WaitDelay = dir, time.Second
	if out, err := npm.CombinedOutput(); err != nil {
		t.Fatalf("cannot install %s within %v: this test needs Node.js, npm and a package registry: %v\n%s", folder, installPatience, err, out)
	}
	return dir
}
