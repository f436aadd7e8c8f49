package apiserver

import (
	"crypto/tls"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"example.com/bearer"
)

// boundFlags are the flags that have to do with tokens which are bound to a key or to
// a certificate of the client.
type boundFlags struct {
	dpop, required               bool
	baseURLs, nonceKeys, proxies list
	certFile, keyFile            string
}

func (f *boundFlags) register(flags *flag.FlagSet) {
	flags.BoolVar(&f.dpop, "dpop", false, "accept tokens that are bound to a key of the client (RFC 9449)")
	flags.Var(&f.baseURLs, "base-url", "public `URL` of this API, origin and path prefix; may be repeated (default the origin of -resource, or else -addr)")
	flags.Var(&f.nonceKeys, "nonce-key", "secret for nonces, in `hexadecimal`, 32 bytes or more; may be repeated, the first one makes them")
	flags.BoolVar(&f.required, "require-bound", false, "refuse tokens that are bound to nothing")
	flags.StringVar(&f.certFile, "tls-cert", "", "PEM `file` with the certificate to serve https with; tokens bound to a client's certificate are accepted then")
	flags.StringVar(&f.keyFile, "tls-key", "", "PEM `file` with its key")
	flags.Var(&f.proxies, "client-cert-from", "`network` of proxies, as 10.0.0.0/8, whose Client-Cert header is believed; may be repeated")
}

// apply sets in config what the flags say, but for the URL that is the default of
// -base-url. It returns what to serve https with, or nil, and what is wrong.
func (f *boundFlags) apply(config *bearer.Config) (server *tls.Config, problems []error) {
	bad := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if f.dpop {
		config.DPoP = &bearer.DPoP{BaseURLs: f.baseURLs}
		for i, key := range f.nonceKeys {
			secret, err := hex.DecodeString(key)
			if err != nil {
				bad("-nonce-key: key %d is not hexadecimal", i) // and not shown: it may be nearly right
				secret = make([]byte, 32)
			}
			config.DPoP.NonceKeys = append(config.DPoP.NonceKeys, secret)
		}
	}
	for _, flag := range []struct {
		name  string
		given bool
	}{{"-base-url", f.baseURLs != nil}, {"-nonce-key", f.nonceKeys != nil}} {
		if flag.given && !f.dpop {
			bad("%s: needs -dpop", flag.name)
		}
	}

	if f.certFile != "" && f.keyFile != "" {
		pair, err := tls.LoadX509KeyPair(f.certFile, f.keyFile)
		if err != nil {
			bad("-tls-cert, -tls-key: %w", err)
		}
		// A binding says which certificate it must be. Who issued it is of no account.
		server = &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequestClientCert}
		config.Certificate = bearer.ConnectionCertificate
	} else if f.certFile != "" || f.keyFile != "" {
		bad("-tls-cert, -tls-key: one needs the other")
	}
	var trusted []netip.Prefix
	for _, text := range f.proxies {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			bad("-client-cert-from: %q is no network such as 10.0.0.0/8", text)
			continue
		}
		trusted = append(trusted, prefix)
	}
	if trusted != nil {
		config.Certificate = bearer.ForwardedCertificate(trusted...)
	}
	config.RequireBound = f.required
	if f.required && !f.dpop && f.certFile == "" && f.keyFile == "" && f.proxies == nil {
		bad("-require-bound: needs -dpop, -tls-cert or -client-cert-from")
		config.RequireBound = false
	}
	return server, problems
}

// check reports what is wrong with config, which lacks the URL that is the default of
// -base-url.
func (f *boundFlags) check(config bearer.Config) error {
	if f.dpop && f.baseURLs == nil && config.Resource == "" {
		withURL := *config.DPoP
		withURL.BaseURLs = []string{"http://localhost"}
		config.DPoP = &withURL
	}
	if config.RequireBound && config.DPoP == nil && config.Certificate == nil {
		config.RequireBound = false // told of by apply
	}
	_, err := bearer.New(config)
	return err
}

// origin returns the URL at which the API is reached that listens at addr, which is
// what -addr says.
func origin(scheme, addr string, listening net.Addr) string {
	host, _, _ := net.SplitHostPort(addr)
	if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	_, port, _ := net.SplitHostPort(listening.String())
	return scheme + "://" + net.JoinHostPort(host, port)
}

// pageURL returns the URL that the proofs of the page must name, or "" if there are
// none.
func (f *boundFlags) pageURL(config *bearer.Config) string {
	switch {
	case !f.dpop:
		return ""
	case len(config.DPoP.BaseURLs) > 0:
		return strings.TrimSuffix(config.DPoP.BaseURLs[0], "/")
	}
	u, err := url.Parse(config.Resource)
	if err != nil { // New has taken it
		return ""
	}
	return u.Scheme + "://" + u.Host
}

// bound names what a token is bound to.
func bound(b bearer.Binding) string {
	var to []string
	if b.KeyThumbprint != "" {
		to = append(to, "dpop")
	}
	if b.CertThumbprint != "" {
		to = append(to, "certificate")
	}
	return strings.Join(to, " ")
}

var errNoThumbprint = errors.New("dpop_jkt must be the thumbprint of a key: 43 characters of base64url")

// checkThumbprint checks the form of a key's thumbprint (RFC 7638, by SHA-256).
func checkThumbprint(s string) error {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	if len(s) != 43 || slices.ContainsFunc([]byte(s), func(c byte) bool { return !strings.ContainsRune(alphabet, rune(c)) }) {
		return errNoThumbprint
	}
	return nil
}
