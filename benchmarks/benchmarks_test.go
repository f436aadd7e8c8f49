package main

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestConformance tells when a peer no longer works as it is used here, and that the
// checks would notice: what lets everything pass and what lets nothing pass must be
// found out for each workload. Speed is no matter of tests.
func TestConformance(t *testing.T) {
	refuse := contender{name: "refuse", protect: func(context.Context, *trial) (protection, error) {
		return protection{wrap: func(http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) })
		}}, nil
	}}
	for _, w := range workloads {
		trial := newTrial(w)
		for _, c := range append([]contender{w.yardstick}, w.contenders...) {
			t.Run(w.name+"/"+c.name, func(t *testing.T) {
				e := c.enter(trial)
				defer e.leave()
				if errors.Is(e.problem, errors.ErrUnsupported) && c.name == kubernetesName && (w.own || w.algorithm == "EdDSA") {
					return
				}
				if e.problem != nil {
					t.Error(e.problem)
				}
			})
		}
		open := floor
		open.blind = false
		for _, c := range []contender{open, refuse} {
			e := c.enter(trial)
			defer e.leave()
			if e.problem == nil {
				t.Errorf("%s: %s conforms, and should not", w.name, c.name)
			}
		}
	}
}

// A check that is missing, or that is there though a contender is said to lack it, is
// found out.
func TestConformanceOfOne(t *testing.T) {
	byName := func(name string) workload {
		return workloads[slices.IndexFunc(workloads, func(w workload) bool { return w.name == name })]
	}
	unscoped, ofOne, allThere, replays := oursScoped, oursOfTen, ours, auth0Bound
	unscoped.protect, ofOne.protect, replays.lacks = ours.protect, ours.protect, nil
	allThere.lacks = []string{inTheFuture}
	foreign := ours
	foreign.protect = func(ctx context.Context, t *trial) (protection, error) {
		p, err := ours.protect(ctx, t)
		p.own = func(context.Context) ownClaims { return ownClaims{Org: "org"} }
		return p, err
	}
	for _, tt := range []struct {
		workload string
		c        contender
		want     string // in the error
	}{
		{"RequireScope", unscoped, "one without the scope: status = 204, want 403"},
		{"Or of ten issuers, the last one’s token", ofOne, "one of https://login0.example.com/: status = 401, want 204"},
		{"cold RS256 0.9 KB", allThere, inTheFuture + ": status = 401, want 204"},
		{"DPoP ES256", replays, usedBefore + ": status = 204, want 401"},
		{"hot, three claims", foreign, "a good token: status = 500, want 204"},
	} {
		e := tt.c.enter(newTrial(byName(tt.workload)))
		defer e.leave()
		if e.problem == nil || !strings.Contains(e.problem.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q in it", tt.workload, e.problem, tt.want)
		}
	}
}

// Requests come as the workload says.
func TestRequests(t *testing.T) {
	x := extent{tokens: 20, twice: 30, distinct: 40}
	for _, tt := range []struct {
		name             string
		w                workload
		length, distinct int  // requests of a round, and how many are not the same to the last byte
		renewed          bool // by the next round
	}{
		{"fresh", workload{stream: fresh}, 20, 20, true},
		{"again", workload{stream: again}, copies, 1, false},
		{"twice", workload{stream: twice}, 30, 30, false},
		{"bound", workload{stream: again, bound: true}, 20, 20, true},
		{"refused", workload{stream: again, refused: func(string) string { return "Basic Og==" }}, copies, 1, false},
	} {
		tt.w.algorithm, tt.w.claims = "ES256", auth0
		trial := newTrial(tt.w)
		texts := make(map[string]bool)
		add := func(rs []*http.Request) {
			for _, r := range rs {
				texts[r.Header.Get("Authorization")+r.Header.Get("DPoP")] = true
			}
		}
		first := trial.requests(nil, x)
		add(first)
		distinct := len(texts)
		add(trial.requests(first, x))
		if len(first) != tt.length || distinct != tt.distinct || len(texts) > distinct != tt.renewed {
			t.Errorf("%s: %d requests, %d distinct, and %d with the next round's", tt.name, len(first), distinct, len(texts))
		}
	}

	often := make(map[string]int)
	for _, r := range newTrial(workload{algorithm: "ES256", claims: auth0, stream: zipf}).requests(nil, x) {
		often[r.Header.Get("Authorization")]++
	}
	counts := slices.Sorted(maps.Values(often))
	if len(counts) != 40 || counts[39] < 80 || counts[0] > 12 {
		t.Errorf("zipf: 40 tokens come %d times", counts)
	}
}

