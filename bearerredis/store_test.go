package bearerredis_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"example.com/bearer/bearerredis"
	"github.com/redis/go-redis/v9"
)

func TestAddOnce(t *testing.T) {
	_, client := newStore(t)
	other := newClient(t, &redis.Options{Addr: addr})
	replicas := []*bearerredis.Store{bearerredis.New(client, "AddOnce"), bearerredis.New(other, "AddOnce")}
	for round := range 20 {
		var fresh atomic.Int32
		var all sync.WaitGroup
		for i := range 100 {
			all.Go(func() {
				ok, err := replicas[i%2].Add(t.Context(), fmt.Sprint("proof ", round), time.Hour)
				if err != nil {
					t.Error(err)
				}
				if ok {
					fresh.Add(1)
				}
			})
		}
		all.Wait()
		if got := fresh.Load(); got != 1 {
			t.Errorf("round %d: %d of 100 calls with one key were told that it is fresh, want 1", round, got)
		}
	}
}

// A recorder is a hook that notes what is sent.
type recorder struct {
	mu   sync.Mutex
	sent []string // a command, or those of a pipeline with "; " between
	fail error    // if set, what is sent is not, and fails with it
}

func (r *recorder) note(cmds ...redis.Cmder) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if name := cmds[0].Name(); name == "hello" || name == "client" { // a new connection
		return nil
	}
	var texts []string
	for _, cmd := range cmds {
		texts = append(texts, strings.Trim(fmt.Sprint(cmd.Args()), "[]"))
	}
	r.sent = append(r.sent, strings.Join(texts, "; "))
	return r.fail
}

func (r *recorder) DialHook(next redis.DialHook) redis.DialHook { return next }

func (r *recorder) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if err := r.note(cmd); err != nil {
			return err
		}
		return next(ctx, cmd)
	}
}

func (r *recorder) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if err := r.note(cmds...); err != nil {
			return err
		}
		return next(ctx, cmds)
	}
}

// The life of a proof is rounded up to a millisecond, and never 0, with which
// Redis would keep it for ever or not at all.
func TestAddLife(t *testing.T) {
	tests := []struct {
		ttl  time.Duration
		want string
	}{
		{420 * time.Second, "nx px 420000"},
		{1500 * time.Millisecond, "nx px 1500"},
		{1500*time.Millisecond + 1, "nx px 1501"},
		{time.Millisecond, "nx px 1"},
		{1, "nx px 1"},
		{0, "nx px 1"},
		{-time.Second, "nx px 1"},
		{1<<63 - 1, "nx px 9223372036855"},
	}
	for _, tt := range tests {
		store, client := newStore(t)
		var r recorder
		client.AddHook(&r)
		if fresh, err := store.Add(t.Context(), fmt.Sprint("proof ", tt.ttl), tt.ttl); err != nil || !fresh {
			t.Errorf("%v: Add = %v, %v, want true", tt.ttl, fresh, err)
		}
		if len(r.sent) != 1 || !strings.HasPrefix(r.sent[0], "set ") || !strings.HasSuffix(r.sent[0], " 1 "+tt.want) {
			t.Errorf("%v: sent %q, want one set … 1 %s", tt.ttl, r.sent, tt.want)
		}
	}
}

func TestAddExpires(t *testing.T) {
	store, _ := newStore(t)
	for range 2 { // the first one is there for the second one to wait for
		eventually(t, "a proof to be forgotten", func() bool {
			fresh, err := store.Add(t.Context(), "proof", 20*time.Millisecond)
			if err != nil {
				t.Fatal(err)
			}
			return fresh
		})
	}
}

