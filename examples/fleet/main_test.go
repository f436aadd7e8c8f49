package main

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.com/bearer/bearertest"
)

const (
	audience = "https://api.example.com"
	path     = "/api/ping/secure"
)

// startProvider starts an issuer behind real HTTP.
func startProvider(t *testing.T) *bearertest.Issuer {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	iss := bearertest.NewIssuer("http://" + server.Listener.Addr().String())
	server.Config.Handler = iss
	server.Start()
	t.Cleanup(server.Close)
	return iss
}

// TestFleet takes away what three replicas stand on, one thing at a time, while
// requests go on. Nothing valid is refused that can be served, and nothing gets in
// that is to be refused.
func TestFleet(t *testing.T) {
	iss, redis, lb := startProvider(t), startRedis(t), startBalancer(t)
	args := []string{"-redis", redis.addr, "-issuer", iss.URL, "-audience", audience, "-dpop", "-base-url", lb.url()}
	for range 3 {
		lb.add(startReplica(t, args...))
	}
	traffic := startTraffic(t, iss, lb)
	defer traffic.end() // before the replicas end
	everywhere := func(what, token string, want int) {
		t.Helper()
		for i, r := range lb.all() {
			if got := send(get(r.base, path, token)); got != want {
				t.Errorf("%s: replica %d of 3 says %d, want %d", what, i+1, got, want)
			}
		}
	}
	revoke := func(args ...string) {
		t.Helper()
		if out, err := command(append([]string{"revoke", "-redis", redis.addr, "-iss", iss.URL}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("fleet revoke %q: %v: %s", args, err, out)
		}
	}
	token := func(claims bearertest.Claims) string { return iss.Token(audience, claims) }

	traffic.phase("all is well")
	traffic.more(t)

	traffic.phase("a proof is used at another replica")
	for range 3 {
		holder := bearertest.NewClient()
		bound := token(bearertest.Claims{"cnf": bearertest.Claims{"jkt": holder.KeyThumbprint}})
		proof := holder.Proof("GET", lb.url()+path, bound, nil)
		var got []int
		for _, r := range lb.all() {
			req := get(r.base, path, "")
			req.Header.Set("Authorization", "DPoP "+bound)
			req.Header.Set("DPoP", proof)
			got = append(got, send(req))
		}
		if want := []int{200, 401, 401}; !slices.Equal(got, want) {
			t.Errorf("one proof at three replicas: %v, want %v", got, want)
		}
	}

	traffic.phase("tokens are revoked")
	for _, tt := range []struct {
		flag     string
		bad      bearertest.Claims
		good     bearertest.Claims
		revoking []string
	}{
		{"-jti", bearertest.Claims{"jti": "stolen"}, bearertest.Claims{"jti": "kept"}, []string{"-jti", "stolen"}},
		{"-sub", bearertest.Claims{"sub": "mallory"}, bearertest.Claims{"sub": "alice"}, []string{"-sub", "mallory"}},
		{"-sid", bearertest.Claims{"sid": "ended"}, bearertest.Claims{"sid": "open"}, []string{"-sid", "ended"}},
	} {
		bad, good := token(tt.bad), token(tt.good)
		for range 2 { // so that every replica has them in its cache
			everywhere(tt.flag+": before", bad, 200)
		}
		revoke(tt.revoking...)
		everywhere(tt.flag+": revoked", bad, 401)
		everywhere(tt.flag+": another one", good, 200)
		traffic.refuse(bad)
	}

	traffic.phase("a user logs out")
	bad, good := token(bearertest.Claims{"sid": "laptop"}), token(bearertest.Claims{"sid": "phone"})
	everywhere("before the logout", bad, 200)
	if got := send(post(lb.url(), "/backchannel-logout", url.Values{"logout_token": {logoutToken(iss, "logout+jwt", bearertest.Claims{"sid": "laptop"})}})); got != 200 {
		t.Errorf("logout: %d, want 200", got)
	}
	everywhere("logged out", bad, 401)
	everywhere("another session", good, 200)
	traffic.refuse(bad)

	traffic.phase("keys are rotated")
	iss.Rotate()
	everywhere("signed with the new key", token(nil), 200)
	traffic.more(t)

	traffic.phase("a key is withdrawn")
	old := token(nil)
	everywhere("before its key is withdrawn", old, 200)
	traffic.between(iss.Replace)
	everywhere("signed with the only key", token(nil), 200) // which each replica has to fetch
	everywhere("its key is withdrawn", old, 401)
	traffic.refuse(old)

	traffic.phase("a replica is killed", http.StatusBadGateway) // what was in its hands
	lost := lb.all()[0]
	lost.end(os.Kill)
	traffic.more(t)
	lb.remove(lost)
	traffic.phase("two replicas")
	traffic.more(t)
	lb.add(startReplica(t, args...))

	traffic.phase("the provider is down, and the replicas are restarted")
	iss.SetDown(true)
	for _, r := range lb.all() {
		lb.restart(t, r, args...)
		traffic.more(t)
	}
	everywhere("a known key", token(nil), 200)
	everywhere("revoked before", token(bearertest.Claims{"sid": "ended"}), 401)
	iss.SetDown(false)

	traffic.phase("Redis is gone", http.StatusServiceUnavailable)
	redis.end(os.Kill)
	everywhere("to be looked up", token(nil), 503)
	everywhere("not to be looked up", token(bearertest.Claims{"jti": nil, "sub": nil}), 200)
	everywhere("expired", token(bearertest.Claims{"exp": time.Now().Unix() - 3600}), 401)
	traffic.more(t)
	if !redis.start(t) {
		t.Fatal("redis-server does not start again")
	}
	// go-redis asks a server that was gone once a second whether it is back.
	eventually(t, "2 s without a failure after Redis is back", func() bool {
		return time.Since(time.Unix(0, traffic.failed.Load())) > 2*time.Second
	})
	traffic.phase("Redis is back")
	everywhere("revoked before", token(bearertest.Claims{"sid": "ended"}), 401)
	traffic.more(t)
}

// traffic is requests that go on while a test does something to the fleet.
type traffic struct {
	t      *testing.T
	iss    *bearertest.Issuer
	lb     *balancer
	rounds atomic.Int64
	failed atomic.Int64 // when a good request was last not served
	now    atomic.Pointer[state]
	stop   chan struct{}
	all    sync.WaitGroup

	mu      sync.RWMutex // held by rounds for reading
	refused []string     // tokens that must never get in again
}

// A state is what the traffic has to expect.
type state struct {
	name    string
	besides []int // statuses that good requests may get, but 200
}

func startTraffic(t *testing.T, iss *bearertest.Issuer, lb *balancer) *traffic {
	x := &traffic{t: t, iss: iss, lb: lb, stop: make(chan struct{})}
	x.phase("start")
	for range 3 {
		x.all.Go(x.run)
	}
	return x
}

func (x *traffic) end() {
	close(x.stop)
	x.all.Wait()
}

// phase says what comes now, and which statuses good requests may get besides 200.
func (x *traffic) phase(name string, besides ...int) {
	x.t.Log(name)
	x.now.Store(&state{name, besides})
}

// between does something while no token is on its way.
func (x *traffic) between(do func()) {
	x.mu.Lock()
	defer x.mu.Unlock()
	do()
}

// refuse adds a token to those that must not get in.
func (x *traffic) refuse(token string) {
	x.between(func() { x.refused = append(x.refused, token) })
}

// more waits for some rounds of requests that began after this moment.
func (x *traffic) more(t *testing.T) {
	t.Helper()
	n := x.rounds.Load() + 6
	eventually(t, "traffic", func() bool { return x.rounds.Load() >= n })
}

func (x *traffic) run() {
	holder := bearertest.NewClient()
	for i := 0; ; i++ {
		select {
		case <-x.stop:
			return
		case <-time.After(10 * time.Millisecond):
			x.round(holder, i)
			x.rounds.Add(1)
		}
	}
}

// round sends a good request of each kind, and one that must not get in.
func (x *traffic) round(holder *bearertest.Client, i int) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	before := x.now.Load()
	proved := get(x.lb.url(), path, "")
	holder.Authorize(proved, x.iss.Token(audience, bearertest.Claims{"cnf": bearertest.Claims{"jkt": holder.KeyThumbprint}}))
	plain := x.iss.Token(audience, nil)
	for _, tt := range []struct {
		name  string
		req   *http.Request
		redis bool // is needed
	}{
		{"no token needed", get(x.lb.url(), "/api/ping", ""), false},
		{"a token that is looked up", get(x.lb.url(), path, plain), true},
		{"a token that is not", get(x.lb.url(), path, x.iss.Token(audience, bearertest.Claims{"jti": nil, "sub": nil})), false},
		{"a token with a proof", proved, true},
	} {
		got := send(tt.req)
		if got != 200 {
			x.failed.Store(time.Now().UnixNano())
		}
		may := append(slices.Clone(before.besides), x.now.Load().besides...)
		if got != 200 && (!slices.Contains(may, got) || got == 503 && !tt.redis) {
			x.t.Errorf("%s: %s: %d, want 200", before.name, tt.name, got)
		}
	}
	end := strings.LastIndexByte(plain, '.')
	forged := plain[:end+1] + strings.Repeat("A", len(plain)-end-1)
	bad := append([]string{"", forged}, x.refused...)
	if got := send(get(x.lb.url(), path, bad[i%len(bad)])); got == 200 {
		x.t.Errorf("%s: what must not get in did: %q", before.name, bad[i%len(bad)])
	}
}
