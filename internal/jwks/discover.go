package jwks

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"time"

	"example.com/bearer/internal/clip"
	"example.com/bearer/internal/strictjson"
)

const metadataLife = 24 * time.Hour

// fetch gets the key set, which is to replace old, and before that its URL if
// need be.
func (s *Source) fetch(ctx context.Context, old *Set) (*Set, error) {
	if s.cfg.URL != "" {
		return s.fetchFrom(ctx, s.cfg.URL, old)
	}
	gone := false
	if time.Now().Before(s.metadataUntil) {
		fresh, err := s.fetchFrom(ctx, s.metadata, old)
		if err == nil {
			return fresh, nil
		}
		// The keys may have moved. If they are plainly gone, that is looked
		// into at once, and otherwise with the next try.
		s.metadataUntil = time.Time{}
		if gone = isGone(err); !gone {
			return nil, err
		}
	}
	if err := s.discover(ctx); err != nil && (s.metadata == "" || gone) {
		return nil, err
	}
	// If the metadata cannot be had, the last place that they named will do.
	fresh, err := s.fetchFrom(ctx, s.metadata, old)
	if err != nil {
		s.metadataUntil = time.Time{}
	}
	return fresh, err
}

// fetchFrom gets the key set at location.
func (s *Source) fetchFrom(ctx context.Context, location string, old *Set) (*Set, error) {
	d, err := s.get(ctx, location, "application/jwk-set+json, application/json", old)
	if err != nil {
		return nil, err
	}
	if d.unchanged {
		fresh := *old
		fresh.life = life(d.header)
		return &fresh, nil
	}
	fresh, err := readSet(d.text, s.cfg.Algorithms, old)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", location, err)
	}
	fresh.url, fresh.etag, fresh.life = location, d.header.Get("ETag"), life(d.header)
	return fresh, nil
}

// discover gets the issuer's metadata and keeps the URL of its key set. The
// places are those of OpenID Connect Discovery 1.0, section 4, and of RFC 8414,
// sections 3.1 and 5.
func (s *Source) discover(ctx context.Context) error {
	issuer := strings.TrimSuffix(s.cfg.Base, "/")
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
		if d, err = s.get(ctx, place, "application/json", nil); err == nil || !isGone(err) {
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
	if named != s.cfg.Issuer {
		return fmt.Errorf("discovery: the metadata is that of %q, want %q", clip.String(named), s.cfg.Issuer)
	}
	if err := CheckURL(location); err != nil {
		return fmt.Errorf("discovery: \"jwks_uri\": %w", err)
	}
	s.metadata, s.metadataUntil = location, time.Now().Add(metadataLife)
	return nil
}
