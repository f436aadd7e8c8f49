package bearer

import (
	"encoding/base64"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"example.com/bearer/internal/jose"
)

// Claims that are accepted without golang-jwt's validator are those that it accepts, but
// for those that become valid in this very microsecond: for all dates about the borders,
// with each other, and all kinds of issuers and audiences.
func TestAcceptsAsValidator(t *testing.T) {
	const issuer, audience = "https://login.example.com/", "https://api.example.com"
	for _, leeway := range []time.Duration{-1, 0, time.Second / 2, 10 * time.Minute} {
		synctest.Test(t, func(t *testing.T) { // so that the time is the same for both
			m, err := New(Config{Issuer: issuer, Audience: []string{"https://b.example", audience}, Leeway: leeway})
			if err != nil {
				t.Fatal(err)
			}
			v, now := m.issuers.all[0], time.Now()
			dates := []int64{absent, 0, math.MaxInt32 * 1e6, jose.MaxNumericDate * 1e6}
			for _, border := range []time.Time{now.Add(-v.leeway), now, now.Add(v.leeway)} {
				dates = append(dates, border.UnixMicro()-1, border.UnixMicro(), border.UnixMicro()+1)
			}
			accepted, all := 0, 0
			for _, iss := range []string{"", issuer, issuer + "/", "https://login.example.com"} {
				for _, values := range [][]string{nil, {""}, {audience}, {"", audience}, {"x", audience}, {"x"}, {audience + "/"}, {"x", "", audience}} {
					var aud [][]byte
					for _, value := range values {
						aud = append(aud, []byte(value))
					}
					for _, exp := range dates {
						for _, nbf := range dates {
							for _, iat := range dates {
								token := &verified{by: v, expires: exp, notBefore: nbf, issued: iat}
								token.setSpan(v.leeway)
								token.write("", &[numParts][]byte{partIssuer: []byte(iss)}, aud)
								c := token.copy()
								got, err := v.accepts(token, iss, now), v.validator.Validate(registeredClaims{c, iss})
								if begins := token.from == now.UnixMicro(); got != (err == nil && !begins) {
									t.Fatalf("leeway %v, now %v: accepts = %v, the validator says %v: %+v", v.leeway, now, got, err, c)
								}
								all++
								if got {
									accepted++
								}
							}
						}
					}
				}
			}
			if accepted == 0 || accepted == all {
				t.Errorf("%d of %d are accepted: that proves nothing", accepted, all)
			}
		})
	}
}

// What a token's header takes if it was seen before, as nearly all were, and if it has to
// be read. By itself, since beside a signature check neither would be seen.
func BenchmarkHeaders(b *testing.B) {
	m, err := New(Config{Issuer: "https://login.example.com/", Audience: []string{"https://api.example.com"}})
	if err != nil {
		b.Fatal(err)
	}
	v := m.issuers.all[0]
	t, err := newToken(base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"RS256","typ":"at+jwt","kid":"0123456789abcdef"}`))+".e30.AAAA", defaultMaxLength)
	if err != nil {
		b.Fatal(err)
	}
	if err := t.decode(); err != nil {
		b.Fatal(err)
	}
	decoded := t.scratch.used
	read := func() *header {
		t.scratch.used = decoded
		h, err := t.readHeader(v.algorithms, v.types)
		if err != nil {
			b.Fatal(err)
		}
		return h
	}
	v.headers.put(nil, t.Header, read())
	b.Run("seen", func(b *testing.B) {
		for b.Loop() {
			if v.headers.get(t.Header) == nil {
				b.Fatal("not remembered")
			}
		}
	})
	b.Run("new", func(b *testing.B) {
		for b.Loop() {
			read()
		}
	})
}
