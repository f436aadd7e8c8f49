package bearer_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/bearer"
	"example.com/bearer/bearertest"
)

// Changes of a Config that have to do with bound tokens.

const origin = "https://api.example.com"

func withDPoP(cfg *bearer.Config) {
	cfg.DPoP = &bearer.DPoP{BaseURLs: []string{origin}}
}

func withCertificates(cfg *bearer.Config) { cfg.Certificate = bearer.ConnectionCertificate }

func withRequired(cfg *bearer.Config) { cfg.RequireBound = true }

// withNonces comes after withDPoP.
func withNonces(cfg *bearer.Config) { cfg.DPoP.NonceKeys = [][]byte{nonceKey} }

var nonceKey = []byte(strings.Repeat("k", 32))

// keyBound are claims that bind a token to c's key, with those given.
func keyBound(c *bearertest.Client, more ...bearertest.Claims) bearertest.Claims {
	return cnf(bearertest.Claims{"jkt": c.KeyThumbprint}, more...)
}

func certBound(c *bearertest.Client, more ...bearertest.Claims) bearertest.Claims {
	return cnf(bearertest.Claims{"x5t#S256": c.CertThumbprint}, more...)
}

func cnf(confirmation any, more ...bearertest.Claims) bearertest.Claims {
	all := bearertest.Claims{"cnf": confirmation}
	for _, claims := range more {
		for name, value := range claims {
			all[name] = value
		}
	}
	return all
}

const algs = `algs="ES256 EdDSA Ed25519 ES384 ES512 PS256 RS256"`

// expand writes an answer out: "401 B:invalid_token D" stands for the status and the
// challenges that follow, each with its error code and, behind a plus sign, the scope.
func expand(short string) string {
	fields := strings.Fields(short)
	code := ""
	for i, field := range fields[1:] {
		kind, rest, _ := strings.Cut(field, ":")
		c, scope, _ := strings.Cut(rest, "+")
		var params []string
		if c != "" {
			params = append(params, fmt.Sprintf("error=%q", c))
			code = c
		}
		if scope != "" {
			params = append(params, fmt.Sprintf("scope=%q", scope))
		}
		name := "Bearer"
		if kind == "D" {
			name, params = "DPoP", append(params, algs)
		}
		fields[i+1] = strings.TrimSpace(name + " " + strings.Join(params, ", "))
	}
	if fields[0] == "503" {
		code = "temporarily_unavailable"
	}
	return strings.Join(fields, " | ") + " | body " + code
}

// answer is what expand makes of what should be the same.
func answer(resp *http.Response) string {
	parts := append([]string{fmt.Sprint(resp.StatusCode)}, resp.Header["Www-Authenticate"]...)
	var body struct{ Error string }
	if resp.StatusCode != 200 {
		text, _ := io.ReadAll(resp.Body)
		if err := json.Unmarshal(text, &body); err != nil {
			body.Error = "not JSON: " + string(text)
		}
		if got := resp.Header.Get("Cache-Control"); got != "no-store" {
			parts = append(parts, "Cache-Control: "+got)
		}
	}
	return strings.Join(parts, " | ") + " | body " + body.Error
}

// send has h answer a request with the given lines of Authorization and of DPoP.
func send(h http.Handler, method, target string, authorization []string, proofs ...string) *http.Response {
	r := httptest.NewRequest(method, target, nil)
	if authorization != nil {
		r.Header["Authorization"] = authorization
	}
	if proofs != nil {
		r.Header["Dpop"] = proofs
	}
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, r)
	return rec.Result()
}

var served = http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})

