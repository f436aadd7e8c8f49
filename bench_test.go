package bearer_test

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"example.com/bearer"
	"example.com/bearer/bearertest"
)

// These measure this library by itself, for a look at one change, or a profile. What its
// price is beside bare cryptography, and beside other libraries, is measured in benchmarks.

// The tokens of the benchmarks, by what their issuers put into them.
var shapes = []struct {
	name, alg string
	claims    bearertest.Claims
}{
	{"RS256-0.9KB", "RS256", auth0Claims},
	{"RS256-1.6KB", "RS256", keycloakClaims},
	{"RS256-2.6KB", "RS256", entraClaims},
	{"ES256-0.7KB", "ES256", auth0Claims},
	{"EdDSA-0.7KB", "EdDSA", auth0Claims},
}

var auth0Claims = bearertest.Claims{
	"aud":   []string{audience, "https://acme.eu.auth0.com/userinfo"},
	"azp":   "0oAbCdEfGhIjKlMnOpQrStUvWxYz0123",
	"scope": "openid profile email read:messages write:messages",
	"gty":   "password",
	"permissions": []string{
		"read:messages", "write:messages",
	},
	"org_id": "org_0123456789abcdef",
}

var keycloakClaims = bearertest.Claims{
	"azp": "spa", "session_state": "99999999-8888-7777-6666-555555555555", "acr": "1", "typ": "Bearer",
	"allowed-origins": []string{"https://app.acme.test", "https://admin.acme.test"},
	"realm_access":    map[string]any{"roles": []string{"offline_access", "uma_authorization", "default-roles-acme", "reader", "writer"}},
	"resource_access": map[string]any{
		"my-api":  map[string]any{"roles": []string{"reader", "writer", "auditor", "operator"}},
		"account": map[string]any{"roles": []string{"manage-account", "manage-account-links", "view-profile"}},
	},
	"scope": "openid email profile read:messages", "sid": "99999999-8888-7777-6666-555555555555",
	"email_verified": true, "name": "Jo Doe", "preferred_username": "jo", "given_name": "Jo", "family_name": "Doe", "email": "jo@acme.test",
}

var entraClaims = func() bearertest.Claims {
	groups := make([]string, 25)
	for i := range groups {
		groups[i] = fmt.Sprintf("%08d-bbbb-cccc-dddd-eeeeeeeeeeee", i)
	}
	return bearertest.Claims{
		"aio": "AWQAm/8TAAAAq1opaqueopaqueopaqueopaqueopaqueopaque", "amr": []string{"pwd", "mfa"}, "azp": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee", "azpacr": "0",
		"groups": groups, "name": "Jo Doe", "oid": "99999999-8888-7777-6666-555555555555", "preferred_username": "jo@acme.test",
		"rh": "0.AAAAopaqueopaqueopaqueopaqueopaqueopaque", "scp": "Messages.Read Messages.Write", "tid": "11111111-2222-3333-4444-555555555555",
		"uti": "opaqueopaqueopaqueopaque", "ver": "2.0", "ipaddr": "192.0.2.1",
	}
}()

type nullWriter struct{ h http.Header }

func (w nullWriter) Header() http.Header         { return w.h }
func (w nullWriter) Write(p []byte) (int, error) { return len(p), nil }
func (w nullWriter) WriteHeader(int)             { clear(w.h) } // each reply begins without any

// requests returns requests with n tokens of one shape.
func requests(iss *bearertest.Issuer, claims bearertest.Claims, n int) []*http.Request {
	all := make([]*http.Request, n)
	for i := range all {
		all[i] = httptest.NewRequest("GET", "/api/messages", nil)
		all[i].Header.Set("Authorization", "Bearer "+iss.Token(audience, claims))
	}
	return all
}

var subject string

// reader is what the benchmarks protect.
var reader = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	c, _ := bearer.FromContext(r.Context())
	subject = c.Subject
})

