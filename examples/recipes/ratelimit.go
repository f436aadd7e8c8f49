package recipes

import (
	"maps"
	"net/http"
	"sync"

	"golang.org/x/time/rate"

	"example.com/bearer"
)

// A limiter gives each client a rate of its own.
type limiter struct {
	limit rate.Limit
	burst int

	mu      sync.Mutex
	clients map[client]*rate.Limiter
}

type client struct{ issuer, id string }

func newLimiter(limit rate.Limit, burst int) *limiter {
	return &limiter{limit: limit, burst: burst, clients: make(map[client]*rate.Limiter)}
}

// check is for auth.Require. It comes after the token was verified, so strangers can
// neither use up a client's rate nor make up clients.
func (l *limiter) check(_ *http.Request, c *bearer.Claims) error {
	reservation := l.of(client{c.Issuer, c.ClientID}).Reserve()
	if wait := reservation.Delay(); wait > 0 {
		reservation.Cancel()
		return &bearer.Error{Status: http.StatusTooManyRequests, Reason: "rate", Description: "too many requests", RetryAfter: wait}
	}
	return nil
}

func (l *limiter) of(c client) *rate.Limiter {
	const many = 10000
	l.mu.Lock()
	defer l.mu.Unlock()
	if one := l.clients[c]; one != nil {
		return one
	}
	if len(l.clients) >= many {
		maps.DeleteFunc(l.clients, func(_ client, other *rate.Limiter) bool {
			return other.Tokens() >= float64(l.burst) // it is as good as a new one
		})
	}
	l.clients[c] = rate.NewLimiter(l.limit, l.burst)
	return l.clients[c]
}
