package recipes

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/coder/websocket"

	"example.com/bearer"
)

const (
	subprotocol   = "messages.v1" // the API's own
	tokenProtocol = "bearer."     // what stands before the token
)

// fromSubprotocol takes the token out of the subprotocols that a browser offers, the
// only header of a websocket that its scripts can set:
//
//	new WebSocket(url, ["messages.v1", "bearer." + token])
//
// It goes outside of all wrappers of auth.
func fromSubprotocol(auth *bearer.Middleware, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var tokens, others []string
		for _, line := range r.Header["Sec-Websocket-Protocol"] {
			for name := range strings.SplitSeq(line, ",") {
				name = strings.TrimSpace(name)
				if token, ok := strings.CutPrefix(name, tokenProtocol); ok {
					tokens = append(tokens, token)
				} else {
					others = append(others, name)
				}
			}
		}
		if len(tokens) == 0 {
			next.ServeHTTP(w, r)
			return
		}
		if len(tokens) > 1 || len(r.Header["Authorization"]) > 0 {
			auth.WriteError(w, r, &bearer.Error{Status: 400, Code: "invalid_request", Description: "there is more than one token"})
			return
		}
		inner := r.Clone(r.Context())
		inner.Header.Set("Authorization", "Bearer "+tokens[0])
		// Whoever accepts the websocket must not choose the token as its protocol,
		// which would send it back, and logs must not have it.
		inner.Header.Set("Sec-Websocket-Protocol", strings.Join(others, ", "))
		next.ServeHTTP(w, inner)
	})
}

// chat serves websockets, each until its token expires. It goes inside of
// auth.Handler.
func chat(talk func(context.Context, *websocket.Conn) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Accept refuses other origins by itself.
		conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{subprotocol}})
		if err != nil {
			return // Accept has replied
		}
		defer conn.CloseNow()
		claims, _ := bearer.FromContext(r.Context())
		expiry := time.AfterFunc(time.Until(claims.ExpiresAt), func() {
			conn.Close(websocket.StatusPolicyViolation, "the token has expired")
		})
		defer expiry.Stop()
		if err := talk(r.Context(), conn); err == nil {
			conn.Close(websocket.StatusNormalClosure, "")
		}
	})
}
