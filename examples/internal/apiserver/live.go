package apiserver

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"example.com/bearer"
	"example.com/bearer/bearertest"
	"example.com/bearer/examples/internal/verdict"
)

// A live shows the page what happens while it happens: the verdict on each request to
// the API and why it was so, and the issuer's keys on both sides. It has switches for
// the issuer too, so it is for the embedded one and for this machine only.
type live struct {
	iss  *bearertest.Issuer
	auth *bearer.Middleware // set before anything is served
	done chan struct{}      // closed when the server ends

	mu       sync.Mutex
	changed  chan struct{} // closed, and made anew, at each change of what follows
	requests []*seen       // the latest, oldest first
	count    int
	issuer   issuerState
	keyIDs   []string // of the key set that the API got last
}

// A seen is a request as the page shows it.
type seen struct {
	Number  int               `json:"number"`
	ID      string            `json:"id"` // that the page gave it
	At      time.Time         `json:"at"`
	Method  string            `json:"method"`
	Path    string            `json:"path"`
	Verdict string            `json:"verdict"` // "waiting", "public", "let in", "refused"
	Status  int               `json:"status,omitempty"`
	Cached  bool              `json:"cached,omitempty"`
	Reason  string            `json:"reason,omitempty"`
	Why     map[string]string `json:"why,omitempty"` // what the log record says besides
	Passed  []string          `json:"passed,omitempty"`
	Failed  string            `json:"failed,omitempty"`

	has []string // for verdict.Checks
}

// An issuerState is what the switches did to the issuer.
type issuerState struct {
	Publishes []string `json:"publishes"`
	Signs     string   `json:"signs"`
	Announced bool     `json:"announced"`
	Down      bool     `json:"down"`
	Hang      bool     `json:"hang"`
	Garbage   bool     `json:"garbage"`
}

const (
	keptRequests = 30
	keyLife      = time.Minute // short, so that there is something to see
)

// newLive returns a live that learns of every verdict by what it sets in config.
func newLive(iss *bearertest.Issuer, config *bearer.Config) *live {
	l := &live{iss: iss, done: make(chan struct{}), changed: make(chan struct{}), requests: []*seen{}}
	l.issuer.Publishes, l.issuer.Signs = []string{iss.KeyID()}, iss.KeyID()
	config.Observe = l.observe
	config.Logger = slog.New(whyHandler{config.Logger.Handler(), l})
	config.Client = &http.Client{Transport: keyWatch{config.Client.Transport, l}}
	return l
}

// stop ends the streams.
func (l *live) stop() { close(l.done) }

// change makes a change and tells the streams of it.
func (l *live) change(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
	close(l.changed)
	l.changed = make(chan struct{})
}

type seenKey struct{}

// watch returns a handler that notes each request to the API and serves it with next.
func (l *live) watch(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/api/") {
			next.ServeHTTP(w, r)
			return
		}
		s := &seen{At: time.Now(), Method: cut(r.Method), Path: cut(r.URL.Path), Verdict: "waiting", has: []string{verdict.Request}}
		s.ID = cut(r.Header.Get("X-Request-Id"))
		if r.Header.Get("DPoP") != "" {
			s.has = append(s.has, verdict.Proof)
		}
		if r.URL.Path == "/api/messages" || r.URL.Path == "/api/vault" {
			s.has = append(s.has, verdict.Rule)
		}
		l.change(func() {
			l.count++
			s.Number = l.count
			l.requests = append(l.requests, s)
			l.requests = slices.Delete(l.requests, 0, max(0, len(l.requests)-keptRequests))
		})
		defer l.change(func() {
			if s.Verdict == "waiting" {
				s.Verdict = "public" // nobody looked for a token
			}
		})
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), seenKey{}, s)))
	})
}

// cut shortens what a stranger wrote.
func cut(s string) string { return s[:min(len(s), 100)] }

// observe is Config.Observe.
func (l *live) observe(ctx context.Context, o bearer.Outcome) {
	s, _ := ctx.Value(seenKey{}).(*seen)
	if s == nil {
		return
	}
	l.change(func() {
		s.Verdict, s.Cached = "let in", o.Cached
		if o.Err != nil {
			s.Verdict, s.Status, s.Reason = "refused", o.Err.Status, o.Err.Reason
		}
		s.Passed, s.Failed = verdict.Checks(s.Reason, s.has...)
	})
}

// A whyHandler passes log records on, and keeps what they say of refused requests.
type whyHandler struct {
	slog.Handler
	live *live
}

