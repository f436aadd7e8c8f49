package clip_test

import (
	"strings"
	"testing"

	"example.com/bearer/internal/clip"
)

func TestDifference(t *testing.T) {
	for _, tt := range []struct{ a, b, want string }{
		{"https://a.example.com", "https://a.example.com/", "slash"},
		{"https://A.example.com", "https://a.example.com", "letter case"},
		{"http://a.example.com", "https://a.example.com", "one character only, number 5"},
		{"https://a.example.com/realms/a", "https://a.example.com/realms/b", "one character only, number 30"},
		{"https://a.example.com/realms/a", "https://a.example.com/realm/a", "one character only, number 28"},
		{"aab", "ab", "one character only, number 2"},
		{"https://a.example.com//", "https://a.example.com", ""},
		{"https://a.example.com/ab", "https://a.example.com/ba", ""},
		{"https://a.example.com", "https://a.example.com", ""},
		{"https://evil.example.com", "https://a.example.com", ""},
		{"", "/", ""},
		{"a", "b", ""},
		{"", "", ""},
	} {
		for range 2 {
			got := clip.Difference(tt.a, tt.b)
			if (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
				t.Errorf("Difference(%q, %q) = %q, want %q in it", tt.a, tt.b, got, tt.want)
			}
			tt.a, tt.b = tt.b, tt.a
		}
	}
}
