package strictjson

import (
	"bytes"
	"iter"
)

// A Value is the text of one valid JSON value, as an [Object] or
// [Value.Elements] handed it out: a part of the object's text.
type Value []byte

// Kind returns the first byte of the value, which tells its type: one of
// { [ " t f n, the minus sign, or a digit.
func (v Value) Kind() byte { return v[0] }

// Text returns the string that the value is. It reports false for a value of
// another type.
func (v Value) Text() (string, bool) {
	if v[0] != '"' {
		return "", false
	}
	text, _ := v.Bytes()
	return string(text), true
}

// Bytes is as Text. What it returns is a part of the object's text if that has no escapes.
func (v Value) Bytes() ([]byte, bool) {
	if v[0] != '"' {
		return nil, false
	}
	text := []byte(v[1 : len(v)-1])
	if bytes.IndexByte(text, '\\') >= 0 {
		text = unescape(text)
	}
	return text, true
}

// Elements returns the elements of an array, and none for a value of another
// type.
func (v Value) Elements() iter.Seq[Value] {
	return func(yield func(Value) bool) {
		if v[0] != '[' {
			return
		}
		// The text is known to be valid, duplicates in it were looked for.
		s := scanner{text: v, loose: true}
		i, c := s.space(1)
		for c != ']' {
			start := i
			if i = s.value(i, 1); !yield(v[start:i]) {
				return
			}
			if i, c = s.space(i); c == ',' {
				i, _ = s.space(i + 1)
			}
		}
	}
}

// IsAbsent reports whether the value is null or an empty array, which some
// writers put where they mean that there is no value.
func (v Value) IsAbsent() bool {
	if v[0] != '[' {
		return v[0] == 'n'
	}
	s := scanner{text: v}
	_, c := s.space(1)
	return c == ']'
}
