package bearer

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"example.com/bearer/internal/clip"
	"example.com/bearer/internal/jwks"
)

// wellKnown is where the metadata of a protected resource are, before the path of
// its own (RFC 9728, section 3).
const wellKnown = "/.well-known/oauth-protected-resource"

// members are the names of what a document says without Extra.
var members = []string{
	"resource", "authorization_servers", "scopes_supported", "bearer_methods_supported",
	"resource_name", "resource_documentation", "resource_policy_uri", "resource_tos_uri",
	"dpop_signing_alg_values_supported", "dpop_bound_access_tokens_required",
	"tls_client_certificate_bound_access_tokens", "authorization_details_types_supported",
}

// A document is the metadata of a protected resource, ready to be served.
type document struct {
	path    string   // where it is
	servers []string // authorization servers
	given   bool     // servers are what Metadata says, and not derived
	before  object   // the JSON up to the servers
	after   object   // and behind them
	body    []byte   // all of it
}

// newDocument returns the document that cfg describes, or nil if it has no Resource.
// What it says of DPoP is what c does, which learns where the document is.
func newDocument(cfg *Config, v *verifier, c *challenger, bad *problems) *document {
	md := &cfg.Metadata
	if cfg.Resource == "" {
		if !reflect.ValueOf(*md).IsZero() {
			bad.add("Metadata", "needs Resource")
		}
		return nil
	}
	checkResource(cfg.Resource, bad)
	d := &document{path: wellKnown + resourcePath(cfg.Resource), servers: slices.Clone(md.AuthorizationServers), given: true}
	for _, server := range d.servers {
		if !isIssuerURL(server) {
			bad.add("Metadata.AuthorizationServers", "%q is not an https URL without query", server)
		}
	}
	if len(d.servers) == 0 && cfg.FindIssuer != nil {
		bad.add("Metadata.AuthorizationServers", "required, since FindIssuer tells clients of no server")
	} else if len(d.servers) == 0 {
		d.servers, d.given = v.servers(), false
		// Without these two an issuer that is no URL is told of elsewhere.
		if len(d.servers) == 0 && (v.template || cfg.JWKSURL != "" || cfg.FetchKeys != nil) {
			bad.add("Metadata.AuthorizationServers", "required, since %q tells clients of no server", v.issuer)
		}
	}

	d.before = object{'{'}
	d.before.text("resource", cfg.Resource)
	var o object // goes on behind it
	scopes := slices.DeleteFunc(slices.Clone(md.Scopes), func(name string) bool { return name == "offline_access" })
	for _, name := range scopes {
		if !isScopeName(name) {
			bad.add("Metadata.Scopes", "%q is not a scope name; give each scope as a member of its own", name)
		}
	}
	if slices.Contains(md.AuthorizationDetails, "") {
		bad.add("Metadata.AuthorizationDetails", "an empty string is no type")
	}
	o.list("scopes_supported", scopes)
	o.list("bearer_methods_supported", []string{"header"})
	o.text("resource_name", md.Name)
	for _, page := range [...]struct{ field, name, url string }{
		{"Documentation", "resource_documentation", md.Documentation},
		{"Policy", "resource_policy_uri", md.Policy},
		{"Terms", "resource_tos_uri", md.Terms},
	} {
		if u, err := url.Parse(page.url); page.url != "" && (err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http") {
			bad.add("Metadata."+page.field, "%q is not the URL of a page", page.url)
		}
		o.text(page.name, page.url)
	}
	o.list("dpop_signing_alg_values_supported", strings.Fields(c.algs))
	o.flag("dpop_bound_access_tokens_required", c.dpopOnly)
	o.flag("tls_client_certificate_bound_access_tokens", cfg.Certificate != nil)
	o.list("authorization_details_types_supported", md.AuthorizationDetails)
	for _, name := range slices.Sorted(maps.Keys(md.Extra)) {
		value, err := json.Marshal(md.Extra[name])
		switch {
		case name == "" || slices.Contains(members, name):
			bad.add("Metadata.Extra", "%q is not a name for a member of your own", name)
		case err != nil:
			bad.add("Metadata.Extra", "%q: %w", name, err)
		case string(value) != "[]" && string(value) != "null": // section 3.2
			o.member(name, value)
		}
	}
	d.after = append(o, '}', '\n')
	d.build()
	c.metadata = resourceOrigin(cfg.Resource) + d.path
	return d
}

func (d *document) build() {
	o := slices.Clone(d.before)
	o.list("authorization_servers", d.servers)
	d.body = append(o, d.after...)
}

// or returns the document of an API that accepts tokens of further issuers too, whose
// servers are these. It panics if they cannot be told, unless d names all servers.
func (d *document) or(servers []string, told bool) *document {
	if d == nil || d.given {
		return d
	}
	if !told {
		panic("bearer: Or: not all of the other's issuers can be told: Config.Metadata.AuthorizationServers must name all servers")
	}
	both := *d
	both.servers = slices.Clone(d.servers)
	for _, server := range servers {
		if !slices.Contains(both.servers, server) {
			both.servers = append(both.servers, server)
		}
	}
	both.build()
	return &both
}

