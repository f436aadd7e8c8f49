package bearer_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"example.com/bearer"
	"example.com/bearer/bearertest"
)

// wrappers are all ways through which a request reaches a handler.
func wrappers(t *testing.T, iss *bearertest.Issuer, auth *bearer.Middleware) map[string]func(http.Handler) http.Handler {
	pass := func(*http.Request, *bearer.Claims) error { return nil }
	other := newMiddleware(t, iss, func(c *bearer.Config) { c.Header = "X-Token" })
	return map[string]func(http.Handler) http.Handler{
		"Handler":      auth.Handler,
		"Optional":     auth.Optional,
		"RequireScope": auth.RequireScope("a"),
		"Require":      auth.Require(pass),
		"nested":       func(next http.Handler) http.Handler { return auth.Handler(auth.RequireScope("a")(next)) },
		"again, behind another": func(next http.Handler) http.Handler {
			return auth.Handler(other.Optional(auth.Handler(next)))
		},
		"Optional, anonymous": func(next http.Handler) http.Handler {
			h := auth.Optional(next)
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				r.Header.Del("Authorization")
				h.ServeHTTP(w, r)
			})
		},
	}
}

// over gives h, behind a server, a raw HTTP/1.1 request with a good token and
// returns the raw reply.
func over(t *testing.T, iss *bearertest.Issuer, h http.Handler, headers, body string) string {
	t.Helper()
	server := httptest.NewServer(h)
	defer server.Close()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	token := iss.Token(audience, bearertest.Claims{"scope": "a"})
	fmt.Fprintf(conn, "POST /api/messages HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: Bearer %s\r\n%s\r\n%s", token, headers, body)
	reply, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	return string(reply)
}

// Trailers arrive in the handler's request, announced or not (RFC 9112, section
// 7.1.2).
func TestTrailers(t *testing.T) {
	iss, auth := newAuth(t)
	echo := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		fmt.Fprintf(w, "<%s %v %s>", body, err, r.Trailer.Get("Checksum"))
	})
	for name, wrap := range wrappers(t, iss, auth) {
		for _, announced := range []string{"", "Trailer: Checksum\r\n"} {
			reply := over(t, iss, wrap(echo), "Transfer-Encoding: chunked\r\n"+announced, "2\r\nhi\r\n0\r\nChecksum: 42\r\n\r\n")
			if !strings.Contains(reply, "<hi <nil> 42>") {
				t.Errorf("%s, %q: got %q, want the body and its trailer", name, announced, reply)
			}
		}
		reply := over(t, iss, wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "<%v>", r.Trailer == nil)
		})), "Content-Length: 2\r\n", "hi")
		if !strings.Contains(reply, "<true>") {
			t.Errorf("%s: a request that cannot have trailers has a map for them: %q", name, reply)
		}
	}
}

// An ErrorHandler that reads the body finds them too.
func TestTrailersOfRefusedRequest(t *testing.T) {
	iss, auth := newAuth(t, func(c *bearer.Config) {
		c.ErrorHandler = func(w http.ResponseWriter, r *http.Request, e *bearer.Error) {
			w.WriteHeader(e.Status)
			body, err := io.ReadAll(r.Body)
			fmt.Fprintf(w, "<%s %v %s>", body, err, r.Trailer.Get("Checksum"))
		}
	})
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { auth.WriteError(w, r, &bearer.Error{Status: 403}) })
	reply := over(t, iss, h, "Transfer-Encoding: chunked\r\n", "2\r\nhi\r\n0\r\nChecksum: 42\r\n\r\n")
	if !strings.Contains(reply, "<hi <nil> 42>") {
		t.Errorf("got %q, want the body and its trailer", reply)
	}
}

