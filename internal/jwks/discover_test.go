package jwks_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/bearer/internal/jwks"
)

// A site answers by path: with a document, in which ISSUER and KEYS stand for what
// they are, with a status, or with what a function does.
type site map[string]any

// answer returns the answer of the site, whose issuer has the given URL. The keys
// are at keys.
func (s site) answer(b *bed, issuer, keys string) func(*http.Request, *http.Response) (*http.Response, error) {
	return func(r *http.Request, resp *http.Response) (*http.Response, error) {
		rec := httptest.NewRecorder()
		switch a := s[r.URL.EscapedPath()].(type) {
		case string:
			io.WriteString(rec, strings.NewReplacer("ISSUER", issuer, "KEYS", keys).Replace(a))
		case int:
			rec.WriteHeader(a)
		case func(*http.Request, *httptest.ResponseRecorder) error:
			if err := a(r, rec); err != nil {
				return nil, err
			}
		default:
			if r.URL.String() != keys {
				rec.WriteHeader(404)
				break
			}
			at, _ := http.NewRequest("GET", keysURL, nil)
			at.Header = r.Header
			b.iss.ServeHTTP(rec, at)
		}
		return rec.Result(), nil
	}
}

const goodMetadata = `{"issuer":"ISSUER","jwks_uri":"KEYS"}`

// first is a place of which one answer is tried, followed by a good one.
func first(answer any) site { return site{metadataPath: answer, rfc8414Path: goodMetadata} }

func TestDiscovery(t *testing.T) {
	redirect := func(to string) any {
		return func(_ *http.Request, w *httptest.ResponseRecorder) error {
			w.Header().Set("Location", to)
			w.WriteHeader(302)
			return nil
		}
	}
	noAnswer := func(r *http.Request, _ *httptest.ResponseRecorder) error { return errors.New("connection reset") }
	tests := []struct {
		name  string
		path  string // of the issuer
		site  site
		want  int
		asked int // requests, that for the keys included
	}{
		{"OpenID Connect", "", site{metadataPath: goodMetadata}, 200, 2},
		{"RFC 8414", "", site{rfc8414Path: goodMetadata}, 200, 3},
		{"slash at the end", "/", site{metadataPath: goodMetadata}, 200, 2},
		{"slash at the end, RFC 8414", "/", site{rfc8414Path: goodMetadata}, 200, 3},
		{"path", "/realms/a", site{"/realms/a" + metadataPath: goodMetadata}, 200, 2},
		{"path, RFC 8414", "/realms/a", site{rfc8414Path + "/realms/a": goodMetadata}, 200, 3},
		{"path, inserted", "/realms/a", site{metadataPath + "/realms/a": goodMetadata}, 200, 4},
		{"path and slash", "/realms/a/", site{"/realms/a" + metadataPath: goodMetadata}, 200, 2},
		{"path and slash, RFC 8414", "/realms/a/", site{rfc8414Path + "/realms/a": goodMetadata}, 200, 3},
		{"escaped path", "/realms/a%2Fb", site{"/realms/a%2Fb" + metadataPath: goodMetadata}, 200, 2},
		{"escaped path, RFC 8414", "/realms/a%2Fb", site{rfc8414Path + "/realms/a%2Fb": goodMetadata}, 200, 3},
		{"escaped path, inserted", "/realms/a%2Fb", site{metadataPath + "/realms/a%2Fb": goodMetadata}, 200, 4},
		{"nowhere", "", site{}, 503, 2},
		{"only for the root", "/realms/a", site{metadataPath: goodMetadata}, 503, 3},
		{"more members", "", site{metadataPath: `{"a":[{}],"issuer":"ISSUER","Issuer":"x","JWKS_URI":"x","jwks_uri":"KEYS"}`}, 200, 2},

		// An answer that is no usable document sends to the next place.
		{"400", "", first(400), 200, 3},
		{"401", "", first(401), 200, 3},
		{"403", "", first(403), 200, 3},
		{"405", "", first(405), 200, 3},
		{"410", "", first(410), 200, 3},
		{"500", "", first(500), 200, 3},
		{"204", "", first(204), 200, 3},
		{"a login page", "", first("<!doctype html><form>"), 200, 3},
		{"a redirect elsewhere", "", first(redirect("https://sso.example.com/login")), 200, 3},
		{"a redirect to http", "", first(redirect("http://login.example.com/login")), 200, 3},
		{"an empty answer", "", first(""), 200, 3},
		{"too much", "", first(strings.Repeat(" ", 1<<20+1)), 200, 3},
		{"an array", "", first(`["ISSUER"]`), 200, 3},
		{"an error object", "", first(`{"error":"not_found"}`), 200, 3},
		{"more behind", "", first(goodMetadata + "{}"), 200, 3},
		{"issuer in other letters", "", first(`{"Issuer":"ISSUER","jwks_uri":"KEYS"}`), 200, 3},
		{"issuer twice", "", first(`{"issuer":"ISSUER","issuer":"ISSUER","jwks_uri":"KEYS"}`), 200, 3},
		{"issuer not a string", "", first(`{"issuer":["ISSUER"],"jwks_uri":"KEYS"}`), 200, 3},
		{"no jwks_uri", "", first(`{"issuer":"ISSUER"}`), 200, 3},
		{"jwks_uri in other letters", "", first(`{"issuer":"ISSUER","JWKS_uri":"KEYS"}`), 200, 3},
		// A place that gives no answer is out of order, and so may be the next.
		{"no answer", "", first(noAnswer), 503, 1},
		// And what speaks for another issuer is a mistake to be heard of.
		{"another issuer", "", first(`{"issuer":"https://evil.example.com","jwks_uri":"KEYS"}`), 503, 1},
		{"the issuer in other letters", "", first(`{"issuer":"HTTPS://login.example.com","jwks_uri":"KEYS"}`), 503, 1},
		{"the issuer with a slash", "", first(`{"issuer":"ISSUER/","jwks_uri":"KEYS"}`), 503, 1},
		{"the issuer without its slash", "/", first(`{"issuer":"https://login.example.com","jwks_uri":"KEYS"}`), 503, 1},
		{"the issuer with its port", "", first(`{"issuer":"https://login.example.com:443","jwks_uri":"KEYS"}`), 503, 1},
		{"jwks_uri relative", "", first(`{"issuer":"ISSUER","jwks_uri":"/keys"}`), 503, 1},
		{"jwks_uri http elsewhere", "", first(`{"issuer":"ISSUER","jwks_uri":"http://192.0.2.1/keys"}`), 503, 1},
		{"jwks_uri http here", "", first(`{"issuer":"ISSUER","jwks_uri":"http://login.example.com/keys"}`), 503, 1},
		{"jwks_uri a file", "", first(`{"issuer":"ISSUER","jwks_uri":"file:///etc/passwd"}`), 503, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bed) {
				issuer := "https://login.example.com" + tt.path
				b.source = b.open(func(c *jwks.Config) { c.Issuer, c.Base, c.URL = issuer, issuer, "" })
				b.setAnswer(tt.site.answer(b, issuer, "https://login.example.com/keys"))
				b.want(tt.name, b.token(), tt.want, 0, tt.asked)
			})
		})
	}
}

