package dpop

import (
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"regexp"
	"strings"
	"sync"
)

// maxClientCert is the length of a Client-Cert field that is read, in bytes.
// Certificates that are longer are no client's.
const maxClientCert = 16 << 10

// maxParameters is the length of its parameters. None is known, and to match 16 KiB of
// them would take as long as 40 signature checks.
const maxParameters = 256

var errClientCert = errors.New("not one certificate in a structured field")

// ClientCert returns the certificate in a request's Client-Cert fields (RFC 9440,
// section 2), which it expects to be one. The certificate is in DER; nothing more
// of it is looked at than where it ends.
func ClientCert(fields []string) ([]byte, error) {
	if len(fields) != 1 || len(fields[0]) > maxClientCert {
		return nil, errClientCert
	}
	// A byte sequence (RFC 9651, section 4.2.7), which parameters may follow.
	text := strings.Trim(fields[0], " ")
	der, rest, ok := byteSequence(text)
	if !ok || len(rest) > maxParameters || rest != "" && !parameters().MatchString(rest) {
		return nil, errClientCert
	}
	var certificate asn1.RawValue
	trailing, err := asn1.Unmarshal(der, &certificate)
	if err != nil || len(trailing) > 0 || certificate.Tag != asn1.TagSequence || certificate.Class != asn1.ClassUniversal || !certificate.IsCompound {
		return nil, errClientCert
	}
	return der, nil
}

// byteSequence reads the byte sequence at the beginning of text, and returns what
// follows it.
func byteSequence(text string) (b []byte, rest string, ok bool) {
	if !strings.HasPrefix(text, ":") {
		return nil, "", false
	}
	encoded, rest, ok := strings.Cut(text[1:], ":")
	// The decoder would skip line breaks.
	if !ok || strings.ContainsAny(encoded, "\r\n") {
		return nil, "", false
	}
	// Padding may be missing (section 4.2.7, step 5).
	encoding := base64.StdEncoding
	if len(encoded)%4 != 0 {
		encoding = base64.RawStdEncoding
	}
	b, err := encoding.DecodeString(encoded)
	return b, rest, err == nil
}

// parameters matches the parameters of an item (RFC 9651, section 4.2.3.2). None
// has a meaning here, but what is no parameter makes the field invalid.
var parameters = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^(?:; *[a-z*][a-z0-9_.*-]*(?:=(?:` + strings.Join([]string{
		`-?(?:[0-9]{1,15}|[0-9]{1,12}\.[0-9]{1,3})`, // integer, decimal
		`"(?:[ !#-\[\]-~]|\\["\\])*"`,               // string
		"[A-Za-z*][!#$%&'*+.^_`|~0-9A-Za-z:/-]*",    // token
		`:[A-Za-z0-9+/=]*:`,                         // byte sequence
		`\?[01]`,                                    // boolean
		`@-?[0-9]{1,15}`,                            // date
		`%"(?:[ !#$&-~]|%[0-9a-f]{2})*"`,            // display string
	}, "|") + `))?)*$`)
})
