package e2e

import (
	"bufio"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"flag"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	installPatience = time.Minute      // for a package manager
	startPatience   = 20 * time.Second // for a process
)

// client is for all requests of the tests themselves. An API that hangs fails
// them, and does not keep them from ending what they started.
var client = &http.Client{Timeout: 10 * time.Second}

// The executables of the example server and of the MCP server that is another.
var server, mcpServer string

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "bearer-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	server, mcpServer = filepath.Join(dir, "server"), filepath.Join(dir, "mcp")
	// In their own modules, so with the versions that they are released with.
	for _, b := range [][]string{
		{"build", "-C", "..", "-o", server, "./examples/server"},
		{"build", "-C", "../examples/frameworks", "-o", mcpServer, "./mcp"},
	} {
		if out, err := exec.Command("go", b...).CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "%s does not build: %v\n%s", b[4], err, out)
			return 1
		}
	}
	// The tests wait more than they work, so there may be more than cores.
	flag.Set("test.parallel", "8")
	return m.Run()
}

// startAPI starts the example server for one issuer until the test ends and
// returns its base URL.
func startAPI(t *testing.T, issuer, audience string) string {
	t.Helper()
	p := startProcess(t, exec.Command(server, "-v", "-addr", "127.0.0.1:0", "-issuer", issuer, "-audience", audience))
	line := p.await(t, "The API listens on ")
	return regexp.MustCompile(`http://127\.0\.0\.1:\d+`).FindString(line)
}

// A process is one that a test started. It ends with the test at the latest.
type process struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines *bufio.Scanner
}

func startProcess(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{cmd: cmd}
	cmd.Stderr = t.Output()
	stdout, err := cmd.StdoutPipe()
	if err == nil {
		p.lines = bufio.NewScanner(stdout)
		p.stdin, err = cmd.StdinPipe()
	}
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatalf("cannot start %s: %v", cmd, err)
	}
	t.Cleanup(p.kill)
	return p
}

// await returns the next line of standard output that begins with prefix.
func (p *process) await(t *testing.T, prefix string) string {
	t.Helper()
	late := time.AfterFunc(startPatience, func() { p.cmd.Process.Kill() })
	defer late.Stop()
	for p.lines.Scan() {
		if strings.HasPrefix(p.lines.Text(), prefix) {
			return p.lines.Text()
		}
		t.Logf("%s: %s", filepath.Base(p.cmd.Path), p.lines.Text())
	}
	t.Fatalf("%s: no line with %q, it ended or took more than %v", p.cmd, prefix, startPatience)
	return ""
}

func (p *process) signal(t *testing.T, s os.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatalf("%s: %v", p.cmd, err)
	}
}

// kill ends the process without a warning, if it has not ended.
func (p *process) kill() {
	p.cmd.Process.Kill()
	p.cmd.Wait()
}

// A site is a server in this process that can go away and come back.
type site struct {
	addr    string
	handler http.Handler
	server  *http.Server
}

// newSite starts a server for the handler that build makes of the server's URL.
func newSite(t *testing.T, build func(url string) http.Handler) *site {
	t.Helper()
	s := &site{addr: freeAddr(t)}
	s.handler = build("http://" + s.addr)
	s.start(t)
	t.Cleanup(func() { s.server.Close() })
	return s
}

func (s *site) start(t *testing.T) {
	t.Helper()
	listener, err := net.Listen("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	s.server = &http.Server{Handler: s.handler}
	go s.server.Serve(listener)
}

func (s *site) stop(t *testing.T) {
	t.Helper()
	if err := s.server.Close(); err != nil {
		t.Fatal(err)
	}
}

// freeAddr returns an address on loopback that nobody listens at. Its port is
// below those that outgoing connections get, or one of them could have it when
// the server comes back after an outage.
func freeAddr(t *testing.T) string {
	t.Helper()
	for range 100 {
		addr := fmt.Sprintf("127.0.0.1:%d", 20000+mathrand.N(10000))
		if listener, err := net.Listen("tcp", addr); err == nil {
			listener.Close()
			return addr
		}
	}
	t.Fatal("no free port")
	return ""
}

// A reply is what the API under test answered.
type reply struct {
	status                int
	challenge, retryAfter string
	body                  string
}

// ask sends a request, such as "GET /api/ping", with token if it is not empty.
func ask(t *testing.T, base, request, token string) reply {
	t.Helper()
	method, path, _ := strings.Cut(request, " ")
	r, err := http.NewRequestWithContext(t.Context(), method, base+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply{
		status:     resp.StatusCode,
		challenge:  strings.Join(resp.Header.Values("WWW-Authenticate"), ", "),
		retryAfter: resp.Header.Get("Retry-After"),
		body:       strings.TrimSpace(string(body)),
	}
}

// A key is a signing key of an authorization server.
type key struct {
	id      string
	alg     jose.SignatureAlgorithm
	private crypto.Signer
}

func newKey(t *testing.T, alg jose.SignatureAlgorithm) *key {
	t.Helper()
	k := &key{id: rand.Text(), alg: alg}
	var err error
	switch alg {
	case jose.RS256, jose.PS256:
		k.private, err = rsa.GenerateKey(rand.Reader, 2048)
	case jose.ES256:
		k.private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case jose.EdDSA, "Ed25519":
		_, k.private, err = ed25519.GenerateKey(rand.Reader)
	default:
		t.Fatalf("no key for %s", alg)
	}
	if err != nil {
		t.Fatal(err)
	}
	return k
}
