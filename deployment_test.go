package bearer_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"example.com/bearer"
	"example.com/bearer/bearertest"
)

// The code of docs/deployments.md, word for word.

// Keycloak in docker compose.
func composeConfig() bearer.Config {
	return bearer.Config{
		Issuer:       "http://localhost:8080/realms/acme", // as browsers know it, and "iss" has it
		JWKSURL:      "http://keycloak:8080/realms/acme/protocol/openid-connect/certs",
		InsecureHTTP: true, // within the compose network
		Audience:     []string{"my-api"},
	}
}

// Keycloak inside of a cluster.
func clusterConfig() bearer.Config {
	return bearer.Config{
		Issuer:       "https://sso.acme.test/realms/acme",
		JWKSURL:      "http://keycloak.auth.svc.cluster.local:8080/realms/acme/protocol/openid-connect/certs",
		InsecureHTTP: true, // the mesh encrypts it
		Audience:     []string{"my-api"},
	}
}

// serviceAccountClient returns a client for the API server of the cluster that a
// pod runs in. Only that server is sent the pod's token, which is read each time,
// since the kubelet replaces it.
func serviceAccountClient(dir, server string) (*http.Client, error) {
	ca, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return nil, errors.New("ca.crt has no certificate")
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{RootCAs: roots}
	return &http.Client{Transport: podToken{transport, filepath.Join(dir, "token"), server}}, nil
}

type podToken struct {
	next         http.RoundTripper
	file, server string
}

func (p podToken) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme == "https" && r.URL.Host == p.server {
		token, err := os.ReadFile(p.file)
		if err != nil {
			return nil, err
		}
		r = r.Clone(r.Context())
		r.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	}
	return p.next.RoundTrip(r)
}

func serviceAccountConfig() (bearer.Config, error) {
	const dir = "/var/run/secrets/kubernetes.io/serviceaccount"
	client, err := serviceAccountClient(dir, "kubernetes.default.svc")
	if err != nil {
		return bearer.Config{}, err
	}
	return bearer.Config{
		Issuer:   "https://kubernetes.default.svc.cluster.local", // kubectl get --raw /.well-known/openid-configuration
		JWKSURL:  "https://kubernetes.default.svc/openid/v1/jwks",
		Audience: []string{"my-api"},
		Client:   client,
	}, nil
}

// privateCA returns a client that trusts the certificates of one's own authority,
// and no others.
func privateCA(certificates []byte) (*http.Client, error) {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(certificates) {
		return nil, errors.New("no certificate")
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{RootCAs: roots}
	return &http.Client{Transport: transport}, nil
}

func byProxy(proxy *url.URL) *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = http.ProxyURL(proxy)
	return &http.Client{Transport: transport}
}

// to returns a client that reaches one address and no other, whatever the names
// that an issuer's metadata have in them.
func to(address string) *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = nil
	transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, address)
	}
	return &http.Client{Transport: transport}
}

// ready is a readiness probe.
func ready(auth *bearer.Middleware) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
		defer cancel()
		if err := auth.Ready(ctx); err != nil {
			auth.WriteError(w, r, err)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
}

func functionConfig() bearer.Config {
	return bearer.Config{
		Issuer:   "https://login.example.com/",
		Audience: []string{"https://api.example.com"},
		KeyCache: bearer.DirCache(filepath.Join(os.TempDir(), "keys")), // or a KeyCache in Redis, S3, …
	}
}

// strict adds to RFC 9068 what a token of one's own issuer always has.
func strict(auth *bearer.Middleware) func(http.Handler) http.Handler {
	return auth.Require(func(_ *http.Request, c *bearer.Claims) error {
		if c.Subject == "" || c.ClientID == "" || c.ID == "" || c.IssuedAt.IsZero() {
			return errors.New("a claim of RFC 9068, section 2.2, is missing")
		}
		return nil
	})
}

func TestDeploymentConfigs(t *testing.T) {
	for name, cfg := range map[string]bearer.Config{"compose": composeConfig(), "cluster": clusterConfig(), "function": functionConfig()} {
		cfg.Logger = quiet
		iss := bearertest.NewIssuer("https://elsewhere.example.com")
		var asked []string
		cfg.Client = &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			asked = append(asked, r.URL.String())
			w := httptest.NewRecorder()
			if strings.HasSuffix(r.URL.Path, metadataPath) {
				fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":"https://login.example.com/keys"}`, cfg.Issuer)
			} else {
				r.URL.Path = keysPath
				iss.ServeHTTP(w, r)
			}
			return w.Result(), nil
		})}
		if cfg.KeyCache != nil {
			cfg.KeyCache = bearer.DirCache(t.TempDir()) // and not what another run has left
		}
		auth, err := bearer.New(cfg)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if _, err := auth.Verify(t.Context(), iss.Token(cfg.Audience[0], bearertest.Claims{"iss": cfg.Issuer})); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if cfg.JWKSURL != "" && (len(asked) != 1 || asked[0] != cfg.JWKSURL) {
			t.Errorf("%s: asked for %q, want %q alone", name, asked, cfg.JWKSURL)
		}
		if d, ok := cfg.KeyCache.(bearer.DirCache); ok {
			waitForFile(t, string(d))
		}
	}
}

