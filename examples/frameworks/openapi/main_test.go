package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"example.com/bearer"
	"example.com/bearer/bearertest"
	"example.com/bearer/examples/frameworks/internal/apitest"
)

func TestAPI(t *testing.T) {
	apitest.Run(t, apitest.Handler(newAPI))
}

func TestValidation(t *testing.T) {
	iss, config := apitest.New()
	auth, err := bearer.New(config)
	if err != nil {
		t.Fatal(err)
	}
	api := newAPI(auth)
	token := iss.Token(apitest.Audience, bearertest.Claims{"sub": "alice"})
	for _, tt := range []struct {
		name    string
		request string
		body    string
		token   string
		status  int
		reply   string
	}{
		{"the token counts before the body", "POST /api/messages", `{}`, "", 401, `"error_description"`},
		{"the document's rule for all", "POST /api/messages", `{"text":"hello"}`, token, 200, `"alice wrote hello"`},
		{"a body that does not fit", "POST /api/messages", `{}`, token, 400, "Bad Request\n"},
		{"a body that is too long", "POST /api/messages", `{"text":"` + strings.Repeat("x", 2<<20) + `"}`, "", 413, "Request Entity Too Large\n"},
		{"not in the document", "GET /api/nowhere", "", token, 404, "Not Found\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			method, path, _ := strings.Cut(tt.request, " ")
			r := httptest.NewRequest(method, path, strings.NewReader(tt.body))
			r.Header.Set("Content-Type", "application/json")
			if tt.token != "" {
				r.Header.Set("Authorization", "Bearer "+tt.token)
			}
			rec := httptest.NewRecorder()
			api.ServeHTTP(rec, r)
			if rec.Code != tt.status || !strings.Contains(rec.Body.String(), tt.reply) {
				t.Errorf("got %d %s, want %d %s", rec.Code, rec.Body, tt.status, tt.reply)
			}
			if got := rec.Header().Get("WWW-Authenticate"); (got != "") != (tt.status == http.StatusUnauthorized) {
				t.Errorf("WWW-Authenticate: got %s", got)
			}
		})
	}
}
