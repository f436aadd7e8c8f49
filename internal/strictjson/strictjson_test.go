package strictjson_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"example.com/bearer/internal/strictjson"
)

func nested(n int) string {
	return strings.Repeat(`{"a":`, n-1) + "{}" + strings.Repeat("}", n-1)
}

func members(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `,"m%d":%d`, i, i)
	}
	return "{" + b.String()[1:] + "}"
}

var texts = []struct {
	text string
	err  error
}{
	{`{}`, nil},
	{" \t\r\n{ } \n", nil},
	{`{"a":1}`, nil},
	{"\n{ \"a\" :\t[ 1 , { \"b\"\r:\n2 , \"c\":[ ] } ] , \"d\" : \"e\" }", nil},
	{`{"a":[1E5,1e-5,1e+5,0E0,-0e-0,10.01,0.0]}`, nil},
	{"{\"a\":[1, 2,\n-3,\t\"b\",  {} , [ ], [1, 2], [], true]}", nil},
	{`{"":1," ":2}`, nil},
	{`{"a":-0.5e+10,"b":[1,[],{}],"c":{"a":{"a":null}},"d":true,"e":false,"f":"x"}`, nil},
	{`{"a":"\ud83d\ude00"}`, nil},
	{`{"a":"\"\\\/\b\f\n\r\t\u0041\uD83D\uDE00é😀"}`, nil},
	{`{"ISS":1,"iss":2,"Iss":3,"iſs":4}`, nil},
	{nested(32), nil},
	{members(31), nil},
	{members(32), nil},
	{members(33), nil},
	{members(3000), nil},

	{``, strictjson.ErrSyntax},
	{` `, strictjson.ErrSyntax},
	{`null`, strictjson.ErrSyntax},
	{`[]`, strictjson.ErrSyntax},
	{`"a"`, strictjson.ErrSyntax},
	{`["a":1}`, strictjson.ErrSyntax},
	{`[{}]`, strictjson.ErrSyntax},
	{`("a":1}`, strictjson.ErrSyntax},
	{"\v{}", strictjson.ErrSyntax},
	{"{\f}", strictjson.ErrSyntax},
	{"{}\v", strictjson.ErrSyntax},
	{"{\"a\"\v:1}", strictjson.ErrSyntax},
	{"{\"a\":\v1}", strictjson.ErrSyntax},
	{"{\"a\":\f[]}", strictjson.ErrSyntax},
	{"{\"a\":1\f}", strictjson.ErrSyntax},
	{"{\"a\":[1\v,2]}", strictjson.ErrSyntax},
	{"{\"a\":1,\x85\"b\":2}", strictjson.ErrSyntax},
	{`{`, strictjson.ErrSyntax},
	{`{"a"`, strictjson.ErrSyntax},
	{`{"a":`, strictjson.ErrSyntax},
	{`{"a":1`, strictjson.ErrSyntax},
	{`{"a":1,}`, strictjson.ErrSyntax},
	{`{,"a":1}`, strictjson.ErrSyntax},
	{`{"a":1 "b":2}`, strictjson.ErrSyntax},
	{`{"a" 1}`, strictjson.ErrSyntax},
	{`{"a"=1}`, strictjson.ErrSyntax},
	{`{"a";1}`, strictjson.ErrSyntax},
	{`{"a"::1}`, strictjson.ErrSyntax},
	{`{"a":1;"b":2}`, strictjson.ErrSyntax},
	{`}"a":1}`, strictjson.ErrSyntax},
	{`|"a":1}`, strictjson.ErrSyntax},
	{`{"a":1~`, strictjson.ErrSyntax},
	{`{"a":1+"b":2}`, strictjson.ErrSyntax},
	{`{"a"-1}`, strictjson.ErrSyntax},
	{`{"a",1}`, strictjson.ErrSyntax},
	{`{"a":{y}`, strictjson.ErrSyntax}, // beside the brace that makes it empty
	{`{"a":{|}`, strictjson.ErrSyntax},
	{`{"a":{~}`, strictjson.ErrSyntax},
	{"{\"a\":{\x02}", strictjson.ErrSyntax},
	{`{"a":1,,"b":2}`, strictjson.ErrSyntax},
	{`{"a":{"b":1;"c":2}}`, strictjson.ErrSyntax},
	{`{'a":1}`, strictjson.ErrSyntax},
	{`{a:1}`, strictjson.ErrSyntax},
	{`{'a':1}`, strictjson.ErrSyntax},
	{`{1:1}`, strictjson.ErrSyntax},
	{`{"a":1}x`, strictjson.ErrSyntax},
	{`{"a":1}{}`, strictjson.ErrSyntax},
	{`{"a":1},`, strictjson.ErrSyntax},
	{"\ufeff{}", strictjson.ErrSyntax},
	{"{}\x00", strictjson.ErrSyntax},
	{"{\u00a0}", strictjson.ErrSyntax},
	{`{"a":[1,]}`, strictjson.ErrSyntax},
	{`{"a":[,1]}`, strictjson.ErrSyntax},
	{`{"a":[1 2]}`, strictjson.ErrSyntax},
	{`{"a":[1}`, strictjson.ErrSyntax},
	{`{"a":[`, strictjson.ErrSyntax},
	{`{"a":[1`, strictjson.ErrSyntax},
	{`{"a":[1,`, strictjson.ErrSyntax},
	{`{"a":[1, `, strictjson.ErrSyntax},
	{`{"a":[1 `, strictjson.ErrSyntax},
	{`{"a":[[`, strictjson.ErrSyntax},
	{`{"a":[[]`, strictjson.ErrSyntax},
	{`{"a":[[],`, strictjson.ErrSyntax},
	{`{"a":["b"`, strictjson.ErrSyntax},
	{`{"a":["b",`, strictjson.ErrSyntax},
	{`{"a":[1;2]}`, strictjson.ErrSyntax},
	{`{"a":[1-2]}`, strictjson.ErrSyntax},
	{`{"a":[1+2]}`, strictjson.ErrSyntax},
	{`{"a":[1}]`, strictjson.ErrSyntax},
	{`{"a":{"b":1]}`, strictjson.ErrSyntax},
	{`{"a":tru}`, strictjson.ErrSyntax},
	{`{"a":tRUE}`, strictjson.ErrSyntax},
	{`{"a":trux}`, strictjson.ErrSyntax},
	{`{"a":fALSE}`, strictjson.ErrSyntax},
	{`{"a":fals0}`, strictjson.ErrSyntax},
	{`{"a":nULL}`, strictjson.ErrSyntax},
	{`{"a":nul}`, strictjson.ErrSyntax},
	{`{"a":True}`, strictjson.ErrSyntax},
	{`{"a":NaN}`, strictjson.ErrSyntax},
	{`{"a":Infinity}`, strictjson.ErrSyntax},
	{`{"a":-}`, strictjson.ErrSyntax},
	{`{"a":+1}`, strictjson.ErrSyntax},
	{`{"a":01}`, strictjson.ErrSyntax},
	{`{"a":0x1}`, strictjson.ErrSyntax},
	{`{"a":.5}`, strictjson.ErrSyntax},
	{`{"a":1.}`, strictjson.ErrSyntax},
	{`{"a":1e}`, strictjson.ErrSyntax},
	{`{"a":1e+}`, strictjson.ErrSyntax},
	{`{"a":1E-}`, strictjson.ErrSyntax},
	{`{"a":1e+-5}`, strictjson.ErrSyntax},
	{`{"a":"`, strictjson.ErrSyntax},
	{`{"a":"\`, strictjson.ErrSyntax},
	{`{"a":"\x"}`, strictjson.ErrSyntax},
	{`{"a":"\v"}`, strictjson.ErrSyntax},
	{`{"a":"\U0041"}`, strictjson.ErrSyntax},
	{`{"a":"\u00"}`, strictjson.ErrSyntax},
	{`{"a":"\u00g0"}`, strictjson.ErrSyntax},
	{`{"a":"\u00G0"}`, strictjson.ErrSyntax},
	{`{"a":"\u00/0"}`, strictjson.ErrSyntax},
	{`{"a":"\u00:0"}`, strictjson.ErrSyntax},
	{`{"a":"\u00@0"}`, strictjson.ErrSyntax},
	{"{\"a\":\"\\u00`0\"}", strictjson.ErrSyntax},
	{`{"a":"\u00 0"}`, strictjson.ErrSyntax},
	{"{\"a\":\"\n\"}", strictjson.ErrSyntax},
	{"{\"a\":\"\x1f\"}", strictjson.ErrSyntax},
	{`{"a":1/**/}`, strictjson.ErrSyntax},

	{`{"a":1,"a":1}`, strictjson.ErrDuplicate},
	{`{"a":1,"b":2,"\u0061":3}`, strictjson.ErrDuplicate},
	{`{"":1,"":2}`, strictjson.ErrDuplicate},
	{`{"a":{"b":1,"b":2}}`, strictjson.ErrDuplicate},
	{`{"a":[{"b":1,"b":2}]}`, strictjson.ErrDuplicate},
	{members(32)[:len(members(32))-1] + `,"m0":1}`, strictjson.ErrDuplicate},
	{members(33)[:len(members(33))-1] + `,"m32":1}`, strictjson.ErrDuplicate},
	{members(3000)[:len(members(3000))-1] + `,"m2999":1}`, strictjson.ErrDuplicate},
	{`{"":0,` + members(40)[1:len(members(40))-1] + `,"":1}`, strictjson.ErrDuplicate},
	{members(40)[:len(members(40))-1] + `,"":0,"":1}`, strictjson.ErrDuplicate},

	{`{"axb":{"ayb":1},"ayb":2}`, nil}, // alike to a filter
	{`{"axb":{"ayb":{"axb":1},"azb":2},"ayb":3}`, nil},
	{`{"axb":{"ayb":1},"axb":2}`, strictjson.ErrDuplicate},

	{nested(33), strictjson.ErrDepth},
	{`{"a":` + strings.Repeat("[", 31) + strings.Repeat("]", 31) + "}", nil},
	{`{"a":` + strings.Repeat("[", 32) + strings.Repeat("]", 32) + "}", strictjson.ErrDepth},
	{`{"a":[0` + strings.Repeat(",[0", 30) + strings.Repeat("]", 31) + "}", nil},
	{`{"a":[0` + strings.Repeat(",[0", 31) + strings.Repeat("]", 32) + "}", strictjson.ErrDepth},
	{`{"a":` + strings.Repeat("[", 30) + "{}" + strings.Repeat("]", 30) + "}", nil},
	{`{"a":` + strings.Repeat("[", 31) + "{}" + strings.Repeat("]", 31) + "}", strictjson.ErrDepth},
	{`{"a":` + strings.Repeat("[", 100000), strictjson.ErrDepth},

	{"{\"a\":\"\xff\"}", strictjson.ErrUnicode},
	{"{\"a\":\"\xc0\x80\"}", strictjson.ErrUnicode},
	{"{\"a\":\"\xed\xa0\x80\"}", strictjson.ErrUnicode},
	{`{"a":"\ud800"}`, strictjson.ErrUnicode},
	{`{"a":"\udc00"}`, strictjson.ErrUnicode},
	{`{"a":"\ud800\u0041"}`, strictjson.ErrUnicode},
	{`{"a":"\ud800\ud800"}`, strictjson.ErrUnicode},
	{`{"a":"\ud800\n"}`, strictjson.ErrUnicode},
	{`{"a":"\ud83dxude00"}`, strictjson.ErrUnicode},
	{`{"a":"\ud83d\xde00"}`, strictjson.ErrUnicode},
	{`{"a":"\ude00\ud83d"}`, strictjson.ErrUnicode},
}

