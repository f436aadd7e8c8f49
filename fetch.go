package bearer

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

	"example.com/bearer/internal/strictjson"
)

// fetch gets the key set, which is to replace old, and before that its URL if
// need be.
func (k *keys) fetch(ctx context.Context, old *fetchedSet) (*fetchedSet, error) {
	if k.jwksURL != "" {
		return k.fetchFrom(ctx, k.jwksURL, old)
	}
	gone := false
	if time.Now().Before(k.metadataUntil) {
		fresh, err := k.fetchFrom(ctx, k.metadata, old)
		if err == nil {
			return fresh, nil
		}
		// The keys may have moved. If they are plainly gone, that is looked
		// into at once, and otherwise with the next try.
		k.metadataUntil = time.Time{}
		if gone = isGone(err); !gone {
			return nil, err
		}
	}
	if err := k.discover(ctx); err != nil && (k.metadata == "" || gone) {
		return nil, err
	}
	// If the metadata cannot be had, the last place that they named will do.
	fresh, err := k.fetchFrom(ctx, k.metadata, old)
	if err != nil {
		k.metadataUntil = time.Time{}
	}
	return fresh, err
}

// fetchFrom gets the key set at location.
func (k *keys) fetchFrom(ctx context.Context, location string, old *fetchedSet) (*fetchedSet, error) {
	d, err := k.get(ctx, location, "application/jwk-set+json, application/json", old)
	if err != nil {
		return nil, err
	}
	fresh := &fetchedSet{url: location, etag: d.header.Get("ETag"), life: life(d.header)}
	if d.unchanged {
		fresh.keySet, fresh.etag = old.keySet, old.etag
		return fresh, nil
	}
	var before *keySet
	if old != nil {
		before = old.keySet
	}
	if fresh.keySet, err = readKeySet(d.text, k.algorithms, before); err != nil {
		return nil, fmt.Errorf("%s: %w", location, err)
	}
	return fresh, nil
}

// discover gets the issuer's metadata and keeps the URL of its key set. The
// places are those of OpenID Connect Discovery 1.0, section 4, and of RFC 8414,
// sections 3.1 and 5.
func (k *keys) discover(ctx context.Context) error {
	issuer := strings.TrimSuffix(k.base, "/")
	places := []string{issuer + "/.well-known/openid-configuration"}
	u, err := url.Parse(issuer)
	if err != nil {
		return err
	}
	path := u.EscapedPath()
	root := u.Scheme + "://" + u.Host
	places = append(places, root+"/.well-known/oauth-authorization-server"+path)
	if path != "" {
		places = append(places, root+"/.well-known/openid-configuration"+path)
	}
	var d document
	for _, place := range places {
		if d, err = k.get(ctx, place, "application/json", nil); err == nil || !isGone(err) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("discovery: %w", err)
	}
	var named, location string
	o := strictjson.Object{Text: d.text}
	for o.Next() {
		switch o.Name {
		case "issuer":
			named, _ = o.Value.Text()
		case "jwks_uri":
			location, _ = o.Value.Text()
		}
	}
	if err := o.Err(); err != nil {
		return fmt.Errorf("discovery: the metadata is %w", err)
	}
	// RFC 8414, section 3.3: or else one issuer could speak for another.
	if named != k.issuer {
		return fmt.Errorf("discovery: the metadata is that of %q, want %q", clip(named), k.issuer)
	}
	if err := checkURL(location); err != nil {
		return fmt.Errorf("discovery: \"jwks_uri\": %w", err)
	}
	k.metadata, k.metadataUntil = location, time.Now().Add(metadataLife)
	return nil
}

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
func (k *keys) get(ctx context.Context, location, accept string, old *fetchedSet) (document, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, location, nil)
	if err != nil {
		return document{}, err
	}
	req.Header.Set("Accept", accept)
	conditional := old != nil && old.url == location && old.etag != ""
	if conditional {
		req.Header.Set("If-None-Match", old.etag)
	}
	resp, err := k.client.Do(req)
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
			return fmt.Errorf("redirect to another host or scheme: %s", clip(req.URL.Scheme+"://"+req.URL.Host))
		}
		if len(via) > maxRedirects {
			return errors.New("too many redirects")
		}
		return nil
	}
	return &own
}

// checkURL reports what keeps raw from being a URL to fetch keys from.
func checkURL(raw string) error {
	u, err := url.Parse(raw)
	switch {
	case err != nil, u.Hostname() == "", u.Opaque != "", u.User != nil, u.Fragment != "":
		return fmt.Errorf("%q is not an absolute https URL without user and fragment", clip(raw))
	case u.Scheme == "https", u.Scheme == "http" && isLoopback(u.Hostname()):
		return nil
	}
	return fmt.Errorf("%q must use https (http is for loopback hosts only)", clip(raw))
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || ip.IsLoopback()
}
