// Package bearerotel tells OpenTelemetry what package bearer decides: how many
// requests were let in and how many refused, by reason and issuer, and what state
// the issuers' keys are in.
//
//	telemetry, err := bearerotel.New(bearerotel.Config{})
//	...
//	auth, err := bearer.New(bearer.Config{
//		Issuer:   "https://login.example.com/",
//		Audience: []string{"https://api.example.com"},
//		Observe:  telemetry.Observe,
//	})
//	...
//	err = telemetry.ObserveKeys("https://login.example.com/", auth)
//
// # Metrics
//
//   - bearer.authentications, a counter of verdicts. Its attribute error.type is
//     the reason of a refusal, one of the words in docs/refusals.md, and absent
//     when the request was let in. bearer.issuer is the issuer as it was
//     configured, and absent when nobody judged the token.
//   - bearer.keys and bearer.keys.age, gauges of the usable keys at hand and of
//     the seconds since they were last fetched or confirmed, and
//     bearer.keys.fetches, a counter of the fetches that have begun; each with
//     bearer.issuer.
//
// A request that is let in by one wrapper and refused by another within it has two
// verdicts, as [bearer.Config.Observe] says.
//
// Nothing of a token is an attribute of a metric. What is, comes from the program's
// configuration and code, so there are few time series, whatever clients send. With
// [bearer.Config.FindIssuer] there are some for each issuer that it finds.
//
// # Traces
//
// There are no spans of its own, since a verdict takes no time worth one. The span
// that the request's context has gets error.type when the request is refused, and
// bearer.issuer.
package bearerotel

import (
	"context"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"example.com/bearer"
)

// Attributes that the semantic conventions have no name for.
const (
	issuerKey   = attribute.Key("bearer.issuer")
	clientIDKey = attribute.Key("bearer.client.id")
)

// A Config says what is told to whom. The zero value tells the global provider
// nothing about anybody.
type Config struct {
	// MeterProvider takes the metrics. If it is nil the global one does, as it is
	// when New is called or is set later.
	MeterProvider metric.MeterProvider

	// EndUser adds enduser.id, the token's subject, and bearer.client.id to the
	// span of a request whose token verified, also if it is refused. They are
	// personal data in most countries, and whoever can read traces can read them.
	EndUser bool
}

// Telemetry tells OpenTelemetry what a Middleware decides. It is safe for concurrent
// use, also by several Middlewares. Make one with [New].
type Telemetry struct {
	endUser         bool
	authentications metric.Int64Counter

	meter   metric.Meter
	keys    metric.Int64ObservableGauge
	age     metric.Float64ObservableGauge
	fetches metric.Int64ObservableCounter

	mu      sync.RWMutex
	options map[verdict][]metric.AddOption // made once, since making them costs more than counting
}

// A verdict is what the counter tells apart.
type verdict struct{ issuer, reason string }

// maxOptions is how many verdicts keep their options: more than there are, unless a
// program invents reasons or finds issuers without end.
const maxOptions = 1000

// New returns a Telemetry for cfg. The error is the MeterProvider's.
func New(cfg Config) (*Telemetry, error) {
	provider := cfg.MeterProvider
	if provider == nil {
		provider = otel.GetMeterProvider()
	}
	t := &Telemetry{
		endUser: cfg.EndUser,
		meter:   provider.Meter("example.com/bearer/bearerotel"),
		options: make(map[verdict][]metric.AddOption),
	}
	var err error
	if t.authentications, err = t.meter.Int64Counter("bearer.authentications", metric.WithUnit("{verdict}"),
		metric.WithDescription("Verdicts on requests and tokens.")); err != nil {
		return nil, err
	}
	if t.keys, err = t.meter.Int64ObservableGauge("bearer.keys", metric.WithUnit("{key}"),
		metric.WithDescription("Usable keys of the issuer at hand.")); err != nil {
		return nil, err
	}
	if t.age, err = t.meter.Float64ObservableGauge("bearer.keys.age", metric.WithUnit("s"),
		metric.WithDescription("Time since the issuer's keys were last fetched or confirmed.")); err != nil {
		return nil, err
	}
	if t.fetches, err = t.meter.Int64ObservableCounter("bearer.keys.fetches", metric.WithUnit("{fetch}"),
		metric.WithDescription("Fetches of the issuer's keys that have begun.")); err != nil {
		return nil, err
	}
	return t, nil
}

// Observe counts a verdict and adds it to the span of ctx. It is for
// [bearer.Config.Observe], or to be called by a function there that does more.
func (t *Telemetry) Observe(ctx context.Context, o bearer.Outcome) {
	v := verdict{issuer: o.Issuer}
	if o.Err != nil {
		v.reason = o.Err.Reason
	}
	t.authentications.Add(ctx, 1, t.addOptions(v)...)

	span := trace.SpanFromContext(ctx)
	if !span.IsRecording() {
		return
	}
	attrs := v.attributes()
	if t.endUser && o.Claims != nil {
		if o.Claims.Subject != "" {
			attrs = append(attrs, semconv.EnduserID(o.Claims.Subject))
		}
		if o.Claims.ClientID != "" {
			attrs = append(attrs, clientIDKey.String(o.Claims.ClientID))
		}
	}
	span.SetAttributes(attrs...)
}

func (t *Telemetry) addOptions(v verdict) []metric.AddOption {
	t.mu.RLock()
	options, ok := t.options[v]
	t.mu.RUnlock()
	if ok {
		return options
	}
	options = []metric.AddOption{metric.WithAttributeSet(attribute.NewSet(v.attributes()...))}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.options) < maxOptions {
		t.options[v] = options
	}
	return options
}

func (v verdict) attributes() []attribute.KeyValue {
	attrs := make([]attribute.KeyValue, 0, 4)
	if v.issuer != "" {
		attrs = append(attrs, issuerKey.String(v.issuer))
	}
	if v.reason != "" {
		attrs = append(attrs, semconv.ErrorTypeKey.String(v.reason))
	}
	return attrs
}

// ObserveKeys has the state of auth's keys read whenever metrics are collected, which
// causes no fetch. issuer is their bearer.issuer: the one that auth was configured
// with. With several issuers, call it for each of the Middlewares that were given to
// [bearer.Middleware.Or], and not for the result. A call cannot be taken back: one for
// each of them when the program starts is meant.
//
// There is no age before the keys were fetched for the first time.
func (t *Telemetry) ObserveKeys(issuer string, auth *bearer.Middleware) error {
	by := metric.WithAttributeSet(attribute.NewSet(issuerKey.String(issuer)))
	_, err := t.meter.RegisterCallback(func(_ context.Context, to metric.Observer) error {
		stats := auth.KeyStats()
		to.ObserveInt64(t.keys, int64(stats.Keys), by)
		to.ObserveInt64(t.fetches, stats.Fetches, by)
		if !stats.FetchedAt.IsZero() {
			to.ObserveFloat64(t.age, time.Since(stats.FetchedAt).Seconds(), by)
		}
		return nil
	}, t.keys, t.age, t.fetches)
	return err
}
