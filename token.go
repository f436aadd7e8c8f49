package bearer

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"

	"github.com/golang-jwt/jwt/v5"

	"example.com/bearer/internal/base64url"
	"example.com/bearer/internal/clip"
	"example.com/bearer/internal/jose"
	"example.com/bearer/internal/jwks"
	"example.com/bearer/internal/strictjson"
)

// Bounds on what a stranger may send.
const (
	defaultMaxLength = 16 << 10  // bytes of the encoded token
	maxMaxLength     = 256 << 10 // … that Config.MaxTokenLength may allow
	maxKeyID         = 256       // bytes of "kid"
	maxUnverified    = 1024      // members of a payload in which "iss" is looked for
	maxParameters    = 256       // members of the header, inner objects included
	maxText          = 2 << 10   // bytes of a header parameter, or of "iss", in which escapes count
)

// A token is one on its way through verification. What is decoded of it stands in
// a scratch, and is there from decode until free.
type token struct {
	jose.Compact
	text      string
	payload   []byte
	signature []byte
	scratch   *scratch // nil if nothing is decoded
	routed    bool     // its unverified "iss" has been looked at, and names the verifier's issuer
	waited    bool     // for FindIssuer or for keys, perhaps: it is later than when it came
}

// A scratch is the memory that the verification of one token needs and that
// nobody sees afterwards.
type scratch struct {
	decoded []byte // the token's payload, signature and header
	used    int    // of decoded
}

var scratchPool = sync.Pool{New: func() any { return newScratch(defaultMaxLength) }}

// newScratch returns a scratch for a token of n bytes.
func newScratch(n int) *scratch { return &scratch{decoded: make([]byte, n*3/4)} }

// registeredClaims are the claims that golang-jwt's validator judges. Their types have
// been checked before.
type registeredClaims struct {
	*Claims
	issuer string
}

func (c registeredClaims) GetIssuer() (string, error)             { return c.issuer, nil }
func (c registeredClaims) GetSubject() (string, error)            { return c.Subject, nil }
func (c registeredClaims) GetAudience() (jwt.ClaimStrings, error) { return c.Audience, nil }
func (c registeredClaims) GetExpirationTime() (*jwt.NumericDate, error) {
	return optionalDate(c.ExpiresAt), nil
}
func (c registeredClaims) GetNotBefore() (*jwt.NumericDate, error) {
	return optionalDate(c.NotBefore), nil
}
func (c registeredClaims) GetIssuedAt() (*jwt.NumericDate, error) {
	return optionalDate(c.IssuedAt), nil
}

// optionalDate returns nil for the zero time, which is that of an absent claim.
func optionalDate(t time.Time) *jwt.NumericDate {
	if t.IsZero() {
		return nil
	}
	return &jwt.NumericDate{Time: t}
}

// tooLong is the refusal of a token of n bytes where most are allowed.
func tooLong(n, most int) error {
	return &cause{reason: "too_long", got: strconv.Itoa(n) + " bytes", want: strconv.Itoa(most) + " at most"}
}

// newToken takes text apart, which may have as many as most bytes. It refuses what
// is not in compact form; the encoding of the parts is for decode to judge.
func newToken(text string, most int) (token, error) {
	if len(text) > most {
		return token{}, tooLong(len(text), most)
	}
	compact, ok := jose.Cut(text)
	if !ok {
		switch strings.Count(text, ".") {
		case 0:
			return token{}, opaqueToken
		case 4:
			return token{}, encryptedToken
		}
		return token{}, notCompact
	}
	return token{Compact: compact, text: text}, nil
}

// The refusals of what is no three parts with dots between them. Like noToken they serve
// all requests.
var (
	notCompact     = &cause{reason: "malformed", err: errEncoding, detail: "not three parts with dots between them"}
	opaqueToken    = &cause{reason: "malformed", err: errEncoding, detail: notCompact.detail, hint: "an opaque token; some issuers make a JWT only when asked for an audience"}
	encryptedToken = &cause{reason: "malformed", err: errEncoding, detail: notCompact.detail, hint: "an encrypted token (JWE)"}
)

