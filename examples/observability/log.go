package main

import (
	"context"
	"io"
	"log/slog"
	"net/http"

	"go.opentelemetry.io/otel/trace"

	"example.com/bearer"
)

func newLogger(w io.Writer, level slog.Level) *slog.Logger {
	return slog.New(traced{slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level})})
}

// traced adds the ids of the context's span to each record, those of package bearer
// included.
type traced struct{ slog.Handler }

func (h traced) Handle(ctx context.Context, r slog.Record) error {
	if span := trace.SpanContextFromContext(ctx); span.IsValid() {
		r.AddAttrs(slog.String("trace_id", span.TraceID().String()), slog.String("span_id", span.SpanID().String()))
	}
	return h.Handler.Handle(ctx, r)
}

func (h traced) WithAttrs(attrs []slog.Attr) slog.Handler { return traced{h.Handler.WithAttrs(attrs)} }
func (h traced) WithGroup(name string) slog.Handler       { return traced{h.Handler.WithGroup(name)} }

// An entry is what the audit log knows of a request. The audit stands outside of
// authentication, so the request that it sees never has claims. It puts an entry into
// the context instead, which bearer.Config.Observe fills in.
type entry struct {
	verdict                  string // "public", "accepted" or "refused"
	reason                   string
	subject, client, tokenID string
}

type entryKey struct{}

// audit writes one record for each request, after it was served.
func audit(log *slog.Logger, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e := &entry{verdict: "public"}
		inner := r.WithContext(context.WithValue(r.Context(), entryKey{}, e))
		defer func() { // after a panic too
			r.Pattern = inner.Pattern // for the metrics outside
			log.LogAttrs(r.Context(), slog.LevelInfo, "audit",
				slog.String("method", r.Method), slog.String("path", r.URL.Path), slog.String("verdict", e.verdict),
				slog.String("reason", e.reason), slog.String("sub", e.subject), slog.String("client_id", e.client), slog.String("jti", e.tokenID))
		}()
		next.ServeHTTP(w, inner)
	})
}

// noteVerdict fills in the entry of a request. The last verdict counts: a route may
// refuse what was let in before.
func noteVerdict(ctx context.Context, o bearer.Outcome) {
	e, ok := ctx.Value(entryKey{}).(*entry)
	if !ok {
		return
	}
	e.verdict = "accepted"
	if o.Err != nil {
		e.verdict, e.reason = "refused", o.Err.Reason
	}
	if c := o.Claims; c != nil {
		e.subject, e.client, e.tokenID = c.Subject, c.ClientID, c.ID
	}
}
