package dpop

import (
	"cmp"
	"net/url"
	"strings"
	"testing"
)

func TestTarget(t *testing.T) {
	for _, tt := range []struct {
		name, requestURI, escapedPath string
		want                          string
		ok                            bool
	}{
		{"a path", "/a/b", "/x", "/a/b", true},
		{"a path with query", "/a?b=/c", "/x", "/a", true},
		{"an encoded slash", "/a%2Fb", "/a/b", "/a%2Fb", true},
		{"stripped by a router", "/v1/a", "/a", "/v1/a", true},
		{"the root", "/", "/", "/", true},
		{"a query of the root", "/?a", "/", "/", true},
		{"absolute form", "http://evil.example/a?b", "/a", "/a", true},
		{"absolute form without path", "http://evil.example", "", "/", true},
		{"absolute form with query and no path", "http://evil.example?a=/b", "", "/", true},
		{"absolute form with two slashes", "http://evil.example//a", "", "//a", true},
		{"two slashes", "//evil.example/a", "/a", "//evil.example/a", true},
		{"a URL in the path", "/a/http://evil.example/b", "", "/a/http://evil.example/b", true},
		{"a scheme before a path", "http:/a://evil.example/b", "/a://evil.example/b", "", false},
		{"a scheme before something else", "http:a://evil.example/b", "", "", false},
		{"asterisk form", "*", "*", "", false},
		{"authority form", "evil.example:443", "", "", false},
		{"extended CONNECT", "/chat", "/chat", "/chat", true},
		{"made by code", "", "/a%2Fb", "/a%2Fb", true},
		{"made by code without path", "", "", "/", true},
		{"made by code, asterisk", "", "*", "", false},
	} {
		if got, ok := Target(tt.requestURI, tt.escapedPath); got != tt.want || ok != tt.ok {
			t.Errorf("%s: Target(%q, %q) = %q, %v, want %q, %v", tt.name, tt.requestURI, tt.escapedPath, got, ok, tt.want, tt.ok)
		}
	}
}

// The path that a proof is judged by is the one that net/http serves.
func TestTargetIsWhatIsServed(t *testing.T) {
	parts := []string{"", "http:", "x:", "/", "//", "a", "b:1", "@", "?", "#", "[::1]", "%2F", ".."}
	n := 0
	var try func(target string, more int)
	try = func(target string, more int) {
		if u, err := url.ParseRequestURI(target); err == nil {
			got, ok := Target(target, "/other")
			decoded, err := url.PathUnescape(got)
			if want := cmp.Or(u.Path, "/"); ok && (err != nil || decoded != want) {
				t.Errorf("Target(%q) = %q, want what is %q", target, got, want)
			}
			n++
		}
		if more > 0 {
			for _, part := range parts[1:] {
				try(target+part, more-1)
			}
		}
	}
	try("", 5)
	if n < 1000 {
		t.Errorf("%d targets only", n)
	}
}

