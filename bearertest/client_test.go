package bearertest_test

import (
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"example.com/bearer"
	"example.com/bearer/bearertest"
)

// A test of a route that takes tokens bound to a key of the client.
func ExampleClient() {
	iss := bearertest.NewIssuer("https://login.example.com/")
	auth, err := bearer.New(bearer.Config{
		Issuer:   iss.URL,
		Audience: []string{"https://api.example.com"},
		Client:   iss.Client(),
		DPoP:     &bearer.DPoP{BaseURLs: []string{"https://api.example.com"}},
	})
	if err != nil {
		panic(err)
	}
	h := auth.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "hello")
	}))
	get := func(r *http.Request) {
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, r)
		fmt.Println(rec.Code, rec.Body)
	}

	client := bearertest.NewClient()
	token := iss.Token("https://api.example.com", bearertest.Claims{"cnf": bearertest.Claims{"jkt": client.KeyThumbprint}})
	r := httptest.NewRequest("GET", "https://api.example.com/api", nil)
	client.Authorize(r, token)
	get(r)

	// The same request once more, as somebody who has seen it would send it.
	get(r)
	// Output:
	// 200 hello
	// 401 {"error":"invalid_dpop_proof","error_description":"the DPoP proof was used before"}
}

// boundAPI returns a server, at which every token of iss must be bound, and the
// statuses that it has sent.
func boundAPI(t *testing.T, iss *bearertest.Issuer, nonceKeys ...[]byte) (server *httptest.Server, statuses *[]int) {
	t.Helper()
	statuses = new([]int)
	var auth *bearer.Middleware
	server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec := httptest.NewRecorder()
		auth.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) })).ServeHTTP(rec, r)
		*statuses = append(*statuses, rec.Code)
		for name, values := range rec.Header() {
			w.Header()[name] = values
		}
		w.WriteHeader(rec.Code)
		w.Write(rec.Body.Bytes())
	}))
	server.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	server.StartTLS()
	t.Cleanup(server.Close)
	var err error
	auth, err = bearer.New(bearer.Config{
		Issuer: iss.URL, Audience: []string{audience}, Client: iss.Client(), RequireBound: true,
		DPoP:        &bearer.DPoP{BaseURLs: []string{server.URL}, NonceKeys: nonceKeys},
		Certificate: bearer.ConnectionCertificate,
	})
	if err != nil {
		t.Fatal(err)
	}
	return server, statuses
}

func TestClientDo(t *testing.T) {
	iss := bearertest.NewIssuer("https://login.example.com/")
	client := bearertest.NewClient()
	token := iss.Token(audience, bearertest.Claims{"cnf": bearertest.Claims{"jkt": client.KeyThumbprint}})
	other := iss.Token(audience, bearertest.Claims{"cnf": bearertest.Claims{"jkt": bearertest.NewClient().KeyThumbprint}})
	nonces, with := boundAPI(t, iss, make([]byte, 32))
	none, without := boundAPI(t, iss)
	for _, tt := range []struct {
		name     string
		server   *httptest.Server
		token    string
		body     io.Reader
		want     string
		statuses *[]int
		sent     string
	}{
		{"no nonces", none, token, strings.NewReader("hello"), "200 hello", without, "[200]"},
		{"a body that cannot be sent again", nonces, token, io.MultiReader(strings.NewReader("hello")), "401", with, "[401]"},
		{"its nonce is known now", nonces, token, strings.NewReader("hello"), "200 hello", with, "[200]"},
		{"another client's token", nonces, other, nil, "401", with, "[401]"},
	} {
		*tt.statuses = nil
		r, err := http.NewRequest("PUT", tt.server.URL+"/a%2Fb?q", tt.body)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(tt.server.Client(), r, tt.token)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if got := strings.TrimSpace(fmt.Sprintf("%d %s", resp.StatusCode, body)); !strings.HasPrefix(got, tt.want) || fmt.Sprint(*tt.statuses) != tt.sent {
			t.Errorf("%s: got %s after %v, want %s after %s", tt.name, got, *tt.statuses, tt.want, tt.sent)
		}
	}

	// A client that knows no nonce asks twice, with all of the body each time.
	*with = nil
	client = bearertest.NewClient()
	token = iss.Token(audience, bearertest.Claims{"cnf": bearertest.Claims{"jkt": client.KeyThumbprint}})
	for range 2 {
		r, _ := http.NewRequest("PUT", nonces.URL+"/", strings.NewReader("hello"))
		resp, err := client.Do(nonces.Client(), r, token)
		if err != nil {
			t.Fatal(err)
		}
		if body, _ := io.ReadAll(resp.Body); string(body) != "hello" {
			t.Errorf("status %d, body %q, want hello", resp.StatusCode, body)
		}
		resp.Body.Close()
	}
	if got := fmt.Sprint(*with); got != "[401 200 200]" {
		t.Errorf("got %s, want [401 200 200]", got)
	}

	// A server that always asks is asked twice.
	*with = nil
	stubborn := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*with = append(*with, 401)
		w.Header().Set("DPoP-Nonce", "n")
		w.Header().Set("WWW-Authenticate", `DPoP error="use_dpop_nonce"`)
		w.WriteHeader(401)
	}))
	defer stubborn.Close()
	r, _ := http.NewRequest("GET", stubborn.URL, nil)
	resp, err := client.Do(http.DefaultClient, r, token)
	if err != nil || resp.StatusCode != 401 || len(*with) != 2 {
		t.Errorf("got %v, %v after %d requests, want 401 after 2", resp, err, len(*with))
	}
	resp.Body.Close()

	// What goes wrong is the caller's to know.
	down := errors.New("down")
	r, _ = http.NewRequest("GET", stubborn.URL, nil)
	if _, err := client.Do(&http.Client{Transport: failing{down}}, r, token); !errors.Is(err, down) {
		t.Errorf("got %v, want %v", err, down)
	}
}