// errEncoding is the malformed token that is not even base64url in three parts.
var errEncoding = fmt.Errorf("%w: not in compact form", jwt.ErrTokenMalformed)

// decode decodes payload and signature. It refuses a token that is not the one
// canonical encoding of what it says. The cache looks tokens up by their text, so
// a token must have exactly one spelling. The encoding of the header is left to
// readHeader: a remembered one need not be looked at again.
func (t *token) decode() error {
	if t.scratch != nil {
		return nil
	}
	if len(t.text) <= defaultMaxLength {
		t.scratch = scratchPool.Get().(*scratch)
	} else {
		t.scratch = newScratch(len(t.text))
	}
	var ok bool
	if t.payload, ok = t.scratch.decode(t.Payload); !ok {
		return &cause{reason: "malformed", err: errEncoding, detail: "the payload is not base64url"}
	}
	if t.signature, ok = t.scratch.decode(t.Signature); !ok {
		return &cause{reason: "malformed", err: errEncoding, detail: "the signature is not base64url"}
	}
	return nil
}

// free gives back the memory of what was decoded.
func (t *token) free() {
	if s := t.scratch; s != nil {
		s.used = 0
		if len(t.text) <= defaultMaxLength { // larger ones are seldom and not kept
			scratchPool.Put(s)
		}
		t.scratch, t.payload, t.signature = nil, nil, nil
	}
}

// decode decodes a part of a token into memory of s.
func (s *scratch) decode(part string) ([]byte, bool) {
	if part == "" {
		return nil, false // the shortest JSON and the shortest signature are longer
	}
	n, ok := base64url.Decode(s.decoded[s.used:], part)
	out := s.decoded[s.used : s.used+n : s.used+n]
	s.used += n
	return out, ok
}

// A header is a JOSE header that passed every check.
type header struct {
	method jwt.SigningMethod
	alg    string // one name for one thing: "EdDSA" also where the token says "Ed25519"
	kid    string // "" if the token names no key
	nonce  bool   // for a hint
}

// readHeader reads and checks the header of t, which must name one of the accepted
// algorithms and types. The latter are as mediaType has them.
func (t *token) readHeader(algorithms, types []string) (*header, error) {
	text, ok := t.scratch.decode(t.Header)
	if !ok {
		return nil, &cause{reason: "malformed", err: errEncoding, detail: "the header is not base64url"}
	}
	var (
		alg, typ, kid, forbidden string
		hasTyp, hasKID           bool
		wrongType                string // a parameter that should be a string
		nonce                    bool
	)
	str := func(v strictjson.Value, name string) string {
		text, ok := someText(v)
		if !ok {
			wrongType = name
		}
		return text
	}
	o := strictjson.Object{Text: text, MaxMembers: maxParameters}
	for o.Next() {
		switch string(o.Name) {
		case "alg":
			alg = str(o.Value, "alg")
		case "typ":
			typ, hasTyp = str(o.Value, "typ"), true
		case "kid":
			kid, hasKID = str(o.Value, "kid"), true
		case "crit", "b64":
			forbidden = string(o.Name)
		case "nonce":
			nonce = true
		}
	}
	if err := o.Err(); err != nil {
		return nil, &cause{reason: "malformed", detail: "the header is " + err.Error()}
	}
	if wrongType != "" {
		return nil, &cause{reason: "malformed", claim: wrongType, detail: "a header parameter is not a string"}
	}
	// RFC 7515, section 4.1.11: no extension is understood here, so none that
	// is critical can be. "b64" (RFC 7797) changes what is signed.
	if forbidden != "" {
		return nil, &cause{reason: "crit", claim: forbidden}
	}
	method := jose.Method(alg)
	if method == nil || !slices.Contains(algorithms, method.Alg()) {
		return nil, &cause{reason: "algorithm", claim: "alg", got: clip.String(alg), want: strings.Join(algorithms, " or ")}
	}
	// RFC 8725, section 3.11. Anything else says that the token is for another
	// use: an ID token in new profiles, a DPoP proof, a logout token.
	if !slices.ContainsFunc(types, func(t string) bool {
		if t == "" {
			return !hasTyp
		}
		return len(typ) <= len(mediaPrefix)+len(t) && mediaType(typ) == t // a long one is not even looked at
	}) {
		return nil, &cause{reason: "type", claim: "typ", got: clip.String(typ), want: wantTypes(types)}
	}
	if hasKID && (kid == "" || len(kid) > maxKeyID || strings.ContainsFunc(kid, unicode.IsControl)) {
		return nil, &cause{reason: "malformed", claim: "kid", detail: "not a key id"}
	}
	return &header{method: method, alg: method.Alg(), kid: kid, nonce: nonce}, nil
}

