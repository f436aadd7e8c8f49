package differential_test

import (
	"slices"
	"testing"
)

// rounds returns n, or less for an algorithm that takes long to sign or verify.
func rounds(alg string, n int) int {
	switch alg {
	case "EdDSA", "ES256":
		return n
	case "ES384", "ES512":
		return n / 10
	}
	return n / 4
}

// eachAlgorithm runs test for all algorithms, each with a corpus of its own.
func eachAlgorithm(t *testing.T, test func(t *testing.T, alg string, g corpus)) {
	for i, alg := range algorithms {
		t.Run(alg, func(t *testing.T) {
			t.Parallel()
			test(t, alg, newCorpus(uint64(i)))
		})
	}
}

// Tokens as an issuer may write them: all accept them, and find the same claims
// in them.
func TestGoodTokens(t *testing.T) {
	eachAlgorithm(t, func(t *testing.T, alg string, g corpus) {
		auth := newAuth(keySet())
		for range rounds(alg, 500) {
			token := sign(alg, g.object(g.header(alg)), g.object(g.payload()))
			if accepted, _, err := compare(t, auth, token); !accepted {
				t.Errorf("refused: %v\n%s", err, readable(token))
			}
			if t.Failed() {
				return // a few examples are enough
			}
		}
	})
}

// Tokens with odd claims and header parameters, under a good signature. What is
// accepted here, all accept. What all accept is refused here for a reason that
// TestStricter has a row for, and for no other.
func TestOddTokens(t *testing.T) {
	reasons := []string{"crit", "type", "malformed", "unknown_key", "claim_type", "bound"}
	eachAlgorithm(t, func(t *testing.T, alg string, g corpus) {
		auth := newAuth(keySet())
		n := rounds(alg, 1000)
		good, odd := 0, 0
		for range n {
			header, payload := g.header(alg), g.payload()
			g.spoil(&header, &payload)
			token := sign(alg, g.object(header), g.object(payload))
			accepted, by, err := compare(t, auth, token)
			switch {
			case accepted:
				good++
			case len(by) < len(peers):
				odd++
			case !slices.Contains(reasons, reason(err)):
				t.Errorf("refused, though everybody else accepts it: %v\n%s", err, readable(token))
			}
			if t.Failed() {
				return
			}
		}
		// Otherwise the corpus is no good.
		if good < n/20 || odd < n/4 {
			t.Errorf("of %d tokens %d are accepted and %d refused by several, want more", n, good, odd)
		}
	})
}