// An API server that shows its keys to those alone who have a token.
func TestServiceAccountClient(t *testing.T) {
	iss := bearertest.NewIssuer("https://kubernetes.default.svc.cluster.local")
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer pod" {
			http.Error(w, "unauthorized", http.StatusUnauthorized)
			return
		}
		r.URL.Path = keysPath
		iss.ServeHTTP(w, r)
	}))
	defer server.Close()
	dir := t.TempDir()
	write := func(name, data string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("ca.crt", string(certificatePEM(server)))
	write("token", "old\n")
	host := strings.TrimPrefix(server.URL, "https://")
	client, err := serviceAccountClient(dir, host)
	if err != nil {
		t.Fatal(err)
	}
	verify := func(client *http.Client) error {
		auth := newMiddleware(t, iss, func(c *bearer.Config) { c.JWKSURL, c.Client = server.URL+"/openid/v1/jwks", client })
		_, err := auth.Verify(t.Context(), iss.Token(audience, nil))
		return err
	}
	if err := verify(client); statusOf(err) != 503 {
		t.Errorf("an old token: %v, want status 503", err)
	}
	write("token", "pod\n")
	if err := verify(client); err != nil {
		t.Errorf("the token of now: %v", err)
	}
	if elsewhere, err := serviceAccountClient(dir, "kubernetes.default.svc"); err != nil || statusOf(verify(elsewhere)) != 503 {
		t.Errorf("another server is sent the token, %v", err)
	}
	if _, err := serviceAccountConfig(); err == nil {
		t.Error("a service account here?")
	}
}

func TestClients(t *testing.T) {
	site := httptest.NewServer(nil)
	defer site.Close()
	iss := bearertest.NewIssuer(site.URL)
	site.Config.Handler = iss
	u, err := url.Parse(iss.URL)
	if err != nil {
		t.Fatal(err)
	}
	auth := newMiddleware(t, iss, func(c *bearer.Config) { c.Client = to(u.Host) })
	if _, err := auth.Verify(t.Context(), iss.Token(audience, nil)); err != nil {
		t.Errorf("one address: %v", err)
	}

	var proxied []string
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		proxied = append(proxied, r.URL.String())
		iss.ServeHTTP(w, r)
	}))
	defer proxy.Close()
	p, err := url.Parse(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	far := bearertest.NewIssuer("http://keycloak.invalid/realms/acme")
	auth = newMiddleware(t, far, func(c *bearer.Config) {
		c.InsecureHTTP, c.JWKSURL, c.Client = true, "http://keycloak.invalid"+keysPath, byProxy(p)
	})
	if err := auth.Ready(t.Context()); err != nil || len(proxied) != 1 || proxied[0] != "http://keycloak.invalid"+keysPath {
		t.Errorf("by proxy: %v, %q", err, proxied)
	}

	server := httptest.NewTLSServer(iss)
	defer server.Close()
	for _, tt := range []struct {
		name string
		pem  []byte
		ok   bool
	}{{"its authority", certificatePEM(server), true}, {"another one", selfSigned(t), false}} {
		client, err := privateCA(tt.pem)
		if err != nil {
			t.Fatal(err)
		}
		auth := newMiddleware(t, iss, func(c *bearer.Config) { c.JWKSURL, c.Client = server.URL+keysPath, client })
		if err := auth.Ready(t.Context()); (err == nil) != tt.ok {
			t.Errorf("%s: Ready = %v", tt.name, err)
		}
	}
	if _, err := privateCA([]byte("x")); err == nil {
		t.Error("no certificate is accepted")
	}
}

func certificatePEM(server *httptest.Server) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
}

// selfSigned returns a certificate that nobody else has.
func selfSigned(t *testing.T) []byte {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func TestReadyProbe(t *testing.T) {
	iss, auth := newAuth(t)
	if w := serve(ready(auth)); w.Code != 204 {
		t.Errorf("status %d, want 204", w.Code)
	}
	iss.SetDown(true)
	w := serve(ready(newMiddleware(t, iss)))
	checkReply(t, w, 503, "")
}

func TestStrict(t *testing.T) {
	iss, auth := newAuth(t)
	h := strict(auth)(ok)
	for _, tt := range []struct {
		name   string
		claims bearertest.Claims
		status int
	}{
		{"all", bearertest.Claims{"jti": "1"}, 200},
		{"no jti", bearertest.Claims{"jti": nil}, 403},
		{"no sub", bearertest.Claims{"jti": "1", "sub": nil}, 403},
		{"no client", bearertest.Claims{"jti": "1", "client_id": nil}, 403},
		{"no iat", bearertest.Claims{"jti": "1", "iat": nil}, 403},
	} {
		if got := serve(h, "Bearer "+iss.Token(audience, tt.claims)).Code; got != tt.status {
			t.Errorf("%s: status %d, want %d", tt.name, got, tt.status)
		}
	}
}
