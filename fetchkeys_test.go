package bearer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"example.com/bearer"
	"example.com/bearer/bearertest"
)

// noHTTP is the client of tests that need none.
func noHTTP(t *testing.T) *http.Client {
	return &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		t.Errorf("a request for %s", r.URL)
		return nil, errors.New("no network")
	})}
}

func TestFetchKeys(t *testing.T) {
	iss := bearertest.NewIssuer("https://login.example.com/")
	for _, tt := range []struct {
		name   string
		fetch  func(good []byte) ([]byte, error)
		status int
	}{
		{"as they are", func(good []byte) ([]byte, error) { return good, nil }, 200},
		{"an error", func([]byte) ([]byte, error) { return nil, errors.New("boom") }, 503},
		{"keys and an error", func(good []byte) ([]byte, error) { return good, errors.New("boom") }, 503},
		{"nothing", func([]byte) ([]byte, error) { return nil, nil }, 503},
		{"no key set", func([]byte) ([]byte, error) { return []byte("{}"), nil }, 503},
		{"an empty one", func([]byte) ([]byte, error) { return []byte(`{"keys":[]}`), nil }, 503},
		{"more than 1 MiB", func(good []byte) ([]byte, error) {
			return append(good, bytes.Repeat([]byte(" "), 1<<20)...), nil
		}, 503},
		{"a panic", func([]byte) ([]byte, error) { panic("boom") }, 503},
		{"no return", func([]byte) ([]byte, error) { runtime.Goexit(); return nil, nil }, 503},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				good := keySetOf(t, iss)
				var log syncBuffer
				auth := newMiddleware(t, iss, func(c *bearer.Config) {
					c.Issuer, c.Client, c.Logger = "acme", noHTTP(t), debugLogger(&log) // any issuer will do
					c.FetchKeys = func(context.Context) ([]byte, error) { return tt.fetch(bytes.Clone(good)) }
				})
				h := auth.Handler(ok)
				for range 3 {
					if got := serve(h, "Bearer "+iss.Token(audience, bearertest.Claims{"iss": "acme"})).Code; got != tt.status {
						t.Errorf("status %d, want %d", got, tt.status)
					}
				}
				want := 0
				if tt.status == 503 {
					want = 1
				}
				synctest.Wait() // the record comes when requests have their reply
				if n := strings.Count(log.String(), "level=WARN"); n != want {
					t.Errorf("%d warnings, want %d:\n%s", n, want, log.String())
				}
			})
		})
	}
}

// Single flight, a rotation, and the last known good keys are as with HTTP.
func TestFetchKeysTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		iss := bearertest.NewIssuer("https://login.example.com/")
		var calls atomic.Int64
		var down, hanging atomic.Bool
		auth := newMiddleware(t, iss, func(c *bearer.Config) {
			c.Client = noHTTP(t)
			c.FetchKeys = func(ctx context.Context) ([]byte, error) {
				calls.Add(1)
				if _, ok := ctx.Deadline(); !ok {
					t.Error("no deadline")
				}
				time.Sleep(100 * time.Millisecond)
				if hanging.Load() {
					<-ctx.Done()
				}
				if down.Load() {
					return nil, errors.New("down")
				}
				return keySetOf(t, iss), nil
			}
		})
		at := make(chan error)
		for range 40 {
			go func() {
				_, err := auth.Verify(t.Context(), iss.Token(audience, nil))
				at <- err
			}()
		}
		for range 40 {
			if err := <-at; err != nil {
				t.Errorf("at once: %v", err)
			}
		}
		if n := calls.Load(); n != 1 {
			t.Errorf("%d calls, want 1", n)
		}
		time.Sleep(time.Minute)
		iss.Rotate()
		if _, err := auth.Verify(t.Context(), iss.Token(audience, nil)); err != nil || calls.Load() != 2 {
			t.Errorf("after a rotation: %v with %d calls, want nil with 2", err, calls.Load())
		}
		down.Store(true)
		time.Sleep(12 * time.Hour)
		if _, err := auth.Verify(t.Context(), iss.Token(audience, nil)); err != nil {
			t.Errorf("down: %v, want the keys of before", err)
		}
		time.Sleep(24 * time.Hour)
		if _, err := auth.Verify(t.Context(), iss.Token(audience, nil)); statusOf(err) != 503 {
			t.Errorf("down for more than a day: %v, want status 503", err)
		}
		down.Store(false)
		hanging.Store(true)
		time.Sleep(time.Minute)
		start := time.Now()
		if _, err := auth.Verify(t.Context(), iss.Token(audience, nil)); statusOf(err) != 503 || time.Since(start) > 5*time.Second {
			t.Errorf("hanging: %v after %v, want status 503 within 5s", err, time.Since(start))
		}
		hanging.Store(false)
		time.Sleep(time.Minute)
		if _, err := auth.Verify(t.Context(), iss.Token(audience, nil)); err != nil {
			t.Errorf("well again: %v", err)
		}
	})
}

