package clip_test

import (
	"strings"
	"testing"

	"example.com/bearer/internal/clip"
)

func TestString(t *testing.T) {
	for _, tt := range []struct{ s, want string }{
		{"", ""},
		{"plain, with ünïcode", "plain, with ünïcode"},
		{"a\nb\x1b[31m\u2028c\u202ed", "a\ufffdb\ufffd[31m\ufffdc\ufffdd"},
		{strings.Repeat("x", 200), strings.Repeat("x", clip.Most)},
		{strings.Repeat("x", clip.Most-1) + "ü", strings.Repeat("x", clip.Most-1) + "\ufffd"},
	} {
		if got := clip.String(tt.s); got != tt.want {
			t.Errorf("String(%q) = %q, want %q", tt.s, got, tt.want)
		}
	}
}
