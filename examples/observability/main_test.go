package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/bearer"
	"example.com/bearer/bearertest"
)

const audience = "https://api.example.com"

func newTestApp(t *testing.T, iss *bearertest.Issuer, log io.Writer) *app {
	t.Helper()
	a, err := newApp(bearer.Config{Issuer: iss.URL, Audience: []string{audience}, Client: iss.Client()}, newLogger(log, slog.LevelDebug))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func get(h http.Handler, path, token string) int {
	r := httptest.NewRequest("GET", path, nil)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code
}

// scrape returns what Prometheus gets.
func scrape(t *testing.T, a *app) string {
	t.Helper()
	w := httptest.NewRecorder()
	a.metrics.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 {
		t.Fatalf("the scrape fails: %d %s", w.Code, w.Body)
	}
	return w.Body.String()
}

// A minute of good, expired, foreign and under-scoped requests with two outages of
// the issuer: the counters are what was sent, and the audit log names everybody.
func TestMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		iss, foreign := bearertest.NewIssuer("https://login.example.com/"), bearertest.NewIssuer("https://login.example.com/")
		foreign.Rotate() // a key of another id
		a := newTestApp(t, iss, &log)
		token := func(by *bearertest.Issuer, c bearertest.Claims) string {
			all := bearertest.Claims{"sub": "alice", "scope": "read:messages", "tenant": "acme"}
			maps.Copy(all, c)
			return by.Token(audience, all)
		}
		good := token(iss, nil)

		sent := map[string]int{} // by reason; "" is accepted
		send := func(reason string, status, times int, token string) {
			t.Helper()
			for range times {
				if got := get(a.api, "/api/messages", token); got != status {
					t.Fatalf("%q: status %d, want %d", reason, got, status)
				}
				sent[reason]++
			}
		}
		for second := range 60 {
			switch {
			case second < 5: // the issuer is down when the API starts
				iss.SetDown(true)
				send("keys_unavailable", 503, 2, good)
			case second < 20: // it is up again, and nobody asks
				iss.SetDown(false)
			default:
				iss.SetDown(second >= 40) // the keys at hand go on
				send("", 200, 1+second%3, good)
				send("", 200, 1, token(iss, bearertest.Claims{"sub": fmt.Sprint("user ", second)}))
				send("insufficient_scope", 403, 1, token(iss, bearertest.Claims{"scope": "openid"}))
				if second%2 == 0 {
					send("expired", 401, 1, token(iss, bearertest.Claims{"exp": time.Now().Unix() - 61}))
				}
				if second%5 == 0 {
					send("issuer", 401, 1, token(iss, bearertest.Claims{"iss": "https://evil.example"}))
					send("no_credentials", 401, 1, "")
					send("malformed", 401, 3, "garbage")
				}
				if second == 30 {
					send("unknown_key", 401, 1, token(foreign, nil))
				}
				get(a.api, "/api/ping", "")
			}
			time.Sleep(time.Second)
		}

		text := scrape(t, a)
		counted := map[string]int{}
		for _, m := range regexp.MustCompile(`(?m)^bearer_authentications_total(\{.*\}) (\d+)$`).FindAllStringSubmatch(text, -1) {
			n, _ := strconv.Atoi(m[2])
			reason := ""
			if r := regexp.MustCompile(`error_type="(\w+)"`).FindStringSubmatch(m[1]); r != nil {
				reason = r[1]
			}
			judged := reason != "no_credentials" && reason != "malformed"
			if strings.Contains(m[1], `bearer_issuer="https://login.example.com/"`) != judged {
				t.Errorf("%s: the wrong issuer", m[0])
			}
			counted[reason] = n
		}
		if !maps.Equal(counted, sent) {
			t.Errorf("counted %v\nsent    %v", counted, sent)
		}
		if !strings.Contains(text, `bearer_keys{bearer_issuer="https://login.example.com/"} 1`) {
			t.Errorf("no gauge of the keys:\n%s", text)
		}
		checkLog(t, log.String(), sent, 40)
	})
}

