package dpop

import (
	"encoding/binary"
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

// number makes a hash of a number.
func number(n uint64) (h [16]byte) {
	binary.LittleEndian.PutUint64(h[:], n)
	return h
}

// owner makes a key's name of a number.
func owner(n uint64) string {
	h := number(n)
	return string(h[:])
}

var birth = time.Unix(1800000000, 0)

func TestMemory(t *testing.T) {
	m := newMemory(10 * time.Second)
	for _, tt := range []struct {
		name   string
		at     float64 // seconds
		number uint64
		ttl    time.Duration
		want   bool
	}{
		{"new", 0, 1, 2 * time.Second, true},
		{"again", 0, 1, 2 * time.Second, false},
		{"another", 0, 2, 10 * time.Second, true},
		{"in its last moment", 2, 1, 2 * time.Second, false},
		{"in the same second", 2.9, 1, 2 * time.Second, false},
		{"over", 3, 1, 10 * time.Second, true},
		{"the other one", 3, 2, 10 * time.Second, false},
		{"the first again, longer", 12.9, 1, 10 * time.Second, false},
		{"long", 13, 4, 10 * time.Second, true},
		{"short", 13, 5, time.Second, true},
		{"long, when short is over", 20, 4, time.Second, false},
		{"the clock was set back", 1, 3, 2 * time.Second, true},
		{"again after the clock was set back", 1, 3, 2 * time.Second, false},
		{"much later", 1000, 1, 10 * time.Second, true},
		{"much later again", 1000, 1, 10 * time.Second, false},
		{"much later, others", 1009, 2, 10 * time.Second, true},
		{"much later, and again", 1010, 1, 10 * time.Second, false},
		{"much later, over", 1011, 1, 10 * time.Second, true},
	} {
		now := birth.Add(time.Duration(tt.at * float64(time.Second)))
		if got, err := m.add(number(tt.number), "a", tt.ttl, now); got != tt.want || err != nil {
			t.Errorf("%s: got %v, %v, want %v", tt.name, got, err, tt.want)
		}
	}
}

// At 2,900 proofs a second each proof is known while it is good, places are used
// again, and the memory stays within its bounds: for six minutes and long after.
func TestMemorySustained(t *testing.T) {
	const rate = 2900
	// Six minutes, and a second for rounding.
	life := 6 * 60
	before := heap()
	m := newMemory(7 * time.Minute)
	owners := make([]string, 1000)
	for i := range owners {
		owners[i] = owner(uint64(i))
	}
	n := uint64(0)
	for second := range life + 240 {
		now := birth.Add(time.Duration(second) * time.Second)
		for range rate {
			n++
			if fresh, err := m.add(number(n), owners[n%1000], 6*time.Minute, now); !fresh || err != nil {
				t.Fatalf("proof %d in second %d: got %v, %v, want it to be new", n, second, fresh, err)
			}
		}
		for _, age := range []int{0, 1, 100, life} {
			if age > second {
				continue
			}
			if fresh, err := m.add(number(n-uint64(age)*rate), "b", time.Minute, now); fresh || err != nil {
				t.Fatalf("a proof of %d s ago in second %d: got %v, %v, want it to be known", age, second, fresh, err)
			}
		}
	}
	if used := heap() - before; used > 64<<20 {
		t.Errorf("the memory takes %d MiB, want 64 at most", used>>20)
	}
	if m.made > memoryPlaces || m.count > memoryPlaces {
		t.Errorf("%d places for %d proofs, want %d at most", m.made, m.count, memoryPlaces)
	}
	// When nothing is good any more all of it is given back.
	if _, err := m.add(number(0), "a", time.Minute, birth.Add(time.Hour)); err != nil {
		t.Error(err)
	}
	checkCounts(t, m)
	if used := heap() - before; used > 1<<20 {
		t.Errorf("an empty memory takes %d KiB, want 1024 at most", used>>10)
	}
	runtime.KeepAlive(m)
}

func heap() int64 {
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return int64(s.HeapAlloc)
}

// A full memory forgets nothing that is still good, and says so.
func TestMemoryFull(t *testing.T) {
	m := newMemory(10 * time.Second)
	add := func(n uint64, owner string, at time.Duration) (bool, error) {
		return m.add(number(n), owner, 5*time.Second, birth.Add(at))
	}
	for n := range uint64(memoryPlaces) {
		if fresh, err := add(n, owner(n%64), 0); !fresh || err != nil {
			t.Fatalf("proof %d: got %v, %v, want it to be new", n, fresh, err)
		}
	}
	for _, tt := range []struct {
		name   string
		number uint64
		at     time.Duration
		fresh  bool
		err    error
	}{
		{"one more", memoryPlaces, 0, false, errMemoryFull},
		{"the first", 0, 0, false, nil},
		{"the last", memoryPlaces - 1, 0, false, nil},
		{"one more, when the others are nearly over", memoryPlaces, 5 * time.Second, false, errMemoryFull},
		{"the first, when it is nearly over", 0, 5 * time.Second, false, nil},
		{"one more, when they are over", memoryPlaces, 6 * time.Second, true, nil},
		{"it again", memoryPlaces, 6 * time.Second, false, nil},
		{"the first, when it is over", 0, 6 * time.Second, true, nil},
	} {
		if fresh, err := add(tt.number, "another", tt.at); fresh != tt.fresh || err != tt.err {
			t.Errorf("%s: got %v, %v, want %v, %v", tt.name, fresh, err, tt.fresh, tt.err)
		}
	}
}

// One key cannot take all places, and it alone is refused.
func TestMemoryShare(t *testing.T) {
	m := newMemory(10 * time.Second)
	add := func(n uint64, owner string, at time.Duration) (bool, error) {
		return m.add(number(n), owner, 5*time.Second, birth.Add(at))
	}
	for n := range uint64(memoryPlaces / 16) {
		if fresh, err := add(n, "greedy", time.Duration(n%2)*time.Second); !fresh || err != nil {
			t.Fatalf("proof %d: got %v, %v, want it to be new", n, fresh, err)
		}
	}
	for _, tt := range []struct {
		name, owner string
		number      uint64
		at          time.Duration
		fresh       bool
		err         error
	}{
		{"one more", "greedy", 1 << 40, time.Second, false, errOwnerFull},
		{"one that is known", "greedy", 7, time.Second, false, nil},
		{"another key", "modest", 1<<40 + 1, time.Second, true, nil},
		{"one more, when half of them are over", "greedy", 1 << 40, 6 * time.Second, true, nil},
	} {
		if fresh, err := add(tt.number, tt.owner, tt.at); fresh != tt.fresh || err != tt.err {
			t.Errorf("%s: got %v, %v, want %v, %v", tt.name, fresh, err, tt.fresh, tt.err)
		}
	}
}

// A memory that had much to forget, and then sees little, still knows what it must.
func TestMemoryBacklog(t *testing.T) {
	m := newMemory(10 * time.Second)
	for n := range uint64(10000) {
		if _, err := m.add(number(n), owner(n), time.Second, birth); err != nil {
			t.Fatal(err)
		}
	}
	for i := range uint64(100) {
		now := birth.Add(time.Duration(i) * 5 * time.Second)
		if fresh, err := m.add(number(1<<40+i), "a", 10*time.Second, now); !fresh || err != nil {
			t.Fatalf("proof %d: got %v, %v, want it to be new", i, fresh, err)
		}
		if i == 1 {
			// It is over, but was not forgotten yet.
			if fresh, err := m.add(number(0), "a", time.Second, now); !fresh || err != nil {
				t.Fatalf("a proof that is over: got %v, %v, want it to be new", fresh, err)
			}
		}
		for age := range min(i, 2) + 1 {
			if fresh, err := m.add(number(1<<40+i-age), "a", 10*time.Second, now); fresh || err != nil {
				t.Fatalf("proof %d, %d steps before: got %v, %v, want it to be known", i, age, fresh, err)
			}
		}
	}
	checkCounts(t, m)
}

// A clock that is set back by an hour does not fill the memory.
func TestMemoryClockSetBack(t *testing.T) {
	m := newMemory(10 * time.Second)
	add := func(n uint64, at time.Duration) bool {
		fresh, err := m.add(number(n), "a", 5*time.Second, birth.Add(at))
		if err != nil {
			t.Fatal(err)
		}
		return fresh
	}
	add(1, time.Hour)
	for i := range uint64(3000) {
		if at := time.Duration(i) * time.Second / 10; !add(10+i, at) || add(10+i, at) {
			t.Fatalf("proof %d is not new, or not known", i)
		}
	}
	if m.count > 100 {
		t.Errorf("%d proofs are there, want those of 6 s", m.count)
	}
	if add(1, time.Hour) {
		t.Error("the proof from before is forgotten")
	}
	checkCounts(t, m)
}

// checkCounts looks whether the keys' counts are those of the proofs that are there.
func checkCounts(t *testing.T, m *memory) {
	t.Helper()
	for i := range m.owners {
		sum := uint32(0)
		for _, n := range m.owners[i] {
			sum += n
		}
		if sum != m.count {
			t.Errorf("the keys have %d proofs by hash %d, want %d", sum, i, m.count)
		}
	}
}

// BenchmarkMemory is one proof more in a memory at 2,900 proofs a second, which is nearly
// full with a million of them: each takes the place of one that is over. It also tells what
// memory all of them take and how long a whole cycle of the garbage collector is.
func BenchmarkMemory(b *testing.B) {
	before := heap()
	m := newMemory(7 * time.Minute)
	var n atomic.Uint64
	add := func() {
		i := n.Add(1)
		if fresh, err := m.add(number(i), owner(i%1000), 6*time.Minute, birth.Add(time.Duration(i)*time.Second/2900)); !fresh || err != nil {
			b.Errorf("got %v, %v", fresh, err)
		}
	}
	for range 361 * 2900 {
		add()
	}
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			add()
		}
	})
	b.StopTimer()
	b.ReportMetric(float64(m.count), "proofs")
	b.ReportMetric(float64(heap()-before)/(1<<20), "MiB")
	least := time.Hour // on a busy machine the others tell of its other work
	for range 20 {
		start := time.Now()
		runtime.GC()
		least = min(least, time.Since(start))
	}
	b.ReportMetric(float64(least.Microseconds())/1000, "least-gc-ms")
	runtime.KeepAlive(m)
}
