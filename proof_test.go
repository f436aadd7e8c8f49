package bearer_test

import (
	"bufio"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"example.com/bearer"
	"example.com/bearer/bearertest"
)

// The URL that a proof must name, by what goes over the wire.
func TestProofURL(t *testing.T) {
	iss := bearertest.NewIssuer("https://login.example.com/")
	client := bearertest.NewClient()
	token := iss.Token(audience, keyBound(client))
	auth := newMiddleware(t, iss, withDPoP, func(cfg *bearer.Config) {
		cfg.DPoP.BaseURLs = []string{origin, "https://old.example.com", "http://gateway.example.com:8080/v1"}
	})
	plain := auth.Handler(served)
	stripped := http.NewServeMux()
	stripped.Handle("/v2/", http.StripPrefix("/v2", auth.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/v2") {
			t.Error("the prefix is still there")
		}
	}))))
	override := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Method = r.Header.Get("X-HTTP-Method-Override")
		served(w, r)
	})
	for _, tt := range []struct {
		name     string
		h        http.Handler
		target   string // of the request line, with the method
		htm, htu string
		header   string // one more line
		want     int
	}{
		{"H1", plain, "GET /api?q=1", "GET", origin + "/api", "", 200},
		{"H1: encoded", plain, "GET /a%2Fb/%40", "GET", origin + "/a%2Fb/%40", "", 200},
		{"H1: decoded", plain, "GET /a%2Fb", "GET", origin + "/a/b", "", 401},
		{"H1: a reserved character decoded", plain, "GET /%40x", "GET", origin + "/@x", "", 401},
		{"H1: an unreserved one", plain, "GET /%7ea", "GET", origin + "/~a", "", 200},
		{"H1: dot segments", plain, "GET /a/./b/../c", "GET", origin + "/a/c", "", 200},
		{"H1: in other letters", plain, "GET /api", "GET", "HTTPS://API.Example.COM:443/api", "", 200},
		{"H1: other letters in the path", plain, "GET /api", "GET", origin + "/API", "", 401},
		{"H1: a slash more", plain, "GET /api", "GET", origin + "/api/", "", 401},
		{"H1: the query in the proof", plain, "GET /api?q=1", "GET", origin + "/api?q=2#x", "", 200},
		{"H1: the root", plain, "GET /", "GET", origin, "", 200},
		{"H1: another scheme", plain, "GET /api", "GET", "http://api.example.com/api", "", 401},
		{"H1: another port", plain, "GET /api", "GET", "https://api.example.com:8443/api", "", 401},
		{"H1: another host", plain, "GET /api", "GET", "https://api.example.com.evil.example/api", "", 401},
		{"H1: user name", plain, "GET /api", "GET", "https://api.example.com@evil.example/api", "", 401},
		{"H1: backslash", plain, "GET /api", "GET", `https://api.example.com\@evil.example/api`, "", 401},
		{"H2: behind StripPrefix", stripped, "GET /v2/api", "GET", origin + "/v2/api", "", 200},
		{"H2: without the prefix", stripped, "GET /v2/api", "GET", origin + "/api", "", 401},
		{"H3: a prefix that a proxy took", plain, "GET /api", "GET", "http://gateway.example.com:8080/v1/api", "", 200},
		{"H3: not all of it", plain, "GET /api", "GET", "http://gateway.example.com:8080/api", "", 401},
		{"H3: the prefix, elsewhere", plain, "GET /api", "GET", origin + "/v1/api", "", 401},
		{"H3: only its letters", plain, "GET /2/api", "GET", "http://gateway.example.com:8080/v12/api", "", 401},
		{"H5: absolute form", plain, "GET http://evil.example/api?q", "GET", origin + "/api", "", 200},
		{"H5: its authority", plain, "GET http://evil.example/api", "GET", "http://evil.example/api", "", 401},
		{"H5: without path", plain, "GET http://evil.example", "GET", origin + "/", "", 200},
		{"H6: two slashes", plain, "GET //evil.example/api", "GET", origin + "//evil.example/api", "", 200},
		{"H6: taken for a host", plain, "GET //evil.example/api", "GET", "https://evil.example/api", "", 401},
		{"H6: taken for its path", plain, "GET //evil.example/api", "GET", origin + "/api", "", 401},
		{"H7: OPTIONS *", plain, "OPTIONS *", "OPTIONS", origin + "/", "", 401},
		{"H7: OPTIONS *, in the proof too", plain, "OPTIONS *", "OPTIONS", origin + "/*", "", 401},
		{"H7: CONNECT", plain, "CONNECT api.example.com:443", "CONNECT", origin + "/", "", 401},
		{"H9: Host", plain, "GET /api", "GET", "https://evil.example/api", "Host: evil.example", 401},
		{"H9: another one does no harm", plain, "GET /api", "GET", origin + "/api", "Host: evil.example", 200},
		{"H9: X-Forwarded-Host", plain, "GET /api", "GET", "https://evil.example/api", "X-Forwarded-Host: evil.example", 401},
		{"H9: X-Forwarded-Prefix", plain, "GET /api", "GET", origin + "/x/api", "X-Forwarded-Prefix: /x", 401},
		{"H9: X-Original-URL", plain, "GET /api", "GET", origin + "/x", "X-Original-URL: /x", 401},
		{"H9: Forwarded", plain, "GET /api", "GET", "https://evil.example/api", "Forwarded: host=evil.example;proto=https", 401},
		{"H10: another name", plain, "GET /api", "GET", "https://old.example.com/api", "", 200},
		{"H11: a websocket", plain, "GET /ws", "GET", origin + "/ws", "Upgrade: websocket", 200},
		{"H11: wss", plain, "GET /ws", "GET", "wss://api.example.com/ws", "Upgrade: websocket", 401},
		{"H13: the method of the wire", auth.Handler(override), "POST /api", "POST", origin + "/api", "X-HTTP-Method-Override: DELETE", 200},
		{"H13: another one", auth.Handler(override), "POST /api", "DELETE", origin + "/api", "X-HTTP-Method-Override: DELETE", 401},
		{"P22: letter case of the method", plain, "GET /api", "get", origin + "/api", "", 401},
		{"P23: HEAD with a proof for GET", plain, "HEAD /api", "GET", origin + "/api", "", 401},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := httptest.NewUnstartedServer(tt.h)
			server.Config.DisableGeneralOptionsHandler = true // net/http would answer "OPTIONS *"
			server.Start()
			defer server.Close()
			conn, err := net.Dial("tcp", server.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			lines := []string{tt.target + " HTTP/1.1", "Host: api.example.com", "Content-Length: 0",
				"Authorization: DPoP " + token, "DPoP: " + client.Proof(tt.htm, tt.htu, token, nil)}
			if name, _, _ := strings.Cut(tt.header, ": "); name == "Host" {
				lines[1] = tt.header
			} else if tt.header != "" {
				lines = append(lines, tt.header)
			}
			fmt.Fprintf(conn, "%s\r\n\r\n", strings.Join(lines, "\r\n"))
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != tt.want {
				t.Errorf("%s with a proof for %s %s: status %d, want %d", tt.target, tt.htm, tt.htu, resp.StatusCode, tt.want)
			}
			if want := expand("401 D:invalid_dpop_proof"); tt.want == 401 && !strings.Contains(want, strings.Join(resp.Header["Www-Authenticate"], " | ")) {
				t.Errorf("challenge %q, want %s", resp.Header["Www-Authenticate"], want)
			}
		})
	}

	// Over HTTP/2, by a client that asks for a nonce no more than once.
	server := httptest.NewUnstartedServer(nil)
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	server.Config.Handler = newMiddleware(t, iss, withDPoP, withNonces, func(cfg *bearer.Config) {
		cfg.DPoP.BaseURLs = []string{server.URL}
	}).Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }))
	for _, path := range []string{"/a%2Fb?q=1", "//evil.example/a", "/", "/~%7E%3f"} {
		r, err := http.NewRequest("POST", server.URL+path, strings.NewReader("hello"))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(server.Client(), r, token)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != 200 || resp.ProtoMajor != 2 || string(body) != "hello" {
			t.Errorf("%s over %s: status %d, body %q, want 200 and hello", path, resp.Proto, resp.StatusCode, body)
		}
	}

	// H8, H12: no request line, and one as in RFC 8441, which a client here cannot send.
	for _, tt := range []struct {
		name              string
		method, uri, path string
		htm, htu          string
		want              int
	}{
		{name: "H8", method: "GET", path: "/a%2Fb", htm: "GET", htu: origin + "/a%2Fb", want: 200},
		{name: "H8: another path", method: "GET", path: "/a%2Fb", htm: "GET", htu: origin + "/a/b", want: 401},
		{name: "H12", method: "CONNECT", uri: "/chat", path: "/chat", htm: "CONNECT", htu: origin + "/chat", want: 200},
		{name: "H12: GET", method: "CONNECT", uri: "/chat", path: "/chat", htm: "GET", htu: origin + "/chat", want: 401},
	} {
		r := httptest.NewRequest("GET", tt.path, nil)
		r.Method, r.RequestURI = tt.method, tt.uri
		r.Header.Set("Authorization", "DPoP "+token)
		r.Header.Set("DPoP", client.Proof(tt.htm, tt.htu, token, nil))
		rec := httptest.NewRecorder()
		plain.ServeHTTP(rec, r)
		if rec.Code != tt.want {
			t.Errorf("%s: status %d, want %d", tt.name, rec.Code, tt.want)
		}
	}
}

