// Package names tells whether a name was seen before, at a cost that hardly
// shows while there are few of them, and does not grow when strangers choose
// them.
package names

import (
	"bytes"
	"hash/maphash"
	"slices"
	"sync"
)

// A Stack is what sets of names share that are inside of one another, as those of
// nested objects are. The zero value is empty. The first few names are kept in it and
// need no memory of their own.
type Stack struct {
	few      [40][]byte // of the sets that are open, the outermost first
	n        int        // of them
	compared int        // names with one another, so far
	table    *table     // the names of all larger sets; nil if there are none
	sets     uint32     // that have names in table, so far
}

// maxCompared bounds Stack.compared: names that a filter takes for others are seldom,
// but for those that were made so. Each comparison takes 2 ns.
const maxCompared = 512

// A Set is one set of names. The zero value is the outermost one of a Stack.
type Set struct {
	from   int       // where its names begin in Stack.few
	filter [4]uint64 // a bit for each of them: most new names are told by it alone
	number uint32    // in Stack.table, if its names are there, or 0
}

// Inner returns a new set inside of those that are open. Those must not be added to
// before it is left.
func (s *Stack) Inner() Set { return Set{from: s.n} }

// Leave forgets set, which was the innermost one.
func (s *Stack) Leave(set *Set) { s.n = set.from }

// Add adds name to set, the innermost one, and reports whether it is new there. The name
// must not change as long as the set is open.
func (s *Stack) Add(set *Set, name []byte) bool {
	if set.number == 0 {
		h := byte(0)
		if len(name) > 0 {
			h = name[0]*5 ^ name[len(name)-1]*29 ^ byte(len(name))*87
		}
		filter, bit := &set.filter[h>>6], uint64(1)<<(h&63)
		if *filter&bit != 0 {
			own := s.few[set.from:s.n]
			s.compared += len(own)
			if slices.ContainsFunc(own, func(n []byte) bool { return bytes.Equal(n, name) }) {
				return false
			}
		}
		if s.n < len(s.few) && s.compared <= maxCompared {
			*filter |= bit
			s.few[s.n] = name
			s.n++
			return true
		}
		if s.table == nil {
			s.table = tables.Get().(*table)
		}
		s.sets++
		set.number = s.sets
		for _, have := range s.few[set.from:s.n] {
			s.table.add(set.number, have)
		}
		s.n = set.from
	}
	return s.table.add(set.number, name)
}

// Release gives back memory, if s has any of its own. No set of s may be added to
// afterwards. A Stack that is forgotten without it costs the garbage collector a little.
func (s *Stack) Release() {
	if t := s.table; t != nil && len(t.slots) <= maxSlots && cap(t.text) <= maxText {
		clear(t.slots)
		t.text, t.entries, t.slots = t.text[:0], t.entries[:0], t.slots[:0]
		tables.Put(t)
	}
	s.table = nil
}

// tables are empty. To make one anew takes as long as to fill it.
var tables = sync.Pool{New: func() any { return new(table) }}

// seed keeps strangers from choosing names that have their place in a table in common.
var seed = maphash.MakeSeed()

// A table is the names of many sets. Maps would do, and take three times as long. There
// are no pointers in it, which would be the garbage collector's work.
type table struct {
	text    []byte // all names, one after the other
	entries []entry
	slots   []uint32 // one more than the index of an entry, or 0; half of them or more are free
}

type entry struct {
	start, end int // of the name in text
	hash, set  uint32
}

const (
	minSlots = 256      // a power of two
	maxSlots = 8192     // of a table that is used again, and
	maxText  = 64 << 10 // bytes of its names
)

// add adds the name to the set of that number and reports whether it is new there.
func (t *table) add(set uint32, name []byte) bool {
	if len(t.entries) >= len(t.slots)/2 {
		t.grow()
	}
	h := uint32(maphash.Bytes(seed, name)) ^ set*0x9e3779b1
	i := t.slot(h)
	for ; t.slots[i] != 0; i = t.slot(i + 1) {
		e := &t.entries[t.slots[i]-1]
		if e.hash == h && e.set == set && bytes.Equal(t.text[e.start:e.end], name) {
			return false
		}
	}
	start := len(t.text)
	t.text = append(t.text, name...)
	t.entries = append(t.entries, entry{start, len(t.text), h, set})
	t.slots[i] = uint32(len(t.entries))
	return true
}

// slot returns the place of a slot that comes n steps behind the first.
func (t *table) slot(n uint32) uint32 { return n & uint32(len(t.slots)-1) }

func (t *table) grow() {
	n := max(minSlots, 2*len(t.slots))
	if cap(t.slots) >= n {
		clear(t.slots)
		t.slots = t.slots[:n] // those behind are 0 ever since they were left
	} else {
		t.slots = make([]uint32, n)
	}
	for n, e := range t.entries {
		i := t.slot(e.hash)
		for ; t.slots[i] != 0; i = t.slot(i + 1) {
		}
		t.slots[i] = uint32(n + 1)
	}
	t.entries = slices.Grow(t.entries, len(t.slots)/2-len(t.entries))
}
