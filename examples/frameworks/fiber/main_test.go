package main

import (
	"context"
	"net"
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
	for round := range 5 { // a token is cached when it comes the second time
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
