package apiserver

import (
	"bufio"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// What the stream tells.
type told struct {
	Issuer struct {
		Publishes             []string
		Signs                 string
		Announced, Down, Hang bool
		Garbage               bool
	}
	Keys struct {
		Count   int
		IDs     []string
		Fetched int64
		Fetches int
		Refused int
		Error   string
	}
	Requests []struct {
		ID, Method, Path, Verdict, Reason, Failed string
		Status                                    int
		Cached                                    bool
		Why                                       map[string]string
		Passed                                    []string
	}
}

// listen returns a function that waits until the stream tells something for which ok
// holds, and returns that.
func listen(t *testing.T, base string) func(ok func(told) bool) told {
	t.Helper()
	// What the stream never tells ends the test, with what it told last.
	client := &http.Client{Timeout: time.Minute}
	resp, err := client.Get(base + "/live")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	if got := resp.Header.Get("Content-Type"); resp.StatusCode != 200 || got != "text/event-stream" {
		t.Fatalf("GET /live: %s, Content-Type %q", resp.Status, got)
	}
	lines := bufio.NewReader(resp.Body)
	var last told
	return func(ok func(told) bool) told {
		t.Helper()
		for !ok(last) {
			line, err := lines.ReadString('\n')
			if err != nil {
				t.Fatalf("%v; the last event was %+v", err, last)
			}
			if data, found := strings.CutPrefix(line, "data: "); found {
				last = told{}
				if err := json.Unmarshal([]byte(data), &last); err != nil {
					t.Fatalf("%v: %s", err, data)
				}
			}
		}
		return last
	}
}

func token(t *testing.T, base, form string) string {
	t.Helper()
	_, body := do(t, "POST", base+"/token", form, formType)
	var answer tokenAnswer
	if err := json.Unmarshal([]byte(body), &answer); err != nil || answer.AccessToken == "" {
		t.Fatalf("%v: %s", err, body)
	}
	return answer.AccessToken
}

// The stream has the server's own verdict on each request.
func TestLive_verdicts(t *testing.T) {
	_, base := start(t)
	wait := listen(t, base)
	if first := wait(func(s told) bool { return s.Issuer.Signs == "key-1" }); first.Requests == nil || len(first.Requests) != 0 {
		t.Fatalf("before any request: %+v", first)
	}

	read := token(t, base, "scope=read:messages")
	forged := read[:len(read)-20] + strings.Repeat("A", 20)
	for _, tt := range []struct {
		name, method, path, token string
		verdict, reason, failed   string
		status, passed            int
		cached                    bool
		key, why                  string
	}{
		{"public", "GET", "/api/ping", "", "public", "", "", 0, 0, false, "", ""},
		{"no token", "GET", "/api/messages", "", "refused", "no_credentials", "credentials: one token, behind its scheme", 401, 0, false, "", ""},
		{"new", "GET", "/api/messages", read, "let in", "", "", 0, 13, false, "", ""},
		{"known", "GET", "/api/ping/secure", read, "let in", "", "", 0, 12, true, "", ""},
		{"no scope", "POST", "/api/messages", read, "refused", "insufficient_scope", "the route's own rule: scopes, login", 403, 12, true, "got", "read:messages"},
		{"forged", "GET", "/api/messages", forged, "refused", "signature", "signature", 401, 5, false, "got", "key-1"},
		{"no login", "GET", "/api/vault", read, "refused", "insufficient_login", "the route's own rule: scopes, login", 401, 12, true, "want", "gold or silver"},
		{"expired", "GET", "/api/messages", token(t, base, "expired=true"), "refused", "expired", "expiry", 401, 8, false, "claim", "exp"},
	} {
		header := []string{"X-Request-Id: " + tt.name}
		if tt.token != "" {
			header = append(header, "Authorization: Bearer "+tt.token)
		}
		do(t, tt.method, base+tt.path, "", header...)
		// The record follows the verdict, and only then the reply.
		got := wait(func(s told) bool {
			n := len(s.Requests)
			return n > 0 && s.Requests[n-1].ID == tt.name && s.Requests[n-1].Verdict != "waiting" &&
				(tt.verdict != "refused" || s.Requests[n-1].Why != nil)
		})
		r := got.Requests[len(got.Requests)-1]
		if r.Method != tt.method || r.Path != tt.path || r.Verdict != tt.verdict || r.Reason != tt.reason || r.Failed != tt.failed ||
			r.Status != tt.status || r.Cached != tt.cached || len(r.Passed) != tt.passed || tt.key != "" && r.Why[tt.key] != tt.why {
			t.Errorf("%s: got %+v, want %s %s, %d passed and %q failed, %s %q", tt.name, r, tt.verdict, tt.reason, tt.passed, tt.failed, tt.key, tt.why)
		}
	}

	for range keptRequests {
		do(t, "GET", base+"/api/ping?secret", "", "X-Request-Id: "+strings.Repeat("x", 1000))
	}
	do(t, "GET", base+"/api/ping", "", "X-Request-Id: last")
	got := wait(func(s told) bool { return s.Requests[len(s.Requests)-1].ID == "last" })
	if n := len(got.Requests); n != keptRequests {
		t.Errorf("%d requests are kept, want %d", n, keptRequests)
	}
	if r := got.Requests[0]; len(r.ID) != 100 || r.Path != "/api/ping" {
		t.Errorf("a long one is kept as %+v", r)
	}
}

// Each switch does to the issuer what it says, and the verdicts change with it.
func TestLive_switches(t *testing.T) {
	_, base := start(t)
	wait := listen(t, base)
	press := func(what string) {
		t.Helper()
		if resp, body := do(t, "POST", base+"/live/"+what, ""); resp.StatusCode != 204 {
			t.Fatalf("%s: %s %s", what, resp.Status, body)
		}
	}
	call := func(token string, want int) {
		t.Helper()
		if status, body := get(t, "GET", base+"/api/ping/secure", token); status != want {
			t.Errorf("status = %d, want %d; %s", status, want, body)
		}
	}
	has := func(ids ...string) func(told) bool {
		return func(s told) bool { return slices.Equal(s.Keys.IDs, ids) && s.Keys.Count == len(ids) }
	}

	press("announce")
	first := token(t, base, "")
	call(first, 200)
	wait(has("key-1", "key-2"))

	press("rotate")
	if s := wait(func(s told) bool { return s.Issuer.Signs == "key-2" }); s.Issuer.Announced || !slices.Equal(s.Issuer.Publishes, []string{"key-1", "key-2"}) {
		t.Errorf("after a rotation: %+v", s.Issuer)
	}
	second := token(t, base, "")
	call(second, 200)
	call(first, 200)
	if s := wait(has("key-1", "key-2")); s.Keys.Fetches != 1 {
		t.Errorf("%d fetches, though the key was announced", s.Keys.Fetches)
	}

	press("withdraw")
	call(first, 200) // the API cannot know yet
	third := token(t, base, "")
	call(third, 200)
	wait(has("key-3"))
	call(second, 401)

	press("garbage")
	press("rotate")
	fourth := token(t, base, "")
	call(fourth, 503)
	call(third, 200)
	if s := wait(func(s told) bool { return s.Keys.Error != "" && s.Keys.Refused == 1 }); !s.Issuer.Garbage || s.Issuer.Down || s.Issuer.Hang {
		t.Errorf("with garbage: %+v", s.Issuer)
	}
	press("garbage")
	press("down")
	wait(func(s told) bool { return s.Issuer.Down && !s.Issuer.Garbage })
	call(fourth, 503)
	press("down")
	press("hang")
	press("announce")
	wait(func(s told) bool { return s.Issuer.Hang && !s.Issuer.Down && s.Issuer.Announced })
	call(third, 200)
	press("hang")
	wait(func(s told) bool { return !s.Issuer.Hang })
}

func TestLive_refusals(t *testing.T) {
	_, base := start(t)
	for _, tt := range []struct {
		method, path, header string
		status               int
	}{
		{"GET", "/live", "Host: evil.example", 403},
		{"HEAD", "/live", "", 200},
		{"POST", "/live", "", 405},
		{"GET", "/live/down", "", 405},
		{"POST", "/live/up", "", 404},
		{"POST", "/live/down/", "", 404},
		{"POST", "/live/down", "Host: evil.example", 403},
		{"POST", "/live/down", "Origin: https://evil.example", 403},
		{"POST", "/live/down", "Sec-Fetch-Site: cross-site", 403},
	} {
		if resp, _ := do(t, tt.method, base+tt.path, "", tt.header); resp.StatusCode != tt.status {
			t.Errorf("%s %s, %q: status = %d, want %d", tt.method, tt.path, tt.header, resp.StatusCode, tt.status)
		}
	}
	if s := listen(t, base)(func(s told) bool { return s.Issuer.Signs != "" }); s.Issuer.Down {
		t.Error("one of them was heeded")
	}
}
