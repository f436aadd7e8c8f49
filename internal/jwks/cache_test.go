package jwks_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/bearer/internal/jwks"
)

// A memory is a Cache, and may fail.
type memory struct {
	mu         sync.Mutex
	entries    map[string][]byte
	gets, puts int
	get        func(ctx context.Context, data []byte) ([]byte, error) // may change or replace an answer
	put        func(ctx context.Context, data []byte) error
}

func (m *memory) Get(ctx context.Context, name string) ([]byte, error) {
	m.mu.Lock()
	m.gets++
	data, get := m.entries[name], m.get
	m.mu.Unlock()
	if get != nil {
		return get(ctx, data)
	}
	if data == nil {
		return nil, fs.ErrNotExist
	}
	return data, nil
}

func (m *memory) Put(ctx context.Context, name string, data []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.puts++
	if m.put != nil {
		if err := m.put(ctx, data); err != nil {
			return err
		}
	}
	if m.entries == nil {
		m.entries = make(map[string][]byte)
	}
	m.entries[name] = data
	return nil
}

// calls returns how often Get and Put were called since the last call.
func (m *memory) calls() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := fmt.Sprint(m.gets, " ", m.puts)
	m.gets, m.puts = 0, 0
	return s
}

// entry returns the one entry.
func (m *memory) entry(t *testing.T) (name string, e map[string]any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.entries) != 1 {
		t.Fatalf("%d entries, want one", len(m.entries))
	}
	for name, data := range m.entries {
		if err := json.Unmarshal(data, &e); err != nil {
			t.Fatal(err)
		}
		return name, e
	}
	return
}

// change changes members of the one entry.
func (m *memory) change(t *testing.T, changes map[string]any) {
	name, e := m.entry(t)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.entries[name] = marshal(with(e, changes))
}

// withMemory runs f with a Source that has filled a Cache. open returns another
// Source with that Cache, as after a restart.
func withMemory(t *testing.T, f func(t *testing.T, b *bed, m *memory, restart func()), change ...func(*jwks.Config)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m := new(memory)
		change = append(change, func(c *jwks.Config) { c.Cache = m })
		b := newBed(t, change...)
		b.status(b.token())
		synctest.Wait()
		if got := m.calls(); got != "1 1" {
			t.Errorf("at first: %s calls of Get and Put, want 1 1", got)
		}
		b.fetches()
		b.log.take()
		f(t, b, m, func() { b.source = b.open(change...) })
	})
}

func TestCacheServesAtOnce(t *testing.T) {
	for _, tt := range []struct {
		name    string
		age     time.Duration
		down    bool // the issuer, after the restart
		status  int
		within  time.Duration
		fetches int
	}{
		{"fresh", 5 * time.Minute, false, 200, 0, 0},
		{"fresh, issuer down", 5 * time.Minute, true, 200, 0, 0},
		{"to be refreshed", 9*time.Minute + 30*time.Second, false, 200, 0, 1},
		{"to be refreshed, issuer down", 9*time.Minute + 30*time.Second, true, 200, 0, 1},
		{"idle", time.Hour, false, 200, 0, 1},
		{"idle, issuer down", 24 * time.Hour, true, 200, 0, 1},
		{"expired", 24*time.Hour + 10*time.Minute, false, 200, 0, 1},
		{"expired, issuer down", 24*time.Hour + 10*time.Minute, true, 503, 0, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			withMemory(t, func(t *testing.T, b *bed, m *memory, restart func()) {
				time.Sleep(tt.age)
				restart()
				b.iss.SetDown(tt.down)
				b.want(tt.name, b.token(), tt.status, tt.within, tt.fetches)
				if got := m.calls(); got[0] != '1' {
					t.Errorf("%s calls of Get and Put, want one Get", got)
				}
				if stats := b.source.Stats(); stats.Fetches != int64(tt.fetches) || (stats.Keys > 0) != (tt.status == 200) {
					t.Errorf("%+v, want %d fetches", stats, tt.fetches)
				}
			})
		})
	}
}

// A set from the cache is never served beyond the end that it had.
func TestCacheAge(t *testing.T) {
	withMemory(t, func(t *testing.T, b *bed, m *memory, restart func()) {
		start := time.Now()
		token := b.token()
		b.iss.SetDown(true)
		for time.Since(start) < 30*time.Hour && b.status(token) == 200 {
			time.Sleep(3 * time.Minute)
			restart()
		}
		if served := time.Since(start); served < 24*time.Hour || served > 24*time.Hour+13*time.Minute {
			t.Errorf("served for %v, want a day and ten minutes at most", served)
		}
	})
}

