package recipes

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"example.com/bearer"
	"example.com/bearer/bearertest"
)

// What docs/migrating.md has on its right stands in code that compiles and is tested.
func TestMigratingPage(t *testing.T) {
	oneLine := func(s string) string { return strings.Join(strings.Fields(s), " ") }
	var code strings.Builder
	for _, name := range []string{"migrating.go", "../frameworks/gin/main.go", "../frameworks/echo/main.go", "../frameworks/mcp/main.go"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		code.WriteString(oneLine(string(text)) + "\n")
	}
	page, err := os.ReadFile("../../docs/migrating.md")
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(strings.Trim(line, "| \n"), " | ")
		if !strings.HasPrefix(line, "| ") || len(cells) != 2 {
			continue
		}
		for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cells[1], -1) {
			checked++
			if !strings.Contains(code.String(), m[1]) {
				t.Errorf("nothing that is tested has %s", m[1])
			}
		}
	}
	if checked < 30 {
		t.Errorf("%d pieces of code", checked)
	}
	for _, block := range regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(string(page), -1) {
		if !strings.Contains(code.String(), oneLine(block[1])) {
			t.Errorf("nothing that is tested has this:\n%s", block[1])
		}
	}
}

func TestNewAPI(t *testing.T) {
	iss := bearertest.NewIssuer("https://login.example.com/")
	cfg := newConfig()
	cfg.JWKSURL, cfg.Algorithms, cfg.ErrorHandler = "", nil, nil
	cfg.Client, cfg.Logger = iss.Client(), slog.New(slog.DiscardHandler)
	cfg.Resource = audience
	api, err := newAPI(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bearer.New(newConfig()); err != nil {
		t.Error(err)
	}
	for _, tt := range []struct {
		request string
		claims  bearertest.Claims // nil: no token
		status  int
		body    string
	}{
		{"GET /api/ping", nil, 200, ""},
		{"GET /api/news", nil, 200, ""},
		{"GET /api/news", bearertest.Claims{"sub": "alice"}, 200, "hello alice"},
		{"GET /api/other", nil, 401, ""},
		{"GET /api/other", bearertest.Claims{"sub": "alice"}, 200, "hello alice"},
		{"GET /api/messages", bearertest.Claims{"scope": "read:messages"}, 403, ""},
		{"GET /api/messages", bearertest.Claims{"sub": "alice", "permissions": []string{"read:messages"}}, 200, "hello alice"},
		{"GET /api/tenant", bearertest.Claims{"sub": "alice", "tenant": "acme"}, 200, "hello alice"},
		{"GET /api/tenant", bearertest.Claims{"sub": "alice"}, 403, ""},
		{"GET /.well-known/oauth-protected-resource", nil, 200, `"resource"`},
		{"GET /api/other", bearertest.Claims{"exp": time.Now().Unix() - 2}, 401, ""}, // without leeway
	} {
		if rec := do(iss, api, tt.request, tt.claims); rec.Code != tt.status || !strings.Contains(rec.Body.String(), tt.body) {
			t.Errorf("%s %v: got %d %s, want %d %s", tt.request, tt.claims, rec.Code, rec.Body, tt.status, tt.body)
		}
	}
}

func TestFromQueue(t *testing.T) {
	iss, auth := newAuth(t, nil)
	if got, err := fromQueue(t.Context(), auth, iss.Token(audience, bearertest.Claims{"sub": "alice"})); got != "alice" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := fromQueue(t.Context(), auth, "nonsense"); err == nil {
		t.Error("nonsense was accepted")
	}
}

func TestErrorHandler(t *testing.T) {
	var log bytes.Buffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	defer slog.SetDefault(before)
	iss, auth := newAuth(t, func(cfg *bearer.Config) { cfg.ErrorHandler = newConfig().ErrorHandler })
	rec := do(iss, auth.Handler(http.NotFoundHandler()), "GET /", nil)
	if rec.Code != 401 || !strings.Contains(rec.Body.String(), "error_description") || !strings.Contains(log.String(), "reason=no_credentials") {
		t.Errorf("got %d %s, log %s", rec.Code, rec.Body, &log)
	}
}

// The old one decides, and what would change is logged, once.
func TestShadow(t *testing.T) {
	iss, auth := newAuth(t, nil)
	old := func(next http.Handler) http.Handler { // accepts whatever carries a token, but not Mallory's
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") == "" || r.URL.Path == "/mallory" {
				w.WriteHeader(http.StatusTeapot)
				return
			}
			next.ServeHTTP(w, r)
		})
	}
	good := iss.Token(audience, nil)
	for _, tt := range []struct {
		name, path, token string
		status            int
		log               string
	}{
		{"both accept", "/", good, 204, ""},
		{"both refuse", "/", "", 418, ""},
		{"the new one refuses", "/", iss.Token(audience, bearertest.Claims{"exp": nil}), 204, `level=WARN msg="would be refused" method=GET path=/ status=401 reason=no_expiry`},
		{"the new one accepts", "/mallory", good, 418, `level=WARN msg="would be accepted" method=GET path=/mallory`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var log bytes.Buffer
			r := httptest.NewRequest("GET", tt.path, nil)
			if tt.token != "" {
				r.Header.Set("Authorization", "Bearer "+tt.token)
			}
			rec := httptest.NewRecorder()
			shadow(auth, old, slog.New(slog.NewTextHandler(&log, nil)))(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(http.StatusNoContent)
			})).ServeHTTP(rec, r)
			_, got, _ := strings.Cut(strings.TrimSpace(log.String()), " ")
			if rec.Code != tt.status || got != tt.log {
				t.Errorf("got %d, log %s, want %d, %s", rec.Code, got, tt.status, tt.log)
			}
		})
	}
}