// nonceAt returns the nonce of an API without Config.Resource for the period that is
// so many after the one of now.
func nonceAt(key []byte, now time.Time, periods int) string {
	b := make([]byte, 5, 33)
	b[0] = 1
	binary.BigEndian.PutUint32(b[1:], uint32(now.Unix()/100+int64(periods)))
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("bearer dpop nonce\x00\x00"))
	mac.Write(b[1:])
	return base64.RawURLEncoding.EncodeToString(append(b, mac.Sum(nil)[:28]...))
}

// Time and nonces: what is accepted, and what the client is told.
func TestProofTime(t *testing.T) {
	old := []byte(strings.Repeat("o", 40))
	for _, tt := range []struct {
		name   string
		nonces [][]byte
		maxAge time.Duration
		iat    time.Duration // from now
		nonce  any
		edit   bearertest.Claims
		want   string
		sent   string // the nonce that the answer has: "" or "newest"
	}{
		{"W1: the oldest", nil, 0, -300 * time.Second, nil, nil, "200", ""},
		{"W1: the newest", nil, 0, 60 * time.Second, nil, nil, "200", ""},
		{"W2: older", nil, 0, -301 * time.Second, nil, nil, "401 D:invalid_dpop_proof", ""},
		{"W2: newer", nil, 0, 61 * time.Second, nil, nil, "401 D:invalid_dpop_proof", ""},
		{"W2: another age", nil, time.Minute, -61 * time.Second, nil, nil, "401 D:invalid_dpop_proof", ""},
		{"W3", [][]byte{nonceKey}, 0, 0, nil, nil, "401 D:use_dpop_nonce", "newest"},
		{"W4: unknown", [][]byte{nonceKey}, 0, 0, strings.Repeat("A", 44), nil, "401 D:use_dpop_nonce", "newest"},
		{"W4: malformed", [][]byte{nonceKey}, 0, 0, "x y", nil, "401 D:use_dpop_nonce", "newest"},
		{"W4: a number", [][]byte{nonceKey}, 0, 0, 5, nil, "401 D:use_dpop_nonce", "newest"},
		{"W4: empty", [][]byte{nonceKey}, 0, 0, "", nil, "401 D:use_dpop_nonce", "newest"},
		{"W4: too old", [][]byte{nonceKey}, 0, 0, -4, nil, "401 D:use_dpop_nonce", "newest"},
		{"W4: of another key", [][]byte{nonceKey}, 0, 0, nonceAt(old, virtualNow, 0), nil, "401 D:use_dpop_nonce", "newest"},
		{"W5, W8", [][]byte{nonceKey}, 0, 0, 0, nil, "200", ""},
		{"W5: the time does not matter", [][]byte{nonceKey}, 0, -1000 * time.Hour, 0, nil, "200", ""},
		{"W5: nor the future", [][]byte{nonceKey}, 0, 1000 * time.Hour, 0, nil, "200", ""},
		{"W5: but it must be there", [][]byte{nonceKey}, 0, 0, 0, bearertest.Claims{"iat": nil}, "401 D:invalid_dpop_proof", "newest"},
		{"W5: with MaxAge it does", [][]byte{nonceKey}, time.Minute, -61 * time.Second, 0, nil, "401 D:invalid_dpop_proof", "newest"},
		{"W6: of the next period", [][]byte{nonceKey}, 0, 0, 1, nil, "200", ""},
		{"W6: of the one after", [][]byte{nonceKey}, 0, 0, 2, nil, "401 D:use_dpop_nonce", "newest"},
		{"W7: of the last period", [][]byte{nonceKey}, 0, 0, -1, nil, "200", "newest"},
		{"W7: the oldest", [][]byte{nonceKey}, 0, 0, -3, nil, "200", "newest"},
		{"W7: of the former key", [][]byte{nonceKey, old}, 0, 0, nonceAt(old, virtualNow, 0), nil, "200", "newest"},
		{"W9: another URL", [][]byte{nonceKey}, 0, 0, 0, bearertest.Claims{"htu": "https://evil.example/"}, "401 D:invalid_dpop_proof", "newest"},
		{"W10: nonces are off", nil, 0, 0, "x", nil, "200", ""},
		{"W10: of any type", nil, 0, 0, []int{1}, nil, "200", ""},
		{"W14: the nonce before the time", [][]byte{nonceKey}, time.Minute, -1000 * time.Hour, "x", nil, "401 D:use_dpop_nonce", "newest"},
		{"W14: the URL before the nonce", [][]byte{nonceKey}, 0, 0, "x", bearertest.Claims{"htu": "https://evil.example/"}, "401 D:invalid_dpop_proof", "newest"},
		{"P27: exp is over", nil, 0, 0, nil, bearertest.Claims{"exp": virtualNow.Unix() - 60}, "401 D:invalid_dpop_proof", ""},
		{"P27: exp within the leeway", nil, 0, 0, nil, bearertest.Claims{"exp": virtualNow.Unix() - 59}, "200", ""},
		{"P27: nbf is yet to come", nil, 0, 0, nil, bearertest.Claims{"nbf": virtualNow.Unix() + 61}, "401 D:invalid_dpop_proof", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if !time.Now().Equal(virtualNow) {
					t.Fatalf("it is %v", time.Now())
				}
				iss, auth := newAuth(t, withDPoP, func(cfg *bearer.Config) {
					cfg.DPoP.NonceKeys, cfg.DPoP.MaxAge = tt.nonces, tt.maxAge
				})
				client := bearertest.NewClient()
				token := iss.Token(audience, keyBound(client))
				claims := bearertest.Claims{"iat": time.Now().Add(tt.iat).Unix()}
				switch nonce := tt.nonce.(type) {
				case nil:
				case int:
					if claims["nonce"] = nonceAt(nonceKey, time.Now(), nonce); tt.name == "W4: a number" {
						claims["nonce"] = nonce
					}
				default:
					claims["nonce"] = nonce
				}
				for name, value := range tt.edit {
					claims[name] = value
				}
				var inside http.Header
				h := auth.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { inside = w.Header().Clone() }))
				resp := send(h, "GET", "/", []string{"DPoP " + token}, client.Proof("GET", origin+"/", token, claims))
				if got := answer(resp); got != expand(tt.want) {
					t.Errorf("got  %s\nwant %s", got, expand(tt.want))
				}
				want := tt.sent
				if want == "newest" {
					want = nonceAt(nonceKey, time.Now(), 0)
				}
				if got := resp.Header.Get("DPoP-Nonce"); got != want || len(resp.Header["Dpop-Nonce"]) > 1 {
					t.Errorf("DPoP-Nonce = %q, want %q", resp.Header["Dpop-Nonce"], want)
				}
				// W7: what the handler may send on, a cache must not keep.
				if resp.StatusCode == 200 && (inside.Get("DPoP-Nonce") != want || (inside.Get("Cache-Control") == "no-store") != (want != "")) {
					t.Errorf("the handler finds %v, want the nonce %q, uncacheable", inside, want)
				}
			})
		})
	}
}