func run(b *testing.B, name string, h http.Handler, rs []*http.Request) {
	b.Run(name, func(b *testing.B) {
		w := nullWriter{http.Header{}}
		h.ServeHTTP(w, rs[0])
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			h.ServeHTTP(w, rs[i%len(rs)])
			i++
		}
	})
}

// Each token new.
func BenchmarkCold(b *testing.B) {
	for _, s := range shapes {
		// A cache so small that no token is found in it: what it costs to put
		// them there is a part of the price.
		iss, auth := newAuth(b, func(c *bearer.Config) { c.TokenCache = 1 })
		iss.UseAlgorithm(s.alg)
		run(b, s.name, auth.Handler(reader), requests(iss, s.claims, 1000))
	}
}

// The same tokens again, at other addresses.
func BenchmarkHot(b *testing.B) {
	for _, s := range shapes[:3] {
		iss, auth := newAuth(b)
		iss.UseAlgorithm(s.alg)
		one := requests(iss, s.claims, 1)[0]
		rs := make([]*http.Request, 8)
		for i := range rs {
			rs[i] = httptest.NewRequest("GET", "/", nil)
			rs[i].Header.Set("Authorization", strings.Clone(one.Header.Get("Authorization")))
		}
		h := auth.Handler(reader)
		for _, r := range rs {
			h.ServeHTTP(nullWriter{http.Header{}}, r)
		}
		run(b, s.name, h, rs)
	}
	iss, auth := newAuth(b)
	rs := requests(iss, auth0Claims, 5000)
	h := auth.Handler(reader)
	for range 3 {
		for _, r := range rs {
			h.ServeHTTP(nullWriter{http.Header{}}, r)
		}
	}
	run(b, "5000-tokens", h, rs)
	b.Run("parallel", func(b *testing.B) {
		b.RunParallel(func(p *testing.PB) {
			w := nullWriter{http.Header{}}
			for i := 0; p.Next(); i++ {
				h.ServeHTTP(w, rs[i%100])
			}
		})
	})
}

// What RequireScope adds inside of Handler.
func BenchmarkRequireScope(b *testing.B) {
	iss, auth := newAuth(b)
	rs := requests(iss, auth0Claims, 1)
	for _, inside := range []struct {
		name string
		h    http.Handler
	}{
		{"all", auth.RequireScope("read:messages")(ok)},
		{"two", auth.RequireScope("read:messages", "write:messages")(ok)},
		{"any", auth.RequireAnyScope("delete:messages", "write:messages")(ok)},
	} {
		auth.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b.Run(inside.name, func(b *testing.B) {
				w := nullWriter{http.Header{}}
				b.ReportAllocs()
				for b.Loop() {
					inside.h.ServeHTTP(w, r)
				}
			})
		})).ServeHTTP(httptest.NewRecorder(), rs[0])
	}
}

// What strangers can make the API do, beside a good token that is new.
func BenchmarkRefusals(b *testing.B) {
	iss, auth := newAuth(b, func(c *bearer.Config) { c.Logger = quiet })
	iss.UseAlgorithm("RS256")
	valid := iss.Token(audience, auth0Claims)
	for _, tt := range hostile(iss, valid) {
		r := httptest.NewRequest("GET", "/", nil)
		if tt.header != "" {
			r.Header.Set("Authorization", tt.header)
		}
		run(b, tt.name, auth.Handler(ok), []*http.Request{r})
	}
	all := newMiddleware(b, iss, func(c *bearer.Config) { c.TokenCache = -1 })
	run(b, "good", all.Handler(ok), requests(iss, auth0Claims, 100))
}

// A key set of 100 keys costs no more than one of a single key.
func BenchmarkKeys(b *testing.B) {
	for _, n := range []int{1, 10, 100} {
		iss, auth := newAuth(b, func(c *bearer.Config) { c.TokenCache = -1 })
		for range n - 1 {
			iss.Rotate()
		}
		run(b, fmt.Sprint(n), auth.Handler(reader), requests(iss, auth0Claims, 100))
	}
}

