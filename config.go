package bearer

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"time"
)

// Defaults and bounds of Config.
const (
	defaultLeeway = 60 * time.Second
	maxLeeway     = 10 * time.Minute
)

// A Config says whose tokens an API accepts. Issuer, or IssuerTemplate in its
// place, and Audience, or Resource in its place, are required, or else FindIssuer; the
// zero value of every other field is a safe default.
type Config struct {
	_ [0]func() // no comparison, no literals without field names

	// Issuer is the authorization server whose tokens are accepted, exactly as
	// it stands in their "iss" claim: a slash at the end counts. It must be an
	// https URL (http on loopback hosts, or with InsecureHTTP), from which the keys
	// are found, unless JWKSURL or FetchKeys is set; then it may be any string.
	Issuer string

	// IssuerTemplate takes the place of Issuer for an authorization server that
	// names itself differently for each tenant, as Microsoft Entra ID does:
	// "https://login.microsoftonline.com/{tenantid}/v2.0". The "iss" of a token
	// must be the template with the token's "tid" claim in each place that says
	// {tenantid}, and so must
	// the "issuer" of the key that signed it, if the key has one that is not the
	// template itself. Keys are found by discovery with "common" filled in.
	IssuerTemplate string

	// Tenants lists the tenants, the "tid" claims, that are accepted with
	// IssuerTemplate. If it is empty every tenant is, and anybody can have one:
	// Require must then decide by the tenant.
	Tenants []string

	// FindIssuer says who judges the tokens of issuers that are not known when the
	// program starts, such as those of customers who bring their own. It is asked
	// with the exact "iss" of a token, before anything is fetched, and returns the
	// Middleware that judges the tokens of that issuer, made by New with this issuer
	// and an audience; or nil if nobody of that name is an issuer here, and its tokens get
	// 401; or an error, for which tokens get 503. It should return the same Middleware as long
	// as nothing changes, since that holds the issuer's keys.
	//
	// The name comes from a stranger: look it up, do not make a URL of it. It has 1
	// to 256 bytes and no control characters. Two tenants can have users of the
	// same name, so what belongs to a user goes by Claims.Issuer and Claims.Subject.
	//
	// An answer counts for a minute, and is renewed in the background while good
	// tokens of the issuer come; nil counts for 10 seconds, an error for 1. When the
	// function does not name an issuer any more, that issuer's tokens are refused
	// within a minute, those in the cache too. A name from which no good token has come
	// for an hour may be a stranger's invention: in one second it is asked about 100 such
	// names at most, and the tokens of all others get 401 at once.
	//
	// FindIssuer is called by many goroutines at once, with a context of its own,
	// since all who wait share a call. They wait for 1 second; the call may take 5.
	// A panic, and a Middleware that does not accept the issuer, count as errors; the
	// first one is logged. Of the Middleware only the rules for tokens count and
	// its Revoked; all else is as this Config says, MaxTokenLength included.
	//
	// Issuer or IssuerTemplate may be set besides: their tokens are judged without
	// asking. If they are not, Audience may be empty, and the other fields that say
	// which of an issuer's tokens are good must be empty.
	FindIssuer func(ctx context.Context, issuer string) (*Middleware, error)

	// Audience lists the names of this API, as "aud" has them. A token must
	// carry at least one of them. If it is empty it is Resource.
	Audience []string

	// JWKSURL is where the issuer's keys are. If it is empty they are found by
	// discovery (OpenID Connect Discovery 1.0, RFC 8414).
	JWKSURL string

	// FetchKeys brings the issuer's key set, a JSON Web Key Set, in place of
	// discovery and HTTP: from a file, from the program itself, from a secret manager.
	// All else is as with HTTP. It is called when keys are first needed, again from
	// eight minutes later on, when a token has an unknown key, and after an error
	// with growing pauses. The keys of before stay in use for a day meanwhile; if
	// there are none, requests get 503. What it brings takes the place of all that
	// was there before.
	//
	// It is called in a goroutine of its own, by one at a time, with a context that
	// ends after 15 seconds. A panic, more than 1 MiB and what is no key set count as
	// errors. A call that ignores the end of its context is left behind, four at
	// most.
	FetchKeys func(ctx context.Context) ([]byte, error)

	// KeyCache keeps the issuer's key set outside of the process, so that a program
	// can start while its issuer is down, and functions need not fetch at every
	// cold start. It is read when there are no keys, before the first fetch, and
	// written when the keys have changed. Kept keys serve at once, are refreshed as
	// their age by the wall clock asks, and serve for a day beyond that at most.
	// They are read as strictly as what the issuer sends. Whoever can write there can
	// sign tokens. What is broken, or kept for another issuer, counts as nothing kept,
	// and is logged; so is any error. With FetchKeys the name of the issuer alone tells
	// kept sets apart: two programs with the same name and other keys need a cache each.
	KeyCache KeyCache

	// InsecureHTTP allows plain http to hosts that are not this one: in Issuer, in
	// JWKSURL, and for keys on the host of Issuer that the metadata name. Whoever is
	// on the way can then put keys of their own in place, and sign tokens. It is for
	// networks that encrypt below, as a service mesh does, and for trying things out.
	// New logs a warning.
	InsecureHTTP bool

	// Algorithms lists the signature algorithms that are accepted, out of
	// RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512 and EdDSA.
	// If it is empty all of them are, each with the keys it is meant for.
	// Algorithms with a shared secret, such as HS256, cannot be used.
	Algorithms []string

	// TokenTypes lists the values of a token's "typ" header parameter that are
	// accepted, compared as media types: letter case does not count, and
	// "application/" may stand before them. An empty string stands for tokens
	// without one. If TokenTypes is empty it is "JWT", "at+jwt", "". With "at+jwt"
	// alone only access tokens as RFC 9068 has them are accepted, and no ID token
	// ever.
	TokenTypes []string

	// MaxTokenLength is how long a token may be, in bytes. Zero means 16 KiB; more
	// than 256 KiB are refused. Tokens over 4 KiB are verified anew each time, and
	// servers and proxies have bounds of their own for headers: 1 MiB with
	// net/http, 8 KiB with many others.
	MaxTokenLength int

	// AudienceClaim is the claim that is compared with Audience, for issuers
	// that do not set "aud": "client_id" for Amazon Cognito, "azp" for Clerk. If
	// it is empty it is "aud". Like the names in ScopeClaims it may be a path.
	AudienceClaim string

	// ScopeClaims lists the claims that may hold the scopes. The first of them that
	// a token has counts, and the others are not looked at. It holds names separated
	// by spaces, or an array of names. If ScopeClaims is empty it is "scope", "scp".
	//
	// "realm_access.roles" is the claim of that name or, if there is none, the
	// member "roles" of the claim "realm_access", and so on with more dots.
	ScopeClaims []string

	// Leeway is the tolerated difference between the issuer's clock and this
	// one. Zero means 60 seconds, a negative value none. More than 10 minutes
	// are refused. For tokens of an issuer that FindIssuer names, its Middleware's counts.
	Leeway time.Duration

	// Header is the request header with the token, for proxies that put their
	// assertion into one of their own: "X-Goog-Iap-Jwt-Assertion" of Google's
	// Identity-Aware Proxy, "Cf-Access-Jwt-Assertion" of Cloudflare Access. The
	// token stands in it alone or behind "Bearer". If Header is empty, it stands in
	// Authorization behind "Bearer".
	Header string

	// Realm is sent with every challenge if it is not empty (RFC 9110, section
	// 11.5).
	Realm string

	// Resource is the public URL of this API, exactly as its clients write it:
	// "https://api.example.com/mcp". Each challenge then tells them where its
	// metadata are (RFC 9728), which [Middleware.HandleMetadata] serves. It must
	// be https (http on loopback hosts), without query and in the form in which
	// clients compare it, as a string. A slash at the end counts. Many clients
	// ask for tokens with this audience, but some add a slash to one without
	// path, or leave it out: Audience may list both.
	Resource string

	// Metadata is what the metadata say besides. It needs Resource.
	Metadata Metadata

	// Client fetches metadata and keys. Its redirect policy is replaced: only
	// redirects within one host are followed. Its transport must heed the
	// context of a request, since no other fetch begins before one has ended.
	// If it is nil a client with http.DefaultTransport is used.
	Client *http.Client

	// Logger gets a record when the state of the keys changes, and at debug
	// level one for each refused request, with its method, its path and the
	// reason, and for each that came with what looks like an ID token. None ever
	// holds a token or the query of a URL. If it is nil
	// slog.Default() is used, as it is when New is called.
	Logger *slog.Logger

	// TokenCache is how many verified tokens are kept, so that the next request
	// with the same token costs no signature check. Zero means 16384, a negative
	// value none; more than 1048576 are refused. Tokens of up to 4 KiB are kept
	// from their first use on, or from their second one if the cache is full, until
	// others need the place; none is used after it expired or its key was withdrawn.
	// One takes about half as much again as its length, and 8 KiB at most: a token whose
	// claims would take more is not kept. So the default comes to 24 MiB with tokens of
	// 1 KiB, and to 128 at most, and to what [As] keeps with them. The garbage collector
	// goes over all of them in each of its cycles: a millisecond or two with the default,
	// 0.3 seconds of one core with a million tokens of 0.9 KB, which take 1.2 GiB.
	TokenCache int

	// Revoked is asked whether a verified token has been revoked, on every use of
	// one: in each wrapper, in Authenticate and in Verify, with tokens from the cache
	// too. True is answered with 401 and invalid_token, an error with 503, since the
	// token is then neither good nor bad.
	//
	// Look for the token's ID, for its Subject together with IssuedAt (all that was
	// issued before a logout), or for a session that Decode gives ("sid"); what is
	// unique only within an issuer goes with Issuer. The token's text is of no use
	// for it: one ECDSA signature can be written in two ways.
	//
	// Revoked is called by many goroutines at once, with claims of its own and with
	// the request's context, which ends after 1 second. A panic counts as an error,
	// and so does an answer that is late; the first one is logged. At most 1024 calls
	// run at one time. A call that ignores the end of its context keeps its place.
	// Wrappers inside of one another share an answer for a second; Authenticate
	// asks each time, so that a connection can be looked at hours later.
	//
	// A token that another Middleware judges, with Or, must pass its Revoked too.
	Revoked func(ctx context.Context, c *Claims) (bool, error)

	// DPoP makes tokens acceptable that are bound to a key of the client (RFC 9449),
	// each request with a proof of that key. If it is nil they are refused. It cannot
	// be used together with Header.
	DPoP *DPoP

	// Certificate returns the certificate of a request's client, in DER, or nil if
	// there is none, and makes tokens acceptable that are bound to one (RFC 8705):
	// [ConnectionCertificate], or what [ForwardedCertificate] returns, or a function
	// for a proxy with a way of its own. If it is nil such tokens are refused, and so
	// is a request for which it returns an error. It is called for each request with
	// such a token, by many goroutines at once. Whether the certificate is trusted or
	// has expired is not checked.
	Certificate func(*http.Request) ([]byte, error)

	// RequireBound refuses tokens that are bound to nothing. It needs DPoP or
	// Certificate.
	RequireBound bool

	// Observe is told of every verdict, for metrics, traces and audits: once when a
	// token is judged or a request refused for want of one, and once more when a
	// later wrapper refuses that request. A wrapper that authenticates by itself
	// tells of its own verdict alone. Observe is called before the reply is
	// written, with the request's context, by many goroutines at once, and the
	// request waits for it. A panic in it is not recovered. It must not let the same
	// Middleware judge what it is told of, since it would be told of that too.
	Observe func(ctx context.Context, o Outcome)

	// ErrorHandler writes the reply to a refused request. The headers
	// WWW-Authenticate, Cache-Control and Retry-After are set before it is
	// called; it should send e.Status. If the token was accepted, the request's
	// context has its claims. If ErrorHandler is nil it is [DefaultErrorHandler],
	// which writes a JSON object with the members "error" and
	// "error_description"; an ErrorHandler may call that too. It is called by many
	// goroutines at once.
	ErrorHandler func(w http.ResponseWriter, r *http.Request, e *Error)
}

