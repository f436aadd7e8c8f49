package dpop_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"example.com/bearer/internal/dpop"
)

// makeNonce makes the nonce of a period as it is specified.
func makeNonce(key []byte, resource string, period uint32) string {
	b := binary.BigEndian.AppendUint32([]byte{1}, period)
	mac := hmac.New(sha256.New, key)
	mac.Write(append([]byte("bearer dpop nonce\x00"+resource+"\x00"), b[1:]...))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(b)[:33])
}

func TestNonce(t *testing.T) {
	key, old := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 40)
	v := newVerifier(t, dpop.Settings{NonceKeys: [][]byte{key, old}, Resource: "https://api.example.com/r"})
	const period = 18000000
	start := time.Unix(period*100, 0)
	made := func(key []byte, p int) string { return makeNonce(key, "https://api.example.com/r", uint32(period+p)) }
	newest := made(key, 0)
	if got := v.Nonce(start); got != newest || len(got) != 44 {
		t.Fatalf("the newest nonce is %q, want %q", got, newest)
	}
	good := `"` + newest + `"`
	for _, tt := range []struct {
		name  string
		at    time.Duration // since start
		nonce string        // as the claim stands in JSON; empty for none
		want  string        // code and reason
		sent  string
	}{
		{"newest", 0, good, "", ""},
		{"newest at its end", 99 * time.Second, good, "", ""},
		{"of the period before", 100 * time.Second, good, "", made(key, 1)},
		{"nearly over", 399999 * time.Millisecond, good, "", made(key, 3)},
		{"over", 400 * time.Second, good, "use_dpop_nonce nonce", ""},
		{"of the next period", -1 * time.Second, good, "", ""},
		{"of the next period, the first moment", -100 * time.Second, good, "", ""},
		{"of the next but one", -101 * time.Second, good, "use_dpop_nonce nonce", ""},
		{"of the second key", 0, `"` + made(old, 0) + `"`, "", newest},
		{"of the second key, before", 0, `"` + made(old, -3) + `"`, "", newest},
		{"of the second key, next period", 0, `"` + made(old, 1) + `"`, "", ""},
		{"of a key that is gone", 0, `"` + made(bytes.Repeat([]byte{3}, 32), 0) + `"`, "use_dpop_nonce nonce", ""},
		{"of another resource", 0, `"` + makeNonce(key, "https://api.example.com/s", period) + `"`, "use_dpop_nonce nonce", ""},
		{"none", 0, "", "use_dpop_nonce nonce", ""},
		{"a number", 0, "5", "use_dpop_nonce nonce", ""},
		{"null", 0, "null", "use_dpop_nonce nonce", ""},
		{"an array", 0, "[" + good + "]", "use_dpop_nonce nonce", ""},
		{"empty", 0, `""`, "use_dpop_nonce nonce", ""},
		{"shortened", 0, `"` + newest[:43] + `"`, "use_dpop_nonce nonce", ""},
		{"padded", 0, `"` + newest + `="`, "use_dpop_nonce nonce", ""},
		{"another last character", 0, `"` + respell(newest) + `"`, "use_dpop_nonce nonce", ""},
		{"another period with the same code", 0, `"` + made(key, 1)[:7] + newest[7:] + `"`, "use_dpop_nonce nonce", ""},
	} {
		p := with("iat", "7") // which nobody looks at
		if tt.nonce != "" {
			p = edit(p, "nonce", tt.nonce)
		}
		r := dpop.Request{Method: "GET", Path: "/a", Token: token, Thumbprint: alice.thumbprint()}
		got, err := judge(v, r, start.Add(tt.at), alice.sign(alice.header(), p))
		if word(err) != tt.want || got.Nonce != tt.sent {
			t.Errorf("%s: got %v and the nonce %q, want %q and %q", tt.name, err, got.Nonce, tt.want, tt.sent)
		}
		if err != nil && strings.Contains(err.Error(), newest[10:]) {
			t.Errorf("%s: the error tells the nonce: %v", tt.name, err)
		}
	}
}

// With nonces the time counts only if MaxAge says so.
func TestNonceAndTime(t *testing.T) {
	keys := [][]byte{bytes.Repeat([]byte{1}, 32)}
	for _, tt := range []struct {
		name   string
		maxAge time.Duration
		iat    string
		want   string
	}{
		{"old", 0, "7", ""},
		{"old with a limit", 5 * time.Minute, "7", invalid("proof_iat")},
		{"new with a limit", 5 * time.Minute, "1799999700", ""},
		{"none", 0, "", invalid("proof_iat")},
		{"a string", 0, `"1800000000"`, invalid("proof_iat")},
		{"years ahead", 0, "1900000000", ""},
		{"years ahead with a limit", 5 * time.Minute, "1900000000", invalid("proof_iat")},
	} {
		v := newVerifier(t, dpop.Settings{NonceKeys: keys, MaxAge: tt.maxAge})
		p := edit(with("iat", tt.iat), "nonce", `"`+v.Nonce(now)+`"`)
		if got := verdict(v, alice.thumbprint(), alice.sign(alice.header(), p)); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

// A proof with a nonce is remembered for as long as the nonce is good.
func TestReplayWithNonce(t *testing.T) {
	v := newVerifier(t, dpop.Settings{NonceKeys: [][]byte{bytes.Repeat([]byte{1}, 32)}})
	proof := alice.sign(alice.header(), edit(payload(), "nonce", `"`+v.Nonce(now.Add(100*time.Second))+`"`))
	r := dpop.Request{Method: "GET", Path: "/a", Token: token, Thumbprint: alice.thumbprint()}
	for _, tt := range []struct {
		at   time.Duration
		want string
	}{
		{0, ""},
		{1 * time.Second, invalid("proof_replay")},
		{499 * time.Second, invalid("proof_replay")},
		{500 * time.Second, "use_dpop_nonce nonce"},
	} {
		if _, err := judge(v, r, now.Add(tt.at), proof); word(err) != tt.want {
			t.Errorf("after %v: got %v, want %q", tt.at, err, tt.want)
		}
	}
}

func TestNoNonces(t *testing.T) {
	if got := newVerifier(t, dpop.Settings{}).Nonce(now); got != "" {
		t.Errorf("got the nonce %q, want none", got)
	}
}