// net/http removes the files of a form when the request that it knows has been
// served, whoever parsed the form.
func TestFormFilesAreRemoved(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	iss, auth := newAuth(t)
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	file, _ := form.CreateFormFile("file", "file")
	file.Write(make([]byte, 100<<10))
	form.Close()
	headers := fmt.Sprintf("Content-Type: %s\r\nContent-Length: %d\r\n", form.FormDataContentType(), body.Len())

	files := func() int {
		entries, err := os.ReadDir(os.Getenv("TMPDIR"))
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	var parsed int // files that were there while the request was served
	parse := func(r *http.Request) {
		if err := r.ParseMultipartForm(1); err != nil {
			t.Error(err)
		}
		parsed = files()
	}
	parses := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { parse(r) })
	panics := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { parse(r); panic("boom") })
	handlers := map[string]http.Handler{
		"a check that refuses": auth.Require(func(r *http.Request, c *bearer.Claims) error { parse(r); return errors.New("no") })(ok),
		"a check that panics":  auth.Require(func(r *http.Request, c *bearer.Claims) error { parse(r); panic("boom") })(ok),
		"an ErrorHandler": newMiddleware(t, iss, func(c *bearer.Config) {
			c.ErrorHandler = func(w http.ResponseWriter, r *http.Request, e *bearer.Error) { parse(r); w.WriteHeader(e.Status) }
		}).RequireScope("other")(ok),
	}
	for name, wrap := range wrappers(t, iss, auth) {
		handlers[name], handlers[name+", panics"] = wrap(parses), wrap(panics)
	}
	for name, h := range handlers {
		parsed = 0
		done := make(chan struct{})
		over(t, iss, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			defer close(done)
			defer func() {
				recover()
				// What net/http does at the end, so that the test sees it.
				if r.MultipartForm != nil {
					r.MultipartForm.RemoveAll()
				}
				if r.PostForm == nil || r.Form == nil {
					t.Errorf("%s: the form is hidden from those outside", name)
				}
			}()
			h.ServeHTTP(w, r)
		}), headers, body.String())
		<-done
		if n := files(); parsed != 1 || n != 0 {
			t.Errorf("%s: %d files while it was served and %d after, want 1 and 0", name, parsed, n)
		}
	}
}

// A form that is taken away inside is gone outside.
func TestFormTakenAway(t *testing.T) {
	iss, auth := newAuth(t)
	forget := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { r.Form, r.PostForm = nil, nil })
	for name, wrap := range wrappers(t, iss, auth) {
		r := httptest.NewRequest("GET", "/?q=1", nil)
		r.Header.Set("Authorization", "Bearer "+iss.Token(audience, bearertest.Claims{"scope": "a"}))
		if err := r.ParseForm(); err != nil {
			t.Fatal(err)
		}
		wrap(forget).ServeHTTP(httptest.NewRecorder(), r)
		if r.Form != nil || r.PostForm != nil {
			t.Errorf("%s: the forms outside are %v and %v, want none", name, r.Form, r.PostForm)
		}
	}
}

// A body that a handler reads as a stream is known outside to be read.
func TestMultipartReader(t *testing.T) {
	iss, auth := newAuth(t)
	reads := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := r.MultipartReader(); err != nil {
			t.Error(err)
		}
	})
	for name, wrap := range wrappers(t, iss, auth) {
		r := httptest.NewRequest("POST", "/", strings.NewReader("--x--"))
		r.Header.Set("Content-Type", "multipart/form-data; boundary=x")
		r.Header.Set("Authorization", "Bearer "+iss.Token(audience, bearertest.Claims{"scope": "a"}))
		wrap(reads).ServeHTTP(httptest.NewRecorder(), r)
		if _, err := r.MultipartReader(); err == nil {
			t.Errorf("%s: it can be read again outside", name)
		}
	}
}