// checkLog compares the audit records with the numbers of requests that were sent.
func checkLog(t *testing.T, log string, sent map[string]int, public int) {
	t.Helper()
	audited := map[string]int{}
	anonymous, messages := 0, 0
	for line := range strings.Lines(log) {
		var r struct {
			Msg, Verdict, Reason, Sub, Tenant string
			TraceID                           string `json:"trace_id"`
		}
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		switch r.Msg {
		case "messages read":
			messages++
			if r.Tenant != "acme" {
				t.Errorf("no tenant in %s", line)
			}
		case "bearer: request refused":
		case "audit":
			if r.Verdict == "public" {
				anonymous++
				break
			}
			audited[r.Reason]++
			known := r.Verdict == "accepted" || r.Reason == "insufficient_scope"
			if (r.Verdict == "accepted") != (r.Reason == "") || known != (r.Sub != "") {
				t.Errorf("the verdict and the subject do not fit: %s", line)
			}
		default:
			continue // of the keys, which belong to no request
		}
		if len(r.TraceID) != 32 {
			t.Errorf("no trace id in %s", line)
		}
	}
	if !maps.Equal(audited, sent) || anonymous != public || messages != sent[""] {
		t.Errorf("audited %v and %d without a verdict, served %d; sent %v and %d", audited, anonymous, messages, sent, public)
	}
	if strings.Contains(log, "eyJ") {
		t.Error("the log has a token")
	}
}

// Every metric and label that the dashboard and the alerts ask for exists.
func TestQueries(t *testing.T) {
	iss := bearertest.NewIssuer("https://login.example.com/")
	a := newTestApp(t, iss, io.Discard)
	get(a.api, "/api/messages", iss.Token(audience, bearertest.Claims{"scope": "read:messages"}))
	get(a.api, "/api/messages", iss.Token(audience, nil))
	metrics := map[string]bool{"bearer:refusals:rate15m": true} // recorded by alerts.yml
	labels := map[string]bool{"job": true, "instance": true}    // Prometheus's own
	for _, m := range regexp.MustCompile(`(?m)^(\w+)(?:\{(.*)\})? `).FindAllStringSubmatch(scrape(t, a), -1) {
		metrics[m[1]] = true
		for _, l := range regexp.MustCompile(`(\w+)="`).FindAllStringSubmatch(m[2], -1) {
			labels[l[1]] = true
		}
	}

	queries := dashboardQueries(t)
	rules := read(t, "alerts.yml")
	for _, m := range regexp.MustCompile(`(?m)^ +expr: (.*)$`).FindAllStringSubmatch(rules, -1) {
		queries = append(queries, m[1])
	}
	if n := strings.Count(rules, "- alert:"); n != 5 || len(queries) != 14 {
		t.Errorf("%d alerts and %d queries", n, len(queries))
	}
	reasons := read(t, "../../docs/refusals.md")
	for _, query := range queries {
		for _, m := range regexp.MustCompile(`error_type[!=~]+"([^"]*)"`).FindAllStringSubmatch(query, -1) {
			for reason := range strings.SplitSeq(m[1], "|") {
				if reason != "" && !strings.Contains(reasons, "| `"+reason+"` |") {
					t.Errorf("no reason %s: %s", reason, query)
				}
			}
		}
		names, by := parse(query)
		if len(names) == 0 {
			t.Errorf("no metric in %s", query)
		}
		for _, name := range names {
			if !metrics[name] {
				t.Errorf("no metric %s: %s", name, query)
			}
		}
		for _, label := range by {
			if !labels[label] {
				t.Errorf("no label %s: %s", label, query)
			}
		}
	}
}

func dashboardQueries(t *testing.T) []string {
	t.Helper()
	var dashboard struct {
		Templating struct {
			List []struct{ Type, Query string }
		}
		Panels []struct {
			Title   string
			Targets []struct{ Expr, LegendFormat string }
		}
	}
	if err := json.Unmarshal([]byte(read(t, "dashboard.json")), &dashboard); err != nil {
		t.Fatal(err)
	}
	var queries []string
	for _, v := range dashboard.Templating.List {
		if v.Type == "query" {
			// label_values(metric, label) is Grafana's.
			queries = append(queries, regexp.MustCompile(`label_values\((\w+), (\w+)\)`).ReplaceAllString(v.Query, `sum by ($2) ($1)`))
		}
	}
	for _, p := range dashboard.Panels {
		if len(p.Targets) == 0 {
			t.Errorf("the panel %q has no query", p.Title)
		}
		for _, target := range p.Targets {
			queries = append(queries, target.Expr)
			_, by := parse(target.Expr)
			for _, m := range regexp.MustCompile(`\{\{(\w+)\}\}`).FindAllStringSubmatch(target.LegendFormat, -1) {
				if !strings.Contains(" "+strings.Join(by, " ")+" ", " "+m[1]+" ") {
					t.Errorf("the legend's %s is no label of %s", m[1], target.Expr)
				}
			}
		}
	}
	return queries
}

