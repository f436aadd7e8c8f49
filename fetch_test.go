package bearer_test

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
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

// newSite returns an issuer at a real address whose answers pass through handle.
func newSite(t *testing.T, path string, handle func(w http.ResponseWriter, r *http.Request, next http.Handler)) *bearertest.Issuer {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	server.Config.ErrorLog = nil
	iss := bearertest.NewIssuer("http://" + server.Listener.Addr().String() + path)
	server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handle(w, r, iss) })
	server.Start()
	t.Cleanup(server.Close)
	return iss
}

const (
	metadataPath = "/.well-known/openid-configuration"
	keysPath     = "/.well-known/jwks.json"
)

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
		{"redirect for ever", keysPath, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			http.Redirect(w, r, r.URL.Path, http.StatusFound)
		}, 503},
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
		{"50 MB", keysPath, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			for range 50 << 10 {
				if _, err := io.WriteString(w, strings.Repeat(" ", 1<<10)); err != nil {
					return
				}
			}
		}, 503},
		{"gzip bomb", keysPath, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			for range 1000 {
				if _, err := z.Write(make([]byte, 1<<20)); err != nil {
					return
				}
			}
			z.Close()
		}, 503},
		{"metadata that is HTML", metadataPath, func(w http.ResponseWriter, r *http.Request, next http.Handler) { io.WriteString(w, "<html>") }, 503},
		{"metadata of 50 MB", metadataPath, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			io.WriteString(w, `{"issuer":"`)
			for range 50 << 10 {
				if _, err := io.WriteString(w, strings.Repeat("x", 1<<10)); err != nil {
					return
				}
			}
		}, 503},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			iss := newSite(t, "", func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				if r.URL.Path == tt.path {
					tt.handle(w, r, next)
					return
				}
				next.ServeHTTP(w, r)
			})
			auth := newMiddleware(t, iss, func(c *bearer.Config) { c.Client = nil })
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			_, err := auth.Verify(t.Context(), iss.Token(audience, nil))
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

func statusOf(err error) int {
	var e *bearer.Error
	if errors.As(err, &e) {
		return e.Status
	}
	return 200
}

func TestRefusedAndHangingConnections(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	iss := bearertest.NewIssuer("http://" + listener.Addr().String())
	auth := newMiddleware(t, iss, func(c *bearer.Config) { c.Client = nil })
	start := time.Now()
	_, err = auth.Verify(t.Context(), iss.Token(audience, nil)) // nobody accepts
	if took := time.Since(start); statusOf(err) != 503 || took > 5*time.Second {
		t.Errorf("a server that hangs: %v after %v, want 503 within 5 s", err, took)
	}
	listener.Close()
	auth = newMiddleware(t, iss, func(c *bearer.Config) { c.Client = nil })
	start = time.Now()
	_, err = auth.Verify(t.Context(), iss.Token(audience, nil))
	if took := time.Since(start); statusOf(err) != 503 || took > time.Second {
		t.Errorf("a server that refuses: %v after %v, want 503 at once", err, took)
	}
}

func TestSlowDrip(t *testing.T) {
	t.Parallel()
	iss := newSite(t, "", func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if r.URL.Path != keysPath {
			next.ServeHTTP(w, r)
			return
		}
		for r.Context().Err() == nil {
			io.WriteString(w, " ")
			w.(http.Flusher).Flush()
			time.Sleep(100 * time.Millisecond)
		}
	})
	auth := newMiddleware(t, iss, func(c *bearer.Config) { c.Client = nil })
	start := time.Now()
	_, err := auth.Verify(t.Context(), iss.Token(audience, nil))
	if took := time.Since(start); statusOf(err) != 503 || took > 5*time.Second {
		t.Errorf("got %v after %v, want 503 within 5 s", err, took)
	}
}

