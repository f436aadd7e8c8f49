package main

import (
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// A visit is what an MCP client does that knows nothing but the URL of an API.
type visit struct {
	out    io.Writer
	client *http.Client
	failed bool
}

// check prints whether something is as it must be, and otherwise what it is.
func (v *visit) check(ok bool, name, got string, args ...any) bool {
	if ok {
		fmt.Fprintf(v.out, "pass  %s\n", name)
		return true
	}
	v.failed = true
	fmt.Fprintf(v.out, "FAIL  %s: %s\n", name, fmt.Sprintf(got, args...))
	return false
}

// explainResource checks the challenge of the API at resource, the metadata that it
// names, and those of the authorization server that these name.
func explainResource(out io.Writer, client *http.Client, resource string) int {
	if client == nil {
		client = &http.Client{Timeout: 10 * time.Second}
	}
	v := &visit{out: out, client: client}
	v.resource(resource)
	if v.failed {
		fmt.Fprintln(out, "\nclients will stumble over this: docs/mcp.md has what must agree")
		return 1
	}
	fmt.Fprintln(out, "\na client that has only the URL finds its way")
	return 0
}

func (v *visit) resource(resource string) {
	u, err := url.Parse(resource)
	if !v.check(err == nil && u.Host != "" && (u.Scheme == "https" || u.Scheme == "http"), "the resource is a URL", "%q", resource) {
		return
	}
	resp, _, err := v.get(resource)
	if !v.check(err == nil, "it answers", "%v", err) ||
		!v.check(resp.StatusCode == http.StatusUnauthorized, "without a token the status is 401", "%s", resp.Status) {
		return
	}
	challenges := resp.Header.Values("WWW-Authenticate")
	v.check(slices.ContainsFunc(challenges, func(s string) bool { return strings.HasPrefix(strings.ToLower(s), "bearer") }),
		"the challenge is of the scheme Bearer", "%q", challenges)

	// RFC 9728, section 5.1. Clients that find nothing there guess (section 3.1).
	places := []string{u.Scheme + "://" + u.Host + "/.well-known/oauth-protected-resource" + strings.TrimSuffix(u.EscapedPath(), "/")}
	if m := metadataParameter.FindStringSubmatch(strings.Join(challenges, ", ")); v.check(m != nil, "the challenge says where the metadata are (resource_metadata)", "%q", challenges) {
		places[0] = m[1]
	}
	var document struct {
		Resource string   `json:"resource"`
		Servers  []string `json:"authorization_servers"`
		Scopes   []string `json:"scopes_supported"`
	}
	if !v.document("the metadata of the API", places, &document) {
		return
	}
	// Section 3.3: as strings. Many clients do no more for them than that.
	v.check(document.Resource == resource, "they are of this resource, to the letter", "%q, asked for %q", document.Resource, resource)
	if !v.check(len(document.Servers) > 0, "they name an authorization server", "authorization_servers is empty") {
		return
	}
	v.server(document.Servers[0])
	fmt.Fprintf(v.out, "\nauthorization servers: %s\nscopes: %s\n", strings.Join(document.Servers, " "), strings.Join(document.Scopes, " "))
}

var metadataParameter = regexp.MustCompile(`(?i)resource_metadata="([^"\\]+)"`)

// server checks the metadata of the authorization server.
func (v *visit) server(issuer string) {
	u, err := url.Parse(issuer)
	if !v.check(err == nil && u.Host != "", "the authorization server is a URL", "%q", issuer) {
		return
	}
	origin, path := u.Scheme+"://"+u.Host, strings.TrimSuffix(u.EscapedPath(), "/")
	var document struct {
		Issuer        string   `json:"issuer"`
		Authorization string   `json:"authorization_endpoint"`
		Token         string   `json:"token_endpoint"`
		Challenges    []string `json:"code_challenge_methods_supported"`
		Registration  string   `json:"registration_endpoint"`
		ClientIDs     bool     `json:"client_id_metadata_document_supported"`
	}
	if !v.document("the metadata of "+issuer, []string{ // RFC 8414, section 3.1 and 5
		origin + "/.well-known/oauth-authorization-server" + path,
		origin + "/.well-known/openid-configuration" + path,
		origin + path + "/.well-known/openid-configuration",
	}, &document) {
		return
	}
	v.check(document.Issuer == issuer, "they are of this issuer, to the letter", "%q", document.Issuer)
	v.check(document.Authorization != "" && document.Token != "", "users can log in there", "no authorization_endpoint or no token_endpoint")
	v.check(slices.Contains(document.Challenges, "S256"), "it supports PKCE with S256", "code_challenge_methods_supported is %q, and MCP clients then give up", document.Challenges)
	if document.Registration == "" && !document.ClientIDs {
		fmt.Fprintln(v.out, "note  clients cannot register there by themselves: give them a client id")
	}
}

// document reads the first of the places at which there is a JSON document.
func (v *visit) document(what string, places []string, into any) bool {
	var tried []string
	for _, place := range places {
		resp, body, err := v.get(place)
		contentType := ""
		if err == nil {
			contentType, _, _ = mime.ParseMediaType(resp.Header.Get("Content-Type"))
		}
		switch {
		case err != nil:
			tried = append(tried, err.Error())
		case resp.StatusCode != http.StatusOK:
			tried = append(tried, place+": "+resp.Status)
		case contentType != "application/json":
			tried = append(tried, fmt.Sprintf("%s: Content-Type %q", place, contentType))
		default:
			if err := json.Unmarshal(body, into); err != nil {
				tried = append(tried, place+": "+err.Error())
				continue
			}
			return v.check(true, what+" at "+place, "")
		}
	}
	return v.check(false, what, "%s", strings.Join(tried, "; "))
}

func (v *visit) get(url string) (*http.Response, []byte, error) {
	resp, err := v.client.Get(url)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return resp, body, err
}
