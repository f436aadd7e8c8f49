package dpop_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"example.com/bearer/internal/dpop"
)

// The request of RFC 9449, figure 13.
const (
	rfcToken = "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU"
	rfcProof = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6Ik" +
		"VDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCR" +
		"nMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JE" +
		"QSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiJlMWozVl9iS2ljOC1MQUVCIiwiaHRtIj" +
		"oiR0VUIiwiaHR1IjoiaHR0cHM6Ly9yZXNvdXJjZS5leGFtcGxlLm9yZy9wcm90ZWN0Z" +
		"WRyZXNvdXJjZSIsImlhdCI6MTU2MjI2MjYxOCwiYXRoIjoiZlVIeU8ycjJaM0RaNTNF" +
		"c05yV0JiMHhXWG9hTnk1OUlpS0NBcWtzbVFFbyJ9.2oW9RP35yRqzhrtNP86L-Ey71E" +
		"OptxRimPPToA1plemAgR6pxHF8y6-yqyVnmcw6Fy1dqd-jfxSYoMxhAJpLjA"
	rfcThumbprint = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"
)

func TestRFC9449(t *testing.T) {
	made := time.Unix(1562262618, 0)
	good := dpop.Request{Method: "GET", Path: "/protectedresource", Token: rfcToken, Thumbprint: rfcThumbprint}
	for _, tt := range []struct {
		name string
		edit func(*dpop.Request)
		at   time.Time
		want string
	}{
		{"as it is", func(*dpop.Request) {}, made, ""},
		{"another method", func(r *dpop.Request) { r.Method = "POST" }, made, invalid("proof_htm")},
		{"another path", func(r *dpop.Request) { r.Path = "/" }, made, invalid("proof_htu")},
		{"another token", func(r *dpop.Request) { r.Token += "x" }, made, invalid("proof_ath")},
		{"another key", func(r *dpop.Request) { r.Thumbprint = alice.thumbprint() }, made, "invalid_token binding"},
		{"later", func(*dpop.Request) {}, made.Add(301 * time.Second), invalid("proof_iat")},
	} {
		v := newVerifier(t, dpop.Settings{BaseURLs: []string{"https://resource.example.org"}})
		r := good
		tt.edit(&r)
		if _, err := judge(v, r, tt.at, rfcProof); word(err) != tt.want {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
	}
}

func TestNew(t *testing.T) {
	for _, tt := range []struct {
		name     string
		settings dpop.Settings
		want     []string // in the error; none if it is nil
	}{
		{"least", dpop.Settings{BaseURLs: []string{api}}, nil},
		{"all", dpop.Settings{BaseURLs: []string{api, "http://[::1]:8080/v1/"}, Algorithms: []string{"Ed25519", "EdDSA", "RS512"},
			MaxAge: time.Hour, Leeway: time.Minute, NonceKeys: [][]byte{make([]byte, 32), make([]byte, 64)}, Resource: "r", Store: &store{}}, nil},
		{"no URL", dpop.Settings{}, []string{"BaseURLs"}},
		{"empty URL", dpop.Settings{BaseURLs: []string{""}}, []string{`BaseURLs: ""`, "https://"}},
		{"URL without scheme", dpop.Settings{BaseURLs: []string{"api.example.com"}}, []string{`"api.example.com"`, "https://"}},
		{"URL with query", dpop.Settings{BaseURLs: []string{api + "?a"}}, []string{`"https://api.example.com?a"`, "query"}},
		{"URL with fragment", dpop.Settings{BaseURLs: []string{api + "#"}}, []string{`"https://api.example.com#"`, "fragment"}},
		{"URL with user", dpop.Settings{BaseURLs: []string{"https://a@b.example"}}, []string{"user name"}},
		{"URL with port", dpop.Settings{BaseURLs: []string{"https://b.example:x"}}, []string{"port"}},
		{"URL not ASCII", dpop.Settings{BaseURLs: []string{"https://b\u00fccher.example"}}, []string{"ASCII"}},
		{"URL with bad triplet", dpop.Settings{BaseURLs: []string{"https://b.example/%"}}, []string{"hexadecimal"}},
		{"algorithm none", dpop.Settings{BaseURLs: []string{api}, Algorithms: []string{"none"}}, []string{`Algorithms: "none"`, "ES256"}},
		{"algorithm HS256", dpop.Settings{BaseURLs: []string{api}, Algorithms: []string{"ES256", "HS256"}}, []string{`"HS256"`}},
		{"age negative", dpop.Settings{BaseURLs: []string{api}, MaxAge: -1}, []string{"MaxAge: -1ns", "hour"}},
		{"age too long", dpop.Settings{BaseURLs: []string{api}, MaxAge: time.Hour + 1}, []string{"MaxAge", "hour"}},
		{"short nonce key", dpop.Settings{BaseURLs: []string{api}, NonceKeys: [][]byte{make([]byte, 32), []byte("secret")}}, []string{"NonceKeys: key 1 has 6 bytes", "32"}},
		{"all at once", dpop.Settings{BaseURLs: []string{"x", "y"}, Algorithms: []string{"z"}, MaxAge: -1, NonceKeys: [][]byte{nil}},
			[]string{`"x"`, `"y"`, `"z"`, "MaxAge", "NonceKeys"}},
	} {
		v, err := dpop.New(tt.settings)
		if (err == nil) != (tt.want == nil) || (v == nil) != (err != nil) {
			t.Errorf("%s: got %v, %v", tt.name, v, err)
			continue
		}
		for _, want := range tt.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: got %q, want %s in it", tt.name, err, want)
			}
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error tells the key: %v", tt.name, err)
		}
	}
}

