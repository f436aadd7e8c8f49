package differential_test

import (
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
)

// A corpus writes JSON in all the ways in which it can be written.
type corpus struct{ *rand.Rand }

func newCorpus(seed uint64) corpus { return corpus{rand.New(rand.NewPCG(seed, 0))} }

func pick[T any](g corpus, from ...T) T { return from[g.IntN(len(from))] }

// in reports true in one of n cases.
func (g corpus) in(n int) bool { return g.IntN(n) == 0 }

func (g corpus) space() string {
	if !g.in(8) {
		return ""
	}
	return pick(g, " ", "\n", "\t", "\r\n", "  \t ")
}

// quote returns a literal of text. Plain ones are as a JSON encoder would
// write them.
func (g corpus) quote(text string) string {
	plain := g.in(2)
	b := []byte{'"'}
	for _, r := range text {
		escaped := map[rune]string{'"': `\"`, '\\': `\\`, '/': `\/`, '\b': `\b`, '\f': `\f`, '\n': `\n`, '\r': `\r`, '\t': `\t`}[r]
		mustEscape := r < ' ' || r == '"' || r == '\\'
		switch {
		case escaped != "" && (mustEscape && g.in(2) || !mustEscape && !plain && g.in(3)):
			b = append(b, escaped...)
		case mustEscape || !plain && g.in(3):
			format := pick(g, `\u%04x`, `\u%04X`)
			if r > 0xffff {
				high, low := utf16.EncodeRune(r)
				b = fmt.Appendf(b, format+format, high, low)
			} else {
				b = fmt.Appendf(b, format, r)
			}
		default:
			b = append(b, string(r)...)
		}
	}
	return string(append(b, '"'))
}

