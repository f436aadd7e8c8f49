// Package verdict tells at which check a request failed, for the examples that show
// it to people.
package verdict

import (
	"log/slog"
	"slices"
)

// A Check is a stage of a request's way to its handler.
type Check struct {
	Name    string
	Reasons []string // those of bearer.Error.Reason for which requests fail here

	// only says for which requests the check matters: "" for all of them.
	only string
}

// What requests can have besides a token.
const (
	Request = "request" // headers: it is no bare token
	Proof   = "proof"   // of possession of a key (RFC 9449)
	Rule    = "rule"    // of the route, beyond a valid token

	never = "never" // shown where it fails only: few programs have it
)

// checks are in the order in which they are made.
var checks = []Check{
	{"credentials: one token, behind its scheme", []string{"no_credentials", "invalid_request"}, Request},
	{"proof: its form, its algorithm, a public key", []string{"proof_missing", "proof_count", "proof_size", "proof_form", "proof_typ", "proof_alg", "proof_key"}, Proof},
	{"form: three parts of base64url, strict JSON", []string{"too_long", "malformed"}, ""},
	{"header: no critical extension, an accepted algorithm, an access token", []string{"crit", "algorithm", "type"}, ""},
	{"issuer", []string{"issuer", "issuer_unavailable"}, ""}, // before the keys, since others' tokens are none of its business
	{"key: one that the issuer publishes for the algorithm", []string{"keys_unavailable", "unknown_key", "key"}, ""},
	{"signature", []string{"signature"}, ""},
	{"types of the claims", []string{"claim_type", "claims"}, ""},
	{"audience", []string{"audience"}, ""},
	{"expiry", []string{"no_expiry", "expired"}, ""},
	{"not before", []string{"not_yet_valid"}, ""},
	{"issued at", []string{"issued_in_future"}, ""},
	{"not revoked", []string{"revoked", "revocation_unavailable"}, never},
	{"sender: has what the token is bound to, if it is bound", []string{"bound", "unbound", "binding", "client_cert"}, ""},
	{"proof: by the token's key, for this request, of this time", []string{"proof_signature", "proof_htm", "proof_htu", "proof_iat", "proof_ath", "nonce"}, Proof},
	{"proof: not used before", []string{"proof_replay", "replay_store"}, Proof},
	{"the route's own rule: scopes, login", []string{"insufficient_scope", "insufficient_login", "denied"}, Rule},
}

// Checks returns the names of the checks that passed, and the one that failed for
// reason, which is empty for a request that was not refused. has says what the request
// has besides a token. A reason that belongs to no check leaves open what passed: then
// there is neither.
func Checks(reason string, has ...string) (passed []string, failed string) {
	for _, check := range checks {
		switch {
		case slices.Contains(check.Reasons, reason):
			return passed, check.Name
		case check.only == "" || slices.Contains(has, check.only):
			passed = append(passed, check.Name)
		}
	}
	if reason != "" {
		return nil, ""
	}
	return passed, ""
}

// Why returns what the log record of a refused request says of it, by the names of
// docs/refusals.md, or nil if it is another record.
func Why(record slog.Record) map[string]string {
	if record.Message != "bearer: request refused" {
		return nil
	}
	why := make(map[string]string)
	record.Attrs(func(a slog.Attr) bool {
		why[a.Key] = a.Value.String()
		return true
	})
	return why
}