// parse returns the metrics and the labels that a query names. It knows as much of
// PromQL as these queries use.
func parse(query string) (metrics, labels []string) {
	word := regexp.MustCompile(`[a-zA-Z_:][a-zA-Z0-9_:]*`)
	query = regexp.MustCompile(`"[^"]*"`).ReplaceAllString(query, "")
	cut := func(pattern string) {
		re := regexp.MustCompile(pattern)
		for _, m := range re.FindAllStringSubmatch(query, -1) {
			labels = append(labels, word.FindAllString(m[1], -1)...)
		}
		query = re.ReplaceAllString(query, " ")
	}
	cut(`\{([^}]*)\}`)
	cut(`\bby \(([^)]*)\)`)
	query = regexp.MustCompile(`\[[^]]*\]|\boffset \w+|\b(?:and|or|unless)\b|\b\d\w*`).ReplaceAllString(query, " ")
	query = regexp.MustCompile(`\w+ *\(`).ReplaceAllString(query, "(")
	return word.FindAllString(query, -1), labels
}

// promtool, of Debian's package prometheus, accepts the files, and its tests of the
// alerts hold.
func TestPromtool(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Fatal("promtool is missing: apt-get install --no-install-recommends prometheus")
	}
	iss := bearertest.NewIssuer("https://login.example.com/")
	a := newTestApp(t, iss, io.Discard)
	get(a.api, "/api/messages", iss.Token(audience, nil))
	for _, args := range [][]string{
		{"check", "rules", "--lint-fatal", "alerts.yml"},
		{"test", "rules", "alerts_test.yml"},
		{"check", "config", "prometheus.yml"},
		{"check", "metrics"},
	} {
		c := exec.Command(promtool, args...)
		c.Stdin = strings.NewReader(scrape(t, a))
		if out, err := c.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

// Whatever is answered with 503 wakes somebody, shows on the dashboard, and is not
// taken for the clients' fault.
func TestEveryUnavailable(t *testing.T) {
	rows := regexp.MustCompile("(?m)^\\| `(\\w+)` \\| 503 \\|").FindAllStringSubmatch(read(t, "../../docs/refusals.md"), -1)
	if len(rows) < 3 {
		t.Fatalf("%d reasons with status 503", len(rows))
	}
	for _, m := range rows {
		for name, want := range map[string]int{"alerts.yml": 2, "dashboard.json": 1} {
			if got := len(regexp.MustCompile(`error_type[!=]~[^}]*\b`+m[1]+`\b`).FindAllString(read(t, name), -1)); got != want {
				t.Errorf("%s names %s %d times, want %d", name, m[1], got, want)
			}
		}
	}
}

// Each alert is explained.
func TestAlertsAreDocumented(t *testing.T) {
	text := read(t, "../../docs/operations.md")
	for _, m := range regexp.MustCompile(`- alert: (\w+)`).FindAllStringSubmatch(read(t, "alerts.yml"), -1) {
		if !strings.Contains(text, "`"+m[1]+"`") {
			t.Errorf("docs/operations.md does not explain %s", m[1])
		}
	}
}

// The program serves what it says that it serves.
func TestRun(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	out, stdout := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := run(ctx, []string{"-addr", "127.0.0.1:0", "-metrics-addr", "127.0.0.1:0"}, stdout, io.Discard)
		stdout.Close()
		done <- err
	}()
	var lines [][]string
	for printed := bufio.NewScanner(out); len(lines) < 3 && printed.Scan(); {
		m := regexp.MustCompile(`^curl.*?(?:Bearer (\S+)' )?(http\S+)$`).FindStringSubmatch(printed.Text())
		if m == nil {
			t.Fatalf("printed %s", printed.Text())
		}
		lines = append(lines, m)
	}
	if len(lines) < 3 {
		t.Fatal(<-done)
	}
	for _, line := range []int{0, 2, 1} { // the metrics last
		r, err := http.NewRequest("GET", lines[line][2], nil)
		if err != nil {
			t.Fatal(err)
		}
		if token := lines[line][1]; token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != 200 {
			t.Errorf("%s: status %d, want 200; body: %s", lines[line][0], resp.StatusCode, body)
		}
		if line == 1 && !regexp.MustCompile(`(?m)^bearer_authentications_total\{bearer_issuer="http://127.0.0.1:\d+/issuer"\} 1$`).Match(body) {
			t.Errorf("the metrics lack the request that was let in:\n%s", body)
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
