package jwks_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"example.com/bearer/bearertest"
	"example.com/bearer/internal/jwks"
)

// newSite returns an issuer at a real address, whose answers pass through handle,
// and a Source of its keys.
func newSite(t *testing.T, handle func(w http.ResponseWriter, r *http.Request, next http.Handler)) (*bearertest.Issuer, *jwks.Source) {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	iss := bearertest.NewIssuer("http://" + server.Listener.Addr().String())
	server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handle(w, r, iss) })
	server.Start()
	t.Cleanup(server.Close)
	b := &bed{T: t, log: new(syncBuffer)}
	return iss, b.open(func(c *jwks.Config) { c.Issuer, c.Base, c.URL, c.Client = iss.URL, iss.URL, "", nil })
}

// What an issuer may do over the wire: the first token is accepted or gets 503.
func TestTransport(t *testing.T) {
	var canary atomic.Int32
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { canary.Add(1) }))
	defer elsewhere.Close()
	elsewhereTLS := httptest.NewTLSServer(elsewhere.Config.Handler)
	defer elsewhereTLS.Close()

	type handler = func(w http.ResponseWriter, r *http.Request, next http.Handler)
	status := func(code int) handler {
		return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			rec := httptest.NewRecorder()
			next.ServeHTTP(rec, r)
			w.WriteHeader(code)
			w.Write(rec.Body.Bytes())
		}
	}
	endless := func(first string) handler {
		return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			io.WriteString(w, first)
			for range 50 << 10 {
				if _, err := io.WriteString(w, strings.Repeat(" ", 1<<10)); err != nil {
					return
				}
			}
		}
	}
	tests := []struct {
		name   string
		path   string // that is answered differently
		handle handler
		want   int
	}{
		{"as it is", "", nil, 200},
		{"another content type", keysPath, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			rec := httptest.NewRecorder()
			next.ServeHTTP(rec, r)
			w.Header().Set("Content-Type", "text/html")
			w.Write(rec.Body.Bytes())
		}, 200},
		{"gzip", keysPath, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			rec := httptest.NewRecorder()
			next.ServeHTTP(rec, r)
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			z.Write(rec.Body.Bytes())
			z.Close()
		}, 200},
		{"redirect on the same host", keysPath, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			if r.URL.RawQuery == "" {
				http.Redirect(w, r, r.URL.Path+"?moved", http.StatusFound)
				return
			}
			next.ServeHTTP(w, r)
		}, 200},
		{"redirect to another host", keysPath, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			http.Redirect(w, r, elsewhere.URL, http.StatusFound)
		}, 503},
		{"redirect to another scheme", keysPath, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			http.Redirect(w, r, elsewhereTLS.URL, http.StatusMovedPermanently)
		}, 503},
		{"redirect of the metadata", metadataPath, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
		}, 503},
		{"status 201", keysPath, status(201), 503},
		{"status 203", keysPath, status(203), 503},
		{"status 204", keysPath, func(w http.ResponseWriter, r *http.Request, next http.Handler) { w.WriteHeader(204) }, 503},
		{"status 304", keysPath, func(w http.ResponseWriter, r *http.Request, next http.Handler) { w.WriteHeader(304) }, 503},
		{"status 401", keysPath, status(401), 503},
		{"status 404", keysPath, status(404), 503},
		{"status 500", keysPath, status(500), 503},
		{"status 500 for the metadata", metadataPath, status(500), 503},
		{"truncated", keysPath, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			w.Header().Set("Content-Length", "5000")
			next.ServeHTTP(w, r)
		}, 503},
		{"connection closed", keysPath, func(w http.ResponseWriter, r *http.Request, next http.Handler) { panic(http.ErrAbortHandler) }, 503},
		{"50 MB", keysPath, endless(""), 503},
		{"gzip bomb", keysPath, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			for range 200 {
				if _, err := z.Write(make([]byte, 1<<20)); err != nil {
					return
				}
			}
			z.Close()
		}, 503},
		{"metadata that is HTML", metadataPath, func(w http.ResponseWriter, r *http.Request, next http.Handler) { io.WriteString(w, "<html>") }, 503},
		{"metadata of 50 MB", metadataPath, endless(`{"issuer":"`), 503},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			iss, source := newSite(t, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				if r.URL.Path == tt.path {
					tt.handle(w, r, next)
					return
				}
				next.ServeHTTP(w, r)
			})
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			_, err := verify(t.Context(), source, iss.Sign("", "{}"))
			runtime.ReadMemStats(&after)
			if got := statusOf(err); got != tt.want {
				t.Errorf("status %d, want %d: %v", got, tt.want, err)
			}
			// The test's own server allocates here too, but no more than this.
			if grown := after.TotalAlloc - before.TotalAlloc; grown > 64<<20 && tt.name != "gzip bomb" {
				t.Errorf("%d MiB allocated", grown>>20)
			}
		})
	}
	if n := canary.Load(); n != 0 {
		t.Errorf("%d requests went elsewhere", n)
	}
}

