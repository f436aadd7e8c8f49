package bearer_test

import (
	"go/ast"
	"go/parser"
	"go/types"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"example.com/bearer"
)

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// flat is s with each line trimmed, so that indentation does not count.
func flat(s string) string {
	var b strings.Builder
	for line := range strings.Lines(s) {
		b.WriteString(strings.TrimSpace(line) + "\n")
	}
	return b.String()
}

// Every block of Go code in README is run: a program is built in a module of its
// own, as a user would, and a snippet stands word for word in an example.
func TestReadmeCode(t *testing.T) {
	examples := flat(read(t, "example_test.go"))
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(read(t, "README.md"), -1)
	if len(blocks) < 4 {
		t.Fatalf("%d blocks of code", len(blocks))
	}
	programs := 0
	for _, block := range blocks {
		code := block[1]
		if strings.HasPrefix(code, "package main") {
			programs++
			build(t, code)
			continue
		}
		if !strings.Contains(examples, flat(code)) {
			t.Errorf("no example has this:\n%s", code)
		}
	}
	if programs != 1 {
		t.Errorf("%d programs, want 1", programs)
	}
}

func build(t *testing.T, program string) {
	t.Helper()
	root, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(program), 0o666); err != nil {
		t.Fatal(err)
	}
	for _, command := range [][]string{
		{"go", "mod", "init", "example.org/api"},
		{"go", "mod", "edit", "-require", "example.com/bearer@v0.0.0", "-replace", "example.com/bearer=" + root},
		{"go", "mod", "tidy"},
		{"go", "vet", "."},
		{"go", "build", "-o", filepath.Join(dir, "api"), "."},
	} {
		c := exec.Command(command[0], command[1:]...)
		c.Dir = dir
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%q: %v\n%s", command, err, out)
		}
	}
	lines := 0
	for line := range strings.Lines(program) {
		if strings.TrimSpace(line) != "" {
			lines++
		}
	}
	if imports := strings.Count(program, "example.com/"); lines > 20 || imports < 1 {
		t.Errorf("the program has %d lines", lines)
	}
}

// The reasons in the log are those in the table, and the other way round.
func TestReasonsAreDocumented(t *testing.T) {
	var documented, used []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\|").FindAllStringSubmatch(read(t, "docs/refusals.md"), -1) {
		documented = append(documented, m[1])
	}
	_, table, _ := strings.Cut(read(t, "error.go"), "var replies = map[string]reply{")
	table, _, _ = strings.Cut(table, "\n}")
	for _, m := range regexp.MustCompile(`(?m)^\t"([a-z_]+)": `).FindAllStringSubmatch(table, -1) {
		used = append(used, m[1])
	}
	slices.Sort(documented)
	slices.Sort(used)
	if len(used) < 20 || !slices.Equal(documented, used) {
		t.Errorf("documented %q\nused       %q", documented, used)
	}

	// No refusal has a reason that is not in the table.
	sources, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	literal, named := regexp.MustCompile(`\breason(?::|(?:, \w+\.\w+)* =) +"(\w+)"`), 0
	for _, name := range sources {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		for _, m := range literal.FindAllStringSubmatch(read(t, name), -1) {
			named++
			if !slices.Contains(used, m[1]) {
				t.Errorf("%s: the reason %s is not in the table", name, m[1])
			}
		}
	}
	if named < 30 {
		t.Errorf("only %d refusals found", named)
	}
}

