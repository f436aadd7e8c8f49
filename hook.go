package bearer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"example.com/bearer/internal/clip"
)

// Bounds on functions of the caller's that requests wait for.
const (
	revokedTimeout = time.Second
	revokedCalls   = 1024 // at one time
	replayTimeout  = time.Second
	replayCalls    = 1024
	revokedShared  = time.Second // how long wrappers of one request share an answer
	calmAfter      = time.Minute // without a failure a hook works again
)

// A hook calls a function of the caller's, which may fail, panic, hang or never
// return: none of that is for the request, the next one or the program to suffer
// from.
type hook struct {
	name   string // in Config
	log    *slog.Logger
	failed atomic.Int64 // when it failed last, in microseconds of Unix time; zero if it works
}

var errNoReturn = errors.New("it did not return")

// ask calls f, which calls the function of h, in a goroutine of its own, and waits
// for what it returns: until ctx is done, and limit at most. A call has a place in
// calls until it returns, so that there are never more of them than places.
func ask[T any](ctx context.Context, h *hook, calls chan struct{}, limit time.Duration, f func(context.Context) (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	inner, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	done := make(chan answer, 1)
	var a answer
	select {
	case calls <- struct{}{}:
		go func() {
			a := answer{err: errNoReturn}
			defer func() {
				if p := recover(); p != nil {
					a.err = fmt.Errorf("it panicked: %v", p)
				}
				<-calls
				done <- a
			}()
			value, err := f(inner)
			if err != nil {
				// Its text is made here, since that may panic too, and what it wraps is
				// looked at: a nil pointer in an error does when it is asked.
				err = fmt.Errorf("%w", err)
				_ = errors.Is(err, errNoReturn)
			}
			a = answer{value, err}
		}()
		select {
		case a = <-done:
		case <-inner.Done():
			a.err = fmt.Errorf("no answer: %w", inner.Err())
		}
	case <-inner.Done():
		a.err = fmt.Errorf("too many calls have not returned: %w", inner.Err())
	}
	if a.err == nil {
		h.worked()
	} else if ctx.Err() == nil { // or nobody waits for the answer
		h.fails(a.err)
	}
	return a.value, a.err
}

// fails notes a failure and logs the first one.
func (h *hook) fails(err error) {
	if h.failed.Swap(time.Now().UnixMicro()) == 0 {
		h.tell(slog.LevelWarn, "bearer: a function of Config fails", slog.String("error", clip.To(err.Error(), maxErrorText)))
	}
}

// worked notes a success. One in between failures is not the end of them: a
// function that fails for one token in ten must not fill the log.
func (h *hook) worked() {
	if at := h.failed.Load(); at != 0 && time.Since(time.UnixMicro(at)) >= calmAfter && h.failed.CompareAndSwap(at, 0) {
		h.tell(slog.LevelInfo, "bearer: a function of Config works again")
	}
}

func (h *hook) tell(level slog.Level, message string, attrs ...slog.Attr) {
	defer func() { _ = recover() }() // a log handler is foreign code, too
	h.log.LogAttrs(context.Background(), level, message, append(attrs, slog.String("function", h.name))...)
}

// A revocation is Config.Revoked.
type revocation struct {
	hook
	revoked func(context.Context, *Claims) (bool, error)
	calls   chan struct{}
}

// newRevocation returns nil for no function.
func newRevocation(revoked func(context.Context, *Claims) (bool, error), log *slog.Logger) *revocation {
	if revoked == nil {
		return nil
	}
	return &revocation{hook{name: "Revoked", log: log}, revoked, make(chan struct{}, revokedCalls)}
}

// check refuses the token if it was revoked, or if that cannot be
// told.
func (r *revocation) check(ctx context.Context, v *verified) error {
	if r == nil {
		return nil
	}
	claims := v.copy() // its own: a call may outlive the request
	revoked, err := ask(ctx, &r.hook, r.calls, revokedTimeout, func(ctx context.Context) (bool, error) { return r.revoked(ctx, claims) })
	if err != nil {
		return &cause{reason: "revocation_unavailable", err: err, detail: clip.To(err.Error(), maxErrorText), retryAfter: time.Second}
	}
	if revoked {
		return &cause{reason: "revoked"}
	}
	return nil
}