// A command that may have been carried out is not sent again, or a proof would
// be the replay of itself.
func TestAddIsNotRepeated(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	var sets atomic.Int32
	go func() { // a server that carries out, and loses the answer
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				buf := make([]byte, 4096)
				for {
					n, err := conn.Read(buf)
					if err != nil {
						return
					}
					if bytes.Contains(buf[:n], []byte("\r\nnx\r\n")) {
						sets.Add(1)
						return
					}
					// The greeting: each of its commands is refused, which is no matter.
					conn.Write(bytes.Repeat([]byte("-ERR unknown command\r\n"), bytes.Count(buf[:n], []byte("*"))))
				}
			}()
		}
	}()
	store := bearerredis.New(newClient(t, &redis.Options{Addr: listener.Addr().String(), MinRetryBackoff: -1, MaxRetryBackoff: -1, Protocol: 2}), "test")
	if fresh, err := store.Add(t.Context(), "proof", time.Hour); err == nil || fresh {
		t.Errorf("Add = %v, %v, want an error", fresh, err)
	}
	if got := sets.Load(); got != 1 {
		t.Errorf("sent %d times, want once", got)
	}
}

func TestKeyCache(t *testing.T) {
	store, client := newStore(t)
	if data, err := store.Get(t.Context(), issuerURL); data != nil || err != nil {
		t.Errorf("before Put: Get = %q, %v, want nil, nil", data, err)
	}
	const limit = 2 << 20
	for _, data := range []string{`{"keys":[]}`, "\x00\r\n\xff", strings.Repeat("k", limit), "the last"} {
		if err := store.Put(t.Context(), issuerURL, []byte(data)); err != nil {
			t.Fatalf("Put of %.20q: %v", data, err)
		}
		if got, err := store.Get(t.Context(), issuerURL); err != nil || string(got) != data {
			t.Errorf("Get = %.20q of %d bytes, %v, want %.20q of %d bytes", got, len(got), err, data, len(data))
		}
	}
	if err := store.Put(t.Context(), issuerURL, make([]byte, limit+1)); err == nil {
		t.Error("Put took more than 2 MiB")
	}
	if got, err := store.Get(t.Context(), issuerURL); string(got) != "the last" {
		t.Errorf("after a Put that failed: Get = %.20q, %v, want what was there", got, err)
	}
	if data, err := store.Get(t.Context(), "https://other.example.com/"); data != nil || err != nil {
		t.Errorf("another name: Get = %q, %v, want nil, nil", data, err)
	}

	// What somebody else puts there is not read whole.
	key := client.Keys(t.Context(), "KeyCache:*").Val()[0]
	if err := client.Set(t.Context(), key, make([]byte, 3<<20), time.Hour).Err(); err != nil {
		t.Fatal(err)
	}
	var r recorder
	client.AddHook(&r)
	if data, err := store.Get(t.Context(), issuerURL); data != nil || err == nil {
		t.Errorf("Get of 3 MiB = %d bytes, %v, want an error", len(data), err)
	}
	if want := fmt.Sprintf("getrange %s 0 %d", key, limit); len(r.sent) != 1 || r.sent[0] != want {
		t.Errorf("sent %q, want %q", r.sent, want)
	}
}