// What the issuer withdrew does not come back, and what is new is there.
func TestCacheFollowsRotation(t *testing.T) {
	withMemory(t, func(t *testing.T, b *bed, m *memory, restart func()) {
		old := b.token()
		b.iss.Replace()
		b.want("a new key", b.token(), 200, 0, 1)
		b.iss.SetDown(true)
		restart()
		b.want("the new key, from the cache", b.token(), 200, 0, 0)
		b.want("the old key", old, 503, 0, 1)

		// A new key that the cache does not have is asked for.
		b.iss.SetDown(false)
		b.iss.Rotate()
		restart()
		b.want("a newer key", b.token(), 200, 0, 1)

		// All keys withdrawn.
		b.iss.SetKeys(fmt.Appendf(nil, `{"keys":[{"kty":"odd","kid":%q}]}`, b.iss.KeyID()))
		token := b.token()
		b.status(b.unknown("x"))
		synctest.Wait()
		b.iss.SetDown(true)
		b.fetches()
		restart()
		b.want("all withdrawn", token, 503, 0, 1)
	})
}

// An unchanged set is written once an hour, so that its age is known.
func TestCacheIsWrittenSeldom(t *testing.T) {
	withMemory(t, func(t *testing.T, b *bed, m *memory, restart func()) {
		for range 24 * 60 {
			time.Sleep(time.Minute)
			b.status(b.token())
		}
		synctest.Wait()
		var gets, puts int
		if fmt.Sscan(m.calls(), &gets, &puts); gets != 0 || puts < 20 || puts > 24 {
			t.Errorf("in a day: %d calls of Get and %d of Put, want none and 20 to 24", gets, puts)
		}
		_, e := m.entry(t)
		at, err := time.Parse(time.RFC3339Nano, e["fetched"].(string))
		if err != nil || time.Since(at) > 80*time.Minute {
			t.Errorf("fetched is %v, %v, want little more than an hour ago", e["fetched"], err)
		}
		b.iss.SetDown(true)
		time.Sleep(22 * time.Hour)
		restart()
		b.fetches()
		b.want("22 h later, issuer down", b.token(), 200, 0, 1)
	})
}

// Read at most once per try, and with each.
func TestCacheIsReadOncePerTry(t *testing.T) {
	withMemory(t, func(t *testing.T, b *bed, m *memory, restart func()) {
		m.mu.Lock()
		kept := m.entries
		m.entries = nil
		m.mu.Unlock()
		b.iss.SetDown(true)
		restart()
		if got := b.atOnce(20, func(int) string { return b.token() }); got[503] != 20 {
			t.Errorf("20 at once: %v, want 503 for all", got)
		}
		if got, n := m.calls(), b.fetches(); got != "1 0" || n != 1 {
			t.Errorf("%s calls of Get and Put and %d fetches, want 1 0 and one", got, n)
		}
		// Another instance has written it meanwhile.
		m.mu.Lock()
		m.entries = kept
		m.mu.Unlock()
		time.Sleep(time.Second)
		b.want("the next try", b.token(), 200, 0, 1)
		if got := m.calls(); got != "1 0" {
			t.Errorf("%s calls of Get and Put, want 1 0", got)
		}
		if s := b.log.String(); strings.Contains(s, "kept") {
			t.Errorf("a miss is logged: %s", s)
		}
	})
}

