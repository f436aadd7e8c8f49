package bearer_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"

	"example.com/bearer"
)

// The mistake is a check by hand that looks for claims and forgets the case in
// which there are none: the route was registered outside of Handler, so nobody
// has verified anything, and "no claims" is taken for "no complaint". Guard the
// route with RequireScope instead: it answers 401 wherever it stands.
func ExampleMiddleware_RequireScope_incorrect() {
	auth := newAPI(newIssuer())

	// Incorrect!
	remove := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if claims, ok := bearer.FromContext(r.Context()); ok && !claims.Scope.Has("delete:messages") {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		fmt.Fprint(w, "deleted")
	})
	root := http.NewServeMux()
	root.Handle("DELETE /messages/1", remove)
	root.Handle("DELETE /messages/2", auth.RequireScope("delete:messages")(respond("deleted")))

	for _, path := range []string{"/messages/1", "/messages/2"} {
		w := httptest.NewRecorder()
		root.ServeHTTP(w, httptest.NewRequest("DELETE", path, nil))
		fmt.Println(path, w.Code)
	}
	// Output:
	// /messages/1 200
	// /messages/2 401
}
