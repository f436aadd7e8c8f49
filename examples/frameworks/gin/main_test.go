package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"example.com/bearer"
	"example.com/bearer/bearertest"
	"example.com/bearer/examples/frameworks/internal/apitest"
	"github.com/gin-gonic/gin"
)

func TestMain(m *testing.M) {
	gin.SetMode(gin.TestMode)
	os.Exit(m.Run())
}

func TestAPI(t *testing.T) {
	apitest.Run(t, apitest.Handler(newAPI))
}

// A refused request reaches nothing behind use, and one that passes reaches it
// once. The last rows show why gin.WrapH must not stand in for use.
func TestChain(t *testing.T) {
	iss, config := apitest.New()
	auth, err := bearer.New(config)
	if err != nil {
		t.Fatal(err)
	}
	nothing := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	read := auth.RequireScope("read:messages")
	valid := iss.Token(apitest.Audience, nil)
	reader := iss.Token(apitest.Audience, bearertest.Claims{"scope": "read:messages"})
	for _, tt := range []struct {
		name   string
		chain  []gin.HandlerFunc
		token  string
		status int
		runs   int // of the protected handler
	}{
		{"handler: no token", []gin.HandlerFunc{use(auth.Handler)}, "", 401, 0},
		{"handler: valid", []gin.HandlerFunc{use(auth.Handler)}, valid, 200, 1},
		{"scope alone: no token", []gin.HandlerFunc{use(read)}, "", 401, 0},
		{"scope alone: none", []gin.HandlerFunc{use(read)}, valid, 403, 0},
		{"scope alone: valid", []gin.HandlerFunc{use(read)}, reader, 200, 1},
		{"both: no token", []gin.HandlerFunc{use(auth.Handler), use(read)}, "", 401, 0},
		{"both: no scope", []gin.HandlerFunc{use(auth.Handler), use(read)}, valid, 403, 0},
		{"both: valid", []gin.HandlerFunc{use(auth.Handler), use(read)}, reader, 200, 1},

		{"WrapH leaks: no token", []gin.HandlerFunc{gin.WrapH(auth.Handler(nothing))}, "", 401, 1},
		{"WrapH leaks: no scope", []gin.HandlerFunc{gin.WrapH(read(nothing))}, valid, 403, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			runs := 0
			root := gin.New()
			root.GET("/", append(tt.chain, func(c *gin.Context) {
				runs++
				c.String(http.StatusOK, "SECRET")
			})...)
			r := httptest.NewRequest("GET", "/", nil)
			if tt.token != "" {
				r.Header.Set("Authorization", "Bearer "+tt.token)
			}
			rec := httptest.NewRecorder()
			root.ServeHTTP(rec, r)
			if rec.Code != tt.status || runs != tt.runs {
				t.Errorf("got status %d after %d runs, want %d after %d", rec.Code, runs, tt.status, tt.runs)
			}
			if got, want := strings.Count(rec.Body.String(), "SECRET"), tt.runs; got != want {
				t.Errorf("body %q", rec.Body)
			}
		})
	}
}