// An entry that is broken, or another's, is a miss with one log record.
func TestCacheIsReadStrictly(t *testing.T) {
	now := time.Now
	for name, tt := range map[string]struct {
		changes func() map[string]any
		used    bool
	}{
		"as it is":       {func() map[string]any { return nil }, true},
		"more members":   {func() map[string]any { return map[string]any{"more": 1} }, true},
		"version":        {func() map[string]any { return map[string]any{"version": 2} }, false},
		"no version":     {func() map[string]any { return map[string]any{"version": nil} }, false},
		"issuer":         {func() map[string]any { return map[string]any{"issuer": "https://evil.example.com/"} }, false},
		"issuer's slash": {func() map[string]any { return map[string]any{"issuer": strings.TrimSuffix(issuerURL, "/")} }, false},
		"place":          {func() map[string]any { return map[string]any{"from": keysURL + "2"} }, false},
		"no document":    {func() map[string]any { return map[string]any{"document": nil} }, false},
		"HTML":           {func() map[string]any { return map[string]any{"document": "<html>"} }, false},
		"an empty set":   {func() map[string]any { return map[string]any{"document": `{"keys":[]}`} }, false},
		"keys twice":     {func() map[string]any { return map[string]any{"document": `{"keys":[{"kty":"RSA"}],"keys":[]}`} }, false},
		"too much": {func() map[string]any {
			return map[string]any{"document": `{"keys":[{"kty":"RSA"}]` + strings.Repeat(" ", 1<<20) + `}`}
		}, false},
		"wrong type":   {func() map[string]any { return map[string]any{"fetched": "yesterday"} }, false},
		"the future":   {func() map[string]any { return map[string]any{"fetched": now().Add(time.Hour)} }, false},
		"a fast clock": {func() map[string]any { return map[string]any{"fetched": now().Add(30 * time.Second)} }, true},
	} {
		t.Run(name, func(t *testing.T) {
			withMemory(t, func(t *testing.T, b *bed, m *memory, restart func()) {
				m.change(t, tt.changes())
				restart()
				fetches, records := 1, 1
				if tt.used {
					fetches, records = 0, 0
				}
				b.want(name, b.token(), 200, 0, fetches)
				warned := strings.Count(b.log.String(), "WARN")
				if warned != records || warned > 0 && !strings.Contains(b.log.String(), "kept keys cannot be used\" issuer="+issuerURL+" error=") {
					t.Errorf("logged %s, want %d warnings", b.log, records)
				}
			})
		})
	}
	// Neither is a text that is no entry at all.
	for _, data := range []string{"x", "{", "[]", "null", "{}", strings.Repeat(" ", 9<<20)} {
		withMemory(t, func(t *testing.T, b *bed, m *memory, restart func()) {
			m.get = func(context.Context, []byte) ([]byte, error) { return []byte(data), nil }
			restart()
			b.want(fmt.Sprintf("%.10q", data), b.token(), 200, 0, 1)
			if n := strings.Count(b.log.String(), "WARN"); n != 1 {
				t.Errorf("%.10q: %d warnings, want 1", data, n)
			}
		})
	}
}

// No life in an entry is longer than the issuer could have given it.
func TestCacheLife(t *testing.T) {
	for _, life := range []any{int64(99999999999999), -5, 0, nil} {
		withMemory(t, func(t *testing.T, b *bed, m *memory, restart func()) {
			m.change(t, map[string]any{"life": life})
			b.iss.SetDown(true)
			time.Sleep(26 * time.Hour)
			restart()
			b.want(fmt.Sprint("a life of ", life), b.token(), 503, 0, 1)
		})
	}
}

// The entry of one issuer, place or way is not used for another, and stands under
// another name that can be a file's.
func TestCacheNames(t *testing.T) {
	names := make(map[string]string)
	for what, change := range map[string]func(*jwks.Config){
		"one":            func(c *jwks.Config) {},
		"another issuer": func(c *jwks.Config) { c.Issuer = "https://login.example.com/b" },
		"another URL":    func(c *jwks.Config) { c.URL += "?b" },
		"discovery":      func(c *jwks.Config) { c.URL = "" },
		"Fetch": func(c *jwks.Config) {
			c.URL = ""
			c.Fetch = func(context.Context) ([]byte, error) { return []byte(`{"keys":[{"kty":"odd"}]}`), nil }
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			m := new(memory)
			b := newBed(t, change, func(c *jwks.Config) { c.Cache, c.Client = m, nil })
			b.source = b.open(change, func(c *jwks.Config) {
				c.Cache = m
				if c.Issuer != issuerURL {
					c.Base = issuerURL
				}
			})
			b.source.Current(t.Context(), time.Now())
			synctest.Wait()
			name, _ := m.entry(t)
			if other := names[name]; other != "" {
				t.Errorf("%s and %s have one name", what, other)
			}
			if strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-.") != "" || len(name) > 60 {
				t.Errorf("%s: the name is %q", what, name)
			}
			names[name] = what
		})
	}
	// A name of the caller's.
	withMemory(t, func(t *testing.T, b *bed, m *memory, restart func()) {
		if name, _ := m.entry(t); name != "mine" {
			t.Errorf("the name is %q, want mine", name)
		}
	}, func(c *jwks.Config) { c.CacheName = "mine" })
}

// With discovery, the last known place of the keys outlasts the process too.
func TestCacheKeepsThePlace(t *testing.T) {
	withMemory(t, func(t *testing.T, b *bed, m *memory, restart func()) {
		b.setAnswer(site{metadataPath: 503}.answer(b, issuerURL, keysURL))
		b.iss.Rotate()
		restart()
		b.want("a new key, and no metadata", b.token(), 200, 0, 3)
		// But not to where metadata could not lead.
		m.change(t, map[string]any{"url": "http://10.0.0.1/keys"})
		restart()
		b.want("a place that is not https", b.token(), 503, 0, 2)
	}, discovery)
}