// What comes from clients, or from an issuer, is in no key: hashes are.
func TestKeys(t *testing.T) {
	store, client := newStore(t)
	ctx := t.Context()
	const hostile = "evil{}*?[a]\r\nFLUSHALL\r\n\x00\xff"
	long := strings.Repeat(hostile, 1000)
	for _, s := range []string{hostile, long} {
		_, err := store.Add(ctx, s, time.Hour)
		for _, err := range []error{
			err,
			store.Put(ctx, s, []byte(`{"keys":[]}`)),
			store.RevokeToken(ctx, s, s, time.Now().Add(time.Hour)),
			store.RevokeSubject(ctx, s, s, time.Now(), time.Hour),
			store.RevokeSession(ctx, s, s, time.Hour),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	shape := regexp.MustCompile(`^Keys:(proof|keys|token|subject|session):[A-Za-z0-9_-]{43}$`)
	all := client.Scan(ctx, 0, "Keys*", 1000).Iterator()
	n := 0
	for ; all.Next(ctx); n++ {
		if !shape.MatchString(all.Val()) {
			t.Errorf("key %q, want it to match %v", all.Val(), shape)
		}
		if ttl, err := client.PTTL(ctx, all.Val()).Result(); err != nil || ttl <= 0 || ttl > keepAtMost {
			t.Errorf("key %q expires in %v (%v), want within %v", all.Val(), ttl, err, keepAtMost)
		}
		if value, err := client.Get(ctx, all.Val()).Result(); err != nil || strings.Contains(value, "evil") {
			t.Errorf("key %q has the value %q, %v", all.Val(), value, err)
		}
	}
	if err := all.Err(); err != nil || n != 10 {
		t.Errorf("%d keys (%v), want 10: each of five kinds for each of two", n, err)
	}
}

const keepAtMost = 7 * 24 * time.Hour

func TestPrefixesAreApart(t *testing.T) {
	_, client := newStore(t)
	one, two := bearerredis.New(client, "one"), bearerredis.New(client, "two")
	for _, store := range []*bearerredis.Store{one, two} {
		if fresh, err := store.Add(t.Context(), "proof", time.Hour); err != nil || !fresh {
			t.Errorf("Add = %v, %v, want true", fresh, err)
		}
	}
}

// The README names the commands and keys that a Store uses, for an ACL.
func TestACL(t *testing.T) {
	_, admin := newStore(t)
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	rules := regexp.MustCompile("`~PREFIX:\\*` and `(.*)`").FindSubmatch(readme)
	if rules == nil {
		t.Fatal("the README has no rules")
	}
	user := []any{"acl", "setuser", "api", "reset", "on", ">secret", "~acl:*"}
	for rule := range strings.FieldsSeq(string(rules[1])) {
		user = append(user, rule)
	}
	if err := admin.Do(t.Context(), user...).Err(); err != nil {
		t.Fatal(err)
	}
	client := newClient(t, &redis.Options{Addr: addr, Username: "api", Password: "secret"})
	for name, call := range calls(t, bearerredis.New(client, "acl")) {
		if name == "Add" {
			continue // below, since it is to be fresh
		}
		if err := call(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if fresh, err := bearerredis.New(client, "acl").Add(t.Context(), "proof", time.Hour); err != nil || !fresh {
		t.Errorf("Add = %v, %v, want true", fresh, err)
	}
	if _, err := bearerredis.New(client, "other").Get(t.Context(), issuerURL); err == nil {
		t.Error("the user may use another prefix")
	}
}

// Redis that has no room left takes nothing, so it answers no proof; what it has
// already it still knows.
func TestFull(t *testing.T) {
	t.Parallel()
	s := newServer(t, "--maxmemory-policy", "noeviction")
	client := s.client(t)
	store := bearerredis.New(client, "full")
	ctx := t.Context()
	iss := newIssuer(t, issuerURL)
	revoked := iss.claims(t, nil)
	if err := store.RevokeToken(ctx, issuerURL, revoked.ID, revoked.ExpiresAt); err != nil {
		t.Fatal(err)
	}
	if err := client.ConfigSet(ctx, "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	fresh, err := store.Add(ctx, "proof", time.Hour)
	if fresh || !redis.IsOOMError(err) {
		t.Errorf("Add = %v, %v, want false and that Redis is full", fresh, err)
	}
	for name, err := range map[string]error{
		"Put":           store.Put(ctx, issuerURL, []byte(`{"keys":[]}`)),
		"RevokeToken":   store.RevokeToken(ctx, issuerURL, "another", time.Now().Add(time.Hour)),
		"RevokeSubject": store.RevokeSubject(ctx, issuerURL, "alice", time.Now(), time.Hour),
		"RevokeSession": store.RevokeSession(ctx, issuerURL, "session", time.Hour),
	} {
		if !redis.IsOOMError(err) {
			t.Errorf("%s: err = %v, want that Redis is full", name, err)
		}
	}
	if got, err := store.Revoked(ctx, revoked); err != nil || !got {
		t.Errorf("Revoked = %v, %v, want true", got, err)
	}
	if got, err := store.Revoked(ctx, iss.claims(t, nil)); err != nil || got {
		t.Errorf("Revoked of another token = %v, %v, want false", got, err)
	}
}

// A Redis that is gone answers nothing, and one that comes back with its log
// knows what it knew.
func TestStoppedAndStarted(t *testing.T) {
	t.Parallel()
	s := newServer(t, "--appendonly", "yes", "--appendfsync", "always")
	store := bearerredis.New(s.client(t), "stopped")
	ctx := t.Context()
	c := newIssuer(t, issuerURL).claims(t, nil)
	if fresh, err := store.Add(ctx, "used before", time.Hour); err != nil || !fresh {
		t.Fatalf("Add = %v, %v, want true", fresh, err)
	}
	if err := store.RevokeToken(ctx, issuerURL, c.ID, c.ExpiresAt); err != nil {
		t.Fatal(err)
	}

	s.kill()
	if fresh, err := store.Add(ctx, "used while it was gone", time.Hour); err == nil || fresh {
		t.Errorf("while it is gone: Add = %v, %v, want an error", fresh, err)
	}
	if revoked, err := store.Revoked(ctx, c); err == nil || revoked {
		t.Errorf("while it is gone: Revoked = %v, %v, want an error", revoked, err)
	}
	if _, err := store.Get(ctx, issuerURL); err == nil {
		t.Error("while it is gone: Get has no error")
	}

	if err := s.start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "answers after the start", func() bool {
		fresh, err := store.Add(ctx, "used before", time.Hour)
		if fresh {
			t.Fatal("a proof that was used before the stop is fresh after it")
		}
		return err == nil
	})
	eventually(t, "verdicts after the start", func() bool {
		revoked, err := store.Revoked(ctx, c)
		if err == nil && !revoked {
			t.Fatal("a token that was revoked before the stop is not after it")
		}
		return revoked
	})
	if fresh, err := store.Add(ctx, "used while it was gone", time.Hour); err != nil || !fresh {
		t.Errorf("Add = %v, %v, want true", fresh, err)
	}
}

// calls are all the methods that ask Redis.
func calls(t *testing.T, store *bearerredis.Store) map[string]func(context.Context) error {
	c := newIssuer(t, issuerURL).claims(t, nil)
	return map[string]func(context.Context) error{
		"Add": func(ctx context.Context) error {
			fresh, err := store.Add(ctx, "proof", time.Hour)
			if fresh {
				t.Error("Add: fresh")
			}
			return err
		},
		"Get":         func(ctx context.Context) error { _, err := store.Get(ctx, issuerURL); return err },
		"Put":         func(ctx context.Context) error { return store.Put(ctx, issuerURL, []byte("{}")) },
		"Revoked":     func(ctx context.Context) error { _, err := store.Revoked(ctx, c); return err },
		"RevokeToken": func(ctx context.Context) error { return store.RevokeToken(ctx, issuerURL, c.ID, c.ExpiresAt) },
		"RevokeSubject": func(ctx context.Context) error {
			return store.RevokeSubject(ctx, issuerURL, "s", time.Now(), time.Hour)
		},
		"RevokeSession": func(ctx context.Context) error { return store.RevokeSession(ctx, issuerURL, "s", time.Hour) },
	}
}

// A server that takes connections and never answers holds nobody up, even with a
// client that would wait for ever.
func TestHanging(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	address := listener.Addr().String()
	clients := map[string]redis.UniversalClient{
		"client":                    redis.NewClient(&redis.Options{Addr: address, ReadTimeout: -1}),
		"client that heeds context": redis.NewClient(&redis.Options{Addr: address, ReadTimeout: -1, ContextTimeoutEnabled: true}),
		"cluster":                   redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{address}, ReadTimeout: -1}),
		"sentinel":                  redis.NewFailoverClient(&redis.FailoverOptions{MasterName: "primary", SentinelAddrs: []string{address}, ReadTimeout: -1}),
	}
	var all sync.WaitGroup
	for kind, client := range clients {
		store := bearerredis.New(client, "hanging")
		for name, call := range calls(t, store) {
			all.Go(func() {
				if err := call(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("%s: %s: err = %v, want %v", kind, name, err, context.DeadlineExceeded)
				}
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(time.Millisecond, cancel)
				if err := call(ctx); !errors.Is(err, context.Canceled) {
					t.Errorf("%s: %s: when the request ends: err = %v, want %v", kind, name, err, context.Canceled)
				}
			})
		}
	}
	all.Wait()
}

// A hanger is a hook behind which nothing happens until release is closed.
type hanger struct {
	recorder
	release chan struct{}
	begun   atomic.Int32
}

func (h *hanger) ProcessHook(redis.ProcessHook) redis.ProcessHook {
	return func(context.Context, redis.Cmder) error {
		h.begun.Add(1)
		<-h.release
		return errors.New("released")
	}
}

func (h *hanger) ProcessPipelineHook(redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(context.Context, []redis.Cmder) error {
		h.begun.Add(1)
		<-h.release
		return errors.New("released")
	}
}

func TestWait(t *testing.T) {
	client := newClient(t, &redis.Options{Addr: addr})
	for name := range calls(t, bearerredis.New(client, "wait")) {
		synctest.Test(t, func(t *testing.T) {
			h := &hanger{release: make(chan struct{})}
			client := redis.NewClient(&redis.Options{Addr: addr})
			defer client.Close()
			client.AddHook(h)
			call := calls(t, bearerredis.New(client, "wait"))[name]
			begin := time.Now()
			err := call(t.Context())
			if took := time.Since(begin); took != 500*time.Millisecond || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: after %v: %v, want an error after 500ms", name, took, err)
			}
			close(h.release)
			synctest.Wait()
		})
	}
}

// Calls that were given up are bounded while Redis hangs: further ones do not
// begin. Once it answers again, they do.
func TestCallsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hanger{release: make(chan struct{})}
		client := redis.NewClient(&redis.Options{Addr: addr})
		defer client.Close()
		client.AddHook(h)
		store := bearerredis.New(client, "bounded")
		var all sync.WaitGroup
		for i := range 3000 {
			all.Go(func() {
				if _, err := store.Add(t.Context(), fmt.Sprint(i), time.Hour); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("Add: err = %v, want %v", err, context.DeadlineExceeded)
				}
			})
		}
		all.Wait()
		if got := h.begun.Load(); got != 1000 {
			t.Errorf("%d calls are under way, want 1000", got)
		}
		close(h.release)
		synctest.Wait()
		if _, err := store.Add(t.Context(), "later", time.Hour); err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("after that: err = %v, want that of the client", err)
		}
	})
}

