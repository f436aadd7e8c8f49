package bearer_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"example.com/bearer"
	"example.com/bearer/bearertest"
)

// credentials is RFC 6750, section 2.1, with the one token68 that may follow.
var credentials = regexp.MustCompile(`(?i)^bearer +([a-z0-9._~+/=-]+)$`)

// impatient returns a context for a request that does not wait until a key id that
// nobody has may be asked for: it gets 503 then, in place of 401.
func impatient(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

// Any Authorization header gets the answer that the grammar asks for.
func FuzzAuthorization(f *testing.F) {
	iss, auth := newAuth(f)
	valid := iss.Token(audience, nil)
	for _, s := range []string{"", "Bearer", "Bearer ", "bearer x", "Bearer\tx", "Bearer a b", "Bearer a,b", "Basic YTpi", "Bearer =", "BEARER  " + valid, "Bearer " + valid + "=", "Bearer " + valid + ", Bearer x", valid, "Bearer \"x\"", " Bearer x ", "\tBearer x", "Bearer x\t", "Bearer x\n", "\vBearer x", "Bearer é", "Bearer " + strings.Repeat("$", 16<<10), "Bearer " + strings.Repeat("$", 16<<10+1)} {
		f.Add(s)
	}
	for _, row := range credentialRows(valid) {
		if len(row.header) == 1 {
			f.Add(row.header[0])
		}
	}
	if err := auth.Ready(f.Context()); err != nil {
		f.Fatal(err)
	}
	h := auth.Handler(ok)
	f.Fuzz(func(t *testing.T, header string) {
		ctx, w := impatient(t), httptest.NewRecorder()
		r := httptest.NewRequestWithContext(ctx, "GET", "/api/messages", nil)
		r.Header["Authorization"] = []string{header}
		h.ServeHTTP(w, r)
		value := strings.Trim(header, " \t")
		scheme := value
		if i := strings.IndexAny(value, " \t"); i >= 0 {
			scheme = value[:i]
		}
		token := strings.TrimLeft(strings.TrimPrefix(value, scheme), " ")
		match := credentials.FindStringSubmatch(value)
		switch {
		case !strings.EqualFold(scheme, "Bearer"):
			checkReply(t, w, 401, challengeNone)
		case match == nil && len(token) <= 16<<10: // a longer one is not looked at
			checkReply(t, w, 400, challengeRequest)
		case match != nil && match[1] == valid:
			checkReply(t, w, 200, "")
		case w.Code == 503 && ctx.Err() != nil:
		default:
			checkReply(t, w, 401, challengeToken)
		}
	})
}

// Whatever an issuer may sign: nothing panics, and what is accepted says what
// encoding/json, too, reads in it.
func FuzzSigned(f *testing.F) {
	iss, auth := newAuth(f)
	good := payload(iss, "")
	header := `{"alg":"ES256","kid":"key-1"}`
	for _, s := range []string{``, `,"scope":"a b"`, `,"scope":["a","b c",1]`, `,"nbf":1.5e9,"iat":1e9`, `,"cnf":{}`, `,"exp":1`, `,"x":"\ud800"`, `,"a":{"b":{"c":[]}}`, `,"EXP":1,"ISS":2`, `,"sub":"é","jti":"\u0000"`, `,"azp":1,"cid":"c"`} {
		f.Add(header, good[:len(good)-1]+s+"}")
	}
	for _, s := range []string{`{"alg":"none"}`, `{"alg":"ES256","crit":[]}`, `{"alg":"ES256","typ":"at+JWT"}`, `{"alg":"ES256","kid":""}`, `{"alg":"ES256","alg":"ES256"}`, `{"alg":"HS256","kid":"key-1"}`, `{"alg":"ES256","kid":1}`, `{"alg":"ES256","b64":false}`} {
		f.Add(s, good)
	}
	decoded := func(token string) (parts []string) {
		for part := range strings.SplitSeq(token, ".") {
			text, err := base64.RawURLEncoding.DecodeString(part)
			if err != nil {
				return nil
			}
			parts = append(parts, string(text))
		}
		return parts
	}
	for _, row := range formRows(iss) {
		if parts := decoded(row.token); len(parts) == 3 {
			f.Add(parts[0], parts[1])
		}
	}
	for _, row := range claimRows(iss) {
		parts := decoded(iss.Token(audience, row.claims))
		f.Add(parts[0], parts[1])
	}
	if err := auth.Ready(f.Context()); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, header, payload string) {
		if header == "" {
			return // Sign has a meaning of its own for it
		}
		c, err := auth.Verify(impatient(t), iss.Sign(header, payload))
		if err != nil {
			var e *bearer.Error
			if !errors.As(err, &e) || e.Status != 401 && !errors.Is(err, context.DeadlineExceeded) || len(err.Error()) > 1000 || c != nil {
				t.Errorf("got %v, %.2000v", c, err)
			}
			return
		}
		var h, p map[string]any
		if err := json.Unmarshal([]byte(header), &h); err != nil {
			t.Fatalf("header %s: %v", header, err)
		}
		if err := json.Unmarshal([]byte(payload), &p); err != nil {
			t.Fatalf("payload %s: %v", payload, err)
		}
		_, crit := h["crit"]
		_, b64 := h["b64"]
		_, bound := p["cnf"]
		exp, _ := p["exp"].(float64)
		if h["alg"] != "ES256" || crit || b64 || bound || p["iss"] != iss.URL || exp < float64(time.Now().Unix()-70) || exp > 253402300799 {
			t.Errorf("accepted: %s %s", header, payload)
		}
		if want, _ := p["sub"].(string); c.Subject != want {
			t.Errorf("Subject = %q, want %q", c.Subject, want)
		}
		if c.ExpiresAt.Unix() != int64(exp) {
			t.Errorf("ExpiresAt = %v, want %v", c.ExpiresAt, exp)
		}
		var own struct {
			Issuer string `json:"iss"`
		}
		if err := c.Decode(&own); err != nil || own.Issuer != iss.URL {
			t.Errorf("Decode: %q, %v", own.Issuer, err)
		}
		for name := range c.Scope.All() {
			if !c.Scope.Has(name) || strings.ContainsAny(name, " \t\n\"\\") {
				t.Errorf("Scope %q has an odd name %q", c.Scope, name)
			}
		}
	})
}