// The log and Stats say what is wrong with the metadata, to the letter.
func TestDiscoveryErrors(t *testing.T) {
	each(t, map[string]struct {
		site site
		want []string
	}{
		"slash":            {site{metadataPath: `{"issuer":"https://login.example.com","jwks_uri":"KEYS"}`}, []string{"https://login.example.com/", "slash"}},
		"letter case":      {site{metadataPath: `{"issuer":"https://Login.example.com/","jwks_uri":"KEYS"}`}, []string{"https://Login.example.com/", "letter case"}},
		"one character":    {site{metadataPath: `{"issuer":"https://logins.example.com/","jwks_uri":"KEYS"}`}, []string{"https://logins.example.com/", "one character"}},
		"http":             {site{metadataPath: `{"issuer":"http://login.example.com/","jwks_uri":"KEYS"}`}, []string{"http://login.example.com/", "one character"}},
		"another issuer":   {site{metadataPath: `{"issuer":"https://evil.example.com/","jwks_uri":"KEYS"}`}, []string{"https://evil.example.com/"}},
		"all places":       {site{metadataPath: 403, rfc8414Path: 500}, []string{metadataPath, "403", rfc8414Path, "500"}},
		"http key set":     {site{metadataPath: `{"issuer":"ISSUER","jwks_uri":"http://10.0.0.1/keys"}`}, []string{"jwks_uri", "http://10.0.0.1/keys", "InsecureHTTP"}},
		"a long name":      {site{metadataPath: `{"issuer":"` + strings.Repeat("x", 10000) + `","jwks_uri":"KEYS"}`}, []string{"xxx"}},
		"the keys' status": {site{metadataPath: goodMetadata, "/keys": 418}, []string{"https://login.example.com/keys", "418"}},
	}, func(t *testing.T, b *bed, row struct {
		site site
		want []string
	}) {
		b.setAnswer(row.site.answer(b, issuerURL, "https://login.example.com/keys"))
		b.unavailable(b.token())
		for what, text := range map[string]string{"log": b.log.String(), "Stats": b.source.Stats().Err.Error()} {
			for _, want := range row.want {
				if !strings.Contains(text, want) {
					t.Errorf("%s has no %q: %s", what, want, text)
				}
			}
			if len(text) > 1000 {
				t.Errorf("%s: %d bytes", what, len(text))
			}
		}
		if strings.Contains(b.log.String(), "slash") != slices.Contains(row.want, "slash") {
			t.Errorf("a slash: %s", b.log)
		}
	}, discovery)
}

