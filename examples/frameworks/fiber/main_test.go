package main

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"unsafe"

	"example.com/bearer"
	"example.com/bearer/bearertest"
	"example.com/bearer/examples/frameworks/internal/apitest"
	"github.com/gofiber/fiber/v3"
)

func TestAPI(t *testing.T) {
	apitest.Run(t, func(t *testing.T, auth *bearer.Middleware) string {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		app := newAPI(auth)
		served := make(chan error, 1)
		go func() { served <- app.Listener(listener, fiber.ListenConfig{DisableStartupMessage: true}) }()
		t.Cleanup(func() {
			listener.Close()
			<-served
		})
		return "http://" + listener.Addr().String()
	})
}

// All challenges reach the client, and so does the nonce of an accepted request.
func TestHeaders(t *testing.T) {
	iss, config := apitest.New()
	config.DPoP = &bearer.DPoP{BaseURLs: []string{apitest.Audience}, NonceKeys: [][]byte{make([]byte, 32)}}
	auth, err := bearer.New(config)
	if err != nil {
		t.Fatal(err)
	}
	app := fiber.New()
	app.Get("/", func(c fiber.Ctx) error { c.Set("Www-Authenticate", "Other"); return c.Next() }, use(auth.Handler), message("pong"))
	resp, err := app.Test(httptest.NewRequest("GET", "/", nil))
	if err != nil {
		t.Fatal(err)
	}
	if got := resp.Header.Values("Www-Authenticate"); len(got) != 3 {
		t.Errorf("no token: got the challenges %q, want two more", got)
	}

	app = fiber.New()
	app.Get("/", use(func(next http.Handler) http.Handler {
		return auth.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("DPoP-Nonce", "new")
			next.ServeHTTP(w, r)
		}))
	}), message("pong"))
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Authorization", "Bearer "+iss.Token(apitest.Audience, nil))
	if resp, err = app.Test(r); err != nil || resp.StatusCode != 200 || resp.Header.Get("DPoP-Nonce") != "new" {
		t.Errorf("accepted: got %v, %v", resp, err)
	}
}

// Tokens stand in one buffer after the other, as they do behind a connection
// that is kept alive. Each must be judged by itself, and the claims must stay
// when the buffer goes.
func TestReusedBuffer(t *testing.T) {
	iss, config := apitest.New()
	auth, err := bearer.New(config)
	if err != nil {
		t.Fatal(err)
	}
	var tokens [4]string
	for i, sub := range [...]string{"alice", "bobby", "carol", "david"} {
		tokens[i] = iss.Token(apitest.Audience, bearertest.Claims{"sub": sub})
		iss.Rotate() // each has a header of its own
	}
	buffer := make([]byte, 16<<10)
	inBuffer := func(token string) string {
		clear(buffer)
		return unsafe.String(&buffer[0], copy(buffer, token))
	}
	var kept [4]*bearer.Claims
	for round := range 5 { // a token is cached from its first use on
		for i, token := range tokens {
			claims, err := auth.Verify(context.Background(), inBuffer(token))
			if err != nil {
				t.Fatalf("round %d, token %d: %v", round, i, err)
			}
			if round == 0 {
				kept[i] = claims
			}
			if _, err := auth.Verify(context.Background(), inBuffer(apitest.Tampered(token))); err == nil {
				t.Fatalf("round %d, token %d: accepted after it was tampered with", round, i)
			}
			if claims.Subject != kept[i].Subject {
				t.Errorf("round %d, token %d: subject %q, was %q", round, i, claims.Subject, kept[i].Subject)
			}
		}
	}
	clear(buffer)
	for i, want := range [...]string{"alice", "bobby", "carol", "david"} {
		var own struct {
			Subject string `json:"sub"`
		}
		if err := kept[i].Decode(&own); err != nil || kept[i].Subject != want || own.Subject != want {
			t.Errorf("token %d: subject %q, decoded %q (%v), want %q", i, kept[i].Subject, own.Subject, err, want)
		}
	}
}
