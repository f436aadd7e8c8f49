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
	"hash/maphash"
	"iter"
	"math/bits"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
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
	names   names
	began   bool
	done    bool
}

// Next goes to the next member. It returns false at the end of the object and
// when the text is refused.
func (o *Object) Next() bool {
	if o.done {
		return false
	}
	s := &o.scanner
	first := !o.began
	if first {
		o.began = true
		*s = scanner{text: o.Text, loose: o.LooseBelow, most: o.MaxMembers}
		// Checked for all of the text at once, so that the loops below need
		// not tell the bytes above 0x7f apart.
		if !o.LooseBelow && !utf8.ValidString(o.Text) {
			s.fail(ErrUnicode)
		} else if s.space(); !s.take('{') {
			s.fail(ErrSyntax)
		}
	}
	more := s.err == nil && s.next('}', first)
	if more {
		o.Name = s.name(1, &o.names)
		start := s.i
		s.value(1)
		if s.err == nil {
			o.Value = Value(s.text[start:s.i])
			return true
		}
	}
	if s.err == nil {
		if s.space(); s.i != len(s.text) {
			s.fail(ErrSyntax)
		}
	}
	o.done = true
	return false
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
		s := scanner{text: string(v), i: 1, loose: true}
		for first := true; s.next(']', first); first = false {
			start := s.i
			if s.value(1); s.err != nil || !yield(v[start:s.i]) {
				return
			}
		}
	}
}

// A scanner checks the grammar of RFC 8259 in text, from i on. The first thing
// that is wrong goes to err. Its methods may then leave i anywhere, and must not
// be called again.
type scanner struct {
	text    string
	i       int
	loose   bool // below depth 1, only the grammar counts
	escaped bool // the last string has escapes
	err     error

	members, most int // seen so far, and allowed; any number if most is 0
}

func (s *scanner) fail(err error) {
	if s.err == nil {
		s.err = err
	}
}

// space skips white space.
func (s *scanner) space() {
	for s.i < len(s.text) && s.text[s.i] <= ' ' {
		switch s.text[s.i] {
		case ' ', '\t', '\n', '\r':
			s.i++
		default:
			return
		}
	}
}

// take goes beyond c if it is there.
func (s *scanner) take(c byte) bool {
	if s.i < len(s.text) && s.text[s.i] == c {
		s.i++
		return true
	}
	return false
}

// next goes to the next member or element, the first or one behind a comma, and
// reports whether there is one. end closes the object or array.
func (s *scanner) next(end byte, first bool) bool {
	s.space()
	if s.take(end) {
		return false
	}
	if !first {
		if !s.take(',') {
			s.fail(ErrSyntax)
			return false
		}
		s.space()
	}
	return true
}

// name reads the name of a member of an object at depth and goes to its value.
func (s *scanner) name(depth int, seen *names) string {
	if s.members++; s.members > s.most && s.most > 0 {
		s.fail(ErrMembers)
		return ""
	}
	start := s.i
	s.str()
	if s.err != nil {
		return ""
	}
	name := s.text[start+1 : s.i-1]
	if s.escaped {
		name = unescape(name)
	}
	if (depth == 1 || !s.loose) && !seen.add(name) {
		s.fail(ErrDuplicate)
		return ""
	}
	if s.space(); !s.take(':') {
		s.fail(ErrSyntax)
		return ""
	}
	s.space()
	return name
}

// value reads any value. depth is that of the object or array it stands in.
func (s *scanner) value(depth int) {
	if s.err != nil {
		return
	}
	if s.i == len(s.text) {
		s.fail(ErrSyntax)
		return
	}
	switch s.text[s.i] {
	case '"':
		s.str()
	case '{', '[':
		if depth == MaxDepth && !s.loose || depth == looseDepth {
			s.fail(ErrDepth)
			return
		}
		if s.take('{') {
			s.object(depth + 1)
			return
		}
		s.i++
		for first := true; s.err == nil && s.next(']', first); first = false {
			s.value(depth + 1)
		}
	case 't':
		s.literal("true")
	case 'f':
		s.literal("false")
	case 'n':
		s.literal("null")
	default:
		s.number()
	}
}

// object reads the members of an inner object. It is not part of value, so that
// only objects pay for a set of names.
func (s *scanner) object(depth int) {
	var seen names
	for first := true; s.err == nil && s.next('}', first); first = false {
		s.name(depth, &seen)
		s.value(depth)
	}
}

func (s *scanner) literal(want string) {
	if !strings.HasPrefix(s.text[s.i:], want) {
		s.fail(ErrSyntax)
	}
	s.i += len(want)
}

func (s *scanner) number() {
	s.take('-')
	if !s.take('0') { // no digit follows a leading zero
		s.digits()
	}
	if s.take('.') {
		s.digits()
	}
	if s.take('e') || s.take('E') {
		if !s.take('+') {
			s.take('-')
		}
		s.digits()
	}
}