func (h whyHandler) Enabled(context.Context, slog.Level) bool { return true }

func (h whyHandler) Handle(ctx context.Context, record slog.Record) error {
	s, _ := ctx.Value(seenKey{}).(*seen)
	if why := verdict.Why(record); why != nil && s != nil {
		h.live.change(func() { s.Why = why })
	}
	if !h.Handler.Enabled(ctx, record.Level) {
		return nil
	}
	return h.Handler.Handle(ctx, record)
}

// A keyWatch sees which keys the API fetches, and gives them a short life.
type keyWatch struct {
	http.RoundTripper
	live *live
}

func (t keyWatch) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := t.RoundTripper.RoundTrip(r)
	if err != nil || !strings.HasSuffix(r.URL.Path, "/jwks.json") {
		return resp, err
	}
	resp.Header.Set("Cache-Control", fmt.Sprintf("max-age=%d", int(keyLife.Seconds())))
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	var set struct {
		Keys []struct {
			ID string `json:"kid"`
		} `json:"keys"`
	}
	if json.Unmarshal(body, &set) == nil && len(set.Keys) > 0 {
		t.live.change(func() {
			t.live.keyIDs = nil
			for _, key := range set.Keys {
				t.live.keyIDs = append(t.live.keyIDs, key.ID)
			}
		})
	}
	return resp, nil
}

// snapshot returns what the page shows, as JSON, and a channel that is closed at the
// next change.
func (l *live) snapshot() ([]byte, <-chan struct{}) {
	stats := l.auth.KeyStats()
	keys := map[string]any{"count": stats.Keys, "fetches": stats.Fetches, "refused": stats.Refused, "life": keyLife.Seconds(), "error": "", "fetched": 0}
	if stats.Err != nil {
		keys["error"] = stats.Err.Error()
	}
	if !stats.FetchedAt.IsZero() {
		keys["fetched"] = stats.FetchedAt.UnixMilli()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.keyIDs) == stats.Keys {
		keys["ids"] = l.keyIDs
	}
	text, err := json.Marshal(map[string]any{"issuer": l.issuer, "keys": keys, "requests": l.requests})
	if err != nil {
		panic(err) // strings and numbers
	}
	return text, l.changed
}

// stream sends the page what it shows, and again after each change, as server-sent
// events. Keys are fetched in the background, so it looks after them by the clock.
func (l *live) stream(w http.ResponseWriter, r *http.Request) {
	if !isLoopback(r.Host) {
		http.Error(w, "only for the page on this machine", http.StatusForbidden)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var sent []byte
	for r.Method == http.MethodGet {
		text, changed := l.snapshot()
		if !bytes.Equal(text, sent) {
			fmt.Fprintf(w, "data: %s\n\n", text)
			if http.NewResponseController(w).Flush() != nil {
				return
			}
			sent = text
		}
		select {
		case <-changed:
		case <-tick.C:
		case <-l.done:
			return
		case <-r.Context().Done():
			return
		}
	}
}

// switches returns a handler that does to the issuer what the last part of the path
// says.
func (l *live) switches() http.Handler {
	var sameOrigin http.CrossOriginProtection
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !isLoopback(r.Host) || sameOrigin.Check(r) != nil {
			http.Error(w, "only for programs and the page on this machine", http.StatusForbidden)
			return
		}
		found := true
		l.change(func() { found = l.do(r.PathValue("what")) })
		if !found {
			http.NotFound(w, r)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
}

// do works a switch. It reports whether there is one of that name. The caller holds mu.
func (l *live) do(what string) bool {
	state := &l.issuer
	switch what {
	case "rotate":
		l.iss.Rotate()
		state.Publishes, state.Announced = append(slices.Clone(state.Publishes), l.iss.KeyID()), false
	case "announce":
		l.iss.Announce()
		state.Announced = true
	case "withdraw":
		l.iss.Replace()
		state.Publishes, state.Announced = []string{l.iss.KeyID()}, false
	case "down":
		state.Down = !state.Down
		l.iss.SetDown(state.Down)
	case "hang":
		state.Hang = !state.Hang
		l.iss.SetHanging(state.Hang)
	case "garbage":
		state.Garbage = !state.Garbage
		l.iss.SetKeys(nil)
		if state.Garbage {
			l.iss.SetKeys([]byte("<!doctype html><title>Bad gateway</title>"))
		}
	default:
		return false
	}
	state.Signs = l.iss.KeyID()
	return true
}
