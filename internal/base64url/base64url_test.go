package base64url_test

import (
	"bytes"
	"encoding/base64"
	"strings"
	"testing"

	"example.com/bearer/internal/base64url"
)

// reference is the standard library's decoder, less the line breaks that it
// skips.
func reference(src string) ([]byte, bool) {
	out, err := base64.RawURLEncoding.Strict().DecodeString(src)
	return out, err == nil && !strings.ContainsAny(src, "\r\n")
}

// check decodes src into what it needs and spare bytes more.
func check(t *testing.T, src string, spare int) {
	t.Helper()
	want, wantOK := reference(src)
	size := base64.RawURLEncoding.DecodedLen(len(src))
	const guard = 0xa5
	room := bytes.Repeat([]byte{guard}, size+spare+1)
	n, ok := base64url.Decode(room[:size+spare], src)
	if ok != wantOK {
		t.Fatalf("%q: ok = %v, want %v", src, ok, wantOK)
	}
	if room[size+spare] != guard {
		t.Fatalf("%q: wrote beyond the room it was given", src)
	}
	if ok && !bytes.Equal(room[:n], want) {
		t.Fatalf("%q: got %x, want %x", src, room[:n], want)
	}
}

// Every byte at every place of a text that is otherwise good, at each length.
func TestDecode(t *testing.T) {
	for n := range 35 {
		for spare := range 9 {
			check(t, base64.RawURLEncoding.EncodeToString(bytes.Repeat([]byte{0xfb, 0x00, 0x5f, 0xff}, 9)[:n]), spare)
		}
	}
	for n := range 36 { // two rounds of the long loop, and a rest
		good := []byte(strings.Repeat("-_Az09aZ", 5)[:n])
		if n%4 > 1 {
			good[n-1] = 'w' // its unused bits are zero
		}
		for i := range good {
			for j := range i { // two that are invalid do not make up for each other
				src := bytes.Clone(good)
				src[i], src[j] = '=', '+'
				check(t, string(src), 8)
				check(t, string(src), 0)
			}
			for c := range 256 {
				src := bytes.Clone(good)
				src[i] = byte(c)
				check(t, string(src), 8)
				check(t, string(src), 0)
			}
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, src := range []string{"", "A", "AA", "AB", "AAA", "AAB", "AAAA", "AAAA\n", "_-8", "_-9", "AA==", "AA+/", "AAAAAAAAA", strings.Repeat("A0b_", 9) + "\r\nAA"} {
		f.Add(src, 0)
	}
	f.Fuzz(func(t *testing.T, src string, spare int) {
		check(t, src, spare&15)
	})
}

func BenchmarkDecode(b *testing.B) {
	src := base64.RawURLEncoding.EncodeToString(bytes.Repeat([]byte("a token's payload "), 50))
	dst := make([]byte, len(src))
	std := base64.RawURLEncoding.Strict()
	b.Run("base64url", func(b *testing.B) {
		b.SetBytes(int64(len(src)))
		for b.Loop() {
			base64url.Decode(dst, src)
		}
	})
	b.Run("encoding/base64", func(b *testing.B) {
		b.SetBytes(int64(len(src)))
		text := []byte(src)
		for b.Loop() {
			std.Decode(dst, text)
		}
	})
}
