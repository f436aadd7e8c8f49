package bearer_test

import (
	"runtime"
	"slices"
	"strings"
	"testing"
)

// allocated returns how many bytes f allocates, the least of so many times: what a pool
// has lost is not f's.
func allocated(times int, f func()) uint64 {
	least := ^uint64(0)
	for range times {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		f()
		runtime.ReadMemStats(&after)
		least = min(least, after.TotalAlloc-before.TotalAlloc)
	}
	return least
}

// Whatever a stranger has read, found by search and not by thinking alone: it is refused
// for what is wrong with it before anybody computes with a key, and takes hardly more
// memory than three times its own size. BenchmarkWorst measures the time.
func TestWorst(t *testing.T) {
	for _, p := range places(t, quiet) {
		if p.trusted {
			continue
		}
		t.Run(p.name, func(t *testing.T) {
			var worst uint64
			g := search(30, []int{1 << 10}, func(g genome) float64 {
				a := p.make(g, p.room)
				if a.work == nil {
					return 0
				}
				if got := a.reason(); !slices.Contains(strings.Fields(p.reasons), got) {
					t.Errorf("%v: refused as %q, want one of %s", g, got, p.reasons)
				}
				n, most := allocated(2, a.work), uint64(3*a.size+12<<10)
				if n > most {
					n = allocated(20, a.work)
				}
				if n > most {
					t.Errorf("%v: %d bytes of memory for %d, want %d at most", g, n, a.size, most)
				}
				worst = max(worst, n)
				return float64(n)
			})
			t.Logf("%d bytes of memory at most: %v", worst, g)
		})
	}
}