func TestInsecureHTTP(t *testing.T) {
	for _, tt := range []struct {
		insecure     bool
		issuer, keys string
		want         int
	}{
		{false, "http://keycloak:8080/realms/a", "http://keycloak:8080/keys", 503},
		{true, "http://keycloak:8080/realms/a", "http://keycloak:8080/keys", 200},
		{true, "http://keycloak:8080/realms/a", "http://KEYCLOAK:9090/keys", 200},
		{true, "http://keycloak:8080/realms/a", "https://keycloak/keys", 200},
		{true, "http://keycloak:8080/realms/a", "http://other:8080/keys", 503},
		{true, "http://keycloak:8080/realms/a", "http://keycloak.example.com:8080/keys", 503},
		{true, "http://keycloak:8080/realms/a", "ftp://keycloak:8080/keys", 503},
		{true, "https://login.example.com", "http://login.example.com/keys", 200},
		{true, "https://login.example.com", "http://10.0.0.1/keys", 503},
	} {
		inBubble(t, func(t *testing.T, b *bed) {
			b.source = b.open(func(c *jwks.Config) {
				c.Issuer, c.Base, c.URL, c.InsecureHTTP = tt.issuer, tt.issuer, "", tt.insecure
				c.Client = &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
					if strings.Contains(r.URL.Path, metadataPath) {
						return site{r.URL.Path: goodMetadata}.answer(b, tt.issuer, tt.keys)(r, nil)
					}
					return site{}.answer(b, tt.issuer, tt.keys)(r, nil)
				})}
			})
			if got := b.status(b.token()); got != tt.want {
				t.Errorf("%+v: status %d, want %d: %v", tt, got, tt.want, b.source.Stats().Err)
			}
		})
	}
}

// When the keys have moved, discovery is made again at once.
func TestKeysMoved(t *testing.T) {
	for _, gone := range []int{404, 410} {
		inBubble(t, func(t *testing.T, b *bed) {
			at := func(path string) {
				s := site{metadataPath: goodMetadata, rfc8414Path: gone}
				for _, p := range []string{"/old", "/new", "/nowhere"} {
					if p != path {
						s[p] = gone
					}
				}
				b.setAnswer(s.answer(b, issuerURL, "https://login.example.com"+path))
			}
			at("/old")
			b.want("first", b.token(), 200, 0, 2)
			at("/new")
			b.iss.Rotate()
			b.want("the keys have moved", b.token(), 200, 0, 3)
			b.want("nothing new", b.token(), 200, 0, 0)
			time.Sleep(10 * time.Minute)
			b.want("refresh", b.token(), 200, 0, 1)

			// Metadata are believed for a day.
			b.asked()
			for range 32 * 6 {
				time.Sleep(10 * time.Minute)
				b.status(b.token())
			}
			synctest.Wait()
			if n := count(b.asked(), metadataPath); n != 1 {
				t.Errorf("%d discoveries in 32 h, want 1", n)
			}
			// The place that discovery named is gone, and no other is named.
			b.setAnswer(site{metadataPath: gone, rfc8414Path: gone, "/new": gone}.answer(b, issuerURL, ""))
			got := b.status(b.unknown("x"))
			if asked := b.asked(); got != 503 || fmt.Sprint(asked) != "[/new "+metadataPath+" "+rfc8414Path+"]" {
				t.Errorf("everything is gone: status %d, asked for %q, want 503 after discovery", got, asked)
			}
		}, discovery)
	}
}

func count(all []string, one string) (n int) {
	for _, s := range all {
		if s == one {
			n++
		}
	}
	return n
}

