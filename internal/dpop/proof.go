package dpop

import (
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"example.com/bearer/internal/base64url"
	"example.com/bearer/internal/jose"
	"example.com/bearer/internal/strictjson"
)

// Bounds on what a stranger may send.
const (
	maxProof   = 8 << 10 // bytes of the encoded proof; one with a key of RSA-4096 has 2.3 KiB
	maxID      = 256     // bytes of "jti"
	maxMembers = 256     // of the header and of the payload, inner objects included
)

// A Proof is a DPoP proof that is well-formed. Nothing more is known of it: it may
// be anybody's, for any request.
type Proof struct {
	encoded   string // the header
	signed    string
	signature []byte
	header
	claims
}

// A header is a JOSE header that passed every check.
type header struct {
	key    *jose.Key
	method jwt.SigningMethod
}

// claims are what a proof says (RFC 9449, section 4.2).
type claims struct {
	id, htm, htu, ath string
	nonce             string // empty if there is none, or one that is no string
	iat               time.Time
	exp, nbf          time.Time // zero if absent
}

// Parse reads the proof in a request's DPoP fields. It does no more than look at
// its form, and whether its algorithm is accepted: nothing that costs much, and
// nothing that needs a clock.
func (v *Verifier) Parse(fields []string) (*Proof, error) {
	// RFC 9449, section 4.3: exactly one field.
	switch {
	case len(fields) == 0:
		return nil, badProof("proof_missing", "")
	case len(fields) > 1:
		return nil, badProof("proof_count", strconv.Itoa(len(fields))+" fields")
	}
	text := fields[0]
	if len(text) > maxProof {
		return nil, &Error{Code: InvalidProof, Reason: "proof_size",
			Got: strconv.Itoa(len(text)) + " bytes", Want: strconv.Itoa(maxProof) + " at most"}
	}
	compact, ok := jose.Cut(text)
	if !ok {
		first, _, _ := strings.Cut(text, ",")
		if _, several := jose.Cut(first); several {
			return nil, badProof("proof_count", "several proofs in one field")
		}
		return nil, badProof("proof_form", "not three parts with dots between them")
	}
	decode := func(part string) ([]byte, bool) {
		room := make([]byte, (len(part)+1)*3/4)
		n, ok := base64url.Decode(room, part)
		return room[:n], ok
	}
	p := &Proof{encoded: compact.Header, signed: compact.Signed}
	if p.header, ok = v.headers.get(compact.Header); !ok {
		header, ok := decode(compact.Header)
		if !ok {
			return nil, badProof("proof_form", "the header is not base64url")
		}
		if err := p.readHeader(header, v.algorithms); err != nil {
			return nil, err
		}
	}
	payload, ok := decode(compact.Payload)
	if !ok {
		return nil, badProof("proof_form", "the payload is not base64url")
	}
	if err := p.readClaims(payload); err != nil {
		return nil, err
	}
	if p.signature, ok = decode(compact.Signature); !ok {
		return nil, badProof("proof_form", "the signature is not base64url")
	}
	return p, nil
}

// readHeader reads the JOSE header. Names and places of other keys ("kid", "jku",
// "x5u", "x5c") are ignored: "jwk" is the proof's key.
func (h *header) readHeader(text []byte, accepted []string) error {
	var typ, alg, extension string
	var jwk strictjson.Value
	o := strictjson.Object{Text: text, MaxMembers: maxMembers}
	for o.Next() {
		switch string(o.Name) {
		case "typ":
			typ, _ = o.Value.Text()
		case "alg":
			alg, _ = o.Value.Text()
		case "jwk":
			jwk = o.Value
		case "crit", "b64":
			extension = string(o.Name)
		}
	}
	if err := o.Err(); err != nil {
		return badProof("proof_form", "the header is "+err.Error())
	}
	// RFC 9449, section 11.5: a JWT that was signed for another use is no proof.
	if typ != "dpop+jwt" {
		return &Error{Code: InvalidProof, Reason: "proof_typ", Got: shown(typ), Want: "dpop+jwt"}
	}
	// RFC 7515, section 4.1.11: no extension is understood here, so none that is
	// critical can be. "b64" (RFC 7797) changes what is signed.
	if extension != "" {
		return badProof("proof_form", "the header has "+extension)
	}
	method := jose.Method(alg)
	if method == nil || !slices.Contains(accepted, method.Alg()) {
		return &Error{Code: InvalidProof, Reason: "proof_alg", Got: shown(alg), Want: strings.Join(accepted, " ")}
	}
	key, err := jose.ReadProofKey(jwk) // what is absent is no key, either
	if err != nil {
		return badProof("proof_key", shown(err.Error()))
	}
	if !slices.Contains(key.Algorithms, method.Alg()) {
		return &Error{Code: InvalidProof, Reason: "proof_key", Detail: "the key is not for the algorithm",
			Got: method.Alg(), Want: strings.Join(key.Algorithms, " ")}
	}
	*h = header{key, method}
	return nil
}

const (
	maxHeaders      = 1 << 11 // that each half of headers remembers
	maxHeaderLength = 2 << 10 // bytes of such a header; one with a key of RSA-4096 has 1 KiB
)

// headers remembers headers by their encoded text. A client sends the same one with
// each proof, and to read a key takes a good part of the time that its use takes.
// Only headers of proofs with good signatures get here, so no stranger can fill it.
type headers struct {
	mu         sync.RWMutex
	young, old map[string]header // when young is full, it takes the place of old
}

func (h *headers) get(encoded string) (header, bool) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	found, ok := h.young[encoded]
	if !ok {
		found, ok = h.old[encoded]
	}
	return found, ok
}

// keep keeps the header, unless it is there and will stay.
func (h *headers) keep(encoded string, read header) {
	if len(encoded) > maxHeaderLength {
		return
	}
	h.mu.RLock()
	_, ok := h.young[encoded]
	h.mu.RUnlock()
	if ok {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.young == nil || len(h.young) >= maxHeaders {
		h.young, h.old = make(map[string]header), h.young
	}
	h.young[strings.Clone(encoded)] = read // and not the whole proof
}

// readClaims reads the payload.
func (c *claims) readClaims(text []byte) error {
	badDate := ""
	date := func(v strictjson.Value, name string) time.Time {
		t, ok := jose.NumericDate(v)
		if !ok {
			badDate = name
		}
		return t
	}
	o := strictjson.Object{Text: text, MaxMembers: maxMembers}
	for o.Next() {
		switch string(o.Name) {
		case "jti":
			c.id, _ = o.Value.Text()
		case "htm":
			c.htm, _ = o.Value.Text()
		case "htu":
			c.htu, _ = o.Value.Text()
		case "ath":
			c.ath, _ = o.Value.Text()
		case "nonce":
			c.nonce, _ = o.Value.Text()
		case "iat":
			c.iat = date(o.Value, "iat")
		case "exp":
			c.exp = date(o.Value, "exp")
		case "nbf":
			c.nbf = date(o.Value, "nbf")
		}
	}
	switch {
	case o.Err() != nil:
		return badProof("proof_form", "the payload is "+o.Err().Error())
	// RFC 9449, section 4.3, check 3: what must be there.
	case c.id == "" || len(c.id) > maxID:
		return badProof("proof_form", "jti is not a string of 1 to 256 bytes")
	case c.htm == "":
		return badProof("proof_htm", "not a method")
	case c.htu == "":
		return badProof("proof_htu", "not a URL")
	case badDate != "":
		return badProof("proof_iat", badDate+" is not a time")
	case c.iat.IsZero():
		return badProof("proof_iat", "no iat")
	}
	return nil
}
