package apiserver

import (
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
)

// do sends a request whose headers are given as lines, "Host" among them.
func do(t *testing.T, method, url, body string, header ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range header {
		if name, value, found := strings.Cut(line, ": "); found {
			r.Header.Set(name, value)
		}
	}
	r.Host = r.Header.Get("Host")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(answer)
}

const formType = "Content-Type: application/x-www-form-urlencoded"

type tokenAnswer struct {
	AccessToken string  `json:"access_token"`
	TokenType   string  `json:"token_type"`
	ExpiresIn   int     `json:"expires_in"`
	Scope       *string `json:"scope"`
	Error       string  `json:"error"`
	Description string  `json:"error_description"`
}

// Each request for a token, and what the API says to that token.
func TestTokenEndpoint(t *testing.T) {
	_, base := start(t, "-audience", "https://api.example.org", "-audience", "b")
	for _, tt := range []struct {
		name, body string
		header     string // one more line
		scope      string
		expiresIn  int
		read       int // the status of GET /api/messages
	}{
		{"no scope", "", "", "", 3600, 403},
		{"an empty scope", "scope=", "", "", 3600, 403},
		{"one scope", "scope=read:messages", "", "read:messages", 3600, 200},
		{"spaces and repetition", "scope=++b++read:messages+b+a+", "", "b read:messages a", 3600, 200},
		{"any scope", "scope=~%21%23%5B%5D", "", "~!#[]", 3600, 403},
		{"expired", "scope=read:messages&expired=true", "", "read:messages", 0, 401},
		{"not expired", "scope=read:messages&expired=false", "", "read:messages", 3600, 200},
		{"the grant by name, credentials, unknown fields", "grant_type=client_credentials&client_id=x&client_secret=y&scope=a", "Authorization: Basic eDp5", "a", 3600, 403},
		{"the query does not count", "scope=a", "", "a", 3600, 403},
		{"from the page", "scope=a", "Sec-Fetch-Site: same-origin", "a", 3600, 403},
		{"from an old browser", "scope=a", "Origin: " + base, "a", 3600, 403},
		{"localhost", "scope=a", "Host: localhost:58105", "a", 3600, 403},
		{"IPv6", "scope=a", "Host: [::1]", "a", 3600, 403},
	} {
		t.Run(tt.name, func(t *testing.T) {
			resp, body := do(t, "POST", base+"/token?scope=read:messages&expired=true", tt.body, formType, tt.header)
			if resp.StatusCode != 200 {
				t.Fatalf("status = %d, want 200; body: %s", resp.StatusCode, body)
			}
			for name, want := range map[string]string{"Content-Type": "application/json", "Cache-Control": "no-store", "Pragma": "no-cache"} {
				if got := resp.Header.Get(name); got != want {
					t.Errorf("%s = %q, want %q", name, got, want)
				}
			}
			var got tokenAnswer
			if err := json.Unmarshal([]byte(body), &got); err != nil {
				t.Fatalf("%v: %s", err, body)
			}
			if got.TokenType != "Bearer" || got.ExpiresIn != tt.expiresIn {
				t.Errorf("token_type, expires_in = %s, %d, want Bearer, %d", got.TokenType, got.ExpiresIn, tt.expiresIn)
			}
			switch {
			case tt.scope == "" && got.Scope != nil:
				t.Errorf("scope = %q, want none", *got.Scope)
			case tt.scope != "" && (got.Scope == nil || *got.Scope != tt.scope):
				t.Errorf("body = %s, want scope %q", body, tt.scope)
			}
			if status, answer := get(t, "GET", base+"/api/messages", got.AccessToken); status != tt.read {
				t.Errorf("GET /api/messages: status = %d, want %d; body: %s", status, tt.read, answer)
			}
		})
	}
}