// text returns text that is easily mistaken for something else.
func (g corpus) text() string {
	var b strings.Builder
	for range g.IntN(4) {
		b.WriteString(pick(g,
			"a", "Zz", "user|42", "null", "true", "-1e9", `\u0041`, `\`, `"`, "/", "<script>&", "{}", "[", "a.b", "://",
			" ", "\x00", "\x01", "\a", "\b", "\f", "\v", "\x1b", "\r\n", "\t", "\x7f", "\u0085", "\u00a0", "\u00ad", "\u200b", "\u202e",
			"\u2028", "\ufeff", "\ufffd", "\uffff", "é", "e\u0301", "ß", "İ", "ſ", "K", "漢字", "😀", "\U000e0001", "\U0010ffff"))
	}
	return b.String()
}

// number returns a number in one of its forms. All are within what a float64
// can hold.
func (g corpus) number() string {
	return pick(g, "", "-") + pick(g, "0", "1", "10", "0.0", "0.5", "12.25", "3.0", "1e0", "1E2", "1e+2", "1.5E-3", "25e-1",
		"4294967296", "9007199254740993", "9223372036854775807", "9223372036854775808", "18446744073709551616",
		"123456789012345678901234567890", "0.1000000000000000055511151231257827", "1.7976931348623157e308", "5e-324", "1e-400",
		strconv.Itoa(g.IntN(1<<40)), strconv.FormatFloat(g.ExpFloat64(), 'g', -1, 64))
}

// value returns any value, at most depth deep.
func (g corpus) value(depth int) string {
	n := 7
	if depth == 0 {
		n = 5
	}
	switch g.IntN(n) {
	case 0:
		return pick(g, "null", "true", "false")
	case 1, 2:
		return g.number()
	case 3, 4:
		return g.quote(g.text())
	case 5:
		var elements []string
		for range g.IntN(4) {
			elements = append(elements, g.value(depth-1))
		}
		return g.array(elements...)
	}
	var m members
	for range g.IntN(4) {
		m.set(g.text(), g.value(depth-1))
	}
	return g.object(m)
}

func (g corpus) array(elements ...string) string {
	for i, e := range elements {
		elements[i] = g.space() + e + g.space()
	}
	return "[" + g.space() + strings.Join(elements, ",") + "]"
}

// members are the members of an object: names, and values in JSON.
type members [][2]string

func (m *members) set(name, value string) {
	m.remove(name)
	*m = append(*m, [2]string{name, value})
}

func (m *members) remove(name string) {
	*m = slices.DeleteFunc(*m, func(member [2]string) bool { return member[0] == name })
}

// object writes m in any order.
func (g corpus) object(m members) string {
	m = slices.Clone(m)
	g.Shuffle(len(m), func(i, j int) { m[i], m[j] = m[j], m[i] })
	parts := make([]string, len(m))
	for i, member := range m {
		parts[i] = g.space() + g.quote(member[0]) + g.space() + ":" + g.space() + member[1] + g.space()
	}
	return "{" + g.space() + strings.Join(parts, ",") + "}"
}

// date returns the NumericDate of a time from now, in one of its forms.
func (g corpus) date(from time.Duration) string {
	seconds := time.Now().Add(from).Unix()
	whole := strconv.FormatInt(seconds, 10)
	switch g.IntN(8) {
	case 0:
		return whole + pick(g, ".0", ".000", ".5", ".999", ".0000001", ".123456789012345678901234567890")
	case 1:
		return whole + pick(g, "0e-1", "00E-02", "e0", "E+0", ".0e0")
	case 2:
		return whole[:1] + "." + whole[1:] + pick(g, "e9", "E9", "e+9", "E+09")
	case 3:
		return strconv.FormatFloat(float64(seconds), 'e', -1, 64)
	}
	return whole
}

// audience returns an "aud" with one of the audiences that are accepted.
func (g corpus) audience() string {
	one := g.quote(pick(g, audience, otherAudience))
	if g.in(2) {
		return one
	}
	all := []string{one}
	for range g.IntN(3) {
		all = append(all, g.quote(pick(g, g.text(), audience, "https://api.example.com/", "")))
	}
	g.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return g.array(all...)
}

// header returns the members of a header that package bearer accepts and whose
// parameters have the types that RFC 7515 gives them.
func (g corpus) header(alg string) members {
	m := members{{"alg", g.quote(alg)}}
	if !g.in(4) {
		m.set("kid", g.quote(signers()[alg].kid))
	}
	if !g.in(4) {
		m.set("typ", g.quote(pick(g, "JWT", "jwt", "at+jwt", "AT+JWT", "application/at+jwt", "Application/AT+JWT")))
	}
	for range g.IntN(3) {
		switch g.IntN(4) {
		case 0:
			m.set(pick(g, "cty", "jku", "x5u", "nonce"), g.quote(g.text()))
		case 1:
			m.set(pick(g, "x5t", "x5t#S256"), g.quote(encode(g.text())))
		case 2: // names that are not the ones that count
			m.set(pick(g, "ALG", "Alg", "KID", "Typ", "TYP", "Crit", "CRIT", "B64", "Jwk", "alg ", "a\u200blg"), g.value(2))
		default:
			m.set("x"+g.text(), g.value(3))
		}
	}
	return m
}

// payload returns claims that package bearer accepts.
func (g corpus) payload() members {
	hour := time.Hour
	m := members{
		{"iss", g.quote(issuer)},
		{"aud", g.audience()},
		{"exp", g.date(pick(g, -30*time.Second, 30*time.Second, hour, 24*365*hour, 100*24*365*hour))},
	}
	if !g.in(3) {
		m.set("sub", g.quote(g.text()))
	}
	if !g.in(3) {
		m.set("jti", g.quote(g.text()))
	}
	for _, name := range []string{"iat", "nbf"} {
		if g.in(2) {
			m.set(name, pick(g, g.date(-hour), g.date(0), g.date(30*time.Second), "0", "1", "0.5", "1e3"))
		}
	}
	if !g.in(3) {
		m.set("https://example.com/nested", g.value(5))
	}
	for range g.IntN(4) {
		switch g.IntN(3) {
		case 0: // names that are not the ones that count
			m.set(pick(g, "ISS", "Iss", "iſs", "Sub", "ſub", "AUD", "aUd", "EXP", "Exp", "NBF", "IAT", "JTI", "SCOPE", "Cnf", "Tid", "appID", "CLIENT_ID", "iss ", "\ufeffexp"), g.value(2))
		case 1:
			m.set(pick(g, "scope", "scp", "client_id", "azp", "cid", "appid", "nonce", "at_hash", "roles", "permissions"), g.value(2))
		default:
			m.set("x"+g.text(), g.value(3))
		}
	}
	return m
}

// spoil changes claims and header parameters so that the token may have to be
// refused.
func (g corpus) spoil(header, payload *members) {
	day := 24 * time.Hour
	for again := true; again; again = g.in(4) {
		switch name := pick(g, "iss", "sub", "aud", "exp", "nbf", "iat", "jti", "cnf", "alg", "typ", "kid", "crit", "b64"); name {
		case "iss":
			payload.set(name, pick(g, g.quote(issuer), g.quote(pick(g, "", issuer+"/", issuer[:len(issuer)-1], strings.ToUpper(issuer))), g.array(g.quote(issuer)), g.value(2)))
		case "aud":
			payload.set(name, pick(g, g.audience(), g.quote(audience+"/"), g.quote(audience+" "+otherAudience), g.array(), g.array(g.audience(), g.number()),
				g.array(g.array(g.quote(audience))), g.value(3)))
		case "exp", "nbf", "iat":
			payload.set(name, pick(g, g.date(-day), g.date(day), g.date(-90*time.Second), g.date(90*time.Second), g.quote(g.date(day)), g.quote(g.date(-day)),
				"-1", "-0", "0", "253402300799", "253402300799.5", "253402300800", "9.3e18", "1e19", "1e300", g.number(), g.value(2)))
		case "cnf":
			payload.set(name, g.value(2))
		case "crit":
			header.set(name, pick(g, g.array(), g.array(g.quote(pick(g, "exp", "b64", "alg", "x"))), g.value(2)))
		case "b64":
			header.set(name, pick(g, "true", "false"))
		case "alg":
			header.set(name, pick(g, g.quote(pick(g, algorithms...)), g.quote(pick(g, "none", "None", "HS256", "es256", "ES256K", "RSA-OAEP", "")), g.value(2)))
		case "kid":
			header.set(name, pick(g, g.quote(signers()[pick(g, algorithms...)].kid), g.value(2)))
		case "typ":
			header.set(name, pick(g, g.quote(pick(g, "JWT", "at+JWT", "application/jwt", "dpop+jwt", "JWT ")), g.value(2)))
		default:
			payload.set(name, pick(g, g.quote(g.text()), g.value(2)))
		}
		if g.in(8) {
			payload.remove(pick(g, "iss", "aud", "exp", "sub", "nbf", "iat"))
		}
		if g.in(8) {
			header.remove(pick(g, "alg", "typ", "kid"))
		}
	}
}

// readable shows what stands in a token.
func readable(token string) string {
	parts := strings.Split(token, ".")
	for i, part := range parts[:len(parts)-1] {
		if text, err := base64.RawURLEncoding.DecodeString(part); err == nil {
			parts[i] = fmt.Sprintf("%q", text)
		}
	}
	return strings.Join(parts, " . ")
}