func TestDiscovery(t *testing.T) {
	type places = map[string]string // path -> document; anything else is 404
	const issuer, keys = "ISSUER", "KEYS"
	good := `{"issuer":"ISSUER","jwks_uri":"KEYS"}`
	tests := []struct {
		name string
		path string // of the issuer
		docs places
		want int
	}{
		{"OpenID Connect", "", places{"/.well-known/openid-configuration": good}, 200},
		{"RFC 8414", "", places{"/.well-known/oauth-authorization-server": good}, 200},
		{"slash at the end", "/", places{"/.well-known/openid-configuration": good}, 200},
		{"slash at the end, RFC 8414", "/", places{"/.well-known/oauth-authorization-server": good}, 200},
		{"path", "/realms/a", places{"/realms/a/.well-known/openid-configuration": good}, 200},
		{"path, RFC 8414", "/realms/a", places{"/.well-known/oauth-authorization-server/realms/a": good}, 200},
		{"path, inserted", "/realms/a", places{"/.well-known/openid-configuration/realms/a": good}, 200},
		{"path and slash", "/realms/a/", places{"/realms/a/.well-known/openid-configuration": good}, 200},
		{"path and slash, RFC 8414", "/realms/a/", places{"/.well-known/oauth-authorization-server/realms/a": good}, 200},
		{"nowhere", "", places{}, 503},
		{"only for the root", "/realms/a", places{"/.well-known/openid-configuration": good}, 503},
		{"more members", "", places{"/.well-known/openid-configuration": `{"a":[{}],"issuer":"ISSUER","Issuer":"x","JWKS_URI":"x","jwks_uri":"KEYS"}`}, 200},

		{"another issuer", "", places{"/.well-known/openid-configuration": `{"issuer":"https://evil.example.com","jwks_uri":"KEYS"}`}, 503},
		{"another issuer, and a good one behind", "", places{
			"/.well-known/openid-configuration": `{"issuer":"ISSUER/","jwks_uri":"KEYS"}`, "/.well-known/oauth-authorization-server": good}, 503},
		{"no issuer", "", places{"/.well-known/openid-configuration": `{"jwks_uri":"KEYS"}`}, 503},
		{"issuer in other letters", "", places{"/.well-known/openid-configuration": `{"Issuer":"ISSUER","jwks_uri":"KEYS"}`}, 503},
		{"issuer twice", "", places{"/.well-known/openid-configuration": `{"issuer":"ISSUER","issuer":"ISSUER","jwks_uri":"KEYS"}`}, 503},
		{"issuer not a string", "", places{"/.well-known/openid-configuration": `{"issuer":["ISSUER"],"jwks_uri":"KEYS"}`}, 503},
		{"no jwks_uri", "", places{"/.well-known/openid-configuration": `{"issuer":"ISSUER"}`}, 503},
		{"jwks_uri in other letters", "", places{"/.well-known/openid-configuration": `{"issuer":"ISSUER","JWKS_uri":"KEYS"}`}, 503},
		{"jwks_uri relative", "", places{"/.well-known/openid-configuration": `{"issuer":"ISSUER","jwks_uri":"/.well-known/jwks.json"}`}, 503},
		{"jwks_uri http elsewhere", "", places{"/.well-known/openid-configuration": `{"issuer":"ISSUER","jwks_uri":"http://192.0.2.1/keys"}`}, 503},
		{"jwks_uri a file", "", places{"/.well-known/openid-configuration": `{"issuer":"ISSUER","jwks_uri":"file:///etc/passwd"}`}, 503},
		{"not an object", "", places{"/.well-known/openid-configuration": `["ISSUER"]`}, 503},
		{"more behind", "", places{"/.well-known/openid-configuration": good + "{}"}, 503},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var iss *bearertest.Issuer
			iss = newSite(t, tt.path, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				location := strings.TrimSuffix(iss.URL, "/") + keysPath
				if document, found := tt.docs[r.URL.EscapedPath()]; found {
					io.WriteString(w, strings.NewReplacer(issuer, iss.URL, keys, location).Replace(document))
				} else if strings.HasSuffix(location, r.URL.Path) && strings.HasSuffix(r.URL.Path, keysPath) {
					next.ServeHTTP(w, r)
				} else {
					http.NotFound(w, r)
				}
			})
			auth := newMiddleware(t, iss, func(c *bearer.Config) { c.Client = nil })
			_, err := auth.Verify(t.Context(), iss.Token(audience, nil))
			if got := statusOf(err); got != tt.want {
				t.Errorf("status %d, want %d: %v", got, tt.want, err)
			}
		})
	}
}