func TestCompare(t *testing.T) {
	all, err := compare(workloads, extent{rounds: 1, tokens: 16, twice: 16, distinct: 50, slice: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range all.Workloads {
		for _, f := range r.Contenders {
			if f.Name == kubernetesName && (r.Workload == "cold EdDSA" || r.Workload == "hot, three claims") {
				continue
			}
			if f.Problem != "" || f.Ratio <= 0 || f.NS <= 0 {
				t.Errorf("%s: figure = %+v", r.Workload, f)
			}
			// A signature check costs this library ten allocations, and a token that is kept
			// none of them.
			if hit := f.Allocs < 5; f.Name == ours.name && (r.Group == newTokens || r.Group == knownTokens) && hit != (r.Group == knownTokens) && r.Workload != "cold EdDSA" {
				t.Errorf("%s: %v allocations: is the token kept?", r.Workload, f.Allocs)
			}
		}
	}

	var table bytes.Buffer
	all.writeTables(&table)
	picture := chart(all)
	for _, c := range everybody {
		want := 3 // new tokens, known ones, refusals
		if c.name == ours.name || c.name == auth0Middleware.name {
			want++ // proofs
		}
		if got := strings.Count(table.String(), "\n| "+strings.TrimSpace(c.name+" "+c.version())+" |"); got != want {
			t.Errorf("%s: in %d rows, want %d:\n%s", c.name, got, want, &table)
		}
		if got := strings.Count(string(picture), ">"+c.name+"<"); got != 2 {
			t.Errorf("%s: in the chart %d times, want 2", c.name, got)
		}
	}
	for _, w := range workloads {
		if !strings.Contains(table.String(), "| "+w.name+" |") {
			t.Errorf("%s: not in the tables:\n%s", w.name, &table)
		}
	}
	for d := xml.NewDecoder(bytes.NewReader(picture)); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("the chart is not XML: %v", err)
		}
	}
}

// The figures go where they belong, and nothing else changes.
func TestPublish(t *testing.T) {
	cold, hot := workloads[0], workloads[5]
	all, err := compare([]workload{cold, hot}, extent{rounds: 1, tokens: 16, slice: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	got, err := all.intoOwnReadme("before\n" + tablesBegin + "to be replaced\n" + tablesEnd + "after\n")
	if err != nil || !strings.HasPrefix(got, "before\n"+tablesBegin) || !strings.HasSuffix(got, tablesEnd+"after\n") ||
		strings.Contains(got, "to be replaced") || strings.Count(got, "\n| bearer |") != 2 {
		t.Errorf("%v:\n%s", err, got)
	}
	if _, err := all.intoOwnReadme("no marks"); err == nil {
		t.Error("a text without marks is accepted")
	}

	versions := "| "
	for _, f := range all.Workloads[0].Contenders {
		versions += strings.ReplaceAll(f.Version, " + ", ", ") + " |"
	}
	before := versions + "\n" + whenLine + "a day\n" + coldRow + " 1 | 2 | 3 | 4 | 5 |\n" + hotRow + " 1 | 2 | 3 | 4 | 5 |\n| other | x |\n"
	got, err = all.intoReadme(before)
	lines := strings.Split(got, "\n")
	if err != nil || len(lines) != 6 || lines[0] != versions || lines[1] != whenLine+all.Date+" with "+all.where()+"." || lines[4] != "| other | x |" {
		t.Fatalf("%v:\n%s", err, got)
	}
	for i, begin := range []string{coldRow, hotRow} {
		r := all.Workloads[i].Contenders
		if line := lines[2+i]; !strings.HasPrefix(line, begin+" "+multiple(r[0].Ratio)+" | "+multiple(r[1].Ratio)+" |") || strings.Count(line, "|") != 7 {
			t.Errorf("got %s, want the ratios %v and %v first", line, r[0].Ratio, r[1].Ratio)
		}
	}
	for file, change := range map[string]func(string) (string, error){"README.md": all.intoOwnReadme, "../README.md": all.intoReadme} {
		text, err := os.ReadFile(file)
		if err == nil {
			_, err = change(string(text))
		}
		if err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
	if _, err := all.intoReadme(strings.ReplaceAll(before, versions, "")); err == nil {
		t.Error("figures of versions that are not named are accepted")
	}
}

func TestLoad(t *testing.T) {
	var table bytes.Buffer
	if err := load(&table, 30*time.Millisecond, []int{1, 10}); err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(table.String(), "| bearer |"); got != 2 {
		t.Errorf("%d rows for this library, want 2:\n%s", got, &table)
	}
}
