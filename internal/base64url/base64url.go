// Package base64url decodes base64url as RFC 7515, section 2, has it: without
// padding, without line breaks, and with the unused bits of the last character
// zero. So what it accepts has no other encoding.
//
// The standard library's decoder skips line breaks even when it is strict, and takes 1.7
// times as long, 0.6 µs in place of 0.35 for a payload of 900 bytes (BenchmarkDecode).
package base64url

import "encoding/binary"

const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

// invalid marks what is not in the alphabet. It is no bit of any value.
const invalid = 1 << 31

// values are the characters' values at each of the four places of a group, so
// that a group's 24 bits are the union of four of them.
var values = func() (v [4][256]uint32) {
	for place := range v {
		for c := range v[place] {
			v[place][c] = invalid
		}
		for value, c := range []byte(alphabet) {
			v[place][c] = uint32(value) << (18 - 6*place)
		}
	}
	return v
}()

// Decode decodes src into dst, which must have room for it, and returns how
// many bytes that is. It reports false, and dst holds nothing of use, if src is
// not what those bytes are encoded as. Bytes of dst behind them may be
// overwritten.
func Decode(dst []byte, src string) (n int, ok bool) {
	v := &values
	seen := uint32(0)
	// Two groups at a time, as long as there is room to write their 6 bytes as
	// 8. What follows begins at the seventh.
	for len(src) >= 8 && len(dst)-n >= 8 {
		a := v[0][src[0]] | v[1][src[1]] | v[2][src[2]] | v[3][src[3]]
		b := v[0][src[4]] | v[1][src[5]] | v[2][src[6]] | v[3][src[7]]
		binary.BigEndian.PutUint64(dst[n:], uint64(a)<<40|uint64(b)<<16)
		seen |= a | b
		src = src[8:]
		n += 6
	}
	for ; len(src) >= 4; src = src[4:] {
		a := v[0][src[0]] | v[1][src[1]] | v[2][src[2]] | v[3][src[3]]
		dst[n], dst[n+1], dst[n+2] = byte(a>>16), byte(a>>8), byte(a)
		seen |= a
		n += 3
	}
	unused := uint32(0)
	switch len(src) {
	case 1:
		return 0, false // six bits are no byte
	case 2:
		a := v[0][src[0]] | v[1][src[1]]
		dst[n] = byte(a >> 16)
		seen, unused = seen|a, a&0xffff
		n++
	case 3:
		a := v[0][src[0]] | v[1][src[1]] | v[2][src[2]]
		dst[n], dst[n+1] = byte(a>>16), byte(a>>8)
		seen, unused = seen|a, a&0xff
		n += 2
	}
	return n, seen&invalid == 0 && unused == 0
}