// The pattern is there outside, also after a panic: access logs want it most then.
func TestPatternOfPanic(t *testing.T) {
	iss, auth := newAuth(t)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/{name}", func(http.ResponseWriter, *http.Request) { panic("boom") })
	for name, wrap := range wrappers(t, iss, auth) {
		r := httptest.NewRequest("POST", "/api/messages", nil)
		r.Header.Set("Authorization", "Bearer "+iss.Token(audience, bearertest.Claims{"scope": "a"}))
		func() {
			defer func() { recover() }()
			wrap(mux).ServeHTTP(httptest.NewRecorder(), r)
		}()
		if r.Pattern != "POST /api/{name}" {
			t.Errorf("%s: pattern outside = %q", name, r.Pattern)
		}
	}
}

// The ResponseWriter of net/http reaches the handler with all that it can do.
func TestResponseWriter(t *testing.T) {
	iss, auth := newAuth(t)
	uses := map[string]http.HandlerFunc{
		"Flusher": func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, "fl")
			w.(http.Flusher).Flush()
			fmt.Fprint(w, "ushed")
		},
		"ReaderFrom": func(w http.ResponseWriter, r *http.Request) {
			w.(io.ReaderFrom).ReadFrom(strings.NewReader("read from"))
		},
		"StringWriter": func(w http.ResponseWriter, r *http.Request) { w.(io.StringWriter).WriteString("string") },
		"ResponseController": func(w http.ResponseWriter, r *http.Request) {
			c := http.NewResponseController(w)
			deadline := time.Now().Add(time.Minute)
			fmt.Fprint(w, errors.Join(c.EnableFullDuplex(), c.SetReadDeadline(deadline), c.SetWriteDeadline(deadline), c.Flush()))
		},
		"Hijacker": func(w http.ResponseWriter, r *http.Request) {
			conn, buffered, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			fmt.Fprint(buffered, "hijacked")
			buffered.Flush()
			conn.Close()
		},
	}
	want := map[string]string{
		"Flusher": "2\r\nfl\r\n5\r\nushed\r\n", "ReaderFrom": "read from", "StringWriter": "string",
		"ResponseController": "<nil>", "Hijacker": "hijacked",
	}
	for wrapper, wrap := range wrappers(t, iss, auth) {
		for use, h := range uses {
			reply := over(t, iss, wrap(h), "Content-Length: 0\r\n", "")
			if !strings.Contains(reply, want[use]) || (use == "Hijacker") != (reply == "hijacked") {
				t.Errorf("%s, %s: got %q, want %q", wrapper, use, reply, want[use])
			}
		}
	}
}

// A reply that was begun by a client's 100-continue is the handler's too.
func TestExpectContinue(t *testing.T) {
	iss, auth := newAuth(t)
	bodies := make(chan string, 1)
	server := httptest.NewServer(auth.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		bodies <- string(body)
	})))
	defer server.Close()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	in := bufio.NewReader(conn)
	for _, tt := range []struct{ token, want string }{
		{iss.Token(audience, nil), "100 Continue"},
		{"x.y.z", "401 Unauthorized"}, // and the body is not asked for
	} {
		fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n", tt.token)
		line, err := in.ReadString('\n')
		if err != nil || !strings.Contains(line, tt.want) {
			t.Fatalf("got %q, %v, want %s", line, err, tt.want)
		}
		if tt.want != "100 Continue" {
			break
		}
		in.ReadString('\n')
		fmt.Fprint(conn, "hi")
		resp, err := http.ReadResponse(in, nil)
		if body := <-bodies; err != nil || resp.StatusCode != 200 || body != "hi" {
			t.Fatalf("got %v, %v and body %q", resp, err, body)
		}
		resp.Body.Close()
	}
}

