package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
)

// Where the tables stand in README.md.
const (
	tablesBegin = "<!-- of one run, by `go run . publish` -->\n"
	tablesEnd   = "<!-- end -->\n"
)

// What comes from a run in the README of the library: a line that begins so is
// replaced.
const (
	whenLine = "Measured on "
	coldRow  = "| CPU time of a new token, RS256, × its signature check |"
	hotRow   = "| the same token again, × a middleware that does nothing |"
)

// publish puts figures where readers find them: into results.json, chart.svg and
// README.md here, and into the README of the library.
func publish(all results) error {
	text, err := json.MarshalIndent(all, "", "\t")
	if err != nil {
		return err
	}
	if err := os.WriteFile("results.json", append(text, '\n'), 0o644); err != nil {
		return err
	}
	if err := os.WriteFile("chart.svg", chart(all), 0o644); err != nil {
		return err
	}
	if err := rewrite("README.md", all.intoOwnReadme); err != nil {
		return err
	}
	return rewrite("../README.md", all.intoReadme)
}

func rewrite(file string, change func(text string) (string, error)) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	changed, err := change(string(text))
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return os.WriteFile(file, []byte(changed), 0o644)
}

// intoOwnReadme replaces what stands between the two marks.
func (all results) intoOwnReadme(text string) (string, error) {
	before, rest, begun := strings.Cut(text, tablesBegin)
	_, after, ended := strings.Cut(rest, tablesEnd)
	if !begun || !ended {
		return "", fmt.Errorf("the marks %q and %q are not there", tablesBegin, tablesEnd)
	}
	var tables bytes.Buffer
	all.writeTables(&tables)
	return before + tablesBegin + "\n" + tables.String() + "\n" + tablesEnd + after, nil
}

// intoReadme replaces two rows, and the line that says on what they were measured.
// The columns are the libraries that the row above them names, which has versions that
// were written by hand: those must be the ones that were measured.
func (all results) intoReadme(text string) (string, error) {
	text, err := replaceLine(text, whenLine, fmt.Sprintf("%s with %s.", all.Date, all.where()))
	if err != nil {
		return "", err
	}
	columns := []string{ours.name, golangJWT.name, "go-jose", "lestrrat-go/jwx", auth0Middleware.name}
	for _, row := range []struct{ begin, workload string }{
		{coldRow, "cold RS256 0.9 KB"},
		{hotRow, "hot RS256 0.9 KB"},
	} {
		i := slices.IndexFunc(all.Workloads, func(r result) bool { return r.Workload == row.workload })
		if i < 0 {
			return "", fmt.Errorf("no workload %q", row.workload)
		}
		var cells string
		for _, name := range columns {
			c := slices.IndexFunc(all.Workloads[i].Contenders, func(f figure) bool { return f.Name == name })
			if c < 0 {
				return "", fmt.Errorf("%s was not measured", name)
			}
			f := all.Workloads[i].Contenders[c]
			for version := range strings.SplitSeq(f.Version, " + ") {
				if !strings.Contains(text, version) {
					return "", fmt.Errorf("the version %s of %s stands nowhere: was another one described?", version, name)
				}
			}
			cells += " " + multiple(f.Ratio) + " |"
		}
		if text, err = replaceLine(text, row.begin, cells); err != nil {
			return "", err
		}
	}
	return text, nil
}

// replaceLine replaces the rest of the line of text that begins so.
func replaceLine(text, begin, rest string) (string, error) {
	at := strings.Index(text, "\n"+begin)
	if at < 0 {
		return "", fmt.Errorf("no line %q", begin)
	}
	before, after := text[:at+1], text[at+1:]
	end := strings.IndexByte(after, '\n')
	if end < 0 {
		end = len(after)
	}
	return before + begin + rest + after[end:], nil
}
