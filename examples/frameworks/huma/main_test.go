package main

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"example.com/bearer"
	"example.com/bearer/bearertest"
	"example.com/bearer/examples/frameworks/internal/apitest"
	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

func TestAPI(t *testing.T) {
	apitest.Run(t, apitest.Handler(newAPI))
}

// What the document says is what is enforced.
func TestDocument(t *testing.T) {
	_, config := apitest.New()
	auth, err := bearer.New(config)
	if err != nil {
		t.Fatal(err)
	}
	api := newAPI(auth)
	rec := httptest.NewRecorder()
	api.ServeHTTP(rec, httptest.NewRequest("GET", "/openapi.json", nil))
	var document struct {
		Security []map[string][]string
		Paths    map[string]map[string]struct {
			Security *[]map[string][]string
		}
	}
	if err := json.Unmarshal(rec.Body.Bytes(), &document); err != nil || len(document.Paths) != 3 {
		t.Fatalf("got %s, %v", rec.Body, err)
	}
	for path, operations := range document.Paths {
		security := document.Security
		if own := operations["get"].Security; own != nil {
			security = *own
		}
		want := http.StatusUnauthorized
		if len(security) == 1 && len(security[0]) == 0 {
			want = http.StatusOK
		}
		rec := httptest.NewRecorder()
		api.ServeHTTP(rec, httptest.NewRequest("GET", path, nil))
		if rec.Code != want {
			t.Errorf("%s: got %d, want %d, since the document says %v", path, rec.Code, want, security)
		}
	}
}

// A requirement that secure does not know still needs a token.
func TestSecure(t *testing.T) {
	iss, config := apitest.New()
	auth, err := bearer.New(config)
	if err != nil {
		t.Fatal(err)
	}
	reader := iss.Token(apitest.Audience, bearertest.Claims{"scope": "read:messages"})
	for _, tt := range []struct {
		name     string
		security []map[string][]string
		token    string
		status   int
	}{
		{"nothing: no token", nil, "", 401},
		{"nothing: a token", nil, reader, 204},
		{"public", public, "", 204},
		{"another scheme", []map[string][]string{{"other": {"read:messages"}}}, "", 401},
		{"alternatives", []map[string][]string{{}, {token: {"read:messages"}}}, "", 401},
		{"two scopes", needs("read:messages", "write:messages"), reader, 403},
	} {
		t.Run(tt.name, func(t *testing.T) {
			mux := http.NewServeMux()
			api := humago.New(mux, huma.DefaultConfig("Test", "1"))
			api.UseMiddleware(secure(auth))
			huma.Register(api, huma.Operation{OperationID: "op", Method: "POST", Path: "/", Security: tt.security},
				func(context.Context, *struct{}) (*struct{}, error) { return nil, nil })
			r := httptest.NewRequest("POST", "/", nil)
			if tt.token != "" {
				r.Header.Set("Authorization", "Bearer "+tt.token)
			}
			rec := httptest.NewRecorder()
			mux.ServeHTTP(rec, r)
			if rec.Code != tt.status {
				t.Errorf("got %d %s, want %d", rec.Code, rec.Body, tt.status)
			}
		})
	}
}
