package jwks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"example.com/bearer/internal/clip"
)

const (
	maxDocument  = 1 << 20 // bytes of metadata and of a key set, decompressed
	maxRedirects = 5
)

// A document is what a GET brought.
type document struct {
	text      string
	header    http.Header
	unchanged bool // the one that was there before still holds
}

// A statusError is an HTTP status that is of no use.
type statusError int

func (e statusError) Error() string { return "status " + strconv.Itoa(int(e)) }

func isGone(err error) bool {
	var status statusError
	return errors.As(err, &status) && (status == http.StatusNotFound || status == http.StatusGone)
}

// get fetches a document. If old is from the same place, one that has not
// changed since is not sent again.
func (s *Source) get(ctx context.Context, location, accept string, old *Set) (document, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, location, nil)
	if err != nil {
		return document{}, err
	}
	req.Header.Set("Accept", accept)
	conditional := old != nil && old.url == location && old.etag != ""
	if conditional {
		req.Header.Set("If-None-Match", old.etag)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return document{}, err
	}
	defer resp.Body.Close()
	d := document{header: resp.Header}
	if conditional && resp.StatusCode == http.StatusNotModified {
		d.unchanged = true
		return d, nil
	}
	if resp.StatusCode != http.StatusOK {
		return d, fmt.Errorf("%s: %w", location, statusError(resp.StatusCode))
	}
	// Decompressed bytes are counted, so a small bomb is no way around it.
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxDocument+1))
	if err != nil {
		return d, fmt.Errorf("%s: %w", location, err)
	}
	if len(body) > maxDocument {
		return d, fmt.Errorf("%s: more than %d bytes", location, maxDocument)
	}
	d.text = string(body)
	return d, nil
}

// life returns how long a key set with the response header h serves before a
// newer one is looked for.
func life(h http.Header) time.Duration {
	var maxAge, age time.Duration
	given := false
	for directive := range strings.SplitSeq(strings.Join(h.Values("Cache-Control"), ","), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(directive), "=")
		switch strings.ToLower(name) {
		case "no-store", "no-cache":
			return minLife
		case "max-age":
			maxAge, given = seconds(strings.Trim(value, `"`)), true
		}
	}
	if !given {
		return defaultLife - rand.N(defaultLife/10)
	}
	age = seconds(h.Get("Age"))
	return min(max(maxAge-age, minLife), maxLife)
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

// newClient returns a client for metadata and keys that goes where it was sent:
// a redirect to another host or scheme is not followed.
func newClient(c *http.Client) *http.Client {
	own := http.Client{}
	if c != nil {
		own = *c
	}
	own.CheckRedirect = func(req *http.Request, via []*http.Request) error {
		if from := via[0].URL; req.URL.Scheme != from.Scheme || req.URL.Host != from.Host {
			return fmt.Errorf("redirect to another host or scheme: %s", clip.String(req.URL.Scheme+"://"+req.URL.Host))
		}
		if len(via) > maxRedirects {
			return errors.New("too many redirects")
		}
		return nil
	}
	return &own
}

// CheckURL reports what keeps raw from being a URL to fetch keys from.
func CheckURL(raw string) error {
	u, err := url.Parse(raw)
	switch {
	case err != nil, u.Hostname() == "", u.Opaque != "", u.User != nil, u.Fragment != "":
		return fmt.Errorf("%q is not an absolute https URL without user and fragment", clip.String(raw))
	case u.Scheme == "https", u.Scheme == "http" && isLoopback(u.Hostname()):
		return nil
	}
	return fmt.Errorf("%q must use https (http is for loopback hosts only)", clip.String(raw))
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || ip.IsLoopback()
}
