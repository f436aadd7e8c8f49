package bearerotel_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"example.com/bearer"
	"example.com/bearer/bearerotel"
	"example.com/bearer/bearertest"
)

const audience = "https://api.example.com"

var ok = http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})

func newTelemetry(t testing.TB, cfg bearerotel.Config) (*bearerotel.Telemetry, *sdkmetric.ManualReader) {
	t.Helper()
	reader := sdkmetric.NewManualReader()
	cfg.MeterProvider = sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
	telemetry, err := bearerotel.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return telemetry, reader
}

func newAuth(t testing.TB, iss *bearertest.Issuer, telemetry *bearerotel.Telemetry) *bearer.Middleware {
	t.Helper()
	auth, err := bearer.New(bearer.Config{
		Issuer:   iss.URL,
		Audience: []string{audience},
		Client:   iss.Client(),
		Logger:   slog.New(slog.DiscardHandler),
		Observe:  telemetry.Observe,
	})
	if err != nil {
		t.Fatal(err)
	}
	return auth
}

func serve(h http.Handler, token string) int {
	r := httptest.NewRequest("GET", "/", nil)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code
}

// collect returns all numbers that reader finds, by metric and attributes.
func collect(t *testing.T, reader *sdkmetric.ManualReader) map[string]float64 {
	t.Helper()
	var data metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &data); err != nil {
		t.Fatal(err)
	}
	all := map[string]float64{}
	for _, scope := range data.ScopeMetrics {
		for _, m := range scope.Metrics {
			add := func(attrs attribute.Set, n float64) {
				all[fmt.Sprintf("%s %s %s", m.Name, m.Unit, attrs.Encoded(attribute.DefaultEncoder()))] = n
			}
			switch d := m.Data.(type) {
			case metricdata.Sum[int64]:
				if !d.IsMonotonic {
					t.Errorf("%s is no counter", m.Name)
				}
				for _, p := range d.DataPoints {
					add(p.Attributes, float64(p.Value))
				}
			case metricdata.Gauge[int64]:
				for _, p := range d.DataPoints {
					add(p.Attributes, float64(p.Value))
				}
			case metricdata.Gauge[float64]:
				for _, p := range d.DataPoints {
					add(p.Attributes, p.Value)
				}
			default:
				t.Errorf("%s is a %T", m.Name, d)
			}
		}
	}
	return all
}

func TestAuthentications(t *testing.T) {
	telemetry, reader := newTelemetry(t, bearerotel.Config{})
	iss := bearertest.NewIssuer("https://login.example.com")
	auth := newAuth(t, iss, telemetry)
	h := auth.Handler(auth.RequireScope("read")(ok))
	token := func(c bearertest.Claims) string { return iss.Token(audience, c) }
	good := token(bearertest.Claims{"scope": "read"})
	for _, token := range []string{
		good, good, good,
		token(nil), token(nil),
		"", "abc", "a b",
		token(bearertest.Claims{"exp": 1000000000}),
		token(bearertest.Claims{"iss": "https://evil.example"}),
	} {
		serve(h, token)
	}
	const name = "bearer.authentications {verdict} "
	got, want := collect(t, reader), map[string]float64{
		name + "bearer.issuer=https://login.example.com":                               5, // two of them by Handler only
		name + "bearer.issuer=https://login.example.com,error.type=insufficient_scope": 2,
		name + "bearer.issuer=https://login.example.com,error.type=expired":            1,
		name + "bearer.issuer=https://login.example.com,error.type=issuer":             1,
		name + "error.type=no_credentials":                                             1,
		name + "error.type=malformed":                                                  1,
		name + "error.type=invalid_request":                                            1,
	}
	if !maps.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func TestKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		telemetry, reader := newTelemetry(t, bearerotel.Config{})
		one, two := bearertest.NewIssuer("https://one.example"), bearertest.NewIssuer("https://two.example")
		for _, iss := range []*bearertest.Issuer{one, two} {
			auth := newAuth(t, iss, telemetry)
			if err := telemetry.ObserveKeys(iss.URL, auth); err != nil {
				t.Fatal(err)
			}
			if iss == one {
				one.Rotate()
				if err := auth.Ready(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		}
		time.Sleep(90 * time.Second)
		got, want := collect(t, reader), map[string]float64{
			"bearer.keys {key} bearer.issuer=https://one.example":           2,
			"bearer.keys.age s bearer.issuer=https://one.example":           90,
			"bearer.keys.fetches {fetch} bearer.issuer=https://one.example": 1,
			"bearer.keys {key} bearer.issuer=https://two.example":           0, // never fetched, and not by this
			"bearer.keys.fetches {fetch} bearer.issuer=https://two.example": 0,
		}
		if !maps.Equal(got, want) {
			t.Errorf("got  %v\nwant %v", got, want)
		}
	})
}

