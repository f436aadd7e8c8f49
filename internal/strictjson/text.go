package strictjson

import (
	"encoding/binary"
	"math/bits"
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
		if end := i + 8; end <= len(t) {
			w := binary.LittleEndian.Uint64(t[i:end])
			high |= w
			special := specials(w)
			if special == 0 {
				i = end
				continue
			}
			i += bits.TrailingZeros64(special) / 8
		}
		if i >= len(t) {
			return s.fail(ErrSyntax)
		}
		switch c := t[i]; {
		case c == '"':
			if high&highs != 0 && !s.loose && !utf8.Valid(t[start:i]) {
				return s.fail(ErrUnicode)
			}
			return i + 1
		case c == '\\':
			s.escaped = true
			// Where there is one, there are often more.
			for s.at(i, '\\') {
				if i+1 < len(t) && short[t[i+1]] != 0 {
					i += 2
					continue
				}
				n := s.escape(t[i:])
				if n == failed {
					return failed
				}
				i += n
			}
		case c < ' ':
			return s.fail(ErrSyntax)
		default: // close to the end of the text
			high |= uint64(c)
			i++
		}
	}
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

// short has what the escapes of two bytes stand for, by the second.
var short = [256]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

// escape checks the longer escape sequence at the start of t and returns its length,
// or failed. A surrogate counts together with its other half, and is refused
// alone: readers disagree on what it means.
func (s *scanner) escape(t []byte) int {
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

// noDigit is no hexadecimal digit's value, nor a part of any.
const noDigit = 0x80

// digits are the values of hexadecimal digits.
var digits = func() (d [256]byte) {
	for c := range d {
		d[c] = noDigit
	}
	for value, c := range []byte("0123456789abcdef") {
		d[c] = byte(value)
	}
	for value, c := range []byte("ABCDEF") {
		d[c] = byte(10 + value)
	}
	return d
}()

// hex4 reads the \uXXXX at the start of t. The rune is zero if there is none.
func hex4(t []byte) (r rune, ok bool) {
	if len(t) < 6 || t[0] != '\\' || t[1] != 'u' {
		return 0, false
	}
	a, b, c, d := digits[t[2]], digits[t[3]], digits[t[4]], digits[t[5]]
	if (a|b|c|d)&noDigit != 0 {
		return 0, false
	}
	return rune(a)<<12 | rune(b)<<8 | rune(c)<<4 | rune(d), true
}

// spells reports whether q, the inside of a valid string, stands for name, which is of
// ASCII letters.
func spells(q []byte, name string) bool {
	for _, letter := range name {
		if r, _ := hex4(q); r == letter {
			q = q[6:]
			continue
		}
		if len(q) == 0 || rune(q[0]) != letter {
			return false
		}
		q = q[1:]
	}
	return len(q) == 0
}

// unescape returns what q, the inside of a valid string, stands for. It goes byte by
// byte: to look for the next escape would take longer where there are many.
func unescape(q []byte) []byte {
	b, n := make([]byte, len(q)), 0
	for i := 0; i < len(q); {
		c := q[i]
		if c != '\\' {
			b[n] = c
			i, n = i+1, n+1
			continue
		}
		if c = short[q[i+1]]; c != 0 {
			b[n] = c
			i, n = i+2, n+1
			continue
		}
		r, _ := hex4(q[i:])
		i += 6
		if utf16.IsSurrogate(r) {
			low, _ := hex4(q[i:])
			if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
				i += 6
			}
		}
		n += utf8.EncodeRune(b[n:], r)
	}
	return b[:n]
}
