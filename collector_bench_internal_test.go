package bearer

import (
	"encoding/base64"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"example.com/bearer/internal/jwks"
)

// What the tokens that are kept cost the garbage collector: the time of a whole
// cycle, and their memory. Their claims are those of a token of 1 KiB; their
// signatures are made up, since a million good ones would take minutes.
func BenchmarkCollector(b *testing.B) {
	m, err := New(Config{Issuer: "https://login.example.com/", Audience: []string{"https://api.example.com"}, TokenCache: maxTokenCache})
	if err != nil {
		b.Fatal(err)
	}
	v, key, now := m.issuers.all[0], new(jwks.Key), time.Now()
	heap := func() int64 {
		runtime.GC()
		var s runtime.MemStats
		runtime.ReadMemStats(&s)
		return int64(s.HeapAlloc)
	}
	for _, n := range []int{0, 8192, 65536, maxTokenCache} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			before := heap()
			c := newTokenCache(n)
			for i := range n {
				payload := fmt.Sprintf(`{"iss":"https://login.example.com/","sub":"user-%08d","aud":["https://api.example.com","https://login.example.com/userinfo"],`+
					`"iat":1700000000,"exp":4000000000,"jti":"01234567-89ab-cdef-0123-%012d","client_id":"web-frontend","scope":"openid profile email read write","x":"%s"}`,
					i, i, strings.Repeat("x", 100))
				text := "eyJhbGciOiJSUzI1NiIsImtpZCI6IjEyMzQ1Njc4In0." + base64.RawURLEncoding.EncodeToString([]byte(payload)) + "." + fmt.Sprintf("%0341dA", i)
				t, err := newToken(text, defaultMaxLength)
				if err != nil {
					b.Fatal(err)
				}
				if err := t.decode(); err != nil {
					b.Fatal(err)
				}
				verified, err := v.readClaims(&t, key, now)
				if err != nil {
					b.Fatal(err)
				}
				t.free()
				c.put(text, verified, now)
			}
			kept := float64(heap()-before) / (1 << 20)
			least := time.Hour // on a busy machine the others tell of its other work
			for b.Loop() {
				start := time.Now()
				runtime.GC()
				least = min(least, time.Since(start))
			}
			b.ReportMetric(kept, "MiB")
			b.ReportMetric(float64(least.Microseconds())/1000, "least-ms")
			runtime.KeepAlive(c)
		})
	}
}
