package bearer_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"testing"
	"time"

	"example.com/bearer"
	"example.com/bearer/bearertest"
)

// A cached token costs the same however many tenants there are: what many tokens of
// one issuer cost is the yardstick.
func BenchmarkTenants(b *testing.B) {
	for _, tt := range []struct {
		name            string
		tenants, tokens int
	}{
		{"1-with-1-token", 1, 1},
		{"1-with-10000-tokens", 1, 10000},
		{"10000-with-1-token", 10000, 1},
	} {
		d, auth := newDirectory(b, func(c *bearer.Config) { c.Logger, c.TokenCache = quiet, 1<<16 })
		var rs []*http.Request
		for i := range tt.tenants {
			iss := newTenant(b, d, fmt.Sprint("tenant", i), func(c *bearer.Config) { c.Logger = quiet })
			for n := range tt.tokens {
				rs = append(rs, requests(iss, bearertest.Claims{"sub": fmt.Sprint(n)}, 1)...)
			}
		}
		h := auth.Handler(reader)
		for range 3 {
			for _, r := range rs {
				w := httptest.NewRecorder()
				if h.ServeHTTP(w, r); w.Code != 200 {
					b.Fatal(w.Code)
				}
			}
		}
		run(b, tt.name, h, rs)
	}
}

// A flood of made-up issuers: what each costs, and what they leave behind.
func BenchmarkMadeUpIssuers(b *testing.B) {
	stranger := bearertest.NewIssuer("https://stranger.example.com")
	rs := make([]*http.Request, 5000)
	for i := range rs {
		rs[i] = requests(stranger, bearertest.Claims{"iss": fmt.Sprintf("https://%d.example.com", i)}, 1)[0]
	}
	d, auth := newDirectory(b, func(c *bearer.Config) { c.Logger = quiet })
	h, w := auth.Handler(reader), nullWriter{http.Header{}}
	heap := func() uint64 {
		var m runtime.MemStats
		for range 3 {
			runtime.GC()
		}
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before, start := heap(), time.Now()
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		h.ServeHTTP(w, rs[i%len(rs)])
		i++
	}
	b.ReportMetric(float64(d.calls())/time.Since(start).Seconds(), "calls/s")
	b.ReportMetric(max(0, float64(heap())-float64(before))/1024, "KiB-kept")
}