// Each scheme with each kind of token and proof.
func TestSchemes(t *testing.T) {
	iss := bearertest.NewIssuer("https://login.example.com/")
	alice, mallory := bearertest.NewClient(), bearertest.NewClient()
	plain, bound := iss.Token(audience, bearertest.Claims{"scope": "other"}), iss.Token(audience, keyBound(alice))
	expired := iss.Token(audience, keyBound(alice, bearertest.Claims{"exp": time.Now().Add(-time.Hour).Unix()}))
	expiredPlain := iss.Token(audience, bearertest.Claims{"exp": time.Now().Add(-time.Hour).Unix()})
	elsewhere := iss.Token("https://other.example.com", keyBound(alice))
	forged := bound[:len(bound)-40] + strings.Repeat("A", 40)
	proof := func(c *bearertest.Client, token string) string { return c.Proof("GET", origin+"/api", token, nil) }
	two := proof(alice, bound)

	modes := []struct {
		name   string
		change []func(*bearer.Config)
	}{
		{"on", []func(*bearer.Config){withDPoP}},
		{"required", []func(*bearer.Config){withDPoP, withRequired}},
		{"off", nil},
	}
	for _, tt := range []struct {
		name              string
		authorization     []string
		proofs            []string
		on, required, off string
	}{
		{"S1: nothing", nil, nil, "401 B D", "401 D", "401 B"},
		{"S1: another scheme", []string{"Basic YTpi"}, nil, "401 B D", "401 D", "401 B"},
		{"S2: a bearer token", []string{"Bearer " + plain}, nil, "200", "401 D:invalid_token", "200"},
		{"S3: and a proof", []string{"Bearer " + plain}, []string{proof(alice, plain)}, "200", "401 D:invalid_token", "200"},
		{"S3: and nonsense for a proof", []string{"Bearer " + plain}, []string{"x", "y"}, "200", "401 D:invalid_token", "200"},
		{"S4: a bound token as a bearer token", []string{"Bearer " + bound}, nil, "401 B:invalid_token D", "401 D:invalid_token", "401 B:invalid_token"},
		{"S4: and a proof", []string{"Bearer " + bound}, []string{proof(alice, bound)}, "401 B:invalid_token D", "401 D:invalid_token", "401 B:invalid_token"},
		{"S5", []string{"DPoP " + bound}, []string{proof(alice, bound)}, "200", "200", "401 B"},
		{"S5: in lower case", []string{"dpop " + bound}, []string{proof(alice, bound)}, "200", "200", "401 B"},
		{"S5: in upper case, several spaces", []string{"DPOP   " + bound}, []string{proof(alice, bound)}, "200", "200", "401 B"},
		{"S6: a bearer token with the thief's proof", []string{"DPoP " + plain}, []string{proof(mallory, plain)}, "401 D:invalid_token", "401 D:invalid_token", "401 B"},
		{"S7: no proof", []string{"DPoP " + bound}, nil, "401 D:invalid_dpop_proof", "401 D:invalid_dpop_proof", "401 B"},
		{"S8: two proofs", []string{"DPoP " + bound}, []string{two, two}, "401 D:invalid_dpop_proof", "401 D:invalid_dpop_proof", "401 B"},
		{"S8: two proofs in one line", []string{"DPoP " + bound}, []string{two + ", " + two}, "401 D:invalid_dpop_proof", "401 D:invalid_dpop_proof", "401 B"},
		{"S8: a proof for another token", []string{"DPoP " + bound}, []string{proof(alice, plain)}, "401 D:invalid_dpop_proof", "401 D:invalid_dpop_proof", "401 B"},
		{"S8: a proof for another method", []string{"DPoP " + bound}, []string{alice.Proof("HEAD", origin+"/api", bound, nil)}, "401 D:invalid_dpop_proof", "401 D:invalid_dpop_proof", "401 B"},
		{"S8: a proof for another URL", []string{"DPoP " + bound}, []string{alice.Proof("GET", origin+"/api/", bound, nil)}, "401 D:invalid_dpop_proof", "401 D:invalid_dpop_proof", "401 B"},
		{"S9: expired", []string{"DPoP " + expired}, []string{proof(alice, expired)}, "401 D:invalid_token", "401 D:invalid_token", "401 B"},
		{"S9: for another API", []string{"DPoP " + elsewhere}, []string{proof(alice, elsewhere)}, "401 D:invalid_token", "401 D:invalid_token", "401 B"},
		{"S9: forged", []string{"DPoP " + forged}, []string{proof(alice, forged)}, "401 D:invalid_token", "401 D:invalid_token", "401 B"},
		{"P30: the thief's own proof", []string{"DPoP " + bound}, []string{proof(mallory, bound)}, "401 D:invalid_token", "401 D:invalid_token", "401 B"},
		{"S11: no token", []string{"DPoP"}, []string{proof(alice, bound)}, "400 D:invalid_request", "400 D:invalid_request", "401 B"},
		{"S11: no token, no proof", []string{"DPoP "}, nil, "400 D:invalid_request", "400 D:invalid_request", "401 B"},
		{"S11: two tokens", []string{"DPoP " + bound + ", " + bound}, []string{proof(alice, bound)}, "400 D:invalid_request", "400 D:invalid_request", "401 B"},
		{"S11: two tokens, no proof", []string{"DPoP " + bound + " " + bound}, nil, "400 D:invalid_request", "400 D:invalid_request", "401 B"},
		{"S11: a quoted token", []string{`DPoP "` + bound + `"`}, []string{proof(alice, bound)}, "400 D:invalid_request", "400 D:invalid_request", "401 B"},
		{"S12: two schemes", []string{"Bearer " + plain, "DPoP " + bound}, []string{proof(alice, bound)}, "400 B:invalid_request D:invalid_request", "400 D:invalid_request", "400 B:invalid_request"},
		{"S12: the same twice", []string{"DPoP " + bound, "DPoP " + bound}, []string{proof(alice, bound)}, "400 B:invalid_request D:invalid_request", "400 D:invalid_request", "400 B:invalid_request"},
		{"S13: two schemes in one line", []string{"Bearer " + plain + ", DPoP " + bound}, []string{proof(alice, bound)}, "400 B:invalid_request D:invalid_request", "400 D:invalid_request", "400 B:invalid_request"},
		{"S23: an expired bearer token", []string{"Bearer " + expiredPlain}, nil, "401 B:invalid_token D", "401 D:invalid_token", "401 B:invalid_token"},
		{"S23: forged", []string{"Bearer " + forged}, nil, "401 B:invalid_token D", "401 D:invalid_token", "401 B:invalid_token"},
		{"S24: no token", []string{"Bearer"}, nil, "400 B:invalid_request D:invalid_request", "400 D:invalid_request", "400 B:invalid_request"},
		{"S24: two tokens", []string{"Bearer " + plain + " " + plain}, nil, "400 B:invalid_request D:invalid_request", "400 D:invalid_request", "400 B:invalid_request"},
		{"S24: a quoted token", []string{`Bearer "` + plain + `"`}, nil, "400 B:invalid_request D:invalid_request", "400 D:invalid_request", "400 B:invalid_request"},
		{"a proof as the token", []string{"Bearer " + two}, nil, "401 B:invalid_token D", "401 D:invalid_token", "401 B:invalid_token"},
		{"a token as the proof", []string{"DPoP " + bound}, []string{bound}, "401 D:invalid_dpop_proof", "401 D:invalid_dpop_proof", "401 B"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for i, want := range []string{tt.on, tt.required, tt.off} {
				auth := newMiddleware(t, iss, modes[i].change...)
				resp := send(auth.Handler(served), "GET", "/api", tt.authorization, tt.proofs...)
				if got := answer(resp); got != expand(want) {
					t.Errorf("%s:\ngot  %s\nwant %s", modes[i].name, got, expand(want))
				}
				if nonce := resp.Header.Get("DPoP-Nonce"); nonce != "" {
					t.Errorf("%s: a nonce without NonceKeys", modes[i].name)
				}
			}
		})
	}
}

