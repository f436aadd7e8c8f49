// Gin is a small API behind package bearer, made with gin.
package main

import (
	"flag"
	"log"
	"net/http"
	"os"
	"time"

	"example.com/bearer"
	"github.com/gin-gonic/gin"
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
	gin.SetMode(gin.ReleaseMode)
	server := &http.Server{Addr: *addr, Handler: newAPI(auth), ReadHeaderTimeout: 5 * time.Second}
	log.Fatal(server.ListenAndServe())
}

// use makes a gin handler of auth.Handler, auth.RequireScope("…") and the like.
// Gin goes on to the next handler when one returns, whatever it wrote, unless it
// calls Abort. gin.WrapH does not: behind gin.WrapH(auth.Handler(…)) the
// protected handler runs, and its reply follows the 401.
func use(middleware func(http.Handler) http.Handler) gin.HandlerFunc {
	return func(c *gin.Context) {
		passed := false
		middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			passed = true
			c.Request = r // with the claims
			c.Next()
		})).ServeHTTP(c.Writer, c.Request)
		if !passed {
			c.Abort()
		}
	}
}

func newAPI(auth *bearer.Middleware) http.Handler {
	root := gin.New()
	root.Use(gin.Recovery())
	root.GET("/api/ping", message("pong"))
	api := root.Group("/api", use(auth.Handler)) // a route that is added here is closed
	api.GET("/ping/secure", secure)
	api.GET("/messages", use(auth.RequireScope("read:messages")), message("here are your messages"))
	return root
}

func secure(c *gin.Context) {
	claims, _ := bearer.FromContext(c.Request.Context()) // not c: it has values of its own
	c.JSON(http.StatusOK, gin.H{"sub": claims.Subject})
}

func message(text string) gin.HandlerFunc {
	return func(c *gin.Context) { c.JSON(http.StatusOK, gin.H{"message": text}) }
}
