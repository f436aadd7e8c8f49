package jwks

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"example.com/bearer/internal/clip"
)

const (
	maxRunning = 4                      // calls of foreign code at once, abandoned ones included
	guardGrace = 500 * time.Millisecond // for a call to come back after its context is done
)

// errProbe is what no error wraps, so that all that one does is looked at.
var errProbe = errors.New("probe")

// running counts the calls of foreign code that have not come back.
type running struct{ n atomic.Int32 }

// guard calls f, which runs foreign code, in a goroutine of its own. When ctx is
// done and f has not come back soon after, it is abandoned. So are all that hang,
// up to maxRunning; then there are no more calls until one of them comes back. A
// panic and runtime.Goexit in f are errors.
func guard[T any](ctx context.Context, r *running, f func(context.Context) (T, error)) (T, error) {
	var none T
	if r.n.Add(1) > maxRunning {
		r.n.Add(-1)
		return none, fmt.Errorf("%d earlier calls have not returned yet", maxRunning)
	}
	var value T
	done := make(chan error, 1)
	go func() {
		err := errors.New("it ended its goroutine")
		defer func() {
			if p := recover(); p != nil {
				err = errors.New(clip.To(fmt.Sprintf("it panicked: %v", p), maxErrorText))
			}
			r.n.Add(-1)
			done <- err
		}()
		if value, err = f(ctx); err != nil {
			// An error is foreign code too, and all that it wraps: a nil pointer in an
			// error panics when it is asked.
			_, _ = err.Error(), errors.Is(err, errProbe)
		}
	}()
	var err error
	select {
	case err = <-done:
		return value, err
	case <-ctx.Done():
	}
	grace := time.NewTimer(guardGrace)
	defer grace.Stop()
	select {
	case err = <-done:
		return value, err
	case <-grace.C:
	}
	return none, fmt.Errorf("it did not return in time: %w", ctx.Err())
}