func TestTokenEndpoint_refusals(t *testing.T) {
	_, base := start(t)
	for _, tt := range []struct {
		name, method, body string
		header             string
		status             int
		code               string
	}{
		{"GET", "GET", "", "", 405, "invalid_request"},
		{"HEAD", "HEAD", "", "", 405, ""},
		{"PUT", "PUT", "scope=a", formType, 405, "invalid_request"},
		{"a quote", "POST", "scope=%22", formType, 400, "invalid_scope"},
		{"a backslash", "POST", `scope=a+\`, formType, 400, "invalid_scope"},
		{"a tab", "POST", "scope=a%09b", formType, 400, "invalid_scope"},
		{"a letter outside ASCII", "POST", "scope=%C3%A9", formType, 400, "invalid_scope"},
		{"neither true nor false", "POST", "expired=yes", formType, 400, "invalid_request"},
		{"scope twice", "POST", "scope=a&scope=b", formType, 400, "invalid_request"},
		{"another grant", "POST", "grant_type=password", formType, 400, "unsupported_grant_type"},
		{"a key that is none", "POST", "dpop_jkt=abc", formType, 400, "invalid_request"},
		{"a key with a character too strange", "POST", "dpop_jkt=" + strings.Repeat("a", 42) + "%2B", formType, 400, "invalid_request"},
		{"JSON", "POST", `{"scope":"a"}`, "Content-Type: application/json", 400, "invalid_request"},
		{"no type", "POST", "scope=a", "", 400, "invalid_request"},
		{"no form", "POST", "scope=%zz", formType, 400, "invalid_request"},
		{"too large", "POST", "scope=" + strings.Repeat("a", 5000), formType, 413, "invalid_request"},
		{"from another site", "POST", "", "Sec-Fetch-Site: cross-site", 403, "invalid_request"},
		{"from another port", "POST", "", "Sec-Fetch-Site: same-site", 403, "invalid_request"},
		{"from another site, old browser", "POST", "", "Origin: https://evil.example", 403, "invalid_request"},
		{"from a sandbox, old browser", "POST", "", "Origin: null", 403, "invalid_request"},
		{"to another name", "POST", "", "Host: evil.example:58105", 403, "invalid_request"},
		{"to another address", "POST", "", "Host: 192.0.2.1", 403, "invalid_request"},
		{"to a name that starts well", "POST", "", "Host: 127.0.0.1.evil.example", 403, "invalid_request"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			resp, body := do(t, tt.method, base+"/token", tt.body, tt.header)
			if resp.StatusCode != tt.status {
				t.Errorf("status = %d, want %d", resp.StatusCode, tt.status)
			}
			if got := resp.Header.Get("Cache-Control"); got != "no-store" {
				t.Errorf("Cache-Control = %q, want no-store", got)
			}
			if got, want := resp.Header.Get("Allow"), "POST"; tt.status == 405 && got != want {
				t.Errorf("Allow = %q, want %q", got, want)
			}
			if tt.method == "HEAD" {
				return
			}
			var got tokenAnswer
			if err := json.Unmarshal([]byte(body), &got); err != nil {
				t.Fatalf("%v: %s", err, body)
			}
			if got.Error != tt.code || got.Description == "" || got.AccessToken != "" {
				t.Errorf("body = %s, want error %q with a description", body, tt.code)
			}
		})
	}
}

func TestPage(t *testing.T) {
	stdout, base := start(t)
	line, err := stdout.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	if want := "or open " + base + "/ in a browser:\n"; line != want {
		t.Errorf("second line = %q, want %q", line, want)
	}
	resp, body := do(t, "GET", base+"/", "")
	if resp.StatusCode != 200 || !strings.HasPrefix(body, "<!doctype html>") {
		t.Errorf("got %d %.40s, want 200 and a page", resp.StatusCode, body)
	}
	for name, want := range map[string]string{
		"Content-Type":            `^text/html; charset=utf-8$`,
		"X-Content-Type-Options":  `^nosniff$`,
		"Content-Security-Policy": `^default-src 'none'; script-src 'sha256-[\w+/]{43}='; style-src 'sha256-[\w+/]{43}='; connect-src 'self'; .*frame-ancestors 'none'`,
	} {
		if got := resp.Header.Get(name); !regexp.MustCompile(want).MatchString(got) {
			t.Errorf("%s = %q, want %s", name, got, want)
		}
	}
	if found := regexp.MustCompile(`(?i)https?://|src=|href="[^d]|@import|url\(|\son\w+=|\sstyle=`).FindString(body); found != "" {
		t.Errorf("the page has %q: it must be all there is, and its policy must allow it", found)
	}
	for _, tt := range []struct {
		method, path, host string
		status             int
	}{
		{"HEAD", "/", "", 200},
		{"POST", "/", "", 405},
		{"GET", "/", "evil.example", 403},
		{"GET", "/page.html", "", 404},
		{"GET", "/token/", "", 404},
	} {
		if resp, _ := do(t, tt.method, base+tt.path, "", "Host: "+tt.host); resp.StatusCode != tt.status {
			t.Errorf("%s %s at %q: status = %d, want %d", tt.method, tt.path, tt.host, resp.StatusCode, tt.status)
		}
	}
}

// A server for a real issuer hands out nothing.
func TestPage_realIssuer(t *testing.T) {
	_, base := start(t, "-issuer", "http://localhost:1")
	for _, request := range []string{"GET /", "GET /token", "POST /token", "GET /live", "POST /live/rotate"} {
		method, path, _ := strings.Cut(request, " ")
		if resp, _ := do(t, method, base+path, "", formType); resp.StatusCode != 404 {
			t.Errorf("%s: status = %d, want 404", request, resp.StatusCode)
		}
	}
}

func TestPagePolicy(t *testing.T) {
	const want = "script-src 'sha256-ypeBEsobvcr6wjGzmiPcTaeG7/gUfE5yuYB3ha/uSLs='" // of "a"
	if got := pagePolicy("<style></style><script>a</script><script>b</script>"); !strings.Contains(got, want) {
		t.Errorf("policy = %q, want %q in it", got, want)
	}
	defer func() {
		if recover() == nil {
			t.Error("no panic for a page without a script")
		}
	}()
	pagePolicy("<style></style>")
}

func TestIsLoopback(t *testing.T) {
	for host, want := range map[string]bool{
		"127.0.0.1":            true,
		"127.0.0.1:80":         true,
		"127.1.2.3":            true,
		"[::1]:80":             true,
		"[::1]":                true,
		"LocalHost:80":         true,
		"":                     false,
		":80":                  false,
		"localhost.example":    false,
		"127.0.0.1.example:80": false,
		"10.0.0.1":             false,
		"[fe80::1]:80":         false,
		"0.0.0.0":              false,
	} {
		if got := isLoopback(host); got != want {
			t.Errorf("isLoopback(%q) = %t, want %t", host, got, want)
		}
	}
}