// A Metadata is what the document that describes an API to its clients says besides
// what follows from the rest of [Config] (RFC 9728, section 2). It needs
// Config.Resource. What is empty is left out of the document.
type Metadata struct {
	Name          string // "resource_name", for people to read
	Documentation string // "resource_documentation": URL of a page for developers
	Policy        string // "resource_policy_uri": URL of a page on how clients may use the data
	Terms         string // "resource_tos_uri": URL of the terms of service

	// Scopes is "scopes_supported": those that a client may want to ask for.
	// It need not be all. "offline_access" is left out, since it is not this
	// API's.
	Scopes []string

	// AuthorizationServers is "authorization_servers": the issuers that clients
	// can get a token from. If it is empty those are listed whose tokens are
	// accepted. It is required where they cannot be told: with FindIssuer, with
	// IssuerTemplate but no Tenants, and if Issuer is not a URL.
	AuthorizationServers []string

	// AuthorizationDetails is "authorization_details_types_supported" (RFC
	// 9396).
	AuthorizationDetails []string

	// Extra has further members by name, such as "resource_name#de". None may
	// have a name that this package writes itself.
	Extra map[string]any
}

// problems are what is wrong with a Config.
type problems []error

func (p *problems) add(field, format string, args ...any) {
	*p = append(*p, fmt.Errorf("bearer: Config.%s: "+format, append([]any{field}, args...)...))
}
