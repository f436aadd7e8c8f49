package main

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"example.com/bearer"
	"example.com/bearer/examples/frameworks/internal/apitest"
)

const app = "https://app.example.com"

func newServer(auth *bearer.Middleware) http.Handler {
	allow, err := allowOrigin(app)
	if err != nil {
		panic(err)
	}
	return allow.Wrap(newAPI(auth))
}

// For everybody else the API is as it was.
func TestAPI(t *testing.T) {
	apitest.Run(t, apitest.Handler(newServer))
}

func TestScripts(t *testing.T) {
	iss, config := apitest.New()
	auth, err := bearer.New(config)
	if err != nil {
		t.Fatal(err)
	}
	valid := "Bearer " + iss.Token(apitest.Audience, nil)
	for _, tt := range []struct {
		name          string
		request       *http.Request
		origin        string
		authorization string
		asked         string // of a preflight: the headers that it asks for
		status        int
		allowed       string // Access-Control-Allow-Origin
		exposed       string // Access-Control-Expose-Headers
	}{
		{"preflight", httptest.NewRequest("OPTIONS", "/api/messages", nil), app, "", "authorization", 204, app, ""},
		{"preflight of an unknown route", httptest.NewRequest("OPTIONS", "/api/nowhere", nil), app, "", "authorization", 204, app, ""},
		{"preflight, another header", httptest.NewRequest("OPTIONS", "/api/messages", nil), app, "", "x-other", 403, "", ""},
		{"preflight, another origin", httptest.NewRequest("OPTIONS", "/api/messages", nil), "https://evil.example.com", "", "authorization", 403, "", ""},
		{"no token", httptest.NewRequest("GET", "/api/ping/secure", nil), app, "", "", 401, app, "www-authenticate"},
		{"scope missing", httptest.NewRequest("GET", "/api/messages", nil), app, valid, "", 403, app, "www-authenticate"},
		{"good token", httptest.NewRequest("GET", "/api/ping/secure", nil), app, valid, "", 200, app, "www-authenticate"},
		{"another origin", httptest.NewRequest("GET", "/api/ping/secure", nil), "https://evil.example.com", valid, "", 200, "", ""},
		{"OPTIONS that is no preflight", httptest.NewRequest("OPTIONS", "/api/messages", nil), app, "", "", 401, app, "www-authenticate"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := tt.request
			r.Header.Set("Origin", tt.origin)
			if tt.authorization != "" {
				r.Header.Set("Authorization", tt.authorization)
			}
			if tt.asked != "" {
				r.Header.Set("Access-Control-Request-Method", "POST")
				r.Header.Set("Access-Control-Request-Headers", tt.asked)
			}
			w := httptest.NewRecorder()
			newServer(auth).ServeHTTP(w, r)
			h := w.Header()
			if w.Code != tt.status || h.Get("Access-Control-Allow-Origin") != tt.allowed || h.Get("Access-Control-Expose-Headers") != tt.exposed {
				t.Errorf("got %d %v, want %d, allowed %q, exposed %q", w.Code, h, tt.status, tt.allowed, tt.exposed)
			}
			if got, want := h.Get("Access-Control-Allow-Headers") == "authorization", tt.status == 204; got != want {
				t.Errorf("got %v; Authorization allowed: %t, want %t", h, got, want)
			}
		})
	}
}
