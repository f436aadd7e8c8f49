package jwks

import (
	"errors"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// softLife returns how long a key set with the response header h serves before a
// newer one is looked for. It reports false if h says nothing of it.
func softLife(h http.Header) (life time.Duration, said bool) {
	life, said = freshness(h)
	if !said {
		return defaultLife, false
	}
	return min(max(life-seconds(h.Get("Age")), minLife), maxLife), true
}

// freshness returns the lifetime that h gives a response (RFC 9111, section
// 4.2.1). This is a private cache, so that s-maxage does not count.
func freshness(h http.Header) (life time.Duration, said bool) {
	for directive := range strings.SplitSeq(strings.Join(h.Values("Cache-Control"), ","), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(directive), "=")
		switch strings.ToLower(name) {
		case "no-store", "no-cache":
			return 0, true
		case "max-age":
			if !said { // the first one counts
				life, said = seconds(strings.Trim(value, `"`)), true
			}
		}
	}
	if said || len(h.Values("Expires")) == 0 {
		return life, said
	}
	// RFC 9111, section 5.3: what is no date has expired.
	expires, err := http.ParseTime(h.Get("Expires"))
	if err != nil {
		return 0, true
	}
	date, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		date = time.Now()
	}
	return expires.Sub(date), true
}

// retryAfter returns how long the sender of h wants to be left alone (RFC 9110,
// section 10.2.3). Zero means that it does not say.
func retryAfter(h http.Header) time.Duration {
	value := h.Get("Retry-After")
	if t, err := http.ParseTime(value); err == nil {
		return max(time.Until(t), 0)
	}
	return seconds(value)
}

// seconds reads a delta-seconds (RFC 9111, section 1.2.2). What is none counts as
// zero, and what is too large as a very long time.
func seconds(s string) time.Duration {
	n, err := strconv.ParseUint(s, 10, 31)
	if errors.Is(err, strconv.ErrRange) {
		n = math.MaxInt32
	} else if err != nil {
		n = 0
	}
	return time.Duration(n) * time.Second
}