// docs/operations.md lists what is logged, at its level.
func TestLogMessagesAreDocumented(t *testing.T) {
	sources, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	more, err := filepath.Glob("internal/*/*.go")
	if err != nil {
		t.Fatal(err)
	}
	var logged, documented []string
	call := regexp.MustCompile(`(?:slog\.Level|(?i:log)\.)(Debug|Info|Warn|Error)(?:, |\()"(bearer: [^"]*)"`)
	for _, name := range append(sources, more...) {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		for _, m := range call.FindAllStringSubmatch(read(t, name), -1) {
			logged = append(logged, m[1]+" "+m[2])
		}
	}
	for _, m := range regexp.MustCompile("(?m)^\\| (\\w+) \\| `(bearer: [^`]*)` \\|").FindAllStringSubmatch(read(t, "docs/operations.md"), -1) {
		documented = append(documented, m[1]+" "+m[2])
	}
	slices.Sort(logged)
	slices.Sort(documented)
	if len(logged) < 6 || !slices.Equal(logged, documented) {
		t.Errorf("logged     %q\ndocumented %q", logged, documented)
	}
}

// What the text of docs/providers.md says of Config, outside of its code, can be
// pasted.
func TestProvidersCanBePasted(t *testing.T) {
	fields := 0
	text := regexp.MustCompile("(?s)```go\n.*?```").ReplaceAllString(read(t, "docs/providers.md"), "")
	for line := range strings.Lines(text) {
		for _, m := range regexp.MustCompile("`([A-Z][A-Za-z]+: [^`]+)`").FindAllStringSubmatch(line, -1) {
			fields++
			expr, err := parser.ParseExpr("bearer.Config{" + m[1] + "}")
			if err != nil {
				t.Errorf("%s: %v", m[1], err)
				continue
			}
			pair, _ := expr.(*ast.CompositeLit).Elts[0].(*ast.KeyValueExpr)
			field, found := reflect.TypeFor[bearer.Config]().FieldByName(pair.Key.(*ast.Ident).Name)
			written := "string"
			if list, ok := pair.Value.(*ast.CompositeLit); ok {
				written = "{}"
				if list.Type != nil {
					written = types.ExprString(list.Type)
				}
			}
			if !found || field.Type.String() != written {
				t.Errorf("%s: written as a %s, want %v", m[1], written, field.Type)
			}
		}
	}
	if fields < 4 {
		t.Errorf("%d fields", fields)
	}
}

// The times in docs/keys.md are those of the program.
func TestKeysAreDocumented(t *testing.T) {
	doc := strings.Join(strings.Fields(strings.ReplaceAll(read(t, "docs/keys.md"), "**", "")), " ")
	program := read(t, "internal/jwks/source.go") + read(t, "internal/jwks/unknown.go")
	for _, tt := range []struct{ name, value, text string }{
		{"waitTimeout", "4700 * time.Millisecond", "They wait for 5 seconds at most"},
		{"fetchTimeout", "15 * time.Second", "the fetch itself may take 15"},
		{"defaultLife", "10 * time.Minute", "A set is fresh for 10 minutes"},
		{"minLife", "time.Minute", "1 minute to 1 hour"},
		{"maxLife", "time.Hour", "1 minute to 1 hour"},
		{"refreshPart", "0.8", "From four fifths of that on"},
		{"idleWait", "time.Second", "it waits for 1 second at most"},
		{"graceLife", "24 * time.Hour", "the old set serves on for 24 hours"},
		{"minBackoff", "time.Second", "1 to 15 seconds apart"},
		{"maxBackoff", "15 * time.Second", "1 to 15 seconds apart"},
		{"maxRetryAfter", "time.Minute", "says, within a minute"},
		{"unknownBurst", "3", "three at once"},
		{"unknownEvery", "4 * time.Second", "then one per 4 seconds"},
		{"maxWaitingKeys", "8", "Eight different key ids can wait"},
		{"minBelief", "4 * time.Second", "is believed for 4 seconds"},
		{"maxBelief", "15 * time.Second", "up to 15 for an id"},
	} {
		if !regexp.MustCompile(`(?m)^\s` + tt.name + ` += ` + regexp.QuoteMeta(tt.value) + `(\s|$)`).MatchString(program) {
			t.Errorf("%s is not %s any more", tt.name, tt.value)
		}
		if !strings.Contains(doc, tt.text) {
			t.Errorf("docs/keys.md does not say %q, which is %s", tt.text, tt.name)
		}
	}
}