func TestRefusedAndHangingConnections(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &bed{T: t, log: new(syncBuffer)}
	b.iss = bearertest.NewIssuer("http://" + listener.Addr().String())
	local := func(c *jwks.Config) { c.Issuer, c.Base, c.URL, c.Client = b.iss.URL, b.iss.URL, "", nil }
	b.source = b.open(local)
	if got := b.status(b.token()); got != 503 { // nobody accepts
		t.Errorf("a server that hangs: status %d, want 503", got)
	}
	listener.Close()
	b.source = b.open(local)
	if _, err := verify(t.Context(), b.source, b.token()); statusOf(err) != 503 || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("a server that refuses: %v", err)
	}
}

func TestRedirects(t *testing.T) {
	each(t, map[string]struct {
		to              string
		status, fetches int
	}{
		"another path":              {"https://login.example.com/keys", 200, 2},
		"relative":                  {"/keys", 200, 2},
		"the default port":          {"https://login.example.com:443/keys", 200, 2},
		"in capitals":               {"HTTPS://LOGIN.EXAMPLE.COM/keys", 200, 2},
		"an empty port":             {"https://login.example.com:/keys", 200, 2},
		"another port":              {"https://login.example.com:8443/keys", 503, 1},
		"http":                      {"http://login.example.com/keys", 503, 1},
		"http on the https port":    {"http://login.example.com:443/keys", 503, 1},
		"another host":              {"https://keys.example.com/keys", 503, 1},
		"a host that begins alike":  {"https://login.example.com.evil.example/keys", 503, 1},
		"a host behind a user":      {"https://login.example.com@evil.example/keys", 503, 1},
		"another host, same suffix": {"https://evil-login.example.com/keys", 503, 1},
		"for ever":                  {"https://login.example.com" + keysPath, 503, 6},
	}, func(t *testing.T, b *bed, row struct {
		to              string
		status, fetches int
	}) {
		b.setAnswer(func(r *http.Request, resp *http.Response) (*http.Response, error) {
			if r.URL.Path != keysPath {
				u := *r.URL
				r = r.Clone(r.Context())
				u.Path, u.Host = keysPath, "login.example.com"
				r.URL = &u
				return b.iss.Client().Transport.RoundTrip(r)
			}
			resp.StatusCode = http.StatusFound
			resp.Header.Set("Location", row.to)
			return resp, nil
		})
		b.want(row.to, b.token(), row.status, 0, row.fetches)
	}, func(c *jwks.Config) {
		// The test's own issuer wants the host's name in one spelling.
		home := c.Client.Transport
		c.Client.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
			r = r.Clone(r.Context())
			r.URL.Host = strings.TrimSuffix(strings.TrimSuffix(strings.ToLower(r.URL.Host), "443"), ":")
			return home.RoundTrip(r)
		})
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// What a redirect names does not fill the log, and has no way into it.
func TestLongRedirect(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.setAnswer(func(r *http.Request, resp *http.Response) (*http.Response, error) {
			resp.StatusCode = 302
			resp.Header.Set("Location", "https://"+strings.Repeat("x", 100000)+".example.com/")
			return resp, nil
		})
		if e := b.unavailable(b.token()); len(e.Error()) > 1000 {
			t.Errorf("an error of %d bytes", len(e.Error()))
		}
		if n := len(b.log.String()); n > 1000 || n == 0 {
			t.Errorf("%d bytes logged", n)
		}
	})
}

