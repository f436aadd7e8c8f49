package bearer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/bearer"
	"example.com/bearer/bearertest"
)

func TestDirCache(t *testing.T) {
	dir := bearer.DirCache(filepath.Join(t.TempDir(), "a", "b"))
	ctx := t.Context()
	if _, err := dir.Get(ctx, "name"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing there: %v, want fs.ErrNotExist", err)
	}
	for _, data := range []string{"one", strings.Repeat("two", 1000), ""} {
		if err := dir.Put(ctx, "name", []byte(data)); err != nil {
			t.Fatal(err)
		}
		if got, err := dir.Get(ctx, "name"); err != nil || string(got) != data {
			t.Errorf("got %q, %v, want %q", got, err, data)
		}
	}
	for path, want := range map[string]os.FileMode{"": 0o700, "name": 0o600} {
		if info, err := os.Stat(filepath.Join(string(dir), path)); err != nil || info.Mode().Perm() != want {
			t.Errorf("mode of %q is %v, %v, want %v", path, info.Mode(), err, want)
		}
	}
	for _, name := range []string{"", ".", "..", "../x", "a/b", "/x", "a/../b"} {
		if err := dir.Put(ctx, name, nil); err == nil {
			t.Errorf("Put(%q) succeeds", name)
		}
		if _, err := dir.Get(ctx, name); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Get(%q) = %v, want another error", name, err)
		}
	}
	done, cancel := context.WithCancel(ctx)
	cancel()
	if err := dir.Put(done, "name", []byte("x")); !errors.Is(err, context.Canceled) {
		t.Errorf("Put for nobody = %v", err)
	}

	// Whoever reads meanwhile sees one of the files, and no part of one.
	var wg sync.WaitGroup
	for _, c := range []string{"a", "b"} {
		wg.Go(func() {
			for range 20 {
				if err := dir.Put(ctx, "name", bytes.Repeat([]byte(c), 10000)); err != nil {
					t.Error(err)
				}
				got, err := dir.Get(ctx, "name")
				if a, b := bytes.Count(got, []byte("a")), bytes.Count(got, []byte("b")); err != nil || max(a, b) != 10000 || min(a, b) != 0 {
					t.Errorf("%d a and %d b, %v", a, b, err)
				}
			}
		})
	}
	wg.Wait()
	if files, err := os.ReadDir(string(dir)); err != nil || len(files) != 1 {
		t.Errorf("%v are left behind, %v", files, err)
	}
	file := bearer.DirCache(filepath.Join(string(dir), "name"))
	if err := file.Put(ctx, "x", nil); err == nil {
		t.Error("Put into a file succeeds")
	}
}

