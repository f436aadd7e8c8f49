package clip

import (
	"fmt"
	"strings"
)

// BySlash is what Difference says most often.
const BySlash = "the two differ by the slash at the end only"

// Difference says how two texts differ that should be the same, if it is a little
// thing that is easily overlooked. Else it returns "".
func Difference(a, b string) string {
	if len(a) > len(b) {
		a, b = b, a
	}
	switch {
	case a == b || len(b) < 2:
		return ""
	case a+"/" == b:
		return BySlash
	case strings.EqualFold(a, b):
		return "the two differ by letter case only"
	case len(b)-len(a) > 1:
		return ""
	}
	// What is left when the common beginning and the common end are taken away.
	i := 0
	for i < len(a) && a[i] == b[i] {
		i++
	}
	j := 0
	for j < len(a)-i && a[len(a)-1-j] == b[len(b)-1-j] {
		j++
	}
	if len(b)-i-j > 1 {
		return ""
	}
	return fmt.Sprintf("the two differ by one character only, number %d", i+1)
}
