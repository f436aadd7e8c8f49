package dpop

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"example.com/bearer/internal/jose"
)

// Headers that are used stay remembered however many others come, which have their
// bounds.
func TestHeaders(t *testing.T) {
	var h headers
	key := new(jose.Key)
	if _, ok := h.get("used"); ok {
		t.Fatal("a header is remembered that nobody kept")
	}
	h.keep("used", header{key: key})
	for i := range 10 * maxHeaders {
		h.keep(fmt.Sprint(i), header{key: new(jose.Key)})
		if i%1000 == 0 {
			found, ok := h.get("used")
			if !ok || found.key != key {
				t.Fatalf("after %d others: got %v, %v, want the header", i, found, ok)
			}
			h.keep("used", found)
		}
	}
	if n := len(h.young) + len(h.old); n > 2*maxHeaders {
		t.Errorf("%d headers are remembered, want %d at most", n, 2*maxHeaders)
	}
	if _, ok := h.get("0"); ok {
		t.Error("a header is remembered that came long ago")
	}
	long := strings.Repeat("x", maxHeaderLength)
	h.keep(long, header{key: key})
	h.keep(long+"x", header{key: key})
	if _, ok := h.get(long); !ok {
		t.Error("a header of 2 KiB is not remembered")
	}
	if _, ok := h.get(long + "x"); ok {
		t.Error("a longer header is remembered")
	}
}

// A header is remembered once a signature was good, and not before.
func TestHeadersOfGoodProofsOnly(t *testing.T) {
	v := rfcVerifier(t)
	encoded, _, _ := strings.Cut(rfcProof, ".")
	for _, tt := range []struct {
		name, proof, thumbprint string
		want                    bool
	}{
		{"another key's", rfcProof, "", false},
		{"bad signature", strings.Replace(rfcProof, ".2oW9", ".3oW9", 1), rfcThumbprint, false},
		{"good signature", rfcProof, rfcThumbprint, true},
	} {
		p, err := v.Parse([]string{tt.proof})
		if err != nil {
			t.Fatal(err)
		}
		v.Check(t.Context(), p, Request{Thumbprint: tt.thumbprint}, birth) // not for this request
		if _, ok := v.headers.get(encoded); ok != tt.want {
			t.Errorf("%s: remembered = %v, want %v", tt.name, ok, tt.want)
		}
	}
}

// The places that a key may take are those of the token's key.
func TestShareIsTheKeys(t *testing.T) {
	made := time.Unix(1562262618, 0)
	for _, tt := range []struct {
		name, owner string
		want        error
	}{
		{"this key has taken its share", rfcThumbprint, errOwnerFull},
		{"another key has", "another", nil},
	} {
		v := rfcVerifier(t)
		for i := range uint64(ownerPlaces) {
			if _, err := v.memory.add(number(i), tt.owner, time.Minute, made); err != nil {
				t.Fatal(err)
			}
		}
		p, err := v.Parse([]string{rfcProof})
		if err != nil {
			t.Fatal(err)
		}
		r := Request{Method: "GET", Path: "/protectedresource", Token: "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU", Thumbprint: rfcThumbprint}
		_, err = v.Check(t.Context(), p, r, made)
		var e *Error
		if !errors.Is(err, tt.want) || errors.As(err, &e) && e.Code != Unavailable {
			t.Errorf("%s: got %v, want %v", tt.name, err, tt.want)
		}
	}
}

func rfcVerifier(t *testing.T) *Verifier {
	v, err := New(Settings{BaseURLs: []string{"https://resource.example.org"}})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// The proof of RFC 9449, figure 13.
const (
	rfcThumbprint = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"
	rfcProof      = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiJlMWozVl9iS2ljOC1MQUVCIiwiaHRtIjoiR0VUIiwiaHR1IjoiaHR0cHM6Ly9yZXNvdXJjZS5leGFtcGxlLm9yZy9wcm90ZWN0ZWRyZXNvdXJjZSIsImlhdCI6MTU2MjI2MjYxOCwiYXRoIjoiZlVIeU8ycjJaM0RaNTNFc05yV0JiMHhXWG9hTnk1OUlpS0NBcWtzbVFFbyJ9.2oW9RP35yRqzhrtNP86L-Ey71EOptxRimPPToA1plemAgR6pxHF8y6-yqyVnmcw6Fy1dqd-jfxSYoMxhAJpLjA"
)
