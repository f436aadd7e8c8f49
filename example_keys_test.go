package bearer_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"time"

	"example.com/bearer"
	"example.com/bearer/bearertest"
)

// Keys in a file, as a ConfigMap or a secret is mounted. It is read again as soon
// as a token comes with a key that is not known.
func ExampleConfig_keysInAFile() {
	iss := newIssuer()
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "jwks.json")
	replace(path, keySet(iss))

	auth, err := bearer.New(bearer.Config{
		Issuer:   "acme", // as it stands in the tokens: any string will do
		Audience: []string{"https://api.example.com"},
		FetchKeys: func(context.Context) ([]byte, error) {
			return os.ReadFile(path)
		},
	})
	if err != nil {
		log.Fatal(err)
	}

	h := auth.Handler(respond("hello"))
	request(h, "GET", "/", iss.Token("https://api.example.com", bearertest.Claims{"iss": "acme"}))
	iss.Rotate()
	replace(path, keySet(iss))
	request(h, "GET", "/", iss.Token("https://api.example.com", bearertest.Claims{"iss": "acme"}))
	// Output:
	// GET / 200 hello
	// GET / 200 hello
}

// replace puts data into the file path as a whole: whoever reads meanwhile gets the
// old or the new one.
func replace(path string, data []byte) {
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		log.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		log.Fatal(err)
	}
}

// keySet returns the key set that iss publishes.
func keySet(iss *bearertest.Issuer) []byte {
	w := httptest.NewRecorder()
	iss.ServeHTTP(w, httptest.NewRequest("GET", "/.well-known/jwks.json", nil))
	return w.Body.Bytes()
}

// Keys that are part of the program, for an API that has no network or must answer
// the first request at once.
func ExampleConfig_keysInTheProgram() {
	iss := newIssuer()

	// In a program this is a variable with "//go:embed jwks.json" above it.
	jwks := keySet(iss)

	auth, err := bearer.New(bearer.Config{
		Issuer:    iss.URL,
		Audience:  []string{"https://api.example.com"},
		FetchKeys: func(context.Context) ([]byte, error) { return jwks, nil },
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("ready:", auth.Ready(context.Background()) == nil)
	request(auth.Handler(respond("hello")), "GET", "/", iss.Token("https://api.example.com", nil))
	// Output:
	// ready: true
	// GET / 200 hello
}

// Two key sets of one issuer, as Azure AD B2C has one for each policy.
func ExampleConfig_mergedKeys() {
	signIn, resetPassword := bearertest.NewIssuer("https://acme.b2clogin.com/signin"), bearertest.NewIssuer("https://acme.b2clogin.com/reset")
	resetPassword.Rotate() // to another key id
	mux := http.NewServeMux()
	mux.Handle("/signin/", signIn)
	mux.Handle("/reset/", resetPassword)
	b2c := httptest.NewServer(mux)
	defer b2c.Close()

	policies := []string{
		b2c.URL + "/signin/.well-known/jwks.json",
		b2c.URL + "/reset/.well-known/jwks.json",
	}
	const issuer = "https://acme.b2clogin.com/11111111-2222-3333-4444-555555555555/v2.0/"
	auth, err := bearer.New(bearer.Config{
		Issuer:   issuer,
		Audience: []string{"https://api.example.com"},
		FetchKeys: func(ctx context.Context) ([]byte, error) {
			type keySet struct {
				Keys []json.RawMessage `json:"keys"`
			}
			var all keySet
			for _, url := range policies {
				var one keySet
				if err := getJSON(ctx, url, &one); err != nil {
					return nil, err // the keys of before stay in use
				}
				all.Keys = append(all.Keys, one.Keys...)
			}
			return json.Marshal(all)
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	h := auth.Handler(respond("hello"))
	request(h, "GET", "/", signIn.Token("https://api.example.com", bearertest.Claims{"iss": issuer}))
	request(h, "GET", "/", resetPassword.Token("https://api.example.com", bearertest.Claims{"iss": issuer}))
	// Output:
	// GET / 200 hello
	// GET / 200 hello
}

func getJSON(ctx context.Context, url string, v any) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, resp.Status)
	}
	return json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(v)
}

// An API that starts again while its issuer is down.
func ExampleDirCache() {
	iss := newIssuer()
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	start := func() *bearer.Middleware {
		auth, err := bearer.New(bearer.Config{
			Issuer:   iss.URL,
			Audience: []string{"https://api.example.com"},
			Client:   iss.Client(),
			KeyCache: bearer.DirCache(dir),
		})
		if err != nil {
			log.Fatal(err)
		}
		return auth
	}
	if err := start().Ready(context.Background()); err != nil {
		log.Fatal(err)
	}
	waitUntilKept(dir) // the file is written behind the back of the first request

	iss.SetDown(true)
	request(start().Handler(respond("hello")), "GET", "/", iss.Token("https://api.example.com", nil))
	// Output:
	// GET / 200 hello
}

func waitUntilKept(dir string) {
	for {
		if files, _ := filepath.Glob(filepath.Join(dir, "*.json")); len(files) > 0 {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// A deny-list: single tokens by their ID, and all that a user had when they logged
// out.
func ExampleConfig_revoked() {
	iss := newIssuer()
	var (
		revokedIDs sync.Map // "jti" -> true
		loggedOut  sync.Map // "sub" -> time.Time
	)
	auth, err := bearer.New(bearer.Config{
		Issuer:   iss.URL,
		Audience: []string{"https://api.example.com"},
		Client:   iss.Client(),
		Revoked: func(_ context.Context, c *bearer.Claims) (bool, error) {
			if _, revoked := revokedIDs.Load(c.ID); revoked {
				return true, nil
			}
			since, out := loggedOut.Load(c.Subject)
			return out && c.IssuedAt.Before(since.(time.Time)), nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	h := auth.Handler(respond("hello"))
	token := func(id, subject string) string {
		return iss.Token("https://api.example.com", bearertest.Claims{"jti": id, "sub": subject, "iat": time.Now().Add(-time.Minute).Unix()})
	}
	request(h, "GET", "/", token("1", "alice"))
	revokedIDs.Store("2", true)
	request(h, "GET", "/", token("2", "alice"))
	loggedOut.Store("bob", time.Now())
	request(h, "GET", "/", token("3", "bob"))
	// Output:
	// GET / 200 hello
	// GET / 401 {"error":"invalid_token","error_description":"the token has been revoked"}
	// GET / 401 {"error":"invalid_token","error_description":"the token has been revoked"}
}