// virtualNow is when a bubble of testing/synctest begins, and a nonce's period.
var virtualNow = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// Who gets a nonce besides, and who may see it.
func TestNonceHeaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		iss := bearertest.NewIssuer("https://login.example.com/")
		client := bearertest.NewClient()
		bound, plain := iss.Token(audience, keyBound(client)), iss.Token(audience, nil)
		nonce := nonceAt(nonceKey, time.Now(), 0)
		fresh := func(periods int) string {
			return client.Proof("GET", origin+"/", bound, bearertest.Claims{"nonce": nonceAt(nonceKey, time.Now(), periods)})
		}
		on := []func(*bearer.Config){withDPoP, withNonces}
		required := append(slices.Clone(on), withRequired)
		const exposed = "DPoP-Nonce, WWW-Authenticate"
		for _, tt := range []struct {
			name          string
			change        []func(*bearer.Config)
			authorization string
			proof         string
			origin        bool
			status        int
			nonce         string
			exposed       []string
		}{
			{"W11: nothing, on", on, "", "", true, 401, "", []string{"X-Own", exposed}},
			{"W11: nothing, required", required, "", "", true, 401, nonce, []string{"X-Own", exposed}},
			{"W11: a bearer token, on", on, "Bearer " + bound, "", true, 401, "", []string{"X-Own", exposed}},
			{"W11: a bearer token, required", required, "Bearer " + plain, "", true, 401, nonce, []string{"X-Own", exposed}},
			{"W9: no proof", on, "DPoP " + bound, "", true, 401, nonce, []string{"X-Own", exposed}},
			{"W9: malformed", on, "DPoP", "", true, 400, nonce, []string{"X-Own", exposed}},
			{"W13: no Origin", on, "DPoP " + bound, "", false, 401, nonce, []string{"X-Own"}},
			{"W13: the newest nonce", on, "DPoP " + bound, fresh(0), true, 200, "", []string{"X-Own"}},
			{"W13: an older one", on, "DPoP " + bound, fresh(-1), true, 200, nonce, []string{"X-Own", exposed}},
			{"W13: an older one, no Origin", on, "DPoP " + bound, fresh(-1), false, 200, nonce, []string{"X-Own"}},
			{"W13: a bearer token", on, "Bearer " + plain, "", true, 200, "", []string{"X-Own"}},
			{"W13: off", nil, "", "", true, 401, "", []string{"X-Own"}},
		} {
			h := newMiddleware(t, iss, tt.change...).Handler(served)
			r := httptest.NewRequest("GET", "/", nil)
			for name, value := range map[string]string{"Authorization": tt.authorization, "DPoP": tt.proof} {
				if value != "" {
					r.Header.Set(name, value)
				}
			}
			if tt.origin {
				r.Header.Set("Origin", "https://spa.example.com")
			}
			rec := httptest.NewRecorder()
			rec.Header().Set("Access-Control-Expose-Headers", "X-Own")
			h.ServeHTTP(rec, r)
			if rec.Code != tt.status || rec.Header().Get("DPoP-Nonce") != tt.nonce || !slices.Equal(rec.Header()["Access-Control-Expose-Headers"], tt.exposed) {
				t.Errorf("%s: got %d, nonce %q, exposed %q, want %d, %q, %q", tt.name, rec.Code, rec.Header().Get("DPoP-Nonce"),
					rec.Header()["Access-Control-Expose-Headers"], tt.status, tt.nonce, tt.exposed)
			}
		}

		// An older nonce, and a refusal further in: one header of each.
		auth := newMiddleware(t, iss, on...)
		r := httptest.NewRequest("GET", "/", nil)
		r.Header = http.Header{"Authorization": {"DPoP " + bound}, "Dpop": {fresh(-1)}, "Origin": {"https://spa.example.com"}}
		rec := httptest.NewRecorder()
		auth.Handler(auth.RequireScope("read")(served)).ServeHTTP(rec, r)
		if h := rec.Header(); rec.Code != 403 || len(h["Dpop-Nonce"]) != 1 || len(h["Access-Control-Expose-Headers"]) != 1 {
			t.Errorf("got %d with %v, want 403 and each header once", rec.Code, h)
		}

		// 503 tells nothing to see, but a nonce for the next try.
		iss.SetDown(true)
		down := newMiddleware(t, iss, withDPoP)
		r = httptest.NewRequest("GET", "/", nil)
		r.Header = http.Header{"Authorization": {"DPoP " + bound}, "Dpop": {fresh(0)}, "Origin": {"https://spa.example.com"}}
		rec = httptest.NewRecorder()
		down.Handler(served).ServeHTTP(rec, r)
		if got := rec.Header()["Access-Control-Expose-Headers"]; rec.Code != 503 || got != nil {
			t.Errorf("got %d, exposed %q, want 503 and none", rec.Code, got)
		}

		// W15: Authenticate tells the reply what to say.
		r = httptest.NewRequest("GET", "/", nil)
		r.Header = http.Header{"Authorization": {"DPoP " + bound}, "Dpop": {client.Proof("GET", origin+"/", bound, nil)}}
		_, err := auth.Authenticate(r)
		rec = httptest.NewRecorder()
		auth.WriteError(rec, r, err)
		if got := answer(rec.Result()); got != expand("401 D:use_dpop_nonce") || rec.Header().Get("DPoP-Nonce") != nonce {
			t.Errorf("W15: got %s with the nonce %q, want %s", got, rec.Header().Get("DPoP-Nonce"), expand("401 D:use_dpop_nonce"))
		}
	})
}