func TestSpan(t *testing.T) {
	iss := bearertest.NewIssuer("https://login.example.com")
	good := iss.Token(audience, bearertest.Claims{"sub": "alice", "scope": "read"})
	poor := iss.Token(audience, bearertest.Claims{"sub": "bob"})
	anonymous := iss.Token(audience, bearertest.Claims{"sub": nil, "client_id": nil, "scope": "read"})
	for _, tt := range []struct {
		name    string
		endUser bool
		token   string
		want    string
	}{
		{"accepted", false, good, "bearer.issuer=https://login.example.com"},
		{"refused", false, poor, "bearer.issuer=https://login.example.com error.type=insufficient_scope"},
		{"malformed", false, "abc", "error.type=malformed"},
		{"accepted, with the user", true, good, "bearer.client.id=client bearer.issuer=https://login.example.com enduser.id=alice"},
		{"refused, with the user", true, poor, "bearer.client.id=client bearer.issuer=https://login.example.com enduser.id=bob error.type=insufficient_scope"},
		{"a token of nobody", true, anonymous, "bearer.issuer=https://login.example.com"},
		{"malformed, with nobody", true, "abc", "error.type=malformed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			telemetry, _ := newTelemetry(t, bearerotel.Config{EndUser: tt.endUser})
			h := newAuth(t, iss, telemetry).RequireScope("read")(ok)
			recorder := tracetest.NewSpanRecorder()
			tracer := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder)).Tracer("test")
			serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				ctx, span := tracer.Start(r.Context(), "GET /")
				defer span.End()
				h.ServeHTTP(w, r.WithContext(ctx))
			}), tt.token)
			spans := recorder.Ended()
			if len(spans) != 1 {
				t.Fatalf("%d spans, want the caller's alone", len(spans))
			}
			var got []string
			for _, a := range spans[0].Attributes() {
				got = append(got, string(a.Key)+"="+a.Value.String())
			}
			slices.Sort(got)
			if strings.Join(got, " ") != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

// Reasons without end, of a program that invents them, are counted and take no
// memory here.
func TestManyReasons(t *testing.T) {
	telemetry, reader := newTelemetry(t, bearerotel.Config{})
	for i := range 1500 {
		telemetry.Observe(t.Context(), bearer.Outcome{Err: &bearer.Error{Reason: fmt.Sprint("r", i)}})
	}
	all := collect(t, reader)
	if n := all["bearer.authentications {verdict} error.type=r1499"]; n != 1 || len(all) != 1500 {
		t.Errorf("the last of %d reasons is counted %v times, want once and 1500", len(all), n)
	}
}

func TestByMany(t *testing.T) {
	telemetry, reader := newTelemetry(t, bearerotel.Config{})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 100 {
				telemetry.Observe(context.Background(), bearer.Outcome{Issuer: fmt.Sprint("i", i%2)})
			}
		})
	}
	wg.Wait()
	if all := collect(t, reader); all["bearer.authentications {verdict} bearer.issuer=i0"] != 400 || len(all) != 2 {
		t.Errorf("got %v, want 400 for each of two issuers", all)
	}
}

func TestAllocations(t *testing.T) {
	telemetry, _ := newTelemetry(t, bearerotel.Config{EndUser: true})
	accepted := bearer.Outcome{Issuer: "https://login.example.com", Claims: &bearer.Claims{Subject: "alice"}}
	if n := testing.AllocsPerRun(100, func() { telemetry.Observe(context.Background(), accepted) }); n > 0 {
		t.Errorf("an accepted request without a span: %v allocations, want none", n)
	}
}