func TestObject(t *testing.T) {
	for _, tt := range texts {
		o := strictjson.Object{Text: []byte(tt.text)}
		for o.Next() {
			if o.Err() != nil {
				t.Errorf("%.80q: a member comes with the error %v", tt.text, o.Err())
			}
		}
		if got := o.Err(); !errors.Is(got, tt.err) {
			t.Errorf("%.80q: got error %v, want %v", tt.text, got, tt.err)
		}
		if got := o.Err(); o.Next() || o.Err() != got {
			t.Errorf("%.80q: Next after the end is true, or the error %v becomes %v", tt.text, got, o.Err())
		}
	}
}

// However many members there are, the one that stands twice is seen: first and
// last, last and last.
func TestDuplicateAnywhere(t *testing.T) {
	for n := 1; n <= 80; n++ {
		for _, name := range []string{"m0", fmt.Sprint("m", n-1)} {
			o := strictjson.Object{Text: []byte(strings.TrimSuffix(members(n), "}") + fmt.Sprintf(",%q:1}", name))}
			for o.Next() {
			}
			if o.Err() != strictjson.ErrDuplicate {
				t.Errorf("%s again after %d members: got error %v, want %v", name, n, o.Err(), strictjson.ErrDuplicate)
			}
		}
	}
}

// However long a string is, and wherever in it a byte stands that must not be
// there, it is seen. The same goes for its end.
func TestStringsAtAnyLength(t *testing.T) {
	for n := range 40 {
		for i := range n + 1 {
			for special, want := range map[string]error{
				"é":            nil,
				"\x7f":         nil,
				"!":            nil, // beside the quote
				"#":            nil,
				"[":            nil, // beside the backslash
				"]":            nil,
				"^":            nil, // the backslash, with bit 1 turned over
				"\xff":         strictjson.ErrUnicode,
				"\x80":         strictjson.ErrUnicode,
				"\xa2":         strictjson.ErrUnicode, // a quote but for the highest bit
				"\xc3":         strictjson.ErrUnicode,
				"\xdc":         strictjson.ErrUnicode, // a backslash but for the highest bit
				"\xed\xa0\x80": strictjson.ErrUnicode,
				"\x1f":         strictjson.ErrSyntax,
				"\x00":         strictjson.ErrSyntax,
				`"`:            strictjson.ErrSyntax,
				`\"`:           nil,
				`\`:            strictjson.ErrSyntax,
				`\udc00`:       strictjson.ErrUnicode,
				`\u00e9`:       nil,
			} {
				inside := strings.Repeat("x", i) + special + strings.Repeat("x", n-i)
				for _, text := range []string{`{"` + inside + `":1}`, `{"a":"` + inside + `"}`, `{"a":["` + inside + `"]}`, `{"a":"\n` + inside + `"}`} {
					o := strictjson.Object{Text: []byte(text)}
					for o.Next() {
					}
					if o.Err() != want {
						t.Errorf("%q: got error %v, want %v", text, o.Err(), want)
					}
				}
			}
		}
	}
}

func TestLooseBelow(t *testing.T) {
	for text, want := range map[string]error{
		`{"keys":[{"kid":"a","kid":"b"}]}`:                                       nil,
		`{"a":{"x":{"y":1,"y":2},"x":3}}`:                                        nil,
		`{"keys":[],"keys":[]}`:                                                  strictjson.ErrDuplicate,
		`{"keys":[{"kid":"a","kid":"b",}]}`:                                      strictjson.ErrSyntax,
		`{"keys":[{"kid":"\ud800","kid":""}]}`:                                   nil,
		"{\"keys\":[{\"kid\":\"\xff\"}]}":                                        nil,
		`{"keys":` + strings.Repeat("[", 500) + strings.Repeat("]", 500) + `}`:   nil,
		`{"keys":` + strings.Repeat("[", 999) + strings.Repeat("]", 999) + `}`:   nil,
		`{"keys":` + strings.Repeat("[", 1000) + strings.Repeat("]", 1000) + `}`: strictjson.ErrDepth,
		nested(1000): nil,
		nested(1001): strictjson.ErrDepth,
		`{"keys":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + `}`: strictjson.ErrDepth,
	} {
		o := strictjson.Object{Text: []byte(text), LooseBelow: true}
		for o.Next() {
		}
		if o.Err() != want {
			t.Errorf("%s: got error %v, want %v", text, o.Err(), want)
		}
	}
}

func TestMaxMembers(t *testing.T) {
	for text, want := range map[string]error{
		`{}`:                                nil,
		`{"a":1,"b":[{"c":1}]}`:             nil,
		`{"a":1,"b":[{"c":1,"d":1}]}`:       strictjson.ErrMembers,
		`{"a":{"b":{"c":{"d":{}}}}}`:        strictjson.ErrMembers,
		`{"a":[1,2,3,4,5,{},{},{}],"b":""}`: nil,
		members(4):                          strictjson.ErrMembers,
		`{"a":{"\u0061b":1}}`:               nil,
		`{"\u0061\nb":1}`:                   nil,
		`{"a":{"\u0061\nb":1}}`:             strictjson.ErrMembers, // 9 bytes
		`{"\n":0,"0123456789abcdef":1}`:     nil,
		`{"\n":0,"\t":1}`:                   strictjson.ErrMembers,
	} {
		o := strictjson.Object{Text: []byte(text), MaxMembers: 3}
		for o.Next() {
		}
		if o.Err() != want {
			t.Errorf("%s: got error %v, want %v", text, o.Err(), want)
		}
	}
	for _, text := range []string{`{"a":1,"b":2}`, `{"\n":1}`} {
		one := strictjson.Object{Text: []byte(text), MaxMembers: 1}
		for one.Next() {
		}
		if one.Err() != strictjson.ErrMembers {
			t.Errorf("%s, where one member may be: got error %v, want %v", text, one.Err(), strictjson.ErrMembers)
		}
	}
}

func TestFind(t *testing.T) {
	for _, tt := range []struct {
		text  string
		value string
		ok    bool
	}{
		{`{"iss":1}`, "1", true},
		{` { "a" : {"iss":2} , "iss" : "x" , `, `"x"`, true}, // what is behind it does not matter
		{`{"\u0069\u0073\u0073":[1]`, "[1]", true},
		{`{"a":{"b":1,"b":2},"a":"\ud800","iss":1}`, "1", true}, // for an Object to refuse
		{`{"iss":1,"iss":2}`, "1", true},
		{`{"\u0069ss\u0073":0,"\u0069\u0073":1,"i\\u0073s":2,"i\u0073S":3}`, "", true},
		{`{"i\u0073s":1}`, "1", true},
		{`{"ISS":1,"is":2,"isss":3,"":4,"\u0049ss":5,"iss\n":6}`, "", true},
		{`{"a":[{"b":2,"c":{"d":4}}],"e":5,"iss":1}`, "1", true},
		{`{"a":[{"b":2,"c":{"d":4}}],"e":5,"f":6,"iss":1}`, "", false}, // more than six
		{`{}`, "", true},
		{`{}x`, "", true},
		{`{"a":1`, "", false},
		{`{"a":1,}`, "", false},
		{`{"a" 1,"iss":1}`, "", false},
		{`{"iss":`, "", false},
		{`{"iss":tru`, "", false},
		{`{`, "", false},
		{`["iss",1]`, "", false},
		{`["iss":1}`, "", false},
		{``, "", false},
	} {
		if value, ok := strictjson.Find([]byte(tt.text), "iss", 6); string(value) != tt.value || ok != tt.ok {
			t.Errorf("%s: got %q, %v, want %q, %v", tt.text, value, ok, tt.value, tt.ok)
		}
	}
}

func TestElements(t *testing.T) {
	for text, want := range map[string][]string{
		`[]`:                       nil,
		`[{"a":1} , 2]`:            {`{"a":1}`, `2`},
		`[true]`:                   {`true`},
		`[{"a":1,"a":2},"\ud800"]`: {`{"a":1,"a":2}`, `"\ud800"`}, // which LooseBelow lets pass
		`{"a":[1]}`:                nil,
		`"]"`:                      nil,
	} {
		o := strictjson.Object{Text: []byte(`{"a":` + text + `}`), LooseBelow: true}
		for o.Next() {
			var got []string
			for v := range o.Value.Elements() {
				got = append(got, string(v))
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s: got %q, want %q", text, got, want)
			}
		}
		if o.Err() != nil {
			t.Errorf("%s: %v", text, o.Err())
		}
	}
}

// Who has found an element may leave.
func TestElementsLeft(t *testing.T) {
	o := strictjson.Object{Text: []byte(`{"a":[1,2,3]}`)}
	for o.Next() {
		for v := range o.Value.Elements() {
			if string(v) != "1" {
				t.Errorf("Elements did not stop, but went on to %s", v)
			}
			break
		}
	}
}

func TestValues(t *testing.T) {
	o := strictjson.Object{Text: []byte(`{"a\u0062":"\"\\\/\b\f\n\r\tx\u00e9\uD83D\uDE00y","n":[ "1" , 2,[3,{"a":4}],{},null ],"e":[]}`)}
	var got []string
	for o.Next() {
		text, isText := o.Value.Text()
		got = append(got, fmt.Sprintf("%s %c %q %v", o.Name, o.Value.Kind(), text, isText))
		for v := range o.Value.Elements() {
			got = append(got, string(v))
		}
	}
	want := []string{
		`ab " "\"\\/\b\f\n\r\txé😀y" true`,
		`n [ "" false`, `"1"`, `2`, `[3,{"a":4}]`, `{}`, `null`,
		`e [ "" false`,
	}
	if o.Err() != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v\nwant %q", got, o.Err(), want)
	}
}

// reference judges text with encoding/json, token by token.
func reference(text string) error {
	if !utf8.ValidString(text) {
		return strictjson.ErrUnicode
	}
	if !json.Valid([]byte(text)) || !strings.HasPrefix(strings.TrimLeft(text, " \t\r\n"), "{") {
		return strictjson.ErrSyntax
	}
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var stack []map[string]bool // nil for an array
	var name bool               // the next string is a name
	for {
		token, err := d.Token()
		if err == io.EOF {
			return nil
		}
		top := len(stack) - 1
		switch v := token.(type) {
		case json.Delim:
			switch v {
			case '{':
				stack = append(stack, map[string]bool{})
			case '[':
				stack = append(stack, nil)
			default:
				stack = stack[:top]
			}
			if len(stack) > strictjson.MaxDepth {
				return strictjson.ErrDepth
			}
			name = len(stack) > 0 && stack[len(stack)-1] != nil
			continue
		case string:
			if name {
				if stack[top][v] {
					return strictjson.ErrDuplicate
				}
				stack[top][v] = true
				name = false
				continue
			}
		}
		name = stack[top] != nil
	}
}

var letters = regexp.MustCompile(`^[A-Za-z]+$`)

// What is accepted is what encoding/json accepts, less what the package refuses
// on purpose, and it is read the same.
func FuzzObject(f *testing.F) {
	for _, tt := range texts {
		if len(tt.text) < 1000 {
			f.Add(tt.text)
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		// Loosely, all JSON objects pass but those with a member twice.
		loose := strictjson.Object{Text: []byte(text), LooseBelow: true}
		for loose.Next() {
		}
		if err := loose.Err(); err != nil && err != strictjson.ErrDuplicate && err != strictjson.ErrDepth && reference(text) == nil {
			t.Fatalf("%q: refused loosely: %v", text, err)
		}
		if loose.Err() == nil && !json.Valid([]byte(text)) {
			t.Fatalf("%q: accepted loosely", text)
		}

		got := map[string]json.RawMessage{}
		o := strictjson.Object{Text: []byte(text)}
		for o.Next() {
			if value, ok := strictjson.Find([]byte(text), string(o.Name), len(text)); letters.Match(o.Name) && (!bytes.Equal(value, o.Value) || !ok) {
				t.Errorf("%q: Find found %q, %v for %q, want %q", text, value, ok, o.Name, o.Value)
			}
			got[string(o.Name)] = json.RawMessage(o.Value)
			if s, ok := o.Value.Text(); ok {
				var want string
				if err := json.Unmarshal(o.Value, &want); err != nil || s != want {
					t.Errorf("Text of %s = %q, want %q, %v", o.Value, s, want, err)
				}
			}
			var elements []json.RawMessage
			for v := range o.Value.Elements() {
				elements = append(elements, json.RawMessage(v))
			}
			if o.Value.Kind() == '[' {
				want := []json.RawMessage{}
				if err := json.Unmarshal(o.Value, &want); err != nil ||
					!slices.EqualFunc(elements, want, func(a, b json.RawMessage) bool { return bytes.Equal(a, b) }) {
					t.Errorf("Elements of %s = %s, want %s, %v", o.Value, elements, want, err)
				}
			}
		}
		want := reference(text)
		// encoding/json puts U+FFFD for a lone surrogate; so names may seem
		// to stand twice.
		if o.Err() == strictjson.ErrUnicode && strings.Contains(strings.ToLower(text), `\ud`) {
			return
		}
		if (o.Err() == nil) != (want == nil) {
			t.Fatalf("%q: got error %v, want %v", text, o.Err(), want)
		}
		if want != nil {
			return
		}
		var all map[string]json.RawMessage
		if err := json.Unmarshal([]byte(text), &all); err != nil || !reflect.DeepEqual(got, all) {
			t.Errorf("%q: got %s, want %s, %v", text, got, all, err)
		}
	})
}

func TestAllocs(t *testing.T) {
	text := []byte(members(32))
	if n := testing.AllocsPerRun(100, func() {
		o := strictjson.Object{Text: text}
		for o.Next() {
		}
	}); n != 0 {
		t.Errorf("%v allocations for an object of 32 members, want none", n)
	}
}

func BenchmarkObject(b *testing.B) {
	claims := `{"iss":"https://acme.eu.auth0.com/","sub":"auth0|64c0ffee","aud":["https://api.acme.test/","https://acme.eu.auth0.com/userinfo"],"azp":"client123","exp":1790000000,"iat":1789996400,"scope":"openid profile email read:messages write:messages","permissions":["read:messages","write:messages"],"gty":"password","org_id":"org_0123456789","name":"Jo Doe","email":"jo@acme.test"}`
	for _, tt := range []struct{ name, text string }{
		{"claims", claims},
		{"1700members", members(1700)},
		{"nested", `{"a":` + strings.Repeat(`{"a":`, 30) + "1" + strings.Repeat("}", 31)},
		{"brackets", `{"a":` + strings.Repeat("[", 12000)},
		{"zeros", `{"a":[0` + strings.Repeat(",0", 6000) + "]}"},
		{"tens", `{"a":[0` + strings.Repeat(",10", 4000) + "]}"},
		{"halves", `{"a":[0` + strings.Repeat(",1.5", 3000) + "]}"},
		{"strings", `{"a":[0` + strings.Repeat(`,""`, 4000) + "]}"},
		{"deep", `{"a":[0` + strings.Repeat(`,[[[[[]]]]]`, 1100) + "]}"},
		{"empty", `{"a":[0` + strings.Repeat(",[],{}", 2000) + "]}"},
		{"escapes", `{"a":"` + strings.Repeat(`\na`, 4000) + `"}`},
		{"spaces", `{"a":` + strings.Repeat(" \n", 6000) + `0}`},
	} {
		b.Run(tt.name, func(b *testing.B) {
			b.SetBytes(int64(len(tt.text)))
			b.ReportAllocs()
			text := []byte(tt.text)
			for b.Loop() {
				o := strictjson.Object{Text: text}
				for o.Next() {
				}
			}
		})
	}
}

func TestIsAbsent(t *testing.T) {
	for text, want := range map[string]bool{
		"null": true, "[]": true, "[ \n]": true,
		"[null]": false, "[ [] ]": false, "{}": false, `""`: false, `"]"`: false, `"null"`: false, "0": false, "-1": false, "true": false, "false": false,
	} {
		if got := strictjson.Value(text).IsAbsent(); got != want {
			t.Errorf("%s: got %v, want %v", text, got, want)
		}
	}
}