// URLs in normal form.
func TestParseURL(t *testing.T) {
	for _, tt := range []struct {
		name, url, origin, path string
	}{
		{"as it is", "https://api.example.com/a/b", "https://api.example.com", "/a/b"},
		{"scheme and host in upper case", "HTTPS://API.Example.com/A", "https://api.example.com", "/A"},
		{"scheme alone in upper case", "Https://a.example/a", "https://a.example", "/a"},
		{"host alone in upper case", "https://A.example/a", "https://a.example", "/a"},
		{"triplets in lower case", "https://a.example/x%2fy%c3%a9", "https://a.example", "/x%2Fy%C3%A9"},
		{"unreserved characters encoded", "https://a.example/%7Ea%41%2d%2E%5f%30", "https://a.example", "/~aA-._0"},
		{"reserved characters encoded", "https://a.example/%40x%3Fy%23%25", "https://a.example", "/%40x%3Fy%23%25"},
		{"encoded twice", "https://a.example/%2541%252F", "https://a.example", "/%2541%252F"},
		{"dot segments", "https://a.example/a/./b/../c", "https://a.example", "/a/c"},
		{"dot segments encoded", "https://a.example/a/%2e/b/%2E%2e/c", "https://a.example", "/a/c"},
		{"dot segments at the end", "https://a.example/a/b/..", "https://a.example", "/a/"},
		{"a dot at the end", "https://a.example/a/.", "https://a.example", "/a/"},
		{"above the root", "https://a.example/../../a", "https://a.example", "/a"},
		{"only above the root", "https://a.example/..", "https://a.example", "/"},
		{"empty segments before dots", "https://a.example/a//../b", "https://a.example", "/a/b"},
		{"three dots", "https://a.example/.../.a/a./..b", "https://a.example", "/.../.a/a./..b"},
		{"default port", "https://a.example:443/a", "https://a.example", "/a"},
		{"default port of http", "http://a.example:80/a", "http://a.example", "/a"},
		{"port of the other scheme", "http://a.example:443/a", "http://a.example:443", "/a"},
		{"empty port", "https://a.example:/a", "https://a.example", "/a"},
		{"another port", "https://a.example:8443/a", "https://a.example:8443", "/a"},
		{"port with a zero before it", "https://a.example:0443/a", "https://a.example:0443", "/a"},
		{"empty path", "https://a.example", "https://a.example", "/"},
		{"empty path and port", "https://a.example:443", "https://a.example", "/"},
		{"query", "https://a.example/a?b=c/../d", "https://a.example", "/a"},
		{"query of an empty path", "https://a.example?b", "https://a.example", "/"},
		{"fragment", "https://a.example/a#b?c", "https://a.example", "/a"},
		{"malformed query", "https://a.example/a?100%", "https://a.example", "/a"},
		{"slash at the end", "https://a.example/a/", "https://a.example", "/a/"},
		{"two slashes", "https://a.example//a", "https://a.example", "//a"},
		{"a URL in the path", "https://a.example/http://b.example/", "https://a.example", "/http://b.example/"},
		{"an at sign in the path", "https://a.example/@b:c@d", "https://a.example", "/@b:c@d"},
		{"what browsers leave as it is", "https://a.example/[a]|b^c`d{e}\"<>", "https://a.example", "/[a]|b^c`d{e}\"<>"},
		{"IPv4", "https://127.0.0.1:8080/", "https://127.0.0.1:8080", "/"},
		{"IPv6", "https://[2001:DB8::1]:443/", "https://[2001:db8::1]", "/"},
		{"IPv6 in another spelling", "https://[2001:db8:0::1]/", "https://[2001:db8:0::1]", "/"},
		{"dot behind the host", "https://a.example./", "https://a.example.", "/"},
		{"punycode", "https://XN--E1AFMKFD.example/", "https://xn--e1afmkfd.example", "/"},
		{"host encoded", "https://%61.ex%41mple%2f/", "https://a.example%2F", "/"},
	} {
		got, err := parseURL(tt.url)
		if want := (target{tt.origin, tt.path}); err != nil || got != want {
			t.Errorf("%s: %s is %+v, %v, want %+v", tt.name, tt.url, got, err, want)
		}
	}
	for _, tt := range []struct {
		name, url string
		err       error
	}{
		{"empty", "", errScheme},
		{"relative", "/a", errScheme},
		{"without scheme", "//a.example/a", errScheme},
		{"host only", "a.example/a", errScheme},
		{"another scheme", "wss://a.example/a", errScheme},
		{"a scheme that folds to https", "http\u017f://a.example/a", errScheme},
		{"scheme only", "https:", errScheme},
		{"one slash", "https:/a.example/a", errScheme},
		{"blank before", " https://a.example/a", errScheme},
		{"no host", "https:///a", errHost},
		{"no host but a port", "https://:443/a", errHost},
		{"user name", "https://a.example@b.example/a", errUserinfo},
		{"empty user name", "https://@b.example/a", errUserinfo},
		{"password", "https://a:b@b.example/a", errUserinfo},
		{"port not a number", "https://a.example:x/a", errPort},
		{"port with a sign", "https://a.example:+443/a", errPort},
		{"port 0", "https://a.example:0/a", errPort},
		{"port too large", "https://a.example:65536/a", errPort},
		{"IPv6 without brackets", "https://::1/a", errHost},
		{"IPv6 with zone", "https://[fe80::1%25eth0]/a", errHost},
		{"IPv6 not closed", "https://[::1/a", errHost},
		{"something behind IPv6", "https://[::1]a/a", errHost},
		{"IPv4 in brackets", "https://[127.0.0.1]/a", errHost},
		{"bracket in the host", "https://a]b/", errHost},
		{"blank in the host", "https://a b/", errCharacter},
		{"host not ASCII", "https://b\u00fccher.example/", errCharacter},
		{"path not ASCII", "https://a.example/\u00e9", errCharacter},
		{"not UTF-8", "https://a.example/\xff", errCharacter},
		{"backslash", `https://a.example/a\b`, errCharacter},
		{"backslash for a slash", `https://a.example\a`, errCharacter},
		{"blank", "https://a.example/a b", errCharacter},
		{"line break", "https://a.example/a\nb", errCharacter},
		{"NUL", "https://a.example/a\x00", errCharacter},
		{"DEL", "https://a.example/a\x7f", errCharacter},
		{"triplet that is none", "https://a.example/%zz", errTriplet},
		{"triplet with one digit", "https://a.example/%4", errTriplet},
		{"triplet whose second digit is none", "https://a.example/%4z", errTriplet},
		{"percent sign", "https://a.example/%", errTriplet},
		{"triplet that is none in the host", "https://a%zz/", errTriplet},
	} {
		if got, err := parseURL(tt.url); err != tt.err {
			t.Errorf("%s: %q is %+v, %v, want %v", tt.name, tt.url, got, err, tt.err)
		}
	}
}

