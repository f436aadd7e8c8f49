package bearer_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"example.com/bearer"
	"example.com/bearer/bearertest"
)

func TestScopeRoutes(t *testing.T) {
	iss, auth := newAuth(t)
	all := auth.RequireScope("read", "write")(ok)
	one := auth.RequireAnyScope("delete", "admin")(ok)
	const lacksAll = `Bearer error="insufficient_scope", scope="read write"`
	const lacksOne = `Bearer error="insufficient_scope", scope="delete"`
	token := func(scope any) []string {
		return []string{"Bearer " + iss.Token(audience, bearertest.Claims{"scope": scope})}
	}
	tests := []struct {
		name      string
		h         http.Handler
		header    []string
		status    int
		challenge string
	}{
		{"no token", all, nil, 401, `Bearer scope="read write"`},
		{"no token, any of", one, nil, 401, `Bearer scope="delete"`},
		{"another scheme", all, []string{"Basic YTpi"}, 401, `Bearer scope="read write"`},
		{"bad token, any of", one, []string{"Bearer x.y.z"}, 401, challengeToken},
		{"bad token", all, []string{"Bearer x.y.z"}, 401, challengeToken},
		{"malformed header", all, []string{"Bearer"}, 400, challengeRequest},
		{"expired token with the scopes", all, []string{"Bearer " + iss.Token(audience, bearertest.Claims{"scope": "read write", "exp": 1})}, 401, challengeToken},
		{"all", all, token("read write"), 200, ""},
		{"all and more", all, token("x write y read z"), 200, ""},
		{"one of all", all, token("read"), 403, lacksAll},
		{"none of all", all, token(nil), 403, lacksAll},
		{"first of any", one, token("delete"), 200, ""},
		{"second of any", one, token("admin x"), 200, ""},
		{"none of any", one, token("read write"), 403, lacksOne},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			checkReply(t, serve(tt.h, tt.header...), tt.status, tt.challenge)
			// Inside of Handler it is the same, but that Handler knows of no scope.
			challenge := tt.challenge
			if tt.status == 401 && !strings.Contains(challenge, "error") {
				challenge = challengeNone
			}
			checkReply(t, serve(auth.Handler(tt.h), tt.header...), tt.status, challenge)
		})
	}
}

