package apiserver

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"example.com/bearer/bearertest"
)

// keyPair returns files with a certificate for 127.0.0.1 and its key.
func keyPair(t *testing.T) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, block := range map[string]*pem.Block{"cert": {Type: "CERTIFICATE", Bytes: der}, "key": {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "cert"), filepath.Join(dir, "key")
}

// Each flag that has to do with bound tokens, and what GET /api/ping/secure then
// says of a token.
func TestBoundFlags(t *testing.T) {
	issuer := httptest.NewServer(nil)
	defer issuer.Close()
	iss := bearertest.NewIssuer(issuer.URL)
	issuer.Config.Handler = iss
	const audience = "https://api.example.com"
	client := bearertest.NewClient()
	plain := iss.Token(audience, nil)
	keyBound := iss.Token(audience, bearertest.Claims{"cnf": bearertest.Claims{"jkt": client.KeyThumbprint}})
	certBound := iss.Token(audience, bearertest.Claims{"cnf": bearertest.Claims{"x5t#S256": client.CertThumbprint}})
	both := iss.Token(audience, bearertest.Claims{"cnf": bearertest.Claims{"jkt": client.KeyThumbprint, "x5t#S256": client.CertThumbprint}})
	certFile, keyFile := keyPair(t)
	https := []string{"-tls-cert", certFile, "-tls-key", keyFile}
	nonce := strings.Repeat("0f", 32)
	field := ":" + base64.StdEncoding.EncodeToString(client.Certificate.Certificate[0]) + ":"

	for _, tt := range []struct {
		name   string
		flags  []string
		token  string
		htu    string // of a proof, "" for the scheme Bearer, "own" for the request's, by a client that asks for nonces
		header string // Client-Cert
		want   string // the status, and "bound"
	}{
		{"off", nil, plain, "", "", "200 "},
		{"off: a bound token", nil, keyBound, "own", "", "401"},
		{"-dpop", []string{"-dpop"}, keyBound, "own", "", "200 dpop"},
		{"-dpop: as a bearer token", []string{"-dpop"}, keyBound, "", "", "401"},
		{"-dpop: for another URL", []string{"-dpop"}, keyBound, "http://127.0.0.1/api/ping/secure", "", "401"},
		{"-dpop: a bearer token", []string{"-dpop"}, plain, "", "", "200 "},
		{"-dpop and -resource", []string{"-dpop", "-resource", "https://api.example.com/v1"}, keyBound, "https://api.example.com/api/ping/secure", "", "200 dpop"},
		{"-dpop and -resource: not -addr", []string{"-dpop", "-resource", "https://api.example.com/v1"}, keyBound, "own", "", "401"},
		{"-base-url", []string{"-dpop", "-base-url", "https://a.example.com", "-base-url", "https://b.example.com/v1"}, keyBound, "https://b.example.com/v1/api/ping/secure", "", "200 dpop"},
		{"-base-url: not -addr", []string{"-dpop", "-base-url", "https://a.example.com"}, keyBound, "own", "", "401"},
		{"-nonce-key", []string{"-dpop", "-nonce-key", nonce, "-nonce-key", nonce + "00"}, keyBound, "own", "", "200 dpop"},
		{"-nonce-key: without a nonce", []string{"-dpop", "-nonce-key", nonce, "-base-url", "https://a.example.com"}, keyBound, "https://a.example.com/api/ping/secure", "", "401"},
		{"-require-bound", []string{"-dpop", "-require-bound"}, plain, "", "", "401"},
		{"-require-bound: bound", []string{"-dpop", "-require-bound"}, keyBound, "own", "", "200 dpop"},
		{"-tls-cert", https, certBound, "", "", "200 certificate"},
		{"-tls-cert: the header is the sender's", https, certBound, "", field, "200 certificate"},
		{"-tls-cert: bound to nothing", https, plain, "", "", "200 "},
		{"-tls-cert, -dpop", append([]string{"-dpop"}, https...), both, "own", "", "200 dpop certificate"},
		{"-tls-cert, -dpop: as a bearer token", append([]string{"-dpop"}, https...), both, "", "", "401"},
		{"-tls-cert, -require-bound", append([]string{"-require-bound"}, https...), plain, "", "", "401"},
		{"-client-cert-from", []string{"-client-cert-from", "10.0.0.0/8", "-client-cert-from", "127.0.0.0/8"}, certBound, "", field, "200 certificate"},
		{"-client-cert-from: no header", []string{"-client-cert-from", "127.0.0.0/8"}, certBound, "", "", "401"},
		{"-client-cert-from: a stranger", []string{"-client-cert-from", "10.0.0.0/8"}, certBound, "", field, "401"},
		{"-client-cert-from, -tls-cert: not the proxy's", append([]string{"-client-cert-from", "127.0.0.0/8"}, https...), certBound, "", "", "401"},
		{"-client-cert-from, -tls-cert: a stranger's own", append([]string{"-client-cert-from", "10.0.0.0/8"}, https...), certBound, "", "", "200 certificate"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, base := start(t, append([]string{"-issuer", iss.URL, "-audience", audience}, tt.flags...)...)
			r, err := http.NewRequest("GET", base+"/api/ping/secure", nil)
			if err != nil {
				t.Fatal(err)
			}
			if tt.header != "" {
				r.Header.Set("Client-Cert", tt.header)
			}
			trust, err := os.ReadFile(certFile)
			if err != nil {
				t.Fatal(err)
			}
			roots := x509.NewCertPool()
			roots.AppendCertsFromPEM(trust)
			transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{client.Certificate}}, DisableKeepAlives: true}
			through := &http.Client{Transport: transport}
			var resp *http.Response
			switch tt.htu {
			case "own":
				resp, err = client.Do(through, r, tt.token)
			case "":
				r.Header.Set("Authorization", "Bearer "+tt.token)
				resp, err = through.Do(r)
			default:
				r.Header.Set("Authorization", "DPoP "+tt.token)
				r.Header.Set("DPoP", client.Proof("GET", tt.htu, tt.token, nil))
				resp, err = through.Do(r)
			}
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			var body struct {
				Bound *string
			}
			if err := json.NewDecoder(resp.Body).Decode(&body); err != nil {
				t.Fatal(err)
			}
			got := resp.Status[:3]
			if body.Bound != nil {
				got += " " + *body.Bound
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// The lines to paste, with https.
func TestEmbeddedTLS(t *testing.T) {
	certFile, keyFile := keyPair(t)
	stdout, base := start(t, "-tls-cert", certFile, "-tls-key", keyFile)
	if !strings.HasPrefix(base, "https://127.0.0.1:") {
		t.Errorf("the server is at %s, want https", base)
	}
	for {
		line, err := stdout.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(line, "curl") {
			if want := "curl -i --cacert " + certFile + " " + base + "/api/ping/secure\n"; line != want {
				t.Errorf("got %q, want %q", line, want)
			}
			return
		}
	}
}

func TestBadBoundFlags(t *testing.T) {
	certFile, keyFile := keyPair(t)
	const secret = "c0ffeec0ffee"
	for _, tt := range []struct {
		args []string
		want []string // each in the message
	}{
		{[]string{"-base-url", "https://a.example.com", "-nonce-key", "00", "-require-bound", "-tls-key", keyFile, "-client-cert-from", "10.0.0.0"},
			[]string{"-base-url: needs -dpop", "-nonce-key: needs -dpop", "-tls-cert, -tls-key: one needs the other", `-client-cert-from: "10.0.0.0" is no network`}},
		{[]string{"-dpop", "-base-url", "a.example.com", "-base-url", "https://a.example.com/?q", "-nonce-key", secret, "-nonce-key", "x" + secret, "-tls-cert", certFile, "-tls-key", certFile},
			[]string{`-base-url: "a.example.com"`, `-base-url: "https://a.example.com/?q"`, "-nonce-key: key 0 has 6 bytes", "-nonce-key: key 1 is not hexadecimal", "-tls-cert, -tls-key: "}},
		{[]string{"-require-bound", "-addr", "nowhere"}, []string{"-require-bound: needs -dpop, -tls-cert or -client-cert-from", "-addr: "}},
		{[]string{"-dpop", "-tls-cert", certFile, "-tls-key", filepath.Join(t.TempDir(), "none")}, []string{"-tls-cert, -tls-key: "}},
	} {
		var stderr strings.Builder
		if status := Run(t.Context(), tt.args, io.Discard, &stderr, Extension{Name: "server"}); status != 2 {
			t.Errorf("%q: exit status %d, want 2", tt.args, status)
		}
		for _, want := range tt.want {
			if strings.Count(stderr.String(), want) != 1 {
				t.Errorf("%q: want %q in %s", tt.args, want, stderr.String())
			}
		}
		if strings.Contains(stderr.String(), secret) || strings.Contains(stderr.String(), "Config.") {
			t.Errorf("%q: a secret, or the name of a field, in %s", tt.args, stderr.String())
		}
	}
}

func TestOrigin(t *testing.T) {
	listening := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8080}
	for addr, want := range map[string]string{
		"127.0.0.1:0":    "http://127.0.0.1:8080",
		"localhost:8080": "http://localhost:8080",
		":8080":          "http://127.0.0.1:8080",
		"0.0.0.0:8080":   "http://127.0.0.1:8080",
		"[::]:8080":      "http://127.0.0.1:8080",
		"[::1]:8080":     "http://[::1]:8080",
	} {
		if got := origin("http", addr, listening); got != want {
			t.Errorf("%s: got %s, want %s", addr, got, want)
		}
	}
}