func (s *scanner) digits() {
	start := s.i
	for s.i < len(s.text) && '0' <= s.text[s.i] && s.text[s.i] <= '9' {
		s.i++
	}
	if s.i == start {
		s.fail(ErrSyntax)
	}
}

// str reads a string, quotes included.
func (s *scanner) str() {
	s.escaped = false
	if !s.take('"') {
		s.fail(ErrSyntax)
		return
	}
	t, i := s.text, s.i
	for {
		// Most of a document is the inside of strings, so it is looked at
		// eight bytes at a time.
		for len(t)-i >= 8 {
			if special := specials(t[i:]); special != 0 {
				i += bits.TrailingZeros64(special) / 8
				break
			}
			i += 8
		}
		for i < len(t) && t[i] >= ' ' && t[i] != '"' && t[i] != '\\' {
			i++
		}
		switch {
		case i < len(t) && t[i] == '"':
			s.i = i + 1
			return
		case i < len(t) && t[i] == '\\':
			s.escaped = true
			i += s.escape(t[i:])
			if s.err != nil {
				return
			}
		default:
			s.fail(ErrSyntax)
			return
		}
	}
}

// specials looks for quotes, backslashes and control characters in the first
// eight bytes of t. The lowest bit that is set in its result is the highest of
// the byte that is the first of them; above that bit there may be false ones.
func specials(t string) uint64 {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	_ = t[7]
	w := uint64(t[0]) | uint64(t[1])<<8 | uint64(t[2])<<16 | uint64(t[3])<<24 |
		uint64(t[4])<<32 | uint64(t[5])<<40 | uint64(t[6])<<48 | uint64(t[7])<<56
	// (x-ones)&^x has the high bit of a byte set where x is zero, and
	// (w-ones*c)&^w where w is less than c.
	quote, backslash := w^ones*'"', w^ones*'\\'
	return ((quote-ones)&^quote | (backslash-ones)&^backslash | (w-ones*' ')&^w) & highs
}

// escape checks the escape sequence at the start of t and returns its length.
// A surrogate counts together with its other half, and is refused alone:
// readers disagree on what it means.
func (s *scanner) escape(t string) int {
	if len(t) < 2 {
		s.fail(ErrSyntax)
		return 0
	}
	switch t[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	}
	r, ok := hex4(t)
	if !ok {
		s.fail(ErrSyntax)
		return 0
	}
	if !utf16.IsSurrogate(r) {
		return 6
	}
	if low, ok := hex4(t[6:]); ok && utf16.DecodeRune(r, low) != utf8.RuneError {
		return 12
	}
	if !s.loose {
		s.fail(ErrUnicode)
	}
	return 6
}

// hex4 reads the \uXXXX at the start of t.
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
			if low, ok := hex4(q[6:]); ok && utf16.DecodeRune(r, low) != utf8.RuneError {
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

// names is the set of the names of one object. A few are kept in a list that
// needs no memory of its own; more go to a hash table, seeded because strangers
// choose the names.
type names struct {
	n      int
	filter uint64 // a bit for each name in list: most new names are told by it alone
	list   [32]string
	table  []string // open addressing, at most half full; "" is a free slot
	empty  bool     // the name "" itself is in the table
}

// add reports whether name is new.
func (s *names) add(name string) bool {
	if s.table == nil {
		bit := uint64(1)
		if len(name) > 0 {
			bit <<= (name[0]*5 ^ name[len(name)-1]*3 ^ byte(len(name))) & 63
		}
		if s.filter&bit != 0 {
			for _, have := range s.list[:s.n] {
				if have == name {
					return false
				}
			}
		}
		if s.n < len(s.list) {
			s.filter |= bit
			s.list[s.n] = name
			s.n++
			return true
		}
		s.grow(s.list[:])
	}
	if name == "" {
		was := s.empty
		s.empty = true
		return !was
	}
	if 2*s.n >= len(s.table) {
		s.grow(s.table)
	}
	slot := s.slot(name)
	if *slot == name {
		return false
	}
	*slot = name
	s.n++
	return true
}

// grow moves the names to a larger table.
func (s *names) grow(old []string) {
	s.table = make([]string, max(4*len(old), 512))
	for _, name := range old {
		if name != "" {
			*s.slot(name) = name
		}
	}
	for _, name := range s.list[:min(s.n, len(s.list))] {
		s.empty = s.empty || name == ""
	}
}

// slot returns where name is in the table, or the free slot where it belongs.
func (s *names) slot(name string) *string {
	mask := uint64(len(s.table) - 1)
	for i := maphash.String(seed, name); ; i++ {
		if slot := &s.table[i&mask]; *slot == "" || *slot == name {
			return slot
		}
	}
}

var seed = maphash.MakeSeed()
