package jwks_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"example.com/bearer/internal/jwks"
)

// A function of the caller's that misbehaves costs one failed fetch and one log
// record: whether it is Fetch or the transport of the client.
func TestForeignCode(t *testing.T) {
	thaw := func(ctx context.Context) error { // a hang that ends with the test
		time.Sleep(24 * time.Hour)
		return errors.New("too late")
	}
	type row struct {
		f     func(ctx context.Context) ([]byte, error)
		takes time.Duration // until it counts as failed
		want  string        // in the log
	}
	rows := map[string]row{
		"an error":       {func(context.Context) ([]byte, error) { return nil, errors.New("no file") }, 0, "no file"},
		"a panic":        {func(context.Context) ([]byte, error) { panic("boom") }, 0, "boom"},
		"a nil panic":    {func(context.Context) ([]byte, error) { panic(nil) }, 0, "panic"},
		"a long panic":   {func(context.Context) ([]byte, error) { panic(strings.Repeat("boom", 10000)) }, 0, "boom"},
		"a nil":          {func(context.Context) ([]byte, error) { return nil, (*fs.PathError)(nil) }, 0, "nil pointer"},
		"a nil it wraps": {func(context.Context) ([]byte, error) { return nil, errors.Join(errors.New("x"), (*wrapper)(nil)) }, 0, "nil pointer"},
		"its end":        {func(context.Context) ([]byte, error) { runtime.Goexit(); return nil, nil }, 0, "ended its goroutine"},
		"a hang":         {func(ctx context.Context) ([]byte, error) { return nil, thaw(ctx) }, 15500 * time.Millisecond, "did not return"},
		"a heeded clock": {func(ctx context.Context) ([]byte, error) { <-ctx.Done(); return nil, ctx.Err() }, 15 * time.Second, "deadline"},
	}
	fetchOnly := map[string]row{
		"nothing":      {func(context.Context) ([]byte, error) { return nil, nil }, 0, "not a JSON object"},
		"nonsense":     {func(context.Context) ([]byte, error) { return []byte("\xff<html>"), nil }, 0, "not a JSON object"},
		"an empty set": {func(context.Context) ([]byte, error) { return []byte(`{"keys":[]}`), nil }, 0, "no key in it"},
		"too much":     {func(context.Context) ([]byte, error) { return bytes.Repeat([]byte(" "), 1<<20+1), nil }, 0, "more than 1048576 bytes"},
	}
	try := func(t *testing.T, b *bed, row row) {
		start := time.Now()
		if got := b.atOnce(5, func(int) string { return b.token() }); got[503] != 5 {
			t.Errorf("five at once: %v, want 503 for all", got)
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("they waited for %v", took)
		}
		time.Sleep(time.Until(start.Add(row.takes)))
		synctest.Wait()
		records := b.log.take()
		if len(records) != 1 || !strings.Contains(records[0], row.want) || !strings.Contains(records[0], "WARN") || len(records[0]) > 1000 {
			t.Errorf("logged %.2000q, want one record with %q", records, row.want)
		}
		if err := b.source.Stats().Err; err == nil {
			t.Error("Stats().Err = nil")
		}
	}
	for name, r := range rows {
		t.Run("client/"+name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bed) {
				b.setAnswer(func(req *http.Request, _ *http.Response) (*http.Response, error) {
					_, err := r.f(req.Context())
					return nil, err
				})
				try(t, b, r)
				b.setAnswer(nil)
				time.Sleep(2 * time.Second)
				b.fetches()
				b.want("afterwards", b.token(), 200, 0, 1)
				time.Sleep(25 * time.Hour)
			})
		})
		fetchOnly[name] = r
	}
	for name, r := range fetchOnly {
		t.Run("Fetch/"+name, func(t *testing.T) {
			var bad atomic.Bool
			inBubble(t, func(t *testing.T, b *bed) {
				bad.Store(true)
				b.source = b.open(func(c *jwks.Config) {
					c.URL, c.Base = "", ""
					c.Fetch = func(ctx context.Context) ([]byte, error) {
						if bad.Load() {
							return r.f(ctx)
						}
						return []byte(`{"keys":[` + string(published(t, b.iss)[0]) + `]}`), nil
					}
				})
				try(t, b, r)
				bad.Store(false)
				time.Sleep(2 * time.Second)
				b.want("afterwards", b.token(), 200, 0, 0)
				time.Sleep(25 * time.Hour)
			})
		})
	}
}