// A client keeps what is its own, but for the redirects that it follows.
func TestClientIsKept(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		jar, _ := cookiejar.New(nil)
		home, _ := url.Parse(issuerURL)
		jar.SetCookies(home, []*http.Cookie{{Name: "a", Value: "b"}})
		client := &http.Client{Transport: b, Jar: jar, Timeout: 3 * time.Second,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		b.source = b.open(func(c *jwks.Config) { c.Client = client })
		cookie := ""
		b.setAnswer(func(r *http.Request, resp *http.Response) (*http.Response, error) {
			cookie = r.Header.Get("Cookie")
			if r.URL.RawQuery == "" {
				resp.StatusCode = 302
				resp.Header.Set("Location", "?moved")
			}
			return resp, nil
		})
		b.want("a redirect on the same host", b.token(), 200, 0, 2)
		if cookie != "a=b" {
			t.Errorf("Cookie = %q, want that of the client's jar", cookie)
		}
		if client.CheckRedirect(nil, nil) != http.ErrUseLastResponse {
			t.Error("the caller's client was changed")
		}
		b.source = b.open(func(c *jwks.Config) { c.Client = client })
		b.iss.SetHanging(true)
		b.want("an issuer that hangs", b.token(), 503, 3*time.Second, 1)
		if err := b.source.Stats().Err; err == nil {
			t.Error("after 3 s the client's own timeout has not ended the fetch")
		}
	})
}

// A body tells when it is closed.
type body struct {
	io.ReadCloser
	open *atomic.Int32
}

func (b body) Close() error {
	b.open.Add(-1)
	return b.ReadCloser.Close()
}

func TestBodiesAreClosed(t *testing.T) {
	each(t, map[string]func(*http.Response){
		"200": func(resp *http.Response) {},
		"304": func(resp *http.Response) { resp.StatusCode = 304 },
		"500": func(resp *http.Response) { resp.StatusCode = 500 },
		"redirect": func(resp *http.Response) {
			resp.StatusCode = 302
			resp.Header.Set("Location", "https://x.example.com/")
		},
		"nonsense": func(resp *http.Response) { resp.Body = io.NopCloser(strings.NewReader("<html>")) },
		"too long": func(resp *http.Response) { resp.Body = io.NopCloser(bytes.NewReader(make([]byte, 2<<20))) },
		"broken":   func(resp *http.Response) { resp.Body = io.NopCloser(brokenReader{}) },
	}, func(t *testing.T, b *bed, change func(*http.Response)) {
		var open atomic.Int32
		b.want("first", b.token(), 200, 0, 2)
		b.setAnswer(func(r *http.Request, resp *http.Response) (*http.Response, error) {
			change(resp)
			open.Add(1)
			resp.Body = body{resp.Body, &open}
			return resp, nil
		})
		time.Sleep(30 * time.Hour)
		b.status(b.token())
		synctest.Wait()
		if b.fetches() == 0 || open.Load() != 0 {
			t.Errorf("%d bodies stay open", open.Load())
		}
	}, discovery)
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errors.New("broken") }

// 304 renews a set only if the request asked with that set's ETag.
func TestNotModified(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.setAnswer(func(_ *http.Request, resp *http.Response) (*http.Response, error) {
			resp.Header.Del("ETag")
			return resp, nil
		})
		b.want("first", b.token(), 200, 0, 1)
		b.setAnswer(func(_ *http.Request, resp *http.Response) (*http.Response, error) {
			resp.StatusCode = 304
			return resp, nil
		})
		b.want("304 without a condition", b.unknown("x"), 503, 0, 1)
	})
	// A 304 need not repeat the ETag.
	inBubble(t, func(t *testing.T, b *bed) {
		var asked []string
		b.setAnswer(func(r *http.Request, resp *http.Response) (*http.Response, error) {
			asked = append(asked, fmt.Sprint(r.Header.Get("If-None-Match") != "", resp.StatusCode))
			if resp.StatusCode == 304 {
				resp.Header.Del("ETag")
			}
			return resp, nil
		})
		for range 4 {
			b.status(b.token())
			synctest.Wait()
			time.Sleep(10 * time.Minute)
		}
		if want := "[false 200 true 304 true 304 true 304]"; fmt.Sprint(asked) != want {
			t.Errorf("conditions and answers: %v, want %v", asked, want)
		}
		if got := b.status(b.token()); got != 200 {
			t.Errorf("after them: status %d, want 200", got)
		}
	})
}

