package bearer_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"io"
	"log/slog"
	"slices"
	"testing"
	"time"
)

// oneCheck returns a signature check with RS256 of a token of n bytes.
func oneCheck(t testing.TB, k *rsa.PrivateKey, n int) func() {
	signed := make([]byte, max(n-343, 0))
	sum := sha256.Sum256(signed)
	sig, err := rsa.SignPKCS1v15(nil, k, crypto.SHA256, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		sum := sha256.Sum256(signed)
		if err := rsa.VerifyPKCS1v15(&k.PublicKey, crypto.SHA256, sum[:], sig); err != nil {
			t.Fatal(err)
		}
	}
}

// least returns the least time that f takes, of n.
func least(n int, f func()) float64 {
	best := time.Duration(1 << 62)
	for range n {
		start := time.Now()
		f()
		best = min(best, time.Since(start))
	}
	return float64(best)
}

// The worst that somebody hostile can have read, as far as a search finds it, and how
// many signature checks with RSA of 2048 bits that costs: of a token of 0.9 KB (checks),
// and of one of the same size (checks/size), each in pairs of slices. Where a signature
// that holds comes first, as for claims, its check is a part of the cost.
func BenchmarkWorst(b *testing.B) {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		b.Fatal(err)
	}
	records := slog.New(slog.NewTextHandler(io.Discard, &slog.HandlerOptions{Level: slog.LevelDebug}))
	for _, setting := range []struct {
		name  string
		log   *slog.Logger
		times int // the size of tokens
	}{{"", quiet, 1}, {"debug log/", records, 1}, {"256 KiB/", quiet, 16}} {
		for _, p := range places(b, setting.log) {
			if setting.times > 1 && p.room != decodedRoom {
				continue
			}
			b.Run(setting.name+p.name, func(b *testing.B) {
				// Those of documents are searched for in small.
				most := decodedRoom * setting.times
				g := search(300/setting.times, []int{1, 64, 1 << 14}, func(g genome) float64 {
					a := p.make(g, min(p.room*setting.times, most))
					if a.work == nil {
						return 0
					}
					return least(3, a.work)
				})
				a := p.make(g, p.room*setting.times)
				small, same := oneCheck(b, k, 900), oneCheck(b, k, a.size)
				var checks, sameChecks []float64
				for range 15 {
					w := least(3, a.work)
					checks = append(checks, w/least(3, small))
					sameChecks = append(sameChecks, w/least(3, same))
				}
				slices.Sort(checks)
				slices.Sort(sameChecks)
				for b.Loop() {
					a.work()
				}
				b.ReportMetric(checks[len(checks)/2], "checks")
				b.ReportMetric(sameChecks[len(checks)/2], "checks/size")
				b.Logf("%d bytes: %v", a.size, g)
			})
		}
	}
}