// Claims that were copied as their documentation says keep nothing of the request.
func TestKeptClaims(t *testing.T) {
	iss, auth := newAuth(t)
	var kept *bearer.Claims
	h := auth.Handler(auth.RequireScope("read")(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		kept, _ = bearer.FromContext(r.Context())
		kept.Audience = slices.Clone(kept.Audience)
	})))
	request := func() weak.Pointer[[1 << 16]byte] {
		body := new([1 << 16]byte)
		r := httptest.NewRequest("POST", "/", bytes.NewReader(body[:]))
		r.Header.Set("Authorization", "Bearer "+iss.Token(audience, bearertest.Claims{"scope": "read"}))
		h.ServeHTTP(httptest.NewRecorder(), r)
		return weak.Make(body)
	}()
	runtime.GC()
	if request.Value() != nil {
		t.Error("the request's body is still there")
	}
	if len(kept.Audience) != 1 || kept.Audience[0] != audience {
		t.Errorf("kept %+v", kept)
	}
}

// Contexts get into logs. What they carry does not.
func TestContextIsPrintable(t *testing.T) {
	var printed []string
	look := func(r *http.Request) {
		ctx := r.Context()
		for _, ctx := range []context.Context{ctx, context.WithoutCancel(ctx), bearer.NewContext(ctx, &bearer.Claims{Subject: "alice"})} {
			printed = append(printed, fmt.Sprintf("%v %+v %#v %s %d", ctx, ctx, ctx, ctx, ctx))
		}
	}
	iss, auth := newAuth(t, func(c *bearer.Config) {
		c.ErrorHandler = func(_ http.ResponseWriter, r *http.Request, _ *bearer.Error) { look(r) }
	})
	token := iss.Token(audience, bearertest.Claims{"sub": "alice"})
	serve(auth.Handler(auth.Require(func(r *http.Request, _ *bearer.Claims) error { look(r); return errors.New("no") })(ok)), "Bearer "+token)
	if len(printed) != 6 {
		t.Fatalf("%d contexts, want 6", len(printed))
	}
	for _, s := range printed {
		if !strings.Contains(s, "bearer.") {
			t.Errorf("a context does not tell what it is: %s", s)
		}
		if strings.Contains(s, "alice") || strings.Contains(s, token[:20]) {
			t.Errorf("a context has the token or its claims in its text: %s", s)
		}
	}
}

