package bearer

import (
	"errors"
	"sync/atomic"
)

// maxDecoded is how many types As keeps values of for one token.
const maxDecoded = 8

// A payload is the JSON object that claims were read from. All copies of a
// token's claims share it, and what As made of it.
type payload struct {
	text    string
	decoded atomic.Pointer[decoded]
}

// decoded is a list of what As made of a payload. An element does not change once
// it is in a list, and new ones come in front.
type decoded struct {
	result any // a *result of some type
	next   *decoded
}

type result[T any] struct {
	value T
	err   error
}

// As returns the token's payload as a T, decoded as [Claims.Decode] does it. It
// decodes only once for all requests that bring the token, as long as the token
// stays in the cache of [Config.TokenCache]; after that it costs next to nothing:
//
//	type own struct {
//		Tenant string   `json:"tenant"`
//		Roles  []string `json:"roles"`
//	}
//	mine, err := bearer.As[own](claims)
//
// The requests share what the T refers to. Maps, slices and what pointers point
// to must therefore not be changed; Decode makes a value of one's own.
//
// As fails if the payload does not fit a T, and then returns the zero T and the
// same error each time; and for Claims that are nil or did not come from a token.
// It may be called by several goroutines at once. If they are the first ones, each
// of them may decode, and all of them get the same value.
//
// For each token in the cache, whose payload is 3 KiB at most, values of up to
// eight types are kept. Those of further types are decoded each time.
func As[T any](c *Claims) (T, error) {
	if c == nil || c.payload == nil {
		var none T
		return none, errors.New("bearer: As: the claims did not come from a token")
	}
	r, _ := find[T](c.payload.decoded.Load())
	if r == nil {
		r = new(result[T])
		if r.err = c.Decode(&r.value); r.err != nil {
			r = &result[T]{err: r.err} // nothing of what was decoded until then
		}
		r = keep(c.payload, r)
	}
	return r.value, r.err
}

// find returns the result of type T in a list, or nil, and how many elements it
// looked at.
func find[T any](list *decoded) (*result[T], int) {
	n := 0
	for ; list != nil; list = list.next {
		if r, ok := list.result.(*result[T]); ok {
			return r, n
		}
		n++
	}
	return nil, n
}

// keep adds r to what is kept with p, if there is room, and returns it, or the one
// of its type that somebody else has kept meanwhile.
func keep[T any](p *payload, r *result[T]) *result[T] {
	for {
		list := p.decoded.Load()
		kept, n := find[T](list)
		switch {
		case kept != nil:
			return kept
		case n >= maxDecoded || p.decoded.CompareAndSwap(list, &decoded{r, list}):
			return r
		}
	}
}