// The hint in the log is of use: a proof does not help where none is accepted.
func TestBoundHint(t *testing.T) {
	for name, change := range map[string]func(*bearer.Config){"on": withDPoP, "off": func(*bearer.Config) {}} {
		var log syncBuffer
		iss, auth := newAuth(t, change, func(cfg *bearer.Config) {
			cfg.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		})
		send(auth.Handler(served), "GET", "/", []string{"Bearer " + iss.Token(audience, keyBound(bearertest.NewClient()))})
		if got := strings.Contains(log.String(), "must be sent with the scheme DPoP"); got != (name == "on") || !strings.Contains(log.String(), "reason=bound") {
			t.Errorf("%s: logged %s", name, log.String())
		}
	}
}

// Other wrappers than Handler, and what has no request.
func TestSchemesElsewhere(t *testing.T) {
	iss, on := newAuth(t, withDPoP)
	client := bearertest.NewClient()
	plain, bound := iss.Token(audience, nil), iss.Token(audience, keyBound(client))
	required := newMiddleware(t, iss, withDPoP, withRequired)
	both := newMiddleware(t, iss, withDPoP, withCertificates, withRequired)
	proof := func() string { return client.Proof("GET", origin+"/api", bound, nil) }
	anonymous := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, ok := bearer.FromContext(r.Context())
		w.Header().Set("Known", fmt.Sprint(ok))
	})
	for _, tt := range []struct {
		name          string
		h             http.Handler
		authorization []string
		proofs        []string
		want          string
	}{
		{"S14: the token in the query", on.Handler(served), nil, []string{proof()}, "401 B D"},
		{"S15: a proof and no token", on.Optional(anonymous), nil, []string{proof()}, "200"},
		{"S16: a bad proof", on.Optional(anonymous), []string{"DPoP " + bound}, []string{"x"}, "401 D:invalid_dpop_proof"},
		{"S18: on", on.RequireScope("read")(served), []string{"DPoP " + bound}, []string{proof()}, "403 D:insufficient_scope+read"},
		{"S18: required", required.RequireScope("read")(served), []string{"DPoP " + bound}, []string{proof()}, "403 D:insufficient_scope+read"},
		{"S22: on", on.RequireScope("read")(served), []string{"Bearer " + plain}, nil, "403 B:insufficient_scope+read"},
		{"S22: required", required.RequireScope("read")(served), []string{"Bearer " + plain}, nil, "401 D:invalid_token"},
		{"required, with certificates: a bearer token", both.Handler(served), []string{"Bearer " + plain}, nil, "401 B:invalid_token D"},
		{"required, with certificates: nothing", both.Handler(served), nil, nil, "401 B D"},
		{"required, with certificates: a proof", both.Handler(served), []string{"DPoP " + bound}, []string{proof()}, "200"},
	} {
		target := "/api?access_token=" + bound
		if got := answer(send(tt.h, "GET", target, tt.authorization, tt.proofs...)); got != expand(tt.want) {
			t.Errorf("%s:\ngot  %s\nwant %s", tt.name, got, expand(tt.want))
		}
	}
	if got := send(on.Optional(anonymous), "GET", "/api", nil, proof()).Header.Get("Known"); got != "false" {
		t.Errorf("S15: known = %s, want false", got)
	}

	// H7: nor is there a target, where code made a request without one.
	r := &http.Request{Method: "GET", Header: http.Header{"Authorization": {"DPoP " + bound}, "Dpop": {client.Proof("GET", origin+"/", bound, nil)}}}
	if _, err := on.Authenticate(r); word(err) != "401 proof_htu" {
		t.Errorf("H7: Authenticate of a request without URL: %v, want proof_htu", err)
	}

	// S21: there is no request that a proof could be for.
	for name, token := range map[string]string{"on": bound, "a certificate": iss.Token(audience, certBound(client))} {
		if _, err := both.Verify(t.Context(), token); word(err) != "401 bound" {
			t.Errorf("S21, %s: Verify: %v, want bound", name, err)
		}
	}
	if _, err := required.Verify(t.Context(), plain); word(err) != "401 unbound" {
		t.Errorf("Verify of a bearer token, RequireBound: %v, want unbound", err)
	}
}

// S17: nothing can be said of a token without keys, and its proof stays good.
func TestProofOutlastsOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		iss, auth := newAuth(t, withDPoP)
		client := bearertest.NewClient()
		token := iss.Token(audience, keyBound(client))
		proof := client.Proof("GET", origin+"/api", token, nil)
		iss.SetDown(true)
		resp := send(auth.Handler(served), "GET", "/api", []string{"DPoP " + token}, proof)
		if got := answer(resp); got != expand("503") || resp.Header.Get("Retry-After") == "" {
			t.Errorf("got %s and Retry-After %q, want %s", got, resp.Header.Get("Retry-After"), expand("503"))
		}
		iss.SetDown(false)
		time.Sleep(15 * time.Second)
		if got := answer(send(auth.Handler(served), "GET", "/api", []string{"DPoP " + token}, proof)); got != expand("200") {
			t.Errorf("afterwards: got %s, want 200", got)
		}
	})
}

