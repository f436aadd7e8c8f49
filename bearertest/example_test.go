package bearertest_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"time"

	"example.com/bearer"
	"example.com/bearer/bearertest"
)

// A test of an API that asserts why a request is refused, and not only that it is:
// a token that is refused with 401 for another reason than the one meant would pass
// for a success. Observe tells the reason.
func Example_reason() {
	iss := bearertest.NewIssuer("https://login.example.com/")
	var reason string
	auth, err := bearer.New(bearer.Config{
		Issuer:   iss.URL,
		Audience: []string{"https://api.example.com"},
		Client:   iss.Client(),
		Observe: func(_ context.Context, o bearer.Outcome) {
			if o.Err != nil {
				reason = o.Err.Reason
			}
		},
	})
	if err != nil {
		log.Fatal(err) // t.Fatal in a test
	}
	list := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	api := auth.RequireScope("read:messages")(list) // stands for your API

	const audience = "https://api.example.com"
	for _, tt := range []struct{ token, want string }{
		{iss.Token(audience, bearertest.Claims{"scope": "read:messages"}), ""},
		{iss.Token(audience, bearertest.Claims{"scope": "openid"}), "insufficient_scope"},
		{iss.Token(audience, bearertest.Claims{"exp": time.Now().Add(-time.Hour).Unix()}), "expired"},
		{iss.Token("https://other.example.com", nil), "audience"},
		{bearertest.NewIssuer("https://evil.example.com/").Token(audience, nil), "signature"},
	} {
		reason = ""
		r := httptest.NewRequest("GET", "/api/messages", nil)
		r.Header.Set("Authorization", "Bearer "+tt.token)
		w := httptest.NewRecorder()
		api.ServeHTTP(w, r)
		if reason != tt.want { // t.Errorf in a test
			fmt.Printf("reason = %q, want %q\n", reason, tt.want)
		}
		fmt.Printf("%d %q\n", w.Code, reason)
	}
	// Output:
	// 200 ""
	// 403 "insufficient_scope"
	// 401 "expired"
	// 401 "audience"
	// 401 "signature"
}