// One API's nonces are not another's, although they share a key.
func TestNonceOfResource(t *testing.T) {
	iss := bearertest.NewIssuer("https://login.example.com/")
	client := bearertest.NewClient()
	token := iss.Token(audience, keyBound(client))
	of := func(resource string) http.Handler {
		return newMiddleware(t, iss, func(cfg *bearer.Config) {
			cfg.Resource = resource
			cfg.DPoP = &bearer.DPoP{NonceKeys: [][]byte{nonceKey}}
		}).Handler(served)
	}
	one, two := of(origin+"/one"), of(origin+"/two")
	nonce := send(one, "GET", "/one", []string{"DPoP " + token}).Header.Get("DPoP-Nonce")
	proof := func() string {
		return client.Proof("GET", origin+"/one", token, bearertest.Claims{"nonce": nonce})
	}
	if got := send(one, "GET", "/one", []string{"DPoP " + token}, proof()).StatusCode; got != 200 {
		t.Errorf("its own: status %d, want 200", got)
	}
	if got := send(two, "GET", "/one", []string{"DPoP " + token}, proof()).StatusCode; got != 401 {
		t.Errorf("the other's: status %d, want 401", got)
	}
}

// A replayStore is a ReplayStore as a shared one would be.
type replayStore struct {
	mu    sync.Mutex
	keys  map[string]time.Duration
	calls int
	fail  func(context.Context) error
}