// word is the status and the reason of err, or "" if it is nil.
func word(err error) string {
	var e *bearer.Error
	if errors.As(err, &e) {
		return fmt.Sprint(e.Status, " ", e.Reason)
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

// The configurations that make no sense.
func TestBindingConfig(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*bearer.Config)
		want   []string // in the error; none: it is good
	}{
		{"S20: a header of its own", func(c *bearer.Config) { withDPoP(c); c.Header = "X-Token" }, []string{"Config.DPoP: cannot be set together with Header"}},
		{"RequireBound alone", withRequired, []string{"Config.RequireBound: needs DPoP or Certificate"}},
		{"RequireBound with certificates", func(c *bearer.Config) { withCertificates(c); withRequired(c) }, nil},
		{"no URL", func(c *bearer.Config) { c.DPoP = &bearer.DPoP{} }, []string{"Config.DPoP.BaseURLs: "}},
		{"all at once", func(c *bearer.Config) {
			c.DPoP = &bearer.DPoP{BaseURLs: []string{"api", "https://a/?q"}, Algorithms: []string{"HS256"}, MaxAge: 2 * time.Hour, NonceKeys: [][]byte{make([]byte, 31)}}
		}, []string{`Config.DPoP.BaseURLs: "api"`, `Config.DPoP.BaseURLs: "https://a/?q"`, `Config.DPoP.Algorithms: "HS256"`, "Config.DPoP.MaxAge: 2h", "Config.DPoP.NonceKeys: key 0 has 31 bytes"}},
	} {
		cfg := bearer.Config{Issuer: "https://login.example.com/", Audience: []string{audience}}
		tt.change(&cfg)
		_, err := bearer.New(cfg)
		if (err == nil) != (tt.want == nil) {
			t.Errorf("%s: error %v, want %q", tt.name, err, tt.want)
		}
		for _, want := range tt.want {
			if err != nil && !strings.Contains(err.Error(), "bearer: "+want) {
				t.Errorf("%s: error %v, want %q in it", tt.name, err, want)
			}
		}
	}
}

// What New was given can be changed afterwards.
func TestBindingConfigIsCopied(t *testing.T) {
	iss := bearertest.NewIssuer("https://login.example.com/")
	key := slices.Clone(nonceKey)
	urls, algorithms, keys := []string{origin}, []string{"ES256"}, [][]byte{key}
	cfg := &bearer.DPoP{BaseURLs: urls, Algorithms: algorithms, NonceKeys: keys}
	auth := newMiddleware(t, iss, func(c *bearer.Config) { c.DPoP = cfg })
	urls[0], algorithms[0], key[0] = "https://evil.example", "RS256", 'x'
	*cfg = bearer.DPoP{}
	client := bearertest.NewClient()
	token := iss.Token(audience, keyBound(client))
	proof := client.Proof("GET", origin+"/", token, bearertest.Claims{"nonce": nonceAt(nonceKey, time.Now(), 0)})
	if resp := send(auth.Handler(served), "GET", "/", []string{"DPoP " + token}, proof); resp.StatusCode != 200 {
		t.Errorf("status %s, want 200", answer(resp))
	}
	// What Or compares is still the same.
	auth.Or(newMiddleware(t, bearertest.NewIssuer("https://other.example.com/"), func(c *bearer.Config) {
		c.DPoP = &bearer.DPoP{BaseURLs: []string{origin}, Algorithms: []string{"ES256"}, NonceKeys: [][]byte{nonceKey}}
	}))
}

// Where the clients' URLs are given they count, and not what the resource is called.
func TestBaseURLsAndResource(t *testing.T) {
	iss, auth := newAuth(t, withDPoP, func(c *bearer.Config) { c.Resource = "https://name.example.com/a" })
	client := bearertest.NewClient()
	token := iss.Token(audience, keyBound(client))
	for url, want := range map[string]string{origin: "200", "https://name.example.com": "401 D:invalid_dpop_proof"} {
		w := httptest.NewRecorder()
		r := httptest.NewRequest("GET", "/", nil)
		r.Header["Authorization"], r.Header["Dpop"] = []string{"DPoP " + token}, []string{client.Proof("GET", url+"/", token, nil)}
		auth.Handler(served).ServeHTTP(w, r)
		if got := fmt.Sprint(w.Code); got != want[:3] {
			t.Errorf("a proof for %s: status %s, want %s", url, got, want)
		}
	}
}

