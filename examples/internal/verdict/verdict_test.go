package verdict_test

import (
	"log/slog"
	"os"
	"regexp"
	"slices"
	"testing"
	"time"

	"example.com/bearer/examples/internal/verdict"
)

// Every reason there is belongs to a check, but for the one that says that there was
// none.
func TestChecks_allReasons(t *testing.T) {
	text, err := os.ReadFile("../../../docs/refusals.md")
	if err != nil {
		t.Fatal(err)
	}
	reasons := regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\|").FindAllStringSubmatch(string(text), -1)
	if len(reasons) < 30 {
		t.Fatalf("%d reasons", len(reasons))
	}
	for _, m := range reasons {
		if _, failed := verdict.Checks(m[1]); (failed == "") != (m[1] == "internal") {
			t.Errorf("%s: the check that failed is %q", m[1], failed)
		}
	}
}

func TestChecks(t *testing.T) {
	for _, tt := range []struct {
		name, reason string
		has          []string
		passed       int
		last, failed string // last: the last one that passed
	}{
		{"a bare token", "", nil, 11, "sender: has what the token is bound to, if it is bound", ""},
		{"a request", "", []string{verdict.Request, verdict.Rule}, 13, "the route's own rule: scopes, login", ""},
		{"a request with a proof", "", []string{verdict.Request, verdict.Proof}, 15, "proof: not used before", ""},
		{"no token", "no_credentials", []string{verdict.Request}, 0, "", "credentials: one token, behind its scheme"},
		{"expired", "expired", []string{verdict.Request}, 8, "audience", "expiry"},
		{"no scope", "insufficient_scope", []string{verdict.Request, verdict.Rule}, 12, "sender: has what the token is bound to, if it is bound", "the route's own rule: scopes, login"},
		{"revoked, which few look at", "revoked", nil, 10, "issued at", "not revoked"},
		{"a proof that is none", "proof_form", []string{verdict.Request, verdict.Proof}, 1, "credentials: one token, behind its scheme", "proof: its form, its algorithm, a public key"},
		{"a reason that no check has", "internal", []string{verdict.Request}, 0, "", ""},
	} {
		passed, failed := verdict.Checks(tt.reason, tt.has...)
		last := ""
		if len(passed) > 0 {
			last = passed[len(passed)-1]
		}
		if len(passed) != tt.passed || last != tt.last || failed != tt.failed {
			t.Errorf("%s: %q passed and %q failed, want %d to pass, %q last, and %q to fail", tt.name, passed, failed, tt.passed, tt.last, tt.failed)
		}
		if slices.Contains(passed, failed) {
			t.Errorf("%s: %q passed and failed", tt.name, failed)
		}
	}
}

func TestWhy(t *testing.T) {
	record := slog.NewRecord(time.Time{}, slog.LevelDebug, "bearer: request refused", 0)
	record.AddAttrs(slog.Int("status", 401), slog.String("want", "this"))
	if got := verdict.Why(record); len(got) != 2 || got["status"] != "401" || got["want"] != "this" {
		t.Errorf("got %q, want status and want", got)
	}
	record.Message = "bearer: keys changed"
	if got := verdict.Why(record); got != nil {
		t.Errorf("of another record: got %q, want nothing", got)
	}
}