// Calls that hang are abandoned, so that the next try can begin, but only a few of
// them.
func TestHungCallsAreBounded(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		var calls, hung atomic.Int32
		end := make(chan struct{})
		b.source = b.open(func(c *jwks.Config) {
			c.URL, c.Base = "", ""
			c.Fetch = func(ctx context.Context) ([]byte, error) {
				calls.Add(1)
				hung.Add(1)
				defer hung.Add(-1)
				<-end
				return []byte(`{"keys":[` + string(published(t, b.iss)[0]) + `]}`), nil
			}
		})
		for range 600 {
			if got := b.status(b.token()); got != 503 {
				t.Fatalf("status %d, want 503", got)
			}
			time.Sleep(time.Second)
		}
		if n := hung.Load(); n < 2 || n > 4 {
			t.Errorf("%d calls hang, want 2 to 4", n)
		}
		if err := b.source.Stats().Err; err == nil || !strings.Contains(err.Error(), "not returned") {
			t.Errorf("Stats().Err = %v", err)
		}
		close(end)
		time.Sleep(16 * time.Second)
		if got := b.status(b.token()); got != 200 {
			t.Errorf("when they have come back: status %d, want 200", got)
		}
	})
}

// With Fetch all is as with HTTP, but that nothing is asked of the issuer.
func TestFetch(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		calls := 0
		b.source = b.open(func(c *jwks.Config) {
			c.Issuer, c.URL, c.Base = "any name", "", ""
			c.Fetch = func(ctx context.Context) ([]byte, error) {
				calls++
				if d, ok := ctx.Deadline(); !ok || time.Until(d) != 15*time.Second {
					t.Errorf("the context's deadline is %v", d)
				}
				var keys []string
				for _, k := range published(t, b.iss) {
					keys = append(keys, string(k))
				}
				return fmt.Appendf(nil, `{"keys":[%s]}`, strings.Join(keys, ",")), nil
			}
		})
		want := func(what, token string, status, n int) {
			t.Helper()
			b.want(what, token, status, 0, 0)
			if calls != n {
				t.Errorf("%s: %d calls, want %d", what, calls, n)
			}
			calls = 0
		}
		old := b.token()
		want("first", old, 200, 1)
		want("again", old, 200, 0)
		b.iss.Rotate()
		want("a new key", b.token(), 200, 1)
		want("unknown", b.unknown("x"), 401, 1)
		want("unknown again", b.unknown("x"), 401, 0)
		b.iss.Replace()
		time.Sleep(10 * time.Minute)
		want("starts the refresh", old, 200, 1)
		want("withdrawn", old, 401, 1)
		if stats := b.source.Stats(); stats.Fetches != 5 {
			t.Errorf("%+v, want 5 fetches", stats)
		}
	})
}

// A log handler that panics ends no program, and no fetch.
func TestLogHandlerPanics(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.want("with such a handler", b.token(), 200, 0, 1)
		b.iss.SetDown(true)
		b.want("with such a handler", b.unknown("x"), 503, 0, 1)
	}, func(c *jwks.Config) { c.Log = slog.New(panickingHandler{slog.DiscardHandler}) })
}

type panickingHandler struct{ slog.Handler }

func (panickingHandler) Enabled(context.Context, slog.Level) bool  { return true }
func (panickingHandler) Handle(context.Context, slog.Record) error { panic("boom") }
func (h panickingHandler) WithAttrs([]slog.Attr) slog.Handler      { return h }

// A wrapper is an error with a text even if it is nil, and with a cause only if not.
type wrapper struct{ err error }

func (*wrapper) Error() string   { return "wrapped" }
func (w *wrapper) Unwrap() error { return w.err }
