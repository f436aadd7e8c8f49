package jwks

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"example.com/bearer/internal/clip"
	"example.com/bearer/internal/strictjson"
)

const (
	metadataLife     = 24 * time.Hour
	metadataTimeout  = 8 * time.Second // if the keys may be where they were; they get the rest of the time
	metadataPatience = time.Hour       // how long metadata may fail unreported
)

// A place is what discovery found out.
type place struct {
	url   string    // of the key set; "" if unknown
	until time.Time // no discovery before that
	err   error     // why the latest discovery failed; nil if it did not
	since time.Time // … and the first one in a row
}

// failsForLong reports whether no discovery has succeeded for long although some
// were made.
func (p place) failsForLong(now time.Time) bool {
	return p.err != nil && since(now, p.since) >= metadataPatience
}

// A job is what one fetch has at hand. No other goroutine sees it, so that one
// which was abandoned harms nothing.
type job struct {
	s   *Source // of which it reads what does not change
	old *Set    // that is to be replaced; may be nil
	haul
}

// fetch gets the key set, and before that its URL if need be.
func (j *job) fetch(ctx context.Context) error {
	switch {
	case j.s.cfg.Fetch != nil:
		document, err := j.s.cfg.Fetch(ctx)
		if err != nil {
			return err
		}
		if len(document) > maxDocument {
			return errTooLarge
		}
		if j.set, err = j.read(string(document)); err == nil {
			j.set.life = defaultLife
		}
		return err
	case j.s.cfg.URL != "":
		return j.fetchFrom(ctx, j.s.cfg.URL)
	}
	p, gone := &j.place, false
	if before(time.Now(), p.until) {
		err := j.fetchFrom(ctx, p.url)
		if err == nil {
			return nil
		}
		// The keys may have moved. If they are plainly gone, that is looked
		// into at once, and otherwise with the next try.
		p.until = time.Time{}
		if gone = isGone(err); !gone {
			return err
		}
	}
	// If the metadata cannot be had, the last place that they named will do.
	known := p.url != "" && !gone
	discovery := ctx
	if known {
		var cancel context.CancelFunc
		discovery, cancel = context.WithTimeout(ctx, metadataTimeout)
		defer cancel()
	}
	lost := j.discover(discovery)
	if lost != nil && !known {
		return lost
	}
	err := j.fetchFrom(ctx, p.url)
	switch {
	case err == nil:
	case lost != nil:
		err = fmt.Errorf("%w; the last known place of the keys: %w", lost, err)
	case !errors.Is(err, errNoAnswer):
		// The metadata may be wrong. They are kept only if it was the time that
		// did not suffice for both.
		p.until = time.Time{}
	}
	return err
}

// discover gets the issuer's metadata and keeps the URL of its key set. The
// places are those of OpenID Connect Discovery 1.0, section 4, and of RFC 8414,
// sections 3.1 and 5.
func (j *job) discover(ctx context.Context) error {
	issuer := strings.TrimSuffix(j.s.cfg.Base, "/")
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
	var failed []string
	for _, from := range places {
		var location string
		if location, err = j.metadata(ctx, from); err == nil {
			j.place = place{url: strings.Clone(location), until: time.Now().Add(metadataLife)}
			return nil
		}
		failed = append(failed, err.Error())
		// Whatever answer is not metadata sends to the next place. No answer at
		// all says nothing of this one, and metadata of another issuer are a
		// mistake that must not be passed over.
		if errors.Is(err, errNoAnswer) || errors.Is(err, errForeign) {
			failed = failed[len(failed)-1:]
			break
		}
	}
	err = &fetchError{"discovery: " + strings.Join(failed, "; "), err}
	if j.place.err == nil {
		j.place.since = time.Now()
	}
	j.place.err = err
	return err
}

// errForeign is metadata that must not be used.
var errForeign = errors.New("not the issuer's metadata")

// metadata returns the URL of the key set that the metadata at from name.
func (j *job) metadata(ctx context.Context, from string) (location string, err error) {
	d, err := j.get(ctx, from, "application/json", nil)
	if err != nil {
		return "", err
	}
	fail := func(kind error, format string, args ...any) (string, error) {
		return "", &fetchError{shown(from) + ": " + fmt.Sprintf(format, args...), kind}
	}
	var named string
	isNamed := false
	o := strictjson.Object{Text: []byte(d.text)}
	for o.Next() {
		switch string(o.Name) {
		case "issuer":
			named, isNamed = o.Value.Text()
		case "jwks_uri":
			location, _ = o.Value.Text()
		}
	}
	switch err := o.Err(); {
	case err != nil:
		return fail(err, "the metadata is %v", err)
	case !isNamed:
		return fail(nil, "the metadata names no issuer")
	case named != j.s.cfg.Issuer:
		// RFC 8414, section 3.3: or else one issuer could speak for another.
		text := fmt.Sprintf("the metadata is that of %q, want %q", clip.String(named), j.s.cfg.Issuer)
		if hint := clip.Difference(named, j.s.cfg.Issuer); hint != "" {
			text += ": " + hint
		}
		return fail(errForeign, "%s", text)
	case location == "":
		return fail(nil, "the metadata has no \"jwks_uri\"")
	}
	if err := j.s.checkLocation(location); err != nil {
		return fail(errForeign, "\"jwks_uri\": %v", err)
	}
	return location, nil
}

// checkLocation reports what keeps a URL that metadata named from being used.
func (s *Source) checkLocation(location string) error {
	base, err := url.Parse(s.cfg.Base)
	if err != nil {
		return err
	}
	if u, err := url.Parse(location); err == nil && s.cfg.InsecureHTTP && strings.EqualFold(u.Hostname(), base.Hostname()) {
		return CheckInsecureURL(location)
	}
	return CheckURL(location)
}