// Middlewares within each other each show their own verdict: to handlers, checks
// and ErrorHandlers alike.
func TestMiddlewaresWithinEachOther(t *testing.T) {
	var shown string // whose claims the innermost handler, check or ErrorHandler saw
	look := func(r *http.Request) {
		shown = "nobody's"
		if c, found := bearer.FromContext(r.Context()); found {
			shown = c.Issuer
		}
	}
	record := func(c *bearer.Config) {
		c.ErrorHandler = func(w http.ResponseWriter, r *http.Request, e *bearer.Error) { look(r); w.WriteHeader(e.Status) }
	}
	iss, a := newAuth(t, record)
	other := bearertest.NewIssuer("https://other.example.com")
	b := newMiddleware(t, other, func(c *bearer.Config) { c.Header = "X-Token" }, record)
	const anybody = "nobody's"
	look200 := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { look(r) })
	sees := func(r *http.Request, c *bearer.Claims) error {
		look(r)
		if shown != c.Issuer {
			return fmt.Errorf("the check got the claims of %s and sees %s", c.Issuer, shown)
		}
		return nil
	}
	fails := func(*http.Request, *bearer.Claims) error { return errors.New("no") }
	for _, tt := range []struct {
		name        string
		h           http.Handler
		tokenA      bool
		tokenB      bool
		status      int
		want        string
		description string
	}{
		{"alone", a.Handler(look200), true, false, 200, iss.URL, ""},
		{"both", a.Handler(b.Handler(look200)), true, true, 200, other.URL, ""},
		{"anonymous inside", a.Handler(b.Optional(look200)), true, false, 200, anybody, ""},
		{"anonymous outside", b.Optional(a.Handler(look200)), true, false, 200, iss.URL, ""},
		{"both anonymous", a.Optional(b.Optional(look200)), false, false, 200, anybody, ""},
		{"the outer one's scope inside of anonymous", a.Handler(b.Optional(a.RequireScope("a")(look200))), true, false, 200, iss.URL, ""},
		{"the outer one's scope inside of the other", a.Handler(b.Handler(a.RequireScope("a")(look200))), true, true, 200, iss.URL, ""},
		{"both again", a.Handler(b.Handler(a.Handler(b.Handler(look200)))), true, true, 200, other.URL, ""},
		{"both again, with Optional", a.Handler(b.Optional(a.Optional(b.Optional(look200)))), true, true, 200, other.URL, ""},
		{"anonymous again", a.Handler(b.Optional(a.Handler(b.Optional(look200)))), true, false, 200, anybody, ""},
		{"twice the outer one's inside of the other", a.Handler(b.Handler(a.Handler(a.RequireScope("a")(look200)))), true, true, 200, iss.URL, ""},
		{"the outer one's check inside of anonymous", a.Handler(b.Optional(a.Require(sees)(look200))), true, false, 200, iss.URL, ""},
		{"a check inside of Handler", a.Handler(a.Require(sees)(look200)), true, false, 200, iss.URL, ""},
		{"a check alone", a.Require(sees)(look200), true, false, 200, iss.URL, ""},
		{"refused by a check alone", a.Require(fails)(ok), true, false, 403, iss.URL, ""},
		{"refused by a check inside of Handler", a.Handler(a.Require(fails)(ok)), true, false, 403, iss.URL, ""},
		{"refused by a check inside of another's", a.Handler(b.Handler(a.Require(fails)(ok))), true, true, 403, iss.URL, ""},
		{"refused for a scope alone", a.RequireScope("x")(ok), true, false, 403, iss.URL, ""},
		{"refused for a scope inside of Handler", a.Handler(a.RequireScope("x")(ok)), true, false, 403, iss.URL, ""},
		{"refused without a token", a.Handler(ok), false, false, 401, anybody, ""},
		{"Optional of the same", a.Handler(a.Optional(look200)), true, false, 200, iss.URL, ""},
		{"NewContext in between", a.Handler(withClaims(&bearer.Claims{Issuer: "own"}, a.RequireScope("a")(look200))), true, false, 200, "own", ""},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		if tt.tokenA {
			r.Header.Set("Authorization", "Bearer "+iss.Token(audience, bearertest.Claims{"scope": "a"}))
		}
		if tt.tokenB {
			r.Header.Set("X-Token", other.Token(audience, nil))
		}
		shown = "not called"
		w := httptest.NewRecorder()
		tt.h.ServeHTTP(w, r)
		if w.Code != tt.status || shown != tt.want {
			t.Errorf("%s: got %d and the claims of %s, want %d and %s", tt.name, w.Code, shown, tt.status, tt.want)
		}
	}
}

// What is put into the context between two wrappers reaches the handler, and what was
// there outside goes on as it was.
func TestContextBetweenWrappers(t *testing.T) {
	type key struct{}
	iss, a := newAuth(t)
	b := newMiddleware(t, iss, func(c *bearer.Config) { c.Header = "X-Token" })
	for name, h := range map[string]func(http.Handler) http.Handler{
		"Handler":      a.Handler,
		"Optional":     a.Optional,
		"RequireScope": a.RequireScope("a"),
		"another's":    b.Optional,
		"behind another's": func(next http.Handler) http.Handler {
			return b.Optional(a.Handler(next))
		},
	} {
		var inside, outside any
		inner := h(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { inside = r.Context().Value(key{}) }))
		between := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			inner.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), key{}, "x")))
			outside = r.Context().Value(key{})
		})
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Authorization", "Bearer "+iss.Token(audience, bearertest.Claims{"scope": "a"}))
		a.Handler(b.Optional(between)).ServeHTTP(httptest.NewRecorder(), r)
		if inside != "x" || outside != nil {
			t.Errorf("%s: the value is %v inside and %v outside, want x and none", name, inside, outside)
		}
	}
}

func withClaims(c *bearer.Claims, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r.WithContext(bearer.NewContext(r.Context(), c)))
	})
}