func TestScopeClaims(t *testing.T) {
	tests := []struct {
		claims string // members of the payload
		from   []string
		want   string
	}{
		{`"scope":"read"`, nil, "read"},
		{`"scope":"read write"`, nil, "read write"},
		{`"scope":["read","write"]`, nil, "read write"},
		{`"scp":"read write"`, nil, "read write"},
		{`"scp":["read","write"]`, nil, "read write"},
		{`"scope":"re\u0061d\u0020a\/b"`, nil, "read a/b"},
		{`"scope":["re\u0061d","a\/b"]`, nil, "read a/b"},
		{`"scope":["read\u0020admin","\u0022"]`, nil, ""},
		{`"scp":"b","scope":"a"`, nil, "a"},
		{`"scope":"","scp":"b"`, nil, ""},
		{`"scope":null,"scp":"b"`, nil, ""},
		{`"Scope":"a","SCP":"b"`, nil, ""},
		{`"scope":"  read   write "`, nil, "read write"},
		{`"scope":"write read write read"`, nil, "write read"},
		{`"scope":["write","read","write"]`, nil, "write read"},
		{`"scope":" "`, nil, ""},
		{`"scope":" read"`, nil, "read"},
		{`"scope":"read "`, nil, "read"},
		{`"scope":"read  write"`, nil, "read write"},
		{`"scope":"! # [ ] ~"`, nil, "! # [ ] ~"},
		{`"scope":"a\"b x"`, nil, "x"},
		{`"scope":"a\\b x"`, nil, "x"},
		{`"scope":"a \"b"`, nil, "a"},
		{`"scope":"a\u001fb"`, nil, ""},
		{`"scope":"a\u007fb x"`, nil, "x"},
		{`"scope":"aé x"`, nil, "x"},
		{`"scope":"aaaa bbbb c\"d efgh"`, nil, "aaaa bbbb efgh"},
		{`"scope":"read\twrite"`, nil, ""},
		{`"scope":"read\nwrite x"`, nil, "x"},
		{`"scope":"read\u00a0write"`, nil, ""},
		{`"scope":["read write","x"]`, nil, "x"},
		{`"scope":["read",1,null,["write"],{"a":"b"},"",true,"x"]`, nil, "read x"},
		{`"scope":7`, nil, ""},
		{`"scope":{"read":true}`, nil, ""},
		{`"scope":true`, nil, ""},
		{`"x":1`, nil, ""},
		{`"scopd":"x","scopf":"y","sco":"z","scope.":"u"`, nil, ""},
		{`"permissions":["read"],"roles":["read"],"realm_access":{"roles":["read"]}`, nil, ""},

		{`"permissions":["read"],"scope":"openid"`, []string{"permissions"}, "read"},
		{`"permissions":["read"],"scope":"openid"`, []string{"missing", "permissions", "scope"}, "read"},
		{`"realm_access":{"roles":["read","write"]}`, []string{"realm_access.roles"}, "read write"},
		{`"realm_access.roles":"exact","realm_access":{"roles":"path"}`, []string{"realm_access.roles"}, "exact"},
		{`"realm_access":{"roles":"path"},"realm_access.roles":"exact"`, []string{"realm_access.roles"}, "exact"},
		{`"a":{"b":{"c":"deep"}}`, []string{"a.b.c"}, "deep"},
		{`"a.b":{"c":"dotted"},"a":{"b":{"c":"deep"}}`, []string{"a.b.c"}, "dotted"},
		{`"kubernetes.io":{"roles":"x"}`, []string{"kubernetes.io.roles"}, "x"},
		{`"a":"b"`, []string{"a.b"}, ""},
		{`"a":["b"]`, []string{"a.b"}, ""},
		{`"a":{"c":"x"},"scope":"y"`, []string{"a.b", "scope"}, "y"},
		{`"a":{"B":"x"}`, []string{"a.b"}, ""},
		{`"https://example.com/roles":["x"]`, []string{"https://example.com/roles"}, "x"},
		{`"a":{"":"x"}`, []string{"a."}, ""},
		{`"":"x","éa":"y"`, []string{"éa"}, "y"},
		{`"\u0073cp":"x"`, []string{"roles", "scp"}, "x"},
		{`"ab":{"c":"y"},"a":{"bc":"z"},"a.bc":"u","a.b.c":"v"`, []string{"a.b"}, ""},
		{`"realm":{"access":{"roles":"y"}}`, []string{"realm_access.roles"}, ""},
		{`"realm_acces":{"roles":"z"},"realm_accesses":{"roles":"u"}`, []string{"realm_access.roles"}, ""},
		{`"my":{"api":{"roles":"y"}}`, []string{"my-api.roles"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.claims, func(t *testing.T) {
			iss, auth := newAuth(t, func(c *bearer.Config) { c.ScopeClaims = tt.from })
			payload := fmt.Sprintf(`{"iss":%q,"aud":%q,"exp":4000000000,%s}`, iss.URL, audience, tt.claims)
			c, err := auth.Verify(t.Context(), iss.Sign("", payload))
			if err != nil {
				t.Fatal(err)
			}
			if string(c.Scope) != tt.want {
				t.Errorf("Scope = %q, want %q", c.Scope, tt.want)
			}
			if got := strings.Join(slices.Collect(c.Scope.All()), " "); got != tt.want {
				t.Errorf("All = %q, want %q", got, tt.want)
			}
		})
	}
}

func TestScopeHas(t *testing.T) {
	const s bearer.Scope = "read:messages aaa b:c aab"
	for name, want := range map[string]bool{
		"read:messages": true, "aaa": true, "b:c": true, "aab": true,
		"": false, " ": false, "read": false, "messages": false, "read:messages2": false,
		"Read:messages": false, "aa": false, "a": false, "b": false, "c": false,
		"aaa b:c": false, " aaa": false, "aaa ": false, "ab": false, "bread:messages": false,
	} {
		if got := s.Has(name); got != want {
			t.Errorf("Has(%q) = %v, want %v", name, got, want)
		}
	}
	if bearer.Scope("").Has("") || bearer.Scope("").Has("a") {
		t.Error("the empty scope has something")
	}
	if bearer.Scope("aaa aa").Has("aa") != true || bearer.Scope("aaa b").Has("aa") {
		t.Error("Has mistakes the end of a name for a name")
	}
	for name := range s.All() {
		if name != "read:messages" {
			t.Errorf("All did not stop, but went on to %q", name)
		}
		break
	}
}

func TestRequireScopePanics(t *testing.T) {
	_, auth := newAuth(t)
	for _, scopes := range [][]string{nil, {""}, {"a", ""}, {"read write"}, {"a\tb"}, {`a"b`}, {`a\b`}, {"ä"}} {
		for name, require := range map[string]func(...string) func(http.Handler) http.Handler{
			"RequireScope": auth.RequireScope, "RequireAnyScope": auth.RequireAnyScope,
		} {
			func() {
				defer func() {
					if p, _ := recover().(string); !strings.Contains(p, name) {
						t.Errorf("%s(%q): panic %q, want one that names it", name, scopes, p)
					}
				}()
				require(scopes...)
			}()
		}
	}
}

// What NewContext or another Middleware put into the context is not trusted.
func TestRequireScopeTrustsItsOwn(t *testing.T) {
	iss, auth := newAuth(t)
	_, other := newAuth(t)
	token := iss.Token(audience, bearertest.Claims{"scope": "admin"})
	genuine, err := auth.Verify(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	guarded := auth.RequireScope("admin")(ok)

	r := httptest.NewRequest("GET", "/", nil)
	for name, claims := range map[string]*bearer.Claims{
		"made up":  {Scope: "admin"},
		"verified": genuine,
	} {
		w := httptest.NewRecorder()
		guarded.ServeHTTP(w, r.WithContext(bearer.NewContext(r.Context(), claims)))
		t.Run(name, func(t *testing.T) { checkReply(t, w, 401, `Bearer scope="admin"`) })
	}

	w := serve(auth.Handler(other.RequireScope("admin")(ok)), "Bearer "+token)
	checkReply(t, w, 401, challengeToken) // other has other keys
}

func TestRequire(t *testing.T) {
	iss, auth := newAuth(t)
	header := "Bearer " + iss.Token(audience, bearertest.Claims{"sub": "alice"})
	tests := []struct {
		name      string
		err       error
		status    int
		challenge string
		code      string // in the body
	}{
		{"passes", nil, 200, "", ""},
		{"fails", errors.New("secret of the house"), 403, "", "access_denied"},
		{"nil of another type of error", (*json.SyntaxError)(nil), 403, "", "access_denied"},
		{"a nil Error", (*bearer.Error)(nil), 500, "", ""},
		{"a wrapped nil Error", fmt.Errorf("secret of the house: %w", (*bearer.Error)(nil)), 500, "", ""},
		{"an Error around a nil one", &bearer.Error{Status: 403, Description: "no", Err: (*bearer.Error)(nil)}, 403, "", ""},
		{"an Error", &bearer.Error{Status: 401, Code: "invalid_token", Description: "log in again"}, 401, challengeToken, "invalid_token"},
		{"a wrapped Error", fmt.Errorf("secret of the house: %w", &bearer.Error{Status: 403, Code: "insufficient_scope", Scope: `a"b\c`, Description: "no"}), 403, `Bearer error="insufficient_scope", scope="a\"b\\c"`, "insufficient_scope"},
		{"an Error without code", &bearer.Error{Status: 403, Reason: "denied", Description: "no"}, 403, "", ""},
		{"an Error without status", &bearer.Error{Description: "no"}, 403, "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := auth.Require(func(r *http.Request, c *bearer.Claims) error {
				if c.Subject != "alice" || r.URL.Path != "/api/messages" {
					t.Errorf("the check got %q and %q", c.Subject, r.URL.Path)
				}
				return tt.err
			})(ok)
			for _, h := range []http.Handler{h, auth.Handler(h)} {
				w := serve(h, header)
				checkReplyCode(t, w, tt.status, tt.challenge, tt.code)
				if strings.Contains(w.Body.String(), "secret") {
					t.Errorf("the reply tells the cause: %s", w.Body)
				}
			}
			checkReply(t, serve(h), 401, challengeNone)
		})
	}

	defer func() {
		if recover() == nil {
			t.Error("Require(nil) does not panic")
		}
	}()
	auth.Require(nil)
}

