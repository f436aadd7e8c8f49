// Package strictjson reads JSON objects that a stranger may have written.
//
// It refuses what lenient readers let through and what has let forged tokens
// pass elsewhere: a member that stands twice in one object, names that differ
// from the wanted one by letter case, text that is not Unicode (RFC 8259,
// section 8), nesting deeper than [MaxDepth], and anything behind the value.
// It works in one pass over a string and allocates only for escaped strings and
// for objects of many members.
package strictjson

import (
	"errors"
	"iter"
	"math/bits"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"example.com/bearer/internal/names"
)

// MaxDepth is how deep objects and arrays may be nested. The outermost object
// counts as one.
const MaxDepth = 32

// looseDepth keeps the recursion within bounds where MaxDepth does not apply.
const looseDepth = 1000

// The reasons for refusing a text. None of them repeats any of it.
var (
	ErrSyntax    = errors.New("not a JSON object")
	ErrDuplicate = errors.New("a member stands twice")
	ErrDepth     = errors.New("nested too deep")
	ErrUnicode   = errors.New("not valid Unicode")
	ErrMembers   = errors.New("of too many members")
)

// An Object steps through the members of the JSON object that is the whole of
// Text. It must be read until Next returns false: only then has all of the text
// been checked.
//
//	o := strictjson.Object{Text: text}
//	for o.Next() {
//		switch o.Name { … }
//	}
//	if err := o.Err(); err != nil { … }
type Object struct {
	Text string

	// LooseBelow checks no more than the grammar of what is inside of this
	// object's members. It is for documents whose inner objects the caller
	// reads one by one, each as an Object of its own, and judges by themselves.
	LooseBelow bool

	// MaxMembers is how many members there may be, inner objects included. Zero
	// means any number.
	MaxMembers int

	// Name is the current member's name without quotes and escapes, Value its
	// value. Both are set by Next.
	Name  string
	Value Value

	scanner scanner
	seen    names.Set
	at      int // behind the current member; failed when there are no more
}

// Next goes to the next member. It returns false at the end of the object and
// when the text is refused.
func (o *Object) Next() bool {
	if o.at == failed {
		return false
	}
	s, i, first := &o.scanner, o.at, o.at == 0
	o.at = failed
	if first {
		*s = scanner{text: o.Text, loose: o.LooseBelow, most: o.MaxMembers}
		if i = s.space(0); !s.at(i, '{') {
			s.fail(ErrSyntax)
			return false
		}
		i++
	}
	i, more := s.next(i, '}', first)
	switch {
	case i == failed:
		return false
	case !more:
		if s.space(i) != len(s.text) {
			s.fail(ErrSyntax)
		}
		return false
	}
	if o.Name, i = s.name(i, 1, &o.seen); i == failed {
		return false
	}
	start := i
	if i = s.value(i, 1); i == failed {
		return false
	}
	o.Value, o.at = Value(s.text[start:i]), i
	return true
}

// Err returns why the text was refused, or nil.
func (o *Object) Err() error { return o.scanner.err }

// A Value is the text of one valid JSON value, as an [Object] or
// [Value.Elements] handed it out.
type Value string

// Kind returns the first byte of the value, which tells its type: one of
// { [ " t f n, the minus sign, or a digit.
func (v Value) Kind() byte { return v[0] }

// Text returns the string that the value is. It reports false for a value of
// another type.
func (v Value) Text() (string, bool) {
	if v[0] != '"' {
		return "", false
	}
	text := string(v[1 : len(v)-1])
	if strings.IndexByte(text, '\\') >= 0 {
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
		s := scanner{text: string(v), loose: true}
		i, more := s.next(1, ']', true)
		for more {
			start := i
			if i = s.value(i, 1); !yield(v[start:i]) {
				return
			}
			i, more = s.next(i, ']', false)
		}
	}
}

// IsAbsent reports whether the value is null or an empty array, which some
// writers put where they mean that there is no value.
func (v Value) IsAbsent() bool {
	if v[0] == 'n' {
		return true
	}
	for range v.Elements() {
		return false
	}
	return v[0] == '['
}

