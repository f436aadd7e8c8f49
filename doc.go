// Package bearer protects [net/http] handlers with OAuth 2.0 bearer tokens in
// the form of signed JWTs, as specified in RFC 6750 and RFC 9068.
//
// Build one [Middleware] per API with [New], wrap the whole API with
// [Middleware.Handler], and guard the routes that need more than a valid token
// with [Middleware.RequireScope]:
//
//	auth, err := bearer.New(bearer.Config{
//		Issuer:   "https://login.example.com/",
//		Audience: []string{"https://api.example.com"},
//	})
//	...
//	api := http.NewServeMux()
//	api.Handle("GET /api/messages", auth.RequireScope("read:messages")(messages))
//
//	root := http.NewServeMux()
//	root.Handle("GET /api/ping", ping)        // public
//	root.Handle("/api/", auth.Handler(api))   // everything else below /api/
//
// There is no list of paths to exempt. A route is public when it is registered
// outside of the handler that Middleware wraps, and the precedence rules of
// [http.ServeMux] decide which of the two a request reaches. So a route that
// somebody adds below /api/ is closed until it is opened.
//
// Most programs need New, Handler, RequireScope and [FromContext], and package
// bearertest for their tests. The rest is for those who need it:
//
//   - other rules for a route: [Middleware.Require], and
//     [Middleware.RequireAuthentication] for a newer or stronger login;
//   - other protocols and replies: [Middleware.Authenticate], [Middleware.Verify],
//     [Config.ErrorHandler];
//   - several issuers: [Middleware.Or], [Config.IssuerTemplate], and
//     [Config.FindIssuer] for those that are not known when the program starts;
//   - tokens that a thief cannot use: [Config.DPoP], [Config.Certificate];
//   - metrics, traces, audit: [Config.Observe], [Middleware.KeyStats].
//
// # Responses
//
// A request without a bearer token gets status 401 and a challenge without an
// error code; a malformed Authorization header 400 with "invalid_request"; a
// token that does not verify 401 with "invalid_token"; one that lacks a scope
// 403 with "insufficient_scope" and the scopes needed; one that a check of
// [Middleware.Require] refuses 403 without a challenge; one whose user must log in
// again, for [Middleware.RequireAuthentication], 401 with
// "insufficient_user_authentication" (RFC 9470). When the issuer's keys
// cannot be had the answer is 503 with Retry-After, because the token is then
// neither good nor bad. Every refusal has Cache-Control: no-store and a small
// JSON object as its body.
//
// The client is told in fixed phrases. Why exactly a token was refused is in
// [Error.Err] and, at debug level, in the log: the request's method and path, a
// stable reason, what was expected and what came, and a hint for the usual
// mistakes. The reason is also [Error.Reason], which [Config.Observe] is told of with
// every verdict.
//
// CORS middleware goes outside of Handler, since a preflight request carries no
// token and would be refused. It must allow the request header Authorization, and
// expose WWW-Authenticate to scripts that are to see why they were refused.
//
// With [Config.Resource] each challenge names a document that tells clients whom to
// ask for a token (RFC 9728): those of MCP need no other configuration than the URL.
//
// # Tokens
//
// A token is accepted if it is a JWT in the one canonical encoding, signed with
// an asymmetric algorithm by a key that the issuer publishes for it, with the
// exact issuer, one of the audiences, and an expiry in the future. Header and
// claims are read strictly: no member twice, names compared byte by byte, no "crit",
// and no "typ" but JWT, at+jwt or none unless Config.TokenTypes says otherwise.
//
// A token that is bound to a key or to a certificate of its client ("cnf") is accepted
// only from whoever shows that it has them: with a proof for this very request (RFC
// 9449), or by the certificate of its connection (RFC 8705). Unless [Config.DPoP] or
// [Config.Certificate] says how, it is refused: nothing that an issuer has bound is
// taken for a bearer token.
//
// # Keys
//
// Keys are fetched when first needed, never by New, so an API starts while its
// issuer is down. They are refreshed in the background while requests go on,
// and found again after a rotation by the first token with the new key. If the
// issuer cannot be reached, the keys at hand serve for a day. A stranger who
// makes up key ids causes a handful of fetches at most, and costs nobody else a
// request.
//
// # Security
//
// SECURITY.md, beside this file, lists what is promised, threat by threat, and
// what stays the application's job: TLS, caches, revocation, and whether this
// subject may touch that object.
package bearer