// A route behind RequireScope alone has its claims in the context as well.
func TestRequireScopePassesClaims(t *testing.T) {
	iss, auth := newAuth(t)
	h := auth.RequireScope("a")(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, found := bearer.FromContext(r.Context())
		json.NewEncoder(w).Encode([]any{found, c.Subject})
	}))
	w := serve(h, "Bearer "+iss.Token(audience, bearertest.Claims{"scope": "a"}))
	if got := strings.TrimSpace(w.Body.String()); got != `[true,"user"]` {
		t.Errorf("claims = %s, want those of user", got)
	}
}

func TestScopeClaimIsNoPrefix(t *testing.T) {
	for _, tt := range []struct{ claims, want string }{
		{`"sco":{"e":"x"}`, ""},
		{`"sco":{"e":"x"},"scp":"y"`, "y"},
	} {
		iss, auth := newAuth(t)
		c, err := auth.Verify(t.Context(), iss.Sign("", payload(iss, ","+tt.claims)))
		if err != nil || string(c.Scope) != tt.want {
			t.Errorf("%s: %+v, %v, want %q", tt.claims, c, err, tt.want)
		}
	}
}

func TestScopeNames(t *testing.T) {
	iss, auth := newAuth(t)
	c, err := auth.Verify(t.Context(), iss.Sign("", payload(iss, `,"scope":"a~ ~ ! a\"b a\\b \u007f"`)))
	if err != nil || c.Scope != "a~ ~ !" {
		t.Errorf("%+v %v", c, err)
	}
	auth.RequireScope("~", "!")
}