// life measures after how long a set is refreshed, which is four fifths of its
// life.
func (b *bed) life() time.Duration {
	token := b.token()
	b.status(token)
	synctest.Wait()
	b.fetches()
	start := time.Now()
	for b.fetches() == 0 && time.Since(start) < 2*time.Hour {
		time.Sleep(max(time.Second, time.Since(start)/200))
		b.status(token)
		synctest.Wait()
	}
	return time.Since(start) * 5 / 4
}

func TestLife(t *testing.T) {
	const huge = "9999999999999999999999"
	date := func(d time.Duration) string {
		return time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).Add(d).Format(http.TimeFormat) // when a bubble begins
	}
	for _, tt := range []struct {
		header http.Header
		want   time.Duration // or up to a tenth less
	}{
		{http.Header{}, 10 * time.Minute},
		{http.Header{"Cache-Control": {"public"}}, 10 * time.Minute},
		{http.Header{"Cache-Control": {"max-age=300"}}, 5 * time.Minute},
		{http.Header{"Cache-Control": {"public, MAX-AGE=300, must-revalidate"}}, 5 * time.Minute},
		{http.Header{"Cache-Control": {"public", `max-age="300"`}}, 5 * time.Minute},
		{http.Header{"Cache-Control": {"max-age=300, max-age=1200"}}, 5 * time.Minute},
		{http.Header{"Cache-Control": {"s-maxage=300"}}, 10 * time.Minute},
		{http.Header{"Cache-Control": {"s-maxage=120, max-age=1200"}}, 20 * time.Minute},
		{http.Header{"Cache-Control": {"max-age=1200, s-maxage=120"}}, 20 * time.Minute},
		{http.Header{"Cache-Control": {"max-age=300"}, "Age": {"100"}}, 200 * time.Second},
		{http.Header{"Cache-Control": {"max-age=7200"}, "Age": {"6000"}}, 20 * time.Minute},
		{http.Header{"Cache-Control": {"max-age=300"}, "Age": {"-100"}}, 5 * time.Minute},
		{http.Header{"Age": {"500"}}, 10 * time.Minute},
		{http.Header{"Cache-Control": {"max-age=0"}}, time.Minute},
		{http.Header{"Cache-Control": {"no-store"}}, time.Minute},
		{http.Header{"Cache-Control": {"no-cache, max-age=600"}}, time.Minute},
		{http.Header{"Cache-Control": {"max-age=3600, no-store"}}, time.Minute},
		{http.Header{"Cache-Control": {"max-age=3600"}, "Age": {huge}}, time.Minute},
		{http.Header{"Cache-Control": {"max-age=nonsense"}}, time.Minute},
		{http.Header{"Cache-Control": {"max-age=-5"}}, time.Minute},
		{http.Header{"Cache-Control": {"max-age=99999"}}, time.Hour},
		{http.Header{"Cache-Control": {"max-age=9223372036854775807"}, "Age": {"9223372036854775807"}}, time.Minute},
		{http.Header{"Cache-Control": {"max-age=" + huge}}, time.Hour},
		{http.Header{"Expires": {date(20 * time.Minute)}}, 20 * time.Minute},
		{http.Header{"Expires": {date(20 * time.Minute)}, "Age": {"300"}}, 15 * time.Minute},
		{http.Header{"Expires": {date(20 * time.Minute)}, "Date": {date(5 * time.Minute)}}, 15 * time.Minute},
		{http.Header{"Expires": {date(20 * time.Minute)}, "Cache-Control": {"max-age=300"}}, 5 * time.Minute},
		{http.Header{"Expires": {date(20 * time.Minute)}, "Cache-Control": {"public"}}, 20 * time.Minute},
		{http.Header{"Expires": {date(20 * time.Minute)}, "Cache-Control": {"no-store"}}, time.Minute},
		{http.Header{"Expires": {date(24 * time.Hour)}}, time.Hour},
		{http.Header{"Expires": {date(-24 * time.Hour)}}, time.Minute},
		{http.Header{"Expires": {"0"}}, time.Minute},
	} {
		inBubble(t, func(t *testing.T, b *bed) {
			b.setHeader(tt.header)
			if got, slack := b.life(), 3*time.Second+tt.want/100; got < tt.want*9/10-slack || got > tt.want+slack {
				t.Errorf("%v: a life of %v, want %v", tt.header, got, tt.want)
			}
		})
	}
}

