package recipes

import (
	"fmt"
	"net/http"

	"github.com/cedar-policy/cedar-go"

	"example.com/bearer"
)

// permits returns a check for auth.Require that lets the policies decide whether the
// caller may take the action on the document that the path names.
func permits(policies *cedar.PolicySet, entities cedar.EntityGetter, action cedar.String) func(*http.Request, *bearer.Claims) error {
	return func(r *http.Request, c *bearer.Claims) error {
		var scopes []cedar.Value
		for name := range c.Scope.All() {
			scopes = append(scopes, cedar.String(name))
		}
		decision, diagnostic := cedar.Authorize(policies, entities, cedar.Request{
			// Two issuers can have a user of the same name.
			Principal: cedar.NewEntityUID("User", cedar.String(c.Issuer+" "+c.Subject)),
			Action:    cedar.NewEntityUID("Action", action),
			Resource:  cedar.NewEntityUID("Document", cedar.String(r.PathValue("id"))),
			Context: cedar.NewRecord(cedar.RecordMap{
				"client": cedar.String(c.ClientID),
				"scopes": cedar.NewSet(scopes...),
			}),
		})
		// A policy that fails does not count, and it may be one that forbids.
		if len(diagnostic.Errors) > 0 {
			return fmt.Errorf("policy: %v", diagnostic.Errors)
		}
		if decision != cedar.Allow {
			return fmt.Errorf("no policy permits it: %v", diagnostic.Reasons)
		}
		return nil
	}
}
