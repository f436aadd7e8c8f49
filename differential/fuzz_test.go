package differential_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// FuzzDifferential signs what the fuzzer writes, so that it gets past the
// signature, and compares what package bearer and its peers say. Then it
// changes the token: each two bytes of changes say which of the mutations to
// make, and how.
//
// -fuzzminimizetime 10x keeps it from spending its time on making texts shorter.
func FuzzDifferential(f *testing.F) {
	header := `{"alg":"ES256","kid":"P-256"}`
	payload := fmt.Sprintf(`{"iss":%q,"aud":%q,"exp":4102444800}`, issuer, audience)
	f.Add(header, payload, "")
	for i := range mutations {
		f.Add(header, payload, string([]byte{byte(i), 1}))
	}
	g := newCorpus(0)
	for _, alg := range append(algorithms, "Ed25519") {
		f.Add(g.object(g.header(alg)), g.object(g.payload()), "\x00\x00\x01\x01")
	}
	for range 50 {
		h, p := g.header("EdDSA"), g.payload()
		g.spoil(&h, &p)
		f.Add(g.object(h), g.object(p), "")
	}
	for _, e := range excuses {
		if header, payload := decode(e.token()); e.mangle == nil {
			f.Add(header, payload, "")
		}
	}
	auth := newAuth(keySet())
	f.Fuzz(func(t *testing.T, header, payload, changes string) {
		var h struct{ Alg string }
		json.Unmarshal([]byte(header), &h)
		if _, ok := signers()[h.Alg]; !ok {
			h.Alg = "EdDSA"
		}
		token := sign(h.Alg, header, payload)
		if ok, _, _ := compare(t, auth, token); !ok || len(changes) < 2 {
			return
		}
		parts := strings.Split(token, ".")
		for i := 0; i+1 < len(changes) && len(parts) == 3 && !slices.Contains(parts, ""); i += 2 {
			m := mutations[int(changes[i])%len(mutations)]
			parts = m.mutate(corpus{rand.New(rand.NewPCG(uint64(changes[i+1]), 0))}, slices.Clone(parts), parts)
		}
		if mutant := strings.Join(parts, "."); mutant != token {
			mustRefuse(t, auth, mutant, "changed")
		}
	})
}
