package apiserver

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"errors"
	"fmt"
	"html"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"example.com/bearer/bearertest"
)

// pageHTML is what / shows to those who would rather click than type.
//
//go:embed page.html
var pageHTML string

// servePage registers the page, and the token endpoint, the stream and the switches
// that it uses. They are for the embedded issuer only: whoever asks gets a token.
// Proofs of the page are for apiURL; if it is empty it makes none.
func servePage(root *http.ServeMux, iss *bearertest.Issuer, audience, apiURL string, l *live) {
	// Browsers see one kind of line end in scripts, and hash that.
	page := strings.ReplaceAll(pageHTML, "\r\n", "\n")
	page = strings.Replace(page, "<body>", `<body data-api="`+html.EscapeString(apiURL)+`">`, 1)
	policy := pagePolicy(page)
	root.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		if !isLoopback(r.Host) {
			http.Error(w, "this page is for the machine that the server runs on", http.StatusForbidden)
			return
		}
		h := w.Header()
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "no-cache")
		fmt.Fprint(w, page)
	})
	root.Handle("/token", tokenEndpoint(iss, audience))
	root.HandleFunc("GET /live", l.stream)
	root.Handle("POST /live/{what}", l.switches())
}

// pagePolicy returns a Content-Security-Policy under which html can do what it
// does and nothing else: run its own script, in its own style, and talk to its
// own server.
func pagePolicy(html string) string {
	hash := func(element string) string {
		_, rest, _ := strings.Cut(html, "<"+element+">")
		text, _, found := strings.Cut(rest, "</"+element+">")
		if !found {
			panic("page.html has no <" + element + ">")
		}
		sum := sha256.Sum256([]byte(text))
		return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
	}
	return strings.Join([]string{
		"default-src 'none'",
		"script-src " + hash("script"),
		"style-src " + hash("style"),
		"connect-src 'self'",
		"img-src data:", // the icon
		"base-uri 'none'",
		"form-action 'none'",
		"frame-ancestors 'none'",
		"require-trusted-types-for 'script'",
	}, "; ")
}

// isLoopback reports whether host, with or without a port, names this machine.
// A page elsewhere can have its own name resolved to 127.0.0.1, and is then of
// one origin with this server, but it cannot make its name an address.
func isLoopback(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && ip.IsLoopback()
}

// A tokenError is the answer to a bad request for a token (RFC 6749, section
// 5.2).
type tokenError struct {
	status            int
	code, description string
}

// tokenEndpoint returns a handler that issues a token of iss for audience, with
// the scopes and of the validity that the form in the body asks for. Requests
// and answers are those of the client credentials grant (RFC 6749, section
// 4.4), but no credentials are needed.
func tokenEndpoint(iss *bearertest.Issuer, audience string) http.Handler {
	var sameOrigin http.CrossOriginProtection
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("Pragma", "no-cache") // RFC 6749, section 5.1, wants both

		refuse := func(e *tokenError) {
			reply(w, e.status, map[string]any{"error": e.code, "error_description": e.description})
		}
		if r.Method != http.MethodPost {
			h.Set("Allow", http.MethodPost)
			refuse(&tokenError{http.StatusMethodNotAllowed, "invalid_request", "use POST"})
			return
		}
		if !isLoopback(r.Host) || sameOrigin.Check(r) != nil {
			refuse(&tokenError{http.StatusForbidden, "invalid_request", "only for programs and the page on this machine"})
			return
		}
		scope, key, expired, bad := tokenRequest(w, r)
		if bad != nil {
			refuse(bad)
			return
		}

		claims := bearertest.Claims{}
		answer := map[string]any{"token_type": "Bearer", "expires_in": 3600}
		if scope != "" {
			claims["scope"], answer["scope"] = scope, scope
		}
		if key != "" {
			claims["cnf"], answer["token_type"] = bearertest.Claims{"jkt": key}, "DPoP"
		}
		if expired {
			now := time.Now()
			claims["iat"], claims["exp"] = now.Add(-2*time.Hour).Unix(), now.Add(-time.Hour).Unix()
			answer["expires_in"] = 0
		}
		answer["access_token"] = iss.Token(audience, claims)
		reply(w, http.StatusOK, answer)
	})
}

// tokenRequest returns what r asks for: scopes, the thumbprint of the key that the
// token is to be bound to (the parameter of RFC 9449, section 10), and whether it is
// to have expired.
func tokenRequest(w http.ResponseWriter, r *http.Request) (scope, key string, expired bool, bad *tokenError) {
	form, bad := tokenForm(w, r)
	if bad != nil {
		return "", "", false, bad
	}
	if grant := form.Get("grant_type"); grant != "" && grant != "client_credentials" {
		return "", "", false, &tokenError{http.StatusBadRequest, "unsupported_grant_type", "grant_type must be client_credentials or missing"}
	}
	if s := form.Get("expired"); s != "" {
		var err error
		if expired, err = strconv.ParseBool(s); err != nil {
			return "", "", false, &tokenError{http.StatusBadRequest, "invalid_request", "expired must be true or false"}
		}
	}
	if key = form.Get("dpop_jkt"); key != "" {
		if err := checkThumbprint(key); err != nil {
			return "", "", false, &tokenError{http.StatusBadRequest, "invalid_request", err.Error()}
		}
	}
	scope, bad = grantedScope(form.Get("scope"))
	return scope, key, expired, bad
}

// tokenForm returns the form in the body of r, of which every field stands
// there once at most (RFC 6749, section 3.2). Fields it does not know are
// ignored, as the same section has it; so is the query.
func tokenForm(w http.ResponseWriter, r *http.Request) (url.Values, *tokenError) {
	bad := func(description string) *tokenError {
		return &tokenError{http.StatusBadRequest, "invalid_request", description}
	}
	contentType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if r.ContentLength != 0 && (err != nil || contentType != "application/x-www-form-urlencoded") {
		return nil, bad("the body must be application/x-www-form-urlencoded")
	}
	r.Body = http.MaxBytesReader(w, r.Body, 4<<10)
	if err := r.ParseForm(); err != nil {
		if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
			return nil, &tokenError{http.StatusRequestEntityTooLarge, "invalid_request", "the body is too large"}
		}
		return nil, bad("the body is no form")
	}
	for _, values := range r.PostForm {
		if len(values) > 1 {
			return nil, bad("a field is there twice; separate scopes by spaces in one field")
		}
	}
	return r.PostForm, nil
}

// grantedScope returns the names in requested, each once, in the order in which
// they came, separated by single spaces.
func grantedScope(requested string) (string, *tokenError) {
	var names []string
	for name := range strings.SplitSeq(requested, " ") {
		if name == "" || slices.Contains(names, name) {
			continue
		}
		// RFC 6749, section 3.3: printable ASCII but for " and \.
		if strings.ContainsFunc(name, func(c rune) bool { return c <= ' ' || c > '~' || c == '"' || c == '\\' }) {
			return "", &tokenError{http.StatusBadRequest, "invalid_scope", "a scope has a character that no scope may have"}
		}
		names = append(names, name)
	}
	return strings.Join(names, " "), nil
}