// What a token can be bound to, and by which certificate of which connection it
// comes. With TLS over loopback, where any certificate is let in.
func TestCertificates(t *testing.T) {
	iss := bearertest.NewIssuer("https://login.example.com/")
	x, y := bearertest.NewClient(), bearertest.NewClient()
	sameKey := certificate(t, x.Certificate.PrivateKey.(*ecdsa.PrivateKey), time.Now().Add(time.Hour))
	expired := certificate(t, nil, time.Now().Add(-time.Hour))
	chain := tls.Certificate{Certificate: [][]byte{y.Certificate.Certificate[0], x.Certificate.Certificate[0]}, PrivateKey: y.Certificate.PrivateKey}
	none := tls.Certificate{}
	hex := fmt.Sprintf("%x", sha256.Sum256(x.Certificate.Certificate[0]))
	isX := func(more ...string) bearertest.Claims {
		c := bearertest.Claims{"x5t#S256": x.CertThumbprint}
		for _, name := range more {
			c[name] = "foo"
		}
		return c
	}

	server := func(h http.Handler) *httptest.Server {
		s := httptest.NewUnstartedServer(h)
		s.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
		s.EnableHTTP2 = true
		s.StartTLS()
		t.Cleanup(s.Close)
		return s
	}
	servers := map[string]*httptest.Server{
		"":         server(newMiddleware(t, iss, withCertificates).Handler(served)),
		"off":      server(newMiddleware(t, iss).Handler(served)),
		"required": server(newMiddleware(t, iss, withCertificates, withRequired).Handler(served)),
		"both":     server(newMiddleware(t, iss, withCertificates, withDPoP).Handler(served)),
	}
	for _, tt := range []struct {
		name        string
		mode        string
		certificate tls.Certificate
		cnf         any    // nil for none
		proof       string // whose, with the scheme DPoP: "x", "y", or "bad"; empty for Bearer
		want        string
	}{
		{"M1: bound to nothing", "", x.Certificate, nil, "", "200"},
		{"M1: bound to nothing, no certificate", "", none, nil, "", "200"},
		{"M1: RequireBound", "required", x.Certificate, nil, "", "401 B:invalid_token"},
		{"M2", "", x.Certificate, isX(), "", "200"},
		{"M2: RequireBound", "required", x.Certificate, isX(), "", "200"},
		{"M2: with proofs accepted too", "both", x.Certificate, isX(), "", "200"},
		{"M3: another certificate", "", y.Certificate, isX(), "", "401 B:invalid_token"},
		{"M3: another certificate of the same key", "", sameKey, isX(), "", "401 B:invalid_token"},
		{"M4: not the leaf", "", chain, isX(), "", "401 B:invalid_token"},
		{"M5: no certificate", "", none, isX(), "", "401 B:invalid_token"},
		{"M5: the hash of nothing", "", none, bearertest.Claims{"x5t#S256": "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"}, "", "401 B:invalid_token"},
		{"M5: with proofs accepted too", "both", none, isX(), "", "401 B:invalid_token D"},
		{"M6: off", "off", x.Certificate, isX(), "", "401 B:invalid_token"},
		{"M7: an array", "", x.Certificate, bearertest.Claims{"x5t#S256": []string{x.CertThumbprint}}, "", "401 B:invalid_token"},
		{"M7: null", "", none, bearertest.Claims{"x5t#S256": nil}, "", "401 B:invalid_token"},
		{"M7: empty", "", none, bearertest.Claims{"x5t#S256": ""}, "", "401 B:invalid_token"},
		{"M7: padded", "", x.Certificate, bearertest.Claims{"x5t#S256": x.CertThumbprint + "="}, "", "401 B:invalid_token"},
		{"M7: hexadecimal", "", x.Certificate, bearertest.Claims{"x5t#S256": hex}, "", "401 B:invalid_token"},
		{"M8: both", "both", x.Certificate, bearertest.Claims{"x5t#S256": x.CertThumbprint, "jkt": x.KeyThumbprint}, "x", "200"},
		{"M8: another certificate", "both", y.Certificate, bearertest.Claims{"x5t#S256": x.CertThumbprint, "jkt": x.KeyThumbprint}, "x", "401 D:invalid_token"},
		{"M8: another key", "both", x.Certificate, bearertest.Claims{"x5t#S256": x.CertThumbprint, "jkt": x.KeyThumbprint}, "y", "401 D:invalid_token"},
		{"M8: a bad proof", "both", x.Certificate, bearertest.Claims{"x5t#S256": x.CertThumbprint, "jkt": x.KeyThumbprint}, "bad", "401 D:invalid_dpop_proof"},
		{"M9: both, as a bearer token", "both", x.Certificate, bearertest.Claims{"x5t#S256": x.CertThumbprint, "jkt": x.KeyThumbprint}, "", "401 B:invalid_token D"},
		{"a certificate alone, with a proof", "both", x.Certificate, isX(), "x", "401 D:invalid_token"},
		{"M10: and something unknown", "", x.Certificate, isX("foo"), "", "200"},
		{"M11: something unknown", "", x.Certificate, bearertest.Claims{"foo": 1}, "", "401 B:invalid_token"},
		{"M11: osc", "", x.Certificate, bearertest.Claims{"osc": map[string]any{}}, "", "401 B:invalid_token"},
		{"M11: jwk", "", x.Certificate, bearertest.Claims{"jwk": map[string]any{}}, "", "401 B:invalid_token"},
		{"M11: a case variant", "", x.Certificate, bearertest.Claims{"X5T#S256": x.CertThumbprint}, "", "401 B:invalid_token"},
		{"M12: empty", "", x.Certificate, bearertest.Claims{}, "", "401 B:invalid_token"},
		{"M12: a string", "", x.Certificate, x.CertThumbprint, "", "401 B:invalid_token"},
		{"M12: an array", "", x.Certificate, []any{isX()}, "", "401 B:invalid_token"},
		{"M12: null", "", x.Certificate, json.RawMessage("null"), "", "401 B:invalid_token"},
		{"M13: and jwk", "", x.Certificate, isX("jwk"), "", "401 B:invalid_token"},
		{"M13: and jku", "", x.Certificate, isX("jku"), "", "401 B:invalid_token"},
		{"M13: and jwe", "", x.Certificate, isX("jwe"), "", "401 B:invalid_token"},
		{"M13: and kid", "", x.Certificate, isX("kid"), "", "401 B:invalid_token"},
		{"M14: and a key, with DPoP off", "", x.Certificate, isX("jkt"), "", "401 B:invalid_token"},
		{"M15: expired", "", expired, bearertest.Claims{"x5t#S256": thumbprint(expired)}, "", "200"},
	} {
		s := servers[tt.mode]
		claims := bearertest.Claims{}
		if tt.cnf != nil {
			claims["cnf"] = tt.cnf
		}
		token := iss.Token(audience, claims)
		r, err := http.NewRequest("GET", s.URL+"/api", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
		if tt.proof != "" {
			r.Header.Set("Authorization", "DPoP "+token)
			method := "GET"
			if tt.proof == "bad" {
				method = "PUT"
			}
			signer := x
			if tt.proof == "y" {
				signer = y
			}
			r.Header.Set("DPoP", signer.Proof(method, origin+"/api", token, nil))
		}
		resp, err := tlsClient(s, tt.certificate, nil).Do(r)
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		if got := answer(resp); got != expand(tt.want) {
			t.Errorf("%s:\ngot  %s\nwant %s", tt.name, got, expand(tt.want))
		}
		if resp.ProtoMajor != 2 { // M17
			t.Errorf("%s: %s, want HTTP/2", tt.name, resp.Proto)
		}
		if vary := resp.Header.Get("Vary"); vary != "" {
			t.Errorf("%s: Vary: %s, want none: no header decided", tt.name, vary)
		}
		resp.Body.Close()
	}

	// M16: a session that is resumed is the one of the certificate that began it.
	sessions := tls.NewLRUClientSessionCache(1)
	for i, own := range []tls.Certificate{x.Certificate, y.Certificate} {
		r, _ := http.NewRequest("GET", servers[""].URL, nil)
		r.Header.Set("Authorization", "Bearer "+iss.Token(audience, certBound(x)))
		resp, err := tlsClient(servers[""], own, sessions).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.StatusCode != 200 || resp.TLS.DidResume != (i == 1) {
			t.Errorf("M16, connection %d: status %d, resumed: %v", i, resp.StatusCode, resp.TLS.DidResume)
		}
	}
}

// tlsClient returns a client for one connection to s, with a certificate of its own
// if that is not empty.
func tlsClient(s *httptest.Server, own tls.Certificate, sessions tls.ClientSessionCache) *http.Client {
	transport := s.Client().Transport.(*http.Transport).Clone()
	transport.DisableKeepAlives = true
	transport.TLSClientConfig.ClientSessionCache = sessions
	if own.Certificate != nil {
		transport.TLSClientConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &own, nil }
	}
	return &http.Client{Transport: transport}
}

