package bearer_test

import (
	"encoding/pem"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"

	"example.com/bearer"
	"example.com/bearer/bearertest"
)

// albCertificate is a Config.Certificate for servers that only an Application Load
// Balancer of AWS can reach.
func albCertificate(r *http.Request) ([]byte, error) {
	text, err := url.PathUnescape(r.Header.Get("X-Amzn-Mtls-Clientcert-Leaf")) // "+" stands for itself
	if err != nil || text == "" {
		return nil, err
	}
	block, _ := pem.Decode([]byte(text))
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("no certificate in PEM")
	}
	return block.Bytes, nil
}

// A proxy with a way of its own to pass the client's certificate on. A stolen token
// is worth nothing without it.
func ExampleConfig_certificate() {
	iss := bearertest.NewIssuer("https://login.example.com/")
	auth, err := bearer.New(bearer.Config{
		Issuer:      iss.URL,
		Audience:    []string{"https://api.example.com"},
		Client:      iss.Client(),
		Certificate: albCertificate,
	})
	if err != nil {
		log.Fatal(err)
	}
	client, thief := bearertest.NewClient(), bearertest.NewClient()
	token := iss.Token("https://api.example.com", bearertest.Claims{"cnf": bearertest.Claims{"x5t#S256": client.CertThumbprint}})
	for _, sender := range []*bearertest.Client{client, thief} {
		r := httptest.NewRequest("GET", "/api", nil)
		r.Header.Set("Authorization", "Bearer "+token)
		text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: sender.Certificate.Certificate[0]})
		r.Header.Set("X-Amzn-Mtls-Clientcert-Leaf", url.PathEscape(string(text)))
		rec := httptest.NewRecorder()
		auth.Handler(http.NotFoundHandler()).ServeHTTP(rec, r)
		fmt.Println(rec.Code, rec.Header()["Www-Authenticate"])
	}
	// Output:
	// 404 []
	// 401 [Bearer error="invalid_token"]
}