// A program that starts while its issuer is down, in every state of its cache.
func TestKeyCache(t *testing.T) {
	iss := bearertest.NewIssuer("https://login.example.com/")
	dir := t.TempDir()
	start := func(change ...func(*bearer.Config)) *bearer.Middleware {
		return newMiddleware(t, iss, append(change, func(c *bearer.Config) { c.KeyCache = bearer.DirCache(dir) })...)
	}
	token := iss.Token(audience, nil)
	status := func(auth *bearer.Middleware) int { return serve(auth.Handler(ok), "Bearer "+token).Code }

	iss.SetDown(true)
	if got := status(start()); got != 503 {
		t.Errorf("nothing kept, issuer down: status %d, want 503", got)
	}
	iss.SetDown(false)
	if got := status(start()); got != 200 {
		t.Errorf("issuer up: status %d, want 200", got)
	}
	file, plain := waitForFile(t, dir), keySetOf(t, iss)
	iss.SetDown(true)
	before := iss.Fetches()
	auth := start()
	if got := status(auth); got != 200 {
		t.Errorf("kept, issuer down: status %d, want 200", got)
	}
	if s := auth.KeyStats(); s.Keys != 1 || iss.Fetches() != before {
		t.Errorf("KeyStats = %+v after %d fetches", s, iss.Fetches()-before)
	}
	if err := start().Ready(t.Context()); err != nil {
		t.Errorf("Ready = %v", err)
	}

	// What is another's is not used.
	for name, change := range map[string]func(*bearer.Config){
		"another issuer":    func(c *bearer.Config) { c.Issuer = "https://login.example.com/other" },
		"another place":     func(c *bearer.Config) { c.JWKSURL = "https://login.example.com/keys" },
		"another algorithm": func(c *bearer.Config) { c.Algorithms = []string{"RS256"} },
		"another directory": func(c *bearer.Config) { c.KeyCache = bearer.DirCache(t.TempDir()) },
	} {
		auth := newMiddleware(t, iss, func(c *bearer.Config) { c.KeyCache = bearer.DirCache(dir) }, change)
		if err := auth.Ready(t.Context()); statusOf(err) != 503 {
			t.Errorf("%s: Ready = %v, want status 503", name, err)
		}
	}

	// What is broken is as if there were nothing, and told once.
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"empty":            {},
		"half":             good[:len(good)/2],
		"not JSON":         []byte("keys"),
		"a plain key set":  plain,
		"a private key in": bytes.Replace(good, []byte(`\"kty\"`), []byte(`\"d\":\"AA\",\"kty\"`), 1),
	} {
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		var log syncBuffer
		auth := start(func(c *bearer.Config) { c.Logger = debugLogger(&log) })
		for range 2 {
			if got := status(auth); got != 503 {
				t.Errorf("%s: status %d, want 503", name, got)
			}
		}
		if n := strings.Count(log.String(), "kept keys cannot be used"); n > 1 || n == 0 && len(data) > 0 && name != "a private key in" {
			t.Errorf("%s: %d records:\n%s", name, n, log.String())
		}
	}
	iss.SetDown(false)
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := status(start()); got != 200 {
		t.Errorf("broken, issuer up: status %d, want 200", got)
	}
	waitForFile(t, dir)
}

// waitForFile returns the one file in dir as soon as it is whole: no request waits
// until it is written.
func waitForFile(t *testing.T, dir string) string {
	t.Helper()
	for range 1000 {
		files, _ := os.ReadDir(dir)
		if len(files) == 1 && strings.HasPrefix(files[0].Name(), "bearer-keys-") {
			path := filepath.Join(dir, files[0].Name())
			if data, _ := os.ReadFile(path); bytes.Contains(data, []byte(`"document"`)) {
				return path
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("no file")
	return ""
}

// keySetOf returns the key set that iss publishes.
func keySetOf(t *testing.T, iss *bearertest.Issuer) []byte {
	return marshal(map[string]any{"keys": published(t, iss)})
}

// A cacheFunc is a KeyCache of the caller's own.
type cacheFunc func(ctx context.Context) ([]byte, error)

func (f cacheFunc) Get(ctx context.Context, _ string) ([]byte, error) { return f(ctx) }
func (f cacheFunc) Put(ctx context.Context, _ string, _ []byte) error { _, err := f(ctx); return err }

// A cache that fails, panics or hangs is no reason to refuse a token.
func TestKeyCacheFaults(t *testing.T) {
	for name, f := range map[string]cacheFunc{
		"fails":       func(context.Context) ([]byte, error) { return nil, errors.New("boom") },
		"panics":      func(context.Context) ([]byte, error) { panic("boom") },
		"hangs":       func(ctx context.Context) ([]byte, error) { <-ctx.Done(); return nil, ctx.Err() },
		"nonsense":    func(context.Context) ([]byte, error) { return []byte("x"), nil },
		"not there":   func(context.Context) ([]byte, error) { return nil, fmt.Errorf("no: %w", fs.ErrNotExist) },
		"nothing":     func(context.Context) ([]byte, error) { return nil, nil },
		"data, error": func(context.Context) ([]byte, error) { return []byte(`{"keys":[]}`), errors.New("boom") },
	} {
		synctest.Test(t, func(t *testing.T) {
			iss, auth := newAuth(t, func(c *bearer.Config) { c.KeyCache = f })
			start := time.Now()
			if _, err := auth.Verify(t.Context(), iss.Token(audience, nil)); err != nil || time.Since(start) > 4*time.Second {
				t.Errorf("%s: %v after %v, want nil", name, err, time.Since(start))
			}
			time.Sleep(time.Minute)
		})
	}
}
