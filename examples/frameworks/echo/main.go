// Echo is a small API behind package bearer, made with echo v5.
package main

import (
	"flag"
	"log"
	"net/http"
	"os"
	"time"

	"example.com/bearer"
	"github.com/labstack/echo/v5"
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
	server := &http.Server{Addr: *addr, Handler: newAPI(auth), ReadHeaderTimeout: 5 * time.Second}
	log.Fatal(server.ListenAndServe())
}

// newAPI returns the API. echo.WrapMiddleware, which v4 has too, is all it takes.
func newAPI(auth *bearer.Middleware) http.Handler {
	root := echo.New()
	root.GET("/api/ping", message("pong"))
	api := root.Group("/api", echo.WrapMiddleware(auth.Handler)) // a route that is added here is closed
	api.GET("/ping/secure", secure)
	api.GET("/messages", message("here are your messages"), echo.WrapMiddleware(auth.RequireScope("read:messages")))
	return root
}

func secure(c *echo.Context) error {
	claims, _ := bearer.FromContext(c.Request().Context())
	return c.JSON(http.StatusOK, map[string]string{"sub": claims.Subject})
}

func message(text string) echo.HandlerFunc {
	return func(c *echo.Context) error {
		return c.JSON(http.StatusOK, map[string]string{"message": text})
	}
}