func TestInsecureHTTP(t *testing.T) {
	insecure := func(c *bearer.Config) { c.InsecureHTTP = true }
	iss := bearertest.NewIssuer("http://keycloak:8080/realms/acme")
	var log syncBuffer
	auth := newMiddleware(t, iss, insecure, func(c *bearer.Config) { c.Logger = debugLogger(&log) })
	const record = `msg="bearer: keys may come over plain http" issuer=http://keycloak:8080/realms/acme because_of=Config.InsecureHTTP`
	if n := strings.Count(log.String(), "level=WARN"); n != 1 || !strings.Contains(log.String(), record) {
		t.Errorf("New logs %d warnings, want 1:\n%s", n, log.String())
	}
	if _, err := auth.Verify(t.Context(), iss.Token(audience, nil)); err != nil {
		t.Errorf("plain http: %v", err)
	}

	// The issuer's name and the place of its keys differ.
	front := bearertest.NewIssuer("https://sso.example.com/realms/acme")
	auth = newMiddleware(t, front, insecure, func(c *bearer.Config) {
		c.JWKSURL = "http://keycloak:8080/realms/acme" + keysPath
		c.Client = &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			if r.URL.Host != "keycloak:8080" || r.URL.Scheme != "http" {
				t.Errorf("a request for %s", r.URL)
			}
			r.URL.Host = "sso.example.com"
			return front.Client().Transport.RoundTrip(r)
		})}
	})
	if _, err := auth.Verify(t.Context(), front.Token(audience, nil)); err != nil {
		t.Errorf("a back channel: %v", err)
	}

	// It is for hosts that the configuration names.
	elsewhere := newMiddleware(t, front, insecure, func(c *bearer.Config) {
		c.Client = &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			if r.URL.Scheme != "https" {
				t.Errorf("a request for %s", r.URL)
			}
			w := httptest.NewRecorder()
			fmt.Fprint(w, `{"issuer":"https://sso.example.com/realms/acme","jwks_uri":"http://other.example.com/keys"}`)
			return w.Result(), nil
		})}
	})
	if _, err := elsewhere.Verify(t.Context(), front.Token(audience, nil)); statusOf(err) != 503 {
		t.Errorf("keys on another host: %v, want status 503", err)
	}

	for _, tt := range []struct {
		name   string
		change func(*bearer.Config)
		want   string // part of the error; empty for none
	}{
		{"http", func(c *bearer.Config) { c.Issuer = "http://keycloak:8080/realms/acme" }, `Config.Issuer: "http://keycloak:8080/realms/acme" must use https (http is for loopback hosts, and for others with InsecureHTTP)`},
		{"http, allowed", func(c *bearer.Config) { c.Issuer, c.InsecureHTTP = "http://keycloak:8080/realms/acme", true }, ""},
		{"JWKSURL", func(c *bearer.Config) { c.JWKSURL = "http://keycloak:8080/keys" }, "for others with InsecureHTTP"},
		{"JWKSURL, allowed", func(c *bearer.Config) { c.JWKSURL, c.InsecureHTTP = "http://keycloak:8080/keys", true }, ""},
		{"another scheme", func(c *bearer.Config) { c.Issuer, c.InsecureHTTP = "ftp://keycloak/", true }, "must use https"},
		{"no host", func(c *bearer.Config) { c.Issuer, c.InsecureHTTP = "http://", true }, "is not an absolute https URL"},
		{"FetchKeys with any issuer", func(c *bearer.Config) { c.Issuer, c.FetchKeys = "acme", noKeys }, ""},
		{"FetchKeys with JWKSURL", func(c *bearer.Config) { c.JWKSURL, c.FetchKeys = "https://login.example.com/keys", noKeys }, "Config.FetchKeys: cannot be set together with JWKSURL"},
		{"a DirCache without a name", func(c *bearer.Config) { c.KeyCache = bearer.DirCache("") }, "Config.KeyCache: a DirCache needs"},
		{"FetchKeys without an issuer", func(c *bearer.Config) { c.Issuer, c.FindIssuer, c.FetchKeys = "", noIssuer, noKeys }, "Config.FetchKeys: needs Issuer"},
		{"KeyCache without an issuer", func(c *bearer.Config) { c.Issuer, c.FindIssuer, c.KeyCache = "", noIssuer, bearer.DirCache("x") }, "Config.KeyCache: needs Issuer"},
		{"InsecureHTTP without an issuer", func(c *bearer.Config) { c.Issuer, c.FindIssuer, c.InsecureHTTP = "", noIssuer, true }, "Config.InsecureHTTP: needs Issuer"},
	} {
		cfg := bearer.Config{Issuer: "https://login.example.com", Audience: []string{audience}, Logger: quiet}
		tt.change(&cfg)
		if _, err := bearer.New(cfg); (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want %q", tt.name, err, tt.want)
		}
	}
}

func noKeys(context.Context) ([]byte, error)                       { return nil, nil }
func noIssuer(context.Context, string) (*bearer.Middleware, error) { return nil, nil }
