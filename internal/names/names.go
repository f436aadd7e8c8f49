// Package names tells whether a name was seen before, at a cost that hardly
// shows while there are few of them, and does not grow when strangers choose
// them.
package names

import "slices"

// A Set is a set of names. The zero value is empty. The first few names are kept
// in it and need no memory of their own. When there are more, all of them are in
// a map.
type Set struct {
	n      int
	filter [4]uint64 // a bit for each name in few: most new names are told by it alone
	few    [32]string
	more   map[string]bool
}

// Add adds name to s and reports whether it is new.
func (s *Set) Add(name string) bool {
	if s.more == nil {
		h := byte(0)
		if len(name) > 0 {
			h = name[0]*5 ^ name[len(name)-1]*29 ^ byte(len(name))*87
		}
		filter, bit := &s.filter[h>>6], uint64(1)<<(h&63)
		if *filter&bit != 0 && slices.Contains(s.few[:s.n], name) {
			return false
		}
		if s.n < len(s.few) {
			*filter |= bit
			s.few[s.n] = name
			s.n++
			return true
		}
		s.more = make(map[string]bool, 256)
		for _, have := range s.few {
			s.more[have] = true
		}
	}
	before := len(s.more)
	s.more[name] = true
	return len(s.more) > before
}