// certificate returns a self-signed certificate that is good until end, of key or of
// a new one.
func certificate(t *testing.T, key *ecdsa.PrivateKey, end time.Time) tls.Certificate {
	t.Helper()
	if key == nil {
		var err error
		if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "other"}, NotBefore: end.Add(-48 * time.Hour), NotAfter: end}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func thumbprint(c tls.Certificate) string {
	sum := sha256.Sum256(c.Certificate[0])
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// Where the certificate comes from: the connection's, or the one in Client-Cert.
func TestForwardedCertificate(t *testing.T) {
	iss := bearertest.NewIssuer("https://login.example.com/")
	client, proxy := bearertest.NewClient(), bearertest.NewClient()
	field := func(c *bearertest.Client) string {
		return ":" + base64.StdEncoding.EncodeToString(c.Certificate.Certificate[0]) + ":"
	}
	good := field(client)
	trusting := func(cfg *bearer.Config) {
		cfg.Certificate = bearer.ForwardedCertificate(netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8"), netip.MustParsePrefix("::ffff:172.16.0.0/108"))
	}
	forwarded, direct := newMiddleware(t, iss, trusting), newMiddleware(t, iss, withCertificates)
	own := newMiddleware(t, iss, func(cfg *bearer.Config) {
		cfg.Certificate = func(r *http.Request) ([]byte, error) {
			return base64.StdEncoding.DecodeString(r.Header.Get("X-Cert"))
		}
	})
	toClient, toProxy, plain := iss.Token(audience, certBound(client)), iss.Token(audience, certBound(proxy)), iss.Token(audience, nil)

	const trusted, stranger = "10.1.2.3:4000", "192.0.2.1:4000"
	long := strings.Repeat("A", 16<<10)
	for _, tt := range []struct {
		name   string
		auth   *bearer.Middleware
		remote string
		tls    *bearertest.Client // who made the connection
		fields []string           // of Client-Cert
		token  string
		want   string // the status, and the reason of a refusal
		vary   string
	}{
		{"X1: no proxy is known", direct, trusted, nil, []string{good}, toClient, "401 binding", ""},
		{"X1: the connection's counts", direct, trusted, client, []string{field(proxy)}, toClient, "200", ""},
		{"X2", forwarded, trusted, nil, []string{good}, toClient, "200", "Client-Cert"},
		{"X2: the proxy's does not count", forwarded, trusted, proxy, []string{good}, toProxy, "401 binding", ""},
		{"X2: behind the proxy's", forwarded, trusted, proxy, []string{good}, toClient, "200", "Client-Cert"},
		{"X2: IPv6", forwarded, "[fd00::1]:4000", nil, []string{good}, toClient, "200", "Client-Cert"},
		{"X2: IPv6 with a zone", forwarded, "[fd00::1%eth0]:4000", nil, []string{good}, toClient, "200", "Client-Cert"},
		{"X2: IPv4 within IPv6", forwarded, "[::ffff:10.1.2.3]:4000", nil, []string{good}, toClient, "200", "Client-Cert"},
		{"X2: a network of IPv4 within IPv6", forwarded, "172.31.2.3:4000", nil, []string{good}, toClient, "200", "Client-Cert"},
		{"X2: the same, and the peer too", forwarded, "[::ffff:172.16.2.3]:4000", nil, []string{good}, toClient, "200", "Client-Cert"},
		{"X4: not in it", forwarded, "172.32.0.1:4000", nil, []string{good}, toClient, "401 binding", ""},
		{"X3: no header", forwarded, trusted, nil, nil, toClient, "401 binding", ""},
		{"X3: the proxy's instead", forwarded, trusted, proxy, nil, toProxy, "401 binding", ""},
		{"X4: a stranger", forwarded, stranger, nil, []string{good}, toClient, "401 binding", ""},
		{"X4: a stranger with a certificate", forwarded, stranger, client, []string{field(proxy)}, toClient, "200", ""},
		{"X4: a stranger in IPv6", forwarded, "[fe80::1]:4000", nil, []string{good}, toClient, "401 binding", ""},
		{"X5: two fields", forwarded, trusted, nil, []string{good, good}, toClient, "401 client_cert", ""},
		{"X5: a list", forwarded, trusted, nil, []string{good + ", " + good}, toClient, "401 client_cert", ""},
		{"X5: bad parameters", forwarded, trusted, nil, []string{good + ";A=1"}, toClient, "401 client_cert", ""},
		{"X5: good parameters", forwarded, trusted, nil, []string{good + ";a=1"}, toClient, "200", "Client-Cert"},
		{"X5: no colons", forwarded, trusted, nil, []string{strings.Trim(good, ":")}, toClient, "401 client_cert", ""},
		{"X5: bad base64", forwarded, trusted, nil, []string{":MII*:"}, toClient, "401 client_cert", ""},
		{"X5: no DER", forwarded, trusted, nil, []string{":YWJj:"}, toClient, "401 client_cert", ""},
		{"X5: something behind it", forwarded, trusted, nil, []string{":" + base64.StdEncoding.EncodeToString(append(slices.Clone(client.Certificate.Certificate[0]), 0)) + ":"}, toClient, "401 client_cert", ""},
		{"X5: an unbound token", forwarded, trusted, nil, []string{"x", "y"}, plain, "200", ""},
		{"X5: empty", forwarded, trusted, nil, []string{""}, toClient, "401 client_cert", ""},
		{"X6: too long", forwarded, trusted, nil, []string{":" + long + ":"}, toClient, "401 client_cert", ""},
		{"X9: a unix socket", forwarded, "@", nil, []string{good}, toClient, "401 binding", ""},
		{"X9: no address", forwarded, "", client, []string{field(proxy)}, toClient, "200", ""},
		{"X12: an unbound token", forwarded, trusted, nil, []string{good}, plain, "200", ""},
		{"X10: a function of the caller's", own, trusted, nil, nil, toClient, "200", ""},
		{"X10: that fails", own, stranger, nil, nil, toProxy, "401 client_cert", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := ""
			r := httptest.NewRequest("GET", "/", nil)
			r.RemoteAddr = tt.remote
			r.Header.Set("Authorization", "Bearer "+tt.token)
			if tt.fields != nil {
				r.Header["Client-Cert"] = tt.fields
			}
			// X7, X11: other headers, with a certificate that would do.
			r.Header["Client-Cert-Chain"] = []string{good}
			r.Header["Client_cert"] = []string{good}
			r.Header.Set("X-Cert", strings.Trim(good, ":"))
			if strings.Contains(tt.name, "fails") {
				r.Header.Set("X-Cert", "*")
			}
			if tt.tls != nil {
				leaf, err := x509.ParseCertificate(tt.tls.Certificate.Certificate[0])
				if err != nil {
					t.Fatal(err)
				}
				r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}}
			}
			rec := httptest.NewRecorder()
			tt.auth.Handler(served).ServeHTTP(rec, r)
			got = fmt.Sprint(rec.Code)
			if rec.Code != 200 {
				_, err := tt.auth.Authenticate(r)
				got = word(err)
			}
			if got != tt.want || rec.Header().Get("Vary") != tt.vary {
				t.Errorf("got %s, Vary %q, want %s, Vary %q", got, rec.Header().Get("Vary"), tt.want, tt.vary)
			}
			if rec.Code != 200 && (rec.Code != 401 || rec.Header().Get("Cache-Control") != "no-store") {
				t.Errorf("got %d, Cache-Control %q, want 401 and no-store", rec.Code, rec.Header().Get("Cache-Control"))
			}
		})
	}

	for name, networks := range map[string][]netip.Prefix{"none": nil, "a bad one": {{}}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			bearer.ForwardedCertificate(networks...)
		}()
	}
	networks := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	certificate := bearer.ForwardedCertificate(networks...)
	networks[0] = netip.MustParsePrefix("192.0.2.0/24")
	r := httptest.NewRequest("GET", "/", nil) // from 192.0.2.1
	r.Header.Set("Client-Cert", good)
	if der, err := certificate(r); der != nil || err != nil {
		t.Errorf("the networks were changed afterwards, and a stranger is trusted")
	}
}