// What somebody does to claims nobody else sees: not the same request's other handlers
// and scope checks, and not the next request.
func TestClaimsAreOnesOwn(t *testing.T) {
	iss, auth := newAuth(t)
	for n := range 4 {
		aud := []string{audience, "b", "c", "d"}[:n+1]
		header := "Bearer " + iss.Token(audience, bearertest.Claims{"aud": aud, "scope": "read"})
		spoil := func(c *bearer.Claims) {
			c.Scope += " admin"
			c.Subject = "root"
			c.Audience = append(c.Audience, "x")
			clear(c.Audience[:n+1])
		}
		check := func(from string, c *bearer.Claims, err error) {
			t.Helper()
			if err != nil || c.Scope != "read" || c.Subject != "user" || !slices.Equal(c.Audience, aud) {
				t.Errorf("%s = %+v, %v, want the claims as they were", from, c, err)
			} else {
				spoil(c)
			}
		}
		spoils := func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				one, _ := bearer.FromContext(r.Context())
				two, _ := bearer.FromContext(r.Context())
				three, err := auth.Authenticate(r)
				check("FromContext", one, nil)
				check("FromContext again", two, nil)
				check("Authenticate behind Handler", three, err)
				next.ServeHTTP(w, r)
			})
		}
		require := auth.Require(func(_ *http.Request, c *bearer.Claims) error { check("Require", c, nil); return nil })
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Authorization", header)
		for range 4 { // new, seen before, from the cache
			if w := serve(auth.Handler(spoils(auth.RequireScope("admin")(ok))), header); w.Code != 403 {
				t.Errorf("a handler gave its request a scope: status %d", w.Code)
			}
			if w := serve(require(auth.RequireScope("read")(spoils(require(spoils(ok))))), header); w.Code != 200 {
				t.Errorf("status %d, want 200", w.Code)
			}
			c, err := auth.Authenticate(r)
			check("Authenticate", c, err)
			c, err = auth.Verify(t.Context(), header[len("Bearer "):])
			check("Verify", c, err)
			if w := serve(auth.RequireScope("admin")(ok), header); w.Code != 403 {
				t.Errorf("the next request has the scope: status %d", w.Code)
			}
		}
	}
}

// Nor do goroutines of one request that change theirs at once. Many requests, since few of
// them come to that.
func TestClaimsOfGoroutines(t *testing.T) {
	iss, auth := newAuth(t)
	h := auth.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var all sync.WaitGroup
		start := make(chan struct{})
		for range 4 {
			all.Go(func() {
				<-start
				c, _ := bearer.FromContext(r.Context())
				if c.Subject != "user" || !slices.Equal(c.Audience, []string{audience}) {
					t.Errorf("got %+v, want the claims as they were", c)
				}
				c.Subject, c.Audience[0] = "root", "x"
			})
		}
		close(start)
		all.Wait()
	}))
	header := "Bearer " + iss.Token(audience, nil)
	for range 3000 {
		if served := serve(h, header); served.Code != 200 {
			t.Fatalf("status %d, want 200", served.Code)
		}
		if t.Failed() {
			return // once is enough
		}
	}
}

// Nor does it reach another one that is being served with the same token.
func TestClaimsOfRequestsAtOnce(t *testing.T) {
	iss, auth := newAuth(t)
	all := []string{audience, "b", "c"}
	for n := range all {
		want := all[:n+1]
		header := "Bearer " + iss.Token(audience, bearertest.Claims{"aud": want, "scope": "a"})
		spoils := auth.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			c, _ := bearer.FromContext(r.Context())
			clear(c.Audience)
			c.Subject, c.Scope = "root", "admin"
		}))
		for range 2 { // new, and from the cache
			serve(auth.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				before, _ := bearer.FromContext(r.Context())
				serve(spoils, header)
				after, _ := bearer.FromContext(r.Context())
				for _, c := range []*bearer.Claims{before, after} {
					if c.Subject != "user" || c.Scope != "a" || !slices.Equal(c.Audience, want) {
						t.Errorf("with another request meanwhile: got %+v, want the audience %q", c, want)
					}
				}
			})), header)
		}
	}
}