// What README says of other libraries is what the tests and measurements beside it say.
func TestReadmePeers(t *testing.T) {
	table := make(map[string][]string)
	for line := range strings.Lines(read(t, "README.md")) {
		if cells := strings.Split(strings.Trim(line, "| \n"), " | "); len(cells) > 2 {
			table[cells[0]] = cells[1:]
		}
	}

	// TestStricter names by letters who accepts what is refused here.
	stricter := read(t, "differential/stricter_test.go")
	for label, row := range map[string]string{
		"an extension that nobody knows (`crit`)":             "crit, unknown",
		"a claim that is there twice":                         "exp twice",
		"a logout token in place of an access token":          "typ of a logout token",
		"`exp` in milliseconds: valid for 50,000 years":       "exp in milliseconds",
		"a token that is bound to a key, without proof":       "cnf",
		"a second spelling of one token (a line break in it)": "a line break in the signature",
	} {
		m := regexp.MustCompile(`\{"` + regexp.QuoteMeta(row) + `", "([GRJX]+)", `).FindStringSubmatch(stricter)
		if m == nil || len(table[label]) < 4 {
			t.Errorf("no test %q, or no row %q", row, label)
			continue
		}
		want := []string{"refused"}
		for _, letter := range "GJX" {
			if strings.ContainsRune(m[1], letter) {
				want = append(want, "accepted")
			} else {
				want = append(want, "refused")
			}
		}
		if !slices.Equal(table[label][:4], want) {
			t.Errorf("%s: %q, want %q", label, table[label], want)
		}
	}

	// Cells have the time and the allocations: "1.09 · 16".
	measured := make(map[string]string) // by workload and library
	var workloads []string
	for line := range strings.Lines(read(t, "benchmarks/README.md")) {
		cells := strings.Split(strings.Trim(line, "| \n"), " | ")
		if strings.Contains(cells[0], ", × ") {
			workloads = cells
		}
		for i, cell := range cells[1:] {
			if time, _, ok := strings.Cut(cell, " · "); ok && len(cells) == len(workloads) {
				measured[workloads[1+i]+", "+cells[0]] = time
			}
		}
	}
	for i, peer := range []string{"bearer", "golang-jwt + keyfunc v5.3.1 + v3.9.1", "go-jose v4.1.9", "lestrrat-go/jwx v3.4.0", "auth0/go-jwt-middleware v3.3.0"} {
		for label, workload := range map[string]string{
			"CPU time of a new token, RS256, × its signature check":  "cold RS256 0.9 KB",
			"the same token again, × a middleware that does nothing": "hot RS256 0.9 KB",
		} {
			if want := measured[workload+", "+peer]; want == "" || len(table[label]) != 5 || table[label][i] != want {
				t.Errorf("%s, %s: %q, measured %q", label, peer, table[label], want)
			}
		}
	}
}

// The commands in README and docs have flags that there are.
func TestCommandsHaveTheirFlags(t *testing.T) {
	pages, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	known := make(map[string]string)
	commands := 0
	for _, page := range append(pages, "README.md") {
		for _, m := range regexp.MustCompile("go run \\./examples/(server|explain)\\b([^`\n]*)").FindAllStringSubmatch(read(t, page), -1) {
			commands++
			if known[m[1]] == "" {
				help, err := exec.Command("go", "run", "./examples/"+m[1], "-h").CombinedOutput()
				if err != nil {
					t.Fatalf("%s -h: %v\n%s", m[1], err, help)
				}
				known[m[1]] = string(help)
			}
			for _, flag := range regexp.MustCompile(` (-[a-z][a-z-]*)`).FindAllStringSubmatch(m[2], -1) {
				if !regexp.MustCompile(`(?m)^  ` + flag[1] + `\b`).MatchString(known[m[1]]) {
					t.Errorf("%s: %s has no flag %s", page, m[1], flag[1])
				}
			}
		}
	}
	if commands < 6 {
		t.Errorf("only %d commands found", commands)
	}
}