func TestAlgorithms(t *testing.T) {
	for _, tt := range []struct{ settings, want string }{
		{"", "ES256 EdDSA ES384 ES512 PS256 RS256"},
		{"Ed25519 EdDSA RS512", "EdDSA RS512"},
	} {
		v := newVerifier(t, dpop.Settings{Algorithms: strings.Fields(tt.settings)})
		if got := strings.Join(v.Algorithms(), " "); got != tt.want {
			t.Errorf("Algorithms %q: got %q, want %q", tt.settings, got, tt.want)
		}
	}
}

// What the caller does to its settings afterwards changes nothing.
func TestSettingsAreCopied(t *testing.T) {
	s := dpop.Settings{BaseURLs: []string{api}, Algorithms: []string{"ES256"}, NonceKeys: [][]byte{bytes.Repeat([]byte{1}, 32)}}
	v := newVerifier(t, s)
	nonce := v.Nonce(now)
	s.BaseURLs[0], s.Algorithms[0], s.NonceKeys[0][0] = "https://evil.example", "RS256", 2
	later := now.Add(100 * time.Second)
	if got, want := v.Nonce(later), makeNonce(bytes.Repeat([]byte{1}, 32), "", uint32(later.Unix()/100)); got != want {
		t.Errorf("the nonce is %q, want %q", got, want)
	}
	if got := verdict(v, alice.thumbprint(), alice.sign(alice.header(), edit(payload(), "nonce", `"`+nonce+`"`))); got != "" {
		t.Errorf("got %q, want none", got)
	}
}

// Errors say what is wrong, and nothing that must not be in a log.
func TestErrors(t *testing.T) {
	v := newVerifier(t, dpop.Settings{})
	long := strings.Repeat("x", 5000)
	for _, tt := range []struct {
		name, proof string
		got, want   string
	}{
		{"method", alice.sign(alice.header(), with("htm", `"PUT"`)), "PUT", "GET"},
		{"method too long", alice.sign(alice.header(), with("htm", `"`+long+`"`)), long[:200], "GET"},
		{"method unprintable", alice.sign(alice.header(), with("htm", `"\u0000\n\u202e"`)), "\ufffd\ufffd\ufffd", "GET"},
		{"typ", alice.sign(`{"typ":"JWT"}`, payload()), "JWT", "dpop+jwt"},
		{"alg", alice.sign(`{"typ":"dpop+jwt","alg":"HS256"}`, payload()), "HS256", "ES256 EdDSA ES384 ES512 PS256 RS256"},
		{"iat", alice.sign(alice.header(), with("iat", "0")), "1970-01-01T00:00:00Z", "2027-01-15T07:55:00Z to 2027-01-15T08:01:00Z"},
		{"key", alice.sign(strings.Replace(alice.header(), "P-256", "P-521", 1), payload()), "", ""},
		{"a long word in the key", alice.sign(alice.header()[:len(alice.header())-2]+`,"use":"`+long+`"}}`, payload()), "", ""},
		{"signature", alice.sign(alice.header(), payload())[:300] + "A", "", ""},
	} {
		_, err := judge(v, dpop.Request{Method: "GET", Path: "/a", Token: token, Thumbprint: alice.thumbprint()}, now, tt.proof)
		var e *dpop.Error
		if !errors.As(err, &e) || e.Got != tt.got || e.Want != tt.want {
			t.Errorf("%s: got %#v, want %q and %q", tt.name, err, tt.got, tt.want)
			continue
		}
		if text := e.Error(); len(text) > 500 || strings.Contains(text, tt.proof[:40]) || !strings.HasPrefix(text, e.Code+": "+e.Reason) {
			t.Errorf("%s: the error is %q", tt.name, text)
		}
	}
}

func FuzzProof(f *testing.F) {
	v, err := dpop.New(dpop.Settings{BaseURLs: []string{api}, NonceKeys: [][]byte{make([]byte, 32)}})
	if err != nil {
		f.Fatal(err)
	}
	for _, c := range []*client{alice, newEd25519("Ed25519"), newRSA(2048, "PS256")} {
		f.Add(c.header(), payload(), "sig", c.sign(c.header(), payload()))
	}
	f.Add(`{"typ":"dpop+jwt","alg":"none"}`, with("exp", "1e400"), "", rfcProof)
	f.Fuzz(func(t *testing.T, header, payload, signature, proof string) {
		for _, text := range []string{proof, encode(header) + "." + encode(payload) + "." + encode(signature)} {
			p, err := v.Parse([]string{text})
			if err != nil {
				var e *dpop.Error
				if !errors.As(err, &e) || e.Code != dpop.InvalidProof || !strings.HasPrefix(e.Reason, "proof_") {
					t.Fatalf("%q: got %v", text, err)
				}
				continue
			}
			// No proof is for a token that is bound to no key.
			if _, err := v.Check(context.Background(), p, dpop.Request{Method: "GET", Path: "/a", Token: token}, now); word(err) != "invalid_token binding" {
				t.Fatalf("%q: got %v", text, err)
			}
			// What is well-formed has one spelling.
			if signature := text[strings.LastIndexByte(text, '.')+1:]; len(signature)%4 > 1 {
				if _, err := v.Parse([]string{respell(text)}); err == nil {
					t.Fatalf("%q and %q are both well-formed", text, respell(text))
				}
			}
		}
	})
}
