package dpop

import (
	"errors"
	"hash/maphash"
	"sync"
	"time"
)

const (
	memoryPlaces = 1 << 20
	ownerPlaces  = memoryPlaces / 16 // that the proofs of one key may take
	chunkPlaces  = 1 << 12           // that memory is taken for at a time
	minIndex     = 1 << 10
	ownerCounts  = 1 << 14
	forgetAtOnce = 16
)

var (
	errMemoryFull = errors.New("the memory of used proofs is full")
	errOwnerFull  = errors.New("the memory of used proofs is full for this client's key")
)

// A memory knows the proofs that were used in this process, until they are no good
// any more. It has a place for 1<<20 of them, which is 2,900 a second for the six
// minutes that a proof counts, and takes 37 MiB when all places are taken. It takes
// that as it fills, and gives it back when all proofs in it are over.
//
// When it is full it says so: to forget a proof that is still good would let it be
// used twice. One key gets a sixteenth of the places at most, so that one client
// cannot shut out all others.
//
// No goroutine and no timer belongs to it. Each proof that comes makes it forget a
// few that are over.
type memory struct {
	seed maphash.Seed // clients choose what is hashed, so they must not know how

	mu     sync.Mutex
	index  []uint32               // by hash: the first proof of a chain; a power of two of them
	chunks []*[chunkPlaces]used   // by number less 1
	free   uint32                 // the first of the places that were given back
	made   uint32                 // places that were ever in use
	count  uint32                 // proofs in it
	due    []uint32               // by second, modulo its length: the first proof that is over then
	swept  int64                  // the next second whose proofs are to be forgotten
	last   int64                  // the second in which all are over
	owners [2][ownerCounts]uint32 // proofs by two hashes of their key
}

// A used proof. Other proofs are named by their number, which begins at 1; 0 is
// none.
type used struct {
	hash  [16]byte // half of a SHA-256: who makes two that are equal shuts out himself
	until uint32   // the first second in which it is over; 0 in a place that is free
	owner [2]uint16
	chain uint32 // next of the same place in index
	next  uint32 // next that is over in the same second, or next free place
}

// newMemory returns a memory for proofs that are over after longest at most.
func newMemory(longest time.Duration) *memory {
	m := &memory{seed: maphash.MakeSeed(), due: make([]uint32, int(longest/time.Second)+3)}
	m.index = make([]uint32, minIndex)
	return m
}

// add keeps the proof with this hash, made with the key owner, for ttl, which is a
// second at least. It reports false if the proof is there already. An error means
// that there is no place for it.
func (m *memory) add(hash [16]byte, owner string, ttl time.Duration, now time.Time) (fresh bool, err error) {
	h := maphash.Bytes(m.seed, hash[:])
	o := maphash.String(m.seed, owner)
	owners := [2]uint16{uint16(o % ownerCounts), uint16(o >> 32 % ownerCounts)}
	// By the wall clock, which judges the proofs.
	second, until := now.Unix(), now.Add(ttl).Unix()+1

	m.mu.Lock()
	defer m.mu.Unlock()
	if second >= m.last {
		m.reset(second)
	}
	m.swept = min(m.swept, second) // the clock may have been set back
	for range forgetAtOnce {
		if !m.forget(second) {
			break
		}
	}
	for i := m.index[h&m.mask()]; i != 0; i = m.at(i).chain {
		if u := m.at(i); u.hash == hash && int64(u.until) > second {
			return false, nil
		}
	}
	for m.count == memoryPlaces {
		if !m.forget(second) {
			return false, errMemoryFull
		}
	}
	// Other keys may share a count, so the lower one is nearer to the truth. A
	// certain other key shares both with a chance of one in 268 million.
	for min(m.owners[0][owners[0]], m.owners[1][owners[1]]) >= ownerPlaces {
		if !m.forget(second) {
			return false, errOwnerFull
		}
	}
	m.put(used{hash: hash, until: uint32(until), owner: owners}, h)
	return true, nil
}

// reset forgets everything.
func (m *memory) reset(second int64) {
	if m.count > 0 {
		m.index, m.chunks, m.free, m.made, m.count = make([]uint32, minIndex), nil, 0, 0, 0
		clear(m.due)
		m.owners = [2][ownerCounts]uint32{}
	}
	m.swept = second
}

func (m *memory) mask() uint64 { return uint64(len(m.index) - 1) }

func (m *memory) at(i uint32) *used { return &m.chunks[(i-1)/chunkPlaces][(i-1)%chunkPlaces] }

// put finds a place for u, whose hash hashes to h.
func (m *memory) put(u used, h uint64) {
	if int(m.count) == len(m.index) && len(m.index) < memoryPlaces {
		m.grow()
	}
	i := m.free
	if i != 0 {
		m.free = m.at(i).next
	} else {
		if m.made%chunkPlaces == 0 {
			m.chunks = append(m.chunks, new([chunkPlaces]used))
		}
		m.made++
		i = m.made
	}
	first, due := &m.index[h&m.mask()], &m.due[int64(u.until)%int64(len(m.due))]
	u.chain, u.next = *first, *due
	*m.at(i), *first, *due = u, i, i
	m.last = max(m.last, int64(u.until))
	m.count++
	m.owners[0][u.owner[0]]++
	m.owners[1][u.owner[1]]++
}

// grow doubles the index. The last time takes some milliseconds.
func (m *memory) grow() {
	m.index = make([]uint32, 2*len(m.index))
	for i := uint32(1); i <= m.made; i++ {
		if u := m.at(i); u.until != 0 {
			first := &m.index[maphash.Bytes(m.seed, u.hash[:])&m.mask()]
			u.chain, *first = *first, i
		}
	}
}

// forget forgets a proof that is over, and reports whether there was one.
func (m *memory) forget(second int64) bool {
	for ; m.swept <= second; m.swept++ {
		due := &m.due[m.swept%int64(len(m.due))]
		i := *due
		if i == 0 {
			continue
		}
		u := m.at(i)
		if int64(u.until) > second {
			continue // of a later round, after the clock was set back or much was left
		}
		link := &m.index[maphash.Bytes(m.seed, u.hash[:])&m.mask()]
		for *link != i {
			link = &m.at(*link).chain
		}
		*link, *due = u.chain, u.next
		m.count--
		m.owners[0][u.owner[0]]--
		m.owners[1][u.owner[1]]--
		*u = used{next: m.free}
		m.free = i
		return true
	}
	return false
}
