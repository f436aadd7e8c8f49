package bearerotel_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"example.com/bearer"
	"example.com/bearer/bearerotel"
	"example.com/bearer/bearertest"
)

func Example() {
	iss := bearertest.NewIssuer("https://login.example.com/") // stands for your identity provider
	reader := sdkmetric.NewManualReader()                     // and this for your exporter
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))

	telemetry, err := bearerotel.New(bearerotel.Config{MeterProvider: provider})
	if err != nil {
		log.Fatal(err)
	}
	auth, err := bearer.New(bearer.Config{
		Issuer:   iss.URL,
		Audience: []string{"https://api.example.com"},
		Client:   iss.Client(),
		Observe:  telemetry.Observe,
	})
	if err != nil {
		log.Fatal(err)
	}
	if err := telemetry.ObserveKeys(iss.URL, auth); err != nil {
		log.Fatal(err)
	}

	h := auth.Handler(http.NotFoundHandler())
	h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))

	var data metricdata.ResourceMetrics
	if err := reader.Collect(context.Background(), &data); err != nil {
		log.Fatal(err)
	}
	for _, m := range data.ScopeMetrics[0].Metrics {
		if sum, ok := m.Data.(metricdata.Sum[int64]); ok && m.Name == "bearer.authentications" {
			reason, _ := sum.DataPoints[0].Attributes.Value("error.type")
			fmt.Println(m.Name, reason.AsString(), sum.DataPoints[0].Value)
		}
	}
	// Output:
	// bearer.authentications no_credentials 1
}
