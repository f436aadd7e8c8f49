package jwks_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/bearer/internal/jwks"
)

// States are logged when they change and not per request or fetch.
func TestLog(t *testing.T) {
	const issuer = " issuer=" + issuerURL
	inBubble(t, func(t *testing.T, b *bed) {
		step := func(what string, want ...string) {
			t.Helper()
			for range 20 {
				b.status(b.token())
				b.status(b.unknown("x"))
				b.status(b.forged(b.iss.KeyID()))
				time.Sleep(10 * time.Second)
			}
			if got := b.log.take(); strings.Join(got, "\n") != strings.Join(want, "\n") {
				t.Errorf("%s: logged\n%s\nwant\n%s", what, strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		}
		odd := func(kids ...string) {
			b.iss.SetKeys(nil)
			keys := published(t, b.iss)
			for _, kid := range kids {
				keys = append(keys, json.RawMessage(fmt.Sprintf(`{"kty":"odd","kid":%q}`, kid)))
			}
			b.iss.SetKeys(marshal(map[string]any{"keys": keys}))
			time.Sleep(10 * time.Minute)
		}
		step("start", `level=INFO msg="bearer: keys changed"`+issuer+` keys=1 added=[key-1] removed=[]`)
		step("quiet")
		b.iss.SetDown(true)
		step("outage", `level=WARN msg="bearer: keys cannot be fetched"`+issuer+` error="https://login.example.com/.well-known/jwks.json: no answer: bearertest: connection refused" keys_at_hand=true`)
		step("the same outage")
		failed := int(b.source.Stats().Fetches)
		b.iss.SetDown(false)
		b.log.take()
		time.Sleep(15 * time.Second)
		b.status(b.token())
		synctest.Wait()
		records := b.log.take()
		if len(records) != 1 || !strings.HasPrefix(records[0], `level=INFO msg="bearer: keys can be fetched again"`+issuer+" failed_fetches=") {
			t.Errorf("back: logged %q", records)
		}
		var n int
		if fmt.Sscanf(records[0][strings.LastIndexByte(records[0], '=')+1:], "%d", &n); n < failed/4 || n > failed {
			t.Errorf("%d failed fetches are told, of %d fetches", n, failed)
		}
		b.iss.Rotate()
		step("rotation", `level=INFO msg="bearer: keys changed"`+issuer+` keys=2 added=[key-2] removed=[]`)
		b.iss.Replace()
		step("replacement", `level=INFO msg="bearer: keys changed"`+issuer+` keys=1 added=[key-3] removed="[key-1 key-2]"`)
		odd("a")
		step("an odd key", `level=WARN msg="bearer: keys skipped"`+issuer+` keys=1 skipped=1 reasons="[\"a\": failed to unmarshal JSON Web Key: unsupported key: odd (kty)]"`)
		step("the same odd key")
		odd("a", "b")
		step("another odd key", `level=WARN msg="bearer: keys skipped"`+issuer+` keys=1 skipped=2 reasons="[\"a\": failed to unmarshal JSON Web Key: unsupported key: odd (kty) \"b\": failed to unmarshal JSON Web Key: unsupported key: odd (kty)]"`)
		odd()
		step("no odd key")
	})
}

// Whether keys are at hand is told as it is.
func TestKeysAtHand(t *testing.T) {
	for name, tt := range map[string]struct {
		before func(b *bed)
		want   string
	}{
		"never":   {func(b *bed) {}, "keys_at_hand=false"},
		"yes":     {func(b *bed) { b.status(b.token()) }, "keys_at_hand=true"},
		"expired": {func(b *bed) { b.status(b.token()); time.Sleep(30 * time.Hour) }, "keys_at_hand=false"},
		"unusable": {func(b *bed) {
			b.iss.SetKeys([]byte(`{"keys":[{"kty":"odd"}]}`))
			b.status(b.token())
		}, "keys_at_hand=false"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bed) {
				tt.before(b)
				synctest.Wait()
				b.log.take()
				b.iss.SetDown(true)
				time.Sleep(10 * time.Minute)
				b.status(b.unknown("y"))
				synctest.Wait()
				if records := b.log.take(); len(records) != 1 || !strings.Contains(records[0], tt.want) {
					t.Errorf("logged %q, want %s", records, tt.want)
				}
			})
		})
	}
}

// Nothing that an issuer writes makes a record long, or has a line break in it.
func TestRecordsAreShort(t *testing.T) {
	long := strings.Repeat(`x\n`, 5000)
	keys := func(n int, format string) string {
		var all []string
		for i := range n {
			all = append(all, fmt.Sprintf(format, i))
		}
		return `{"keys":[` + strings.Join(all, ",") + `]}`
	}
	public := `"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"`
	each(t, map[string]string{
		"many ids":           keys(2000, `{"kid":"%d",`+public+`}`),
		"long ids":           keys(20, `{"kid":"%d`+long+`",`+public+`}`),
		"many skipped":       keys(5000, `{"kid":"%d","kty":"odd"}`),
		"long ids skipped":   keys(20, `{"kid":"%d`+long+`","kty":"odd"}`),
		"long reasons":       keys(20, `{"kid":"%d","kty":"EC","crv":"`+long+`"}`),
		"long use":           keys(20, `{"kid":"%d","use":"`+long+`",`+public+`}`),
		"long alg":           keys(20, `{"kid":"%d","alg":"`+long+`",`+public+`}`),
		"no key, long names": keys(20, `{"kid":"%d`+long+`"}`),
	}, func(t *testing.T, b *bed, document string) {
		b.setAnswer(func(r *http.Request, resp *http.Response) (*http.Response, error) { return resp, nil })
		b.iss.SetKeys([]byte(document))
		b.status(b.token())
		synctest.Wait()
		records := b.log.take()
		if len(records) != 1 {
			t.Errorf("%d records, want one", len(records))
		}
		for _, record := range records {
			if len(record) > 2500 {
				t.Errorf("%d bytes: %.300s", len(record), record)
			}
		}
	}, func(c *jwks.Config) {})
}