// What the memory of tokens comes to when there are ever more of them: run it
// with -benchtime 1000000x for a million, each used twice.
func BenchmarkDistinctTokens(b *testing.B) {
	iss, auth := newAuth(b)
	iss.UseAlgorithm("EdDSA")
	heap := func() float64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc) / (1 << 20)
	}
	before := heap()
	for b.Loop() {
		token := iss.Token(audience, keycloakClaims)
		for range 2 {
			if _, err := auth.Verify(b.Context(), token); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(heap()-before, "MiB")
	b.ReportMetric(0, "ns/op") // most of it is the issuer's
	runtime.KeepAlive(auth)
}

// What those with good tokens notice of a flood of others: over loopback HTTP,
// 20 of 200 connections send good tokens, and the others do too when it is calm.
// Both take turns of half a second; -benchtime 6x makes 3 s of flood.
func BenchmarkFlood(b *testing.B) {
	for _, flood := range []string{"unknown-keys", "forged-signatures"} {
		b.Run(flood, func(b *testing.B) {
			iss, auth := newAuth(b, func(c *bearer.Config) { c.Logger = quiet })
			iss.UseAlgorithm("RS256")
			server := httptest.NewServer(auth.Handler(ok))
			defer server.Close()
			valid := iss.Token(audience, auth0Claims)
			parts := strings.Split(valid, ".")
			bad := func() string {
				if flood == "unknown-keys" {
					return encode(fmt.Sprintf(`{"alg":"RS256","kid":"%x"}`, rand.Uint64())) + "." + parts[1] + "." + parts[2]
				}
				n := len(valid) - 44 // the end stays: its last character has unused bits
				return valid[:n] + fmt.Sprintf("%040x", rand.Uint64()) + valid[n+40:]
			}
			if _, err := auth.Verify(b.Context(), bad()); flood == "forged-signatures" && !errors.Is(err, jwt.ErrTokenSignatureInvalid) {
				b.Fatalf("a forged token does not get as far as its signature: %v", err)
			}
			client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 200}}
			defer client.CloseIdleConnections()
			send := func(token string, want int) time.Duration {
				r, _ := http.NewRequest("GET", server.URL, nil)
				r.Header.Set("Authorization", "Bearer "+token)
				start := time.Now()
				resp, err := client.Do(r)
				if err != nil {
					b.Error(err)
					return 0
				}
				took := time.Since(start)
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				if resp.StatusCode != want {
					b.Errorf("status = %d, want %d", resp.StatusCode, want)
				}
				return took
			}
			// turn returns how long 99 of 100 good requests took at most.
			turn := func(d time.Duration, others func()) time.Duration {
				var (
					wg   sync.WaitGroup
					mu   sync.Mutex
					all  []time.Duration
					stop = time.Now().Add(d)
				)
				for i := range 200 {
					wg.Go(func() {
						var own []time.Duration
						for time.Now().Before(stop) {
							if i < 180 {
								others()
							} else {
								own = append(own, send(valid, 200))
							}
						}
						mu.Lock()
						all = append(all, own...)
						mu.Unlock()
					})
				}
				wg.Wait()
				slices.Sort(all)
				return all[len(all)*99/100]
			}
			calm := func() { send(valid, 200) }
			turn(100*time.Millisecond, calm)
			fetches := auth.KeyStats().Fetches
			var calmP99, floodP99 []time.Duration
			for b.Loop() {
				calmP99 = append(calmP99, turn(500*time.Millisecond, calm))
				floodP99 = append(floodP99, turn(500*time.Millisecond, func() { send(bad(), 401) }))
			}
			slices.Sort(calmP99)
			slices.Sort(floodP99)
			c, f := calmP99[len(calmP99)/2], floodP99[len(floodP99)/2]
			b.ReportMetric(float64(auth.KeyStats().Fetches-fetches), "fetches")
			b.ReportMetric(float64(c.Microseconds())/1000, "calm-p99-ms")
			b.ReportMetric(float64(f)/float64(c), "flood/calm")
			b.ReportMetric(0, "ns/op")
		})
	}
}
