package dpop

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Target returns the path of a request as the client sent it, in the encoding
// that the client chose. requestURI is the request target of the request line
// (RFC 9112, section 3.2); escapedPath takes its place where there is none, in a
// request that code made. It reports false for a target without a path, as
// "OPTIONS *" and CONNECT have it.
//
// The decoded path would not do: it has lost what was encoded, and routers cut it.
func Target(requestURI, escapedPath string) (path string, ok bool) {
	if requestURI == "" {
		if requestURI = escapedPath; requestURI == "" {
			return "/", true
		}
	}
	path, _, _ = strings.Cut(requestURI, "?")
	if path != "" && path[0] == '/' {
		// Two slashes at the beginning are a path and no host.
		return path, true
	}
	// The absolute form. Its authority is the client's word, and so is not looked
	// at, no more than the Host header. Two slashes further on are a part of the path.
	_, rest, _ := strings.Cut(path, ":")
	rest, ok = strings.CutPrefix(rest, "//")
	if !ok {
		return "", false
	}
	if i := strings.IndexByte(rest, '/'); i >= 0 {
		return rest[i:], true
	}
	return "/", true
}

// A target is a URL without query and fragment, in normal form: two of them are
// equal exactly if they name the same by RFC 3986, sections 6.2.2 and 6.2.3.
type target struct {
	origin string // scheme, host, and port if it is not the scheme's default one
	path   string // begins with a slash
}

// The reasons for refusing a URL. None of them repeats any of it.
var (
	errScheme    = errors.New("want an absolute URL that begins with https:// or http://")
	errUserinfo  = errors.New("want no user name and no password")
	errHost      = errors.New("want an ASCII host name or an IP address")
	errPort      = errors.New("want a port from 1 to 65535")
	errCharacter = errors.New("want ASCII only, without white space, control characters and backslashes")
	errTriplet   = errors.New("want two hexadecimal digits behind each %")
)

// parseURL brings an http or https URL into normal form. Query and fragment are
// dropped unseen (RFC 9449, section 4.3).
func parseURL(text string) (target, error) {
	if i := strings.IndexAny(text, "?#"); i >= 0 {
		text = text[:i]
	}
	scheme, rest, _ := strings.Cut(text, "://")
	defaultPort := ""
	switch scheme = strings.ToLower(scheme); scheme {
	case "https":
		defaultPort = "443"
	case "http":
		defaultPort = "80"
	default:
		return target{}, errScheme
	}
	authority, path := rest, "/"
	if i := strings.IndexByte(rest, '/'); i >= 0 {
		authority, path = rest[:i], rest[i:]
	}
	if strings.IndexByte(authority, '@') >= 0 {
		return target{}, errUserinfo
	}
	host, port := authority, ""
	if i := strings.LastIndexByte(authority, ':'); i >= 0 && strings.IndexByte(authority[i:], ']') < 0 {
		host, port = authority[:i], authority[i+1:]
	}
	host, err := normalHost(host)
	if err != nil {
		return target{}, err
	}
	if port == defaultPort {
		port = ""
	}
	if port != "" {
		// A port with leading zeros is another spelling, which is not among
		// those that section 6.2.3 makes equal.
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return target{}, errPort
		}
		port = ":" + port
	}
	if path, err = normalPath(path); err != nil {
		return target{}, err
	}
	// What is in normal form already, as nearly everything is, needs no copy.
	if n := len(text) - len(rest) + len(authority); text[:len(scheme)] == scheme && rest[:len(host)] == host &&
		len(host)+len(port) == len(authority) {
		return target{text[:n], path}, nil
	}
	return target{scheme + "://" + host + port, path}, nil
}