// mediaType returns the one spelling of a "typ" (RFC 7515, section 4.1.9): in small
// letters, without "application/". Letters outside of ASCII stay, for some of them
// would become an ASCII one.
func mediaType(typ string) string {
	small := strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}, typ)
	return strings.TrimPrefix(small, mediaPrefix)
}

const mediaPrefix = "application/"

// wantTypes lists types for a log record.
func wantTypes(types []string) string {
	list := slices.Clone(types)
	for i, t := range list {
		if t == "" {
			list[i] = "none"
		}
	}
	return strings.Join(list, " or ")
}

// Sizes of a headerMemo.
const (
	maxHeaders      = 512     // headers that are kept
	maxHeaderLength = 1 << 10 // bytes of such a header
)

// A headerMemo keeps the headers of tokens whose signature held, so that the next
// token with the same one, as most are, needs no reading of it: 4 ns in place of
// 300, of the 25 µs that a token with RS256 takes (BenchmarkHeaders). Strangers have
// no part in it. The zero value is empty. It forgets all with each new key set,
// since those bring new headers.
type headerMemo struct {
	set    atomic.Pointer[jwks.Set]   // that the headers were kept with
	first  atomic.Pointer[seenHeader] // of them: an issuer with one key has one header, and that needs no hash
	byText sync.Map                   // encoded header -> *header
	n      atomic.Int32
}

type seenHeader struct {
	encoded string
	header  *header
}

// get returns the header that was kept for the encoded one, or nil.
func (m *headerMemo) get(encoded string) *header {
	if len(encoded) > maxHeaderLength { // hashing it would take longer
		return nil
	}
	if first := m.first.Load(); first != nil && first.encoded == encoded {
		return first.header
	}
	if h, ok := m.byText.Load(encoded); ok {
		return h.(*header)
	}
	return nil
}

// put keeps a header that was seen with a key of set.
func (m *headerMemo) put(set *jwks.Set, encoded string, h *header) {
	if len(encoded) > maxHeaderLength {
		return
	}
	if m.set.Load() != set && m.set.Swap(set) != set {
		m.first.Store(nil)
		m.byText.Clear()
		m.n.Store(0)
	}
	if m.n.Load() >= maxHeaders {
		return
	}
	// The string is part of a request's token: a copy keeps only the header.
	encoded = strings.Clone(encoded)
	kept := m.first.CompareAndSwap(nil, &seenHeader{encoded, h})
	if !kept {
		_, known := m.byText.LoadOrStore(encoded, h)
		kept = !known
	}
	if kept {
		m.n.Add(1)
	}
}

// unverifiedIssuer returns what t says that its issuer is. It is not known if the
// payload cannot be read as far as that, or has too many members before.
func (t *token) unverifiedIssuer() (issuer string, known bool, err error) {
	if err := t.decode(); err != nil {
		return "", false, err
	}
	iss, known := strictjson.Find(t.payload, "iss", maxUnverified)
	if iss != nil {
		issuer, _ = someText(iss)
	}
	return issuer, known, nil
}

// someText is v.Text for what a stranger wrote, where a text of more than maxText bytes is
// taken as it stands: nothing good is as long and has escapes, and to read 12 KB of them
// would take half a signature check.
func someText(v strictjson.Value) (string, bool) {
	if len(v) > maxText && v.Kind() == '"' {
		return string(v[1 : len(v)-1]), true
	}
	return v.Text()
}
