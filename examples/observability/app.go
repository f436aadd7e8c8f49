package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	exporter "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/propagation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"example.com/bearer"
	"example.com/bearer/bearerotel"
)

// An app is the API and what Prometheus scrapes.
type app struct{ api, metrics http.Handler }

// account is what this API's issuer adds to its tokens.
type account struct {
	Tenant string `json:"tenant"`
}

func newApp(config bearer.Config, log *slog.Logger) (*app, error) {
	registry := prometheus.NewRegistry()
	reader, err := exporter.New(exporter.WithRegisterer(registry), exporter.WithoutScopeInfo())
	if err != nil {
		return nil, err
	}
	meters := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
	tracers := sdktrace.NewTracerProvider() // it makes ids; sdktrace.WithBatcher would send spans somewhere

	telemetry, err := bearerotel.New(bearerotel.Config{MeterProvider: meters})
	if err != nil {
		return nil, err
	}
	config.Logger = log
	config.Observe = func(ctx context.Context, o bearer.Outcome) {
		telemetry.Observe(ctx, o)
		noteVerdict(ctx, o)
	}
	auth, err := bearer.New(config)
	if err != nil {
		return nil, err
	}
	if err := telemetry.ObserveKeys(config.Issuer, auth); err != nil {
		return nil, err
	}

	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/ping", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, `{"message":"pong"}`)
	})
	read := auth.RequireScope("read:messages")
	mux.Handle("GET /api/messages", read(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		claims, _ := bearer.FromContext(r.Context())
		own, err := bearer.As[account](claims)
		if err != nil {
			http.Error(w, `{"error":"unexpected claims"}`, http.StatusForbidden)
			return
		}
		log.InfoContext(r.Context(), "messages read", "tenant", own.Tenant)
		fmt.Fprintln(w, `{"messages":[]}`)
	})))
	mux.Handle("/api/", auth.Handler(http.NotFoundHandler())) // the rest is closed

	// From outside to inside: the request's span, the audit, the routes.
	api := otelhttp.NewHandler(audit(log, mux), "api", otelhttp.WithMeterProvider(meters),
		otelhttp.WithTracerProvider(tracers), otelhttp.WithPropagators(propagation.TraceContext{}))
	return &app{api: api, metrics: promhttp.HandlerFor(registry, promhttp.HandlerOpts{})}, nil
}
