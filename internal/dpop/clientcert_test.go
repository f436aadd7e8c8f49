package dpop_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"strings"
	"testing"

	"example.com/bearer/internal/dpop"
)

// The certificate of RFC 9440, appendix A.
const certificate = "MIIBqDCCAU6gAwIBAgIBBzAKBggqhkjOPQQDAjA6MRswGQYDVQQKDBJMZXQncyBBdXRoZW50aWNhdGUxGzAZBgNVBAMMEkxBIEludGVybWVkaWF0ZSBDQTAeFw0yMDAxMTQyMjU1MzNaFw0yMTAxMjMyMjU1MzNaMA0xCzAJBgNVBAMMAkJDMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE8YnXXfaUgmnMtOXU/IncWalRhebrXmckC8vdgJ1p5Be5F/3YC8OthxM4+k1M6aEAEFcGzkJiNy6J84y7uzo9M6NyMHAwCQYDVR0TBAIwADAfBgNVHSMEGDAWgBRm3WjLa38lbEYCuiCPct0ZaSED2DAOBgNVHQ8BAf8EBAMCBsAwEwYDVR0lBAwwCgYIKwYBBQUHAwIwHQYDVR0RAQH/BBMwEYEPYmRjQGV4YW1wbGUuY29tMAoGCCqGSM49BAMCA0gAMEUCIBHda/r1vaL6G3VliL4/Di6YK0Q6bMjeSkC3dFCOOB8TAiEAx/kHSB4urmiZ0NX5r5XarmPk0wmuydBVoU4hBVZ1yhk="

func TestClientCert(t *testing.T) {
	der, err := base64.StdEncoding.DecodeString(certificate)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(der)
	if got, want := base64.RawURLEncoding.EncodeToString(sum[:]), "v68ffgcPn6jdYpBfFY2nP4ShE2Yk-6_Mk5PI9yh6aes"; got != want {
		t.Fatalf("x5t#S256 = %s, want %s", got, want)
	}
	good := ":" + certificate + ":"
	item := func(b []byte) string { return ":" + base64.StdEncoding.EncodeToString(b) + ":" }
	for _, tt := range []struct {
		name   string
		fields []string
		want   bool
	}{
		{"as in RFC 9440", []string{good}, true},
		{"blanks around it", []string{"  " + good + " "}, true},
		{"no padding", []string{strings.TrimRight(good, "=:") + ":"}, true},
		{"a parameter", []string{good + ";a"}, true},
		{"parameters of all types", []string{good + `;a=1; *b-c=-1.125;d="e\"\\";f=*a/b:c;g=:YQ==:;h=?1;i=@-1;j=%"a%c3%a9";k=a`}, true},

		{"none", nil, false},
		{"two fields", []string{good, good}, false},
		{"a list", []string{good + ", " + good}, false},
		{"a list of one", []string{good + ","}, false},
		{"empty", []string{""}, false},
		{"blanks", []string{" "}, false},
		{"empty byte sequence", []string{"::"}, false},
		{"no colons", []string{certificate}, false},
		{"one colon", []string{":" + certificate}, false},
		{"in quotes", []string{`"` + certificate + `"`}, false},
		{"tab before it", []string{"\t" + good}, false},
		{"base64url", []string{strings.NewReplacer("/", "_", "+", "-").Replace(good)}, false},
		{"line break", []string{good[:65] + "\n" + good[65:]}, false},
		{"four line breaks", []string{good[:65] + "\r\n\r\n" + good[65:]}, false},
		{"blank inside", []string{good[:65] + " " + good[65:]}, false},
		{"too much padding", []string{strings.Replace(good, "=:", "==:", 1)}, false},
		{"PEM", []string{"-----BEGIN CERTIFICATE-----" + certificate + "-----END CERTIFICATE-----"}, false},
		{"something behind it", []string{good + "a"}, false},
		{"another item behind it", []string{good + " " + good}, false},
		{"semicolon", []string{good + ";"}, false},
		{"parameter in upper case", []string{good + ";A=1"}, false},
		{"parameter without value", []string{good + ";a="}, false},
		{"parameter whose string does not end", []string{good + `;a="b`}, false},
		{"256 bytes of parameters", []string{good + strings.Repeat(";a=1", 64)}, true},
		{"more of them", []string{good + strings.Repeat(";a=1", 63) + ";a=12"}, false},
		{"blank before a parameter", []string{good + " ;a"}, false},
		{"comma behind a parameter", []string{good + ";a, " + good}, false},
		{"not DER", []string{item([]byte("hello"))}, false},
		{"trailing data", []string{item(append(bytes.Clone(der), 0))}, false},
		{"two certificates", []string{item(append(bytes.Clone(der), der...))}, false},
		{"cut off", []string{item(der[:len(der)-1])}, false},
		{"no sequence", []string{item(append([]byte{0x31}, der[1:]...))}, false},
		{"another class", []string{item(append([]byte{0x70}, der[1:]...))}, false},
		{"a number", []string{item([]byte{2, 1, 5})}, false},
		{"16 KiB", []string{item(sequence(12283))}, true},
		{"more than 16 KiB", []string{item(sequence(12287))}, false},
	} {
		got, err := dpop.ClientCert(tt.fields)
		if (err == nil) != tt.want || tt.want && len(got) < 1000 && !bytes.Equal(got, der) {
			t.Errorf("%s: got %x, %v, want a certificate = %v", tt.name, got, err, tt.want)
		}
	}
}

// sequence returns an ASN.1 sequence of n bytes.
func sequence(n int) []byte {
	b := make([]byte, n)
	copy(b, []byte{0x30, 0x82, byte((n - 4) >> 8), byte(n - 4)})
	return b
}

func FuzzClientCert(f *testing.F) {
	good := ":" + certificate + ":"
	for _, field := range []string{good, good + `;a="b";c=?0`, good + ", " + good, "::", ":MAA=:", ":MAA:", ":MA\nA=:", `:MAA=:;a=%"%c3"`, "MAA="} {
		f.Add(field)
	}
	f.Fuzz(func(t *testing.T, field string) {
		der, err := dpop.ClientCert([]string{field})
		if err != nil {
			// What crypto/x509 takes for a certificate, in the plainest form, is
			// not refused.
			if raw, err := base64.StdEncoding.Strict().DecodeString(strings.Trim(field, ":")); err == nil && len(field) < 1<<14 {
				if _, err := x509.ParseCertificate(raw); err == nil && field == ":"+base64.StdEncoding.EncodeToString(raw)+":" {
					t.Fatalf("%q is refused", field)
				}
			}
			return
		}
		again, err := dpop.ClientCert([]string{":" + base64.StdEncoding.EncodeToString(der) + ":"})
		if err != nil || !bytes.Equal(again, der) {
			t.Fatalf("%q is %x, which is %x, %v", field, der, again, err)
		}
		if strings.Contains(strings.TrimLeft(field, " "), ",") && !strings.Contains(field, ";") {
			t.Fatalf("a list is accepted: %q", field)
		}
	})
}
