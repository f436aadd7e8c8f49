package recipes

import (
	"fmt"
	"net/http"
	"time"

	"example.com/bearer"
)

// events sends server-sent events for as long as the token counts. It goes inside of
// auth.Handler, which judges the token when the stream begins.
func events(auth *bearer.Middleware, next func() <-chan string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("Cache-Control", "no-store")
		flusher, messages := http.NewResponseController(w), next()
		again := time.NewTicker(30 * time.Second)
		defer again.Stop()
		for {
			if err := flusher.Flush(); err != nil {
				return
			}
			select {
			case <-r.Context().Done():
				return
			case message := <-messages:
				fmt.Fprintf(w, "data: %s\n\n", message)
			case <-again.C:
				// Whether it has expired, was revoked, or has lost its key.
				if _, err := auth.Authenticate(r); err != nil {
					fmt.Fprint(w, "event: reauthenticate\ndata:\n\n")
					return
				}
			}
		}
	})
}
