package main

import (
	"net/http/httptest"
	"testing"

	"example.com/bearer"
	"example.com/bearer/examples/frameworks/internal/apitest"
)

func TestAPI(t *testing.T) {
	apitest.Run(t, apitest.Handler(newAPI))
}

// Below /api a stranger does not even learn which routes there are.
func TestUnknownRoute(t *testing.T) {
	_, config := apitest.New()
	auth, err := bearer.New(config)
	if err != nil {
		t.Fatal(err)
	}
	rec := httptest.NewRecorder()
	newAPI(auth).ServeHTTP(rec, httptest.NewRequest("GET", "/api/nowhere", nil))
	if rec.Code != 401 {
		t.Errorf("got %d, want 401", rec.Code)
	}
}