// A conditional request is made for what the cache has.
func TestCacheKeepsTheETag(t *testing.T) {
	withMemory(t, func(t *testing.T, b *bed, m *memory, restart func()) {
		time.Sleep(time.Hour)
		restart()
		b.want("an hour later", b.token(), 200, 0, 1)
		_, e := m.entry(t)
		if b.source.Stats().FetchedAt != time.Now() || e["etag"] == "" {
			t.Errorf("%+v, %v", b.source.Stats(), e["etag"])
		}
	})
}

// Only one write is on its way, and what came meanwhile is written after it.
func TestCacheIsWrittenInTurn(t *testing.T) {
	withMemory(t, func(t *testing.T, b *bed, m *memory, restart func()) {
		var mu sync.Mutex
		at, most := 0, 0
		p := &putter{memory: m}
		p.f = func() error {
			mu.Lock()
			at++
			most = max(most, at)
			mu.Unlock()
			time.Sleep(3 * time.Second)
			mu.Lock()
			at--
			mu.Unlock()
			return nil
		}
		b.source = b.open(func(c *jwks.Config) { c.Cache = p })
		for range 3 {
			b.iss.Rotate()
			b.status(b.token())
			time.Sleep(time.Second)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if p.writes != 2 || most != 1 {
			t.Errorf("%d writes, %d at once, want 2, one after the other", p.writes, most)
		}
	})
}

// A Cache that misbehaves costs log records, and neither a reply nor a fetch.
func TestCacheIsForeignCode(t *testing.T) {
	hang := func() error { time.Sleep(24 * time.Hour); return errors.New("too late") }
	for name, tt := range map[string]struct {
		f      func() error
		within time.Duration // of the first reply
		want   string
	}{
		"an error": {func() error { return errors.New("no disk") }, 0, "no disk"},
		"a panic":  {func() error { panic("boom") }, 0, "boom"},
		"its end":  {func() error { runtime.Goexit(); return nil }, 0, "ended its goroutine"},
		"a nil":    {func() error { return (*fs.PathError)(nil) }, 0, "nil pointer"},
		"a joined": {func() error { return errors.Join(errors.New("no disk"), (*wrapper)(nil)) }, 0, "nil pointer"},
		"a hang":   {hang, 2500 * time.Millisecond, "did not return"},
	} {
		t.Run("Get/"+name, func(t *testing.T) {
			withMemory(t, func(t *testing.T, b *bed, m *memory, restart func()) {
				m.get = func(context.Context, []byte) ([]byte, error) { return nil, tt.f() }
				restart()
				b.want("first", b.token(), 200, tt.within, 1)
				if n := strings.Count(b.log.String(), "WARN"); n != 1 || !strings.Contains(b.log.String(), tt.want) {
					t.Errorf("%d warnings, want one with %q: %s", n, tt.want, b.log)
				}
				time.Sleep(25 * time.Hour)
			})
		})
		t.Run("Put/"+name, func(t *testing.T) {
			withMemory(t, func(t *testing.T, b *bed, m *memory, restart func()) {
				p := &putter{memory: m, f: tt.f}
				b.source = b.open(func(c *jwks.Config) { c.Cache = p })
				for i := range 5 {
					b.iss.Rotate()
					b.want(fmt.Sprint("rotation ", i), b.token(), 200, 0, 1)
					time.Sleep(10 * time.Second)
				}
				if n := strings.Count(b.log.String(), "WARN"); n != 1 || !strings.Contains(b.log.String(), tt.want) {
					t.Errorf("%d warnings, want one with %q: %s", n, tt.want, b.log)
				}
				// It is tried again with the next fetch.
				p.mu.Lock()
				p.f = nil
				p.mu.Unlock()
				time.Sleep(25 * time.Hour)
				b.fetches()
				b.status(b.token())
				synctest.Wait()
				b.iss.SetDown(true)
				b.source = b.open(func(c *jwks.Config) { c.Cache = m })
				b.fetches()
				b.want("what it has", b.token(), 200, 0, 0)
			})
		})
	}
}

// A putter is a Cache whose Put misbehaves.
type putter struct {
	*memory
	mu     sync.Mutex
	f      func() error
	writes int
}

func (p *putter) Put(ctx context.Context, name string, data []byte) error {
	p.mu.Lock()
	f := p.f
	p.writes++
	p.mu.Unlock()
	if f != nil {
		return f()
	}
	return p.memory.Put(ctx, name, data)
}