func newReplayStore() *replayStore { return &replayStore{keys: map[string]time.Duration{}} }

func (s *replayStore) Add(ctx context.Context, key string, ttl time.Duration) (bool, error) {
	s.mu.Lock()
	fail := s.fail
	s.mu.Unlock()
	if fail != nil {
		return true, fail(ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	_, old := s.keys[key]
	s.keys[key] = ttl
	return !old, nil
}

// fails has f stand for each call from now on; nil ends that.
func (s *replayStore) fails(f func(context.Context) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = f
}

func (s *replayStore) in(cfg *bearer.Config) { cfg.DPoP.Replay = s }

// Of fifty requests with one proof, one is served, by one replica or by two.
func TestReplays(t *testing.T) {
	iss := bearertest.NewIssuer("https://login.example.com/")
	client := bearertest.NewClient()
	token := iss.Token(audience, keyBound(client))
	shared := newReplayStore()
	alone := newMiddleware(t, iss, withDPoP)
	for name, replicas := range map[string][2]*bearer.Middleware{
		"in memory":                   {alone, alone},
		"two replicas with one store": {newMiddleware(t, iss, withDPoP, shared.in), newMiddleware(t, iss, withDPoP, shared.in)},
	} {
		proof := client.Proof("GET", origin+"/", token, nil)
		var wait sync.WaitGroup
		var passed, refused atomic.Int32
		start := make(chan struct{})
		for i := range 50 {
			wait.Go(func() {
				<-start
				h := replicas[i%2].Handler(served)
				switch got := answer(send(h, "GET", "/", []string{"DPoP " + token}, proof)); got {
				case expand("200"):
					passed.Add(1)
				case expand("401 D:invalid_dpop_proof"):
					refused.Add(1)
				default:
					t.Errorf("%s: got %s", name, got)
				}
			})
		}
		close(start)
		wait.Wait()
		if passed.Load() != 1 || refused.Load() != 49 {
			t.Errorf("%s: %d served, %d refused, want 1 and 49", name, passed.Load(), refused.Load())
		}
	}
}

// When a proof is used up, and when it is not.
func TestUsedProofs(t *testing.T) {
	iss := bearertest.NewIssuer("https://login.example.com/")
	client := bearertest.NewClient()
	token := iss.Token(audience, keyBound(client))
	store, separate := newReplayStore(), newReplayStore()
	a, b := newMiddleware(t, iss, withDPoP, store.in), newMiddleware(t, iss, withDPoP, store.in)
	third := newMiddleware(t, iss, withDPoP, store.in)
	c, memory := newMiddleware(t, iss, withDPoP, separate.in), newMiddleware(t, iss, withDPoP)
	uncomparable := newMiddleware(t, iss, withDPoP, func(cfg *bearer.Config) { cfg.DPoP.Replay = sliceStore{separate} })
	off, assertion := newMiddleware(t, iss), newMiddleware(t, iss, func(cfg *bearer.Config) {
		cfg.Header = "X-Assertion"
		cfg.Certificate = func(*http.Request) ([]byte, error) { return client.Certificate.Certificate[0], nil }
	})
	with := func(claims bearertest.Claims) func(http.Handler) http.Handler { // another token besides
		return func(next http.Handler) http.Handler {
			inner := assertion.Handler(next)
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				r.Header.Set("X-Assertion", iss.Token(audience, claims))
				inner.ServeHTTP(w, r)
			})
		}
	}
	another, ofCertificate := with(nil), with(certBound(client))
	failed := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(500) })
	anew := func(next http.Handler) http.Handler { // claims of the application's own
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			next.ServeHTTP(w, r.WithContext(bearer.NewContext(r.Context(), &bearer.Claims{})))
		})
	}
	again := expand("401 D:invalid_dpop_proof")
	for _, tt := range []struct {
		name          string
		h             http.Handler
		first, second string // of two requests with one proof
		calls         int    // of store by the first
	}{
		{"R5: alone", a.Handler(served), "200", again, 1},
		{"R12: one Middleware, twice", a.Handler(a.RequireScope("read")(served)), "403 D:insufficient_scope+read", again, 1},
		{"R12: two, one store", a.Handler(b.Handler(served)), "200", again, 1},
		{"R12: four", a.Optional(b.Handler(a.Handler(b.RequireScope("x")(served)))), "403 D:insufficient_scope+x", again, 1},
		{"R12: three, the first one again before the last", a.Handler(b.Handler(a.Handler(third.Handler(served)))), "200", again, 1},
		{"R12: two, with claims of another in between", a.Handler(anew(b.Handler(served))), "200", again, 1},
		{"R12: two, and one in between that takes no proofs", a.Handler(off.Optional(b.Handler(served))), "200", again, 1},
		{"R12: two, and one in between with another token", a.Handler(another(b.Handler(served))), "200", again, 1},
		{"R12: two, and one in between with a token that is bound to a certificate", a.Handler(ofCertificate(b.Handler(served))), "200", again, 1},
		{"R12: two, and all kinds in between", a.Handler(another(anew(off.Optional(a.Optional(b.Handler(served)))))), "200", again, 1},
		{"R12: two stores", a.Handler(c.Handler(served)), "200", again, 1},
		{"R12: two stores and one again", a.Handler(c.Handler(b.Handler(served))), "200", again, 1},
		{"R12: a store and memory", memory.Handler(a.Handler(memory.Handler(served))), "200", again, 1},
		{"R12: that cannot be compared", uncomparable.Handler(served), "200", again, 0},
		{"R14: the handler fails", a.Handler(failed), "500", again, 1},
		{"R14: the scope is missing", a.RequireScope("read")(served), "403 D:insufficient_scope+read", again, 1},
		{"R14: a check refuses", a.Require(func(*http.Request, *bearer.Claims) error { return errors.New("no") })(served), "403", again, 1},
	} {
		proof := client.Proof("GET", origin+"/", token, nil)
		before := store.calls
		first := send(tt.h, "GET", "/", []string{"DPoP " + token}, proof)
		if tt.first == "500" || tt.first == "403" {
			if fmt.Sprint(first.StatusCode) != tt.first {
				t.Errorf("%s: got %d, want %s", tt.name, first.StatusCode, tt.first)
			}
		} else if got := answer(first); got != expand(tt.first) {
			t.Errorf("%s: got %s, want %s", tt.name, got, expand(tt.first))
		}
		if calls := store.calls - before; calls != tt.calls {
			t.Errorf("%s: the store was asked %d times, want %d", tt.name, calls, tt.calls)
		}
		if got := answer(send(tt.h, "GET", "/", []string{"DPoP " + token}, proof)); got != tt.second {
			t.Errorf("%s, again: got %s, want %s", tt.name, got, tt.second)
		}
	}

	// R5: what is refused for another reason uses nothing up.
	proof := client.Proof("GET", origin+"/", token, nil)
	for _, tt := range []struct{ method, target, authorization string }{
		{"POST", "/", "DPoP " + token},
		{"GET", "/other", "DPoP " + token},
		{"GET", "/", "DPoP " + iss.Token(audience, keyBound(client))},
		{"GET", "/", "DPoP " + iss.Token("https://other.example.com", keyBound(client))},
		{"GET", "/", "Bearer " + token},
	} {
		before := store.calls
		if resp := send(a.Handler(served), tt.method, tt.target, []string{tt.authorization}, proof); resp.StatusCode != 401 || store.calls != before {
			t.Errorf("R5: %s %s: status %d after %d calls, want 401 and none", tt.method, tt.target, resp.StatusCode, store.calls-before)
		}
	}
	if resp := send(a.Handler(served), "GET", "/", []string{"DPoP " + token}, proof); resp.StatusCode != 200 {
		t.Errorf("R5: then where it belongs: status %d, want 200", resp.StatusCode)
	}

	// R13: Authenticate uses the proof up, unless Handler has done so before.
	r := httptest.NewRequest("GET", "/", nil)
	r.Header = http.Header{"Authorization": {"DPoP " + token}, "Dpop": {client.Proof("GET", origin+"/", token, nil)}}
	for i, want := range []string{"", "401 proof_replay"} {
		if _, err := a.Authenticate(r); word(err) != want {
			t.Errorf("R13: Authenticate, call %d: %v, want %q", i, err, want)
		}
	}
	h := a.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for range 2 {
			if claims, err := a.Authenticate(r); err != nil || claims.Bound.KeyThumbprint != client.KeyThumbprint {
				t.Errorf("R13: Authenticate within Handler: %v", err)
			}
		}
	}))
	send(h, "GET", "/", []string{"DPoP " + token}, client.Proof("GET", origin+"/", token, nil))
}