// What 304 says of the life counts, and if it says nothing, what the set came with.
func TestLifeOfNotModified(t *testing.T) {
	each(t, map[string]struct {
		header http.Header // of the 304
		want   time.Duration
	}{
		"nothing":       {nil, 30 * time.Minute},
		"a longer one":  {http.Header{"Cache-Control": {"max-age=3000"}}, 50 * time.Minute},
		"a shorter one": {http.Header{"Cache-Control": {"max-age=300"}}, 5 * time.Minute},
	}, func(t *testing.T, b *bed, row struct {
		header http.Header
		want   time.Duration
	}) {
		b.setHeader(http.Header{"Cache-Control": {"max-age=1800"}})
		b.want("first", b.token(), 200, 0, 1)
		b.setAnswer(func(_ *http.Request, resp *http.Response) (*http.Response, error) {
			if resp.StatusCode != 304 {
				t.Errorf("status %d, want 304", resp.StatusCode)
			}
			resp.Header = row.header.Clone()
			return resp, nil
		})
		for range 3 {
			time.Sleep(time.Hour)
			if got, slack := b.life(), 3*time.Second+row.want/100; got < row.want*9/10-slack || got > row.want+slack {
				t.Errorf("a life of %v, want %v", got, row.want)
			}
		}
	})
}

// The servers of one API do not all come at the same moment, whatever the issuer
// says of the life.
func TestRefreshIsJittered(t *testing.T) {
	each(t, map[string]http.Header{
		"by default": {},
		"max-age":    {"Cache-Control": {"max-age=600"}},
		"no-store":   {"Cache-Control": {"no-store"}},
		"a day":      {"Cache-Control": {"max-age=86400"}},
		"Expires":    {"Expires": {"Sat, 01 Jan 2000 12:00:00 GMT"}},
	}, func(t *testing.T, b *bed, header http.Header) {
		b.setHeader(header)
		lives := make(map[time.Duration]bool)
		n := 0
		for ; n < 100 && len(lives) < 3; n++ {
			b.source = b.open()
			lives[b.life()] = true
		}
		if len(lives) < 3 {
			t.Errorf("%d APIs refresh after %v, want three times at least", n, lives)
		}
	})
}

func TestLargestDocument(t *testing.T) {
	for size, status := range map[int]int{1 << 20: 200, 1<<20 + 1: 503} {
		inBubble(t, func(t *testing.T, b *bed) {
			document := []byte(`{"keys":[` + string(published(t, b.iss)[0]) + `]}`)
			b.iss.SetKeys(append(document, strings.Repeat(" ", size-len(document))...))
			b.want(fmt.Sprint(size, " bytes"), b.token(), status, 0, 1)
		})
	}
}

func TestAcceptHeader(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		var accept []string
		b.setAnswer(func(r *http.Request, resp *http.Response) (*http.Response, error) {
			accept = append(accept, r.Header.Get("Accept"))
			return resp, nil
		})
		b.want("first", b.token(), 200, 0, 2)
		if want := "[application/json application/jwk-set+json, application/json]"; fmt.Sprint(accept) != want {
			t.Errorf("Accept = %v, want %v", accept, want)
		}
	}, discovery)
}