// A token outlives the keys that nobody can confirm any more.
func TestContextOutlivesKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		iss, auth := newAuth(t)
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Authorization", "Bearer "+iss.Token(audience, bearertest.Claims{"exp": time.Now().Add(1000 * time.Hour)}))
		auth.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			iss.SetDown(true)
			time.Sleep(60 * time.Hour)
			for name, h := range map[string]http.Handler{"Handler": auth.Handler(ok), "Optional": auth.Optional(ok), "RequireScope": auth.RequireScope("a")(ok)} {
				w := httptest.NewRecorder()
				if h.ServeHTTP(w, r); w.Code != 503 {
					t.Errorf("%s gives %d without keys, want 503", name, w.Code)
				}
			}
			if _, err := auth.Authenticate(r); statusOf(err) != 503 {
				t.Errorf("Authenticate = %v without keys, want status 503", err)
			}
		})).ServeHTTP(httptest.NewRecorder(), r)
	})
}

// A request that lasts may bring the token that comes next: then that one counts, and
// handlers see its claims.
func TestRequestWithNextToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		iss, auth := newAuth(t)
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Authorization", "Bearer "+iss.Token(audience, bearertest.Claims{"sub": "first"}))
		auth.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			time.Sleep(2 * time.Hour)
			r.Header.Set("Authorization", "Bearer "+iss.Token(audience, bearertest.Claims{"sub": "next"}))
			seen := ""
			auth.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				c, _ := bearer.FromContext(r.Context())
				seen = c.Subject
			})).ServeHTTP(httptest.NewRecorder(), r)
			if seen != "next" {
				t.Errorf("the handler sees the claims of %q, want those of next", seen)
			}
		})).ServeHTTP(httptest.NewRecorder(), r)
	})
}

// A context that outlives its token is worth nothing: a websocket's, or a batch's.
func TestContextOutlivesToken(t *testing.T) {
	for _, tt := range []struct {
		name   string
		wait   time.Duration
		change func(*bearertest.Issuer)
		status int
	}{
		{"at once", 0, nil, 200},
		{"before exp", time.Hour, nil, 200},
		{"after exp", time.Hour + time.Minute, nil, 401},
		{"long after exp, with the key withdrawn", 48 * time.Hour, (*bearertest.Issuer).Replace, 401},
		{"the key withdrawn, seen by nobody yet", 50 * time.Minute, (*bearertest.Issuer).Replace, 401},
		{"the key still published", 50 * time.Minute, (*bearertest.Issuer).Rotate, 200},
	} {
		synctest.Test(t, func(t *testing.T) {
			iss, auth := newAuth(t)
			r := httptest.NewRequest("GET", "/", nil)
			r.Header.Set("Authorization", "Bearer "+iss.Token(audience, bearertest.Claims{"scope": "a"}))
			var inner context.Context
			auth.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { inner = r.Context() })).ServeHTTP(httptest.NewRecorder(), r)
			if tt.change != nil {
				tt.change(iss)
			}
			time.Sleep(tt.wait)

			// One without a token of its own, as a batch has.
			part := httptest.NewRequest("GET", "/", nil).WithContext(inner)
			for name, h := range map[string]http.Handler{"Handler": auth.Handler(ok), "RequireScope": auth.RequireScope("a")(ok)} {
				w := httptest.NewRecorder()
				h.ServeHTTP(w, part)
				if w.Code != tt.status {
					t.Errorf("%s: %s gives %d, want %d", tt.name, name, w.Code, tt.status)
				}
			}
			if _, err := auth.Authenticate(part); statusOf(err) != tt.status {
				t.Errorf("%s: Authenticate = %v, want status %d", tt.name, err, tt.status)
			}
		})
	}
}