// A sliceStore cannot be compared.
type sliceStore []*replayStore

func (s sliceStore) Add(ctx context.Context, key string, ttl time.Duration) (bool, error) {
	return s[0].Add(ctx, key, ttl)
}

// Whatever becomes of the store, nobody is let in, and nobody waits for long.
func TestReplayStoreFails(t *testing.T) {
	down := errors.New("connection refused")
	for _, tt := range []struct {
		name  string
		fail  func(context.Context) error
		takes time.Duration
		cause error // nil: any
	}{
		{"R6: an error", func(context.Context) error { return down }, 0, down},
		{"R6: a panic", func(context.Context) error { panic("boom") }, 0, nil},
		{"R6: it hangs until it is told to end", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, time.Second, context.DeadlineExceeded},
		{"R6: it hangs", func(context.Context) error { time.Sleep(time.Hour); return nil }, time.Second, context.DeadlineExceeded},
	} {
		synctest.Test(t, func(t *testing.T) {
			var log syncBuffer
			store := newReplayStore()
			iss, auth := newAuth(t, withDPoP, store.in, func(cfg *bearer.Config) {
				cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
			})
			client := bearertest.NewClient()
			token := iss.Token(audience, keyBound(client))
			proof := client.Proof("GET", origin+"/", token, nil)
			if err := auth.Ready(t.Context()); err != nil {
				t.Fatal(err)
			}
			store.fails(tt.fail)
			start := time.Now()
			resp := send(auth.Handler(served), "GET", "/", []string{"DPoP " + token}, proof)
			if took := time.Since(start); answer(resp) != expand("503") || resp.Header.Get("Retry-After") != "1" || took != tt.takes {
				t.Errorf("%s: got %s, Retry-After %q, after %v, want %s, 1, after %v", tt.name, answer(resp), resp.Header.Get("Retry-After"), took, expand("503"), tt.takes)
			}
			r := httptest.NewRequest("GET", "/", nil)
			r.Header = http.Header{"Authorization": {"DPoP " + token}, "Dpop": {proof}}
			if _, err := auth.Authenticate(r); word(err) != "503 replay_store" || tt.cause != nil && !errors.Is(err, tt.cause) {
				t.Errorf("%s: got %v, want replay_store for %v", tt.name, err, tt.cause)
			}
			if got := strings.Count(log.String(), "DPoP.Replay"); got != 1 {
				t.Errorf("%s: logged %d times, want once: %s", tt.name, got, log.String())
			}
			// Bearer tokens do not need it, and afterwards all is well.
			if resp := send(auth.Handler(served), "GET", "/", []string{"Bearer " + iss.Token(audience, nil)}); resp.StatusCode != 200 {
				t.Errorf("%s: a bearer token: status %d, want 200", tt.name, resp.StatusCode)
			}
			store.fails(nil)
			if resp := send(auth.Handler(served), "GET", "/", []string{"DPoP " + token}, proof); resp.StatusCode != 200 {
				t.Errorf("%s: afterwards: status %d, want 200", tt.name, resp.StatusCode)
			}
			time.Sleep(2 * time.Hour) // for those that hang
		})
	}
}