// A scanner checks the grammar of RFC 8259 in text. Its methods read something
// that begins at i and return where it ends, or failed. What is wrong then is in
// err, and none of them may be called again.
type scanner struct {
	text    string
	loose   bool // below depth 1, only the grammar counts
	escaped bool // the last string has escapes
	err     error

	members, most int // seen so far, and allowed; any number if most is 0
}

const failed = -1

func (s *scanner) fail(err error) int {
	s.err = err
	return failed
}

// at reports whether c stands at i.
func (s *scanner) at(i int, c byte) bool { return i < len(s.text) && s.text[i] == c }

// space skips white space.
func (s *scanner) space(i int) int {
	for i < len(s.text) && s.text[i] <= ' ' {
		switch s.text[i] {
		case ' ', '\t', '\n', '\r':
			i++
		default:
			return i
		}
	}
	return i
}

// next goes to the next member or element, the first or one behind a comma, and
// reports whether there is one. end closes the object or array.
func (s *scanner) next(i int, end byte, first bool) (int, bool) {
	i = s.space(i)
	if s.at(i, end) {
		return i + 1, false
	}
	if !first {
		if !s.at(i, ',') {
			return s.fail(ErrSyntax), false
		}
		i = s.space(i + 1)
	}
	return i, true
}

// name reads the name of a member of an object at depth, and returns it and where
// its value begins.
func (s *scanner) name(i, depth int, seen *names.Set) (string, int) {
	if s.members++; s.members > s.most && s.most > 0 {
		return "", s.fail(ErrMembers)
	}
	start := i
	if i = s.str(i); i == failed {
		return "", failed
	}
	name := s.text[start+1 : i-1]
	if s.escaped {
		name = unescape(name)
	}
	if (depth == 1 || !s.loose) && !seen.Add(name) {
		return "", s.fail(ErrDuplicate)
	}
	if i = s.space(i); !s.at(i, ':') {
		return "", s.fail(ErrSyntax)
	}
	return name, s.space(i + 1)
}

// value reads any value. depth is that of the object or array it stands in.
func (s *scanner) value(i, depth int) int {
	if i >= len(s.text) {
		return s.fail(ErrSyntax)
	}
	switch c := s.text[i]; c {
	case '"':
		return s.str(i)
	case '{', '[':
		if depth == MaxDepth && !s.loose || depth == looseDepth {
			return s.fail(ErrDepth)
		}
		if c == '{' {
			return s.object(i+1, depth+1)
		}
		i, more := s.next(i+1, ']', true)
		for more {
			if i = s.value(i, depth+1); i == failed {
				return failed
			}
			i, more = s.next(i, ']', false)
		}
		return i
	case 't':
		return s.literal(i, "true")
	case 'f':
		return s.literal(i, "false")
	case 'n':
		return s.literal(i, "null")
	default:
		return s.number(i)
	}
}

// object reads the members of an inner object. It is not part of value, so that
// only objects pay for a set of names.
func (s *scanner) object(i, depth int) int {
	var seen names.Set
	i, more := s.next(i, '}', true)
	for more {
		if _, i = s.name(i, depth, &seen); i == failed {
			return failed
		}
		if i = s.value(i, depth); i == failed {
			return failed
		}
		i, more = s.next(i, '}', false)
	}
	return i
}

func (s *scanner) literal(i int, want string) int {
	if !strings.HasPrefix(s.text[i:], want) {
		return s.fail(ErrSyntax)
	}
	return i + len(want)
}

func (s *scanner) number(i int) int {
	if s.at(i, '-') {
		i++
	}
	if s.at(i, '0') { // no digit follows a leading zero
		i++
	} else if i = s.digits(i); i == failed {
		return failed
	}
	if s.at(i, '.') {
		if i = s.digits(i + 1); i == failed {
			return failed
		}
	}
	if s.at(i, 'e') || s.at(i, 'E') {
		i++
		if s.at(i, '+') || s.at(i, '-') {
			i++
		}
		return s.digits(i)
	}
	return i
}

func (s *scanner) digits(i int) int {
	start := i
	for i < len(s.text) && '0' <= s.text[i] && s.text[i] <= '9' {
		i++
	}
	if i == start {
		return s.fail(ErrSyntax)
	}
	return i
}

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
