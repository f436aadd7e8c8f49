package names_test

import (
	"fmt"
	"slices"
	"testing"

	"example.com/bearer/internal/names"
)

// However many names there are, and wherever a name stands among them, it is
// new once.
func TestAdd(t *testing.T) {
	for _, format := range []string{"m%d", "%04d", "a%db"} {
		all := [][]byte{nil, []byte("\x00"), []byte("a"), []byte("b"), []byte("aa"), []byte("\xff")}
		for i := range 400 {
			all = append(all, fmt.Appendf(nil, format, i))
		}
		var s names.Stack
		var set names.Set
		for i, name := range all {
			if !s.Add(&set, name) {
				t.Fatalf("%q, the %dth name, is not new", name, i)
			}
			for _, seen := range all[:i+1] {
				if s.Add(&set, seen) {
					t.Fatalf("%q is new again after %d names", seen, i+1)
				}
			}
		}
	}
}

// So it is where none comes twice before the end, as nearly always.
func TestAddOnce(t *testing.T) {
	for n := range 200 {
		var s names.Stack
		var set names.Set
		for i := range n {
			if name := fmt.Append(nil, i); !s.Add(&set, name) {
				t.Fatalf("%q is not new among %d names", name, n)
			}
		}
		for i := range n {
			if name := fmt.Append(nil, i); s.Add(&set, name) {
				t.Fatalf("%q is new again among %d names", name, n)
			}
		}
		s.Release()
	}
}

// Names are new in each set, and what is done in inner ones changes nothing in those
// outside, however large they are.
func TestInner(t *testing.T) {
	for _, sizes := range [][]int{{1, 1, 1}, {20, 30, 1}, {39, 3, 39}, {3, 100, 2}, {100, 100, 100}, {1, 1, 300}} {
		var s names.Stack
		name := func(i int) []byte { return fmt.Appendf(nil, "a%03dz", i) } // alike to the filter
		var fill func(set *names.Set, sizes []int)
		fill = func(set *names.Set, sizes []int) {
			for i := range sizes[0] {
				if !s.Add(set, name(i)) {
					t.Fatalf("%v: %q is not new", sizes, name(i))
				}
				if s.Add(set, name(i/2)) {
					t.Fatalf("%v: %q is new again", sizes, name(i/2))
				}
				if i%7 == 0 && len(sizes) > 1 {
					inner := s.Inner()
					fill(&inner, sizes[1:])
					s.Leave(&inner)
				}
			}
		}
		for range 2 { // also when its memory was another's
			var all names.Set
			fill(&all, sizes)
			s.Release()
			s = names.Stack{}
		}
	}
}

func TestAllocs(t *testing.T) {
	var all [32][]byte
	for i := range all {
		all[i] = fmt.Append(nil, i)
	}
	if n := testing.AllocsPerRun(100, func() {
		var s names.Stack
		var set names.Set
		for _, name := range all {
			s.Add(&set, name)
		}
	}); n != 0 {
		t.Errorf("%v allocations for %d names, want none", n, len(all))
	}
}

// The set beside a plain map and a plain list, with the names of a token.
func BenchmarkSet(b *testing.B) {
	all := []string{"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "azp", "scope", "sid", "typ", "name", "email", "given_name", "family_name", "preferred_username"}
	b.Run("set", func(b *testing.B) {
		for b.Loop() {
			var s names.Stack
			var set names.Set
			for _, name := range all {
				s.Add(&set, []byte(name))
			}
		}
	})
	b.Run("map", func(b *testing.B) {
		for b.Loop() {
			s := make(map[string]bool)
			for _, name := range all {
				s[name] = true
			}
		}
	})
	b.Run("list", func(b *testing.B) {
		for b.Loop() {
			var few [32]string
			s := few[:0]
			for _, name := range all {
				if !slices.Contains(s, name) {
					s = append(s, name)
				}
			}
		}
	})
}