// RFC 9440, appendix A: its certificate, and a token that is bound to it.
func TestRFC9440(t *testing.T) {
	const field = ":MIIBqDCCAU6gAwIBAgIBBzAKBggqhkjOPQQDAjA6MRswGQYDVQQKDBJMZXQncyBBdXRoZW50aWNhdGUxGzAZBgNVBAMMEkxBIEludGVybWVkaWF0ZSBDQTAeFw0yMDAxMTQyMjU1MzNaFw0yMTAxMjMyMjU1MzNaMA0xCzAJBgNVBAMMAkJDMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE8YnXXfaUgmnMtOXU/IncWalRhebrXmckC8vdgJ1p5Be5F/3YC8OthxM4+k1M6aEAEFcGzkJiNy6J84y7uzo9M6NyMHAwCQYDVR0TBAIwADAfBgNVHSMEGDAWgBRm3WjLa38lbEYCuiCPct0ZaSED2DAOBgNVHQ8BAf8EBAMCBsAwEwYDVR0lBAwwCgYIKwYBBQUHAwIwHQYDVR0RAQH/BBMwEYEPYmRjQGV4YW1wbGUuY29tMAoGCCqGSM49BAMCA0gAMEUCIBHda/r1vaL6G3VliL4/Di6YK0Q6bMjeSkC3dFCOOB8TAiEAx/kHSB4urmiZ0NX5r5XarmPk0wmuydBVoU4hBVZ1yhk=:"
	iss, auth := newAuth(t, func(cfg *bearer.Config) {
		cfg.Certificate = bearer.ForwardedCertificate(netip.MustParsePrefix("192.0.2.0/24"))
	})
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Client-Cert", field)
	r.Header.Set("Authorization", "Bearer "+iss.Token(audience, cnf(bearertest.Claims{"x5t#S256": "v68ffgcPn6jdYpBfFY2nP4ShE2Yk-6_Mk5PI9yh6aes"})))
	claims, err := auth.Authenticate(r)
	if err != nil {
		t.Fatal(err)
	}
	if want := (bearer.Binding{CertThumbprint: "v68ffgcPn6jdYpBfFY2nP4ShE2Yk-6_Mk5PI9yh6aes"}); claims.Bound != want {
		t.Errorf("Bound = %v, want %v", claims.Bound, want)
	}
}