// Any text in the place of a token.
func FuzzToken(f *testing.F) {
	iss, auth := newAuth(f)
	valid := iss.Token(audience, nil)
	for _, s := range []string{"", ".", "..", "...", valid, valid + "=", valid + "\n", "a.b.c", strings.ToUpper(valid), valid[:len(valid)-1]} {
		f.Add(s)
	}
	for _, row := range formRows(iss) {
		if row.reason != "" {
			f.Add(row.token)
		}
	}
	if err := auth.Ready(f.Context()); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, token string) {
		if _, err := auth.Verify(impatient(t), token); (err == nil) != (token == valid) {
			t.Errorf("%q: %v", token, err)
		}
	})
}

// No key set takes the API down, or makes it trust what is not in it.
func FuzzKeySet(f *testing.F) {
	iss, _ := newAuth(f)
	good := published(f, iss)[0]
	for _, s := range []string{`{}`, `null`, `{"keys":[]}`, `{"keys":[%s]}`, `{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"},%s]}`, `{"keys":[%s,%s]}`, `{"keys":[%s],"keys":[]}`, `{"KEYS":[%s]}`, `{"keys":[[%s]]}`, `{"keys":[1,"a",%s]}`,
		`{"keys":[{"kty":"EC","crv":"P-521","x":"AA","y":"AA"},{"kty":"OKP","crv":"Ed25519","x":"AA"},{"kty":"oct","k":"AA"},%s]}`} {
		f.Add([]byte(strings.ReplaceAll(s, "%s", string(good))))
	}
	token := iss.Sign("", fmt.Sprintf(`{"iss":%q,"aud":%q,"exp":4000000000}`, iss.URL, audience))
	f.Fuzz(func(t *testing.T, document []byte) {
		if document == nil {
			return // SetKeys has a meaning of its own for it
		}
		auth := newMiddleware(t, iss)
		iss.SetKeys(document)
		_, err := auth.Verify(t.Context(), token)
		if got := statusOf(err); got != 200 && got != 401 && got != 503 {
			t.Errorf("status %d: %v", got, err)
		}
		var set struct {
			Keys []map[string]any `json:"keys"`
		}
		var want struct{ X string }
		json.Unmarshal(good, &want)
		if err == nil {
			json.Unmarshal(document, &set)
			found := false
			for _, k := range set.Keys {
				x, _ := k["x"].(string)
				found = found || strings.TrimRight(x, "=") == want.X || strings.HasPrefix(x, want.X[:40])
			}
			if !found && !strings.Contains(string(document), `"x"`) && !strings.Contains(string(document), `\u`) {
				t.Errorf("accepted with %s", document)
			}
		}
	})
}