// While the metadata cannot be had, the place that they last named does, and after
// an hour this is told, once.
func TestMetadataOutage(t *testing.T) {
	each(t, map[string]struct {
		metadata any
		within   time.Duration // of a reply to a token with a new key
		want     string        // in log and Stats
	}{
		"down": {func(*http.Request, *httptest.ResponseRecorder) error { return errors.New("down") }, 0, "down"},
		"hanging": {func(r *http.Request, _ *httptest.ResponseRecorder) error {
			<-r.Context().Done()
			return r.Context().Err()
		}, 5 * time.Second, "deadline"},
		"another issuer": {`{"issuer":"https://evil.example.com/","jwks_uri":"KEYS"}`, 0, "evil.example.com"},
		"gone":           {404, 0, "404"},
	}, func(t *testing.T, b *bed, row struct {
		metadata any
		within   time.Duration
		want     string
	}) {
		good := site{metadataPath: goodMetadata}.answer(b, issuerURL, "https://login.example.com/keys")
		bad := site{metadataPath: row.metadata}.answer(b, issuerURL, "https://login.example.com/keys")
		b.setAnswer(good)
		token := b.token()
		b.want("first", token, 200, 0, 2)
		b.setAnswer(bad)
		start := time.Now()
		for time.Since(start) < 7*24*time.Hour {
			time.Sleep(15 * time.Minute)
			if got := b.status(token); got != 200 {
				t.Fatalf("after %v: status %d, want 200", time.Since(start), got)
			}
			switch err := b.source.Stats().Err; {
			case time.Since(start) < 24*time.Hour && err != nil:
				t.Fatalf("after %v: Stats().Err = %v, want none", time.Since(start), err)
			case time.Since(start) > 26*time.Hour && (err == nil || !strings.Contains(err.Error(), row.want)):
				t.Fatalf("after %v: Stats().Err = %v, want %q in it", time.Since(start), err, row.want)
			}
		}
		synctest.Wait()
		time.Sleep(time.Minute)
		records := b.log.take()
		if len(records) != 2 || !strings.Contains(records[1], "metadata") || !strings.Contains(records[1], row.want) {
			t.Errorf("in a week: logged %q, want the keys, and one record of the metadata", records)
		}
		b.iss.Rotate()
		start = time.Now()
		for b.status(b.token()) != 200 && time.Since(start) < time.Minute {
			time.Sleep(100 * time.Millisecond)
		}
		if took := time.Since(start); took > 9*time.Second || row.within == 0 && took > 0 {
			t.Errorf("a new key is accepted after %v", took)
		}
		b.setAnswer(good)
		time.Sleep(15 * time.Minute)
		b.status(token)
		synctest.Wait()
		if err := b.source.Stats().Err; err != nil {
			t.Errorf("back again: Stats().Err = %v, want none", err)
		}
		if records := b.log.String(); !strings.Contains(records, "metadata can be used again") {
			t.Errorf("back again: logged %s", records)
		}
	}, discovery)
}

// A place that never gave any keys is not asked for a day.
func TestMetadataCorrected(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		wrong := site{metadataPath: goodMetadata, "/wrong": 500}
		b.setAnswer(wrong.answer(b, issuerURL, "https://login.example.com/wrong"))
		b.want("a wrong place", b.token(), 503, 0, 2)
		b.setAnswer(wrong.answer(b, issuerURL, "https://login.example.com/right"))
		time.Sleep(time.Second)
		b.want("the right place", b.token(), 200, 0, 2)
	}, discovery)
	// Nor one that gives no answer, for longer than one more try.
	inBubble(t, func(t *testing.T, b *bed) {
		silent := func(*http.Request, *httptest.ResponseRecorder) error { return errors.New("no route") }
		wrong := site{metadataPath: goodMetadata, "/wrong": silent}
		b.setAnswer(wrong.answer(b, issuerURL, "https://login.example.com/wrong"))
		b.want("a wrong place", b.token(), 503, 0, 2)
		b.setAnswer(wrong.answer(b, issuerURL, "https://login.example.com/right"))
		time.Sleep(time.Second)
		b.want("the next try", b.token(), 503, 0, 1)
		time.Sleep(2 * time.Second)
		b.want("the right place", b.token(), 200, 0, 2)
	}, discovery)
}

// The keys have moved, and the old place answers anything but 404: discovery is
// made again with the next try.
func TestKeysMovedWithoutNotice(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		var conditions []string
		at := func(place, other string) {
			answer := site{metadataPath: goodMetadata, other: 500}.answer(b, issuerURL, "https://login.example.com"+place)
			b.setAnswer(func(r *http.Request, resp *http.Response) (*http.Response, error) {
				if r.URL.Path == place {
					conditions = append(conditions, r.Header.Get("If-None-Match"))
				}
				return answer(r, resp)
			})
		}
		at("/old", "/new")
		b.want("first", b.token(), 200, 0, 2)
		at("/new", "/old")
		b.iss.Rotate()
		b.want("the keys have moved", b.token(), 503, 0, 1)
		time.Sleep(time.Second)
		b.want("the next try", b.token(), 200, 0, 2)
		// An ETag is good for the place it came from.
		if want := `["" ""]`; fmt.Sprintf("%q", conditions) != want {
			t.Errorf("If-None-Match = %q, want none", conditions)
		}
	}, discovery)
}

// A failed fetch ends, whatever it was that failed.
func TestFailedFetchEnds(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.want("first", b.token(), 200, 0, 2)
		for _, status := range []int{404, 410, 500, 403} {
			b.setAnswer(func(_ *http.Request, resp *http.Response) (*http.Response, error) {
				resp.StatusCode = status
				return resp, nil
			})
			time.Sleep(30 * time.Minute)
			b.status(b.token())
			synctest.Wait()
			if n := b.fetches(); n > 4 {
				t.Errorf("status %d: %d requests, want 4 at most", status, n)
			}
		}
	}, discovery)
}