// When the keys have moved, discovery is made again at once.
func TestKeysMoved(t *testing.T) {
	for _, gone := range []int{404, 410} {
		inBubble(t, func(t *testing.T, b *bed) {
			place := "/old"
			var asked []string
			b.setAnswer(func(r *http.Request, resp *http.Response) (*http.Response, error) {
				rec := httptest.NewRecorder()
				asked = append(asked, r.URL.Path)
				switch r.URL.Path {
				case metadataPath:
					fmt.Fprintf(rec, `{"issuer":%q,"jwks_uri":"https://login.example.com%s"}`, b.iss.URL, place)
				case place:
					keys := r.Clone(context.Background())
					keys.URL.Path = keysPath
					b.iss.ServeHTTP(rec, keys)
				default:
					rec.WriteHeader(gone)
				}
				return rec.Result(), nil
			})
			b.want("first", b.token(), 200, 0, 2)
			place = "/new"
			b.iss.Rotate()
			b.want("the keys have moved", b.token(), 200, 0, 3)
			b.want("nothing new", b.token(), 200, 0, 0)
			time.Sleep(10 * time.Minute)
			b.want("refresh", b.token(), 200, 0, 1)

			// Metadata are believed for a day.
			asked = nil
			for range 24 * 8 {
				time.Sleep(10 * time.Minute)
				b.status(b.token())
			}
			synctest.Wait()
			discoveries := strings.Count(fmt.Sprint(asked), metadataPath)
			if discoveries != 1 {
				t.Errorf("%d discoveries in 32 h, want 1", discoveries)
			}
			// The place that discovery named is gone, and no other is named.
			place = "/nowhere"
			asked = nil
			b.setAnswer(func(r *http.Request, resp *http.Response) (*http.Response, error) {
				asked = append(asked, r.URL.Path)
				rec := httptest.NewRecorder()
				rec.WriteHeader(gone)
				return rec.Result(), nil
			})
			if got := b.status(b.unknown("x")); got != 503 || asked[len(asked)-1] != "/.well-known/oauth-authorization-server" {
				t.Errorf("everything is gone: status %d, asked for %q, want 503 after discovery", got, asked)
			}
		}, func(c *bearer.Config) { c.JWKSURL = "" })
	}
}

// While the metadata cannot be had, the place that they last named does.
func TestMetadataOutage(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		token := b.token()
		b.want("first", token, 200, 0, 2)
		b.setAnswer(func(r *http.Request, resp *http.Response) (*http.Response, error) {
			if r.URL.Path == metadataPath {
				return nil, errors.New("down")
			}
			return resp, nil
		})
		for range 3 * 24 * 4 { // three days
			time.Sleep(15 * time.Minute)
			if got := b.status(token); got != 200 {
				t.Fatalf("status %d, want 200", got)
			}
		}
		b.iss.Rotate()
		if got := b.status(b.token()); got != 200 {
			t.Errorf("a new key: status %d, want 200", got)
		}
	}, func(c *bearer.Config) { c.JWKSURL = "" })
}

// What a redirect names does not fill the log.
func TestLongRedirect(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.setAnswer(func(r *http.Request, resp *http.Response) (*http.Response, error) {
			resp.StatusCode = 302
			resp.Header.Set("Location", "https://"+strings.Repeat("x", 100000)+".example.com/")
			return resp, nil
		})
		if _, e := b.reply(t.Context(), b.token()); e == nil || e.Status != 503 || len(e.Error()) > 1000 {
			t.Errorf("an error of %d bytes", len(e.Error()))
		}
		if n := len(b.log.String()); n > 1000 {
			t.Errorf("%d bytes logged", n)
		}
	})
}