// Metadata lead to no place but one that they name, for the right issuer.
func FuzzMetadata(f *testing.F) {
	iss := bearertest.NewIssuer("https://login.example.com/")
	for _, s := range []string{
		`{"issuer":"https://login.example.com/","jwks_uri":"https://login.example.com/keys"}`,
		`{"issuer":"https://login.example.com","jwks_uri":"https://login.example.com/keys"}`,
		`{"issuer":"https://login.example.com/","jwks_uri":"http://login.example.com/keys"}`,
		`{"issuer":"https://login.example.com/","jwks_uri":"http://127.0.0.1/keys"}`,
		`{"issuer":"https://login.example.com/","jwks_uri":"//evil.example.com"}`,
		`{"Issuer":"https://login.example.com/","issuer":"x","jwks_uri":"https://login.example.com/keys"}`,
		`[]`, ``,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, metadata string) {
		var asked []*url.URL
		auth := newMiddleware(t, iss, func(c *bearer.Config) {
			c.Client = &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
				asked = append(asked, r.URL)
				if len(asked) > 1 && r.URL.Path == "/.well-known/oauth-authorization-server" {
					asked = asked[:1] // the next place of metadata
				} else if len(asked) == 1 {
					return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader(metadata)), Request: r}, nil
				}
				return nil, errors.New("no")
			})}
		})
		_, err := auth.Verify(t.Context(), iss.Token(audience, nil))
		if got := statusOf(err); got != 503 {
			t.Errorf("status %d, want 503", got)
		}
		if len(asked) < 2 {
			return
		}
		var m map[string]any
		json.Unmarshal([]byte(metadata), &m)
		if m["issuer"] != iss.URL || asked[1].Scheme != "https" && asked[1].Hostname() != "localhost" && !strings.HasPrefix(asked[1].Hostname(), "127.") && !strings.Contains(asked[1].Hostname(), ":") {
			t.Errorf("%s led to %s", metadata, asked[1])
		}
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// What is written, a strict reader of RFC 9110, section 11.6.1, reads back.
func FuzzChallenge(f *testing.F) {
	f.Add("", "", "")
	f.Add("api", "invalid_token", "")
	f.Add(`a "quoted\" realm`, "insufficient_scope", "a b")
	f.Add("x\r\nSet-Cookie: a=b", "a\x00", "é, b=\"c\"")
	f.Add("", "\x00", "é")
	f.Fuzz(func(t *testing.T, realm, code, scope string) {
		auth, err := bearer.New(bearer.Config{Issuer: "https://login.example.com", Audience: []string{audience}, Realm: realm})
		if err != nil {
			realm = "" // characters that no header can carry
			_, auth = newAuth(t)
		}
		w := httptest.NewRecorder()
		auth.WriteError(w, httptest.NewRequest("GET", "/", nil), &bearer.Error{Status: 401, Code: code, Scope: scope})
		challenge := w.Header().Get("WWW-Authenticate")
		got, err := parseChallenge(challenge)
		if err != nil {
			t.Fatalf("%q: %v", challenge, err)
		}
		printable := func(s string) string {
			return strings.Map(func(r rune) rune {
				if r < ' ' || r > '~' {
					return -1
				}
				return r
			}, s)
		}
		want := map[string]string{"realm": realm, "error": printable(code), "scope": printable(scope)}
		for name, value := range want {
			if value == "" {
				delete(want, name) // no value is empty
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%q: read %q, want %q", challenge, got, want)
		}
	})
}

var authParam = regexp.MustCompile(`^([!#$%&'*+.^_|~0-9A-Za-z-]+)="((?:[ !#-\[\]-~]|\\[ -~])*)"`)

// parseChallenge reads a challenge of the scheme Bearer. It is strict: one
// space, then parameters as quoted-strings, separated by a comma and a space.
func parseChallenge(s string) (map[string]string, error) {
	params := make(map[string]string)
	if s == "Bearer" {
		return params, nil
	}
	rest, found := strings.CutPrefix(s, "Bearer ")
	for more := found; more; rest, more = strings.CutPrefix(rest, ", ") {
		m := authParam.FindStringSubmatch(rest)
		if m == nil {
			return nil, fmt.Errorf("no parameter at %q", rest)
		}
		if _, twice := params[m[1]]; twice {
			return nil, fmt.Errorf("%s stands twice", m[1])
		}
		params[m[1]] = regexp.MustCompile(`\\(.)`).ReplaceAllString(m[2], "$1")
		rest = rest[len(m[0]):]
	}
	if !found || rest != "" {
		return nil, fmt.Errorf("%q is left", rest)
	}
	return params, nil
}
