// Fiber is a small API behind package bearer, made with fiber v3.
package main

import (
	"flag"
	"log"
	"net/http"
	"os"

	"example.com/bearer"
	"github.com/gofiber/fiber/v3"
	"github.com/gofiber/fiber/v3/middleware/adaptor"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "`host:port` to listen on")
	issuer := flag.String("issuer", os.Getenv("ISSUER"), "issuer `URL`, exactly as in the tokens; or set ISSUER")
	audience := flag.String("audience", os.Getenv("AUDIENCE"), "`audience` of the tokens; or set AUDIENCE")
	flag.Parse()
	auth, err := bearer.New(bearer.Config{Issuer: *issuer, Audience: []string{*audience}})
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(newAPI(auth).Listen(*addr, fiber.ListenConfig{DisableStartupMessage: true}))
}

// use makes a fiber handler of auth.Handler, auth.RequireScope("…") and the like.
// adaptor.HTTPMiddleware does not do: it loses the claims, and of two
// Authorization headers it shows the second only.
//
// What fiber hands out as strings is memory that the next request overwrites.
// Package bearer copies what it keeps, and the claims are copies.
func use(middleware func(http.Handler) http.Handler) fiber.Handler {
	return func(c fiber.Ctx) error {
		r, err := adaptor.ConvertRequest(c, true)
		if err != nil {
			return fiber.ErrBadRequest
		}
		r.Header = c.GetReqHeaders() // all of them: ConvertRequest keeps one of a name
		passed := false
		w := &reply{c, http.Header{}}
		middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			passed = true
			c.SetContext(r.Context()) // with the claims
			w.sendHeader()            // a nonce perhaps
		})).ServeHTTP(w, r.WithContext(c.Context()))
		if !passed {
			return nil
		}
		return c.Next()
	}
}

// A reply is fiber's response as an http.ResponseWriter.
type reply struct {
	c      fiber.Ctx
	header http.Header
}

func (w *reply) Header() http.Header         { return w.header }
func (w *reply) Write(p []byte) (int, error) { return w.c.Write(p) }
func (w *reply) WriteHeader(status int) {
	w.sendHeader()
	w.c.Status(status)
}

func (w *reply) sendHeader() {
	for name, values := range w.header {
		for _, value := range values { // there can be two challenges
			w.c.Response().Header.Add(name, value)
		}
	}
}

func newAPI(auth *bearer.Middleware) *fiber.App {
	app := fiber.New()
	app.Get("/api/ping", message("pong"))
	api := app.Group("/api", use(auth.Handler)) // a route that is added here is closed
	api.Get("/ping/secure", secure)
	api.Get("/messages", use(auth.RequireScope("read:messages")), message("here are your messages"))
	return app
}

func secure(c fiber.Ctx) error {
	claims, _ := bearer.FromContext(c.Context()) // not c: it has values of its own
	return c.JSON(fiber.Map{"sub": claims.Subject})
}

func message(text string) fiber.Handler {
	return func(c fiber.Ctx) error { return c.JSON(fiber.Map{"message": text}) }
}
