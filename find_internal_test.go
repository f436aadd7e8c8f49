package bearer

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// What strangers' names leave in memory, whether they are refused, fail or are
// accepted without a good token.
func TestFinderForgets(t *testing.T) {
	for _, tt := range []struct {
		name string
		find func(context.Context, string) (*Middleware, error)
		most int // names in memory
	}{
		{"refused", func(context.Context, string) (*Middleware, error) { return nil, nil }, 2100},
		{"failed", func(context.Context, string) (*Middleware, error) { return nil, context.Canceled }, 1200},
		{"accepted", func(_ context.Context, issuer string) (*Middleware, error) {
			return &Middleware{bindings: &bindings{}, issuers: newIssuers([]*verifier{{issuer: issuer}}, nil)}, nil
		}, 7100},
	} {
		synctest.Test(t, func(t *testing.T) {
			f, most := newFinder(tt.find, &bindings{}, slog.New(slog.DiscardHandler)), 0
			for second := range 120 {
				for i := range 150 {
					_, _ = f.of(t.Context(), fmt.Sprintf("https://%d.%d.example.com/%s", second, i, strings.Repeat("x", 200)), time.Now())
				}
				f.mu.Lock()
				most = max(most, len(f.answers))
				f.mu.Unlock()
				time.Sleep(time.Second)
			}
			if most > tt.most || most < 100 {
				t.Errorf("%s: %d names in memory, want %d at most", tt.name, most, tt.most)
			}
		})
	}
}

// Tenants are forgotten an hour after their last token.
func TestFinderForgetsTenants(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFinder(func(_ context.Context, issuer string) (*Middleware, error) {
			if issuer != "tenant" {
				return nil, nil
			}
			return &Middleware{bindings: &bindings{}, issuers: newIssuers([]*verifier{{issuer: issuer}}, nil)}, nil
		}, &bindings{}, slog.New(slog.DiscardHandler))
		found, err := f.of(t.Context(), "tenant", time.Now())
		if err != nil || found == nil {
			t.Fatal(found, err)
		}
		found.use(time.Now().UnixMicro())
		for _, step := range []struct {
			wait time.Duration
			kept bool
		}{{time.Minute, true}, {59 * time.Minute, true}, {2 * time.Minute, false}} {
			time.Sleep(step.wait)
			_, _ = f.of(t.Context(), "stranger", time.Now())
			synctest.Wait()
			if _, kept := f.answers["tenant"]; kept != step.kept {
				t.Errorf("after %v more: kept %t, want %t", step.wait, kept, step.kept)
			}
		}
	})
}
