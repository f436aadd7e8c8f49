package bearerredis_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"example.com/bearer"
	"example.com/bearer/bearerredis"
	"example.com/bearer/bearertest"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
)

const (
	issuerURL = "https://login.example.com/"
	audience  = "https://api.example.com"

	// patience is for what must come, and ends a test that it does not come to.
	patience = time.Minute
)

// addr is where the server listens that most tests and the example share.
var addr string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	logging.Disable() // the tests take servers away, and the client says so each time
	dir, err := os.MkdirTemp("", "bearerredis-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	s := &server{dir: dir}
	if err := s.start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer s.kill()
	addr = s.addr
	return m.Run()
}

// A server is a redis-server of a test's own, with its files in dir.
type server struct {
	dir  string
	args []string // before those for the address and the directory
	addr string
	cmd  *exec.Cmd
	gone chan struct{}
}

// newServer starts one that ends with the test.
func newServer(t *testing.T, args ...string) *server {
	t.Helper()
	s := &server{dir: t.TempDir(), args: args}
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.kill)
	return s
}

// start starts the server, and again at the same address after kill.
func (s *server) start() error {
	program, err := exec.LookPath("redis-server")
	if err != nil {
		return errors.New("these tests need redis-server: apt-get install redis-server (Debian, Ubuntu), brew install redis (macOS)")
	}
	var out bytes.Buffer
	for range 10 {
		if s.addr == "" {
			// Below the ports of outgoing connections, so that it stays free while
			// the server is stopped. A cluster's bus has the port 10000 above.
			s.addr = fmt.Sprintf("127.0.0.1:%d", 12000+rand.N(10000))
		}
		host, port, _ := net.SplitHostPort(s.addr)
		out.Reset()
		s.cmd = exec.Command(program, append(slices.Clone(s.args), "--bind", host, "--port", port, "--dir", s.dir)...)
		s.cmd.Stdout, s.cmd.Stderr = &out, &out
		if err := s.cmd.Start(); err != nil {
			return err
		}
		s.gone = make(chan struct{})
		go func() {
			s.cmd.Wait()
			close(s.gone)
		}()
		if s.ready() {
			return nil
		}
		s.kill()
		s.addr = "" // it may be another one's
	}
	return fmt.Errorf("redis-server does not start:\n%s", out.String())
}

// ready waits until the server answers, and it and no other one at that port.
func (s *server) ready() bool {
	client := redis.NewClient(&redis.Options{Addr: s.addr, MaxRetries: -1, DialerRetries: 1})
	defer client.Close()
	for end := time.Now().Add(patience); time.Now().Before(end); {
		info, err := client.InfoMap(context.Background(), "server").Result()
		if err == nil {
			return info["Server"]["process_id"] == fmt.Sprint(s.cmd.Process.Pid)
		}
		select {
		case <-s.gone:
			return false
		case <-time.After(5 * time.Millisecond):
		}
	}
	return false
}

// kill ends the server as a crash would.
func (s *server) kill() {
	s.cmd.Process.Kill()
	<-s.gone
}

func (s *server) client(t *testing.T) *redis.Client {
	t.Helper()
	return newClient(t, &redis.Options{Addr: s.addr})
}

func newClient(t *testing.T, o *redis.Options) *redis.Client {
	t.Helper()
	client := redis.NewClient(o)
	t.Cleanup(func() { client.Close() })
	return client
}

// newStore empties the shared server and returns a Store on it, whose prefix is
// the test's name, and a client to look behind it. It is for tests that do not
// run in parallel.
func newStore(t *testing.T) (*bearerredis.Store, *redis.Client) {
	t.Helper()
	client := newClient(t, &redis.Options{Addr: addr})
	if err := client.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	return bearerredis.New(client, t.Name()[len("Test"):]), client
}

// An issuer makes claims as the middleware has them: of verified tokens.
type issuer struct {
	*bearertest.Issuer
	auth *bearer.Middleware
}

func newIssuer(t *testing.T, url string) *issuer {
	t.Helper()
	iss := bearertest.NewIssuer(url)
	auth, err := bearer.New(bearer.Config{Issuer: url, Audience: []string{audience}, Client: iss.Client(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return &issuer{iss, auth}
}

func (i *issuer) claims(t *testing.T, claims bearertest.Claims) *bearer.Claims {
	t.Helper()
	c, err := i.auth.Verify(t.Context(), i.Token(audience, claims))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// eventually waits until done reports true.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}
