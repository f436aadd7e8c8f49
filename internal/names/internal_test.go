package names

import (
	"fmt"
	"testing"
)

// However many names a stranger has made alike to the filter, not many are compared with
// one another.
func TestCompared(t *testing.T) {
	for size := 1; size < 60; size++ {
		var s Stack
		for range 1000 / size {
			set := s.Inner()
			for i := range size {
				if !s.Add(&set, fmt.Appendf(nil, "a%03dz", i)) {
					t.Fatalf("sets of %d: the %dth name is not new", size, i)
				}
			}
			s.Leave(&set)
		}
		if most := maxCompared + len(s.few); s.compared > most {
			t.Errorf("sets of %d: %d names compared, want %d at most", size, s.compared, most)
		}
	}
}