func TestNewPanics(t *testing.T) {
	client := redis.NewClient(&redis.Options{Addr: addr})
	ring := redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": addr}})
	cluster := func(o redis.ClusterOptions) redis.UniversalClient {
		o.Addrs = []string{addr}
		return redis.NewClusterClient(&o)
	}
	tests := []struct {
		name   string
		client redis.UniversalClient
		prefix string
		panics bool
	}{
		{"all in order", client, "messages-api", false},
		{"the longest prefix", client, strings.Repeat("p", 64), false},
		{"every character", client, "aZ09._:-", false},
		{"a cluster", cluster(redis.ClusterOptions{}), "p", false},
		{"no client", nil, "p", true},
		{"a ring", ring, "p", true},
		{"reads from replicas", cluster(redis.ClusterOptions{ReadOnly: true}), "p", true},
		{"reads from the nearest", cluster(redis.ClusterOptions{RouteByLatency: true}), "p", true},
		{"reads from any", cluster(redis.ClusterOptions{RouteRandomly: true}), "p", true},
		{"no prefix", client, "", true},
		{"a prefix too long", client, strings.Repeat("p", 65), true},
		{"a hash tag", client, "{p}", true},
		{"a pattern", client, "a*b", true},
		{"a space", client, "a b", true},
		{"a letter beyond ASCII", client, "ä", true},
	}
	for _, tt := range tests {
		func() {
			defer func() {
				if got := recover(); (got != nil) != tt.panics {
					t.Errorf("%s: panic = %v, want one: %v", tt.name, got, tt.panics)
				}
			}()
			bearerredis.New(tt.client, tt.prefix)
		}()
	}
	for _, tt := range tests {
		if tt.client != nil {
			tt.client.Close()
		}
	}
}
