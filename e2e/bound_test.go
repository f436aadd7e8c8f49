package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

// Bound tokens of oidc-provider, used by the npm packages oauth4webapi and dpop, and
// by node:https with certificates that openssl made.
func TestBound(t *testing.T) {
	t.Parallel()
	dir := installNode(t, "oidc-provider")
	openssl := func(args ...string) {
		cmd := exec.CommandContext(t.Context(), "openssl", args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", cmd, err, out)
		}
	}
	for _, name := range []string{"server", "own", "other"} {
		openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
			"-keyout", name+".key", "-out", name+".pem", "-subj", "/CN="+name, "-addext", "subjectAltName=IP:127.0.0.1")
	}

	addr := freeAddr(t)
	issuer := "http://" + addr
	provider := exec.Command("node", "server.js", addr[strings.LastIndexByte(addr, ':')+1:], issuer, "ES256")
	provider.Dir = dir
	node := startProcess(t, provider)
	k := newKey(t, jose.ES256)
	jwks, err := json.Marshal([]jose.JSONWebKey{{KeyID: k.id, Use: "sig", Key: k.private}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintf(node.stdin, "%s\n", jwks); err != nil {
		t.Fatal(err)
	}
	node.await(t, "ready")

	p := startProcess(t, exec.Command(server, "-v", "-addr", "127.0.0.1:0", "-issuer", issuer, "-audience", audience, "-require-bound",
		"-dpop", "-nonce-key", strings.Repeat("5a", 32), "-tls-cert", filepath.Join(dir, "server.pem"), "-tls-key", filepath.Join(dir, "server.key")))
	api := regexp.MustCompile(`https://127\.0\.0\.1:\d+`).FindString(p.await(t, "The API listens on "))

	clients := exec.CommandContext(t.Context(), "node", "clients.js", issuer, api, audience, "own.pem", "own.key", "other.pem", "other.key")
	clients.Dir, clients.Stderr = dir, t.Output()
	clients.Env = append(os.Environ(), "NODE_EXTRA_CA_CERTS="+filepath.Join(dir, "server.pem"))
	out, err := clients.Output()
	if err != nil {
		t.Errorf("%s: %v", clients, err)
	}

	const algs = `algs="ES256 EdDSA Ed25519 ES384 ES512 PS256 RS256"`
	var want [][4]any
	for _, alg := range []string{"ES256", "ES384", "ES512", "Ed25519", "PS256", "RS256"} {
		want = append(want, [4]any{alg + ", dpop, first", 200., "dpop", "nonce"}, [4]any{alg + ", dpop, second", 200., "dpop", ""})
		if alg == "ES256" {
			want = append(want, [4]any{"as a bearer token", 401., "", `Bearer error="invalid_token", DPoP ` + algs})
		}
	}
	proof := `DPoP error="invalid_dpop_proof", ` + algs
	want = append(want, [][4]any{
		{"dpop: without a nonce", 401., "", `DPoP error="use_dpop_nonce", ` + algs},
		{"dpop: with the nonce", 200., "dpop", ""},
		{"dpop: the same proof", 401., "", proof},
		{"dpop: for another method", 401., "", proof},
		{"dpop: for another URL", 401., "", proof},
		{"dpop: with the query", 200., "dpop", ""},
		{"dpop: a thief's key", 401., "", `DPoP error="invalid_token", ` + algs},
		{"dpop: HEAD", 200., "", ""},
		{"certificate: its own", 200., "certificate", ""},
		{"certificate: another", 401., "", `Bearer error="invalid_token", DPoP ` + algs},
		{"certificate: none", 401., "", `Bearer error="invalid_token", DPoP ` + algs},
		{"certificate: none, in a header", 401., "", `Bearer error="invalid_token", DPoP ` + algs},
	}...)
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	for i, w := range want {
		var got [4]any
		if i >= len(lines) || json.Unmarshal([]byte(lines[i]), &got) != nil || got != w {
			t.Errorf("got %v, want %v", got, w)
		}
	}
	if len(lines) != len(want) {
		t.Errorf("%d lines, want %d: %s", len(lines), len(want), out)
	}
}
