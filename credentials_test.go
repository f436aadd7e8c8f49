package bearer

import (
	"strings"
	"testing"
)

// A character that no token68 has is found wherever it stands.
func TestIsToken68(t *testing.T) {
	const all = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/="
	if !isToken68("") || !isToken68(all) {
		t.Errorf("isToken68(%q) = %v, isToken68(%q) = %v; want true", "", isToken68(""), all, isToken68(all))
	}
	for c := range 256 {
		for place := range 20 {
			text := strings.Repeat("a", place) + string([]byte{byte(c)}) + strings.Repeat("a", 19-place)
			if got, want := isToken68(text), strings.IndexByte(all, byte(c)) >= 0; got != want {
				t.Errorf("isToken68(%q) = %v, want %v", text, got, want)
			}
		}
	}
}