// R15: a request that ends while the store is asked, and stores that never return.
func TestReplayStoreHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newReplayStore()
		iss, auth := newAuth(t, withDPoP, store.in)
		client := bearertest.NewClient()
		token := iss.Token(audience, keyBound(client))
		if err := auth.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		var running atomic.Int32
		release := make(chan struct{})
		store.fails(func(context.Context) error {
			running.Add(1)
			<-release
			return nil
		})
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		r := httptest.NewRequestWithContext(ctx, "GET", "/", nil)
		r.Header = http.Header{"Authorization": {"DPoP " + token}, "Dpop": {client.Proof("GET", origin+"/", token, nil)}}
		start := time.Now()
		if _, err := auth.Authenticate(r); word(err) != "503 replay_store" || !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 300*time.Millisecond {
			t.Errorf("R15: got %v after %v, want replay_store after 300ms", err, time.Since(start))
		}

		var wait sync.WaitGroup
		proof := client.Proof("GET", origin+"/", token, nil)
		start = time.Now()
		for range 1100 {
			wait.Go(func() {
				if resp := send(auth.Handler(served), "GET", "/", []string{"DPoP " + token}, proof); resp.StatusCode != 503 {
					t.Errorf("status %d, want 503", resp.StatusCode)
				}
			})
		}
		wait.Wait()
		if took := time.Since(start); took != time.Second || running.Load() != 1024 {
			t.Errorf("%d calls ran and the requests took %v, want 1024 and 1s", running.Load(), took)
		}
		close(release)
		synctest.Wait()
		store.fails(nil)
		if resp := send(auth.Handler(served), "GET", "/", []string{"DPoP " + token}, proof); resp.StatusCode != 200 {
			t.Errorf("afterwards: status %d, want 200", resp.StatusCode)
		}
	})
}
