package jwks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"

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

// A fetchError says what went wrong at which place. Its text never has the query
// of a URL in it, which may be a secret.
type fetchError struct {
	text string
	err  error // what errors.Is may ask for
}

func (e *fetchError) Error() string { return e.text }
func (e *fetchError) Unwrap() error { return e.err }

// A statusError is an HTTP status that is of no use.
type statusError int

func (e statusError) Error() string { return "status " + strconv.Itoa(int(e)) }

var (
	errNoAnswer = errors.New("no answer")
	errRedirect = errors.New("redirect to another host or scheme")
)

func isGone(err error) bool {
	var status statusError
	return errors.As(err, &status) && (status == http.StatusNotFound || status == http.StatusGone)
}

// fetchFrom gets the key set at location.
func (j *job) fetchFrom(ctx context.Context, location string) error {
	d, err := j.get(ctx, location, "application/jwk-set+json, application/json", j.old)
	if err != nil {
		return err
	}
	life, said := softLife(d.header)
	if d.unchanged {
		// RFC 9111, section 4.3.4: what the answer does not say stays as it was.
		again := *j.old
		if said {
			again.life = life
		}
		j.set = &again
		return nil
	}
	set, err := j.read(d.text)
	if err != nil {
		return &fetchError{shown(location) + ": " + err.Error(), err}
	}
	set.url, set.etag, set.life = location, strings.Clone(d.header.Get("ETag")), life
	j.set = set
	return nil
}

// read reads a key set, and keeps its text if Cache is to have it.
func (j *job) read(text string) (*Set, error) {
	set, err := readSet(text, j.s.cfg.Algorithms, j.old)
	if err == nil && j.s.cfg.Cache != nil {
		set.keep(text)
	}
	return set, err
}

// get fetches a document. If old is from the same place, one that has not
// changed since is not sent again.
func (j *job) get(ctx context.Context, location, accept string, old *Set) (document, error) {
	fail := func(kind, err error) (document, error) {
		text := err.Error()
		if kind == errNoAnswer {
			text = kind.Error() + ": " + text
		}
		return document{}, &fetchError{withoutQuery(shown(location)+": "+text, location), errors.Join(kind, err)}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, location, nil)
	if err != nil {
		return fail(nil, errors.New("not a URL"))
	}
	req.Header.Set("Accept", accept)
	conditional := old != nil && old.url == location && old.etag != ""
	if conditional {
		req.Header.Set("If-None-Match", old.etag)
	}
	resp, err := j.s.client.Do(req)
	if err != nil {
		// net/http puts the whole URL before what went wrong.
		if wrapped := (*url.Error)(nil); errors.As(err, &wrapped) {
			err = wrapped.Err
		}
		if errors.Is(err, errRedirect) {
			return fail(nil, err)
		}
		return fail(errNoAnswer, err)
	}
	defer resp.Body.Close()
	d := document{header: resp.Header}
	if conditional && resp.StatusCode == http.StatusNotModified {
		d.unchanged = true
		return d, nil
	}
	if resp.StatusCode != http.StatusOK {
		j.retryAfter = max(j.retryAfter, retryAfter(resp.Header))
		return fail(nil, statusError(resp.StatusCode))
	}
	// Decompressed bytes are counted, so a small bomb is no way around it.
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxDocument+1))
	if err != nil {
		return fail(errNoAnswer, err)
	}
	if len(body) > maxDocument {
		return fail(nil, errTooLarge)
	}
	d.text = string(body)
	return d, nil
}

var errTooLarge = fmt.Errorf("more than %d bytes", maxDocument)

// newClient returns a client for metadata and keys that goes where it was sent:
// a redirect to another host or scheme is not followed. All else is that of c.
func newClient(c *http.Client) *http.Client {
	own := http.Client{}
	if c != nil {
		own = *c
	}
	own.CheckRedirect = func(req *http.Request, via []*http.Request) error {
		if origin(req.URL) != origin(via[0].URL) {
			return fmt.Errorf("%w: %s", errRedirect, clip.String(origin(req.URL)))
		}
		if len(via) > maxRedirects {
			return fmt.Errorf("%w: too many", errRedirect)
		}
		return nil
	}
	return &own
}

// origin returns scheme, host and port of u in one spelling: letter case does not
// count, nor does it count whether the default port is named (RFC 9110, section
// 4.2.3).
func origin(u *url.URL) string {
	scheme, host, port := strings.ToLower(u.Scheme), strings.ToLower(u.Hostname()), u.Port()
	if port == "" {
		port = map[string]string{"https": "443", "http": "80"}[scheme]
	}
	return scheme + "://" + net.JoinHostPort(host, port)
}

// CheckURL reports what keeps raw from being a URL to fetch keys from: it must use
// https, or http to this host.
func CheckURL(raw string) error { return checkURL(raw, false) }

// CheckInsecureURL is CheckURL where http may go to any host.
func CheckInsecureURL(raw string) error { return checkURL(raw, true) }

func checkURL(raw string, insecure bool) error {
	u, err := url.Parse(raw)
	switch {
	case err != nil, u.Hostname() == "", u.Opaque != "", u.User != nil, u.Fragment != "":
		return fmt.Errorf("%q is not an absolute https URL without user and fragment", shown(raw))
	case u.Scheme == "https", u.Scheme == "http" && (insecure || isLoopback(u.Hostname())):
		return nil
	}
	return fmt.Errorf("%q must use https (http is for loopback hosts, and for others with InsecureHTTP)", shown(raw))
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || ip.IsLoopback()
}

// shown returns as much of a URL as may be logged: no password, no query.
func shown(raw string) string {
	raw, _, _ = strings.Cut(raw, "?")
	if scheme, rest, ok := strings.Cut(raw, "://"); ok {
		host, path, slash := strings.Cut(rest, "/")
		host = host[strings.LastIndexByte(host, '@')+1:]
		raw = scheme + "://" + host
		if slash {
			raw += "/" + path
		}
	}
	return clip.String(raw)
}

// withoutQuery takes the query of location out of a text that other code wrote.
func withoutQuery(text, location string) string {
	if i := strings.IndexByte(location, '?'); i >= 0 {
		return strings.ReplaceAll(text, location[i:], "")
	}
	return text
}