// The query of a URL may be a secret: neither log nor error has it.
func TestQueryIsNotTold(t *testing.T) {
	const secret = "S3cr3t"
	each(t, map[string]func(*http.Request, *http.Response) (*http.Response, error){
		"refused": func(*http.Request, *http.Response) (*http.Response, error) { return nil, errors.New("refused") },
		"status 403": func(_ *http.Request, resp *http.Response) (*http.Response, error) {
			resp.StatusCode = 403
			return resp, nil
		},
		"an error with the URL in it": func(r *http.Request, _ *http.Response) (*http.Response, error) {
			return nil, fmt.Errorf("proxy: cannot reach %s", r.URL)
		},
		"nonsense": func(_ *http.Request, resp *http.Response) (*http.Response, error) {
			resp.Body = io.NopCloser(strings.NewReader("<html>"))
			return resp, nil
		},
		"truncated": func(_ *http.Request, resp *http.Response) (*http.Response, error) {
			resp.Body = io.NopCloser(brokenReader{})
			return resp, nil
		},
		"redirect": func(r *http.Request, resp *http.Response) (*http.Response, error) {
			resp.StatusCode = 302
			resp.Header.Set("Location", "https://x.example.com/?"+r.URL.RawQuery)
			return resp, nil
		},
		"redirects": func(r *http.Request, resp *http.Response) (*http.Response, error) {
			resp.StatusCode = 302
			resp.Header.Set("Location", "?"+r.URL.RawQuery)
			return resp, nil
		},
		"panic": func(r *http.Request, _ *http.Response) (*http.Response, error) { panic("boom") },
	}, func(t *testing.T, b *bed, answer func(*http.Request, *http.Response) (*http.Response, error)) {
		b.setAnswer(answer)
		e := b.unavailable(b.token())
		for what, text := range map[string]string{"log": b.log.String(), "error": e.Error(), "Stats": b.source.Stats().Err.Error()} {
			if strings.Contains(text, secret) || text == "" {
				t.Errorf("%s: %s", what, text)
			}
		}
	}, func(c *jwks.Config) { c.URL += "?key=" + secret })

	// As little of one that metadata name.
	inBubble(t, func(t *testing.T, b *bed) {
		for _, uri := range []string{"http://login.example.com/keys?" + secret, "https://user:" + secret + "@login.example.com/keys", "://?" + secret} {
			b.source = b.open(discovery)
			b.setAnswer(func(r *http.Request, resp *http.Response) (*http.Response, error) {
				rec := httptest.NewRecorder()
				fmt.Fprintf(rec, `{"issuer":%q,"jwks_uri":%q}`, issuerURL, uri)
				return rec.Result(), nil
			})
			e := b.unavailable(b.token())
			if text := e.Error() + b.log.String(); strings.Contains(text, secret) {
				t.Errorf("%s: %s", uri, text)
			}
		}
	})
}

func TestCheckURL(t *testing.T) {
	for raw, want := range map[string]struct{ secure, insecure bool }{
		"https://login.example.com":           {true, true},
		"https://login.example.com/a?b":       {true, true},
		"HTTPS://login.example.com":           {true, true},
		"http://localhost:8080":               {true, true},
		"http://LOCALHOST":                    {true, true},
		"http://127.0.0.1:8080/x":             {true, true},
		"http://127.9.9.9":                    {true, true},
		"http://[::1]:8080":                   {true, true},
		"http://10.0.0.1":                     {false, true},
		"http://192.168.0.1":                  {false, true},
		"http://0.0.0.0":                      {false, true},
		"http://[fe80::1]":                    {false, true},
		"http://keycloak:8080":                {false, true},
		"http://localhost.example.com":        {false, true},
		"http://127.0.0.1.example.com":        {false, true},
		"http://login.example.com":            {false, true},
		"ftp://login.example.com":             {false, false},
		"file:///etc/passwd":                  {false, false},
		"https://":                            {false, false},
		"https:///path":                       {false, false},
		"https:login.example.com":             {false, false},
		"//login.example.com":                 {false, false},
		"login.example.com":                   {false, false},
		"":                                    {false, false},
		"https://user@login.example.com":      {false, false},
		"https://user:pass@login.example.com": {false, false},
		"https://login.example.com/#f":        {false, false},
		"https://login.example.com:port":      {false, false},
		"https://login .example.com":          {false, false},
	} {
		if err := jwks.CheckURL(raw); (err == nil) != want.secure {
			t.Errorf("CheckURL(%q) = %v, want it to pass: %v", raw, err, want.secure)
		} else if err != nil && want.insecure && !strings.Contains(err.Error(), "InsecureHTTP") {
			t.Errorf("CheckURL(%q) = %v, which does not name the way out", raw, err)
		}
		if err := jwks.CheckInsecureURL(raw); (err == nil) != want.insecure {
			t.Errorf("CheckInsecureURL(%q) = %v, want it to pass: %v", raw, err, want.insecure)
		}
	}
	if err := jwks.CheckURL("ftp://user:S3cr3t@login.example.com/?S3cr3t"); strings.Contains(err.Error(), "S3cr3t") {
		t.Error(err)
	}
}
