package strictjson

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf16"
	"unicode/utf8"
)

// str reads a string, quotes included.
func (s *scanner) str(i int) int {
	if !s.at(i, '"') {
		return s.fail(ErrSyntax)
	}
	t := s.text
	end, high := plain(t, i+1)
	if high == 0 && uint(end) < uint(len(t)) && t[end] == '"' {
		return end + 1 // nearly always
	}
	return s.rest(i+1, end, high)
}

// rest reads on in the string whose inside begins at start, from i, where plain has stopped.
func (s *scanner) rest(start, i int, high uint64) int {
	for t := s.text; uint(i) < uint(len(t)); {
		switch c := t[i]; {
		case c == '"':
			if high != 0 && !s.loose && !utf8.Valid(t[start:i]) {
				return s.fail(ErrUnicode)
			}
			return i + 1
		case c == '\\':
			if i = s.escapes(i); i == failed {
				return failed
			}
		case c < ' ':
			return s.fail(ErrSyntax)
		default: // close to the end of the text
			high |= uint64(c) & highs
			i++
		}
		var more uint64
		i, more = plain(t, i)
		high |= more
	}
	return s.fail(ErrSyntax)
}

// Every byte's lowest and highest bit.
const ones, highs = 0x0101010101010101, 0x8080808080808080

// plain looks for the first quote, backslash or control character at or behind i, and
// stops short of the last seven bytes of t. Most of a document is the inside of strings,
// so it goes eight bytes at a time. high is 0 if all that it has passed is ASCII. It is
// just small enough for Go to inline.
func plain(t []byte, i int) (end int, high uint64) {
	for last := len(t) - 8; i <= last; i += 8 {
		w := binary.LittleEndian.Uint64(t[i : i+8])
		// Of a byte x below 0x80, x-n has the high bit if x is less than n, and borrows
		// from the byte above only then, too. So the lowest high bit is that of the first
		// such byte; above it there may be false ones. With bit 1 turned over, the quote
		// is 0x20, control characters are less, and all others more. Of a byte from 0x80
		// up, one of the two differences has the high bit.
		special := (((w ^ ones*2) - ones*0x21) | ((w ^ ones*'\\') - ones)) & highs
		if special == 0 {
			continue
		}
		high |= w // which may be all that there is
		if special &^= w; special != 0 {
			i += bits.TrailingZeros64(special) / 8
			break
		}
	}
	return i, high & highs
}

// escapes reads the escape sequence at i and those that follow it: where there is one,
// there are often more.
func (s *scanner) escapes(i int) int {
	s.escaped = true
	for t := s.text; s.at(i, '\\'); {
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
	return i
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
