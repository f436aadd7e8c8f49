package strictjson

import (
	"math/bits"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// str reads a string, quotes included.
func (s *scanner) str(i int) int {
	s.escaped = false
	if !s.at(i, '"') {
		return s.fail(ErrSyntax)
	}
	i++
	t, start := s.text, i
	high := uint64(0) // has the high bits of bytes that are not ASCII
	for {
		// Most of a document is the inside of strings, so it is looked at
		// eight bytes at a time.
		if len(t)-i >= 8 {
			w := load(t[i:])
			high |= w
			special := specials(w)
			if special == 0 {
				i += 8
				continue
			}
			i += bits.TrailingZeros64(special) / 8
		}
		if i >= len(t) {
			return s.fail(ErrSyntax)
		}
		switch c := t[i]; {
		case c == '"':
			if high&highs != 0 && !s.loose && !utf8.ValidString(t[start:i]) {
				return s.fail(ErrUnicode)
			}
			return i + 1
		case c == '\\':
			s.escaped = true
			n := s.escape(t[i:])
			if n == failed {
				return failed
			}
			i += n
		case c < ' ':
			return s.fail(ErrSyntax)
		default: // close to the end of the text
			high |= uint64(c)
			i++
		}
	}
}

// load returns the first eight bytes of t, the first of them lowest.
func load(t string) uint64 {
	_ = t[7]
	return uint64(t[0]) | uint64(t[1])<<8 | uint64(t[2])<<16 | uint64(t[3])<<24 |
		uint64(t[4])<<32 | uint64(t[5])<<40 | uint64(t[6])<<48 | uint64(t[7])<<56
}

// Every byte's lowest and highest bit.
const ones, highs = 0x0101010101010101, 0x8080808080808080

// specials looks for quotes, backslashes and control characters among the eight
// bytes of w. The lowest bit that is set in its result is the highest of the
// byte that is the first of them; above that bit there may be false ones.
func specials(w uint64) uint64 {
	// Of a byte below 0x80, x-ones sets the high bit where x is zero, and
	// w-ones*c where w is less than c. It borrows from the bytes above only
	// there, too.
	quote, backslash, control := (w^ones*'"')-ones, (w^ones*'\\')-ones, w-ones*' '
	return (quote | backslash | control) &^ w & highs
}

// escape checks the escape sequence at the start of t and returns its length,
// or failed. A surrogate counts together with its other half, and is refused
// alone: readers disagree on what it means.
func (s *scanner) escape(t string) int {
	if len(t) < 2 {
		return s.fail(ErrSyntax)
	}
	switch t[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	}
	r, ok := hex4(t)
	if !ok {
		return s.fail(ErrSyntax)
	}
	if !utf16.IsSurrogate(r) {
		return 6
	}
	if low, _ := hex4(t[6:]); utf16.DecodeRune(r, low) != utf8.RuneError {
		return 12
	}
	if !s.loose {
		return s.fail(ErrUnicode)
	}
	return 6
}

// hex4 reads the \uXXXX at the start of t. The rune is zero if there is none.
func hex4(t string) (r rune, ok bool) {
	if len(t) < 6 || t[0] != '\\' || t[1] != 'u' {
		return 0, false
	}
	for _, c := range []byte(t[2:6]) {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// unescape returns what q, the inside of a valid string, stands for.
func unescape(q string) string {
	b := make([]byte, 0, len(q))
	for i := strings.IndexByte(q, '\\'); i >= 0; i = strings.IndexByte(q, '\\') {
		b = append(b, q[:i]...)
		q = q[i:]
		n := 2
		switch c := q[1]; c {
		case 'b':
			b = append(b, '\b')
		case 'f':
			b = append(b, '\f')
		case 'n':
			b = append(b, '\n')
		case 'r':
			b = append(b, '\r')
		case 't':
			b = append(b, '\t')
		case 'u':
			n = 6
			r, _ := hex4(q)
			if low, _ := hex4(q[6:]); utf16.DecodeRune(r, low) != utf8.RuneError {
				n = 12
				r = utf16.DecodeRune(r, low)
			}
			b = utf8.AppendRune(b, r)
		default:
			b = append(b, c)
		}
		q = q[n:]
	}
	return string(append(b, q...))
}