// A place that never gave any keys is not asked for a day.
func TestMetadataCorrected(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		place := "/wrong"
		b.setAnswer(func(r *http.Request, resp *http.Response) (*http.Response, error) {
			rec := httptest.NewRecorder()
			switch r.URL.Path {
			case metadataPath:
				fmt.Fprintf(rec, `{"issuer":%q,"jwks_uri":"https://login.example.com%s"}`, b.iss.URL, place)
			case keysPath:
				b.iss.ServeHTTP(rec, r)
			default:
				rec.WriteHeader(500)
			}
			return rec.Result(), nil
		})
		b.want("a wrong place", b.token(), 503, 0, 2)
		place = keysPath
		time.Sleep(time.Second)
		b.want("the right place", b.token(), 200, 0, 2)
	}, func(c *bearer.Config) { c.JWKSURL = "" })
}

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
	// A 304 need not repeat the ETag (RFC 9110, section 15.4.5 notwithstanding).
	inBubble(t, func(t *testing.T, b *bed) {
		var conditions []string
		b.setAnswer(func(r *http.Request, resp *http.Response) (*http.Response, error) {
			conditions = append(conditions, r.Header.Get("If-None-Match"))
			if resp.StatusCode == 304 {
				resp.Header.Del("ETag")
			}
			return resp, nil
		})
		for range 3 {
			b.status(b.token())
			synctest.Wait()
			time.Sleep(10 * time.Minute)
		}
		if len(conditions) != 3 || conditions[0] != "" || conditions[1] == "" || conditions[2] != conditions[1] {
			t.Errorf("If-None-Match of the requests: %q, want the first set's ETag from the second on", conditions)
		}
	})
}

func TestRedirects(t *testing.T) {
	const keys = "login.example.com/.well-known/jwks.json"
	redirect := func(to string) func(*http.Request, *http.Response) (*http.Response, error) {
		return func(r *http.Request, resp *http.Response) (*http.Response, error) {
			if r.URL.String() != to {
				resp.StatusCode = http.StatusFound
				resp.Header.Set("Location", to)
			}
			return resp, nil
		}
	}
	inBubble(t, func(t *testing.T, b *bed) {
		b.setAnswer(redirect("http://" + keys))
		b.want("to http on the same host", b.token(), 503, 0, 1)
	})
	inBubble(t, func(t *testing.T, b *bed) {
		b.setAnswer(redirect("https://" + keys + "#"))
		b.want("for ever", b.token(), 503, 0, 6)
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
	}, func(c *bearer.Config) { c.JWKSURL = "" })
}

// The servers of one API do not all come at the same moment.
func TestRefreshIsJittered(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		token := b.token()
		moments := make(map[time.Duration]bool)
		for range 10 {
			auth := newMiddleware(t, b.iss, func(c *bearer.Config) { c.Client = &http.Client{Transport: b} })
			start := time.Now()
			auth.Verify(t.Context(), token)
			b.fetches()
			for b.fetches() == 0 {
				time.Sleep(time.Second)
				auth.Verify(t.Context(), token)
				synctest.Wait()
			}
			moments[time.Since(start)] = true
		}
		if len(moments) < 3 {
			t.Errorf("10 APIs refresh after %v", moments)
		}
	})
}

// The keys have moved, and the old place answers anything but 404: discovery is
// made again with the next try.
func TestKeysMovedWithoutNotice(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		place := "/old"
		var conditions []string
		b.setAnswer(func(r *http.Request, resp *http.Response) (*http.Response, error) {
			rec := httptest.NewRecorder()
			switch r.URL.Path {
			case metadataPath:
				fmt.Fprintf(rec, `{"issuer":%q,"jwks_uri":"https://login.example.com%s"}`, b.iss.URL, place)
			case place:
				conditions = append(conditions, r.Header.Get("If-None-Match"))
				keys, _ := http.NewRequest("GET", "https://login.example.com"+keysPath, nil)
				b.iss.ServeHTTP(rec, keys)
			default:
				rec.WriteHeader(500)
			}
			return rec.Result(), nil
		})
		b.want("first", b.token(), 200, 0, 2)
		place = "/new"
		b.iss.Rotate()
		b.want("the keys have moved", b.token(), 503, 0, 1)
		time.Sleep(time.Second)
		b.want("the next try", b.token(), 200, 0, 2)
		// An ETag is good for the place it came from.
		if want := `["" ""]`; fmt.Sprintf("%q", conditions) != want {
			t.Errorf("If-None-Match = %q, want none", conditions)
		}
	}, func(c *bearer.Config) { c.JWKSURL = "" })
}
