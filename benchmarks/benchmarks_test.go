package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestConformance tells when a peer no longer works as it is used here. Speed is
// no matter of tests.
func TestConformance(t *testing.T) {
	for _, w := range workloads {
		iss := newIssuer(w.algorithm)
		for _, c := range contenders {
			t.Run(w.name+"/"+c.name, func(t *testing.T) {
				e := c.enter(t.Context(), iss, w)
				if e.problem != nil {
					t.Fatal(e.problem)
				}
				if err := conform(e.api, iss, w); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// A check that lets everything pass must be found out.
func TestConformanceRefuses(t *testing.T) {
	w := workloads[0]
	iss := newIssuer(w.algorithm)
	for _, c := range []contender{floor, rawCrypto} {
		if err := conform(c.enter(t.Context(), iss, w).api, iss, w); err == nil {
			t.Errorf("%s: conforms, and should not", c.name)
		}
	}
	refuse := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) })
	if err := conform(refuse, iss, w); err == nil {
		t.Error("a handler that refuses everything conforms, and should not")
	}
}

func TestCompare(t *testing.T) {
	all, err := compare(workloads, extent{rounds: 1, tokens: 16, slice: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range all.Workloads {
		for _, f := range r.Contenders {
			if f.Problem != "" || f.Ratio <= 0 || f.Allocs < 1 {
				t.Errorf("%s: figure = %+v", r.Workload, f)
			}
		}
	}

	var table bytes.Buffer
	all.writeTables(&table)
	picture := chart(all)
	for _, c := range contenders {
		if got := strings.Count(table.String(), "\n| "+c.name); got != 2 {
			t.Errorf("%s: in %d rows, want 2:\n%s", c.name, got, &table)
		}
		if got := strings.Count(string(picture), ">"+c.name+"<"); got != 2 {
			t.Errorf("%s: in the chart %d times, want 2", c.name, got)
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
	all, err := compare([]workload{workloads[0], workloads[len(workloads)-1]}, extent{rounds: 1, tokens: 16, slice: time.Millisecond})
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
	before := versions + "\n" + coldRow + " 1 | 2 | 3 | 4 | 5 |\n" + hotRow + " 1 | 2 | 3 | 4 | 5 |\n| other | x |\n"
	got, err = all.intoReadme(before)
	lines := strings.Split(got, "\n")
	if err != nil || len(lines) != 5 || lines[0] != versions || lines[3] != "| other | x |" {
		t.Fatalf("%v:\n%s", err, got)
	}
	for i, begin := range []string{coldRow, hotRow} {
		r := all.Workloads[i].Contenders
		if line := lines[1+i]; !strings.HasPrefix(line, begin+" "+multiple(r[0].Ratio)+" | "+multiple(r[1].Ratio)+" |") || strings.Count(line, "|") != 7 {
			t.Errorf("got %s, want the ratios %v and %v first", line, r[0].Ratio, r[1].Ratio)
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