type failing struct{ err error }

func (f failing) RoundTrip(*http.Request) (*http.Response, error) { return nil, f.err }

func TestClientCertificate(t *testing.T) {
	iss := bearertest.NewIssuer("https://login.example.com/")
	client, thief := bearertest.NewClient(), bearertest.NewClient()
	server, _ := boundAPI(t, iss)
	token := iss.Token(audience, bearertest.Claims{"cnf": bearertest.Claims{"x5t#S256": client.CertThumbprint}})
	for _, tt := range []struct {
		c    *bearertest.Client
		want int
	}{{client, 200}, {thief, 401}} {
		transport := server.Client().Transport.(*http.Transport).Clone()
		transport.TLSClientConfig.Certificates = []tls.Certificate{tt.c.Certificate}
		r, _ := http.NewRequest("GET", server.URL, nil)
		r.Header.Set("Authorization", "Bearer "+token)
		resp, err := (&http.Client{Transport: transport}).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		transport.CloseIdleConnections()
		if resp.StatusCode != tt.want {
			t.Errorf("status %d, want %d", resp.StatusCode, tt.want)
		}
	}
}

// What a proof says, and for which URL Authorize makes one.
func TestProof(t *testing.T) {
	client := bearertest.NewClient()
	claims := func(proof string) (c map[string]any) {
		payload, err := base64.RawURLEncoding.DecodeString(strings.Split(proof, ".")[1])
		if err == nil {
			err = json.Unmarshal(payload, &c)
		}
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := claims(client.Proof("GET", "https://a/", "t", bearertest.Claims{"iat": 5, "nonce": "n", "htm": nil}))
	id, _ := c["jti"].(string)
	delete(c, "jti")
	// The hash is that of "t".
	if got, want := fmt.Sprint(c), "map[ath:47mKTaMaEn1L3m5DAz9muidMqw636xxw7EFAK_YnPdg htu:https://a/ iat:5 nonce:n]"; got != want || len(id) < 16 {
		t.Errorf("got %s with the id %q, want %s", got, id, want)
	}
	for _, tt := range []struct {
		request *http.Request
		want    string
	}{
		{httptest.NewRequest("GET", "/a%2Fb?q", nil), "http://example.com/a%2Fb"},
		{httptest.NewRequest("GET", "https://api.example.com/a", nil), "https://api.example.com/a"},
		{func() *http.Request {
			r := httptest.NewRequest("GET", "/a", nil)
			r.TLS = &tls.ConnectionState{}
			return r
		}(), "https://example.com/a"},
	} {
		tt.request.Header["Dpop"] = []string{"old", "older"}
		tt.request.Header.Set("Authorization", "Bearer x")
		client.Authorize(tt.request, "t")
		if got := claims(tt.request.Header.Get("DPoP"))["htu"]; got != tt.want || tt.request.Header.Get("Authorization") != "DPoP t" || len(tt.request.Header["Dpop"]) != 1 {
			t.Errorf("got %v in %v, want %s", got, tt.request.Header, tt.want)
		}
	}
}
