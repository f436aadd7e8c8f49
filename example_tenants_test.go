package bearer_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log"
	"net/http"
	"strings"
	"sync"

	"example.com/bearer"
	"example.com/bearer/bearertest"
)

// Tenants is where the customers' issuers are kept: a table, in a real program.
type Tenants interface {
	// Audience returns what the tenant's tokens have as "aud". The error is
	// sql.ErrNoRows if there is no tenant with this issuer.
	Audience(ctx context.Context, issuer string) (string, error)
}

// A table is Tenants in memory.
type table map[string]string

func (t table) Audience(_ context.Context, issuer string) (string, error) {
	if audience, ok := t[issuer]; ok {
		return audience, nil
	}
	return "", sql.ErrNoRows
}

// A registry makes a Middleware for each tenant when its first token comes, and keeps
// it: it holds the tenant's keys.
type registry struct {
	tenants Tenants
	client  *http.Client
	made    sync.Map // issuer and audience -> *bearer.Middleware
}

func (r *registry) find(ctx context.Context, issuer string) (*bearer.Middleware, error) {
	audience, err := r.tenants.Audience(ctx, issuer)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil // nobody's: 401
	}
	if err != nil {
		return nil, err // cannot be told: 503
	}
	key := [2]string{issuer, audience}
	if m, ok := r.made.Load(key); ok {
		return m.(*bearer.Middleware), nil
	}
	m, err := bearer.New(bearer.Config{Issuer: issuer, Audience: []string{audience}, Client: r.client})
	if err != nil {
		return nil, err
	}
	kept, _ := r.made.LoadOrStore(key, m)
	return kept.(*bearer.Middleware), nil
}

// Customers who bring their own issuers, and come and go while the program runs.
// Two of them may have a user of the same name: what belongs to a user goes by
// issuer and subject.
func ExampleConfig_findIssuer() {
	acme, globex := bearertest.NewIssuer("https://login.acme.example"), bearertest.NewIssuer("https://sso.globex.example/")
	stranger := bearertest.NewIssuer("https://login.evil.example")
	tenants := table{acme.URL: "https://api.example.com", globex.URL: "globex-api"}

	registry := &registry{tenants: tenants, client: clientOf(acme, globex, stranger)}
	auth, err := bearer.New(bearer.Config{FindIssuer: registry.find})
	if err != nil {
		log.Fatal(err)
	}

	type user struct{ issuer, subject string }
	notes := map[user]string{{acme.URL, "alice"}: "buy rockets"}
	h := auth.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, _ := bearer.FromContext(r.Context())
		fmt.Fprintf(w, "%q", notes[user{c.Issuer, c.Subject}])
	}))

	alice := bearertest.Claims{"sub": "alice"}
	request(h, "GET", "/notes", acme.Token("https://api.example.com", alice))
	request(h, "GET", "/notes", globex.Token("globex-api", alice))
	request(h, "GET", "/notes", globex.Token("https://api.example.com", alice))
	request(h, "GET", "/notes", stranger.Token("https://api.example.com", alice))
	fmt.Println("fetches from the stranger:", stranger.Fetches())
	// Output:
	// GET /notes 200 "buy rockets"
	// GET /notes 200 ""
	// GET /notes 401 {"error":"invalid_token","error_description":"the token's audience is not accepted"}
	// GET /notes 401 {"error":"invalid_token","error_description":"the token's issuer is not accepted"}
	// fetches from the stranger: 0
}

// clientOf returns a client that reaches several issuers.
func clientOf(issuers ...*bearertest.Issuer) *http.Client {
	return &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		for _, iss := range issuers {
			if strings.HasPrefix(iss.URL+"/", "https://"+r.URL.Host+"/") {
				return iss.Client().Transport.RoundTrip(r)
			}
		}
		return nil, fmt.Errorf("no route to %s", r.URL.Host)
	})}
}
