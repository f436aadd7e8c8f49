package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
)

// patience is for what must come, and ends a test that it does not come to.
const patience = 30 * time.Second

// program makes the test's own binary run as fleet.
const program = "RUN_AS_FLEET"

func TestMain(m *testing.M) {
	if os.Getenv(program) != "" {
		main()
	}
	logging.Disable() // the tests take Redis away, and the client says so each time
	os.Exit(m.Run())
}

func command(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), program+"=1")
	return cmd
}

// A process is one that a test has started.
type process struct {
	cmd  *exec.Cmd
	gone chan struct{} // closed when it has ended
}

func start(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{cmd, make(chan struct{})}
	go func() {
		p.cmd.Wait()
		close(p.gone)
	}()
	t.Cleanup(func() { p.end(os.Kill) })
	return p
}

func (p *process) end(signal os.Signal) {
	p.cmd.Process.Signal(signal)
	<-p.gone
}

// A replica is one of the API, as a process of its own.
type replica struct {
	*process
	base string // its URL
}

var listens = regexp.MustCompile(`http://127\.0\.0\.1:\d+`)

// startReplica starts one at a port of its choice.
func startReplica(t *testing.T, args ...string) *replica {
	t.Helper()
	var stderr bytes.Buffer
	cmd := command(append([]string{"-addr", "127.0.0.1:0"}, args...)...)
	stdout, w := io.Pipe()
	cmd.Stdout, cmd.Stderr = w, &stderr
	r := &replica{process: start(t, cmd)}
	go func() {
		<-r.gone
		w.Close()
	}()
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if r.base = listens.FindString(line); r.base == "" {
		<-r.gone
		t.Fatalf("the replica says %q and %s (%v)", line, &stderr, err)
	}
	go io.Copy(io.Discard, stdout)
	return r
}

// A redisServer is one of the test's own. It keeps its data when it is stopped.
type redisServer struct {
	*process
	addr, dir string
}

func startRedis(t *testing.T) *redisServer {
	t.Helper()
	s := &redisServer{dir: t.TempDir()}
	for range 10 {
		// Below the ports of outgoing connections, so that it stays free while
		// the server is stopped.
		s.addr = fmt.Sprintf("127.0.0.1:%d", 12000+rand.N(20000))
		if s.start(t) {
			return s
		}
	}
	t.Fatal("redis-server does not start")
	return nil
}

// start starts the server, and again after it was stopped. It reports whether it
// could have the port.
func (s *redisServer) start(t *testing.T) bool {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		t.Fatal("this test needs redis-server: apt-get install redis-server (Debian, Ubuntu), brew install redis (macOS)")
	}
	host, port, _ := net.SplitHostPort(s.addr)
	s.process = start(t, exec.Command(path, "--bind", host, "--port", port, "--dir", s.dir, "--appendonly", "yes", "--appendfsync", "always"))
	client := redis.NewClient(&redis.Options{Addr: s.addr, MaxRetries: -1, DialerRetries: 1})
	defer client.Close()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		info, err := client.InfoMap(context.Background(), "server").Result()
		if err == nil {
			return info["Server"]["process_id"] == fmt.Sprint(s.cmd.Process.Pid) // and not another one's
		}
		select {
		case <-s.gone:
			return false
		default:
		}
	}
	return false
}

// A balancer sends each request to the next replica, or the one after that if it
// cannot connect.
type balancer struct {
	net.Listener
	transport *http.Transport

	next atomic.Int64

	mu       sync.RWMutex // held for reading while a request has no answer
	replicas []*replica
}

func startBalancer(t *testing.T) *balancer {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	// Without idle connections: one that a killed replica leaves behind would have
	// net/http send a request again, and with it a proof that may have been used.
	b := &balancer{Listener: listener, transport: &http.Transport{DisableKeepAlives: true}}
	quiet := func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }
	server := &http.Server{Handler: &httputil.ReverseProxy{Rewrite: func(*httputil.ProxyRequest) {}, Transport: b, ErrorHandler: quiet}}
	go server.Serve(listener)
	t.Cleanup(func() { server.Close() })
	return b
}

func (b *balancer) url() string { return "http://" + b.Addr().String() }

func (b *balancer) add(r *replica) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.replicas = append(b.replicas, r)
}

// remove takes a replica out. When it returns no request is on its way to it.
func (b *balancer) remove(r *replica) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.replicas = slices.DeleteFunc(b.replicas, func(other *replica) bool { return other == r })
}

// turn returns the replicas, beginning with another one each time. b.mu is held.
func (b *balancer) turn() []*replica {
	i := int(b.next.Add(1)) % len(b.replicas)
	return append(slices.Clone(b.replicas[i:]), b.replicas[:i]...)
}

func (b *balancer) all() []*replica {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.turn()
}

// RoundTrip implements http.RoundTripper.
func (b *balancer) RoundTrip(r *http.Request) (resp *http.Response, err error) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	for _, replica := range b.turn() {
		u, _ := url.Parse(replica.base)
		r.URL.Scheme, r.URL.Host = u.Scheme, u.Host
		resp, err = b.transport.RoundTrip(r)
		if op := (*net.OpError)(nil); !errors.As(err, &op) || op.Op != "dial" {
			break
		}
	}
	return resp, err
}

// restart replaces a replica by a new one, as a careful deployment does: out of the
// balancer first.
func (b *balancer) restart(t *testing.T, old *replica, args ...string) {
	t.Helper()
	b.remove(old)
	old.end(syscall.SIGTERM)
	b.add(startReplica(t, args...))
}

// eventually waits until done reports true.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

// send sends a request and returns its status, or 0 if there is no answer.
func send(r *http.Request) int {
	resp, err := client.Do(r)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

var client = &http.Client{Timeout: patience}

func get(base, path, token string) *http.Request {
	r, err := http.NewRequest("GET", base+path, nil)
	if err != nil {
		panic(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	return r
}

func post(base, path string, form url.Values) *http.Request {
	r, err := http.NewRequest("POST", base+path, strings.NewReader(form.Encode()))
	if err != nil {
		panic(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return r
}