// Which URLs are those of a request, and which are not.
func TestCheckURL(t *testing.T) {
	v, err := New(Settings{BaseURLs: []string{"https://api.example.com", "HTTPS://Gateway.example.com:443/v1/"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		path, htu string
		want      bool
	}{
		{"/a", "https://api.example.com/a", true},
		{"/a", "https://api.example.com/a?b#c", true},
		{"/a", "HTTPS://API.EXAMPLE.COM:443/%61", true},
		{"/%61", "https://api.example.com/a", true},
		{"/a/../b", "https://api.example.com/b", true},
		{"/", "https://api.example.com", true},
		{"/a%2fb", "https://api.example.com/a%2Fb", true},
		{"//evil.example/a", "https://api.example.com//evil.example/a", true},
		{"/a", "https://gateway.example.com/v1/a", true},
		{"/", "https://gateway.example.com/v1/", true},

		{"/a", "https://api.example.com/a/", false},
		{"/a/", "https://api.example.com/a", false},
		{"/a", "https://api.example.com/A", false},
		{"/a", "https://api.example.com/b", false},
		{"/a", "https://api.example.com/a/a", false},
		{"/a/b", "https://api.example.com/a%2Fb", false},
		{"/@x", "https://api.example.com/%40x", false},
		{"//a", "https://api.example.com/a", false},
		{"/a", "https://api.example.com//a", false},
		{"//evil.example/a", "https://evil.example/a", false},
		{"/a", "http://api.example.com/a", false},
		{"/a", "https://api.example.com:8443/a", false},
		{"/a", "https://api.example.com./a", false},
		{"/a", "https://api.example.com.evil.example/a", false},
		{"/a", "https://evil.example/a", false},
		{"/a", "https://gateway.example.com/a", false},
		{"/a", "https://gateway.example.com/v1a", false},
		{"/a", "https://gateway.example.com/v1", false},
		{"/v1/a", "https://gateway.example.com/v1/a", false},
		{"/a", "https://api.example.com/v1/a", false},
		{"/../v2/a", "https://gateway.example.com/v2/a", false},
		{"/a#b", "https://api.example.com/a", false},
		{"/a#b", "https://api.example.com/a#b", false},
		{"/%zz", "https://api.example.com/%zz", false},
		{"", "https://api.example.com/", false},
		{"", "https://api.example.com", false},
		{"", "https://gateway.example.com/v1", false},
	} {
		if err := v.checkURL(tt.htu, tt.path); (err == nil) != tt.want {
			t.Errorf("a request for %q with %q: got %v, want accepted = %v", tt.path, tt.htu, err, tt.want)
		}
	}
}

// What the log says of a URL has no query and no password.
func TestURLInErrors(t *testing.T) {
	v, err := New(Settings{BaseURLs: []string{"https://api.example.com/v1", "https://b.example"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ htu, got, want string }{
		{"https://API.example.com/a?secret", "https://api.example.com/a", "https://api.example.com/v1/a or https://b.example/a"},
		{"ftp://api.example.com/a?secret", "ftp://api.example.com/a", ""},
		{"https://user:secret@api.example.com/a", "", ""},
		{"ftp://user:secret@api.example.com/a", "", ""},
	} {
		e, ok := v.checkURL(tt.htu, "/a").(*Error)
		if !ok || e.Reason != "proof_htu" || e.Got != tt.got || e.Want != tt.want || strings.Contains(e.Error(), "secret") {
			t.Errorf("%s: got %v, want %q and %q", tt.htu, e, tt.got, tt.want)
		}
	}
}

func FuzzHTU(f *testing.F) {
	for _, u := range []string{
		"https://api.example.com/a", "HTTPS://API.Example.com:443/%7Ea/./b/../c?d#e", "http://a", "https://[::1]:8080/%2f",
		"https://a.example:/", "https://%61.example/%2e%2E/", "https://a.example//a/..", "https://a@b.example/", `https://a\b`, "https://a%2fb/",
	} {
		f.Add(u, "https://api.example.com/a")
		f.Add("https://api.example.com/b", u)
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		na, err := parseURL(a)
		if err != nil {
			return
		}
		if again, err := parseURL(na.origin + na.path); err != nil || again != na {
			t.Fatalf("%q is %+v, which is %+v, %v", a, na, again, err)
		}
		if na.path[0] != '/' || strings.HasSuffix(na.origin, "/") {
			t.Fatalf("%q is %+v", a, na)
		}
		nb, err := parseURL(b)
		if err != nil || na.origin != nb.origin {
			return
		}
		// The standard library's parser reads the origins as one, too.
		ua, erra := url.Parse(a)
		ub, errb := url.Parse(b)
		if erra == nil && errb == nil && origin(ua) != origin(ub) {
			t.Fatalf("%q and %q have the origin %s, but %s and %s by net/url", a, b, na.origin, origin(ua), origin(ub))
		}
	})
}

// origin is a URL's origin by net/url.
func origin(u *url.URL) string {
	port := u.Port()
	if u.Scheme == "https" && port == "443" || u.Scheme == "http" && port == "80" {
		port = ""
	}
	return u.Scheme + "|" + strings.ToLower(u.Hostname()) + "|" + port
}
