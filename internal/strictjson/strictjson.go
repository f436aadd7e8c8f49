// Package strictjson reads JSON objects that a stranger may have written.
//
// It refuses what lenient readers let through and what has let forged tokens
// pass elsewhere: a member that stands twice in one object, names that differ
// from the wanted one by letter case, text that is not Unicode (RFC 8259,
// section 8), nesting deeper than [MaxDepth], and anything behind the value.
// It works in one pass over the text and allocates only for escaped strings and
// for objects of many members.
package strictjson

import (
	"bytes"
	"errors"

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
//		switch string(o.Name) { … }
//	}
//	if err := o.Err(); err != nil { … }
type Object struct {
	Text []byte

	// LooseBelow checks no more than the grammar of what is inside of this
	// object's members. It is for documents whose inner objects the caller
	// reads one by one, each as an Object of its own, and judges by themselves.
	LooseBelow bool

	// MaxMembers is how many members there may be, inner objects included. A name
	// with escapes, which takes longest to read, counts twice, and once more for each
	// eight bytes of it. Zero means any number.
	MaxMembers int

	// Name is the current member's name without quotes and escapes, Value its
	// value. Both are set by Next, and may be parts of Text.
	Name  []byte
	Value Value

	scanner scanner
	own     names.Set // of the members' names
	at      int       // behind the current member; failed when there are no more
}

// Next goes to the next member. It returns false at the end of the object and
// when the text is refused.
func (o *Object) Next() bool {
	s, i := &o.scanner, o.at
	first := i == 0
	if first {
		s.text, s.loose, s.most = o.Text, o.LooseBelow, o.MaxMembers
		i = s.open()
	}
	if i == failed {
		o.at = failed
		return false
	}
	name, start, end := s.member(i, 1, first, &o.own)
	if start == failed {
		o.at = failed
		if end != failed {
			o.finish(end)
		}
		return false
	}
	o.Name, o.Value, o.at = name, Value(s.text[start:end]), end
	return true
}

// finish looks at what is behind the object, which ends at i.
func (o *Object) finish(i int) {
	s := &o.scanner
	if i, _ = s.space(i); i != len(s.text) {
		s.fail(ErrSyntax)
	}
	o.Stop()
}

// Stop gives back memory of an object that is not read to its end. It need not be
// called otherwise. Next must not be called afterwards.
func (o *Object) Stop() { o.scanner.names.Release() }

// Err returns why the text was refused, or nil.
func (o *Object) Err() error { return o.scanner.err }

// Find returns the value of the first member of that name, ASCII letters, in the object that
// text begins with, or nil if it has none. It reports false if text cannot be read as far as
// that, or has more than so many members before, inner ones included. No more than the
// grammar is looked at, and nothing behind the member: this is for a first look at what
// will be read as an [Object] later.
func Find(text []byte, name string, most int) (Value, bool) {
	s := scanner{text: text, loose: true, most: most}
	i := s.open()
	for first := i != failed; i != failed; first = false {
		raw, start, end := s.member(i, 1, first, nil)
		if start == failed {
			return nil, end != failed
		}
		if string(raw) == name || len(raw) > len(name) && spells(raw, name) {
			return text[start:end], true
		}
		i = end
	}
	return nil, false
}

// A scanner checks the grammar of RFC 8259 in text. Its methods read something
// that begins at i and return where it ends, or failed. What is wrong then is in
// err, and none of them may be called again.
type scanner struct {
	text    []byte
	loose   bool // below depth 1, only the grammar counts
	escaped bool // the last string has escapes
	err     error

	members, most int // seen so far, and allowed; any number if most is 0
	names         names.Stack
}

const failed = -1

func (s *scanner) fail(err error) int {
	s.err = err
	s.names.Release()
	return failed
}

// at reports whether c stands at i. Go checks an index as a number without sign; where
// that is compared, here and below, it is checked once.
func (s *scanner) at(i int, c byte) bool { return uint(i) < uint(len(s.text)) && s.text[i] == c }

// blanks has a bit for each character of white space.
const blanks = uint64(1<<' ' | 1<<'\t' | 1<<'\n' | 1<<'\r')

// space skips white space. It also returns what is behind it, or 0 at the end of the text.
func (s *scanner) space(i int) (int, byte) {
	for ; uint(i) < uint(len(s.text)); i++ {
		if c := s.text[i]; c > ' ' || blanks>>c&1 == 0 {
			return i, c
		}
	}
	return i, 0
}

// open reads the opening brace of the object that the text is.
func (s *scanner) open() int {
	i, c := s.space(0)
	if c != '{' {
		return s.fail(ErrSyntax)
	}
	return i + 1
}

// member reads the next member of an object at depth, the first or one behind a comma.
// It returns its name, and where its value starts and ends. Behind the last one, start
// is failed, and end is that of the object. Where only the grammar counts, own is nil,
// and name may have escapes.
func (s *scanner) member(i, depth int, first bool, own *names.Set) (name []byte, start, end int) {
	i, c := s.space(i)
	if c == '}' {
		return nil, failed, i + 1
	}
	if !first {
		if c != ',' {
			return nil, failed, s.fail(ErrSyntax)
		}
		i, _ = s.space(i + 1)
	}
	if s.members++; s.members > s.most && s.most > 0 {
		return nil, failed, s.fail(ErrMembers)
	}
	start = i + 1
	s.escaped = false
	if i = s.str(i); i == failed {
		return nil, failed, failed
	}
	name = s.text[start : i-1]
	if own != nil {
		if s.escaped {
			if s.members += 1 + len(name)/8; s.members > s.most && s.most > 0 {
				return nil, failed, s.fail(ErrMembers)
			}
			name = unescape(name)
		}
		if !s.names.Add(own, name) {
			return nil, failed, s.fail(ErrDuplicate)
		}
	}
	if i, c = s.space(i); c != ':' {
		return nil, failed, s.fail(ErrSyntax)
	}
	if start, c = s.space(i + 1); c == '"' {
		end = s.str(start)
	} else {
		end = s.value(start, depth)
	}
	if end == failed {
		return nil, failed, failed
	}
	return name, start, end
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
		if s.tooDeep(depth) {
			return s.fail(ErrDepth)
		}
		if s.at(i+1, c+2) { // empty: ] is two behind [, and } is two behind {
			return i + 2
		}
		if c == '{' {
			return s.object(i+1, depth+1)
		}
		return s.array(i+1, depth+1)
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

// array reads the elements of an array, and those of the arrays in it, without a call for
// what is short. depth is that of the elements.
func (s *scanner) array(i, depth int) int {
	i, c := s.space(i)
	if c == ']' {
		return i + 1
	}
	for outer := depth; ; {
		switch {
		case c == '"':
			i = s.str(i)
		case c == '[':
			if s.tooDeep(depth) {
				return s.fail(ErrDepth)
			}
			if i, c = s.space(i + 1); c != ']' {
				depth++
				continue
			}
			i++
		case c <= '9':
			i = s.number(i)
		default:
			i = s.value(i, depth)
		}
		if i == failed {
			return failed
		}
		if !s.at(i, ',') {
			for i, c = s.space(i); c == ']'; i, c = s.space(i + 1) {
				if depth--; depth < outer {
					return i + 1
				}
			}
			if c != ',' {
				return s.fail(ErrSyntax)
			}
		}
		i, c = s.space(i + 1)
	}
}

// tooDeep reports whether nothing may be nested in what is at depth.
func (s *scanner) tooDeep(depth int) bool {
	return depth >= MaxDepth && (!s.loose || depth >= looseDepth)
}

// object reads the members of an inner object. It is not part of value, so that
// only objects pay for a set of names.
func (s *scanner) object(i, depth int) int {
	set := s.names.Inner()
	own := &set
	if s.loose {
		own = nil
	}
	_, start, end := s.member(i, depth, true, own)
	for start != failed {
		_, start, end = s.member(end, depth, false, own)
	}
	s.names.Leave(&set)
	return end
}

func (s *scanner) literal(i int, want string) int {
	if !bytes.HasPrefix(s.text[i:], []byte(want)) {
		return s.fail(ErrSyntax)
	}
	return i + len(want)
}

func (s *scanner) number(i int) int {
	if s.at(i, '-') {
		i++
	}
	start := i
	if s.at(i, '0') { // no digit follows a leading zero
		i++
	} else if i = s.digits(i); i == start {
		return s.fail(ErrSyntax)
	}
	if s.at(i, ',') {
		return i // mostly
	}
	if s.at(i, '.') {
		start = i + 1
		if i = s.digits(start); i == start {
			return s.fail(ErrSyntax)
		}
	}
	if s.at(i, 'e') || s.at(i, 'E') {
		i++
		if s.at(i, '+') || s.at(i, '-') {
			i++
		}
		start = i
		if i = s.digits(start); i == start {
			return s.fail(ErrSyntax)
		}
	}
	return i
}

// digits skips digits.
func (s *scanner) digits(i int) int {
	for uint(i) < uint(len(s.text)) && s.text[i]-'0' <= 9 {
		i++
	}
	return i
}