// Two issuers, one way to judge bindings.
func TestOrBindings(t *testing.T) {
	a, b := bearertest.NewIssuer("https://a.example.com"), bearertest.NewIssuer("https://b.example.com")
	client := bearertest.NewClient()
	auth := newMiddleware(t, a, withDPoP, withCertificates).Or(newMiddleware(t, b, withDPoP, withCertificates))
	for _, iss := range []*bearertest.Issuer{a, b} {
		token := iss.Token(audience, keyBound(client))
		proof := client.Proof("GET", origin+"/", token, nil)
		for i, tt := range []struct{ scheme, want string }{{"Bearer", "401 B:invalid_token D"}, {"DPoP", "200"}, {"DPoP", "401 D:invalid_dpop_proof"}} {
			if got := answer(send(auth.Handler(served), "GET", "/", []string{tt.scheme + " " + token}, proof)); got != expand(tt.want) {
				t.Errorf("%s, request %d: got %s, want %s", iss.URL, i, got, expand(tt.want))
			}
		}
	}

	one, two := newReplayStore(), newReplayStore()
	with := func(change func(*bearer.DPoP)) func(*bearer.Config) {
		return func(cfg *bearer.Config) { change(cfg.DPoP) }
	}
	for _, tt := range []struct {
		name   string
		change [2][]func(*bearer.Config)
		panics bool
	}{
		{"the same", [2][]func(*bearer.Config){{withDPoP, withNonces}, {withDPoP, withNonces}}, false},
		{"DPoP", [2][]func(*bearer.Config){{withDPoP}, nil}, true},
		{"nonces", [2][]func(*bearer.Config){{withDPoP}, {withDPoP, withNonces}}, true},
		{"certificates", [2][]func(*bearer.Config){nil, {withCertificates}}, true},
		{"RequireBound", [2][]func(*bearer.Config){{withDPoP, withRequired}, {withDPoP}}, true},
		{"URLs", [2][]func(*bearer.Config){{withDPoP}, {withDPoP, with(func(d *bearer.DPoP) { d.BaseURLs = []string{"https://b.example.com"} })}}, true},
		{"age", [2][]func(*bearer.Config){{withDPoP}, {withDPoP, with(func(d *bearer.DPoP) { d.MaxAge = time.Minute })}}, true},
		{"names", [2][]func(*bearer.Config){{withDPoP, func(c *bearer.Config) { c.Resource = origin + "/a" }}, {withDPoP}}, false},
		{"one store", [2][]func(*bearer.Config){{withDPoP, with(func(d *bearer.DPoP) { d.Replay = one })}, {withDPoP, with(func(d *bearer.DPoP) { d.Replay = one })}}, false},
		{"two stores", [2][]func(*bearer.Config){{withDPoP, with(func(d *bearer.DPoP) { d.Replay = one })}, {withDPoP, with(func(d *bearer.DPoP) { d.Replay = two })}}, true},
		{"a store on one side", [2][]func(*bearer.Config){{withDPoP}, {withDPoP, with(func(d *bearer.DPoP) { d.Replay = two })}}, true},
	} {
		got := func() (panicked bool) {
			defer func() { panicked = recover() != nil }()
			newMiddleware(t, a, tt.change[0]...).Or(newMiddleware(t, b, tt.change[1]...))
			return false
		}()
		if got != tt.panics {
			t.Errorf("%s: panics: %v, want %v", tt.name, got, tt.panics)
		}
	}
}

// What the handler, and Observe, learn of a binding.
func TestBound(t *testing.T) {
	var seen []string
	iss, auth := newAuth(t, withDPoP, withCertificates, func(cfg *bearer.Config) {
		cfg.Observe = func(_ context.Context, o bearer.Outcome) {
			seen = append(seen, fmt.Sprintf("%v %v", o.Cached, o.Err == nil))
		}
	})
	client := bearertest.NewClient()
	var bound bearer.Binding
	h := auth.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		claims, _ := bearer.FromContext(r.Context())
		bound = claims.Bound
	}))
	token := iss.Token(audience, keyBound(client))
	one := client.Proof("GET", origin+"/", token, nil)

	// A token from the cache is judged as the first time, each time.
	for i, tt := range []struct {
		scheme string
		proofs []string
		want   string
		seen   string
	}{
		{"DPoP", []string{one}, "200", "false true"},
		{"DPoP", []string{client.Proof("GET", origin+"/", token, nil)}, "200", "true true"},
		{"DPoP", nil, "401 D:invalid_dpop_proof", "false false"},
		{"DPoP", []string{one}, "401 D:invalid_dpop_proof", "true false"},
		{"DPoP", []string{client.Proof("GET", origin+"/x", token, nil)}, "401 D:invalid_dpop_proof", "true false"},
		{"DPoP", []string{bearertest.NewClient().Proof("GET", origin+"/", token, nil)}, "401 D:invalid_token", "true false"},
		{"Bearer", nil, "401 B:invalid_token D", "true false"},
		{"Bearer", []string{client.Proof("GET", origin+"/", token, nil)}, "401 B:invalid_token D", "true false"},
		{"DPoP", []string{client.Proof("GET", origin+"/", token, nil)}, "200", "true true"},
	} {
		bound, seen = bearer.Binding{}, nil
		if got := answer(send(h, "GET", "/", []string{tt.scheme + " " + token}, tt.proofs...)); got != expand(tt.want) || len(seen) != 1 || seen[0] != tt.seen {
			t.Errorf("request %d: got %s, told %v, want %s, told %s", i, got, seen, expand(tt.want), tt.seen)
		}
		want := bearer.Binding{}
		if tt.want == "200" {
			want.KeyThumbprint = client.KeyThumbprint
		}
		if bound != want {
			t.Errorf("request %d: Bound = %v, want %v", i, bound, want)
		}
	}
}