// ServeHTTP replies to anybody, from whatever web page: what is here is public, and
// a client has no token before it has read it.
func (d *document) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", "*")
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		h.Set("Content-Type", "application/json")
		h.Set("Cache-Control", "public, max-age=3600")
		h.Set("Content-Length", strconv.Itoa(len(d.body)))
		if r.Method == http.MethodGet {
			w.Write(d.body)
		}
	case http.MethodOptions:
		// Clients of MCP send headers of their own. "*" stands for all but
		// Authorization.
		h.Set("Access-Control-Allow-Methods", "GET, HEAD")
		h.Set("Access-Control-Allow-Headers", "*, Authorization")
		h.Set("Access-Control-Max-Age", "86400")
		w.WriteHeader(http.StatusNoContent)
	default:
		h.Set("Allow", "GET, HEAD, OPTIONS")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
	}
}

// Metadata returns the path at which clients look for the metadata of
// [Config.Resource] (RFC 9728), with percent-encoding where the resource has it, and
// a handler that serves them. It is for routers; with [http.ServeMux] use
// [Middleware.HandleMetadata]. The handler answers GET, HEAD and OPTIONS whatever
// the path. It belongs outside of [Middleware.Handler]: clients that get 401 there
// ask for ever. Without Config.Resource, Metadata panics.
func (m *Middleware) Metadata() (path string, h http.Handler) {
	if m.document == nil {
		panic("bearer: Metadata needs Config.Resource")
	}
	return m.document.path, m.document
}

// HandleMetadata registers the handler of [Middleware.Metadata] in mux: at its path
// and, since clients are not of one mind, at the same path with a slash more or less
// at the end. What is below is answered with 404.
func (m *Middleware) HandleMetadata(mux *http.ServeMux) {
	path, h := m.Metadata()
	path = strings.TrimSuffix(path, "/")
	// Patterns without a method would conflict with a "GET /" of the caller's.
	for _, method := range []string{"GET", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"} {
		mux.Handle(method+" "+path, h)
		mux.Handle(method+" "+path+"/{$}", h)
		mux.Handle(method+" "+path+"/", http.NotFoundHandler())
	}
}

// checkResource reports what keeps resource from being the URL that clients use:
// they compare it, as a string, with the one that they were given.
func checkResource(resource string, bad *problems) {
	u, err := url.Parse(resource)
	if err == nil {
		err = jwks.CheckURL(resource)
	}
	if err != nil {
		bad.add("Resource", "%q must be an absolute https URL (http on loopback hosts) without user, query and fragment", clip.String(resource))
		return
	}
	if strings.ContainsAny(resource, "?#") {
		bad.add("Resource", "%q must have no query and no fragment (RFC 9728, section 1.2)", resource)
		return
	}
	segments := strings.Split(u.Path, "/")
	switch {
	case u.Host != strings.ToLower(u.Host):
		bad.add("Resource", "%q must have its host in lower case, as clients send it", resource)
	case strings.HasSuffix(u.Host, ":"), u.Scheme == "https" && u.Port() == "443", u.Scheme == "http" && u.Port() == "80":
		bad.add("Resource", "%q must do without the default port, as clients do", resource)
	case slices.Contains(segments, "."), slices.Contains(segments, ".."), strings.Contains(u.Path, "//"):
		bad.add("Resource", "%q must have no segment of its path empty or of dots, since clients resolve them", resource)
	case u.String() != resource:
		bad.add("Resource", "%q is not as clients write it, %q", resource, u)
	}
}

// resourcePath returns what follows wellKnown for resource, a URL without query:
// its path, or nothing if there is none but a slash (RFC 9728, section 3.1).
func resourcePath(resource string) string {
	path := strings.TrimPrefix(resource, resourceOrigin(resource))
	if path == "/" {
		return ""
	}
	return path
}

func resourceOrigin(resource string) string {
	_, rest, _ := strings.Cut(resource, "://")
	if host := strings.IndexByte(rest, '/'); host >= 0 {
		return resource[:len(resource)-len(rest)+host]
	}
	return resource
}

// servers returns the issuers of v that clients can go to: none if it is not known
// who they are, or if they are no URLs (RFC 8414, section 2).
func (v *verifier) servers() []string {
	servers := []string{v.issuer}
	if v.template {
		servers = nil
		for _, tenant := range v.tenants {
			servers = append(servers, fillTemplate(v.issuer, tenant))
		}
	}
	if slices.ContainsFunc(servers, func(s string) bool { return !isIssuerURL(s) }) {
		return nil
	}
	return servers
}

func isIssuerURL(s string) bool { return jwks.CheckURL(s) == nil && !strings.ContainsAny(s, "?#") }

// An object is the beginning of a JSON object. Members without a value are left out.
type object []byte

func (o *object) member(name string, value []byte) {
	if len(*o) != 1 { // it is not just the brace
		*o = append(*o, ',')
	}
	*o = append(append(appendJSON(*o, name), ':'), value...)
}

func (o *object) text(name, value string) {
	if value != "" {
		o.member(name, appendJSON(nil, value))
	}
}

func (o *object) list(name string, values []string) {
	if len(values) > 0 {
		text, _ := json.Marshal(values) // strings: it cannot fail
		o.member(name, text)
	}
}

func (o *object) flag(name string, value bool) {
	if value {
		o.member(name, []byte("true"))
	}
}