// normalHost returns host in normal form: in lower case, with no more encoded than
// must be. IP addresses keep their spelling.
func normalHost(host string) (string, error) {
	if strings.HasPrefix(host, "[") {
		inner, ok := strings.CutSuffix(host[1:], "]")
		if ip, err := netip.ParseAddr(inner); !ok || err != nil || ip.Is4() || ip.Zone() != "" {
			return "", errHost
		}
		return strings.ToLower(host), nil
	}
	if host == "" {
		return "", errHost
	}
	host, err := normalTriplets(host)
	if err != nil {
		return "", err
	}
	for i := range len(host) {
		// RFC 3986, section 3.2.2: what else may be in a name.
		if c := host[i]; !unreserved(c) && strings.IndexByte("!$&'()*+,;=%", c) < 0 {
			return "", errHost
		}
	}
	if strings.IndexByte(host, '%') < 0 {
		return strings.ToLower(host), nil
	}
	// The digits of a triplet stay in upper case.
	b := []byte(host)
	for i := 0; i < len(b); i++ {
		if b[i] == '%' {
			i += 2
		} else if 'A' <= b[i] && b[i] <= 'Z' {
			b[i] |= 0x20
		}
	}
	return string(b), nil
}

// normalPath returns path, which begins with a slash, in normal form.
func normalPath(path string) (string, error) {
	path, err := normalTriplets(path)
	if err != nil {
		return "", err
	}
	return removeDotSegments(path), nil
}

// normalTriplets decodes what need not be encoded, and writes the digits of what
// stays encoded in upper case (RFC 3986, sections 6.2.2.1 and 6.2.2.2).
func normalTriplets(s string) (string, error) {
	var b []byte // s as far as it was written anew; nil while it is as it was
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c <= ' ' || c >= 0x7f || c == '\\' {
			return "", errCharacter
		}
		if c != '%' {
			if b != nil {
				b = append(b, c)
			}
			continue
		}
		if len(s)-i < 3 {
			return "", errTriplet
		}
		high, low := unhex(s[i+1]), unhex(s[i+2])
		if high|low > 0xf {
			return "", errTriplet
		}
		d := high<<4 | low
		if b == nil && (unreserved(d) || s[i+1] != hexDigits[high] || s[i+2] != hexDigits[low]) {
			b = append(make([]byte, 0, len(s)), s[:i]...)
		}
		switch {
		case b == nil:
		case unreserved(d):
			b = append(b, d)
		default:
			b = append(b, '%', hexDigits[high], hexDigits[low])
		}
		i += 2
	}
	if b == nil {
		return s, nil
	}
	return string(b), nil
}

const hexDigits = "0123456789ABCDEF"

// unhex returns the value of a hexadecimal digit, or 0xff.
func unhex(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		return c | 0x20 - 'a' + 10
	}
	return 0xff
}

// unreserved reports whether c is one of the characters that never need to be
// encoded (RFC 3986, section 2.3).
func unreserved(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'z' || c == '-' || c == '.' || c == '_' || c == '~'
}

// removeDotSegments does what RFC 3986, section 5.2.4, says, with a path that
// begins with a slash.
func removeDotSegments(path string) string {
	if !strings.Contains(path, "/.") {
		return path
	}
	b := make([]byte, 0, len(path))
	for rest := path; rest != ""; {
		segment := rest
		if i := strings.IndexByte(rest[1:], '/'); i >= 0 {
			segment = rest[:i+1]
		}
		rest = rest[len(segment):]
		switch segment {
		case "/..":
			b = b[:max(bytes.LastIndexByte(b, '/'), 0)]
			fallthrough
		case "/.":
			if rest == "" {
				b = append(b, '/')
			}
		default:
			b = append(b, segment...)
		}
	}
	return string(b)
}

// parseBase reads a base URL: an origin, and the path that a proxy takes away
// before it passes requests on.
func parseBase(text string) (target, error) {
	if strings.ContainsAny(text, "?#") {
		return target{}, fmt.Errorf("%q: want neither query nor fragment", text)
	}
	base, err := parseURL(text)
	if err != nil {
		return target{}, fmt.Errorf("%q: %w", text, err)
	}
	base.path = strings.TrimSuffix(base.path, "/")
	return base, nil
}
