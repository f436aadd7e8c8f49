package recipes

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"net/netip"

	"example.com/bearer"
)

// privateIssuer returns a client for an issuer whose certificate is of a private
// authority. It goes out through the proxy that HTTPS_PROXY names, if it names one.
func privateIssuer(authority []byte) (*http.Client, error) {
	roots, err := x509.SystemCertPool()
	if err != nil {
		return nil, err
	}
	if !roots.AppendCertsFromPEM(authority) {
		return nil, errors.New("no certificate in the PEM file of the authority")
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{RootCAs: roots}
	return &http.Client{Transport: transport}, nil
}

// behindProxy is for an API whose TLS ends in a proxy of the given networks, which
// serves it below a prefix.
func behindProxy(cfg bearer.Config, proxies ...netip.Prefix) bearer.Config {
	cfg.Resource = "https://api.example.com/v1"                               // as clients write it
	cfg.DPoP = &bearer.DPoP{BaseURLs: []string{"https://api.example.com/v1"}} // what the proxy takes off the path is added again
	cfg.Certificate = bearer.ForwardedCertificate(proxies...)                 // the Client-Cert header, from there only
	return cfg
}
